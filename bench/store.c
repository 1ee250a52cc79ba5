/*
 * bench_store DIRECTORY [ROUNDS [SECONDS]]: what the SQLite store does beside the limits of the same
 * disk, in interleaved rounds of the same run.
 *
 *	fdatasync   one write of 4 KiB over an allocated file and one fdatasync(2), again and again
 *	sqlite      one row a transaction: WAL, synchronous=FULL, a table with an index
 *	put N       durable submissions through store.c, N of them outstanding at any time
 *	job N       the same, each followed by its end, which is waited for as well
 *	history     ends of jobs that were not put, by the store's own counting of its transactions
 *
 * Each line: the median, least and greatest of the rounds, in operations a second. The directory is
 * made, must not exist, and is left for inspection.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/store.h"

#define ROUNDS_MAX    64
#define FILE_PAGES    256
#define PAGE_BYTES    4096
#define DOCUMENT_SIZE 1400 /* as a small job's is */

static const char *directory;
static double seconds = 1;

static void __attribute__((noreturn)) die(const char *what)
{
	(void)fprintf(stderr, "bench_store: %s: %s\n", what, strerrordesc_np(errno));
	exit(1);
}

static void path_of(char *path, size_t size, const char *name)
{
	(void)snprintf(path, size, "%s/%s", directory, name);
}

static double rate(uint64_t count, int64_t begin_ns)
{
	return (double)count * 1e9 / (double)(clock_monotonic_ns() - begin_ns);
}

static int64_t end_of_round(void)
{
	return clock_monotonic_ns() + (int64_t)(seconds * 1e9);
}

/* ---- The disk ---- */

static double bench_fdatasync(void)
{
	static char page[PAGE_BYTES];
	char path[4200];
	uint64_t count = 0;
	int64_t begin_ns;
	int64_t end_ns;
	int fd;

	path_of(path, sizeof(path), "raw");
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		die(path);
	for (int i = 0; i < FILE_PAGES; i++)
		if (pwrite(fd, page, sizeof(page), (off_t)i * PAGE_BYTES) != PAGE_BYTES)
			die(path);
	if (fsync(fd) < 0)
		die(path);
	begin_ns = clock_monotonic_ns();
	end_ns = end_of_round();
	while (clock_monotonic_ns() < end_ns) {
		page[0]++;
		if (pwrite(fd, page, sizeof(page), (off_t)(count % FILE_PAGES) * PAGE_BYTES) < 0 ||
		    fdatasync(fd) < 0)
			die(path);
		count++;
	}
	(void)close(fd);
	return rate(count, begin_ns);
}

/* ---- SQLite alone ---- */

static void must(sqlite3 *db, int code)
{
	if (code == SQLITE_OK || code == SQLITE_DONE)
		return;
	(void)fprintf(stderr, "bench_store: sqlite: %s\n", sqlite3_errmsg(db));
	exit(1);
}

static double bench_sqlite(void)
{
	static char text[DOCUMENT_SIZE];
	char path[4200];
	sqlite3 *db = NULL;
	sqlite3_stmt *insert = NULL;
	uint64_t count = 0;
	int64_t begin_ns;
	int64_t end_ns;

	path_of(path, sizeof(path), "raw.db");
	memset(text, 'x', sizeof(text));
	must(db, sqlite3_open(path, &db));
	must(db, sqlite3_exec(db,
			      "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;"
			      "CREATE TABLE IF NOT EXISTS t(id BLOB PRIMARY KEY,body TEXT)",
			      NULL, NULL, NULL));
	must(db, sqlite3_prepare_v2(db, "INSERT INTO t VALUES(?1,?2)", -1, &insert, NULL));
	begin_ns = clock_monotonic_ns();
	end_ns = end_of_round();
	while (clock_monotonic_ns() < end_ns) {
		struct id id = id_new();

		must(db, sqlite3_bind_blob(insert, 1, id.bytes, sizeof(id.bytes), SQLITE_STATIC));
		must(db, sqlite3_bind_text(insert, 2, text, sizeof(text), SQLITE_STATIC));
		must(db, sqlite3_step(insert));
		must(db, sqlite3_reset(insert));
		count++;
	}
	(void)sqlite3_finalize(insert);
	(void)sqlite3_close(db);
	return rate(count, begin_ns);
}

/* ---- The store ---- */

/* What one round of the store counts. */
struct round {
	struct store *store;
	int64_t end_ns;
	uint64_t done;
	unsigned int outstanding;
	bool ends; /* each job is ended, too */
};

static char *text_of(size_t length)
{
	char *text = malloc(length + 1);

	if (text == NULL)
		die("malloc");
	memset(text, 'x', length);
	text[0] = '"';
	text[length - 1] = '"';
	text[length] = '\0';
	return text;
}

static void submit(struct round *round, enum store_op op, const struct id *id, bool is_must,
		   void (*done)(struct store_request *request))
{
	struct store_request *request = store_request_new(op);
	struct store_row *row;

	if (request == NULL || store_request_rows(request, 1) < 0)
		die("malloc");
	row = &request->rows[0];
	row->id = *id;
	row->task = strdup("echo");
	row->pool = strdup("process");
	row->submitted_us = clock_realtime_ns() / NS_PER_US;
	row->due_us = row->submitted_us;
	row->state = op == STORE_END ? JOB_SUCCEEDED : JOB_RUNNING;
	row->attempt = 1;
	row->ended_us = op == STORE_END ? row->submitted_us : 0;
	if (op == STORE_END)
		row->document = text_of(DOCUMENT_SIZE);
	else
		row->record = text_of(200);
	request->must = is_must;
	request->done = done;
	request->data = round;
	round->outstanding++;
	store_submit(round->store, request);
}

