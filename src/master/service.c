#include "master/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "compare/compare.h"
#include "http/http.h"
#include "ipc/channel.h"
#include "ipc/message.h"
#include "server/loop.h"
#include "server/server.h"

/* How long open requests get to take their answers once every job has ended. */
#define FLUSH_NS      (2 * NS_PER_S)
#define FLUSH_STEP_NS (5 * NS_PER_MS)
#define BEATS	      4 /* heartbeats in the time that the service manager waits for one */

struct service {
	struct loaded *loaded;
	const struct config_flags *flags;
	struct loop *loop;
	struct server *server;
	struct compare *compare;
	struct http *http;
	int channel;
	int listen_fd;
	int ready_fd;
	int64_t watchdog_ns;
	struct loop_timer heartbeat;
	bool silent; /* no heartbeat, since no host answers */
	bool announced;
	bool quiesced;
	int64_t drained_ns; /* when every job had ended; 0 before */
	struct loop_timer flush;
};

/* What whoever runs it ought to know of who may use it. */
static void log_access(const struct service *service)
{
	const struct config *config = service->loaded->config;

	if (config->tokens)
		log_info("tokens", log_str("file", config->tokens_file),
			 log_uint("count", config->tokens->count));
	if (config->tokens && config->tokens->readable_by_all)
		log_warning("tokens_readable_by_all", log_str("file", config->tokens_file),
			    log_str("detail", "it has digests only; still better: chmod o-r"));
	if (!config->tokens && config->allow_anonymous)
		log_warning("open_to_all", log_str("url", http_url(service->http)),
			    log_str("detail", "whoever can reach this address may run jobs; "
					      "server.tokens_file makes them need a token"));
}

/* A master that does not take it is lost, or busy: it will be seen, or told the next time. */
static void tell_master(const struct service *service, const void *message, size_t length)
{
	struct iovec part = {.iov_len = length};

	memcpy(&part.iov_base, &message, sizeof(message));
	(void)channel_send(service->channel, &part, 1, NULL, 0, 0);
}

/* That this timer runs is that the loop turns. */
static void beat(struct loop_timer *timer)
{
	struct service *service = container_of(timer, struct service, heartbeat);
	const struct message_alive alive = {.kind = MESSAGE_ALIVE};
	/* Before the first hosts are up, the manager waits for that, and for no longer than it likes. */
	bool answers = !service->announced ||
		       server_hosts_answer(service->server, service->watchdog_ns / 2);

	if (answers)
		tell_master(service, &alive, sizeof(alive));
	if (answers == service->silent) {
		service->silent = !answers;
		if (answers)
			log_info("hosts_answer_again");
		else
			log_error("no_host_answers", log_str("detail", "the service manager is not "
								       "told that all is well"));
	}
	(void)loop_timer_set(service->loop, timer,
			     clock_monotonic_ns() + service->watchdog_ns / BEATS);
}

static void announce_ready(struct service *service)
{
	struct message_serving serving = {.kind = MESSAGE_SERVING};
	char line[512];

	service->announced = true;
	log_info("ready", log_str("url", http_url(service->http)));
	text_copy(serving.url, sizeof(serving.url), http_url(service->http));
	tell_master(service, &serving, sizeof(serving));
	if (service->ready_fd < 0)
		return;
	int length = snprintf(line, sizeof(line), "%s\n", http_url(service->http));
	fd_write_all(service->ready_fd, line, (size_t)length);
	fd_close(&service->ready_fd);
}

/* Every job has ended: leaves once the answers are out, or after a bounded time. */
static void flush_expired(struct loop_timer *timer)
{
	struct service *service = container_of(timer, struct service, flush);
	int64_t now_ns = clock_monotonic_ns();
	size_t open = http_requests_open(service->http);

	if (open == 0 || now_ns - service->drained_ns > FLUSH_NS) {
		if (open > 0)
			log_warning("answers_not_taken", log_uint("requests", open));
		loop_stop(service->loop);
		return;
	}
	loop_timer_set(service->loop, timer, now_ns + FLUSH_STEP_NS);
}

