/*
 * See stop.h.
 *
 * Invariants
 * 1. A slot's job is guarded by the GIL. Its stop word is looked at without any lock, so that the
 * watcher costs the functions nothing; it lies in memory that stays mapped as long as the host
 * lives, so a pointer that was read too early is harmless, and what it says is checked once more
 * with the GIL.
 * 2. Stopped is raised only while job->may_be_stopped, and that is taken away with the GIL held, so
 * the exception cannot hit the job that comes after.
 */
#include "task/python/stop.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "config/config.h"
#include "task/context.h"

#define LOOK_EVERY_NS (10 * NS_PER_MS)
#define WATCHER_STACK 262144

/* Of one worker of several. */
struct slot {
	_Atomic(const _Atomic uint32_t *) stop; /* of the job that may be stopped; or NULL */
	struct python_job *job;			/* guarded by the GIL */
	unsigned long thread_id;		/* Python's, of the worker */
};

static struct slot slots[CONFIG_THREADS_MAX];
static _Atomic uint32_t slot_count;
static __thread struct slot *own_slot; /* NULL on a worker that is a process */

static pthread_t watcher;
static bool has_watcher;
static atomic_bool watcher_ends;
static _Atomic uint32_t running; /* jobs, and one more at the end; a futex */

/* --- among several workers ------------------------------------------------------------------- */

static bool is_asked_to_stop(struct slot *slot)
{
	const _Atomic uint32_t *stop = atomic_load(&slot->stop);

	return stop && atomic_load(stop) != 0;
}

static void raise_in_others(void)
{
	PyGILState_STATE state = PyGILState_Ensure();

	for (uint32_t i = 0; i < atomic_load(&slot_count); i++) {
		struct slot *slot = &slots[i];
		if (!is_asked_to_stop(slot) || !slot->job || !slot->job->may_be_stopped)
			continue;
		slot->job->may_be_stopped = false;
		atomic_store(&slot->stop, NULL);
		PyThreadState_SetAsyncExc(slot->thread_id, python_stopped);
	}
	PyGILState_Release(state);
}

static void look(void)
{
	for (uint32_t i = 0; i < atomic_load(&slot_count); i++) {
		if (is_asked_to_stop(&slots[i])) {
			raise_in_others();
			return;
		}
	}
}

static void *watch(void *data)
{
	const struct timespec pause = {.tv_nsec = LOOK_EVERY_NS};

	while (!atomic_load(&watcher_ends)) {
		if (atomic_load(&running) == 0) {
			syscall(SYS_futex, &running, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
			continue;
		}
		nanosleep(&pause, NULL);
		look();
	}
	return data;
}

static void count_in(void)
{
	if (atomic_fetch_add(&running, 1) == 0)
		syscall(SYS_futex, &running, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Signals are for the workers' threads. */
static int start_watcher(void)
{
	pthread_attr_t attributes;
	sigset_t all;
	sigset_t before;

	int status = -pthread_attr_init(&attributes);
	if (status < 0)
		return status;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_setstacksize(&attributes, WATCHER_STACK);
	status = -pthread_create(&watcher, &attributes, watch, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	has_watcher = status == 0;
	return status;
}

/* Only on a worker that is a process does the thread that opened the interpreter run jobs. */
static bool is_process(void)
{
	return (pid_t)syscall(SYS_gettid) == getpid();
}

int python_stop_open_worker(void)
{
	if (is_process())
		return 0;
	uint32_t index = atomic_fetch_add(&slot_count, 1);
	own_slot = &slots[index];
	own_slot->thread_id = PyThread_get_thread_ident();
	return index == 0 ? start_watcher() : 0;
}

void python_stop_close_worker(void)
{
	own_slot = NULL;
}

void python_stop_close(void)
{
	if (!has_watcher)
		return;
	atomic_store(&watcher_ends, true);
	count_in();
	pthread_join(watcher, NULL);
	has_watcher = false;
}

/* --- of one job ------------------------------------------------------------------------------ */

void python_stop_begin(struct python_job *job)
{
	job->may_be_stopped = true;
	if (!own_slot)
		return;
	own_slot->job = job;
	atomic_store(&own_slot->stop, job->ctx->stop);
	count_in();
}

void python_stop_end(struct python_job *job)
{
	job->may_be_stopped = false;
	if (!own_slot)
		return;
	atomic_fetch_sub(&running, 1);
	atomic_store(&own_slot->stop, NULL);
	own_slot->job = NULL;
	PyThreadState_SetAsyncExc(own_slot->thread_id, NULL);
}

void python_stop_raise(struct python_job *job)
{
	job->may_be_stopped = false;
	if (own_slot) {
		atomic_store(&own_slot->stop, NULL);
		PyThreadState_SetAsyncExc(own_slot->thread_id, NULL);
	}
	PyErr_SetNone(python_stopped);
}

/* --- on a worker that is a process ----------------------------------------------------------- */

void python_stop_signal(void)
{
	PyErr_SetInterruptEx(PYTHON_STOP_SIGNAL);
}

/* Python calls it on the main thread, at some time after the signal: whether there still is a job
 * to stop is seen here. */
PyObject *python_on_stop(PyObject *module, PyObject *args)
{
	struct python_job *job = python_this_job;

	(void)module;
	(void)args;
	if (!job || !job->may_be_stopped || !tp_should_stop(job->ctx))
		return Py_NewRef(Py_None);
	python_stop_raise(job);
	return NULL;
}
