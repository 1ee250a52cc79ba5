/*
 * The interpreter of this host. Started once, on the main thread, and never ended: to end it means
 * to wait for every thread that a job has left, and the process is about to leave anyway.
 */
#ifndef TASK_PYTHON_INTERPRETER_H
#define TASK_PYTHON_INTERPRETER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "config/config.h"

/* Starts it; the calling thread has the GIL then. Nothing of the environment is heeded. 0, or
 * -errno with a message in *error; then there is no GIL, and no interpreter that could be used. */
int python_start(const struct config *config, struct error *error);

/* Whether config->python_venv, if there is one, is made for this version. Any process. */
int python_check_venv(const struct config *config, struct error *error);

/* Imports; a new reference, or NULL with a Python exception. With the GIL. */
PyObject *python_load(const char *module, const char *names);

/*
 * Takes the pending exception and tells it: as one line ("ValueError: found nothing") and as the
 * whole traceback. Both are malloc'ed; NULL if memory is short. With the GIL.
 */
void python_take_exception(char **ret_line, char **ret_traceback);

/* Calls what was registered with atexit. With the GIL. */
void python_at_exit(void);

#endif
