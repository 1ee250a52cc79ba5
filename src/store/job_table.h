/*
 * The jobs and batches that this server has at hand: all live ones, and those that ended of late,
 * no longer than the retention says. What outlives the server is in the store (store/store.h).
 *
 * It owns every job and batch from job_table_add_*() on. Live ones stay; ended ones are
 * forgotten, oldest first, when there are more than keep_jobs of them, when they hold more than
 * keep_bytes, or keep_ms after their end. The jobs of a batch are forgotten with it; the newest
 * batch stays, whatever it holds, until it is too old. Event loop only.
 */
#ifndef STORE_JOB_TABLE_H
#define STORE_JOB_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/table.h"
#include "config/config.h"
#include "job/batch.h"
#include "job/job.h"

struct job_table {
	struct table jobs;
	struct table batches;
	struct list in_order;	   /* all jobs, oldest submission first */
	struct list ended_jobs;	   /* those of no batch, by their end */
	struct list ended_batches; /* by their end */
	uint64_t kept_jobs;	   /* ended and not yet forgotten, those of batches included */
	uint64_t kept_bytes;
	uint64_t forgotten;
	uint64_t keep_jobs;
	uint64_t keep_bytes;
	int64_t keep_ns;
	/* Called before an ended job is forgotten; NULL is allowed. */
	void (*forgetting)(struct job *job);
};

void job_table_init(struct job_table *table, const struct config *config);

/* Takes over the retention of another configuration. */
void job_table_configure(struct job_table *table, const struct config *config);

/* Frees all. */
void job_table_release(struct job_table *table);

/* Takes the job: 0, or -errno and it stays the caller's. */
int job_table_add_job(struct job_table *table, struct job *job);
/* Takes the batch, and its jobs, which are then in it as well. */
int job_table_add_batch(struct job_table *table, struct batch *batch);

struct job *job_table_find_job(const struct job_table *table, const struct id *id);
struct batch *job_table_find_batch(const struct job_table *table, const struct id *id);

/* To be called once for a job that has ended. last_of_batch: it was the last of its batch. */
void job_table_job_ended(struct job_table *table, struct job *job, bool last_of_batch);

/* Forgets what the retention no longer covers, but nothing that somebody waits for. */
void job_table_sweep(struct job_table *table, int64_t now_ns);

/* Walking by age, newest first: the job just older than `id` (the newest if id is NULL); NULL at
 * the end. If no job has that id any more, its place is looked for from the oldest end, where those
 * that were forgotten had been. */
struct job *job_table_older(const struct job_table *table, const struct id *id);
/* The next older one of a job that is in it. */
struct job *job_table_next_older(const struct job_table *table, const struct job *job);

#endif
