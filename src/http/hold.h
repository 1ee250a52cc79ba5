/*
 * Requests that wait for the store's word before they can be answered, or go on to wait for a job.
 *
 * A handler asks the server with &request->hold.ticket; if the answer is pending it ends with
 * hold_until_told(), and the function named there is called like a handler once it is there. The
 * store answers in any case, so there is no time-out; a client that hangs up meanwhile is noticed
 * after it. What is only in the store is waited for by reading it again and again, with hold_for()
 * between: libmicrohttpd notices a client that has hung up each time.
 *
 * Event loop only.
 */
#ifndef HTTP_HOLD_H
#define HTTP_HOLD_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "server/keep.h"
#include "server/loop.h"

struct http;
struct request;

struct hold {
	struct ticket ticket;
	struct list node; /* of http->held while suspended */
	bool woken;	  /* resumed: then() is to be called */
	enum MHD_Result (*then)(struct request *request);
	struct loop_timer timer; /* of hold_for() */
	int64_t wait_ns;	 /* for then(): how long the request wants to wait … */
	int64_t deadline_ns;	 /* … and until when; 0: not known yet */
	struct id
		id; /* what the request is about; an answer of the ticket that names one sets it */
	bool is_submission; /* not a question for a job: one that has not ended is answered 202 */
};

/* Before the first use, and at the request's end: it is not suspended. */
void hold_init(struct hold *hold);
void hold_release(struct hold *hold);

/* then() is called when the ticket is told, or at once if it is not pending. */
enum MHD_Result hold_until_told(struct request *request,
				enum MHD_Result (*then)(struct request *request));

/* then() is called after so long, or at once when the service ends. What the ticket holds stays. */
enum MHD_Result hold_for(struct request *request, int64_t ns,
			 enum MHD_Result (*then)(struct request *request));

/* For the handler that is called again. */
enum MHD_Result hold_go_on(struct request *request);

/* All go on; those whose answer is not there are told ERROR_UNAVAILABLE. */
void hold_end_all(struct http *http);

#endif
