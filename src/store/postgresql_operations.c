/*
 * The operations of the shared store as statements. See the header, and postgresql_statements.c for
 * the parameters and the answers of each.
 */
#include "store/postgresql_operations.h"

#include <errno.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "job/job.h"
#include "store/backend.h"

#define US_PER_MS 1000

/* How long a job counts as watched after somebody has asked for its news. */
#define WATCH_US (5 * 1000000LL)

/* The jobs of one priority that are due are counted up to the first, and once in COUNT_FAR_NS up to
 * the second: the backlog's size is of interest, but not worth reading a million rows of an index. */
#define COUNT_NEAR   64
#define COUNT_FAR    2000
#define COUNT_FAR_NS (2 * NS_PER_S)

void pg_memory_release(struct pg_memory *memory)
{
	free(memory->seen);
	*memory = (struct pg_memory){0};
}

/* A new step; its parameters are to be set. NULL if memory is short. The pointer holds until the
 * next one. */
static struct pg_step *add_step(struct pg_plan *plan, enum pg_statement_number statement,
				struct store_request **requests, size_t count)
{
	if (plan->count == plan->capacity) {
		size_t capacity = plan->capacity * 2 + 8;
		struct pg_step *steps = realloc(plan->steps, capacity * sizeof(*steps));

		if (!steps)
			return NULL;
		plan->steps = steps;
		plan->capacity = capacity;
	}
	plan->steps[plan->count] =
		(struct pg_step){.statement = statement, .requests = requests, .count = count};
	return &plan->steps[plan->count++];
}

static int finish_step(const struct pg_step *step)
{
	return pg_params_failed(&step->params) ? -ENOMEM : 0;
}

/* Whether what this request asks may be in already. */
static bool may_be_in(const struct pg_plan *plan, const struct store_request *request)
{
	return request->since_ns <= plan->node->uncertain_ns;
}

/* One element for each row of each request. */
static void add_again(struct pg_plan *plan, struct pg_step *step)
{
	pg_array_begin(&step->params, PG_BOOL);
	for (size_t i = 0; i < step->count; i++) {
		for (size_t row = 0; row < step->requests[i]->row_count; row++)
			pg_array_bool(&step->params, may_be_in(plan, step->requests[i]));
	}
	pg_array_end(&step->params);
}

/* --- statuses ------------------------------------------------------------------------------------ */

/* Of all ids or rows of the run, by the numbers in the first column of the result: 0; of the others
 * -ESTALE. `counts` says how many a request has. */
static int set_statuses(const struct pg_step *step, size_t (*counts)(const struct store_request *))
{
	size_t total = 0, at = 0;
	bool *is_done;

	for (size_t i = 0; i < step->count; i++)
		total += counts(step->requests[i]);
	is_done = calloc(total + 1, sizeof(*is_done));
	if (!is_done)
		return -ENOMEM;
	for (int line = 0; line < PQntuples(step->result); line++) {
		int64_t number = pg_get_int8(step->result, line, 0);

		if (number >= 1 && (size_t)number <= total)
			is_done[number - 1] = true;
	}
	for (size_t i = 0; i < step->count; i++) {
		struct store_request *request = step->requests[i];

		for (size_t n = 0; n < counts(request); n++, at++) {
			if (request->statuses)
				request->statuses[n] = is_done[at] ? 0 : -ESTALE;
		}
	}
	free(is_done);
	return 0;
}

static size_t count_rows(const struct store_request *request)
{
	return request->row_count;
}

static size_t count_ids(const struct store_request *request)
{
	return request->id_count;
}

/* Puts the rows of a result behind those that the request has. */
static int append_rows(const struct pg_plan *plan, struct store_request *request,
		       const struct pg_result *result)
{
	size_t more = (size_t)PQntuples(result);
	struct store_row *rows;

	if (more == 0)
		return 0;
	rows = reallocarray(request->rows, request->row_count + more, sizeof(*rows));
	if (!rows)
		return -ENOMEM;
	request->rows = rows;
	for (int line = 0; line < PQntuples(result); line++) {
		int status =
			pg_get_row(result, line, plan->view.offset_us, &rows[request->row_count]);

		if (status != 0)
			return status;
		request->row_count++;
	}
	return 0;
}

