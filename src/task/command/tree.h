/*
 * The processes of one run of a command: the program itself, what it has started, and the end of
 * all of them.
 *
 * In a host of one worker every child is the run's. In a host of several workers, runs go on beside
 * each other, and their orphans all come to the host, which is a child subreaper. There a process
 * is the run's if it is in the run's cgroup, in the session that its program leads, or was started
 * with the run's mark in its environment: TWINPOOL_RUN, which is given to the program and so to all
 * that it starts. Without cgroups, one that has left the session, taken another environment and lost
 * its parent is not found; it ends with the host. Programs that mean to hide belong on a pool of
 * processes then.
 */
#ifndef TASK_COMMAND_TREE_H
#define TASK_COMMAND_TREE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "task/command/cgroup.h"

#define TREE_MARK_SIZE 64
#define TREE_VARIABLE  "TWINPOOL_RUN"

struct tree {
	pid_t pid;		   /* the program; the leader of its session and group */
	bool alone;		   /* in a host of one worker */
	char mark[TREE_MARK_SIZE]; /* "TWINPOOL_RUN=…" */
	struct cgroup cgroup;	   /* its own; with the directory -1, if it has none */
};

/* What its processes have used, as far as it is known. */
struct tree_usage {
	int64_t cpu_user_ns;
	int64_t cpu_system_ns;
	int64_t minor_faults;
	int64_t major_faults;
	int64_t voluntary_switches;
	int64_t involuntary_switches;
	int64_t peak_bytes; /* the largest ru_maxrss */
};

/* Writes a mark that no other run has. */
void tree_mark(char ret_mark[static TREE_MARK_SIZE]);

/* A signal to all that are in the group of the program, dead or alive. */
void tree_signal(const struct tree *tree, int signal_number);

/* SIGKILL to all in that group and in the cgroup. */
void tree_kill(const struct tree *tree);

/*
 * Once the program has ended and was not waited for: kills and reaps what is left of the run, then
 * reaps the program. Answers its status as waitpid(2) does. *ret_all is false if something could
 * not be ended within a second.
 */
int tree_end(const struct tree *tree, struct tree_usage *ret_usage, bool *ret_all);

#endif
