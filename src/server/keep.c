/*
 * What is in the store, and who waits for it.
 *
 * Invariants
 * 1. A job is `stored` from when its row was asked for: whatever is told of it later comes behind
 * that row. If the row cannot be put, it is not stored any more, or is not at all.
 * 2. An attempt of a stored job runs only after the store has confirmed its claim, so after the
 * death of everything no attempt can have begun that the store does not know of.
 * 3. An answer of the store is matched by id, never by pointer: the job may be gone.
 */
#include "server/keep.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/log.h"
#include "job/record.h"
#include "server/state.h"
#include "server/ticket.h"

#define RECOVER_LIMIT	 512
#define SWEEP_LIMIT	 500
#define STALL_NS	 (250 * NS_PER_MS)
#define CLAIMS_AHEAD_MAX 256
#define CLOSE_NS	 (5 * NS_PER_S)

/* --- rows ------------------------------------------------------------------------------------- */

static int64_t real_us(const struct job *job, int64_t at_ns)
{
	return (job->submitted_real_ns + (at_ns - job->submitted_ns)) / NS_PER_US;
}

static char *copy_text(const char *text, size_t length)
{
	return text ? strndup(text, length) : NULL;
}

static int fill_times(const struct job *job, struct store_row *row)
{
	int64_t due_ns = job->state == JOB_SCHEDULED ? job->due_ns : job->queued_ns;

	row->submitted_us = job->submitted_real_ns / NS_PER_US;
	row->due_us = due_ns ? real_us(job, due_ns) : row->submitted_us;
	if (job->queue_ttl_ms && row->state != JOB_RUNNING)
		row->expires_us = row->due_us + job->queue_ttl_ms * 1000;
	return 0;
}

static char *write_document(const struct job *job)
{
	struct buffer text = {0};
	struct json_writer writer = {.buffer = &text};

	job_write_json(job, clock_monotonic_ns(), &writer, NULL);
	buffer_append_char(&text, '\0');
	if (buffer_failed(&text)) {
		buffer_release(&text);
		return NULL;
	}
	return buffer_take(&text, NULL);
}

/* The row of the job as it is; claimed: its next attempt is to be this service's. 0 or -ENOMEM, and
 * then what is there is to be released by the caller. */
static int fill_row(const struct job *job, bool claimed, struct store_row *row)
{
	bool ended = job_state_is_ended(job->state);
	bool runs = job->state == JOB_RUNNING || job->state == JOB_STOPPING;

	row->id = job->by_id.id;
	row->state = claimed || runs ? JOB_RUNNING : job->state;
	row->attempt = job->attempt + claimed;
	row->task = strdup(job->task);
	row->pool = strdup(job->pool);
	row->priority = job->priority;
	row->has_batch = job->has_batch;
	row->batch = job->batch_id;
	row->batch_index = job->batch_index;
	row->labels = copy_text(job->labels, job->labels_length);
	row->callback = job->callback ? strdup(job->callback) : NULL;
	fill_times(job, row);
	if (ended) {
		row->ended_us = real_us(job, job->finished_ns);
		row->document = write_document(job);
	} else {
		row->record = record_write(job);
	}
	bool whole = row->task && row->pool && (row->document || row->record) &&
		     (row->labels || !job->labels) && (row->callback || !job->callback);
	return whole ? 0 : -ENOMEM;
}

static struct store_request *request_of_job(enum store_op op, const struct job *job, bool claimed)
{
	struct store_request *request = store_request_new(op);

	if (request && store_request_rows(request, 1) == 0 &&
	    fill_row(job, claimed, &request->rows[0]) == 0)
		return request;
	store_request_free(request);
	return NULL;
}

static struct store_request *request_of_batch(const struct batch *batch)
{
	struct store_request *request = store_request_new(STORE_PUT);
	int status = request ? store_request_rows(request, batch->count) : -ENOMEM;

	for (size_t i = 0; status == 0 && i < batch->count; i++)
		status = fill_row(batch->jobs[i], false, &request->rows[i]);
	if (status == 0)
		request->batch = calloc(1, sizeof(*request->batch));
	if (!request || !request->batch)
		goto fail;
	*request->batch = (struct store_batch){
		.id = batch->by_id.id,
		.task = strdup(batch->task),
		.pool = strdup(batch->pool),
		.count = (uint32_t)batch->count,
		.submitted_us = batch->submitted_real_ns / NS_PER_US,
	};
	if (request->batch->task && request->batch->pool)
		return request;
fail:
	store_request_free(request);
	return NULL;
}

