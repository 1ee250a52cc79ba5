/*
 * store.c: its threads, with a backend of the test's own that fails, hangs and tells on command; and
 * the real ones under load.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "random.h"
#include "store/backend.h"

#define PATIENCE_NS (60 * NS_PER_S)
#define SEEN_MAX    256

/* ---- The backend ---- */

/* One that remembers what it was given. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* guarded by lock; set by the test */
	int open_error;
	int write_error;
	int read_error;
	bool hold_writes; /* they wait until this is false */
	/* guarded by lock; told to the test */
	unsigned int opened;
	unsigned int closed;
	unsigned int writes;
	unsigned int reads;
	unsigned int synced;
	bool holds; /* one is waiting */
	struct {
		enum store_op op;
		uint8_t job; /* the last byte of its identifier */
		unsigned int write;
	} seen[SEEN_MAX];
	size_t seen_count;
	char thread[16];
	bool signals_blocked;
	int64_t age_ms;
	void (*hint)(void *data);
	void *hint_data;
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

struct backend {
	const struct config *config;
};

static int fake_open(const struct config *config, void (*hint)(void *data), void *data,
		     struct backend **ret_backend, char message[static 240])
{
	int error;

	pthread_mutex_lock(&fake.lock);
	fake.opened++;
	fake.hint = hint;
	fake.hint_data = data;
	error = fake.open_error;
	pthread_mutex_unlock(&fake.lock);
	if (error < 0) {
		(void)snprintf(message, 240, "no such place");
		return error;
	}
	*ret_backend = calloc(1, sizeof(**ret_backend));
	assert_non_null(*ret_backend);
	(*ret_backend)->config = config;
	return 0;
}

static void fake_close(struct backend *backend)
{
	free(backend);
	pthread_mutex_lock(&fake.lock);
	fake.closed++;
	pthread_cond_broadcast(&fake.changed);
	pthread_mutex_unlock(&fake.lock);
}

static uint8_t job_of(const struct store_request *request)
{
	if (request->row_count > 0)
		return request->rows[0].id.bytes[15];
	return request->id_count > 0 ? request->ids[0].bytes[15] : 0;
}

static void look_at_thread(void)
{
	sigset_t blocked;

	(void)pthread_getname_np(pthread_self(), fake.thread, sizeof(fake.thread));
	assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &blocked), 0);
	fake.signals_blocked = sigismember(&blocked, SIGTERM) == 1 &&
			       sigismember(&blocked, SIGINT) == 1 &&
			       sigismember(&blocked, SIGCHLD) == 1;
}

static int fake_write(struct backend *backend, struct store_request **requests, size_t count,
		      bool sync, char message[static 240])
{
	int error;

	pthread_mutex_lock(&fake.lock);
	look_at_thread();
	fake.age_ms = backend->config->store.retention[0].age_ms;
	while (fake.hold_writes) {
		fake.holds = true;
		pthread_cond_broadcast(&fake.changed);
		pthread_cond_wait(&fake.changed, &fake.lock);
	}
	fake.holds = false;
	error = fake.write_error;
	if (error == 0) {
		fake.writes++;
		fake.synced += sync;
		for (size_t i = 0; i < count && fake.seen_count < SEEN_MAX; i++) {
			fake.seen[fake.seen_count].op = requests[i]->op;
			fake.seen[fake.seen_count].job = job_of(requests[i]);
			fake.seen[fake.seen_count++].write = fake.writes;
		}
	}
	pthread_mutex_unlock(&fake.lock);
	if (error < 0)
		(void)snprintf(message, 240, "the disk is full");
	return error;
}

static int fake_read(struct backend *backend, struct store_request *request,
		     char message[static 240])
{
	int error;

	(void)backend;
	(void)request;
	pthread_mutex_lock(&fake.lock);
	error = fake.read_error;
	fake.reads += error == 0;
	pthread_mutex_unlock(&fake.lock);
	if (error < 0)
		(void)snprintf(message, 240, "it cannot be read");
	return error;
}

static int64_t fake_size(struct backend *backend)
{
	(void)backend;
	return 4711;
}

static const struct backend_class fake_class = {
	.name = "fake",
	.is_durable = true,
	.open = fake_open,
	.close = fake_close,
	.write = fake_write,
	.read = fake_read,
	.size = fake_size,
};

