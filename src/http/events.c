/*
 * GET /jobs/{id}/events: what happens to a job, as server-sent events (the HTML standard, section
 * 9.2).
 *
 * Each reader has a position in what there is to be told of the job, and is given events from there
 * on when its connection takes them. What is told is read from the job itself at that moment, so
 * most readers cost nothing but their position. When the job is about to drop what a reader has not
 * been told, it is written down for it, within bounds; what is lost beyond that is named by a `gap`
 * event.
 *
 * The position stands in each event's id, so a reader that comes back with the last one goes on
 * from there.
 *
 * Invariants
 * 1. A reader is on its feed's list until it has been given the end of the job; a feed is a watcher of
 * the job as long as it has readers.
 * 2. What a reader holds is at most FILL_BYTES and an event, or, when what it has not read yet goes
 * for good, BACKLOG_BYTES and an event; and the document of an ended job, which all its readers
 * share.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "http/follow.h"
#include "http/reply.h"
#include "http/resources.h"
#include "http/stored.h"
#include "http/stream.h"
#include "server/watch.h"

#define CHUNK_BYTES   8192u	   /* of output, in an event */
#define FILL_BYTES    16384u	   /* written at once for a reader */
#define BACKLOG_BYTES (192u << 10) /* written for one when it is the last chance */

enum { STDOUT, STDERR, OUTPUTS };

static const char *const output_names[OUTPUTS] = {[STDOUT] = "stdout", [STDERR] = "stderr"};

/* Up to where a reader has been told. */
struct position {
	uint32_t attempt;	  /* whose output the offsets are in */
	uint32_t passages;	  /* changes of state */
	uint64_t offset[OUTPUTS]; /* bytes of output */
	uint32_t progress;	  /* its version */
};

/* A job with its readers. */
struct feed {
	struct watcher watcher;
	struct list readers;
	struct stream_text *end; /* the last event; NULL until somebody is there */
};

struct reader {
	struct stream stream;
	struct list node;  /* of the feed */
	struct feed *feed; /* NULL: the end was given, or never begun */
	struct position at;
};

/* The job's attempt whose output it holds. */
static uint32_t attempt_of(const struct job *job)
{
	return job_output_attempt(job);
}

static const struct output *output_of(const struct job *job, int which)
{
	return which == STDOUT ? &job->stdout_output : &job->stderr_output;
}

/* How much an attempt before that one wrote. */
static uint64_t past_bytes(const struct job *job, uint32_t attempt, int which)
{
	if (attempt <= job->earlier_count)
		return 0; /* of an earlier service: nobody knows any more */
	const struct job_attempt *past = &job->previous[attempt - 1 - job->earlier_count];
	return which == STDOUT ? past->stdout_bytes : past->stderr_bytes;
}

/* --- events ----------------------------------------------------------------------------------- */

/* Begins an event up to its data. The position must be the one after it. */
static void begin_data(struct reader *reader, const char *type)
{
	const struct position *at = &reader->at;

	buffer_append_format(&reader->stream.pending,
			     "id: %u-%u-%llu-%llu-%u\nevent: %s\ndata: ", at->attempt, at->passages,
			     (unsigned long long)at->offset[STDOUT],
			     (unsigned long long)at->offset[STDERR], at->progress, type);
}

static struct json_writer begin_event(struct reader *reader, const char *type)
{
	struct json_writer writer = {.buffer = &reader->stream.pending};

	begin_data(reader, type);
	json_write_begin_object(&writer, NULL);
	return writer;
}

static void end_event(struct json_writer *writer)
{
	json_write_end_object(writer);
	buffer_append_text(writer->buffer, "\n\n");
}

static void write_lost_passages(struct reader *reader, uint32_t first)
{
	uint32_t lost = first - reader->at.passages;

	reader->at.passages = first;
	struct json_writer writer = begin_event(reader, "gap");
	json_write_uint(&writer, "states", lost);
	end_event(&writer);
}

static void write_passages(struct reader *reader, const struct job *job, bool with_end)
{
	uint32_t count = job->passage_count;

	if (count > JOB_PASSAGES && reader->at.passages < count - JOB_PASSAGES)
		write_lost_passages(reader, count - JOB_PASSAGES);
	while (reader->at.passages < count) {
		const struct job_passage *passage =
			&job->passages[reader->at.passages % JOB_PASSAGES];
		if (job_state_is_ended(passage->state) && !with_end)
			return;
		reader->at.passages++;
		struct json_writer writer = begin_event(reader, "state");
		json_write_string(&writer, "state", job_state_name(passage->state));
		json_write_uint(&writer, "attempt", passage->attempt);
		end_event(&writer);
	}
}

