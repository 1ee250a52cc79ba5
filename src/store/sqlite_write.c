/*
 * What changes jobs in the database: see sqlite.h. Writer's thread, inside a transaction.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/sqlite.h"

/* What there is of a job before it is written. */
struct found {
	bool exists;
	int64_t seq;
	enum job_state state;
	uint32_t attempt;
	int held;
	bool has_batch;
	struct id batch;
	bool calls_back; /* it has a callback */
	int64_t ended_us;
};

static bool has_ended(enum job_state state)
{
	return state >= JOB_SUCCEEDED;
}

static int find(struct backend *backend, const struct id *id, struct found *ret_found)
{
	sqlite3_stmt *statement = sqlite_prepare(&backend->writer, SQL_FIND);
	int result;

	*ret_found = (struct found){0};
	if (statement == NULL)
		return -EIO;
	sqlite_bind_id(statement, 1, id);
	result = sqlite_next(&backend->writer, statement);
	if (result != 1)
		return result;
	ret_found->exists = true;
	ret_found->seq = sqlite3_column_int64(statement, 0);
	ret_found->state = (enum job_state)sqlite3_column_int(statement, 1);
	ret_found->attempt = (uint32_t)sqlite3_column_int64(statement, 2);
	ret_found->held = sqlite3_column_int(statement, 3);
	ret_found->has_batch = sqlite_column_id(statement, 4, &ret_found->batch);
	ret_found->calls_back = sqlite3_column_type(statement, 5) != SQLITE_NULL;
	ret_found->ended_us = sqlite3_column_int64(statement, 6);
	(void)sqlite3_reset(statement);
	return 0;
}

/* ---- Batches ---- */

/* In its batch so many more jobs are live, and one may have ended. */
static int note_batch(struct backend *backend, const struct id *batch, int more, int64_t ended_us,
		      enum job_state state)
{
	sqlite3_stmt *statement = sqlite_prepare(&backend->writer, SQL_NOTE_BATCH);

	if (statement == NULL)
		return -EIO;
	sqlite_bind_id(statement, 1, batch);
	(void)sqlite3_bind_int(statement, 2, more);
	(void)sqlite3_bind_int64(statement, 3, ended_us);
	(void)sqlite3_bind_int(statement, 4, ended_us > 0 ? (int)state : 0);
	return sqlite_run(&backend->writer, statement);
}

static int has_batch(struct backend *backend, const struct store_row *row, bool *ret_there)
{
	sqlite3_stmt *statement;
	int result;

	*ret_there = false;
	if (!row->has_batch)
		return 0;
	statement = sqlite_prepare(&backend->writer, SQL_FIND_BATCH);
	if (statement == NULL)
		return -EIO;
	sqlite_bind_id(statement, 1, &row->batch);
	result = sqlite_next(&backend->writer, statement);
	if (result == 1)
		(void)sqlite3_reset(statement);
	*ret_there = result == 1;
	return result < 0 ? result : 0;
}

/* ---- Single rows ---- */

static int insert_texts(struct backend *backend, int64_t seq, const struct store_row *row)
{
	sqlite3_stmt *texts = sqlite_prepare(&backend->writer, SQL_INSERT_TEXTS);
	sqlite3_stmt *labels;
	int result;

	if (texts == NULL)
		return -EIO;
	(void)sqlite3_bind_int64(texts, 1, seq);
	sqlite_bind_text(texts, 2, has_ended(row->state) ? NULL : row->record);
	sqlite_bind_text(texts, 3, has_ended(row->state) ? row->document : NULL);
	result = sqlite_run(&backend->writer, texts);
	if (result < 0 || row->labels == NULL)
		return result;
	labels = sqlite_prepare(&backend->writer, SQL_INSERT_LABELS);
	if (labels == NULL)
		return -EIO;
	sqlite_bind_id(labels, 1, &row->id);
	sqlite_bind_text(labels, 2, row->labels);
	return sqlite_run(&backend->writer, labels);
}

