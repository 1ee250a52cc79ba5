/*
 * What only the shared store has: several services on one queue of a real PostgreSQL, which
 * tests/run_postgres.py starts and names in TWINPOOL_TEST_POSTGRES. What all stores have is held by
 * the conformance suite.
 *
 * Each test has tables of its own, in a schema of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/backend.h"

#define SKIPPED 77

#ifdef TWINPOOL_SANITIZER
#define SCALE 4
#else
#define SCALE 1
#endif

static const char *server; /* connection string */
static char schema[32];	   /* of the test that runs */
static char connection[512];

static int64_t now_us(void)
{
	return clock_realtime_ns() / 1000;
}

/* --- the database, seen from beside ---------------------------------------------------------------- */

/* Runs SQL; answers the first column of the first row as a number, or -1. */
static int64_t sql(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int64_t sql(const char *format, ...)
{
	char text[4096];
	int64_t number = -1;
	va_list arguments;
	PGconn *conn;
	PGresult *result;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	conn = PQconnectdb(connection);
	if (PQstatus(conn) != CONNECTION_OK) {
		PQfinish(conn);
		return -1;
	}
	result = PQexec(conn, text);
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) > 0)
		number = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
	else if (PQresultStatus(result) != PGRES_COMMAND_OK &&
		 PQresultStatus(result) != PGRES_TUPLES_OK)
		fprintf(stderr, "%s: %s", text, PQresultErrorMessage(result));
	PQclear(result);
	PQfinish(conn);
	return number;
}

static int set_up(void **state)
{
	static int number;

	(void)state;
	snprintf(schema, sizeof(schema), "test_%d_%d", (int)getpid(), number++);
	snprintf(connection, sizeof(connection), "%s options='-c search_path=%s'", server, schema);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	sql("SET client_min_messages = warning; DROP SCHEMA IF EXISTS %s CASCADE", schema);
	return 0;
}

/* --- services ------------------------------------------------------------------------------------- */

struct service {
	struct config config;
	struct backend *backend;
	int hint_fd; /* eventfd */
};

static void on_hint(void *data)
{
	struct service *service = data;
	uint64_t one = 1;

	assert_int_equal(write(service->hint_fd, &one, sizeof(one)), sizeof(one));
}

static void no_hint(void *data)
{
	(void)data;
}

static void start_service(struct service *service, const char *name, int64_t lease_ms)
{
	char message[240] = "";
	int status;

	*service = (struct service){.config = {.store = {.kind = CONFIG_STORE_POSTGRESQL,
							 .connection = connection,
							 .node = strdup(name),
							 .lease_ms = lease_ms,
							 .poll_ms = 100}}};
	for (size_t i = 0; i < CONFIG_ENDED_STATES; i++)
		service->config.store.retention[i].age_ms = 3600 * 1000;
	service->hint_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(service->hint_fd >= 0);
	status = backend_postgresql.open(&service->config, on_hint, service, &service->backend,
					 message);
	if (status != 0)
		fail_msg("open: %d %s", status, message);
}

static void stop_service(struct service *service)
{
	backend_postgresql.close(service->backend);
	free(service->config.store.node);
	close(service->hint_fd);
}

static void forget_hints(struct service *service)
{
	uint64_t count;

	while (read(service->hint_fd, &count, sizeof(count)) > 0)
		continue;
}

static bool wait_hint(struct service *service, int timeout_ms)
{
	struct pollfd fd = {.fd = service->hint_fd, .events = POLLIN};

	return poll(&fd, 1, timeout_ms) == 1;
}

/* One request, in a transaction of its own; what the transaction answered. */
static int try_one(struct service *service, struct store_request *request)
{
	char message[240] = "";

	return backend_postgresql.write(service->backend, &request, 1, true, message);
}

static void run_one(struct service *service, struct store_request *request)
{
	char message[240] = "";
	int status = backend_postgresql.write(service->backend, &request, 1, true, message);

	if (status != 0)
		fail_msg("write: %d %s", status, message);
}

static void fill_row(struct store_row *row, struct id id, const char *pool, int32_t priority,
		     int64_t due_us)
{
	*row = (struct store_row){.id = id,
				  .state = JOB_QUEUED,
				  .task = strdup("echo"),
				  .pool = strdup(pool),
				  .priority = priority,
				  .submitted_us = now_us(),
				  .due_us = due_us,
				  .record = strdup("{\"args\":{\"text\":\"\\\"é\\\"\"}}")};
}

static struct store_request *make_put(size_t count, const char *pool)
{
	struct store_request *request = store_request_new(STORE_PUT);
	int64_t due_us = now_us();

