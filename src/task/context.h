/*
 * What stands behind a struct tp_context: the run of one job, as the host sees it. The host fills
 * it, a task reaches it only through twinpool/task.h. All of it lives on the worker's stack for the
 * time of one run.
 */
#ifndef TASK_CONTEXT_H
#define TASK_CONTEXT_H

#include <stdatomic.h>

#include "task/registry.h"
#include "twinpool/task.h"

struct tp_context {
	const struct task *task;
	const char *pool; /* name; borrowed */
	unsigned int attempt;
	int64_t deadline_ns; /* monotonic; 0 = none */
	bool is_process;
	void *shared; /* TP_SHARED_BYTES, of the pool */

	/* Set to non-zero by the server, in memory shared with it, and woken as a futex (FUTEX_WAKE
	 * without FUTEX_PRIVATE_FLAG). */
	const _Atomic uint32_t *stop;

	/* Carries output away; 0 or -errno. */
	int (*write)(struct tp_context *ctx, enum tp_stream stream, const void *data,
		     size_t length);
	void *host_data; /* the host's, for write() */

	json_t *result;	    /* owned; NULL = null */
	bool stopped;	    /* tp_stopped() was called */
	char failure[1024]; /* of tp_fail(); "" if it was not called */
};

/* Drops what the context owns. */
void context_release(struct tp_context *ctx);

#endif