static int insert(struct backend *backend, const struct store_row *row, int held)
{
	sqlite3_stmt *jobs = sqlite_prepare(&backend->writer, SQL_INSERT);
	int64_t seq = backend->next_seq++;
	bool ended = has_ended(row->state);
	int result;

	if (jobs == NULL)
		return -EIO;
	sqlite_bind_id(jobs, 1, &row->id);
	(void)sqlite3_bind_int64(jobs, 2, seq);
	(void)sqlite3_bind_int(jobs, 3, (int)row->state);
	(void)sqlite3_bind_int64(jobs, 4, row->attempt);
	(void)sqlite3_bind_int(jobs, 5, row->priority);
	(void)sqlite3_bind_int64(jobs, 6, row->submitted_us);
	(void)sqlite3_bind_int64(jobs, 7, row->due_us);
	(void)sqlite3_bind_int64(jobs, 8, ended ? 0 : row->expires_us);
	(void)sqlite3_bind_int64(jobs, 9, ended ? row->ended_us : 0);
	(void)sqlite3_bind_int64(jobs, 10, backend->epoch);
	(void)sqlite3_bind_int(jobs, 11, held);
	(void)sqlite3_bind_int64(jobs, 12, row->batch_index);
	if (row->has_batch)
		sqlite_bind_id(jobs, 13, &row->batch);
	else
		(void)sqlite3_bind_null(jobs, 13);
	sqlite_bind_text(jobs, 14, row->task);
	sqlite_bind_text(jobs, 15, row->pool);
	sqlite_bind_text(jobs, 16, row->labels);
	sqlite_bind_text(jobs, 17, row->callback);
	result = sqlite_run(&backend->writer, jobs);
	return result < 0 ? result : insert_texts(backend, seq, row);
}

static void count_ended(struct backend *backend, enum job_state state)
{
	backend->working.ended[state - JOB_SUCCEEDED]++;
}

static int set_text(struct backend *backend, enum sqlite_statement which, int64_t seq,
		    const char *text)
{
	sqlite3_stmt *statement = sqlite_prepare(&backend->writer, which);

	if (statement == NULL)
		return -EIO;
	(void)sqlite3_bind_int64(statement, 1, seq);
	sqlite_bind_text(statement, 2, text);
	return sqlite_run(&backend->writer, statement);
}

/* One that was not there, live or ended. */
static int put_new(struct backend *backend, const struct store_row *row)
{
	bool ended = has_ended(row->state);
	bool calls_back = ended && row->callback != NULL;
	bool in_batch = false;
	int result = has_batch(backend, row, &in_batch);

	if (result == 0)
		result =
			insert(backend, row,
			       (in_batch ? HELD_IN_BATCH : 0) | (calls_back ? HELD_CALLS_BACK : 0));
	if (result == 0 && in_batch)
		result = note_batch(backend, &row->batch, ended ? 0 : 1, ended ? row->ended_us : 0,
				    row->state);
	if (result == 0 && calls_back)
		result = sqlite_put_callback(backend, &row->id, row->ended_us);
	if (result == 0 && ended)
		count_ended(backend, row->state);
	return result;
}

/* A live one ends. */
static int end_live(struct backend *backend, const struct store_row *row, const struct found *found)
{
	sqlite3_stmt *statement = sqlite_prepare(&backend->writer, SQL_END_LIVE);
	bool calls_back = found->calls_back || row->callback != NULL;
	int held = found->held | (calls_back ? HELD_CALLS_BACK : 0);
	int result;

	if (statement == NULL)
		return -EIO;
	sqlite_bind_id(statement, 1, &row->id);
	(void)sqlite3_bind_int(statement, 2, (int)row->state);
	(void)sqlite3_bind_int64(statement, 3, row->attempt);
	(void)sqlite3_bind_int64(statement, 4, row->due_us);
	(void)sqlite3_bind_int64(statement, 5, row->ended_us);
	(void)sqlite3_bind_int(statement, 6, held);
	sqlite_bind_text(statement, 7, row->callback);
	result = sqlite_run(&backend->writer, statement);
	if (result == 0)
		result = set_text(backend, SQL_SET_DOCUMENT, found->seq, row->document);
	if (result == 0 && (held & HELD_IN_BATCH) != 0)
		result = note_batch(backend, &found->batch, -1, row->ended_us, row->state);
	if (result == 0 && calls_back)
		result = sqlite_put_callback(backend, &row->id, row->ended_us);
	if (result == 0)
		count_ended(backend, row->state);
	return result;
}