	assert_int_equal(store_request_rows(request, count), 0);
	for (size_t i = 0; i < count; i++)
		fill_row(&request->rows[i], id_new(), pool, 0,
			 due_us + (int64_t)i - (int64_t)count);
	return request;
}

static void put(struct service *service, size_t count, const char *pool)
{
	struct store_request *request = make_put(count, pool);

	run_one(service, request);
	assert_int_equal(request->status, 0);
	store_request_free(request);
}

static struct id put_one(struct service *service)
{
	struct store_request *request = make_put(1, "process");
	struct id id = request->rows[0].id;

	run_one(service, request);
	store_request_free(request);
	return id;
}

static struct store_request *make_take(const char *pool, uint32_t count)
{
	struct store_request *request = store_request_new(STORE_TAKE);

	request->pools = calloc(1, sizeof(*request->pools));
	assert_non_null(request->pools);
	request->pool_count = 1;
	request->pools[0] = (struct store_pool){.name = pool, .count = count, .aging_us = 1000000};
	return request;
}

static struct store_request *take(struct service *service, const char *pool, uint32_t count)
{
	struct store_request *request = make_take(pool, count);

	run_one(service, request);
	return request;
}

/* The end of these rows, with their attempts. */
static struct store_request *make_end(const struct store_row *rows, size_t count)
{
	struct store_request *request = store_request_new(STORE_END);

	assert_int_equal(store_request_rows(request, count), 0);
	for (size_t i = 0; i < count; i++) {
		request->rows[i] = (struct store_row){.id = rows[i].id,
						      .state = JOB_SUCCEEDED,
						      .attempt = rows[i].attempt,
						      .task = strdup("echo"),
						      .pool = strdup(rows[i].pool),
						      .submitted_us = rows[i].submitted_us,
						      .ended_us = now_us(),
						      .document = strdup("{\"result\":1}")};
	}
	return request;
}

static int end_one(struct service *service, const struct store_row *row)
{
	struct store_request *request = make_end(row, 1);
	int status;

	run_one(service, request);
	status = request->statuses[0];
	store_request_free(request);
	return status;
}

static struct store_request *recover(struct service *service)
{
	struct store_request *request = store_request_new(STORE_RECOVER);

	request->limit = 1000;
	run_one(service, request);
	return request;
}

static struct store_request *make_ids(enum store_op op, const struct id *ids, size_t count)
{
	struct store_request *request = store_request_new(op);

	assert_int_equal(store_request_ids(request, count), 0);
	if (count > 0)
		memcpy(request->ids, ids, count * sizeof(*ids));
	return request;
}

static int cancel(struct service *service, struct id id, struct store_request **ret_request)
{
	struct store_request *request = make_ids(STORE_CANCEL, &id, 1);
	int status;

	run_one(service, request);
	status = request->status;
	if (ret_request)
		*ret_request = request;
	else
		store_request_free(request);
	return status;
}

static struct store_request *poll_store(struct service *service, const struct id *ids, size_t count)
{
	struct store_request *request = make_ids(STORE_POLL, ids, count);

	run_one(service, request);
	return request;
}

/* --- tests ---------------------------------------------------------------------------------------- */

static void *open_and_close(void *data)
{
	struct service service;

	(void)data;
	start_service(&service, "", 30000);
	stop_service(&service);
	return NULL;
}

/* Services that start together make the tables once. */
static void test_concurrent_opening(void **state)
{
	pthread_t threads[4];

	(void)state;
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, open_and_close, NULL), 0);
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(sql("SELECT count(*) FROM twinpool_version"), 1);
	assert_int_equal(sql("SELECT count(*) FROM nodes WHERE boot > 0"), 4);
	/* They closed in order, so nobody has to wait for their leases. */
	assert_int_equal(sql("SELECT count(*) FROM nodes WHERE lease_until_us > now_us()"), 0);
}

static int try_open(char *text, char message[static 240])
{
	struct config config = {
		.store = {.connection = text, .node = (char[]){""}, .lease_ms = 1000}};
	struct backend *backend = NULL;
	int status = backend_postgresql.open(&config, no_hint, NULL, &backend, message);

	assert_null(backend);
	return status;
}

