/*
 * The thread that keeps the lease, hears the hints of others and gives ours.
 *
 * It has a connection of its own, so nothing that the store does holds it up. Hints go out on this
 * connection too: NOTIFY takes a lock of the whole database until its transaction has ended, so a
 * transaction that waits for the disk had better not do it. Here it is one of its own that waits for
 * nothing, at most one every ANNOUNCE_MS, however many jobs there were. A hint that is lost costs a
 * turn of polling.
 */
#include <errno.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "store/postgresql_node.h"

#define ANNOUNCE_MS    10
#define BEATS_A_LEASE  4
#define RETRY_MIN_MS   100
#define RETRY_MAX_MS   2000
#define CHANNEL_SIZE   32
#define CHANNEL_FORMAT "twinpool_%u"

struct pg_heart {
	pthread_t thread;
	struct pg_node *node;
	void (*hint)(void *data);
	void *data;
	char channel[CHANNEL_SIZE];
	int stop_fd; /* eventfds */
	int wake_fd;
	/* the thread's alone */
	struct pg_link link;
	int64_t retry_ms;
	int64_t beat_ns; /* monotonic; when the next is due */
	int64_t announced_ns;
	bool to_announce;
	bool is_failing; /* and that was logged */
};

static void raise_fd(int fd)
{
	uint64_t one = 1;

	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		continue;
}

/* Whether it was raised; then it no longer is. */
static bool lower_fd(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count);
}

static int connect_heart(struct pg_heart *heart, char message[static PG_MESSAGE_SIZE])
{
	char sql[CHANNEL_SIZE + 80], application[96];
	int status;

	snprintf(application, sizeof(application), "twinpool %s lease", heart->node->name);
	status = pg_link_open(&heart->link, heart->node->connection, application, message);
	if (status != 0)
		return status;
	snprintf(sql, sizeof(sql), "SET synchronous_commit = off; LISTEN \"%s\"", heart->channel);
	return pg_link_script(&heart->link, sql, message);
}

/* Others' words; what we said ourselves bears our boot. */
static void hear(struct pg_heart *heart)
{
	char own[24];
	bool is_news = false;
	PGnotify *notify;

	snprintf(own, sizeof(own), "%lld", (long long)pg_node_view(heart->node).boot);
	while ((notify = PQnotifies(heart->link.conn)) != NULL) {
		if (strcmp(notify->extra, own) != 0)
			is_news = true;
		PQfreemem(notify);
	}
	if (is_news)
		heart->hint(heart->data);
}

static int announce(struct pg_heart *heart, char message[static PG_MESSAGE_SIZE])
{
	char own[24];
	struct pg_params params = {0};
	int status;

	snprintf(own, sizeof(own), "%lld", (long long)pg_node_view(heart->node).boot);
	pg_param_text(&params, heart->channel);
	pg_param_text(&params, own);
	status = pg_link_run(&heart->link, "SELECT pg_notify($1::text, $2::text)", &params, NULL,
			     message);
	pg_params_release(&params);
	heart->announced_ns = clock_monotonic_ns();
	heart->to_announce = false;
	return status;
}

static int beat(struct pg_heart *heart, char message[static PG_MESSAGE_SIZE])
{
	int64_t interval_ns = heart->node->lease_us * NS_PER_US / BEATS_A_LEASE;
	int status;

	heart->beat_ns = clock_monotonic_ns() + interval_ns;
	if (pg_node_view(heart->node).boot == 0)
		return 0; /* the writer will get one */
	status = pg_node_renew(heart->node, &heart->link, message);
	if (status == -ESTALE) {
		log_warning("store_fenced", log_str("node", heart->node->name));
		return 0;
	}
	return status;
}

