/*
 * The server behind HTTP: takes submissions, queues, dispatches, follows every job to its end,
 * keeps the ended ones, counts. Everything is on the event loop's thread, nothing here blocks, and
 * nothing here knows of HTTP.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/histogram.h"
#include "base/id.h"
#include "config/config.h"
#include "job/batch.h"
#include "job/job.h"
#include "job/submission.h"
#include "server/keep.h"
#include "server/loop.h"
#include "task/registry.h"

struct server;

/*
 * Makes the server; asks the master over channel (borrowed, non-blocking) for the hosts. config and
 * registry are borrowed and must outlive it. 0 or -errno.
 */
int server_new(struct loop *loop, const struct config *config, const struct registry *registry,
	       int channel, struct server **ret_server);
/* Frees all jobs, too. The waiters and watchers must be gone. */
void server_free(struct server *server);

const struct config *server_config(const struct server *server);
const struct registry *server_registry(const struct server *server);
struct loop *server_loop(const struct server *server);

/* --- jobs ------------------------------------------------------------------------------------- */

/*
 * Puts a new configuration and registry in force; both are borrowed from now on, and the old ones
 * are not needed any more when it returns. They must have passed config_reload_check(). Hosts are
 * replaced one by one, after their jobs; nothing is lost. Numbers that a PATCH had set give way to
 * those of the configuration.
 */
void server_reload(struct server *server, const struct config *config,
		   const struct registry *registry);

/*
 * The master asks for a reload: the owner loads, calls server_reload() and answers whether it did.
 * digest: of what is to be loaded. found: found_length bytes that the trial of the plug-ins has
 * found; taken, also on failure; NULL if there are no plug-ins.
 */
typedef bool server_reload_fn(void *data, uint64_t digest, char *found, size_t found_length);
void server_on_reload(struct server *server, server_reload_fn *reload, void *data);

/* NULL if there is none, or no longer. */
struct job *server_find_job(struct server *server, const struct id *id);

enum cancel_answer { CANCEL_DONE, CANCEL_STOPPING, CANCEL_HAD_ENDED };
/* DONE: it was queued and is cancelled now. STOPPING: it was asked to stop (or had been before). */
enum cancel_answer server_cancel(struct server *server, struct job *job);

/* --- waiting ---------------------------------------------------------------------------------- */

/*
 * Somebody who waits for a job or a batch to end. wake() is called exactly once: when it has ended,
 * or at the deadline, whichever is first; never from inside waiter_wait_*(). After it, or after
 * waiter_cancel(), the waiter is on no list. The job stays at least until wake() has returned.
 */
struct waiter {
	struct list node;
	struct loop_timer timer;
	struct server *server;
	void (*wake)(struct waiter *waiter, bool ended);
};

/* Precondition: it has not ended. 0 or -ENOMEM. */
int waiter_wait_job(struct server *server, struct waiter *waiter, struct job *job,
		    int64_t deadline_ns, void (*wake)(struct waiter *waiter, bool ended));
int waiter_wait_batch(struct server *server, struct waiter *waiter, struct batch *batch,
		      int64_t deadline_ns, void (*wake)(struct waiter *waiter, bool ended));
void waiter_cancel(struct waiter *waiter);

/* The same on any list of waiters, whose owner calls waiters_wake() at the end. */
int waiter_wait(struct server *server, struct waiter *waiter, struct list *waiters,
		int64_t deadline_ns, void (*wake)(struct waiter *waiter, bool ended));
void waiters_wake(struct list *waiters, bool ended);

/* --- batches ---------------------------------------------------------------------------------- */

struct batch *server_find_batch(struct server *server, const struct id *id);

/* --- pools ------------------------------------------------------------------------------------ */

/* What is to change of a pool that runs; -1: stays as it is. */
struct pool_patch {
	int hosts;     /* 1 to CONFIG_HOSTS_MAX: wanted from now on, and the fewest */
	int max_hosts; /* 1 to CONFIG_HOSTS_MAX; if it is -1 and hosts is not, it follows hosts where
			  they were equal, and is raised where it would be less */
	int spare_hosts; /* 0 to CONFIG_HOSTS_MAX */
	int paused;	 /* 0 or 1 */
};
#define POOL_PATCH_NONE ((struct pool_patch){-1, -1, -1, -1})

/* All of it, or nothing: ERROR_INVALID on a field that does not fit the others (max_hosts below
 * hosts, spare_hosts above max_hosts, too many workers in all), ERROR_NOT_FOUND without such a
 * pool. */
int server_patch_pool(struct server *server, const char *name, const struct pool_patch *patch,
		      struct error *error);

/* --- life ------------------------------------------------------------------------------------- */

