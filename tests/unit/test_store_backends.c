/*
 * What every implementation of the store has to do, by store/backend.h and store/store.h: each test
 * runs against each of `candidates`. What only SQLite's file can suffer comes behind.
 *
 * To add an implementation, add it to candidates[]; one that needs a server is left out unless a
 * variable says where it is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "random.h"
#include "store/backend.h"

#define SECOND_US 1000000LL
#define DAY_US	  (86400LL * SECOND_US)

/* ---- The candidates ---- */

/* One implementation, and where it keeps its things in this test. */
struct world {
	const struct backend_class *class;
	struct config config;
	struct backend *backend;
	char directory[64];
	char connection[512];
};

struct candidate {
	const struct backend_class *class;
	enum config_store_kind kind;
	const char *variable; /* names a connection string; NULL: needs none */
};

static const struct candidate candidates[] = {
	{&backend_memory, CONFIG_STORE_MEMORY, NULL},
	{&backend_sqlite, CONFIG_STORE_SQLITE, NULL},
#ifdef TWINPOOL_POSTGRESQL
	{&backend_postgresql, CONFIG_STORE_POSTGRESQL, "TWINPOOL_TEST_POSTGRES"},
#endif
};

#define CANDIDATES (sizeof(candidates) / sizeof(candidates[0]))

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
	(void)status;
	(void)kind;
	(void)place;
	return remove(path);
}

static void no_hint(void *data)
{
	(void)data;
}

static void open_world(struct world *world)
{
	char message[240] = "";

	if (world->class->open(&world->config, no_hint, NULL, &world->backend, message) < 0)
		fail_msg("%s: %s", world->class->name, message);
}

static void close_world(struct world *world)
{
	world->class->close(world->backend);
	world->backend = NULL;
}

static void reopen(struct world *world)
{
	close_world(world);
	open_world(world);
}

static void begin(struct world *world, const struct candidate *candidate)
{
	static unsigned int number;
	static char no_name[] = "";

	*world = (struct world){.class = candidate->class};
	(void)snprintf(world->directory, sizeof(world->directory), "/tmp/twinpool-store-XXXXXX");
	assert_non_null(mkdtemp(world->directory));
	world->config.store.kind = candidate->kind;
	world->config.store.lease_ms = 10000;
	world->config.data_dir = world->directory;
	world->config.store.node = no_name;
	/* Tables of its own for each world, as it has a directory of its own. */
	if (candidate->variable != NULL)
		(void)snprintf(world->connection, sizeof(world->connection),
			       "%s options='-c search_path=test_%ld_%u'",
			       getenv(candidate->variable), (long)getpid(), number++);
	world->config.store.connection = world->connection;
	open_world(world);
}