/* Without a connection string libpq's variables say where it is. */
static void test_variables(void **state)
{
	struct config config = {.store = {.lease_ms = 1000}};
	struct backend *backend = NULL;
	char message[240];
	char options[64];
	char *host = strstr(server, "host=") + strlen("host=");
	char *copy = strndup(host, strcspn(host, " "));

	(void)state;
	snprintf(options, sizeof(options), "-c search_path=%s", schema);
	setenv("PGHOST", copy, 1);
	setenv("PGUSER", "twinpool", 1);
	setenv("PGDATABASE", "postgres", 1);
	setenv("PGOPTIONS", options, 1);
	assert_int_equal(backend_postgresql.open(&config, no_hint, NULL, &backend, message), 0);
	assert_int_equal(sql("SELECT count(*) FROM nodes WHERE boot > 0"), 1);
	backend_postgresql.close(backend);
	unsetenv("PGHOST");
	unsetenv("PGUSER");
	unsetenv("PGDATABASE");
	unsetenv("PGOPTIONS");
	free(copy);
}

static void test_refusals(void **state)
{
	struct service service;
	char message[240];
	char text[600];

	(void)state;
	/* What cannot be read is not quoted: it may have the password. */
	snprintf(text, sizeof(text), "%s password='hush", connection);
	assert_int_equal(try_open(text, message), -EINVAL);
	assert_null(strstr(message, "hush"));
	snprintf(text, sizeof(text), "host=/nonexistent user=twinpool password=hush");
	assert_int_equal(try_open(text, message), -ECONNRESET);
	assert_non_null(strstr(message, "/nonexistent"));
	assert_null(strstr(message, "hush"));
	start_service(&service, "a", 30000);
	stop_service(&service);
	sql("UPDATE twinpool_version SET version = 1000");
	assert_int_equal(try_open(connection, message), -EPROTONOSUPPORT);
	assert_non_null(strstr(message, "1000"));
}

/* Tables of others are not touched. */
static void test_foreign(void **state)
{
	char message[240];

	(void)state;
	sql("CREATE SCHEMA %s; CREATE TABLE %s.jobs (mine integer)", schema, schema);
	assert_int_not_equal(try_open(connection, message), 0);
	assert_non_null(strstr(message, "jobs"));
	assert_int_equal(sql("SELECT count(*) FROM pg_tables WHERE schemaname = '%s'", schema), 1);
}

static void test_order(void **state)
{
	struct service service;
	struct store_request *request = make_put(4, "process");
	struct id ids[4];
	int64_t due_us = now_us() - 60000000;

	(void)state;
	start_service(&service, "a", 30000);
	/* A step of priority is worth a second. */
	request->rows[0].due_us = due_us;
	request->rows[1].due_us = due_us + 2500000;
	request->rows[1].priority = 2;
	request->rows[2].due_us = due_us + 1500000;
	request->rows[2].priority = 2;
	request->rows[3].due_us = now_us() + 3600000000;
	request->rows[3].priority = 10;
	request->rows[3].state = JOB_SCHEDULED;
	for (size_t i = 0; i < 4; i++)
		ids[i] = request->rows[i].id;
	run_one(&service, request);
	store_request_free(request);
	request = take(&service, "process", 2);
	assert_int_equal(request->row_count, 2);
	assert_int_equal(id_compare(&request->rows[0].id, &ids[2]), 0);
	assert_int_equal(id_compare(&request->rows[1].id, &ids[0]), 0);
	assert_int_equal(request->rows[0].attempt, 1);
	assert_int_equal(request->rows[0].state, JOB_RUNNING);
	assert_int_equal(request->rows[0].due_us, due_us + 1500000);
	assert_string_equal(request->rows[0].record, "{\"args\":{\"text\":\"\\\"é\\\"\"}}");
	assert_int_equal(request->pools[0].waiting, 1);
	store_request_free(request);
	request = take(&service, "thread", 2);
	assert_int_equal(request->row_count, 0);
	assert_int_equal(request->pools[0].waiting, 0);
	store_request_free(request);
	stop_service(&service);
}

/* The backlog is counted, but not for ever. */
static void test_backlog(void **state)
{
	struct service service;
	struct store_request *request;

	(void)state;
	start_service(&service, "a", 30000);
	put(&service, 1500, "process");
	request = take(&service, "process", 10);
	assert_int_equal(request->row_count, 10);
	assert_int_equal(request->pools[0].waiting, 1490);
	store_request_free(request);
	put(&service, 3000, "process");
	request = take(&service, "process", 10);
	assert_int_equal(request->row_count, 10);
	assert_in_range(request->pools[0].waiting, 1490, 4480);
	store_request_free(request);
	stop_service(&service);
}

/* --- one queue, several takers -------------------------------------------------------------------- */

#define CROWD	   4
#define CROWD_JOBS 10000

