/*
 * Callbacks: from the store to the sender and back.
 *
 * Invariants
 * 1. At most one STORE_CALLBACKS is on its way, and no more than RUNNING_MAX deliveries are: the
 * store holds the others.
 * 2. A delivery is leased from the store for STORE_CALLBACK_LEASE_US and takes less: the time-out of
 * a try is bounded below that.
 */
#include "server/callbacks.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "server/allow.h"
#include "server/sender.h"
#include "server/state.h"

#define RUNNING_MAX 32
/* What the store may have that nobody here has hinted at: after a start, or of another service. */
#define LOOK_NS	       (5 * NS_PER_S)
#define TIMEOUT_MS_MAX (STORE_CALLBACK_LEASE_US / 1000 - 5000)

struct callbacks {
	struct server *server;
	struct sender *sender;
	struct loop_source done;
	struct loop_timer timer;
	bool asking;
	bool hinted; /* while asking */
	uint32_t running;
	struct callbacks_stats stats;
};

/* One try, beside its delivery. */
struct attempt {
	struct callbacks *callbacks;
	struct store_callback callback; /* without url and document, which the delivery has */
};

/* --- what may be asked for -------------------------------------------------------------------- */

struct url {
	CURLU *handle;
	char *scheme;
	char *host;
	char *port;
};

static void url_release(struct url *url)
{
	curl_free(url->scheme);
	curl_free(url->host);
	curl_free(url->port);
	curl_url_cleanup(url->handle);
}

/* False if it is none of http or https with a host and without a user. */
static bool url_parse(const char *text, struct url *ret_url)
{
	char *user = NULL;

	*ret_url = (struct url){.handle = curl_url()};
	if (!ret_url->handle || curl_url_set(ret_url->handle, CURLUPART_URL, text, 0) ||
	    curl_url_get(ret_url->handle, CURLUPART_SCHEME, &ret_url->scheme, 0) ||
	    curl_url_get(ret_url->handle, CURLUPART_HOST, &ret_url->host, 0) ||
	    curl_url_get(ret_url->handle, CURLUPART_PORT, &ret_url->port, CURLU_DEFAULT_PORT) ||
	    curl_url_get(ret_url->handle, CURLUPART_USER, &user, 0) != CURLUE_NO_USER) {
		curl_free(user);
		return false;
	}
	size_t length = strlen(ret_url->host);
	if (length > 2 && ret_url->host[0] == '[') {
		memmove(ret_url->host, ret_url->host + 1, length - 2);
		ret_url->host[length - 2] = '\0';
	}
	return strcmp(ret_url->scheme, "http") == 0 || strcmp(ret_url->scheme, "https") == 0;
}

int callbacks_check(const struct config *config, const char *url, struct error *error)
{
	struct url parsed;
	int status = 0;

	if (config->callbacks.allow_count == 0)
		return error_set(error, ERROR_INVALID, "callback_url",
				 "the configuration allows no callbacks; callbacks.allow names to "
				 "whom they may go");
	if (!url_parse(url, &parsed))
		status = error_set(error, ERROR_INVALID, "callback_url",
				   "found \"%.200s\"; expected an absolute URL of http or https, "
				   "without user and password",
				   url);
	else if (!allow_host(&config->callbacks, parsed.host,
			     (uint16_t)strtoul(parsed.port, NULL, 10)))
		status = error_set(error, ERROR_INVALID, "callback_url",
				   "the configuration does not allow callbacks to \"%.200s\", port "
				   "%s (callbacks.allow)",
				   parsed.host, parsed.port);
	url_release(&parsed);
	return status;
}

/* --- a try ------------------------------------------------------------------------------------ */

static char *format_header(const char *format, ...) __attribute__((format(printf, 1, 2)));

static char *format_header(const char *format, ...)
{
	va_list arguments;
	char *text = NULL;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	va_end(arguments);
	return text;
}

static char *sign(const struct config_callbacks *config, const char *body, size_t length)
{
	uint8_t digest[DIGEST_SIZE];
	char hex[DIGEST_TEXT_SIZE];
	char time[24];

	snprintf(time, sizeof(time), "%lld", (long long)(clock_realtime_ns() / NS_PER_S));
	const struct digest_piece pieces[] = {{time, strlen(time)}, {".", 1}, {body, length}};
	digest_hmac_sha256(config->secret, strlen(config->secret), pieces, 3, digest);
	return format_header("Twinpool-Signature: t=%s,v1=%s", time, digest_format(digest, hex));
}

static bool fill_headers(const struct config_callbacks *config,
			 const struct store_callback *callback, struct delivery *delivery)
{
	char id[ID_TEXT_SIZE];
	int next = 0;

	id_format(&callback->id, id);
	delivery->headers[next++] = strdup("Content-Type: application/json");
	/* libcurl would wait for a consent before it sends a large body. */
	delivery->headers[next++] = strdup("Expect:");
	delivery->headers[next++] = format_header("Twinpool-Job: %s", id);
	delivery->headers[next++] =
		format_header("Twinpool-Delivery: %s.%u", id, callback->tries + 1);
	if (config->secret)
		delivery->headers[next++] = sign(config, delivery->body, delivery->body_length);
	while (next > 0)
		if (!delivery->headers[--next])
			return false;
	return true;
}

