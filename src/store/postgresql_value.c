/*
 * Values to and from PostgreSQL. See the header.
 *
 * The binary format of an array is: dimensions (1), whether there are nulls, the type of the
 * elements, their number, the first index (1), then each element as its length (-1 for null) and its
 * bytes; integers are 32 bits, big-endian.
 */
#include "store/postgresql_value.h"

#include <endian.h>
#include <errno.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#define NULL_LENGTH (-1)

/* Of pg_type.oid, which are fixed for all time. */
static uint32_t type_oid(enum pg_type type)
{
	switch (type) {
	case PG_BOOL:
		return 16;
	case PG_BYTEA:
		return 17;
	case PG_INT8:
		return 20;
	case PG_INT4:
		return 23;
	case PG_TEXT:
		return 25;
	case PG_UUID:
		return 2950;
	}
	return 0;
}

void pg_params_release(struct pg_params *params)
{
	buffer_release(&params->bytes);
	*params = (struct pg_params){0};
}

bool pg_params_failed(const struct pg_params *params)
{
	return buffer_failed(&params->bytes) || params->count > PG_PARAMS_MAX;
}

static void append_int4(struct buffer *buffer, int32_t value)
{
	uint32_t wire = htobe32((uint32_t)value);

	buffer_append(buffer, &wire, sizeof(wire));
}

static void append_int8(struct buffer *buffer, int64_t value)
{
	uint64_t wire = htobe64((uint64_t)value);

	buffer_append(buffer, &wire, sizeof(wire));
}

/* The next parameter is what lies in the buffer from offset on. */
static void add_param(struct pg_params *params, size_t offset, bool is_null)
{
	if (params->count < PG_PARAMS_MAX) {
		params->offsets[params->count] = offset;
		params->lengths[params->count] =
			is_null ? NULL_LENGTH : (int)(params->bytes.length - offset);
	}
	params->count++;
}

void pg_param_bool(struct pg_params *params, bool value)
{
	size_t offset = params->bytes.length;

	buffer_append_char(&params->bytes, value ? 1 : 0);
	add_param(params, offset, false);
}

void pg_param_int4(struct pg_params *params, int32_t value)
{
	size_t offset = params->bytes.length;

	append_int4(&params->bytes, value);
	add_param(params, offset, false);
}

void pg_param_int8(struct pg_params *params, int64_t value)
{
	size_t offset = params->bytes.length;

	append_int8(&params->bytes, value);
	add_param(params, offset, false);
}

void pg_param_uuid(struct pg_params *params, const struct id *value)
{
	size_t offset = params->bytes.length;

	if (value)
		buffer_append(&params->bytes, value->bytes, sizeof(value->bytes));
	add_param(params, offset, !value);
}

void pg_param_text(struct pg_params *params, const char *value)
{
	size_t offset = params->bytes.length;

	if (value)
		buffer_append_text(&params->bytes, value);
	add_param(params, offset, !value);
}

void pg_array_begin(struct pg_params *params, enum pg_type type)
{
	params->array = params->bytes.length;
	params->elements = 0;
	append_int4(&params->bytes, 1);
	append_int4(&params->bytes, 1);
	append_int4(&params->bytes, (int32_t)type_oid(type));
	append_int4(&params->bytes, 0); /* set by pg_array_end() */
	append_int4(&params->bytes, 1);
}

void pg_array_end(struct pg_params *params)
{
	const size_t number_at = 3 * sizeof(uint32_t);
	uint32_t wire = htobe32((uint32_t)params->elements);

	if (!buffer_failed(&params->bytes))
		memcpy(params->bytes.data + params->array + number_at, &wire, sizeof(wire));
	add_param(params, params->array, false);
}

void pg_array_bytes(struct pg_params *params, const void *value, size_t length)
{
	append_int4(&params->bytes, value ? (int32_t)length : NULL_LENGTH);
	if (value)
		buffer_append(&params->bytes, value, length);
	params->elements++;
}

void pg_array_bool(struct pg_params *params, bool value)
{
	char wire = value ? 1 : 0;

	pg_array_bytes(params, &wire, sizeof(wire));
}

void pg_array_int4(struct pg_params *params, int32_t value)
{
	uint32_t wire = htobe32((uint32_t)value);

	pg_array_bytes(params, &wire, sizeof(wire));
}

void pg_array_int8(struct pg_params *params, int64_t value)
{
	uint64_t wire = htobe64((uint64_t)value);

	pg_array_bytes(params, &wire, sizeof(wire));
}

void pg_array_uuid(struct pg_params *params, const struct id *value)
{
	pg_array_bytes(params, value ? value->bytes : NULL, sizeof(value->bytes));
}

void pg_array_text(struct pg_params *params, const char *value)
{
	pg_array_bytes(params, value, value ? strlen(value) : 0);
}

int64_t pg_time(int64_t time_us, int64_t offset_us)
{
	int64_t moved;

	if (time_us == 0)
		return 0;
	if (__builtin_sub_overflow(time_us, offset_us, &moved))
		return time_us;
	return moved == 0 ? 1 : moved; /* 0 would be: none */
}

bool pg_get_bool(const struct pg_result *result, int row, int column)
{
	return PQgetlength(result, row, column) == 1 && PQgetvalue(result, row, column)[0] != 0;
}

int32_t pg_get_int4(const struct pg_result *result, int row, int column)
{
	uint32_t wire = 0;

	if (PQgetlength(result, row, column) == (int)sizeof(wire))
		memcpy(&wire, PQgetvalue(result, row, column), sizeof(wire));
	return (int32_t)be32toh(wire);
}

