/*
 * Held requests.
 *
 * Invariant: the hold is on http->held from MHD_suspend_connection() to MHD_resume_connection(), and
 * exactly then its ticket is pending or its timer set.
 */
#include "http/hold.h"

#include "base/clock.h"
#include "http/daemon.h"
#include "http/request.h"

static struct request *request_of(struct hold *hold)
{
	return container_of(hold, struct request, hold);
}

static void resume(struct hold *hold)
{
	struct http *http = request_of(hold)->http;

	list_remove(&hold->node);
	hold->woken = true;
	http->run_needed = true;
	MHD_resume_connection(request_of(hold)->connection);
}

/* By now what the ticket names is there; when the handler is called again it may be forgotten. */
static void note_id(struct hold *hold)
{
	const struct ticket *ticket = &hold->ticket;

	if (ticket->replayed || ticket->is_found)
		hold->id = ticket->found;
	else if (ticket->job)
		hold->id = ticket->job->by_id.id;
	else if (ticket->batch)
		hold->id = ticket->batch->by_id.id;
}

static void told(struct ticket *ticket)
{
	struct hold *hold = container_of(ticket, struct hold, ticket);

	note_id(hold);
	resume(hold);
}

static void expired(struct loop_timer *timer)
{
	resume(container_of(timer, struct hold, timer));
}

void hold_init(struct hold *hold)
{
	list_init(&hold->node);
	hold->ticket.told = told;
	loop_timer_init(&hold->timer, expired);
}

void hold_release(struct hold *hold)
{
	ticket_release(&hold->ticket);
}

static void suspend(struct request *request, enum MHD_Result (*then)(struct request *request))
{
	struct hold *hold = &request->hold;

	hold->then = then;
	list_append(&request->http->held, &hold->node);
	MHD_suspend_connection(request->connection);
}

static void say_ending(struct hold *hold)
{
	(void)error_set(&hold->ticket.error, ERROR_UNAVAILABLE, NULL,
			"the service is shutting down");
}

enum MHD_Result hold_until_told(struct request *request,
				enum MHD_Result (*then)(struct request *request))
{
	struct hold *hold = &request->hold;

	if (hold->ticket.pending && request->http->ending) {
		ticket_cancel(&hold->ticket);
		say_ending(hold);
	}
	if (!hold->ticket.pending) {
		note_id(hold);
		return then(request);
	}
	suspend(request, then);
	return MHD_YES;
}

enum MHD_Result hold_for(struct request *request, int64_t ns,
			 enum MHD_Result (*then)(struct request *request))
{
	struct hold *hold = &request->hold;

	if (request->http->ending ||
	    loop_timer_set(request->http->loop, &hold->timer, clock_monotonic_ns() + ns) < 0) {
		hold->deadline_ns = clock_monotonic_ns();
		return then(request);
	}
	suspend(request, then);
	return MHD_YES;
}

enum MHD_Result hold_go_on(struct request *request)
{
	request->hold.woken = false;
	return request->hold.then(request);
}

void hold_end_all(struct http *http)
{
	while (!list_empty(&http->held)) {
		struct hold *hold = container_of(http->held.next, struct hold, node);
		if (hold->ticket.pending) {
			ticket_cancel(&hold->ticket);
			say_ending(hold);
		}
		loop_timer_cancel(http->loop, &hold->timer);
		resume(hold);
	}
}