static void end(struct world *world)
{
	close_world(world);
	assert_int_equal(nftw(world->directory, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static void for_each(void (*test)(struct world *world))
{
	for (size_t i = 0; i < CANDIDATES; i++) {
		struct world world;

		if (candidates[i].variable != NULL && getenv(candidates[i].variable) == NULL)
			continue;
		begin(&world, &candidates[i]);
		test(&world);
		end(&world);
	}
}

/* ---- Requests ---- */

static int64_t now_us(void)
{
	return clock_realtime_ns() / NS_PER_US;
}

static char *copy(const char *text)
{
	char *made = strdup(text);

	assert_non_null(made);
	return made;
}

/* One that is queued. */
static void fill_row(struct store_row *row, const struct id *id, enum job_state state)
{
	*row = (struct store_row){.id = *id, .state = state};
	row->task = copy("echo");
	row->pool = copy("process");
	row->submitted_us = now_us();
	row->due_us = row->submitted_us;
	if (state >= JOB_SUCCEEDED) {
		row->ended_us = row->submitted_us;
		row->document = copy("{\"state\":\"ended\"}");
	} else {
		row->record = copy("{\"args\":1}");
	}
}

static struct store_request *with_rows(enum store_op op, size_t count)
{
	struct store_request *request = store_request_new(op);

	assert_non_null(request);
	assert_int_equal(store_request_rows(request, count), 0);
	return request;
}

static struct store_request *with_ids(enum store_op op, const struct id *ids, size_t count)
{
	struct store_request *request = store_request_new(op);

	assert_non_null(request);
	assert_int_equal(store_request_ids(request, count), 0);
	memcpy(request->ids, ids, count * sizeof(*ids));
	return request;
}

static struct store_request *with_row(enum store_op op, const struct id *id, enum job_state state)
{
	struct store_request *request = with_rows(op, 1);

	fill_row(&request->rows[0], id, state);
	request->rows[0].attempt = state == JOB_RUNNING || state >= JOB_SUCCEEDED;
	return request;
}

static void carry_out(struct world *world, struct store_request **requests, size_t count)
{
	char message[240] = "";

	if (world->class->write(world->backend, requests, count, true, message) < 0)
		fail_msg("%s: %s", world->class->name, message);
}

static int run(struct world *world, struct store_request *request)
{
	carry_out(world, &request, 1);
	return request->status;
}

/* Runs and frees one. */
static int run_off(struct world *world, struct store_request *request)
{
	int status = run(world, request);

	store_request_free(request);
	return status;
}

/* The status of its only row or id. */
static int status_of(struct world *world, struct store_request *request)
{
	int status;

	assert_int_equal(run(world, request), 0);
	status = request->statuses[0];
	store_request_free(request);
	return status;
}

static int put_one(struct world *world, const struct id *id, enum job_state state)
{
	return run_off(world, with_row(STORE_PUT, id, state));
}

static int claim_one(struct world *world, const struct id *id, uint32_t attempt)
{
	struct store_request *request = with_ids(STORE_CLAIM, id, 1);

	request->attempts[0] = attempt;
	return status_of(world, request);
}

static int end_one(struct world *world, const struct id *id, uint32_t attempt, enum job_state state,
		   int64_t ended_us)
{
	struct store_request *request = with_row(STORE_END, id, state);

	request->rows[0].attempt = attempt;
	request->rows[0].ended_us = ended_us;
	request->must = true;
	return status_of(world, request);
}

/* Both ways, where there are two. The caller frees the answer. */
static struct store_request *fetch(struct world *world, const struct id *id)
{
	struct store_request *request = with_ids(STORE_FETCH, id, 1);
	char message[240] = "";

	if (world->class->read == NULL || random_below(2) == 0)
		assert_int_equal(run(world, request), 0);
	else
		assert_int_equal(world->class->read(world->backend, request, message), 0);
	assert_int_equal(request->status, 0);
	assert_true(request->row_count <= 1);
	return request;
}

/* -1: there is none */
static int state_of(struct world *world, const struct id *id)
{
	struct store_request *request = fetch(world, id);
	int state = request->row_count == 0 ? -1 : (int)request->rows[0].state;

	store_request_free(request);
	return state;
}

/* ---- Putting and fetching ---- */

static void check_round_trip(struct world *world)
{
	struct store_request *request = with_rows(STORE_PUT, 1);
	struct id id = id_new();
	struct store_row *row = &request->rows[0];

	fill_row(row, &id, JOB_SCHEDULED);
	row->priority = -7;
	row->due_us = row->submitted_us + 5 * SECOND_US;
	row->expires_us = row->submitted_us + 9 * SECOND_US;
	row->labels = copy("{\"a'\\\"b\":\"\xc3\xa4\",\"x\":\"\"}");
	row->callback = copy("https://example.org/?a=b");
	assert_int_equal(run(world, request), 0);
	for (int i = 0; i < 4; i++) {
		struct store_request *found = fetch(world, &id);
		const struct store_row *seen = &found->rows[0];

		assert_int_equal(found->row_count, 1);
		assert_memory_equal(&seen->id, &id, sizeof(id));
		assert_int_equal(seen->state, JOB_SCHEDULED);
		assert_int_equal(seen->attempt, 0);
		assert_int_equal(seen->priority, -7);
		assert_int_equal(seen->submitted_us, row->submitted_us);
		assert_int_equal(seen->due_us, row->due_us);
		assert_int_equal(seen->expires_us, row->expires_us);
		assert_int_equal(seen->ended_us, 0);
		assert_false(seen->has_batch);
		assert_string_equal(seen->task, "echo");
		assert_string_equal(seen->pool, "process");
		assert_string_equal(seen->labels, row->labels);
		assert_string_equal(seen->callback, row->callback);
		assert_string_equal(seen->record, row->record);
		assert_null(seen->document);
		store_request_free(found);
	}
	store_request_free(request);
	id = id_new();
	assert_int_equal(state_of(world, &id), -1);
}

static void check_many_ids(struct world *world)
{
	struct id ids[40];
	struct store_request *request = with_rows(STORE_PUT, 39);

	for (size_t i = 0; i < 40; i++)
		ids[i] = id_new();
	for (size_t i = 0; i < 39; i++)
		fill_row(&request->rows[i], &ids[i], JOB_QUEUED);
	assert_int_equal(run_off(world, request), 0);
	request = with_ids(STORE_FETCH, ids, 40);
	assert_int_equal(run(world, request), 0);
	assert_int_equal(request->row_count, 39);
	store_request_free(request);
}

static void check_claim(struct world *world)
{
	struct id id = id_new();
	struct id ended = id_new();
	struct id absent = id_new();
	struct id all[3];
	struct store_request *request;

	assert_int_equal(put_one(world, &id, JOB_QUEUED), 0);
	assert_int_equal(put_one(world, &ended, JOB_QUEUED), 0);
	assert_int_equal(end_one(world, &ended, 0, JOB_CANCELLED, now_us()), 0);
	all[0] = ended;
	all[1] = id;
	all[2] = absent;
	request = with_ids(STORE_CLAIM, all, 3);
	for (size_t i = 0; i < 3; i++)
		request->attempts[i] = 1;
	assert_int_equal(run(world, request), 0);
	assert_int_equal(request->statuses[0], -ESTALE);
	assert_int_equal(request->statuses[1], 0);
	assert_int_equal(request->statuses[2], -ESTALE);
	store_request_free(request);
	assert_int_equal(state_of(world, &id), JOB_RUNNING);
	assert_int_equal(claim_one(world, &id, 1), -ESTALE);
	assert_int_equal(state_of(world, &ended), JOB_CANCELLED);
}

static void check_update(struct world *world)
{
	struct id id = id_new();
	struct store_request *request;
	struct store_request *found;

	assert_int_equal(put_one(world, &id, JOB_RUNNING), 0);
	request = with_row(STORE_UPDATE, &id, JOB_SCHEDULED);
	request->must = true;
	request->rows[0].attempt = 1;
	request->rows[0].due_us += 60 * SECOND_US;
	request->rows[0].expires_us = request->rows[0].due_us + SECOND_US;
	free(request->rows[0].record);
	request->rows[0].record = copy("{\"args\":2}");
	assert_int_equal(run(world, request), 0);
	assert_int_equal(request->statuses[0], 0);
	found = fetch(world, &id);
	assert_int_equal(found->rows[0].state, JOB_SCHEDULED);
	assert_int_equal(found->rows[0].attempt, 1);
	assert_int_equal(found->rows[0].due_us, request->rows[0].due_us);
	assert_int_equal(found->rows[0].expires_us, request->rows[0].expires_us);
	assert_string_equal(found->rows[0].record, "{\"args\":2}");
	store_request_free(found);
	store_request_free(request);
	assert_int_equal(claim_one(world, &id, 2), 0);

	assert_int_equal(end_one(world, &id, 2, JOB_FAILED, now_us()), 0);
	request = with_row(STORE_UPDATE, &id, JOB_QUEUED);
	assert_int_equal(status_of(world, request), -ESTALE);
	assert_int_equal(state_of(world, &id), JOB_FAILED);
	id = id_new();
	assert_int_equal(status_of(world, with_row(STORE_UPDATE, &id, JOB_QUEUED)), -ESTALE);
	assert_int_equal(state_of(world, &id), -1);
}

static void check_end(struct world *world)
{
	struct id id = id_new();
	struct store_request *found;

	assert_int_equal(put_one(world, &id, JOB_QUEUED), 0);
	assert_int_equal(claim_one(world, &id, 2), 0);
	assert_int_equal(end_one(world, &id, 1, JOB_SUCCEEDED, 1), -ESTALE);
	assert_int_equal(state_of(world, &id), JOB_RUNNING);
	assert_int_equal(end_one(world, &id, 2, JOB_TIMED_OUT, 77 * SECOND_US), 0);
	found = fetch(world, &id);
	assert_int_equal(found->rows[0].state, JOB_TIMED_OUT);
	assert_int_equal(found->rows[0].attempt, 2);
	assert_int_equal(found->rows[0].ended_us, 77 * SECOND_US);
	assert_string_equal(found->rows[0].document, "{\"state\":\"ended\"}");
	assert_null(found->rows[0].record);
	store_request_free(found);
	/* What has ended does not change. */
	assert_int_equal(end_one(world, &id, 2, JOB_SUCCEEDED, now_us()), -ESTALE);
	assert_int_equal(put_one(world, &id, JOB_RUNNING), 0);
	assert_int_equal(claim_one(world, &id, 3), -ESTALE);
	assert_int_equal(state_of(world, &id), JOB_TIMED_OUT);
	/* One that was not put before. */
	id = id_new();
	assert_int_equal(end_one(world, &id, 1, JOB_CRASHED, now_us()), 0);
	assert_int_equal(state_of(world, &id), JOB_CRASHED);
}

static void check_put_again(struct world *world)
{
	struct id id = id_new();
	struct store_request *request;
	struct store_request *found;

	assert_int_equal(put_one(world, &id, JOB_QUEUED), 0);
	request = with_row(STORE_PUT, &id, JOB_RUNNING);
	free(request->rows[0].record);
	request->rows[0].record = copy("{\"args\":3}");
	request->rows[0].callback = copy("http://a/");
	assert_int_equal(run_off(world, request), 0);
	found = fetch(world, &id);
	assert_int_equal(found->row_count, 1);
	assert_int_equal(found->rows[0].state, JOB_RUNNING);
	assert_int_equal(found->rows[0].attempt, 1);
	assert_string_equal(found->rows[0].record, "{\"args\":3}");
	assert_string_equal(found->rows[0].callback, "http://a/");
	store_request_free(found);
}

/* One that could never be carried out does not take the others down. */
static void check_impossible(struct world *world)
{
	struct id ids[2];
	struct store_request *requests[4];
	static const int expected[4] = {0, -EINVAL, -EINVAL, 0};

	for (size_t i = 0; i < 2; i++)
		ids[i] = id_new();
	requests[0] = with_row(STORE_PUT, &ids[0], JOB_QUEUED);
	requests[1] = with_row(STORE_PUT, &ids[1], JOB_QUEUED);
	free(requests[1]->rows[0].task);
	requests[1]->rows[0].task = NULL;
	requests[2] = with_row(STORE_END, &ids[1], JOB_RUNNING);
	requests[3] = with_ids(STORE_FETCH, ids, 2);
	carry_out(world, requests, 4);
	assert_int_equal(requests[3]->row_count, 1);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(requests[i]->status, expected[i]);
		store_request_free(requests[i]);
	}
	if (!world->class->is_shared)
		assert_int_equal(run_off(world, store_request_new(STORE_TAKE)), -ENOTSUP);
}

static void test_round_trip(void **state)
{
	(void)state;
	for_each(check_round_trip);
}

static void test_many_ids(void **state)
{
	(void)state;
	for_each(check_many_ids);
}

static void test_claim(void **state)
{
	(void)state;
	for_each(check_claim);
}

static void test_update(void **state)
{
	(void)state;
	for_each(check_update);
}

static void test_end(void **state)
{
	(void)state;
	for_each(check_end);
}

static void test_put_again(void **state)
{
	(void)state;
	for_each(check_put_again);
}

static void test_impossible(void **state)
{
	(void)state;
	for_each(check_impossible);
}

/* ---- Keys ---- */

static struct store_request *with_key(struct store_request *request, const char *key, uint8_t print,
				      int64_t expires_us)
{
	(void)snprintf(request->key.text, sizeof(request->key.text), "%s", key);
	memset(request->key.fingerprint, print, sizeof(request->key.fingerprint));
	request->key.expires_us = expires_us;
	return request;
}

static struct store_request *put_with_key(const struct id *id, const char *key, uint8_t print,
					  int64_t expires_us)
{
	return with_key(with_row(STORE_PUT, id, JOB_QUEUED), key, print, expires_us);
}

static void expect_taken(struct world *world, const char *key, uint8_t print,
			 const struct id *first, bool same)
{
	struct id id = id_new();
	struct store_request *request = put_with_key(&id, key, print, now_us() + DAY_US);

	assert_int_equal(run(world, request), -EEXIST);
	assert_memory_equal(&request->found, first, sizeof(*first));
	assert_false(request->found_batch);
	assert_int_equal(request->same, same);
	store_request_free(request);
	assert_int_equal(state_of(world, &id), -1);
}

static void check_keys(struct world *world)
{
	struct id first = id_new();
	struct id second = id_new();
	struct id third = id_new();
	struct store_request *together[2];

	assert_int_equal(run_off(world, put_with_key(&first, "k", 1, now_us() + DAY_US)), 0);
	expect_taken(world, "k", 1, &first, true);
	expect_taken(world, "k", 2, &first, false);
	if (world->class->is_durable) {
		reopen(world);
		expect_taken(world, "k", 1, &first, true);
	}
	/* One that has expired is free. */
	assert_int_equal(run_off(world, put_with_key(&second, "e", 1, now_us() - 1)), 0);
	assert_int_equal(run_off(world, put_with_key(&third, "e", 2, now_us() + DAY_US)), 0);
	expect_taken(world, "e", 2, &third, true);
	/* Both at once: one job. */
	first = id_new();
	second = id_new();
	together[0] = put_with_key(&first, "t", 3, now_us() + DAY_US);
	together[1] = put_with_key(&second, "t", 3, now_us() + DAY_US);
	carry_out(world, together, 2);
	assert_int_equal(together[0]->status, 0);
	assert_int_equal(together[1]->status, -EEXIST);
	assert_true(together[1]->same);
	assert_memory_equal(&together[1]->found, &first, sizeof(first));
	store_request_free(together[0]);
	store_request_free(together[1]);
	assert_int_equal(state_of(world, &second), -1);
}

static void test_keys(void **state)
{
	(void)state;
	for_each(check_keys);
}

/* ---- Batches ---- */

static struct store_request *batch_of(const struct id *batch, const struct id *ids, size_t count)
{
	struct store_request *request = with_rows(STORE_PUT, count);

	request->batch = calloc(1, sizeof(*request->batch));
	assert_non_null(request->batch);
	request->batch->id = *batch;
	request->batch->task = copy("echo");
	request->batch->pool = copy("thread");
	request->batch->count = (uint32_t)count;
	request->batch->submitted_us = 12345;
	for (size_t i = 0; i < count; i++) {
		fill_row(&request->rows[i], &ids[i], JOB_QUEUED);
		request->rows[i].has_batch = true;
		request->rows[i].batch = *batch;
		request->rows[i].batch_index = (uint32_t)(count - 1 - i);
	}
	return request;
}

static void make_ids(struct id *ids, size_t count)
{
	for (size_t i = 0; i < count; i++)
		ids[i] = id_new();
}

static void check_batch(struct world *world)
{
	struct id batch = id_new();
	struct id other = id_new();
	struct id ids[20];
	struct store_request *request;

	make_ids(ids, 20);
	request = with_key(batch_of(&batch, ids, 20), "b", 9, now_us() + DAY_US);
	assert_int_equal(run_off(world, request), 0);
	request = with_ids(STORE_FETCH_BATCH, &batch, 1);
	assert_int_equal(run(world, request), 0);
	assert_non_null(request->batch);
	assert_int_equal(request->batch->count, 20);
	assert_int_equal(request->batch->submitted_us, 12345);
	assert_string_equal(request->batch->task, "echo");
	assert_string_equal(request->batch->pool, "thread");
	assert_int_equal(request->row_count, 20);
	for (size_t i = 0; i < 20; i++) {
		assert_int_equal(request->rows[i].batch_index, i);
		assert_true(request->rows[i].has_batch);
		assert_memory_equal(&request->rows[i].id, &ids[19 - i], sizeof(ids[0]));
	}
	store_request_free(request);
	request = with_key(batch_of(&other, ids, 20), "b", 9, now_us() + DAY_US);
	assert_int_equal(run(world, request), -EEXIST);
	assert_true(request->found_batch);
	assert_memory_equal(&request->found, &batch, sizeof(batch));
	store_request_free(request);
	assert_int_equal(run_off(world, with_ids(STORE_FETCH_BATCH, &other, 1)), -ENOENT);
}

static void test_batch(void **state)
{
	(void)state;
	for_each(check_batch);
}

/* ---- Recovery ---- */

static size_t recover(struct world *world, uint32_t limit, struct id *ids)
{
	struct store_request *request = store_request_new(STORE_RECOVER);
	size_t count;

	request->limit = limit;
	assert_int_equal(run(world, request), 0);
	count = request->row_count;
	assert_true(count <= limit);
	for (size_t i = 0; i < count; i++) {
		ids[i] = request->rows[i].id;
		assert_non_null(request->rows[i].record);
	}
	store_request_free(request);
	return count;
}

static void check_recovery(struct world *world)
{
	struct id ids[6];
	struct id seen[10];

	make_ids(ids, 6);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(put_one(world, &ids[i], i == 0 ? JOB_SCHEDULED : JOB_QUEUED), 0);
	assert_int_equal(claim_one(world, &ids[2], 1), 0);
	assert_int_equal(end_one(world, &ids[3], 0, JOB_CANCELLED, now_us()), 0);
	/* Those of this opening are nobody else's. */
	assert_int_equal(recover(world, 10, seen), 0);
	reopen(world);
	if (!world->class->is_durable) {
		assert_int_equal(recover(world, 10, seen), 0);
		assert_int_equal(state_of(world, &ids[0]), -1);
		return;
	}
	struct id fresh = id_new();
	assert_int_equal(put_one(world, &fresh, JOB_QUEUED), 0);
	assert_int_equal(recover(world, 2, seen), 2);
	assert_int_equal(recover(world, 2, seen + 2), 2);
	assert_int_equal(recover(world, 2, seen + 4), 1);
	assert_int_equal(recover(world, 2, seen + 5), 0);
	for (size_t i = 0; i < 5; i++)
		assert_memory_equal(&seen[i], &ids[i < 3 ? i : i + 1], sizeof(ids[0]));
	assert_int_equal(state_of(world, &ids[2]), JOB_RUNNING);
	assert_int_equal(state_of(world, &ids[3]), JOB_CANCELLED);
	/* Each opening hands them out anew. */
	reopen(world);
	assert_int_equal(recover(world, 10, seen), 6);
}

/* A shared store has a way of its own, which the leases of its services tell. */
static void test_recovery(void **state)
{
	(void)state;
	for (size_t i = 0; i < CANDIDATES; i++) {
		struct world world;

		if (candidates[i].class->is_shared)
			continue;
		begin(&world, &candidates[i]);
		check_recovery(&world);
		end(&world);
	}
}

/* ---- Callbacks ---- */

static struct store_request *due_callbacks(struct world *world, uint32_t limit)
{
	struct store_request *request = store_request_new(STORE_CALLBACKS);

	request->limit = limit;
	assert_int_equal(run(world, request), 0);
	return request;
}

static void callback_result(struct world *world, const struct id *id, uint32_t tries,
			    int64_t due_us, bool delivered)
{
	struct store_request *request = store_request_new(STORE_CALLBACK_RESULT);

	request->must = true;
	request->callbacks = calloc(1, sizeof(*request->callbacks));
	assert_non_null(request->callbacks);
	request->callback_count = 1;
	request->callbacks[0] = (struct store_callback){
		.id = *id, .tries = tries, .due_us = due_us, .delivered = delivered};
	request->callbacks[0].http_status = delivered ? 204 : 503;
	request->callbacks[0].error = delivered ? NULL : copy("no");
	assert_int_equal(run_off(world, request), 0);
}

/* A job that has ended so long ago and calls back. */
static struct id ended_with_callback(struct world *world, int64_t ago_us)
{
	struct id id = id_new();
	struct store_request *request = with_row(STORE_PUT, &id, JOB_RUNNING);

	request->rows[0].callback = copy("http://hooks/");
	assert_int_equal(run_off(world, request), 0);
	assert_int_equal(end_one(world, &id, 1, JOB_SUCCEEDED, now_us() - ago_us), 0);
	return id;
}

static void check_callbacks(struct world *world)
{
	struct id second = ended_with_callback(world, 5 * SECOND_US);
	struct id first = ended_with_callback(world, 9 * SECOND_US);
	struct id without = id_new();
	struct store_request *request;
	int64_t before_us = now_us();

	assert_int_equal(put_one(world, &without, JOB_RUNNING), 0);
	assert_int_equal(end_one(world, &without, 1, JOB_SUCCEEDED, now_us()), 0);
	request = due_callbacks(world, 1);
	assert_int_equal(request->callback_count, 1);
	assert_memory_equal(&request->callbacks[0].id, &first, sizeof(first));
	assert_string_equal(request->callbacks[0].url, "http://hooks/");
	assert_string_equal(request->callbacks[0].document, "{\"state\":\"ended\"}");
	assert_int_equal(request->callbacks[0].tries, 0);
	assert_true(request->callbacks[0].first_us <= before_us - 9 * SECOND_US + SECOND_US);
	assert_true(request->next_us > 0 && request->next_us <= now_us());
	store_request_free(request);
	request = due_callbacks(world, 5);
	assert_int_equal(request->callback_count, 1);
	assert_memory_equal(&request->callbacks[0].id, &second, sizeof(second));
	store_request_free(request);
	/* Both are lent out. */
	request = due_callbacks(world, 5);
	assert_int_equal(request->callback_count, 0);
	assert_true(request->next_us >= before_us + STORE_CALLBACK_LEASE_US - SECOND_US);
	assert_true(request->next_us <= now_us() + STORE_CALLBACK_LEASE_US + SECOND_US);
	store_request_free(request);

	callback_result(world, &first, 1, now_us() - 1000, false);
	request = due_callbacks(world, 5);
	assert_int_equal(request->callback_count, 1);
	assert_memory_equal(&request->callbacks[0].id, &first, sizeof(first));
	assert_int_equal(request->callbacks[0].tries, 1);
	store_request_free(request);
	callback_result(world, &first, 2, 0, true);
	callback_result(world, &second, 1, now_us() + 3600 * SECOND_US, false);
	request = due_callbacks(world, 5);
	assert_int_equal(request->callback_count, 0);
	assert_true(request->next_us > now_us() + 3500 * SECOND_US);
	store_request_free(request);
	if (world->class->is_durable) {
		reopen(world);
		request = due_callbacks(world, 5);
		assert_int_equal(request->callback_count, 0);
		assert_true(request->next_us > now_us() + 3500 * SECOND_US);
		store_request_free(request);
	}
	callback_result(world, &second, 2, 0, false);
	request = due_callbacks(world, 5);
	assert_int_equal(request->next_us, 0);
	store_request_free(request);
}

static void test_callbacks(void **state)
{
	(void)state;
	for_each(check_callbacks);
}

/* ---- Retention ---- */

static uint64_t sweep(struct world *world, uint32_t limit)
{
	struct store_request *request = store_request_new(STORE_SWEEP);
	uint64_t count;

	request->limit = limit;
	assert_int_equal(run(world, request), 0);
	count = request->count;
	assert_true(count <= limit);
	store_request_free(request);
	return count;
}

static struct id ended(struct world *world, enum job_state state, int64_t ago_us)
{
	struct id id = id_new();
	struct store_request *request = with_row(STORE_END, &id, state);

	request->rows[0].ended_us = now_us() - ago_us;
	request->rows[0].labels = copy("{\"l\":\"v\"}");
	assert_int_equal(status_of(world, request), 0);
	return id;
}

static void check_age_and_count(struct world *world)
{
	struct config_retention *succeeded = &world->config.store.retention[0];
	struct config_retention *failed = &world->config.store.retention[1];
	struct id live = id_new();
	struct id old;
	struct id young;
	struct id ids[10];

	assert_int_equal(put_one(world, &live, JOB_QUEUED), 0);
	young = ended(world, JOB_SUCCEEDED, SECOND_US);
	old = ended(world, JOB_SUCCEEDED, 100 * SECOND_US);
	for (size_t i = 0; i < 10; i++)
		ids[i] = ended(world, JOB_FAILED, (int64_t)(100 - i) * SECOND_US);
	assert_int_equal(sweep(world, 100), 0); /* nothing is bounded */
	succeeded->age_ms = 50000;
	assert_int_equal(sweep(world, 100), 1);
	assert_int_equal(state_of(world, &old), -1);
	assert_int_equal(state_of(world, &young), JOB_SUCCEEDED);
	/* The oldest by their end go first, so many at a time. */
	failed->jobs = 3;
	assert_int_equal(sweep(world, 4), 4);
	assert_int_equal(state_of(world, &ids[3]), -1);
	assert_int_equal(state_of(world, &ids[4]), JOB_FAILED);
	assert_int_equal(sweep(world, 100), 3);
	assert_int_equal(state_of(world, &ids[6]), -1);
	assert_int_equal(state_of(world, &ids[7]), JOB_FAILED);
	if (world->class->is_durable)
		reopen(world);
	assert_int_equal(sweep(world, 100), 0);
	if (world->class->is_durable)
		assert_int_equal(state_of(world, &live), JOB_QUEUED);
	(void)ended(world, JOB_FAILED, 0);
	(void)ended(world, JOB_FAILED, 0);
	assert_int_equal(sweep(world, 100), 2);
}

static void check_callbacks_stay(struct world *world)
{
	struct id id = ended_with_callback(world, 100 * SECOND_US);

	world->config.store.retention[0].age_ms = 1000;
	assert_int_equal(sweep(world, 100), 0);
	callback_result(world, &id, 1, now_us() + SECOND_US, false);
	assert_int_equal(sweep(world, 100), 0);
	callback_result(world, &id, 2, 0, false);
	assert_int_equal(sweep(world, 100), 1);
	assert_int_equal(state_of(world, &id), -1);
}

static void check_batches_go_together(struct world *world)
{
	struct id batch = id_new();
	struct id ids[8];

	make_ids(ids, 8);
	world->config.store.retention[0].age_ms = 50000;
	world->config.store.retention[1].age_ms = 50000;
	assert_int_equal(run_off(world, batch_of(&batch, ids, 8)), 0);
	for (size_t i = 0; i < 7; i++)
		assert_int_equal(
			end_one(world, &ids[i], 1, JOB_SUCCEEDED, now_us() - 100 * SECOND_US), 0);
	assert_int_equal(sweep(world, 100), 0); /* one has not ended */
	assert_int_equal(end_one(world, &ids[7], 1, JOB_FAILED, now_us() - 20 * SECOND_US), 0);
	assert_int_equal(sweep(world, 100), 0); /* one is young */
	assert_int_equal(state_of(world, &ids[0]), JOB_SUCCEEDED);
	world->config.store.retention[1].age_ms = 10000;
	assert_int_equal(sweep(world, 5), 5); /* in bounded steps, but gone as a whole */
	assert_int_equal(run_off(world, with_ids(STORE_FETCH_BATCH, &batch, 1)), -ENOENT);
	assert_int_equal(sweep(world, 100), 3);
	for (size_t i = 0; i < 8; i++)
		assert_int_equal(state_of(world, &ids[i]), -1);
	assert_int_equal(sweep(world, 100), 0);
}

static void check_keys_expire(struct world *world)
{
	for (int i = 0; i < 10; i++) {
		struct id id = id_new();
		char key[16];

		(void)snprintf(key, sizeof(key), "k%d", i);
		assert_int_equal(
			run_off(world, put_with_key(&id, key, 1, now_us() + (i < 7 ? -1 : DAY_US))),
			0);
	}
	assert_int_equal(sweep(world, 4), 4);
	assert_int_equal(sweep(world, 100), 3);
	assert_int_equal(sweep(world, 100), 0);
}

static void test_age_and_count(void **state)
{
	(void)state;
	for_each(check_age_and_count);
}

static void test_callbacks_stay(void **state)
{
	(void)state;
	for_each(check_callbacks_stay);
}

static void test_batches_go_together(void **state)
{
	(void)state;
	for_each(check_batches_go_together);
}

static void test_keys_expire(void **state)
{
	(void)state;
	for_each(check_keys_expire);
}

/* ---- Against a model ---- */

#define MODEL_JOBS 160

static const char *const tasks[] = {"echo", "fib", "sleep"};
static const char *const pools[] = {"process", "thread"};
static const char *const values[] = {"red", "green", "it's \"blue\""};
static const char *const labels[] = {
	"{\"colour\":\"red\",\"x\":\"1\"}",
	"{\"colour\":\"green\"}",
	"{\"x\":\"2\",\"colour\":\"it's \\\"blue\\\"\"}",
};

struct model_job {
	struct id id;
	enum job_state state;
	uint32_t attempt;
	size_t task;
	size_t pool;
	size_t label;
	int64_t submitted_us;
	int64_t due_us;
	int text; /* what its record or document says */
};

struct model {
	struct model_job jobs[MODEL_JOBS]; /* oldest first */
	size_t count;
	int64_t start_us;
	int texts;
};

static bool has_ended(const struct model_job *job)
{
	return job->state >= JOB_SUCCEEDED;
}

static void model_row(struct store_row *row, const struct model_job *job)
{
	char text[32];

	*row = (struct store_row){.id = job->id, .state = job->state, .attempt = job->attempt};
	row->task = copy(tasks[job->task]);
	row->pool = copy(pools[job->pool]);
	row->labels = copy(labels[job->label]);
	row->submitted_us = job->submitted_us;
	row->due_us = job->due_us;
	(void)snprintf(text, sizeof(text), "{\"n\":%d}", job->text);
	if (has_ended(job)) {
		row->document = copy(text);
		row->ended_us = job->due_us + 1;
	} else {
		row->record = copy(text);
	}
}

static struct store_request *model_request(enum store_op op, const struct model_job *job)
{
	struct store_request *request = with_rows(op, 1);

	model_row(&request->rows[0], job);
	return request;
}

static void compare_row(const struct store_row *row, const struct model_job *job)
{
	char text[32];

	(void)snprintf(text, sizeof(text), "{\"n\":%d}", job->text);
	assert_memory_equal(&row->id, &job->id, sizeof(job->id));
	assert_int_equal(row->state, job->state);
	assert_int_equal(row->attempt, job->attempt);
	assert_string_equal(row->task, tasks[job->task]);
	assert_string_equal(row->pool, pools[job->pool]);
	assert_string_equal(row->labels, labels[job->label]);
	assert_int_equal(row->submitted_us, job->submitted_us);
	assert_string_equal(has_ended(job) ? row->document : row->record, text);
	assert_null(has_ended(job) ? row->record : row->document);
}

static void model_put(struct world *world, struct model *model)
{
	struct model_job *job = &model->jobs[model->count];
	static const enum job_state states[] = {JOB_SCHEDULED, JOB_QUEUED, JOB_RUNNING,
						JOB_SUCCEEDED, JOB_EXPIRED};

	if (model->count == MODEL_JOBS)
		return;
	*job = (struct model_job){.id = id_new(), .state = states[random_below(5)]};
	job->attempt = job->state >= JOB_RUNNING;
	job->task = random_below(3);
	job->pool = random_below(2);
	job->label = random_below(3);
	job->submitted_us = model->start_us + (int64_t)model->count * 1000;
	job->due_us = job->submitted_us + (int64_t)random_below(1000);
	job->text = model->texts++;
	model->count++;
	assert_int_equal(run_off(world, model_request(has_ended(job) ? STORE_END : STORE_PUT, job)),
			 0);
}

/* Changes one job, and looks whether the answer is what the model says. */
static void model_change(struct world *world, struct model *model)
{
	struct model_job *job = &model->jobs[random_below(model->count)];
	struct model_job changed = *job;
	bool live = !has_ended(job);
	bool good = live;
	int status;

	changed.text = model->texts++;
	switch (random_below(4)) {
	case 0:
		changed.attempt = job->attempt + (uint32_t)random_below(2);
		changed.state = JOB_RUNNING;
		changed.text = job->text;
		good = (job->state == JOB_SCHEDULED || job->state == JOB_QUEUED ||
			(job->state == JOB_RUNNING && world->class->is_shared)) &&
		       changed.attempt > job->attempt;
		status = claim_one(world, &job->id, changed.attempt);
		break;
	case 1:
		changed.state = random_below(2) == 0 ? JOB_SCHEDULED : JOB_QUEUED;
		status = status_of(world, model_request(STORE_UPDATE, &changed));
		break;
	case 2:
		changed.attempt = job->attempt + (uint32_t)random_below(3);
		changed.attempt -= changed.attempt > 0;
		changed.state = (enum job_state)(JOB_SUCCEEDED + (int)random_below(6));
		good = live && changed.attempt >= job->attempt;
		status = status_of(world, model_request(STORE_END, &changed));
		break;
	default:
		changed.state = live ? JOB_RUNNING : JOB_QUEUED;
		status = run_off(world, model_request(STORE_PUT, &changed));
		assert_int_equal(status, 0);
		status = live ? 0 : -ESTALE;
		break;
	}
	assert_int_equal(status, good ? 0 : -ESTALE);
	if (good)
		*job = changed;
}

static void random_filter(struct store_filter *filter, const struct model *model)
{
	filter->limit = 1 + (uint32_t)random_below(20);
	if (random_below(2) == 0)
		filter->states = (uint32_t)random_below(1U << JOB_STATES);
	if (random_below(3) == 0)
		filter->pool = copy(pools[random_below(2)]);
	if (random_below(3) == 0)
		filter->task = copy(tasks[random_below(3)]);
	if (random_below(3) == 0) {
		filter->label_key = copy("colour");
		filter->label_value = copy(values[random_below(3)]);
	}
	if (random_below(3) == 0)
		filter->since_us = model->start_us + (int64_t)random_below(MODEL_JOBS) * 1000;
	if (random_below(3) == 0)
		filter->until_us = model->start_us + (int64_t)random_below(MODEL_JOBS) * 1000;
	filter->has_cursor = random_below(2) == 0;
	if (filter->has_cursor)
		filter->cursor = model->jobs[random_below(model->count)].id;
}

static bool matches(const struct store_filter *filter, const struct model_job *job)
{
	return (filter->states == 0 || (filter->states >> job->state & 1U) != 0) &&
	       (filter->pool == NULL || strcmp(filter->pool, pools[job->pool]) == 0) &&
	       (filter->task == NULL || strcmp(filter->task, tasks[job->task]) == 0) &&
	       (filter->label_key == NULL ||
		strcmp(filter->label_value, values[job->label]) == 0) &&
	       (filter->since_us == 0 || job->submitted_us >= filter->since_us) &&
	       (filter->until_us == 0 || job->submitted_us < filter->until_us) &&
	       (!filter->has_cursor || id_compare(&job->id, &filter->cursor) < 0);
}

static void model_list(struct world *world, const struct model *model)
{
	struct store_request *request = store_request_new(STORE_LIST);
	char message[240] = "";
	size_t seen = 0;

	random_filter(&request->filter, model);
	if (world->class->read == NULL || random_below(2) == 0)
		assert_int_equal(run(world, request), 0);
	else
		assert_int_equal(world->class->read(world->backend, request, message), 0);
	for (size_t i = model->count; i > 0 && seen < request->filter.limit; i--) {
		if (!matches(&request->filter, &model->jobs[i - 1]))
			continue;
		assert_true(seen < request->row_count);
		compare_row(&request->rows[seen++], &model->jobs[i - 1]);
	}
	assert_int_equal(request->row_count, seen);
	store_request_free(request);
}

static void model_fetch(struct world *world, const struct model *model)
{
	const struct model_job *job = &model->jobs[random_below(model->count)];
	struct store_request *request = fetch(world, &job->id);

	assert_int_equal(request->row_count, 1);
	compare_row(&request->rows[0], job);
	store_request_free(request);
}

static void check_model(struct world *world)
{
	static struct model model;

	model = (struct model){.start_us = now_us()};
	model_put(world, &model);
	for (int i = 0; i < 1500; i++) {
		size_t choice = random_below(10);

		if (choice < 2)
			model_put(world, &model);
		else if (choice < 6)
			model_change(world, &model);
		else if (choice < 8)
			model_list(world, &model);
		else
			model_fetch(world, &model);
		if (world->class->is_durable && !world->class->is_shared && i % 500 == 250)
			reopen(world);
	}
	assert_true(world->class->size(world->backend) > 0);
}

static void test_model(void **state)
{
	(void)state;
	for_each(check_model);
}

/* ---- SQLite's file ---- */

static const struct candidate *const in_file = &candidates[1];

static void path_in(char *path, size_t size, const struct world *world, const char *name)
{
	(void)snprintf(path, size, "%s/%s", world->directory, name);
}

/* It cannot be opened, for that reason. */
static void refuses(struct world *world, int expected, const char *reason)
{
	char message[240] = "";
	struct backend *backend = NULL;
	int result = world->class->open(&world->config, no_hint, NULL, &backend, message);

	assert_int_equal(result, expected);
	assert_null(backend);
	if (strstr(message, reason) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", message, reason);
}

static void write_at(const char *path, off_t at, const void *data, size_t length)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, length, at), (ssize_t)length);
	fd_close(&fd);
}

