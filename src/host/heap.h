/*
 * The allocator's own account of one thread, and a limit on it. With jemalloc (5.3: thread.peak.*,
 * thread.allocatedp, thread.deallocatedp; see jemalloc(3)); a build without it answers
 * METERING_UNKNOWN and has no limit. Thread: each call speaks of the calling thread.
 */
#ifndef HOST_HEAP_H
#define HOST_HEAP_H

#include <stdatomic.h>
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

/* Looks up what the limit needs; before the first other call, on one thread. */
void heap_limit_init(void);
/* Whether a thread can be limited at all; false before heap_limit_init(). */
bool heap_limit_available(void);

/*
 * From here to heap_limit_end(), malloc() and its kin refuse this thread what would have it hold
 * more than limit_bytes above what it holds now: they answer NULL with ENOMEM (operator new: its
 * handler, then bad_alloc), and what the thread would then have held is first stored to *seen. The
 * account is in the allocator's size classes and exact to the byte. 0 sets no limit.
 *
 * grown, which may be NULL, tells by how many bytes the process has grown since, and is asked when
 * the allocator itself has no memory to give: a growth past the limit is stored to *seen likewise.
 * It must not allocate.
 *
 * Held is what this thread has allocated less what it has freed, as in heap_meter_peak(). So what
 * another thread frees stays on the account until the end of the limit, and what this one frees of
 * another's makes room: the sum over all threads is right. realloc() that must move a block to
 * enlarge it holds both for the while, and is charged for both. jemalloc's own mallocx() and
 * rallocx(), and mmap(2), are not on the account.
 */
void heap_limit_begin(int64_t limit_bytes, int64_t (*grown)(void), _Atomic int64_t *seen);
void heap_limit_end(void);

#endif
