/*
 * Metering one run on one worker.
 *
 * A worker that is a process of its own: the kernel's high-water mark of the resident set is reset
 * by writing "5" to /proc/self/clear_refs (proc(5)) and read back as getrusage(2)'s ru_maxrss,
 * which for a process that was forked and never called exec is that same mark (the kernel's
 * signal->maxrss, which only exec and exit raise, is 0 in it). The same two calls of getrusage give
 * CPU time, faults and switches. The kernel keeps resident-set counters per CPU and adds them up in
 * batches, so a peak that was freed before the end can read up to about 256 kB low.
 *
 * A worker that is one thread of several: the kernel accounts no memory to a thread, so the figure
 * is what the thread held on the heap at its highest (jemalloc's thread.peak), and the host's
 * resident set is reported as the host's. Memory that another thread frees is not seen as freed,
 * and a peak below about 64 kB may read as 0, since jemalloc counts in batches. RUSAGE_THREAD gives
 * the rest.
 *
 * The split between user and system time is sampled by the kernel at its tick where it does not
 * account precisely; their sum is exact to microseconds.
 *
 * Thread: a meter belongs to one worker.
 */
#ifndef HOST_METER_H
#define HOST_METER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "job/metering.h"

struct meter {
	bool is_process;
	int clear_refs_fd; /* -1 where the kernel refuses it: then there is no peak */
	int statm_fd;	   /* -1 likewise; of hosts with several workers */
	struct rusage before;
	int64_t started_ns;
};

/* Opens what it needs; must be called in the host itself, after the fork. Never fails: what cannot
 * be had will read as unknown. */
void meter_open(struct meter *meter, bool is_process);
void meter_close(struct meter *meter);

/* Around the run, on the worker's thread. The clock is read last before and first after it. */
void meter_begin(struct meter *meter);
void meter_end(struct meter *meter, struct metering *ret_metering);

/* Gives memory that a large run has left in the allocator's caches back to the kernel, so that the
 * next run's figures start from what is really in use. */
void meter_settle(const struct metering *metering);

/* Whether heap peaks can be had at all (built with jemalloc). */
bool meter_has_heap(void);

#endif