/* A live one is put again. */
static int put_again(struct backend *backend, const struct store_row *row,
		     const struct found *found)
{
	sqlite3_stmt *statement = sqlite_prepare(&backend->writer, SQL_REPUT);
	bool joins = false; /* its batch has come with it */
	int result;

	if (has_ended(row->state))
		return end_live(backend, row, found);
	result = statement == NULL ? -EIO : 0;
	if (result == 0 && (found->held & HELD_IN_BATCH) == 0 && found->has_batch)
		result = has_batch(backend, row, &joins);
	if (result < 0)
		return result;
	sqlite_bind_id(statement, 1, &row->id);
	(void)sqlite3_bind_int(statement, 2, (int)row->state);
	(void)sqlite3_bind_int64(statement, 3, row->attempt);
	(void)sqlite3_bind_int(statement, 4, row->priority);
	(void)sqlite3_bind_int64(statement, 5, row->due_us);
	(void)sqlite3_bind_int64(statement, 6, row->expires_us);
	(void)sqlite3_bind_int64(statement, 7, backend->epoch);
	(void)sqlite3_bind_int(statement, 8, found->held | (joins ? HELD_IN_BATCH : 0));
	sqlite_bind_text(statement, 9, row->callback);
	result = sqlite_run(&backend->writer, statement);
	if (result == 0)
		result = set_text(backend, SQL_SET_RECORD, found->seq, row->record);
	if (result == 0 && joins)
		result = note_batch(backend, &row->batch, 1, 0, row->state);
	return result;
}

/* One that had ended before its batch came. */
static int join_ended(struct backend *backend, const struct store_row *row,
		      const struct found *found)
{
	sqlite3_stmt *statement = sqlite_prepare(&backend->writer, SQL_JOIN_BATCH);
	bool joins = false;
	int result = statement == NULL ? -EIO : 0;

	if (result == 0 && (found->held & HELD_IN_BATCH) == 0 && found->has_batch)
		result = has_batch(backend, row, &joins);
	if (result < 0 || !joins)
		return result;
	sqlite_bind_id(statement, 1, &row->id);
	result = sqlite_run(&backend->writer, statement);
	return result < 0 ? result
			  : note_batch(backend, &found->batch, 0, found->ended_us, found->state);
}

/* ---- STORE_PUT ---- */

/* 1 if the key is taken. */
static int find_key(struct backend *backend, struct store_request *request)
{
	sqlite3_stmt *statement = sqlite_prepare(&backend->writer, SQL_FIND_KEY);
	size_t length = sizeof(request->key.fingerprint);
	const void *print;
	int result;

	if (statement == NULL)
		return -EIO;
	sqlite_bind_text(statement, 1, request->key.text);
	(void)sqlite3_bind_int64(statement, 2, backend->now_us);
	result = sqlite_next(&backend->writer, statement);
	if (result != 1)
		return result;
	print = sqlite3_column_blob(statement, 0);
	request->same = print != NULL && sqlite3_column_bytes(statement, 0) == (int)length &&
			memcmp(print, request->key.fingerprint, length) == 0;
	(void)sqlite_column_id(statement, 1, &request->found);
	request->found_batch = sqlite3_column_int(statement, 2) != 0;
	(void)sqlite3_reset(statement);
	return 1;
}

static int put_key(struct backend *backend, const struct store_request *request)
{
	sqlite3_stmt *statement = sqlite_prepare(&backend->writer, SQL_PUT_KEY);
	const struct id *id = request->batch != NULL ? &request->batch->id : &request->rows[0].id;

	if (statement == NULL)
		return -EIO;
	sqlite_bind_text(statement, 1, request->key.text);
	(void)sqlite3_bind_blob(statement, 2, request->key.fingerprint,
				sizeof(request->key.fingerprint), SQLITE_STATIC);
	sqlite_bind_id(statement, 3, id);
	(void)sqlite3_bind_int(statement, 4, request->batch != NULL);
	(void)sqlite3_bind_int64(statement, 5, request->key.expires_us);
	return sqlite_run(&backend->writer, statement);
}

static int put_batch(struct backend *backend, const struct store_batch *batch)
{
	sqlite3_stmt *statement = sqlite_prepare(&backend->writer, SQL_PUT_BATCH);

	if (statement == NULL)
		return -EIO;
	sqlite_bind_id(statement, 1, &batch->id);
	sqlite_bind_text(statement, 2, batch->task);
	sqlite_bind_text(statement, 3, batch->pool);
	(void)sqlite3_bind_int64(statement, 4, batch->count);
	(void)sqlite3_bind_int64(statement, 5, batch->submitted_us);
	return sqlite_run(&backend->writer, statement);
}

static int put_row(struct backend *backend, const struct store_row *row)
{
	struct found found;
	int result = find(backend, &row->id, &found);

	if (result < 0)
		return result;
	if (!found.exists)
		return put_new(backend, row);
	return has_ended(found.state) ? join_ended(backend, row, &found)
				      : put_again(backend, row, &found);
}

