/*
 * The store: what outlives a request. Jobs that were answered 202 or that bear an Idempotency-Key, a
 * delay or a callback; the history of all that have ended; the callbacks that are still to be made.
 *
 * One interface, three implementations (store/backend.h): memory (of this process's life: no promise
 * across a restart), SQLite (one service, one file), PostgreSQL (several services, one queue).
 *
 * The event loop never waits for a disk: it hands in requests, a thread of the store carries them
 * out, many in one transaction (group commit), and store_collect() calls done() of those that are
 * committed. A request that was answered with 0 is as safe as the implementation can make it: with
 * SQLite and PostgreSQL it survives kill -9 of everything and the loss of power.
 *
 * Order: requests are carried out in the order of their coming, but STORE_FETCH, STORE_LIST and
 * STORE_FETCH_BATCH may be carried out beside the others by another thread; they see all that had
 * been answered before they were handed in.
 *
 * When the store fails (disk full, database gone): what somebody waits for is answered with -EIO at
 * once, and the reason stands in the stats; what must not be lost (flag `must`) is kept, in order,
 * and tried again with a back-off until it is in. While such are kept, later requests for the same
 * job (but readings) wait behind them. A history row (STORE_END without `must`) that comes while
 * too many of them wait is answered with -ENOBUFS. A request that could never be carried out (a row
 * without its task, an operation that the store does not have) is answered with -EINVAL or
 * -ENOTSUP.
 *
 * Thread: everything here is called by the event loop's thread.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/id.h"
#include "base/list.h"
#include "config/config.h"
#include "job/job.h"

/* Times named *_us: microseconds since 1970-01-01T00:00:00Z. 0: none. */

/*
 * A job as it is kept. States: JOB_SCHEDULED, JOB_QUEUED; JOB_RUNNING: claimed, that is, attempt
 * number `attempt` has begun or was about to; or an ended one. Texts are owned, ended by a NUL, UTF-8
 * and without NULs inside.
 */
struct store_row {
	struct id id; /* its time is that of submitted_us, within a day: a listing by time relies
			 on it */
	enum job_state state;
	uint32_t attempt; /* claimed so far */
	char *task;
	char *pool;
	int32_t priority;
	int64_t submitted_us;
	int64_t due_us; /* live: from when it may run; the order of the queue is that of due_us -
			       priority × aging of the pool */
	int64_t expires_us; /* scheduled or queued: when it ends as expired */
	int64_t ended_us;
	bool has_batch;
	struct id batch;
	uint32_t batch_index;
	char *labels; /* JSON object of strings; NULL if it has none */
	char *record; /* live: JSON, all that is needed to run it (job/record.h); NULL once ended */
	char *document; /* ended: JSON, what GET /jobs/{id} answers. With STORE_LIVE: as of now */
	char *callback; /* URL that is to be told of its end; NULL */
};

struct store_batch {
	struct id id;
	char *task;
	char *pool;
	uint32_t count;
	int64_t submitted_us;
};

/* An Idempotency-Key and what it stood for. */
#define STORE_KEY_MAX 255 /* bytes */
struct store_key {
	char text[STORE_KEY_MAX + 1]; /* "" = none */
	uint8_t fingerprint[32];      /* of the submission */
	int64_t expires_us;
};

/* A callback that is to be made. */
struct store_callback {
	struct id id; /* of the job */
	char *url;
	char *document;	     /* of the ended job */
	uint32_t tries;	     /* so far */
	int64_t first_us;    /* when the job had ended */
	int64_t due_us;	     /* result: of the next try; 0: no more */
	bool delivered;	     /* result */
	int32_t http_status; /* result: of this try; 0: there was no answer */
	char *error;	     /* result: why this try failed; NULL */
};

/* Which jobs of the history. Names are owned by the request. */
struct store_filter {
	uint32_t states; /* bits of 1 << enum job_state; 0: any */
	char *pool;	 /* NULL: any */
	char *task;
	char *label_key;   /* NULL: any */
	char *label_value; /* not NULL if label_key is not */
	int64_t since_us;  /* submitted at or after; 0: any */
	int64_t until_us;  /* submitted before; 0: any */
	bool has_cursor;
	struct id cursor; /* only ids less than this one */
	uint32_t limit;	  /* most rows, at least 1 */
};

