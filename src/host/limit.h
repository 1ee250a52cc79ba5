/*
 * The memory limit of one run on one worker.
 *
 * On any worker, by the allocator's account of its thread (host/heap.h): exact, and refused before
 * it is passed.
 *
 * On a worker that is a process of its own, besides, for memory that does not come from malloc():
 * RLIMIT_DATA for the while, which bounds all that the process maps to write to, its heap, mmap(2),
 * brk(2) and the stacks of threads; and, at the end of the run, by how much its resident set grew
 * at most. Both leave some room above the limit, since they also count what is not the job's: what
 * the allocator keeps in reserve, address space that is never touched, code that runs for the first
 * time. So a job is told to have passed its limit only if it did, but a job that maps memory itself
 * may hold that room.
 *
 * Whenever the limit was passed, the bytes that the job held or would have held are in the
 * scoreboard before anything else can be known of it.
 */
#ifndef HOST_LIMIT_H
#define HOST_LIMIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "job/metering.h"

struct limit {
	int64_t bytes;
	_Atomic int64_t *seen;
	bool has_data_limit;
	struct rlimit data_before;
};

/* Before meter_begin(), on the worker's thread. bytes 0: no limit, nothing done. statm_fd:
 * /proc/self/statm, open until the end, of a worker that is a process of its own; -1 of others. */
void limit_begin(struct limit *limit, int64_t bytes, int statm_fd, _Atomic int64_t *seen);

/* After meter_end(), before the host itself allocates on the thread. */
void limit_end(struct limit *limit, const struct metering *metering);

#endif
