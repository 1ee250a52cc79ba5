/*
 * Into the queue, and from the queue to a worker: a job goes to the host that became free last,
 * whose memory and caches are warm; on hosts with several workers, to each host in turn.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "ipc/channel.h"
#include "server/state.h"

#define RETRY_AFTER_MAX 600

void dispatch_host_is_free(struct host *host)
{
	bool takes_jobs = host->ready && !host->draining && !host->closed && !host->blocked &&
			  host->free_count > 0;

	if (!takes_jobs) {
		list_remove(&host->idle);
		return;
	}
	if (!list_empty(&host->idle))
		return;
	if (host->pool->config->threads == 1)
		list_prepend(&host->pool->idle, &host->idle);
	else
		list_append(&host->pool->idle, &host->idle);
}

/* --- into the queue --------------------------------------------------------------------------- */

static struct queue *wake_pool(void *data, uint32_t pool_index)
{
	struct server *server = data;

	server->pools[pool_index].dispatch_due = true;
	return &server->pools[pool_index].queue;
}

void dispatch_init(struct server *server)
{
	server->caps.wake = wake_pool;
	server->caps.data = server;
}

void dispatch_put(struct server *server, struct job *job)
{
	struct pool *pool = &server->pools[job->pool_index];

	queue_put(&pool->queue, job);
	if (job->queue_ttl_ms)
		deadline_set(server, job, job->queued_ns + job->queue_ttl_ms * NS_PER_MS);
	pool->dispatch_due = true;
	scaling_hint(pool);
}

void dispatch_put_back(struct server *server, struct job *job)
{
	deadline_clear(server, job);
	job->attempt--;
	job->dispatched_ns = 0;
	job_move(server, job, JOB_EVENT_REQUEUE);
	if (server->shutdowns == 0 || job->stored) {
		server->pools[job->pool_index].claims += job->claim != CLAIM_NONE;
		dispatch_put(server, job);
		if (server->shutdowns)
			keep_set_aside(server, job);
		return;
	}
	job->stop_reason = STOP_SHUTDOWN;
	job_end_stopped(server, job);
}

bool dispatch_due(struct server *server)
{
	bool again = false;

	for (uint32_t i = 0; i < server->pool_count; i++)
		if (server->pools[i].dispatch_due)
			dispatch(&server->pools[i]);
	/* One pool's dispatch may have given room to another that was before it. */
	for (uint32_t i = 0; i < server->pool_count; i++)
		again = again || server->pools[i].dispatch_due;
	return again;
}

void dispatch_withdraw(struct server *server, struct job *job)
{
	struct pool *pool = &server->pools[job->pool_index];

	if (!list_empty(&job->waiting)) {
		queue_remove(&pool->queue, job, &server->caps);
	} else {
		list_remove(&job->in_queue);
		pool->aside--;
		pool->aside_bytes -= job->args_length;
		if (job->claim != CLAIM_NONE) /* it was taken from the queue, as to run */
			caps_leave(&server->caps, job);
	}
	if (job->claim != CLAIM_NONE)
		pool->claims--;
}

bool dispatch_has_room(const struct pool *pool, size_t jobs, uint64_t bytes)
{
	const struct config_pool *config = pool->config;
	uint64_t waiting = pool->queue.length + pool->aside + pool->scheduled;
	uint64_t waiting_bytes = pool->queue.bytes + pool->aside_bytes + pool->scheduled_bytes;

	return jobs <= config->queue_jobs && waiting <= config->queue_jobs - jobs &&
	       bytes <= config->queue_bytes && waiting_bytes <= config->queue_bytes - bytes;
}

/* By what has ended in the last ten seconds; in a pool that has only begun, by how long its runs
 * take. */
static double seconds_to_drain(const struct pool *pool, int64_t now_ns)
{
	double waiting = (double)(pool->queue.length + pool->aside);
	double rate = rate_per_second(&pool->rate, now_ns, 10);
	bool is_young = now_ns - pool->server->started_ns < 10 * NS_PER_S;

	if (pool->paused)
		return RETRY_AFTER_MAX;
	if (rate > 0)
		return waiting / rate;
	if (is_young && pool->run.count > 0)
		return waiting * (double)pool->run.sum_ns / (double)pool->run.count / 1e9 /
		       (double)(pool->wanted * pool->config->threads);
	return RETRY_AFTER_MAX; /* nothing ends */
}

