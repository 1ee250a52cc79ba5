/*
 * Starting a program: by vfork(2), or clone3(2) in its manner, so that it costs the same from a host of
 * any size.
 *
 * Thread: any; several at once.
 */
#ifndef TASK_COMMAND_SPAWN_H
#define TASK_COMMAND_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

struct spawn_limit {
	int resource; /* RLIMIT_* */
	rlim_t value; /* soft and hard */
};

struct spawn {
	const char
		*program; /* a path; it is not searched for; NULL: for a trial, none is run and the
				child ends once all else is done */
	char *const *argv;
	char *const *environment;
	int standard[3]; /* become descriptors 0, 1 and 2; all >= 3 */
	int directory;	 /* to work in */
	int cgroup;	 /* directory of the cgroup to begin in; 0: that of this process */
	const struct spawn_limit *limits;
	size_t limit_count;
	bool changes_user;
	uid_t uid;
	gid_t gid; /* the only group */
};

/*
 * Starts it as the leader of a session of its own, with default signal actions, none blocked, no
 * descriptors but the three, and no new privileges ever (PR_SET_NO_NEW_PRIVS). 0, or -errno and in
 * *ret_step what could not be done, as words after "cannot"; then nothing is left. A soft limit
 * above the hard one in force is lowered to it.
 */
int spawn_start(const struct spawn *spawn, pid_t *ret_pid, const char **ret_step);

#endif
