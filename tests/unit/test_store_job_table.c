/*
 * The store: what is found, what is forgotten and when, and walking by age; against a model that
 * keeps a plain list.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "random.h"
#include "store/job_table.h"

static void init(struct job_table *store, uint64_t keep_jobs, uint64_t keep_bytes, int64_t keep_ms)
{
	const struct config config = {
		.keep_jobs = keep_jobs, .keep_bytes = keep_bytes, .keep_ms = keep_ms};

	job_table_init(store, &config);
}

static struct job *new_job(void)
{
	struct job *job = job_new();

	assert_non_null(job);
	job->by_id.id = id_new();
	job->task = "echo";
	job->pool = "process";
	job->submitted_ns = 1;
	return job;
}

static struct job *add_job(struct job_table *store)
{
	struct job *job = new_job();

	assert_int_equal(job_table_add_job(store, job), 0);
	return job;
}

static struct batch *new_batch(size_t count)
{
	struct batch *batch = batch_new(count);

	assert_non_null(batch);
	batch->by_id.id = id_new();
	for (size_t i = 0; i < count; i++) {
		batch->jobs[i] = new_job();
		batch->jobs[i]->batch = batch;
	}
	return batch;
}

static struct batch *add_batch(struct job_table *store, size_t count)
{
	struct batch *batch = new_batch(count);

	assert_int_equal(job_table_add_batch(store, batch), 0);
	return batch;
}

/* Ends a job with a result of so many bytes. */
static void end_job(struct job_table *store, struct job *job, int64_t at_ns, size_t result_length)
{
	job->state = JOB_SUCCEEDED;
	job->finished_ns = at_ns;
	job->result = malloc(result_length ? result_length : 1);
	assert_non_null(job->result);
	job->result_length = result_length;
	job_table_job_ended(store, job, job->batch && batch_job_ended(job->batch, job));
}

static bool holds(const struct job_table *store, const struct id *id)
{
	return job_table_find_job(store, id) != NULL;
}

static void test_find(void **state)
{
	struct job_table store;
	struct id nobody = id_new();

	(void)state;
	init(&store, 10, 1 << 20, 1000);
	assert_null(job_table_find_job(&store, &nobody));
	assert_null(job_table_find_batch(&store, &nobody));
	assert_null(job_table_older(&store, NULL));
	assert_null(job_table_older(&store, &nobody));
	struct job *job = add_job(&store);
	struct batch *batch = add_batch(&store, 3);
	assert_ptr_equal(job_table_find_job(&store, &job->by_id.id), job);
	assert_ptr_equal(job_table_find_batch(&store, &batch->by_id.id), batch);
	assert_null(job_table_find_batch(&store, &job->by_id.id));
	assert_null(job_table_find_job(&store, &batch->by_id.id));
	for (size_t i = 0; i < 3; i++)
		assert_ptr_equal(job_table_find_job(&store, &batch->jobs[i]->by_id.id),
				 batch->jobs[i]);
	assert_null(job_table_find_job(&store, &nobody));
	job_table_release(&store);
}

static void test_same_id_twice(void **state)
{
	struct job_table store;

	(void)state;
	init(&store, 10, 1 << 20, 1000);
	struct job *job = add_job(&store), *twin = new_job();
	twin->by_id.id = job->by_id.id;
	assert_int_equal(job_table_add_job(&store, twin), -EEXIST);
	job_free(twin); /* it stayed ours */

	/* a batch is taken whole or not at all */
	struct batch *batch = new_batch(4);
	batch->jobs[2]->by_id.id = job->by_id.id;
	assert_int_equal(job_table_add_batch(&store, batch), -EEXIST);
	assert_null(job_table_find_batch(&store, &batch->by_id.id));
	for (size_t i = 0; i < 4; i++)
		if (i != 2)
			assert_false(holds(&store, &batch->jobs[i]->by_id.id));
	assert_ptr_equal(job_table_find_job(&store, &job->by_id.id), job);
	assert_ptr_equal(job_table_older(&store, NULL), job);
	assert_null(job_table_next_older(&store, job));
	batch_free(batch);

	struct batch *first = add_batch(&store, 1), *second = new_batch(1);
	second->by_id.id = first->by_id.id;
	assert_int_equal(job_table_add_batch(&store, second), -EEXIST);
	assert_false(holds(&store, &second->jobs[0]->by_id.id));
	batch_free(second);
	assert_ptr_equal(job_table_find_batch(&store, &first->by_id.id), first);
	job_table_release(&store);
}

