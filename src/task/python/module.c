/*
 * The module "twinpool": what a function of Python can ask of its job, and what prelude.py needs.
 *
 * What is printed is held back until a line is complete, for one write a line, as stdio does it. It
 * is held back by job and not in sys.stdout, which all threads of the host share.
 */
#include "task/python/job.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "task/python/stop.h"

#define HELD_BACK_MAX 8192 /* bytes of a line that has no end */

__thread struct python_job *python_this_job;
atomic_bool python_has_threads;
PyObject *python_stopped;

/* --- output ---------------------------------------------------------------------------------- */

int python_flush(struct python_job *job, enum tp_stream stream)
{
	struct buffer *held = stream == TP_STDOUT ? &job->out : &job->err;
	int status = buffer_failed(held) ? -ENOMEM : 0;

	if (status == 0 && held->length > 0) {
		Py_BEGIN_ALLOW_THREADS; /* the server may be slow to read */
		status = tp_write(job->ctx, stream, held->data, held->length);
		Py_END_ALLOW_THREADS;
	}
	buffer_clear(held);
	return status;
}

int python_print(struct python_job *job, enum tp_stream stream, const char *bytes, size_t length)
{
	struct buffer *held = stream == TP_STDOUT ? &job->out : &job->err;

	buffer_append(held, bytes, length);
	if (held->length < HELD_BACK_MAX && !memchr(bytes, '\n', length) && !buffer_failed(held))
		return 0;
	return python_flush(job, stream);
}

static PyObject *answer_status(int status)
{
	if (status == 0)
		return Py_NewRef(Py_None);
	if (status == -ENOMEM)
		return PyErr_NoMemory();
	errno = -status;
	return PyErr_SetFromErrno(PyExc_OSError);
}

/* Of a thread that runs no job, one that a function has started perhaps: to the descriptor, which
 * is the job's on a worker that is a process, and goes to the service's log elsewhere. */
static int print_outside(int stream, const char *bytes, size_t length)
{
	int status;

	Py_BEGIN_ALLOW_THREADS;
	status = fd_write_all(stream, bytes, length);
	Py_END_ALLOW_THREADS;
	return status;
}

static PyObject *module_write(PyObject *module, PyObject *args)
{
	int stream = 0;
	Py_buffer data;

	(void)module;
	if (!PyArg_ParseTuple(args, "iy*:_write", &stream, &data))
		return NULL;
	int status = python_this_job ? python_print(python_this_job, (enum tp_stream)stream,
						    data.buf, (size_t)data.len)
				     : print_outside(stream, data.buf, (size_t)data.len);
	PyBuffer_Release(&data);
	return answer_status(status);
}

static PyObject *module_flush(PyObject *module, PyObject *stream)
{
	long number = PyLong_AsLong(stream);

	(void)module;
	if (number == -1 && PyErr_Occurred())
		return NULL;
	if (!python_this_job)
		return Py_NewRef(Py_None);
	return answer_status(python_flush(python_this_job, (enum tp_stream)number));
}

static PyObject *module_owns_descriptors(PyObject *module, PyObject *none)
{
	(void)module;
	(void)none;
	return PyBool_FromLong(!atomic_load(&python_has_threads));
}

/* --- for the authors of functions --------------------------------------------------------------
 * */

/* NULL with an exception where there is none. */
static struct python_job *require_job(void)
{
	if (!python_this_job)
		PyErr_SetString(PyExc_RuntimeError,
				"this thread runs no job; ask on the one that the function was "
				"called on");
	return python_this_job;
}

static PyObject *module_should_stop(PyObject *module, PyObject *none)
{
	const struct python_job *job = require_job();

	(void)module;
	(void)none;
	return job ? PyBool_FromLong(tp_should_stop(job->ctx)) : NULL;
}

static PyObject *module_attempt(PyObject *module, PyObject *none)
{
	const struct python_job *job = require_job();

	(void)module;
	(void)none;
	return job ? PyLong_FromUnsignedLong(tp_attempt(job->ctx)) : NULL;
}

static PyObject *module_pool(PyObject *module, PyObject *none)
{
	const struct python_job *job = require_job();

	(void)module;
	(void)none;
	return job ? PyUnicode_FromString(tp_pool_name(job->ctx)) : NULL;
}

