#include "master/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "http/http.h"
#include "server/loop.h"
#include "server/server.h"

/* How long open requests get to take their answers once every job has ended. */
#define FLUSH_NS      (2 * NS_PER_S)
#define FLUSH_STEP_NS (5 * NS_PER_MS)

struct service {
	struct loaded *loaded;
	const struct config_flags *flags;
	struct loop *loop;
	struct server *server;
	struct http *http;
	int ready_fd;
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

static void announce_ready(struct service *service)
{
	char line[512];

	service->announced = true;
	log_info("ready", log_str("url", http_url(service->http)));
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
	struct loaded previous = *service->loaded;
	*service->loaded = next;
	server_reload(service->server, service->loaded->config, &service->loaded->registry);
	loaded_release(&previous);
	log_set_level(service->loaded->config->log_level);
	log_info("reloaded", log_str("config", service->loaded->config->path));
	log_access(service);
	return true;
}

static int start(struct service *service, int channel)
{
	struct error error = {0};
	int status = loop_new(&service->loop);

	if (status == 0)
		status = server_new(service->loop, service->loaded->config,
				    &service->loaded->registry, channel, &service->server);
	if (status < 0) {
		log_error("server_start_failed", log_str("error", strerrordesc_np(-status)));
		return status;
	}
	loop_timer_init(&service->flush, flush_expired);
	server_on_change(service->server, changed, service);
	server_on_reload(service->server, reload, service);
	status = http_start(service->server, &service->http, &error);
	if (status < 0)
		log_error("listen_failed", log_str("field", error.field),
			  log_str("error", error.message));
	if (status < 0)
		return status;
	log_info("listening", log_str("url", http_url(service->http)));
	log_access(service);
	return 0;
}

int service_run(struct loaded *loaded, const struct config_flags *flags, int channel, int ready_fd)
{
	struct service service = {.loaded = loaded, .flags = flags, .ready_fd = ready_fd};
	int status = fd_set_nonblocking(channel);

	if (status == 0)
		status = start(&service, channel);
	if (status == 0)
		status = loop_run(service.loop);
	bool orderly = status == 0 && server_is_stopping(service.server) &&
		       !server_lost_master(service.server);
	http_free(service.http);
	server_free(service.server);
	loop_free(service.loop);
	fd_close(&service.ready_fd);
	fd_close(&channel);
	return orderly ? 0 : 1;
}