/* One turn while connected. */
static int turn(struct pg_heart *heart, char message[static PG_MESSAGE_SIZE])
{
	int64_t now_ns = clock_monotonic_ns();
	int64_t until_ns = heart->beat_ns;
	int status = 0;

	if (now_ns >= heart->beat_ns)
		status = beat(heart, message);
	else if (heart->to_announce && now_ns >= heart->announced_ns + ANNOUNCE_MS * NS_PER_MS)
		status = announce(heart, message);
	if (status != 0)
		return status;
	until_ns = heart->beat_ns;
	if (heart->to_announce && heart->announced_ns + ANNOUNCE_MS * NS_PER_MS < until_ns)
		until_ns = heart->announced_ns + ANNOUNCE_MS * NS_PER_MS;
	hear(heart);
	now_ns = clock_monotonic_ns();
	status = pg_link_idle(&heart->link, heart->wake_fd,
			      until_ns > now_ns ? (until_ns - now_ns) / NS_PER_MS : 0, message);
	if (lower_fd(heart->wake_fd))
		heart->to_announce = true;
	return status;
}

static void note_health(struct pg_heart *heart)
{
	if (heart->is_failing)
		log_info("store_heartbeat_back", log_str("node", heart->node->name));
	heart->is_failing = false;
	heart->retry_ms = RETRY_MIN_MS;
}

/* After a failure: 0, or -ECANCELED. */
static int recuperate(struct pg_heart *heart, const char *reason)
{
	pg_link_close(&heart->link);
	pg_node_disturbed(heart->node);
	if (!heart->is_failing)
		log_warning("store_heartbeat_failed", log_str("node", heart->node->name),
			    log_str("reason", reason));
	heart->is_failing = true;
	if (pg_link_pause(heart->stop_fd, heart->retry_ms) != 0)
		return -ECANCELED;
	heart->retry_ms = heart->retry_ms * 2 < RETRY_MAX_MS ? heart->retry_ms * 2 : RETRY_MAX_MS;
	return 0;
}

static void *run_heart(void *data)
{
	struct pg_heart *heart = data;
	char message[PG_MESSAGE_SIZE] = "";
	int status = 0;

	while (status != -ECANCELED) {
		if (heart->link.conn) {
			status = turn(heart, message);
		} else {
			status = connect_heart(heart, message);
			heart->beat_ns = 0; /* at once */
			if (status == 0)
				heart->hint(heart->data); /* what was said meanwhile is lost */
		}
		if (status == 0)
			note_health(heart);
		else if (status != -ECANCELED)
			status = recuperate(heart, message);
	}
	pg_link_close(&heart->link);
	return NULL;
}

static void free_heart(struct pg_heart *heart)
{
	fd_close(&heart->stop_fd);
	fd_close(&heart->wake_fd);
	free(heart);
}

/* Signals are the main thread's. */
static int start_thread(struct pg_heart *heart)
{
	sigset_t all, before;
	int status;

	sigfillset(&all);
	status = pthread_sigmask(SIG_BLOCK, &all, &before);
	if (status != 0)
		return -status;
	status = pthread_create(&heart->thread, NULL, run_heart, heart);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -status;
}

int pg_heart_start(struct pg_node *node, int32_t schema, void (*hint)(void *data), void *data,
		   struct pg_heart **ret_heart)
{
	struct pg_heart *heart = calloc(1, sizeof(*heart));
	int status = -ENOMEM;

	if (!heart)
		return status;
	heart->node = node;
	heart->hint = hint;
	heart->data = data;
	heart->retry_ms = RETRY_MIN_MS;
	heart->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	heart->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	heart->link.stop_fd = heart->stop_fd;
	snprintf(heart->channel, sizeof(heart->channel), CHANNEL_FORMAT, (unsigned int)schema);
	if (heart->stop_fd >= 0 && heart->wake_fd >= 0)
		status = start_thread(heart);
	if (status != 0) {
		free_heart(heart);
		return status;
	}
	*ret_heart = heart;
	return 0;
}

void pg_heart_stop(struct pg_heart *heart)
{
	if (!heart)
		return;
	raise_fd(heart->stop_fd);
	pthread_join(heart->thread, NULL);
	free_heart(heart);
}

void pg_heart_announce(struct pg_heart *heart)
{
	raise_fd(heart->wake_fd);
}