struct taker {
	struct service service;
	pthread_t thread;
	size_t taken;
	atomic_uchar *counts; /* of each job, by batch_index */
};

static void *take_all(void *data)
{
	struct taker *taker = data;

	while (sql("SELECT 1") == 1) {
		struct store_request *request = take(&taker->service, "process", 64);
		struct store_request *end;
		size_t count = request->row_count;

		for (size_t i = 0; i < count; i++)
			atomic_fetch_add(&taker->counts[request->rows[i].batch_index], 1);
		if (count > 0) {
			end = make_end(request->rows, count);
			run_one(&taker->service, end);
			for (size_t i = 0; i < count; i++)
				assert_int_equal(end->statuses[i], 0);
			store_request_free(end);
		}
		taker->taken += count;
		bool is_empty = count == 0 && request->pools[0].waiting == 0;
		store_request_free(request);
		if (is_empty)
			break;
	}
	return NULL;
}

static void test_each_once(void **state)
{
	static atomic_uchar counts[CROWD_JOBS];
	struct taker takers[CROWD] = {0};
	struct store_request *request = make_put(CROWD_JOBS, "process");
	char names[CROWD][2] = {"a", "b", "c", "d"};
	size_t taken = 0;

	(void)state;
	memset(counts, 0, sizeof(counts));
	for (size_t i = 0; i < CROWD; i++)
		start_service(&takers[i].service, names[i], 30000);
	for (size_t i = 0; i < CROWD_JOBS; i++) {
		request->rows[i].batch_index = (uint32_t)i;
		request->rows[i].priority = (int32_t)(i % 3);
	}
	run_one(&takers[0].service, request);
	store_request_free(request);
	for (size_t i = 0; i < CROWD; i++) {
		takers[i].counts = counts;
		assert_int_equal(pthread_create(&takers[i].thread, NULL, take_all, &takers[i]), 0);
	}
	for (size_t i = 0; i < CROWD; i++) {
		pthread_join(takers[i].thread, NULL);
		taken += takers[i].taken;
	}
	assert_int_equal(taken, CROWD_JOBS);
	for (size_t i = 0; i < CROWD_JOBS; i++)
		assert_int_equal(counts[i], 1);
	assert_int_equal(sql("SELECT count(*) FROM jobs WHERE state = 4 AND attempt = 1"),
			 CROWD_JOBS);
	for (size_t i = 0; i < CROWD; i++)
		stop_service(&takers[i].service);
}

/* --- leases --------------------------------------------------------------------------------------- */

#define LEASE_MS (500 * SCALE)

/* A service in a process of its own, which can be stopped and killed: this program with other
 * arguments. It takes all jobs, says so by a byte on stdout, waits for one on stdin, and ends them:
 * its exit status is how many ends were refused. */
static int be_zombie(const char *text)
{
	struct service service;
	struct store_request *taken, *end;
	int refused = 0;
	char byte = 0;

	alarm(60 * SCALE);
	snprintf(connection, sizeof(connection), "%s", text);

	start_service(&service, "zombie", LEASE_MS);
	taken = take(&service, "process", 10);
	if (write(STDOUT_FILENO, &byte, 1) != 1 || read(STDIN_FILENO, &byte, 1) != 1)
		_exit(200);
	end = make_end(taken->rows, taken->row_count);
	run_one(&service, end);
	for (size_t i = 0; i < taken->row_count; i++)
		refused += end->statuses[i] == -ESTALE;
	store_request_free(end);
	store_request_free(taken);
	stop_service(&service);
	return refused;
}

struct zombie {
	pid_t pid;
	int to_fd;
};

static struct zombie start_zombie(void)
{
	int from[2], to[2];
	struct zombie zombie;
	char byte;

	assert_int_equal(pipe2(from, O_CLOEXEC), 0);
	assert_int_equal(pipe2(to, O_CLOEXEC), 0);
	zombie.pid = fork();
	assert_true(zombie.pid >= 0);
	if (zombie.pid == 0) {
		dup2(to[0], STDIN_FILENO);
		dup2(from[1], STDOUT_FILENO);
		execl("/proc/self/exe", "zombie", connection, (char *)NULL);
		_exit(201);
	}
	close(from[1]);
	close(to[0]);
	zombie.to_fd = to[1];
	assert_int_equal(read(from[0], &byte, 1), 1);
	close(from[0]);
	return zombie;
}

/* Recovers until something was; an election and a lease have to pass. */
static struct store_request *recover_some(struct service *service)
{
	int64_t deadline_ns = clock_monotonic_ns() + 30 * SCALE * NS_PER_S;

