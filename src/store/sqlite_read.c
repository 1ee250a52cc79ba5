/*
 * Reading jobs from the database: see sqlite.h. On either connection, and changes nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "store/sqlite.h"

/* Of the texts of a listing: results may be large, and a page of them is all in memory. */
#define PAGE_BYTES (8LL << 20)

/* An identifier is made when its job is submitted, so its time is that of submitted_us but for the
 * steps of a clock that is set: this much they may be apart. */
#define ID_SLACK_US (24LL * 3600 * 1000000)

/* Room for one more. */
static int grow(struct store_request *request, size_t *capacity)
{
	size_t more = *capacity == 0 ? 16 : *capacity * 2;
	struct store_row *rows;

	if (request->row_count < *capacity)
		return 0;
	rows = realloc(request->rows, more * sizeof(*rows));
	if (rows == NULL)
		return -ENOMEM;
	request->rows = rows;
	*capacity = more;
	return 0;
}

static int fail_memory(struct sqlite_link *link)
{
	return sqlite_fail(link, SQLITE_NOMEM);
}

int sqlite_take_row(struct sqlite_link *link, sqlite3_stmt *statement,
		    struct store_request *request, size_t *capacity)
{
	struct store_row *row;
	bool failed = grow(request, capacity) < 0;

	if (failed)
		return fail_memory(link);
	row = &request->rows[request->row_count];
	memset(row, 0, sizeof(*row));
	if (!sqlite_column_id(statement, 0, &row->id))
		return sqlite_fail(link, SQLITE_CORRUPT);
	request->row_count++;
	row->state = (enum job_state)sqlite3_column_int(statement, 1);
	row->attempt = (uint32_t)sqlite3_column_int64(statement, 2);
	row->priority = sqlite3_column_int(statement, 3);
	row->submitted_us = sqlite3_column_int64(statement, 4);
	row->due_us = sqlite3_column_int64(statement, 5);
	row->expires_us = sqlite3_column_int64(statement, 6);
	row->ended_us = sqlite3_column_int64(statement, 7);
	row->has_batch = sqlite_column_id(statement, 8, &row->batch);
	row->batch_index = (uint32_t)sqlite3_column_int64(statement, 9);
	row->task = sqlite_column_copy(statement, 10, &failed);
	row->pool = sqlite_column_copy(statement, 11, &failed);
	row->labels = sqlite_column_copy(statement, 12, &failed);
	row->callback = sqlite_column_copy(statement, 13, &failed);
	row->record = sqlite_column_copy(statement, 14, &failed);
	row->document = sqlite_column_copy(statement, 15, &failed);
	return failed ? fail_memory(link) : 0;
}

/* All rows of the statement, which is reset after it. */
static int take_rows(struct sqlite_link *link, sqlite3_stmt *statement,
		     struct store_request *request, size_t *capacity)
{
	int result = sqlite_next(link, statement);

	while (result == 1) {
		result = sqlite_take_row(link, statement, request, capacity);
		if (result < 0)
			(void)sqlite3_reset(statement);
		else
			result = sqlite_next(link, statement);
	}
	return result;
}

/* The same, until the rows are large together. */
static int take_page(struct sqlite_link *link, sqlite3_stmt *statement,
		     struct store_request *request)
{
	int64_t bytes = 0;
	size_t capacity = 0;
	int result = sqlite_next(link, statement);

	while (result == 1 && bytes < PAGE_BYTES) {
		result = sqlite_take_row(link, statement, request, &capacity);
		bytes += sqlite3_column_bytes(statement, 14) + sqlite3_column_bytes(statement, 15);
		if (result == 0)
			result = sqlite_next(link, statement);
	}
	request->more = result == 1;
	if (result != 0)
		(void)sqlite3_reset(statement);
	return result < 0 ? result : 0;
}

int sqlite_fetch(struct sqlite_link *link, struct store_request *request)
{
	sqlite3_stmt *fetch = sqlite_prepare(link, SQL_FETCH);
	size_t capacity = 0;
	int result = fetch != NULL ? 0 : -EIO;

	for (size_t i = 0; result == 0 && i < request->id_count; i++) {
		sqlite_bind_id(fetch, 1, &request->ids[i]);
		result = take_rows(link, fetch, request, &capacity);
	}
	return result;
}

static int take_batch(struct sqlite_link *link, sqlite3_stmt *statement,
		      struct store_request *request)
{
	bool failed = false;

	request->batch = calloc(1, sizeof(*request->batch));
	if (request->batch == NULL)
		return fail_memory(link);
	request->batch->id = request->ids[0];
	request->batch->task = sqlite_column_copy(statement, 0, &failed);
	request->batch->pool = sqlite_column_copy(statement, 1, &failed);
	request->batch->count = (uint32_t)sqlite3_column_int64(statement, 2);
	request->batch->submitted_us = sqlite3_column_int64(statement, 3);
	return failed ? fail_memory(link) : 0;
}

int sqlite_fetch_batch(struct sqlite_link *link, struct store_request *request)
{
	sqlite3_stmt *find = sqlite_prepare(link, SQL_FIND_BATCH);
	sqlite3_stmt *rows = sqlite_prepare(link, SQL_FETCH_ROWS_OF_BATCH);
	size_t capacity = 0;
	int result;

	if (find == NULL || rows == NULL)
		return -EIO;
	sqlite_bind_id(find, 1, &request->ids[0]);
	result = sqlite_next(link, find);
	if (result == 0)
		request->status = -ENOENT;
	if (result != 1)
		return result;
	result = take_batch(link, find, request);
	(void)sqlite3_reset(find);
	if (result < 0)
		return result;
	sqlite_bind_id(rows, 1, &request->ids[0]);
	return take_rows(link, rows, request, &capacity);
}

