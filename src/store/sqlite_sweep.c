/*
 * Deleting what the retention no longer covers: see sqlite.h. Writer's thread, inside a
 * transaction.
 *
 * The jobs of a batch are kept and go as one thing, whose end and state are those of the last of
 * them. It may have more jobs than one sweep may delete: then it is doomed, as good as gone for
 * those who ask for it, and its jobs go over several sweeps.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/sqlite.h"

/* Of a state, looked at in one go. */
#define OLDEST_MAX  512
#define BATCHES_MAX 16

/* What might go. */
struct candidate {
	struct id id;
	int64_t seq;
	int64_t ended_us;
	enum job_state state;
	bool has_labels;
	bool has_callback;
};

/* What may go of one state. */
struct bound {
	int64_t before_us; /* what ended before; 0: nothing on that account */
	int64_t excess;	   /* the oldest of them */
};

static int delete_by(struct backend *backend, enum sqlite_statement which, const struct id *id)
{
	sqlite3_stmt *statement = sqlite_prepare(&backend->writer, which);

	if (statement == NULL)
		return -EIO;
	sqlite_bind_id(statement, 1, id);
	return sqlite_run(&backend->writer, statement);
}

static int delete_job(struct backend *backend, const struct candidate *job)
{
	sqlite3_stmt *texts = sqlite_prepare(&backend->writer, SQL_DELETE_TEXTS);
	int result = texts != NULL ? 0 : -EIO;

	/* Before the row, which says what its labels are. */
	if (result == 0 && job->has_labels)
		result = delete_by(backend, SQL_DELETE_LABELS, &job->id);
	if (result == 0 && job->has_callback)
		result = delete_by(backend, SQL_DELETE_CALLBACK, &job->id);
	if (result == 0)
		result = delete_by(backend, SQL_DELETE_JOB, &job->id);
	if (result < 0)
		return result;
	(void)sqlite3_bind_int64(texts, 1, job->seq);
	result = sqlite_run(&backend->writer, texts);
	if (result == 0)
		backend->working.ended[job->state - JOB_SUCCEEDED]--;
	return result;
}

/* Reads up to count rows of the statement, whose columns are id, seq, a number, labels, callback. */
static int read_jobs(struct backend *backend, sqlite3_stmt *statement, struct candidate *jobs,
		     size_t *ret_count)
{
	size_t count = 0;
	int result;

	while ((result = sqlite_next(&backend->writer, statement)) == 1) {
		struct candidate *job = &jobs[count];

		if (!sqlite_column_id(statement, 0, &job->id)) {
			(void)sqlite3_reset(statement);
			return sqlite_fail(&backend->writer, SQLITE_CORRUPT);
		}
		job->seq = sqlite3_column_int64(statement, 1);
		job->ended_us = sqlite3_column_int64(statement, 2);
		job->has_labels = sqlite3_column_int(statement, 3) != 0;
		job->has_callback = sqlite3_column_int(statement, 4) != 0;
		count++;
	}
	*ret_count = count;
	return result;
}

/* ---- Doomed batches ---- */

/* Up to limit jobs of the batch, then the batch itself. */
static int delete_of_batch(struct backend *backend, const struct id *batch, uint32_t limit,
			   uint64_t *count)
{
	sqlite3_stmt *statement = sqlite_prepare(&backend->writer, SQL_OF_BATCH);
	struct candidate *jobs = calloc(OLDEST_MAX, sizeof(*jobs));
	size_t found = 0;
	int result = statement == NULL ? -EIO : jobs == NULL ? -ENOMEM : 0;

	if (result == 0) {
		uint64_t left = limit - *count;

		sqlite_bind_id(statement, 1, batch);
		(void)sqlite3_bind_int64(statement, 2,
					 left < OLDEST_MAX ? (int64_t)left : OLDEST_MAX);
		result = read_jobs(backend, statement, jobs, &found);
	}
	for (size_t i = 0; result == 0 && i < found; i++) {
		jobs[i].state = (enum job_state)jobs[i].ended_us; /* its third column */
		result = delete_job(backend, &jobs[i]);
		*count += 1;
	}
	free(jobs);
	if (result == 0 && found == 0)
		result = delete_by(backend, SQL_DELETE_BATCH, batch);
	return result;
}