/* --- what is on its way ----------------------------------------------------------------------- */

static void pin(struct job *job)
{
	job->unsaved++;
	if (job->batch)
		job->batch->unsaved++;
}

static void unpin(struct job *job)
{
	job->unsaved--;
	if (job->batch)
		job->batch->unsaved--;
}

/* What was on its way for the job is there, or never will be. */
static void settle(struct server *server, struct job *job)
{
	if (!job_is_settled(job))
		return;
	watch_changed(server, job);
	job_settle(job);
}

/* --- putting ---------------------------------------------------------------------------------- */

bool keep_is_durable(const struct server *server)
{
	return store_is_durable(server->store);
}

/* Whether the configuration promises that what is answered 202 is on disk. */
static bool promises(const struct server *server)
{
	return keep_is_durable(server) && server->config->store.durable != CONFIG_DURABLE_NONE;
}

bool keep_is_wanted(const struct server *server, const struct submission *submission,
		    const struct submit_terms *terms)
{
	if (terms->key || submission->callback_url)
		return true; /* they are kept in the store, whichever it is */
	if (!promises(server))
		return false;
	return server->config->store.durable == CONFIG_DURABLE_ALL || terms->answers_at_once ||
	       submission->delay_ms > 0;
}

/* The state that its row says: it is in none yet. */
static void expect_state(struct job *job, int64_t delay_ms)
{
	job->state = delay_ms > 0 ? JOB_SCHEDULED : JOB_QUEUED;
	job->due_ns = job->submitted_ns + delay_ms * NS_PER_MS;
	job->queued_ns = job->submitted_ns;
}

static void mark_stored(struct server *server, struct job *job, bool claimed)
{
	job->stored = true;
	job->durable = keep_is_durable(server);
	job->claim = claimed ? CLAIM_HELD : CLAIM_NONE;
}

/* The key was there already. */
static void tell_found(struct ticket_work *work, const struct store_request *request)
{
	struct server *server = work->server;
	struct ticket *ticket = work->ticket;

	if (!ticket)
		return;
	if (!request->same) {
		(void)error_set(&ticket->error, ERROR_INVALID, "Idempotency-Key",
				"this key was used with another submission; use a new key for it");
		return;
	}
	ticket->replayed = true;
	ticket->found = request->found;
	ticket->found_batch = request->found_batch;
	if (request->found_batch)
		ticket->batch = server_find_batch(server, &request->found);
	else
		ticket->job = server_find_job(server, &request->found);
	ticket->is_found = !ticket->job && !ticket->batch;
}

static void unmake(struct ticket_work *work)
{
	if (work->is_claimed)
		work->server->pools[work->job->pool_index].claims--;
	submit_unmake_job(work->server, work->job);
	submit_unmake_batch(work->server, work->batch);
}

/* Takes what was put into the queue. 0 or -ENOMEM. */
static int enter(struct ticket_work *work)
{
	struct server *server = work->server;
	struct job *job = work->job;
	struct batch *batch = work->batch;
	int status = job ? submit_enter_job(server, job, work->delay_ms)
			 : submit_enter_batch(server, batch, work->delay_ms);

	if (status < 0)
		return status;
	if (server->shutdowns && job)
		keep_set_aside(server, job);
	for (size_t i = 0; server->shutdowns && batch && i < batch->count; i++)
		keep_set_aside(server, batch->jobs[i]);
	return 0;
}

/* Whoever has a free worker takes it, perhaps this service. */
static void leave_to_all(struct ticket_work *work)
{
	struct server *server = work->server;
	struct ticket *ticket = work->ticket;
	const struct job *job = work->job ? work->job : work->batch->jobs[0];

	if (ticket) {
		ticket->is_found = true;
		ticket->found_batch = work->batch != NULL;
		ticket->found = work->batch ? work->batch->by_id.id : job->by_id.id;
	}
	server->pools[job->pool_index].store_waiting += work->batch ? work->batch->count : 1;
	server->pools[job->pool_index].submitted += work->batch ? work->batch->count : 1;
	unmake(work);
}

