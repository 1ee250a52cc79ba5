/*
 * The life of a request.
 *
 * Invariants
 * 1. A struct request is made by the first call of request_handle() and freed by
 * request_completed(), which libmicrohttpd calls exactly once for each request, however it ends.
 * 2. The body never holds more than max_body_bytes, and its room grows with what has come, not with
 * what was announced, beyond the first BODY_FIRST_ROOM bytes.
 * 3. A body that nobody wants, or that is too large, is counted and dropped, since libmicrohttpd
 * answers only between bodies; a client that goes on past BODY_PATIENCE times the cap is cut off.
 */
#include "http/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/reply.h"
#include "http/route.h"

#define BODY_FIRST_ROOM 65536u
#define BODY_PATIENCE	16

static const char *const query_names[QUERY_NAMES] = {
	[QUERY_WAIT] = "wait",	   [QUERY_STATE] = "state",
	[QUERY_POOL] = "pool",	   [QUERY_TASK] = "task",
	[QUERY_LABEL] = "label",   [QUERY_SINCE] = "since",
	[QUERY_UNTIL] = "until",   [QUERY_LIMIT] = "limit",
	[QUERY_CURSOR] = "cursor", [QUERY_LAST_EVENT_ID] = "last_event_id",
};

static const char *header(const struct request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

/* --- the beginning ---------------------------------------------------------------------------- */

static bool id_is_acceptable(const char *id)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789._-";
	size_t length = strspn(id, allowed);

	return length >= 1 && length <= REQUEST_ID_MAX && id[length] == '\0';
}

static void take_id(struct request *request)
{
	const char *given = header(request, "X-Request-Id");

	if (given && id_is_acceptable(given)) {
		memcpy(request->id, given, strlen(given) + 1);
	} else {
		struct id id = id_new();
		id_format(&id, request->id);
	}
}

/* A request line may name the whole URL (RFC 9112, section 3.2.2). */
static const char *path_of(const char *url)
{
	if (strncasecmp(url, "http://", 7) != 0)
		return url;
	const char *path = strchr(url + 7, '/');
	return path ? path : "/";
}

static struct request *request_new(struct http *http, struct MHD_Connection *connection,
				   const char *url, const char *method)
{
	struct request *request = calloc(1, sizeof(*request));

	if (!request)
		return NULL;
	request->http = http;
	request->connection = connection;
	request->method = method;
	request->path = path_of(url);
	request->started_ns = clock_monotonic_ns();
	hold_init(&request->hold);
	wait_init(&request->wait);
	take_id(request);
	bool wants_body = route_find(request);
	access_judge(request);
	request->keeps_body = wants_body && request->access.status == 0;
	http->requests++;
	http->requests_open++;
	return request;
}

static void request_set_complete(struct request *request)
{
	if (request->complete)
		return;
	request->complete = true;
	request->http->requests_answered++;
}

/* libmicrohttpd has refused a value that is no number. */
static uint64_t content_length(const struct request *request)
{
	const char *text = header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);

	return text ? strtoull(text, NULL, 10) : 0;
}

static enum MHD_Result answer_too_large(struct request *request)
{
	struct error error;

	request->close = true;
	request_set_complete(request);
	(void)error_set(&error, ERROR_TOO_LARGE, NULL, "the body is larger than %llu bytes",
			(unsigned long long)server_config(request->http->server)->max_body_bytes);
	return reply_error(request, &error, 0);
}

static bool announces_body(const struct request *request)
{
	return content_length(request) > 0 || header(request, MHD_HTTP_HEADER_TRANSFER_ENCODING);
}

static enum MHD_Result begin(struct request *request)
{
	uint64_t length = content_length(request);

	if (request->access.status && announces_body(request)) {
		request->close = true; /* its body is not waited for */
		request_set_complete(request);
		return access_refuse(request);
	}
	if (length > server_config(request->http->server)->max_body_bytes)
		return answer_too_large(request);
	if (request->keeps_body && length > 0)
		(void)buffer_reserve(&request->body,
				     length < BODY_FIRST_ROOM ? (size_t)length : BODY_FIRST_ROOM);
	return MHD_YES;
}

/* --- the body --------------------------------------------------------------------------------- */

static enum MHD_Result take_body(struct request *request, const char *data, size_t length)
{
	uint64_t cap = server_config(request->http->server)->max_body_bytes;

	request->body_bytes += length;
	if (request->body_bytes > cap) {
		request->too_large = true;
		buffer_release(&request->body);
		return request->body_bytes / BODY_PATIENCE > cap ? MHD_NO : MHD_YES;
	}
	if (request->keeps_body)
		buffer_append(&request->body, data, length);
	return MHD_YES;
}

static enum MHD_Result dispatch(struct request *request)
{
	struct error error;

	request_set_complete(request);
	if (request->access.status)
		return access_refuse(request);
	if (request->too_large)
		return answer_too_large(request);
	if (buffer_failed(&request->body)) {
		(void)error_set(&error, ERROR_INTERNAL, NULL, "not enough memory for the body");
		return reply_error(request, &error, 0);
	}
	return route_dispatch(request);
}

