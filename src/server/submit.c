/*
 * From a submission to queued jobs: everything that can be wrong with it is found before anything
 * is queued.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "job/record.h"
#include "server/state.h"

#ifdef TWINPOOL_JEMALLOC
#define SERVER_HAS_HEAP_LIMIT true
#else
#define SERVER_HAS_HEAP_LIMIT false
#endif

#define CAPS_MAX (1 + CONFIG_LABEL_LIMITS_MAX)

/* What a submission comes to once its names are resolved and its wishes are held against what is
 * allowed. */
struct order {
	const struct submission *submission;
	const struct task *task;
	const char *name; /* the task's; outlives the registry */
	struct pool *pool;
	struct config_limits
		limits; /* of these, only those that hold: the max_ ones are not used */
	uint64_t output_bytes;
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

static int unknown_name(struct error *error, enum error_code code, const char *field,
			const char *what, const char *found, struct buffer *names)
{
	buffer_append_char(names, '\0');
	int status = error_set(error, code, field, "there is no %s \"%.60s\"; those that exist: %s",
			       what, found, buffer_failed(names) ? "" : names->data);
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
	if (*ret_task && !(*ret_task)->is_internal)
		return error_set(error, ERROR_INVALID, "task",
				 "the task \"%s\" is not enabled; the configuration enables it by "
				 "{\"tasks\": {\"%s\": {\"enabled\": true}}}",
				 name, name);
	for (size_t i = 0; i < server->registry->count; i++)
		if (server->registry->tasks[i].enabled)
			append_name(&names, server->registry->tasks[i].definition->name);
	return unknown_name(error, ERROR_INVALID, "task", "task", name, &names);
}

void server_unknown_pool(const struct server *server, enum error_code code, const char *field,
			 const char *name, struct error *error)
{
	struct buffer names = {0};

	for (uint32_t i = 0; i < server->pool_count; i++)
		append_name(&names, server->pools[i].name);
	unknown_name(error, code, field, "pool", name, &names);
}

static int find_pool(struct server *server, const char *name, struct pool **ret_pool,
		     struct error *error)
{
	int index = server_find_pool(server, name ? name : server->config->default_pool);

	if (index < 0) {
		server_unknown_pool(server, ERROR_INVALID, "pool", name, error);
		return -EINVAL;
	}
	*ret_pool = &server->pools[index];
	return 0;
}

/* --- limits: what is asked for, else the task's default, else the pool's; at most the lesser
 * maximum -------- */

/* 0 and CONFIG_UNSET mean none. */
static int64_t lesser_maximum(int64_t a, int64_t b)
{
	if (a <= 0)
		return b > 0 ? b : 0;
	return b > 0 && b < a ? b : a;
}

static int choose(int64_t wished, int64_t task_default, int64_t pool_default, int64_t maximum,
		  const char *field, int64_t *ret_limit, struct error *error)
{
	int64_t limit = wished;

	if (wished == SUBMISSION_UNSET) {
		limit = task_default != CONFIG_UNSET ? task_default : pool_default;
		if (maximum > 0 && (limit == 0 || limit > maximum))
			limit = maximum; /* no job goes without a limit where there is a maximum */
	} else if (maximum > 0 && wished > maximum) {
		return error_set(error, ERROR_INVALID, field, "found %lld; expected at most %lld",
				 (long long)wished, (long long)maximum);
	}
	*ret_limit = limit;
	return 0;
}

static int choose_limits(const struct submission *wish, struct order *order, struct error *error)
{
	static const struct config_limits unset = {CONFIG_UNSET, CONFIG_UNSET, CONFIG_UNSET,
						   CONFIG_UNSET, CONFIG_UNSET, CONFIG_UNSET,
						   CONFIG_UNSET, CONFIG_UNSET};
	const struct config_limits *task =
		order->task->settings ? &order->task->settings->limits : &unset;
	const struct config_limits *pool = &order->pool->config->limits;
	struct config_limits *limits = &order->limits;
	const struct {
		int64_t wished, task_default, pool_default, task_maximum, pool_maximum;
		const char *field;
		int64_t *limit;
	} choices[] = {
		{wish->timeout_ms, task->timeout_ms, pool->timeout_ms, task->max_timeout_ms,
		 pool->max_timeout_ms, "timeout_ms", &limits->timeout_ms},
		{wish->queue_ttl_ms, task->queue_ttl_ms, pool->queue_ttl_ms, task->max_queue_ttl_ms,
		 pool->max_queue_ttl_ms, "queue_ttl_ms", &limits->queue_ttl_ms},
		{wish->cpu_ms, task->cpu_ms, pool->cpu_ms, task->max_cpu_ms, pool->max_cpu_ms,
		 "limits.cpu_ms", &limits->cpu_ms},
		{wish->memory_bytes, task->memory_bytes, pool->memory_bytes, task->max_memory_bytes,
		 pool->max_memory_bytes, "limits.memory_bytes", &limits->memory_bytes},
	};

	for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
		int status =
			choose(choices[i].wished, choices[i].task_default, choices[i].pool_default,
			       lesser_maximum(choices[i].task_maximum, choices[i].pool_maximum),
			       choices[i].field, choices[i].limit, error);
		if (status < 0)
			return status;
	}
	return 0;
}

