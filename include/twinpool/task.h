/*
 * twinpool/task.h: all that the author of tasks needs, and nothing else.
 *
 * A task is a named function that a worker runs for a job. It gets its arguments as a jansson
 * value that has already been checked against the task's schema, and a context through which it
 * answers, writes output, and learns that it should stop.
 *
 * A plug-in is a shared object with tasks. It exports one symbol, tp_plugin_entry(), and uses
 * nothing of twinpool but what is declared here:
 *
 *	static int run_hello(struct tp_context *ctx, const json_t *args)
 *	{
 *		const char *name = json_string_value(json_object_get(args, "name"));
 *		return tp_set_result(ctx, json_sprintf("Hello, %s", name));
 *	}
 *
 *	static const struct tp_task hello = {
 *		.name = "hello",
 *		.description = "Greets.",
 *		.args_schema = "{\"type\": \"object\", \"required\": [\"name\"],"
 *			       " \"properties\": {\"name\": {\"type\": \"string\"}}}",
 *		.flags = TP_TASK_THREAD_SAFE,
 *		.run = run_hello,
 *	};
 *	static const struct tp_task *const tasks[] = {&hello, NULL};
 *	static const struct tp_plugin plugin = {
 *		.abi = TP_TASK_ABI, .name = "hello", .version = "1.0", .tasks = tasks};
 *
 *	TP_PLUGIN_EXPORT const struct tp_plugin *tp_plugin_entry(unsigned int host_abi)
 *	{
 *		return host_abi == TP_TASK_ABI ? &plugin : NULL;
 *	}
 *
 * It is built with CMake (find_package(twinpool), twinpool_add_plugin(hello hello.c)) or by
 *
 *	cc -shared -fPIC -fvisibility=hidden $(pkg-config --cflags twinpool) -o hello.so hello.c \
 *		$(pkg-config --libs twinpool)
 *
 * and named in the configuration: "plugins": [{"path": "hello.so"}]. Do not link it with
 * libtwinpool: there is none. The functions below are in the program that loads it.
 *
 * Where a task runs. On a pool of P×1, the worker is a process of its own: static variables are
 * private to it, a crash takes only this job, and what the task writes with printf() comes back in
 * the job. On a pool of 1×T or P×T, several jobs run at once as threads of one process: static
 * variables are shared by all of them and need a lock, a crash takes the neighbours down, and only
 * output written through the context (tp_write(), tp_printf()) comes back in the job, since file
 * descriptors 1 and 2 belong to the whole process.
 *
 * Rules for a task on any pool:
 *   - Leave what you found: signal masks and handlers, the working directory, descriptors, the
 * locale.
 *   - A thread cannot be killed. Poll tp_should_stop() at least every few milliseconds of work, or
 * wait with tp_sleep_ns(); a task that ignores it is ended by ending its process, neighbours
 * included.
 *   - Return; do not call exit() or pthread_exit(), nor leave run() by longjmp() or an exception.
 *   - Threads and processes that run() starts end before it returns. On a P×1 pool, processes that
 * are left are killed.
 *
 * Thread: every function here may be called only from the thread that run() was called on, during
 * that call, unless it says otherwise.
 *
 * Errors: functions that answer int answer 0 or more for success and a negative errno value for
 * failure, unless they say otherwise. Pointers that are answered are borrowed: they live as long as
 * the call of run(), and are not to be freed, unless it is said otherwise.
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

/*
 * Version of this interface. It grows when a struct or a meaning here changes, so that what was
 * built for another one is refused, and not when a function is added: a plug-in that calls a
 * function which the program does not have is refused with the function's name when it is loaded.
 */
#define TP_TASK_ABI 1

/* Before the definition of tp_plugin_entry(), so that it is seen even if all else is hidden. */
#define TP_PLUGIN_EXPORT __attribute__((visibility("default")))

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

/*
 * Says how far the job is: done of total, and what it is at, for people who watch it. done and
 * total count whatever suits the task (rows, bytes, steps), are 0 or more, and total is 0 if it is
 * not known. message may be NULL; its first TP_PROGRESS_MESSAGE_MAX bytes are copied. It replaces
 * what was said before.
 *
 * Call it as often as you like, in an inner loop too: a call costs a look at the clock and a copy
 * of the message. About 20 a second are sent on, the first one at once; what comes between them is
 * kept, and the last is sent with the next call that may be, or when run() returns. 0, -EINVAL for
 * a negative number, or -errno if the service is gone.
 */
#define TP_PROGRESS_MESSAGE_MAX 200
int tp_progress(struct tp_context *ctx, int64_t done, int64_t total, const char *message);

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

/* --- memory and values ----------------------------------------------------------------------- */

/*
 * Memory for this run, filled with zeroes and aligned for any type; freed when run() has returned,
 * however it returned. Costs as much as calloc(). NULL if memory is short or the job's memory limit
 * is reached; errno is ENOMEM then.
 */
void *tp_alloc(struct tp_context *ctx, size_t size) __attribute__((malloc, alloc_size(2)));

