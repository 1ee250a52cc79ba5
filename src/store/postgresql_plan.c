/*
 * Plans: which requests can be carried out at once, and in which order. See the header.
 */
#include <errno.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "store/postgresql_operations.h"

/* Of the texts in one statement. */
#define RUN_BYTES_MAX (32UL << 20)
/* Of one text; PostgreSQL's own limit is twice that. */
#define TEXT_MAX (512UL << 20)

static bool comes_in_runs(enum store_op op)
{
	return op == STORE_PUT || op == STORE_CLAIM || op == STORE_UPDATE || op == STORE_END ||
	       op == STORE_LIVE || op == STORE_CALLBACK_RESULT;
}

/* What a run has of ids and keys, as hashes: one that is there by chance only ends the run early. */
struct marks {
	uint64_t *hashes; /* a power of two of them, at most half used; 0: free */
	size_t mask;
	size_t *used; /* where, so that they can be cleared */
	size_t used_count;
};

static uint64_t hash_id(const struct id *id)
{
	uint64_t hash;

	memcpy(&hash, id->bytes + sizeof(id->bytes) - sizeof(hash), sizeof(hash));
	return hash | 1;
}

static uint64_t hash_text(const char *text)
{
	uint64_t hash = UINT64_C(14695981039346656037);

	for (; *text; text++)
		hash = (hash ^ (unsigned char)*text) * UINT64_C(1099511628211);
	return hash | 1;
}

/* false: it is there. */
static bool mark(struct marks *marks, uint64_t hash)
{
	size_t at = (size_t)(hash >> 1) & marks->mask;

	while (marks->hashes[at] != 0) {
		if (marks->hashes[at] == hash)
			return false;
		at = (at + 1) & marks->mask;
	}
	marks->hashes[at] = hash;
	marks->used[marks->used_count++] = at;
	return true;
}

/* false: one of its ids, or its key, is in the run already. */
static bool mark_request(struct marks *marks, const struct store_request *request)
{
	bool is_new = true;

	for (size_t i = 0; i < request->row_count && is_new; i++)
		is_new = mark(marks, hash_id(&request->rows[i].id));
	for (size_t i = 0; i < request->id_count && is_new; i++)
		is_new = mark(marks, hash_id(&request->ids[i]));
	for (size_t i = 0; i < request->callback_count && is_new; i++)
		is_new = mark(marks, hash_id(&request->callbacks[i].id));
	if (is_new && request->op == STORE_PUT && pg_has_key(request))
		is_new = mark(marks, hash_text(request->key.text));
	return is_new;
}

static void clear_marks(struct marks *marks)
{
	while (marks->used_count > 0)
		marks->hashes[marks->used[--marks->used_count]] = 0;
}

static int make_marks(struct marks *marks, struct store_request **requests, size_t count)
{
	size_t most = 0, size = 16;

	for (size_t i = 0; i < count; i++)
		most += requests[i]->row_count + requests[i]->id_count +
			requests[i]->callback_count + 1;
	while (size < most * 2)
		size *= 2;
	marks->mask = size - 1;
	marks->hashes = calloc(size, sizeof(*marks->hashes));
	marks->used = calloc(most + 1, sizeof(*marks->used));
	return marks->hashes && marks->used ? 0 : -ENOMEM;
}

static size_t bytes_of(const struct store_request *request)
{
	size_t bytes = 0;

	for (size_t i = 0; i < request->row_count; i++) {
		const struct store_row *row = &request->rows[i];

		bytes += (row->record ? strlen(row->record) : 0) +
			 (row->document ? strlen(row->document) : 0);
	}
	return bytes;
}

static size_t run_length(struct marks *marks, struct store_request **requests, size_t count)
{
	size_t length = 1;
	size_t bytes = bytes_of(requests[0]);

	if (!comes_in_runs(requests[0]->op))
		return 1;
	clear_marks(marks);
	(void)mark_request(marks, requests[0]);
	while (length < count && requests[length]->op == requests[0]->op) {
		bytes += bytes_of(requests[length]);
		if (bytes > RUN_BYTES_MAX || !mark_request(marks, requests[length]))
			break;
		length++;
	}
	return length;
}

/* --- what can be carried out ---------------------------------------------------------------------- */

static bool is_text(const char *text, bool may_lack)
{
	return text ? strnlen(text, TEXT_MAX) < TEXT_MAX : may_lack;
}

static bool is_row(const struct store_row *row, enum store_op op)
{
	bool has_ended = row->state >= JOB_SUCCEEDED && row->state <= JOB_EXPIRED;

	if (!row->task || !row->pool || !is_text(row->record, true) ||
	    !is_text(row->document, !has_ended) || row->state == JOB_STOPPING)
		return false;
	return op == STORE_END ? has_ended : !has_ended || op == STORE_PUT;
}

static bool are_rows(const struct store_request *request)
{
	bool are_good = request->row_count > 0;

	for (size_t i = 0; i < request->row_count && are_good; i++)
		are_good = is_row(&request->rows[i], request->op);
	return are_good;
}

static bool is_possible(const struct store_request *request)
{
	switch (request->op) {
	case STORE_PUT:
	case STORE_UPDATE:
	case STORE_END:
		return are_rows(request);
	case STORE_CANCEL:
	case STORE_FETCH_BATCH:
		return request->id_count == 1;
	case STORE_LIST:
		return !request->filter.label_key || request->filter.label_value;
	case STORE_CLAIM:
	case STORE_FETCH:
	case STORE_RECOVER:
	case STORE_CALLBACKS:
	case STORE_CALLBACK_RESULT:
	case STORE_SWEEP:
	case STORE_TAKE:
	case STORE_POLL:
	case STORE_LIVE:
		return true;
	}
	return false;
}

int pg_plan_make(struct pg_plan *plan, struct store_request **requests, size_t count)
{
	struct marks marks = {0};
	size_t length, possible = 0;
	int status;

	plan->requests = requests;
	plan->request_count = count;
	plan->possible = calloc(count, sizeof(struct store_request *));
	if (!plan->possible)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		if (is_possible(requests[i]))
			plan->possible[possible++] = requests[i];
	}
	status = make_marks(&marks, plan->possible, possible);
	for (size_t at = 0; at < possible && status == 0; at += length) {
		length = run_length(&marks, plan->possible + at, possible - at);
		status = pg_plan_run(plan, plan->possible + at, length);
	}
	free(marks.hashes);
	free(marks.used);
	return status;
}

int pg_plan_apply(struct pg_plan *plan)
{
	int status = 0;

	for (size_t i = 0; i < plan->request_count; i++)
		plan->requests[i]->status = is_possible(plan->requests[i]) ? 0 : -EINVAL;
	for (size_t i = 0; i < plan->count && status == 0; i++) {
		if (plan->steps[i].apply)
			status = plan->steps[i].apply(plan, &plan->steps[i]);
	}
	return status;
}

void pg_plan_release(struct pg_plan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		pg_params_release(&plan->steps[i].params);
		PQclear(plan->steps[i].result); /* NULL is allowed */
	}
	free(plan->steps);
	free(plan->possible);
	*plan = (struct pg_plan){0};
}