static int check_attempts_and_output(const struct submission *wish, struct order *order,
				     struct error *error)
{
	const struct config_pool *pool = order->pool->config;

	if (wish->max_attempts > pool->max_attempts)
		return error_set(error, ERROR_INVALID, "max_attempts",
				 "found %lld; expected at most %u", (long long)wish->max_attempts,
				 pool->max_attempts);
	order->output_bytes = pool->output_bytes;
	if (wish->output_bytes == SUBMISSION_UNSET)
		return 0;
	if ((uint64_t)wish->output_bytes > pool->max_output_bytes)
		return error_set(error, ERROR_INVALID, "limits.output_bytes",
				 "found %lld; expected at most %llu", (long long)wish->output_bytes,
				 (unsigned long long)pool->max_output_bytes);
	order->output_bytes = (uint64_t)wish->output_bytes;
	return 0;
}

/* What the pool cannot do for this job. */
static int check_pool(const struct order *order, struct error *error)
{
	const struct config_pool *pool = order->pool->config;

	if (pool->threads > 1 && !(order->task->definition->flags & TP_TASK_THREAD_SAFE))
		return error_set(error, ERROR_INVALID, "pool",
				 "the task \"%s\" is not thread-safe, and the pool \"%s\" runs %u "
				 "threads to a host",
				 order->task->definition->name, pool->name, pool->threads);
	if (pool->threads > 1 && order->limits.memory_bytes > 0 && !SERVER_HAS_HEAP_LIMIT)
		return error_set(error, ERROR_INVALID, "limits.memory_bytes",
				 "cannot be enforced on the pool \"%s\": its hosts have several "
				 "threads, the kernel accounts "
				 "no memory to a thread, and this build is without jemalloc",
				 pool->name);
	return 0;
}

static int keep_name(struct server *server, struct order *order, struct error *error)
{
	order->name = names_keep(&server->names, order->task->definition->name);
	return order->name ? 0 : error_set(error, ERROR_INTERNAL, NULL, "memory is short");
}

static int resolve(struct server *server, const struct submission *submission,
		   struct order *ret_order, struct error *error)
{
	struct order order = {.submission = submission};
	int status = find_task(server, submission->task, &order.task, error);