	for (;;) {
		struct store_request *request = recover(service);

		if (request->row_count > 0)
			return request;
		store_request_free(request);
		assert_true(clock_monotonic_ns() < deadline_ns);
		poll(NULL, 0, 20);
	}
}

/* A service that hangs for longer than its lease: its jobs go to another, and what it says of them
 * later is not heard; but it goes on, as a new boot. */
static void test_zombie(void **state)
{
	struct service service;
	struct store_request *request, *fetch;
	struct zombie zombie;
	struct id ids[3];
	int status;

	(void)state;
	start_service(&service, "seed", LEASE_MS);
	put(&service, 3, "process");
	stop_service(&service);
	zombie = start_zombie();
	kill(zombie.pid, SIGSTOP);
	start_service(&service, "rescuer", LEASE_MS);
	request = recover_some(&service);
	assert_int_equal(request->row_count, 3);
	for (size_t i = 0; i < 3; i++) {
		ids[i] = request->rows[i].id;
		assert_int_equal(request->rows[i].state, JOB_RUNNING);
		assert_int_equal(request->rows[i].attempt, 1);
	}
	/* One is tried again and taken as attempt 2, one is given back, one is kept. */
	struct store_request *update = store_request_new(STORE_UPDATE);
	assert_int_equal(store_request_rows(update, 2), 0);
	for (size_t i = 0; i < 2; i++) {
		fill_row(&update->rows[i], ids[i], "process", 0, now_us() - 1000);
		update->rows[i].attempt = i == 0 ? 1 : 0;
	}
	run_one(&service, update);
	assert_int_equal(update->statuses[0], 0);
	assert_int_equal(update->statuses[1], 0);
	store_request_free(update);
	store_request_free(request);
	request = take(&service, "process", 1);
	assert_int_equal(request->row_count, 1);

	kill(zombie.pid, SIGCONT);
	assert_int_equal(write(zombie.to_fd, "", 1), 1);
	assert_int_equal(waitpid(zombie.pid, &status, 0), zombie.pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 3);
	close(zombie.to_fd);
	fetch = make_ids(STORE_FETCH, ids, 3);
	run_one(&service, fetch);
	assert_int_equal(fetch->row_count, 3);
	for (size_t i = 0; i < 3; i++)
		assert_true(fetch->rows[i].state < JOB_SUCCEEDED);
	store_request_free(fetch);
	assert_int_equal(end_one(&service, &request->rows[0]), 0);
	store_request_free(request);
	stop_service(&service);
}

/* One that is killed: no ends at all; and one whose jobs nobody takes over before it is back keeps
 * them. */
