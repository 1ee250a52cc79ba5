/*
 * Invariants
 * 1. A plug-in's description is in the registry of the server, of the master and of all hosts that
 * were forked from it, and is the same in all of them. A host whose shared object says something
 * else ends.
 * 2. Code of a plug-in is called only after plugin_load(), and that only in hosts and in the trial.
 */
#include "task/plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "task/registry.h"

#define NAME_MAX_BYTES	      63 /* of a task, a plug-in, a version */
#define DESCRIPTION_MAX_BYTES 4096
#define FAILURE_BYTES	      400

struct tp_host {
	const struct plugin *plugin;
	char failure[FAILURE_BYTES];
};

/* --- settings -------------------------------------------------------------------------------- */

int plugin_init(const struct config_plugin *config, struct plugin *ret_plugin, struct error *error)
{
	struct plugin plugin = {.config = config};
	int status =
		json_parse(config->settings, strlen(config->settings), &plugin.settings, error);

	if (status < 0)
		return status;
	*ret_plugin = plugin;
	return 0;
}

void plugin_release(struct plugin *plugin)
{
	json_decref(plugin->settings);
	json_decref(plugin->description);
	*plugin = (struct plugin){0};
}

const char *plugin_setting(const struct plugin *plugin, const char *task, const char *name)
{
	const json_t *settings = json_object_get(plugin->settings, task);

	return json_string_value(json_object_get(settings, name));
}

const char *tp_host_setting(const struct tp_host *host, const char *task, const char *name)
{
	return plugin_setting(host->plugin, task, name);
}

int tp_host_fail(struct tp_host *host, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(host->failure, sizeof(host->failure), format, arguments);
	va_end(arguments);
	return -1;
}

/* --- descriptions ---------------------------------------------------------------------------- */

static int refuse(struct error *error, const char *what, const char *shown)
{
	return error_set(error, ERROR_INVALID, NULL, "%s \"%.80s\"", what, shown);
}

static bool is_task_name(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_.-";
	size_t length = strlen(name);

	return length >= 1 && length <= NAME_MAX_BYTES && name[0] >= 'a' && name[0] <= 'z' &&
	       strspn(name, allowed) == length;
}

static int check_task(json_t *task, struct error *error)
{
	const unsigned int known = TP_TASK_THREAD_SAFE | TP_TASK_DISABLED_BY_DEFAULT;
	const char *name;
	const char *description;
	const char *schema;
	json_int_t flags;

	if (json_unpack(task, "{s:s, s:s, s:s, s:I}", "name", &name, "description", &description,
			"args_schema", &schema, "flags", &flags) < 0)
		return error_set(error, ERROR_INVALID, NULL, "a task of it is not described");
	if (!is_task_name(name))
		return refuse(error, "it has a task that cannot be named so:", name);
	if (strlen(description) > DESCRIPTION_MAX_BYTES)
		return refuse(error, "it has too long a description for its task", name);
	if (flags < 0 || (flags & ~(json_int_t)known))
		return refuse(error, "it uses flags that are not known for its task", name);
	return 0;
}

static bool has_task(const json_t *tasks, const char *name)
{
	const json_t *task;
	size_t i;

	json_array_foreach (tasks, i, task)
		if (strcmp(json_string_value(json_object_get(task, "name")), name) == 0)
			return true;
	return false;
}

/* The operator has misspelt a name, or means another plug-in. */
static int check_settings(const struct plugin *plugin, const json_t *tasks, struct error *error)
{
	const char *name;
	json_t *settings;

	json_object_foreach (plugin->settings, name, settings)
		if (!has_task(tasks, name))
			return refuse(error, "the settings are for a task that it has not:", name);
	return 0;
}

int plugin_check(struct plugin *plugin, json_t *description, struct error *error)
{
	const char *name;
	const char *version;
	json_t *tasks;
	json_t *task;
	size_t i;

	if (json_unpack(description, "{s:s, s:s, s:o}", "name", &name, "version", &version, "tasks",
			&tasks) < 0 ||
	    !json_is_array(tasks))
		return error_set(error, ERROR_INVALID, NULL, "it is not described");
	if (name[0] == '\0' || strlen(name) > NAME_MAX_BYTES)
		return refuse(error, "it cannot be named so:", name);
	if (strlen(version) > NAME_MAX_BYTES)
		return refuse(error, "it cannot have such a version:", version);
	if (json_array_size(tasks) == 0 || json_array_size(tasks) > PLUGIN_TASKS_MAX)
		return error_set(error, ERROR_INVALID, NULL, "it has %zu tasks; expected 1 to %d",
				 json_array_size(tasks), PLUGIN_TASKS_MAX);
	json_array_foreach (tasks, i, task) {
		int status = check_task(task, error);
		if (status < 0)
			return status;
	}
	int status = check_settings(plugin, tasks, error);
	if (status < 0)
		return status;
	plugin->description = json_incref(description);
	return 0;
}

