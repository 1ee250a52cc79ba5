/*
 * The server's own structures, shared by the files of src/server and by nobody else.
 *
 * Invariants
 * 1. Everything here belongs to the event loop's thread.
 * 2. A job that is scheduled is among the deadlines and nowhere else; one that is queued is in its
 *    pool's queue; one that is running or stopping is in exactly one cell of exactly one host; an
 *    ended one is in none of these. `job->host` is set while it is in a cell.
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
#include "server/callbacks.h"
#include "server/keep.h"
#include "server/lab.h"
#include "server/names.h"
#include "server/queue.h"
#include "server/server.h"
#include "server/watch.h"
#include "store/job_table.h"

struct slot;
struct pool;
struct lab;

/* Places for pools: those of the configuration, then those of labs. */
#define SERVER_POOLS_MAX (CONFIG_POOLS_MAX + MESSAGE_LABS_MAX)

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
	bool begun;   /* some job has begun on it */
	bool retired; /* drained because it is to be replaced or is one too many: `reason` */
	enum restart_reason reason;
	uint64_t epoch; /* of the configuration that it was started by */
	int64_t born_ns;
	int64_t ready_ns;	 /* 0 before */
	int64_t thread_start_ns; /* as it said when it was ready */
	int64_t idle_since_ns;	 /* when its last job ended; 0 if it has had none */
	uint64_t jobs_done;
	uint64_t jobs_limit;  /* after which it is recycled; 0: never */
	uint64_t stray_bytes; /* of output that belongs to no job */
	uint32_t log_lines;   /* of its tasks, since a job has ended on it */
};

/* A place for a host in a pool. */
struct slot {
	struct pool *pool;
	uint32_t index;
	uint64_t generation;   /* of the last host started here */
	struct host *host;     /* NULL while backing off, or if the slot is not wanted */
	unsigned int failures; /* in a row, of hosts that ended before any job began on them */
	struct loop_timer backoff;
};

struct pool {
	struct server *server;
	char name[CONFIG_NAME_MAX + 1]; /* outlives every configuration; jobs point to it */
	const struct config_pool *config;
	struct lab *lab; /* that it belongs to; NULL of a pool of the configuration */
	uint32_t index;
	struct slot *slots; /* CONFIG_HOSTS_MAX of them; those from `wanted` on are empty */
	struct list idle;   /* hosts with a free cell */
	struct list draining;

	uint32_t wanted; /* hosts, between min_hosts and max_hosts */
	uint32_t min_hosts;
	uint32_t max_hosts;
	uint32_t spare_hosts;
	int64_t surplus_since_ns; /* since when more hosts are idle than are to be spare; 0: they are not */
	bool paused;

	struct queue queue;
	/* Jobs in the state queued that are not in the queue, since they wait for the store's word;
	 * all by in_queue. */
	struct list to_claim; /* are to be asked for before the loop sleeps */
	struct list claiming; /* were asked for */
	struct list claimed;  /* may run: they go before all others */
	struct list stalled;  /* wait until the store can be written again */
	size_t aside;	      /* jobs on these lists */
	uint64_t aside_bytes;
	size_t claims; /* queued jobs whose claim is not CLAIM_NONE, those that are only being put
				  included */
	int64_t run_mean_ns;	/* of the last runs: a moving mean; 0: none has ended */
	uint64_t store_waiting; /* jobs that wait in a shared store, as far as is known */
	bool dispatch_due;
	bool held_back;	  /* there are jobs and free workers, but these are reserved for others */
	size_t scheduled; /* jobs that wait for their time */
	uint64_t scheduled_bytes;
	size_t running; /* jobs in cells */

	uint64_t submitted;
	uint64_t rejected;
	uint64_t retries;
	uint64_t ended[JOB_STATES];
	uint64_t causes[JOB_CAUSES]; /* of those that did not succeed */
	uint64_t restarts[RESTART_REASONS];
	char last_restart[160];
	struct rate rate;
	struct histogram queued;
	struct histogram run;
	struct histogram total;
};

/* A job of another service that somebody here asks for. */
struct share_watched {
	struct id id;
	int64_t until_ns; /* monotonic; 0: none */
};

#define SHARE_WATCHED_MAX 1024

