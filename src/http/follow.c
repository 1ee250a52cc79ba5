/*
 * Following a job by what the store says of it.
 *
 * Invariants
 * 1. While the stream lives and its end was not told, either the ticket is pending or the timer is
 * set.
 * 2. The position (attempt, and how many bytes of each output) stands in each event's id, in the
 * form that events.c uses too, so a reader can go on at whichever service.
 */
#include "http/follow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "http/daemon.h"
#include "http/reply.h"
#include "http/stream.h"

#define LOOK_NS	      (250 * NS_PER_MS)
#define CHUNK_BYTES   8192u
#define BACKLOG_BYTES (192u << 10) /* a reader that has so much before it is told no more as yet */

enum { STDOUT, STDERR, OUTPUTS };

static const char *const output_names[OUTPUTS] = {[STDOUT] = "stdout", [STDERR] = "stderr"};

struct follower {
	struct stream stream;
	struct server *server;
	struct loop *loop;
	struct ticket ticket;
	struct loop_timer timer;
	struct id id;
	/* Up to where the reader has been told. */
	uint32_t attempt;
	uint64_t offset[OUTPUTS];
	char state[16];
	uint32_t state_attempt;
	char *progress; /* as it was told; owned; NULL: none was */
};

/* --- events ----------------------------------------------------------------------------------- */

static void begin_event(struct follower *follower, const char *name)
{
	buffer_append_format(&follower->stream.pending,
			     "id: %u-0-%llu-%llu-0\nevent: %s\ndata: ", follower->attempt,
			     (unsigned long long)follower->offset[STDOUT],
			     (unsigned long long)follower->offset[STDERR], name);
}

static void end_event(struct follower *follower)
{
	buffer_append_text(&follower->stream.pending, "\n\n");
}

static void tell_state(struct follower *follower, const char *state, uint32_t attempt)
{
	struct json_writer writer = {.buffer = &follower->stream.pending};

	if (strcmp(state, follower->state) == 0 && attempt == follower->state_attempt)
		return;
	snprintf(follower->state, sizeof(follower->state), "%s", state);
	follower->state_attempt = attempt;
	begin_event(follower, "state");
	json_write_begin_object(&writer, NULL);
	json_write_string(&writer, "state", state);
	json_write_uint(&writer, "attempt", attempt);
	json_write_end_object(&writer);
	end_event(follower);
}

static void tell_progress(struct follower *follower, const json_t *progress)
{
	char *text = json_is_object(progress) ? json_encode(progress, NULL) : NULL;

	if (!text || (follower->progress && strcmp(text, follower->progress) == 0)) {
		free(text);
		return;
	}
	free(follower->progress);
	follower->progress = text;
	begin_event(follower, "progress");
	buffer_append_text(&follower->stream.pending, text);
	end_event(follower);
}

static void tell_gap(struct follower *follower, int which, uint64_t bytes)
{
	struct json_writer writer = {.buffer = &follower->stream.pending};
	uint64_t begin = follower->offset[which];

	follower->offset[which] += bytes;
	begin_event(follower, "gap");
	json_write_begin_object(&writer, NULL);
	json_write_uint(&writer, "attempt", follower->attempt);
	json_write_string(&writer, "stream", output_names[which]);
	json_write_uint(&writer, "offset", begin);
	json_write_uint(&writer, "bytes", bytes);
	json_write_end_object(&writer);
	end_event(follower);
}

static void tell_chunk(struct follower *follower, int which, const char *text, size_t length)
{
	struct json_writer writer = {.buffer = &follower->stream.pending};
	uint64_t offset = follower->offset[which];

	follower->offset[which] += length;
	begin_event(follower, "output");
	json_write_begin_object(&writer, NULL);
	json_write_uint(&writer, "attempt", follower->attempt);
	json_write_string(&writer, "stream", output_names[which]);
	json_write_uint(&writer, "offset", offset);
	json_write_bytes(&writer, "text", text, length);
	json_write_end_object(&writer);
	end_event(follower);
}

/* The length of at most CHUNK_BYTES that ends with a whole character. */
static size_t chunk_of(const char *text, size_t length)
{
	size_t end = length < CHUNK_BYTES ? length : CHUNK_BYTES;

	while (end < length && end > 1 && ((unsigned char)text[end] & 0xc0) == 0x80)
		end--;
	return end;
}

static void tell_text(struct follower *follower, int which, const char *text, size_t length)
{
	while (length > 0) {
		size_t chunk = chunk_of(text, length);
		tell_chunk(follower, which, text, chunk);
		text += chunk;
		length -= chunk;
	}
}

/* A kept piece of the output, whose first byte has this offset. */
static void tell_piece(struct follower *follower, int which, const json_t *piece, uint64_t begin)
{
	const char *text = json_string_value(piece);
	size_t length = json_string_length(piece);

	if (!text || begin + length <= follower->offset[which])
		return;
	if (follower->offset[which] < begin)
		tell_gap(follower, which, begin - follower->offset[which]);
	uint64_t told = follower->offset[which] - begin;
	while (told < length && ((unsigned char)text[told] & 0xc0) == 0x80)
		told++; /* a position that is no character's, of a reader from elsewhere */
	tell_text(follower, which, text + told, length - (size_t)told);
}

