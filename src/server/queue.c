#include "server/queue.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

static struct job *job_of(struct list *in_queue)
{
	return container_of(in_queue, struct job, in_queue);
}

static int level_of(const struct job *job)
{
	return JOB_PRIORITY_MAX - job->priority;
}

static void init_levels(struct list *levels)
{
	for (int i = 0; i < JOB_PRIORITIES; i++)
		list_init(&levels[i]);
}

void queue_init(struct queue *queue, int64_t aging_ms)
{
	*queue = (struct queue){.aging_ns = aging_ms * NS_PER_MS};
	init_levels(queue->levels);
	list_init(&queue->waiting);
}

/* What the order is by. */
static int64_t order_of(const struct queue *queue, const struct job *job)
{
	return job->queued_ns - job->priority * queue->aging_ns;
}

/* From the back for one that is new, from the front for one that comes back: either way its place
 * is near. */
static void put_in_level(struct list *levels, struct job *job)
{
	struct list *level = &levels[level_of(job)];
	struct list *before = level->previous;

	if (before != level && job_of(before)->queued_ns > job->queued_ns) {
		before = level;
		while (before->next != level && job_of(before->next)->queued_ns <= job->queued_ns)
			before = before->next;
	}
	list_insert_after(before, &job->in_queue);
}

/* The first job by the order among those with at least this priority; NULL if there is none. */
static struct job *first_of(const struct queue *queue, int least_priority)
{
	int64_t best_order = INT64_MAX;
	struct job *best = NULL;

	for (int i = 0; i <= JOB_PRIORITY_MAX - least_priority && i < JOB_PRIORITIES; i++) {
		if (list_empty(&queue->levels[i]))
			continue;
		struct job *job = job_of(queue->levels[i].next);
		if (!best || order_of(queue, job) < best_order) {
			best = job;
			best_order = order_of(queue, job);
		}
	}
	return best;
}

static void put_in_waiting(struct queue *queue, struct job *job)
{
	struct list *head = &queue->waiting;
	struct list *before = head->previous;

	if (before != head &&
	    container_of(before, struct job, waiting)->queued_ns > job->queued_ns) {
		before = head;
		while (before->next != head &&
		       container_of(before->next, struct job, waiting)->queued_ns <= job->queued_ns)
			before = before->next;
	}
	list_insert_after(before, &job->waiting);
}

void queue_put(struct queue *queue, struct job *job)
{
	put_in_level(queue->levels, job);
	put_in_waiting(queue, job);
	queue->length++;
	queue->bytes += job->args_length;
}

static void take_out(struct queue *queue, struct job *job)
{
	list_remove(&job->in_queue);
	list_remove(&job->waiting);
	queue->length--;
	queue->bytes -= job->args_length;
}

/* --- caps ------------------------------------------------------------------------------------- */

static void call(struct cap *cap, struct parked *parked, struct queue *queue, struct job *job)
{
	list_remove(&job->in_queue);
	put_in_level(queue->levels, job);
	job->called = cap;
	list_append(&parked->called, &job->in_called);
	parked->called_of[level_of(job)]++;
}

/* The job counts as called no more. Answers the cap that had called it, NULL if none had. */
static struct cap *end_call(struct job *job)
{
	struct cap *cap = job->called;

	if (cap) {
		cap->parked[job->pool_index]->called_of[level_of(job)]--;
		list_remove(&job->in_called);
	}
	job->called = NULL;
	return cap;
}

/* Keeps invariant 1. */
static void call_back(const struct caps *caps, struct cap *cap)
{
	if (cap->running >= cap->limit)
		return;
	unsigned int room = cap->limit - cap->running;
	for (uint32_t pool = 0; pool < CONFIG_POOLS_MAX; pool++) {
		struct parked *parked = cap->parked[pool];
		for (int i = 0; parked && i < JOB_PRIORITIES; i++)
			while (parked->called_of[i] < room && !list_empty(&parked->levels[i]))
				call(cap, parked, caps->wake(caps->data, pool),
				     job_of(parked->levels[i].next));
	}
}

static void park(struct cap *full, struct job *job)
{
	list_remove(&job->in_queue);
	put_in_level(full->parked[job->pool_index]->levels, job);
}

/* Keeps invariant 2. */
static void park_called(struct cap *cap)
{
	if (cap->running < cap->limit)
		return;
	for (uint32_t pool = 0; pool < CONFIG_POOLS_MAX; pool++) {
		struct parked *parked = cap->parked[pool];
		while (parked && !list_empty(&parked->called)) {
			struct job *job = container_of(parked->called.next, struct job, in_called);
			end_call(job);
			park(cap, job);
		}
	}
}

