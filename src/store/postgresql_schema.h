/*
 * The tables of the shared store: made and brought to this program's version when it opens.
 *
 * Steps are in store/postgresql.sql. They run in one transaction under an advisory lock, so that
 * services that start together make them once. Thread: any, one at a time for a link.
 */
#ifndef STORE_POSTGRESQL_SCHEMA_H
#define STORE_POSTGRESQL_SCHEMA_H

#include <stdint.h>

#include "store/postgresql_link.h"

/*
 * Makes what is missing. *ret_schema is the schema's number within the database, by which what is
 * the whole database's (channels, advisory locks) is told from other schemas'. -EPROTONOSUPPORT: the
 * tables are of a newer program. 0 or -errno.
 */
int pg_schema_ensure(struct pg_link *link, int32_t *ret_schema,
		     char message[static PG_MESSAGE_SIZE]);

#endif
