/* /jobs: submitting, listing, reading and cancelling jobs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/key.h"
#include "http/reply.h"
#include "http/resources.h"
#include "http/stored.h"
#include "http/wait.h"

#define LIST_LIMIT_DEFAULT 100
#define LIST_LIMIT_MAX	   1000
/* A page that grows beyond this ends early: jobs may hold large results. */
#define LIST_PAGE_BYTES (4u << 20)

/* --- submitting ------------------------------------------------------------------------------- */

bool jobs_read_submission(struct request *request, bool is_batch, struct submission *ret_submission,
			  struct submit_terms *ret_terms, enum MHD_Result *ret_answer)
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
	if (wait_read(request, config->default_wait_ms, &request->hold.wait_ns, &error) < 0)
		goto fail;
	if (key_read(request, request->key, &error) < 0)
		goto fail;
	if (submission_parse(request->body.data, request->body.length, is_batch, ret_submission,
			     &error) < 0)
		goto fail;
	buffer_release(&request->body); /* a wait can be long */
	request->hold.is_submission = true;
	*ret_terms = (struct submit_terms){
		.answers_at_once = request->hold.wait_ns == 0,
		.key = request->key[0] ? request->key : NULL,
	};
	return true;
fail:
	*ret_answer = reply_error(request, &error, 0);
	return false;
}

static void say_submitted(const struct request *request, const struct job *job)
{
	char id[ID_TEXT_SIZE];

	if (log_enabled(LOG_LEVEL_DEBUG))
		log_debug("job_submitted", log_str("request_id", request->id),
			  log_str("job", id_format(&job->by_id.id, id)), log_str("task", job->task),
			  log_str("pool", job->pool));
}

static enum MHD_Result read_again(struct request *request);

static enum MHD_Result submitted(struct request *request)
{
	struct hold *hold = &request->hold;
	struct ticket *ticket = &hold->ticket;

	if (ticket->error.code != ERROR_NONE)
		return reply_error(request, &ticket->error, 0);
	request->wait.replayed = ticket->replayed;
	/* By its id: the loop may have turned since it was told. */
	struct job *job = server_find_job(request->http->server, &hold->id);
	if (!job)
		return read_again(request);
	if (!ticket->replayed) {
		say_submitted(request, job);
		request->wait.cancels = job->cancel_on_disconnect;
	}
	return wait_for_job(request, job, hold->wait_ns, MHD_HTTP_ACCEPTED);
}

enum MHD_Result jobs_submit(struct request *request)
{
	struct submission submission;
	struct submit_terms terms;
	enum MHD_Result answer;
	unsigned int retry_after = 0;
	struct error error;

	if (!jobs_read_submission(request, false, &submission, &terms, &answer))
		return answer;
	int result = server_submit(request->http->server, &submission, &terms,
				   &request->hold.ticket, &retry_after, &error);
	submission_release(&submission);
	if (result < 0)
		return reply_error(request, &error, retry_after);
	return hold_until_told(request, submitted);
}

/* --- one job that is not at hand -------------------------------------------------------------- */

static enum MHD_Result answer_row(struct request *request, const struct store_row *row,
				  unsigned int pending_status)
{
	struct buffer body = {0};
	struct json_writer writer = {.buffer = &body};
	char location[sizeof(request->wait.location)];
	char text[ID_TEXT_SIZE];
	bool ended = job_state_is_ended(row->state);

	snprintf(location, sizeof(location), "/jobs/%s", id_format(&row->id, text));
	const struct reply reply = {
		.status = ended ? MHD_HTTP_OK : pending_status,
		.location = !ended && pending_status == MHD_HTTP_ACCEPTED ? location : NULL,
		.replayed = request->wait.replayed,
		.preference = request->wait.preference[0] ? request->wait.preference : NULL,
	};
	request_note_job(request, &row->id);
	server_write_row(request->http->server, row, &writer, NULL);
	buffer_append_char(&body, '\n');
	return reply_send(request, &reply, &body);
}

static enum MHD_Result read_came(struct request *request)
{
	struct hold *hold = &request->hold;
	int64_t left_ns = hold->deadline_ns - clock_monotonic_ns();
	struct job *job = server_find_job(request->http->server, &hold->id);
	unsigned int pending = hold->is_submission ? MHD_HTTP_ACCEPTED : MHD_HTTP_OK;
	const struct store_row *row;
	struct error error;

