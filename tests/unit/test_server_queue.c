/*
 * The queue and the caps, against a model that looks at every job each time.
 *
 * What the model holds the queue to: the next job is the least by queued_ns - priority × aging; no
 * cap ever runs more than its limit; and as long as a waiting job's caps have room, the queue finds
 * one to run.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "random.h"
#include "server/queue.h"

#define POOLS	 3
#define AGING_MS 10
#define AGING_NS (AGING_MS * NS_PER_MS)

struct world {
	struct queue queues[POOLS];
	bool woken[POOLS];
	struct caps caps;
	int64_t now_ns;
};

static struct queue *wake(void *data, uint32_t pool_index)
{
	struct world *world = data;

	assert_true(pool_index < POOLS);
	world->woken[pool_index] = true;
	return &world->queues[pool_index];
}

static void world_init(struct world *world)
{
	*world = (struct world){.caps = {.wake = wake, .data = world}, .now_ns = NS_PER_S};
	for (uint32_t i = 0; i < POOLS; i++)
		queue_init(&world->queues[i], AGING_MS);
}

static struct job *make_job(uint32_t pool, int priority, int64_t queued_ns)
{
	struct job *job = job_new();

	assert_non_null(job);
	job->pool_index = pool;
	job->priority = priority;
	job->queued_ns = queued_ns;
	job->args_length = 3;
	return job;
}

static void hold(struct world *world, struct job *job, const char *key, unsigned int limit)
{
	if (!job->caps)
		job->caps = calloc(8, sizeof(struct cap *));
	assert_non_null(job->caps);
	struct cap *cap = caps_hold(&world->caps, key, limit, job->pool_index);
	assert_non_null(cap);
	assert_string_equal(cap->key, key);
	job->caps[job->cap_count++] = cap;
}

/* A new job of that pool, in its queue, with at most two caps. */
static struct job *put(struct world *world, uint32_t pool, int priority, const char *key,
		       unsigned int limit, const char *key2, unsigned int limit2)
{
	struct job *job = make_job(pool, priority, world->now_ns++);

	if (key)
		hold(world, job, key, limit);
	if (key2)
		hold(world, job, key2, limit2);
	queue_put(&world->queues[pool], job);
	return job;
}

static struct job *take(struct world *world, uint32_t pool)
{
	return queue_take(&world->queues[pool], JOB_PRIORITY_MIN, &world->caps);
}

/* A job that ran has ended. */
static void finish(struct world *world, struct job *job)
{
	caps_leave(&world->caps, job);
	caps_release(&world->caps, job);
	job_free(job);
}

static void cancel(struct world *world, struct job *job)
{
	queue_remove(&world->queues[job->pool_index], job, &world->caps);
	caps_release(&world->caps, job);
	job_free(job);
}

static void assert_empty(const struct world *world)
{
	for (uint32_t i = 0; i < POOLS; i++) {
		assert_int_equal(world->queues[i].length, 0);
		assert_int_equal(world->queues[i].bytes, 0);
		assert_null(queue_oldest(&world->queues[i]));
		for (int level = 0; level < JOB_PRIORITIES; level++)
			assert_true(list_empty(&world->queues[i].levels[level]));
	}
	assert_null(world->caps.root); /* no cap outlives its jobs */
}

/* --- one by one ------------------------------------------------------------------------------ */

static void test_empty(void **state)
{
	struct world world;

	(void)state;
	world_init(&world);
	assert_null(take(&world, 0));
	assert_empty(&world);
}

static void test_one_priority_is_first_in_first_out(void **state)
{
	struct world world;
	struct job *jobs[100];

	(void)state;
	world_init(&world);
	for (int i = 0; i < 100; i++) { /* those of a batch come at one moment */
		jobs[i] = make_job(0, 3, world.now_ns + i / 10);
		queue_put(&world.queues[0], jobs[i]);
	}
	assert_int_equal(world.queues[0].length, 100);
	assert_int_equal(world.queues[0].bytes, 300);
	for (int i = 0; i < 100; i++) {
		assert_ptr_equal(queue_oldest(&world.queues[0]), jobs[i]);
		assert_int_equal(queue_position(&world.queues[0], jobs[99]), 100 - i);
		assert_ptr_equal(take(&world, 0), jobs[i]);
		finish(&world, jobs[i]);
	}
	assert_empty(&world);
}

