/*
 * The shared store: one queue in PostgreSQL for several services.
 *
 * Three connections: the writer's, the reader's (each made when it is first needed, and again after
 * it was lost), and that of the lease (postgresql_heart.c). A group of requests is one transaction
 * and one trip to the database: all its statements go out at once, as a pipeline.
 *
 * A transaction may be tried more than once before write() answers:
 * - for a lost connection once more, on a new one, with all that may be in already taken for our
 *   own doing (postgresql_node.h, "uncertain");
 * - after a deadlock or a lock's timeout a few times;
 * - when the data of one request is refused (text that is no UTF-8, labels that are no JSON), each
 *   request by itself, so that one does not take the others along: that one answers -EINVAL.
 *
 * After a failure the backend can go on: the next call connects anew, as the same boot unless that
 * was taken over. If it is closed in health, the lease is ended at once.
 */
#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/backend.h"
#include "store/postgresql_operations.h"
#include "store/postgresql_schema.h"

#define TRIES_AFTER_LOSS     1
#define TRIES_AFTER_CONFLICT 3
#define SIZE_EVERY_NS	     (10 * NS_PER_S)

struct backend {
	const struct config *config; /* borrowed */
	struct pg_node node;
	struct pg_heart *heart;
	int32_t schema;
	struct pg_link writer;
	bool is_new;	 /* the writer's connection has not written yet */
	bool has_failed; /* the last write() did */
	struct pg_memory memory;
	struct pg_link reader;
	int64_t size_bytes;
	int64_t size_ns; /* monotonic; when that was found out; 0: never */
};

static int connect_link(const struct backend *backend, struct pg_link *link, const char *role,
			char message[static PG_MESSAGE_SIZE])
{
	char application[96];

	if (link->conn)
		return 0;
	snprintf(application, sizeof(application), "twinpool %s %s", backend->node.name, role);
	return pg_link_open(link, backend->config->store.connection, application, message);
}

/* The writer's connection, as the one that writes for our boot; *ret_view: as which. */
static int begin_writing(struct backend *backend, struct pg_view *ret_view,
			 char message[static PG_MESSAGE_SIZE])
{
	int status = 0;

	if (!backend->writer.conn) {
		status = connect_link(backend, &backend->writer, "writer", message);
		if (status == 0)
			status = pg_link_prepare(&backend->writer, pg_statements, PG_STATEMENTS,
						 message);
		backend->is_new = true;
	}
	if (status == 0)
		status = pg_node_begin(&backend->node, &backend->writer, backend->schema,
				       backend->is_new, ret_view, message);
	if (status == 0)
		backend->is_new = false;
	return status;
}

/* --- a transaction -------------------------------------------------------------------------------- */

/* What is sent around the steps of a plan. */
enum { SENT_SYNC = 1, SENT_BEGIN = 2 };

static int queue_plan(struct pg_link *link, const struct pg_plan *plan, bool sync,
		      unsigned int *sent, char message[static PG_MESSAGE_SIZE])
{
	char sql[64];
	int status = pg_pipeline_begin(link, message);

	*sent = 0;
	if (status == 0 && link->is_sync != sync) {
		snprintf(sql, sizeof(sql), "SET synchronous_commit = %s",
			 sync ? link->sync : "off");
		status = pg_pipeline_queue(link, sql, message);
		*sent |= SENT_SYNC;
	}
	if (status == 0)
		status = pg_pipeline_queue(link, "BEGIN", message);
	for (size_t i = 0; i < plan->count && status == 0; i++)
		status = pg_pipeline_queue_prepared(link, plan->steps[i].statement,
						    &plan->steps[i].params, message);
	if (status == 0)
		status = pg_pipeline_queue(link, "COMMIT", message);
	return status != 0 ? status : pg_pipeline_flush(link, message);
}

/* Takes all answers; the first bad one counts. */
static int take_answers(struct pg_link *link, struct pg_plan *plan, bool sync, unsigned int sent,
			char message[static PG_MESSAGE_SIZE])
{
	char other[PG_MESSAGE_SIZE] = "";
	int first = 0, status = 0;

	if (sent & SENT_SYNC) {
		first = pg_pipeline_take(link, NULL, message);
		if (first == 0)
			link->is_sync = sync;
	}
	/* BEGIN, the steps, COMMIT */
	for (size_t i = 0; i < plan->count + 2 && link->conn; i++) {
		struct pg_result **result =
			i >= 1 && i <= plan->count ? &plan->steps[i - 1].result : NULL;

		status = pg_pipeline_take(link, result, first == 0 ? message : other);
		if (first == 0)
			first = status;
	}
	if (link->conn) {
		status = pg_pipeline_end(link, first == 0 ? message : other);
		if (first == 0)
			first = status;
	}
	return link->conn ? first : -ECONNRESET;
}