static int sweep_doomed(struct backend *backend, uint32_t limit, uint64_t *count)
{
	sqlite3_stmt *statement = sqlite_prepare(&backend->writer, SQL_DOOMED_BATCH);
	int result = statement != NULL ? 0 : -EIO;

	while (result == 0 && *count < limit) {
		struct id batch;

		result = sqlite_next(&backend->writer, statement);
		if (result != 1)
			return result;
		if (!sqlite_column_id(statement, 0, &batch))
			memset(&batch, 0, sizeof(batch));
		(void)sqlite3_reset(statement);
		result = delete_of_batch(backend, &batch, limit, count);
	}
	return result;
}

/* ---- One state ---- */

static struct bound bound_of(const struct backend *backend, enum job_state state)
{
	const struct config_retention *retention = backend_retention(backend->config, state);
	int64_t ended = backend->working.ended[state - JOB_SUCCEEDED];
	struct bound bound = {0};

	if (retention->age_ms > 0)
		bound.before_us = backend->now_us - retention->age_ms * 1000;
	if (retention->jobs > 0 && ended > (int64_t)retention->jobs)
		bound.excess = ended - (int64_t)retention->jobs;
	return bound;
}

static bool may_go(const struct backend *backend, enum job_state state, int64_t ended_us)
{
	struct bound bound = bound_of(backend, state);

	return ended_us < bound.before_us || bound.excess > 0;
}

static int read_oldest(struct backend *backend, enum sqlite_statement which, enum job_state state,
		       size_t limit, struct candidate *jobs, size_t *ret_count)
{
	sqlite3_stmt *statement = sqlite_prepare(&backend->writer, which);

	if (statement == NULL)
		return -EIO;
	(void)sqlite3_bind_int(statement, 1, (int)state);
	(void)sqlite3_bind_int64(statement, 2, (int64_t)limit);
	return read_jobs(backend, statement, jobs, ret_count);
}

/* Dooms the batches that may go, the oldest first, as far as they are older than that. */
static int doom_batches(struct backend *backend, enum job_state state, int64_t older_than_us,
			uint32_t limit, uint64_t *count)
{
	struct candidate batches[BATCHES_MAX];
	size_t found = 0;
	int result = read_oldest(backend, SQL_OLDEST_BATCHES, state, BATCHES_MAX, batches, &found);

	for (size_t i = 0; result == 0 && i < found && *count < limit; i++) {
		if (batches[i].ended_us >= older_than_us ||
		    !may_go(backend, state, batches[i].ended_us))
			break;
		result = delete_by(backend, SQL_DOOM_BATCH, &batches[i].id);
		if (result == 0)
			result = sweep_doomed(backend, limit, count);
	}
	return result;
}

static int sweep_state(struct backend *backend, enum job_state state, uint32_t limit,
		       uint64_t *count)
{
	struct candidate *jobs = calloc(OLDEST_MAX, sizeof(*jobs));
	size_t found = OLDEST_MAX;
	int result = jobs != NULL ? 0 : -ENOMEM;

	while (result == 0 && found == OLDEST_MAX && *count < limit) {
		result = read_oldest(backend, SQL_OLDEST, state, OLDEST_MAX, jobs, &found);
		for (size_t i = 0; result == 0 && i < found && *count < limit; i++) {
			result = doom_batches(backend, state, jobs[i].ended_us, limit, count);
			if (result < 0 || *count >= limit)
				break;
			if (!may_go(backend, state, jobs[i].ended_us)) {
				found = i; /* nor may those behind it */
				break;
			}
			jobs[i].state = state;
			result = delete_job(backend, &jobs[i]);
			*count += 1;
		}
	}
	free(jobs);
	if (result == 0 && *count < limit)
		result = doom_batches(backend, state, INT64_MAX, limit, count);
	return result;
}

static int sweep_keys(struct backend *backend, uint32_t limit, uint64_t *count)
{
	sqlite3_stmt *statement = sqlite_prepare(&backend->writer, SQL_DELETE_KEYS);
	int result;

	if (statement == NULL)
		return -EIO;
	(void)sqlite3_bind_int64(statement, 1, backend->now_us);
	(void)sqlite3_bind_int64(statement, 2, (int64_t)(limit - *count));
	result = sqlite_run(&backend->writer, statement);
	if (result == 0)
		*count += (uint64_t)sqlite3_changes(backend->writer.db);
	return result;
}

int sqlite_sweep(struct backend *backend, struct store_request *request)
{
	uint64_t count = 0;
	int result = sweep_doomed(backend, request->limit, &count);

	for (int state = JOB_SUCCEEDED; result == 0 && state < JOB_STATES && count < request->limit;
	     state++)
		result = sweep_state(backend, (enum job_state)state, request->limit, &count);
	if (result == 0 && count < request->limit)
		result = sweep_keys(backend, request->limit, &count);
	request->count = count;
	return result;
}
