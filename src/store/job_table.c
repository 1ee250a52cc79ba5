#include "store/job_table.h"

#include <errno.h>

#include "base/clock.h"

static struct job *job_of_order(struct list *node)
{
	return container_of(node, struct job, in_order);
}

void job_table_configure(struct job_table *table, const struct config *config)
{
	table->keep_jobs = config->keep_jobs;
	table->keep_bytes = config->keep_bytes;
	table->keep_ns = config->keep_ms * NS_PER_MS;
}

void job_table_init(struct job_table *table, const struct config *config)
{
	*table = (struct job_table){0};
	job_table_configure(table, config);
	list_init(&table->in_order);
	list_init(&table->ended_jobs);
	list_init(&table->ended_batches);
}

static void detach_job(struct job_table *table, struct job *job)
{
	table_remove(&table->jobs, &job->by_id);
	list_remove(&job->in_order);
	list_remove(&job->in_queue);
	list_remove(&job->waiting);
	list_remove(&job->ended);
}

static void drop_job(struct job_table *table, struct job *job)
{
	detach_job(table, job);
	job_free(job);
}

static void drop_batch(struct job_table *table, struct batch *batch)
{
	for (size_t i = 0; i < batch->count; i++)
		if (batch->jobs[i])
			detach_job(table, batch->jobs[i]);
	table_remove(&table->batches, &batch->by_id);
	list_remove(&batch->ended);
	batch_free(batch);
}

void job_table_release(struct job_table *table)
{
	/* A batch frees its jobs, so batches go first; walking the jobs finds each of them. */
	list_for_each_safe (node, &table->ended_batches)
		drop_batch(table, container_of(node, struct batch, ended));
	while (!list_empty(&table->in_order)) {
		struct job *job = job_of_order(table->in_order.next);
		if (job->batch)
			drop_batch(table, job->batch);
		else
			drop_job(table, job);
	}
	table_release(&table->jobs);
	table_release(&table->batches);
}

int job_table_add_job(struct job_table *table, struct job *job)
{
	int result = table_insert(&table->jobs, &job->by_id);

	if (result < 0)
		return result;
	struct list *before = table->in_order.previous;
	while (before != &table->in_order &&
	       id_compare(&job_of_order(before)->by_id.id, &job->by_id.id) > 0)
		before = before->previous; /* it was kept first, and others were not */
	list_insert_after(before, &job->in_order);
	return 0;
}

int job_table_add_batch(struct job_table *table, struct batch *batch)
{
	size_t added = 0;
	int result = table_insert(&table->batches, &batch->by_id);

	if (result < 0)
		return result;
	while (result == 0 && added < batch->count) {
		result = job_table_add_job(table, batch->jobs[added]);
		added += result == 0;
	}
	if (result == 0)
		return 0;
	while (added > 0)
		detach_job(table, batch->jobs[--added]);
	table_remove(&table->batches, &batch->by_id);
	return result;
}

struct job *job_table_find_job(const struct job_table *table, const struct id *id)
{
	struct table_node *node = table_find(&table->jobs, id);

	return node ? container_of(node, struct job, by_id) : NULL;
}

struct batch *job_table_find_batch(const struct job_table *table, const struct id *id)
{
	struct table_node *node = table_find(&table->batches, id);

	return node ? container_of(node, struct batch, by_id) : NULL;
}

void job_table_job_ended(struct job_table *table, struct job *job, bool last_of_batch)
{
	table->kept_jobs++;
	table->kept_bytes += job_memory(job);
	if (!job->batch)
		list_append(&table->ended_jobs, &job->ended);
	else if (last_of_batch)
		list_append(&table->ended_batches, &job->batch->ended);
}

/* --- forgetting ------------------------------------------------------------------------------- */

/* The newest batch stays whatever it holds, until it is too old, and does not count against the
 * others: who waits for its end by asking again and again is to see it. NULL if there is none. */
static const struct batch *pinned_batch(const struct job_table *table, int64_t now_ns)
{
	if (list_empty(&table->ended_batches))
		return NULL;
	const struct batch *newest =
		container_of(table->ended_batches.previous, struct batch, ended);
	return now_ns - newest->finished_ns > table->keep_ns ? NULL : newest;
}

static bool over_limits(const struct job_table *table, const struct batch *pinned,
			int64_t finished_ns, int64_t now_ns)
{
	uint64_t jobs = table->kept_jobs - (pinned ? pinned->count : 0);
	uint64_t bytes = table->kept_bytes - (pinned ? pinned->memory_bytes : 0);

	return jobs > table->keep_jobs || bytes > table->keep_bytes ||
	       now_ns - finished_ns > table->keep_ns;
}

static void say_forgetting(const struct job_table *table, struct job *job)
{
	if (table->forgetting)
		table->forgetting(job);
}

static void forget_job(struct job_table *table, struct job *job)
{
	say_forgetting(table, job);
	table->kept_jobs--;
	table->kept_bytes -= job_memory(job);
	table->forgotten++;
	drop_job(table, job);
}

static void forget_batch(struct job_table *table, struct batch *batch)
{
	table->kept_jobs -= batch->count;
	table->kept_bytes -= batch->memory_bytes;
	table->forgotten += batch->count;
	for (size_t i = 0; i < batch->count; i++)
		if (batch->jobs[i])
			say_forgetting(table, batch->jobs[i]);
	drop_batch(table, batch);
}

/* Somebody waits for it, or the store has not got all of it. */
static bool is_held(const struct batch *batch)
{
	return !list_empty(&batch->waiters) || batch->unsaved > 0;
}

/* Forgets the oldest ended job or batch if it is over the limits; false if there is nothing to
 * forget. */
static bool forget_oldest(struct job_table *table, int64_t now_ns)
{
	const struct batch *pinned = pinned_batch(table, now_ns);
	struct job *job = NULL;
	struct batch *batch = NULL;

	if (!list_empty(&table->ended_jobs))
		job = container_of(table->ended_jobs.next, struct job, ended);
	if (!list_empty(&table->ended_batches))
		batch = container_of(table->ended_batches.next, struct batch, ended);
	if (batch == pinned || (batch && is_held(batch)))
		batch = NULL;
	if (batch && (!job || batch->finished_ns < job->finished_ns)) {
		if (!over_limits(table, pinned, batch->finished_ns, now_ns))
			return false;
		forget_batch(table, batch);
		return true;
	}
	if (!job || !over_limits(table, pinned, job->finished_ns, now_ns) ||
	    !list_empty(&job->waiters) || job->unsaved > 0)
		return false;
	forget_job(table, job);
	return true;
}

void job_table_sweep(struct job_table *table, int64_t now_ns)
{
	while (forget_oldest(table, now_ns))
		;
}

/* --- walking ---------------------------------------------------------------------------------- */

struct job *job_table_next_older(const struct job_table *table, const struct job *job)
{
	struct list *node = job->in_order.previous;

	return node == &table->in_order ? NULL : job_of_order(node);
}

struct job *job_table_older(const struct job_table *table, const struct id *id)
{
	struct job *older = NULL;

	if (!id)
		return list_empty(&table->in_order) ? NULL : job_of_order(table->in_order.previous);
	struct job *job = job_table_find_job(table, id);
	if (job)
		return job_table_next_older(table, job);
	list_for_each (node, &table->in_order) {
		job = job_of_order(node);
		if (id_compare(&job->by_id.id, id) >= 0)
			break;
		older = job;
	}
	return older;
}