enum store_op {
	/*
	 * New rows, with the batch and the key if there are any: all or nothing. -EEXIST: the key is
	 * taken: `found`, `found_batch` and `same` (fingerprints are equal) are set and nothing was
	 * put. A key that has expired is not taken. A row that is there already is replaced (a live
	 * job becomes durable while it runs), unless it has ended.
	 */
	STORE_PUT,
	/*
	 * By ids and attempts: these jobs are queued, or in a shared store ours since the attempt
	 * before, and are about to run as that attempt: makes them JOB_RUNNING. statuses[i] is 0, or
	 * -ESTALE if that one may not run (it is gone, has ended, is running, has had that attempt, or
	 * is not ours).
	 */
	STORE_CLAIM,
	/*
	 * Shared store: claims up to pools[i].count due jobs of each pool, in the queue's order;
	 * answers their rows with their new attempt. `waiting` of each pool is set to how many more are
	 * due.
	 */
	STORE_TAKE,
	/* Rows that are live and ours, and stay live: another attempt is scheduled, or a claim is
	 * given back. Sets state, attempt, due_us, expires_us, record. statuses[i] as STORE_CLAIM. */
	STORE_UPDATE,
	/*
	 * Rows that have ended, with their document. Those that were not put before are put (history).
	 * A row with a callback becomes due for it. statuses[i]: -ESTALE if the job has ended already
	 * or the attempt is not ours any more: nothing was changed.
	 */
	STORE_END,
	/* By ids: the rows that there are, in any order; ended ones with document, live ones with
	 * record (and document, if STORE_LIVE has told of it). */
	STORE_FETCH,
	/* By filter: rows, newest first, as STORE_FETCH. `more`: there are others, which were left out
	 * since these are large; at least one is there. */
	STORE_LIST,
	/* By ids[0]: the batch and all its rows, in order. -ENOENT. */
	STORE_FETCH_BATCH,
	/*
	 * Takes over up to `limit` live jobs that no living service has, oldest first; answers their
	 * rows as they were. Not shared: all live ones that were there at the opening, each once.
	 * Shared: those claimed by services whose lease has run out, and queued ones that have
	 * expired.
	 */
	STORE_RECOVER,
	/*
	 * By ids[0]: ends a job that this service does not have. 0: it was scheduled or
	 * queued and is ours now: rows[0], to be ended by us. -EINPROGRESS: another service runs it and
	 * will be told. -EALREADY: it has ended. -ENOENT.
	 */
	STORE_CANCEL,
	/*
	 * Shared store: looks at what others want. By ids: jobs that somebody here waits for or
	 * watches (each stays "watched" for a few seconds); answers rows of those that have changed
	 * since they were last seen by state, attempt or document; `cancelled`: jobs of ours that
	 * others want ended; `watched`: jobs of ours that others watch. Sets pools[i].waiting.
	 */
	STORE_POLL,
	STORE_LIVE, /* shared store: rows of ours with their document as of now, for those who watch */
	/*
	 * Up to `limit` callbacks that are due, the oldest first; each is this service's for
	 * STORE_CALLBACK_LEASE_US, after which it is due again unless its result has come. next_us: when
	 * the next one is due, 0 if there is none.
	 */
	STORE_CALLBACKS,
	STORE_CALLBACK_RESULT, /* by callback */
	/* Deletes up to `limit` ended jobs that the retention no longer covers, and expired keys;
	 * `count`: how many were deleted, limit if there may be more. A job with a callback that is still to be made stays; jobs of
	 * a batch go with the last of them. */
	STORE_SWEEP
};
#define STORE_OPS 14

#define STORE_CALLBACK_LEASE_US (60LL * 1000000)

struct store_pool {
	const char *name; /* borrowed from the configuration */
	uint32_t count;
	int64_t aging_us; /* in: see due_us */
	uint64_t waiting; /* out */
};

