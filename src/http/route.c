/*
 * Routing: a short table, searched in order, the busiest first. A pattern is a path, or a path
 * of which one segment is a name in braces, which stands for one non-empty segment.
 */
#include "http/route.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "http/reply.h"
#include "http/resources.h"

#define QUERY(name) (1u << QUERY_##name)

struct route {
	enum method method;
	const char *path;
	unsigned int query; /* QUERY() of those that are known */
	enum MHD_Result (*handle)(struct request *request);
};

static const struct route routes[] = {
	{METHOD_POST, "/jobs", QUERY(WAIT), jobs_submit},
	{METHOD_GET, "/jobs/{id}", QUERY(WAIT), jobs_get},
	{METHOD_GET, "/jobs",
	 QUERY(STATE) | QUERY(POOL) | QUERY(TASK) | QUERY(LABEL) | QUERY(SINCE) | QUERY(UNTIL) |
		 QUERY(LIMIT) | QUERY(CURSOR),
	 jobs_list},
	{METHOD_DELETE, "/jobs/{id}", 0, jobs_cancel},
	{METHOD_GET, "/jobs/{id}/events", QUERY(LAST_EVENT_ID), events_get},
	{METHOD_POST, "/batches", QUERY(WAIT), batches_submit},
	{METHOD_GET, "/batches/{id}", QUERY(WAIT), batches_get},
	{METHOD_POST, "/comparisons", QUERY(WAIT), comparisons_submit},
	{METHOD_GET, "/comparisons", 0, comparisons_list},
	{METHOD_GET, "/comparisons/{id}", QUERY(WAIT), comparisons_get},
	{METHOD_DELETE, "/comparisons/{id}", 0, comparisons_cancel},
	{METHOD_GET, "/comparisons/{id}/events", 0, comparisons_watch},
	{METHOD_GET, "/experiments", 0, experiments_list},
	{METHOD_POST, "/experiments/{name}", QUERY(WAIT), experiments_run},
	{METHOD_GET, "/tasks", 0, tasks_list},
	{METHOD_GET, "/pools", 0, pools_list},
	{METHOD_GET, "/pools/{name}", 0, pools_get},
	{METHOD_PATCH, "/pools/{name}", 0, pools_patch},
	{METHOD_GET, "/stats", 0, stats_get},
	{METHOD_GET, "/metrics", 0, metrics_get},
	{METHOD_GET, "/capabilities", 0, capabilities_get},
	{METHOD_GET, "/healthz", 0, health_get},
	{METHOD_GET, "/readyz", 0, health_ready},
	{METHOD_GET, "/openapi.yaml", 0, openapi_get},
	{METHOD_GET, "/", 0, dashboard_get_page},
	{METHOD_GET, "/dashboard/{file}", 0, dashboard_get_file},
};

#define ROUTES (sizeof(routes) / sizeof(routes[0]))
static_assert(ROUTES < HTTP_ROUTES_MAX, "each route has a place among the counters");

static const char *const method_names[] = {
	[METHOD_GET] = "GET",	  [METHOD_HEAD] = "HEAD",     [METHOD_POST] = "POST",
	[METHOD_PATCH] = "PATCH", [METHOD_DELETE] = "DELETE", [METHOD_OPTIONS] = "OPTIONS",
};

static enum method method_parse(const char *name)
{
	for (int i = 0; i < METHOD_OTHER; i++)
		if (strcmp(name, method_names[i]) == 0)
			return (enum method)i;
	return METHOD_OTHER;
}

/* *ret_target is where in path stands what the placeholder stands for, up to the next slash or the
 * end; NULL if there is none. */
static bool path_matches(const char *pattern, const char *path, const char **ret_target)
{
	const char *placeholder = strchr(pattern, '{');

	*ret_target = NULL;
	if (!placeholder)
		return strcmp(pattern, path) == 0;
	size_t prefix = (size_t)(placeholder - pattern);
	if (strncmp(pattern, path, prefix) != 0)
		return false;
	*ret_target = path + prefix;
	size_t length = strcspn(path + prefix, "/");
	return length > 0 &&
	       strcmp(path + prefix + length, placeholder + strcspn(placeholder, "/")) == 0;
}