	if (job)
		return wait_for_job(request, job, left_ns > 0 ? left_ns : 0, pending);
	if (stored_row(&hold->ticket, &row, &error) < 0)
		return stored_refuse(request, &error);
	if (job_state_is_ended(row->state) || left_ns <= 0 || request->http->ending)
		return answer_row(request, row, pending);
	return hold_for(request, left_ns < STORED_AGAIN_NS ? left_ns : STORED_AGAIN_NS, read_again);
}

static enum MHD_Result read_again(struct request *request)
{
	struct hold *hold = &request->hold;

	if (request->http->ending && hold->ticket.request)
		return read_came(request); /* as it was read last */
	if (hold->deadline_ns == 0)
		hold->deadline_ns = clock_monotonic_ns() + hold->wait_ns;
	server_read_job(request->http->server, &hold->id, &hold->ticket);
	return hold_until_told(request, read_came);
}

/* --- one job ---------------------------------------------------------------------------------- */

/* The error for one that is neither at hand nor in the store. */
int jobs_target(struct request *request, struct error *error)
{
	if (request_target(request, &request->hold.id))
		return 0;
	return error_set(error, ERROR_NOT_FOUND, NULL, "there is no job %.64s: that is no id",
			 request->target);
}

enum MHD_Result jobs_get(struct request *request)
{
	struct hold *hold = &request->hold;
	struct error error;

	if (jobs_target(request, &error) < 0 || wait_read(request, 0, &hold->wait_ns, &error) < 0)
		return reply_error(request, &error, 0);
	struct job *job = server_find_job(request->http->server, &hold->id);
	if (!job)
		return read_again(request);
	return wait_for_job(request, job, hold->wait_ns, MHD_HTTP_OK);
}

static enum MHD_Result answer_ended(struct request *request, const struct id *id,
				    enum job_state state)
{
	struct error error;
	char text[ID_TEXT_SIZE];

	(void)error_set(&error, ERROR_CONFLICT, NULL, "job %s has ended already; its state is %s",
			id_format(id, text), job_state_name(state));
	return reply_error(request, &error, 0);
}

static enum MHD_Result cancel(struct request *request, struct job *job)
{
	request_note_job(request, &job->by_id.id);
	switch (server_cancel(request->http->server, job)) {
	case CANCEL_DONE:
	case CANCEL_STOPPING:
		break;
	case CANCEL_HAD_ENDED:
		return answer_ended(request, &job->by_id.id, job->state);
	}
	return wait_for_job(request, job, 0, MHD_HTTP_ACCEPTED);
}

static enum MHD_Result cancel_read(struct request *request)
{
	struct job *job = server_find_job(request->http->server, &request->hold.id);
	const struct store_row *row;
	struct error error;

	if (job && request->hold.ticket.cancelled)
		return wait_for_job(request, job, 0, MHD_HTTP_ACCEPTED);
	if (job)
		return cancel(request, job);
	if (stored_row(&request->hold.ticket, &row, &error) < 0)
		return reply_error(request, &error, 0);
	return answer_row(request, row, MHD_HTTP_ACCEPTED); /* another service is stopping it */
}

enum MHD_Result jobs_cancel(struct request *request)
{
	struct error error;

	if (jobs_target(request, &error) < 0)
		return reply_error(request, &error, 0);
	struct job *job = server_find_job(request->http->server, &request->hold.id);
	if (job)
		return cancel(request, job);
	server_cancel_stored(request->http->server, &request->hold.id, &request->hold.ticket);
	return hold_until_told(request, cancel_read);
}

/* --- the list --------------------------------------------------------------------------------- */

struct page {
	struct server *server;
	struct buffer body;
	struct json_writer writer;
	int64_t now_ns;
};

static bool write_listed(const struct listed *listed, void *data)
{
	struct page *page = data;

	if (listed->job)
		job_write_json(listed->job, page->now_ns, &page->writer, NULL);
	else
		server_write_row(page->server, listed->row, &page->writer, NULL);
	return page->body.length < LIST_PAGE_BYTES;
}

