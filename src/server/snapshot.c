/* Numbers: everything is copied at one instant of the loop, so it agrees with itself; nobody is
 * stopped for it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/proc.h"
#include "server/state.h"

const char *host_state_name(enum host_state state)
{
	switch (state) {
	case HOST_STARTING:
		return "starting";
	case HOST_UP:
		return "up";
	case HOST_DRAINING:
		return "draining";
	case HOST_BACKOFF:
		return "backoff";
	}
	return "";
}

const char *restart_reason_name(enum restart_reason reason)
{
	switch (reason) {
	case RESTART_SIGNAL:
		return "signal";
	case RESTART_EXIT:
		return "exit";
	case RESTART_STOPPED:
		return "stopped_job";
	case RESTART_START_FAILED:
		return "start_failed";
	case RESTART_JOBS:
		return "jobs";
	case RESTART_AGE:
		return "age";
	case RESTART_IDLE:
		return "idle";
	case RESTART_RSS:
		return "rss";
	case RESTART_RESIZED:
		return "resized";
	case RESTART_RELOADED:
		return "reloaded";
	}
	return "";
}

static enum host_state state_of(const struct host *host)
{
	if (!host)
		return HOST_BACKOFF;
	if (host->draining)
		return HOST_DRAINING;
	return host->ready ? HOST_UP : HOST_STARTING;
}

static struct job *job_of_worker(const struct host *host, uint32_t worker)
{
	for (uint32_t i = 0; i < host->pool->config->threads; i++) {
		struct job *job = host->cells[i];
		if (job && host_has_begun(host, job) &&
		    atomic_load(&scoreboard_cell(&host->scoreboard, i)->worker) == worker)
			return job;
	}
	return NULL;
}

static void add_worker(struct pool_snapshot *pool, const struct host *host, uint32_t slot,
		       uint32_t thread, int64_t rss_bytes, int64_t now_ns)
{
	struct worker_snapshot *worker = &pool->workers[pool->worker_count++];

	*worker = (struct worker_snapshot){.host = slot,
					   .thread = thread,
					   .state = host_state_name(state_of(host)),
					   .rss_bytes = rss_bytes};
	if (!host)
		return;
	worker->pid = host->pid;
	worker->generation = host->generation;
	if (host->scoreboard.memory) {
		const struct scoreboard_worker *board =
			scoreboard_worker(&host->scoreboard, thread);
		worker->tid = atomic_load_explicit(&board->tid, memory_order_relaxed);
		worker->jobs_done = atomic_load_explicit(&board->jobs, memory_order_relaxed);
	}
	struct job *job = job_of_worker(host, thread);
	if (job) {
		job_refresh(host->pool->server, job);
		worker->has_job = true;
		worker->job = job->by_id.id;
		worker->task = job->task;
		worker->busy_ns =
			job->metering.started_ns > 0 ? now_ns - job->metering.started_ns : 0;
	}
	if (state_of(host) == HOST_UP)
		worker->state = !job ? "idle" : job->state == JOB_STOPPING ? "stopping" : "busy";
}

static void add_host(struct pool_snapshot *pool, const struct host *host, uint32_t slot,
		     int64_t now_ns)
{
	int64_t rss_bytes = host && host->pid ? proc_rss_bytes(host->pid) : METERING_UNKNOWN;
	uint32_t threads = pool->config->threads;

	for (uint32_t thread = 0; thread < threads; thread++)
		add_worker(pool, host, slot, thread, rss_bytes, now_ns);
	if (state_of(host) != HOST_UP) {
		pool->workers_down += threads;
		return;
	}
	pool->workers_idle += host->free_count;
	pool->workers_busy += threads - host->free_count;
}

static int add_workers(const struct pool *pool, struct pool_snapshot *snapshot, int64_t now_ns)
{
	size_t hosts = pool->wanted;

	list_for_each (node, &pool->draining)
		hosts++;
	snapshot->workers = calloc(hosts * pool->config->threads, sizeof(*snapshot->workers));
	if (!snapshot->workers)
		return -ENOMEM;
	for (uint32_t i = 0; i < pool->wanted; i++)
		add_host(snapshot, pool->slots[i].host, i, now_ns);
	list_for_each (node, &pool->draining) {
		const struct host *host = container_of(node, struct host, node);
		add_host(snapshot, host, host->slot_index, now_ns);
	}
	return 0;
}

static int take_pool(const struct pool *pool, struct pool_snapshot *snapshot, int64_t now_ns)
{
	snapshot->config = pool->config;
	snapshot->hosts = pool->wanted;
	snapshot->min_hosts = pool->min_hosts;
	snapshot->max_hosts = pool->max_hosts;
	snapshot->spare_hosts = pool->spare_hosts;
	snapshot->paused = pool->paused;
	snapshot->scheduled = pool->scheduled;
	snapshot->retries = pool->retries;
	snapshot->queue_length = pool->queue.length;
	snapshot->queue_bytes = pool->queue.bytes;
	const struct job *oldest = queue_oldest(&pool->queue);
	if (oldest)
		snapshot->oldest_wait_ns = now_ns - oldest->queued_ns;
	snapshot->submitted = pool->submitted;
	snapshot->rejected = pool->rejected;
	memcpy(snapshot->ended, pool->ended, sizeof(snapshot->ended));
	memcpy(snapshot->causes, pool->causes, sizeof(snapshot->causes));
	memcpy(snapshot->restarts, pool->restarts, sizeof(snapshot->restarts));
	memcpy(snapshot->last_restart, pool->last_restart, sizeof(snapshot->last_restart));
	snapshot->rate_1s = rate_per_second(&pool->rate, now_ns, 1);
	snapshot->rate_10s = rate_per_second(&pool->rate, now_ns, 10);
	snapshot->rate_60s = rate_per_second(&pool->rate, now_ns, 60);
	snapshot->queued = &pool->queued;
	snapshot->run = &pool->run;
	snapshot->total = &pool->total;
	return add_workers(pool, snapshot, now_ns);
}

static void take_process(const struct server *server, struct server_snapshot *snapshot)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	snapshot->pid = getpid();
	snapshot->master_pid = getppid();
	snapshot->rss_bytes = proc_rss_bytes(snapshot->pid);
	snapshot->cpu_user_ns =
		usage.ru_utime.tv_sec * NS_PER_S + usage.ru_utime.tv_usec * NS_PER_US;
	snapshot->cpu_system_ns =
		usage.ru_stime.tv_sec * NS_PER_S + usage.ru_stime.tv_usec * NS_PER_US;
	snapshot->jobs_kept = server->table.kept_jobs;
	snapshot->jobs_kept_bytes = server->table.kept_bytes;
	snapshot->jobs_live = server->live;
	snapshot->jobs_forgotten = server->table.forgotten;
	snapshot->waiters = server->waiters;
}

int server_snapshot_take(struct server *server, struct server_snapshot *ret_snapshot)
{
	int64_t now_ns = clock_monotonic_ns();
	struct server_snapshot snapshot = {.taken_real_ns = clock_realtime_ns(),
					   .uptime_ns = now_ns - server->started_ns,
					   .started_real_ns = server->started_real_ns};

	take_process(server, &snapshot);
	snapshot.pools = calloc(server->pool_count, sizeof(*snapshot.pools));
	if (!snapshot.pools)
		return -ENOMEM;
	snapshot.pool_count = server->pool_count;
	for (size_t i = 0; i < snapshot.pool_count; i++) {
		int status = take_pool(&server->pools[i], &snapshot.pools[i], now_ns);
		if (status < 0) {
			server_snapshot_release(&snapshot);
			return status;
		}
	}
	*ret_snapshot = snapshot;
	return 0;
}

void server_snapshot_release(struct server_snapshot *snapshot)
{
	for (size_t i = 0; i < snapshot->pool_count; i++)
		free(snapshot->pools[i].workers);
	free(snapshot->pools);
	*snapshot = (struct server_snapshot){0};
}
