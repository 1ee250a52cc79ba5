/*
 * counter: adds to a counter that jobs share, with or without a lock.
 *
 * The counter in private memory is a static variable of the process: the threads of one host share
 * it, processes do not. The one in shared memory is a block that every host of the pool sees, with
 * the block's lock, which works across processes and outlives the death of the one that holds it.
 *
 * An increment is a load, an addition and a store, in three steps. Without the lock, two workers
 * may load the same value and one of their increments is lost; the steps are relaxed atomic
 * operations, so that this is all that can happen.
 *
 * Invariant: a value is whole at every instant, so the death of the holder of the lock needs no
 * repair of it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "task/builtin/builtin.h"

#define INCREMENTS_PER_POLL 4096

struct counter {
	struct tp_context *ctx;
	_Atomic int64_t *value;
	bool is_shared;
};

static pthread_mutex_t private_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int64_t private_value; /* guarded by private_lock, unless a job does without */

/* 0 or -errno. */
static int find_counter(struct tp_context *ctx, bool is_shared, struct counter *ret_counter)
{
	struct counter counter = {.ctx = ctx, .value = &private_value, .is_shared = is_shared};
	if (is_shared) {
		counter.value = tp_shared_block(ctx, "counter", sizeof(*counter.value));
		if (counter.value == NULL) {
			return -errno;
		}
	}
	*ret_counter = counter;
	return 0;
}

/* 0 or -errno. By the invariant it is all the same whether the last holder has died. */
static int lock_counter(struct counter *counter)
{
	if (!counter->is_shared) {
		return -pthread_mutex_lock(&private_lock);
	}
	int status = tp_lock(counter->ctx, counter->value);
	return status < 0 ? status : 0;
}

static void unlock_counter(struct counter *counter)
{
	if (counter->is_shared) {
		tp_unlock(counter->ctx, counter->value);
	} else {
		pthread_mutex_unlock(&private_lock);
	}
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
		unlock_counter(counter);
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
	unlock_counter(counter);
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