/* Takes url and document of the callback. NULL if memory is short, or the URL is none. */
static struct delivery *make_delivery(struct callbacks *callbacks, struct store_callback *callback)
{
	const struct config_callbacks *config = &callbacks->server->config->callbacks;
	struct attempt *attempt = calloc(1, sizeof(*attempt));
	struct delivery *delivery = attempt ? delivery_new() : NULL;
	struct url url;

	if (!delivery) {
		free(attempt);
		return NULL;
	}
	attempt->callbacks = callbacks;
	attempt->callback = *callback;
	attempt->callback.url = NULL;
	attempt->callback.document = NULL;
	attempt->callback.error = NULL;
	delivery->data = attempt; /* it owns it now */
	delivery->url = callback->url;
	delivery->body = callback->document;
	delivery->body_length = strlen(callback->document);
	callback->url = NULL;
	callback->document = NULL;
	delivery->timeout_ms =
		config->timeout_ms < TIMEOUT_MS_MAX ? config->timeout_ms : TIMEOUT_MS_MAX;
	if (url_parse(delivery->url, &url))
		delivery->host = strdup(url.host);
	url_release(&url);
	if (delivery->host && fill_headers(config, callback, delivery))
		return delivery;
	delivery_free(delivery);
	return NULL;
}

/* --- its result ------------------------------------------------------------------------------- */

/* In microseconds: drawn from 0 to a bound that doubles with each try, up to its maximum. */
static int64_t draw_backoff_us(const struct config_callbacks *config, uint32_t tries)
{
	int64_t bound_ms = config->backoff_ms;
	uint32_t random;

	for (uint32_t i = 1; i < tries && bound_ms < config->backoff_max_ms; i++)
		bound_ms *= 2;
	if (bound_ms > config->backoff_max_ms)
		bound_ms = config->backoff_max_ms;
	arc4random_buf(&random, sizeof(random));
	return (int64_t)((double)bound_ms * 1000.0 * (double)random / (double)UINT32_MAX);
}

static bool heeds_retry_after(int http_status)
{
	return http_status == 429 || http_status == 503;
}

static int64_t next_due_us(const struct config_callbacks *config, const struct delivery *delivery,
			   uint32_t tries)
{
	int64_t pause_us = draw_backoff_us(config, tries);
	int64_t asked_us = delivery->retry_after_s * 1000000;
	int64_t most_us = config->backoff_max_ms * 1000;

	if (heeds_retry_after(delivery->http_status) && asked_us > pause_us)
		pause_us = asked_us < most_us ? asked_us : most_us;
	return clock_realtime_ns() / NS_PER_US + pause_us;
}

static void say_result(const struct store_callback *result, const char *url)
{
	char id[ID_TEXT_SIZE];

	if (result->delivered && !log_enabled(LOG_LEVEL_DEBUG))
		return;
	log_event(result->delivered ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING,
		  result->delivered ? "callback_delivered"
		  : result->due_us  ? "callback_failed"
				    : "callback_given_up",
		  log_str("job", id_format(&result->id, id)), log_str("url", url),
		  log_uint("try", result->tries), log_int("http_status", result->http_status),
		  log_str("error", result->error));
}

static void judge(struct callbacks *callbacks, const struct delivery *delivery,
		  struct store_callback *result)
{
	const struct config_callbacks *config = &callbacks->server->config->callbacks;
	int http_status = delivery->http_status;

	result->tries++;
	result->http_status = http_status;
	result->delivered = http_status >= 200 && http_status < 300;
	result->due_us = 0;
	if (!result->delivered && http_status != 410 && result->tries < config->max_tries)
		result->due_us = next_due_us(config, delivery, result->tries);
	if (!result->delivered && delivery->error[0])
		result->error = strdup(delivery->error);
	callbacks->stats.delivered += result->delivered;
	callbacks->stats.failed_tries += !result->delivered;
	callbacks->stats.given_up += !result->delivered && result->due_us == 0;
	say_result(result, delivery->url);
}

static void look(struct callbacks *callbacks);

static void result_kept(struct store_request *request)
{
	struct server *server = request->data;

	store_request_free(request);
	if (server->callbacks)
		look(server->callbacks);
}

