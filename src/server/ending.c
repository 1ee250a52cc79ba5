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

/* --- stopping --------------------------------------------------------------------------------- */

int job_move(struct server *server, struct job *job, enum job_event event)
{
	int status = job_transition(job, event);

	if (status == 0)
		watch_changed(server, job);
	return status;
}

void job_stop(struct server *server, struct job *job, enum stop_reason reason)
{
	struct host *host = job->host;
	int64_t grace_ns = host->pool->config->stop_grace_ms * NS_PER_MS;

	if (job_move(server, job, JOB_EVENT_STOP) < 0)
		return;
	if (reason == STOP_SHUTDOWN && grace_ns > SHUTDOWN_STOP_NS)
		grace_ns = SHUTDOWN_STOP_NS;
	job->stop_reason = reason;
	job->stop_asked_ns = clock_monotonic_ns();
	scoreboard_stop(&host->scoreboard, job->cell);
	host_signal_stop(host);
	deadline_set(server, job, job->stop_asked_ns + grace_ns);
}

static void refresh_worker(struct job *job)
{
	const struct host *host = job->host;

	if (!host_has_begun(host, job))
		return;
	const struct scoreboard_cell *cell = scoreboard_cell(&host->scoreboard, job->cell);
	uint32_t worker = atomic_load_explicit(&cell->worker, memory_order_relaxed);
	int64_t started_ns = atomic_load_explicit(&cell->started_ns, memory_order_relaxed);
	if (worker >= host->scoreboard.workers || started_ns < job->dispatched_ns ||
	    started_ns > clock_monotonic_ns())
		return; /* it was scribbled upon */
	const struct scoreboard_worker *board = scoreboard_worker(&host->scoreboard, worker);
	job->metering.started_ns = started_ns;
	job->worker = (struct job_worker){
		.pid = host->pid,
		.tid = atomic_load_explicit(&board->tid, memory_order_relaxed),
		.host = host->slot_index,
		.thread = worker,
		.generation = host->generation,
		.jobs_before = atomic_load_explicit(&board->jobs, memory_order_relaxed),
	};
}

void job_refresh(struct server *server, struct job *job)
{
	if (job->host)
		refresh_worker(job);
	else if (job->state == JOB_QUEUED)
		job->queue_position = queue_position(&server->pools[job->pool_index].queue, job);
}

/* --- another attempt -------------------------------------------------------------------------- */

/* A crash counts against a cap of its own, unless it was another job's. */
static bool may_crash_again(const struct pool *pool, struct job *job)
{
	enum job_cause cause = job->error.cause;
	bool is_crash = cause == CAUSE_SIGNAL || cause == CAUSE_EXIT_STATUS ||
			(cause == CAUSE_HOST_LOST && !job->error.has_culprit);

	if (!is_crash || pool->server->shutdowns)
		return true;
	job->crashes++;
	return job->crashes < pool->config->max_crashes;
}

static bool is_to_be_retried(const struct server *server, const struct pool *pool, struct job *job,
			     enum job_event event)
{
	bool ended_badly =
		event == JOB_EVENT_FAIL || event == JOB_EVENT_TIME_OUT || event == JOB_EVENT_CRASH;
	bool crashes_left = may_crash_again(pool, job);

	return ended_badly && crashes_left && job->attempt > 0 &&
	       job->attempt < job->max_attempts && (job->retry.causes & (1U << job->error.cause)) &&
	       (!server->shutdowns || job->stored) && !job->is_cancelled;
}

/* The pause before the next attempt: drawn from 0 to a bound that doubles with each attempt, up to
 * its maximum. */
static int64_t draw_backoff_ns(const struct job *job)
{
	int64_t bound_ms = job->retry.backoff_ms;

	for (uint32_t i = 1; i < job->attempt && bound_ms < job->retry.backoff_max_ms; i++)
		bound_ms *= 2;
	if (bound_ms > job->retry.backoff_max_ms)
		bound_ms = job->retry.backoff_max_ms;
	uint64_t bound_us = (uint64_t)bound_ms * 1000 + 1;
	uint64_t random;
	arc4random_buf(&random, sizeof(random));
	return (int64_t)(random % bound_us) * NS_PER_US;
}

/* Schedules the next attempt. False if memory is short: then this one was the last. */
static bool retry(struct server *server, struct pool *pool, struct job *job, enum job_event event)
{
	int64_t now_ns = clock_monotonic_ns();
	int64_t pause_ns = draw_backoff_ns(job);

	job->finished_ns = now_ns;
	watch_attempt_ends(job);
	if (job_keep_attempt(job, (enum job_state)job_next_state(job->state, event)) < 0)
		return false;
	job_move(server, job, JOB_EVENT_RETRY);
	job->due_ns = now_ns + pause_ns;
	job->claim = CLAIM_NONE;
	pool->retries++;
	pool->scheduled++;
	pool->scheduled_bytes += job->args_length;
	keep_update(server, job);
	if (server->shutdowns)
		keep_set_aside(server, job);
	else if (deadline_set(server, job, job->due_ns) < 0)
		become_due(server, job, now_ns); /* without a pause rather than never */
	return true;
}

/* --- the end ---------------------------------------------------------------------------------- */