/* One that waits `aging` counts as one that came now with a priority of one more. */
static void test_aging(void **state)
{
	struct world world;
	int64_t start_ns = 100 * NS_PER_S;

	(void)state;
	world_init(&world);
	struct job *low = make_job(0, 0, start_ns);
	struct job *early = make_job(0, 1, start_ns + AGING_NS - 1);
	struct job *even = make_job(0, 1, start_ns + AGING_NS);
	struct job *late = make_job(0, 1, start_ns + AGING_NS + 1);
	struct job *highest = make_job(0, 10, start_ns + 10 * AGING_NS + 2);
	struct job *lowest = make_job(0, -10, start_ns - 10 * AGING_NS - 2);
	struct job *all[] = {late, highest, low, even, early, lowest};
	struct job *order[] = {lowest, early, even, low, late, highest};
	/* of equal ones the higher priority goes first */
	for (int i = 0; i < 6; i++)
		queue_put(&world.queues[0], all[i]);
	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(queue_position(&world.queues[0], order[i]), i + 1);
	for (int i = 0; i < 6; i++) {
		assert_ptr_equal(take(&world, 0), order[i]);
		finish(&world, order[i]);
	}
	assert_empty(&world);
}

static void test_nothing_starves(void **state)
{
	struct world world;
	struct job *low, *taken = NULL;

	(void)state;
	world_init(&world);
	low = put(&world, 0, JOB_PRIORITY_MIN, NULL, 0, NULL, 0);
	int rounds = 0;
	while (taken != low) { /* two of the highest come for each one that goes */
		for (int i = 0; i < 2; i++)
			put(&world, 0, JOB_PRIORITY_MAX, NULL, 0, NULL, 0);
		world.now_ns += AGING_NS / 10;
		taken = take(&world, 0);
		if (taken != low)
			finish(&world, taken);
		assert_true(++rounds < 1000);
	}
	finish(&world, low);
	while ((taken = take(&world, 0)))
		finish(&world, taken);
	assert_empty(&world);
}

static void test_least_priority(void **state)
{
	struct world world;

	(void)state;
	world_init(&world);
	struct job *low = put(&world, 0, 0, NULL, 0, NULL, 0);
	struct job *high = put(&world, 0, 5, NULL, 0, NULL, 0);
	assert_null(queue_take(&world.queues[0], 6, &world.caps));
	assert_null(queue_take(&world.queues[0], JOB_PRIORITY_MAX, &world.caps));
	world.now_ns +=
		100 * AGING_NS; /* the low one has aged past the high one, but is what it is */
	assert_ptr_equal(queue_take(&world.queues[0], 5, &world.caps), high);
	assert_null(queue_take(&world.queues[0], 1, &world.caps));
	assert_ptr_equal(queue_take(&world.queues[0], 0, &world.caps), low);
	finish(&world, low);
	finish(&world, high);
	assert_empty(&world);
}

/* A job whose host went before it began takes its old place again. */
static void test_comes_back_to_its_place(void **state)
{
	struct world world;
	struct job *jobs[5];

	(void)state;
	world_init(&world);
	for (int i = 0; i < 5; i++)
		jobs[i] = put(&world, 0, 0, "task:a", 3, NULL, 0);
	for (int i = 0; i < 3; i++)
		assert_ptr_equal(take(&world, 0), jobs[i]);
	assert_null(take(&world, 0));
	for (int i = 2; i >= 1; i--) {
		caps_leave(&world.caps, jobs[i]);
		queue_put(&world.queues[0], jobs[i]);
	}
	assert_ptr_equal(queue_oldest(&world.queues[0]), jobs[1]);
	assert_ptr_equal(take(&world, 0), jobs[1]);
	assert_ptr_equal(take(&world, 0), jobs[2]);
	assert_null(take(&world, 0));
	for (int i = 0; i < 3; i++)
		finish(&world, jobs[i]);
	assert_ptr_equal(take(&world, 0), jobs[3]);
	assert_ptr_equal(take(&world, 0), jobs[4]);
	finish(&world, jobs[3]);
	finish(&world, jobs[4]);
	assert_empty(&world);
}

