/*
 * What stands behind a struct tp_context: the run of one job, as the host sees it. The host fills
 * it, a task reaches it only through twinpool/task.h. All of it lives on the worker's stack for the
 * time of one run.
 */
#ifndef TASK_CONTEXT_H
#define TASK_CONTEXT_H

#include <stdatomic.h>

#include "task/registry.h"
#include "task/shared.h"
#include "twinpool/task.h"

/* A piece of memory from tp_alloc(); what is given out is behind it. */
struct tp_memory {
	_Alignas(max_align_t) struct tp_memory *next;
};

/* What processes that worked for a task have used; added to what the worker has. */
struct context_children {
	bool any; /* there were some, and the memory of the job is theirs */
	int64_t cpu_user_ns;
	int64_t cpu_system_ns;
	int64_t minor_faults;
	int64_t major_faults;
	int64_t voluntary_switches;
	int64_t involuntary_switches;
	int64_t peak_bytes; /* as of source: of the largest, or of all together; -1: not known */
	uint32_t source;    /* enum memory_source */
};

struct tp_context {
	const struct task *task;
	const char *pool; /* name; borrowed */
	unsigned int attempt;
	int64_t deadline_ns; /* monotonic; 0 = none */
	bool is_process;
	struct shared *shared;	  /* of the pool */
	uint64_t locks;		  /* of shared blocks that the run holds, a bit for each */
	struct tp_memory *memory; /* owned */

	/* Set to non-zero by the server, in memory shared with it, and woken as a futex (FUTEX_WAKE
	 * without FUTEX_PRIVATE_FLAG). */
	const _Atomic uint32_t *stop;

	/* Carries output away; 0 or -errno. */
	int (*write)(struct tp_context *ctx, enum tp_stream stream, const void *data,
		     size_t length);

	/* Carries progress away; 0 or -errno. NULL: nobody wants it. */
	int (*send_progress)(struct tp_context *ctx, int64_t done, int64_t total,
			     const char *message, size_t length);
	void *host_data; /* the host's, for write() and send_progress() */

	/* What tp_progress() was told last, if it has not been sent. */
	struct context_progress {
		bool pending;
		int64_t due_ns; /* monotonic: when the next would be sent at an even rate */
		int64_t done;
		int64_t total;
		size_t length; /* of progress_message; 0 = none */
	} progress;

	/* For a task that has other processes work for it (a command): what it must hold them to,
	 * and what it tells of them. */
	int64_t memory_limit;	      /* bytes; 0 = none */
	int64_t stop_grace_ns;	      /* from the request to stop to the end of the host */
	uint64_t result_limit;	      /* bytes of the encoded result; 0 = none */
	_Atomic int64_t *cpu_start;   /* the worker's CPU clock at the start, if the job has a CPU
					 limit; else NULL. Lowered by what others use, that counts */
	_Atomic int64_t *memory_seen; /* bytes held when the memory limit was passed; or NULL */
	struct context_children children;

	json_t *result;	    /* owned; NULL = null */
	bool stopped;	    /* tp_stopped() was called */
	char failure[1024]; /* of tp_fail(); "" if it was not called */
	char progress_message[TP_PROGRESS_MESSAGE_MAX];
};

/* Progress is sent at this rate; so many may come together before that. */
#define CONTEXT_PROGRESS_NS    (50 * 1000000LL)
#define CONTEXT_PROGRESS_BURST 4

/* Sends what tp_progress() has held back: 0 or -errno. */
int context_flush_progress(struct tp_context *ctx);

/* Drops what the context owns, and the locks it holds. */
void context_release(struct tp_context *ctx);

/*
 * Where tp_log() sends its lines, length bytes of text that need not be UTF-8; ctx is NULL outside
 * of a job. Until this is set, or after NULL, they are dropped. Call it while there is one thread.
 */
typedef void context_log_fn(const struct tp_context *ctx, enum tp_log_level level, const char *text,
			    size_t length);
void context_set_log(context_log_fn *sink);

#endif
