/*
 * The children of this process, and their end: those it forked and, if it is a child subreaper
 * (PR_SET_CHILD_SUBREAPER), those that came to it because the process between has ended.
 *
 * A process that we have not reaped keeps its pid, so a kill by pid of a child can never hit a
 * stranger. That holds as long as nobody else in this process reaps: call children_end() only while
 * no other thread waits for children.
 *
 * The children are found by asking, for each process that /proc shows, whether we may wait for it,
 * since the kernel's own list (/proc/[pid]/task/[tid]/children) is left out of many kernels. That
 * costs about two microseconds a process, so ask children_exist() first. A process that is traced
 * (ptrace(2)) counts as a child of its tracer, too.
 */
#ifndef BASE_CHILDREN_H
#define BASE_CHILDREN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Whether this process has any child that was not reaped, alive or dead. One system call. Thread:
 * any. */
bool children_exist(void);

/* The pids of at most max children: how many, or -errno if /proc cannot be read. */
int children_list(pid_t *ret_pids, size_t max);

/*
 * Ends and reaps every child for which keep(pid, data) is false (all, if keep is NULL), and what
 * comes to this process by their deaths, until none is left. Answers how many were reaped, or, if
 * some are left at the deadline (CLOCK_MONOTONIC; one pass is always made), -ETIMEDOUT, or -errno
 * if /proc cannot be read. Some left means: processes that fork faster than they can be ended,
 * that hang in the kernel, or that belong to another user.
 *
 * If SIGCHLD is ignored, its default action is put back: the kernel would reap behind our back.
 */
int children_end(bool (*keep)(pid_t pid, void *data), void *data, int64_t deadline_ns);

#endif