static void check(const struct store_request *request)
{
	if (request->status == 0)
		return;
	(void)fprintf(stderr, "bench_store: the store answered %s\n",
		      strerrordesc_np(-request->status));
	exit(1);
}

static void put_done(struct store_request *request);

static void next(struct round *round)
{
	struct id id = id_new();

	if (clock_monotonic_ns() < round->end_ns)
		submit(round, STORE_PUT, &id, false, put_done);
}

static void end_done(struct store_request *request)
{
	struct round *round = request->data;

	check(request);
	store_request_free(request);
	round->outstanding--;
	round->done++;
	next(round);
}

static void put_done(struct store_request *request)
{
	struct round *round = request->data;
	struct id id = request->rows[0].id;

	check(request);
	store_request_free(request);
	round->outstanding--;
	if (round->ends) {
		submit(round, STORE_END, &id, true, end_done);
		return;
	}
	round->done++;
	next(round);
}

static void wait_for_answers(struct store *store)
{
	struct pollfd poller = {.fd = store_fd(store), .events = POLLIN};

	(void)poll(&poller, 1, 1000);
	store_collect(store);
}

static double bench_store(struct store *store, unsigned int clients, bool ends)
{
	struct round round = {.store = store, .end_ns = end_of_round(), .ends = ends};
	int64_t begin_ns = clock_monotonic_ns();

	for (unsigned int i = 0; i < clients; i++)
		next(&round);
	while (round.outstanding > 0)
		wait_for_answers(store);
	return rate(round.done, begin_ns);
}

static void history_done(struct store_request *request)
{
	struct round *round = request->data;

	check(request);
	store_request_free(request);
	round->outstanding--;
	round->done++;
}

/* At most 4096 wait at any time. */
static double bench_history(struct store *store)
{
	struct round round = {.store = store, .end_ns = end_of_round()};
	int64_t begin_ns = clock_monotonic_ns();

	while (clock_monotonic_ns() < round.end_ns) {
		while (round.outstanding < 4096) {
			struct id id = id_new();

			submit(&round, STORE_END, &id, false, history_done);
		}
		wait_for_answers(store);
	}
	while (round.outstanding > 0)
		wait_for_answers(store);
	return rate(round.done, begin_ns);
}

/* ---- The whole ---- */

enum { FDATASYNC, SQLITE, PUT_1, PUT_64, JOB_1, JOB_64, HISTORY, BENCHES };

static const char *const names[BENCHES] = {"fdatasync", "sqlite", "put 1",  "put 64",
					   "job 1",	"job 64", "history"};

static double run(struct store *store, int bench)
{
	switch (bench) {
	case FDATASYNC:
		return bench_fdatasync();
	case SQLITE:
		return bench_sqlite();
	case PUT_1:
		return bench_store(store, 1, false);
	case PUT_64:
		return bench_store(store, 64, false);
	case JOB_1:
		return bench_store(store, 1, true);
	case JOB_64:
		return bench_store(store, 64, true);
	default:
		return bench_history(store);
	}
}

static int compare(const void *a, const void *b)
{
	double left;
	double right;

	memcpy(&left, a, sizeof(left));
	memcpy(&right, b, sizeof(right));
	return left < right ? -1 : left > right;
}

static void report(double rates[BENCHES][ROUNDS_MAX], size_t rounds)
{
	for (int i = 0; i < BENCHES; i++) {
		qsort(rates[i], rounds, sizeof(double), compare);
		(void)printf("%-10s %10.0f %10.0f %10.0f  /s\n", names[i], rates[i][rounds / 2],
			     rates[i][0], rates[i][rounds - 1]);
	}
}

int main(int argc, char **argv)
{
	static double rates[BENCHES][ROUNDS_MAX];
	struct config config = {.store = {.kind = CONFIG_STORE_SQLITE}};
	size_t rounds = argc > 2 ? (size_t)strtoul(argv[2], NULL, 10) : 5;
	struct store_stats stats;
	struct store *store;

	if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX || mkdir(argv[1], 0700) < 0)
		die("usage: bench_store NEW-DIRECTORY [ROUNDS [SECONDS]]");
	directory = argv[1];
	config.data_dir = argv[1];
	if (argc > 3)
		seconds = strtod(argv[3], NULL);
	if (store_open(&config, &store) < 0)
		die("store");
	for (size_t round = 0; round < rounds; round++)
		for (int i = 0; i < BENCHES; i++)
			rates[i][round] = run(store, i);
	store_stats(store, &stats);
	report(rates, rounds);
	(void)printf("store: %llu requests, %llu transactions, %llu synced, %lld bytes\n",
		     (unsigned long long)stats.requests, (unsigned long long)stats.transactions,
		     (unsigned long long)stats.synced, (long long)stats.size_bytes);
	return store_close(store, clock_monotonic_ns() + NS_PER_S) > 0;
}
