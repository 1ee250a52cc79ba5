/*
 * The kind "python": a job calls a function, args become its keyword arguments, what it returns is
 * the result.
 *
 * Each host has one interpreter (interpreter.h), started before it takes jobs if any task is of
 * this kind, with all functions imported. On a pool of processes each job thus has a whole
 * interpreter for itself; on a pool of threads the jobs of a host share one, and its lock, the GIL.
 *
 * What cannot be imported, or an interpreter that cannot start, does not stop the host: it is said
 * in the log, and the jobs of those tasks fail with it.
 *
 * Invariants
 * 1. task->data is written in open() only, in the host's own copy, before workers run.
 * 2. Between two jobs no thread of ours has the GIL.
 */
#include "task/python/python.h"

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "task/context.h"
#include "task/python/interpreter.h"
#include "task/python/job.h"
#include "task/python/stop.h"
#include "task/python/value.h"

/* task->data */
struct function {
	char *module;
	const char *names; /* behind the colon, in module's bytes */
	PyObject *object;  /* in hosts; NULL if it could not be imported, then: */
	char *failure;	   /* one line */
	char *traceback;   /* may be NULL */
};

static PyThreadState *main_state;	  /* NULL: no interpreter in this host */
static __thread PyThreadState *own_state; /* of this worker */

const char *python_version(void)
{
	static char version[32];

	(void)snprintf(version, sizeof(version), "%.*s", (int)strcspn(Py_GetVersion(), " "),
		       Py_GetVersion());
	return version;
}

/* --- one job --------------------------------------------------------------------------------- */

static int fail_with_traceback(struct tp_context *ctx, const char *line, const char *traceback)
{
	if (traceback)
		tp_write(ctx, TP_STDERR, traceback, strlen(traceback));
	return tp_fail(ctx, "%s", line ? line : "no memory to tell the exception");
}

/* The function has raised. */
static int fail_with_exception(struct python_job *job)
{
	char *line = NULL;
	char *traceback = NULL;

	if (PyErr_ExceptionMatches(python_stopped) && tp_should_stop(job->ctx)) {
		PyErr_Clear();
		return tp_stopped(job->ctx);
	}
	python_take_exception(&line, &traceback);
	python_flush(job, TP_STDERR); /* what it printed stands before the traceback */
	Py_BEGIN_ALLOW_THREADS;
	fail_with_traceback(job->ctx, line, traceback);
	Py_END_ALLOW_THREADS;
	free(line);
	free(traceback);
	return -1;
}

static int take_result(struct tp_context *ctx, PyObject *value)
{
	struct error error = {0};
	json_t *result = NULL;

	if (python_to_json(value, &result, &error) == 0)
		return tp_set_result(ctx, result);
	error_prefix_field(&error, "result");
	return tp_fail(ctx, "%s: %s", error.field, error.message);
}

static int call(struct python_job *job, PyObject *function, PyObject *named)
{
	PyObject *none = PyTuple_New(0);
	PyObject *value = NULL;

	if (none) {
		python_stop_begin(job);
		/* A request that came before is not announced again. */
		if (tp_should_stop(job->ctx))
			python_stop_raise(job);
		else
			value = PyObject_Call(function, none, named);
		python_stop_end(job);
	}
	int status = value ? take_result(job->ctx, value) : fail_with_exception(job);
	Py_XDECREF(none);
	Py_XDECREF(value);
	return status;
}

static int run_with_gil(struct tp_context *ctx, PyObject *function, const json_t *args)
{
	struct python_job job = {.ctx = ctx};
	PyObject *named = python_from_json(args);

	python_this_job = &job;
	int status = named ? call(&job, function, named) : fail_with_exception(&job);
	Py_XDECREF(named); /* may print too: __del__ */
	python_flush(&job, TP_STDOUT);
	python_flush(&job, TP_STDERR);
	python_this_job = NULL;
	buffer_release(&job.out);
	buffer_release(&job.err);
	return status;
}

static int run(struct tp_context *ctx, const json_t *args)
{
	const struct function *function = ctx->task->data;

	if (!function->object)
		return fail_with_traceback(ctx, function->failure, function->traceback);
	PyEval_RestoreThread(own_state);
	int status = run_with_gil(ctx, function->object, args);
	own_state = PyEval_SaveThread();
	return status;
}

/* --- the configuration ----------------------------------------------------------------------- */

/* Names separated by dots; what a letter is beyond ASCII is for Python to say. */
static bool are_names(const char *text)
{
	bool begins = true;

	for (; *text != '\0'; text++) {
		bool is_digit = *text >= '0' && *text <= '9';
		bool is_letter = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') ||
				 *text == '_' || ((unsigned char)*text & 0x80U) != 0;
		if (begins ? !is_letter : !is_letter && !is_digit && *text != '.')
			return false;
		begins = *text == '.';
	}
	return !begins;
}

