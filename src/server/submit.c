/*
 * From a submission to queued jobs: everything that can be wrong with it is found before anything
 * is queued.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "server/state.h"

/* What a submission comes to once its names are resolved. */
struct order {
	const struct task *task;
	struct pool *pool;
	int64_t timeout_ms;
	char *labels; /* encoded; NULL if there are none */
	size_t labels_length;
};

static void append_name(struct buffer *names, const char *name)
{
	if (names->length > 0)
		buffer_append_text(names, ", ");
	buffer_append_char(names, '"');
	buffer_append_text(names, name);
	buffer_append_char(names, '"');
}

static int unknown_name(struct error *error, const char *field, const char *what, const char *found,
			struct buffer *names)
{
	buffer_append_char(names, '\0');
	int status = error_set(error, ERROR_INVALID, field,
			       "there is no %s \"%.60s\"; those that exist: %s", what, found,
			       buffer_failed(names) ? "" : names->data);
	buffer_release(names);
	return status;
}

static int find_task(const struct server *server, const char *name, const struct task **ret_task,
		     struct error *error)
{
	struct buffer names = {0};

	*ret_task = registry_find(server->registry, name);
	if (*ret_task && (*ret_task)->enabled)
		return 0;
	if (*ret_task)
		return error_set(error, ERROR_INVALID, "task",
				 "the task \"%s\" is not enabled; the configuration enables it by "
				 "{\"tasks\": {\"%s\": {\"enabled\": true}}}",
				 name, name);
	for (size_t i = 0; i < server->registry->count; i++)
		if (server->registry->tasks[i].enabled)
			append_name(&names, server->registry->tasks[i].definition->name);
	return unknown_name(error, "task", "task", name, &names);
}

static int find_pool(struct server *server, const char *name, struct pool **ret_pool,
		     struct error *error)
{
	struct buffer names = {0};
	int index = config_find_pool(server->config, name ? name : server->config->default_pool);

	if (index >= 0) {
		*ret_pool = &server->pools[index];
		return 0;
	}
	for (size_t i = 0; i < server->config->pool_count; i++)
		append_name(&names, server->config->pools[i].name);
	return unknown_name(error, "pool", "pool", name ? name : "", &names);
}

static int choose_timeout(const struct config_pool *pool, int64_t wanted_ms,
			  int64_t *ret_timeout_ms, struct error *error)
{
	if (wanted_ms < 0) {
		*ret_timeout_ms = pool->timeout_ms;
		return 0;
	}
	if (pool->max_timeout_ms > 0 && wanted_ms > pool->max_timeout_ms)
		return error_set(error, ERROR_INVALID, "timeout_ms",
				 "found %lld; the pool \"%s\" allows at most %lld",
				 (long long)wanted_ms, pool->name, (long long)pool->max_timeout_ms);
	*ret_timeout_ms = wanted_ms;
	return 0;
}

static int resolve(struct server *server, const struct submission *submission,
		   struct order *ret_order, struct error *error)
{
	struct order order = {0};
	int status = find_task(server, submission->task, &order.task, error);

	if (status == 0)
		status = find_pool(server, submission->pool, &order.pool, error);
	if (status == 0)
		status = choose_timeout(order.pool->config, submission->timeout_ms,
					&order.timeout_ms, error);
	if (status < 0)
		return status;
	if (order.pool->config->threads > 1 &&
	    !(order.task->definition->flags & TP_TASK_THREAD_SAFE))
		return error_set(error, ERROR_INVALID, "pool",
				 "the task \"%s\" is not thread-safe, and the pool \"%s\" runs %u "
				 "threads to a host",
				 submission->task, order.pool->config->name,
				 order.pool->config->threads);
	if (submission->labels && json_object_size(submission->labels) > 0) {
		order.labels = json_encode(submission->labels, &order.labels_length);
		if (!order.labels)
			return error_set(error, ERROR_INTERNAL, NULL, "memory is short");
	}
	*ret_order = order;
	return 0;
}

static void order_release(struct order *order)
{
	free(order->labels);
	order->labels = NULL;
}

/* Checks args against the task's schema, fills in defaults, encodes. Absent args stand for {} where
 * the task takes an object, for null otherwise. */
static int prepare_args(const struct task *task, json_t *args, const char *path, char **ret_args,
			size_t *ret_length, struct error *error)
{
	json_t *type = json_object_get(schema_document(task->args_schema), "type");
	bool wants_object = json_is_string(type) && strcmp(json_string_value(type), "object") == 0;
	json_t *value = args ? json_incref(args) : wants_object ? json_object() : json_null();
	int status = schema_check(task->args_schema, value, true, path, error);

	if (status == 0) {
		*ret_args = json_encode(value, ret_length);
		if (!*ret_args)
			status = error_set(error, ERROR_INTERNAL, NULL, "memory is short");
	}
	json_decref(value);
	return status;
}

/* Makes a job; takes args on success. NULL if memory is short. */
static struct job *make_job(struct server *server, const struct order *order, char *args,
			    size_t length, int64_t now_ns, int64_t now_real_ns)
{
	struct job *job = job_new();

	if (!job)
		return NULL;
	if (order->labels) {
		job->labels = malloc(order->labels_length);
		if (!job->labels) {
			job_free(job);
			return NULL;
		}
		memcpy(job->labels, order->labels, order->labels_length);
		job->labels_length = order->labels_length;
	}
	job->by_id.id = id_new();
	job->seq = server->next_seq++;
	job->task_index = order->task->index;
	job->task = order->task->definition->name;
	job->pool = order->pool->config->name;
	job->pool_index = order->pool->index;
	job->args = args;
	job->args_length = length;
	job->timeout_ms = order->timeout_ms;
	job->submitted_ns = now_ns;
	job->submitted_real_ns = now_real_ns;
	output_init(&job->stdout_output, order->pool->config->output_bytes);
	output_init(&job->stderr_output, order->pool->config->output_bytes);
	return job;
}