/* The answers to what was sent are lost, or cannot be used: it may be in. */
static void set_uncertain(struct backend *backend, const struct pg_plan *plan)
{
	struct pg_node *node = &backend->node;

	node->uncertain_ns = clock_monotonic_ns();
	if (plan->first_take == 0)
		return;
	if (node->lost_to == 0)
		node->lost_from = plan->first_take;
	node->lost_to = plan->last_take;
}

static int carry_out(struct backend *backend, struct pg_plan *plan, bool sync,
		     char message[static PG_MESSAGE_SIZE])
{
	unsigned int sent = 0;
	int status = queue_plan(&backend->writer, plan, sync, &sent, message);

	if (status == 0)
		status = take_answers(&backend->writer, plan, sync, sent, message);
	if (status == -ECONNRESET || status == -ECANCELED)
		set_uncertain(backend, plan);
	if (status == 0 && plan->gives_back) {
		backend->node.lost_from = 0;
		backend->node.lost_to = 0;
	}
	return status;
}

/* One try at one transaction. */
static int try_group(struct backend *backend, struct store_request **requests, size_t count,
		     bool sync, char message[static PG_MESSAGE_SIZE])
{
	struct pg_plan plan = {
		.config = backend->config, .node = &backend->node, .memory = &backend->memory};
	int status = begin_writing(backend, &plan.view, message);

	if (status != 0)
		return status;
	status = pg_plan_make(&plan, requests, count);
	if (status != 0)
		snprintf(message, PG_MESSAGE_SIZE, "memory is short");
	else
		status = carry_out(backend, &plan, sync, message);
	if (status == 0) {
		status = pg_plan_apply(&plan);
		if (status != 0) {
			snprintf(message, PG_MESSAGE_SIZE, "memory is short");
			set_uncertain(backend, &plan);
		} else if (plan.announce && pg_node_has_others(&backend->node)) {
			pg_heart_announce(backend->heart);
		}
	}
	pg_plan_release(&plan);
	return status;
}

static int write_group(struct backend *backend, struct store_request **requests, size_t count,
		       bool sync, char message[static PG_MESSAGE_SIZE])
{
	int losses = TRIES_AFTER_LOSS, conflicts = TRIES_AFTER_CONFLICT;
	int status;

	for (;;) {
		status = try_group(backend, requests, count, sync, message);
		if (status == -ECONNRESET) {
			pg_node_disturbed(&backend->node);
			if (losses-- > 0)
				continue;
		} else if (pg_is_conflict(status) && conflicts-- > 0) {
			continue;
		}
		return status;
	}
}

/* Each by itself; what is refused again is at fault. */
static int write_apart(struct backend *backend, struct store_request **requests, size_t count,
		       bool sync, char message[static PG_MESSAGE_SIZE])
{
	for (size_t i = 0; i < count; i++) {
		int status = write_group(backend, requests + i, 1, sync, message);

		if (pg_is_refused(status)) {
			log_error("store_refused", log_int("op", requests[i]->op),
				  log_str("reason", message));
			requests[i]->status = -EINVAL;
		} else if (status != 0) {
			/* Those before it are in: they are recognised when the group is repeated. */
			backend->node.uncertain_ns = clock_monotonic_ns();
			return status;
		}
	}
	return 0;
}

static int write_requests(struct backend *backend, struct store_request **requests, size_t count,
			  bool sync, char message[static PG_MESSAGE_SIZE])
{
	int status = write_group(backend, requests, count, sync, message);

	if (pg_is_refused(status))
		status = write_apart(backend, requests, count, sync, message);
	backend->has_failed = status != 0;
	return status;
}

/* --- reading, size -------------------------------------------------------------------------------- */