/* Of a store that is shared. */
struct share {
	bool on;
	bool taking; /* these three: a request is on its way */
	bool polling;
	bool recovering;
	struct loop_timer timer; /* of the next poll */
	struct share_watched watched[SHARE_WATCHED_MAX];
};

struct server {
	struct loop *loop;
	const struct config *config;
	const struct registry *registry;
	struct job_table table;
	struct pool *pools;  /* SERVER_POOLS_MAX places, so that none ever moves */
	uint32_t pool_count; /* of the configuration; all loops over pools are over these */
	struct lab
		*labs[MESSAGE_LABS_MAX]; /* lab i has the place CONFIG_POOLS_MAX + i; NULL: free */
	uint64_t lab_runs;
	struct loop_hook lab_hook;
	const char **
		places; /* the names of the registry's tasks, by their index; owned, not what is in it */
	size_t place_count;
	struct names names; /* of tasks, and of pools that are no more, for jobs */
	struct caps caps;
	uint64_t epoch; /* of the configuration in force */
	bool tasks_moved; /* hosts of former epochs have tasks at other places: nothing is dispatched until
			     they are out of their slots, at the next tick */
	bool resize_due; /* pools are to be brought within their bounds at the next tick */
	struct loop_source master;
	bool lost_master;
	struct store *store;
	struct loop_source store_source;
	struct share share;
	struct callbacks *callbacks;   /* NULL: the configuration allows none */
	bool recovered;		       /* all live jobs of the store have been taken up */
	bool claims_due;	       /* some pool has jobs on to_claim */
	bool claims_stalled;	       /* the store has failed of late: no claims are asked for */
	bool store_sweeping;	       /* a STORE_SWEEP is on its way */
	int64_t commit_ns;	       /* how long the store takes to write, as of the last tick */
	struct loop_timer store_timer; /* after the store has failed: tries again */
	uint64_t next_seq;
	struct heap
		deadlines; /* of jobs: due, queue_ttl, time-out or CPU look, grace; by their state */
	struct loop_timer deadline_timer;
	struct loop_timer tick_timer; /* retention, recycling, scaling */
	struct loop_hook hook;
	bool sweep_due;
	uint64_t waiters;
	struct list watchers_due; /* to be told before the loop sleeps */
	size_t live;		  /* jobs that have not ended */

	unsigned int shutdowns; /* how often it was asked for; > 0: stopping */
	struct loop_timer shutdown_timer;
	bool shutdown_forced; /* the grace is over: running jobs are being ended */

	void (*changed)(void *data);
	void *changed_data;
	server_reload_fn *reload;
	void *reload_data;

	int64_t started_ns;
	int64_t started_real_ns;
	char not_ready[480]; /* of server_is_ready() */
	char *buffer;	     /* MESSAGE_SIZE_MAX, for one message at a time */
};

/* --- dispatch.c: into the queue, and from it to a worker -------------------------------------- */

/* Puts a job into its pool's queue, now or (again) by its queued_ns. Starts its queue_ttl. */
void dispatch_put(struct server *server, struct job *job);
/* Puts a job back that was in a cell and had not begun. */
void dispatch_put_back(struct server *server, struct job *job);
/* Hands jobs over while there is a job and a free cell. */
void dispatch(struct pool *pool);
/* The host may take (another) job: puts it among the idle ones if that is so. */
void dispatch_host_is_free(struct host *host);
/* Dispatches the pools that were marked as due. Answers whether some are due again. */
bool dispatch_due(struct server *server);
void dispatch_init(struct server *server);
/* The store says that the job, on `claiming`, may run. */
void dispatch_claimed(struct pool *pool, struct job *job);
/* The store did not say: the job goes back to its place in the queue. */
void dispatch_claim_failed(struct pool *pool, struct job *job);
/* The store can be written again. */
void dispatch_unstall(struct pool *pool);
/* Whether so many more jobs and bytes may wait. */
bool dispatch_has_room(const struct pool *pool, size_t jobs, uint64_t bytes);
/* Seconds, 1 to 600, after which there should be room: what waits, by the rate at which jobs have
 * ended of late. */
unsigned int dispatch_retry_after(const struct pool *pool, int64_t now_ns);