/* What is longer than any id or name is cut, and then names nothing either. */
static void set_target(struct request *request, const char *target)
{
	size_t length = target ? strcspn(target, "/") : 0;

	request->target = target;
	if (!target || target[length] == '\0')
		return;
	if (length > REQUEST_SEGMENT_MAX)
		length = REQUEST_SEGMENT_MAX;
	memcpy(request->segment, target, length);
	request->segment[length] = '\0';
	request->target = request->segment;
}

struct match {
	const struct route *route; /* NULL: the path does not know the method */
	const char *target;
	unsigned int methods; /* that the path knows, 1 << enum method; 0: no such path */
};

/* HEAD is what GET is. */
static struct match match_route(const char *path, enum method method)
{
	enum method wanted = method == METHOD_HEAD ? METHOD_GET : method;
	struct match match = {0};
	const char *target;

	for (size_t i = 0; i < ROUTES; i++) {
		if (!path_matches(routes[i].path, path, &target))
			continue;
		match.methods |= 1u << routes[i].method;
		if (routes[i].method != wanted)
			continue;
		match.route = &routes[i];
		match.target = target;
	}
	if (match.methods & 1u << METHOD_GET)
		match.methods |= 1u << METHOD_HEAD;
	if (match.methods)
		match.methods |= 1u << METHOD_OPTIONS;
	return match;
}

#define ALLOW_SIZE 48 /* all of method_names */

static const char *write_allow(unsigned int methods, char allow[static ALLOW_SIZE])
{
	size_t length = 0;

	allow[0] = '\0';
	for (int i = 0; i < METHOD_OTHER && length < ALLOW_SIZE; i++)
		if (methods & 1u << i)
			length += (size_t)snprintf(allow + length, ALLOW_SIZE - length, "%s%s",
						   length ? ", " : "", method_names[i]);
	return allow;
}

bool route_find(struct request *request)
{
	enum method method = method_parse(request->method);
	const struct route *route = match_route(request->path, method).route;

	request->route = route ? (size_t)(route - routes) + 1 : 0;
	return route && (method == METHOD_POST || method == METHOD_PATCH);
}

size_t route_count(void)
{
	return ROUTES + 1;
}

struct route_name route_name(size_t place)
{
	if (place == 0)
		return (struct route_name){"other", "other"};
	return (struct route_name){method_names[routes[place - 1].method], routes[place - 1].path};
}

bool route_is_open(const struct request *request)
{
	static const char *const open_paths[] = {"/healthz", "/readyz", "/", "/dashboard/{file}"};
	const char *target;

	for (size_t i = 0; i < sizeof(open_paths) / sizeof(open_paths[0]); i++)
		if (path_matches(open_paths[i], request->path, &target))
			return true;
	return false;
}

unsigned int route_scope(const struct request *request)
{
	enum method method = method_parse(request->method);

	if (request->route == 0)
		return 0;
	switch (method) {
	case METHOD_GET:
	case METHOD_HEAD:
		return SCOPE_READ;
	case METHOD_POST:
	case METHOD_DELETE:
		return SCOPE_SUBMIT;
	case METHOD_PATCH:
		return SCOPE_ADMIN;
	case METHOD_OPTIONS:
	case METHOD_OTHER:
		break;
	}
	return 0;
}

enum MHD_Result route_dispatch(struct request *request)
{
	enum method method = method_parse(request->method);
	struct match match = match_route(request->path, method);
	char allow[ALLOW_SIZE];
	struct error error;

	if (method == METHOD_OPTIONS && strcmp(request->path, "*") == 0)
		match.methods = (1u << METHOD_OTHER) - 1;
	if (!match.methods)
		return reply_problem(request, MHD_HTTP_NOT_FOUND, NULL,
				     "there is nothing at this path");
	write_allow(match.methods, allow);
	if (method == METHOD_OPTIONS)
		return reply_empty(request, MHD_HTTP_NO_CONTENT, allow);
	if (!match.route)
		return reply_problem(request, MHD_HTTP_METHOD_NOT_ALLOWED, allow,
				     "this path does not know this method; Allow names those that "
				     "it knows");
	set_target(request, match.target);
	if (request_read_query(request, match.route->query, &error) < 0)
		return reply_error(request, &error, 0);
	return match.route->handle(request);
}