const char *plugin_name(const struct plugin *plugin)
{
	return json_string_value(json_object_get(plugin->description, "name"));
}

const char *plugin_version(const struct plugin *plugin)
{
	return json_string_value(json_object_get(plugin->description, "version"));
}

static json_t *tasks_of(const struct plugin *plugin)
{
	return json_object_get(plugin->description, "tasks");
}

size_t plugin_task_count(const struct plugin *plugin)
{
	return json_array_size(tasks_of(plugin));
}

static int run_unloaded(struct tp_context *ctx, const json_t *args)
{
	(void)args;
	return tp_fail(ctx, "the plug-in is not loaded");
}

void plugin_task(const struct plugin *plugin, size_t index, struct tp_task *ret_task)
{
	const json_t *task = json_array_get(tasks_of(plugin), index);

	*ret_task = (struct tp_task){
		.name = json_string_value(json_object_get(task, "name")),
		.description = json_string_value(json_object_get(task, "description")),
		.args_schema = json_string_value(json_object_get(task, "args_schema")),
		.flags = (unsigned int)json_integer_value(json_object_get(task, "flags")),
		.run = run_unloaded,
	};
}

static json_t *describe_task(const struct tp_task *task)
{
	if (!task->name || !task->description || !task->args_schema || !task->run)
		return NULL;
	return json_pack("{s:s, s:s, s:s, s:I}", "name", task->name, "description",
			 task->description, "args_schema", task->args_schema, "flags",
			 (json_int_t)task->flags);
}

static json_t *describe_tasks(const struct tp_plugin *plugin, struct error *error)
{
	json_t *tasks = json_array();

	for (size_t i = 0; tasks && plugin->tasks[i] && i <= PLUGIN_TASKS_MAX; i++) {
		json_t *task = describe_task(plugin->tasks[i]);
		if (!task)
			(void)error_set(error, ERROR_INVALID, NULL,
					"its task %zu lacks a name, a description, a schema or a "
					"function, or one of them is no UTF-8",
					i + 1);
		/* Takes the task, also on failure. */
		if (!task || json_array_append_new(tasks, task) < 0) {
			json_decref(tasks);
			return NULL;
		}
	}
	return tasks;
}

json_t *plugin_describe(const struct plugin *plugin, struct error *error)
{
	const struct tp_plugin *loaded = plugin->loaded;

	*error = (struct error){.code = ERROR_INTERNAL, .message = "it could not be described"};
	if (!loaded->name || !loaded->version || !loaded->tasks) {
		(void)error_set(error, ERROR_INVALID, NULL,
				"it lacks its name, its version or its tasks");
		return NULL;
	}
	json_t *tasks = describe_tasks(loaded, error);
	if (!tasks)
		return NULL;
	/* Takes the tasks, also on failure. */
	return json_pack("{s:s, s:s, s:o}", "name", loaded->name, "version", loaded->version,
			 "tasks", tasks);
}

/* --- code ------------------------------------------------------------------------------------ */

typedef const struct tp_plugin *entry_fn(unsigned int host_abi);

/* What has been loaded stays, also after a failure: a plug-in may have left threads or handlers
 * that point into it, and whoever fails here ends soon. */
int plugin_load(struct plugin *plugin, struct error *error)
{
	void *handle = dlopen(plugin->config->path, RTLD_NOW | RTLD_LOCAL);
	entry_fn *entry = NULL;

	if (!handle)
		return error_set(error, ERROR_INVALID, NULL, "%s", dlerror());
	void *symbol = dlsym(handle, "tp_plugin_entry");
	if (!symbol)
		// cppcheck-suppress resourceLeak
		return error_set(error, ERROR_INVALID, NULL,
				 "it does not export tp_plugin_entry(), so it is no plug-in");
	/* ISO C has no cast from an object's address to a function's; POSIX promises that they are
	 * alike. */
	memcpy(&entry, &symbol, sizeof(symbol));
	const struct tp_plugin *loaded = entry(TP_TASK_ABI);
	if (!loaded)
		// cppcheck-suppress resourceLeak
		return error_set(error, ERROR_INVALID, NULL,
				 "it cannot work with version %d of twinpool/task.h, which this "
				 "program has",
				 TP_TASK_ABI);
	if (loaded->abi != TP_TASK_ABI)
		// cppcheck-suppress resourceLeak
		return error_set(error, ERROR_INVALID, NULL,
				 "it was built for version %u of twinpool/task.h; this program has "
				 "version %d",
				 loaded->abi, TP_TASK_ABI);
	plugin->loaded = loaded;
	// cppcheck-suppress resourceLeak
	return 0;
}

