/*
 * Reading what is not at hand, and the list of what is at hand and what is not.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/state.h"
#include "server/ticket.h"

/* --- reading ---------------------------------------------------------------------------------- */

static void job_read(struct ticket_work *work, struct store_request *request)
{
	struct ticket *ticket = work->ticket;

	if (!ticket) {
		store_request_free(request);
		return;
	}
	ticket->job = server_find_job(work->server, &work->id);
	if (request->status < 0)
		ticket_fail_by_store(work->server, ticket, "the job cannot be read");
	else if (request->row_count == 0 && !ticket->job)
		ticket_fail(ticket, ERROR_NOT_FOUND,
			    "there is no such job, or it is kept no longer");
	ticket->request = request;
	ticket_tell(ticket);
}

void server_read_job(struct server *server, const struct id *id, struct ticket *ticket)
{
	struct store_request *request = store_request_new(STORE_FETCH);
	struct ticket_work *work;

	if (request && store_request_ids(request, 1) == 0)
		request->ids[0] = *id;
	if (ticket_ask(server, request, ticket, &work, job_read) < 0) {
		ticket_clear(ticket);
		ticket_fail(ticket, ERROR_INTERNAL, "memory is short");
		return;
	}
	work->id = *id;
	share_watch(server, id);
	store_submit(server->store, request);
}

static void cancel_answered(struct ticket_work *work, struct store_request *request)
{
	struct ticket *ticket = work->ticket;

	if (request->status == 0 && request->row_count > 0)
		share_cancelled(work->server, &request->rows[0]); /* its end is on its way */
	if (!ticket) {
		store_request_free(request);
		return;
	}
	if (request->status == -EINPROGRESS) { /* the answer is the job as it is now */
		store_request_free(request);
		server_read_job(work->server, &work->id, ticket);
		return;
	}
	ticket->job = server_find_job(work->server, &work->id);
	ticket->cancelled = request->status == 0;
	if (request->status == -ENOENT)
		ticket_fail(ticket, ERROR_NOT_FOUND,
			    "there is no such job, or it is kept no longer");
	else if (request->status == -EALREADY)
		ticket_fail(ticket, ERROR_CONFLICT, "the job has ended already");
	else if (request->status < 0)
		ticket_fail_by_store(work->server, ticket, "the job cannot be cancelled");
	ticket->request = request;
	ticket_tell(ticket);
}

/* Of a store that is not shared, a live job is at hand, or soon will be. */
static void cancel_read(struct ticket_work *work, struct store_request *request)
{
	struct ticket *ticket = work->ticket;
	char id[ID_TEXT_SIZE];

	if (!ticket) {
		store_request_free(request);
		return;
	}
	ticket->job = server_find_job(work->server, &work->id);
	ticket->request = request;
	if (request->status < 0)
		ticket_fail_by_store(work->server, ticket, "the job cannot be read");
	else if (request->row_count == 0)
		ticket_fail(ticket, ERROR_NOT_FOUND,
			    "there is no such job, or it is kept no longer");
	else if (job_state_is_ended(request->rows[0].state))
		(void)error_set(&ticket->error, ERROR_CONFLICT, NULL,
				"job %s has ended already; its state is %s",
				id_format(&work->id, id), job_state_name(request->rows[0].state));
	else
		ticket_fail(ticket, ERROR_UNAVAILABLE,
			    "the job is being taken up after a start of the service; try again");
	ticket_tell(ticket);
}

void server_cancel_stored(struct server *server, const struct id *id, struct ticket *ticket)
{
	struct store_request *request =
		store_request_new(server->share.on ? STORE_CANCEL : STORE_FETCH);
	struct ticket_work *work;

	if (request && store_request_ids(request, 1) == 0)
		request->ids[0] = *id;
	if (ticket_ask(server, request, ticket, &work,
		       server->share.on ? cancel_answered : cancel_read) < 0) {
		ticket_clear(ticket);
		ticket_fail(ticket, ERROR_INTERNAL, "memory is short");
		return;
	}
	work->id = *id;
	share_watch(server, id);
	store_submit(server->store, request);
}