static void test_position_is_not_looked_for_too_far(void **state)
{
	struct world world;
	struct job *last = NULL, *job;

	(void)state;
	world_init(&world);
	for (uint32_t i = 0; i <= QUEUE_POSITION_SCAN; i++)
		last = put(&world, 0, 0, NULL, 0, NULL, 0);
	assert_int_equal(queue_position(&world.queues[0], last), QUEUE_POSITION_SCAN + 1);
	job = put(&world, 0, 0, NULL, 0, NULL, 0);
	assert_int_equal(queue_position(&world.queues[0], job), 0);
	while ((job = take(&world, 0)))
		finish(&world, job);
	assert_empty(&world);
}

/* --- caps ------------------------------------------------------------------------------------ */

static void test_cap_lets_others_pass(void **state)
{
	struct world world;

	(void)state;
	world_init(&world);
	struct job *first = put(&world, 0, 0, "task:a", 1, NULL, 0);
	struct job *second = put(&world, 0, 0, "task:a", 1, NULL, 0);
	struct job *other = put(&world, 0, 0, NULL, 0, NULL, 0);
	assert_ptr_equal(take(&world, 0), first);
	assert_ptr_equal(take(&world, 0), other);
	assert_null(take(&world, 0));
	assert_int_equal(world.queues[0].length, 1); /* parked, and still waiting */
	assert_ptr_equal(queue_oldest(&world.queues[0]), second);
	assert_int_equal(queue_position(&world.queues[0], second), 1);
	world.woken[0] = false;
	finish(&world, first);
	assert_true(world.woken[0]);
	assert_ptr_equal(take(&world, 0), second);
	finish(&world, second);
	finish(&world, other);
	assert_empty(&world);
}

/* Who has its turn first when there is room again is the same question as in the queue. */
static void test_parked_ones_keep_their_order(void **state)
{
	struct world world;
	struct job *low[10], *high[10];

	(void)state;
	world_init(&world);
	struct job *first = put(&world, 0, 0, "task:a", 1, NULL, 0);
	assert_ptr_equal(take(&world, 0), first);
	for (int i = 0; i < 10; i++) {
		low[i] = put(&world, 0, 0, "task:a", 1, NULL, 0);
		assert_null(take(&world, 0));
	}
	for (int i = 0; i < 10; i++) {
		high[i] = put(&world, 0, 5, "task:a", 1, NULL, 0);
		assert_null(take(&world, 0));
	}
	finish(&world, first);
	for (int i = 0; i < 20; i++) {
		struct job *expected = i < 10 ? high[i] : low[i - 10];
		assert_ptr_equal(take(&world, 0), expected);
		assert_null(take(&world, 0));
		finish(&world, expected);
	}
	assert_empty(&world);
}

/* The cap counts over all pools, and each of them is told when there is room. */
static void test_cap_over_pools(void **state)
{
	struct world world;
	struct job *jobs[POOLS];

	(void)state;
	world_init(&world);
	for (uint32_t i = 0; i < POOLS; i++)
		jobs[i] = put(&world, i, 0, "task:a", 1, NULL, 0);
	assert_ptr_equal(take(&world, 0), jobs[0]);
	assert_null(take(&world, 1));
	assert_null(take(&world, 2));
	memset(world.woken, 0, sizeof(world.woken));
	finish(&world, jobs[0]);
	assert_false(world.woken[0]);
	assert_true(world.woken[1] && world.woken[2]);
	assert_ptr_equal(take(&world, 2), jobs[2]);
	assert_null(take(&world, 1)); /* too late */
	finish(&world, jobs[2]);
	assert_ptr_equal(take(&world, 1), jobs[1]);
	finish(&world, jobs[1]);
	assert_empty(&world);
}

/* A pool that takes nothing (it is paused) is not given more and more back. */
static void test_idle_pool_is_called_once(void **state)
{
	struct world world;
	struct job *jobs[10], *running;

	(void)state;
	world_init(&world);
	running = put(&world, 0, 0, "task:a", 1, NULL, 0);
	assert_ptr_equal(take(&world, 0), running);
	for (int i = 0; i < 10; i++)
		jobs[i] = put(&world, 1, 0, "task:a", 1, NULL, 0);
	assert_null(take(&world, 1));
	for (int i = 0; i < 10; i++) {
		struct job *next = put(&world, 0, 0, "task:a", 1, NULL, 0);
		finish(&world, running);
		size_t back = 0;
		list_for_each (node, &world.queues[1].levels[JOB_PRIORITY_MAX])
			back++;
		assert_int_equal(back, 1);
		assert_ptr_equal(take(&world, 0), next);
		running = next;
	}
	finish(&world, running);
	for (int i = 0; i < 10; i++) {
		assert_ptr_equal(take(&world, 1), jobs[i]);
		finish(&world, jobs[i]);
	}
	assert_empty(&world);
}