/* It cannot be opened, and is not changed by a bit. */
static void refuses_untouched(struct world *world, const char *path, int expected,
			      const char *reason)
{
	char *before = NULL;
	char *after = NULL;
	size_t length = 0;
	size_t length_after = 0;

	assert_int_equal(fd_read_file(path, 1 << 24, &before, &length), 0);
	refuses(world, expected, reason);
	assert_int_equal(fd_read_file(path, 1 << 24, &after, &length_after), 0);
	assert_int_equal(length, length_after);
	assert_memory_equal(before, after, length);
	free(before);
	free(after);
}

static void test_foreign_file(void **state)
{
	struct world world;
	char path[128];

	(void)state;
	begin(&world, in_file);
	close_world(&world);
	path_in(path, sizeof(path), &world, "twinpool.db");
	/* The application id lies at byte 68 of the header, the version at 60; at 18 whether there is
	 * a write-ahead log. */
	write_at(path, 18, "\x01\x01", 2);
	write_at(path, 63, "\x02", 1);
	refuses_untouched(&world, path, -EPROTONOSUPPORT, "newer version of twinpool");
	write_at(path, 63, "\x01", 1);
	write_at(path, 68, "abcd", 4);
	refuses_untouched(&world, path, -EMEDIUMTYPE, "database of another program");
	assert_int_equal(truncate(path, 0), 0);
	write_at(path, 0, "This is a letter to my bank, and no database at all.\n", 53);
	refuses_untouched(&world, path, -EMEDIUMTYPE, "no database of SQLite");
	/* An empty one is as good as none. */
	assert_int_equal(truncate(path, 0), 0);
	open_world(&world);
	end(&world);
}