static void batch_read(struct ticket_work *work, struct store_request *request)
{
	struct ticket *ticket = work->ticket;

	if (!ticket) {
		store_request_free(request);
		return;
	}
	ticket->batch = server_find_batch(work->server, &work->id);
	if (request->status == -ENOENT)
		ticket_fail(ticket, ERROR_NOT_FOUND,
			    "there is no such batch, or it is kept no longer");
	else if (request->status < 0)
		ticket_fail_by_store(work->server, ticket, "the batch cannot be read");
	ticket->request = request;
	ticket_tell(ticket);
}

void server_read_batch(struct server *server, const struct id *id, struct ticket *ticket)
{
	struct store_request *request = store_request_new(STORE_FETCH_BATCH);
	struct ticket_work *work;

	if (request && store_request_ids(request, 1) == 0)
		request->ids[0] = *id;
	if (ticket_ask(server, request, ticket, &work, batch_read) < 0) {
		ticket_clear(ticket);
		ticket_fail(ticket, ERROR_INTERNAL, "memory is short");
		return;
	}
	work->id = *id;
	store_submit(server->store, request);
}

/* One that waits in the store, as it would be if it were at hand. */
static void write_revived(struct server *server, const struct store_row *row,
			  struct json_writer *writer, const char *key)
{
	const char *problem;
	struct job *job = submit_revive(server, row, &problem);

	if (!job) {
		json_write_null(writer, key);
		return;
	}
	job->state = row->state;
	if (row->state == JOB_SCHEDULED || row->state == JOB_QUEUED)
		job->due_ns = job->submitted_ns + (row->due_us - row->submitted_us) * NS_PER_US;
	if (row->state == JOB_QUEUED)
		job->queued_ns = job->due_ns > 0 ? job->due_ns : 1;
	job_write_json(job, clock_monotonic_ns(), writer, key);
	submit_unmake_job(server, job);
}

void server_write_row(struct server *server, const struct store_row *row,
		      struct json_writer *writer, const char *key)
{
	const struct job *job = server_find_job(server, &row->id);

	if (job)
		job_write_json(job, clock_monotonic_ns(), writer, key);
	else if (row->document)
		json_write_raw(writer, key, row->document, strlen(row->document));
	else
		write_revived(server, row, writer, key);
}

/* --- the list --------------------------------------------------------------------------------- */

static void list_read(struct ticket_work *work, struct store_request *request)
{
	struct ticket *ticket = work->ticket;

	if (!ticket) {
		store_request_free(request);
		return;
	}
	if (request->status < 0)
		ticket_fail_by_store(work->server, ticket, "the history cannot be read");
	ticket->request = request;
	ticket_tell(ticket);
}

static int copy_filter(const struct job_filter *filter, struct store_filter *ret_filter)
{
	*ret_filter = (struct store_filter){
		.states = filter->states,
		.pool = filter->pool ? strdup(filter->pool) : NULL,
		.task = filter->task ? strdup(filter->task) : NULL,
		.label_key = filter->label_key ? strdup(filter->label_key) : NULL,
		.label_value = filter->label_key ? strdup(filter->label_value) : NULL,
		.since_us = filter->since_us,
		.until_us = filter->until_us,
		.has_cursor = filter->has_cursor,
		.cursor = filter->cursor,
		.limit = filter->limit + 1, /* one more tells that there is more */
	};
	bool whole = !filter->pool == !ret_filter->pool && !filter->task == !ret_filter->task &&
		     !filter->label_key == !ret_filter->label_key &&
		     !filter->label_key == !ret_filter->label_value;
	return whole ? 0 : -ENOMEM;
}

void server_list(struct server *server, const struct job_filter *filter, struct ticket *ticket)
{
	struct store_request *request = store_request_new(STORE_LIST);
	struct ticket_work *work;

	if (request && copy_filter(filter, &request->filter) < 0) {
		store_request_free(request);
		request = NULL;
	}
	if (ticket_ask(server, request, ticket, &work, list_read) < 0) {
		ticket_clear(ticket);
		ticket_fail(ticket, ERROR_INTERNAL, "memory is short");
		return;
	}
	store_submit(server->store, request);
}

