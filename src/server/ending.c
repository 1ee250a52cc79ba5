/*
 * How jobs end: by themselves, at a deadline, by being stopped; and who is told.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/state.h"

/* After a shutdown's grace a job gets this long to heed the request to stop. */
#define SHUTDOWN_STOP_NS (500 * NS_PER_MS)

/* --- deadlines ------------------------------------------------------------------------------- */

static void arm(struct server *server)
{
	const struct heap_node *least = heap_least(&server->deadlines);

	if (!least)
		loop_timer_cancel(server->loop, &server->deadline_timer);
	else if (!heap_contains(&server->deadline_timer.node) ||
		 server->deadline_timer.node.key != least->key)
		loop_timer_set(server->loop, &server->deadline_timer, least->key);
}

void deadline_set(struct server *server, struct job *job, int64_t at_ns)
{
	heap_put(&server->deadlines, &job->deadline, at_ns);
	arm(server);
}

void deadline_clear(struct server *server, struct job *job)
{
	if (!heap_contains(&job->deadline))
		return;
	heap_remove(&server->deadlines, &job->deadline);
	arm(server);
}

static void deadline_passed(struct server *server, struct job *job)
{
	if (job->state == JOB_RUNNING)
		job_stop(server, job, STOP_TIMED_OUT);
	else if (job->state == JOB_STOPPING)
		host_condemn(job->host, job);
}

static void deadline_timer_expired(struct loop_timer *timer)
{
	struct server *server = container_of(timer, struct server, deadline_timer);
	int64_t now_ns = clock_monotonic_ns();

	for (struct heap_node *node;
	     (node = heap_least(&server->deadlines)) && node->key <= now_ns;) {
		heap_remove(&server->deadlines, node);
		deadline_passed(server, container_of(node, struct job, deadline));
	}
	arm(server);
}

void deadlines_init(struct server *server)
{
	loop_timer_init(&server->deadline_timer, deadline_timer_expired);
}

/* --- stopping -------------------------------------------------------------------------------- */

void job_stop(struct server *server, struct job *job, enum stop_reason reason)
{
	struct host *host = job->host;
	int64_t grace_ns = host->pool->config->stop_grace_ms * NS_PER_MS;

	if (job_transition(job, JOB_EVENT_STOP) < 0)
		return;
	if (reason == STOP_SHUTDOWN && grace_ns > SHUTDOWN_STOP_NS)
		grace_ns = SHUTDOWN_STOP_NS;
	job->stop_reason = reason;
	job->stop_asked_ns = clock_monotonic_ns();
	scoreboard_stop(&host->scoreboard, job->cell);
	deadline_set(server, job, job->stop_asked_ns + grace_ns);
}

void job_refresh(struct job *job)
{
	const struct host *host = job->host;

	if (!host || !host_has_begun(host, job))
		return;
	const struct scoreboard_cell *cell = scoreboard_cell(&host->scoreboard, job->cell);
	uint32_t worker = atomic_load_explicit(&cell->worker, memory_order_relaxed);
	int64_t started_ns = atomic_load_explicit(&cell->started_ns, memory_order_relaxed);
	if (worker >= host->scoreboard.workers || started_ns < job->dispatched_ns)
		return; /* it was scribbled upon */
	const struct scoreboard_worker *board = scoreboard_worker(&host->scoreboard, worker);
	job->metering.started_ns = started_ns;
	job->worker = (struct job_worker){
		.pid = host->pid,
		.tid = atomic_load_explicit(&board->tid, memory_order_relaxed),
		.host = host->slot_index,
		.thread = worker,
		.generation = host->generation,
		.jobs_before = atomic_load_explicit(&board->jobs, memory_order_relaxed)};
}

/* --- the end --------------------------------------------------------------------------------- */

static void count_end(struct pool *pool, const struct job *job)
{
	const struct metering *metering = &job->metering;

	pool->ended[job->state]++;
	rate_add(&pool->rate, job->finished_ns, 1);
	histogram_record(&pool->total, job->finished_ns - job->submitted_ns);
	if (job->dispatched_ns)
		histogram_record(&pool->queued, job->dispatched_ns - job->submitted_ns);
	if (metering->started_ns > 0 && metering->ended_ns > 0)
		histogram_record(&pool->run, metering->ended_ns - metering->started_ns);
}

static void say_ended(const struct job *job)
{
	char id[ID_TEXT_SIZE];
	/* What a job does by itself is its own affair; a crash is the operator's as well. */
	enum log_level level = job->state == JOB_CRASHED ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG;

	if (!log_enabled(level))
		return;
	log_event(level, "job_ended", log_str("job", id_format(&job->by_id.id, id)),
		  log_str("task", job->task), log_str("pool", job->pool),
		  log_str("state", job_state_name(job->state)),
		  log_str("cause", job->error.cause ? job_cause_name(job->error.cause) : NULL),
		  log_str("error", job->error.message), log_int("pid", job->worker.pid),
		  log_float("total_ms", (double)(job->finished_ns - job->submitted_ns) / 1e6));
}

void waiters_wake(struct list *waiters)
{
	while (!list_empty(waiters)) {
		struct waiter *waiter = container_of(waiters->next, struct waiter, node);
		waiter_cancel(waiter);
		waiter->wake(waiter, true);
	}
}

void job_end(struct server *server, struct job *job, enum job_event event)
{
	struct pool *pool = &server->pools[job->pool_index];

	if (job_transition(job, event) < 0) {
		log_error("impossible_transition", log_str("state", job_state_name(job->state)),
			  log_str("event", job_event_name(event)));
		abort();
	}
	job->finished_ns = clock_monotonic_ns();
	deadline_clear(server, job);
	free(job->args);
	job->args = NULL;
	job->args_length = 0;
	server->live--;
	count_end(pool, job);
	say_ended(job);
	bool last = job->batch && batch_job_ended(job->batch, job);
	store_job_ended(&server->store, job, last);
	server->sweep_due = true;
	waiters_wake(&job->waiters);
	if (last)
		waiters_wake(&job->batch->waiters);
	if (server->shutdowns && server->live == 0)
		server_changed(server);
}

void job_end_stopped(struct server *server, struct job *job)
{
	switch (job->stop_reason) {
	case STOP_TIMED_OUT:
		job_set_error(job, CAUSE_WALL_LIMIT,
			      "the job ran longer than its timeout of %lld ms",
			      (long long)job->timeout_ms);
		job->error.limit_ms = job->timeout_ms;
		job_end(server, job, JOB_EVENT_TIME_OUT);
		return;
	case STOP_SHUTDOWN:
		job_set_error(job, CAUSE_CANCELLED, "the service was shutting down");
		break;
	case STOP_CANCELLED:
	case STOP_NONE:
		job_set_error(job, CAUSE_CANCELLED, "the job was cancelled");
		break;
	}
	job_end(server, job, JOB_EVENT_CANCEL);
}
