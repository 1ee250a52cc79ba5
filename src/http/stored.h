/*
 * What is not at hand any more, answered from the store's rows. Event loop only.
 */
#ifndef HTTP_STORED_H
#define HTTP_STORED_H

#include <microhttpd.h>

#include "base/clock.h"
#include "base/json.h"
#include "http/request.h"
#include "server/keep.h"

/* How often a job or batch is read again that is not at hand and is waited for. */
#define STORED_AGAIN_NS (250 * NS_PER_MS)

/* The row that was read, which the ticket owns; else the error, of which there is always one. */
int stored_row(const struct ticket *ticket, const struct store_row **ret_row, struct error *error);

/* Whether a batch was read: 0, or the error. */
int stored_batch(const struct ticket *ticket, struct error *error);

/* Answers with the error. A submission whose key stands for something that is kept no longer is a
 * conflict: it is not run again. */
enum MHD_Result stored_refuse(struct request *request, const struct error *error);

/* The document of a batch, as batches_write() makes it, of the answer to server_read_batch(). */
void stored_write_batch(struct server *server, const struct store_request *rows,
			struct json_writer *writer);

#endif