static int run_plan(struct pg_link *link, struct pg_plan *plan,
		    char message[static PG_MESSAGE_SIZE])
{
	int status = 0;

	for (size_t i = 0; i < plan->count && status == 0; i++)
		status =
			pg_link_run_prepared(link, plan->steps[i].statement, &plan->steps[i].params,
					     &plan->steps[i].result, message);
	return status;
}

static int try_read(struct backend *backend, struct store_request *request,
		    char message[static PG_MESSAGE_SIZE])
{
	struct pg_plan plan = {.config = backend->config,
			       .node = &backend->node,
			       .memory = NULL, /* the writer's */
			       .view = pg_node_view(&backend->node)};
	int status = 0;

	if (!backend->reader.conn) {
		status = connect_link(backend, &backend->reader, "reader", message);
		if (status == 0)
			status = pg_link_prepare(&backend->reader, pg_statements, PG_STATEMENTS,
						 message);
	}
	if (status == 0)
		status = pg_plan_make(&plan, &request, 1);
	if (status == 0)
		status = run_plan(&backend->reader, &plan, message);
	if (status == 0)
		status = pg_plan_apply(&plan);
	if (status == -ENOMEM)
		snprintf(message, PG_MESSAGE_SIZE, "memory is short");
	pg_plan_release(&plan);
	return status;
}

static int read_request(struct backend *backend, struct store_request *request,
			char message[static PG_MESSAGE_SIZE])
{
	int status = try_read(backend, request, message);

	return status == -ECONNRESET ? try_read(backend, request, message) : status;
}

static int64_t size_of(struct backend *backend)
{
	char message[PG_MESSAGE_SIZE];
	struct pg_result *result = NULL;
	int64_t now_ns = clock_monotonic_ns();

	if (backend->size_ns != 0 && now_ns - backend->size_ns < SIZE_EVERY_NS)
		return backend->size_bytes;
	if (!backend->writer.conn)
		return -1;
	if (pg_link_run_prepared(&backend->writer, PG_SIZE, NULL, &result, message) != 0)
		return -1;
	backend->size_bytes = pg_get_int8(result, 0, 0);
	backend->size_ns = now_ns;
	PQclear(result);
	return backend->size_bytes;
}

/* --- open, close ---------------------------------------------------------------------------------- */

static void close_backend(struct backend *backend)
{
	bool is_healthy;

	if (!backend)
		return;
	is_healthy = backend->writer.conn && !backend->has_failed;
	pg_heart_stop(backend->heart);
	if (is_healthy)
		pg_node_release(&backend->node, &backend->writer);
	pg_link_close(&backend->writer);
	pg_link_close(&backend->reader);
	pg_memory_release(&backend->memory);
	pg_node_destroy(&backend->node);
	free(backend);
}

static int open_writer(struct backend *backend, char message[static PG_MESSAGE_SIZE])
{
	struct pg_view view;
	int status = connect_link(backend, &backend->writer, "writer", message);

	if (status == 0)
		status = pg_schema_ensure(&backend->writer, &backend->schema, message);
	if (status == 0)
		status = pg_link_prepare(&backend->writer, pg_statements, PG_STATEMENTS, message);
	if (status != 0)
		return status;
	backend->is_new = true;
	return begin_writing(backend, &view, message);
}

static int open_backend(const struct config *config, void (*hint)(void *data), void *data,
			struct backend **ret_backend, char message[static PG_MESSAGE_SIZE])
{
	struct backend *backend = calloc(1, sizeof(*backend));
	int status;

	snprintf(message, PG_MESSAGE_SIZE, "memory is short");
	if (!backend)
		return -ENOMEM;
	backend->config = config;
	backend->writer.stop_fd = -1;
	backend->reader.stop_fd = -1;
	backend->has_failed = true; /* until it is open */
	status = pg_node_init(&backend->node, &config->store);
	if (status != 0) {
		free(backend);
		return status;
	}
	status = open_writer(backend, message);
	if (status == 0)
		status = pg_heart_start(&backend->node, backend->schema, hint, data,
					&backend->heart);
	if (status != 0) {
		close_backend(backend);
		return status;
	}
	backend->has_failed = false;
	*ret_backend = backend;
	return 0;
}

const struct backend_class backend_postgresql = {
	.name = "postgresql",
	.is_durable = true,
	.is_shared = true,
	.open = open_backend,
	.close = close_backend,
	.write = write_requests,
	.read = read_request,
	.size = size_of,
};