static int refuse_full(struct pool *pool, unsigned int *ret_retry_after, struct error *error)
{
	pool->rejected++;
	*ret_retry_after = queue_retry_after(pool, clock_monotonic_ns());
	return error_set(error, ERROR_OVERLOADED, NULL,
			 "the queue of the pool \"%s\" is full: %zu jobs with %llu bytes wait, of "
			 "at most %llu "
			 "jobs and %llu bytes",
			 pool->config->name, pool->queue_length,
			 (unsigned long long)pool->queue_bytes,
			 (unsigned long long)pool->config->queue_jobs,
			 (unsigned long long)pool->config->queue_bytes);
}

static int check_open(const struct server *server, struct error *error)
{
	if (server->shutdowns)
		return error_set(error, ERROR_UNAVAILABLE, NULL, "the service is shutting down");
	if (server->lost_master)
		return error_set(error, ERROR_UNAVAILABLE, NULL, "the service has lost its master");
	return 0;
}

static void enqueue(struct server *server, struct pool *pool, struct job *job)
{
	server->live++;
	pool->submitted++;
	queue_push(pool, job);
}

int server_submit(struct server *server, struct submission *submission, struct job **ret_job,
		  unsigned int *ret_retry_after, struct error *error)
{
	struct order order = {0};
	struct job *job = NULL;
	char *args = NULL;
	size_t length;
	int status = check_open(server, error);

	*ret_retry_after = 1;
	if (status == 0)
		status = resolve(server, submission, &order, error);
	if (status < 0)
		return status;
	status = prepare_args(order.task, submission->args, "args", &args, &length, error);
	if (status < 0)
		goto fail;
	/* An idle worker takes the job at once, whatever the queue's bounds. */
	if (list_empty(&order.pool->idle) && !queue_has_room(order.pool, 1, length)) {
		status = refuse_full(order.pool, ret_retry_after, error);
		goto fail;
	}
	job = make_job(server, &order, args, length, clock_monotonic_ns(), clock_realtime_ns());
	if (!job || store_add_job(&server->store, job) < 0) {
		status = error_set(error, ERROR_INTERNAL, NULL, "memory is short");
		goto fail;
	}
	order_release(&order);
	enqueue(server, order.pool, job);
	dispatch(order.pool);
	*ret_job = job;
	return 0;
fail:
	if (job)
		job_free(job); /* and its args */
	else
		free(args);
	order_release(&order);
	return status;
}

/* --- batches --------------------------------------------------------------------------------- */

/* Fills the batch with jobs; on failure some may be in it. */
static int fill_batch(struct server *server, const struct order *order, const json_t *list,
		      struct batch *batch, uint64_t *ret_bytes, struct error *error)
{
	char path[64];

	*ret_bytes = 0;
	for (size_t i = 0; i < batch->count; i++) {
		char *args;
		size_t length;
		snprintf(path, sizeof(path), "args[%zu]", i);
		int status = prepare_args(order->task, json_array_get(list, i), path, &args,
					  &length, error);
		if (status < 0)
			return status;
		batch->jobs[i] = make_job(server, order, args, length, batch->submitted_ns,
					  batch->submitted_real_ns);
		if (!batch->jobs[i]) {
			free(args);
			return error_set(error, ERROR_INTERNAL, NULL, "memory is short");
		}
		batch->jobs[i]->batch = batch;
		*ret_bytes += length;
	}
	return 0;
}

static int check_count(const struct server *server, size_t count, struct error *error)
{
	if (count >= 1 && count <= server->config->max_batch_jobs)
		return 0;
	return error_set(error, ERROR_INVALID, "args",
			 "found an array of %zu; expected 1 to %llu elements", count,
			 (unsigned long long)server->config->max_batch_jobs);
}

int server_submit_batch(struct server *server, struct submission *submission,
			struct batch **ret_batch, unsigned int *ret_retry_after,
			struct error *error)
{
	struct order order = {0};
	struct batch *batch = NULL;
	uint64_t bytes;
	int status = check_open(server, error);

	*ret_retry_after = 1;
	if (status == 0)
		status = check_count(server, json_array_size(submission->args), error);
	if (status == 0)
		status = resolve(server, submission, &order, error);
	if (status < 0)
		return status;
	batch = batch_new(json_array_size(submission->args));
	if (!batch) {
		status = error_set(error, ERROR_INTERNAL, NULL, "memory is short");
		goto fail;
	}
	batch->by_id.id = id_new();
	batch->task = order.task->definition->name;
	batch->pool = order.pool->config->name;
	batch->submitted_ns = clock_monotonic_ns();
	batch->submitted_real_ns = clock_realtime_ns();
	status = fill_batch(server, &order, submission->args, batch, &bytes, error);
	if (status == 0 && !queue_has_room(order.pool, batch->count, bytes))
		status = refuse_full(order.pool, ret_retry_after, error);
	if (status == 0 && store_add_batch(&server->store, batch) < 0)
		status = error_set(error, ERROR_INTERNAL, NULL, "memory is short");
	if (status < 0)
		goto fail;
	order_release(&order);
	for (size_t i = 0; i < batch->count; i++)
		enqueue(server, order.pool, batch->jobs[i]);
	dispatch(order.pool);
	*ret_batch = batch;
	return 0;
fail:
	batch_free(batch);
	order_release(&order);
	return status;
}