static void test_killed(void **state)
{
	struct service service;
	struct store_request *request;
	struct zombie killed, slow;
	int status;

	(void)state;
	start_service(&service, "seed", LEASE_MS);
	put(&service, 3, "process");
	killed = start_zombie();
	put(&service, 2, "process");
	slow = start_zombie();
	kill(killed.pid, SIGKILL);
	assert_int_equal(waitpid(killed.pid, &status, 0), killed.pid);
	kill(slow.pid, SIGSTOP);
	while (sql("SELECT count(*) FROM nodes WHERE boot > 1 AND lease_until_us < now_us()") < 2)
		poll(NULL, 0, 20);
	kill(slow.pid, SIGCONT);
	assert_int_equal(write(slow.to_fd, "", 1), 1);
	assert_int_equal(waitpid(slow.pid, &status, 0), slow.pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	request = recover_some(&service);
	assert_int_equal(request->row_count, 3);
	store_request_free(request);
	close(killed.to_fd);
	close(slow.to_fd);
	stop_service(&service);
}

static void test_one_sweeper(void **state)
{
	struct service a, b;
	struct store_request *request;

	(void)state;
	start_service(&a, "a", LEASE_MS);
	start_service(&b, "b", LEASE_MS);
	store_request_free(recover(&a));
	/* Two expired ones: a alone sees to them, as long as it does. */
	request = make_put(2, "process");
	request->rows[0].expires_us = now_us() - 1000;
	request->rows[1].expires_us = now_us() - 2000;
	run_one(&b, request);
	store_request_free(request);
	request = take(&b, "process", 5);
	assert_int_equal(request->row_count, 0);
	store_request_free(request);
	sql("UPDATE sweeper SET until_us = now_us() + 3600000000");
	request = recover(&b);
	assert_int_equal(request->row_count, 0);
	store_request_free(request);
	request = recover(&a);
	assert_int_equal(request->row_count, 2);
	assert_int_equal(request->rows[0].state, JOB_QUEUED);
	assert_int_equal(request->rows[0].attempt, 0);
	assert_int_equal(end_one(&b, &request->rows[0]), -ESTALE);
	assert_int_equal(end_one(&a, &request->rows[0]), 0);
	store_request_free(request);
	/* When it has gone, the other. */
	stop_service(&a);
	sql("UPDATE sweeper SET until_us = now_us()");
	request = recover_some(&b);
	assert_int_equal(request->row_count, 1);
	store_request_free(request);
	stop_service(&b);
}

/* --- any node answers for any job ----------------------------------------------------------------- */

static void test_watch_and_cancel(void **state)
{
	struct service a, b;
	struct store_request *request, *taken, *live;
	struct id ids[2];

	(void)state;
	start_service(&a, "a", 30000);
	start_service(&b, "b", 30000);
	ids[0] = put_one(&a);
	ids[1] = put_one(&a);
	taken = take(&b, "process", 1);
	assert_int_equal(taken->row_count, 1);
	assert_int_equal(id_compare(&taken->rows[0].id, &ids[0]), 0);

	/* a watches one that b has: first all is new, then nothing is. */
	request = poll_store(&a, ids, 1);
	assert_int_equal(request->row_count, 1);
	assert_int_equal(request->rows[0].state, JOB_RUNNING);
	assert_null(request->rows[0].document);
	store_request_free(request);
	request = poll_store(&a, ids, 1);
	assert_int_equal(request->row_count, 0);
	store_request_free(request);
	request = poll_store(&b, NULL, 0);
	assert_int_equal(request->watched_count, 1);
	assert_int_equal(id_compare(&request->watched[0], &ids[0]), 0);
	assert_int_equal(request->cancelled_count, 0);
	store_request_free(request);

	/* b tells of it, and a hears that there is news. */
	forget_hints(&a);
	live = make_end(&taken->rows[0], 1);
	live->op = STORE_LIVE;
	live->rows[0].state = JOB_RUNNING;
	run_one(&b, live);
	assert_int_equal(live->statuses[0], 0);
	assert_true(wait_hint(&a, 10000 * SCALE));
	request = poll_store(&a, ids, 1);
	assert_int_equal(request->row_count, 1);
	assert_string_equal(request->rows[0].document, "{\"result\":1}");
	store_request_free(request);
	live->rows[0].attempt++;
	run_one(&b, live);
	assert_int_equal(live->statuses[0], -ESTALE);
	live->rows[0].attempt--;
	run_one(&a, live);
	assert_int_equal(live->statuses[0], -ESTALE);
	store_request_free(live);

	/* a cancels: what runs elsewhere is told, what is queued is its own. */
	assert_int_equal(cancel(&a, ids[0], NULL), -EINPROGRESS);
	request = poll_store(&b, NULL, 0);
	assert_int_equal(request->cancelled_count, 1);
	assert_int_equal(id_compare(&request->cancelled[0], &ids[0]), 0);
	store_request_free(request);
	assert_int_equal(end_one(&b, &taken->rows[0]), 0);
	assert_int_equal(cancel(&a, ids[0], NULL), -EALREADY);
	assert_int_equal(cancel(&a, id_new(), NULL), -ENOENT);
	store_request_free(taken);
	assert_int_equal(cancel(&b, ids[1], &request), 0);
	assert_int_equal(request->row_count, 1);
	taken = take(&a, "process", 1);
	assert_int_equal(taken->row_count, 0);
	store_request_free(taken);
	assert_int_equal(end_one(&a, &request->rows[0]), -ESTALE);
	assert_int_equal(end_one(&b, &request->rows[0]), 0);
	store_request_free(request);
	stop_service(&a);
	stop_service(&b);
}

/* A hint reaches the others and not the one who gave it. */
static void test_hints(void **state)
{
	struct service a, b;

	(void)state;
	start_service(&a, "a", 30000);
	start_service(&b, "b", 30000);
	assert_true(wait_hint(&a, 10000 * SCALE)); /* both listen: whatever was before is unknown */
	assert_true(wait_hint(&b, 10000 * SCALE));
	forget_hints(&a);
	forget_hints(&b);
	put(&b, 1, "process");
	assert_true(wait_hint(&a, 10000 * SCALE));
	put(&b, 1, "process");
	assert_false(wait_hint(&b, 50));
	stop_service(&a);
	stop_service(&b);
}

/* --- clocks --------------------------------------------------------------------------------------- */

/* A service whose clock is an hour behind the database's: what it sees is by its own clock, what is
 * compared is by the database's. */
static void test_clock(void **state)
{
	struct service service;
	struct store_request *request;
	int64_t due_us = now_us();
	struct id id;

	(void)state;
	start_service(&service, "a", 30000);
	stop_service(&service);
	sql("CREATE OR REPLACE FUNCTION now_us() RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT"
	    " (extract(epoch FROM now()) * 1000000)::bigint + 3600000000 $$");
	start_service(&service, "a", 30000);
	request = make_put(2, "process");
	id = request->rows[0].id;
	request->rows[0].due_us = due_us;
	request->rows[1].due_us = due_us + 60000000;
	run_one(&service, request);
	store_request_free(request);
	assert_true(llabs(sql("SELECT due_us - %lld FROM jobs ORDER BY id", (long long)due_us) -
			  3600000000) < 1000000);
	request = take(&service, "process", 5);
	assert_int_equal(request->row_count, 1);
	assert_int_equal(id_compare(&request->rows[0].id, &id), 0);
	assert_int_equal(request->rows[0].due_us, due_us);
	assert_int_equal(request->rows[0].expires_us, 0);
	store_request_free(request);
	stop_service(&service);
}

/* --- lost connections ----------------------------------------------------------------------------- */

static atomic_bool chaos_is_over;

/* Whether this descriptor of ours is a connection to the database. */
static bool is_connection(int fd)
{
	struct sockaddr_un address = {0};
	socklen_t length = sizeof(address);

	return getpeername(fd, (struct sockaddr *)&address, &length) == 0 &&
	       address.sun_family == AF_UNIX && strstr(address.sun_path, ".s.PGSQL") != NULL;
}

/*
 * Cuts connections at moments that nobody chose, most on our side: the server carries out what it
 * has got, COMMIT included, and nobody hears of it. (By the bare system call, since a sanitizer would
 * rightly say that this is no way to treat another's descriptor.)
 */
static void *cut_connections(void *data)
{
	atomic_uint *cuts = data;
	unsigned int seed = 1;

	while (!atomic_load(&chaos_is_over)) {
		for (int fd = 3; fd < 64; fd++) {
			if (rand_r(&seed) % 3 == 0 && is_connection(fd) &&
			    syscall(SYS_shutdown, fd, SHUT_RDWR) == 0)
				atomic_fetch_add(cuts, 1);
		}
		if (rand_r(&seed) % 4 == 0)
			sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
			    " WHERE application_name LIKE 'twinpool %%writer' AND random() < 0.5");
		poll(NULL, 0, rand_r(&seed) % (25 * SCALE));
	}
	return NULL;
}