static void write_progress(struct reader *reader, const struct job *job)
{
	if (reader->at.progress == job->progress.version)
		return;
	reader->at.progress = job->progress.version;
	if (!job->progress.known)
		return;
	struct json_writer writer = {.buffer = &reader->stream.pending};
	begin_data(reader, "progress");
	job_write_progress(job, &writer, NULL);
	buffer_append_text(writer.buffer, "\n\n");
}

/* Says that output up to `end` will not be told. */
static void write_lost_output(struct reader *reader, int which, uint64_t end)
{
	uint64_t begin = reader->at.offset[which];

	if (begin >= end)
		return;
	reader->at.offset[which] = end;
	struct json_writer writer = begin_event(reader, "gap");
	json_write_uint(&writer, "attempt", reader->at.attempt);
	json_write_string(&writer, "stream", output_names[which]);
	json_write_uint(&writer, "offset", begin);
	json_write_uint(&writer, "bytes", end - begin);
	end_event(&writer);
}

/* How many of these bytes make up an event: a character is not cut in two where its other half may
 * come. */
static size_t whole_characters(const struct output *output, uint64_t offset, const char *bytes,
			       size_t length, bool complete)
{
	uint64_t end = offset + length;
	bool at_the_end = end == output->total_bytes;
	bool before_a_hole = !at_the_end && output_kept_from(output, end) > end;

	return before_a_hole || (at_the_end && complete) ? length : text_trim(bytes, length);
}

/* Writes the next piece of one output; false if there is none. complete: no more will be written to
 * it. */
static bool write_chunk(struct reader *reader, const struct job *job, int which, bool complete)
{
	const struct output *output = output_of(job, which);
	char bytes[CHUNK_BYTES];

	write_lost_output(reader, which, output_kept_from(output, reader->at.offset[which]));
	uint64_t offset = reader->at.offset[which];
	size_t length = output_copy(output, offset, bytes, sizeof(bytes));
	length = whole_characters(output, offset, bytes, length, complete);
	if (length == 0)
		return false;
	reader->at.offset[which] += length;
	struct json_writer writer = begin_event(reader, "output");
	json_write_uint(&writer, "attempt", reader->at.attempt);
	json_write_string(&writer, "stream", output_names[which]);
	json_write_uint(&writer, "offset", offset);
	json_write_bytes(&writer, "text", bytes, length);
	end_event(&writer);
	return true;
}

/* Writes output until the reader holds so much; false if there may be more. */
static bool write_output(struct reader *reader, const struct job *job, size_t most, bool complete)
{
	bool more = true;

	while (more && stream_backlog(&reader->stream) < most) {
		more = write_chunk(reader, job, STDOUT, complete);
		more = write_chunk(reader, job, STDERR, complete) || more;
	}
	return !more;
}

/* Goes on to the attempt that the job is at; what was not told of those before is lost. */
static void catch_up(struct reader *reader, const struct job *job)
{
	struct position *at = &reader->at;

	while (at->attempt < attempt_of(job)) {
		for (int which = 0; which < OUTPUTS; which++)
			write_lost_output(reader, which, past_bytes(job, at->attempt, which));
		at->attempt++;
		at->offset[STDOUT] = at->offset[STDERR] = 0;
	}
}

/* --- feeds ------------------------------------------------------------------------------------ */

static void leave(struct reader *reader)
{
	struct feed *feed = reader->feed;

	list_remove(&reader->node);
	reader->feed = NULL;
	if (!list_empty(&feed->readers))
		return;
	watcher_remove(&feed->watcher);
	stream_text_drop(feed->end);
	free(feed);
}

static struct stream_text *end_of(struct feed *feed)
{
	if (feed->end)
		return feed->end;
	feed->end = stream_text_new();
	if (!feed->end)
		return NULL;
	struct buffer *bytes = &feed->end->bytes;
	struct json_writer writer = {.buffer = bytes};
	buffer_append_text(bytes, "id: end\nevent: end\ndata: ");
	job_write_json(feed->watcher.job, clock_monotonic_ns(), &writer, NULL);
	buffer_append_text(bytes, "\n\n");
	if (buffer_failed(bytes)) {
		stream_text_drop(feed->end);
		feed->end = NULL;
	}
	return feed->end;
}