int64_t pg_get_int8(const struct pg_result *result, int row, int column)
{
	uint64_t wire = 0;

	if (PQgetlength(result, row, column) == (int)sizeof(wire))
		memcpy(&wire, PQgetvalue(result, row, column), sizeof(wire));
	return (int64_t)be64toh(wire);
}

struct id pg_get_uuid(const struct pg_result *result, int row, int column)
{
	struct id id = {{0}};

	if (PQgetlength(result, row, column) == (int)sizeof(id.bytes))
		memcpy(id.bytes, PQgetvalue(result, row, column), sizeof(id.bytes));
	return id;
}

int pg_get_text(const struct pg_result *result, int row, int column, char **ret_text)
{
	size_t length = (size_t)PQgetlength(result, row, column);
	char *text;

	if (PQgetisnull(result, row, column)) {
		*ret_text = NULL;
		return 0;
	}
	text = malloc(length + 1);
	if (!text)
		return -ENOMEM;
	memcpy(text, PQgetvalue(result, row, column), length);
	text[length] = '\0';
	*ret_text = text;
	return 0;
}

/* How a member of struct store_row stands in a column. */
enum member_kind { MEMBER_ID, MEMBER_BATCH, MEMBER_STATE, MEMBER_INT, MEMBER_TIME, MEMBER_TEXT };

struct member {
	enum member_kind kind;
	size_t offset;
};

#define MEMBER(kind, name)                                                                         \
	{                                                                                          \
		(kind), offsetof(struct store_row, name)                                           \
	}

/* In the order of PG_ROW. */
static const struct member members[PG_ROW_COLUMNS] = {
	MEMBER(MEMBER_ID, id),
	MEMBER(MEMBER_STATE, state),
	MEMBER(MEMBER_INT, attempt),
	MEMBER(MEMBER_INT, priority),
	MEMBER(MEMBER_TIME, submitted_us),
	MEMBER(MEMBER_TIME, due_us),
	MEMBER(MEMBER_TIME, expires_us),
	MEMBER(MEMBER_TIME, ended_us),
	MEMBER(MEMBER_BATCH, batch),
	MEMBER(MEMBER_INT, batch_index),
	MEMBER(MEMBER_TEXT, task),
	MEMBER(MEMBER_TEXT, pool),
	MEMBER(MEMBER_TEXT, labels),
	MEMBER(MEMBER_TEXT, callback),
	MEMBER(MEMBER_TEXT, record),
	MEMBER(MEMBER_TEXT, document),
};

static enum pg_type member_type(enum member_kind kind)
{
	switch (kind) {
	case MEMBER_ID:
	case MEMBER_BATCH:
		return PG_UUID;
	case MEMBER_STATE:
	case MEMBER_INT:
		return PG_INT4;
	case MEMBER_TIME:
		return PG_INT8;
	case MEMBER_TEXT:
		return PG_TEXT;
	}
	return PG_TEXT;
}

static void array_member(struct pg_params *params, const struct member *member,
			 const struct store_row *row, int64_t offset_us)
{
	const void *at = (const char *)row + member->offset;
	int64_t time_us;
	int32_t number;
	char *text;

	switch (member->kind) {
	case MEMBER_ID:
		pg_array_uuid(params, &row->id);
		return;
	case MEMBER_BATCH:
		pg_array_uuid(params, row->has_batch ? &row->batch : NULL);
		return;
	case MEMBER_STATE:
		pg_array_int4(params, (int32_t)row->state);
		return;
	case MEMBER_INT:
		memcpy(&number, at, sizeof(number));
		pg_array_int4(params, number);
		return;
	case MEMBER_TIME:
		memcpy(&time_us, at, sizeof(time_us));
		pg_array_int8(params, pg_time(time_us, -offset_us));
		return;
	case MEMBER_TEXT:
		memcpy(&text, at, sizeof(text));
		pg_array_text(params, text);
		return;
	}
}

void pg_params_rows(struct pg_params *params, struct store_request *const *requests, size_t count,
		    int64_t offset_us)
{
	for (size_t column = 0; column < PG_ROW_COLUMNS; column++) {
		pg_array_begin(params, member_type(members[column].kind));
		for (size_t i = 0; i < count; i++) {
			for (size_t row = 0; row < requests[i]->row_count; row++)
				array_member(params, &members[column], &requests[i]->rows[row],
					     offset_us);
		}
		pg_array_end(params);
	}
}

static int get_member(const struct pg_result *result, int line, int column, int64_t offset_us,
		      struct store_row *row)
{
	const struct member *member = &members[column];
	void *at = (char *)row + member->offset;
	int64_t time_us;
	int32_t number;

	switch (member->kind) {
	case MEMBER_ID:
		row->id = pg_get_uuid(result, line, column);
		return 0;
	case MEMBER_BATCH:
		row->has_batch = !PQgetisnull(result, line, column);
		row->batch = pg_get_uuid(result, line, column);
		return 0;
	case MEMBER_STATE:
		row->state = (enum job_state)pg_get_int4(result, line, column);
		return 0;
	case MEMBER_INT:
		number = pg_get_int4(result, line, column);
		memcpy(at, &number, sizeof(number));
		return 0;
	case MEMBER_TIME:
		time_us = pg_time(pg_get_int8(result, line, column), offset_us);
		memcpy(at, &time_us, sizeof(time_us));
		return 0;
	case MEMBER_TEXT:
		return pg_get_text(result, line, column, (char **)at);
	}
	return 0;
}

int pg_get_row(const struct pg_result *result, int line, int64_t offset_us,
	       struct store_row *ret_row)
{
	struct store_row row = {0};

	for (int column = 0; column < PG_ROW_COLUMNS; column++) {
		int status = get_member(result, line, column, offset_us, &row);

		if (status != 0) {
			store_row_release(&row);
			return status;
		}
	}
	*ret_row = row;
	return 0;
}