static int apply_rows(struct pg_plan *plan, const struct pg_step *step)
{
	return append_rows(plan, step->requests[0], step->result);
}

/* --- put ----------------------------------------------------------------------------------------- */

/* What the request's key stands for: the batch if it has one, else its only job. */
static const struct id *key_id(const struct store_request *request)
{
	return request->batch ? &request->batch->id : &request->rows[0].id;
}

bool pg_has_key(const struct store_request *request)
{
	return request->key.text[0] != '\0' && (request->batch || request->row_count > 0);
}

static void add_keys(struct pg_plan *plan, struct pg_step *step)
{
	struct pg_params *params = &step->params;
	struct store_request **requests = step->requests;

	pg_array_begin(params, PG_TEXT);
	for (size_t i = 0; i < step->count; i++)
		pg_array_text(params, pg_has_key(requests[i]) ? requests[i]->key.text : NULL);
	pg_array_end(params);
	pg_array_begin(params, PG_BYTEA);
	for (size_t i = 0; i < step->count; i++)
		pg_array_bytes(params, requests[i]->key.fingerprint,
			       sizeof(requests[i]->key.fingerprint));
	pg_array_end(params);
	pg_array_begin(params, PG_INT8);
	for (size_t i = 0; i < step->count; i++)
		pg_array_int8(params, pg_time(requests[i]->key.expires_us, -plan->view.offset_us));
	pg_array_end(params);
	pg_array_begin(params, PG_UUID);
	for (size_t i = 0; i < step->count; i++)
		pg_array_uuid(params, pg_has_key(requests[i]) ? key_id(requests[i]) : NULL);
	pg_array_end(params);
	pg_array_begin(params, PG_BOOL);
	for (size_t i = 0; i < step->count; i++)
		pg_array_bool(params, requests[i]->batch != NULL);
	pg_array_end(params);
}

static void add_batches(struct pg_plan *plan, struct pg_step *step)
{
	static const struct store_batch none;
	struct pg_params *params = &step->params;

#define EACH_BATCH(type, put)                                                                      \
	do {                                                                                       \
		pg_array_begin(params, (type));                                                    \
		for (size_t i = 0; i < step->count; i++) {                                         \
			const struct store_batch *batch = step->requests[i]->batch;                \
			const struct store_batch *given = batch ? batch : &none;                   \
			put;                                                                       \
		}                                                                                  \
		pg_array_end(params);                                                              \
	} while (0)

	EACH_BATCH(PG_UUID, pg_array_uuid(params, batch ? &given->id : NULL));
	EACH_BATCH(PG_INT8,
		   pg_array_int8(params, pg_time(given->submitted_us, -plan->view.offset_us)));
	EACH_BATCH(PG_INT4, pg_array_int4(params, (int32_t)given->count));
	EACH_BATCH(PG_TEXT, pg_array_text(params, given->task));
	EACH_BATCH(PG_TEXT, pg_array_text(params, given->pool));
#undef EACH_BATCH
}

static int apply_put(struct pg_plan *plan, const struct pg_step *step)
{
	for (size_t i = 0; i < step->count; i++) {
		const struct store_request *request = step->requests[i];

		for (size_t row = 0; row < request->row_count; row++)
			plan->announce |= request->rows[row].state <= JOB_QUEUED;
	}
	for (int line = 0; line < PQntuples(step->result); line++) {
		int64_t number = pg_get_int8(step->result, line, 0);
		struct store_request *request;

		if (number < 1 || (size_t)number > step->count)
			continue;
		request = step->requests[number - 1];
		request->status = -EEXIST;
		request->found = pg_get_uuid(step->result, line, 1);
		request->found_batch = pg_get_bool(step->result, line, 2);
		request->same = pg_get_bool(step->result, line, 3);
	}
	return 0;
}