static int set_up(const struct plugin *plugin, int (*open)(struct tp_host *host), const char *what,
		  struct error *error)
{
	struct tp_host host = {.plugin = plugin};

	if (!open || open(&host) == 0)
		return 0;
	return error_set(error, ERROR_UNAVAILABLE, NULL, "its %s() failed%s%s", what,
			 host.failure[0] ? ": " : "", host.failure);
}

int plugin_open_host(const struct plugin *plugin, struct error *error)
{
	return set_up(plugin, plugin->loaded->host_open, "host_open", error);
}

int plugin_open_thread(const struct plugin *plugin, struct error *error)
{
	return set_up(plugin, plugin->loaded->thread_open, "thread_open", error);
}

void plugin_close_thread(const struct plugin *plugin)
{
	if (plugin->loaded->thread_close)
		plugin->loaded->thread_close();
}

void plugin_close_host(const struct plugin *plugin)
{
	if (plugin->loaded->host_close)
		plugin->loaded->host_close();
}

/* --- as a kind of task, in a host ------------------------------------------------------------- */

/* The registry's, once they are open; the main thread's, and read by others only after it. */
static struct plugin *opened;
static size_t opened_count;

static tp_run_fn *find_run(const struct plugin *plugin, const char *name)
{
	for (size_t i = 0; plugin->loaded->tasks[i]; i++)
		if (strcmp(plugin->loaded->tasks[i]->name, name) == 0)
			return plugin->loaded->tasks[i]->run;
	return NULL;
}

static void fill_runs(const struct registry *registry, const struct plugin *plugin)
{
	for (size_t i = 0; i < registry->count; i++) {
		const struct task *task = &registry->tasks[i];
		if (task->plugin == plugin)
			task->declared->run = find_run(plugin, task->declared->name);
	}
}

static int open_plugin(const struct registry *registry, struct plugin *plugin, struct error *error)
{
	int status = plugin_load(plugin, error);

	if (status < 0)
		return status;
	json_t *description = plugin_describe(plugin, error);
	if (!description)
		return -EINVAL;
	bool is_same = json_equal(description, plugin->description);
	json_decref(description);
	if (!is_same)
		return error_set(error, ERROR_INVALID, NULL,
				 "it was exchanged for another one since it was tried; SIGHUP to "
				 "the master makes the service take it anew");
	fill_runs(registry, plugin);
	return plugin_open_host(plugin, error);
}

static void name_plugin(const struct plugin *plugin, struct error *error)
{
	char message[sizeof(error->message)];

	memcpy(message, error->message, sizeof(message));
	(void)error_set(error, error->code, "plugins", "%.200s: %s", plugin->config->path, message);
}

static void close_hosts(size_t count)
{
	while (count-- > 0)
		if (opened[count].description)
			plugin_close_host(&opened[count]);
	opened_count = 0;
}

static int open_kind(const struct registry *registry, const struct config *config,
		     struct error *error)
{
	(void)config;
	opened = registry->plugins;
	for (size_t i = 0; i < registry->plugin_count; i++) {
		if (!opened[i].description)
			continue; /* left out: it failed its trial */
		int status = open_plugin(registry, &opened[i], error);
		if (status < 0) {
			name_plugin(&opened[i], error);
			close_hosts(i);
			return status;
		}
	}
	opened_count = registry->plugin_count;
	return 0;
}

static void close_kind(void)
{
	close_hosts(opened_count);
}

static void close_threads(size_t count)
{
	while (count-- > 0)
		if (opened[count].description)
			plugin_close_thread(&opened[count]);
}

static int open_worker(void)
{
	for (size_t i = 0; i < opened_count; i++) {
		struct error error = {0};
		if (!opened[i].description || plugin_open_thread(&opened[i], &error) == 0)
			continue;
		name_plugin(&opened[i], &error);
		tp_log(NULL, TP_LOG_ERROR, "%s", error.message);
		close_threads(i);
		return -ECANCELED;
	}
	return 0;
}

static void close_worker(void)
{
	close_threads(opened_count);
}

const struct task_kind plugin_kind = {
	.name = "plugin",
	.open = open_kind,
	.close = close_kind,
	.worker_open = open_worker,
	.worker_close = close_worker,
};