unsigned int dispatch_retry_after(const struct pool *pool, int64_t now_ns)
{
	double seconds = seconds_to_drain(pool, now_ns);

	return seconds >= RETRY_AFTER_MAX ? RETRY_AFTER_MAX : (unsigned int)seconds + 1;
}

/* --- to a worker ------------------------------------------------------------------------------ */

static void fill_message(const struct job *job, int64_t now_ns, struct message_run *ret_message)
{
	const struct pool *pool = ((const struct host *)job->host)->pool;

	*ret_message = (struct message_run){
		.kind = MESSAGE_RUN,
		.seq = job->seq,
		.task_index = job->task_index,
		.attempt = job->attempt,
		.cell = job->cell,
		.has_cpu_limit = job->cpu_ms > 0,
		.deadline_ns = job->timeout_ms ? now_ns + job->timeout_ms * NS_PER_MS : 0,
		.memory_limit = job->memory_bytes,
		.result_limit = pool->config->result_bytes,
		.args_length = job->args_length,
	};
}

/* Sends the job to its host: 0 or -errno. */
static int send_job(const struct job *job, int64_t now_ns)
{
	struct message_run message;
	struct iovec parts[2] = {{.iov_base = &message, .iov_len = sizeof(message)},
				 {.iov_base = job->args, .iov_len = job->args_length}};
	const struct host *host = job->host;
	int file = -1;

	fill_message(job, now_ns, &message);
	if (job->args_length > MESSAGE_INLINE_MAX) {
		int status = fd_sealed_file("args", job->args, job->args_length, &file);
		if (status < 0)
			return status;
		message.in_file = 1;
	}
	int status = channel_send(host->channel.fd, parts, file >= 0 ? 1 : 2, &file, file >= 0, 1);
	fd_close(&file);
	return status;
}

static void enter_cell(struct host *host, struct job *job, int64_t now_ns)
{
	uint32_t cell = host->free_cells[--host->free_count];
	struct scoreboard_cell *board = scoreboard_cell(&host->scoreboard, cell);

	/* Clean before the job can be in it; from now on the cell is this job's alone. */
	atomic_store(&board->stop, 0);
	atomic_store(&board->memory_seen, 0);
	host->cells[cell] = job;
	host->pool->running++;
	job->host = host;
	job->cell = cell;
	job->attempt++;
	host->pool->claims -= job->claim != CLAIM_NONE;
	job->dispatched_ns = now_ns;
	job_move(host->pool->server, job, JOB_EVENT_START);
}

/* The host did not take the job: why, and what becomes of the two. */
static void not_sent(struct host *host, struct job *job, int status)
{
	struct server *server = host->pool->server;

	host_release_cell(host, job);
	dispatch_put_back(server, job);
	if (status == -EAGAIN) {
		host->blocked = true;
		loop_change(server->loop, &host->channel, EPOLLIN | EPOLLOUT);
	} else {
		/* Its channel is broken: it is dying, or to be ended. HOST_DOWN follows either way.
		 * */
		log_warning("host_unreachable", log_str("pool", host->pool->name),
			    log_int("pid", host->pid), log_str("error", strerrordesc_np(-status)));
		host->closed = true;
		host_kill(host);
	}
}

static void hand_over(struct host *host, struct job *job)
{
	struct server *server = host->pool->server;
	int64_t now_ns = clock_monotonic_ns();

	deadline_clear(server, job);
	enter_cell(host, job, now_ns);
	int status = send_job(job, now_ns);
	list_remove(&host->idle);
	if (status < 0)
		not_sent(host, job, status);
	else
		deadline_watch_run(server, job, now_ns);
	dispatch_host_is_free(host);
}

/* The least priority that may start now: with no more free workers than are reserved, only that
 * which they are reserved for. However small the pool is at the moment, one worker serves
 * everybody. */
static int least_priority(const struct pool *pool)
{
	unsigned int workers = pool->wanted * pool->config->threads;
	unsigned int reserved = pool->config->reserved_workers;
	unsigned int free_workers = 0;

	if (reserved >= workers)
		reserved = workers - 1;
	if (reserved == 0)
		return JOB_PRIORITY_MIN;
	list_for_each (node, &pool->idle) {
		free_workers += container_of(node, struct host, idle)->free_count;
		if (free_workers > reserved)
			return JOB_PRIORITY_MIN;
	}
	return pool->config->reserved_priority;
}