/*
 * Memory that all jobs of the pool share, across its processes (MAP_SHARED): a block of its own for
 * each name. Whoever asks first for a name makes its block, full of zeroes and aligned to 64 bytes;
 * all others, in whatever process, get the same, at an address that may be another one, so pointers
 * do not belong in it. Blocks outlive jobs and hosts, and reloads of the configuration, and go when
 * the service ends. Other pools have blocks of their own.
 *
 * Names are the pool's, so that tasks can share a block: begin them with your plug-in's name. A
 * name has 1 to TP_SHARED_NAME_MAX bytes. A pool has room for TP_SHARED_BLOCKS_MAX blocks and
 * TP_SHARED_BYTES bytes, each block rounded up to 64.
 *
 * NULL on failure, and errno tells: EINVAL if the name is empty or too long, or size is 0, or is
 * not what the block was made with; ENOSPC if there is no more room. The block is borrowed and
 * stays where it is until the host ends.
 *
 * For a single number, _Atomic in the block is enough; for more, see tp_lock().
 */
#define TP_SHARED_BYTES	     65536
#define TP_SHARED_BLOCKS_MAX 64
#define TP_SHARED_NAME_MAX   63
void *tp_shared_block(struct tp_context *ctx, const char *name, size_t size);

/*
 * Locks a block of tp_shared_block() for this job, among all jobs of the pool, and waits until that
 * can be done or the job should stop.
 *
 * 0: this job has the lock. TP_LOCK_OWNER_DIED (1): it has the lock, and whoever had it before
 * ended while holding it, so the block may be half changed: look, and repair it. -ECANCELED: the
 * job should stop, and does not have the lock. -EDEADLK: it had the lock already. -EINVAL: block is
 * not a block of this pool.
 *
 * A lock that is still held when run() returns is released then, with a warning in the log.
 */
#define TP_LOCK_OWNER_DIED 1
int tp_lock(struct tp_context *ctx, void *block);

/* Gives the lock back: 0, -EPERM if this job does not have it, or -EINVAL. */
int tp_unlock(struct tp_context *ctx, void *block);

/* --- the log --------------------------------------------------------------------------------- */

enum tp_log_level { TP_LOG_DEBUG, TP_LOG_INFO, TP_LOG_WARNING, TP_LOG_ERROR };

/*
 * Writes a line to the service's log, for the operator; what is meant for who submitted the job is
 * output. ctx may be NULL, outside of a job; with one, the line names the job and its task. Cut at
 * about 1000 bytes; what is more than a few hundred lines a job is dropped. Any thread.
 */
void tp_log(const struct tp_context *ctx, enum tp_log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* --- settings -------------------------------------------------------------------------------- */

/*
 * The value that the operator gave this task in the configuration: for a task of a plug-in,
 * plugins[].settings.TASK.NAME. NULL if there is none. Any thread.
 */
const char *tp_setting(const struct tp_context *ctx, const char *name);

/* --- plug-ins -------------------------------------------------------------------------------- */

struct tp_host; /* the process that a plug-in is set up in; lives as long as the call of a set-up */

/*
 * Describes a plug-in. All that it points to must live as long as the process.
 *
 * A host (a worker process) loads each plug-in once, with dlopen(), before it takes jobs; no other
 * process of the service ever does. The order is: host_open() on the main thread; thread_open() on
 * each worker's thread (with one worker to a host, that is the main thread); jobs; thread_close()
 * on each of these threads; host_close() on the main thread. host_close() and thread_close() are
 * called only after a set-up that succeeded, and not at all in a host that is killed: nothing may
 * depend on them but memory and politeness.
 *
 * A set-up that fails ends the host, which is started again after a growing pause. So that a
 * plug-in that can never be set up harms nobody, all of them are tried out once before, when the
 * configuration is read, in a process that ends after it: loaded, set up with one worker, and torn
 * down. A plug-in that fails there, crashes, or takes longer than 10 seconds, is left out; the log
 * and GET /readyz say why, and the service goes on without its tasks. host_open() is therefore
 * called once more than there are hosts.
 */
struct tp_plugin {
	unsigned int abi;		    /* TP_TASK_ABI; looked at before anything else */
	const char *name;		    /* for people and the log; 1 to 63 bytes */
	const char *version;		    /* the plug-in's own, for people; at most 63 bytes */
	const struct tp_task *const *tasks; /* at least one; ends with NULL */

	/* Set-up and tear-down; each may be NULL. The first two answer 0, or anything else for a
	 * failure, such as what tp_host_fail() answers. */
	int (*host_open)(struct tp_host *host);
	int (*thread_open)(struct tp_host *host);
	void (*thread_close)(void);
	void (*host_close)(void);
};

/*
 * What a plug-in exports. host_abi is the TP_TASK_ABI of the program that loads it. Answers the
 * plug-in, or NULL if it cannot work with that version; the service then says so and goes on
 * without it.
 */
TP_PLUGIN_EXPORT const struct tp_plugin *tp_plugin_entry(unsigned int host_abi);

/* Says why a set-up fails, as a sentence for the operator; cut at about 400 bytes. Answers -1. */
int tp_host_fail(struct tp_host *host, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* As tp_setting(), of a task of this plug-in. Lives as long as the host. */
const char *tp_host_setting(const struct tp_host *host, const char *task, const char *name);

#ifdef __cplusplus
}
#endif
#endif
