/*
 * The store in SQLite: one service, one file (backend_sqlite), or memory and no promise beyond this
 * process's life (backend_memory, which is the same code on a database in memory). See sqlite.h.
 *
 * The log is written ahead (WAL). A transaction that somebody waits for is committed with
 * synchronous=FULL: the log is on disk before write() answers. The others are committed with NORMAL,
 * so they survive the death of the process, and the next one that is synced takes them along. What
 * is deleted leaves pages that are used again: the file grows to the most that the retention has
 * covered, and does not shrink.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "store/sqlite.h"

/* Pages of 4096 bytes. From the first number on the log is taken into the database while readers go
 * on; from the second on they are waited for, so that it can begin anew. */
#define CHECKPOINT_PAGES 2048
#define RESTART_PAGES	 (4 * CHECKPOINT_PAGES)
/* Of one text; SQLite takes twice as much. */
#define TEXT_MAX 500000000U

/* ---- Requests that could never be carried out ---- */

static bool is_short(const char *text)
{
	return text == NULL || strlen(text) <= TEXT_MAX;
}

static bool is_row(const struct store_row *row, bool may_live, bool may_have_ended)
{
	bool ended = row->state >= JOB_SUCCEEDED && row->state <= JOB_EXPIRED;
	bool lives = row->state == JOB_SCHEDULED || row->state == JOB_QUEUED ||
		     row->state == JOB_RUNNING;

	return row->task != NULL && row->pool != NULL &&
	       ((ended && may_have_ended && row->document != NULL) || (lives && may_live)) &&
	       is_short(row->record) && is_short(row->document);
}

static bool are_rows(const struct store_request *request)
{
	bool good = request->row_count > 0;

	for (size_t i = 0; good && i < request->row_count; i++)
		good = is_row(&request->rows[i], request->op != STORE_END,
			      request->op != STORE_UPDATE);
	return good;
}

/* One that SQLite would refuse each time must not take the others down with it. */
static bool is_possible(const struct store_request *request)
{
	switch (request->op) {
	case STORE_PUT:
	case STORE_UPDATE:
	case STORE_END:
		return are_rows(request);
	case STORE_FETCH_BATCH:
		return request->id_count == 1;
	case STORE_LIST:
		return request->filter.label_key == NULL || request->filter.label_value != NULL;
	case STORE_CLAIM:
	case STORE_FETCH:
	case STORE_RECOVER:
	case STORE_CALLBACKS:
	case STORE_CALLBACK_RESULT:
	case STORE_SWEEP:
	case STORE_TAKE:
	case STORE_CANCEL:
	case STORE_POLL:
	case STORE_LIVE:
		return true;
	}
	return false;
}

/* ---- Writing ---- */

static int carry_out(struct backend *backend, struct store_request *request)
{
	request->status = is_possible(request) ? 0 : -EINVAL;
	if (request->status < 0)
		return 0;
	switch (request->op) {
	case STORE_PUT:
		return sqlite_put(backend, request);
	case STORE_CLAIM:
		return sqlite_claim(backend, request);
	case STORE_UPDATE:
		return sqlite_update(backend, request);
	case STORE_END:
		return sqlite_end(backend, request);
	case STORE_FETCH:
		return sqlite_fetch(&backend->writer, request);
	case STORE_LIST:
		return sqlite_list(&backend->writer, request);
	case STORE_FETCH_BATCH:
		return sqlite_fetch_batch(&backend->writer, request);
	case STORE_RECOVER:
		return sqlite_recover(backend, request);
	case STORE_CALLBACKS:
		return sqlite_callbacks(backend, request);
	case STORE_CALLBACK_RESULT:
		return sqlite_callback_result(backend, request);
	case STORE_SWEEP:
		return sqlite_sweep(backend, request);
	case STORE_TAKE:
	case STORE_CANCEL:
	case STORE_POLL:
	case STORE_LIVE:
		request->status = -ENOTSUP;
		return 0;
	}
	return -EINVAL;
}

static int run(struct sqlite_link *link, enum sqlite_statement which)
{
	sqlite3_stmt *statement = sqlite_prepare(link, which);

	return statement != NULL ? sqlite_run(link, statement) : -EIO;
}