static void take_result(struct callbacks *callbacks, struct delivery *delivery)
{
	struct attempt *attempt = delivery->data;
	struct store_request *request = store_request_new(STORE_CALLBACK_RESULT);

	callbacks->running--;
	judge(callbacks, delivery, &attempt->callback);
	if (request)
		request->callbacks = calloc(1, sizeof(*request->callbacks));
	if (request && request->callbacks) {
		request->callbacks[0] = attempt->callback;
		request->callback_count = 1;
		request->must = true;
		request->data = callbacks->server;
		request->done = result_kept;
		store_submit(callbacks->server->store, request);
	} else {
		store_request_free(request); /* its lease ends, and it is tried again */
		free(attempt->callback.error);
	}
	delivery_free(delivery);
}

static void results_are_there(struct loop_source *source, uint32_t events)
{
	struct callbacks *callbacks = container_of(source, struct callbacks, done);
	struct delivery *delivery;

	(void)events;
	while ((delivery = sender_take(callbacks->sender)))
		take_result(callbacks, delivery);
}

/* --- what is due ------------------------------------------------------------------------------ */

static void wait_until(struct callbacks *callbacks, int64_t next_us)
{
	int64_t pause_ns = LOOK_NS;
	int64_t left_ns = next_us * NS_PER_US - clock_realtime_ns();

	if (next_us > 0 && left_ns < pause_ns)
		pause_ns = left_ns > NS_PER_MS ? left_ns : NS_PER_MS;
	loop_timer_set(callbacks->server->loop, &callbacks->timer, clock_monotonic_ns() + pause_ns);
}

static void send_due(struct callbacks *callbacks, struct store_callback *due)
{
	struct delivery *delivery = make_delivery(callbacks, due);

	if (!delivery) {
		log_error("callback_not_made", log_str("error", "memory is short"));
		return; /* its lease ends, and it is tried again */
	}
	callbacks->running++;
	sender_send(callbacks->sender, delivery);
}

static void due_came(struct store_request *request)
{
	struct server *server = request->data;
	struct callbacks *callbacks = server->callbacks;

	if (!callbacks) {
		store_request_free(request);
		return;
	}
	callbacks->asking = false;
	for (size_t i = 0; request->status == 0 && i < request->callback_count; i++)
		send_due(callbacks, &request->callbacks[i]);
	bool again = request->status == 0 && (callbacks->hinted || request->callback_count > 0);
	wait_until(callbacks, request->status == 0 ? request->next_us : 0);
	store_request_free(request);
	callbacks->hinted = false;
	if (again)
		look(callbacks);
}

/* Asks for as many as may be made now. */
static void look(struct callbacks *callbacks)
{
	if (callbacks->asking) {
		callbacks->hinted = true;
		return;
	}
	if (callbacks->running >= RUNNING_MAX)
		return; /* the next result looks again */
	struct store_request *request = store_request_new(STORE_CALLBACKS);
	if (!request) {
		wait_until(callbacks, 0);
		return;
	}
	request->limit = RUNNING_MAX - callbacks->running;
	request->data = callbacks->server;
	request->done = due_came;
	callbacks->asking = true;
	store_submit(callbacks->server->store, request);
}

static void timer_expired(struct loop_timer *timer)
{
	look(container_of(timer, struct callbacks, timer));
}

void callbacks_hint(struct callbacks *callbacks)
{
	look(callbacks);
}

/* --- life ------------------------------------------------------------------------------------- */

int callbacks_new(struct server *server, struct callbacks **ret_callbacks)
{
	struct callbacks *callbacks = NULL;

	*ret_callbacks = NULL;
	if (server->config->callbacks.allow_count == 0)
		return 0;
	callbacks = calloc(1, sizeof(*callbacks));
	if (!callbacks)
		return -ENOMEM;
	callbacks->server = server;
	callbacks->done.fd = -1;
	loop_timer_init(&callbacks->timer, timer_expired);
	int status = sender_new(&server->config->callbacks, &callbacks->sender);
	if (status == 0)
		status = loop_add(server->loop, &callbacks->done, sender_fd(callbacks->sender),
				  EPOLLIN, results_are_there);
	if (status < 0) {
		callbacks_free(callbacks);
		return status;
	}
	loop_timer_set(server->loop, &callbacks->timer, clock_monotonic_ns());
	*ret_callbacks = callbacks;
	return 0;
}

void callbacks_free(struct callbacks *callbacks)
{
	struct delivery *delivery;

	if (!callbacks)
		return;
	loop_timer_cancel(callbacks->server->loop, &callbacks->timer);
	loop_remove(callbacks->server->loop, &callbacks->done);
	while (callbacks->sender && (delivery = sender_take(callbacks->sender)))
		take_result(callbacks, delivery);
	sender_free(callbacks->sender);
	free(callbacks);
}

void callbacks_configure(struct callbacks *callbacks)
{
	if (callbacks &&
	    sender_configure(callbacks->sender, &callbacks->server->config->callbacks) < 0)
		log_error("callbacks_not_configured", log_str("error", "memory is short"));
}

void callbacks_stats(const struct callbacks *callbacks, struct callbacks_stats *ret_stats)
{
	*ret_stats = callbacks->stats;
	ret_stats->running = callbacks->running;
}