static void changed(void *data)
{
	struct service *service = data;

	if (server_lost_master(service->server)) {
		log_error("master_lost");
		loop_stop(service->loop);
		return;
	}
	if (server_is_stopping(service->server)) {
		if (!service->quiesced)
			http_quiesce(service->http);
		service->quiesced = true;
		compare_shut_down(service->compare);
		if (server_is_drained(service->server) && !service->drained_ns) {
			service->drained_ns = clock_monotonic_ns();
			loop_timer_set(service->loop, &service->flush, service->drained_ns);
		}
		return;
	}
	if (!service->announced && server_has_hosts(service->server))
		announce_ready(service);
}

/* Reads what the master has read. found is taken. */
static int read_next(struct service *service, char *found, size_t found_length,
		     struct loaded *ret_next, struct error *error)
{
	int status = loaded_read(service->flags, service->loaded, ret_next, error);

	if (status < 0) {
		free(found);
		return status;
	}
	status = loaded_build(ret_next, found, found_length, error);
	if (status < 0)
		loaded_release(ret_next);
	return status;
}

/* Reads what the master has read, and puts it in force. */
static bool reload(void *data, uint64_t digest, char *found, size_t found_length)
{
	struct service *service = data;
	struct error error = {0};
	struct loaded next = {0};

	if (read_next(service, found, found_length, &next, &error) < 0) {
		log_error("reload_refused", log_str("field", error.field),
			  log_str("error", error.message));
		return false;
	}
	if (loaded_digest(&next) != digest) {
		log_error(
			"reload_refused",
			log_str("error", "the file changed while it was read; send SIGHUP again"));
		loaded_release(&next);
		return false;
	}
	if (http_reload(service->http, next.config, &error) < 0) {
		log_error("reload_refused", log_str("field", error.field),
			  log_str("error", error.message));
		loaded_release(&next);
		return false;
	}
	compare_reload(service->compare); /* while what it was made of is still there */
	struct loaded previous = *service->loaded;
	*service->loaded = next;
	server_reload(service->server, service->loaded->config, &service->loaded->registry);
	loaded_release(&previous);
	log_set_level(service->loaded->config->log_level);
	log_info("reloaded", log_str("config", service->loaded->config->path));
	log_access(service);
	return true;
}

static int start(struct service *service)
{
	struct error error = {0};
	int status = loop_new(&service->loop);

	if (status == 0)
		status = server_new(service->loop, service->loaded->config,
				    &service->loaded->registry, service->channel, &service->server);
	if (status == 0)
		status = compare_new(service->server, &service->compare);
	if (status < 0) {
		log_error("server_start_failed", log_str("error", strerrordesc_np(-status)));
		return status;
	}
	loop_timer_init(&service->flush, flush_expired);
	loop_timer_init(&service->heartbeat, beat);
	server_on_change(service->server, changed, service);
	server_on_reload(service->server, reload, service);
	status = http_start(service->server, service->compare, service->listen_fd, &service->http,
			    &error);
	service->listen_fd = -1;
	if (status < 0)
		log_error("listen_failed", log_str("field", error.field),
			  log_str("error", error.message));
	if (status < 0)
		return status;
	log_info("listening", log_str("url", http_url(service->http)));
	log_access(service);
	if (service->watchdog_ns > 0)
		beat(&service->heartbeat);
	return 0;
}

int service_run(struct loaded *loaded, const struct service_setup *setup)
{
	struct service service = {.loaded = loaded,
				  .flags = setup->flags,
				  .channel = setup->channel,
				  .listen_fd = setup->listen_fd,
				  .ready_fd = setup->ready_fd,
				  .watchdog_ns = setup->watchdog_ns};
	int status = fd_set_nonblocking(service.channel);

	if (status == 0)
		status = start(&service);
	if (status == 0)
		status = loop_run(service.loop);
	bool orderly = status == 0 && server_is_stopping(service.server) &&
		       !server_lost_master(service.server);
	http_free(service.http);
	compare_free(service.compare);
	server_free(service.server);
	loop_free(service.loop);
	fd_close(&service.ready_fd);
	fd_close(&service.listen_fd);
	fd_close(&service.channel);
	return orderly ? 0 : 1;
}
