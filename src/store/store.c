/*
 * The store's threads: the event loop hands in requests, the writer carries them out, many in one
 * transaction, and hands them back; a reader, where the backend has one, reads beside it.
 *
 * Invariants
 * 1. A request is in one place: in one of the lists `submitted`, `reads`, `answered` (guarded by
 *    lock), or in the hands of one thread.
 * 2. The writer takes all that has come, up to a bound, so one sync of the disk serves as many as
 *    came while the last one ran. Requests leave it in the order in which they came, but for those
 *    that are kept, which only requests for other jobs overtake.
 * 3. No call into the backend, no done(), no log and no system call under the lock.
 * 4. `answered` goes from empty to not empty with a write to `event` after it, so whoever reads
 *    `event` first and `answered` then misses nothing.
 */
#include "store/store.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/table.h"
#include "base/text.h"
#include "store/backend.h"

/* Of one transaction: more are left for the next one. */
#define BATCH_REQUESTS 1024
#define BATCH_BYTES    (8U << 20)

/* Of the history alone, waiting: what comes beyond it is dropped. */
#define BACKLOG_ROWS  20000
#define BACKLOG_BYTES (64U << 20)

/* A row's weight besides its texts. */
#define ROW_BYTES 256

/* Pauses after a failure, doubling. */
#define BACKOFF_NS     (50 * NS_PER_MS)
#define BACKOFF_MAX_NS (5 * NS_PER_S)

#define SIZE_EVERY_NS NS_PER_S
/* What the transaction under way at the deadline of store_close() is given beyond it. */
#define CLOSE_GRACE_NS (250 * NS_PER_MS)

/* A job that a kept request is about. */
struct kept_job {
	struct table_node by_id;
	size_t requests;
};

struct store {
	const struct backend_class *class;
	int event; /* an eventfd */
	atomic_bool hint;
	pthread_t writer;
	pthread_t reader;

	pthread_mutex_t lock;
	pthread_mutex_t *guard;	   /* the lock, for those who may not change the store */
	pthread_cond_t write_wake; /* the writer's; and a reading has ended */
	pthread_cond_t read_wake;  /* the reader's */
	pthread_cond_t ended;	   /* a thread has ended */
	/* guarded by lock */
	struct list submitted;
	struct list reads;
	struct list answered;
	size_t backlog_rows; /* of the history alone, in submitted */
	size_t backlog_bytes;
	struct store_stats stats; /* all but lag_ns */
	int64_t write_since_ns;	  /* of the oldest in the writer's hands; 0: it has none */
	int64_t read_since_ns;
	bool is_open;	 /* the reader may use the backend */
	bool is_reading; /* it does */
	bool closing;
	int64_t deadline_ns;
	unsigned int threads; /* that run */
	bool abandoned;	      /* the last thread frees the store */
	size_t lost;	      /* answered with -ECANCELED, that were not to be */
	struct config_retention retention[CONFIG_ENDED_STATES];

	/* The writer's, and the reader's to look at while is_reading. */
	struct backend *backend;
	/* The writer's. */
	struct config config; /* its `store` and `data_dir`, owned */
	struct list kept;
	struct table kept_jobs;
	bool keep_all; /* kept_jobs is not complete, since memory was short */
	int64_t retry_ns;
	int64_t backoff_ns;
	int64_t size_ns; /* when to look at the size next … */
	bool grows;	 /* … if something was written since */
	bool failing;	 /* the log has been told so */
};

/* What one turn of the writer has in its hands. */
struct turn {
	struct store_request *requests[BATCH_REQUESTS];
	size_t count;
};

const struct config_retention *backend_retention(const struct config *config, enum job_state state)
{
	return &config->store.retention[state - JOB_SUCCEEDED];
}

/* ---- What a request is ---- */

/* Of a job that was not put before its end, and that nobody was promised. */
static bool is_history(const struct store_request *request)
{
	return request->op == STORE_END && !request->must;
}

static bool is_read(enum store_op op)
{
	return op == STORE_FETCH || op == STORE_LIST || op == STORE_FETCH_BATCH;
}