static int set_sync(struct backend *backend, bool full)
{
	int result;

	if (backend->full_sync == full)
		return 0;
	result = sqlite_execute(&backend->writer,
				full ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
	if (result == 0)
		backend->full_sync = full;
	return result;
}

/* Takes the log into the database. What fails here fails again, and is told, when it is written. */
static void checkpoint(struct backend *backend)
{
	int mode = backend->wal_pages < RESTART_PAGES ? SQLITE_CHECKPOINT_PASSIVE
						      : SQLITE_CHECKPOINT_RESTART;

	if (backend->wal_pages < CHECKPOINT_PAGES)
		return;
	backend->wal_pages = 0;
	(void)sqlite3_wal_checkpoint_v2(backend->writer.db, NULL, mode, NULL, NULL);
}

static int transact(struct backend *backend, struct store_request **requests, size_t count,
		    bool sync)
{
	int result = set_sync(backend, sync);

	backend->working = backend->tally;
	backend->now_us = clock_realtime_ns() / NS_PER_US;
	if (result == 0)
		result = run(&backend->writer, SQL_BEGIN);
	for (size_t i = 0; result == 0 && i < count; i++)
		result = carry_out(backend, requests[i]);
	return result < 0 ? result : run(&backend->writer, SQL_COMMIT);
}

static void tell(const struct backend *backend, const struct sqlite_link *link,
		 char message[static 240])
{
	sqlite_say(message, backend->path != NULL ? backend->path : "memory", link->message);
}

static int write_requests(struct backend *backend, struct store_request **requests, size_t count,
			  bool sync, char message[static 240])
{
	int result;

	checkpoint(backend);
	result = transact(backend, requests, count, sync && backend->path != NULL);
	if (result == 0) {
		backend->tally = backend->working;
		return 0;
	}
	tell(backend, &backend->writer, message);
	memset(&backend->recovered, 0, sizeof(backend->recovered)); /* it may not be so */
	if (sqlite3_get_autocommit(backend->writer.db) == 0)
		(void)run(&backend->writer, SQL_ROLLBACK);
	for (size_t i = 0; i < count; i++)
		backend_clear_outputs(requests[i]);
	return result;
}

/* ---- Reading ---- */

static int read_request(struct backend *backend, struct store_request *request,
			char message[static 240])
{
	struct sqlite_link *link = &backend->reader;
	int result;

	request->status = is_possible(request) ? 0 : -EINVAL;
	if (request->status < 0)
		return 0;
	if (request->op == STORE_FETCH)
		result = sqlite_fetch(link, request);
	else if (request->op == STORE_LIST)
		result = sqlite_list(link, request);
	else
		result = sqlite_fetch_batch(link, request);
	if (result < 0) {
		tell(backend, link, message);
		backend_clear_outputs(request);
	}
	return result;
}

/* ---- The size ---- */

static int64_t file_size(struct backend *backend)
{
	char log[4200];
	struct stat database;
	struct stat wal;

	(void)snprintf(log, sizeof(log), "%s-wal", backend->path);
	if (stat(backend->path, &database) < 0)
		return -1;
	return database.st_size + (stat(log, &wal) == 0 ? wal.st_size : 0);
}

static int64_t memory_size(struct backend *backend)
{
	int64_t pages = 0;
	int64_t unused = 0;
	int64_t page_bytes = 0;

	if (sqlite_integer(&backend->writer, "PRAGMA page_count", 0, &pages) < 0 ||
	    sqlite_integer(&backend->writer, "PRAGMA freelist_count", 0, &unused) < 0 ||
	    sqlite_integer(&backend->writer, "PRAGMA page_size", 0, &page_bytes) < 0)
		return -1;
	return (pages - unused) * page_bytes;
}

const struct backend_class backend_sqlite = {
	.name = "sqlite",
	.is_durable = true,
	.open = sqlite_open_file,
	.close = sqlite_close_backend,
	.write = write_requests,
	.read = read_request,
	.size = file_size,
};

const struct backend_class backend_memory = {
	.name = "memory",
	.open = sqlite_open_memory,
	.close = sqlite_close_backend,
	.write = write_requests,
	.size = memory_size,
};
