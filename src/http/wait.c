/*
 * Waiting requests.
 *
 * Invariants
 * 1. wait.active holds from MHD_suspend_connection() to MHD_resume_connection(), and exactly then
 * wait.node is on http->waiting or http->watched, and the waiter is armed, or the ticket pending
 * (wait.keeping).
 * 2. http->waiting is ordered by since_ns, so only its head need be looked at.
 * 3. A descriptor is watched only while its request is suspended: libmicrohttpd cannot close it
 * then.
 */
#include "http/wait.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>

#include "base/log.h"
#include "http/daemon.h"
#include "http/reply.h"
#include "http/request.h"
#include "http/resources.h"

static void kept(struct ticket *ticket);

/* How long a request waits for the store to have the end of a job that has ended, at most: it takes
 * milliseconds unless the store has failed. */
#define SETTLE_NS (5 * NS_PER_S)

void wait_init(struct wait *wait)
{
	list_init(&wait->node);
	wait->hangup.fd = -1;
	wait->ticket.told = kept;
}

void wait_release(struct wait *wait)
{
	buffer_release(&wait->answer);
	ticket_release(&wait->ticket);
}

/* --- how long --------------------------------------------------------------------------------- */

/* Digits with an optional fraction and exponent, as JSON has them, without a sign. *ret_end is
 * what follows. */
static bool parse_seconds(const char *text, double *ret_seconds, const char **ret_end)
{
	size_t length = strspn(text, "0123456789.eE+-");
	char number[40];
	char *end;

	if (text[0] < '0' || text[0] > '9' || length >= sizeof(number))
		return false;
	memcpy(number, text, length);
	number[length] = '\0';
	double seconds = strtod(number, &end);
	if (*end != '\0' || !isfinite(seconds))
		return false;
	*ret_seconds = seconds;
	*ret_end = text + length;
	return true;
}

/* The value of wait in a Prefer header (RFC 7240): a list with commas, of which each element may
 * have parameters behind semicolons. */
static bool parse_prefer(const char *text, double *ret_seconds)
{
	const char *end;

	while (*text) {
		text += strspn(text, " \t,");
		if (strncasecmp(text, "wait", 4) == 0) {
			const char *value = text + 4;
			value += strspn(value, " \t");
			if (*value == '=' &&
			    parse_seconds(value + 1 + strspn(value + 1, " \t\""), ret_seconds,
					  &end) &&
			    strchr("\" \t,;", *end))
				return true;
		}
		text += strcspn(text, ",");
	}
	return false;
}

static int64_t cap_wait(const struct request *request, double seconds)
{
	int64_t max_ms = server_config(request->http->server)->max_wait_ms;

	if (seconds * 1e3 >= (double)max_ms)
		return max_ms * NS_PER_MS;
	return (int64_t)(seconds * 1e9);
}

int wait_read(struct request *request, int64_t fallback_ms, int64_t *ret_wait_ns,
	      struct error *error)
{
	const char *prefer;
	const char *query = request->query[QUERY_WAIT];
	const char *end;
	double seconds;

	if (query) {
		if (!parse_seconds(query, &seconds, &end) || *end != '\0')
			return error_set(error, ERROR_INVALID, "?wait",
					 "found \"%.40s\"; expected seconds, such as 0, 0.5 or 10",
					 query);
		*ret_wait_ns = cap_wait(request, seconds);
		return 0;
	}
	prefer = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "Prefer");
	if (prefer && parse_prefer(prefer, &seconds)) {
		*ret_wait_ns = cap_wait(request, seconds);
		snprintf(request->wait.preference, sizeof(request->wait.preference), "wait=%.10g",
			 (double)*ret_wait_ns / 1e9);
		return 0;
	}
	*ret_wait_ns = fallback_ms * NS_PER_MS;
	return 0;
}

/* --- answering -------------------------------------------------------------------------------- */

static struct request *request_of(struct wait *wait)
{
	return container_of(wait, struct request, wait);
}

/* Looking a job up brings what is known of it up to date. Of a queued one that is its place, which
 * costs a walk along the queue: only who asks for the job gets that, not who submits one. */
static void refresh(struct wait *wait)
{
	struct job *job = wait->job;

	if (job->state == JOB_QUEUED && wait->pending_status != MHD_HTTP_OK)
		job->queue_position = 0;
	else
		(void)server_find_job(request_of(wait)->http->server, &job->by_id.id);
}

