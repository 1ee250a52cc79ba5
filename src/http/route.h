/*
 * The route table: which function answers which method of which path. 404, 405 with Allow, HEAD
 * and OPTIONS follow from it.
 *
 * Event loop only.
 */
#ifndef HTTP_ROUTE_H
#define HTTP_ROUTE_H

#include <microhttpd.h>
#include <stdbool.h>

#include "http/request.h"

enum method {
	METHOD_GET,
	METHOD_HEAD,
	METHOD_POST,
	METHOD_PATCH,
	METHOD_DELETE,
	METHOD_OPTIONS,
	METHOD_OTHER
};

/* Whether the body of the request will be used; by its method and path alone. */
bool route_wants_body(const struct request *request);

/* Answers a request that has been read whole. */
enum MHD_Result route_dispatch(struct request *request);

#endif