/* The last events of a job that has ended. */
static void finish(struct reader *reader, const struct job *job)
{
	write_passages(reader, job, true);
	struct stream_text *end = end_of(reader->feed);
	if (end)
		reader->stream.shared = stream_text_hold(end);
	else
		reader->stream.pending.failed = true;
	reader->stream.last = true;
	leave(reader);
}

static struct reader *reader_of(struct list *node)
{
	return container_of(node, struct reader, node);
}

static void feed_changed(struct watcher *watcher)
{
	const struct feed *feed = container_of(watcher, struct feed, watcher);

	list_for_each (node, &feed->readers)
		stream_wake(&reader_of(node)->stream);
}

/* All that can be told before the end, up to BACKLOG_BYTES. */
static void write_before_loss(struct reader *reader, const struct job *job, bool complete)
{
	bool full = stream_backlog(&reader->stream) >= BACKLOG_BYTES;

	if (reader->stream.last || (full && !complete)) /* it has hung up, or does not read */
		return;
	catch_up(reader, job);
	write_passages(reader, job, false);
	write_progress(reader, job);
	(void)write_output(reader, job, BACKLOG_BYTES, complete);
}

static void feed_output_leaves(struct watcher *watcher, bool attempt_is_over)
{
	const struct feed *feed = container_of(watcher, struct feed, watcher);

	list_for_each (node, &feed->readers)
		write_before_loss(reader_of(node), watcher->job, attempt_is_over);
}

static void feed_forgotten(struct watcher *watcher)
{
	struct feed *feed = container_of(watcher, struct feed, watcher);
	const struct job *job = watcher->job;

	for (bool more = true; more;) {
		struct reader *reader = reader_of(feed->readers.next);
		more = reader->node.next != &feed->readers; /* the last one takes the feed along */
		write_before_loss(reader, job, true);
		for (int which = 0; which < OUTPUTS; which++)
			write_lost_output(reader, which, output_of(job, which)->total_bytes);
		finish(reader, job);
		stream_wake(&reader->stream);
	}
}

static const struct watcher_calls feed_calls = {
	.changed = feed_changed,
	.output_leaves = feed_output_leaves,
	.forgotten = feed_forgotten,
};

/* The feed of the job, made if there is none; NULL if memory is short. */
static struct feed *feed_of(struct job *job)
{
	struct watcher *watcher = watcher_find(job, &feed_calls);

	if (watcher)
		return container_of(watcher, struct feed, watcher);
	struct feed *feed = calloc(1, sizeof(*feed));
	if (!feed)
		return NULL;
	list_init(&feed->readers);
	watcher_add(&feed->watcher, job, &feed_calls);
	return feed;
}

/* --- readers ---------------------------------------------------------------------------------- */

static void reader_fill(struct stream *stream)
{
	struct reader *reader = container_of(stream, struct reader, stream);
	const struct job *job = reader->feed->watcher.job;
	bool ended = job_is_settled(job);

	catch_up(reader, job);
	write_passages(reader, job, false);
	write_progress(reader, job);
	if (write_output(reader, job, FILL_BYTES, ended) && ended)
		finish(reader, job);
}

static void reader_close(struct stream *stream)
{
	struct reader *reader = container_of(stream, struct reader, stream);

	if (reader->feed)
		leave(reader);
	free(reader);
}

static const struct stream_calls reader_calls = {.fill = reader_fill, .close = reader_close};

/* Digits up to the separator, or the end if it is NUL. */
static bool parse_number(const char **text, char separator, uint64_t most, uint64_t *ret_number)
{
	size_t digits = strspn(*text, "0123456789");

	if (digits < 1 || digits > 18 || (*text)[digits] != separator)
		return false;
	*ret_number = strtoull(*text, NULL, 10);
	*text += digits + (separator != '\0');
	return *ret_number <= most;
}

