/*
 * Private to sqlite*.c: the SQLite implementation of the store.
 *
 * Invariants
 * 1. `writer` is used by the store's writer thread alone, `reader` by its reader thread alone; what
 *    both look at does not change after the opening.
 * 2. A statement is at rest (reset) whenever its connection is not inside one of our functions, so
 *    no reading stands open and the write-ahead log can be begun anew.
 * 3. Every row of `jobs` has one of `texts`, by its seq. A live one has its record there, one that
 *    has ended its document.
 * 4. held & HELD_IN_BATCH: `batches` has the row's batch, which counts it in `open` while it is
 *    live. held & HELD_CALLS_BACK: `callbacks` has the row's id with a due_us.
 * 5. `tally` is the number of ended jobs of each state as of the last commit.
 *
 * Functions answer 0 or -errno; then `message` of the link says why, in words for an operator.
 */
#ifndef STORE_SQLITE_H
#define STORE_SQLITE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/backend.h"

#define STORE_FILE	"twinpool.db"
#define STORE_LOCK_FILE "twinpool.lock"
/* What tells our files from others: "twpl". */
#define STORE_APPLICATION 0x7477706c
#define STORE_SCHEMA	  1

/* Bits of jobs.held: reasons why the retention of single jobs passes it by. */
#define HELD_IN_BATCH	1
#define HELD_CALLS_BACK 2

enum sqlite_statement {
	SQL_BEGIN,
	SQL_COMMIT,
	SQL_ROLLBACK,
	/* writing */
	SQL_FIND,
	SQL_INSERT,
	SQL_INSERT_TEXTS,
	SQL_INSERT_LABELS,
	SQL_REPUT,
	SQL_JOIN_BATCH,
	SQL_SET_RECORD,
	SQL_SET_DOCUMENT,
	SQL_CLAIM,
	SQL_UPDATE_LIVE,
	SQL_END_LIVE,
	SQL_ADOPT,
	SQL_FIND_KEY,
	SQL_PUT_KEY,
	SQL_PUT_BATCH,
	SQL_FIND_BATCH,
	SQL_NOTE_BATCH,
	SQL_RECOVER,
	/* callbacks */
	SQL_PUT_CALLBACK,
	SQL_DUE_CALLBACKS,
	SQL_LEASE_CALLBACK,
	SQL_NEXT_CALLBACK,
	SQL_CALLBACK_DONE,
	SQL_RELEASE_CALLBACK,
	/* reading */
	SQL_FETCH,
	SQL_FETCH_ROWS_OF_BATCH,
	/* sweeping */
	SQL_OLDEST,
	SQL_OLDEST_BATCHES,
	SQL_DOOM_BATCH,
	SQL_DOOMED_BATCH,
	SQL_OF_BATCH,
	SQL_DELETE_JOB,
	SQL_DELETE_TEXTS,
	SQL_DELETE_LABELS,
	SQL_DELETE_CALLBACK,
	SQL_DELETE_BATCH,
	SQL_DELETE_KEYS
};
#define SQL_STATEMENTS (SQL_DELETE_KEYS + 1)

/* A connection and its statements, each prepared when it is first wanted. */
struct sqlite_link {
	sqlite3 *db; /* NULL: not open */
	sqlite3_stmt *statements[SQL_STATEMENTS];
	char message[240]; /* of the last failure */
};

struct sqlite_tally {
	int64_t ended[CONFIG_ENDED_STATES];
};

struct backend {
	const struct config *config; /* borrowed; its retention is read by the writer alone */
	char *path;		     /* of the database; NULL: in memory */
	int lock;		     /* the lock file; -1 in memory */
	struct sqlite_link writer;
	struct sqlite_link reader;
	bool full_sync;	     /* the writer's synchronous setting */
	int64_t epoch;	     /* number of this opening: whose rows are whose */
	int64_t next_seq;    /* of a row of texts */
	struct id recovered; /* all up to this one have been recovered */
	int wal_pages;	     /* in the write-ahead log after the last commit */
	int64_t now_us;	     /* of this transaction */
	struct sqlite_tally tally;
	struct sqlite_tally working; /* with what this transaction has done */
};

