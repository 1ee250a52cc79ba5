/*
 * One run of one job, as the Python side sees it: its output and its end by request. Lives on the
 * stack of python.c's run().
 */
#ifndef TASK_PYTHON_JOB_H
#define TASK_PYTHON_JOB_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/buffer.h"
#include "twinpool/task.h"

struct python_job {
	struct tp_context *ctx;
	bool may_be_stopped; /* the exception Stopped can be raised in it; guarded by the GIL */
	struct buffer out;   /* printed, but not yet written; this thread only, as all below */
	struct buffer err;
};

/* The job that runs on this thread; NULL where there is none. */
extern __thread struct python_job *python_this_job;

/* Whether this host has several workers. Set before the first job. */
extern atomic_bool python_has_threads;

/* twinpool.Stopped; NULL before the interpreter has started. */
extern PyObject *python_stopped;

/* Makes the module "twinpool"; for PyImport_AppendInittab(). */
PyObject *python_module_init(void);

/* Prints bytes as the job's, held back until the end of a line. 0, or -errno if the service is
 * gone. With the GIL, which it gives away while it writes. */
int python_print(struct python_job *job, enum tp_stream stream, const char *bytes, size_t length);

/* Writes what is held back. As above. */
int python_flush(struct python_job *job, enum tp_stream stream);

#endif