/* Reads an id that begin_event() wrote for this job; false if it did not. */
static bool parse_position(const char *id, const struct job *job, struct position *ret_position)
{
	uint64_t attempt, passages, out, err, progress;

	if (!parse_number(&id, '-', attempt_of(job), &attempt) || attempt == 0 ||
	    !parse_number(&id, '-', job->passage_count, &passages))
		return false;
	bool past = attempt < attempt_of(job);
	uint32_t number = (uint32_t)attempt;
	uint64_t most_out = past ? past_bytes(job, number, STDOUT) : job->stdout_output.total_bytes;
	uint64_t most_err = past ? past_bytes(job, number, STDERR) : job->stderr_output.total_bytes;
	if (!parse_number(&id, '-', most_out, &out) || !parse_number(&id, '-', most_err, &err) ||
	    !parse_number(&id, '\0', job->progress.version, &progress))
		return false;
	*ret_position = (struct position){.attempt = number,
					  .passages = (uint32_t)passages,
					  .offset = {[STDOUT] = out, [STDERR] = err},
					  .progress = (uint32_t)progress};
	return true;
}

/* The id of the last event that the client has seen; NULL if it has seen none. */
static const char *last_event_id(const struct request *request, const char **ret_field)
{
	const char *id =
		MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "Last-Event-ID");

	*ret_field = "Last-Event-ID";
	if (!id) {
		id = request->query[QUERY_LAST_EVENT_ID];
		*ret_field = "?last_event_id";
	}
	return id && id[0] != '\0' ? id : NULL;
}

static enum MHD_Result begin(struct request *request, struct job *job,
			     const struct position *position)
{
	struct reader *reader = calloc(1, sizeof(*reader));
	struct feed *feed = reader ? feed_of(job) : NULL;

	if (!feed) {
		struct error error;
		free(reader);
		(void)error_set(&error, ERROR_INTERNAL, NULL, "not enough memory");
		return reply_error(request, &error, 0);
	}
	reader->at = *position;
	reader->feed = feed;
	list_append(&feed->readers, &reader->node);
	return stream_begin(request, &reader->stream, &reader_calls);
}

static enum MHD_Result begin_at(struct request *request, struct job *job)
{
	struct position position = {0};
	struct error error;
	const char *field;
	const char *id = last_event_id(request, &field);

	request_note_job(request, &job->by_id.id);
	if (id && strcmp(id, "end") == 0 && job_state_is_ended(job->state))
		return reply_empty(request, MHD_HTTP_NO_CONTENT, NULL);
	if (id && !parse_position(id, job, &position)) {
		(void)error_set(&error, ERROR_INVALID, field,
				"found \"%.80s\"; expected the id of an event of this job", id);
		return reply_error(request, &error, 0);
	}
	if (!id)
		position.attempt = attempt_of(job);
	if (request_is_head(request))
		return reply_stream(request, NULL, NULL);
	return begin(request, job, &position);
}

/* One that has ended and is only in the store: its end is all that there is to tell. */
static enum MHD_Result tell_end(struct request *request, const struct store_row *row)
{
	const struct reply reply = {.status = MHD_HTTP_OK, .content_type = "text/event-stream"};
	struct buffer body = {0};
	struct json_writer writer = {.buffer = &body};
	const char *field;
	const char *id = last_event_id(request, &field);

	request_note_job(request, &row->id);
	if (id && strcmp(id, "end") == 0)
		return reply_empty(request, MHD_HTTP_NO_CONTENT, NULL);
	buffer_append_text(&body, "id: end\nevent: end\ndata: ");
	server_write_row(request->http->server, row, &writer, NULL);
	buffer_append_text(&body, "\n\n");
	return reply_send(request, &reply, &body);
}

static enum MHD_Result read_came(struct request *request)
{
	struct hold *hold = &request->hold;
	struct job *job = server_find_job(request->http->server, &hold->id);
	const struct store_row *row;
	struct error error;

	if (job)
		return begin_at(request, job);
	if (stored_row(&hold->ticket, &row, &error) < 0)
		return reply_error(request, &error, 0);
	if (job_state_is_ended(row->state))
		return tell_end(request, row);
	if (request_is_head(request))
		return reply_stream(request, NULL, NULL);
	const char *field;
	return follow_begin(request, &hold->id, last_event_id(request, &field));
}

enum MHD_Result events_get(struct request *request)
{
	struct error error;

	if (jobs_target(request, &error) < 0)
		return reply_error(request, &error, 0);
	struct job *job = server_find_job(request->http->server, &request->hold.id);
	if (job)
		return begin_at(request, job);
	server_read_job(request->http->server, &request->hold.id, &request->hold.ticket);
	return hold_until_told(request, read_came);
}
