/* /jobs: submitting, listing, reading and cancelling jobs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/reply.h"
#include "http/resources.h"
#include "http/wait.h"

#define LIST_LIMIT_DEFAULT 100
#define LIST_LIMIT_MAX	   1000
/* A page that grows beyond this ends early: jobs may hold large results. */
#define LIST_PAGE_BYTES (4u << 20)

/* --- submitting ------------------------------------------------------------------------------- */

bool jobs_read_submission(struct request *request, bool is_batch, struct submission *ret_submission,
			  int64_t *ret_wait_ns, enum MHD_Result *ret_answer)
{
	const struct config *config = server_config(request->http->server);
	struct error error;
	unsigned int status;

	if (request_check_open(request, &error) < 0)
		goto fail;
	status = request_check_body(request, "{\"task\": \"echo\"}", &error);
	if (status == MHD_HTTP_UNSUPPORTED_MEDIA_TYPE) {
		*ret_answer = reply_problem(request, status, NULL, error.message);
		return false;
	}
	if (status != 0)
		goto fail;
	if (wait_read(request, config->default_wait_ms, ret_wait_ns, &error) < 0)
		goto fail;
	if (submission_parse(request->body.data, request->body.length, is_batch, ret_submission,
			     &error) < 0)
		goto fail;
	buffer_release(&request->body); /* a wait can be long */
	return true;
fail:
	*ret_answer = reply_error(request, &error, 0);
	return false;
}

enum MHD_Result jobs_submit(struct request *request)
{
	struct submission submission;
	enum MHD_Result answer;
	unsigned int retry_after = 0;
	struct error error;
	struct job *job;
	int64_t wait_ns;

	if (!jobs_read_submission(request, false, &submission, &wait_ns, &answer))
		return answer;
	int result = server_submit(request->http->server, &submission, &job, &retry_after, &error);
	submission_release(&submission);
	if (result < 0)
		return reply_error(request, &error, retry_after);
	if (log_enabled(LOG_LEVEL_DEBUG)) {
		char id[ID_TEXT_SIZE];
		log_debug("job_submitted", log_str("request_id", request->id),
			  log_str("job", id_format(&job->by_id.id, id)), log_str("task", job->task),
			  log_str("pool", job->pool));
	}
	request->wait.cancels = job->cancel_on_disconnect;
	return wait_for_job(request, job, wait_ns, MHD_HTTP_ACCEPTED);
}

/* --- one job ---------------------------------------------------------------------------------- */

struct job *jobs_find(const struct request *request, struct error *error)
{
	struct job *job = NULL;
	struct id id;

	if (request_target(request, &id))
		job = server_find_job(request->http->server, &id);
	if (!job)
		(void)error_set(error, ERROR_NOT_FOUND, NULL,
				"there is no job %.64s, or it is kept no longer", request->target);
	return job;
}

enum MHD_Result jobs_get(struct request *request)
{
	struct error error;
	int64_t wait_ns;
	struct job *job = jobs_find(request, &error);

	if (!job || wait_read(request, 0, &wait_ns, &error) < 0)
		return reply_error(request, &error, 0);
	return wait_for_job(request, job, wait_ns, MHD_HTTP_OK);
}

static enum MHD_Result answer_ended(struct request *request, const struct job *job)
{
	struct error error;
	char id[ID_TEXT_SIZE];

	(void)error_set(&error, ERROR_CONFLICT, NULL, "job %s has ended already; its state is %s",
			id_format(&job->by_id.id, id), job_state_name(job->state));
	return reply_error(request, &error, 0);
}

enum MHD_Result jobs_cancel(struct request *request)
{
	struct error error;
	struct job *job = jobs_find(request, &error);

	if (!job)
		return reply_error(request, &error, 0);
	request_note_job(request, &job->by_id.id);
	switch (server_cancel(request->http->server, job)) {
	case CANCEL_DONE:
	case CANCEL_STOPPING:
		break;
	case CANCEL_HAD_ENDED:
		return answer_ended(request, job);
	}
	return wait_for_job(request, job, 0, MHD_HTTP_ACCEPTED);
}

/* --- the list --------------------------------------------------------------------------------- */

struct page {
	struct buffer body;
	struct json_writer writer;
	int64_t now_ns;
	bool full;
	struct id last; /* written; valid if full */
};