static void tell_output(struct follower *follower, int which, const json_t *output)
{
	const json_t *tail = json_object_get(output, "tail");
	uint64_t total = (uint64_t)json_integer_value(json_object_get(output, "total_bytes"));
	uint64_t tail_length = json_string_length(tail);

	tell_piece(follower, which, json_object_get(output, "text"), 0);
	if (tail && total >= tail_length)
		tell_piece(follower, which, tail, total - tail_length);
}

/* What can be told of the document, but for its end. */
static void tell_changes(struct follower *follower, const json_t *document, bool ended)
{
	const char *state = json_string_value(json_object_get(document, "state"));
	uint32_t attempt = (uint32_t)json_integer_value(json_object_get(document, "attempt"));
	bool runs = attempt > 0;

	if (!state)
		return;
	if (runs && attempt != follower->attempt) {
		follower->attempt = attempt;
		memset(follower->offset, 0, sizeof(follower->offset));
	}
	if (!ended)
		tell_state(follower, state, attempt);
	tell_progress(follower, json_object_get(document, "progress"));
	for (int which = 0; which < OUTPUTS; which++)
		tell_output(follower, which, json_object_get(document, output_names[which]));
	if (ended)
		tell_state(follower, state, attempt);
}

void follow_write_end(struct buffer *buffer, struct server *server, const struct store_row *row)
{
	struct json_writer writer = {.buffer = buffer};

	buffer_append_text(buffer, "id: end\nevent: end\ndata: ");
	server_write_row(server, row, &writer, NULL);
	buffer_append_text(buffer, "\n\n");
}

/* --- looking ---------------------------------------------------------------------------------- */

static void look_later(struct follower *follower)
{
	if (loop_timer_set(follower->loop, &follower->timer, clock_monotonic_ns() + LOOK_NS) < 0)
		follower->stream.pending.failed = true;
}

static void take_row(struct follower *follower, const struct store_row *row)
{
	struct buffer text = {0};
	struct json_writer writer = {.buffer = &text};

	server_write_row(follower->server, row, &writer, NULL);
	json_t *document =
		buffer_failed(&text) ? NULL : json_loadb(text.data, text.length, 0, NULL);
	buffer_release(&text);
	const char *name = json_string_value(json_object_get(document, "state"));
	enum job_state state = row->state;
	if (name)
		(void)job_state_parse(name, &state);
	tell_changes(follower, document, job_state_is_ended(state));
	json_decref(document);
	if (!job_state_is_ended(state))
		return;
	follow_write_end(&follower->stream.pending, follower->server, row);
	follower->stream.last = true;
}

static void told(struct ticket *ticket)
{
	struct follower *follower = container_of(ticket, struct follower, ticket);
	const struct store_request *request = ticket->request;

	if (ticket->error.code == ERROR_NOT_FOUND)
		follower->stream.last = true; /* it was deleted from the history */
	else if (ticket->error.code == ERROR_NONE && request && request->row_count > 0)
		take_row(follower, &request->rows[0]);
	if (!follower->stream.last)
		look_later(follower);
	stream_wake(&follower->stream);
}

static void look(struct loop_timer *timer)
{
	struct follower *follower = container_of(timer, struct follower, timer);

	if (stream_backlog(&follower->stream) >= BACKLOG_BYTES) {
		look_later(follower);
		return;
	}
	server_read_job(follower->server, &follower->id, &follower->ticket);
	if (!follower->ticket.pending)
		look_later(follower); /* memory is short */
}

/* --- the stream ------------------------------------------------------------------------------- */

/* All that there is was written when it came. */
static void fill(struct stream *stream)
{
	(void)stream;
}

static void follower_close(struct stream *stream)
{
	struct follower *follower = container_of(stream, struct follower, stream);

	loop_timer_cancel(follower->loop, &follower->timer);
	ticket_cancel(&follower->ticket);
	ticket_release(&follower->ticket);
	free(follower->progress);
	free(follower);
}

static const struct stream_calls follower_calls = {.fill = fill, .close = follower_close};

/* An id that was written here or by events.c. */
static void read_position(struct follower *follower, const char *id)
{
	unsigned int attempt;
	unsigned long long out, err;

	if (!id || sscanf(id, "%9u-%*9u-%18llu-%18llu-", &attempt, &out, &err) != 3)
		return;
	follower->attempt = attempt;
	follower->offset[STDOUT] = out;
	follower->offset[STDERR] = err;
}

enum MHD_Result follow_begin(struct request *request, const struct id *job, const char *last_id)
{
	struct follower *follower = calloc(1, sizeof(*follower));
	struct error error;

	if (!follower) {
		(void)error_set(&error, ERROR_INTERNAL, NULL, "not enough memory");
		return reply_error(request, &error, 0);
	}
	follower->server = request->http->server;
	follower->loop = request->http->loop;
	follower->id = *job;
	follower->ticket.told = told;
	loop_timer_init(&follower->timer, look);
	read_position(follower, last_id);
	loop_timer_set(follower->loop, &follower->timer, clock_monotonic_ns());
	return stream_begin(request, &follower->stream, &follower_calls);
}
