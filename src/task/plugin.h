/*
 * Plug-ins: shared objects with tasks, as twinpool/task.h describes them.
 *
 * Their code runs in hosts and in the process that tries them out, never in server or master. Those
 * know a plug-in by its description, a JSON document that the trial has made. What is described is
 * no more trusted than what a host sends: plugin_check() looks at all of it.
 *
 * Life: plugin_init(); in server and master then plugin_check(); in a host or a trial
 * plugin_load(), plugin_open_host(), and on each worker's thread plugin_open_thread() and
 * plugin_close_thread(); plugin_close_host(); everywhere plugin_release().
 */
#ifndef TASK_PLUGIN_H
#define TASK_PLUGIN_H

#include <jansson.h>
#include <stddef.h>

#include "base/error.h"
#include "config/config.h"
#include "twinpool/task.h"

#define PLUGIN_DESCRIPTION_MAX 262144U /* bytes of an encoded description */
#define PLUGIN_TASKS_MAX       256

struct task_kind;

struct plugin {
	const struct config_plugin *config; /* borrowed */
	json_t *settings;		    /* owned; object: task → object: name → string */
	json_t *description;		    /* owned; NULL of one that cannot be used */
	const struct tp_plugin *loaded;	    /* where it was loaded; NULL elsewhere */
};

/* 0, or -errno and *error. */
int plugin_init(const struct config_plugin *config, struct plugin *ret_plugin, struct error *error);
void plugin_release(struct plugin *plugin);

/*
 * Takes a description (borrowed; a reference is kept) after a look at it: names, texts, flags, and
 * that each task of the settings is there. Whether a name is free and a schema compiles is for the
 * registry to see. 0, or -errno and *error.
 */
int plugin_check(struct plugin *plugin, json_t *description, struct error *error);

/* What the description says; only after plugin_check(). Texts are the description's. */
const char *plugin_name(const struct plugin *plugin);
const char *plugin_version(const struct plugin *plugin);
size_t plugin_task_count(const struct plugin *plugin);
void plugin_task(const struct plugin *plugin, size_t index, struct tp_task *ret_task);

/* Loads the shared object into this process, for good. 0, or -errno and *error. */
int plugin_load(struct plugin *plugin, struct error *error);

/* What is loaded, as a description; the caller owns it. NULL and *error if it cannot be described.
 * */
json_t *plugin_describe(const struct plugin *plugin, struct error *error);

int plugin_open_host(const struct plugin *plugin, struct error *error);
int plugin_open_thread(const struct plugin *plugin, struct error *error);
void plugin_close_thread(const struct plugin *plugin);
void plugin_close_host(const struct plugin *plugin);

/* The operator's value for a task; NULL if there is none. Borrowed. */
const char *plugin_setting(const struct plugin *plugin, const char *task, const char *name);

extern const struct task_kind plugin_kind;

#endif