/* ---- sqlite_link.c: statements ---- */

/* "path: problem", cut if it must be. */
void sqlite_say(char message[static 240], const char *path, const char *problem);
/* Puts the reason of the last failure of this connection into its message. Answers -errno. */
int sqlite_fail(struct sqlite_link *link, int code);
/* The statement, at rest; NULL on failure. */
sqlite3_stmt *sqlite_prepare(struct sqlite_link *link, enum sqlite_statement which);
/* One step: 1 if there is a row, 0 at the end, when it is reset; -errno, reset too. */
int sqlite_next(struct sqlite_link *link, sqlite3_stmt *statement);
/* Runs one that answers no row to its end. */
int sqlite_run(struct sqlite_link *link, sqlite3_stmt *statement);
/* Carries out plain SQL. */
int sqlite_execute(struct sqlite_link *link, const char *text);
/* One integer; fallback if there is no row. */
int sqlite_integer(struct sqlite_link *link, const char *text, int64_t fallback,
		   int64_t *ret_value);
void sqlite_unlink(struct sqlite_link *link); /* closes */

/* Borrow until the statement's next step is over. */
void sqlite_bind_id(sqlite3_stmt *statement, int at, const struct id *id);
void sqlite_bind_text(sqlite3_stmt *statement, int at, const char *text); /* NULL: null */
/* False for what is no identifier. */
bool sqlite_column_id(sqlite3_stmt *statement, int at, struct id *ret_id);
/* A copy, NULL for null; *failed is set if memory is short. */
char *sqlite_column_copy(sqlite3_stmt *statement, int at, bool *failed);

/* ---- sqlite_open.c ---- */

/* hint and data are not needed: nobody else writes. */
int sqlite_open_file(const struct config *config, void (*hint)(void *data), void *data,
		     struct backend **ret_backend, char message[static 240]);
int sqlite_open_memory(const struct config *config, void (*hint)(void *data), void *data,
		       struct backend **ret_backend, char message[static 240]);
void sqlite_close_backend(struct backend *backend);

/* ---- sqlite_read.c ---- */

/* What a row of SQL_FETCH and its like consists of, in the order of its columns, from `j` (jobs)
 * and `t` (texts). */
#define SQL_ROW_COLUMNS                                                                            \
	"j.id,j.state,j.attempt,j.priority,j.submitted_us,j.due_us,j.expires_us,j.ended_us,"       \
	"j.batch,j.batch_index,j.task,j.pool,j.labels,j.callback,t.record,t.document"

/* Appends the statement's row to request->rows, which has room for *capacity of them. */
int sqlite_take_row(struct sqlite_link *link, sqlite3_stmt *statement,
		    struct store_request *request, size_t *capacity);
int sqlite_fetch(struct sqlite_link *link, struct store_request *request);
int sqlite_fetch_batch(struct sqlite_link *link, struct store_request *request);
int sqlite_list(struct sqlite_link *link, struct store_request *request);

/* ---- sqlite_write.c ---- */

int sqlite_put(struct backend *backend, struct store_request *request);
int sqlite_claim(struct backend *backend, struct store_request *request);
int sqlite_update(struct backend *backend, struct store_request *request);
int sqlite_end(struct backend *backend, struct store_request *request);
int sqlite_recover(struct backend *backend, struct store_request *request);

/* ---- sqlite_callbacks.c ---- */

/* The callback of that job, which is in `jobs` and has ended at first_us, is to be made. */
int sqlite_put_callback(struct backend *backend, const struct id *id, int64_t first_us);
int sqlite_callbacks(struct backend *backend, struct store_request *request);
int sqlite_callback_result(struct backend *backend, struct store_request *request);

/* ---- sqlite_sweep.c ---- */

int sqlite_sweep(struct backend *backend, struct store_request *request);

#endif
