/*
 * What is to happen to a job at a time. A job has one deadline at once, and its state tells what it
 * means: scheduled: it is due; queued: its queue_ttl is over; running: its time-out, or the next
 * look at its CPU time; stopping: its grace is over.
 */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/state.h"

#define CPU_LOOK_LEAST_NS (2 * NS_PER_MS)

static void arm(struct server *server)
{
	const struct heap_node *least = heap_least(&server->deadlines);

	if (!least)
		loop_timer_cancel(server->loop, &server->deadline_timer);
	else if (!heap_contains(&server->deadline_timer.node) ||
		 server->deadline_timer.node.key != least->key)
		loop_timer_set(server->loop, &server->deadline_timer, least->key);
}

int deadline_set(struct server *server, struct job *job, int64_t at_ns)
{
	int status = heap_put(&server->deadlines, &job->deadline, at_ns);

	if (status < 0)
		log_error("deadline_not_set", log_str("state", job_state_name(job->state)),
			  log_str("error", strerrordesc_np(-status)));
	arm(server);
	return status;
}

void deadline_clear(struct server *server, struct job *job)
{
	if (!heap_contains(&job->deadline))
		return;
	heap_remove(&server->deadlines, &job->deadline);
	arm(server);
}

/* A job cannot use up CPU time faster than a CPU for each of its threads; for one thread, no look
 * is needed before what is left could have been used. Processes may have more threads than one, so
 * they are looked at twice as often. */
static int64_t next_look(const struct job *job, int64_t now_ns)
{
	int64_t used_ns = host_cpu_ns(job->host, job);
	int64_t left_ns = job->cpu_ms * NS_PER_MS - (used_ns > 0 ? used_ns : 0);

	if (((const struct host *)job->host)->pool->config->threads == 1)
		left_ns /= 2;
	return now_ns + (left_ns > CPU_LOOK_LEAST_NS ? left_ns : CPU_LOOK_LEAST_NS);
}

void deadline_watch_run(struct server *server, struct job *job, int64_t now_ns)
{
	int64_t at_ns = INT64_MAX;

	if (job->timeout_ms)
		at_ns = job->dispatched_ns + job->timeout_ms * NS_PER_MS;
	if (job->cpu_ms) {
		int64_t look_ns = next_look(job, now_ns);
		at_ns = look_ns < at_ns ? look_ns : at_ns;
	}
	if (at_ns != INT64_MAX)
		deadline_set(server, job, at_ns);
}

static bool cpu_is_used_up(struct job *job)
{
	if (!job->cpu_ms)
		return false;
	job->cpu_seen_ns = host_cpu_ns(job->host, job);
	return job->cpu_seen_ns >= job->cpu_ms * NS_PER_MS;
}

static void look_at_run(struct server *server, struct job *job, int64_t now_ns)
{
	if (job->timeout_ms && now_ns >= job->dispatched_ns + job->timeout_ms * NS_PER_MS)
		job_stop(server, job, STOP_TIMED_OUT);
	else if (cpu_is_used_up(job))
		job_stop(server, job, STOP_CPU);
	else
		deadline_watch_run(server, job, now_ns);
}

void become_due(struct server *server, struct job *job, int64_t now_ns)
{
	struct pool *pool = &server->pools[job->pool_index];

	job_move(server, job, JOB_EVENT_DUE);
	pool->scheduled--;
	pool->scheduled_bytes -= job->args_length;
	job->queued_ns = now_ns;
	dispatch_put(server, job);
}

static void expire(struct server *server, struct job *job)
{
	dispatch_withdraw(server, job);
	job_set_error(job, CAUSE_QUEUE_TTL,
		      "the job waited longer than its queue_ttl_ms of %lld ms",
		      (long long)job->queue_ttl_ms);
	job->error.limit_ms = job->queue_ttl_ms;
	job->error.seen_ms = (clock_monotonic_ns() - job->queued_ns) / NS_PER_MS;
	job_end(server, job, JOB_EVENT_EXPIRE);
}

static void deadline_passed(struct server *server, struct job *job, int64_t now_ns)
{
	switch (job->state) {
	case JOB_SCHEDULED:
		become_due(server, job, now_ns);
		break;
	case JOB_QUEUED:
		expire(server, job);
		break;
	case JOB_RUNNING:
		look_at_run(server, job, now_ns);
		break;
	case JOB_STOPPING:
		host_condemn(job->host, job);
		break;
	case JOB_SUCCEEDED:
	case JOB_FAILED:
	case JOB_TIMED_OUT:
	case JOB_CANCELLED:
	case JOB_CRASHED:
	case JOB_EXPIRED:
		break;
	}
}

static void timer_expired(struct loop_timer *timer)
{
	struct server *server = container_of(timer, struct server, deadline_timer);
	int64_t now_ns = clock_monotonic_ns();

	for (struct heap_node *node;
	     (node = heap_least(&server->deadlines)) && node->key <= now_ns;) {
		heap_remove(&server->deadlines, node);
		deadline_passed(server, container_of(node, struct job, deadline), now_ns);
	}
	arm(server);
	dispatch_due(server);
}

void deadlines_init(struct server *server)
{
	loop_timer_init(&server->deadline_timer, timer_expired);
}