static void release_function(struct function *function)
{
	free(function->module);
	free(function->failure);
	free(function->traceback);
	free(function);
}

/* Parts "module:names". */
static int part(const json_t *spec, struct function *function, struct error *error)
{
	char shown[120];

	function->module = strdup(json_string_value(spec));
	if (!function->module)
		return error_set(error, ERROR_INTERNAL, "", "out of memory");
	char *colon = strchr(function->module, ':');
	if (colon) {
		*colon = '\0';
		function->names = colon + 1;
		if (are_names(function->module) && are_names(function->names))
			return 0;
	}
	schema_show(spec, shown, sizeof(shown));
	return error_set(error, ERROR_INVALID, "python",
			 "found %s; expected the module and the function with a colon between "
			 "them, such as \"package.module:function\"",
			 shown);
}

static int build(const struct config *config, const struct config_task *settings, struct task *task,
		 struct error *error)
{
	struct function *function = calloc(1, sizeof(*function));
	json_t *spec = NULL;
	int status = function ? json_parse(settings->spec, strlen(settings->spec), &spec, error)
			      : error_set(error, ERROR_INTERNAL, "", "out of memory");

	if (status == 0)
		status = part(spec, function, error);
	json_decref(spec);
	if (status == 0) {
		status = python_check_venv(config, error);
		if (status < 0)
			error_prefix_field(error, "python");
	}
	if (status < 0) {
		if (function)
			release_function(function);
		return status;
	}
	task->declared->run = run;
	task->declared->flags = TP_TASK_THREAD_SAFE;
	task->data = function;
	return 0;
}

static void release(struct task *task)
{
	release_function(task->data);
	task->data = NULL;
}

/* --- in a host ------------------------------------------------------------------------------- */

static bool is_wanted(const struct task *task)
{
	return task->methods == &python_kind && task->enabled;
}

static bool any_is_wanted(const struct registry *registry)
{
	for (size_t i = 0; i < registry->count; i++)
		if (is_wanted(&registry->tasks[i]))
			return true;
	return false;
}

static void fail_all(const struct registry *registry, const struct error *error)
{
	tp_log(NULL, TP_LOG_ERROR, "%s", error->message);
	for (size_t i = 0; i < registry->count; i++) {
		struct function *function = registry->tasks[i].data;
		if (is_wanted(&registry->tasks[i]))
			function->failure = strdup(error->message);
	}
}

static void import(const struct task *task)
{
	struct function *function = task->data;

	function->object = python_load(function->module, function->names);
	if (function->object)
		return;
	python_take_exception(&function->failure, &function->traceback);
	tp_log(NULL, TP_LOG_ERROR,
	       "the jobs of the task %s will fail: %s:%s cannot be imported: %s",
	       task->definition->name, function->module, function->names,
	       function->failure ? function->failure : "no memory");
}

static int open_kind(const struct registry *registry, const struct config *config,
		     struct error *error)
{
	if (!any_is_wanted(registry))
		return 0;
	if (python_start(config, error) < 0) {
		fail_all(registry, error);
		return 0;
	}
	for (size_t i = 0; i < registry->count; i++)
		if (is_wanted(&registry->tasks[i]))
			import(&registry->tasks[i]);
	main_state = PyEval_SaveThread();
	own_state = main_state;
	return 0;
}

static void close_kind(void)
{
	if (!main_state)
		return;
	python_stop_close();
	PyEval_RestoreThread(main_state);
	python_at_exit();
	main_state = PyEval_SaveThread();
}

static int worker_open(void)
{
	if (!main_state)
		return 0;
	if (!own_state) {
		atomic_store(&python_has_threads, true);
		own_state = PyThreadState_New(PyInterpreterState_Main());
	}
	return own_state ? python_stop_open_worker() : -ENOMEM;
}

static void worker_close(void)
{
	if (!main_state)
		return;
	python_stop_close_worker();
	if (own_state == main_state)
		return;
	PyEval_RestoreThread(own_state);
	PyThreadState_Clear(own_state);
	PyThreadState_DeleteCurrent();
	own_state = NULL;
}

static void stop_signal(void)
{
	if (main_state)
		python_stop_signal();
}

const struct task_kind python_kind = {
	.name = "python",
	.build = build,
	.release = release,
	.open = open_kind,
	.close = close_kind,
	.worker_open = worker_open,
	.worker_close = worker_close,
	.stop_signal = stop_signal,
};