static void tell_fake(int *what, int value)
{
	pthread_mutex_lock(&fake.lock);
	*what = value;
	pthread_mutex_unlock(&fake.lock);
}

static void hold(void)
{
	pthread_mutex_lock(&fake.lock);
	fake.hold_writes = true;
	pthread_mutex_unlock(&fake.lock);
}

static void let_go(void)
{
	pthread_mutex_lock(&fake.lock);
	fake.hold_writes = false;
	pthread_cond_broadcast(&fake.changed);
	pthread_mutex_unlock(&fake.lock);
}

static void wait_until_held(void)
{
	pthread_mutex_lock(&fake.lock);
	while (!fake.holds)
		pthread_cond_wait(&fake.changed, &fake.lock);
	pthread_mutex_unlock(&fake.lock);
}

static int reset(void **state)
{
	(void)state;
	pthread_mutex_lock(&fake.lock);
	fake.open_error = fake.write_error = fake.read_error = 0;
	fake.hold_writes = false;
	fake.opened = fake.closed = fake.writes = fake.reads = fake.synced = 0;
	fake.seen_count = 0;
	pthread_mutex_unlock(&fake.lock);
	return 0;
}

/* ---- The asker ---- */

/* What became of a request. */
struct answer {
	bool told;
	int status;
	unsigned int turn; /* the how-manieth that was told */
};

static unsigned int turns;

static void take_answer(struct store_request *request)
{
	struct answer *answer = request->data;

	assert_false(answer->told);
	answer->told = true;
	answer->status = request->status;
	answer->turn = ++turns;
	store_request_free(request);
}

static struct store *open_fake(void)
{
	struct config config = {.store = {.kind = CONFIG_STORE_SQLITE}};
	struct store *store = NULL;

	assert_int_equal(store_open_with(&fake_class, &config, &store), 0);
	return store;
}

static struct store_request *request_for(enum store_op op, uint8_t job, struct answer *answer)
{
	struct store_request *request = store_request_new(op);

	assert_non_null(request);
	if (op == STORE_CLAIM || op == STORE_FETCH) {
		assert_int_equal(store_request_ids(request, 1), 0);
		request->ids[0].bytes[15] = job;
	} else {
		assert_int_equal(store_request_rows(request, 1), 0);
		request->rows[0].id.bytes[15] = job;
	}
	request->must = op == STORE_UPDATE;
	if (answer != NULL) {
		*answer = (struct answer){0};
		request->data = answer;
		request->done = take_answer;
	}
	return request;
}

static void submit(struct store *store, enum store_op op, uint8_t job, struct answer *answer)
{
	store_submit(store, request_for(op, job, answer));
}

static void submit_must(struct store *store, enum store_op op, uint8_t job, struct answer *answer)
{
	struct store_request *request = request_for(op, job, answer);

	request->must = true;
	store_submit(store, request);
}

/* Collects until it was told, woken by the descriptor. */
static void wait_for(struct store *store, const struct answer *answer)
{
	int64_t end_ns = clock_monotonic_ns() + PATIENCE_NS;

	while (!answer->told) {
		struct pollfd poller = {.fd = store_fd(store), .events = POLLIN};

		assert_true(clock_monotonic_ns() < end_ns);
		assert_true(poll(&poller, 1, 1000) >= 0);
		if ((poller.revents & POLLIN) != 0)
			store_collect(store);
	}
}

static int ask(struct store *store, enum store_op op, uint8_t job)
{
	struct answer answer;

	submit(store, op, job, &answer);
	wait_for(store, &answer);
	return answer.status;
}

static size_t close_store(struct store *store)
{
	return store_close(store, clock_monotonic_ns() + PATIENCE_NS);
}

static void expect_seen(size_t at, enum store_op op, uint8_t job)
{
	pthread_mutex_lock(&fake.lock);
	assert_true(at < fake.seen_count);
	assert_int_equal(fake.seen[at].op, op);
	assert_int_equal(fake.seen[at].job, job);
	pthread_mutex_unlock(&fake.lock);
}

/* ---- Group commit ---- */

