/*
 * The daemon.
 *
 * libmicrohttpd has an epoll of its own, with all connections and the listening socket in it; that
 * epoll's descriptor is one source of our loop. Whatever makes the daemon want to run only sets
 * run_needed: the hook before the loop's sleep then runs it once for all that the round has
 * brought, however many requests arrived or were resumed.
 *
 * Invariants
 * 1. Nothing but run() calls MHD_run(), and never from inside a handler.
 * 2. run_needed is set by everything after which the daemon has something to do: its epoll is
 * ready, a connection was resumed, or one was closed. Its next deadline is due_ns.
 * 3. No connection is suspended when the daemon is stopped: it would abort.
 */
#include "http/http.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "http/daemon.h"
#include "http/hold.h"
#include "http/listen.h"
#include "http/stream.h"
#include "http/wait.h"
#include "server/watch.h"

#define CONNECTION_MEMORY_BYTES 16384u
#define RUNS_A_ROUND		4 /* so that the other sources get their turn */
#define LAST_ANSWERS_NS		NS_PER_S

/* --- callbacks of libmicrohttpd --------------------------------------------------------------- */

__attribute__((format(printf, 2, 0))) static void log_daemon(void *http, const char *format,
							     va_list arguments)
{
	char text[256];

	(void)http;
	if (!log_enabled(LOG_LEVEL_DEBUG))
		return;
	vsnprintf(text, sizeof(text), format, arguments);
	text[strcspn(text, "\n")] = '\0';
	log_debug("http_library", log_str("message", text));
}

static void panic(void *data, const char *file, unsigned int line, const char *reason)
{
	(void)data;
	log_error("http_library_panic", log_str("reason", reason), log_str("file", file),
		  log_uint("line", line));
	abort();
}

static void connection_changed(void *data, struct MHD_Connection *connection, void **state,
			       enum MHD_ConnectionNotificationCode code)
{
	struct http *http = data;

	(void)connection;
	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		if (http->tls)
			tls_connection_began(http->tls, state);
		http->connections++;
		http->connections_accepted++;
	} else {
		if (http->tls)
			tls_connection_ended(http->tls, state);
		http->connections--;
		/* It stops listening at its limit, and goes on only when it is run again. */
		http->run_needed = true;
	}
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Decodes %XX in place. %00 stays as it is: it would end the text early, and nothing here has it.
 */
static size_t unescape(void *data, struct MHD_Connection *connection, char *text)
{
	char *out = text;

	(void)data;
	(void)connection;
	for (const char *in = text; *in; in++) {
		int high = in[0] == '%' ? hex_value(in[1]) : -1;
		int low = high >= 0 ? hex_value(in[2]) : -1;
		if (low >= 0 && high + low > 0) {
			*out++ = (char)(high << 4 | low);
			in += 2;
		} else {
			*out++ = *in;
		}
	}
	*out = '\0';
	return (size_t)(out - text);
}

/* --- running ---------------------------------------------------------------------------------- */

/* Answers in how many ns the daemon wants to run again: 0 at once, -1 when something is ready. */
static int64_t run(struct http *http)
{
	MHD_UNSIGNED_LONG_LONG timeout_ms = 0;

	if (http->running)
		return 0;
	for (int i = 0; i < RUNS_A_ROUND; i++) {
		http->run_needed = false;
		http->due_ns = 0;
		http->running = true;
		MHD_run(http->daemon);
		http->running = false;
		bool bounded = MHD_get_timeout(http->daemon, &timeout_ms) == MHD_YES;
		if (http->run_needed || (bounded && timeout_ms == 0))
			continue;
		if (!bounded)
			return -1;
		int64_t timeout_ns = (int64_t)timeout_ms * NS_PER_MS;
		http->due_ns = clock_monotonic_ns() + timeout_ns;
		return timeout_ns;
	}
	http->run_needed = true;
	return 0;
}

static int64_t sooner(int64_t a_ns, int64_t b_ns)
{
	if (a_ns < 0)
		return b_ns;
	return b_ns < 0 || a_ns < b_ns ? a_ns : b_ns;
}

static int64_t before_sleep(struct loop_hook *hook)
{
	struct http *http = container_of(hook, struct http, hook);
	int64_t now_ns = loop_now_ns(http->loop);
	int64_t next_ns = -1;
	int64_t keep_alive_ns = stream_keep_alive_due(http, now_ns);

	if (http->run_needed || (http->due_ns && http->due_ns <= now_ns))
		next_ns = run(http);
	else if (http->due_ns)
		next_ns = http->due_ns - now_ns;
	if (server_watchers_due(http->server))
		return 0; /* by what a request has done */
	next_ns = sooner(next_ns, keep_alive_ns);
	return sooner(next_ns, wait_watch_due(http, now_ns));
}

static void ready(struct loop_source *source, uint32_t events)
{
	struct http *http = container_of(source, struct http, source);

	(void)events;
	http->run_needed = true;
}

/* --- starting --------------------------------------------------------------------------------- */

static struct MHD_Daemon *start_daemon(struct http *http)
{
	const struct config *config = server_config(http->server);
	/* Whole seconds are all that it knows. */
	unsigned int idle_s = (unsigned int)((config->idle_timeout_ms + 999) / 1000);
	unsigned int flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
	struct MHD_OptionItem more[TLS_OPTIONS] = {{MHD_OPTION_END, 0, NULL}};