static void put_answered(struct ticket_work *work, struct store_request *request)
{
	struct server *server = work->server;
	struct ticket *ticket = work->ticket;

	if (request->status == 0 && server->share.on && !work->is_claimed) {
		leave_to_all(work);
	} else if (request->status == 0 && enter(work) == 0) {
		if (ticket) {
			ticket->job = work->job;
			ticket->batch = work->batch;
		}
		dispatch_due(server);
	} else {
		if (request->status == -EEXIST)
			tell_found(work, request);
		else
			ticket_fail_by_store(server, ticket, "the submission cannot be kept");
		unmake(work);
	}
	store_request_free(request);
	ticket_tell(ticket);
}

int keep_put(struct server *server, struct job *job, struct batch *batch, bool claimed,
	     int64_t delay_ms, const struct store_key *key, struct ticket *ticket)
{
	struct store_request *request;
	struct ticket_work *work;

	for (size_t i = 0; batch && i < batch->count; i++) {
		expect_state(batch->jobs[i], delay_ms);
		mark_stored(server, batch->jobs[i], false);
	}
	if (job)
		expect_state(job, delay_ms);
	request = job ? request_of_job(STORE_PUT, job, claimed) : request_of_batch(batch);
	if (ticket_ask(server, request, ticket, &work, put_answered) < 0)
		return -ENOMEM;
	if (job)
		mark_stored(server, job, claimed);
	request->key = *key;
	work->job = job;
	work->batch = batch;
	work->delay_ms = delay_ms;
	work->is_claimed = claimed;
	if (claimed)
		server->pools[job->pool_index].claims++;
	store_submit(server->store, request);
	return 0;
}

/* --- keeping what runs already ---------------------------------------------------------------- */

bool server_job_is_kept(const struct server *server, const struct job *job)
{
	return job->stored || !promises(server) || job_state_is_ended(job->state);
}

bool server_batch_is_kept(const struct server *server, const struct batch *batch)
{
	bool kept = true;

	for (size_t i = 0; kept && i < batch->count; i++)
		kept = server_job_is_kept(server, batch->jobs[i]);
	return kept;
}

static void kept_one(struct server *server, struct job *job, bool is_kept)
{
	unpin(job);
	job->stored = is_kept;
	job->durable = is_kept && keep_is_durable(server);
	settle(server, job);
	if (!is_kept && job->state == JOB_QUEUED)
		server->pools[job->pool_index].dispatch_due = true;
}

static void keep_answered(struct ticket_work *work, struct store_request *request)
{
	struct server *server = work->server;

	for (size_t i = 0; i < request->row_count; i++) {
		struct job *job = job_table_find_job(&server->table, &request->rows[i].id);
		if (job)
			kept_one(server, job, request->status == 0);
	}
	if (request->status < 0)
		ticket_fail_by_store(
			server, work->ticket,
			"the job goes on, but it cannot be kept and would not survive a "
			"restart");
	store_request_free(request);
	ticket_tell(work->ticket);
}

static void keep_now(struct server *server, struct store_request *request, struct job **jobs,
		     size_t count, struct ticket *ticket)
{
	struct ticket_work *work;

	if (ticket_ask(server, request, ticket, &work, keep_answered) < 0) {
		ticket_clear(ticket);
		ticket_fail(ticket, ERROR_INTERNAL, "memory is short");
		return;
	}
	for (size_t i = 0; i < count; i++) {
		pin(jobs[i]);
		/* One that runs is claimed by its row. */
		mark_stored(server, jobs[i],
			    jobs[i]->state == JOB_RUNNING || jobs[i]->state == JOB_STOPPING);
	}
	store_submit(server->store, request);
}

void server_keep_job(struct server *server, struct job *job, struct ticket *ticket)
{
	keep_now(server, request_of_job(STORE_PUT, job, false), &job, 1, ticket);
}

void server_keep_batch(struct server *server, struct batch *batch, struct ticket *ticket)
{
	keep_now(server, request_of_batch(batch), batch->jobs, batch->count, ticket);
}

/* --- claims ----------------------------------------------------------------------------------- */

size_t keep_claims_most(const struct pool *pool, size_t free_cells)
{
	const struct server *server = pool->server;
	size_t workers = (size_t)pool->wanted * pool->config->threads;
	int64_t run_ns = pool->run_mean_ns;

	/* What the workers run while the store writes: none if they run for longer than that. */
	if (run_ns <= 0 || server->commit_ns <= 0)
		return free_cells;
	int64_t ahead = (int64_t)workers * server->commit_ns / run_ns;
	return free_cells + (ahead < CLAIMS_AHEAD_MAX ? (size_t)ahead : CLAIMS_AHEAD_MAX);
}