static void test_group_commit(void **state)
{
	struct store *store = open_fake();
	struct answer first;
	struct answer answers[20];
	struct store_stats stats;

	(void)state;
	hold();
	submit(store, STORE_PUT, 100, &first);
	wait_until_held();
	for (uint8_t i = 0; i < 20; i++)
		submit(store, i % 2 == 0 ? STORE_PUT : STORE_CLAIM, i, &answers[i]);
	store_stats(store, &stats);
	assert_int_equal(stats.waiting, 21);
	assert_true(stats.lag_ns > 0);
	assert_false(first.told);
	let_go();
	for (size_t i = 0; i < 20; i++)
		wait_for(store, &answers[i]);
	assert_true(first.told);
	assert_int_equal(fake.writes, 2); /* all that came while the first was under way */
	for (uint8_t i = 0; i < 20; i++) {
		expect_seen(1U + i, i % 2 == 0 ? STORE_PUT : STORE_CLAIM, i);
		assert_int_equal(answers[i].status, 0);
		assert_int_equal(answers[i].turn, answers[0].turn + i);
	}
	store_stats(store, &stats);
	assert_int_equal(stats.waiting, 0);
	assert_int_equal(stats.lag_ns, 0);
	assert_int_equal(stats.transactions, 2);
	assert_int_equal(stats.synced, 2);
	assert_int_equal(stats.requests, 21);
	assert_true(stats.commit_ns > 0);
	assert_true(stats.available);
	assert_string_equal(fake.thread, "store");
	assert_true(fake.signals_blocked);
	assert_int_equal(close_store(store), 0);
	assert_int_equal(fake.closed, 1);
}

static unsigned int syncs_of(struct store *store, enum store_op op, bool is_must)
{
	unsigned int before;
	unsigned int after;
	struct answer answer;

	pthread_mutex_lock(&fake.lock);
	before = fake.synced;
	pthread_mutex_unlock(&fake.lock);
	if (is_must)
		submit_must(store, op, 1, &answer);
	else
		submit(store, op, 1, &answer);
	wait_for(store, &answer);
	assert_int_equal(answer.status, 0);
	pthread_mutex_lock(&fake.lock);
	after = fake.synced;
	pthread_mutex_unlock(&fake.lock);
	return after - before;
}

static void test_sync_only_for_who_waits(void **state)
{
	struct store *store = open_fake();

	(void)state;
	assert_int_equal(syncs_of(store, STORE_PUT, false), 1);
	assert_int_equal(syncs_of(store, STORE_CLAIM, false), 1);
	assert_int_equal(syncs_of(store, STORE_UPDATE, true), 1);
	assert_int_equal(syncs_of(store, STORE_END, true), 1);
	assert_int_equal(syncs_of(store, STORE_END, false), 0);
	assert_int_equal(syncs_of(store, STORE_SWEEP, false), 0);
	assert_int_equal(syncs_of(store, STORE_RECOVER, false), 0);
	assert_int_equal(close_store(store), 0);
}

static void test_many_in_one_go_are_parted(void **state)
{
	struct store *store = open_fake();
	struct answer first;
	struct answer last;

	(void)state;
	hold();
	submit(store, STORE_PUT, 1, &first);
	wait_until_held();
	for (int i = 0; i < 1500; i++) /* nobody is told of them */
		submit(store, STORE_PUT, 2, NULL);
	submit(store, STORE_PUT, 3, &last);
	let_go();
	wait_for(store, &last);
	assert_int_equal(fake.writes, 3);
	assert_int_equal(close_store(store), 0);
}

/* ---- Reading ---- */

static void test_reading_goes_beside(void **state)
{
	struct store *store = open_fake();
	struct answer put;

	(void)state;
	assert_int_equal(ask(store, STORE_PUT, 1), 0);
	hold();
	submit(store, STORE_PUT, 2, &put);
	wait_until_held();
	assert_int_equal(ask(store, STORE_FETCH, 1), 0);
	assert_int_equal(fake.reads, 1);
	assert_false(put.told);
	let_go();
	wait_for(store, &put);
	/* What the reader cannot do, the writer tries. */
	tell_fake(&fake.read_error, -EIO);
	assert_int_equal(ask(store, STORE_FETCH, 3), 0);
	expect_seen(2, STORE_FETCH, 3);
	assert_int_equal(close_store(store), 0);
}

/* ---- Failure ---- */

