/*
 * The kind "python": a task that calls a function of Python, as the configuration declares it. In
 * builds with Python only (TWINPOOL_PYTHON). See python.c.
 */
#ifndef TASK_PYTHON_PYTHON_H
#define TASK_PYTHON_PYTHON_H

#include "task/registry.h"

extern const struct task_kind python_kind;

/* Version of the library in use, such as "3.11.2"; of static duration. Any thread, at any time. */
const char *python_version(void);

#endif