/* --- retention ------------------------------------------------------------------------------- */

static void test_forgets_by_count(void **state)
{
	struct job_table store;
	struct id ids[8];

	(void)state;
	init(&store, 3, 1 << 20, 1000);
	struct job *live = add_job(&store);
	struct id live_id = live->by_id.id;
	for (int i = 0; i < 8; i++) {
		struct job *job = add_job(&store);
		ids[i] = job->by_id.id;
		end_job(&store, job, 10 + i, 0);
	}
	assert_int_equal(store.kept_jobs, 8); /* until it is swept */
	job_table_sweep(&store, 20);
	assert_int_equal(store.kept_jobs, 3);
	assert_int_equal(store.forgotten, 5);
	for (int i = 0; i < 8; i++)
		assert_int_equal(holds(&store, &ids[i]), i >= 5);
	assert_true(holds(&store, &live_id));
	job_table_release(&store);
}

/* By the order of their ends, not of their submission. */
static void test_forgets_the_oldest_end_first(void **state)
{
	struct job_table store;
	struct id ids[4];
	static const int order[] = {2, 0, 3, 1};

	(void)state;
	init(&store, 2, 1 << 20, 1000);
	struct job *jobs[4];
	for (int i = 0; i < 4; i++) {
		jobs[i] = add_job(&store);
		ids[i] = jobs[i]->by_id.id;
	}
	for (int i = 0; i < 4; i++)
		end_job(&store, jobs[order[i]], 10 + i, 0);
	job_table_sweep(&store, 20);
	assert_false(holds(&store, &ids[2]));
	assert_false(holds(&store, &ids[0]));
	assert_true(holds(&store, &ids[3]));
	assert_true(holds(&store, &ids[1]));
	job_table_release(&store);
}

static void test_forgets_by_bytes(void **state)
{
	struct job_table store;
	struct id ids[5];

	(void)state;
	init(&store, 100, 3 * (sizeof(struct job) + 10000), 1000);
	for (int i = 0; i < 5; i++) {
		struct job *job = add_job(&store);
		ids[i] = job->by_id.id;
		end_job(&store, job, 10 + i, 10000);
	}
	job_table_sweep(&store, 20);
	for (int i = 0; i < 5; i++)
		assert_int_equal(holds(&store, &ids[i]), i >= 2);
	assert_int_equal(store.kept_bytes, 3 * (sizeof(struct job) + 10000));
	/* one that is larger than all of it goes too, and takes the others along */
	struct job *job = add_job(&store);
	struct id id = job->by_id.id;
	end_job(&store, job, 30, 1 << 20);
	job_table_sweep(&store, 30);
	assert_false(holds(&store, &id));
	assert_int_equal(store.kept_jobs, 0);
	assert_int_equal(store.kept_bytes, 0);
	job_table_release(&store);
}

static void test_forgets_by_age(void **state)
{
	struct job_table store;
	struct id ids[3];

	(void)state;
	init(&store, 100, 1 << 20, 50);
	struct job *live = add_job(&store);
	for (int i = 0; i < 3; i++) {
		struct job *job = add_job(&store);
		ids[i] = job->by_id.id;
		end_job(&store, job, (100 + 10 * i) * NS_PER_MS, 0);
	}
	job_table_sweep(&store, 150 * NS_PER_MS); /* exactly that old is not too old */
	assert_int_equal(store.kept_jobs, 3);
	job_table_sweep(&store, 150 * NS_PER_MS + 1);
	assert_false(holds(&store, &ids[0]));
	assert_true(holds(&store, &ids[1]));
	job_table_sweep(&store, 100000 * NS_PER_MS);
	assert_int_equal(store.kept_jobs, 0);
	assert_ptr_equal(job_table_older(&store, NULL), live);
	job_table_release(&store);
}