struct shift {
	struct service service;
	pthread_t thread;
	atomic_uint *done;   /* of all shifts together */
	atomic_uchar *ended; /* of each job, by batch_index */
	unsigned int total;
	int64_t deadline_ns; /* then it is given up, and judged */
	unsigned int failures;
};

/* Until it is in, as store.c does with what must not be lost. */
static void insist(struct shift *shift, struct store_request *request)
{
	request->since_ns = clock_monotonic_ns();
	while (try_one(&shift->service, request) != 0) {
		shift->failures++;
		poll(NULL, 0, 5);
	}
}

static void *work_shift(void *data)
{
	struct shift *shift = data;

	while (atomic_load(shift->done) < shift->total &&
	       clock_monotonic_ns() < shift->deadline_ns) {
		struct store_request *request = make_take("process", 8);
		struct store_request *end;

		request->since_ns = clock_monotonic_ns();
		if (try_one(&shift->service, request) != 0) {
			shift->failures++;
			store_request_free(request);
			poll(NULL, 0, 5);
			continue;
		}
		for (size_t i = 0; i < request->row_count; i++)
			assert_int_equal(request->rows[i].attempt, 1);
		end = make_end(request->rows, request->row_count);
		insist(shift, end);
		for (size_t i = 0; i < end->row_count; i++) {
			assert_int_equal(end->statuses[i], 0);
			atomic_fetch_add(&shift->ended[request->rows[i].batch_index], 1);
			atomic_fetch_add(shift->done, 1);
		}
		store_request_free(end);
		store_request_free(request);
	}
	return NULL;
}

#define SHIFTS	   3
#define SHIFT_JOBS 300

static void start_shifts(struct shift *shifts, atomic_uchar *ended, atomic_uint *done)
{
	static char names[SHIFTS][2] = {"a", "b", "c"};

	for (size_t i = 0; i < SHIFTS; i++) {
		start_service(&shifts[i].service, names[i], 60000);
		shifts[i].ended = ended;
		shifts[i].done = done;
		shifts[i].total = SHIFT_JOBS;
		shifts[i].deadline_ns = clock_monotonic_ns() + 25 * SCALE * NS_PER_S;
	}
	for (size_t i = 0; i < SHIFTS; i++)
		assert_int_equal(pthread_create(&shifts[i].thread, NULL, work_shift, &shifts[i]),
				 0);
}