static void count_end(struct pool *pool, const struct job *job)
{
	const struct metering *metering = &job->metering;

	pool->ended[job->state]++;
	if (job->state != JOB_SUCCEEDED)
		pool->causes[job->error.cause]++;
	rate_add(&pool->rate, job->finished_ns, 1);
	histogram_record(&pool->total, job->finished_ns - job->submitted_ns);
	if (job->dispatched_ns)
		histogram_record(&pool->queued, job->dispatched_ns - job->queued_ns);
	if (metering->started_ns <= 0 || metering->ended_ns <= 0)
		return;
	int64_t run_ns = metering->ended_ns - metering->started_ns;
	histogram_record(&pool->run, run_ns);
	pool->run_mean_ns += (run_ns - pool->run_mean_ns) / (pool->run_mean_ns ? 8 : 1);
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

void waiters_wake(struct list *waiters, bool ended)
{
	while (!list_empty(waiters)) {
		struct waiter *waiter = container_of(waiters->next, struct waiter, node);
		waiter_cancel(waiter);
		waiter->wake(waiter, ended);
	}
}

static bool knows(enum job_state state, enum job_event event)
{
	return job_next_state(state, event) >= 0;
}

static void drop_result(struct job *job)
{
	free(job->result);
	job->result = NULL;
	job->result_length = 0;
}

void job_settle(struct job *job)
{
	if (!job_is_settled(job))
		return;
	waiters_wake(&job->waiters, true);
	if (job->batch && batch_is_settled(job->batch))
		waiters_wake(&job->batch->waiters, true);
}

void job_end(struct server *server, struct job *job, enum job_event event)
{
	struct pool *pool = &server->pools[job->pool_index];

	if (!knows(job->state, event)) {
		log_error("impossible_transition", log_str("state", job_state_name(job->state)),
			  log_str("event", job_event_name(event)));
		abort();
	}
	deadline_clear(server, job);
	if (is_to_be_retried(server, pool, job, event) && retry(server, pool, job, event))
		return;
	job_move(server, job, event);
	job->finished_ns = clock_monotonic_ns();
	if (job->state != JOB_SUCCEEDED)
		drop_result(job); /* it may have answered, and broken a limit */
	caps_release(&server->caps, job);
	free(job->args);
	job->args = NULL;
	job->args_length = 0;
	server->live--;
	count_end(pool, job);
	say_ended(job);
	if (job->lab) {
		lab_job_ended(job);
		return;
	}
	bool last = job->batch && batch_job_ended(job->batch, job);
	job_table_job_ended(&server->table, job, last);
	server->sweep_due = true;
	keep_ended(server, job);
	job_settle(job);
	if (server->shutdowns && server->live == 0)
		server_changed(server);
}

/* Milliseconds that the attempt has run, as far as is known. */
static int64_t ran_ms(const struct job *job)
{
	int64_t from_ns =
		job->metering.started_ns > 0 ? job->metering.started_ns : job->dispatched_ns;
	int64_t to_ns = job->metering.ended_ns > 0 ? job->metering.ended_ns : clock_monotonic_ns();

	return (to_ns - from_ns) / NS_PER_MS;
}

static void end_timed_out(struct server *server, struct job *job)
{
	job_set_error(job, CAUSE_WALL_LIMIT, "the job ran longer than its timeout of %lld ms",
		      (long long)job->timeout_ms);
	job->error.limit_ms = job->timeout_ms;
	job->error.seen_ms = ran_ms(job);
	job_end(server, job, JOB_EVENT_TIME_OUT);
}

static void end_cpu(struct server *server, struct job *job)
{
	const struct metering *metering = &job->metering;
	int64_t used_ns = metering->cpu_user_ns != METERING_UNKNOWN
				  ? metering->cpu_user_ns + metering->cpu_system_ns
				  : job->cpu_seen_ns;

	job_set_error(job, CAUSE_CPU_LIMIT, "the job used more CPU time than its limit of %lld ms",
		      (long long)job->cpu_ms);
	job->error.limit_ms = job->cpu_ms;
	job->error.seen_ms = used_ns / NS_PER_MS;
	job_end(server, job, JOB_EVENT_TIME_OUT);
}

static void end_output(struct server *server, struct job *job)
{
	uint64_t out = job->stdout_output.total_bytes;
	uint64_t err = job->stderr_output.total_bytes;

	job->error.limit_bytes = (int64_t)job->stdout_output.capacity;
	job->error.seen_bytes = (int64_t)(out > err ? out : err);
	job_set_error(job, CAUSE_OUTPUT_LIMIT, "the job wrote more than its limit of %lld bytes",
		      (long long)job->error.limit_bytes);
	job_end(server, job, JOB_EVENT_FAIL);
}

void job_end_memory(struct server *server, struct job *job, int64_t seen_bytes)
{
	job->error.limit_bytes = job->memory_bytes;
	job->error.seen_bytes = seen_bytes;
	job_set_error(job, CAUSE_MEMORY_LIMIT,
		      "the job wanted more memory than its limit of %lld bytes",
		      (long long)job->memory_bytes);
	job_end(server, job, JOB_EVENT_FAIL);
}

/* Whether another attempt, after the next start, may take the place of this one. */
static bool may_go_on_after_restart(const struct job *job)
{
	return job->stored && job->attempt > 0 && job->attempt < job->max_attempts &&
	       (job->retry.causes & (1U << CAUSE_HOST_LOST)) && !job->is_cancelled;
}

void job_end_stopped(struct server *server, struct job *job)
{
	switch (job->stop_reason) {
	case STOP_TIMED_OUT:
		end_timed_out(server, job);
		return;
	case STOP_CPU:
		end_cpu(server, job);
		return;
	case STOP_OUTPUT:
		end_output(server, job);
		return;
	case STOP_SHUTDOWN:
		if (may_go_on_after_restart(job)) {
			job_set_error(job, CAUSE_HOST_LOST, "the service was shutting down");
			job_end(server, job, JOB_EVENT_CRASH);
			return;
		}
		job_set_error(job, CAUSE_CANCELLED, "the service was shutting down");
		break;
	case STOP_CANCELLED:
	case STOP_NONE:
		job_set_error(job, CAUSE_CANCELLED, "the job was cancelled");
		break;
	}
	job_end(server, job, JOB_EVENT_CANCEL);
}