/* Workers that wait for a job. */
size_t dispatch_free_cells(const struct pool *pool);
/* The order of the queue does not matter to who leaves it: takes a queued job out of wherever it
 * waits. Its claim, if any, is given up. */
void dispatch_withdraw(struct server *server, struct job *job);

/* --- keep.c: what is in the store, and who waits for it ---------------------------------------- */

/* Opens the store and takes up what is there. 0 or -errno. */
int keep_start(struct server *server);
/* Writes what is left; those who wait are told. The waiters must be gone. */
void keep_stop(struct server *server);
/* Before the loop sleeps. */
void keep_flush(struct server *server);
/* About once a second: retention, numbers. */
void keep_tick(struct server *server);
/* Whether the submission's job is to be put before it is answered. */
bool keep_is_wanted(const struct server *server, const struct submission *submission,
		    const struct submit_terms *terms);
bool keep_is_durable(const struct server *server);
/* Puts a new job, or a batch of them, which belong to keep.c from now on; tells the ticket. claimed:
 * the job is put as claimed already. 0, or -ENOMEM and they are still the caller's. */
int keep_put(struct server *server, struct job *job, struct batch *batch, bool claimed,
	     int64_t delay_ms, const struct store_key *key, struct ticket *ticket);
/* The job has ended. */
void keep_ended(struct server *server, struct job *job);
/* The job lives, and its row is to say what it is now: another attempt is scheduled, or its claim is
 * given back. */
void keep_update(struct server *server, struct job *job);
/* Shutting down: a job that is stored and waits stays in the store for the next start. */
void keep_set_aside(struct server *server, struct job *job);
/* Most claims that the pool may have now, for so many free cells. */
size_t keep_claims_most(const struct pool *pool, size_t free_cells);

/* For share.c. */
void keep_end_unrunnable(struct server *server, struct job *job, const char *problem);
void keep_go_on_queued(struct server *server, struct job *job, const struct store_row *row);
void keep_take_up(struct server *server, const struct store_row *row);
struct store_request *keep_live_row(const struct job *job);

/* --- share.c: a store that several services share ---------------------------------------------- */

void share_start(struct server *server);
void share_stop(struct server *server);
bool share_is_on(const struct server *server);
/* Before the loop sleeps: takes jobs for workers that are free. */
void share_flush(struct server *server);
/* The store's descriptor was ready: there may be news. */
void share_hint(struct server *server);
/* Somebody asks for a job that is not at hand: for a few seconds its service tells of it. */
void share_watch(struct server *server, const struct id *id);
/* The job was waiting in the store and is ours now, to be ended. */
void share_cancelled(struct server *server, const struct store_row *row);

/* --- submit.c: what keep.c needs of it --------------------------------------------------------- */

/* Into the table and the queue, or among those that wait for their time. 0 or -ENOMEM. */
int submit_enter_job(struct server *server, struct job *job, int64_t delay_ms);
int submit_enter_batch(struct server *server, struct batch *batch, int64_t delay_ms);
/* Frees a job that never got into the table. NULL is allowed. */
void submit_unmake_job(struct server *server, struct job *job);
void submit_unmake_batch(struct server *server, struct batch *batch);
/* The job of a row, on no list, with its caps; NULL if memory is short. A task or pool that is no
 * more: *ret_problem says so (a literal), and the job is only to be ended. */
struct job *submit_revive(struct server *server, const struct store_row *row,
			  const char **ret_problem);

/* --- deadlines.c: what is to happen to a job at a time ---------------------------------------- */

void deadlines_init(struct server *server);
/* A job has one deadline at a time, by its state. */
int deadline_set(struct server *server, struct job *job, int64_t at_ns); /* 0 or -ENOMEM */
/* A scheduled job's time has come. */
void become_due(struct server *server, struct job *job, int64_t now_ns);
void deadline_clear(struct server *server, struct job *job);
/* Sets the next one of a job that was handed over: its time-out, or the next look at its CPU time.
 * */
void deadline_watch_run(struct server *server, struct job *job, int64_t now_ns);

/* --- ending.c: how jobs end ------------------------------------------------------------------- */

/* Ends an attempt; it is in no cell and on no queue any more. Unless there is to be another, the
 * job has ended: the transition, its record, the counters, the batch, and those who wait. */
