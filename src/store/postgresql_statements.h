/*
 * The statements by which the shared store works, prepared once by each connection that writes or
 * reads. Their parameters and answers are described beside them in the body; those who send and read
 * them are in postgresql_operations.c.
 */
#ifndef STORE_POSTGRESQL_STATEMENTS_H
#define STORE_POSTGRESQL_STATEMENTS_H

#include "store/postgresql_link.h"

enum pg_statement_number {
	PG_PUT,
	PG_CLAIM,
	PG_TAKE,
	PG_WAITING,
	PG_GIVE_BACK,
	PG_UPDATE,
	PG_END,
	PG_LIVE,
	PG_ELECT,
	PG_BURY,
	PG_RECOVER,
	PG_CANCEL,
	PG_WATCH,
	PG_CHANGED,
	PG_WANTED,
	PG_CALLBACKS,
	PG_CALLBACKS_NEXT,
	PG_CALLBACK_RESULT,
	PG_SWEEP,
	PG_SWEEP_KEYS,
	PG_SWEEP_NODES,
	PG_FETCH,
	PG_LIST,
	PG_BATCH,
	PG_BATCH_ROWS,
	PG_SIZE
};
#define PG_STATEMENTS 26

extern const struct pg_statement pg_statements[PG_STATEMENTS];

#endif
