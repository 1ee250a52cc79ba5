/*
 * The allocator's own account of one thread. With jemalloc (5.3: thread.peak.reset,
 * thread.peak.read; see jemalloc(3)); a build without it answers METERING_UNKNOWN. Thread: each
 * call speaks of the calling thread.
 */
#ifndef HOST_HEAP_H
#define HOST_HEAP_H

#include <stdbool.h>
#include <stdint.h>

/* Looks the names up once; before the first other call, on one thread. */
void heap_meter_init(void);
bool heap_meter_available(void);

/* The peak counts anew from what this thread holds now. */
void heap_meter_reset(void);
/* Bytes held at the highest since the reset, above what was held at it; or METERING_UNKNOWN. */
int64_t heap_meter_peak(void);

/* Returns unused pages of all arenas to the kernel. */
void heap_meter_purge(void);

#endif
