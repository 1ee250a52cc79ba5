/*
 * A submission: what somebody asks for, parsed and checked as far as it can be without knowing the
 * tasks and pools.
 *
 * {"task", "args", "pool", "timeout_ms", "labels"}; only "task" is required, anything else is
 * refused by name. A batch takes the same with "args" as a list, one job an element.
 *
 * Thread: event loop only (jansson trees).
 */
#ifndef JOB_SUBMISSION_H
#define JOB_SUBMISSION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define SUBMISSION_LABELS_MAX	   32
#define SUBMISSION_LABEL_KEY_MAX   63  /* bytes */
#define SUBMISSION_LABEL_VALUE_MAX 255 /* bytes */

struct submission {
	json_t *document; /* owned; everything below points into it */
	const char *task;
	json_t *args;	    /* job: any value, NULL if absent; batch: the list */
	const char *pool;   /* NULL: the default pool */
	int64_t timeout_ms; /* -1: the pool's default */
	json_t *labels;	    /* object of strings; NULL if absent */
};

/* Parses a job or, with is_batch, a batch. On failure ERROR_SYNTAX or ERROR_INVALID and nothing to
 * release. */
int submission_parse(const char *body, size_t length, bool is_batch,
		     struct submission *ret_submission, struct error *error);
void submission_release(struct submission *submission);

#endif
