/*
 * What the files of src/http share of the running daemon. Nobody outside of it includes this.
 *
 * Event loop only, every field.
 */
#ifndef HTTP_DAEMON_H
#define HTTP_DAEMON_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "http/http.h"
#include "http/listen.h"
#include "http/tls.h"
#include "server/loop.h"
#include "server/server.h"

struct http {
	struct server *server;	 /* borrowed; its configuration may be another one at each turn */
	struct compare *compare; /* borrowed */
	struct loop *loop;	 /* borrowed */
	struct MHD_Daemon *daemon;
	struct listener listener; /* closed once quiesced */
	struct tls *tls;	  /* NULL: plain HTTP */

	struct loop_source source; /* the daemon's epoll */
	struct loop_hook hook;
	bool run_needed; /* something is ready, or was resumed */
	bool running;	 /* in MHD_run() */
	int64_t due_ns;	 /* when the daemon wants to run next; 0 = only when something is ready */

	bool quiesced;
	bool ending; /* nothing may be suspended any more */

	/* Requests that are suspended, by when they were: not yet watched for a client that hangs
	 * up, and watched. */
	struct list waiting;
	struct list watched;

	struct list held; /* requests that wait for the store */

	/* Answers that go on: suspended ones, by when they were, and the others. */
	struct list streams_waiting;
	struct list streams;

	uint64_t connections;
	uint64_t connections_accepted;
	uint64_t requests;
	uint64_t requests_open;	    /* begun and not completed */
	uint64_t requests_answered; /* of those, read whole: being answered */
	uint64_t requests_waiting;  /* of those, suspended for a wait */
	uint64_t streams_open;
	uint64_t responses_by_class[HTTP_CLASSES];
	uint64_t responses_by_route[HTTP_ROUTES_MAX][HTTP_CLASSES];
};

/* For MHD_OPTION_*; defined in request.c. */
enum MHD_Result request_handle(void *http, struct MHD_Connection *connection, const char *url,
			       const char *method, const char *version, const char *upload_data,
			       size_t *upload_data_size, void **connection_state);
void request_completed(void *http, struct MHD_Connection *connection, void **connection_state,
		       enum MHD_RequestTerminationCode why);

#endif