/* ---- Listing ---- */

/* Numbers of the parameters. */
enum { AT_CURSOR = 1, AT_FLOOR, AT_POOL, AT_TASK, AT_NAME, AT_VALUE, AT_SINCE, AT_UNTIL, AT_LIMIT };

/* Behind WHERE, of `j`. The cursor and the floor are always bound. */
static void append_conditions(struct buffer *text, const struct store_filter *filter)
{
	buffer_append_text(text, "j.id<?1 AND j.id>=?2");
	if (filter->pool != NULL)
		buffer_append_text(text, " AND j.pool=?3");
	if (filter->task != NULL)
		buffer_append_text(text, " AND j.task=?4");
	if (filter->since_us != 0)
		buffer_append_text(text, " AND j.submitted_us>=?7");
	if (filter->until_us != 0)
		buffer_append_text(text, " AND j.submitted_us<?8");
}

static bool wants_state(const struct store_filter *filter, int state)
{
	return (filter->states >> state & 1U) != 0;
}

/* By label: its table leads. */
static void append_by_label(struct buffer *text, const struct store_filter *filter)
{
	const char *comma = "";

	buffer_append_text(text, "SELECT j.id AS id FROM labels l CROSS JOIN jobs j ON j.id=l.id "
				 "WHERE l.name=?5 AND l.value=?6 AND l.id<?1 AND l.id>=?2 AND ");
	append_conditions(text, filter);
	if (filter->states != 0) {
		buffer_append_text(text, " AND j.state IN(");
		for (int i = 0; i < JOB_STATES; i++) {
			if (!wants_state(filter, i))
				continue;
			buffer_append_format(text, "%s%d", comma, i);
			comma = ",";
		}
		buffer_append_text(text, ")");
	}
	buffer_append_text(text, " ORDER BY l.id DESC");
}

/* By state: one walk along the index for each, which SQLite merges. */
static void append_by_state(struct buffer *text, const struct store_filter *filter)
{
	const char *also = "";

	for (int i = 0; i < JOB_STATES; i++) {
		if (!wants_state(filter, i))
			continue;
		buffer_append_format(text,
				     "%sSELECT j.id AS id FROM jobs j INDEXED BY jobs_state WHERE "
				     "j.state=%d AND ",
				     also, i);
		append_conditions(text, filter);
		also = " UNION ALL ";
	}
	buffer_append_text(text, " ORDER BY id DESC");
}

static void append_plain(struct buffer *text, const struct store_filter *filter)
{
	buffer_append_format(text, "SELECT j.id AS id FROM jobs j %s WHERE ", "NOT INDEXED");
	append_conditions(text, filter);
	buffer_append_text(text, " ORDER BY j.id DESC");
}

static char *list_text(const struct store_filter *filter)
{
	struct buffer text = {0};

	buffer_append_text(&text, "SELECT " SQL_ROW_COLUMNS " FROM(");
	if (filter->label_key != NULL)
		append_by_label(&text, filter);
	else if ((filter->states & ((1U << JOB_STATES) - 1)) != 0)
		append_by_state(&text, filter);
	else
		append_plain(&text, filter);
	buffer_append_text(&text,
			   " LIMIT ?9) p CROSS JOIN jobs j ON j.id=p.id LEFT JOIN texts t ON "
			   "t.seq=j.seq ORDER BY p.id DESC");
	buffer_append_char(&text, '\0');
	if (buffer_failed(&text)) {
		buffer_release(&text);
		return NULL;
	}
	return buffer_take(&text, NULL);
}

/* The least identifier of that time. */
static struct id id_at(int64_t time_us)
{
	uint64_t ms = time_us > 0 ? (uint64_t)time_us / 1000 : 0;
	struct id id = {0};

	for (int i = 5; i >= 0; i--) {
		id.bytes[i] = (uint8_t)ms;
		ms >>= 8;
	}
	return id;
}

/* Between which identifiers to look: *ret_below is not among them. */
static void bounds(const struct store_filter *filter, struct id *ret_from, struct id *ret_below)
{
	memset(ret_below, 0xff, sizeof(*ret_below));
	if (filter->until_us != 0)
		*ret_below = id_at(filter->until_us + ID_SLACK_US);
	if (filter->has_cursor && id_compare(&filter->cursor, ret_below) < 0)
		*ret_below = filter->cursor;
	*ret_from = id_at(filter->since_us != 0 ? filter->since_us - ID_SLACK_US : 0);
}

int sqlite_list(struct sqlite_link *link, struct store_request *request)
{
	const struct store_filter *filter = &request->filter;
	char *text = list_text(filter);
	sqlite3_stmt *list = NULL;
	struct id from;
	struct id below;
	int code =
		text != NULL ? sqlite3_prepare_v2(link->db, text, -1, &list, NULL) : SQLITE_NOMEM;
	int result = code == SQLITE_OK ? 0 : sqlite_fail(link, code);

	free(text);
	if (result == 0) {
		bounds(filter, &from, &below);
		sqlite_bind_id(list, AT_CURSOR, &below);
		sqlite_bind_id(list, AT_FLOOR, &from);
		sqlite_bind_text(list, AT_POOL, filter->pool);
		sqlite_bind_text(list, AT_TASK, filter->task);
		sqlite_bind_text(list, AT_NAME, filter->label_key);
		sqlite_bind_text(list, AT_VALUE, filter->label_value);
		(void)sqlite3_bind_int64(list, AT_SINCE, filter->since_us);
		(void)sqlite3_bind_int64(list, AT_UNTIL, filter->until_us);
		(void)sqlite3_bind_int64(list, AT_LIMIT, filter->limit);
		result = take_page(link, list, request);
	}
	(void)sqlite3_finalize(list);
	return result;
}