static void test_keeps_nothing_if_told_so(void **state)
{
	struct job_table store;

	(void)state;
	init(&store, 0, 1 << 20, 1000);
	struct job *job = add_job(&store);
	struct batch *batch = add_batch(&store, 2);
	end_job(&store, job, 10, 0);
	end_job(&store, batch->jobs[0], 11, 0);
	end_job(&store, batch->jobs[1], 12, 0);
	job_table_sweep(&store, 12);
	/* But for the newest batch, which somebody may just be asking for. */
	assert_int_equal(store.forgotten, 1);
	assert_int_equal(store.kept_jobs, 2);
	struct batch *newer = add_batch(&store, 1);
	job_table_sweep(&store, 12);
	assert_int_equal(store.forgotten, 1);
	end_job(&store, newer->jobs[0], 13, 0);
	job_table_sweep(&store, 13);
	assert_int_equal(store.forgotten, 3);
	assert_ptr_equal(job_table_older(&store, NULL), newer->jobs[0]);
	job_table_sweep(&store, 1000 * NS_PER_MS + 13);
	assert_int_equal(store.forgotten, 3);
	job_table_sweep(&store, 1000 * NS_PER_MS + 14);
	assert_null(job_table_older(&store, NULL));
	assert_int_equal(store.forgotten, 4);
	assert_int_equal(store.kept_bytes, 0);
	job_table_release(&store);
}

static void test_batches_are_forgotten_whole(void **state)
{
	struct job_table store;
	struct id ids[3], batch_id;

	(void)state;
	init(&store, 2, 1 << 20, 50);
	struct batch *batch = add_batch(&store, 3);
	batch_id = batch->by_id.id;
	for (int i = 0; i < 3; i++)
		ids[i] = batch->jobs[i]->by_id.id;
	end_job(&store, batch->jobs[1], 10 * NS_PER_MS, 0);
	end_job(&store, batch->jobs[0], 20 * NS_PER_MS, 0);
	job_table_sweep(&store, 5000 * NS_PER_MS); /* it runs, so its jobs are there, however old */
	for (int i = 0; i < 3; i++)
		assert_true(holds(&store, &ids[i]));
	end_job(&store, batch->jobs[2], 5000 * NS_PER_MS, 0);
	job_table_sweep(&store,
			5001 * NS_PER_MS); /* three are more than two, but it is the newest */
	for (int i = 0; i < 3; i++)
		assert_true(holds(&store, &ids[i]));
	/* nor does it drive others out */
	struct job *jobs[2];
	for (int i = 0; i < 2; i++) {
		jobs[i] = add_job(&store);
		end_job(&store, jobs[i], 5002 * NS_PER_MS, 0);
	}
	job_table_sweep(&store, 5003 * NS_PER_MS);
	assert_int_equal(store.kept_jobs, 5);
	struct batch *newer = add_batch(&store, 1);
	end_job(&store, newer->jobs[0], 5004 * NS_PER_MS, 0);
	job_table_sweep(&store, 5004 * NS_PER_MS);
	for (int i = 0; i < 3; i++)
		assert_false(holds(&store, &ids[i]));
	assert_null(job_table_find_batch(&store, &batch_id));
	assert_int_equal(store.kept_jobs, 3);
	assert_int_equal(store.forgotten, 3);
	job_table_sweep(&store, 6000 * NS_PER_MS);
	assert_int_equal(store.kept_jobs, 0);
	assert_int_equal(store.kept_bytes, 0);
	job_table_release(&store);
}

/* What another configuration keeps holds from the next sweep on. */
static void test_configure(void **state)
{
	const struct config less = {.keep_jobs = 2, .keep_bytes = 1 << 20, .keep_ms = 1000};
	const struct config brief = {.keep_jobs = 2, .keep_bytes = 1 << 20, .keep_ms = 1};
	struct job_table store;

	(void)state;
	init(&store, 10, 1 << 20, 1000);
	for (int i = 0; i < 10; i++)
		end_job(&store, add_job(&store), 10 + i, 0);
	job_table_sweep(&store, 20);
	assert_int_equal(store.kept_jobs, 10);
	job_table_configure(&store, &less);
	assert_int_equal(store.kept_jobs, 10);
	job_table_sweep(&store, 20);
	assert_int_equal(store.kept_jobs, 2);
	job_table_configure(&store, &brief);
	job_table_sweep(&store, 2 * NS_PER_MS);
	assert_int_equal(store.kept_jobs, 0);
	assert_int_equal(store.forgotten, 10);
	job_table_release(&store);
}

