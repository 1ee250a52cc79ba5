#include "http/stored.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/reply.h"
#include "http/resources.h"

/* --- what was read ---------------------------------------------------------------------------- */

/* It was at hand when it was read, and is neither there nor in the store any more. */
static int forgotten(struct error *error)
{
	return error_set(error, ERROR_NOT_FOUND, NULL, "it is kept no longer");
}

int stored_row(const struct ticket *ticket, const struct store_row **ret_row, struct error *error)
{
	*error = ticket->error;
	if (error->code != ERROR_NONE)
		return -1;
	if (!ticket->request || ticket->request->row_count == 0)
		return forgotten(error);
	*ret_row = &ticket->request->rows[0];
	return 0;
}

int stored_batch(const struct ticket *ticket, struct error *error)
{
	*error = ticket->error;
	if (error->code != ERROR_NONE)
		return -1;
	return ticket->request && ticket->request->batch ? 0 : forgotten(error);
}

enum MHD_Result stored_refuse(struct request *request, const struct error *error)
{
	struct error conflict;
	char id[ID_TEXT_SIZE];

	if (!request->wait.replayed || error->code != ERROR_NOT_FOUND)
		return reply_error(request, error, 0);
	(void)error_set(&conflict, ERROR_CONFLICT, "Idempotency-Key",
			"this key was used before; what it stands for, %s, is kept no longer, and "
			"is not run again",
			id_format(&request->hold.id, id));
	return reply_error(request, &conflict, 0);
}

/* --- the document of a batch ------------------------------------------------------------------ */

/* What the jobs of a batch come to. */
struct sum {
	size_t ended;
	size_t by_state[JOB_STATES];
	int64_t run_ns;
	int64_t finished_us; /* the last one's */
};

/* A piece of JSON; data is NULL if there is none. */
struct piece {
	const char *data;
	size_t length;
};

static struct piece member(struct piece object, const char *key)
{
	struct piece value = {0};

	if (object.data)
		(void)json_find_member(object.data, object.length, key, &value.data, &value.length);
	return value;
}

/* A string that needs no unescaping: a name or a date. "" if it is none. */
static const char *text_of(struct piece piece, char *buffer, size_t size)
{
	buffer[0] = '\0';
	if (piece.length >= 2 && piece.length - 2 < size && piece.data[0] == '"')
		snprintf(buffer, size, "%.*s", (int)piece.length - 2, piece.data + 1);
	return buffer;
}

/* Nanoseconds of a number of milliseconds; -1 if it is none. */
static int64_t ns_of(struct piece piece)
{
	char number[40];

	if (piece.length == 0 || piece.length >= sizeof(number) || piece.data[0] < '0' ||
	    piece.data[0] > '9')
		return -1;
	memcpy(number, piece.data, piece.length);
	number[piece.length] = '\0';
	return (int64_t)(strtod(number, NULL) * 1e6 + 0.5);
}

static void add(struct sum *sum, enum job_state state, struct piece document, int64_t run_ns)
{
	char finished_at[CLOCK_RFC3339_SIZE];
	int64_t finished_us = 0;

	if (!job_state_is_ended(state))
		return;
	sum->ended++;
	sum->by_state[state]++;
	if (run_ns > 0)
		sum->run_ns += run_ns;
	text_of(member(document, "finished_at"), finished_at, sizeof(finished_at));
	if (clock_parse_rfc3339(finished_at, &finished_us) && finished_us > sum->finished_us)
		sum->finished_us = finished_us;
}

static void write_member(struct piece document, const char *key, struct json_writer *writer)
{
	struct piece value = member(document, key);

	json_write_raw(writer, key, value.data, value.length);
}

/* By the job's document, which is newer than its row if the job is at hand. */
static void write_result(const struct store_row *row, struct piece document, struct sum *sum,
			 struct json_writer *writer)
{
	char name[16];
	enum job_state state = row->state;
	int64_t run_ns = ns_of(member(member(document, "timing"), "run_ms"));

	(void)job_state_parse(text_of(member(document, "state"), name, sizeof(name)), &state);
	json_write_begin_object(writer, NULL);
	render_id(writer, "job", &row->id);
	json_write_string(writer, "state", job_state_name(state));
	write_member(document, "result", writer);
	write_member(document, "error", writer);
	if (job_state_is_ended(state) && run_ns >= 0)
		json_write_ms(writer, "run_ms", run_ns);
	else
		json_write_null(writer, "run_ms");
	json_write_end_object(writer);
	add(sum, state, document, run_ns);
}

static void write_results(struct server *server, const struct store_request *rows, struct sum *sum,
			  struct json_writer *writer)
{
	struct buffer document = {0};

	json_write_begin_array(writer, NULL);
	for (size_t i = 0; i < rows->row_count; i++) {
		struct json_writer document_writer = {.buffer = &document};
		buffer_clear(&document);
		server_write_row(server, &rows->rows[i], &document_writer, NULL);
		if (buffer_failed(&document))
			writer->buffer->failed = true;
		const struct piece piece = {document.data, document.length};
		write_result(&rows->rows[i], piece, sum, writer);
	}
	json_write_end_array(writer);
	buffer_release(&document);
}

static void write_state(const struct store_batch *batch, const struct sum *sum, bool ended,
			struct json_writer *writer)
{
	bool succeeded = sum->by_state[JOB_SUCCEEDED] == sum->ended;

	json_write_string(writer, "state", !ended ? "running" : succeeded ? "succeeded" : "failed");
	json_write_uint(writer, "count", batch->count);
	json_write_uint(writer, "ended", sum->ended);
	json_write_begin_object(writer, "by_state");
	for (int i = 0; i < JOB_STATES; i++)
		if (sum->by_state[i] > 0)
			json_write_uint(writer, job_state_name((enum job_state)i),
					sum->by_state[i]);
	json_write_end_object(writer);
}

static void write_timing(const struct store_batch *batch, const struct sum *sum, bool ended,
			 struct json_writer *writer)
{
	int64_t until_us = ended ? sum->finished_us : clock_realtime_ns() / NS_PER_US;
	int64_t wall_ns = (until_us - batch->submitted_us) * NS_PER_US;

	json_write_begin_object(writer, "timing");
	json_write_ms(writer, "wall_ms", wall_ns);
	json_write_ms(writer, "run_sum_ms", sum->run_ns);
	if (ended && wall_ns > 0)
		render_number(writer, "speedup", (double)sum->run_ns / (double)wall_ns);
	else
		json_write_null(writer, "speedup");
	json_write_end_object(writer);
}

void stored_write_batch(struct server *server, const struct store_request *rows,
			struct json_writer *writer)
{
	const struct store_batch *batch = rows->batch;
	struct buffer results = {0};
	struct json_writer results_writer = {.buffer = &results};
	struct sum sum = {0};

	write_results(server, rows, &sum, &results_writer);
	bool ended = sum.ended == rows->row_count;
	json_write_begin_object(writer, NULL);
	render_id(writer, "id", &batch->id);
	json_write_string(writer, "task", batch->task);
	json_write_string(writer, "pool", batch->pool);
	write_state(batch, &sum, ended, writer);
	write_timing(batch, &sum, ended, writer);
	json_write_raw(writer, "results", results.data, results.length);
	render_time(writer, "submitted_at", batch->submitted_us * NS_PER_US);
	render_time(writer, "finished_at", ended ? sum.finished_us * NS_PER_US : 0);
	json_write_end_object(writer);
	if (buffer_failed(&results))
		writer->buffer->failed = true;
	buffer_release(&results);
}