static bool has_ended(const struct wait *wait)
{
	if (wait->comparison)
		return comparison_has_ended(wait->comparison);
	return wait->job ? job_is_settled(wait->job) : batch_is_settled(wait->batch);
}

/* Whether its end is only to be told once the store has it. */
static bool is_settling(const struct wait *wait)
{
	if (wait->comparison || has_ended(wait))
		return false;
	return wait->job ? job_state_is_ended(wait->job->state)
			 : wait->batch->ended_count == wait->batch->count;
}

static void render(struct wait *wait, bool ended)
{
	struct json_writer writer = {.buffer = &wait->answer};

	ended = ended || is_settling(wait); /* the store is too slow: better than nothing */
	wait->status = ended ? MHD_HTTP_OK : wait->pending_status;
	if (wait->job && !ended)
		refresh(wait);
	if (wait->job)
		job_write_json(wait->job, clock_monotonic_ns(), &writer, NULL);
	else if (wait->batch)
		batches_write(wait->batch, &writer);
	else
		compare_write(wait->comparison, &writer);
	buffer_append_char(&wait->answer, '\n');
	wait->job = NULL;
	wait->batch = NULL;
	wait->comparison = NULL;
}

enum MHD_Result wait_answer(struct request *request)
{
	struct wait *wait = &request->wait;
	const struct reply reply = {
		.status = wait->status,
		.replayed = wait->replayed,
		.location = wait->status == MHD_HTTP_ACCEPTED ? wait->location : NULL,
		.preference = wait->preference[0] ? wait->preference : NULL,
	};

	if (wait->error.code != ERROR_NONE)
		return reply_error_at(request, &wait->error, wait->location);
	return reply_send(request, &reply, &wait->answer);
}

static void resume(struct wait *wait, bool ended)
{
	struct http *http = request_of(wait)->http;

	render(wait, ended);
	loop_remove(http->loop, &wait->hangup);
	list_remove(&wait->node);
	wait->active = false;
	wait->woken = true;
	http->requests_waiting--;
	http->run_needed = true;
	MHD_resume_connection(request_of(wait)->connection);
}

/* --- keeping ---------------------------------------------------------------------------------- */

/* Whether the answer would be a 202 whose promise does not hold yet. That of a DELETE promises
 * nothing. */
static bool must_keep(struct wait *wait)
{
	const struct request *request = request_of(wait);

	if (has_ended(wait) || !request->hold.is_submission || wait->comparison)
		return false;
	return wait->job ? !server_job_is_kept(request->http->server, wait->job)
			 : !server_batch_is_kept(request->http->server, wait->batch);
}

/* Whether it is only to be answered after the store has spoken; else it is, perhaps with an error. */
static bool keep(struct wait *wait)
{
	struct http *http = request_of(wait)->http;

	if (!must_keep(wait))
		return false;
	if (http->ending || request_of(wait)->close) {
		(void)error_set(&wait->error, ERROR_UNAVAILABLE, NULL,
				"%s before the job was kept; it would not survive a restart",
				http->ending ? "the service ends" : "the client has hung up");
		return false;
	}
	if (wait->job)
		server_keep_job(http->server, wait->job, &wait->ticket);
	else
		server_keep_batch(http->server, wait->batch, &wait->ticket);
	wait->error = wait->ticket.error;
	wait->keeping = wait->ticket.pending;
	return wait->keeping;
}

static void kept(struct ticket *ticket)
{
	struct wait *wait = container_of(ticket, struct wait, ticket);
	bool ended = has_ended(wait);

	wait->keeping = false;
	if (!ended && !is_settling(wait)) /* an end is better than any promise */
		wait->error = ticket->error;
	resume(wait, ended);
}

/* The wait is over. */
static void go_on(struct wait *wait, bool ended)
{
	if (!keep(wait))
		resume(wait, ended);
}

static void wake(struct waiter *waiter, bool ended)
{
	go_on(container_of(waiter, struct wait, waiter), ended);
}

/* The end of the last job wakes the waiter, and with it the wait is over. */
static void cancel_jobs(struct wait *wait)
{
	struct server *server = request_of(wait)->http->server;
	struct batch *batch = wait->batch;

	log_debug("client_gone", log_str("request_id", request_of(wait)->id),
		  log_str("cancels", wait->location));
	if (!batch) {
		(void)server_cancel(server, wait->job);
		return;
	}
	for (size_t i = 0; wait->active && i < batch->count; i++)
		(void)server_cancel(server, batch->jobs[i]);
}