/* The one that was called back is cancelled, or parked on another cap: the next gets its chance. */
static void test_chance_is_passed_on(void **state)
{
	struct world world;

	(void)state;
	world_init(&world);
	struct job *first = put(&world, 0, 0, "task:a", 1, NULL, 0);
	struct job *second = put(&world, 0, 0, "task:a", 1, NULL, 0);
	struct job *b = put(&world, 0, 0, "task:b", 1, NULL, 0);
	struct job *both = put(&world, 0, 0, "task:a", 1, "task:b", 1);
	struct job *third = put(&world, 0, 0, "task:a", 1, NULL, 0);
	assert_ptr_equal(take(&world, 0), first);
	assert_ptr_equal(take(&world, 0), b);
	assert_null(take(&world, 0));
	finish(&world, first);
	cancel(&world, second);
	assert_ptr_equal(take(&world, 0), third);
	assert_null(take(&world, 0));
	finish(&world, third);
	assert_null(take(&world, 0));
	finish(&world, b);
	assert_ptr_equal(take(&world, 0), both);
	finish(&world, both);
	assert_empty(&world);
}

static void test_limit_that_changes(void **state)
{
	struct world world;
	struct job *jobs[6];

	(void)state;
	world_init(&world);
	for (int i = 0; i < 4; i++)
		jobs[i] = put(&world, 0, 0, "task:a", 1, NULL, 0);
	assert_ptr_equal(take(&world, 0), jobs[0]);
	assert_null(take(&world, 0));
	jobs[4] = put(&world, 0, 0, "task:a", 3, NULL,
		      0); /* raised: those that wait profit at once */
	assert_ptr_equal(take(&world, 0), jobs[1]);
	assert_ptr_equal(take(&world, 0), jobs[2]);
	assert_null(take(&world, 0));
	jobs[5] = put(&world, 0, 0, "task:a", 1, NULL, 0);
	for (int i = 0; i < 3; i++) {
		assert_null(take(&world, 0));
		finish(&world, jobs[i]);
	}
	for (int i = 3; i < 6; i++) {
		assert_ptr_equal(take(&world, 0), jobs[i]);
		assert_null(take(&world, 0));
		finish(&world, jobs[i]);
	}
	assert_empty(&world);
}

/* A server that goes at once gives caps back while jobs are parked on them. */
static void test_release_while_parked(void **state)
{
	struct world world;

	(void)state;
	world_init(&world);
	struct job *running = put(&world, 0, 0, "task:a", 1, NULL, 0);
	struct job *parked = put(&world, 0, 0, "task:b", 0, NULL, 0);
	assert_ptr_equal(take(&world, 0), running);
	assert_null(take(&world, 0));
	caps_release(&world.caps, running);
	caps_release(&world.caps, parked);
	assert_null(world.caps.root);
	assert_null(parked->caps);
	list_remove(&parked->in_queue);
	list_remove(&parked->waiting);
	job_free(running);
	job_free(parked);
}

static void test_keys_are_many(void **state)
{
	struct world world;
	struct job *jobs[2000];
	char key[64];

	(void)state;
	world_init(&world);
	for (int i = 0; i < 2000; i++) { /* 1000 keys, two jobs of each */
		snprintf(key, sizeof(key), "label:user=%d", i * 7919 % 1000);
		jobs[i] = put(&world, 0, 0, key, 1, NULL, 0);
	}
	for (int i = 0; i < 1000; i++)
		assert_ptr_equal(take(&world, 0), jobs[i]);
	assert_null(take(&world, 0));
	for (int i = 0; i < 1000; i++) {
		finish(&world, jobs[i]);
		assert_ptr_equal(take(&world, 0), jobs[i + 1000]);
		finish(&world, jobs[i + 1000]);
	}
	assert_empty(&world);
}

/* --- against the model ----------------------------------------------------------------------- */

#define MODEL_JOBS 120
#define MODEL_CAPS 5

