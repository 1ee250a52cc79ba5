/*
 * The queue of a pool: priorities that age, and caps on how many jobs of a kind run at once.
 *
 * A job that waits `aging` counts as much as one that came now with a priority of one more. Since
 * all jobs age alike, the order of two of them never changes: it is that of queued_ns - priority ×
 * aging. Jobs of one priority are in the order of their coming, so the next job is the least of the
 * heads of as many lists as there are priorities: O(1), however many wait.
 *
 * A cap limits how many jobs that share something run at once: a task, over all pools; or the value
 * of a label, in one pool. A job whose turn has come while one of its caps is full is parked on
 * that cap, out of everybody's way, and comes back to its old place when a job of that cap ends.
 *
 * Event loop only.
 */
#ifndef SERVER_QUEUE_H
#define SERVER_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "config/config.h"
#include "job/job.h"

struct caps;

struct queue {
	struct list levels
		[JOB_PRIORITIES]; /* by in_queue, oldest first; [0] has the highest priority */
	struct list waiting;	  /* all of them, parked ones too, by `waiting`, oldest first */
	size_t length;		  /* parked ones included */
	uint64_t bytes;		  /* of their arguments */
	int64_t aging_ns;
};

void queue_init(struct queue *queue, int64_t aging_ms);

/* Puts the job in by its priority and its queued_ns: behind its like if it is new, at its old place
 * if it comes back. */
void queue_put(struct queue *queue, struct job *job);

/* Takes the job out, because it is not to run. */
void queue_remove(struct queue *queue, struct job *job, const struct caps *caps);

/* Takes out the job whose turn it is, of those with at least this priority whose caps allow it;
 * counts it as running by its caps. NULL if there is none. */
struct job *queue_take(struct queue *queue, int least_priority, const struct caps *caps);

/* The job whose turn it would be, whatever its priority and its caps; NULL if all are parked. */
const struct job *queue_next(const struct queue *queue);

/* The oldest job; NULL if there is none. */
struct job *queue_oldest(const struct queue *queue);

/* How many jobs are to go before it, and one: parked ones are not counted. 0 if that would mean to
 * look at more than QUEUE_POSITION_SCAN. */
#define QUEUE_POSITION_SCAN 10000
uint32_t queue_position(const struct queue *queue, const struct job *job);

/* --- caps ------------------------------------------------------------------------------------- */

/*
 * A parked job has had its turn. When a cap has room, it calls as many of each pool's parked jobs
 * of each priority back as there is room, and the pool takes them when their turn has come again. A
 * job that was called and then does not run after all (another cap is full, it is cancelled) passes
 * its chance on; when the room is used up, those that were called are parked again. So room is
 * never left unused while somebody is parked for it, one pool never waits for another, and jobs go
 * in the order of the queue.
 *
 * Invariants, of each cap, pool and priority
 * 1. Nobody is parked, or at least as many are called as the cap has room.
 * 2. Nobody is called while the cap is full. So jobs are parked only while none is called, and those
 * that are called are the first.
 */
struct parked {
	struct list levels[JOB_PRIORITIES]; /* as in struct queue */
	unsigned int called_of[JOB_PRIORITIES];
	struct list called; /* those that are back in the queue, by in_called */
};

struct cap {
	char *key; /* "(task):NAME" or "POOL:LABEL=VALUE"; owned */
	unsigned int limit;
	unsigned int running;
	unsigned int holders;			 /* jobs, ended ones not, that count against it */
	struct parked *parked[CONFIG_POOLS_MAX]; /* owned; NULL for a pool that never held it */
};

struct caps {
	void *root; /* all caps that somebody holds, by key: a tree of tsearch(3) */
	/* Answers the queue of a pool, which is about to get a job back: the pool is to be
	 * dispatched soon. */
	struct queue *(*wake)(void *data, uint32_t pool_index);
	void *data;
};

/* The cap of that key for one more holder in that pool, made if there is none; its limit is now
 * this one. NULL if memory is short. */
struct cap *caps_hold(struct caps *caps, const char *key, unsigned int limit, uint32_t pool_index);

/* Gives back the caps of a job that has ended or is not to be, and takes it off them if it is
 * parked; job->caps is NULL afterwards. It must not be running by them. */
void caps_release(struct caps *caps, struct job *job);

/* The job, which was taken, does not run any more: each cap of it has one less running. */
void caps_leave(const struct caps *caps, const struct job *job);

#endif
