/*
 * The job: one request to run a task, its state, and what came of it.
 *
 * Invariants
 * 1. Every change of state goes through job_transition(), which refuses what the state × event
 * table does not allow. An ended state never changes.
 * 2. A job is on the event loop only: no lock, no other thread ever sees it.
 * 3. Names (task, pool) are borrowed from the server, which outlives every job; the registry that
 * the task was found in may not.
 */
#ifndef JOB_JOB_H
#define JOB_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/heap.h"
#include "base/id.h"
#include "base/list.h"
#include "base/table.h"
#include "job/metering.h"
#include "job/output.h"

enum job_state {
	JOB_SCHEDULED, /* waits for its time: a delay, or the pause before a retry */
	JOB_QUEUED,
	JOB_RUNNING,
	JOB_STOPPING, /* running, and asked to stop */
	JOB_SUCCEEDED,
	JOB_FAILED,
	JOB_TIMED_OUT,
	JOB_CANCELLED,
	JOB_CRASHED,
	JOB_EXPIRED /* waited too long in the queue */
};
#define JOB_STATES 10

/* What can happen to a job. */
enum job_event {
	JOB_EVENT_DUE,	    /* its time has come */
	JOB_EVENT_START,    /* handed to a worker */
	JOB_EVENT_REQUEUE,  /* its host went before the worker had begun */
	JOB_EVENT_STOP,	    /* asked to stop: job->stop_reason says why */
	JOB_EVENT_RETRY,    /* the attempt has ended badly and there is to be another */
	JOB_EVENT_SUCCEED,  /* the task answered a result */
	JOB_EVENT_FAIL,	    /* the task answered a failure, or broke a limit of space */
	JOB_EVENT_TIME_OUT, /* it has ended, after its wall or CPU time had run out */
	JOB_EVENT_CANCEL,   /* it has ended, because somebody cancelled it */
	JOB_EVENT_CRASH,    /* its host died under it */
	JOB_EVENT_EXPIRE    /* its time in the queue has run out */
};
#define JOB_EVENTS 11

/* Why an attempt did not succeed: the `code` of its error. */
enum job_cause {
	CAUSE_NONE,
	CAUSE_TASK_ERROR,   /* the task said so */
	CAUSE_WALL_LIMIT,   /* timeout_ms */
	CAUSE_CPU_LIMIT,    /* limits.cpu_ms */
	CAUSE_MEMORY_LIMIT, /* limits.memory_bytes */
	CAUSE_OUTPUT_LIMIT, /* the result, or what it wrote, was larger than allowed */
	CAUSE_SIGNAL,	    /* its own run ended the host by a signal */
	CAUSE_EXIT_STATUS,  /* its own run ended the host by exit() */
	CAUSE_HOST_LOST,    /* the host went for a reason that was not this job's */
	CAUSE_CANCELLED,
	CAUSE_QUEUE_TTL /* queue_ttl_ms */
};
#define JOB_CAUSES 11

/* Why a job was asked to stop. */
enum stop_reason {
	STOP_NONE,
	STOP_CANCELLED,
	STOP_TIMED_OUT,
	STOP_CPU,
	STOP_OUTPUT,
	STOP_SHUTDOWN
};

#define JOB_PRIORITY_MIN (-10)
#define JOB_PRIORITY_MAX 10
#define JOB_PRIORITIES	 (JOB_PRIORITY_MAX - JOB_PRIORITY_MIN + 1)

/* Whether and when a job is tried again. */
struct job_retry {
	uint32_t causes;    /* bits of 1 << enum job_cause after which it is */
	int64_t backoff_ms; /* before the second attempt at most this, doubling for each further one
			       … */
	int64_t backoff_max_ms; /* … up to this; the pause is drawn evenly from 0 to that ("full
				   jitter") */
};

