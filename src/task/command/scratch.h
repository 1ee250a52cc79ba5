/*
 * Scratch directories: one for each run of a command, its working directory, gone after it.
 *
 * They lie below data_dir/scratch; without a data_dir below $TMPDIR, else /tmp, in a directory of
 * this user's that nobody else may write to. A scratch directory is named
 * NAMESPACE.PID.START.NUMBER by the host that made it, so that one which a killed host has left is
 * known as such: START is when that process began, and NAMESPACE the one that its pid belongs to.
 *
 * Removing follows no symbolic link, crosses no directory that it has not opened itself, and needs
 * no more memory or descriptors for a deep tree than for a flat one.
 */
#ifndef TASK_COMMAND_SCRATCH_H
#define TASK_COMMAND_SCRATCH_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#define SCRATCH_NAME_SIZE 96

struct scratch {
	int directory; /* O_DIRECTORY, to work in; -1: there is none */
	char name[SCRATCH_NAME_SIZE];
};

/* The path of the directory that holds them; data_dir NULL: none is configured. */
void scratch_base(const char *data_dir, char ret_path[static PATH_MAX]);

/*
 * Opens that directory, which is made if need be, for all that follows in this process; called in
 * the host, after the fork. Then removes what hosts that are dead have left, if no other host of
 * this machine can be meant: with `is_ours`, also that of other pid namespaces. 0 or -errno: -EPERM
 * if somebody else may write to the directory.
 */
int scratch_open(const char *path, bool is_ours);
void scratch_close(void);

/* Makes one, mode 0700, for that user; (uid_t)-1: for this process's own. 0 or -errno. Any thread.
 * */
int scratch_make(uid_t uid, gid_t gid, struct scratch *ret_scratch);

/* Its path, for programs that cannot be given a descriptor; PATH_MAX bytes. */
void scratch_path(const struct scratch *scratch, char ret_path[static PATH_MAX]);

/* Path of the directory that holds them all, as it was opened. Borrowed. */
const char *scratch_open_base(void);

/* Removes it with all that is in it; nobody may work in it any more. 0, or -errno if something is
 * left, which the next host to start will try again. Any thread. */
int scratch_remove(struct scratch *scratch);

/* Removes that entry of the directory, whatever it is. For scratch_remove() and tests. */
int scratch_remove_at(int directory, const char *name);

#endif
