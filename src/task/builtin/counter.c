/*
 * counter: adds to a counter that jobs share, with or without a lock.
 *
 * The counter in private memory is a static variable of the process: the threads of one host share
 * it, processes do not. The one in shared memory is seen by every host of the pool; its lock works
 * across processes and outlives the death of the one that holds it.
 *
 * An increment is a load, an addition and a store, in three steps. Without the lock, two workers
 * may load the same value and one of their increments is lost; the steps are relaxed atomic
 * operations, so that this is all that can happen.
 *
 * Invariants of the shared counter:
 *   1. A lock is used only after its number was put in `chosen`, which happens once and after it
 * was initialised.
 *   2. Whoever initialises a lock has its place for himself alone; one who dies over it costs that
 * place, and nobody waits for him.
 *   3. value is whole at every instant, so the death of the holder of the lock needs no repair of
 * it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "task/builtin/builtin.h"

#define INCREMENTS_PER_POLL 4096
#define LOCK_PLACES	    16
#define LOCK_TRIES	    1000 /* of a millisecond each */

struct shared_counter {
	_Atomic uint32_t claimed; /* places of locks that somebody began to initialise */
	_Atomic uint32_t chosen;  /* 1 + the place of the lock in use; 0: there is none yet */
	_Atomic int64_t value;
	pthread_mutex_t locks[LOCK_PLACES];
};
_Static_assert(sizeof(struct shared_counter) <= TP_SHARED_BYTES,
	       "the memory of a pool is too small");

struct counter {
	pthread_mutex_t *lock;
	_Atomic int64_t *value;
};

static pthread_mutex_t private_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int64_t private_value; /* guarded by private_lock, unless a job does without */

static int init_robust(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attributes;
	int error = pthread_mutexattr_init(&attributes);
	if (error != 0) {
		return -error;
	}
	error = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	if (error == 0) {
		error = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	}
	if (error == 0) {
		error = pthread_mutex_init(lock, &attributes);
	}
	pthread_mutexattr_destroy(&attributes);
	return -error;
}

/* A place for a lock that nobody else was given; LOCK_PLACES if there is none left. */
static uint32_t claim_place(struct shared_counter *shared)
{
	uint32_t place = atomic_load_explicit(&shared->claimed, memory_order_relaxed);
	while (place < LOCK_PLACES &&
	       !atomic_compare_exchange_weak_explicit(&shared->claimed, &place, place + 1,
						      memory_order_relaxed, memory_order_relaxed)) {
	}
	return place < LOCK_PLACES ? place : LOCK_PLACES;
}

/* Finds the lock that all use, after initialising one if there is none. 0 or -errno. */
static int find_lock(struct tp_context *ctx, struct shared_counter *shared,
		     pthread_mutex_t **ret_lock)
{
	for (int i = 0; i < LOCK_TRIES; i++) {
		uint32_t chosen = atomic_load_explicit(&shared->chosen, memory_order_acquire);
		if (chosen > LOCK_PLACES) {
			return -EPROTO;
		}
		if (chosen > 0) {
			*ret_lock = &shared->locks[chosen - 1];
			return 0;
		}
		uint32_t place = claim_place(shared);
		if (place < LOCK_PLACES) {
			int status = init_robust(&shared->locks[place]);
			if (status != 0) {
				return status;
			}
			atomic_compare_exchange_strong_explicit(&shared->chosen, &chosen, place + 1,
								memory_order_acq_rel,
								memory_order_relaxed);
		} else if (!tp_sleep_ns(ctx, BUILTIN_NS_PER_MS)) {
			return -ECANCELED;
		}
	}
	return -ETIMEDOUT;
}

static int find_counter(struct tp_context *ctx, bool is_shared, struct counter *ret_counter)
{
	if (!is_shared) {
		*ret_counter = (struct counter){.lock = &private_lock, .value = &private_value};
		return 0;
	}
	struct shared_counter *shared = tp_shared(ctx);
	pthread_mutex_t *lock = NULL;
	int status = find_lock(ctx, shared, &lock);
	if (status == 0) {
		*ret_counter = (struct counter){.lock = lock, .value = &shared->value};
	}
	return status;
}

