/*
 * Values between jansson and Python, without text in between. Thread: whoever holds the GIL. No
 * Python code runs in either direction, so nobody can change a value while it is being read.
 */
#ifndef TASK_PYTHON_VALUE_H
#define TASK_PYTHON_VALUE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <jansson.h>

#include "base/error.h"

/* A new reference; NULL with a Python exception if memory is short. */
PyObject *python_from_json(const json_t *value);

/*
 * Takes None, bool, int of up to 64 bits, float that is finite, str, list, tuple, and dict with
 * keys of str, and what is derived from these types; nested at most JSON_DEPTH_MAX deep. *ret_value
 * is a new reference. For anything else -errno and *error: field is the place within value ("" for
 * all of it), message what was found and what was expected. No Python exception is left behind.
 */
int python_to_json(PyObject *value, json_t **ret_value, struct error *error);

#endif