static void hung_up(struct loop_source *source, uint32_t events)
{
	struct wait *wait = container_of(source, struct wait, hangup);

	(void)events;
	request_of(wait)->close = true;
	loop_remove(request_of(wait)->http->loop, &wait->hangup);
	if (wait->cancels)
		cancel_jobs(wait);
	if (!wait->active || wait->keeping)
		return; /* it was answered by the end, or will be when the store has spoken */
	waiter_cancel(&wait->waiter);
	go_on(wait, false);
}

/* One that cannot be watched is found out at its deadline. */
static void watch(struct http *http, struct wait *wait)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		request_of(wait)->connection, MHD_CONNECTION_INFO_CONNECTION_FD);

	list_remove(&wait->node);
	list_append(&http->watched, &wait->node);
	if (info)
		(void)loop_add(http->loop, &wait->hangup, info->connect_fd, EPOLLRDHUP, hung_up);
}

/* --- suspending ------------------------------------------------------------------------------- */

static int arm(struct request *request, int64_t deadline_ns)
{
	struct wait *wait = &request->wait;
	struct server *server = request->http->server;

	if (wait->job)
		return waiter_wait_job(server, &wait->waiter, wait->job, deadline_ns, wake);
	if (wait->comparison)
		return compare_wait(wait->comparison, &wait->waiter, deadline_ns, wake);
	return waiter_wait_batch(server, &wait->waiter, wait->batch, deadline_ns, wake);
}

static enum MHD_Result answer_or_suspend(struct request *request, bool ended, int64_t wait_ns)
{
	struct http *http = request->http;
	struct wait *wait = &request->wait;
	int64_t now_ns = clock_monotonic_ns();

	if (is_settling(wait))
		wait_ns = SETTLE_NS;
	bool over = ended || wait_ns <= 0 || http->ending || arm(request, now_ns + wait_ns) < 0;
	if (over && !keep(wait)) {
		render(wait, ended);
		return wait_answer(request);
	}
	wait->active = true;
	wait->since_ns = now_ns;
	list_append(&http->waiting, &wait->node);
	http->requests_waiting++;
	MHD_suspend_connection(request->connection);
	if (wait->cancels)
		watch(http, wait);
	return MHD_YES;
}

static void set_location(struct wait *wait, const char *collection, const struct id *id)
{
	char text[ID_TEXT_SIZE];

	snprintf(wait->location, sizeof(wait->location), "/%s/%s", collection, id_format(id, text));
}

enum MHD_Result wait_for_job(struct request *request, struct job *job, int64_t wait_ns,
			     unsigned int pending_status)
{
	request->wait.job = job;
	request->wait.pending_status = pending_status;
	set_location(&request->wait, "jobs", &job->by_id.id);
	request_note_job(request, &job->by_id.id);
	return answer_or_suspend(request, job_is_settled(job), wait_ns);
}

enum MHD_Result wait_for_batch(struct request *request, struct batch *batch, int64_t wait_ns,
			       unsigned int pending_status)
{
	request->wait.batch = batch;
	request->wait.pending_status = pending_status;
	set_location(&request->wait, "batches", &batch->by_id.id);
	return answer_or_suspend(request, batch_is_settled(batch), wait_ns);
}

enum MHD_Result wait_for_comparison(struct request *request, struct comparison *comparison,
				    int64_t wait_ns, unsigned int pending_status)
{
	request->wait.comparison = comparison;
	request->wait.pending_status = pending_status;
	set_location(&request->wait, "comparisons", comparison_id(comparison));
	return answer_or_suspend(request, comparison_has_ended(comparison), wait_ns);
}

/* --- all of them ------------------------------------------------------------------------------ */

int64_t wait_watch_due(struct http *http, int64_t now_ns)
{
	while (!list_empty(&http->waiting)) {
		struct wait *oldest = container_of(http->waiting.next, struct wait, node);
		int64_t due_ns = oldest->since_ns + WAIT_WATCH_AFTER_NS;
		if (due_ns > now_ns)
			return due_ns - now_ns;
		watch(http, oldest);
	}
	return -1;
}

static void end_list(struct list *list)
{
	while (!list_empty(list)) {
		struct wait *wait = container_of(list->next, struct wait, node);
		if (wait->keeping)
			ticket_cancel(&wait->ticket);
		else
			waiter_cancel(&wait->waiter);
		wait->keeping = false;
		go_on(wait, has_ended(wait));
	}
}

void wait_end_all(struct http *http)
{
	end_list(&http->waiting);
	end_list(&http->watched);
}
