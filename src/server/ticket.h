/*
 * Tickets (see keep.h) and what was asked of the store for them. For the files of src/server that ask.
 *
 * Event loop only.
 */
#ifndef SERVER_TICKET_H
#define SERVER_TICKET_H

#include "server/keep.h"

/* What was asked of the store, until it has answered. */
struct ticket_work {
	struct server *server;
	struct ticket *ticket; /* NULL if nobody is to be told */
	struct job *job;       /* being put; ours */
	struct batch *batch;
	int64_t delay_ms;
	bool is_claimed;
	struct id id; /* being kept or read */
	void (*answered)(struct ticket_work *work, struct store_request *request);
};

/* No answer yet. */
void ticket_clear(struct ticket *ticket);
/* The answer is there. NULL is allowed here and in the next ones: nobody asks any more. */
void ticket_tell(struct ticket *ticket);
void ticket_fail(struct ticket *ticket, enum error_code code, const char *what);
/* The store has failed: what it says of itself is for whoever asked. */
void ticket_fail_by_store(const struct server *server, struct ticket *ticket, const char *what);

/* Makes the work that gives the ticket, if there is one, the request's answer: answered() is to call
 * ticket_tell(), and the work is freed after it. The request is then to be submitted. 0, or -ENOMEM
 * and nothing happens. The request is taken; NULL stands for one that could not be made. */
int ticket_ask(struct server *server, struct store_request *request, struct ticket *ticket,
	       struct ticket_work **ret_work,
	       void (*answered)(struct ticket_work *work, struct store_request *request));

#endif