enum MHD_Result request_handle(void *http, struct MHD_Connection *connection, const char *url,
			       const char *method, const char *version, const char *upload_data,
			       size_t *upload_data_size, void **connection_state)
{
	struct request *request = *connection_state;

	(void)version;
	if (!request) {
		request = request_new(http, connection, url, method);
		if (!request)
			return MHD_NO;
		*connection_state = request;
		return begin(request);
	}
	if (*upload_data_size > 0) {
		size_t length = *upload_data_size;
		*upload_data_size = 0;
		return take_body(request, upload_data, length);
	}
	if (request->hold.woken)
		return hold_go_on(request);
	if (request->wait.woken)
		return wait_answer(request);
	return dispatch(request);
}

void request_completed(void *http, struct MHD_Connection *connection, void **connection_state,
		       enum MHD_RequestTerminationCode why)
{
	struct request *request = *connection_state;
	struct http *owner = http;

	(void)connection;
	if (!request)
		return;
	if (why != MHD_REQUEST_TERMINATED_COMPLETED_OK && log_enabled(LOG_LEVEL_DEBUG))
		log_debug("request_cut_off", log_str("request_id", request->id),
			  log_int("reason", (int)why));
	owner->requests_open--;
	if (request->complete)
		owner->requests_answered--;
	hold_release(&request->hold);
	wait_release(&request->wait);
	stream_close(request->stream);
	buffer_release(&request->body);
	free(request);
	*connection_state = NULL;
}

/* --- what handlers ask ------------------------------------------------------------------------ */

bool request_target(const struct request *request, struct id *ret_id)
{
	return request->target && id_parse(request->target, ret_id);
}

bool request_is_head(const struct request *request)
{
	return strcmp(request->method, MHD_HTTP_METHOD_HEAD) == 0;
}

void request_note_job(struct request *request, const struct id *id)
{
	request->job = *id;
	request->has_job = true;
}

static bool is_json(const char *content_type)
{
	static const char *const accepted[] = {
		"application/json",
		"application/x-www-form-urlencoded", /* what "curl -d" says of anything */
	};
	size_t length = strcspn(content_type, "; \t");

	for (size_t i = 0; i < sizeof(accepted) / sizeof(accepted[0]); i++)
		if (strlen(accepted[i]) == length &&
		    strncasecmp(content_type, accepted[i], length) == 0)
			return true;
	return false;
}

int request_check_open(const struct request *request, struct error *error)
{
	const struct http *http = request->http;

	if (!server_is_stopping(http->server) && !http->quiesced)
		return 0;
	return error_set(error, ERROR_UNAVAILABLE, NULL, "the service is shutting down");
}

unsigned int request_check_body(const struct request *request, const char *example,
				struct error *error)
{
	const char *content_type = header(request, MHD_HTTP_HEADER_CONTENT_TYPE);

	if (content_type && !is_json(content_type)) {
		(void)error_set(error, ERROR_INVALID, NULL,
				"the body's Content-Type is \"%.100s\"; expected application/json",
				content_type);
		return MHD_HTTP_UNSUPPORTED_MEDIA_TYPE;
	}
	if (request->body.length == 0) {
		(void)error_set(error, ERROR_SYNTAX, NULL,
				"the body is empty; expected a JSON object such as %s", example);
		return MHD_HTTP_BAD_REQUEST;
	}
	return 0;
}

struct query_reading {
	struct request *request;
	unsigned int allowed;
	struct error *error;
	int result;
};

/* "wait, limit", or "none". */
static void write_known(unsigned int allowed, char *out, size_t size)
{
	size_t length = 0;

	snprintf(out, size, "none");
	for (int i = 0; i < QUERY_NAMES && length < size; i++)
		if (allowed & 1u << i)
			length += (size_t)snprintf(out + length, size - length, "%s%s",
						   length ? ", " : "", query_names[i]);
}

static enum MHD_Result refuse_query(struct query_reading *reading, const char *name,
				    const char *detail)
{
	char field[sizeof(reading->error->field)];
	char known[96];

	snprintf(field, sizeof(field), "?%s", name);
	write_known(reading->allowed, known, sizeof(known));
	reading->result = error_set(reading->error, ERROR_INVALID, field,
				    "%s; query parameters of this call: %s", detail, known);
	return MHD_NO;
}

static enum MHD_Result read_query_value(void *data, enum MHD_ValueKind kind, const char *key,
					const char *value)
{
	struct query_reading *reading = data;

	(void)kind;
	for (int i = 0; i < QUERY_NAMES; i++) {
		const char **slot = &reading->request->query[i];
		if (!(reading->allowed & 1u << i) || strcmp(key, query_names[i]) != 0)
			continue;
		if (*slot)
			return refuse_query(reading, key, "given more than once");
		*slot = value ? value : "";
		return MHD_YES;
	}
	return refuse_query(reading, key, "there is no such query parameter");
}

int request_read_query(struct request *request, unsigned int allowed, struct error *error)
{
	struct query_reading reading = {.request = request, .allowed = allowed, .error = error};

	MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, read_query_value,
				  &reading);
	return reading.result;
}
