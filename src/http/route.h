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

/* Looks up, by method and path alone, which route the request takes, and remembers it for the
 * counters. Answers whether its body will be used. */
bool route_find(struct request *request);

/* The places of http->responses_by_route, of which the first is that of requests without a route:
 * "other" and "other". Fewer than HTTP_ROUTES_MAX. */
struct route_name {
	const char *method;
	const char *path; /* "/jobs/{id}" */
};
size_t route_count(void);
struct route_name route_name(size_t place);

/* Whether anybody may ask: health, and the dashboard's files, which tell nothing. */
bool route_is_open(const struct request *request);

/* The scope (enum scope) that the route needs, by its method; 0 if there is no such route. After
 * route_find(). */
unsigned int route_scope(const struct request *request);

/* Answers a request that has been read whole. */
enum MHD_Result route_dispatch(struct request *request);

#endif