static int plan_put(struct pg_plan *plan, struct store_request **requests, size_t count)
{
	struct pg_step *step = add_step(plan, PG_PUT, requests, count);

	if (!step)
		return -ENOMEM;
	pg_params_rows(&step->params, requests, count, plan->view.offset_us);
	pg_array_begin(&step->params, PG_INT4);
	for (size_t i = 0; i < count; i++) {
		for (size_t row = 0; row < requests[i]->row_count; row++)
			pg_array_int4(&step->params, (int32_t)i + 1);
	}
	pg_array_end(&step->params);
	pg_param_int8(&step->params, plan->view.boot);
	add_keys(plan, step);
	add_batches(plan, step);
	step->apply = apply_put;
	return finish_step(step);
}

/* --- claim, update, end, live --------------------------------------------------------------------- */

static int apply_claim(struct pg_plan *plan, const struct pg_step *step)
{
	(void)plan;
	return set_statuses(step, count_ids);
}

static int plan_claim(struct pg_plan *plan, struct store_request **requests, size_t count)
{
	struct pg_step *step = add_step(plan, PG_CLAIM, requests, count);
	struct pg_params *params;

	if (!step)
		return -ENOMEM;
	params = &step->params;
	pg_array_begin(params, PG_UUID);
	for (size_t i = 0; i < count; i++) {
		for (size_t n = 0; n < requests[i]->id_count; n++)
			pg_array_uuid(params, &requests[i]->ids[n]);
	}
	pg_array_end(params);
	pg_array_begin(params, PG_INT4);
	for (size_t i = 0; i < count; i++) {
		for (size_t n = 0; n < requests[i]->id_count; n++)
			pg_array_int4(params, (int32_t)requests[i]->attempts[n]);
	}
	pg_array_end(params);
	pg_array_begin(params, PG_BOOL);
	for (size_t i = 0; i < count; i++) {
		for (size_t n = 0; n < requests[i]->id_count; n++)
			pg_array_bool(params, may_be_in(plan, requests[i]));
	}
	pg_array_end(params);
	pg_param_int8(params, plan->view.boot);
	step->apply = apply_claim;
	return finish_step(step);
}

static int apply_update(struct pg_plan *plan, const struct pg_step *step)
{
	plan->announce |= PQntuples(step->result) > 0;
	return set_statuses(step, count_rows);
}

static int apply_end(struct pg_plan *plan, const struct pg_step *step)
{
	for (int line = 0; line < PQntuples(step->result); line++)
		plan->announce |= pg_get_bool(step->result, line, 1);
	return set_statuses(step, count_rows);
}

/* Both take rows, `again` and the boot. */
static int plan_rows(struct pg_plan *plan, enum pg_statement_number statement,
		     struct store_request **requests, size_t count)
{
	struct pg_step *step = add_step(plan, statement, requests, count);

	if (!step)
		return -ENOMEM;
	pg_params_rows(&step->params, requests, count, plan->view.offset_us);
	add_again(plan, step);
	pg_param_int8(&step->params, plan->view.boot);
	step->apply = statement == PG_END ? apply_end : apply_update;
	return finish_step(step);
}

static int plan_live(struct pg_plan *plan, struct store_request **requests, size_t count)
{
	struct pg_step *step = add_step(plan, PG_LIVE, requests, count);
	struct pg_params *params;

	if (!step)
		return -ENOMEM;
	params = &step->params;
	pg_array_begin(params, PG_UUID);
	for (size_t i = 0; i < count; i++) {
		for (size_t n = 0; n < requests[i]->row_count; n++)
			pg_array_uuid(params, &requests[i]->rows[n].id);
	}
	pg_array_end(params);
	pg_array_begin(params, PG_INT4);
	for (size_t i = 0; i < count; i++) {
		for (size_t n = 0; n < requests[i]->row_count; n++)
			pg_array_int4(params, (int32_t)requests[i]->rows[n].attempt);
	}
	pg_array_end(params);
	pg_array_begin(params, PG_TEXT);
	for (size_t i = 0; i < count; i++) {
		for (size_t n = 0; n < requests[i]->row_count; n++)
			pg_array_text(params, requests[i]->rows[n].document);
	}
	pg_array_end(params);
	pg_param_int8(params, plan->view.boot);
	step->apply = apply_update;
	return finish_step(step);
}

