/* /capabilities: what this system lets the service do to jobs, as it was found at the start. */
#include <stddef.h>

#include "http/reply.h"
#include "http/resources.h"
#include "task/command/cgroup.h"
#include "task/command/system.h"

#ifdef TWINPOOL_JEMALLOC
#define HAS_HEAP_LIMITS true
#else
#define HAS_HEAP_LIMITS false
#endif

static void write_kinds(struct json_writer *writer)
{
	json_write_begin_array(writer, "task_kinds");
	json_write_string(writer, NULL, "builtin");
	for (size_t i = 0; task_kinds[i]; i++)
		json_write_string(writer, NULL, task_kinds[i]->name);
	json_write_end_array(writer);
}

static void write_cgroup(struct json_writer *writer)
{
	const struct cgroup_state *cgroup = cgroup_state();

	json_write_begin_object(writer, "cgroup");
	json_write_int(writer, "version", cgroup->version);
	json_write_string(writer, "path", cgroup->path[0] ? cgroup->path : NULL);
	json_write_bool(writer, "writable", cgroup->writable);
	json_write_string(writer, "controllers", cgroup->controllers);
	json_write_bool(writer, "in_force", cgroup->in_force);
	json_write_string(writer, "reason", cgroup->in_force ? NULL : cgroup->reason);
	json_write_end_object(writer);
}

static void write_bubblewrap(const struct system_capabilities *system, struct json_writer *writer)
{
	json_write_begin_object(writer, "bubblewrap");
	json_write_string(writer, "path", system->bubblewrap[0] ? system->bubblewrap : NULL);
	json_write_bool(writer, "usable", system->bubblewrap_usable);
	json_write_string(writer, "reason",
			  system->bubblewrap_usable ? NULL : system->bubblewrap_reason);
	json_write_end_object(writer);
}

static void write_calls(const struct system_capabilities *system, struct json_writer *writer)
{
	json_write_begin_object(writer, "system_calls");
	json_write_bool(writer, "pidfd_open", system->pidfd);
	json_write_bool(writer, "openat2", system->openat2);
	json_write_bool(writer, "close_range", system->close_range);
	json_write_bool(writer, "no_new_privs", system->no_new_privs);
	json_write_bool(writer, "change_user", system->change_user);
	json_write_bool(writer, "proc_children", system->proc_children);
	json_write_end_object(writer);
}

/* By what a limit of a job is kept, for jobs in the hosts and for commands. */
static void write_limits(const struct system_capabilities *system, struct json_writer *writer)
{
	const struct cgroup_state *cgroup = cgroup_state();
	bool has_peak = cgroup->in_force && cgroup->has_peak;
	bool has_pids = cgroup->in_force && cgroup->has_pids;

	json_write_begin_object(writer, "limits");
	json_write_string(writer, "heap", HAS_HEAP_LIMITS ? "jemalloc" : NULL);
	json_write_string(writer, "process_memory", "rlimit_data");
	json_write_string(writer, "command_memory",
			  cgroup->in_force ? "cgroup_memory_max" : "rlimit_data");
	json_write_string(writer, "command_processes",
			  has_pids ? "cgroup_pids_max" : "rlimit_nproc");
	json_write_end_object(writer);

	json_write_begin_object(writer, "metering");
	json_write_string(writer, "process_memory", system->clear_refs ? "vm_hwm" : NULL);
	json_write_string(writer, "thread_memory", HAS_HEAP_LIMITS ? "jemalloc_peak" : NULL);
	json_write_string(writer, "command_memory", has_peak ? "cgroup_memory_peak" : "wait4");
	json_write_end_object(writer);
}

enum MHD_Result capabilities_get(struct request *request)
{
	const struct system_capabilities *system = system_capabilities();
	struct buffer body = {0};
	struct json_writer writer = {.buffer = &body};

	json_write_begin_object(&writer, NULL);
	write_kinds(&writer);
	write_limits(system, &writer);
	write_cgroup(&writer);
	write_bubblewrap(system, &writer);
	write_calls(system, &writer);
	json_write_end_object(&writer);
	return reply_json(request, &body);
}