int sqlite_put(struct backend *backend, struct store_request *request)
{
	int result = 0;

	if (request->key.text[0] != '\0') {
		result = find_key(backend, request);
		if (result == 1) {
			request->status = -EEXIST;
			return 0;
		}
		if (result == 0)
			result = put_key(backend, request);
	}
	if (result == 0 && request->batch != NULL)
		result = put_batch(backend, request->batch);
	for (size_t i = 0; result == 0 && i < request->row_count; i++)
		result = put_row(backend, &request->rows[i]);
	return result;
}

/* ---- The others ---- */

int sqlite_claim(struct backend *backend, struct store_request *request)
{
	sqlite3_stmt *statement = sqlite_prepare(&backend->writer, SQL_CLAIM);
	int result = statement != NULL ? 0 : -EIO;

	for (size_t i = 0; result == 0 && i < request->id_count; i++) {
		sqlite_bind_id(statement, 1, &request->ids[i]);
		(void)sqlite3_bind_int64(statement, 2, request->attempts[i]);
		result = sqlite_run(&backend->writer, statement);
		if (result == 0 && sqlite3_changes(backend->writer.db) == 0)
			request->statuses[i] = -ESTALE;
	}
	return result;
}

static int update_row(struct backend *backend, const struct store_row *row, int *ret_status)
{
	sqlite3_stmt *statement = sqlite_prepare(&backend->writer, SQL_UPDATE_LIVE);
	struct found found;
	int result = find(backend, &row->id, &found);

	if (result < 0)
		return result;
	if (!found.exists || has_ended(found.state)) {
		*ret_status = -ESTALE;
		return 0;
	}
	if (statement == NULL)
		return -EIO;
	sqlite_bind_id(statement, 1, &row->id);
	(void)sqlite3_bind_int(statement, 2, (int)row->state);
	(void)sqlite3_bind_int64(statement, 3, row->attempt);
	(void)sqlite3_bind_int64(statement, 4, row->due_us);
	(void)sqlite3_bind_int64(statement, 5, row->expires_us);
	(void)sqlite3_bind_int64(statement, 6, backend->epoch);
	result = sqlite_run(&backend->writer, statement);
	return result < 0 ? result : set_text(backend, SQL_SET_RECORD, found.seq, row->record);
}

int sqlite_update(struct backend *backend, struct store_request *request)
{
	int result = 0;

	for (size_t i = 0; result == 0 && i < request->row_count; i++)
		result = update_row(backend, &request->rows[i], &request->statuses[i]);
	return result;
}

static int end_row(struct backend *backend, const struct store_row *row, int *ret_status)
{
	struct found found;
	int result = find(backend, &row->id, &found);

	if (result < 0)
		return result;
	if (!found.exists)
		return put_new(backend, row);
	if (!has_ended(found.state) && row->attempt >= found.attempt)
		return end_live(backend, row, &found);
	*ret_status = -ESTALE;
	return 0;
}

int sqlite_end(struct backend *backend, struct store_request *request)
{
	int result = 0;

	for (size_t i = 0; result == 0 && i < request->row_count; i++)
		result = end_row(backend, &request->rows[i], &request->statuses[i]);
	return result;
}

/* Rows of former openings; each becomes one of this, and so is answered once. */
int sqlite_recover(struct backend *backend, struct store_request *request)
{
	struct sqlite_link *link = &backend->writer;
	sqlite3_stmt *rows = sqlite_prepare(link, SQL_RECOVER);
	sqlite3_stmt *adopt = sqlite_prepare(link, SQL_ADOPT);
	size_t capacity = 0;
	int result;

	if (rows == NULL || adopt == NULL)
		return -EIO;
	sqlite_bind_id(rows, 1, &backend->recovered);
	(void)sqlite3_bind_int64(rows, 2, backend->epoch);
	(void)sqlite3_bind_int64(rows, 3, request->limit);
	while ((result = sqlite_next(link, rows)) == 1) {
		result = sqlite_take_row(link, rows, request, &capacity);
		if (result < 0) {
			(void)sqlite3_reset(rows);
			return result;
		}
	}
	for (size_t i = 0; result == 0 && i < request->row_count; i++) {
		sqlite_bind_id(adopt, 1, &request->rows[i].id);
		(void)sqlite3_bind_int64(adopt, 2, backend->epoch);
		result = sqlite_run(link, adopt);
	}
	if (request->row_count > 0)
		backend->recovered = request->rows[request->row_count - 1].id;
	return result;
}