/* --- take, recover, cancel ------------------------------------------------------------------------ */

/* A number for a claim; before the first of a plan, what claims of lost answers have is given back.
 * Even numbers are those of STORE_TAKE. 0: memory is short. */
static int64_t next_take(struct pg_plan *plan, bool is_take)
{
	struct pg_node *node = plan->node;
	struct pg_step *step;

	if (node->lost_to != 0 && !plan->gives_back) {
		step = add_step(plan, PG_GIVE_BACK, NULL, 0);
		if (!step)
			return 0;
		pg_param_int8(&step->params, plan->view.boot);
		pg_param_int8(&step->params, node->lost_from);
		pg_param_int8(&step->params, node->lost_to);
		if (finish_step(step) != 0)
			return 0;
		plan->gives_back = true;
	}
	node->take += 2 - (node->take & 1);
	if (!is_take)
		node->take++;
	if (plan->first_take == 0)
		plan->first_take = node->take;
	plan->last_take = node->take;
	return node->take;
}

static struct pg_counted *find_counted(struct pg_memory *memory, const char *pool)
{
	for (size_t i = 0; i < CONFIG_POOLS_MAX; i++) {
		struct pg_counted *counted = &memory->counted[i];

		if (counted->pool[0] == '\0')
			text_copy(counted->pool, sizeof(counted->pool), pool);
		if (strcmp(counted->pool, pool) == 0)
			return counted;
	}
	return &memory->counted[0];
}

static int apply_waiting(struct pg_plan *plan, const struct pg_step *step)
{
	struct store_pool *pool = &step->requests[0]->pools[step->pool];
	struct pg_counted *counted = find_counted(plan->memory, pool->name);
	uint64_t waiting = (uint64_t)pg_get_int8(step->result, 0, 0);

	if (step->limit == COUNT_FAR || waiting < COUNT_NEAR) {
		counted->waiting = waiting;
		counted->at_ns = clock_monotonic_ns();
	} else if (waiting < counted->waiting) {
		waiting = counted->waiting;
	}
	pool->waiting = waiting;
	return 0;
}

static int plan_waiting(struct pg_plan *plan, struct store_request **requests)
{
	for (size_t i = 0; i < requests[0]->pool_count; i++) {
		const char *name = requests[0]->pools[i].name;
		const struct pg_counted *counted = find_counted(plan->memory, name);
		struct pg_step *step = add_step(plan, PG_WAITING, requests, 1);

		if (!step)
			return -ENOMEM;
		step->pool = i;
		step->limit = clock_monotonic_ns() - counted->at_ns > COUNT_FAR_NS ? COUNT_FAR
										   : COUNT_NEAR;
		pg_param_text(&step->params, name);
		pg_param_int4(&step->params, (int32_t)step->limit);
		step->apply = apply_waiting;
		if (finish_step(step) != 0)
			return -ENOMEM;
	}
	return 0;
}

static int plan_take(struct pg_plan *plan, struct store_request **requests)
{
	int64_t take = next_take(plan, true);

	if (take == 0)
		return -ENOMEM;
	for (size_t i = 0; i < requests[0]->pool_count; i++) {
		const struct store_pool *pool = &requests[0]->pools[i];
		struct pg_step *step;

		if (pool->count == 0)
			continue;
		step = add_step(plan, PG_TAKE, requests, 1);
		if (!step)
			return -ENOMEM;
		pg_param_text(&step->params, pool->name);
		pg_param_int4(&step->params, (int32_t)pool->count);
		pg_param_int8(&step->params, pool->aging_us);
		pg_param_int8(&step->params, plan->view.boot);
		pg_param_int8(&step->params, take);
		step->apply = apply_rows;
		if (finish_step(step) != 0)
			return -ENOMEM;
	}
	return plan_waiting(plan, requests);
}

static int add_elect(struct pg_plan *plan)
{
	struct pg_step *step = add_step(plan, PG_ELECT, NULL, 0);

	if (!step)
		return -ENOMEM;
	pg_param_int8(&step->params, plan->view.boot);
	pg_param_int8(&step->params, plan->node->lease_us);
	return finish_step(step);
}