struct store_request {
	struct list node; /* the store's */
	enum store_op op;
	bool must; /* not to be lost: see above. For STORE_UPDATE, STORE_END, STORE_CALLBACK_RESULT */
	/* On the event loop's thread, from store_collect(), once. It frees the request, now or later.
	 * NULL: nobody is told, and the store frees it. */
	void (*done)(struct store_request *request);
	void *data;	  /* the asker's */
	int status;	  /* 0 or -errno, when done() is called */
	int64_t since_ns; /* monotonic; when it was handed in */
	size_t weight;	  /* bytes, about; the store's */

	struct store_row *rows; /* in or out; owned, as all that follow */
	size_t row_count;
	struct id *ids;
	uint32_t *attempts; /* of STORE_CLAIM, beside ids */
	size_t id_count;
	int *statuses; /* as many as rows or ids */
	struct store_batch *batch;
	struct store_key key;
	struct id found;
	bool found_batch;
	bool same;
	struct store_filter filter;
	struct store_callback *callbacks;
	size_t callback_count;
	struct store_pool *pools;
	size_t pool_count;
	struct id *cancelled;
	size_t cancelled_count;
	struct id *watched;
	size_t watched_count;
	uint32_t limit;
	uint64_t count;
	bool more;
	int64_t next_us;
};

/* A request of that kind, all else 0; NULL if memory is short. */
struct store_request *store_request_new(enum store_op op);
/* Room for so many rows or ids (ids come with attempts), and statuses beside them. 0 or -ENOMEM. */
int store_request_rows(struct store_request *request, size_t count);
int store_request_ids(struct store_request *request, size_t count);
void store_request_free(struct store_request *request); /* NULL is allowed */

void store_row_release(struct store_row *row); /* frees what it owns */

struct store;

/*
 * Opens by config->store, in the background: requests may come at once; if it cannot be opened they
 * are answered with -EIO, the reason stands in the stats, and it is tried again. Of config its
 * `store` and `data_dir` are copied (neither changes by a reload but for the retention, which
 * store_set_retention() takes over). 0 or -errno (no thread, no memory).
 */
int store_open(const struct config *config, struct store **ret_store);
void store_set_retention(struct store *store, const struct config *config);

/*
 * Hands in what is left, waits for it at most until deadline_ns (monotonic; a transaction under way
 * gets a moment more), closes, and frees all; requests that were not carried out are told
 * -ECANCELED, but for those in the hands of a backend that hangs, which are never told. NULL is
 * allowed. Answers how many that were not to be lost are.
 */
size_t store_close(struct store *store, int64_t deadline_ns);

/* Readable when store_collect() has something to do. */
int store_fd(const struct store *store);

/* Takes the request. */
void store_submit(struct store *store, struct store_request *request);

/* Calls done() of all that were answered. */
void store_collect(struct store *store);

/* What this store promises: its jobs are there after kill -9 and a restart. */
bool store_is_durable(const struct store *store);
/* Several services share its queue: STORE_TAKE, STORE_CANCEL, STORE_POLL and STORE_LIVE are to be
 * used. */
bool store_is_shared(const struct store *store);
/* Shared: true once after another service has hinted that there is something to TAKE or POLL. */
bool store_take_hint(struct store *store);

struct store_stats {
	enum config_store_kind kind;
	bool available;	       /* open, and the last transaction was committed */
	char error[240];       /* why it is not available; "" */
	int64_t size_bytes;    /* of the database; -1 if not known */
	uint64_t waiting;      /* requests handed in and not answered */
	uint64_t kept;	       /* of those, that were not to be lost and whose first try failed */
	int64_t lag_ns;	       /* how long the oldest of `waiting` has waited; 0 if there is none */
	uint64_t transactions; /* committed, since the start */
	uint64_t synced;       /* of those, that were waited for until on disk */
	uint64_t requests;     /* carried out by them */
	uint64_t failures;     /* transactions that failed */
	uint64_t dropped;  /* rows of the history alone that were not kept since the store was too
				  slow or had failed */
	int64_t commit_ns; /* of a synced transaction, from its begin to the disk: a moving mean */
};

void store_stats(const struct store *store, struct store_stats *ret_stats);

#endif