static bool has_label(const struct job *job, const char *key, const char *value)
{
	json_t *labels = job->labels ? json_loadb(job->labels, job->labels_length, 0, NULL) : NULL;
	const char *found = json_string_value(json_object_get(labels, key));
	bool is_same = found && strcmp(found, value) == 0;

	json_decref(labels);
	return is_same;
}

static bool matches(const struct job *job, const struct job_filter *filter)
{
	int64_t submitted_us = job->submitted_real_ns / NS_PER_US;

	return (!filter->states || (filter->states & (1U << job->state))) &&
	       (!filter->pool || strcmp(job->pool, filter->pool) == 0) &&
	       (!filter->task || strcmp(job->task, filter->task) == 0) &&
	       (!filter->since_us || submitted_us >= filter->since_us) &&
	       (!filter->until_us || submitted_us < filter->until_us) &&
	       (!filter->label_key || has_label(job, filter->label_key, filter->label_value));
}

/* A walk over both, from the newest to the oldest. */
struct walk {
	struct server *server;
	const struct job_filter *filter;
	struct job *job; /* the next one at hand that matches; NULL: none */
	size_t scanned;
	bool is_cut;   /* not all were looked at … */
	struct id cut; /* … but those that are newer than this, or this */
	const struct store_row *rows;
	size_t row_count;
	size_t next_row;
};

static void cut(struct walk *walk, const struct id *at)
{
	if (!walk->is_cut || id_compare(at, &walk->cut) > 0)
		walk->cut = *at;
	walk->is_cut = true;
}

static bool is_beyond(const struct walk *walk, const struct id *id)
{
	return walk->is_cut && id_compare(id, &walk->cut) < 0;
}

static void next_job(struct walk *walk, struct job *from)
{
	struct job *job = from;

	while (job && !matches(job, walk->filter)) {
		if (++walk->scanned >= SERVER_LIST_SCAN_MAX) {
			cut(walk, &job->by_id.id);
			job = NULL;
			break;
		}
		job = job_table_next_older(&walk->server->table, job);
	}
	walk->job = job && !is_beyond(walk, &job->by_id.id) ? job : NULL;
}

/* Rows of jobs that are at hand say what was: the job says what is. */
static const struct store_row *next_row(struct walk *walk)
{
	while (walk->next_row < walk->row_count) {
		const struct store_row *row = &walk->rows[walk->next_row];
		if (is_beyond(walk, &row->id))
			return NULL;
		if (!job_table_find_job(&walk->server->table, &row->id))
			return row;
		walk->next_row++;
	}
	return NULL;
}

static bool next_listed(struct walk *walk, struct listed *ret_listed)
{
	const struct store_row *row = next_row(walk);
	struct job *job = walk->job;

	if (!row && !job)
		return false;
	if (job && (!row || id_compare(&job->by_id.id, &row->id) > 0)) {
		if (job->host)
			job_refresh(walk->server, job);
		else
			job->queue_position = 0; /* it would cost a walk for each */
		*ret_listed = (struct listed){.job = job, .id = job->by_id.id};
		next_job(walk, job_table_next_older(&walk->server->table, job));
	} else {
		*ret_listed = (struct listed){.row = row, .id = row->id};
		walk->next_row++;
	}
	return true;
}

bool server_list_visit(struct server *server, const struct job_filter *filter,
		       const struct ticket *ticket,
		       bool (*visit)(const struct listed *listed, void *data), void *data,
		       struct id *ret_next)
{
	const struct store_request *request = ticket->request;
	struct walk walk = {.server = server, .filter = filter};
	struct listed listed;

	if (request && request->status == 0) {
		walk.rows = request->rows;
		walk.row_count = request->row_count;
		/* There are more, of which nothing is known. */
		if (walk.row_count > filter->limit || request->more)
			cut(&walk, &walk.rows[walk.row_count - 1].id);
	}
	next_job(&walk,
		 job_table_older(&server->table, filter->has_cursor ? &filter->cursor : NULL));
	for (uint32_t found = 0; found < filter->limit && next_listed(&walk, &listed); found++) {
		*ret_next = listed.id;
		if (!visit(&listed, data))
			return true;
	}
	if (next_row(&walk) || (walk.job && !is_beyond(&walk, &walk.job->by_id.id)))
		return true;
	if (walk.is_cut)
		*ret_next = walk.cut;
	return walk.is_cut;
}
