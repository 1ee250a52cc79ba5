#include "server/ticket.h"

#include <errno.h>
#include <stdlib.h>

#include "server/state.h"

void ticket_cancel(struct ticket *ticket)
{
	if (ticket->work)
		ticket->work->ticket = NULL;
	ticket->work = NULL;
	ticket->pending = false;
}

void ticket_release(struct ticket *ticket)
{
	store_request_free(ticket->request);
	ticket->request = NULL;
}

void ticket_clear(struct ticket *ticket)
{
	ticket_release(ticket);
	ticket->error = (struct error){0};
	ticket->job = NULL;
	ticket->batch = NULL;
	ticket->cancelled = false;
	ticket->replayed = false;
	ticket->is_found = false;
	ticket->found_batch = false;
}

void ticket_tell(struct ticket *ticket)
{
	if (!ticket)
		return;
	ticket->work = NULL;
	ticket->pending = false;
	ticket->told(ticket);
}

void ticket_fail(struct ticket *ticket, enum error_code code, const char *what)
{
	if (ticket)
		(void)error_set(&ticket->error, code, NULL, "%s", what);
}

void ticket_fail_by_store(const struct server *server, struct ticket *ticket, const char *what)
{
	struct store_stats stats;

	if (!ticket)
		return;
	store_stats(server->store, &stats);
	(void)error_set(&ticket->error, ERROR_UNAVAILABLE, NULL, "%s: %s", what,
			stats.error[0] ? stats.error : "the store has failed");
}

static void work_answered(struct store_request *request)
{
	struct ticket_work *work = request->data;

	request->data = NULL;
	work->answered(work, request);
	free(work);
}

int ticket_ask(struct server *server, struct store_request *request, struct ticket *ticket,
	       struct ticket_work **ret_work,
	       void (*answered)(struct ticket_work *work, struct store_request *request))
{
	struct ticket_work *work = request ? calloc(1, sizeof(*work)) : NULL;

	if (!work) {
		store_request_free(request);
		return -ENOMEM;
	}
	work->server = server;
	work->ticket = ticket;
	work->answered = answered;
	request->data = work;
	request->done = work_answered;
	if (ticket) {
		ticket_clear(ticket);
		ticket->work = work;
		ticket->pending = true;
	}
	*ret_work = work;
	return 0;
}