/* Whether somebody is told by its answer that something is on disk. */
static bool wants_sync(const struct store_request *request)
{
	switch (request->op) {
	case STORE_PUT:
	case STORE_CLAIM:
	case STORE_TAKE:
	case STORE_UPDATE:
	case STORE_CANCEL:
		return true;
	case STORE_END:
	case STORE_CALLBACK_RESULT:
		return request->must;
	case STORE_FETCH:
	case STORE_LIST:
	case STORE_FETCH_BATCH:
	case STORE_RECOVER:
	case STORE_POLL:
	case STORE_LIVE:
	case STORE_CALLBACKS:
	case STORE_SWEEP:
		return false;
	}
	return true;
}

static size_t text_bytes(const char *text)
{
	return text != NULL ? strlen(text) : 0;
}

static size_t weigh(const struct store_request *request)
{
	size_t bytes = ROW_BYTES + request->id_count * sizeof(struct id);

	for (size_t i = 0; i < request->row_count; i++)
		bytes += ROW_BYTES + text_bytes(request->rows[i].record) +
			 text_bytes(request->rows[i].document);
	return bytes;
}

/* The i-th job that it is about; NULL behind the last. */
static const struct id *job_of(const struct store_request *request, size_t i)
{
	if (i < request->id_count)
		return &request->ids[i];
	i -= request->id_count;
	if (i < request->row_count)
		return &request->rows[i].id;
	i -= request->row_count;
	return i < request->callback_count ? &request->callbacks[i].id : NULL;
}

/* ---- Answers ---- */

static void signal_event(const struct store *store)
{
	uint64_t one = 1;

	/* It fails only when it is at its greatest value, and readable all the more. */
	(void)!write(store->event, &one, sizeof(one));
}

/* Hands them back; those that nobody is told of are freed. Their statuses are set. */
static void answer(struct store *store, struct store_request **requests, size_t count)
{
	struct list told;
	bool wake;

	list_init(&told);
	for (size_t i = 0; i < count; i++) {
		if (requests[i]->done != NULL)
			list_append(&told, &requests[i]->node);
		else
			store_request_free(requests[i]);
	}
	pthread_mutex_lock(&store->lock);
	store->stats.waiting -= count;
	wake = list_empty(&store->answered) && !list_empty(&told);
	while (!list_empty(&told)) {
		struct list *node = told.next;

		list_remove(node);
		list_append(&store->answered, node);
	}
	pthread_mutex_unlock(&store->lock);
	if (wake)
		signal_event(store);
}

/* What the store's failure does to one request that is not kept. */
static void refuse(struct store *store, struct store_request *request, int status)
{
	request->status = status;
	pthread_mutex_lock(&store->lock);
	if (is_history(request))
		store->stats.dropped += request->row_count;
	if (status == -ECANCELED && request->must)
		store->lost++;
	pthread_mutex_unlock(&store->lock);
	answer(store, &request, 1);
}

/* ---- What is kept ---- */

static void remember_job(struct store *store, const struct id *id)
{
	struct table_node *node = table_find(&store->kept_jobs, id);
	struct kept_job *job;

	if (node != NULL) {
		container_of(node, struct kept_job, by_id)->requests++;
		return;
	}
	job = calloc(1, sizeof(*job));
	if (job != NULL) {
		job->by_id.id = *id;
		job->requests = 1;
	}
	if (job == NULL || table_insert(&store->kept_jobs, &job->by_id) < 0) {
		free(job);
		store->keep_all = true;
	}
}

static void forget_job(struct store *store, const struct id *id)
{
	struct table_node *node = table_find(&store->kept_jobs, id);
	struct kept_job *job;

	if (node == NULL)
		return;
	job = container_of(node, struct kept_job, by_id);
	if (--job->requests > 0)
		return;
	table_remove(&store->kept_jobs, node);
	free(job);
}

static void count_kept(struct store *store, int more)
{
	pthread_mutex_lock(&store->lock);
	store->stats.kept += (uint64_t)more;
	pthread_mutex_unlock(&store->lock);
}

static void keep(struct store *store, struct store_request *request)
{
	for (size_t i = 0; job_of(request, i) != NULL; i++)
		remember_job(store, job_of(request, i));
	list_append(&store->kept, &request->node);
	if (request->must)
		count_kept(store, 1);
}

static void unkeep(struct store *store, struct store_request *request)
{
	list_remove(&request->node);
	for (size_t i = 0; job_of(request, i) != NULL; i++)
		forget_job(store, job_of(request, i));
	if (list_empty(&store->kept))
		store->keep_all = false;
	if (request->must)
		count_kept(store, -1);
}

