/*
 * Values to and from PostgreSQL, all in its binary format: no text is quoted, no number printed.
 *
 * One table (in the body) says how the members of struct store_row stand to the columns of a job;
 * by it rows are written as one array a column, for unnest(), and read from a result whose first
 * columns are PG_ROW_COLUMNS, in that order.
 *
 * Times of rows are the service's, those of the database are its own: offset_us is added on the way
 * there and taken away on the way back; 0 stays 0. Thread: one owner each.
 */
#ifndef STORE_POSTGRESQL_VALUE_H
#define STORE_POSTGRESQL_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "store/store.h"

struct pg_result; /* libpq's PGresult */

#define PG_PARAMS_MAX 32

/* The columns of a row as named in the table jobs, each behind the prefix that PG_ROW(j) gives. */
#define PG_ROW(t)                                                                                  \
#t ".id, " #t ".state::integer, " #t ".attempt, " #t ".priority::integer, " #t             \
	   ".submitted_us, " #t ".due_us, " #t ".expires_us, " #t ".ended_us, " #t ".batch, " #t   \
	   ".batch_index, " #t ".task, " #t ".pool, " #t ".labels::text, " #t ".callback, " #t     \
	   ".record, " #t ".document"
#define PG_ROW_COLUMNS 16

enum pg_type { PG_BOOL, PG_BYTEA, PG_INT4, PG_INT8, PG_TEXT, PG_UUID };

/* The parameters of one statement. Zero-initialised is none. */
struct pg_params {
	struct buffer bytes;
	int count;
	size_t offsets[PG_PARAMS_MAX];
	int lengths[PG_PARAMS_MAX]; /* -1: NULL */
	size_t array;		    /* where the array that is being written begins … */
	int32_t elements;	    /* … and how many it has */
};

void pg_params_release(struct pg_params *params);
bool pg_params_failed(const struct pg_params *params);

void pg_param_bool(struct pg_params *params, bool value);
void pg_param_int4(struct pg_params *params, int32_t value);
void pg_param_int8(struct pg_params *params, int64_t value);
void pg_param_uuid(struct pg_params *params, const struct id *value); /* NULL: null */
void pg_param_text(struct pg_params *params, const char *value);      /* NULL: null */

/* One array parameter: begin, its elements in order, end. */
void pg_array_begin(struct pg_params *params, enum pg_type type);
void pg_array_bool(struct pg_params *params, bool value);
void pg_array_int4(struct pg_params *params, int32_t value);
void pg_array_int8(struct pg_params *params, int64_t value);
void pg_array_uuid(struct pg_params *params, const struct id *value);
void pg_array_text(struct pg_params *params, const char *value);
void pg_array_bytes(struct pg_params *params, const void *value, size_t length); /* NULL: null */
void pg_array_end(struct pg_params *params);

/* All columns of the rows of all these requests, PG_ROW_COLUMNS arrays. */
void pg_params_rows(struct pg_params *params, struct store_request *const *requests, size_t count,
		    int64_t offset_us);

/* From the database's clock to the service's (offset_us negated: the other way); 0 stays 0. */
int64_t pg_time(int64_t time_us, int64_t offset_us);

bool pg_get_bool(const struct pg_result *result, int row, int column);
int32_t pg_get_int4(const struct pg_result *result, int row, int column);
int64_t pg_get_int8(const struct pg_result *result, int row, int column);
struct id pg_get_uuid(const struct pg_result *result, int row, int column);
/* A copy, which the caller frees; NULL of a null. -ENOMEM. */
int pg_get_text(const struct pg_result *result, int row, int column, char **ret_text);

/* Reads the job in this line of the result; the columns may be more. 0 or -ENOMEM, and then *ret_row
 * is empty. */
int pg_get_row(const struct pg_result *result, int line, int64_t offset_us,
	       struct store_row *ret_row);

#endif
