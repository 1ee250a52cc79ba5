/*
 * Cgroups of version 2 (cgroups(7)): one for each run of a command, where a cgroup was delegated to
 * the service. Its limits are those of all processes of the run together, exact and kept by the
 * kernel, and what is in it can be counted and killed whatever it does to hide.
 *
 *   BASE             what was delegated; nobody is in it, and it gives memory and pids on
 *   BASE/service     master, server and hosts, if the service was started in BASE
 *   BASE/runs        gives memory and pids on
 *   BASE/runs/PID.N  a run of the host PID
 *
 * A cgroup with processes in it cannot give controllers on, so the service moves itself from BASE
 * to BASE/service, but only if BASE is its own: it may be written to, nobody else is in it, and where
 * systemd made it, systemd says that it was delegated. The master holds a lock on BASE, so
 * whatever lies in BASE/runs at a start was left by a predecessor that was killed.
 *
 * A command that runs as the service's own user could write to these directories as the service
 * does. Against one that means to, give it a uid of its own, or the sandbox.
 */
#ifndef TASK_COMMAND_CGROUP_H
#define TASK_COMMAND_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CGROUP_PATH_SIZE   1200
#define CGROUP_REASON_SIZE 500
#define CGROUP_NAME_SIZE   48

struct cgroup_state {
	int version;   /* that the memory controller is of: 2, 1, or 0 where there are none */
	bool writable; /* BASE, or what would be it, may be written to */
	char controllers[300]; /* that it has, with spaces between */
	bool in_force;
	char path[CGROUP_PATH_SIZE];	 /* of BASE; "" if there is none */
	char reason[CGROUP_REASON_SIZE]; /* why it is not in force; "" if it is */
	bool has_peak;			 /* memory.peak: Linux 5.19 */
	bool has_pids;			 /* the pids controller */
};

/*
 * In the master, on its only thread, before it forks: sets up by config->command_cgroup and removes
 * what a predecessor has left. 0, also if cgroups are not in force; -errno if a path was named that
 * cannot be used (the reason is in the state), and nothing is changed then.
 */
int cgroup_open(const char *setting);

/* In the master, when all other processes of the service have ended: undoes it, so that another
 * service can be started in BASE. */
void cgroup_close(void);

/* In the master: kills and removes the runs of hosts for which lives(pid, data) is false. Answers
 * whether none of them is left; what is dying takes a moment. */
bool cgroup_end_dead(bool (*lives)(pid_t pid, void *data), void *data);

/* As cgroup_open() has found it, in this process and those forked since; any thread. */
const struct cgroup_state *cgroup_state(void);

/* --- a run; in hosts, any thread, only while in force --- */

struct cgroup {
	int directory; /* -1: there is none */
	char name[CGROUP_NAME_SIZE];
};

struct cgroup_limits {
	int64_t memory_bytes; /* 0: none */
	int64_t processes;    /* and threads; 0: none */
};

/* -1 and false where it cannot be told. */
struct cgroup_usage {
	int64_t peak_bytes; /* memory charged at its highest: of processes, of files that they were the
			       first to touch, of the kernel for them */
	int64_t cpu_user_ns;
	int64_t cpu_system_ns;
	bool was_limited; /* the kernel killed for its memory limit */
	bool was_killed;  /* the kernel killed for want of memory, be it the machine's */
};

/* Makes one: 0 or -errno. */
int cgroup_make(const struct cgroup_limits *limits, struct cgroup *ret_cgroup);

/* Kills all that is in it; they die within moments. */
void cgroup_kill(const struct cgroup *cgroup);

/* Whether the process, alive or a zombie, is in it. */
bool cgroup_has(const struct cgroup *cgroup, pid_t pid);

void cgroup_read_usage(const struct cgroup *cgroup, struct cgroup_usage *ret_usage);

/* CPU time of all that was ever in it, or -1. */
int64_t cgroup_cpu_ns(const struct cgroup *cgroup);

/* Removes it once all in it are dead; what still dies is waited for, a second at the most. 0 or
 * -errno: then the master removes it at the end of the host. */
int cgroup_remove(struct cgroup *cgroup);

/* --- files of cgroups, relative to a descriptor of a directory --- */

/* Writes the text by one write(2): 0 or -errno. */
int cgroup_write(int directory, const char *name, const char *text);

/* Reads the beginning of a file, size - 1 bytes at most, with a NUL behind: 0 or -errno. */
int cgroup_read(int directory, const char *name, char *text, size_t size);

/* Kills all that is in the cgroup of that name and in those below it, and removes them: 0, or -errno
 * (-EBUSY while something in it still dies). */
int cgroup_remove_at(int directory, const char *name);

/* --- reading; pure --- */

/* The path in a process's /proc/PID/cgroup (the line "0::PATH"); false if there is none or it is too
 * long. */
bool cgroup_parse_own(const char *text, char *ret_path, size_t size);

/* Where the cgroup is found, by /proc/self/mountinfo; false if nowhere. */
bool cgroup_parse_mounts(const char *text, const char *own, char *ret_path, size_t size);

/* The number of a line "KEY NUMBER"; -1 if there is no such line. */
int64_t cgroup_parse_keyed(const char *text, const char *key);

/* Whether the word is in a list with spaces between. */
bool cgroup_parse_has(const char *list, const char *word);

#endif