struct job_error {
	enum job_cause cause;
	char *message;	  /* owned; NULL if there is no error */
	int signal;	  /* of the host's death; 0 if none */
	int exit_status;  /* -1 if none */
	int64_t limit_ms; /* wall_limit, cpu_limit, queue_ttl; 0 if none */
	int64_t seen_ms;
	int64_t limit_bytes; /* memory_limit, output_limit; 0 if none */
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

/* How far the attempt said it was. */
struct job_progress {
	bool known;
	uint32_t version; /* grows with each change, over all attempts */
	int64_t done;
	int64_t total; /* 0 = unknown */
	char *message; /* owned; not ended by a NUL, and perhaps not UTF-8; NULL = none */
	size_t message_length;
};

/* A state that the job came into, and its attempt then. */
struct job_passage {
	enum job_state state;
	uint32_t attempt;
};

/* How many of them are remembered. */
#define JOB_PASSAGES 8

/* An attempt that was followed by another. */
struct job_attempt {
	enum job_state state;	/* in which it would have ended */
	struct job_error error; /* owned */
	struct metering metering;
	struct job_worker worker;
	int64_t queued_ns; /* monotonic */
	int64_t dispatched_ns;
	int64_t finished_ns;
	uint64_t stdout_bytes; /* that it wrote; they are not kept */
	uint64_t stderr_bytes;
};

/* Whose the next attempt is. Only of jobs that are in the store (stored). */
enum job_claim {
	CLAIM_NONE,
	CLAIM_ASKED, /* the store is to say that it is this service's */
	CLAIM_HELD   /* it is, whatever happens to the service: the attempt may run */
};

struct waiter;
struct batch;
struct cap;

struct job {
	struct table_node by_id;   /* by_id.id is the job's id */
	struct list in_order;	   /* of submission; the store's */
	struct list in_queue;	   /* a level of the pool's queue, a cap's parked ones, or none */
	struct list waiting;	   /* while queued: the pool's list of all that are, oldest first */
	struct list ended;	   /* the store's list of ended ones, oldest first */
	struct list waiters;	   /* who waits for its end; the server's */
	struct list watchers;	   /* who is told of each change; the server's */
	struct heap_node deadline; /* of its state: due, queue_ttl, time-out or CPU look, grace; the
				      server's */

	uint64_t seq; /* by which hosts know it; never used twice in a server's life */
	enum job_state state;
	struct job_passage passages[JOB_PASSAGES]; /* number n is in place n % JOB_PASSAGES */
	uint32_t passage_count;			   /* of all, from 0 */
	enum stop_reason stop_reason;
	uint32_t task_index;
	const char *task; /* borrowed: the server's names */
	const char *pool; /* borrowed: the server's pool */
	uint32_t pool_index;
	uint32_t attempt;    /* from 1 once started; 0 before */
	uint32_t cell;	     /* of the host's scoreboard, while running */
	void *host;	     /* the server's struct host, while running; NULL otherwise */
	struct batch *batch; /* NULL if it is not part of one */
	void *lab; /* the server's struct lab whose job it is, which no store has; NULL otherwise */
	struct cap **caps; /* concurrency caps that it counts against; owned array, the server's
				caps; NULL if none */
	uint32_t cap_count;
	struct cap *called;	 /* of the caps, the one that called it back to the queue; NULL if
				    none did */
	struct list in_called;	 /* the called ones of that cap */
	uint32_t queue_position; /* from 1; 0: not known. Brought up to date by server_find_job() */

	char *args; /* encoded; owned; freed when it has ended */
	size_t args_length;
	char *labels; /* encoded object; owned; NULL if it has none */
	size_t labels_length;
	int priority;
	int64_t timeout_ms; /* this and the next ones: 0 = none */
	int64_t queue_ttl_ms;
	int64_t cpu_ms;
	int64_t memory_bytes;
	bool stop_on_output; /* stopped when a stream passes its capacity */
	bool cancel_on_disconnect;
	bool is_cancelled; /* somebody asked for its end: there is to be no other attempt */
	uint32_t max_attempts;
	uint32_t lost_starts; /* how often its host went before it had begun */
	uint32_t crashes;     /* attempts that ended by a crash that may be its own */
	struct job_retry retry;
	struct job_attempt *previous; /* owned; attempt - 1 of them at most */
	uint32_t previous_count;
	/* Attempts before this service took the job up from the store: how many, and their elements
	 * of "previous_attempts", encoded, with commas between; owned; NULL if there are none. */
	uint32_t earlier_count;
	char *earlier;
	size_t earlier_length;