static void stall_claims(struct server *server)
{
	server->claims_stalled = true;
	loop_timer_set(server->loop, &server->store_timer, clock_monotonic_ns() + STALL_NS);
}

/* The store does not have what was to be claimed: it belongs to somebody else, or was deleted. */
static void lose(struct server *server, struct job *job)
{
	char id[ID_TEXT_SIZE];

	log_error("claim_refused", log_str("job", id_format(&job->by_id.id, id)));
	dispatch_withdraw(server, job);
	job->stored = false;
	job_begin(job, JOB_RUNNING);
	job_set_error(job, CAUSE_HOST_LOST, "the store does not have the job any more");
	job->max_attempts = job->attempt;
	job_end(server, job, JOB_EVENT_CRASH);
}

static void take_claim(struct server *server, const struct id *id, uint32_t attempt, int status)
{
	struct job *job = job_table_find_job(&server->table, id);

	if (!job || job->state != JOB_QUEUED || job->claim != CLAIM_ASKED ||
	    job->attempt + 1 != attempt)
		return; /* it was cancelled, or has expired, meanwhile */
	struct pool *pool = &server->pools[job->pool_index];
	if (status == 0)
		dispatch_claimed(pool, job);
	else if (status == -ESTALE && job->stored)
		lose(server, job);
	else
		dispatch_claim_failed(pool, job); /* asked again, or run without if it is not stored
						     any more */
}

static void claim_answered(struct store_request *request)
{
	struct server *server = request->data;

	if (request->status < 0 && !server->claims_stalled && server->shutdowns == 0)
		stall_claims(server);
	for (size_t i = 0; i < request->id_count; i++)
		take_claim(server, &request->ids[i], request->attempts[i],
			   request->status < 0 ? request->status : request->statuses[i]);
	store_request_free(request);
	dispatch_due(server);
}

static size_t count_claims(const struct server *server)
{
	size_t count = 0;

	for (uint32_t i = 0; i < server->pool_count; i++)
		list_for_each (node, &server->pools[i].to_claim)
			count++;
	return count;
}

static void give_up_claims(struct pool *pool)
{
	while (!list_empty(&pool->to_claim))
		dispatch_claim_failed(pool,
				      container_of(pool->to_claim.next, struct job, in_queue));
}

static void flush_claims(struct server *server)
{
	struct store_request *request = store_request_new(STORE_CLAIM);
	size_t next = 0;

	server->claims_due = false;
	if (!request || store_request_ids(request, count_claims(server)) < 0) {
		for (uint32_t i = 0; i < server->pool_count; i++)
			give_up_claims(&server->pools[i]);
		stall_claims(server);
		store_request_free(request);
		return;
	}
	for (uint32_t i = 0; i < server->pool_count; i++) {
		struct pool *pool = &server->pools[i];
		while (!list_empty(&pool->to_claim)) {
			struct job *job = container_of(pool->to_claim.next, struct job, in_queue);
			request->ids[next] = job->by_id.id;
			request->attempts[next++] = job->attempt + 1;
			list_remove(&job->in_queue);
			list_append(&pool->claiming, &job->in_queue);
		}
	}
	request->data = server;
	request->done = claim_answered;
	store_submit(server->store, request);
}

void keep_flush(struct server *server)
{
	if (server->claims_due)
		flush_claims(server);
	share_flush(server);
}

/* --- changes ---------------------------------------------------------------------------------- */

static void change_answered(struct store_request *request)
{
	struct server *server = request->data;
	struct job *job = job_table_find_job(&server->table, &request->rows[0].id);

	if (job) {
		unpin(job);
		settle(server, job);
	}
	if (request->status == 0 && request->op == STORE_END && request->rows[0].callback &&
	    server->callbacks)
		callbacks_hint(server->callbacks);
	store_request_free(request);
}

/* Between its attempts a job of a shared store stays this service's, as claimed, unless it ends. */
static bool stays_ours(const struct server *server, enum store_op op)
{
	return op == STORE_UPDATE && server->share.on && !server->shutdowns;
}

