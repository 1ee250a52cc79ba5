/*
 * The table of tasks: gathered from the built-ins and from what the configuration declares, sorted,
 * and joined with the settings of the configuration.
 *
 * Invariants after registry_build():
 *   1. tasks is sorted by name, no name occurs twice, and tasks[i].index == i.
 *   2. Every task has a compiled schema.
 */
#include "task/registry.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "task/plugin.h"

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
		if (registry->tasks[i].is_internal) {
			continue;
		}
		const char *name = registry->tasks[i].definition->name;
		const char *comma = used == 0 ? "" : ", ";
		if (used + strlen(comma) + strlen(name) >= size) {
			return;
		}
		used += (size_t)snprintf(buffer + used, size - used, "%s%s", comma, name);
	}
}

/* error->field is the place in the task. */
static int compile_document(struct task *task, struct error *error)
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
	}
	return status;
}

static int compile_schema(struct task *task, struct error *error)
{
	int status = compile_document(task, error);
	if (status != 0) {
		error_prefix_field(error, task->definition->name);
	}
	return status;
}

static size_t count_tasks(const struct registry *registry, const struct config *config)
{
	size_t count = 0;
	while (builtin_tasks[count] != NULL) {
		count++;
	}
	for (size_t i = 0; i < config->task_count; i++) {
		count += config->tasks[i].kind != NULL;
	}
	for (size_t i = 0; i < registry->plugin_count; i++) {
		count += plugin_task_count(&registry->plugins[i]);
	}
	return count + 1; /* and perhaps an internal one */
}

static int add_builtins(struct registry *registry, struct error *error)
{
	for (size_t i = 0; builtin_tasks[i] != NULL; i++) {
		struct task *task = &registry->tasks[registry->count++];
		task->definition = builtin_tasks[i];
		task->kind = "builtin";
		task->enabled = (task->definition->flags & TP_TASK_DISABLED_BY_DEFAULT) == 0;
		int status = compile_schema(task, error);
		if (status != 0) {
			return status;
		}
	}
	return 0;
}

/* --- tasks that the configuration declares --- */

static const struct task_kind *find_kind(const char *name)
{
	for (size_t i = 0; task_kinds[i] != NULL; i++) {
		if (task_kinds[i]->build != NULL && strcmp(task_kinds[i]->name, name) == 0) {
			return task_kinds[i];
		}
	}
	return NULL;
}

static int check_name_is_free(const struct registry *registry, const char *name,
			      struct error *error)
{
	for (size_t i = 0; i < registry->count; i++) {
		if (strcmp(registry->tasks[i].definition->name, name) == 0) {
			return error_set(error, ERROR_INVALID, NULL,
					 "found a declaration of a task that is there already, of "
					 "the kind %s; expected another name",
					 registry->tasks[i].kind);
		}
	}
	return 0;
}

static int define(struct task *task, const struct config_task *settings, struct error *error)
{
	struct tp_task *declared = calloc(1, sizeof(*declared));
	if (declared == NULL) {
		return error_set(error, ERROR_INTERNAL, NULL, "no memory for a task");
	}
	declared->name = settings->name;
	declared->description = settings->description;
	declared->args_schema = settings->args_schema;
	task->declared = declared;
	task->definition = declared;
	task->kind = settings->kind;
	task->enabled = true;
	return 0;
}

/* Adds one task; error->field is the place below it. */
static int declare(struct registry *registry, const struct config *config,
		   const struct config_task *settings, struct error *error)
{
	const struct task_kind *kind = find_kind(settings->kind);
	if (kind == NULL) {
		return error_set(error, ERROR_INVALID, settings->kind,
				 "found a task of the kind %s; this build of twinpool was made "
				 "without it",
				 settings->kind);
	}
	int status = check_name_is_free(registry, settings->name, error);
	if (status != 0) {
		return status;
	}
	struct task *task = &registry->tasks[registry->count];
	status = define(task, settings, error);
	if (status != 0) {
		return status;
	}
	registry->count++; /* from here on it is released with the others */
	status = compile_document(task, error);
	if (status == 0) {
		status = kind->build(config, settings, task, error);
	}
	if (status == 0) {
		task->methods = kind;
	}
	return status;
}

static int add_declared(struct registry *registry, const struct config *config, struct error *error)
{
	for (size_t i = 0; i < config->task_count; i++) {
		const struct config_task *settings = &config->tasks[i];
		if (settings->kind == NULL) {
			continue;
		}
		int status = declare(registry, config, settings, error);
		if (status != 0) {
			error_prefix_field(error, settings->name);
			error_prefix_field(error, "tasks");
			return status;
		}
	}
	return 0;
}

