/*
 * A submission: what somebody asks for, parsed and checked as far as it can be without knowing the
 * tasks and pools.
 *
 *	{"task", "args", "pool", "priority", "delay_ms", "queue_ttl_ms", "timeout_ms", "max_attempts",
 *	 "retry": {"on": [causes], "backoff_ms", "backoff_max_ms"},
 *	 "limits": {"cpu_ms", "memory_bytes", "output_bytes", "on_output": "truncate" | "stop"},
 *	 "cancel_on_disconnect", "labels", "callback_url"}
 *
 * Only "task" is required, anything else is refused by name. A batch takes the same with "args" as
 * a list, one job an element.
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
#include "job/job.h"

#define SUBMISSION_LABELS_MAX	   32
#define SUBMISSION_LABEL_KEY_MAX   63  /* bytes */
#define SUBMISSION_LABEL_VALUE_MAX 255 /* bytes */

#define SUBMISSION_CALLBACK_MAX 2048 /* bytes */

#define SUBMISSION_UNSET (-1) /* not asked for: the task's or the pool's default holds */

struct submission {
	json_t *document; /* owned; everything below points into it */
	const char *task;
	json_t *args;	      /* job: any value, NULL if absent; batch: the list */
	const char *pool;     /* NULL: the default pool */
	int64_t priority;     /* JOB_PRIORITY_MIN to JOB_PRIORITY_MAX; 0 unless asked for */
	int64_t delay_ms;     /* 0: at once */
	int64_t queue_ttl_ms; /* this and the next ones: SUBMISSION_UNSET if not asked for */
	int64_t timeout_ms;
	int64_t cpu_ms;
	int64_t memory_bytes;
	int64_t output_bytes;
	bool stop_on_output;  /* a job that writes more than output_bytes is stopped */
	int64_t max_attempts; /* 1 unless asked for */
	struct job_retry retry;
	bool cancel_on_disconnect;
	json_t *labels;		  /* object of strings; NULL if absent */
	const char *callback_url; /* NULL if absent; permission is not checked yet */
};

/* Parses a job or, with is_batch, a batch. On failure ERROR_SYNTAX or ERROR_INVALID and nothing to
 * release. */
int submission_parse(const char *body, size_t length, bool is_batch,
		     struct submission *ret_submission, struct error *error);
void submission_release(struct submission *submission);

#endif