static void send_change(struct server *server, enum store_op op, struct job *job, bool must)
{
	struct store_request *request = request_of_job(op, job, false);

	if (request && stays_ours(server, op))
		request->rows[0].state = JOB_RUNNING;
	if (!request) {
		log_error("job_not_kept", log_str("error", "memory is short"));
		return;
	}
	request->must = must;
	request->data = server;
	request->done = change_answered;
	pin(job);
	store_submit(server->store, request);
}

void keep_ended(struct server *server, struct job *job)
{
	const struct config_store *config = &server->config->store;

	job->claim = CLAIM_NONE;
	if (job->stored)
		send_change(server, STORE_END, job, true);
	else if (config->history && config->kind != CONFIG_STORE_MEMORY)
		send_change(server, STORE_END, job, false);
}

struct store_request *keep_live_row(const struct job *job)
{
	struct store_request *request = store_request_new(STORE_LIVE);

	if (!request || store_request_rows(request, 1) < 0)
		goto fail;
	struct store_row *row = &request->rows[0];
	row->id = job->by_id.id;
	row->state = job->state;
	row->attempt = job->attempt;
	row->document = write_document(job);
	if (row->document)
		return request;
fail:
	store_request_free(request);
	return NULL;
}

void keep_update(struct server *server, struct job *job)
{
	if (job->stored)
		send_change(server, STORE_UPDATE, job, true);
}

void keep_set_aside(struct server *server, struct job *job)
{
	struct pool *pool = &server->pools[job->pool_index];
	bool was_claimed = job->claim != CLAIM_NONE;

	deadline_clear(server, job);
	if (job->state == JOB_QUEUED) {
		dispatch_withdraw(server, job);
	} else {
		pool->scheduled--;
		pool->scheduled_bytes -= job->args_length;
	}
	job->claim = CLAIM_NONE;
	if (was_claimed || server->share.on)
		keep_update(server, job);
	job->set_aside = true;
	server->live--;
	waiters_wake(&job->waiters, false);
	if (job->batch)
		waiters_wake(&job->batch->waiters, false);
	if (server->live == 0)
		server_changed(server);
}

/* --- taking up what the store has ------------------------------------------------------------- */

void keep_end_unrunnable(struct server *server, struct job *job, const char *problem)
{
	job_begin(job, JOB_RUNNING);
	job_set_error(job, CAUSE_TASK_ERROR, "the job cannot be run any more: %s", problem);
	job->max_attempts = job->attempt;
	job_end(server, job, JOB_EVENT_FAIL);
}

static void end_lost(struct server *server, struct job *job)
{
	job_begin(job, JOB_RUNNING);
	job_set_error(job, CAUSE_HOST_LOST, "the service ended while the job ran, or was about to");
	job_end(server, job, JOB_EVENT_CRASH);
}

/* Others may have been too busy to see it. */
static void end_expired(struct server *server, struct job *job, const struct store_row *row)
{
	job_begin(job, JOB_QUEUED);
	job_set_error(job, CAUSE_QUEUE_TTL,
		      "the job waited longer than its queue_ttl_ms of %lld ms",
		      (long long)job->queue_ttl_ms);
	job->error.limit_ms = job->queue_ttl_ms;
	job->error.seen_ms = clock_realtime_ns() / NS_PER_MS - row->due_us / 1000;
	job_end(server, job, JOB_EVENT_EXPIRE);
}

void keep_go_on_queued(struct server *server, struct job *job, const struct store_row *row)
{
	int64_t due_ns = job->submitted_ns + (row->due_us - row->submitted_us) * NS_PER_US;

	job_begin(job, JOB_QUEUED);
	/* The clock may have begun after it was due: then it is as old as the clock. */
	job->queued_ns = due_ns > 0 ? due_ns : 1;
	dispatch_put(server, job);
	if (server->shutdowns)
		keep_set_aside(server, job);
}

/* Waits again, for its time or in the queue. */
static void go_on_waiting(struct server *server, struct job *job, const struct store_row *row)
{
	struct pool *pool = &server->pools[job->pool_index];
	int64_t now_ns = clock_monotonic_ns();
	int64_t due_ns = job->submitted_ns + (row->due_us - row->submitted_us) * NS_PER_US;

	if (due_ns <= now_ns) {
		keep_go_on_queued(server, job, row);
		return;
	}
	job_begin(job, JOB_SCHEDULED);
	job->due_ns = due_ns;
	pool->scheduled++;
	pool->scheduled_bytes += job->args_length;
	if (server->shutdowns)
		keep_set_aside(server, job);
	else if (deadline_set(server, job, job->due_ns) < 0)
		become_due(server, job, now_ns);
}