static int refuse_name(struct error *error, const char *field, const char *found,
		       const struct buffer *known)
{
	return error_set(error, ERROR_INVALID, field, "found \"%.64s\"; those that exist: %.*s",
			 found, (int)known->length, known->data ? known->data : "");
}

static int refuse_state(struct error *error, const char *found)
{
	struct buffer names = {0};

	for (int i = 0; i < JOB_STATES; i++)
		render_name(&names, job_state_name((enum job_state)i));
	int result = refuse_name(error, "?state", found, &names);
	buffer_release(&names);
	return result;
}

/* One state, or several with commas between. */
static int read_state(const char *text, struct job_filter *filter, struct error *error)
{
	char name[32];
	enum job_state state;

	while (text && *text) {
		size_t length = strcspn(text, ",");
		snprintf(name, sizeof(name), "%.*s", length < sizeof(name) ? (int)length : 31,
			 text);
		if (!job_state_parse(name, &state))
			return refuse_state(error, name);
		filter->states |= 1U << state;
		text += length + (text[length] == ',');
	}
	if (text && !filter->states)
		return refuse_state(error, "");
	return 0;
}

/* KEY=VALUE; the copy of the key is the request's. */
static int read_label(struct request *request, struct job_filter *filter, struct error *error)
{
	const char *text = request->query[QUERY_LABEL];

	if (!text)
		return 0;
	const char *equals = strchr(text, '=');
	if (!equals || equals == text || equals - text > SUBMISSION_LABEL_KEY_MAX)
		return error_set(error, ERROR_INVALID, "?label",
				 "found \"%.80s\"; expected KEY=VALUE", text);
	snprintf(request->label_key, sizeof(request->label_key), "%.*s", (int)(equals - text),
		 text);
	filter->label_key = request->label_key;
	filter->label_value = equals + 1;
	return 0;
}

static int read_time(const char *text, const char *field, int64_t *ret_us, struct error *error)
{
	if (!text || clock_parse_rfc3339(text, ret_us))
		return 0;
	return error_set(error, ERROR_INVALID, field,
			 "found \"%.60s\"; expected a time such as 2026-01-02T03:04:05Z (a + of an "
			 "offset is written %%2B in a URL)",
			 text);
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
	filter->limit = (uint32_t)limit;
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

static int read_filter(struct request *request, struct job_filter *filter, struct error *error)
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
		result = read_label(request, filter, error);
	if (result == 0)
		result = read_time(request->query[QUERY_SINCE], "?since", &filter->since_us, error);
	if (result == 0)
		result = read_time(request->query[QUERY_UNTIL], "?until", &filter->until_us, error);
	if (result == 0)
		result = read_limit(request->query[QUERY_LIMIT], filter, error);
	if (result == 0)
		result = read_cursor(request->query[QUERY_CURSOR], filter, error);
	return result;
}

static enum MHD_Result list_came(struct request *request)
{
	struct job_filter filter = {.limit = LIST_LIMIT_DEFAULT};
	struct page page = {.server = request->http->server, .now_ns = clock_monotonic_ns()};
	const struct ticket *ticket = &request->hold.ticket;
	struct error error;
	struct id next;

	(void)read_filter(request, &filter, &error); /* it was read before */
	page.writer.buffer = &page.body;
	json_write_begin_object(&page.writer, NULL);
	json_write_begin_array(&page.writer, "jobs");
	bool more = server_list_visit(page.server, &filter, ticket, write_listed, &page, &next);
	json_write_end_array(&page.writer);
	if (more)
		render_id(&page.writer, "next_cursor", &next);
	else
		json_write_null(&page.writer, "next_cursor");
	/* What is at hand is better than nothing, as long as nobody takes it for all. */
	json_write_bool(&page.writer, "complete", ticket->error.code == ERROR_NONE);
	json_write_end_object(&page.writer);
	return reply_json(request, &page.body);
}

enum MHD_Result jobs_list(struct request *request)
{
	struct job_filter filter = {.limit = LIST_LIMIT_DEFAULT};
	struct error error;

	if (read_filter(request, &filter, &error) < 0)
		return reply_error(request, &error, 0);
	server_list(request->http->server, &filter, &request->hold.ticket);
	return hold_until_told(request, list_came);
}