/* Whether it has to wait for what is kept. A reading sees what was answered, and need not. */
static bool waits_behind(const struct store *store, const struct store_request *request)
{
	if (list_empty(&store->kept) || is_read(request->op))
		return false;
	if (store->keep_all || request->must)
		return true;
	for (size_t i = 0; job_of(request, i) != NULL; i++) {
		if (table_find(&store->kept_jobs, job_of(request, i)) != NULL)
			return true;
	}
	return false;
}

/* ---- The backend ---- */

static void hint(void *data)
{
	struct store *store = data;

	atomic_store(&store->hint, true);
	signal_event(store);
}

static void set_available(struct store *store, const char *message)
{
	bool changes = store->failing != (message != NULL);

	pthread_mutex_lock(&store->lock);
	store->stats.available = message == NULL;
	(void)text_copy(store->stats.error, sizeof(store->stats.error),
			message != NULL ? message : "");
	pthread_mutex_unlock(&store->lock);
	store->failing = message != NULL;
	if (message != NULL && changes)
		log_error("store_failed", log_str("store", store->class->name),
			  log_str("error", message));
	else if (changes)
		log_info("store_recovered", log_str("store", store->class->name));
}

/* When it may be tried again. */
static void back_off(struct store *store)
{
	store->retry_ns = clock_monotonic_ns() + store->backoff_ns;
	store->backoff_ns *= 2;
	if (store->backoff_ns > BACKOFF_MAX_NS)
		store->backoff_ns = BACKOFF_MAX_NS;
}

static void close_backend(struct store *store)
{
	pthread_mutex_lock(&store->lock);
	store->is_open = false;
	while (store->is_reading)
		pthread_cond_wait(&store->write_wake, &store->lock);
	pthread_mutex_unlock(&store->lock);
	store->class->close(store->backend);
	store->backend = NULL;
}

/* Opens it if it is not, and it may be tried. Whether it is open. */
static bool open_backend(struct store *store)
{
	char message[240] = "";

	if (store->backend != NULL)
		return true;
	if (clock_monotonic_ns() < store->retry_ns)
		return false;
	if (store->class->open(&store->config, hint, store, &store->backend, message) < 0) {
		store->backend = NULL;
		set_available(store, message);
		back_off(store);
		return false;
	}
	log_info("store_opened", log_str("store", store->class->name));
	set_available(store, NULL);
	store->backoff_ns = BACKOFF_NS;
	store->grows = true;
	pthread_mutex_lock(&store->lock);
	store->is_open = true;
	pthread_mutex_unlock(&store->lock);
	return true;
}

static void count_transaction(struct store *store, size_t requests, bool sync, int64_t took_ns)
{
	pthread_mutex_lock(&store->lock);
	store->stats.transactions++;
	store->stats.requests += requests;
	if (sync) {
		store->stats.synced++;
		if (store->stats.commit_ns == 0)
			store->stats.commit_ns = took_ns;
		else
			store->stats.commit_ns += (took_ns - store->stats.commit_ns) / 8;
	}
	pthread_mutex_unlock(&store->lock);
}

/* One transaction. 0, or -errno and nothing of it is in. */
static int transact(struct store *store, struct turn *turn)
{
	char message[240] = "";
	int64_t begin_ns = clock_monotonic_ns();
	bool sync = false;
	int result;

	for (size_t i = 0; i < turn->count; i++)
		sync |= wants_sync(turn->requests[i]);
	result = store->class->write(store->backend, turn->requests, turn->count, sync, message);
	store->grows = true;
	if (result == 0) {
		count_transaction(store, turn->count, sync, clock_monotonic_ns() - begin_ns);
		set_available(store, NULL);
		return 0;
	}
	pthread_mutex_lock(&store->lock);
	store->stats.failures++;
	pthread_mutex_unlock(&store->lock);
	set_available(store, message);
	if (result == -ENOTCONN)
		close_backend(store);
	return result;
}

/* ---- The writer ---- */

