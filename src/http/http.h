/*
 * The HTTP side: libmicrohttpd in external epoll mode on the server's event loop.
 *
 * A request is read whole (its body under a cap), routed by one table, and either answered at once
 * or suspended with a waiter on a job or a batch; the waiter's wake resumes the connection and the
 * re-entered handler answers.
 *
 * Thread: the event loop's.
 */
#ifndef HTTP_HTTP_H
#define HTTP_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "compare/compare.h"
#include "server/server.h"

struct http;

/* Listens as the configuration says; on the socket `inherited`, which is taken, if that is not -1.
 * server and compare are borrowed. 0, or -errno and *error (field "server.listen") if it cannot. */
int http_start(struct server *server, struct compare *compare, int inherited,
	       struct http **ret_http, struct error *error);

/* Another configuration is to take the place of the one in force: certificates are read again, and
 * hold from the next connection on. 0, or -errno and *error, and nothing has changed. */
int http_reload(struct http *http, const struct config *config, struct error *error);

/* Whether what http_start() would read can be read: 0, or -errno and *error. For a process that
 * does not serve. */
int http_check_files(const struct config *config, struct error *error);

/* "http://127.0.0.1:8080", with the port that was really bound, or "unix:/PATH". Borrowed. */
const char *http_url(const struct http *http);

/* Stops accepting connections; those that are open go on, are told "Connection: close" with their
 * next answer, and new submissions get 503. */
void http_quiesce(struct http *http);

/* Requests that were read whole and whose answer has not left. */
size_t http_requests_open(const struct http *http);

/* Wakes every waiting request (they are answered with the job as it stands), ends every stream,
 * then stops; clients get a second to take their answers. Before server_free() and loop_free(), and
 * not from inside a call that a request has made. NULL is allowed. */
void http_free(struct http *http);

#define HTTP_ROUTES_MAX 64
#define HTTP_CLASSES	6 /* of status: [2] = 2xx … */

struct http_snapshot {
	uint64_t connections;	       /* open now */
	uint64_t connections_accepted; /* since the start */
	uint64_t requests;
	uint64_t requests_open;
	uint64_t requests_waiting; /* suspended on a job or a batch */
	uint64_t streams_open;	   /* answers that go on: events of a job */
	uint64_t responses_by_class[HTTP_CLASSES];
	/* By the places of src/http/route.h. */
	uint64_t responses_by_route[HTTP_ROUTES_MAX][HTTP_CLASSES];
};

void http_snapshot_take(const struct http *http, struct http_snapshot *ret_snapshot);

#endif
