/*
 * twinpool/task.h: what the author of a task needs, and nothing else.
 *
 * A task is a named function that a worker runs for a job. It gets its arguments as a jansson
 * value that has already been checked against the task's schema, and a context through which it
 * answers, writes output, and learns that it should stop.
 *
 * Where it runs. On a pool of P×1, the worker is a process of its own: static variables are private
 * to it, a crash takes only this job, and what the task writes with printf() comes back in the job.
 * On a pool of 1×T or P×T, several jobs run at once as threads of one process: static variables are
 * shared by all of them and need a lock, a crash takes the neighbours down, and only output written
 * through the context (tp_write(), tp_printf()) comes back in the job, since file descriptors 1 and
 * 2 belong to the whole process.
 *
 * Rules for a task on any pool:
 *   - Leave what you found: signal masks and handlers, the working directory, descriptors, the
 * locale.
 *   - A thread cannot be killed. Poll tp_should_stop() at least every few milliseconds of work, or
 * wait with tp_sleep_ns(); a task that ignores it is ended by ending its process, neighbours
 * included.
 *   - Return; do not call exit() or pthread_exit().
 *
 * Thread: every function here may be called only from the thread that run() was called on, during
 * that call, unless it says otherwise.
 */
#ifndef TWINPOOL_TASK_H
#define TWINPOOL_TASK_H

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Version of this interface; grows when a struct or a meaning here changes. */
#define TP_TASK_ABI 1

struct tp_context; /* one run of one job; lives as long as the call of run() */

enum tp_stream { TP_STDOUT = 1, TP_STDERR = 2 };

/*
 * Runs one job. args is borrowed and must not be changed or kept after the return.
 *
 * Answers 0 for success: the result is what tp_set_result() was given last, or null.
 * Answers anything else for failure: the job ends as failed with the code task_error and the
 * message that tp_fail() was given last, or a general one. A task that returns because
 * tp_should_stop() said so answers tp_stopped(ctx).
 */
typedef int tp_run_fn(struct tp_context *ctx, const json_t *args);

enum tp_task_flags {
	/* run() may be called by several threads of a process at once. A task without it is
	 * refused on pools that have more than one thread to a host. */
	TP_TASK_THREAD_SAFE = 1 << 0,
	/* The operator must enable the task by its name in the configuration. */
	TP_TASK_DISABLED_BY_DEFAULT = 1 << 1
};

/* Describes a task. All that it points to must live as long as the program. */
struct tp_task {
	const char *name;	 /* [a-z][a-z0-9_.-]*, at most 63 bytes */
	const char *description; /* one or a few sentences for people */
	const char *args_schema; /* JSON text: the schema of args, in twinpool's subset of JSON
				    Schema */
	unsigned int flags;	 /* of enum tp_task_flags */
	tp_run_fn *run;
};

/*
 * Gives the result; takes the reference, also on failure. A later call replaces an earlier one. 0,
 * or -EINVAL if result is NULL (so that tp_set_result(ctx, json_pack(...)) can be returned as it
 * is).
 */
int tp_set_result(struct tp_context *ctx, json_t *result);

/*
 * Says why the job fails, as a sentence for the person who submitted it; cut at about 1000 bytes. A
 * later call replaces an earlier one. Answers -1, so that a task can `return tp_fail(ctx, ...)`.
 */
int tp_fail(struct tp_context *ctx, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * Writes to the job's stdout or stderr, unbuffered: what was written is kept even if the job is
 * killed in the next instant. Order within a stream is kept, on a P×1 pool also against printf().
 * The beginning and the end are kept up to the pool's output_bytes. 0, or -errno if the service is
 * gone.
 */
int tp_write(struct tp_context *ctx, enum tp_stream stream, const void *data, size_t length);
int tp_printf(struct tp_context *ctx, enum tp_stream stream, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Whether the job was cancelled, timed out, or the service is ending. Costs one memory read. Any
 * thread. */
bool tp_should_stop(const struct tp_context *ctx);

/* What run() answers when it stopped because of tp_should_stop(). Whatever was set as result until
 * then is dropped. */
int tp_stopped(struct tp_context *ctx);

/* Sleeps for so long, or until the job should stop. true if the whole time passed. Any thread. */
bool tp_sleep_ns(struct tp_context *ctx, int64_t duration_ns);

/* The attempt, from 1. */
unsigned int tp_attempt(const struct tp_context *ctx);

/* The moment (CLOCK_MONOTONIC, nanoseconds) at which the job will be asked to stop; 0 if there is
 * none. */
int64_t tp_deadline_ns(const struct tp_context *ctx);

/* Whether this worker is a process of its own (P×1) rather than one thread of several. */
bool tp_is_process(const struct tp_context *ctx);

/* Name of the pool. Borrowed. */
const char *tp_pool_name(const struct tp_context *ctx);

/*
 * Memory that all hosts of the pool share (MAP_SHARED), for values that jobs of different processes
 * are to see: the same TP_SHARED_BYTES bytes in every host, zero when the service starts, kept when
 * a host dies. Never NULL. See builtin/counter.c for a lock in it.
 */
#define TP_SHARED_BYTES 4096
void *tp_shared(struct tp_context *ctx);

/*
 * The value that the operator gave this task in the configuration under "tasks", such as "root";
 * NULL if there is none. Borrowed.
 */
const char *tp_setting(const struct tp_context *ctx, const char *name);

#ifdef __cplusplus
}
#endif
#endif
