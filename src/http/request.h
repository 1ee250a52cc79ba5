/*
 * One request, from its first header to the last byte of its answer.
 *
 * libmicrohttpd calls request_handle() once when the header is there, once for each piece of the
 * body, once when the body is complete, and once more after the request was resumed. Everything
 * that belongs to the request is in struct request and goes in request_completed().
 *
 * Event loop only.
 */
#ifndef HTTP_REQUEST_H
#define HTTP_REQUEST_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/id.h"
#include "http/access.h"
#include "http/daemon.h"
#include "http/hold.h"
#include "http/stream.h"
#include "http/wait.h"

#define REQUEST_ID_MAX	    64
#define REQUEST_SEGMENT_MAX 64 /* more than any id or name */

enum query_name {
	QUERY_WAIT,
	QUERY_STATE,
	QUERY_POOL,
	QUERY_TASK,
	QUERY_LABEL,
	QUERY_SINCE,
	QUERY_UNTIL,
	QUERY_LIMIT,
	QUERY_CURSOR,
	QUERY_LAST_EVENT_ID
};
#define QUERY_NAMES 10

struct request {
	struct http *http;
	struct MHD_Connection *connection;
	const char *method; /* libmicrohttpd's, as path: valid until the request is completed */
	const char *path;   /* decoded */
	const char *target; /* what stands for {id} or {name} in path; NULL if the route has none */
	char segment[REQUEST_SEGMENT_MAX + 1]; /* target, if the path goes on behind it */
	const char *query[QUERY_NAMES]; /* decoded; NULL if not given; "" if without a value */
	char id[REQUEST_ID_MAX + 1];
	struct access access;
	int64_t started_ns;
	size_t route; /* its place among the counters, see route_name() */

	struct buffer body;
	uint64_t body_bytes; /* seen, whether kept or not */
	bool keeps_body;     /* false: what comes is only counted */
	bool too_large;
	bool complete; /* read whole */
	bool routed;   /* the route's handler has been called */
	bool close;    /* the connection is to be closed after the answer */

	char key[STORE_KEY_MAX + 1];		      /* Idempotency-Key; "" = none */
	char label_key[SUBMISSION_LABEL_KEY_MAX + 1]; /* of ?label= */
	struct hold hold;
	struct wait wait;
	struct stream *stream; /* owned; NULL if the answer is not one that goes on */
	bool has_job;	       /* job is known, for the log */
	struct id job;
};

/* Reads {id} of the path; false if it is no id. */
bool request_target(const struct request *request, struct id *ret_id);

/* Whether there is a body, of a type that is taken as JSON: 0, or the status of the problem (400,
 * 415) with error->message. example: of what was expected. */
unsigned int request_check_body(const struct request *request, const char *example,
				struct error *error);

/* 0, or ERROR_UNAVAILABLE once the service is shutting down. */
int request_check_open(const struct request *request, struct error *error);

/* Reads the query into request->query. 0, or ERROR_INVALID for a name outside of allowed (a mask
 * of 1 << enum query_name) or one that is there twice. */
int request_read_query(struct request *request, unsigned int allowed, struct error *error);

/* Whether only the head of the answer is wanted. */
bool request_is_head(const struct request *request);

/* Remembers the job for the log. */
void request_note_job(struct request *request, const struct id *id);

#endif
