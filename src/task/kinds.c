/*
 * The kinds of task that this build knows beside the built-in ones.
 */
#include "task/command/command.h"
#include "task/plugin.h"
#include "task/registry.h"
#ifdef TWINPOOL_PYTHON
#include "task/python/python.h"
#endif

const struct task_kind *const task_kinds[] = {
	&command_kind,
#ifdef TWINPOOL_PYTHON
	&python_kind,
#endif
	&plugin_kind,
	NULL,
};