/* Carries out what is kept, as much as goes. Whether all of it went. */
static bool write_kept(struct store *store, struct turn *turn)
{
	while (!list_empty(&store->kept)) {
		size_t bytes = 0;

		turn->count = 0;
		list_for_each (node, &store->kept) {
			struct store_request *request =
				container_of(node, struct store_request, node);

			bytes += request->weight;
			if (turn->count == BATCH_REQUESTS ||
			    (turn->count > 0 && bytes > BATCH_BYTES))
				break;
			turn->requests[turn->count++] = request;
		}
		if (transact(store, turn) < 0) {
			back_off(store);
			return false;
		}
		store->backoff_ns = BACKOFF_NS;
		for (size_t i = 0; i < turn->count; i++)
			unkeep(store, turn->requests[i]);
		answer(store, turn->requests, turn->count);
	}
	return true;
}

/* What the failure of their transaction makes of them. */
static void fail_turn(struct store *store, struct turn *turn)
{
	for (size_t i = 0; i < turn->count; i++) {
		struct store_request *request = turn->requests[i];

		/* One that is not to be lost may have been kept by now. */
		if (request->must || waits_behind(store, request))
			keep(store, request);
		else
			refuse(store, request, -EIO);
	}
}

/* Carries out what has come. */
static void write_turn(struct store *store, struct turn *turn)
{
	size_t count = 0;

	for (size_t i = 0; i < turn->count; i++) {
		if (waits_behind(store, turn->requests[i]))
			keep(store, turn->requests[i]);
		else
			turn->requests[count++] = turn->requests[i];
	}
	turn->count = count;
	if (count == 0)
		return;
	if (transact(store, turn) == 0) {
		answer(store, turn->requests, count);
		store->retry_ns = 0; /* it works, so what is kept goes now */
		store->backoff_ns = BACKOFF_NS;
		return;
	}
	back_off(store);
	fail_turn(store, turn);
}

/* Called with the lock. */
static void take_turn(struct store *store, struct turn *turn)
{
	size_t bytes = 0;

	turn->count = 0;
	memcpy(store->config.store.retention, store->retention, sizeof(store->retention));
	while (!list_empty(&store->submitted) && turn->count < BATCH_REQUESTS) {
		struct store_request *request =
			container_of(store->submitted.next, struct store_request, node);

		bytes += request->weight;
		if (turn->count > 0 && bytes > BATCH_BYTES)
			break;
		list_remove(&request->node);
		if (is_history(request)) {
			store->backlog_rows -= request->row_count;
			store->backlog_bytes -= request->weight;
		}
		turn->requests[turn->count++] = request;
	}
	if (turn->count > 0 && store->write_since_ns == 0)
		store->write_since_ns = turn->requests[0]->since_ns;
}

/* When the writer has something to do even if nothing comes. */
static int64_t next_ns(const struct store *store)
{
	int64_t next = store->grows ? store->size_ns : INT64_MAX;

	if ((store->backend == NULL || !list_empty(&store->kept)) && store->retry_ns < next)
		next = store->retry_ns;
	if (store->closing && store->deadline_ns < next)
		next = store->deadline_ns;
	return next;
}

/* Whether the writer is to end: the service closes, and nothing is left or time is up. Called with
 * the lock. */
static bool is_over(const struct store *store)
{
	if (!store->closing)
		return false;
	return (list_empty(&store->submitted) && list_empty(&store->kept) &&
		list_empty(&store->reads) && !store->is_reading) ||
	       clock_monotonic_ns() >= store->deadline_ns;
}

/* Called with the lock; lets go of it while it waits. */
static void wait_for_turn(struct store *store)
{
	for (;;) {
		int64_t next = next_ns(store);
		struct timespec until = {.tv_sec = next / NS_PER_S, .tv_nsec = next % NS_PER_S};

		if (!list_empty(&store->submitted) || clock_monotonic_ns() >= next ||
		    is_over(store))
			return;
		(void)pthread_cond_timedwait(&store->write_wake, &store->lock, &until);
	}
}

static void look_at_size(struct store *store)
{
	int64_t bytes;

	if (!store->grows || clock_monotonic_ns() < store->size_ns)
		return;
	store->grows = false;
	store->size_ns = clock_monotonic_ns() + SIZE_EVERY_NS;
	bytes = store->backend != NULL ? store->class->size(store->backend) : -1;
	pthread_mutex_lock(&store->lock);
	store->stats.size_bytes = bytes;
	pthread_mutex_unlock(&store->lock);
}