static void test_waited_for_stay(void **state)
{
	struct list waiter, batch_waiter;
	struct job_table store;

	(void)state;
	init(&store, 0, 0, 0);
	struct job *job = add_job(&store);
	struct batch *batch = add_batch(&store, 1);
	struct id id = job->by_id.id, batch_id = batch->by_id.id;
	list_append(&job->waiters, &waiter);
	list_append(&batch->waiters, &batch_waiter);
	end_job(&store, job, 10, 0);
	end_job(&store, batch->jobs[0], 11, 0);
	job_table_sweep(&store, 1000);
	assert_true(holds(&store, &id));
	assert_non_null(job_table_find_batch(&store, &batch_id));
	list_remove(&waiter);
	job_table_sweep(&store, 1000);
	assert_false(holds(&store, &id));
	assert_non_null(job_table_find_batch(&store, &batch_id));
	list_remove(&batch_waiter);
	job_table_sweep(&store, 1000);
	assert_null(job_table_find_batch(&store, &batch_id));
	job_table_release(&store);
}

/* --- walking --------------------------------------------------------------------------------- */

static void test_cursor_that_was_forgotten(void **state)
{
	struct job_table store;
	struct id ids[10], before = id_new();

	(void)state;
	init(&store, 0, 0, 0);
	for (int i = 0; i < 10; i++) {
		struct job *job = add_job(&store);
		ids[i] = job->by_id.id;
		if (i == 0 || i == 4 || i == 5 || i == 9)
			end_job(&store, job, 10 + i, 0);
	}
	job_table_sweep(&store, 100); /* 1 2 3 6 7 8 are left */
	assert_ptr_equal(job_table_older(&store, NULL), job_table_find_job(&store, &ids[8]));
	assert_ptr_equal(job_table_older(&store, &ids[9]), job_table_find_job(&store, &ids[8]));
	assert_ptr_equal(job_table_older(&store, &ids[6]), job_table_find_job(&store, &ids[3]));
	assert_ptr_equal(job_table_older(&store, &ids[5]), job_table_find_job(&store, &ids[3]));
	assert_ptr_equal(job_table_older(&store, &ids[4]), job_table_find_job(&store, &ids[3]));
	assert_ptr_equal(job_table_older(&store, &ids[2]), job_table_find_job(&store, &ids[1]));
	assert_null(job_table_older(&store, &ids[1]));
	assert_null(job_table_older(&store, &ids[0]));
	assert_null(job_table_older(&store, &before));
	struct id after = id_new();
	assert_ptr_equal(job_table_older(&store, &after), job_table_find_job(&store, &ids[8]));
	job_table_release(&store);
}

/* --- against the model ----------------------------------------------------------------------- */

#define MODEL_JOBS    4000
#define MODEL_BATCHES 1000
#define NO_BATCH      SIZE_MAX

struct model_job {
	struct id id;
	struct job *job; /* looked at only while it is present */
	bool present;
	bool ended;
	int64_t finished_ns;
	size_t batch;
	size_t memory;
};

struct model_batch {
	struct id id;
	bool present;
	size_t first;
	size_t count;
	size_t ended;
	int64_t finished_ns;
};

struct model {
	struct job_table store;
	uint64_t keep_jobs, keep_bytes;
	int64_t keep_ns, now_ns;
	struct model_job jobs[MODEL_JOBS];
	struct model_batch batches[MODEL_BATCHES];
	size_t job_count, batch_count;
	uint64_t forgotten;
};

static void model_add(struct model *model, struct job *job, size_t batch)
{
	model->jobs[model->job_count++] = (struct model_job){
		.id = job->by_id.id, .job = job, .present = true, .batch = batch};
}