static void test_failure(void **state)
{
	struct store *store = open_fake();
	struct answer end;
	struct answer update;
	struct answer claim;
	struct store_stats stats;

	(void)state;
	assert_int_equal(ask(store, STORE_PUT, 1), 0);
	tell_fake(&fake.write_error, -ENOSPC);
	assert_int_equal(ask(store, STORE_PUT, 2), -EIO);
	store_stats(store, &stats);
	assert_false(stats.available);
	assert_string_equal(stats.error, "the disk is full");
	assert_true(stats.failures > 0);
	/* What must not be lost is kept, and what comes for the same job waits behind it … */
	submit(store, STORE_UPDATE, 1, &update);
	assert_int_equal(ask(store, STORE_PUT, 3), -EIO);
	submit(store, STORE_CLAIM, 1, &claim);
	submit_must(store, STORE_END, 1, &end);
	/* … and for others it is said at once. */
	assert_int_equal(ask(store, STORE_CLAIM, 4), -EIO);
	store_stats(store, &stats);
	assert_int_equal(stats.kept, 2);
	assert_true(stats.lag_ns > 0);
	assert_false(update.told || claim.told || end.told);
	/* Of the history one is lost, and counted. */
	assert_int_equal(ask(store, STORE_END, 5), -EIO);
	store_stats(store, &stats);
	assert_int_equal(stats.dropped, 1);

	tell_fake(&fake.write_error, 0);
	wait_for(store, &end);
	assert_true(update.told && claim.told);
	assert_int_equal(update.status, 0);
	assert_int_equal(claim.status, 0);
	assert_int_equal(end.status, 0);
	expect_seen(1, STORE_UPDATE, 1);
	expect_seen(2, STORE_CLAIM, 1);
	expect_seen(3, STORE_END, 1);
	store_stats(store, &stats);
	assert_true(stats.available);
	assert_string_equal(stats.error, "");
	assert_int_equal(stats.kept, 0);
	assert_int_equal(stats.waiting, 0);
	assert_int_equal(close_store(store), 0);
}

/* While something is kept, others go on as soon as it works again, and take it along. */
static void test_success_takes_the_kept_along(void **state)
{
	struct store *store = open_fake();
	struct answer update;

	(void)state;
	tell_fake(&fake.write_error, -EIO);
	submit(store, STORE_UPDATE, 1, &update);
	for (int i = 0; i < 8; i++) /* long pauses by now */
		assert_int_equal(ask(store, STORE_PUT, 2), -EIO);
	tell_fake(&fake.write_error, 0);
	assert_int_equal(ask(store, STORE_PUT, 3), 0);
	wait_for(store, &update);
	assert_int_equal(update.status, 0);
	assert_int_equal(close_store(store), 0);
}

static void test_opening_fails_at_first(void **state)
{
	struct store *store;
	struct store_stats stats;
	int64_t end_ns = clock_monotonic_ns() + PATIENCE_NS;
	struct answer update;

	(void)state;
	tell_fake(&fake.open_error, -EBUSY);
	store = open_fake();
	assert_int_equal(ask(store, STORE_PUT, 1), -EIO);
	assert_int_equal(ask(store, STORE_FETCH, 1), -EIO);
	store_stats(store, &stats);
	assert_false(stats.available);
	assert_string_equal(stats.error, "no such place");
	assert_int_equal(stats.size_bytes, -1);
	submit(store, STORE_UPDATE, 1, &update);
	tell_fake(&fake.open_error, 0);
	wait_for(store, &update); /* it is tried again by itself */
	assert_int_equal(update.status, 0);
	assert_int_equal(ask(store, STORE_PUT, 1), 0);
	do {
		assert_true(clock_monotonic_ns() < end_ns);
		store_stats(store, &stats);
	} while (stats.size_bytes != 4711);
	assert_true(stats.available);
	assert_int_equal(close_store(store), 0);
}

static void test_lost_connection(void **state)
{
	struct store *store = open_fake();
	struct answer update;

	(void)state;
	assert_int_equal(ask(store, STORE_PUT, 1), 0);
	tell_fake(&fake.write_error, -ENOTCONN);
	submit(store, STORE_UPDATE, 1, &update);
	assert_int_equal(ask(store, STORE_PUT, 2), -EIO);
	tell_fake(&fake.write_error, 0);
	wait_for(store, &update);
	assert_int_equal(update.status, 0);
	pthread_mutex_lock(&fake.lock);
	assert_true(fake.opened >= 2);
	assert_true(fake.closed >= 1);
	pthread_mutex_unlock(&fake.lock);
	assert_int_equal(ask(store, STORE_FETCH, 1), 0);
	assert_int_equal(close_store(store), 0);
}

