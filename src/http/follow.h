/*
 * GET /jobs/{id}/events of a job that is not at hand, since another service runs it or it waits in
 * the store: the store is asked again and again, and what has changed is told. So events come as
 * often as that, several changes may be told as one, and states that lasted for less are not told.
 * While somebody follows, the service that runs the job puts its progress and output into the store.
 *
 * Event loop only.
 */
#ifndef HTTP_FOLLOW_H
#define HTTP_FOLLOW_H

#include <microhttpd.h>

#include "http/request.h"

/* Answers with the events from behind the one with that id; NULL: from the beginning. */
enum MHD_Result follow_begin(struct request *request, const struct id *job, const char *last_id);

/* The end of a job that has ended, and is only in the store: all that there is to tell. */
void follow_write_end(struct buffer *buffer, struct server *server, const struct store_row *row);

#endif
