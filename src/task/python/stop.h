/*
 * Asking a running function to stop: the exception twinpool.Stopped is raised in it, once.
 *
 * On a worker that is a process, the signal that announces the request (host/stop_signal.h) makes
 * Python believe that a signal of its own has come, whose handler raises the exception on the main
 * thread: at the next instruction, or out of a system call that waits, such as that of
 * time.sleep().
 *
 * Among several workers, one thread of the host looks at the requests every few milliseconds while
 * jobs run and raises the exception in the job's thread, at its next instruction: what waits in C
 * is not interrupted.
 *
 * Either way a function that swallows the exception, or C code that does not return to the
 * interpreter, is not stopped; then the host is killed when the grace is over.
 */
#ifndef TASK_PYTHON_STOP_H
#define TASK_PYTHON_STOP_H

#include <signal.h>

#include "task/python/job.h"

/* Python's number for the request; nobody sends it. Its handler is twinpool._on_stop. */
#define PYTHON_STOP_SIGNAL 64

/* On each worker's thread, before its first job and after its last. Without the GIL. 0 or -errno.
 * */
int python_stop_open_worker(void);
void python_stop_close_worker(void);

/* Ends the thread of the second paragraph, if there is one. On the main thread, without the GIL,
 * when the workers are gone. */
void python_stop_close(void);

/* Between these two the exception can be raised, and after the second none is pending. On the
 * worker's thread, with the GIL. */
void python_stop_begin(struct python_job *job);
void python_stop_end(struct python_job *job);

/* Raises the exception in the calling function of C, in place of any that is pending. */
void python_stop_raise(struct python_job *job);

/* The request has been announced. Async-signal-safe; main thread. */
void python_stop_signal(void);

/* The handler, a function of Python. */
PyObject *python_on_stop(PyObject *module, PyObject *args);

#endif
