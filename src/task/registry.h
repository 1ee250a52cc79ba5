/*
 * The registry: which tasks can be run. Built before the master forks, immutable after, so server
 * and hosts see the same table and a task can be named by its index between them. Thread: immutable
 * after registry_build(), any.
 */
#ifndef TASK_REGISTRY_H
#define TASK_REGISTRY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/schema.h"
#include "config/config.h"
#include "twinpool/task.h"

struct task {
	uint32_t index; /* place in the registry */
	const struct tp_task *definition;
	struct schema *args_schema;
	const struct config_task
		*settings; /* NULL if the configuration does not name it; borrowed from config */
	bool enabled;
	const char *kind; /* "builtin" */
};

struct registry {
	struct task *tasks; /* sorted by name */
	size_t count;
};

/* Registers the built-ins, compiles their schemas, applies the configuration. A name under "tasks"
 * that no task bears is ERROR_INVALID and lists those that exist. config must outlive the registry.
 */
int registry_build(const struct config *config, struct registry *ret_registry, struct error *error);

/* NULL if there is none; also finds tasks that are not enabled. */
const struct task *registry_find(const struct registry *registry, const char *name);

/* Frees what the registry owns. */
void registry_release(struct registry *registry);

/* The built-in tasks, in no special order; ends with NULL. */
extern const struct tp_task *const builtin_tasks[];

#endif