static void test_too_much_history(void **state)
{
	struct store *store = open_fake();
	struct answer put;
	struct answer answers[25];
	struct store_stats stats;
	size_t dropped = 0;

	(void)state;
	hold();
	submit(store, STORE_PUT, 1, &put);
	wait_until_held();
	for (size_t i = 0; i < 25; i++) {
		struct store_request *request = request_for(STORE_END, 2, &answers[i]);

		free(request->rows);
		free(request->statuses);
		assert_int_equal(store_request_rows(request, 1000), 0);
		store_submit(store, request);
	}
	store_collect(store); /* those are told at once */
	for (size_t i = 0; i < 25; i++) {
		assert_int_equal(answers[i].told, i >= 20);
		dropped += answers[i].told && answers[i].status == -ENOBUFS;
	}
	assert_int_equal(dropped, 5);
	store_stats(store, &stats);
	assert_int_equal(stats.dropped, 5000);
	let_go();
	wait_for(store, &answers[19]);
	submit(store, STORE_END, 3, &answers[24]); /* there is room again */
	wait_for(store, &answers[24]);
	assert_int_equal(answers[24].status, 0);
	assert_int_equal(close_store(store), 0);
}

/* ---- Closing ---- */

static void test_close_hands_in_what_is_left(void **state)
{
	struct store *store = open_fake();
	struct answer answers[50];

	(void)state;
	for (uint8_t i = 0; i < 50; i++)
		submit(store, i % 5 == 4 ? STORE_FETCH : STORE_PUT, i, &answers[i]);
	assert_int_equal(close_store(store), 0);
	for (size_t i = 0; i < 50; i++) {
		assert_true(answers[i].told);
		assert_int_equal(answers[i].status, 0);
	}
	assert_int_equal(store_close(NULL, 0), 0);
}

static void test_close_gives_up_in_time(void **state)
{
	struct store *store = open_fake();
	struct answer update;
	struct answer end;
	struct answer claim;

	(void)state;
	tell_fake(&fake.write_error, -EIO);
	submit(store, STORE_UPDATE, 1, &update);
	assert_int_equal(ask(store, STORE_PUT, 2), -EIO);
	submit(store, STORE_CLAIM, 1, &claim);
	submit_must(store, STORE_END, 1, &end);
	assert_int_equal(store_close(store, clock_monotonic_ns() + 100 * NS_PER_MS), 2);
	assert_true(update.told && end.told && claim.told);
	assert_int_equal(update.status, -ECANCELED);
	assert_int_equal(end.status, -ECANCELED);
	assert_int_equal(claim.status, -ECANCELED);
}

static void test_close_while_it_hangs(void **state)
{
	struct store *store = open_fake();
	struct answer update;

	(void)state;
	assert_int_equal(ask(store, STORE_PUT, 1), 0);
	hold();
	submit(store, STORE_PUT, 1, NULL);
	wait_until_held();
	submit(store, STORE_UPDATE, 1, &update);
	assert_int_equal(store_close(store, clock_monotonic_ns()), 1);
	assert_true(update.told);
	assert_int_equal(update.status, -ECANCELED);
	let_go(); /* the thread ends, and frees what is left */
	pthread_mutex_lock(&fake.lock);
	while (fake.closed == 0)
		pthread_cond_wait(&fake.changed, &fake.lock);
	pthread_mutex_unlock(&fake.lock);
}

/* ---- The rest ---- */

static void test_hint(void **state)
{
	struct store *store = open_fake();
	struct pollfd poller = {.fd = store_fd(store), .events = POLLIN};

	(void)state;
	assert_int_equal(ask(store, STORE_PUT, 1), 0);
	assert_false(store_take_hint(store));
	assert_int_equal(poll(&poller, 1, 0), 0);
	fake.hint(fake.hint_data);
	assert_int_equal(poll(&poller, 1, 0), 1);
	store_collect(store);
	assert_true(store_take_hint(store));
	assert_false(store_take_hint(store));
	assert_true(store_is_durable(store));
	assert_false(store_is_shared(store));
	assert_int_equal(close_store(store), 0);
}