	if (status == 0)
		status = keep_name(server, &order, error);
	if (status == 0)
		status = find_pool(server, submission->pool, &order.pool, error);
	if (status == 0)
		status = choose_limits(submission, &order, error);
	if (status == 0)
		status = check_attempts_and_output(submission, &order, error);
	if (status == 0)
		status = check_pool(&order, error);
	if (status == 0 && submission->labels && json_object_size(submission->labels) > 0) {
		order.labels = json_encode(submission->labels, &order.labels_length);
		if (!order.labels)
			status = error_set(error, ERROR_INTERNAL, NULL, "memory is short");
	}
	if (status == 0)
		*ret_order = order;
	return status;
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

/* --- caps ------------------------------------------------------------------------------------- */

/* Adds the cap "KIND:NAME", or "POOL:NAME=VALUE" for a label: its limit is the pool's. */
static int add_cap(struct caps *caps, struct job *job, unsigned int limit, const char *kind,
		   const char *name, const char *value)
{
	char *key = NULL;

	if (asprintf(&key, "%s:%s%s%s", kind, name, value ? "=" : "", value ? value : "") < 0)
		return -ENOMEM;
	job->caps[job->cap_count] = caps_hold(caps, key, limit, job->pool_index);
	free(key);
	if (!job->caps[job->cap_count])
		return -ENOMEM;
	job->cap_count++;
	return 0;
}

/* The caps that the job counts against: its task's, and those of its labels. */
static int add_caps(struct server *server, const struct task *task, const json_t *labels,
		    struct job *job)
{
	const struct config_pool *pool = server->pools[job->pool_index].config;
	unsigned int max_running = task->settings ? task->settings->max_running : 0;
	int status = 0;

