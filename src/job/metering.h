/*
 * What one run of a job cost, as its worker measured it. Plain numbers, so that they can travel
 * between processes. A number that could not be had is METERING_UNKNOWN, never a guess.
 */
#ifndef JOB_METERING_H
#define JOB_METERING_H

#include <stdint.h>

#define METERING_UNKNOWN (-1)

/* Whom the memory figures speak of. */
enum memory_scope {
	MEMORY_SCOPE_NONE,    /* there are none */
	MEMORY_SCOPE_PROCESS, /* the worker's process, whose only worker it is */
	MEMORY_SCOPE_THREAD,  /* the heap of the worker's thread */
	MEMORY_SCOPE_CHILDREN /* the processes that the job has started: all together (source cgroup),
				 or the largest of them */
};

/* Where peak and baseline come from. */
enum memory_source {
	MEMORY_SOURCE_NONE,
	MEMORY_SOURCE_VM_HWM, /* the kernel's high-water mark of the resident set, reset before the
				 run */
	MEMORY_SOURCE_JEMALLOC_PEAK, /* jemalloc's per-thread peak, reset before the run */
	MEMORY_SOURCE_WAIT4,	     /* the kernel's account of a process when it had ended */
	MEMORY_SOURCE_SAMPLED,	     /* its high-water mark, as it was read while it ran: what it
					rose by after the last look is missing */
	MEMORY_SOURCE_CGROUP_MEMORY_PEAK /* memory.peak of the cgroup that the processes were in */
};

struct metering {
	int64_t started_ns; /* monotonic */
	int64_t ended_ns;
	int64_t cpu_user_ns;
	int64_t cpu_system_ns;
	int64_t peak_bytes;	/* scope process and children: resident set at its highest during
				    the run; scope thread: heap held at its highest, above what was
				    held before */
	int64_t baseline_bytes; /* scope process: resident set just before the run; scope thread and
				    children: 0 */
	int64_t heap_peak_bytes; /* as scope thread's peak_bytes, on every pool */
	int64_t host_rss_bytes;	 /* resident set of the whole host after the run */
	int64_t minor_faults;
	int64_t major_faults;
	int64_t voluntary_switches;
	int64_t involuntary_switches;
	uint32_t scope;	 /* enum memory_scope */
	uint32_t source; /* enum memory_source */
};

/* All unknown. */
void metering_init(struct metering *metering);

/* Whether every number is one that a metering can hold, and its run has ended by now: for what
 * comes from a host. */
int metering_is_valid(const struct metering *metering);

/*
 * Whether the resident set grew past a memory limit, with room for what is nobody's doing: code
 * that is touched for the first time, and what the allocator keeps (an eighth of the limit and 4
 * MiB). Answers by how much it grew, 0 if it did not pass or cannot be told (scope thread).
 */
int64_t metering_memory_passed(const struct metering *metering, int64_t limit_bytes);

#endif
