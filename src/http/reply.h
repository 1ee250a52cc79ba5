/*
 * Answers: the one place where a response is made, with the headers that every answer bears, and
 * the one place where an error becomes a problem document (RFC 9457). Every answer is counted and
 * logged here.
 *
 * Event loop only.
 */
#ifndef HTTP_REPLY_H
#define HTTP_REPLY_H

#include <microhttpd.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/json.h"
#include "http/request.h"

struct reply_header {
	const char *name;
	const char *value; /* NULL: it is left out */
};

/* What is special about an answer; NULL and 0 mean "none". */
struct reply {
	unsigned int status;
	const char *content_type;  /* NULL: application/json */
	const char *cache_control; /* NULL: no-store */
	const char *location;
	const char *preference; /* Preference-Applied */
	const char *allow;
	bool replayed;			    /* Idempotency-Replayed */
	const char *authenticate;	    /* WWW-Authenticate */
	unsigned int retry_after;	    /* seconds */
	const char *detail;		    /* for the log */
	const struct reply_header *headers; /* further ones, the last without a name */
};

/* Sends body, which is taken, and left empty. A body that failed is answered with 500. */
enum MHD_Result reply_send(struct request *request, const struct reply *reply, struct buffer *body);

/* Sends data, which is never freed nor changed, as it is; length 0: without a body. */
enum MHD_Result reply_constant(struct request *request, const struct reply *reply, const char *data,
			       size_t length);

/* Sends 200 and a JSON document, to which the final newline is added. */
enum MHD_Result reply_json(struct request *request, struct buffer *body);

/* Sends 200 and text/event-stream, of which read() gives the bytes; NULL: none, for HEAD. data is
 * borrowed until the request is completed. */
enum MHD_Result reply_stream(struct request *request, MHD_ContentReaderCallback read, void *data);

/* Sends an answer without a body. */
enum MHD_Result reply_empty(struct request *request, unsigned int status, const char *allow);

/* Sends the problem that *error describes. retry_after is for a 503, which gets 1 if it is 0. */
enum MHD_Result reply_error(struct request *request, const struct error *error,
			    unsigned int retry_after);

/* The same, with where to look for what goes on all the same. */
enum MHD_Result reply_error_at(struct request *request, const struct error *error,
			       const char *location);

/* Sends a problem of a status that no enum error_code stands for (405, 415), or where the path is
 * not there (404). allow may be NULL. */
enum MHD_Result reply_problem(struct request *request, unsigned int status, const char *allow,
			      const char *detail);

/* Sends 401 or 403 with WWW-Authenticate; scope is the one that is lacking, or NULL. */
enum MHD_Result reply_refusal(struct request *request, unsigned int status,
			      const char *authenticate, const char *scope, const char *detail);

#endif
