/*
 * The table of tasks: gathered from the built-ins, sorted, and joined with the configuration.
 *
 * Invariants after registry_build():
 *   1. tasks is sorted by name, no name occurs twice, and tasks[i].index == i.
 *   2. Every task has a compiled schema.
 */
#include "task/registry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static int compare_tasks(const void *left, const void *right)
{
	const struct task *a = left;
	const struct task *b = right;
	return strcmp(a->definition->name, b->definition->name);
}

static int compare_name(const void *name, const void *task)
{
	return strcmp(name, ((const struct task *)task)->definition->name);
}

/* As registry_find(), of tasks that may still be changed. */
static struct task *find(const struct registry *registry, const char *name)
{
	return bsearch(name, registry->tasks, registry->count, sizeof(*registry->tasks),
		       compare_name);
}

/* Writes "a, b, c"; leaves out the names that no longer fit. */
static void list_names(const struct registry *registry, char *buffer, size_t size)
{
	size_t used = 0;
	buffer[0] = '\0';
	for (size_t i = 0; i < registry->count; i++) {
		const char *name = registry->tasks[i].definition->name;
		const char *comma = i == 0 ? "" : ", ";
		if (used + strlen(comma) + strlen(name) >= size) {
			return;
		}
		used += (size_t)snprintf(buffer + used, size - used, "%s%s", comma, name);
	}
}

static int compile_schema(struct task *task, struct error *error)
{
	json_t *document = NULL;
	const char *text = task->definition->args_schema;
	int status = json_parse(text, strlen(text), &document, error);
	if (status == 0) {
		status = schema_compile(document, &task->args_schema, error);
	}
	json_decref(document);
	if (status != 0) {
		error_prefix_field(error, "args_schema");
		error_prefix_field(error, task->definition->name);
	}
	return status;
}

/* Registers what the table holds; then sorts, so that find() works. */
static int add_builtins(struct registry *registry, struct error *error)
{
	size_t count = 0;
	while (builtin_tasks[count] != NULL) {
		count++;
	}
	registry->tasks = calloc(count, sizeof(*registry->tasks));
	if (registry->tasks == NULL) {
		return error_set(error, ERROR_INTERNAL, NULL, "no memory for the table of tasks");
	}
	for (size_t i = 0; i < count; i++) {
		struct task *task = &registry->tasks[i];
		task->definition = builtin_tasks[i];
		task->kind = "builtin";
		task->enabled = (task->definition->flags & TP_TASK_DISABLED_BY_DEFAULT) == 0;
		registry->count++;
		int status = compile_schema(task, error);
		if (status != 0) {
			return status;
		}
	}
	qsort(registry->tasks, count, sizeof(*registry->tasks), compare_tasks);
	return 0;
}

static int number_tasks(struct registry *registry, struct error *error)
{
	for (size_t i = 0; i < registry->count; i++) {
		const char *name = registry->tasks[i].definition->name;
		if (i > 0 && strcmp(registry->tasks[i - 1].definition->name, name) == 0) {
			return error_set(error, ERROR_INTERNAL, NULL,
					 "two tasks bear the name \"%s\"", name);
		}
		registry->tasks[i].index = (uint32_t)i;
	}
	return 0;
}

static int apply_config(struct registry *registry, const struct config *config, struct error *error)
{
	for (size_t i = 0; i < config->task_count; i++) {
		const struct config_task *settings = &config->tasks[i];
		struct task *task = find(registry, settings->name);
		if (task == NULL) {
			char names[400];
			list_names(registry, names, sizeof(names));
			error_set(error, ERROR_INVALID, settings->name,
				  "there is no task of this name; the tasks are %s", names);
			error_prefix_field(error, "tasks");
			return -EINVAL;
		}
		task->settings = settings;
		if (settings->enabled >= 0) {
			task->enabled = settings->enabled != 0;
		}
	}
	return 0;
}

int registry_build(const struct config *config, struct registry *ret_registry, struct error *error)
{
	struct registry registry = {0};
	int status = add_builtins(&registry, error);
	if (status != 0) {
		goto fail;
	}
	status = number_tasks(&registry, error);
	if (status != 0) {
		goto fail;
	}
	status = apply_config(&registry, config, error);
	if (status != 0) {
		goto fail;
	}
	*ret_registry = registry;
	return 0;

fail:
	registry_release(&registry);
	return status;
}

const struct task *registry_find(const struct registry *registry, const char *name)
{
	return find(registry, name);
}

void registry_release(struct registry *registry)
{
	for (size_t i = 0; i < registry->count; i++) {
		schema_free(registry->tasks[i].args_schema);
	}
	free(registry->tasks);
	registry->tasks = NULL;
	registry->count = 0;
}
