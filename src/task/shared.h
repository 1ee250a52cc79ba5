/*
 * The memory that all hosts of a pool share: named blocks, each with a lock. Made by the master
 * before it forks hosts of the pool, and inherited by them. Behind tp_shared_block(), tp_lock() and
 * tp_unlock() of twinpool/task.h.
 *
 * Any job may die at any instant, or write anywhere into this memory. The first must harm nobody;
 * the second may give other jobs of the pool wrong values, but nothing that the service itself
 * relies on.
 */
#ifndef TASK_SHARED_H
#define TASK_SHARED_H

#include <stddef.h>

struct shared;
struct tp_context;

/* Maps the memory of one pool. 0 or -errno. */
int shared_create(struct shared **ret_shared);

/* NULL is allowed. */
void shared_free(struct shared *shared);

/* Bytes of the whole, for those who look at it from outside. */
size_t shared_size(void);

/* Releases what the run has locked and not unlocked: how many. */
unsigned int shared_unlock_all(struct tp_context *ctx);

#endif
