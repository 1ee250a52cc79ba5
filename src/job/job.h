/*
 * The job: one request to run a task, its state, and what came of it.
 *
 * Invariants
 * 1. Every change of state goes through job_transition(), which refuses what the state × event
 * table does not allow. An ended state never changes.
 * 2. A job is on the event loop only: no lock, no other thread ever sees it.
 * 3. Names (task, pool) are borrowed from the registry and the configuration, which outlive every
 * job.
 */
#ifndef JOB_JOB_H
#define JOB_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/id.h"
#include "base/list.h"
#include "base/table.h"
#include "job/metering.h"
#include "job/output.h"

enum job_state {
	JOB_QUEUED,
	JOB_RUNNING,
	JOB_STOPPING, /* running, and asked to stop */
	JOB_SUCCEEDED,
	JOB_FAILED,
	JOB_TIMED_OUT,
	JOB_CANCELLED,
	JOB_CRASHED
};
#define JOB_STATES 8

/* What can happen to a job. */
enum job_event {
	JOB_EVENT_START,    /* handed to a worker */
	JOB_EVENT_REQUEUE,  /* its host went before the worker had begun */
	JOB_EVENT_STOP,	    /* asked to stop: job->stop_reason says why */
	JOB_EVENT_SUCCEED,  /* the task answered a result */
	JOB_EVENT_FAIL,	    /* the task answered a failure */
	JOB_EVENT_TIME_OUT, /* it has ended, after its time had run out */
	JOB_EVENT_CANCEL,   /* it has ended, because somebody cancelled it */
	JOB_EVENT_CRASH	    /* its host died under it */
};
#define JOB_EVENTS 8

/* Why an ended job did not succeed: the `code` of its error. */
enum job_cause {
	CAUSE_NONE,
	CAUSE_TASK_ERROR,   /* the task said so */
	CAUSE_WALL_LIMIT,   /* timeout_ms */
	CAUSE_OUTPUT_LIMIT, /* the result was larger than the pool allows */
	CAUSE_SIGNAL,	    /* its own run ended the host by a signal */
	CAUSE_EXIT_STATUS,  /* its own run ended the host by exit() */
	CAUSE_HOST_LOST,    /* the host went for a reason that was not this job's */
	CAUSE_CANCELLED
};

/* Why a job was asked to stop. */
enum stop_reason { STOP_NONE, STOP_CANCELLED, STOP_TIMED_OUT, STOP_SHUTDOWN };

struct job_error {
	enum job_cause cause;
	char *message;	     /* owned; NULL if there is no error */
	int signal;	     /* of the host's death; 0 if none */
	int exit_status;     /* -1 if none */
	int64_t limit_ms;    /* wall_limit; 0 if none */
	int64_t limit_bytes; /* output_limit; 0 if none */
	int64_t seen_bytes;
	bool has_culprit; /* host_lost: the job that took the host down is known */
	struct id culprit;
};

/* Who ran it. */
struct job_worker {
	int32_t pid; /* 0 until known */
	int32_t tid;
	uint32_t host;	      /* slot within the pool */
	uint32_t thread;      /* worker within the host */
	uint64_t generation;  /* of the host */
	uint64_t jobs_before; /* that this worker had finished before this one */
};

struct waiter;
struct batch;

struct job {
	struct table_node by_id;   /* by_id.id is the job's id */
	struct list in_order;	   /* of submission; the store's */
	struct list in_queue;	   /* pool's queue, or host's jobs in flight, or none */
	struct list ended;	   /* the store's list of ended ones, oldest first */
	struct list waiters;	   /* who waits for its end; the server's */
	struct heap_node deadline; /* time-out, or grace; the server's */

	uint64_t seq; /* by which hosts know it; never used twice in a server's life */
	enum job_state state;
	enum stop_reason stop_reason;
	uint32_t task_index;
	const char *task; /* borrowed: registry */
	const char *pool; /* borrowed: configuration */
	uint32_t pool_index;
	uint32_t attempt;    /* from 1 once started; 0 before */
	uint32_t cell;	     /* of the host's scoreboard, while running */
	void *host;	     /* the server's struct host, while running; NULL otherwise */
	struct batch *batch; /* NULL if it is not part of one */

	char *args; /* encoded; owned; freed when it has ended */
	size_t args_length;
	char *labels; /* encoded object; owned; NULL if it has none */
	size_t labels_length;
	int64_t timeout_ms; /* 0 = none */

	int64_t submitted_ns; /* monotonic, as all *_ns but the next */
	int64_t submitted_real_ns;
	int64_t dispatched_ns; /* handed to the host */
	int64_t stop_asked_ns;
	int64_t finished_ns; /* seen ended by the server */
	struct metering metering;
	struct job_worker worker;

	char *result; /* encoded; owned; NULL = null */
	size_t result_length;
	struct job_error error;
	struct output stdout_output;
	struct output stderr_output;
};

/* A queued job without arguments, on no list; NULL if memory is short. */
struct job *job_new(void);

/* Frees the job and what it owns; it must be on no list. NULL is allowed. */
void job_free(struct job *job);

/* Makes the transition of the table: 0, or -EPROTO and nothing changed when the state does not
 * allow the event. */
int job_transition(struct job *job, enum job_event event);

/* The state that the table gives, or -1. */
int job_next_state(enum job_state state, enum job_event event);

bool job_state_is_ended(enum job_state state);
const char *job_state_name(enum job_state state); /* "queued" … */
bool job_state_parse(const char *name, enum job_state *ret_state);
const char *job_event_name(enum job_event event);
const char *job_cause_name(enum job_cause cause);

/* Fills job->error; message is formatted and owned by the job. */
void job_set_error(struct job *job, enum job_cause cause, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Bytes of memory that the job holds, itself included. */
size_t job_memory(const struct job *job);

/* The whole document of a job, as GET /jobs/{id} answers it. now_ns: monotonic, for the times of
 * one that has not ended. */
void job_write_json(const struct job *job, int64_t now_ns, struct json_writer *writer,
		    const char *key);

/* Only the member "error" of it: null if there is none. */
void job_write_error(const struct job *job, struct json_writer *writer, const char *key);

#endif
