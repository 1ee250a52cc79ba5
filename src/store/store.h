/*
 * Where jobs and batches are kept: in memory, for as long as this server lives, and no longer than
 * the retention says.
 *
 * The store owns every job and batch from store_add_*() on. Live ones stay; ended ones are
 * forgotten, oldest first, when there are more than keep_jobs of them, when they hold more than
 * keep_bytes, or keep_ms after their end. The jobs of a batch are forgotten with it; the newest
 * batch stays, whatever it holds, until it is too old. Event loop only.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/table.h"
#include "config/config.h"
#include "job/batch.h"
#include "job/job.h"

struct store {
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

void store_init(struct store *store, const struct config *config);

/* Takes over the retention of another configuration. */
void store_configure(struct store *store, const struct config *config);

/* Frees all. */
void store_release(struct store *store);

/* Takes the job: 0, or -errno and it stays the caller's. */
int store_add_job(struct store *store, struct job *job);
/* Takes the batch, and its jobs, which are then in the store as well. */
int store_add_batch(struct store *store, struct batch *batch);

struct job *store_find_job(const struct store *store, const struct id *id);
struct batch *store_find_batch(const struct store *store, const struct id *id);

/* To be called once for a job that has ended. last_of_batch: it was the last of its batch. */
void store_job_ended(struct store *store, struct job *job, bool last_of_batch);

/* Forgets what the retention no longer covers, but nothing that somebody waits for. */
void store_sweep(struct store *store, int64_t now_ns);

/* Walking by age, newest first: the job just older than `id` (the newest if id is NULL); NULL at
 * the end. If no job has that id any more, its place is looked for from the oldest end, where those
 * that were forgotten had been. */
struct job *store_older(const struct store *store, const struct id *id);
/* The next older one of a job that is in the store. */
struct job *store_next_older(const struct store *store, const struct job *job);

#endif