/* With the GIL: it is made to be called in inner loops, and hardly ever sends. */
static PyObject *module_progress(PyObject *module, PyObject *args, PyObject *named)
{
	static char done_name[] = "done";
	static char total_name[] = "total";
	static char message_name[] = "message";
	static char *names[] = {done_name, total_name, message_name, NULL};
	const struct python_job *job = require_job();
	long long done = 0;
	PyObject *total = Py_None;
	const char *message = NULL;

	(void)module;
	if (!job || !PyArg_ParseTupleAndKeywords(args, named, "L|Oz:progress", names, &done, &total,
						 &message))
		return NULL;
	long long whole = total == Py_None ? 0 : PyLong_AsLongLong(total);
	if (whole == -1 && PyErr_Occurred())
		return NULL;
	int status = tp_progress(job->ctx, done, whole, message);
	if (status != -EINVAL)
		return answer_status(status);
	PyErr_SetString(PyExc_ValueError, "progress() takes no negative numbers");
	return NULL;
}

static PyObject *module_sleep(PyObject *module, PyObject *seconds)
{
	struct python_job *job = require_job();
	double duration = job ? PyFloat_AsDouble(seconds) : 0;
	bool whole;

	(void)module;
	if (!job || PyErr_Occurred())
		return NULL;
	if (!(duration >= 0 && duration < (double)(INT64_MAX / NS_PER_S))) {
		PyErr_SetString(PyExc_ValueError, "sleep() takes seconds, 0 or more of them");
		return NULL;
	}
	Py_BEGIN_ALLOW_THREADS;
	whole = tp_sleep_ns(job->ctx, (int64_t)(duration * (double)NS_PER_S));
	Py_END_ALLOW_THREADS;
	if (whole)
		return Py_NewRef(Py_None);
	python_stop_raise(job);
	return NULL;
}

/* --- the module ------------------------------------------------------------------------------ */

/* What takes names as well has another type of its own; Python goes by the flags. */
static PyMethodDef methods[] = {
	{"progress", (PyCFunction)(void (*)(void))module_progress, METH_VARARGS | METH_KEYWORDS,
	 "progress(done, total=None, message=None)\n\nSays how far the job is, for those who watch "
	 "it. Cheap enough for inner loops: what comes too often is left out."},
	{"should_stop", module_should_stop, METH_NOARGS,
	 "should_stop() -> bool\n\nWhether the job was cancelled, timed out, or the service is "
	 "ending."},
	{"attempt", module_attempt, METH_NOARGS, "attempt() -> int\n\nThe job's attempt, from 1."},
	{"pool", module_pool, METH_NOARGS, "pool() -> str\n\nName of the pool that runs the job."},
	{"sleep", module_sleep, METH_O,
	 "sleep(seconds)\n\nSleeps; raises Stopped at once when the job is to stop, on every pool. "
	 "time.sleep() ends early only on workers that are processes."},
	{"_write", module_write, METH_VARARGS, NULL},
	{"_flush", module_flush, METH_O, NULL},
	{"_owns_descriptors", module_owns_descriptors, METH_NOARGS, NULL},
	{"_on_stop", python_on_stop, METH_VARARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "twinpool",
	.m_doc = "The job that this thread runs, for functions that twinpool calls.",
	.m_size = -1,
	.m_methods = methods,
};

static const char stopped_doc[] =
	"Raised in a function when its job was cancelled, timed out, or the service is ending. No "
	"Exception, so that `except Exception` does not hold it back.";

PyObject *python_module_init(void)
{
	PyObject *module = PyModule_Create(&definition);

	if (!module)
		return NULL;
	python_stopped = PyErr_NewExceptionWithDoc("twinpool.Stopped", stopped_doc,
						   PyExc_BaseException, NULL);
	if (!python_stopped || PyModule_AddObjectRef(module, "Stopped", python_stopped) < 0 ||
	    PyModule_AddIntConstant(module, "_STOP_SIGNAL", PYTHON_STOP_SIGNAL) < 0) {
		Py_DECREF(module);
		return NULL;
	}
	return module;
}