	if (http->tls) {
		flags |= MHD_USE_TLS;
		tls_options(http->tls, more);
	}
	return MHD_start_daemon(
		flags, 0, NULL, NULL, request_handle, http, MHD_OPTION_EXTERNAL_LOGGER, log_daemon,
		http, MHD_OPTION_LISTEN_SOCKET, http->listener.fd, MHD_OPTION_NOTIFY_COMPLETED,
		request_completed, http, MHD_OPTION_NOTIFY_CONNECTION, connection_changed, http,
		MHD_OPTION_UNESCAPE_CALLBACK, unescape, http, MHD_OPTION_CONNECTION_LIMIT,
		config->max_connections, MHD_OPTION_CONNECTION_TIMEOUT, idle_s,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY_BYTES,
		MHD_OPTION_ARRAY, more, MHD_OPTION_END);
}

static struct http *http_new(struct server *server, struct compare *compare)
{
	struct http *http = calloc(1, sizeof(*http));

	if (!http)
		return NULL;
	http->server = server;
	http->compare = compare;
	http->loop = server_loop(server);
	http->listener.fd = -1;
	http->source.fd = -1;
	list_init(&http->hook.node);
	list_init(&http->waiting);
	list_init(&http->watched);
	list_init(&http->held);
	list_init(&http->streams_waiting);
	list_init(&http->streams);
	return http;
}

int http_start(struct server *server, struct compare *compare, int inherited,
	       struct http **ret_http, struct error *error)
{
	const struct config *config = server_config(server);
	struct http *http = http_new(server, compare);
	int result;

	if (!http) {
		fd_close(&inherited);
		(void)error_set(error, ERROR_INTERNAL, "server.listen", "not enough memory");
		return -ENOMEM;
	}
	result = listener_open(config, inherited, &http->listener, error);
	if (result == 0 && config->tls_certificate)
		result = tls_new(config, &http->tls, error);
	if (result < 0)
		goto fail;
	MHD_set_panic_func(panic, NULL);
	http->daemon = start_daemon(http);
	if (!http->daemon) {
		(void)error_set(error, ERROR_INTERNAL, "server.listen",
				"the HTTP library did not start on %s", http->listener.url);
		result = -EIO;
		goto fail;
	}
	int epoll_fd = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
	result = loop_add(http->loop, &http->source, epoll_fd, EPOLLIN, ready);
	if (result < 0) {
		(void)error_set(error, ERROR_INTERNAL, "server.listen",
				"cannot watch the HTTP library: %s", strerror(-result));
		goto fail;
	}
	loop_add_hook(http->loop, &http->hook, before_sleep);
	http->run_needed = true;
	*ret_http = http;
	return 0;
fail:
	http_free(http);
	return result;
}

/* --- the end ---------------------------------------------------------------------------------- */

void http_quiesce(struct http *http)
{
	if (http->quiesced)
		return;
	/* Those that have connected already are let in. */
	(void)run(http);
	http->quiesced = true;
	(void)MHD_quiesce_daemon(http->daemon);
	listener_close(&http->listener);
	http->run_needed = true;
}

/* Gives the last answers time to leave. A client that does not take its answer waits in vain. */
static void finish_answers(struct http *http)
{
	int64_t deadline_ns = clock_monotonic_ns() + LAST_ANSWERS_NS;
	struct pollfd poll_fd = {.fd = http->source.fd, .events = POLLIN};

	while (http->requests_answered > 0 && clock_monotonic_ns() < deadline_ns) {
		(void)run(http);
		if (http->requests_answered > 0 && !http->run_needed)
			(void)poll(&poll_fd, 1, 10);
	}
}

void http_free(struct http *http)
{
	if (!http)
		return;
	if (http->daemon) {
		http_quiesce(http);
		http->ending = true;
		wait_end_all(http);
		hold_end_all(http);
		stream_end_all(http);
		(void)run(http);
		finish_answers(http);
		loop_remove(http->loop, &http->source);
		list_remove(&http->hook.node);
		MHD_stop_daemon(http->daemon);
	}
	listener_close(&http->listener);
	tls_free(http->tls);
	free(http);
}

/* --- numbers ---------------------------------------------------------------------------------- */

const char *http_url(const struct http *http)
{
	return http->listener.url;
}

int http_reload(struct http *http, const struct config *config, struct error *error)
{
	int result = listener_check(&http->listener, config, error);

	return result == 0 && http->tls ? tls_reload(http->tls, config, error) : result;
}

int http_check_files(const struct config *config, struct error *error)
{
	struct tls *tls = NULL;
	int result = config->tls_certificate ? tls_new(config, &tls, error) : 0;

	tls_free(tls);
	return result;
}

size_t http_requests_open(const struct http *http)
{
	return http->requests_answered;
}

void http_snapshot_take(const struct http *http, struct http_snapshot *ret_snapshot)
{
	*ret_snapshot = (struct http_snapshot){
		.connections = http->connections,
		.connections_accepted = http->connections_accepted,
		.requests = http->requests,
		.requests_open = http->requests_open,
		.requests_waiting = http->requests_waiting,
		.streams_open = http->streams_open,
	};
	memcpy(ret_snapshot->responses_by_class, http->responses_by_class,
	       sizeof(ret_snapshot->responses_by_class));
	memcpy(ret_snapshot->responses_by_route, http->responses_by_route,
	       sizeof(ret_snapshot->responses_by_route));
}