/* What the writer still has: the oldest of it. Called with the lock. */
static void note_oldest(struct store *store)
{
	store->write_since_ns =
		list_empty(&store->kept)
			? 0
			: container_of(store->kept.next, struct store_request, node)->since_ns;
}

static void cancel_kept(struct store *store)
{
	while (!list_empty(&store->kept)) {
		struct store_request *request =
			container_of(store->kept.next, struct store_request, node);

		unkeep(store, request);
		refuse(store, request, -ECANCELED);
	}
}

static void write_all(struct store *store, struct turn *turn)
{
	pthread_mutex_lock(&store->lock);
	while (!is_over(store)) {
		wait_for_turn(store);
		take_turn(store, turn);
		pthread_mutex_unlock(&store->lock);
		if (open_backend(store)) {
			write_turn(store, turn);
			if (store->backend != NULL && clock_monotonic_ns() >= store->retry_ns)
				(void)write_kept(store, turn);
		} else {
			fail_turn(store, turn);
		}
		look_at_size(store);
		pthread_mutex_lock(&store->lock);
		note_oldest(store);
	}
	pthread_mutex_unlock(&store->lock);
}

static void free_store(struct store *store)
{
	pthread_mutex_destroy(&store->lock);
	pthread_cond_destroy(&store->write_wake);
	pthread_cond_destroy(&store->read_wake);
	pthread_cond_destroy(&store->ended);
	fd_close(&store->event);
	free(store->config.data_dir);
	free(store->config.store.node);
	if (store->config.store.connection != NULL)
		explicit_bzero(store->config.store.connection,
			       strlen(store->config.store.connection));
	free(store->config.store.connection);
	table_release(&store->kept_jobs);
	free(store);
}

static void end_thread(struct store *store)
{
	bool last;

	pthread_mutex_lock(&store->lock);
	store->threads--;
	last = store->threads == 0 && store->abandoned;
	pthread_cond_broadcast(&store->ended);
	pthread_mutex_unlock(&store->lock);
	if (last)
		free_store(store);
}

static void *run_writer(void *data)
{
	struct store *store = data;
	struct turn *turn = calloc(1, sizeof(*turn));

	if (turn != NULL) {
		(void)open_backend(store);
		write_all(store, turn);
	}
	cancel_kept(store);
	if (store->backend != NULL)
		close_backend(store);
	free(turn);
	end_thread(store);
	return NULL;
}

/* ---- The reader ---- */

/* Called with the lock: what cannot be read here goes to the writer. */
static void pass_to_writer(struct store *store, struct store_request *request)
{
	list_append(&store->submitted, &request->node);
	pthread_cond_signal(&store->write_wake);
}

/* Called with the lock; lets go of it while it reads. */
static void read_one(struct store *store)
{
	struct store_request *request = container_of(store->reads.next, struct store_request, node);
	char message[240] = "";
	int result;

	list_remove(&request->node);
	if (!store->is_open) {
		pass_to_writer(store, request);
		return;
	}
	store->is_reading = true;
	store->read_since_ns = request->since_ns;
	pthread_mutex_unlock(&store->lock);
	result = store->class->read(store->backend, request, message);
	pthread_mutex_lock(&store->lock);
	store->is_reading = false;
	store->read_since_ns = 0;
	if (result < 0)
		pass_to_writer(store, request);
	else
		store->stats.requests++;
	pthread_mutex_unlock(&store->lock);
	if (result == 0)
		answer(store, &request, 1);
	pthread_mutex_lock(&store->lock);
	pthread_cond_signal(&store->write_wake); /* it may wait to close the backend */
}

static void *run_reader(void *data)
{
	struct store *store = data;

	pthread_mutex_lock(&store->lock);
	for (;;) {
		while (list_empty(&store->reads) && !store->closing)
			pthread_cond_wait(&store->read_wake, &store->lock);
		if (list_empty(&store->reads))
			break;
		read_one(store);
	}
	pthread_mutex_unlock(&store->lock);
	end_thread(store);
	return NULL;
}

/* ---- Opening and closing ---- */

/* Without signals: they are for the event loop's thread. */
static int start_thread(struct store *store, pthread_t *thread, void *(*run)(void *),
			const char *name)
{
	sigset_t all;
	sigset_t before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	store->threads++;
	error = pthread_create(thread, NULL, run, store);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error != 0) {
		store->threads--;
		return -error;
	}
	(void)pthread_setname_np(*thread, name);
	return 0;
}

