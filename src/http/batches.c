/* /batches: one task over a list of arguments. */
#include "base/clock.h"
#include "base/log.h"
#include "http/reply.h"
#include "http/resources.h"
#include "http/wait.h"

enum MHD_Result batches_submit(struct request *request)
{
	struct submission submission;
	enum MHD_Result answer;
	unsigned int retry_after = 0;
	struct batch *batch;
	struct error error;
	int64_t wait_ns;

	if (!jobs_read_submission(request, true, &submission, &wait_ns, &answer))
		return answer;
	int result = server_submit_batch(request->http->server, &submission, &batch, &retry_after,
					 &error);
	submission_release(&submission);
	if (result < 0)
		return reply_error(request, &error, retry_after);
	if (log_enabled(LOG_LEVEL_DEBUG)) {
		char id[ID_TEXT_SIZE];
		log_debug("batch_submitted", log_str("request_id", request->id),
			  log_str("batch", id_format(&batch->by_id.id, id)),
			  log_uint("jobs", batch->count), log_str("task", batch->task),
			  log_str("pool", batch->pool));
	}
	request->wait.cancels = batch->count > 0 && batch->jobs[0]->cancel_on_disconnect;
	return wait_for_batch(request, batch, wait_ns, MHD_HTTP_ACCEPTED);
}

enum MHD_Result batches_get(struct request *request)
{
	struct batch *batch = NULL;
	struct error error;
	int64_t wait_ns;
	struct id id;

	if (request_target(request, &id))
		batch = server_find_batch(request->http->server, &id);
	if (!batch) {
		(void)error_set(&error, ERROR_NOT_FOUND, NULL,
				"there is no batch %.64s, or it is kept no longer",
				request->target);
		return reply_error(request, &error, 0);
	}
	if (wait_read(request, 0, &wait_ns, &error) < 0)
		return reply_error(request, &error, 0);
	return wait_for_batch(request, batch, wait_ns, MHD_HTTP_OK);
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
