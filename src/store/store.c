#include "store/store.h"

#include <errno.h>

#include "base/clock.h"

static struct job *job_of_order(struct list *node)
{
	return container_of(node, struct job, in_order);
}

void store_configure(struct store *store, const struct config *config)
{
	store->keep_jobs = config->keep_jobs;
	store->keep_bytes = config->keep_bytes;
	store->keep_ns = config->keep_ms * NS_PER_MS;
}

void store_init(struct store *store, const struct config *config)
{
	*store = (struct store){0};
	store_configure(store, config);
	list_init(&store->in_order);
	list_init(&store->ended_jobs);
	list_init(&store->ended_batches);
}

static void detach_job(struct store *store, struct job *job)
{
	table_remove(&store->jobs, &job->by_id);
	list_remove(&job->in_order);
	list_remove(&job->in_queue);
	list_remove(&job->waiting);
	list_remove(&job->ended);
}

static void drop_job(struct store *store, struct job *job)
{
	detach_job(store, job);
	job_free(job);
}

static void drop_batch(struct store *store, struct batch *batch)
{
	for (size_t i = 0; i < batch->count; i++)
		if (batch->jobs[i])
			detach_job(store, batch->jobs[i]);
	table_remove(&store->batches, &batch->by_id);
	list_remove(&batch->ended);
	batch_free(batch);
}

void store_release(struct store *store)
{
	/* A batch frees its jobs, so batches go first; walking the jobs finds each of them. */
	list_for_each_safe (node, &store->ended_batches)
		drop_batch(store, container_of(node, struct batch, ended));
	while (!list_empty(&store->in_order)) {
		struct job *job = job_of_order(store->in_order.next);
		if (job->batch)
			drop_batch(store, job->batch);
		else
			drop_job(store, job);
	}
	table_release(&store->jobs);
	table_release(&store->batches);
}

int store_add_job(struct store *store, struct job *job)
{
	int result = table_insert(&store->jobs, &job->by_id);

	if (result < 0)
		return result;
	list_append(&store->in_order, &job->in_order);
	return 0;
}

int store_add_batch(struct store *store, struct batch *batch)
{
	size_t added = 0;
	int result = table_insert(&store->batches, &batch->by_id);

	if (result < 0)
		return result;
	while (result == 0 && added < batch->count) {
		result = store_add_job(store, batch->jobs[added]);
		added += result == 0;
	}
	if (result == 0)
		return 0;
	while (added > 0)
		detach_job(store, batch->jobs[--added]);
	table_remove(&store->batches, &batch->by_id);
	return result;
}

struct job *store_find_job(const struct store *store, const struct id *id)
{
	struct table_node *node = table_find(&store->jobs, id);

	return node ? container_of(node, struct job, by_id) : NULL;
}

struct batch *store_find_batch(const struct store *store, const struct id *id)
{
	struct table_node *node = table_find(&store->batches, id);

	return node ? container_of(node, struct batch, by_id) : NULL;
}

void store_job_ended(struct store *store, struct job *job, bool last_of_batch)
{
	store->kept_jobs++;
	store->kept_bytes += job_memory(job);
	if (!job->batch)
		list_append(&store->ended_jobs, &job->ended);
	else if (last_of_batch)
		list_append(&store->ended_batches, &job->batch->ended);
}

/* --- forgetting ------------------------------------------------------------------------------- */

/* The newest batch stays whatever it holds, until it is too old, and does not count against the
 * others: who waits for its end by asking again and again is to see it. NULL if there is none. */
static const struct batch *pinned_batch(const struct store *store, int64_t now_ns)
{
	if (list_empty(&store->ended_batches))
		return NULL;
	const struct batch *newest =
		container_of(store->ended_batches.previous, struct batch, ended);
	return now_ns - newest->finished_ns > store->keep_ns ? NULL : newest;
}

static bool over_limits(const struct store *store, const struct batch *pinned, int64_t finished_ns,
			int64_t now_ns)
{
	uint64_t jobs = store->kept_jobs - (pinned ? pinned->count : 0);
	uint64_t bytes = store->kept_bytes - (pinned ? pinned->memory_bytes : 0);

	return jobs > store->keep_jobs || bytes > store->keep_bytes ||
	       now_ns - finished_ns > store->keep_ns;
}

static void say_forgetting(const struct store *store, struct job *job)
{
	if (store->forgetting)
		store->forgetting(job);
}

static void forget_job(struct store *store, struct job *job)
{
	say_forgetting(store, job);
	store->kept_jobs--;
	store->kept_bytes -= job_memory(job);
	store->forgotten++;
	drop_job(store, job);
}

static void forget_batch(struct store *store, struct batch *batch)
{
	store->kept_jobs -= batch->count;
	store->kept_bytes -= batch->memory_bytes;
	store->forgotten += batch->count;
	for (size_t i = 0; i < batch->count; i++)
		if (batch->jobs[i])
			say_forgetting(store, batch->jobs[i]);
	drop_batch(store, batch);
}

/* Forgets the oldest ended job or batch if it is over the limits; false if there is nothing to
 * forget. */
static bool forget_oldest(struct store *store, int64_t now_ns)
{
	const struct batch *pinned = pinned_batch(store, now_ns);
	struct job *job = NULL;
	struct batch *batch = NULL;

	if (!list_empty(&store->ended_jobs))
		job = container_of(store->ended_jobs.next, struct job, ended);
	if (!list_empty(&store->ended_batches))
		batch = container_of(store->ended_batches.next, struct batch, ended);
	if (batch == pinned || (batch && !list_empty(&batch->waiters)))
		batch = NULL;
	if (batch && (!job || batch->finished_ns < job->finished_ns)) {
		if (!over_limits(store, pinned, batch->finished_ns, now_ns))
			return false;
		forget_batch(store, batch);
		return true;
	}
	if (!job || !over_limits(store, pinned, job->finished_ns, now_ns) ||
	    !list_empty(&job->waiters))
		return false;
	forget_job(store, job);
	return true;
}

void store_sweep(struct store *store, int64_t now_ns)
{
	while (forget_oldest(store, now_ns))
		;
}

/* --- walking ---------------------------------------------------------------------------------- */

struct job *store_next_older(const struct store *store, const struct job *job)
{
	struct list *node = job->in_order.previous;

	return node == &store->in_order ? NULL : job_of_order(node);
}

struct job *store_older(const struct store *store, const struct id *id)
{
	struct job *older = NULL;

	if (!id)
		return list_empty(&store->in_order) ? NULL : job_of_order(store->in_order.previous);
	struct job *job = store_find_job(store, id);
	if (job)
		return store_next_older(store, job);
	list_for_each (node, &store->in_order) {
		job = job_of_order(node);
		if (id_compare(&job->by_id.id, id) >= 0)
			break;
		older = job;
	}
	return older;
}
