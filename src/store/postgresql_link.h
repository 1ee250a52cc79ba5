/*
 * A connection to PostgreSQL by libpq whose every wait has an end.
 *
 * Nothing here waits for longer than the timeouts below, whatever the network and the server do: the
 * socket is non-blocking and each wait is a poll(2) that also looks at stop_fd. A link that was lost
 * is closed (conn NULL) by the function that finds it out, and answers -ECONNRESET; a statement that
 * fails on a sound connection answers another error and the link stays open.
 *
 * Messages are for an operator: what the server or libpq says, on one line; never the password.
 * Thread: one at a time each.
 */
#ifndef STORE_POSTGRESQL_LINK_H
#define STORE_POSTGRESQL_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/postgresql_value.h"

#define PG_CONNECT_TIMEOUT_MS	5000
#define PG_STATEMENT_TIMEOUT_MS 30000 /* of one statement, by the server */
#define PG_LOCK_TIMEOUT_MS	10000
#define PG_ANSWER_TIMEOUT_MS	40000 /* of all that was sent at once, by us */
#define PG_MESSAGE_SIZE		240

struct pg_conn;	  /* libpq's PGconn */
struct pg_result; /* libpq's PGresult */

struct pg_link {
	struct pg_conn *conn; /* NULL: not connected */
	int stop_fd;	      /* readable: no more waiting, -ECANCELED; -1: none */
	char sync[24];	      /* what synchronous_commit is set to for what must be on disk */
	bool is_sync;	      /* what it is set to now */
};

/* A statement that a link prepares when it is opened; its name is its number in the table. */
struct pg_statement {
	const char *sql;
};

/*
 * Connects and sets up the session: its timeouts, the planner, the schema. connection NULL: as
 * libpq's PG* variables say. application shows in pg_stat_activity. The link must be closed. 0 or -errno.
 */
int pg_link_open(struct pg_link *link, const char *connection, const char *application,
		 char message[static PG_MESSAGE_SIZE]);
void pg_link_close(struct pg_link *link);

/* Prepares statements[0..count-1], which may be run by their number from then on. */
int pg_link_prepare(struct pg_link *link, const struct pg_statement *statements, size_t count,
		    char message[static PG_MESSAGE_SIZE]);

/* Runs one statement; params NULL: none. *ret_result (PQclear() frees it; the pointer NULL: not
 * wanted) has its rows, binary. */
int pg_link_run(struct pg_link *link, const char *sql, const struct pg_params *params,
		struct pg_result **ret_result, char message[static PG_MESSAGE_SIZE]);
/* Several statements without parameters, parted by ";". */
int pg_link_script(struct pg_link *link, const char *sql, char message[static PG_MESSAGE_SIZE]);
/* One prepared statement. */
int pg_link_run_prepared(struct pg_link *link, size_t statement, const struct pg_params *params,
			 struct pg_result **ret_result, char message[static PG_MESSAGE_SIZE]);

/*
 * A pipeline: begin, queue statements, flush, take the answer to each in order, end. If one fails,
 * those behind it are not carried out and answer -ECANCELED; the end rolls back what is open.
 */
int pg_pipeline_begin(struct pg_link *link, char message[static PG_MESSAGE_SIZE]);
int pg_pipeline_queue(struct pg_link *link, const char *sql, char message[static PG_MESSAGE_SIZE]);
int pg_pipeline_queue_prepared(struct pg_link *link, size_t statement,
			       const struct pg_params *params,
			       char message[static PG_MESSAGE_SIZE]);
int pg_pipeline_flush(struct pg_link *link, char message[static PG_MESSAGE_SIZE]);
int pg_pipeline_take(struct pg_link *link, struct pg_result **ret_result,
		     char message[static PG_MESSAGE_SIZE]);
int pg_pipeline_end(struct pg_link *link, char message[static PG_MESSAGE_SIZE]);

/* Waits until something has come, or wake_fd is readable, or timeout_ms have passed, and reads what
 * there is. 0, -ECANCELED or -ECONNRESET. */
int pg_link_idle(struct pg_link *link, int wake_fd, int64_t timeout_ms,
		 char message[static PG_MESSAGE_SIZE]);

/* Waits that long: 0; -ECANCELED if stop_fd (-1: none) is readable before. */
int pg_link_pause(int stop_fd, int64_t timeout_ms);

/* Whether a statement failed for what another transaction did and may succeed when repeated. */
bool pg_is_conflict(int status);
/* … for its own data, so that it will fail again and again. */
bool pg_is_refused(int status);

#endif