void keep_take_up(struct server *server, const struct store_row *row)
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
	if (problem)
		keep_end_unrunnable(server, job, problem);
	else if (row->state == JOB_RUNNING)
		end_lost(server, job);
	else if (server->share.on)
		end_expired(server, job, row);
	else
		go_on_waiting(server, job, row);
}

static void recover(struct server *server);

static void recover_answered(struct store_request *request)
{
	struct server *server = request->data;

	if (request->status == -ECANCELED) {
		store_request_free(request);
		return;
	}
	for (size_t i = 0; request->status == 0 && i < request->row_count; i++)
		keep_take_up(server, &request->rows[i]);
	if (request->status == 0 && request->row_count > 0)
		log_info("jobs_taken_up", log_uint("jobs", request->row_count));
	if (request->status < 0)
		loop_timer_set(server->loop, &server->store_timer, clock_monotonic_ns() + NS_PER_S);
	else if (request->row_count > 0)
		recover(server);
	else
		server->recovered = true;
	store_request_free(request);
	dispatch_due(server);
}

static void recover(struct server *server)
{
	struct store_request *request = store_request_new(STORE_RECOVER);

	if (!request) {
		loop_timer_set(server->loop, &server->store_timer, clock_monotonic_ns() + NS_PER_S);
		return;
	}
	request->limit = RECOVER_LIMIT;
	request->data = server;
	request->done = recover_answered;
	store_submit(server->store, request);
}

static void store_timer_expired(struct loop_timer *timer)
{
	struct server *server = container_of(timer, struct server, store_timer);

	if (!server->recovered)
		recover(server);
	if (!server->claims_stalled)
		return;
	server->claims_stalled = false;
	for (uint32_t i = 0; i < server->pool_count; i++)
		dispatch_unstall(&server->pools[i]);
	dispatch_due(server);
}

/* --- life ------------------------------------------------------------------------------------- */

static void store_is_ready(struct loop_source *source, uint32_t events)
{
	struct server *server = container_of(source, struct server, store_source);

	(void)events;
	store_collect(server->store);
	share_hint(server);
}

int keep_start(struct server *server)
{
	int status = store_open(server->config, &server->store);

	loop_timer_init(&server->store_timer, store_timer_expired);
	if (status == 0)
		status = loop_add(server->loop, &server->store_source, store_fd(server->store),
				  EPOLLIN, store_is_ready);
	if (status == 0)
		status = callbacks_new(server, &server->callbacks);
	if (status < 0)
		return status;
	if (!keep_is_durable(server))
		log_info("jobs_in_memory_only",
			 log_str("reason", "the store is in memory: jobs end with the service; "
					   "set data_dir to keep them"));
	share_start(server);
	if (server->share.on)
		server->recovered = true; /* others may run what they have */
	else
		recover(server);
	return 0;
}

void keep_stop(struct server *server)
{
	if (!server->store)
		return;
	share_stop(server);
	callbacks_free(server->callbacks);
	server->callbacks = NULL;
	loop_remove(server->loop, &server->store_source);
	size_t lost = store_close(server->store, clock_monotonic_ns() + CLOSE_NS);
	if (lost > 0)
		log_error("changes_not_kept", log_uint("changes", lost));
	server->store = NULL;
	loop_timer_cancel(server->loop, &server->store_timer);
}

static void sweep_answered(struct store_request *request)
{
	struct server *server = request->data;

	server->store_sweeping = false;
	if (request->status == 0 && request->count >= SWEEP_LIMIT)
		keep_tick(server); /* there is more */
	store_request_free(request);
}

void keep_tick(struct server *server)
{
	struct store_stats stats;

	store_stats(server->store, &stats);
	server->commit_ns = stats.commit_ns;
	if (server->store_sweeping || !stats.available || server->shutdowns)
		return;
	struct store_request *request = store_request_new(STORE_SWEEP);
	if (!request)
		return;
	request->limit = SWEEP_LIMIT;
	request->data = server;
	request->done = sweep_answered;
	server->store_sweeping = true;
	store_submit(server->store, request);
}

void server_store_stats(const struct server *server, struct store_stats *ret_stats)
{
	store_stats(server->store, ret_stats);
}