/* --- tasks of plug-ins --- */

/* Never fails: where memory is short, the count alone tells that there is a problem. */
static void add_problem(struct registry *registry, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void add_problem(struct registry *registry, const char *format, ...)
{
	size_t bytes = (registry->problem_count + 1) * sizeof(*registry->problems);
	char **problems = realloc(registry->problems, bytes);
	char *text = NULL;
	va_list arguments;

	if (problems == NULL) {
		return;
	}
	registry->problems = problems;
	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0) {
		text = NULL;
	}
	va_end(arguments);
	if (text != NULL) {
		problems[registry->problem_count++] = text;
	}
}

static void release_task(struct task *task)
{
	if (task->methods != NULL && task->methods->release != NULL) {
		task->methods->release(task);
	}
	schema_free(task->args_schema);
	free(task->declared);
	*task = (struct task){0};
}

/* A task in Python, for measurements, where there is Python. Its name is none that a configuration
 * can give. Hosts start no interpreter for its sake unless they are told to enable it. */
static void add_internal(struct registry *registry, const struct config *config)
{
	static char name[] = "(python_count)";
	static char kind[] = "python";
	static char spec[] = "\"_twinpool_prelude:count\"";
	static char description[] = "Counts to n, in Python.";
	static char args_schema[] = "{\"type\": \"object\", \"required\": [\"n\"], \"properties\": "
				    "{\"n\": {\"type\": \"integer\", \"minimum\": 0}}}";
	static const struct config_task settings = {.name = name,
						    .enabled = -1,
						    .kind = kind,
						    .spec = spec,
						    .description = description,
						    .args_schema = args_schema};
	struct error error;
	size_t before = registry->count;
	if (find_kind(kind) == NULL) {
		return;
	}
	if (declare(registry, config, &settings, &error) == 0) {
		registry->tasks[before].enabled = false;
		registry->tasks[before].is_internal = true;
	} else if (registry->count > before) {
		release_task(&registry->tasks[--registry->count]);
	}
}

static int add_plugin_task(struct registry *registry, const struct plugin *plugin, size_t index,
			   struct error *error)
{
	struct task *task = &registry->tasks[registry->count];
	struct tp_task *declared = calloc(1, sizeof(*declared));
	if (declared == NULL) {
		return error_set(error, ERROR_INTERNAL, NULL, "no memory for a task");
	}
	plugin_task(plugin, index, declared);
	task->declared = declared;
	task->definition = declared;
	task->kind = plugin_kind.name;
	task->plugin = plugin;
	task->enabled = (declared->flags & TP_TASK_DISABLED_BY_DEFAULT) == 0;
	int status = check_name_is_free(registry, declared->name, error);
	registry->count++; /* from here on it is released with the others */
	return status == 0 ? compile_document(task, error) : status;
}

/* All of its tasks or none. */
static void add_plugin(struct registry *registry, struct plugin *plugin)
{
	size_t before = registry->count;
	struct error error = {0};
	int status = 0;
	struct tp_task task = {0};
	for (size_t i = 0; status == 0 && i < plugin_task_count(plugin); i++) {
		plugin_task(plugin, i, &task);
		status = add_plugin_task(registry, plugin, i, &error);
	}
	if (status == 0) {
		return;
	}
	add_problem(registry, "the plug-in %s was left out: its task \"%s\": %s%s%s",
		    plugin->config->path, task.name, error.field, error.field[0] ? ": " : "",
		    error.message);
	while (registry->count > before) {
		release_task(&registry->tasks[--registry->count]);
	}
	json_decref(plugin->description);
	plugin->description = NULL;
}

/* What the trial says of one plug-in. */
static void take_plugin(struct registry *registry, struct plugin *plugin, const json_t *found)
{
	json_t *description = json_object_get(found, "plugin");
	const char *problem = json_string_value(json_object_get(found, "problem"));
	struct error error = {.message = "it could not be tried out"};
	if (description != NULL && plugin_check(plugin, description, &error) == 0) {
		return;
	}
	add_problem(registry, "the plug-in %s was left out: %s", plugin->config->path,
		    problem != NULL ? problem : error.message);
}

