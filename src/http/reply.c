/*
 * Making and sending answers.
 *
 * The bytes of an answer are given to libmicrohttpd, which frees them; so an answer costs one
 * buffer, and nothing is copied.
 */
#include "http/reply.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

#define RETRY_AFTER_DEFAULT 1 /* seconds */
/* At once, for clients of HTTP/1.0; others get what their connection's memory holds. */
#define STREAM_BLOCK_BYTES 8192

static void log_reply(const struct request *request, const struct reply *reply)
{
	enum log_level level = reply->status >= 500 ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG;
	char job[ID_TEXT_SIZE];

	if (!log_enabled(level))
		return;
	double ms = (double)(clock_monotonic_ns() - request->started_ns) / (double)NS_PER_MS;
	log_event(level, "request", log_str("request_id", request->id),
		  log_str("method", request->method), log_str("path", request->path),
		  log_int("status", reply->status), log_float("ms", ms),
		  log_str("client", request->access.client[0] ? request->access.client : NULL),
		  log_str("job", request->has_job ? id_format(&request->job, job) : NULL),
		  log_str("detail", reply->detail));
}

static bool add_header(struct MHD_Response *response, const char *name, const char *value)
{
	return !value || MHD_add_response_header(response, name, value) == MHD_YES;
}

static bool add_headers(struct MHD_Response *response, struct request *request,
			const struct reply *reply)
{
	const struct http *http = request->http;
	bool close = request->close || http->quiesced || server_is_stopping(http->server);
	const char *cache_control = reply->cache_control ? reply->cache_control : "no-store";
	char seconds[16];

	for (const struct reply_header *more = reply->headers; more && more->name; more++)
		if (!add_header(response, more->name, more->value))
			return false;
	snprintf(seconds, sizeof(seconds), "%u", reply->retry_after);
	return add_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->content_type) &&
	       add_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, cache_control) &&
	       add_header(response, "X-Request-Id", request->id) &&
	       add_header(response, MHD_HTTP_HEADER_LOCATION, reply->location) &&
	       add_header(response, "Preference-Applied", reply->preference) &&
	       add_header(response, "Idempotency-Replayed", reply->replayed ? "true" : NULL) &&
	       add_header(response, MHD_HTTP_HEADER_ALLOW, reply->allow) &&
	       add_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, reply->authenticate) &&
	       add_header(response, MHD_HTTP_HEADER_RETRY_AFTER,
			  reply->retry_after ? seconds : NULL) &&
	       add_header(response, MHD_HTTP_HEADER_CONNECTION, close ? "close" : NULL);
}

/* Takes response. */
static enum MHD_Result send_response(struct request *request, const struct reply *reply,
				     struct MHD_Response *response)
{
	enum MHD_Result result = MHD_NO;

	if (add_headers(response, request, reply))
		result = MHD_queue_response(request->connection, reply->status, response);
	MHD_destroy_response(response);
	if (result == MHD_YES) {
		request->http->responses_by_class[reply->status / 100]++;
		request->http->responses_by_route[request->route][reply->status / 100]++;
		log_reply(request, reply);
	}
	return result;
}

/* Takes data. */
static enum MHD_Result send_bytes(struct request *request, const struct reply *reply, char *data,
				  size_t length)
{
	struct MHD_Response *response =
		MHD_create_response_from_buffer(length, data, MHD_RESPMEM_MUST_FREE);

	if (!response) {
		free(data);
		return MHD_NO;
	}
	return send_response(request, reply, response);
}

// NOLINTNEXTLINE(readability-non-const-parameter): libmicrohttpd's type
static ssize_t read_nothing(void *data, uint64_t position, char *out, size_t room)
{
	(void)data;
	(void)position;
	(void)out;
	(void)room;
	return MHD_CONTENT_READER_END_OF_STREAM;
}

enum MHD_Result reply_stream(struct request *request, MHD_ContentReaderCallback read, void *data)
{
	const struct reply reply = {.status = MHD_HTTP_OK, .content_type = "text/event-stream"};
	struct MHD_Response *response = MHD_create_response_from_callback(
		MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, read ? read : read_nothing, data, NULL);

	if (!response)
		return MHD_NO;
	/* libmicrohttpd ends a body in chunks also where HEAD allows none, so HEAD goes without
	 * chunks, and the connection is closed after it. */
	if (!read)
		MHD_set_response_options(response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
	return send_response(request, &reply, response);
}

enum MHD_Result reply_send(struct request *request, const struct reply *reply, struct buffer *body)
{
	struct reply full = *reply;
	struct error error;
	size_t length;

