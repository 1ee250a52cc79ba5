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

struct registry;

struct task {
	uint32_t index; /* place in the registry */
	const struct tp_task *definition;
	struct schema *args_schema;
	const struct config_task
		*settings; /* NULL if the configuration does not name it; borrowed from config */
	bool enabled;
	bool is_internal; /* the service's own: neither users nor the configuration know it */
	const char *kind; /* "builtin", "plugin", "command", "python" */
	const struct task_kind *methods; /* NULL of a built-in */
	/* Of a task that the configuration declares or a plug-in has: what definition points to,
	 * owned by the registry; NULL of others. The kind's build() may set its flags and must set
	 * its run; a plug-in's run is set in each host. */
	struct tp_task *declared;
	const struct plugin *plugin; /* that it is of; NULL of others */
	void *data;		     /* the kind's own; NULL of a built-in */
};

/*
 * A kind of task that the configuration declares.
 *
 * build() is called in the master before any fork (and again in master and server at a reload): the
 * task has its name, its description and its compiled args_schema by then, and build() sets
 * task->declared->run, the flags if it has some, and task->data, by settings->spec. On failure
 * error->field is the place below "tasks.NAME" ("command.argv[0]"), *error is complete, and nothing
 * is left in task->data. release() undoes it; it is called only after a build() that succeeded.
 *
 * open() is called once in each host before it takes jobs (Python imports, plug-ins load there):
 * -errno and *error if the host cannot serve tasks of this kind; it ends then. close() is called at
 * the host's end, after a successful open(). worker_open() and worker_close() are called on each
 * worker's thread, before its first job and after its last; a failed worker_open() ends the host.
 *
 * stop_signal() is called in a host of one worker when its job is asked to stop, by a signal
 * handler on the main thread: async-signal-safe functions only. It may come late, when the job has
 * ended.
 *
 * build is NULL of a kind that the configuration does not declare by a member of "tasks"; all
 * others may be NULL. A kind is compiled in or not; task_kinds ends with NULL.
 */
struct task_kind {
	const char *name;
	int (*build)(const struct config *config, const struct config_task *settings,
		     struct task *ret_task, struct error *error);
	void (*release)(struct task *task);
	int (*open)(const struct registry *registry, const struct config *config,
		    struct error *error);
	void (*close)(void);
	int (*worker_open)(void);
	void (*worker_close)(void);
	void (*stop_signal)(void);
};

extern const struct task_kind *const task_kinds[];

struct registry {
	struct task *tasks; /* sorted by name */
	size_t count;
	struct plugin *plugins; /* as in the configuration */
	size_t plugin_count;
	char **problems; /* sentences for the operator: plug-ins that were left out, and why */
	size_t problem_count;
};

/* Registers the built-ins and the tasks that config declares, compiles their schemas, applies the
 * settings. A name under "tasks"
 * that no task bears is ERROR_INVALID and lists those that exist. config must outlive the registry.
 */
int registry_build(const struct config *config, struct registry *ret_registry, struct error *error);

/*
 * As registry_build(), with the tasks of plug-ins. found is what their trial has found: a JSON
 * array of found_length bytes with an object for each of config->plugins, in their order, that has
 * either a "plugin" (as of plugin_describe()) or a "problem", a sentence. A plug-in with a problem,
 * or one that cannot be taken (a name that another task bears, a schema that is none), is left out
 * as a whole and becomes one of ret_registry->problems. Where there are problems, a name under
 * "tasks" that no task bears is one of them, too, since it may be of what was left out. found may
 * be NULL: then none could be tried.
 */
int registry_build_with_plugins(const struct config *config, const char *found, size_t found_length,
				struct registry *ret_registry, struct error *error);

/* NULL if there is none; also finds tasks that are not enabled. */
const struct task *registry_find(const struct registry *registry, const char *name);

/* Frees what the registry owns. */
void registry_release(struct registry *registry);

/* The kinds, in a host: open() of each, and worker_open() of each on every worker's thread. What
 * was opened is closed again on failure. 0 or -errno; *error is for the log. */
int registry_open_kinds(const struct registry *registry, const struct config *config,
			struct error *error);
void registry_close_kinds(void);
int registry_open_worker(void);
void registry_close_worker(void);

/* The built-in tasks, in no special order; ends with NULL. */
extern const struct tp_task *const builtin_tasks[];

#endif