	bool stored;	/* it has a row in the store that is not only history */
	bool durable;	/* and the store keeps it across a restart */
	bool set_aside; /* it waits in the store for the next start of a service */
	enum job_claim claim;
	uint32_t unsaved; /* how many changes are on their way to the store: until then it stays */
	char *callback;	  /* URL that is told of its end; owned; NULL */
	bool has_batch;	  /* batch_id and batch_index are known: of a job taken up from the store
			     `batch` is NULL even so */
	struct id batch_id;
	uint32_t batch_index;

	int64_t submitted_ns; /* monotonic, as all *_ns but the next */
	int64_t submitted_real_ns;
	int64_t due_ns;	       /* scheduled: when it will be queued */
	int64_t queued_ns;     /* queued (of this attempt) */
	int64_t dispatched_ns; /* handed to the host */
	int64_t stop_asked_ns;
	int64_t cpu_seen_ns; /* CPU time as of the look that stopped it; 0 before */
	int64_t finished_ns; /* seen ended by the server */
	struct metering metering;
	struct job_worker worker;

	char *result; /* encoded; owned; NULL = null */
	size_t result_length;
	struct job_error error;
	struct job_progress progress;
	struct output stdout_output; /* of attempt job_output_attempt(), as progress is */
	struct output stderr_output;
};

/* A scheduled job without arguments, on no list; NULL if memory is short. */
struct job *job_new(void);

/* Frees the job and what it owns; it must be on no list. NULL is allowed. */
void job_free(struct job *job);

/* Makes the transition of the table: 0, or -EPROTO and nothing changed when the state does not
 * allow the event. */
int job_transition(struct job *job, enum job_event event);

/* Gives a new job its first state. */
void job_begin(struct job *job, enum job_state state);

/* The state that the table gives, or -1. */
int job_next_state(enum job_state state, enum job_event event);

bool job_state_is_ended(enum job_state state);

/* Whether the job has ended, and can be told to have: an end that the store is to keep is told only
 * when it has it, so that nobody is told of an end that is not so after a restart. */
bool job_is_settled(const struct job *job);
const char *job_state_name(enum job_state state); /* "queued" … */
bool job_state_parse(const char *name, enum job_state *ret_state);
const char *job_event_name(enum job_event event);
const char *job_cause_name(enum job_cause cause);
bool job_cause_parse(const char *name, enum job_cause *ret_cause);

/*
 * Puts the attempt that has just ended badly among the previous ones and makes the job as it was
 * before it; `state` is the one in which it would have ended. 0, or -ENOMEM and nothing changed.
 */
int job_keep_attempt(struct job *job, enum job_state state);

/* The number of the attempt whose output and progress the job holds. */
uint32_t job_output_attempt(const struct job *job);

/* Appends the elements of "previous_attempts", with commas between: what a later service needs to
 * tell of them. */
void job_write_earlier(const struct job *job, struct buffer *buffer);

/* Fills job->error; message is formatted and owned by the job. */
void job_set_error(struct job *job, enum job_cause cause, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Keeps what the attempt says of its progress; the text is copied, and left out if memory is short.
 * */
void job_set_progress(struct job *job, int64_t done, int64_t total, const char *message,
		      size_t length);

/* Bytes of memory that the job holds, itself included. */
size_t job_memory(const struct job *job);

/* The whole document of a job, as GET /jobs/{id} answers it. now_ns: monotonic, for the times of
 * one that has not ended. */
void job_write_json(const struct job *job, int64_t now_ns, struct json_writer *writer,
		    const char *key);

/* Only the member "progress" of it: null if it has said nothing. */
void job_write_progress(const struct job *job, struct json_writer *writer, const char *key);

/* Only the member "error" of it: null if there is none. */
void job_write_error(const struct job *job, struct json_writer *writer, const char *key);

#endif
