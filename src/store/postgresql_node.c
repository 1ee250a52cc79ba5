/*
 * This service among those that share the queue. See the header.
 */
#include "store/postgresql_node.h"

#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

/*
 * Clocks that differ by less than this, beyond what the measurement can be wrong by, are taken as
 * equal: times then come back as they were given, and a job is due at most so much too early or
 * late. What NTP keeps is well below.
 */
#define CLOCK_TOLERANCE_US 20000

static char *make_name(const struct config_store *config)
{
	char host[64] = "";
	char name[96];

	if (config->node && *config->node)
		return strdup(config->node);
	if (gethostname(host, sizeof(host) - 1) != 0)
		host[0] = '\0';
	snprintf(name, sizeof(name), "%s/%ld", *host ? host : "twinpool", (long)getpid());
	return strdup(name);
}

int pg_node_init(struct pg_node *node, const struct config_store *config)
{
	int status;

	*node = (struct pg_node){.connection = config->connection,
				 .lease_us = config->lease_ms * 1000,
				 .uncertain_ns = -1};
	node->name = make_name(config);
	if (!node->name)
		return -ENOMEM;
	status = pthread_mutex_init(&node->lock, NULL);
	if (status != 0)
		free(node->name);
	return -status;
}

void pg_node_destroy(struct pg_node *node)
{
	pthread_mutex_destroy(&node->lock);
	free(node->name);
	node->name = NULL;
}

struct pg_view pg_node_view(struct pg_node *node)
{
	struct pg_view view;
	int64_t now_ns = clock_monotonic_ns();

	pthread_mutex_lock(&node->lock);
	view = (struct pg_view){node->boot, node->offset_us, now_ns >= node->sweep_from_ns};
	pthread_mutex_unlock(&node->lock);
	return view;
}

bool pg_node_has_others(struct pg_node *node)
{
	bool others;

	pthread_mutex_lock(&node->lock);
	others = node->others;
	pthread_mutex_unlock(&node->lock);
	return others;
}

void pg_node_disturbed(struct pg_node *node)
{
	int64_t from_ns = clock_monotonic_ns() + node->lease_us * NS_PER_US;

	pthread_mutex_lock(&node->lock);
	node->sweep_from_ns = from_ns;
	pthread_mutex_unlock(&node->lock);
}

/* When a statement that told the database's clock was sent and answered. */
struct span {
	int64_t sent_ns; /* monotonic */
	int64_t sent_us; /* by our clock */
	int64_t answered_us;
};

static struct span span_begin(void)
{
	return (struct span){clock_monotonic_ns(), clock_realtime_ns() / NS_PER_US, 0};
}

/* With the lock held. The offset stays as it is until it is wrong for certain. */
static void set_offset(struct pg_node *node, const struct span *span, int64_t database_us)
{
	int64_t half_us = (span->answered_us - span->sent_us) / 2;
	int64_t offset_us = database_us - span->sent_us - half_us;
	int64_t wrong_us = llabs(offset_us - node->offset_us);

	if (half_us >= 0 && wrong_us > CLOCK_TOLERANCE_US + half_us)
		node->offset_us = llabs(offset_us) > CLOCK_TOLERANCE_US + half_us ? offset_us : 0;
}

/* The lease runs from when it was asked for, at the latest. */
static void set_renewed(struct pg_node *node, const struct span *span, int64_t boot,
			int64_t database_us, bool others)
{
	pthread_mutex_lock(&node->lock);
	node->boot = boot;
	node->fresh_until_ns = span->sent_ns + node->lease_us * NS_PER_US;
	node->others = others;
	set_offset(node, span, database_us);
	pthread_mutex_unlock(&node->lock);
}

int pg_node_renew(struct pg_node *node, struct pg_link *link, char message[static PG_MESSAGE_SIZE])
{
	struct pg_params params = {0};
	struct pg_result *result = NULL;
	struct span span = span_begin();
	int64_t boot = pg_node_view(node).boot;
	int status;

	if (boot == 0)
		return -ESTALE;
	pg_param_int8(&params, boot);
	status = pg_link_run(
		link,
		"WITH renewed AS (UPDATE nodes SET lease_until_us = now_us() + lease_us"
		" WHERE boot = $1::bigint AND taken_us IS NULL RETURNING boot)"
		" SELECT now_us(), (SELECT boot FROM renewed), EXISTS (SELECT FROM nodes"
		" WHERE boot <> $1::bigint AND taken_us IS NULL AND lease_until_us > now_us())",
		&params, &result, message);
	pg_params_release(&params);
	if (status != 0)
		return status;
	span.answered_us = clock_realtime_ns() / NS_PER_US;
	if (!PQgetisnull(result, 0, 1)) {
		set_renewed(node, &span, boot, pg_get_int8(result, 0, 0),
			    pg_get_bool(result, 0, 2));
	} else {
		pthread_mutex_lock(&node->lock);
		if (node->boot == boot)
			node->boot = 0;
		pthread_mutex_unlock(&node->lock);
		snprintf(message, PG_MESSAGE_SIZE, "the lease of this service was taken over");
		status = -ESTALE;
	}
	PQclear(result);
	return status;
}