static int copy_text(const char *text, char **ret_copy)
{
	if (text == NULL)
		return 0;
	*ret_copy = strdup(text);
	return *ret_copy != NULL ? 0 : -ENOMEM;
}

static int copy_config(struct store *store, const struct config *config)
{
	struct config *copy = &store->config;

	copy->store = config->store;
	copy->store.connection = NULL;
	copy->store.node = NULL;
	memcpy(store->retention, config->store.retention, sizeof(store->retention));
	if (copy_text(config->data_dir, &copy->data_dir) < 0 ||
	    copy_text(config->store.connection, &copy->store.connection) < 0 ||
	    copy_text(config->store.node, &copy->store.node) < 0)
		return -ENOMEM;
	return 0;
}

static struct store *make_store(const struct backend_class *class, enum config_store_kind kind)
{
	struct store *store = calloc(1, sizeof(*store));
	pthread_condattr_t monotonic;

	if (store == NULL)
		return NULL;
	store->class = class;
	store->event = -1;
	store->stats.kind = kind;
	store->stats.size_bytes = -1;
	store->backoff_ns = BACKOFF_NS;
	list_init(&store->submitted);
	list_init(&store->reads);
	list_init(&store->answered);
	list_init(&store->kept);
	pthread_mutex_init(&store->lock, NULL);
	store->guard = &store->lock;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&store->write_wake, &monotonic);
	pthread_cond_init(&store->read_wake, &monotonic);
	pthread_cond_init(&store->ended, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return store;
}

int store_open_with(const struct backend_class *class, const struct config *config,
		    struct store **ret_store)
{
	struct store *store = make_store(class, config->store.kind);
	int result;

	if (store == NULL)
		return -ENOMEM;
	store->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	result = store->event < 0 ? -errno : copy_config(store, config);
	if (result == 0)
		result = start_thread(store, &store->writer, run_writer, "store");
	if (result < 0) {
		free_store(store);
		return result;
	}
	if (class->read != NULL)
		result = start_thread(store, &store->reader, run_reader, "store-read");
	if (result < 0) {
		(void)store_close(store, clock_monotonic_ns() + NS_PER_S);
		return result;
	}
	*ret_store = store;
	return 0;
}

static const struct backend_class *class_of(enum config_store_kind kind)
{
	switch (kind) {
	case CONFIG_STORE_MEMORY:
		return &backend_memory;
	case CONFIG_STORE_SQLITE:
		return &backend_sqlite;
	case CONFIG_STORE_POSTGRESQL:
#ifdef TWINPOOL_POSTGRESQL
		return &backend_postgresql;
#else
		return NULL; /* the configuration does not let it come here */
#endif
	}
	return NULL;
}

int store_open(const struct config *config, struct store **ret_store)
{
	const struct backend_class *class = class_of(config->store.kind);

	return class != NULL ? store_open_with(class, config, ret_store) : -ENOTSUP;
}

void store_set_retention(struct store *store, const struct config *config)
{
	pthread_mutex_lock(&store->lock);
	memcpy(store->retention, config->store.retention, sizeof(store->retention));
	pthread_mutex_unlock(&store->lock);
}

/* Waits until the threads have ended; false if they have not, in time. */
static bool wait_for_end(struct store *store, int64_t deadline_ns)
{
	int64_t end_ns = deadline_ns + CLOSE_GRACE_NS;
	struct timespec until = {.tv_sec = end_ns / NS_PER_S, .tv_nsec = end_ns % NS_PER_S};
	bool over;

	pthread_mutex_lock(&store->lock);
	store->closing = true;
	store->deadline_ns = deadline_ns;
	pthread_cond_broadcast(&store->write_wake);
	pthread_cond_broadcast(&store->read_wake);
	while (store->threads > 0 &&
	       pthread_cond_timedwait(&store->ended, &store->lock, &until) != ETIMEDOUT)
		;
	over = store->threads == 0;
	pthread_mutex_unlock(&store->lock);
	return over;
}

/* Tells those that never came to a thread. */
static void cancel_list(struct store *store, struct list *requests)
{
	for (;;) {
		struct store_request *request = NULL;

		pthread_mutex_lock(&store->lock);
		if (!list_empty(requests)) {
			request = container_of(requests->next, struct store_request, node);
			list_remove(&request->node);
		}
		pthread_mutex_unlock(&store->lock);
		if (request == NULL)
			return;
		refuse(store, request, -ECANCELED);
	}
}