static void write_job(const struct job *job, void *data)
{
	struct page *page = data;

	if (page->full)
		return;
	job_write_json(job, page->now_ns, &page->writer, NULL);
	page->last = job->by_id.id;
	page->full = page->body.length >= LIST_PAGE_BYTES;
}

static int refuse_name(struct error *error, const char *field, const char *found,
		       const struct buffer *known)
{
	return error_set(error, ERROR_INVALID, field, "found \"%.64s\"; those that exist: %.*s",
			 found, (int)known->length, known->data ? known->data : "");
}

static int read_state(const char *text, struct job_filter *filter, struct error *error)
{
	struct buffer names = {0};
	enum job_state state;

	if (!text)
		return 0;
	if (job_state_parse(text, &state)) {
		filter->state = (int)state;
		return 0;
	}
	for (int i = 0; i < JOB_STATES; i++)
		render_name(&names, job_state_name((enum job_state)i));
	int result = refuse_name(error, "?state", text, &names);
	buffer_release(&names);
	return result;
}

static int read_pool(const struct config *config, const char *text, struct job_filter *filter,
		     struct error *error)
{
	struct buffer names = {0};

	if (!text || config_find_pool(config, text) >= 0) {
		filter->pool = text;
		return 0;
	}
	pools_append_names(config, &names);
	int result = refuse_name(error, "?pool", text, &names);
	buffer_release(&names);
	return result;
}

static int read_task(const struct registry *registry, const char *text, struct job_filter *filter,
		     struct error *error)
{
	struct buffer names = {0};

	if (!text || registry_find(registry, text)) {
		filter->task = text;
		return 0;
	}
	for (size_t i = 0; i < registry->count; i++)
		if (!registry->tasks[i].is_internal)
			render_name(&names, registry->tasks[i].definition->name);
	int result = refuse_name(error, "?task", text, &names);
	buffer_release(&names);
	return result;
}

static int read_limit(const char *text, struct job_filter *filter, struct error *error)
{
	if (!text)
		return 0;
	size_t digits = strspn(text, "0123456789");
	unsigned long limit = digits > 0 && digits <= 9 ? strtoul(text, NULL, 10) : 0;
	if (text[digits] != '\0' || limit < 1 || limit > LIST_LIMIT_MAX)
		return error_set(error, ERROR_INVALID, "?limit",
				 "found \"%.40s\"; expected an integer from 1 to %d", text,
				 LIST_LIMIT_MAX);
	filter->limit = limit;
	return 0;
}

static int read_cursor(const char *text, struct job_filter *filter, struct error *error)
{
	if (!text)
		return 0;
	filter->has_cursor = true;
	if (id_parse(text, &filter->cursor))
		return 0;
	return error_set(error, ERROR_INVALID, "?cursor",
			 "found \"%.40s\"; expected the next_cursor of the page before", text);
}

static int read_filter(const struct request *request, struct job_filter *filter,
		       struct error *error)
{
	const struct http *http = request->http;
	int result = read_state(request->query[QUERY_STATE], filter, error);

	if (result == 0)
		result = read_pool(server_config(http->server), request->query[QUERY_POOL], filter,
				   error);
	if (result == 0)
		result = read_task(server_registry(http->server), request->query[QUERY_TASK],
				   filter, error);
	if (result == 0)
		result = read_limit(request->query[QUERY_LIMIT], filter, error);
	if (result == 0)
		result = read_cursor(request->query[QUERY_CURSOR], filter, error);
	return result;
}

enum MHD_Result jobs_list(struct request *request)
{
	struct job_filter filter = {.state = -1, .limit = LIST_LIMIT_DEFAULT};
	struct page page = {.now_ns = clock_monotonic_ns()};
	struct error error;
	struct id next;

	if (read_filter(request, &filter, &error) < 0)
		return reply_error(request, &error, 0);
	page.writer.buffer = &page.body;
	json_write_begin_object(&page.writer, NULL);
	json_write_begin_array(&page.writer, "jobs");
	bool more = server_list_jobs(request->http->server, &filter, write_job, &page, &next);
	json_write_end_array(&page.writer);
	if (page.full)
		render_id(&page.writer, "next_cursor", &page.last);
	else if (more)
		render_id(&page.writer, "next_cursor", &next);
	else
		json_write_null(&page.writer, "next_cursor");
	json_write_end_object(&page.writer);
	return reply_json(request, &page.body);
}
