/*
 * Who may do what: bearer tokens (RFC 6750) and their scopes, if the configuration has any.
 *
 * A request is judged when its header is there, before any of its body is taken. It is refused with
 * 401 if it brings no token or an unknown one, and with 403 if the token lacks the scope of the
 * route. A path or a method that does not exist needs a token too, but no scope.
 *
 * Event loop only.
 */
#ifndef HTTP_ACCESS_H
#define HTTP_ACCESS_H

#include <microhttpd.h>
#include <stdbool.h>

#include "config/tokens.h"

struct request;

struct access {
	unsigned int status;		  /* 0: granted; else 401 or 403 */
	bool has_token;			  /* 401: it was an unknown one, or none at all */
	enum scope lacks;		  /* 403 */
	char client[TOKENS_NAME_MAX + 1]; /* whose token it is; "" if none is needed or known */
};

/* Sets request->access. */
void access_judge(struct request *request);

/* Answers a request that was refused. */
enum MHD_Result access_refuse(struct request *request);

#endif