static int plan_recover(struct pg_plan *plan, struct store_request **requests)
{
	int64_t take = next_take(plan, false);
	struct pg_step *step;
	int status = take == 0 ? -ENOMEM : add_elect(plan);

	if (status != 0)
		return status;
	step = add_step(plan, PG_BURY, NULL, 0);
	if (!step)
		return -ENOMEM;
	pg_param_int8(&step->params, plan->view.boot);
	pg_param_bool(&step->params, plan->view.may_sweep);
	status = finish_step(step);
	step = status == 0 ? add_step(plan, PG_RECOVER, requests, 1) : NULL;
	if (!step)
		return -ENOMEM;
	pg_param_int8(&step->params, plan->view.boot);
	pg_param_int4(&step->params, (int32_t)requests[0]->limit);
	pg_param_int8(&step->params, take);
	step->apply = apply_rows;
	return finish_step(step);
}

static int apply_cancel(struct pg_plan *plan, const struct pg_step *step)
{
	struct store_request *request = step->requests[0];

	if (PQntuples(step->result) == 0) {
		request->status = -ENOENT;
	} else if (!PQgetisnull(step->result, 0, 0)) {
		return apply_rows(plan, step);
	} else if (pg_get_int4(step->result, 0, PG_ROW_COLUMNS) > JOB_STOPPING) {
		request->status = -EALREADY;
	} else {
		request->status = -EINPROGRESS;
		plan->announce = true;
	}
	return 0;
}

static int plan_cancel(struct pg_plan *plan, struct store_request **requests)
{
	int64_t take = next_take(plan, false);
	struct pg_step *step = take != 0 ? add_step(plan, PG_CANCEL, requests, 1) : NULL;

	if (!step)
		return -ENOMEM;
	pg_param_uuid(&step->params, &requests[0]->ids[0]);
	pg_param_int8(&step->params, plan->view.boot);
	pg_param_int8(&step->params, take);
	step->apply = apply_cancel;
	return finish_step(step);
}

/* --- poll ----------------------------------------------------------------------------------------- */

static int compare_seen(const void *a, const void *b)
{
	const struct pg_seen *left = a, *right = b;

	return id_compare(&left->id, &right->id);
}

static struct pg_seen *find_seen(const struct pg_memory *memory, const struct id *id)
{
	struct pg_seen wanted = {.id = *id};

	return memory->seen_count == 0 ? NULL
				       : bsearch(&wanted, memory->seen, memory->seen_count,
						 sizeof(wanted), compare_seen);
}

/* From now on these ids are remembered, with what was known of them. */
static int remember(struct pg_memory *memory, const struct store_request *request)
{
	struct pg_seen *seen = calloc(request->id_count + 1, sizeof(*seen));

	if (!seen)
		return -ENOMEM;
	for (size_t i = 0; i < request->id_count; i++) {
		const struct pg_seen *before = find_seen(memory, &request->ids[i]);

		seen[i].id = request->ids[i];
		seen[i].revision = before ? before->revision : 0;
	}
	qsort(seen, request->id_count, sizeof(*seen), compare_seen);
	free(memory->seen);
	memory->seen = seen;
	memory->seen_count = request->id_count;
	return 0;
}

static int apply_changed(struct pg_plan *plan, const struct pg_step *step)
{
	int status = remember(plan->memory, step->requests[0]);

	for (int line = 0; line < PQntuples(step->result) && status == 0; line++) {
		struct id id = pg_get_uuid(step->result, line, 0);
		struct pg_seen *seen = find_seen(plan->memory, &id);

		if (seen)
			seen->revision = pg_get_int4(step->result, line, PG_ROW_COLUMNS);
	}
	return status != 0 ? status : apply_rows(plan, step);
}