	if (buffer_failed(body) || body->length == 0) {
		buffer_release(body);
		(void)error_set(&error, ERROR_INTERNAL, NULL, "not enough memory");
		return reply_error(request, &error, 0);
	}
	if (!full.content_type)
		full.content_type = "application/json";
	char *data = buffer_take(body, &length);
	return send_bytes(request, &full, data, length);
}

enum MHD_Result reply_constant(struct request *request, const struct reply *reply, const char *data,
			       size_t length)
{
	const struct MHD_IoVec vector = {.iov_base = data, .iov_len = length};
	struct MHD_Response *response;

	if (length == 0)
		return send_bytes(request, reply, NULL, 0);
	response = MHD_create_response_from_iovec(&vector, 1, NULL, NULL);
	return response ? send_response(request, reply, response) : MHD_NO;
}

enum MHD_Result reply_json(struct request *request, struct buffer *body)
{
	const struct reply reply = {.status = MHD_HTTP_OK};

	buffer_append_char(body, '\n');
	return reply_send(request, &reply, body);
}

enum MHD_Result reply_empty(struct request *request, unsigned int status, const char *allow)
{
	const struct reply reply = {.status = status, .allow = allow};

	return send_bytes(request, &reply, NULL, 0);
}

static unsigned int status_of(enum error_code code)
{
	switch (code) {
	case ERROR_SYNTAX:
		return MHD_HTTP_BAD_REQUEST;
	case ERROR_INVALID:
		return MHD_HTTP_UNPROCESSABLE_CONTENT;
	case ERROR_NOT_FOUND:
		return MHD_HTTP_NOT_FOUND;
	case ERROR_CONFLICT:
		return MHD_HTTP_CONFLICT;
	case ERROR_TOO_LARGE:
		return MHD_HTTP_CONTENT_TOO_LARGE;
	case ERROR_OVERLOADED:
	case ERROR_UNAVAILABLE:
		return MHD_HTTP_SERVICE_UNAVAILABLE;
	case ERROR_NONE:
	case ERROR_INTERNAL:
		break;
	}
	return MHD_HTTP_INTERNAL_SERVER_ERROR;
}

/* RFC 9110's names where libmicrohttpd has those of its predecessors. */
static const char *title_of(unsigned int status)
{
	if (status == MHD_HTTP_CONTENT_TOO_LARGE)
		return "Content Too Large";
	if (status == MHD_HTTP_UNPROCESSABLE_CONTENT)
		return "Unprocessable Content";
	return MHD_get_reason_phrase_for(status);
}

/* The message of a syntax error begins with its place. */
static void write_place(struct json_writer *writer, const char *detail)
{
	unsigned int line, column;

	if (sscanf(detail, "line %9u, column %9u", &line, &column) != 2)
		return;
	json_write_uint(writer, "line", line);
	json_write_uint(writer, "column", column);
}

/* scope: of a refusal that lacks it, or NULL. */
static enum MHD_Result send_problem(struct request *request, struct reply *reply,
				    const struct error *error, const char *scope)
{
	struct buffer body = {0};
	struct json_writer writer = {.buffer = &body};

	json_write_begin_object(&writer, NULL);
	json_write_string(&writer, "type", "about:blank");
	json_write_string(&writer, "title", title_of(reply->status));
	json_write_uint(&writer, "status", reply->status);
	json_write_string(&writer, "detail", error->message);
	if (error->field[0] != '\0')
		json_write_string(&writer, "field", error->field);
	if (scope)
		json_write_string(&writer, "scope", scope);
	if (error->code == ERROR_SYNTAX)
		write_place(&writer, error->message);
	json_write_string(&writer, "request_id", request->id);
	json_write_end_object(&writer);
	buffer_append_char(&body, '\n');
	if (buffer_failed(&body)) {
		buffer_release(&body);
		return MHD_NO;
	}
	reply->content_type = "application/problem+json";
	reply->detail = error->message;
	if (reply->status != MHD_HTTP_SERVICE_UNAVAILABLE)
		reply->retry_after = 0;
	else if (reply->retry_after == 0)
		reply->retry_after = RETRY_AFTER_DEFAULT;
	return reply_send(request, reply, &body);
}

enum MHD_Result reply_error(struct request *request, const struct error *error,
			    unsigned int retry_after)
{
	struct reply reply = {.status = status_of(error->code), .retry_after = retry_after};

	return send_problem(request, &reply, error, NULL);
}

enum MHD_Result reply_error_at(struct request *request, const struct error *error,
			       const char *location)
{
	struct reply reply = {.status = status_of(error->code), .location = location};

	return send_problem(request, &reply, error, NULL);
}

enum MHD_Result reply_problem(struct request *request, unsigned int status, const char *allow,
			      const char *detail)
{
	struct reply reply = {.status = status, .allow = allow};
	struct error error;

	(void)error_set(&error, ERROR_NONE, NULL, "%s", detail);
	return send_problem(request, &reply, &error, NULL);
}

enum MHD_Result reply_refusal(struct request *request, unsigned int status,
			      const char *authenticate, const char *scope, const char *detail)
{
	struct reply reply = {.status = status, .authenticate = authenticate};
	struct error error;

	(void)error_set(&error, ERROR_NONE, NULL, "%s", detail);
	return send_problem(request, &reply, &error, scope);
}
