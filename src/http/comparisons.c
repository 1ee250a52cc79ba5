/* /comparisons and /experiments: processes or threads, by measurement. */
#include <stdlib.h>

#include "base/clock.h"
#include "compare/compare.h"
#include "http/reply.h"
#include "http/resources.h"
#include "http/stream.h"
#include "http/wait.h"

/* --- submitting ------------------------------------------------------------------------------- */

enum MHD_Result comparisons_submit(struct request *request)
{
	struct comparison *comparison;
	unsigned int retry_after = 0;
	struct error error;
	int64_t wait_ns;

	if (request_check_open(request, &error) < 0)
		return reply_error(request, &error, 0);
	unsigned int status = request_check_body(
		request,
		"{\"task\": \"primes\", \"args\": {\"n\": 100000}, \"pools\": [\"process\"]}",
		&error);
	if (status == MHD_HTTP_UNSUPPORTED_MEDIA_TYPE)
		return reply_problem(request, status, NULL, error.message);
	if (status != 0 || wait_read(request, 0, &wait_ns, &error) < 0 ||
	    compare_submit(request->http->compare, request->body.data, request->body.length,
			   &comparison, &retry_after, &error) < 0)
		return reply_error(request, &error, retry_after);
	buffer_release(&request->body); /* a wait can be long */
	return wait_for_comparison(request, comparison, wait_ns, MHD_HTTP_ACCEPTED);
}

/* An experiment has no parameters: there is no body, or an empty object. */
static int check_no_fields(const struct buffer *body, struct error *error)
{
	json_t *document = NULL;
	int status = body->length > 0 ? json_parse(body->data, body->length, &document, error) : 0;

	if (document && (!json_is_object(document) || json_object_size(document) > 0))
		status = error_set(error, ERROR_INVALID,
				   json_object_iter_key(json_object_iter(document)),
				   "an experiment has no parameters; expected no body, or {}");
	json_decref(document);
	return status;
}

enum MHD_Result experiments_run(struct request *request)
{
	struct comparison *comparison;
	unsigned int retry_after = 0;
	struct error error;
	int64_t wait_ns;

	if (request_check_open(request, &error) < 0 ||
	    check_no_fields(&request->body, &error) < 0 ||
	    wait_read(request, 0, &wait_ns, &error) < 0 ||
	    compare_submit_experiment(request->http->compare, request->target, &comparison,
				      &retry_after, &error) < 0)
		return reply_error(request, &error, retry_after);
	return wait_for_comparison(request, comparison, wait_ns, MHD_HTTP_ACCEPTED);
}

/* --- one of them ------------------------------------------------------------------------------ */

static struct comparison *find(const struct request *request, struct error *error)
{
	struct comparison *comparison = NULL;
	struct id id;

	if (request_target(request, &id))
		comparison = compare_find(request->http->compare, &id);
	if (!comparison)
		(void)error_set(error, ERROR_NOT_FOUND, NULL,
				"there is no comparison %.64s, or it is kept no longer",
				request->target);
	return comparison;
}

enum MHD_Result comparisons_get(struct request *request)
{
	struct error error;
	int64_t wait_ns;
	struct comparison *comparison = find(request, &error);

	if (!comparison || wait_read(request, 0, &wait_ns, &error) < 0)
		return reply_error(request, &error, 0);
	return wait_for_comparison(request, comparison, wait_ns, MHD_HTTP_OK);
}

enum MHD_Result comparisons_cancel(struct request *request)
{
	struct error error;
	struct comparison *comparison = find(request, &error);

	if (comparison && compare_cancel(comparison) == CANCEL_HAD_ENDED) {
		(void)error_set(&error, ERROR_CONFLICT, NULL, "comparison %.64s has ended already",
				request->target);
		comparison = NULL;
	}
	if (!comparison)
		return reply_error(request, &error, 0);
	return wait_for_comparison(request, comparison, 0, MHD_HTTP_ACCEPTED);
}

/* --- the lists -------------------------------------------------------------------------------- */

static enum MHD_Result answer(struct request *request, void (*write)(const struct compare *compare,
								     struct json_writer *writer))
{
	struct buffer body = {0};
	struct json_writer writer = {.buffer = &body};

	write(request->http->compare, &writer);
	return reply_json(request, &body);
}

enum MHD_Result comparisons_list(struct request *request)
{
	return answer(request, compare_write_list);
}

enum MHD_Result experiments_list(struct request *request)
{
	return answer(request, compare_write_experiments);
}

/* --- events ----------------------------------------------------------------------------------- */

struct reader {
	struct stream stream;
	struct compare_watcher watcher;
	bool has_news;
};

static void changed(struct compare_watcher *watcher)
{
	struct reader *reader = container_of(watcher, struct reader, watcher);

	reader->has_news = true;
	stream_wake(&reader->stream);
}

static void fill(struct stream *stream)
{
	struct reader *reader = container_of(stream, struct reader, stream);
	const struct comparison *comparison = reader->watcher.comparison;
	struct json_writer writer = {.buffer = &stream->pending};
	bool ended = comparison_has_ended(comparison);

	if (!reader->has_news)
		return;
	reader->has_news = false;
	buffer_append_text(&stream->pending,
			   ended ? "event: end\ndata: " : "event: progress\ndata: ");
	if (ended)
		compare_write(comparison, &writer);
	else
		compare_write_progress(comparison, &writer);
	buffer_append_text(&stream->pending, "\n\n");
	stream->last = ended;
}

static void close_reader(struct stream *stream)
{
	struct reader *reader = container_of(stream, struct reader, stream);

	compare_unwatch(&reader->watcher);
	free(reader);
}

enum MHD_Result comparisons_watch(struct request *request)
{
	static const struct stream_calls calls = {.fill = fill, .close = close_reader};
	struct error error;
	struct comparison *comparison = find(request, &error);

	if (!comparison)
		return reply_error(request, &error, 0);
	if (request_is_head(request))
		return reply_stream(request, NULL, NULL);
	struct reader *reader = calloc(1, sizeof(*reader));
	if (!reader) {
		(void)error_set(&error, ERROR_INTERNAL, NULL, "not enough memory");
		return reply_error(request, &error, 0);
	}
	reader->has_news = true;
	compare_watch(comparison, &reader->watcher, changed);
	return stream_begin(request, &reader->stream, &calls);
}
