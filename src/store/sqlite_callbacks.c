/*
 * The callbacks that are still to be made: see sqlite.h. Writer's thread, inside a transaction.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/sqlite.h"

int sqlite_put_callback(struct backend *backend, const struct id *id, int64_t first_us)
{
	sqlite3_stmt *statement = sqlite_prepare(&backend->writer, SQL_PUT_CALLBACK);

	if (statement == NULL)
		return -EIO;
	sqlite_bind_id(statement, 1, id);
	(void)sqlite3_bind_int64(statement, 2, first_us > 0 ? first_us : backend->now_us);
	return sqlite_run(&backend->writer, statement);
}

static int grow(struct store_request *request, size_t *capacity)
{
	size_t more = *capacity == 0 ? 16 : *capacity * 2;
	struct store_callback *callbacks;

	if (request->callback_count < *capacity)
		return 0;
	callbacks = realloc(request->callbacks, more * sizeof(*callbacks));
	if (callbacks == NULL)
		return -ENOMEM;
	request->callbacks = callbacks;
	*capacity = more;
	return 0;
}

static int take_callback(struct sqlite_link *link, sqlite3_stmt *statement,
			 struct store_request *request, size_t *capacity)
{
	struct store_callback *callback;
	bool failed = grow(request, capacity) < 0;

	if (failed)
		return sqlite_fail(link, SQLITE_NOMEM);
	callback = &request->callbacks[request->callback_count];
	memset(callback, 0, sizeof(*callback));
	if (!sqlite_column_id(statement, 0, &callback->id))
		return sqlite_fail(link, SQLITE_CORRUPT);
	request->callback_count++;
	callback->url = sqlite_column_copy(statement, 1, &failed);
	callback->document = sqlite_column_copy(statement, 2, &failed);
	callback->tries = (uint32_t)sqlite3_column_int64(statement, 3);
	callback->first_us = sqlite3_column_int64(statement, 4);
	return failed ? sqlite_fail(link, SQLITE_NOMEM) : 0;
}

static int take_due(struct backend *backend, struct store_request *request)
{
	struct sqlite_link *link = &backend->writer;
	sqlite3_stmt *due = sqlite_prepare(link, SQL_DUE_CALLBACKS);
	size_t capacity = 0;
	int result;

	if (due == NULL)
		return -EIO;
	(void)sqlite3_bind_int64(due, 1, backend->now_us);
	(void)sqlite3_bind_int64(due, 2, request->limit);
	while ((result = sqlite_next(link, due)) == 1) {
		result = take_callback(link, due, request, &capacity);
		if (result < 0) {
			(void)sqlite3_reset(due);
			return result;
		}
	}
	return result;
}

static int lease(struct backend *backend, const struct store_request *request)
{
	struct sqlite_link *link = &backend->writer;
	sqlite3_stmt *statement = sqlite_prepare(link, SQL_LEASE_CALLBACK);
	int result = statement != NULL ? 0 : -EIO;

	for (size_t i = 0; result == 0 && i < request->callback_count; i++) {
		sqlite_bind_id(statement, 1, &request->callbacks[i].id);
		(void)sqlite3_bind_int64(statement, 2, backend->now_us + STORE_CALLBACK_LEASE_US);
		result = sqlite_run(link, statement);
	}
	return result;
}

int sqlite_callbacks(struct backend *backend, struct store_request *request)
{
	struct sqlite_link *link = &backend->writer;
	sqlite3_stmt *next = sqlite_prepare(link, SQL_NEXT_CALLBACK);
	int result = take_due(backend, request);

	if (result == 0)
		result = lease(backend, request);
	if (result == 0)
		result = next != NULL ? sqlite_next(link, next) : -EIO;
	if (result == 1) {
		request->next_us = sqlite3_column_int64(next, 0);
		(void)sqlite3_reset(next);
	}
	return result < 0 ? result : 0;
}

static int put_result(struct backend *backend, const struct store_callback *callback)
{
	struct sqlite_link *link = &backend->writer;
	sqlite3_stmt *done = sqlite_prepare(link, SQL_CALLBACK_DONE);
	sqlite3_stmt *release = sqlite_prepare(link, SQL_RELEASE_CALLBACK);
	int result;

	if (done == NULL || release == NULL)
		return -EIO;
	sqlite_bind_id(done, 1, &callback->id);
	(void)sqlite3_bind_int64(done, 2, callback->due_us);
	(void)sqlite3_bind_int64(done, 3, callback->tries);
	(void)sqlite3_bind_int(done, 4, callback->http_status);
	(void)sqlite3_bind_int(done, 5, callback->delivered);
	sqlite_bind_text(done, 6, callback->error);
	result = sqlite_run(link, done);
	if (result < 0 || callback->due_us > 0)
		return result;
	sqlite_bind_id(release, 1, &callback->id);
	return sqlite_run(link, release);
}

int sqlite_callback_result(struct backend *backend, struct store_request *request)
{
	int result = 0;

	for (size_t i = 0; result == 0 && i < request->callback_count; i++)
		result = put_result(backend, &request->callbacks[i]);
	return result;
}