/* Whether every pool has a worker that can take jobs, nothing that was configured is left out, and
 * we are not shutting down. On false, *ret_reason (a literal or text that lives until the next
 * call) says what is missing. */
bool server_is_ready(const struct server *server, const char **ret_reason);

/* The first and the last of these: jobs can be taken, of those tasks that there are. */
bool server_has_hosts(const struct server *server);

/* Whether any host at all answers: is up, and has begun what it was given so long ago. Of one that
 * runs jobs, or waits for them, no more can be told. Always while shutting down. */
bool server_hosts_answer(const struct server *server, int64_t within_ns);

bool server_is_stopping(const struct server *server);

/* Called once when server_has_hosts() becomes true for the first time, and each time that shutting
 * down begins or makes progress: the owner asks server_has_hosts() and server_is_drained(). */
void server_on_change(struct server *server, void (*changed)(void *data), void *data);

/* Shutting down, and every job has ended. */
bool server_is_drained(const struct server *server);

/* The master is gone: nothing can run any more. */
bool server_lost_master(const struct server *server);

/* --- numbers ---------------------------------------------------------------------------------- */

enum host_state { HOST_STARTING, HOST_UP, HOST_DRAINING, HOST_BACKOFF };
const char *host_state_name(enum host_state state);

/* Why hosts were started again, in the order of the counters. */
enum restart_reason {
	RESTART_SIGNAL,
	RESTART_EXIT,
	RESTART_STOPPED, /* by us: a job of it ignored its grace */
	RESTART_START_FAILED,
	RESTART_JOBS, /* this and the next ones: recycled, see struct config_recycle */
	RESTART_AGE,
	RESTART_IDLE,
	RESTART_RSS,
	RESTART_RESIZED, /* one less was wanted */
	RESTART_RELOADED /* the configuration is a new one */
};
#define RESTART_REASONS 10
const char *
restart_reason_name(enum restart_reason reason); /* "signal" "exit" "stopped_job" "start_failed" */

struct worker_snapshot {
	uint32_t host;
	uint32_t thread;
	int32_t pid;
	int32_t tid;
	uint64_t generation;
	const char *state; /* "idle" "busy" "stopping" "starting" "draining" "backoff" */
	bool has_job;
	struct id job;
	const char *task;
	int64_t busy_ns; /* how long that job has run */
	uint64_t jobs_done;
	int64_t rss_bytes; /* of its host; METERING_UNKNOWN if it cannot be read */
};

struct pool_snapshot {
	const struct config_pool *config;
	size_t workers_busy;
	size_t workers_idle;
	unsigned int hosts; /* wanted now: between config->hosts and config->max_hosts, unless a
			       PATCH said otherwise */
	unsigned int
		min_hosts; /* this and the next two: as of the configuration or the last PATCH */
	unsigned int max_hosts;
	unsigned int spare_hosts;
	bool paused;
	size_t scheduled;    /* jobs that wait for their time */
	uint64_t retries;    /* attempts that were followed by another */
	size_t workers_down; /* of hosts that are starting, draining or backing off */
	size_t queue_length;
	uint64_t queue_bytes;
	int64_t oldest_wait_ns; /* 0 if the queue is empty */
	uint64_t submitted;
	uint64_t rejected; /* because the queue was full */
	uint64_t ended[JOB_STATES];
	uint64_t causes[JOB_CAUSES]; /* of those that did not succeed */
	uint64_t restarts[RESTART_REASONS];
	char last_restart[160]; /* "" if there was none: "host 0 (pid 4711) was ended by SIGSEGV at
				   2026-…" */
	double rate_1s;		/* jobs ended a second */
	double rate_10s;
	double rate_60s;
	const struct histogram *queued; /* borrowed: valid until the loop turns */
	const struct histogram *run;
	const struct histogram *total;
	struct worker_snapshot *workers; /* owned by the snapshot */
	size_t worker_count;
};

struct server_snapshot {
	int64_t taken_real_ns;
	int64_t uptime_ns;
	int64_t started_real_ns;
	int32_t pid;
	int32_t master_pid;
	int64_t rss_bytes;
	int64_t cpu_user_ns;
	int64_t cpu_system_ns;
	uint64_t jobs_kept; /* ended and not yet forgotten */
	uint64_t jobs_kept_bytes;
	uint64_t jobs_live; /* queued, running, stopping */
	uint64_t jobs_forgotten;
	uint64_t waiters;
	struct pool_snapshot *pools;
	size_t pool_count;
};

/* Everything as of one instant of the loop. 0 or -ENOMEM. */
int server_snapshot_take(struct server *server, struct server_snapshot *ret_snapshot);
void server_snapshot_release(struct server_snapshot *snapshot);

#endif
