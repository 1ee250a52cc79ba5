/*
 * The record of a job that lives: what the store keeps so that another service, or this one after a
 * restart, can run it. What the store has in columns of its own (id, task, pool, state, attempt,
 * priority, times, labels, callback) is not in it.
 *
 * A JSON object, read leniently: members that are not known are passed over, those that are not
 * there have the value that they have in a job without them, so records of other versions can be
 * read.
 *
 * Thread: event loop only.
 */
#ifndef JOB_RECORD_H
#define JOB_RECORD_H

#include "base/error.h"
#include "job/job.h"

/* The text, which the caller frees; NULL if memory is short. */
char *record_write(const struct job *job);

/* Fills a job that job_new() has made: arguments, limits, retry terms, and what there is to tell of
 * earlier attempts, whose number (earlier_count) is the caller's to set. 0, or ERROR_INVALID if it is
 * no record, and then what was read so far is in the job. */
int record_read(const char *text, struct job *job, struct error *error);

#endif
