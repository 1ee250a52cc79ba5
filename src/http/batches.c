/* /batches: one task over a list of arguments. */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/reply.h"
#include "http/resources.h"
#include "http/stored.h"
#include "http/wait.h"

static enum MHD_Result read_again(struct request *request);

static void say_submitted(const struct request *request, const struct batch *batch)
{
	char id[ID_TEXT_SIZE];

	if (log_enabled(LOG_LEVEL_DEBUG))
		log_debug("batch_submitted", log_str("request_id", request->id),
			  log_str("batch", id_format(&batch->by_id.id, id)),
			  log_uint("jobs", batch->count), log_str("task", batch->task),
			  log_str("pool", batch->pool));
}

static enum MHD_Result submitted(struct request *request)
{
	struct hold *hold = &request->hold;
	struct ticket *ticket = &hold->ticket;

	if (ticket->error.code != ERROR_NONE)
		return reply_error(request, &ticket->error, 0);
	request->wait.replayed = ticket->replayed;
	/* By its id: the loop may have turned since it was told. */
	struct batch *batch = server_find_batch(request->http->server, &hold->id);
	if (!batch)
		return read_again(request);
	if (!ticket->replayed) {
		say_submitted(request, batch);
		request->wait.cancels = batch->jobs[0]->cancel_on_disconnect;
	}
	return wait_for_batch(request, batch, hold->wait_ns, MHD_HTTP_ACCEPTED);
}

enum MHD_Result batches_submit(struct request *request)
{
	struct submission submission;
	struct submit_terms terms;
	enum MHD_Result answer;
	unsigned int retry_after = 0;
	struct error error;

	if (!jobs_read_submission(request, true, &submission, &terms, &answer))
		return answer;
	int result = server_submit_batch(request->http->server, &submission, &terms,
					 &request->hold.ticket, &retry_after, &error);
	submission_release(&submission);
	if (result < 0)
		return reply_error(request, &error, retry_after);
	return hold_until_told(request, submitted);
}

/* --- one that is not at hand ------------------------------------------------------------------ */

static bool rows_have_ended(const struct store_request *rows)
{
	for (size_t i = 0; i < rows->row_count; i++)
		if (!job_state_is_ended(rows->rows[i].state))
			return false;
	return true;
}

static enum MHD_Result answer_rows(struct request *request, const struct store_request *rows)
{
	struct buffer body = {0};
	struct json_writer writer = {.buffer = &body};
	char location[sizeof(request->wait.location)];
	char text[ID_TEXT_SIZE];
	bool accepted = request->hold.is_submission && !rows_have_ended(rows);

	snprintf(location, sizeof(location), "/batches/%s", id_format(&rows->batch->id, text));
	const struct reply reply = {
		.status = accepted ? MHD_HTTP_ACCEPTED : MHD_HTTP_OK,
		.location = accepted ? location : NULL,
		.replayed = request->wait.replayed,
		.preference = request->wait.preference[0] ? request->wait.preference : NULL,
	};
	stored_write_batch(request->http->server, rows, &writer);
	buffer_append_char(&body, '\n');
	return reply_send(request, &reply, &body);
}

static enum MHD_Result read_came(struct request *request)
{
	struct hold *hold = &request->hold;
	const struct ticket *ticket = &hold->ticket;
	int64_t left_ns = hold->deadline_ns - clock_monotonic_ns();
	struct batch *batch = server_find_batch(request->http->server, &hold->id);
	unsigned int pending = hold->is_submission ? MHD_HTTP_ACCEPTED : MHD_HTTP_OK;
	struct error error;

	if (batch)
		return wait_for_batch(request, batch, left_ns > 0 ? left_ns : 0, pending);
	if (stored_batch(ticket, &error) < 0)
		return stored_refuse(request, &error);
	if (rows_have_ended(ticket->request) || left_ns <= 0 || request->http->ending)
		return answer_rows(request, ticket->request);
	return hold_for(request, left_ns < STORED_AGAIN_NS ? left_ns : STORED_AGAIN_NS, read_again);
}