static void fill(struct world *world, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct id id = id_new();

		assert_int_equal(put_one(world, &id, JOB_QUEUED), 0);
	}
}

static void test_torn_file(void **state)
{
	struct world world;
	char path[128];
	char noise[4096];
	struct stat status;

	(void)state;
	begin(&world, in_file);
	fill(&world, 200);
	close_world(&world);
	path_in(path, sizeof(path), &world, "twinpool.db");
	assert_int_equal(stat(path, &status), 0);
	memset(noise, 0xa5, sizeof(noise));
	write_at(path, 2 * 4096, noise, sizeof(noise));
	refuses(&world, -EUCLEAN, "damaged");
	assert_int_equal(truncate(path, status.st_size / 2), 0);
	refuses(&world, -EUCLEAN, "damaged");
	assert_int_equal(unlink(path), 0);
	open_world(&world);
	end(&world);
}

static void test_one_service_at_a_time(void **state)
{
	struct world world;
	char reason[64];
	struct id id = id_new();

	(void)state;
	begin(&world, in_file);
	(void)snprintf(reason, sizeof(reason), "in use by another service, process %d",
		       (int)getpid());
	refuses(&world, -EBUSY, reason);
	assert_int_equal(put_one(&world, &id, JOB_QUEUED), 0);
	reopen(&world);
	assert_int_equal(state_of(&world, &id), JOB_QUEUED);
	end(&world);
}

