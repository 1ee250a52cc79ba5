/* See interpreter.h. prelude.py does what is easier said in Python. */
#include "task/python/interpreter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "task/python/job.h"
#include "task/python/prelude.h"

static PyObject *prelude; /* the module of prelude.py */

int python_check_venv(const struct config *config, struct error *error)
{
	char path[4096];
	struct stat status;

	if (!config->python_venv)
		return 0;
	(void)snprintf(path, sizeof(path), "%s/lib/python%d.%d/site-packages", config->python_venv,
		       PY_MAJOR_VERSION, PY_MINOR_VERSION);
	if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
		return 0;
	return error_set(error, ERROR_INVALID, "",
			 "found no directory %.200s; expected a virtual environment made by Python "
			 "%d.%d",
			 path, PY_MAJOR_VERSION, PY_MINOR_VERSION);
}

/* --- starting -------------------------------------------------------------------------------- */

/*
 * All objects come from malloc(), so that the memory of a job is metered and limited as that of any
 * other; text is UTF-8 whatever the locale, which is left as it is.
 */
static PyStatus pre_initialize(void)
{
	PyPreConfig pre;

	PyPreConfig_InitIsolatedConfig(&pre);
	pre.utf8_mode = 1;
	pre.allocator = PYMEM_ALLOCATOR_MALLOC;
	return Py_PreInitialize(&pre);
}

/* The program from whose place Python finds its library; that of a virtual environment leads to the
 * environment too. */
static PyStatus set_program(PyConfig *python, const struct config *config)
{
	char path[4096];

	if (config->python_venv)
		(void)snprintf(path, sizeof(path), "%s/bin/python3", config->python_venv);
	else
		(void)snprintf(path, sizeof(path), "%s/bin/python%d.%d", TWINPOOL_PYTHON_PREFIX,
			       PY_MAJOR_VERSION, PY_MINOR_VERSION);
	return PyConfig_SetBytesString(python, &python->program_name, path);
}

static PyStatus initialize(const struct config *config)
{
	PyConfig python;

	PyConfig_InitIsolatedConfig(&python);
	python.buffered_stdio = 0;
	python.write_bytecode = 0; /* nothing is written outside of data_dir */
	python.pathconfig_warnings = 0;
	PyStatus status = set_program(&python, config);
	if (!PyStatus_Exception(status))
		status = Py_InitializeFromConfig(&python);
	PyConfig_Clear(&python);
	return status;
}

/* A new list; NULL with an exception. */
static PyObject *path_list(const struct config *config)
{
	PyObject *list = PyList_New(0);

	for (size_t i = 0; list && i < config->python_path_count; i++) {
		PyObject *path = PyUnicode_DecodeFSDefault(config->python_path[i]);
		if (!path || PyList_Append(list, path) < 0)
			Py_CLEAR(list);
		Py_XDECREF(path);
	}
	return list;
}

static int run_prelude(const struct config *config)
{
	PyObject *code = Py_CompileString(python_prelude, "<twinpool>", Py_file_input);
	PyObject *path = path_list(config);
	PyObject *done = NULL;

	if (code && path)
		prelude = PyImport_ExecCodeModuleEx("_twinpool_prelude", code, "<twinpool>");
	if (prelude)
		done = PyObject_CallMethod(prelude, "start", "O", path);
	Py_XDECREF(code);
	Py_XDECREF(path);
	Py_XDECREF(done);
	return done ? 0 : -EIO;
}

int python_start(const struct config *config, struct error *error)
{
	PyStatus status = pre_initialize();

	if (!PyStatus_Exception(status) &&
	    PyImport_AppendInittab("twinpool", python_module_init) < 0)
		status = PyStatus_NoMemory();
	if (!PyStatus_Exception(status))
		status = initialize(config);
	if (PyStatus_Exception(status))
		return error_set(error, ERROR_INTERNAL, "", "Python cannot be started: %s",
				 status.err_msg ? status.err_msg : "it wants to leave");
	if (run_prelude(config) < 0) {
		char *line = NULL;
		char *traceback = NULL;
		python_take_exception(&line, &traceback);
		int result = error_set(error, ERROR_INTERNAL, "", "Python cannot be started: %s",
				       line ? line : "no memory");
		free(line);
		free(traceback);
		(void)PyEval_SaveThread();
		return result;
	}
	return 0;
}

void python_at_exit(void)
{
	PyObject *module = PyImport_ImportModule("atexit");
	PyObject *done = module ? PyObject_CallMethod(module, "_run_exitfuncs", NULL) : NULL;

	Py_XDECREF(module);
	Py_XDECREF(done);
	PyErr_Clear();
}

/* --- with the prelude ------------------------------------------------------------------------ */

PyObject *python_load(const char *module, const char *names)
{
	return PyObject_CallMethod(prelude, "load", "ss", module, names);
}

static char *copy_text(PyObject *text)
{
	/* Half of a surrogate pair is escaped. */
	PyObject *bytes =
		text ? PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace") : NULL;
	char *copy = bytes ? strdup(PyBytes_AS_STRING(bytes)) : NULL;

	Py_XDECREF(bytes);
	return copy;
}

/* What is left to say when even that fails, for want of memory most likely. */
static void describe_poorly(PyObject *error, char **ret_line, char **ret_traceback)
{
	*ret_line = strdup(Py_TYPE(error)->tp_name);
	*ret_traceback = NULL;
	if (asprintf(ret_traceback, "%s (no traceback could be made)\n", Py_TYPE(error)->tp_name) <
	    0)
		*ret_traceback = NULL;
}

void python_take_exception(char **ret_line, char **ret_traceback)
{
	PyObject *type = NULL;
	PyObject *error = NULL;
	PyObject *trace = NULL;

	PyErr_Fetch(&type, &error, &trace);
	PyErr_NormalizeException(&type, &error, &trace);
	if (trace)
		PyException_SetTraceback(error, trace);
	PyObject *told = prelude ? PyObject_CallMethod(prelude, "describe", "O", error) : NULL;
	*ret_line = told ? copy_text(PyTuple_GetItem(told, 0)) : NULL;
	*ret_traceback = told ? copy_text(PyTuple_GetItem(told, 1)) : NULL;
	PyErr_Clear();
	if (!*ret_line || !*ret_traceback) {
		free(*ret_line);
		free(*ret_traceback);
		describe_poorly(error, ret_line, ret_traceback);
	}
	Py_XDECREF(told);
	Py_XDECREF(type);
	Py_XDECREF(error);
	Py_XDECREF(trace);
	PyErr_Clear();
}