/* A new life. */
static int be_born(struct pg_node *node, struct pg_link *link, char message[static PG_MESSAGE_SIZE])
{
	struct pg_params params = {0};
	struct pg_result *result = NULL;
	struct span span = span_begin();
	int64_t boot;
	int status;

	pg_param_text(&params, node->name);
	pg_param_int8(&params, node->lease_us);
	status = pg_link_run(link,
			     "INSERT INTO nodes (boot, name, lease_us, lease_until_us, started_us)"
			     " VALUES (nextval('boots'), $1::text, $2::bigint,"
			     " now_us() + $2::bigint, now_us())"
			     " RETURNING now_us(), boot, EXISTS (SELECT FROM nodes"
			     " WHERE taken_us IS NULL AND lease_until_us > now_us())",
			     &params, &result, message);
	pg_params_release(&params);
	if (status != 0)
		return status;
	span.answered_us = clock_realtime_ns() / NS_PER_US;
	boot = pg_get_int8(result, 0, 1);
	set_renewed(node, &span, boot, pg_get_int8(result, 0, 0), pg_get_bool(result, 0, 2));
	PQclear(result);
	/* What an earlier boot had claimed is not this one's to give back. */
	node->lost_from = 0;
	node->lost_to = 0;
	log_info("store_boot", log_str("node", node->name), log_int("boot", boot));
	return 0;
}

/* Ends the session that wrote as this boot before, if there is one, and takes its place. */
static int take_place(int64_t boot, struct pg_link *link, int32_t schema,
		      char message[static PG_MESSAGE_SIZE])
{
	struct pg_params params = {0};
	int status;

	pg_param_int4(&params, schema);
	pg_param_int4(&params, (int32_t)boot);
	status = pg_link_run(link,
			     "SELECT pg_terminate_backend(pid) FROM pg_locks"
			     " WHERE locktype = 'advisory' AND granted AND objsubid = 2"
			     " AND classid::bigint::bit(32) = $1::integer::bit(32)"
			     " AND objid::bigint::bit(32) = $2::integer::bit(32)"
			     " AND database = (SELECT oid FROM pg_database"
			     " WHERE datname = current_database()) AND pid <> pg_backend_pid()",
			     &params, NULL, message);
	if (status == 0)
		status = pg_link_run(link, "SELECT pg_advisory_lock($1::integer, $2::integer)",
				     &params, NULL, message);
	pg_params_release(&params);
	return status;
}

int pg_node_begin(struct pg_node *node, struct pg_link *link, int32_t schema, bool is_new,
		  struct pg_view *ret_view, char message[static PG_MESSAGE_SIZE])
{
	int64_t fresh_until_ns, boot;
	int status = 0;

	pthread_mutex_lock(&node->lock);
	fresh_until_ns = node->fresh_until_ns;
	boot = node->boot;
	pthread_mutex_unlock(&node->lock);
	if (boot != 0 && is_new)
		status = take_place(boot, link, schema, message);
	if (status == 0 && boot != 0 && (is_new || clock_monotonic_ns() >= fresh_until_ns))
		status = pg_node_renew(node, link, message);
	if (boot == 0 || status == -ESTALE) {
		status = be_born(node, link, message);
		if (status == 0)
			status = take_place(pg_node_view(node).boot, link, schema, message);
	}
	if (status != 0)
		return status;
	*ret_view = pg_node_view(node);
	/* The heartbeat may have found in between that it was taken over; then nothing is ours. */
	return 0;
}

void pg_node_release(struct pg_node *node, struct pg_link *link)
{
	char message[PG_MESSAGE_SIZE];
	struct pg_params params = {0};

	pg_param_int8(&params, pg_node_view(node).boot);
	(void)pg_link_run(link,
			  "WITH rest AS (UPDATE sweeper SET until_us = now_us()"
			  " WHERE boot = $1::bigint) UPDATE nodes SET lease_until_us = now_us()"
			  " WHERE boot = $1::bigint AND taken_us IS NULL",
			  &params, NULL, message);
	pg_params_release(&params);
}