static void test_directory(void **state)
{
	struct world world;
	char path[128];

	(void)state;
	begin(&world, in_file);
	close_world(&world);
	path_in(path, sizeof(path), &world, "new");
	world.config.data_dir = path;
	open_world(&world); /* is made */
	close_world(&world);
	path_in(path, sizeof(path), &world, "twinpool.db");
	refuses(&world, -ENOTDIR, "Not a directory");
	path_in(path, sizeof(path), &world, "none/new");
	refuses(&world, -ENOENT, "No such file or directory");
	world.config.data_dir = (char[]){"/proc/self"};
	refuses(&world, -ENOENT, "/proc/self/twinpool.lock: ");
	world.config.data_dir = world.directory;
	path_in(path, sizeof(path), &world, "twinpool.db");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	refuses(&world, -EISDIR, "twinpool.db: Is a directory");
	assert_int_equal(rmdir(path), 0);
	open_world(&world);
	struct stat status;
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 077, 0); /* nobody else's */
	end(&world);
}

/* A file that cannot grow, as on a full disk: clear words, and all is well again afterwards. */
static void test_no_room(void **state)
{
	struct world world;
	struct rlimit before;
	struct rlimit none = {.rlim_cur = 4096 * 40};
	struct id there = id_new();
	struct id refused = id_new();
	struct store_request *request = with_row(STORE_PUT, &refused, JOB_QUEUED);
	struct store_request *found = with_ids(STORE_FETCH, &there, 1);
	struct store_request *both[2] = {found, request};
	char message[240] = "";

	(void)state;
	begin(&world, in_file);
	assert_int_equal(put_one(&world, &there, JOB_QUEUED), 0);
	free(request->rows[0].record);
	request->rows[0].record = calloc(1, 4096 * 60);
	assert_non_null(request->rows[0].record);
	memset(request->rows[0].record, 'x', 4096 * 60 - 1);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	none.rlim_max = before.rlim_max;
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	assert_int_equal(sigaction(SIGXFSZ, &ignore, NULL), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	int result = world.class->write(world.backend, both, 2, true, message);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_true(result < 0);
	assert_non_null(strstr(message, "twinpool.db: "));
	if (strstr(message, "(File too large)") == NULL)
		fail_msg("%s", message);
	assert_int_equal(found->row_count, 0); /* outputs are as before */
	assert_null(found->rows);
	assert_int_equal(state_of(&world, &refused), -1);
	carry_out(&world, both, 2);
	assert_int_equal(found->row_count, 1);
	store_request_free(found);
	store_request_free(request);
	reopen(&world);
	assert_int_equal(state_of(&world, &there), JOB_QUEUED);
	assert_int_equal(state_of(&world, &refused), JOB_QUEUED);
	end(&world);
}

/* Puts jobs until it is killed, and says which are in. */
static void __attribute__((noreturn)) put_for_ever(struct world *world, int tell)
{
	open_world(world);
	for (;;) {
		struct id id = id_new();

		if (put_one(world, &id, JOB_QUEUED) != 0 || fd_write_all(tell, &id, sizeof(id)) < 0)
			_exit(1);
	}
}

static void test_killed(void **state)
{
	struct world world;
	size_t count = 0;

	(void)state;
	begin(&world, in_file);
	close_world(&world);
	for (int round = 0; round < 5; round++) {
		size_t least = 5 + random_below(20);
		struct id ids[4096];
		int ends[2];
		size_t got = 0;
		ssize_t length;

		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		pid_t child = fork();
		if (child == 0)
			put_for_ever(&world, ends[1]);
		fd_close(&ends[1]);
		while (got < 4096 && (length = read(ends[0], &ids[got], sizeof(ids[0]))) > 0) {
			assert_int_equal(length, sizeof(ids[0]));
			if (++got == least)
				assert_int_equal(kill(child, SIGKILL), 0);
		}
		assert_int_equal(waitpid(child, NULL, 0), child);
		fd_close(&ends[0]);
		assert_true(got >= least);
		open_world(&world);
		for (size_t i = 0; i < got; i++)
			assert_int_equal(state_of(&world, &ids[i]), JOB_QUEUED);
		count += got;
		struct id *all = calloc(count + 100, sizeof(*all));
		assert_non_null(all);
		assert_true(recover(&world, (uint32_t)count + 100, all) >= count);
		free(all);
		close_world(&world);
	}
	open_world(&world);
	end(&world);
}

/* What is deleted makes room for what comes. */
static void test_room_is_used_again(void **state)
{
	struct world world;
	int64_t first = 0;

	(void)state;
	begin(&world, in_file);
	world.config.store.retention[0].jobs = 100;
	for (int round = 0; round < 6; round++) {
		struct store_request *request = with_rows(STORE_END, 500);

		for (size_t i = 0; i < 500; i++) {
			struct id id = id_new();

			fill_row(&request->rows[i], &id, JOB_SUCCEEDED);
			request->rows[i].labels = copy("{\"a\":\"b\"}");
		}
		assert_int_equal(run_off(&world, request), 0);
		assert_int_equal(sweep(&world, 1000), round == 0 ? 400 : 500);
		reopen(&world); /* the log is empty then */
		if (round == 1)
			first = world.class->size(world.backend);
	}
	assert_true(world.class->size(world.backend) <= first + first / 2);
	end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_many_ids),
		cmocka_unit_test(test_claim),
		cmocka_unit_test(test_update),
		cmocka_unit_test(test_end),
		cmocka_unit_test(test_put_again),
		cmocka_unit_test(test_impossible),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_batch),
		cmocka_unit_test(test_recovery),
		cmocka_unit_test(test_callbacks),
		cmocka_unit_test(test_age_and_count),
		cmocka_unit_test(test_callbacks_stay),
		cmocka_unit_test(test_batches_go_together),
		cmocka_unit_test(test_keys_expire),
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_foreign_file),
		cmocka_unit_test(test_torn_file),
		cmocka_unit_test(test_one_service_at_a_time),
		cmocka_unit_test(test_directory),
		cmocka_unit_test(test_no_room),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_room_is_used_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
