/*
 * The server's own structures, shared by the files of src/server and by nobody else.
 *
 * Invariants
 * 1. Everything here belongs to the event loop's thread.
 * 2. A job that is queued is on its pool's queue; a job that is running or stopping is in exactly
 * one cell of exactly one host; an ended one is in neither. `job->host` is set in the second case
 * only.
 * 3. A host has as many cells as workers, so a job that is handed over is begun at once, or not at
 * all if its host goes.
 * 4. A slot has at most one host that takes jobs. A host that is to go but still runs jobs has left
 * its slot and is on the pool's list of draining ones.
 */
#ifndef SERVER_STATE_H
#define SERVER_STATE_H

#include <sys/types.h>

#include "base/histogram.h"
#include "base/rate.h"
#include "ipc/message.h"
#include "ipc/scoreboard.h"
#include "server/server.h"
#include "store/store.h"

struct slot;
struct pool;

/* One generation of a worker process. */
struct host {
	struct list node; /* pool->draining, or none */
	struct list idle; /* pool->idle while it has a free cell and takes jobs */
	struct pool *pool;
	uint32_t slot_index;
	uint64_t generation;
	pid_t pid; /* 0 until HOST_UP */
	int pidfd;
	bool ready;    /* its workers wait for jobs */
	bool draining; /* takes no more jobs and will end */
	bool closed;   /* its channel has ended; HOST_DOWN is to follow */
	bool killed;   /* by us */
	bool blocked;  /* its channel was full; waiting for room */
	struct loop_source channel;
	struct loop_source output; /* stdout */
	struct loop_source errors; /* stderr */
	struct scoreboard_map scoreboard;
	struct job **cells;   /* one for each worker; NULL where free */
	uint32_t *free_cells; /* stack of the free ones */
	uint32_t free_count;
	struct loop_timer kill; /* when its draining must be over */
	bool has_culprit;	/* the job on whose account it is drained is known */
	struct id culprit;
	bool begun;	      /* some job has begun on it */
	uint64_t stray_bytes; /* of output that belongs to no job */
};

/* A place for a host in a pool. */
struct slot {
	struct pool *pool;
	uint32_t index;
	uint64_t generation;   /* of the last host started here */
	struct host *host;     /* NULL while backing off */
	unsigned int failures; /* in a row, of hosts that ended before any job began on them */
	struct loop_timer backoff;
};

struct pool {
	struct server *server;
	const struct config_pool *config;
	uint32_t index;
	struct slot *slots; /* config->hosts of them */
	struct list idle;   /* hosts with a free cell */
	struct list draining;

	struct list queue; /* jobs, by in_queue, next first */
	size_t queue_length;
	uint64_t queue_bytes;
	size_t running; /* jobs in cells */

	uint64_t submitted;
	uint64_t rejected;
	uint64_t ended[JOB_STATES];
	uint64_t restarts[RESTART_REASONS];
	char last_restart[160];
	struct rate rate;
	struct histogram queued;
	struct histogram run;
	struct histogram total;
};

struct server {
	struct loop *loop;
	const struct config *config;
	const struct registry *registry;
	struct store store;
	struct pool *pools; /* config->pool_count of them */
	struct loop_source master;
	bool lost_master;
	uint64_t next_seq;
	struct heap deadlines; /* of running jobs: time-out, then grace */
	struct loop_timer deadline_timer;
	struct loop_timer sweep_timer;
	struct loop_hook hook;
	bool sweep_due;
	uint64_t waiters;
	size_t live; /* jobs that have not ended */

	unsigned int shutdowns; /* how often it was asked for; > 0: stopping */
	struct loop_timer shutdown_timer;
	bool shutdown_forced; /* the grace is over: running jobs are being ended */

	void (*changed)(void *data);
	void *changed_data;

	int64_t started_ns;
	int64_t started_real_ns;
	char not_ready[160]; /* of server_is_ready() */
	char *buffer;	     /* MESSAGE_SIZE_MAX, for one message at a time */
};

/* --- queue.c: the jobs that wait ----------------------------------------------------------------
 */

void queue_push(struct pool *pool, struct job *job);
/* Puts a job back that was handed over in vain: it is the next to go. */
void queue_push_front(struct pool *pool, struct job *job);
/* NULL if it is empty. */
struct job *queue_pop(struct pool *pool);
void queue_remove(struct pool *pool, struct job *job);
/* Whether so many more jobs and bytes fit. */
bool queue_has_room(const struct pool *pool, size_t jobs, uint64_t bytes);
/* Seconds, 1 to 600, after which there should be room: the queue's length by the rate at which jobs
 * have ended of late. */
unsigned int queue_retry_after(const struct pool *pool, int64_t now_ns);

/* --- dispatch.c: from the queue to a worker
 * ------------------------------------------------------- */

/* Hands jobs over while there is a job and a free cell. */
void dispatch(struct pool *pool);
/* The host may take (another) job: puts it among the idle ones if that is so. */
void dispatch_host_is_free(struct host *host);

/* --- ending.c: how jobs end
 * ------------------------------------------------------------------------ */

/* Ends a job: the transition, its record, the counters, the batch, and those who wait. It is in no
 * cell and on no queue any more. */
void job_end(struct server *server, struct job *job, enum job_event event);
/* Ends a job that was asked to stop, by the reason it was asked for. */
void job_end_stopped(struct server *server, struct job *job);
/* Asks a running job to stop; the grace begins. Nothing happens if it was asked before. */
void job_stop(struct server *server, struct job *job, enum stop_reason reason);
/* Sets or moves the moment at which a running job's next deadline comes. */
void deadline_set(struct server *server, struct job *job, int64_t at_ns);
void deadlines_init(struct server *server);
void deadline_clear(struct server *server, struct job *job);
/* Reads who runs the job, and since when, off its host's scoreboard. */
void job_refresh(struct job *job);
void waiters_wake(struct list *waiters);

/* --- hosts.c: worker processes
 * ----------------------------------------------------------------------- */

/* Asks the master for a host in that slot. */
void slot_start(struct slot *slot);
void slot_init(struct pool *pool, struct slot *slot, uint32_t index);
void host_is_up(struct server *server, const struct message_host_up *message,
		int fds[static HOST_UP_FDS]);
void host_is_down(struct server *server, const struct message_host_down *message);
/* The job has ignored its grace: ends its host, after the neighbours had their time. */
void host_condemn(struct host *host, const struct job *job);
void host_kill(struct host *host);
/* Takes the job out of its cell. */
void host_release_cell(struct host *host, struct job *job);
/* Whether the job has begun, by the scoreboard. */
bool host_has_begun(const struct host *host, const struct job *job);
void host_free(struct host *host);
void hosts_kill_busy(struct server *server);

/* --- server.c
 * ------------------------------------------------------------------------------------------ */

void server_changed(struct server *server);
/* Sends to the master: 0 or -errno. */
int server_tell_master(struct server *server, const void *message, size_t length);

#endif