/* Puts jobs with a key each, whatever happens meanwhile. */
static void put_shift_jobs(struct shift *shift, unsigned int from, unsigned int to)
{
	for (unsigned int i = from; i < to; i++) {
		struct store_request *request = make_put(1, "process");

		request->rows[0].batch_index = i;
		snprintf(request->key.text, sizeof(request->key.text), "key %u", i);
		request->key.expires_us = now_us() + 3600000000;
		insist(shift, request);
		assert_int_equal(request->status, 0);
		store_request_free(request);
	}
}

static void join_shifts(struct shift *shifts)
{
	for (size_t i = 0; i < SHIFTS; i++)
		pthread_join(shifts[i].thread, NULL);
}

static void judge_shifts(struct shift *shifts, const atomic_uchar *ended)
{
	for (size_t i = 0; i < SHIFT_JOBS; i++)
		assert_int_equal(ended[i], 1);
	assert_int_equal(sql("SELECT count(*) FROM jobs"), SHIFT_JOBS);
	assert_int_equal(
		sql("SELECT count(*) FROM jobs WHERE state = 4 AND attempt = 1 AND NOT held"),
		SHIFT_JOBS);
	assert_int_equal(sql("SELECT count(*) FROM keys"), SHIFT_JOBS);
	for (size_t i = 0; i < SHIFTS; i++)
		stop_service(&shifts[i].service);
}

/* Whatever a cut connection leaves unknown, every job is ended once, as its first attempt, and none
 * is left claimed by someone who does not know. */
static void test_cut_connections(void **state)
{
	static atomic_uchar ended[SHIFT_JOBS];
	struct shift shifts[SHIFTS] = {0}, putter = {0};
	atomic_uint cuts = 0, done = 0;
	pthread_t cutter;

	(void)state;
	memset(ended, 0, sizeof(ended));
	atomic_store(&chaos_is_over, false);
	start_service(&putter.service, "putter", 60000);
	start_shifts(shifts, ended, &done);
	assert_int_equal(pthread_create(&cutter, NULL, cut_connections, &cuts), 0);
	put_shift_jobs(&putter, 0, SHIFT_JOBS);
	join_shifts(shifts);
	atomic_store(&chaos_is_over, true);
	pthread_join(cutter, NULL);
	judge_shifts(shifts, ended);
	assert_true(atomic_load(&cuts) > 3);
	stop_service(&putter.service);
}

/* The same while the database is restarted, in order and by kill -9. */
static void test_restarts(void **state)
{
	static atomic_uchar ended[SHIFT_JOBS];
	struct shift shifts[SHIFTS] = {0}, putter = {0};
	atomic_uint done = 0;
	const char *control = getenv("TWINPOOL_TEST_POSTGRES_CONTROL");

	(void)state;
	if (!control)
		skip();
	memset(ended, 0, sizeof(ended));
	start_service(&putter.service, "putter", 60000);
	start_shifts(shifts, ended, &done);
	put_shift_jobs(&putter, 0, SHIFT_JOBS / 3);
	kill((pid_t)strtol(control, NULL, 10), SIGUSR1);
	put_shift_jobs(&putter, SHIFT_JOBS / 3, SHIFT_JOBS * 2 / 3);
	while (sql("SELECT current_setting('twinpool.restarts')") < 2 &&
	       clock_monotonic_ns() < shifts[0].deadline_ns)
		poll(NULL, 0, 20);
	assert_true(sql("SELECT current_setting('twinpool.restarts')") >= 2);
	put_shift_jobs(&putter, SHIFT_JOBS * 2 / 3, SHIFT_JOBS);
	join_shifts(shifts);
	judge_shifts(shifts, ended);
	stop_service(&putter.service);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_concurrent_opening, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_variables, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_foreign, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_backlog, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_zombie, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_killed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_one_sweeper, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_watch_and_cancel, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_hints, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_clock, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_each_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cut_connections, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_restarts, set_up, tear_down),
	};

	if (argc > 1)
		return be_zombie(argv[1]);
	server = getenv("TWINPOOL_TEST_POSTGRES");
	if (!server) {
		fprintf(stderr, "TWINPOOL_TEST_POSTGRES is not set\n");
		return SKIPPED;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