static void test_retention_changes(void **state)
{
	struct store *store = open_fake();
	struct config config = {0};

	(void)state;
	assert_int_equal(ask(store, STORE_SWEEP, 0), 0);
	assert_int_equal(fake.age_ms, 0);
	config.store.retention[0].age_ms = 4242;
	store_set_retention(store, &config);
	assert_int_equal(ask(store, STORE_SWEEP, 0), 0);
	assert_int_equal(fake.age_ms, 4242);
	assert_int_equal(close_store(store), 0);
}

/* ---- The real ones ---- */

#define LOAD 600

static struct {
	struct store *store;
	size_t done;
	size_t failed;
} load;

static void fetched(struct store_request *request)
{
	load.failed += request->status != 0 || request->row_count != 1;
	load.done++;
	store_request_free(request);
}

static void was_put(struct store_request *request)
{
	struct store_request *fetch = store_request_new(STORE_FETCH);

	load.failed += request->status != 0;
	assert_non_null(fetch);
	assert_int_equal(store_request_ids(fetch, 1), 0);
	fetch->ids[0] = request->rows[0].id;
	fetch->done = fetched;
	store_request_free(request);
	store_submit(load.store, fetch); /* it sees what was answered */
}

static void put(void)
{
	struct store_request *request = store_request_new(STORE_PUT);

	assert_non_null(request);
	assert_int_equal(store_request_rows(request, 1), 0);
	request->rows[0] = (struct store_row){.id = id_new(), .state = JOB_QUEUED};
	request->rows[0].task = strdup("echo");
	request->rows[0].pool = strdup("process");
	request->rows[0].record = strdup("{}");
	request->rows[0].submitted_us = clock_realtime_ns() / NS_PER_US;
	request->done = was_put;
	store_submit(load.store, request);
}

static int remove_one(const char *path, const struct stat *status, int kind, struct FTW *place)
{
	(void)status;
	(void)kind;
	(void)place;
	return remove(path);
}

static void check_load(enum config_store_kind kind)
{
	char directory[] = "/tmp/twinpool-store-XXXXXX";
	struct config config = {.store = {.kind = kind}, .data_dir = directory};
	int64_t end_ns = clock_monotonic_ns() + PATIENCE_NS;
	struct store_stats stats;

	load.done = load.failed = 0;
	assert_non_null(mkdtemp(directory));
	assert_int_equal(store_open(&config, &load.store), 0);
	for (int i = 0; i < LOAD; i++) {
		put();
		if (random_below(8) == 0)
			store_collect(load.store);
	}
	while (load.done < LOAD) {
		struct pollfd poller = {.fd = store_fd(load.store), .events = POLLIN};

		assert_true(clock_monotonic_ns() < end_ns);
		assert_true(poll(&poller, 1, 1000) >= 0);
		store_collect(load.store);
	}
	assert_int_equal(load.failed, 0);
	store_stats(load.store, &stats);
	assert_int_equal(stats.kind, kind);
	assert_int_equal(stats.requests, 2 * LOAD);
	assert_true(stats.transactions < 2 * LOAD); /* they were taken together */
	assert_int_equal(store_is_durable(load.store), kind == CONFIG_STORE_SQLITE);
	assert_int_equal(close_store(load.store), 0);
	assert_int_equal(nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static void test_load(void **state)
{
	(void)state;
	check_load(CONFIG_STORE_MEMORY);
	check_load(CONFIG_STORE_SQLITE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_group_commit, reset),
		cmocka_unit_test_setup(test_sync_only_for_who_waits, reset),
		cmocka_unit_test_setup(test_many_in_one_go_are_parted, reset),
		cmocka_unit_test_setup(test_reading_goes_beside, reset),
		cmocka_unit_test_setup(test_failure, reset),
		cmocka_unit_test_setup(test_success_takes_the_kept_along, reset),
		cmocka_unit_test_setup(test_opening_fails_at_first, reset),
		cmocka_unit_test_setup(test_lost_connection, reset),
		cmocka_unit_test_setup(test_too_much_history, reset),
		cmocka_unit_test_setup(test_close_hands_in_what_is_left, reset),
		cmocka_unit_test_setup(test_close_gives_up_in_time, reset),
		cmocka_unit_test_setup(test_close_while_it_hangs, reset),
		cmocka_unit_test_setup(test_hint, reset),
		cmocka_unit_test_setup(test_retention_changes, reset),
		cmocka_unit_test_setup(test_load, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
