/*
 * How many hosts a pool has, and when a host is replaced by a fresh one.
 *
 * A pool that may grow (max_hosts > min_hosts) doubles when its oldest job has waited for
 * grow_after_ms, as far as there are jobs for it, and gets one more host when fewer are idle than
 * are to be spare. It loses one when more than the spare ones have been idle for shrink_after_ms. A
 * host that is one too many, worn out, or of an old configuration is retired: it takes no new job
 * and ends after those it has.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/state.h"

#define TICK_NS	     NS_PER_S
#define FAST_TICK_NS (20 * NS_PER_MS)
#define START_NS     (60 * NS_PER_S) /* that a host has for its set-up */

static bool scales(const struct pool *pool)
{
	return pool->max_hosts > pool->min_hosts;
}

void pool_resize(struct pool *pool, uint32_t wanted)
{
	uint32_t before = pool->wanted;

	if (wanted == before)
		return;
	log_info("pool_resized", log_str("pool", pool->name), log_uint("from", before),
		 log_uint("to", wanted));
	pool->wanted = wanted;
	for (uint32_t i = before; i < wanted; i++)
		slot_start(&pool->slots[i]);
	for (uint32_t i = wanted; i < before; i++) {
		struct slot *slot = &pool->slots[i];
		loop_timer_cancel(pool->server->loop, &slot->backoff);
		slot->failures = 0;
		if (slot->host)
			host_retire(slot->host, RESTART_RESIZED);
	}
}

/* --- growing and shrinking -------------------------------------------------------------------- */

struct census {
	uint32_t starting;
	uint32_t idle; /* with no job at all */
};

static struct census count_hosts(const struct pool *pool)
{
	struct census census = {0};

	for (uint32_t i = 0; i < pool->wanted; i++) {
		const struct host *host = pool->slots[i].host;
		if (!host)
			continue; /* it backs off: no reason for the others to wait */
		if (!host->ready)
			census.starting++;
		else if (host->free_count == pool->config->threads)
			census.idle++;
	}
	return census;
}

/* How many more hosts are wanted now. */
static uint32_t growth(const struct pool *pool, const struct census *census, int64_t now_ns)
{
	const struct job *next =
		queue_next(&pool->queue); /* more hosts are no help to parked ones */
	uint32_t room = pool->max_hosts - pool->wanted;

	if (census->starting > 0 || room == 0)
		return 0;
	if (next && (list_empty(&pool->idle) || pool->held_back) &&
	    now_ns - next->queued_ns >= pool->config->grow_after_ms * NS_PER_MS) {
		uint32_t more = pool->queue.length < pool->wanted ? (uint32_t)pool->queue.length
								  : pool->wanted;
		return more < room ? more : room;
	}
	if (census->idle < pool->spare_hosts)
		return 1;
	return 0;
}

static void shrink(struct pool *pool, const struct census *census, int64_t now_ns)
{
	bool surplus = census->idle > pool->spare_hosts && pool->wanted > pool->min_hosts;

	if (!surplus) {
		pool->surplus_since_ns = 0;
	} else if (!pool->surplus_since_ns) {
		pool->surplus_since_ns = now_ns;
	} else if (now_ns - pool->surplus_since_ns >= pool->config->shrink_after_ms * NS_PER_MS) {
		pool_resize(pool, pool->wanted - 1);
	}
}

static void scale(struct pool *pool, int64_t now_ns)
{
	struct census census = count_hosts(pool);
	uint32_t more = pool->paused ? 0 : growth(pool, &census, now_ns);

	if (more > 0)
		pool_resize(pool, pool->wanted + more);
	else
		shrink(pool, &census, now_ns);
}

void scaling_hint(struct pool *pool)
{
	struct server *server = pool->server;
	int64_t at_ns = loop_now_ns(server->loop) + FAST_TICK_NS;

	if (!scales(pool) || (!list_empty(&pool->idle) && !pool->held_back) || server->shutdowns)
		return;
	if (!heap_contains(&server->tick_timer.node) || server->tick_timer.node.key > at_ns)
		loop_timer_set(server->loop, &server->tick_timer, at_ns);
}

/* --- recycling -------------------------------------------------------------------------------- */

uint64_t recycle_limit(const struct config_recycle *recycle)
{
	uint64_t jitter = recycle->jobs * recycle->jitter_percent / 100;

	if (recycle->jobs == 0 || jitter == 0)
		return recycle->jobs;
	uint64_t random;
	arc4random_buf(&random, sizeof(random));
	uint64_t limit = recycle->jobs - jitter + random % (2 * jitter + 1);
	return limit > 0 ? limit : 1;
}