static int apply_wanted(struct pg_plan *plan, const struct pg_step *step)
{
	struct store_request *request = step->requests[0];
	size_t count = (size_t)PQntuples(step->result);
	struct id *cancelled = calloc(count + 1, sizeof(*cancelled));
	struct id *watched = calloc(count + 1, sizeof(*watched));

	if (!cancelled || !watched) {
		free(cancelled);
		free(watched);
		return -ENOMEM;
	}
	free(request->cancelled);
	free(request->watched);
	request->cancelled = cancelled;
	request->watched = watched;
	request->cancelled_count = 0;
	request->watched_count = 0;
	for (int line = 0; line < (int)count; line++) {
		struct id id = pg_get_uuid(step->result, line, 0);

		if (pg_get_bool(step->result, line, 1))
			cancelled[request->cancelled_count++] = id;
		if (pg_get_bool(step->result, line, 2) && !find_seen(plan->memory, &id))
			watched[request->watched_count++] = id;
	}
	return 0;
}

static void add_ids(struct pg_step *step)
{
	const struct store_request *request = step->requests[0];

	pg_array_begin(&step->params, PG_UUID);
	for (size_t i = 0; i < request->id_count; i++)
		pg_array_uuid(&step->params, &request->ids[i]);
	pg_array_end(&step->params);
}

static int plan_poll(struct pg_plan *plan, struct store_request **requests)
{
	struct pg_step *step = add_step(plan, PG_WATCH, requests, 1);
	int status;

	if (!step)
		return -ENOMEM;
	add_ids(step);
	pg_param_int8(&step->params, plan->config->store.poll_ms * 3 * US_PER_MS > WATCH_US
					     ? plan->config->store.poll_ms * 3 * US_PER_MS
					     : WATCH_US);
	status = finish_step(step);
	step = status == 0 ? add_step(plan, PG_CHANGED, requests, 1) : NULL;
	if (!step)
		return -ENOMEM;
	add_ids(step);
	pg_array_begin(&step->params, PG_INT4);
	for (size_t i = 0; i < requests[0]->id_count; i++) {
		const struct pg_seen *seen = find_seen(plan->memory, &requests[0]->ids[i]);

		pg_array_int4(&step->params, seen ? seen->revision : 0);
	}
	pg_array_end(&step->params);
	step->apply = apply_changed;
	status = finish_step(step);
	step = status == 0 ? add_step(plan, PG_WANTED, requests, 1) : NULL;
	if (!step)
		return -ENOMEM;
	pg_param_int8(&step->params, plan->view.boot);
	step->apply = apply_wanted;
	status = finish_step(step);
	return status != 0 ? status : plan_waiting(plan, requests);
}

/* --- callbacks ------------------------------------------------------------------------------------ */

static int apply_callbacks(struct pg_plan *plan, const struct pg_step *step)
{
	struct store_request *request = step->requests[0];
	size_t count = (size_t)PQntuples(step->result);
	struct store_callback *callbacks = calloc(count + 1, sizeof(*callbacks));

	if (!callbacks)
		return -ENOMEM;
	request->callbacks = callbacks;
	for (int line = 0; line < (int)count; line++) {
		struct store_callback *callback = &callbacks[line];

		request->callback_count = (size_t)line + 1;
		callback->id = pg_get_uuid(step->result, line, 0);
		callback->tries = (uint32_t)pg_get_int4(step->result, line, 2);
		callback->first_us =
			pg_time(pg_get_int8(step->result, line, 3), plan->view.offset_us);
		if (pg_get_text(step->result, line, 1, &callback->url) != 0 ||
		    pg_get_text(step->result, line, 4, &callback->document) != 0)
			return -ENOMEM;
	}
	return 0;
}

static int apply_next(struct pg_plan *plan, const struct pg_step *step)
{
	step->requests[0]->next_us = pg_time(pg_get_int8(step->result, 0, 0), plan->view.offset_us);
	return 0;
}

static int plan_callbacks(struct pg_plan *plan, struct store_request **requests)
{
	struct pg_step *step = add_step(plan, PG_CALLBACKS, requests, 1);

	if (!step)
		return -ENOMEM;
	pg_param_int4(&step->params, (int32_t)requests[0]->limit);
	pg_param_int8(&step->params, STORE_CALLBACK_LEASE_US);
	step->apply = apply_callbacks;
	if (finish_step(step) != 0)
		return -ENOMEM;
	step = add_step(plan, PG_CALLBACKS_NEXT, requests, 1);
	if (!step)
		return -ENOMEM;
	step->apply = apply_next;
	return 0;
}

