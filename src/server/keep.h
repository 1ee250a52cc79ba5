/*
 * Keeping: what of the server's work is in the store, and what somebody is told only after it is.
 *
 * Which jobs are kept durably (in the store before their submission is answered) follows the
 * setting store.durable; all others only come to the history when they have ended. The event loop
 * goes on while the store works: who needs the store's word hands in a ticket and is told.
 *
 * Event loop only.
 */
#ifndef SERVER_KEEP_H
#define SERVER_KEEP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "job/batch.h"
#include "job/job.h"
#include "job/submission.h"
#include "store/store.h"

struct server;
struct ticket_work;

/*
 * Somebody who waits for the store. Lies in the asker, zeroed before the first use; one question at
 * a time. When `pending` is true after a call that was given it, told() is called once, with pending
 * false, never from inside that call; else the answer is there already.
 */
struct ticket {
	bool pending;
	void (*told)(struct ticket *ticket); /* set by the asker */
	struct ticket_work *work;	     /* ours */

	/* The answer. */
	struct error error; /* code ERROR_NONE: it went well */
	struct job *job;    /* at hand; borrowed as from server_submit() */
	struct batch *batch;
	bool cancelled; /* server_cancel_stored() has ended it */
	bool replayed;	/* the Idempotency-Key was there: `found` is the first one */
	bool is_found; /* `found` is not at hand, to be read by server_read_*(): it was replayed, or
			     waits in a shared store for whoever is free */
	struct id found;	       /* of a submission: what came of it */
	bool found_batch;	       /* that is a batch */
	struct store_request *request; /* of a read: its rows; owned until ticket_release() */
};

/* Nobody is to be told any more; what was asked for happens all the same. */
void ticket_cancel(struct ticket *ticket);
/* Frees what the answer holds. Not while pending. */
void ticket_release(struct ticket *ticket);

/* How a submission is to be kept. */
struct submit_terms {
	bool answers_at_once; /* it is answered before the job has ended */
	const char *key;      /* the Idempotency-Key; NULL if it has none */
};

/*
 * Makes a job of the submission and queues it. May fill defaults into submission->args. 0: the job
 * is ticket->job, now or when told; it may be running already, is borrowed, and lives at least until
 * the next turn of the loop, or as long as somebody waits for it. Told ERROR_UNAVAILABLE when it was
 * to be kept durably and the store failed: then there is no job; ERROR_INVALID on "Idempotency-Key"
 * when the key stood for another submission.
 * At once: ERROR_INVALID for an unknown task or pool (names those that exist), args that break the
 * schema, a timeout beyond the maximum, a task that the pool may not run, a callback_url that is not
 * allowed; ERROR_OVERLOADED when the queue is full, with the seconds to wait in *ret_retry_after;
 * ERROR_UNAVAILABLE while shutting down.
 */
int server_submit(struct server *server, struct submission *submission,
		  const struct submit_terms *terms, struct ticket *ticket,
		  unsigned int *ret_retry_after, struct error *error);
/* All of its jobs are queued, or none. Errors as server_submit(); a field of the list is
 * "args[3].n". */
int server_submit_batch(struct server *server, struct submission *submission,
			const struct submit_terms *terms, struct ticket *ticket,
			unsigned int *ret_retry_after, struct error *error);

/* Whether all that was promised for a 202 is so: the job is in the store, or need not be. */
bool server_job_is_kept(const struct server *server, const struct job *job);
bool server_batch_is_kept(const struct server *server, const struct batch *batch);
/* Puts one that has not ended and is not kept into the store. Told 0, or ERROR_UNAVAILABLE: the job
 * goes on all the same, but would be lost with the service. The job or batch stays until then. */
void server_keep_job(struct server *server, struct job *job, struct ticket *ticket);
void server_keep_batch(struct server *server, struct batch *batch, struct ticket *ticket);

/*
 * Reads jobs that are not at hand. Told ERROR_NOT_FOUND, ERROR_UNAVAILABLE, or
 * ticket->request->rows[0]: ended, with its document; or live (not taken up yet after a start, or
 * another service's), to be written by server_write_row(). If it has come to hand meanwhile, it is
 * ticket->job.
 */
void server_read_job(struct server *server, const struct id *id, struct ticket *ticket);
/* Told ticket->batch if it is at hand, or ticket->request with ->batch and the rows of its jobs, in
 * order. */
void server_read_batch(struct server *server, const struct id *id, struct ticket *ticket);

/*
 * Ends a job that is not at hand. Told ticket->job: it waited in the store, and has ended now;
 * ERROR_CONFLICT: it had ended before; ERROR_NOT_FOUND, ERROR_UNAVAILABLE; none of these:
 * ticket->request->rows[0] is the job, which another service runs and was asked to stop.
 */
void server_cancel_stored(struct server *server, const struct id *id, struct ticket *ticket);

/* Writes the document of a row's job, ended or not. */
void server_write_row(struct server *server, const struct store_row *row,
		      struct json_writer *writer, const char *key);

struct job_filter {
	uint32_t states;  /* bits of 1 << enum job_state; 0 for any */
	const char *pool; /* NULL: any; this and the next ones: owned by the asker until told */
	const char *task;
	const char *label_key; /* NULL: any */
	const char *label_value;
	int64_t since_us; /* submitted at or after; 0: any */
	int64_t until_us; /* submitted before; 0: any */
	uint32_t limit;	  /* most jobs, at least 1 */
	bool has_cursor;
	struct id cursor; /* only jobs older than this one */
};

/* Asks the store for matching jobs; when told (ERROR_UNAVAILABLE: those at hand are all that there
 * is to list, which is better than nothing), server_list_visit() has them. */
void server_list(struct server *server, const struct job_filter *filter, struct ticket *ticket);

/* One of the list: a job at hand, or a row. */
struct listed {
	const struct job *job; /* NULL: row */
	const struct store_row *row;
	struct id id;
};

/*
 * Calls visit() for matching jobs, at hand and in the store, from the newest to the oldest, at most
 * limit of them, until it answers false. Looks at no more than SERVER_LIST_SCAN_MAX jobs at hand in
 * one call, so a rare match among many jobs is found over several pages: a page may be short, even
 * empty, and still have a next one. true and *ret_next if there may be more: pass it as the cursor.
 */
#define SERVER_LIST_SCAN_MAX 20000
bool server_list_visit(struct server *server, const struct job_filter *filter,
		       const struct ticket *ticket,
		       bool (*visit)(const struct listed *listed, void *data), void *data,
		       struct id *ret_next);

/* Of GET /stats. */
void server_store_stats(const struct server *server, struct store_stats *ret_stats);

#endif
