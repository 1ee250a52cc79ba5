/* See value.h. */
#include "task/python/value.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/json.h"

/* --- to Python ------------------------------------------------------------------------------- */

static PyObject *from_array(const json_t *array)
{
	size_t count = json_array_size(array);
	PyObject *list = PyList_New((Py_ssize_t)count);

	for (size_t i = 0; list && i < count; i++) {
		PyObject *item = python_from_json(json_array_get(array, i));
		if (item)
			PyList_SET_ITEM(list, (Py_ssize_t)i, item); /* takes it */
		else
			Py_CLEAR(list);
	}
	return list;
}

static PyObject *from_object(const json_t *source)
{
	PyObject *dict = PyDict_New();
	/* jansson has no iterator over what is const; nothing is changed. */
	json_t *object = (json_t *)(uintptr_t)source;
	const char *key;
	json_t *member;

	if (!dict)
		return NULL;
	json_object_foreach (object, key, member) {
		PyObject *value = python_from_json(member);
		int status = value ? PyDict_SetItemString(dict, key, value) : -1;
		Py_XDECREF(value);
		if (status < 0) {
			Py_DECREF(dict);
			return NULL;
		}
	}
	return dict;
}

PyObject *python_from_json(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return from_object(value);
	case JSON_ARRAY:
		return from_array(value);
	case JSON_STRING:
		return PyUnicode_FromStringAndSize(json_string_value(value),
						   (Py_ssize_t)json_string_length(value));
	case JSON_INTEGER:
		return PyLong_FromLongLong(json_integer_value(value));
	case JSON_REAL:
		return PyFloat_FromDouble(json_real_value(value));
	case JSON_TRUE:
		return Py_NewRef(Py_True);
	case JSON_FALSE:
		return Py_NewRef(Py_False);
	case JSON_NULL:
		break;
	}
	return Py_NewRef(Py_None);
}

/* --- from Python ----------------------------------------------------------------------------- */

static int convert(PyObject *value, unsigned int depth, json_t **ret_value, struct error *error);

static int fail_memory(struct error *error)
{
	PyErr_Clear();
	return error_set(error, ERROR_INTERNAL, "", "no memory for the result as JSON");
}

static int give(json_t *value, json_t **ret_value, struct error *error)
{
	if (!value)
		return fail_memory(error);
	*ret_value = value;
	return 0;
}

static int convert_integer(PyObject *value, json_t **ret_value, struct error *error)
{
	int overflow = 0;
	long long number = PyLong_AsLongLongAndOverflow(value, &overflow);

	if (overflow != 0)
		return error_set(error, ERROR_INVALID, "",
				 "found an int of more than 64 bits; expected one from -2^63 to "
				 "2^63 - 1");
	return give(json_integer(number), ret_value, error);
}

static int convert_float(PyObject *value, json_t **ret_value, struct error *error)
{
	double number = PyFloat_AS_DOUBLE(value);

	if (!isfinite(number))
		return error_set(error, ERROR_INVALID, "",
				 "found the float %s, which JSON cannot express; expected a finite "
				 "one",
				 isnan(number) ? "nan"
				 : number > 0  ? "inf"
					       : "-inf");
	return give(json_real(number), ret_value, error);
}

/* The bytes are borrowed of text, which keeps them. */
static int get_text(PyObject *text, const char **ret_bytes, size_t *ret_length, struct error *error)
{
	Py_ssize_t length = 0;
	const char *bytes = PyUnicode_AsUTF8AndSize(text, &length);

	if (!bytes && PyErr_ExceptionMatches(PyExc_MemoryError))
		return fail_memory(error);
	if (!bytes) {
		PyErr_Clear();
		return error_set(error, ERROR_INVALID, "",
				 "found a str with half of a surrogate pair; expected one that "
				 "UTF-8 can express");
	}
	*ret_bytes = bytes;
	*ret_length = (size_t)length;
	return 0;
}