	if (server->pools[job->pool_index].lab ||
	    (max_running == 0 && pool->label_limit_count == 0))
		return 0; /* caps know the pools of the configuration only */
	job->caps = calloc(CAPS_MAX, sizeof(struct cap *));
	if (!job->caps)
		return -ENOMEM;
	if (max_running > 0)
		status = add_cap(&server->caps, job, max_running, "(task)", job->task, NULL);
	for (size_t i = 0; status == 0 && i < pool->label_limit_count; i++) {
		const struct config_label_limit *limit = &pool->label_limits[i];
		const char *value = json_string_value(json_object_get(labels, limit->label));
		if (value)
			status = add_cap(&server->caps, job, limit->running, pool->name,
					 limit->label, value);
	}
	return status;
}

/* --- the job ---------------------------------------------------------------------------------- */

static int copy_labels(const struct order *order, struct job *job)
{
	if (!order->labels)
		return 0;
	job->labels = malloc(order->labels_length);
	if (!job->labels)
		return -ENOMEM;
	memcpy(job->labels, order->labels, order->labels_length);
	job->labels_length = order->labels_length;
	return 0;
}

static int copy_callback(const struct submission *submission, struct job *job)
{
	if (!submission->callback_url)
		return 0;
	job->callback = strdup(submission->callback_url);
	return job->callback ? 0 : -ENOMEM;
}

static void set_terms(const struct order *order, struct job *job)
{
	const struct submission *submission = order->submission;

	job->priority = (int)submission->priority;
	job->timeout_ms = order->limits.timeout_ms;
	job->queue_ttl_ms = order->limits.queue_ttl_ms;
	job->cpu_ms = order->limits.cpu_ms;
	job->memory_bytes = order->limits.memory_bytes;
	job->stop_on_output = submission->stop_on_output;
	job->cancel_on_disconnect = submission->cancel_on_disconnect;
	job->max_attempts = (uint32_t)submission->max_attempts;
	job->retry = submission->retry;
	output_init(&job->stdout_output, order->output_bytes);
	output_init(&job->stderr_output, order->output_bytes);
}

void submit_unmake_job(struct server *server, struct job *job)
{
	if (!job)
		return;
	caps_release(&server->caps, job);
	job_free(job);
}

/* Makes a job; takes args on success. NULL if memory is short. */
static struct job *make_job(struct server *server, const struct order *order, char *args,
			    size_t length, int64_t now_ns, int64_t now_real_ns)
{
	const struct submission *submission = order->submission;
	struct job *job = job_new();

	if (!job)
		return NULL;
	job->by_id.id = id_new();
	job->seq = server->next_seq++;
	job->task_index = order->task->index;
	job->task = order->name;
	job->pool = order->pool->name;
	job->pool_index = order->pool->index;
	job->submitted_ns = now_ns;
	job->submitted_real_ns = now_real_ns;
	set_terms(order, job);
	if (copy_labels(order, job) < 0 || copy_callback(submission, job) < 0 ||
	    add_caps(server, order->task, submission->labels, job) < 0) {
		submit_unmake_job(server, job);
		return NULL;
	}
	job->args = args;
	job->args_length = length;
	return job;
}

static int refuse_full(struct pool *pool, unsigned int *ret_retry_after, struct error *error)
{
	unsigned long long bytes = pool->queue.bytes + pool->scheduled_bytes;

	pool->rejected++;
	*ret_retry_after = dispatch_retry_after(pool, clock_monotonic_ns());
	return error_set(error, ERROR_OVERLOADED, NULL,
			 "the queue of the pool \"%s\" is full: %zu jobs with %llu bytes wait, of "
			 "at most %llu jobs and %llu bytes",
			 pool->name, pool->queue.length + pool->scheduled, bytes,
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

/* Into the queue, or among those that wait for their time. */
static void enter(struct server *server, struct job *job, int64_t delay_ms)
{
	struct pool *pool = &server->pools[job->pool_index];

	server->live++;
	pool->submitted++;
	if (delay_ms == 0) {
		job_begin(job, JOB_QUEUED);
		job->queued_ns = job->submitted_ns;
		dispatch_put(server, job);
		return;
	}
	job_begin(job, JOB_SCHEDULED);
	job->due_ns = job->submitted_ns + delay_ms * NS_PER_MS;
	pool->scheduled++;
	pool->scheduled_bytes += job->args_length;
	if (deadline_set(server, job, job->due_ns) < 0)
		become_due(server, job, job->submitted_ns); /* too early rather than never */
}

int submit_enter_job(struct server *server, struct job *job, int64_t delay_ms)
{
	int status = job_table_add_job(&server->table, job);

	if (status == 0)
		enter(server, job, delay_ms);
	return status;
}

int submit_enter_batch(struct server *server, struct batch *batch, int64_t delay_ms)
{
	int status = job_table_add_batch(&server->table, batch);

	for (size_t i = 0; status == 0 && i < batch->count; i++)
		enter(server, batch->jobs[i], delay_ms);
	return status;
}

/* Whether a worker would take it at once, whatever the queue's bounds. */
static bool starts_at_once(const struct pool *pool, int64_t delay_ms)
{
	return !list_empty(&pool->idle) && !pool->paused && pool->queue.length == 0 &&
	       pool->aside == 0 && delay_ms == 0;
}

/* What the key stands for: the submission, however it was spaced and ordered. */
static int make_key(const struct server *server, const struct submission *submission, bool is_batch,
		    const char *text, struct store_key *ret_key, struct error *error)
{
	char *body;

	*ret_key = (struct store_key){0};
	if (!text)
		return 0;
	if (strlen(text) > STORE_KEY_MAX)
		return error_set(error, ERROR_SYNTAX, "Idempotency-Key",
				 "found %zu bytes; expected at most %d", strlen(text),
				 STORE_KEY_MAX);
	body = json_dumps(submission->document, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
	if (!body)
		return error_set(error, ERROR_INTERNAL, NULL, "memory is short");
	snprintf(ret_key->text, sizeof(ret_key->text), "%s", text);
	digest_sha256(body, strlen(body), ret_key->fingerprint);
	ret_key->fingerprint[0] ^= is_batch; /* the same body may be sent to either */
	ret_key->expires_us = clock_realtime_ns() / NS_PER_US + server->config->store.key_ms * 1000;
	free(body);
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

/* Checks that concern the submission as a whole, before any job is made. */
static int check_submission(struct server *server, const struct submission *submission,
			    bool is_batch, const struct submit_terms *terms,
			    struct store_key *ret_key, struct order *ret_order, struct error *error)
{
	int status = check_open(server, error);

	if (status == 0 && submission->callback_url)
		status = callbacks_check(server->config, submission->callback_url, error);
	if (status == 0)
		status = make_key(server, submission, is_batch, terms->key, ret_key, error);
	if (status == 0 && is_batch)
		status = check_count(server, json_array_size(submission->args), error);
	if (status == 0)
		status = resolve(server, submission, ret_order, error);
	return status;
}

/* Hands the job to the store first, if it is to be kept, or queues it. Takes it on success. */
static int accept_job(struct server *server, struct job *job, const struct submission *submission,
		      const struct submit_terms *terms, const struct store_key *key,
		      struct ticket *ticket)
{
	struct pool *pool = &server->pools[job->pool_index];
	bool is_claimed = starts_at_once(pool, submission->delay_ms) && job->cap_count == 0 &&
			  pool->claims < dispatch_free_cells(pool);

	if (keep_is_wanted(server, submission, terms))
		return keep_put(server, job, NULL, is_claimed, submission->delay_ms, key, ticket);
	int status = submit_enter_job(server, job, submission->delay_ms);
	if (status < 0)
		return status;
	dispatch(pool);
	ticket->job = job;
	return 0;
}

int server_submit(struct server *server, struct submission *submission,
		  const struct submit_terms *terms, struct ticket *ticket,
		  unsigned int *ret_retry_after, struct error *error)
{
	struct order order = {0};
	struct store_key key;
	struct job *job = NULL;
	char *args = NULL;
	size_t length;
	int status = check_submission(server, submission, false, terms, &key, &order, error);

	*ret_retry_after = 1;
	if (status < 0)
		return status;
	status = prepare_args(order.task, submission->args, "args", &args, &length, error);
	if (status < 0)
		goto fail;
	if (!starts_at_once(order.pool, submission->delay_ms) &&
	    !dispatch_has_room(order.pool, 1, length)) {
		status = refuse_full(order.pool, ret_retry_after, error);
		goto fail;
	}
	job = make_job(server, &order, args, length, clock_monotonic_ns(), clock_realtime_ns());
	if (!job || accept_job(server, job, submission, terms, &key, ticket) < 0) {
		status = error_set(error, ERROR_INTERNAL, NULL, "memory is short");
		goto fail;
	}
	order_release(&order);
	return 0;
fail:
	if (job)
		submit_unmake_job(server, job); /* and its args */
	else
		free(args);
	order_release(&order);
	return status;
}

/* --- batches ---------------------------------------------------------------------------------- */

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
		batch->jobs[i]->has_batch = true;
		batch->jobs[i]->batch_id = batch->by_id.id;
		batch->jobs[i]->batch_index = (uint32_t)i;
		*ret_bytes += length;
	}
	return 0;
}

void submit_unmake_batch(struct server *server, struct batch *batch)
{
	if (!batch)
		return;
	for (size_t i = 0; i < batch->count; i++)
		if (batch->jobs[i])
			caps_release(&server->caps, batch->jobs[i]);
	batch_free(batch);
}

static struct batch *make_batch(const struct order *order, size_t count)
{
	struct batch *batch = batch_new(count);

	if (!batch)
		return NULL;
	batch->by_id.id = id_new();
	batch->task = order->name;
	batch->pool = order->pool->name;
	batch->submitted_ns = clock_monotonic_ns();
	batch->submitted_real_ns = clock_realtime_ns();
	return batch;
}

static int accept_batch(struct server *server, struct batch *batch, struct pool *pool,
			const struct submission *submission, const struct submit_terms *terms,
			const struct store_key *key, struct ticket *ticket)
{
	if (keep_is_wanted(server, submission, terms))
		return keep_put(server, NULL, batch, false, submission->delay_ms, key, ticket);
	int status = submit_enter_batch(server, batch, submission->delay_ms);
	if (status < 0)
		return status;
	dispatch(pool);
	ticket->batch = batch;
	return 0;
}

int server_submit_batch(struct server *server, struct submission *submission,
			const struct submit_terms *terms, struct ticket *ticket,
			unsigned int *ret_retry_after, struct error *error)
{
	struct order order = {0};
	struct store_key key;
	struct batch *batch = NULL;
	uint64_t bytes;
	int status = check_submission(server, submission, true, terms, &key, &order, error);

	*ret_retry_after = 1;
	if (status < 0)
		return status;
	batch = make_batch(&order, json_array_size(submission->args));
	if (!batch) {
		order_release(&order);
		return error_set(error, ERROR_INTERNAL, NULL, "memory is short");
	}
	status = fill_batch(server, &order, submission->args, batch, &bytes, error);
	if (status == 0 && !dispatch_has_room(order.pool, batch->count, bytes))
		status = refuse_full(order.pool, ret_retry_after, error);
	if (status == 0 &&
	    accept_batch(server, batch, order.pool, submission, terms, &key, ticket) < 0)
		status = error_set(error, ERROR_INTERNAL, NULL, "memory is short");
	if (status < 0)
		submit_unmake_batch(server, batch);
	order_release(&order);
	return status;
}

/* --- taking up what the store has ------------------------------------------------------------- */

/* Finds what the row names; what is no more is a problem, and the job keeps its name. */
static void resolve_row(struct server *server, const struct store_row *row, struct job *job,
			const struct task **ret_task, const char **ret_problem)
{
	const struct task *task = registry_find(server->registry, row->task);
	int index = server_find_pool(server, row->pool);

	*ret_problem = NULL;
	*ret_task = NULL;
	job->pool_index = index >= 0 ? (uint32_t)index : 0;
	const char *pool =
		index >= 0 ? server->pools[index].name : names_keep(&server->names, row->pool);
	const char *name = names_keep(&server->names, row->task);
	job->pool = pool ? pool : "";
	job->task = name ? name : "";
	if (index < 0)
		*ret_problem = "its pool is no longer configured";
	else if (!task || !task->enabled)
		*ret_problem = "its task is no longer configured";
	else
		*ret_task = task;
}

static int revive_terms(struct server *server, const struct store_row *row, const struct task *task,
			struct job *job)
{
	json_t *labels = row->labels ? json_loads(row->labels, 0, NULL) : NULL;
	int status = 0;

	if (row->labels) {
		job->labels = strdup(row->labels);
		job->labels_length = strlen(row->labels);
		status = job->labels ? 0 : -ENOMEM;
	}
	if (row->callback) {
		job->callback = strdup(row->callback);
		status = job->callback ? status : -ENOMEM;
	}
	if (status == 0 && task)
		status = add_caps(server, task, labels, job);
	json_decref(labels);
	return status;
}

struct job *submit_revive(struct server *server, const struct store_row *row,
			  const char **ret_problem)
{
	const struct task *task;
	struct error error;
	struct job *job = job_new();

	if (!job)
		return NULL;
	int64_t age_ns = clock_realtime_ns() - row->submitted_us * NS_PER_US;
	resolve_row(server, row, job, &task, ret_problem);
	job->by_id.id = row->id;
	job->seq = server->next_seq++;
	job->task_index = task ? task->index : 0;
	job->priority = row->priority;
	job->submitted_real_ns = row->submitted_us * NS_PER_US;
	job->submitted_ns = clock_monotonic_ns() - (age_ns > 0 ? age_ns : 0);
	job->attempt = row->attempt;
	job->has_batch = row->has_batch;
	job->batch_id = row->batch;
	job->batch_index = row->batch_index;
	job->stored = true;
	job->durable = keep_is_durable(server);
	if (!row->record || record_read(row->record, job, &error) < 0)
		*ret_problem = "its record cannot be read";
	bool has_begun = row->state == JOB_RUNNING && row->attempt > 0;
	job->earlier_count = row->attempt - has_begun;
	if (revive_terms(server, row, task, job) < 0) {
		submit_unmake_job(server, job);
		return NULL;
	}
	return job;
}

/* --- jobs of labs ----------------------------------------------------------------------------- */

struct terms {
	struct submission submission;
	struct order order; /* of submission */
	char *args;
	size_t args_length;
};

/* A task that is the service's own choice: whether users may run it does not matter. */
static int resolve_own(struct server *server, const struct submission *submission,
		       struct order *ret_order, struct error *error)
{
	struct order order = {.submission = submission,
			      .task = registry_find(server->registry, submission->task),
			      .output_bytes = 4096};
	int status = find_pool(server, submission->pool, &order.pool, error);

	if (status == 0 && !order.task)
		status = error_set(error, ERROR_INVALID, "task", "this build has no task \"%s\"",
				   submission->task);
	if (status == 0)
		status = keep_name(server, &order, error);
	order.limits.timeout_ms = submission->timeout_ms;
	if (status == 0)
		*ret_order = order;
	return status;
}

static int resolve_asked(struct server *server, const struct submission *submission,
			 struct order *ret_order, struct error *error)
{
	struct order order = {0};
	int status = resolve(server, submission, &order, error);

	if (status < 0)
		return status;
	if (order.task->settings && order.task->settings->max_running > 0)
		return error_set(
			error, ERROR_INVALID, "task",
			"at most %u jobs of the task \"%s\" may run at once (max_running), "
			"users' jobs included, so a measurement would be of that limit",
			order.task->settings->max_running, submission->task);
	*ret_order = order;
	return 0;
}

int terms_new(struct server *server, const char *task, json_t *args, const char *pool, bool is_own,
	      int64_t timeout_ms, struct terms **ret_terms, struct error *error)
{
	struct terms *terms = calloc(1, sizeof(*terms));
	int status = check_open(server, error);

	if (!terms)
		return error_set(error, ERROR_INTERNAL, NULL, "memory is short");
	terms->submission =
		(struct submission){.document = json_pack("{s:s, s:s}", "task", task, "pool", pool),
				    .queue_ttl_ms = SUBMISSION_UNSET,
				    .timeout_ms = timeout_ms,
				    .cpu_ms = SUBMISSION_UNSET,
				    .memory_bytes = SUBMISSION_UNSET,
				    .output_bytes = SUBMISSION_UNSET,
				    .max_attempts = 1};
	terms->submission.task =
		json_string_value(json_object_get(terms->submission.document, "task"));
	terms->submission.pool =
		json_string_value(json_object_get(terms->submission.document, "pool"));
	if (status == 0 && (!terms->submission.task || !terms->submission.pool))
		status = error_set(error, ERROR_INTERNAL, NULL, "memory is short");
	if (status == 0)
		status = (is_own ? resolve_own : resolve_asked)(server, &terms->submission,
								&terms->order, error);
	if (status == 0)
		status = prepare_args(terms->order.task, args, "args", &terms->args,
				      &terms->args_length, error);
	if (status < 0) {
		terms_free(terms);
		return status;
	}
	*ret_terms = terms;
	return 0;
}

void terms_free(struct terms *terms)
{
	if (!terms)
		return;
	order_release(&terms->order);
	submission_release(&terms->submission);
	free(terms->args);
	free(terms);
}

struct job *terms_submit(struct server *server, const struct terms *terms, struct pool *pool)
{
	struct order order = terms->order;
	char *args = malloc(terms->args_length + 1);

	if (!args)
		return NULL;
	memcpy(args, terms->args, terms->args_length + 1);
	order.pool = pool;
	struct job *job = make_job(server, &order, args, terms->args_length, clock_monotonic_ns(),
				   clock_realtime_ns());
	if (!job) {
		free(args);
		return NULL;
	}
	enter(server, job, 0);
	return job;
}