/* The job does not run after all: others may. */
static void pass_on(const struct caps *caps, struct job *job)
{
	struct cap *cap = end_call(job);

	if (cap)
		call_back(caps, cap);
}

void caps_leave(const struct caps *caps, const struct job *job)
{
	for (uint32_t i = 0; i < job->cap_count; i++) {
		job->caps[i]->running--;
		call_back(caps, job->caps[i]);
	}
}

static struct cap *full_cap(const struct job *job)
{
	for (uint32_t i = 0; i < job->cap_count; i++)
		if (job->caps[i]->running >= job->caps[i]->limit)
			return job->caps[i];
	return NULL;
}

struct job *queue_take(struct queue *queue, int least_priority, const struct caps *caps)
{
	struct cap *full;
	struct job *job;

	while ((job = first_of(queue, least_priority)) && (full = full_cap(job))) {
		park(full, job);
		pass_on(caps, job);
	}
	if (!job)
		return NULL;
	take_out(queue, job);
	end_call(job);
	for (uint32_t i = 0; i < job->cap_count; i++) {
		job->caps[i]->running++;
		park_called(job->caps[i]);
	}
	return job;
}

void queue_remove(struct queue *queue, struct job *job, const struct caps *caps)
{
	take_out(queue, job);
	pass_on(caps, job);
}

const struct job *queue_next(const struct queue *queue)
{
	return first_of(queue, JOB_PRIORITY_MIN);
}

struct job *queue_oldest(const struct queue *queue)
{
	if (list_empty(&queue->waiting))
		return NULL;
	return container_of(queue->waiting.next, struct job, waiting);
}

uint32_t queue_position(const struct queue *queue, const struct job *job)
{
	int64_t order = order_of(queue, job);
	int own = level_of(job);
	uint32_t before = 0;

	for (int i = 0; i < JOB_PRIORITIES; i++) {
		list_for_each (node, &queue->levels[i]) {
			const struct job *other = job_of(node);
			int64_t ahead_ns = order - order_of(queue, other);
			/* Of equal ones, the higher priority goes first. */
			if (other == job || ahead_ns < 0 || (ahead_ns == 0 && i > own))
				break;
			if (++before > QUEUE_POSITION_SCAN)
				return 0;
		}
	}
	return before + 1;
}

/* --- which caps there are --------------------------------------------------------------------- */

static int compare_caps(const void *a, const void *b)
{
	return strcmp(((const struct cap *)a)->key, ((const struct cap *)b)->key);
}

static struct cap *find_cap(const struct caps *caps, const char *key)
{
	char *text = strdup(key);
	struct cap wanted = {.key = text};
	struct cap *const *found = text ? tfind(&wanted, &caps->root, compare_caps) : NULL;

	free(text);
	return found ? *found : NULL;
}

static struct cap *cap_new(struct caps *caps, const char *key)
{
	struct cap *cap = calloc(1, sizeof(*cap));

	if (!cap)
		return NULL;
	cap->key = strdup(key);
	if (!cap->key || !tsearch(cap, &caps->root, compare_caps)) {
		free(cap->key);
		free(cap);
		return NULL;
	}
	return cap;
}

static void cap_free(struct caps *caps, struct cap *cap)
{
	tdelete(cap, &caps->root, compare_caps);
	for (int i = 0; i < CONFIG_POOLS_MAX; i++)
		free(cap->parked[i]);
	free(cap->key);
	free(cap);
}

static int add_parked(struct cap *cap, uint32_t pool_index)
{
	if (cap->parked[pool_index])
		return 0;
	struct parked *parked = calloc(1, sizeof(*parked));
	if (!parked)
		return -ENOMEM;
	init_levels(parked->levels);
	list_init(&parked->called);
	cap->parked[pool_index] = parked;
	return 0;
}

struct cap *caps_hold(struct caps *caps, const char *key, unsigned int limit, uint32_t pool_index)
{
	struct cap *cap = find_cap(caps, key);

	if (!cap)
		cap = cap_new(caps, key);
	if (!cap)
		return NULL;
	if (add_parked(cap, pool_index) < 0) {
		if (cap->holders == 0)
			cap_free(caps, cap);
		return NULL;
	}
	cap->limit = limit;
	cap->holders++;
	park_called(cap); /* there may be less room now, or more */
	call_back(caps, cap);
	return cap;
}

void caps_release(struct caps *caps, struct job *job)
{
	if (job->cap_count > 0)
		list_remove(&job->in_queue);
	end_call(job);
	for (uint32_t i = 0; i < job->cap_count; i++)
		if (--job->caps[i]->holders == 0)
			cap_free(caps, job->caps[i]);
	free(job->caps);
	job->caps = NULL;
	job->cap_count = 0;
}
