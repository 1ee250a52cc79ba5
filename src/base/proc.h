/*
 * Numbers out of /proc: files of a line of numbers, such as statm and schedstat (proc(5)). Thread:
 * any.
 */
#ifndef BASE_PROC_H
#define BASE_PROC_H

#include <stdint.h>
#include <sys/types.h>

/* The number at this place (0 is the first) of the first line, or -1 if it cannot be read. Reads at
 * offset 0, so one descriptor serves again and again. */
int64_t proc_number(int fd, unsigned int place);

/* Resident set of a process in bytes (statm's second number, in pages), or -1. */
int64_t proc_rss_bytes(pid_t pid);
int64_t proc_rss_bytes_of(int statm_fd);

/* CPU time of a thread of a process in ns (schedstat's first number;
 * Documentation/scheduler/sched-stats.rst of the kernel), or -1. */
int64_t proc_thread_cpu_ns(pid_t pid, pid_t tid);

/* What the process that calls is told about itself; -1 where it cannot be read. */
struct proc_self {
	int64_t virtual_bytes;
	int64_t open_fds;
	int64_t max_fds; /* the soft limit */
	int64_t threads;
};
/* Before Linux 6.2 it counts the descriptors one by one. */
void proc_self_take(struct proc_self *ret_self);

#endif
