/*
 * A batch: one task run over a list of arguments, one job an element (Python's Pool.map).
 * Invariants: a batch's jobs live as long as the batch. Event loop only.
 */
#ifndef JOB_BATCH_H
#define JOB_BATCH_H

#include "job/job.h"

struct batch {
	struct table_node by_id; /* by_id.id is the batch's id */
	struct list ended;	 /* the store's list of ended batches */
	struct list waiters;	 /* the server's */
	const char *task;	 /* borrowed */
	const char *pool;	 /* borrowed */
	size_t count;
	size_t ended_count;
	size_t by_state[JOB_STATES]; /* of the ended ones */
	struct job **jobs;	     /* count of them, in the order of args */
	int64_t submitted_ns;
	int64_t submitted_real_ns;
	int64_t finished_ns;   /* monotonic; 0 while it runs */
	int64_t run_ns;	       /* sum of the run times of the ended jobs */
	uint64_t memory_bytes; /* held by its ended jobs */
	uint32_t unsaved;      /* sum of its jobs' */
};

/* A batch with room for count jobs and none in it yet; NULL if memory is short. */
struct batch *batch_new(size_t count);

/* Frees the batch and its jobs, which must be on no list. NULL is allowed. */
void batch_free(struct batch *batch);

/* Counts a job of the batch that has just ended. True if it was the last. */
bool batch_job_ended(struct batch *batch, const struct job *job);

/* Whether all of its jobs have ended, and can be told to have (job_is_settled()). */
bool batch_is_settled(const struct batch *batch);

#endif