size_t dispatch_free_cells(const struct pool *pool)
{
	size_t count = 0;

	list_for_each (node, &pool->idle)
		count += container_of(node, struct host, idle)->free_count;
	return count;
}

static void set_aside(struct pool *pool, struct list *list, struct job *job)
{
	list_append(list, &job->in_queue);
	pool->aside++;
	pool->aside_bytes += job->args_length;
}

/* The store does not answer: the job, whose turn it is, waits out of the others' way. */
static void stall(struct pool *pool, struct job *job)
{
	caps_leave(&pool->server->caps, job);
	set_aside(pool, &pool->stalled, job);
}

static void ask_claim(struct pool *pool, struct job *job)
{
	job->claim = CLAIM_ASKED;
	pool->claims++;
	set_aside(pool, &pool->to_claim, job);
	pool->server->claims_due = true;
}

static bool may_run(const struct job *job)
{
	return !job->stored || job->claim == CLAIM_HELD;
}

static struct job *take_claimed(struct pool *pool)
{
	struct job *job = container_of(pool->claimed.next, struct job, in_queue);

	list_remove(&job->in_queue);
	pool->aside--;
	pool->aside_bytes -= job->args_length;
	return job;
}

/* The next job that may run. On the way, claims are asked for jobs whose turn has come, as long as
 * there are fewer than most. NULL if there is none. */
static struct job *take_next(struct pool *pool, size_t most)
{
	if (!list_empty(&pool->claimed))
		return take_claimed(pool);
	for (;;) {
		const struct job *next = queue_next(&pool->queue);
		if (next && !may_run(next) && pool->claims >= most && !pool->server->claims_stalled)
			return NULL;
		struct job *job =
			queue_take(&pool->queue, least_priority(pool), &pool->server->caps);
		if (!job) {
			pool->held_back = queue_next(&pool->queue) != NULL;
			return NULL;
		}
		if (may_run(job))
			return job;
		if (pool->server->claims_stalled)
			stall(pool, job);
		else
			ask_claim(pool, job);
	}
}

/* Asks claims for the jobs that are next, so that they are there when a worker is. */
static void claim_ahead(struct pool *pool, size_t most)
{
	while (pool->claims < most) {
		const struct job *next = queue_next(&pool->queue);
		if (!next || may_run(next))
			return;
		struct job *job =
			queue_take(&pool->queue, least_priority(pool), &pool->server->caps);
		if (!job)
			return;
		if (may_run(job)) { /* another one than expected, for a cap's sake */
			caps_leave(&pool->server->caps, job);
			queue_put(&pool->queue, job);
			return;
		}
		ask_claim(pool, job);
	}
}

void dispatch(struct pool *pool)
{
	size_t most = keep_claims_most(pool, dispatch_free_cells(pool));

	pool->dispatch_due = false;
	pool->held_back = false;
	if (pool->server->tasks_moved)
		return;
	while (!pool->paused && pool->queue.length + pool->aside > 0 && !list_empty(&pool->idle)) {
		struct host *host = container_of(pool->idle.next, struct host, idle);
		struct job *job = take_next(pool, most);
		if (!job)
			break;
		hand_over(host, job);
	}
	if (!pool->paused && !pool->server->claims_stalled)
		claim_ahead(pool, keep_claims_most(pool, dispatch_free_cells(pool)));
}

void dispatch_claimed(struct pool *pool, struct job *job)
{
	list_remove(&job->in_queue);
	list_append(&pool->claimed, &job->in_queue);
	job->claim = CLAIM_HELD;
	pool->dispatch_due = true;
}

void dispatch_claim_failed(struct pool *pool, struct job *job)
{
	dispatch_withdraw(pool->server, job);
	job->claim = CLAIM_NONE;
	queue_put(&pool->queue, job);
	pool->dispatch_due = true;
}

void dispatch_unstall(struct pool *pool)
{
	while (!list_empty(&pool->stalled)) {
		struct job *job = container_of(pool->stalled.next, struct job, in_queue);
		dispatch_withdraw(pool->server, job);
		queue_put(&pool->queue, job);
	}
	pool->dispatch_due = true;
}