enum place { NOWHERE, WAITING, RUNNING };

struct model_job {
	struct job *job;
	enum place place;
	uint64_t number;   /* of its coming; of equal ones the earlier goes first */
	unsigned int caps; /* bits */
};

struct model {
	struct world world;
	struct model_job jobs[MODEL_JOBS];
	unsigned int limits[MODEL_CAPS];
	uint64_t comings;
	unsigned int most_caps; /* of one job */
	size_t taken;
	size_t parked_seen;
};

static unsigned int model_running(const struct model *model, unsigned int cap)
{
	unsigned int running = 0;

	for (size_t i = 0; i < MODEL_JOBS; i++)
		running += model->jobs[i].place == RUNNING && (model->jobs[i].caps >> cap & 1);
	return running;
}

static bool may_run(const struct model *model, const struct model_job *entry)
{
	for (unsigned int cap = 0; cap < MODEL_CAPS; cap++)
		if ((entry->caps >> cap & 1) && model_running(model, cap) >= model->limits[cap])
			return false;
	return true;
}

static bool goes_before(const struct model_job *a, const struct model_job *b)
{
	int64_t order_a = a->job->queued_ns - a->job->priority * AGING_NS;
	int64_t order_b = b->job->queued_ns - b->job->priority * AGING_NS;

	if (order_a != order_b)
		return order_a < order_b;
	if (a->job->priority != b->job->priority)
		return a->job->priority > b->job->priority;
	return a->number < b->number;
}

static struct model_job *model_best(struct model *model, uint32_t pool, int least_priority)
{
	struct model_job *best = NULL;

	for (size_t i = 0; i < MODEL_JOBS; i++) {
		struct model_job *entry = &model->jobs[i];
		if (entry->place == WAITING && entry->job->pool_index == pool &&
		    entry->job->priority >= least_priority && may_run(model, entry) &&
		    (!best || goes_before(entry, best)))
			best = entry;
	}
	return best;
}

static struct model_job *entry_of(struct model *model, const struct job *job)
{
	for (size_t i = 0; i < MODEL_JOBS; i++)
		if (model->jobs[i].place != NOWHERE && model->jobs[i].job == job)
			return &model->jobs[i];
	fail_msg("a job that is nowhere");
	return model->jobs;
}

static bool is_in_levels(const struct world *world, const struct job *job)
{
	const struct queue *queue = &world->queues[job->pool_index];

	list_for_each (node, &queue->levels[JOB_PRIORITY_MAX - job->priority])
		if (node == &job->in_queue)
			return true;
	return false;
}

static void model_put(struct model *model)
{
	struct model_job *entry = &model->jobs[random_below(MODEL_JOBS)];
	char key[16];

	if (entry->place != NOWHERE)
		return;
	/* Coarse times make many that are equal. Of equal ones that were parked, any may go first.
	 * */
	model->world.now_ns += (int64_t)random_below(3) * AGING_NS / 2 + (model->most_caps > 0);
	struct job *job = make_job((uint32_t)random_below(POOLS), (int)random_below(21) - 10,
				   model->world.now_ns);
	*entry = (struct model_job){.job = job, .place = WAITING, .number = model->comings++};
	for (unsigned int i = 0; i < model->most_caps; i++) {
		unsigned int cap = (unsigned int)random_below(MODEL_CAPS);
		if (random_below(3) == 0 || (entry->caps >> cap & 1))
			continue;
		entry->caps |= 1U << cap;
		snprintf(key, sizeof(key), "task:%u", cap);
		hold(&model->world, job, key, model->limits[cap]);
	}
	queue_put(&model->world.queues[job->pool_index], job);
}

static void model_take(struct model *model)
{
	uint32_t pool = (uint32_t)random_below(POOLS);
	int least = random_below(4) ? JOB_PRIORITY_MIN : (int)random_below(21) - 10;
	struct model_job *best = model_best(model, pool, least);
	struct job *job = queue_take(&model->world.queues[pool], least, &model->world.caps);

	if (!job) {
		assert_null(best);
		return;
	}
	struct model_job *entry = entry_of(model, job);
	assert_int_equal(entry->place, WAITING);
	assert_int_equal(job->pool_index, pool);
	assert_true(job->priority >= least);
	assert_true(may_run(model, entry));
	assert_ptr_equal(entry, best);
	entry->place = RUNNING;
	model->taken++;
}

