/*
 * A store that several services share: taking jobs from its queue, and what services want of each
 * other's jobs.
 *
 * A job of a shared queue is at hand only while it is this service's: from when its submission was
 * claimed at once, or taken, to its end; the pauses between its attempts included. What is not at
 * hand is asked of the store.
 *
 * Jobs are taken when workers are free and nothing at hand waits for them: so many as are free, and a
 * few more when runs are shorter than a round trip to the store.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/state.h"

#define RECOVER_LIMIT	 256
#define WATCH_NS	 (5 * NS_PER_S)
#define WATCH_SHARE_LIVE 64 /* documents told at one poll */

bool share_is_on(const struct server *server)
{
	return server->store && store_is_shared(server->store);
}

/* --- jobs of others that somebody here asks for ----------------------------------------------- */

void share_watch(struct server *server, const struct id *id)
{
	int64_t now_ns = clock_monotonic_ns();
	struct share_watched *place = NULL;

	if (!share_is_on(server))
		return;
	for (size_t i = 0; i < SHARE_WATCHED_MAX; i++) {
		struct share_watched *watched = &server->share.watched[i];
		if (watched->until_ns > now_ns && id_compare(&watched->id, id) == 0) {
			place = watched;
			break;
		}
		if (!place && watched->until_ns <= now_ns)
			place = watched;
	}
	if (place) /* beyond so many, changes are seen when they end */
		*place = (struct share_watched){.id = *id, .until_ns = now_ns + WATCH_NS};
}

static size_t count_watched(const struct server *server, int64_t now_ns)
{
	size_t count = 0;

	for (size_t i = 0; i < SHARE_WATCHED_MAX; i++)
		count += server->share.watched[i].until_ns > now_ns;
	return count;
}

/* --- taking ----------------------------------------------------------------------------------- */

/* How many jobs the pool could do with. */
static uint32_t wanted(const struct pool *pool)
{
	size_t at_hand = pool->queue.length + pool->aside;
	size_t most;

	if (pool->paused || pool->store_waiting == 0)
		return 0;
	if (pool->claims > pool->aside) /* claimed, and being put */
		at_hand += pool->claims - pool->aside;
	most = keep_claims_most(pool, dispatch_free_cells(pool));
	return most > at_hand ? (uint32_t)(most - at_hand) : 0;
}

static void take_up_claimed(struct server *server, const struct store_row *row)
{
	const char *problem;

	if (job_table_find_job(&server->table, &row->id))
		return;
	struct job *job = submit_revive(server, row, &problem);
	if (!job || job_table_add_job(&server->table, job) < 0) {
		log_error("job_not_taken_up", log_str("error", "memory is short"));
		submit_unmake_job(server, job);
		return;
	}
	server->live++;
	if (problem) {
		keep_end_unrunnable(server, job, problem);
		return;
	}
	job->attempt = row->attempt - 1; /* it has not begun */
	job->claim = CLAIM_HELD;
	server->pools[job->pool_index].claims++;
	keep_go_on_queued(server, job, row);
}

static void note_waiting(struct server *server, const struct store_request *request)
{
	for (size_t i = 0; i < request->pool_count; i++) {
		int index = server_find_pool(server, request->pools[i].name);
		if (index >= 0)
			server->pools[index].store_waiting = request->pools[i].waiting;
	}
}

static void taken(struct store_request *request)
{
	struct server *server = request->data;

	server->share.taking = false;
	if (request->status == 0)
		note_waiting(server, request);
	else
		for (uint32_t i = 0; i < server->pool_count; i++)
			server->pools[i].store_waiting = 0; /* the next poll tells */
	for (size_t i = 0; request->status == 0 && i < request->row_count; i++)
		take_up_claimed(server, &request->rows[i]);
	store_request_free(request);
	dispatch_due(server);
}

static struct store_request *request_of_pools(struct server *server, enum store_op op)
{
	struct store_request *request = store_request_new(op);

	if (!request)
		return NULL;
	request->pools = calloc(server->pool_count, sizeof(*request->pools));
	if (!request->pools) {
		store_request_free(request);
		return NULL;
	}
	request->pool_count = server->pool_count;
	for (uint32_t i = 0; i < server->pool_count; i++) {
		request->pools[i].name = server->pools[i].name;
		request->pools[i].aging_us = server->pools[i].queue.aging_ns / NS_PER_US;
	}
	request->data = server;
	return request;
}