static void model_add_batch(struct model *model, size_t count)
{
	struct batch *batch = add_batch(&model->store, count);

	model->batches[model->batch_count] = (struct model_batch){
		.id = batch->by_id.id, .present = true, .first = model->job_count, .count = count};
	for (size_t i = 0; i < count; i++)
		model_add(model, batch->jobs[i], model->batch_count);
	model->batch_count++;
}

static void model_end_one(struct model *model)
{
	if (model->job_count == 0)
		return;
	struct model_job *entry = &model->jobs[random_below(model->job_count)];
	if (!entry->present || entry->ended)
		return;
	entry->ended = true;
	entry->finished_ns = model->now_ns++;
	end_job(&model->store, entry->job, entry->finished_ns, random_below(2000));
	entry->memory = job_memory(entry->job);
	if (entry->batch != NO_BATCH) {
		struct model_batch *batch = &model->batches[entry->batch];
		if (++batch->ended == batch->count)
			batch->finished_ns = entry->finished_ns;
	}
}

static void model_kept(const struct model *model, uint64_t *ret_jobs, uint64_t *ret_bytes)
{
	*ret_jobs = 0;
	*ret_bytes = 0;
	for (size_t i = 0; i < model->job_count; i++) {
		if (model->jobs[i].present && model->jobs[i].ended) {
			(*ret_jobs)++;
			*ret_bytes += model->jobs[i].memory;
		}
	}
}

/* The batch that ended last, if it is young enough; SIZE_MAX if there is none. It stays, and does
 * not count. */
static size_t model_pinned(const struct model *model)
{
	size_t pinned = SIZE_MAX;

	for (size_t i = 0; i < model->batch_count; i++) {
		const struct model_batch *batch = &model->batches[i];
		if (batch->present && batch->ended == batch->count &&
		    (pinned == SIZE_MAX || batch->finished_ns > model->batches[pinned].finished_ns))
			pinned = i;
	}
	if (pinned != SIZE_MAX &&
	    model->now_ns - model->batches[pinned].finished_ns > model->keep_ns)
		return SIZE_MAX;
	return pinned;
}

/* What counts against the limits. */
static void model_counted(const struct model *model, size_t pinned, uint64_t *ret_jobs,
			  uint64_t *ret_bytes)
{
	model_kept(model, ret_jobs, ret_bytes);
	if (pinned == SIZE_MAX)
		return;
	*ret_jobs -= model->batches[pinned].count;
	for (size_t i = 0; i < model->batches[pinned].count; i++)
		*ret_bytes -= model->jobs[model->batches[pinned].first + i].memory;
}

/* Finds what has ended first and may be forgotten; SIZE_MAX if there is none. */
static void model_oldest(const struct model *model, size_t pinned, size_t *ret_job,
			 size_t *ret_batch)
{
	int64_t oldest_ns = INT64_MAX;

	*ret_job = *ret_batch = SIZE_MAX;
	for (size_t i = 0; i < model->job_count; i++) {
		const struct model_job *job = &model->jobs[i];
		if (job->present && job->ended && job->batch == NO_BATCH &&
		    job->finished_ns < oldest_ns) {
			oldest_ns = job->finished_ns;
			*ret_job = i;
		}
	}
	for (size_t i = 0; i < model->batch_count; i++) {
		const struct model_batch *batch = &model->batches[i];
		if (i != pinned && batch->present && batch->ended == batch->count &&
		    batch->finished_ns < oldest_ns) {
			oldest_ns = batch->finished_ns;
			*ret_job = SIZE_MAX;
			*ret_batch = i;
		}
	}
}

static void model_forget(struct model *model, size_t job, size_t batch)
{
	size_t first = job, count = 1;

	if (batch != SIZE_MAX) {
		first = model->batches[batch].first;
		count = model->batches[batch].count;
		model->batches[batch].present = false;
	}
	for (size_t i = first; i < first + count; i++)
		model->jobs[i].present = false;
	model->forgotten += count;
}