static int plan_callback_result(struct pg_plan *plan, struct store_request **requests, size_t count)
{
	struct pg_step *step = add_step(plan, PG_CALLBACK_RESULT, requests, count);
	struct pg_params *params;

	if (!step)
		return -ENOMEM;
	params = &step->params;
#define EACH_CALLBACK(type, put)                                                                   \
	do {                                                                                       \
		pg_array_begin(params, (type));                                                    \
		for (size_t i = 0; i < count; i++) {                                               \
			for (size_t n = 0; n < requests[i]->callback_count; n++) {                 \
				const struct store_callback *callback =                            \
					&requests[i]->callbacks[n];                                \
				put;                                                               \
			}                                                                          \
		}                                                                                  \
		pg_array_end(params);                                                              \
	} while (0)

	EACH_CALLBACK(PG_UUID, pg_array_uuid(params, &callback->id));
	EACH_CALLBACK(PG_INT4, pg_array_int4(params, (int32_t)callback->tries));
	EACH_CALLBACK(PG_INT8,
		      pg_array_int8(params, pg_time(callback->due_us, -plan->view.offset_us)));
	EACH_CALLBACK(PG_BOOL, pg_array_bool(params, callback->delivered));
	EACH_CALLBACK(PG_INT4, pg_array_int4(params, callback->http_status));
	EACH_CALLBACK(PG_TEXT, pg_array_text(params, callback->error));
#undef EACH_CALLBACK
	return finish_step(step);
}

/* --- sweep ---------------------------------------------------------------------------------------- */

static int apply_sweep(struct pg_plan *plan, const struct pg_step *step)
{
	(void)plan;
	step->requests[0]->count = (uint64_t)pg_get_int8(step->result, 0, 0);
	return 0;
}

/* How many rows a statement without an answer has changed. */
static int apply_sweep_keys(struct pg_plan *plan, const struct pg_step *step)
{
	(void)plan;
	struct store_request *request = step->requests[0];

	request->count += strtoull(PQcmdTuples((PGresult *)step->result), NULL, 10);
	if (request->count > request->limit)
		request->count = request->limit;
	return 0;
}

static int plan_sweep(struct pg_plan *plan, struct store_request **requests)
{
	const struct config_retention *retention = plan->config->store.retention;
	struct pg_step *step;

	if (add_elect(plan) != 0)
		return -ENOMEM;
	step = add_step(plan, PG_SWEEP, requests, 1);
	if (!step)
		return -ENOMEM;
	pg_param_int8(&step->params, plan->view.boot);
	pg_array_begin(&step->params, PG_INT8);
	for (size_t i = 0; i < CONFIG_ENDED_STATES; i++)
		pg_array_int8(&step->params, retention[i].age_ms * US_PER_MS);
	pg_array_end(&step->params);
	pg_array_begin(&step->params, PG_INT8);
	for (size_t i = 0; i < CONFIG_ENDED_STATES; i++)
		pg_array_int8(&step->params, (int64_t)retention[i].jobs);
	pg_array_end(&step->params);
	pg_param_int4(&step->params, (int32_t)requests[0]->limit);
	step->apply = apply_sweep;
	if (finish_step(step) != 0)
		return -ENOMEM;
	step = add_step(plan, PG_SWEEP_KEYS, requests, 1);
	if (!step)
		return -ENOMEM;
	step->apply = apply_sweep_keys;
	pg_param_int8(&step->params, plan->view.boot);
	pg_param_int4(&step->params, (int32_t)requests[0]->limit);
	if (finish_step(step) != 0)
		return -ENOMEM;
	step = add_step(plan, PG_SWEEP_NODES, NULL, 0);
	if (!step)
		return -ENOMEM;
	pg_param_int8(&step->params, plan->view.boot);
	return finish_step(step);
}

/* --- reading -------------------------------------------------------------------------------------- */

static int plan_fetch(struct pg_plan *plan, struct store_request **requests)
{
	struct pg_step *step = add_step(plan, PG_FETCH, requests, 1);

	if (!step)
		return -ENOMEM;
	add_ids(step);
	step->apply = apply_rows;
	return finish_step(step);
}