bool host_is_worn(const struct host *host, int64_t rss_bytes, int64_t now_ns,
		  enum restart_reason *ret_reason)
{
	const struct config_recycle *recycle = &host->pool->config->recycle;

	if (host->jobs_limit > 0 && host->jobs_done >= host->jobs_limit)
		*ret_reason = RESTART_JOBS;
	else if (recycle->rss_bytes > 0 && rss_bytes != METERING_UNKNOWN &&
		 (uint64_t)rss_bytes > recycle->rss_bytes)
		*ret_reason = RESTART_RSS;
	else if (recycle->age_ms > 0 && now_ns - host->born_ns > recycle->age_ms * NS_PER_MS)
		*ret_reason = RESTART_AGE;
	else
		return false;
	return true;
}

/* Hosts that are idle are asked for their age and for how long they have been so; the others are
 * when their next job ends. */
static void recycle_idle(struct pool *pool, int64_t now_ns)
{
	const struct config_recycle *recycle = &pool->config->recycle;
	enum restart_reason reason;

	for (uint32_t i = 0; i < pool->wanted; i++) {
		struct host *host = pool->slots[i].host;
		if (!host || !host->ready || host->free_count < pool->config->threads)
			continue;
		if (host_is_worn(host, METERING_UNKNOWN, now_ns, &reason))
			host_retire(host, reason);
		else if (recycle->idle_ms > 0 && host->idle_since_ns > 0 &&
			 now_ns - host->idle_since_ns > recycle->idle_ms * NS_PER_MS)
			host_retire(host, RESTART_IDLE);
	}
}

/* A host that hangs in its set-up would never do anything, and stand in the way of a reload. */
static void end_late_starter(struct host *host, int64_t now_ns)
{
	if (host->ready || host->killed || now_ns - host->born_ns < START_NS)
		return;
	log_error("host_not_ready_in_time", log_str("pool", host->pool->name),
		  log_uint("host", host->slot_index), log_int("pid", host->pid));
	host_kill(host);
}

static void end_late_starters(struct pool *pool, int64_t now_ns)
{
	for (uint32_t i = 0; i < pool->wanted; i++)
		if (pool->slots[i].host)
			end_late_starter(pool->slots[i].host, now_ns);
	list_for_each (node, &pool->draining)
		end_late_starter(container_of(node, struct host, node), now_ns);
}

/* One host of an old configuration is replaced at a time, so that the others go on serving. True
 * while there are some. */
static bool replace_old(struct pool *pool)
{
	struct host *old = NULL;
	bool starting = false;

	for (uint32_t i = 0; i < pool->wanted; i++) {
		struct host *host = pool->slots[i].host;
		if (!host)
			continue;
		if (!host->ready)
			starting = true;
		else if (host->epoch != pool->server->epoch)
			old = host;
	}
	if (old && !starting)
		host_retire(old, RESTART_RELOADED);
	return old != NULL;
}

/* Hosts that know other tasks than the jobs mean go all at once, after their jobs. */
static void retire_all_old(struct server *server)
{
	server->tasks_moved = false;
	for (uint32_t i = 0; i < server->pool_count; i++) {
		struct pool *pool = &server->pools[i];
		for (uint32_t slot = 0; slot < CONFIG_HOSTS_MAX; slot++) {
			struct host *host = pool->slots[slot].host;
			if (host && host->epoch != server->epoch)
				host_retire(host, RESTART_RELOADED);
		}
		pool->dispatch_due = true;
	}
}

/* --- the tick --------------------------------------------------------------------------------- */

static void tick(struct loop_timer *timer)
{
	struct server *server = container_of(timer, struct server, tick_timer);
	int64_t now_ns = clock_monotonic_ns();
	bool hurry = false;

	server->sweep_due = true;
	keep_tick(server);
	if (server->resize_due && !server->shutdowns)
		size_pools(server);
	server->resize_due = false;
	if (server->tasks_moved)
		retire_all_old(server);
	for (uint32_t i = 0; i < server->pool_count && !server->shutdowns; i++) {
		struct pool *pool = &server->pools[i];
		if (scales(pool))
			scale(pool, now_ns);
		recycle_idle(pool, now_ns);
		end_late_starters(pool, now_ns);
		hurry = replace_old(pool) || hurry;
		hurry = hurry || (scales(pool) && pool->queue.length > 0);
	}
	loop_timer_set(server->loop, timer, now_ns + (hurry ? FAST_TICK_NS : TICK_NS));
}

void scaling_init(struct server *server)
{
	loop_timer_init(&server->tick_timer, tick);
	loop_timer_set(server->loop, &server->tick_timer, clock_monotonic_ns() + TICK_NS);
}