static enum MHD_Result read_again(struct request *request)
{
	struct hold *hold = &request->hold;

	if (request->http->ending && hold->ticket.request)
		return read_came(request); /* as it was read last */
	if (hold->deadline_ns == 0)
		hold->deadline_ns = clock_monotonic_ns() + hold->wait_ns;
	server_read_batch(request->http->server, &hold->id, &hold->ticket);
	return hold_until_told(request, read_came);
}

enum MHD_Result batches_get(struct request *request)
{
	struct hold *hold = &request->hold;
	struct error error;

	if (!request_target(request, &hold->id)) {
		(void)error_set(&error, ERROR_NOT_FOUND, NULL,
				"there is no batch %.64s: that is no id", request->target);
		return reply_error(request, &error, 0);
	}
	if (wait_read(request, 0, &hold->wait_ns, &error) < 0)
		return reply_error(request, &error, 0);
	struct batch *batch = server_find_batch(request->http->server, &hold->id);
	if (!batch)
		return read_again(request);
	return wait_for_batch(request, batch, hold->wait_ns, MHD_HTTP_OK);
}

/* --- the document ----------------------------------------------------------------------------- */

static const char *state_of(const struct batch *batch)
{
	if (batch->ended_count < batch->count)
		return "running";
	return batch->by_state[JOB_SUCCEEDED] == batch->count ? "succeeded" : "failed";
}

static void write_by_state(const struct batch *batch, struct json_writer *writer)
{
	json_write_begin_object(writer, "by_state");
	for (int i = 0; i < JOB_STATES; i++)
		if (batch->by_state[i] > 0)
			json_write_uint(writer, job_state_name((enum job_state)i),
					batch->by_state[i]);
	json_write_end_object(writer);
}

static void write_timing(const struct batch *batch, struct json_writer *writer)
{
	int64_t until_ns = batch->finished_ns ? batch->finished_ns : clock_monotonic_ns();
	int64_t wall_ns = until_ns - batch->submitted_ns;

	json_write_begin_object(writer, "timing");
	json_write_ms(writer, "wall_ms", wall_ns);
	json_write_ms(writer, "run_sum_ms", batch->run_ns);
	if (batch->finished_ns && wall_ns > 0)
		render_number(writer, "speedup", (double)batch->run_ns / (double)wall_ns);
	else
		json_write_null(writer, "speedup");
	json_write_end_object(writer);
}

static void write_result(const struct job *job, struct json_writer *writer)
{
	const struct metering *metering = &job->metering;

	json_write_begin_object(writer, NULL);
	render_id(writer, "job", &job->by_id.id);
	json_write_string(writer, "state", job_state_name(job->state));
	json_write_raw(writer, "result", job->result, job->result_length);
	job_write_error(job, writer, "error");
	if (metering->started_ns > 0 && metering->ended_ns > 0)
		json_write_ms(writer, "run_ms", metering->ended_ns - metering->started_ns);
	else
		json_write_null(writer, "run_ms");
	json_write_end_object(writer);
}

void batches_write(const struct batch *batch, struct json_writer *writer)
{
	int64_t finished_real_ns =
		batch->submitted_real_ns + (batch->finished_ns - batch->submitted_ns);

	json_write_begin_object(writer, NULL);
	render_id(writer, "id", &batch->by_id.id);
	json_write_string(writer, "task", batch->task);
	json_write_string(writer, "pool", batch->pool);
	json_write_string(writer, "state", state_of(batch));
	json_write_uint(writer, "count", batch->count);
	json_write_uint(writer, "ended", batch->ended_count);
	write_by_state(batch, writer);
	write_timing(batch, writer);
	json_write_begin_array(writer, "results");
	for (size_t i = 0; i < batch->count; i++)
		write_result(batch->jobs[i], writer);
	json_write_end_array(writer);
	render_time(writer, "submitted_at", batch->submitted_real_ns);
	render_time(writer, "finished_at", batch->finished_ns ? finished_real_ns : 0);
	json_write_end_object(writer);
}