size_t store_close(struct store *store, int64_t deadline_ns)
{
	bool over;
	bool has_reader;
	size_t lost;

	if (store == NULL)
		return 0;
	has_reader = store->class->read != NULL;
	over = wait_for_end(store, deadline_ns);
	cancel_list(store, &store->submitted);
	cancel_list(store, &store->reads);
	store_collect(store);
	pthread_mutex_lock(&store->lock);
	lost = store->lost + store->stats.kept;
	over = store->threads == 0;
	store->abandoned = !over;
	pthread_mutex_unlock(&store->lock);
	if (!over) {
		/* A disk holds it. It is left to itself. */
		log_error("store_hangs", log_str("store", store->class->name));
		pthread_detach(store->writer);
		if (has_reader)
			pthread_detach(store->reader);
		return lost;
	}
	pthread_join(store->writer, NULL);
	if (has_reader)
		pthread_join(store->reader, NULL);
	free_store(store);
	return lost;
}

/* ---- The event loop's side ---- */

int store_fd(const struct store *store)
{
	return store->event;
}

/* Called with the lock: whether so much of the history waits that this must not. */
static bool is_too_much(struct store *store, const struct store_request *request)
{
	if (!is_history(request))
		return false;
	if (store->backlog_rows + request->row_count > BACKLOG_ROWS ||
	    store->backlog_bytes + request->weight > BACKLOG_BYTES)
		return true;
	store->backlog_rows += request->row_count;
	store->backlog_bytes += request->weight;
	return false;
}

void store_submit(struct store *store, struct store_request *request)
{
	bool drop;

	request->since_ns = clock_monotonic_ns();
	request->weight = weigh(request);
	pthread_mutex_lock(&store->lock);
	store->stats.waiting++;
	drop = is_too_much(store, request);
	if (!drop && store->class->read != NULL && is_read(request->op)) {
		list_append(&store->reads, &request->node);
		pthread_cond_signal(&store->read_wake);
	} else if (!drop) {
		list_append(&store->submitted, &request->node);
		pthread_cond_signal(&store->write_wake);
	}
	pthread_mutex_unlock(&store->lock);
	if (drop)
		refuse(store, request, -ENOBUFS);
}

void store_collect(struct store *store)
{
	struct list answered;
	uint64_t count;

	(void)!read(store->event, &count, sizeof(count));
	list_init(&answered);
	pthread_mutex_lock(&store->lock);
	if (!list_empty(&store->answered)) {
		list_insert_after(&store->answered, &answered);
		list_remove(&store->answered);
	}
	pthread_mutex_unlock(&store->lock);
	while (!list_empty(&answered)) {
		struct store_request *request =
			container_of(answered.next, struct store_request, node);

		list_remove(&request->node);
		request->done(request);
	}
}

bool store_is_durable(const struct store *store)
{
	return store->class->is_durable;
}

bool store_is_shared(const struct store *store)
{
	return store->class->is_shared;
}

bool store_take_hint(struct store *store)
{
	return atomic_exchange(&store->hint, false);
}

static int64_t older(int64_t a_ns, int64_t b_ns)
{
	if (a_ns == 0 || b_ns == 0)
		return a_ns + b_ns;
	return a_ns < b_ns ? a_ns : b_ns;
}

static int64_t since_of(const struct list *requests)
{
	return list_empty(requests)
		       ? 0
		       : container_of(requests->next, const struct store_request, node)->since_ns;
}

void store_stats(const struct store *store, struct store_stats *ret_stats)
{
	int64_t oldest_ns;

	pthread_mutex_lock(store->guard);
	*ret_stats = store->stats;
	oldest_ns = older(store->write_since_ns, store->read_since_ns);
	oldest_ns = older(oldest_ns, since_of(&store->submitted));
	oldest_ns = older(oldest_ns, since_of(&store->reads));
	pthread_mutex_unlock(store->guard);
	/* The writer looks at what it has left a moment after it has handed back the others. */
	ret_stats->lag_ns =
		oldest_ns != 0 && ret_stats->waiting > 0 ? clock_monotonic_ns() - oldest_ns : 0;
}