static void model_sweep(struct model *model)
{
	uint64_t jobs, bytes;
	size_t job, batch;

	job_table_sweep(&model->store, model->now_ns);
	for (;;) {
		size_t pinned = model_pinned(model);
		model_counted(model, pinned, &jobs, &bytes);
		model_oldest(model, pinned, &job, &batch);
		if (job == SIZE_MAX && batch == SIZE_MAX)
			return;
		int64_t finished_ns = batch != SIZE_MAX ? model->batches[batch].finished_ns
							: model->jobs[job].finished_ns;
		if (jobs <= model->keep_jobs && bytes <= model->keep_bytes &&
		    model->now_ns - finished_ns <= model->keep_ns)
			return;
		model_forget(model, job, batch);
	}
}

static void model_check(const struct model *model)
{
	const struct job_table *store = &model->store;
	struct job *walk = job_table_older(store, NULL);
	uint64_t jobs, bytes;

	model_kept(model, &jobs, &bytes);
	assert_int_equal(store->kept_jobs, jobs);
	assert_int_equal(store->kept_bytes, bytes);
	assert_int_equal(store->forgotten, model->forgotten);
	for (size_t i = model->job_count; i-- > 0;) {
		const struct model_job *entry = &model->jobs[i];
		struct job *found = job_table_find_job(store, &entry->id);
		/* a cursor, whether it is still there or not, goes on behind its place */
		struct job *older = job_table_older(store, &entry->id);
		if (entry->present) {
			assert_ptr_equal(found, entry->job);
			assert_ptr_equal(walk, found);
			walk = job_table_next_older(store, walk);
		} else {
			assert_null(found);
		}
		assert_ptr_equal(older, walk);
	}
	assert_null(walk);
	for (size_t i = 0; i < model->batch_count; i++)
		assert_int_equal(job_table_find_batch(store, &model->batches[i].id) != NULL,
				 model->batches[i].present);
}

static void run_model(struct model *model, size_t operations)
{
	*model = (struct model){.keep_jobs = random_below(40),
				.keep_bytes = random_below(40000),
				.keep_ns = (int64_t)random_below(400) * NS_PER_MS,
				.now_ns = NS_PER_S};
	if (random_below(2))
		model->keep_bytes = UINT64_MAX;
	if (random_below(2))
		model->keep_ns = NS_PER_S * 1000000;
	init(&model->store, model->keep_jobs, model->keep_bytes, model->keep_ns / NS_PER_MS);
	for (size_t i = 0; i < operations; i++) {
		size_t choice = random_below(16);
		if (choice < 4)
			model_add(model, add_job(&model->store), NO_BATCH);
		else if (choice < 5)
			model_add_batch(model, 1 + random_below(6));
		else if (choice < 13)
			model_end_one(model);
		else if (choice < 14)
			model->now_ns += (int64_t)random_below(100) * NS_PER_MS;
		else
			model_sweep(model);
		if (random_below(20) == 0)
			model_check(model);
	}
	model_sweep(model);
	model_check(model);
	job_table_release(&model->store);
}

static void test_model(void **state)
{
	struct model *model = malloc(sizeof(*model));

	(void)state;
	assert_non_null(model);
	for (int round = 0; round < 400; round++)
		run_model(model, 20 + random_below(300));
	free(model);
}

/* Whatever is in it goes with it; a leak checker looks on. */
static void test_release(void **state)
{
	struct job_table store;

	(void)state;
	init(&store, 1000, 1 << 30, 1000);
	job_table_release(&store);
	init(&store, 1000, 1 << 30, 1000);
	for (int i = 0; i < 50; i++) {
		struct job *job = add_job(&store);
		struct batch *batch = add_batch(&store, 3);
		for (int j = 0; j < i % 4; j++)
			end_job(&store, batch->jobs[j], 10 + i, 5);
		if (i % 2)
			end_job(&store, job, 10 + i, 5);
	}
	job_table_release(&store);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_same_id_twice),
		cmocka_unit_test(test_forgets_by_count),
		cmocka_unit_test(test_forgets_the_oldest_end_first),
		cmocka_unit_test(test_forgets_by_bytes),
		cmocka_unit_test(test_forgets_by_age),
		cmocka_unit_test(test_keeps_nothing_if_told_so),
		cmocka_unit_test(test_batches_are_forgotten_whole),
		cmocka_unit_test(test_configure),
		cmocka_unit_test(test_waited_for_stay),
		cmocka_unit_test(test_cursor_that_was_forgotten),
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_release),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
