/*
 * Reads what blocks, on a thread of its own: the memory of hosts (smaps_rollup takes up to
 * milliseconds for each) and the state of the machine.
 *
 * Thread: the event loop's for every function; the gauge's own thread is started by the first
 * reading and joined by gauge_free().
 */
#ifndef COMPARE_GAUGE_H
#define COMPARE_GAUGE_H

#include <stddef.h>
#include <sys/types.h>

#include "base/machine.h"
#include "server/loop.h"

#define GAUGE_PIDS_MAX 512

struct gauge;

struct gauge_reading {
	struct machine_sample machine;
	size_t count;		      /* of processes that were to be read */
	struct machine_memory memory; /* their sum; unknown if it is of any of them, or of none */
};

/* read() is called from the loop, once for each gauge_read() unless it was forgotten. 0 or -errno.
 */
int gauge_new(struct loop *loop, void (*read)(const struct gauge_reading *reading, void *data),
	      struct gauge **ret_gauge);
void gauge_free(struct gauge *gauge); /* NULL is allowed */

/* Asks for a reading. One that was asked for before and is not there yet is forgotten. data is given
 * back. 0, or -errno if the thread cannot be started. count at most GAUGE_PIDS_MAX. */
int gauge_read(struct gauge *gauge, const pid_t *pids, size_t count, void *data);
void gauge_forget(struct gauge *gauge);

#endif