/* Ends a running one, cancels a waiting one, or puts a running one back. */
static void model_change(struct model *model, bool cancels)
{
	struct model_job *entry = &model->jobs[random_below(MODEL_JOBS)];

	if (entry->place == RUNNING && random_below(8) == 0) {
		caps_leave(&model->world.caps, entry->job);
		queue_put(&model->world.queues[entry->job->pool_index], entry->job);
		entry->place = WAITING;
		entry->number = model->comings++;
	} else if (entry->place == RUNNING) {
		entry->place = NOWHERE;
		finish(&model->world, entry->job);
	} else if (entry->place == WAITING && cancels) {
		entry->place = NOWHERE;
		cancel(&model->world, entry->job);
	}
}

static void check_position(const struct model *model, const struct model_job *entry)
{
	uint32_t before = 0;

	for (size_t i = 0; i < MODEL_JOBS; i++) {
		const struct model_job *other = &model->jobs[i];
		before += other != entry && other->place == WAITING &&
			  other->job->pool_index == entry->job->pool_index &&
			  is_in_levels(&model->world, other->job) && goes_before(other, entry);
	}
	assert_int_equal(queue_position(&model->world.queues[entry->job->pool_index], entry->job),
			 before + 1);
}

/* A job that is parked is so by a cap that is full, or that has called as many of its priority as
 * it has room for. */
static void check_parked(struct model *model, const struct model_job *entry)
{
	const struct job *job = entry->job;

	if (is_in_levels(&model->world, job)) {
		assert_true(!job->called || job->called->running < job->called->limit);
		check_position(model, entry);
		return;
	}
	model->parked_seen++;
	assert_null(job->called);
	for (uint32_t i = 0; i < job->cap_count; i++) {
		const struct cap *cap = job->caps[i];
		const struct parked *parked = cap->parked[job->pool_index];
		list_for_each (node, &parked->levels[JOB_PRIORITY_MAX - job->priority]) {
			if (node != &job->in_queue)
				continue;
			assert_true(cap->running >= cap->limit ||
				    parked->called_of[JOB_PRIORITY_MAX - job->priority] >=
					    cap->limit - cap->running);
			return;
		}
	}
	fail_msg("a job that waits is neither in the queue nor parked");
}

static void model_check(struct model *model)
{
	size_t length[POOLS] = {0};
	const struct job *oldest[POOLS] = {NULL};

	for (size_t i = 0; i < MODEL_JOBS; i++) {
		const struct model_job *entry = &model->jobs[i];
		if (entry->place == RUNNING)
			assert_null(entry->job->called);
		if (entry->place != WAITING)
			continue;
		uint32_t pool = entry->job->pool_index;
		length[pool]++;
		if (!oldest[pool] || entry->job->queued_ns < oldest[pool]->queued_ns)
			oldest[pool] = entry->job;
		check_parked(model, entry);
	}
	for (uint32_t pool = 0; pool < POOLS; pool++) {
		const struct job *found = queue_oldest(&model->world.queues[pool]);
		assert_int_equal(model->world.queues[pool].length, length[pool]);
		assert_int_equal(model->world.queues[pool].bytes, length[pool] * 3);
		assert_int_equal(found != NULL, oldest[pool] != NULL);
		if (found && oldest[pool])
			assert_int_equal(found->queued_ns, oldest[pool]->queued_ns);
	}
	for (unsigned int cap = 0; cap < MODEL_CAPS; cap++)
		assert_true(model_running(model, cap) <= model->limits[cap]);
}

/* With nothing else to happen, all that wait get their turn. */
static void model_drain(struct model *model)
{
	bool moved = true;

	while (moved) {
		moved = false;
		for (uint32_t pool = 0; pool < POOLS; pool++) {
			struct job *job = take(&model->world, pool);
			if (job) {
				entry_of(model, job)->place = RUNNING;
				moved = true;
			}
		}
		for (size_t i = 0; i < MODEL_JOBS && !moved; i++) {
			if (model->jobs[i].place != RUNNING)
				continue;
			model->jobs[i].place = NOWHERE;
			finish(&model->world, model->jobs[i].job);
			moved = true;
		}
	}
	for (size_t i = 0; i < MODEL_JOBS; i++)
		assert_int_equal(model->jobs[i].place, NOWHERE);
	assert_empty(&model->world);
}

