/*
 * The operations of the shared store as statements: a plan is made of a group of requests, carried
 * out by one transaction, and, once that is committed, applied to the requests.
 *
 * Neighbouring requests of the same kind become one statement on arrays, as long as none has an id
 * or a key twice, so that to carry them out at once is to carry them out in order. Thread: one owner.
 */
#ifndef STORE_POSTGRESQL_OPERATIONS_H
#define STORE_POSTGRESQL_OPERATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/postgresql_node.h"
#include "store/postgresql_statements.h"

/* A revision of a job that somebody here watches. */
struct pg_seen {
	struct id id;
	int32_t revision;
};

/* How many are due in a pool, as it was last counted far. */
struct pg_counted {
	char pool[CONFIG_NAME_MAX + 1];
	uint64_t waiting;
	int64_t at_ns; /* monotonic */
};

/* What the writer remembers from one transaction to the next. Zero-initialised is nothing. */
struct pg_memory {
	struct pg_seen *seen; /* by id */
	size_t seen_count;
	struct pg_counted counted[CONFIG_POOLS_MAX];
};

struct pg_plan;
struct pg_step {
	enum pg_statement_number statement;
	struct pg_params params;
	struct store_request **requests; /* borrowed, as all requests */
	size_t count;
	size_t pool;  /* of a statement for one pool */
	size_t limit; /* PG_WAITING: up to which it counts */
	int (*apply)(struct pg_plan *plan, const struct pg_step *step); /* NULL: nothing to do */
	struct pg_result *result;					/* once carried out */
};

struct pg_plan {
	const struct config *config; /* borrowed, as node and memory */
	struct pg_node *node;
	struct pg_memory *memory;
	struct pg_view view;
	struct store_request **requests; /* all, borrowed */
	size_t request_count;
	struct store_request **possible; /* those that can be carried out */
	struct pg_step *steps;
	size_t count;
	size_t capacity;
	int64_t first_take; /* numbers of its claims; 0: none */
	int64_t last_take;
	bool gives_back;
	bool announce; /* others are to look */
};

/* Makes the steps for these requests; view and the borrowed members are set before. 0 or -ENOMEM.
 * One that could never be carried out is left out, and applied as -EINVAL. */
int pg_plan_make(struct pg_plan *plan, struct store_request **requests, size_t count);
/* After the commit: sets the outputs and the status of every request. -ENOMEM: not all. */
int pg_plan_apply(struct pg_plan *plan);
void pg_plan_release(struct pg_plan *plan);

/* For plans alone: the statements of one run (or of one request whose kind does not come in runs);
 * whether a request has a key that is to be put. */
int pg_plan_run(struct pg_plan *plan, struct store_request **requests, size_t count);
bool pg_has_key(const struct store_request *request);

void pg_memory_release(struct pg_memory *memory);

#endif