static int plan_list(struct pg_plan *plan, struct store_request **requests)
{
	const struct store_filter *filter = &requests[0]->filter;
	int64_t offset_us = plan->view.offset_us;
	struct pg_step *step = add_step(plan, PG_LIST, requests, 1);
	struct pg_params *params;

	if (!step)
		return -ENOMEM;
	params = &step->params;
	pg_param_uuid(params, filter->has_cursor ? &filter->cursor : NULL);
	pg_param_int4(params, (int32_t)filter->states);
	pg_param_text(params, filter->pool);
	pg_param_text(params, filter->task);
	pg_param_text(params, filter->label_key);
	pg_param_text(params, filter->label_value);
	pg_param_int8(params, pg_time(filter->since_us, -offset_us));
	pg_param_int8(params, pg_time(filter->until_us, -offset_us));
	pg_param_int4(params, (int32_t)filter->limit);
	step->apply = apply_rows;
	return finish_step(step);
}

static int apply_batch(struct pg_plan *plan, const struct pg_step *step)
{
	struct store_request *request = step->requests[0];
	struct store_batch *batch;

	if (PQntuples(step->result) == 0) {
		request->status = -ENOENT;
		return 0;
	}
	batch = calloc(1, sizeof(*batch));
	if (!batch)
		return -ENOMEM;
	request->batch = batch;
	batch->id = pg_get_uuid(step->result, 0, 0);
	batch->count = (uint32_t)pg_get_int4(step->result, 0, 3);
	batch->submitted_us = pg_time(pg_get_int8(step->result, 0, 4), plan->view.offset_us);
	if (pg_get_text(step->result, 0, 1, &batch->task) != 0)
		return -ENOMEM;
	return pg_get_text(step->result, 0, 2, &batch->pool);
}

static int apply_batch_rows(struct pg_plan *plan, const struct pg_step *step)
{
	return step->requests[0]->status == 0 ? apply_rows(plan, step) : 0;
}

static int plan_batch(struct pg_plan *plan, struct store_request **requests)
{
	struct pg_step *step = add_step(plan, PG_BATCH, requests, 1);

	if (!step)
		return -ENOMEM;
	pg_param_uuid(&step->params, &requests[0]->ids[0]);
	step->apply = apply_batch;
	if (finish_step(step) != 0)
		return -ENOMEM;
	step = add_step(plan, PG_BATCH_ROWS, requests, 1);
	if (!step)
		return -ENOMEM;
	pg_param_uuid(&step->params, &requests[0]->ids[0]);
	step->apply = apply_batch_rows;
	return finish_step(step);
}

/* --- plans ---------------------------------------------------------------------------------------- */

/* One statement for the run, or, of what does not come in runs, the statements for the one request. */
int pg_plan_run(struct pg_plan *plan, struct store_request **requests, size_t count)
{
	switch (requests[0]->op) {
	case STORE_PUT:
		return plan_put(plan, requests, count);
	case STORE_CLAIM:
		return plan_claim(plan, requests, count);
	case STORE_TAKE:
		return plan_take(plan, requests);
	case STORE_UPDATE:
		return plan_rows(plan, PG_UPDATE, requests, count);
	case STORE_END:
		return plan_rows(plan, PG_END, requests, count);
	case STORE_FETCH:
		return plan_fetch(plan, requests);
	case STORE_LIST:
		return plan_list(plan, requests);
	case STORE_FETCH_BATCH:
		return plan_batch(plan, requests);
	case STORE_RECOVER:
		return plan_recover(plan, requests);
	case STORE_CANCEL:
		return plan_cancel(plan, requests);
	case STORE_POLL:
		return plan_poll(plan, requests);
	case STORE_LIVE:
		return plan_live(plan, requests, count);
	case STORE_CALLBACKS:
		return plan_callbacks(plan, requests);
	case STORE_CALLBACK_RESULT:
		return plan_callback_result(plan, requests, count);
	case STORE_SWEEP:
		return plan_sweep(plan, requests);
	}
	return -EINVAL;
}