static void run_model(unsigned int most_caps, int operations)
{
	static struct model the_model;
	struct model *model = &the_model;

	memset(model, 0, sizeof(*model));
	world_init(&model->world);
	model->most_caps = most_caps;
	for (unsigned int i = 0; i < MODEL_CAPS; i++)
		model->limits[i] = 1 + (unsigned int)random_below(6);
	for (int i = 0; i < operations; i++) {
		size_t choice = random_below(16);
		if (choice < 6)
			model_put(model);
		else if (choice < 10)
			model_take(model);
		else
			model_change(model, choice == 15);
		if (i % 7 == 0)
			model_check(model);
	}
	model_check(model);
	assert_true(model->taken > 0);
	assert_true(most_caps == 0 ? model->parked_seen == 0 : model->parked_seen > 0);
	model_drain(model);
}

static void test_model_without_caps(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++)
		run_model(0, 2000);
}

static void test_model_with_a_cap(void **state)
{
	(void)state;
	for (int round = 0; round < 40; round++)
		run_model(1, 2000);
}

static void test_model_with_several_caps(void **state)
{
	(void)state;
	for (int round = 0; round < 40; round++)
		run_model(2 + (unsigned int)random_below(3), 2000);
}

/* --- cost ------------------------------------------------------------------------------------ */

static double seconds_now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* CPU seconds a job to put so many and to take them all, the last job of each step having ended. */
static double cost_of(size_t count, const char *key, unsigned int limit)
{
	struct job *jobs = calloc(count, sizeof(*jobs));
	struct world world;

	if (!jobs)
		skip();
	world_init(&world);
	for (size_t i = 0; i < count; i++) { /* the pages are not the queue's cost */
		jobs[i].priority = (int)random_below(21) - 10;
		jobs[i].queued_ns = world.now_ns + (int64_t)i * 1000;
		if (key)
			hold(&world, &jobs[i], key, limit);
	}
	double begun = seconds_now();
	for (size_t i = 0; i < count; i++)
		queue_put(&world.queues[0], &jobs[i]);
	for (size_t i = 0; i < count; i++) {
		struct job *job = take(&world, 0);
		assert_non_null(job);
		if (key && i == 0)
			assert_null(take(&world, 0)); /* all others are parked now */
		caps_leave(&world.caps, job);
	}
	double seconds = seconds_now() - begun;
	assert_null(take(&world, 0));
	for (size_t i = 0; i < count; i++)
		caps_release(&world.caps, &jobs[i]);
	free(jobs);
	assert_empty(&world);
	return seconds / (double)count;
}

static void assert_linear(size_t few, size_t many, const char *key)
{
	double cost_few = cost_of(few, key, 1);
	double cost_many = cost_of(many, key, 1);

	print_message("%s: %.0f ns a job for %zu, %.0f ns for %zu\n", key ? key : "no cap",
		      cost_few * 1e9, few, cost_many * 1e9, many);
	/* Ten times as many do not fit a cache that ten times fewer did; the rest is the machine's.
	 * */
	assert_true(cost_many < cost_few * 3 + 500e-9);
}

static void test_cost(void **state)
{
	(void)state;
	assert_linear(100000, 1000000, NULL);
	assert_linear(100000, 1000000, "task:a");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_one_priority_is_first_in_first_out),
		cmocka_unit_test(test_aging),
		cmocka_unit_test(test_nothing_starves),
		cmocka_unit_test(test_least_priority),
		cmocka_unit_test(test_comes_back_to_its_place),
		cmocka_unit_test(test_position_is_not_looked_for_too_far),
		cmocka_unit_test(test_cap_lets_others_pass),
		cmocka_unit_test(test_parked_ones_keep_their_order),
		cmocka_unit_test(test_cap_over_pools),
		cmocka_unit_test(test_idle_pool_is_called_once),
		cmocka_unit_test(test_chance_is_passed_on),
		cmocka_unit_test(test_limit_that_changes),
		cmocka_unit_test(test_release_while_parked),
		cmocka_unit_test(test_keys_are_many),
		cmocka_unit_test(test_model_without_caps),
		cmocka_unit_test(test_model_with_a_cap),
		cmocka_unit_test(test_model_with_several_caps),
		cmocka_unit_test(test_cost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