static int take_plugins(struct registry *registry, const struct config *config, const char *found,
			size_t found_length, struct error *error)
{
	json_t *document = NULL;
	struct error unread;
	if (config->plugin_count == 0) {
		return 0;
	}
	registry->plugins = calloc(config->plugin_count, sizeof(*registry->plugins));
	if (registry->plugins == NULL) {
		return error_set(error, ERROR_INTERNAL, NULL, "no memory for the plug-ins");
	}
	if (found != NULL && json_parse(found, found_length, &document, &unread) != 0) {
		document = NULL;
	}
	int status = 0;
	for (size_t i = 0; status == 0 && i < config->plugin_count; i++) {
		struct plugin *plugin = &registry->plugins[i];
		status = plugin_init(&config->plugins[i], plugin, error);
		if (status == 0) {
			registry->plugin_count++;
			take_plugin(registry, plugin, json_array_get(document, i));
		}
	}
	json_decref(document);
	return status;
}

/* Gathers all, and sorts them, so that find() works. */
static int add_tasks(struct registry *registry, const struct config *config, struct error *error)
{
	registry->tasks = calloc(count_tasks(registry, config), sizeof(*registry->tasks));
	if (registry->tasks == NULL) {
		return error_set(error, ERROR_INTERNAL, NULL, "no memory for the table of tasks");
	}
	int status = add_builtins(registry, error);
	if (status == 0) {
		status = add_declared(registry, config, error);
	}
	if (status == 0) {
		add_internal(registry, config);
	}
	for (size_t i = 0; status == 0 && i < registry->plugin_count; i++) {
		if (registry->plugins[i].description != NULL) {
			add_plugin(registry, &registry->plugins[i]);
		}
	}
	if (status == 0) {
		qsort(registry->tasks, registry->count, sizeof(*registry->tasks), compare_tasks);
	}
	return status;
}

/* --- all tasks --- */

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
		if (task != NULL && task->is_internal) {
			task = NULL;
		}
		if (task == NULL && registry->problem_count > 0) {
			add_problem(registry, "tasks.%s: there is no task of this name",
				    settings->name);
			continue;
		}
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

int registry_build_with_plugins(const struct config *config, const char *found, size_t found_length,
				struct registry *ret_registry, struct error *error)
{
	struct registry registry = {0};
	int status = take_plugins(&registry, config, found, found_length, error);
	if (status != 0) {
		goto fail;
	}
	status = add_tasks(&registry, config, error);
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

int registry_build(const struct config *config, struct registry *ret_registry, struct error *error)
{
	return registry_build_with_plugins(config, NULL, 0, ret_registry, error);
}

const struct task *registry_find(const struct registry *registry, const char *name)
{
	return find(registry, name);
}

void registry_release(struct registry *registry)
{
	for (size_t i = 0; i < registry->count; i++) {
		release_task(&registry->tasks[i]);
	}
	for (size_t i = 0; i < registry->plugin_count; i++) {
		plugin_release(&registry->plugins[i]);
	}
	for (size_t i = 0; i < registry->problem_count; i++) {
		free(registry->problems[i]);
	}
	free(registry->tasks);
	free(registry->plugins);
	free(registry->problems);
	*registry = (struct registry){0};
}

/* --- the kinds, in a host --- */

static void close_kinds(size_t count)
{
	while (count-- > 0) {
		if (task_kinds[count]->close != NULL) {
			task_kinds[count]->close();
		}
	}
}

static size_t count_kinds(void)
{
	size_t count = 0;
	while (task_kinds[count] != NULL) {
		count++;
	}
	return count;
}

int registry_open_kinds(const struct registry *registry, const struct config *config,
			struct error *error)
{
	for (size_t i = 0; task_kinds[i] != NULL; i++) {
		int status = task_kinds[i]->open == NULL
				     ? 0
				     : task_kinds[i]->open(registry, config, error);
		if (status < 0) {
			close_kinds(i);
			return status;
		}
	}
	return 0;
}

void registry_close_kinds(void)
{
	close_kinds(count_kinds());
}

static void close_worker(size_t count)
{
	while (count-- > 0) {
		if (task_kinds[count]->worker_close != NULL) {
			task_kinds[count]->worker_close();
		}
	}
}

int registry_open_worker(void)
{
	for (size_t i = 0; task_kinds[i] != NULL; i++) {
		int status = task_kinds[i]->worker_open == NULL ? 0 : task_kinds[i]->worker_open();
		if (status < 0) {
			close_worker(i);
			return status;
		}
	}
	return 0;
}

void registry_close_worker(void)
{
	close_worker(count_kinds());
}