void job_end(struct server *server, struct job *job, enum job_event event);
/* Tells those who wait, if the job has ended and the store has what it is to have of it. */
void job_settle(struct job *job);
/* Ends a job that was asked to stop, or is not to start, by job->stop_reason. */
void job_end_stopped(struct server *server, struct job *job);
/* Ends a job whose memory limit was passed. */
void job_end_memory(struct server *server, struct job *job, int64_t seen_bytes);
/* Asks a running job to stop; the grace begins. Nothing happens if it was asked before. */
void job_stop(struct server *server, struct job *job, enum stop_reason reason);
/* Brings what changes by itself up to date: who runs the job and since when, or its place in the
 * queue. */
void job_refresh(struct server *server, struct job *job);
/* job_transition(), and those who watch will know. */
int job_move(struct server *server, struct job *job, enum job_event event);

/* --- hosts.c: worker processes ---------------------------------------------------------------- */

void slot_init(struct pool *pool, struct slot *slot, uint32_t index);
/* Asks the master for a host in that slot, if one is wanted there and there is none. */
void slot_start(struct slot *slot);
void host_is_up(struct server *server, const struct message_host_up *message,
		int fds[static HOST_UP_FDS]);
void host_is_down(struct server *server, const struct message_host_down *message);
/* The job has ignored its grace: ends its host, after the neighbours had their time. */
void host_condemn(struct host *host, const struct job *job);
/* Takes the host out of its slot; it ends after the jobs that it has. A fresh one starts if the
 * slot is wanted. */
void host_retire(struct host *host, enum restart_reason reason);
void host_kill(struct host *host);
/* Asks the processes of the job's worker to end, politely. */
void host_signal_stop(const struct host *host);
/* Takes the job out of its cell. */
void host_release_cell(struct host *host, struct job *job);
/* Whether the job has begun, by the scoreboard. */
bool host_has_begun(const struct host *host, const struct job *job);
/* CPU time that the job has used so far; METERING_UNKNOWN if it cannot be read. */
int64_t host_cpu_ns(const struct host *host, const struct job *job);
/* What the job would have held when its memory limit refused it more; 0: nothing was refused. */
int64_t host_memory_seen(const struct host *host, const struct job *job);
void host_free(struct host *host);
void hosts_kill_busy(struct server *server);

/* --- scaling.c: how many hosts, and when they are replaced ------------------------------------ */

/* How many hosts the pool is to have from now on. */
void pool_resize(struct pool *pool, uint32_t wanted);
/* Why the host is to be recycled now that a job of it has ended; false if it is not. */
bool host_is_worn(const struct host *host, int64_t rss_bytes, int64_t now_ns,
		  enum restart_reason *ret_reason);
/* For a host that is starting. */
uint64_t recycle_limit(const struct config_recycle *recycle);
void scaling_init(struct server *server);
/* Something waits: looks at the pool's size soon. */
void scaling_hint(struct pool *pool);

/* --- submit.c: jobs for labs ------------------------------------------------------------------ */

/* Makes a job as the terms say and puts it into the lab's queue. NULL if memory is short. */
struct job *terms_submit(struct server *server, const struct terms *terms, struct pool *pool);

/* --- lab.c ------------------------------------------------------------------------------------ */

void lab_init(struct server *server);
/* A job of a lab has ended. */
void lab_job_ended(struct job *job);
/* What a host of a lab is to be started with. */
void lab_fill_start(const struct lab *lab, struct message_host_start *start);
void lab_free_all(struct server *server);

/* --- server.c --------------------------------------------------------------------------------- */

/* Sets a pool up at that place, without hosts. 0 or -ENOMEM. */
int pool_init(struct server *server, uint32_t index, const struct config_pool *config);
/* Frees what it owns. */
void pool_free(struct pool *pool);
/* Ends a job that has not begun. */
void cancel_waiting(struct server *server, struct job *job, enum stop_reason reason);
void server_changed(struct server *server);
/* Brings every pool within its bounds. */
void size_pools(struct server *server);
/* Sends to the master: 0 or -errno. */
int server_tell_master(struct server *server, const void *message, size_t length);
/* Index of the pool of that name, or -1. */
int server_find_pool(const struct server *server, const char *name);
void server_unknown_pool(const struct server *server, enum error_code code, const char *field,
			 const char *name, struct error *error);

#endif