static int convert_string(PyObject *value, json_t **ret_value, struct error *error)
{
	const char *bytes = NULL;
	size_t length = 0;
	int status = get_text(value, &bytes, &length, error);

	return status < 0 ? status : give(json_stringn_nocheck(bytes, length), ret_value, error);
}

static int get_key(PyObject *key, const char **ret_key, struct error *error)
{
	size_t length = 0;

	if (!PyUnicode_Check(key))
		return error_set(error, ERROR_INVALID, "",
				 "found a key of the type %.100s; expected only str",
				 Py_TYPE(key)->tp_name);
	int status = get_text(key, ret_key, &length, error);
	if (status == 0 && strlen(*ret_key) != length)
		return error_set(error, ERROR_INVALID, "",
				 "found a key with a NUL; expected one without");
	return status;
}

static int convert_dict(PyObject *dict, unsigned int depth, json_t **ret_value, struct error *error)
{
	json_t *object = json_object();
	Py_ssize_t position = 0;
	PyObject *key = NULL;
	PyObject *value = NULL;
	int status = object ? 0 : fail_memory(error);

	while (status == 0 && PyDict_Next(dict, &position, &key, &value)) {
		const char *name = NULL;
		json_t *member = NULL;
		status = get_key(key, &name, error);
		if (status < 0)
			break;
		status = convert(value, depth, &member, error);
		if (status < 0)
			error_prefix_field(error, name);
		else if (json_object_set_new_nocheck(object, name, member) < 0) /* takes it */
			status = fail_memory(error);
	}
	if (status < 0) {
		json_decref(object);
		return status;
	}
	*ret_value = object;
	return 0;
}

/* A list or a tuple. */
static int convert_sequence(PyObject *sequence, unsigned int depth, json_t **ret_value,
			    struct error *error)
{
	json_t *array = json_array();
	int status = array ? 0 : fail_memory(error);

	for (Py_ssize_t i = 0; status == 0 && i < PySequence_Fast_GET_SIZE(sequence); i++) {
		json_t *item = NULL;
		status = convert(PySequence_Fast_GET_ITEM(sequence, i), depth, &item, error);
		if (status < 0) {
			char place[32];
			(void)snprintf(place, sizeof(place), "[%zd]", i);
			error_prefix_field(error, place);
		} else if (json_array_append_new(array, item) < 0) { /* takes it */
			status = fail_memory(error);
		}
	}
	if (status < 0) {
		json_decref(array);
		return status;
	}
	*ret_value = array;
	return 0;
}

static int convert_nested(PyObject *value, unsigned int depth, json_t **ret_value,
			  struct error *error)
{
	if (depth == JSON_DEPTH_MAX)
		return error_set(error, ERROR_INVALID, "",
				 "found a value nested more than %d deep, or one that contains "
				 "itself",
				 JSON_DEPTH_MAX);
	return PyDict_Check(value) ? convert_dict(value, depth + 1, ret_value, error)
				   : convert_sequence(value, depth + 1, ret_value, error);
}

static int convert(PyObject *value, unsigned int depth, json_t **ret_value, struct error *error)
{
	if (value == Py_None)
		return give(json_null(), ret_value, error);
	if (PyBool_Check(value)) /* before int, of which it is one */
		return give(json_boolean(value == Py_True), ret_value, error);
	if (PyLong_Check(value))
		return convert_integer(value, ret_value, error);
	if (PyFloat_Check(value))
		return convert_float(value, ret_value, error);
	if (PyUnicode_Check(value))
		return convert_string(value, ret_value, error);
	if (PyDict_Check(value) || PyList_Check(value) || PyTuple_Check(value))
		return convert_nested(value, depth, ret_value, error);
	return error_set(error, ERROR_INVALID, "",
			 "found the type %.100s; expected None, bool, int, float, str, list, tuple "
			 "or dict",
			 Py_TYPE(value)->tp_name);
}

int python_to_json(PyObject *value, json_t **ret_value, struct error *error)
{
	return convert(value, 0, ret_value, error);
}
