/*
 * Requests that wait for a job, a batch or a comparison to end.
 *
 * A waiting request is suspended: libmicrohttpd neither reads from its connection nor times it
 * out. It goes on when the waiter wakes (ended, or the time is up), when the client hangs up, or
 * when the service ends. In each case the answer is rendered at that instant, since what was waited
 * for may be forgotten before libmicrohttpd calls the handler again.
 *
 * A submission is answered 202 only after the store has what that promises: when the wait is over and
 * it has not, the request is `keeping`, that is, it stays suspended for the store's word. If the
 * store fails, the answer is a problem with the job's Location: the job goes on all the same.
 *
 * A client that hangs up is noticed by its connection's descriptor, which is watched once the
 * request has waited for WAIT_WATCH_AFTER_NS: most waits are shorter, and do not pay for it. The
 * end of what the client sends is taken as hanging up, by libmicrohttpd, too, so nothing is kept on
 * its account, and its place is free again. The job goes on, unless it is one with
 * cancel_on_disconnect: such a request is watched from the start, and hanging up cancels what it
 * waits for.
 *
 * Event loop only.
 */
#ifndef HTTP_WAIT_H
#define HTTP_WAIT_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/list.h"
#include "compare/compare.h"
#include "server/keep.h"
#include "server/loop.h"
#include "server/server.h"

#define WAIT_WATCH_AFTER_NS (250 * NS_PER_MS)

struct http;
struct request;

struct wait {
	bool active;  /* suspended */
	bool keeping; /* suspended, but no more for the end: it is to be answered with 202 */
	struct ticket ticket; /* of keeping */
	struct error error;   /* instead of an answer, if it has a code */
	bool replayed;	      /* by its Idempotency-Key */
	bool woken;	      /* resumed; answer and status are set */
	bool cancels;	      /* a client that hangs up cancels what is waited for */
	struct waiter waiter;
	struct loop_source hangup;
	struct list node; /* of http->waiting or http->watched */
	int64_t since_ns;
	struct job *job;     /* what is waited for: */
	struct batch *batch; /* one of these; borrowed, valid while active */
	struct comparison *comparison;
	unsigned int pending_status;
	unsigned int status;
	struct buffer answer;
	char location[56];   /* "" = none */
	char preference[32]; /* Preference-Applied; "" = none */
};

/* Before the first use. */
void wait_init(struct wait *wait);

/* Frees what it holds; it is not active. */
void wait_release(struct wait *wait);

/* How long the request wants to wait, in ns, by ?wait= or Prefer, or fallback_ms. 0, or
 * ERROR_INVALID for a bad ?wait=. */
int wait_read(struct request *request, int64_t fallback_ms, int64_t *ret_wait_ns,
	      struct error *error);

/* Answers with the job or the batch, at once if it has ended or wait_ns is 0, else suspends.
 * pending_status is for one that has not ended: 202 or 200. */
enum MHD_Result wait_for_job(struct request *request, struct job *job, int64_t wait_ns,
			     unsigned int pending_status);
enum MHD_Result wait_for_batch(struct request *request, struct batch *batch, int64_t wait_ns,
			       unsigned int pending_status);
enum MHD_Result wait_for_comparison(struct request *request, struct comparison *comparison,
				    int64_t wait_ns, unsigned int pending_status);

/* For the handler that is called again after the wait. */
enum MHD_Result wait_answer(struct request *request);

/* Begins to watch those that have waited for long enough. Answers in how many ns the next will
 * have, -1 if there is none. */
int64_t wait_watch_due(struct http *http, int64_t now_ns);

/* Ends all waits: each is answered with what it waited for as it stands. */
void wait_end_all(struct http *http);

#endif