void share_flush(struct server *server)
{
	struct store_request *request = NULL;
	bool any = false;

	if (!server->share.on || server->share.taking || server->shutdowns)
		return;
	for (uint32_t i = 0; i < server->pool_count && !any; i++)
		any = wanted(&server->pools[i]) > 0;
	if (any)
		request = request_of_pools(server, STORE_TAKE);
	if (!request)
		return;
	for (uint32_t i = 0; i < server->pool_count; i++)
		request->pools[i].count = wanted(&server->pools[i]);
	request->done = taken;
	server->share.taking = true;
	store_submit(server->store, request);
}

/* --- what others want ------------------------------------------------------------------------- */

static void live_told(struct store_request *request)
{
	store_request_free(request);
}

/* Tells of the jobs that others watch. */
static void tell_live(struct server *server, const struct store_request *poll)
{
	for (size_t i = 0; i < poll->watched_count && i < WATCH_SHARE_LIVE; i++) {
		struct job *job = job_table_find_job(&server->table, &poll->watched[i]);
		if (!job || job_state_is_ended(job->state))
			continue;
		job_refresh(server, job);
		struct store_request *request = keep_live_row(job);
		if (!request)
			continue;
		request->done = live_told;
		store_submit(server->store, request);
	}
}

static void recovered(struct store_request *request)
{
	struct server *server = request->data;

	server->share.recovering = false;
	for (size_t i = 0; request->status == 0 && i < request->row_count; i++)
		keep_take_up(server, &request->rows[i]);
	if (request->status == 0 && request->row_count > 0)
		log_info("jobs_taken_over", log_uint("jobs", request->row_count));
	store_request_free(request);
	dispatch_due(server);
}

static void rescue(struct server *server)
{
	struct store_request *request =
		server->share.recovering ? NULL : store_request_new(STORE_RECOVER);

	if (!request)
		return;
	request->limit = RECOVER_LIMIT;
	request->data = server;
	request->done = recovered;
	server->share.recovering = true;
	store_submit(server->store, request);
}

static void polled(struct store_request *request)
{
	struct server *server = request->data;

	server->share.polling = false;
	if (request->status == 0) {
		note_waiting(server, request);
		for (size_t i = 0; i < request->cancelled_count; i++) {
			struct job *job =
				job_table_find_job(&server->table, &request->cancelled[i]);
			if (job)
				(void)server_cancel(server, job);
		}
		tell_live(server, request);
	}
	if (request->status != -ECANCELED && !server->shutdowns)
		rescue(server);
	store_request_free(request);
}

static void poll_store(struct server *server)
{
	int64_t now_ns = clock_monotonic_ns();
	size_t count = count_watched(server, now_ns);
	struct store_request *request =
		server->share.polling ? NULL : request_of_pools(server, STORE_POLL);
	size_t next = 0;

	if (!request)
		return;
	if (count > 0 && store_request_ids(request, count) < 0) {
		store_request_free(request);
		return;
	}
	for (size_t i = 0; i < SHARE_WATCHED_MAX && next < count; i++)
		if (server->share.watched[i].until_ns > now_ns)
			request->ids[next++] = server->share.watched[i].id;
	request->done = polled;
	server->share.polling = true;
	store_submit(server->store, request);
}

static void poll_expired(struct loop_timer *timer)
{
	struct server *server = container_of(timer, struct server, share.timer);

	poll_store(server);
	loop_timer_set(server->loop, timer,
		       clock_monotonic_ns() + server->config->store.poll_ms * NS_PER_MS);
}

void share_hint(struct server *server)
{
	if (server->share.on && store_take_hint(server->store))
		poll_store(server);
}

/* --- ending what is not at hand --------------------------------------------------------------- */

void share_cancelled(struct server *server, const struct store_row *row)
{
	const char *problem;
	struct job *job = submit_revive(server, row, &problem);

	if (!job || job_table_add_job(&server->table, job) < 0) {
		submit_unmake_job(server, job);
		return;
	}
	server->live++;
	job_begin(job, JOB_QUEUED);
	job->stop_reason = STOP_CANCELLED;
	job_end_stopped(server, job);
}

/* --- life ------------------------------------------------------------------------------------- */

void share_start(struct server *server)
{
	loop_timer_init(&server->share.timer, poll_expired);
	server->share.on = share_is_on(server);
	if (server->share.on)
		loop_timer_set(server->loop, &server->share.timer, clock_monotonic_ns());
}

void share_stop(struct server *server)
{
	loop_timer_cancel(server->loop, &server->share.timer);
	server->share.on = false;
}