static int lock_counter(struct counter *counter)
{
	int error = pthread_mutex_lock(counter->lock);
	if (error == EOWNERDEAD) {
		/* Invariant 3: there is nothing to repair but the lock. */
		error = pthread_mutex_consistent(counter->lock);
	}
	return -error;
}

static int64_t get(const struct counter *counter)
{
	return atomic_load_explicit(counter->value, memory_order_relaxed);
}

static void put(struct counter *counter, int64_t value)
{
	atomic_store_explicit(counter->value, value, memory_order_relaxed);
}

/* 0, -ECANCELED if the job should stop, or -errno. */
static int increment(struct tp_context *ctx, struct counter *counter, int64_t times, bool with_lock)
{
	for (int64_t i = 0; i < times; i++) {
		if (i % INCREMENTS_PER_POLL == 0 && tp_should_stop(ctx)) {
			return -ECANCELED;
		}
		if (!with_lock) {
			put(counter, get(counter) + 1);
			continue;
		}
		int status = lock_counter(counter);
		if (status != 0) {
			return status;
		}
		put(counter, get(counter) + 1);
		pthread_mutex_unlock(counter->lock);
	}
	return 0;
}

/* Reads the value, or sets it to 0, under the lock. 0 or -errno. */
static int begin(struct counter *counter, bool reset, int64_t *ret_before)
{
	int status = lock_counter(counter);
	if (status != 0) {
		return status;
	}
	if (reset) {
		put(counter, 0);
	}
	*ret_before = get(counter);
	pthread_mutex_unlock(counter->lock);
	return 0;
}

static int run(struct tp_context *ctx, const json_t *args)
{
	int64_t times = builtin_integer(args, "increments", 1);
	bool with_lock = !json_is_false(json_object_get(args, "lock"));
	const char *memory = json_string_value(json_object_get(args, "memory"));
	bool is_shared = memory != NULL && strcmp(memory, "shared") == 0;
	struct counter counter = {0};
	int64_t before = 0;
	int status = find_counter(ctx, is_shared, &counter);
	if (status == 0) {
		status = begin(&counter, json_is_true(json_object_get(args, "reset")), &before);
	}
	if (status == 0) {
		status = increment(ctx, &counter, times, with_lock);
	}
	if (status == -ECANCELED) {
		return tp_stopped(ctx);
	}
	if (status != 0) {
		return tp_fail(ctx, "the lock of the counter cannot be used: %s",
			       strerror(-status));
	}
	return tp_set_result(ctx,
			     json_pack("{s:I, s:I, s:I}", "before", (json_int_t)before, "value",
				       (json_int_t)get(&counter), "increments", (json_int_t)times));
}

static const char schema[] =
	"{\"type\": \"object\", \"properties\": {"
	"\"increments\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 1000000000, "
	"\"default\": 1, \"description\": \"How often this job adds 1.\"},"
	"\"lock\": {\"type\": \"boolean\", \"default\": true, "
	"\"description\": \"Whether each increment is made under the lock. Without it, jobs that "
	"run at the same time on the same memory lose increments.\"},"
	"\"memory\": {\"enum\": [\"private\", \"shared\"], \"default\": \"private\", "
	"\"description\": \"private: a variable of the host process, which its threads share. "
	"shared: memory that all hosts of the pool share.\"},"
	"\"reset\": {\"type\": \"boolean\", \"default\": false, "
	"\"description\": \"Whether to set the counter to 0 first, under the lock.\"}}}";

const struct tp_task builtin_counter = {
	.name = "counter",
	.description = "Increments a counter that jobs share or do not share, with or without a "
		       "lock. The result tells the value before and after.",
	.args_schema = schema,
	.flags = TP_TASK_THREAD_SAFE,
	.run = run,
};
