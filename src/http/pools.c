/* /pools: the pools, their settings, and each worker; changing a pool while it runs. */
#include <stdlib.h>
#include <string.h>

#include "http/reply.h"
#include "http/resources.h"
#include "job/metering.h"

void pools_write_restarts(const struct pool_snapshot *pool, struct json_writer *writer)
{
	uint64_t total = 0;

	for (int i = 0; i < RESTART_REASONS; i++)
		total += pool->restarts[i];
	json_write_begin_object(writer, "restarts");
	json_write_uint(writer, "total", total);
	json_write_begin_object(writer, "by_reason");
	for (int i = 0; i < RESTART_REASONS; i++)
		json_write_uint(writer, restart_reason_name((enum restart_reason)i),
				pool->restarts[i]);
	json_write_end_object(writer);
	json_write_string(writer, "last",
			  pool->last_restart[0] != '\0' ? pool->last_restart : NULL);
	json_write_end_object(writer);
}

/* 0 is no process and no thread. */
static void write_pid(struct json_writer *writer, const char *key, int32_t pid)
{
	if (pid > 0)
		json_write_int(writer, key, pid);
	else
		json_write_null(writer, key);
}

static void write_worker(const struct worker_snapshot *worker, struct json_writer *writer)
{
	json_write_begin_object(writer, NULL);
	json_write_uint(writer, "host", worker->host);
	json_write_uint(writer, "thread", worker->thread);
	write_pid(writer, "pid", worker->pid);
	write_pid(writer, "tid", worker->tid);
	json_write_uint(writer, "generation", worker->generation);
	json_write_string(writer, "state", worker->state);
	if (worker->has_job) {
		render_id(writer, "job", &worker->job);
		json_write_string(writer, "task", worker->task);
		json_write_ms(writer, "busy_ms", worker->busy_ns);
	} else {
		json_write_null(writer, "job");
		json_write_null(writer, "task");
		json_write_null(writer, "busy_ms");
	}
	json_write_uint(writer, "jobs_done", worker->jobs_done);
	if (worker->rss_bytes == METERING_UNKNOWN)
		json_write_null(writer, "rss_bytes");
	else
		json_write_int(writer, "rss_bytes", worker->rss_bytes);
	json_write_end_object(writer);
}

void pools_write_workers(const struct pool_snapshot *pool, struct json_writer *writer)
{
	json_write_begin_array(writer, "worker_list");
	for (size_t i = 0; i < pool->worker_count; i++)
		write_worker(&pool->workers[i], writer);
	json_write_end_array(writer);
}

void pools_write_size(const struct pool_snapshot *pool, struct json_writer *writer)
{
	json_write_uint(writer, "hosts", pool->hosts);
	json_write_uint(writer, "min_hosts", pool->min_hosts);
	json_write_uint(writer, "max_hosts", pool->max_hosts);
	json_write_uint(writer, "spare_hosts", pool->spare_hosts);
	json_write_bool(writer, "paused", pool->paused);
	json_write_uint(writer, "threads", pool->config->threads);
}

static void write_limits(const struct config_limits *limits, struct json_writer *writer)
{
	json_write_begin_object(writer, "limits");
	json_write_int(writer, "queue_ttl_ms", limits->queue_ttl_ms);
	json_write_int(writer, "max_queue_ttl_ms", limits->max_queue_ttl_ms);
	json_write_int(writer, "cpu_ms", limits->cpu_ms);
	json_write_int(writer, "max_cpu_ms", limits->max_cpu_ms);
	json_write_int(writer, "memory_bytes", limits->memory_bytes);
	json_write_int(writer, "max_memory_bytes", limits->max_memory_bytes);
	json_write_end_object(writer);
}

static void write_recycle(const struct config_recycle *recycle, struct json_writer *writer)
{
	json_write_begin_object(writer, "recycle");
	json_write_uint(writer, "jobs", recycle->jobs);
	json_write_uint(writer, "jitter_percent", recycle->jitter_percent);
	json_write_int(writer, "age_ms", recycle->age_ms);
	json_write_int(writer, "idle_ms", recycle->idle_ms);
	json_write_uint(writer, "rss_bytes", recycle->rss_bytes);
	json_write_end_object(writer);
}

/* Labels are what the operator chose, so they may need escaping, which the writer's keys do not
 * get; jansson's do. */
static void write_label_limits(const struct config_pool *pool, struct json_writer *writer)
{
	json_t *limits = json_object();
	size_t length = 0;

	for (size_t i = 0; i < pool->label_limit_count; i++)
		(void)json_object_set_new(limits, pool->label_limits[i].label,
					  json_integer(pool->label_limits[i].running));
	char *text = limits ? json_encode(limits, &length) : NULL;
	json_write_raw(writer, "label_limits", text, length);
	free(text);
	json_decref(limits);
}

static void write_queueing(const struct config_pool *pool, struct json_writer *writer)
{
	json_write_int(writer, "aging_ms", pool->aging_ms);
	json_write_begin_object(writer, "reserved");
	json_write_uint(writer, "workers", pool->reserved_workers);
	json_write_int(writer, "priority", pool->reserved_priority);
	json_write_end_object(writer);
	json_write_uint(writer, "max_attempts", pool->max_attempts);
	json_write_uint(writer, "max_crashes", pool->max_crashes);
	write_label_limits(pool, writer);
}

static void write_settings(const struct config_pool *pool, struct json_writer *writer)
{
	json_write_int(writer, "grow_after_ms", pool->grow_after_ms);
	json_write_int(writer, "shrink_after_ms", pool->shrink_after_ms);
	json_write_int(writer, "timeout_ms", pool->limits.timeout_ms);
	json_write_int(writer, "max_timeout_ms", pool->limits.max_timeout_ms);
	write_limits(&pool->limits, writer);
	json_write_int(writer, "stop_grace_ms", pool->stop_grace_ms);
	json_write_int(writer, "quarantine_ms", pool->quarantine_ms);
	json_write_uint(writer, "queue_jobs", pool->queue_jobs);
	json_write_uint(writer, "queue_bytes", pool->queue_bytes);
	json_write_uint(writer, "output_bytes", pool->output_bytes);
	json_write_uint(writer, "max_output_bytes", pool->max_output_bytes);
	json_write_uint(writer, "result_bytes", pool->result_bytes);
	json_write_int(writer, "restart_backoff_ms", pool->restart_backoff_ms);
	json_write_int(writer, "restart_backoff_max_ms", pool->restart_backoff_max_ms);
	write_recycle(&pool->recycle, writer);
	write_queueing(pool, writer);
}

static void write_pool(const struct pool_snapshot *pool, struct json_writer *writer)
{
	json_write_begin_object(writer, NULL);
	json_write_string(writer, "name", pool->config->name);
	pools_write_size(pool, writer);
	json_write_uint(writer, "workers", (uint64_t)pool->hosts * pool->config->threads);
	write_settings(pool->config, writer);
	json_write_uint(writer, "workers_busy", pool->workers_busy);
	json_write_uint(writer, "workers_idle", pool->workers_idle);
	json_write_uint(writer, "workers_down", pool->workers_down);
	json_write_uint(writer, "queue_length", pool->queue_length);
	json_write_uint(writer, "scheduled", pool->scheduled);
	json_write_uint(writer, "retries", pool->retries);
	pools_write_workers(pool, writer);
	pools_write_restarts(pool, writer);
	json_write_end_object(writer);
}

static enum MHD_Result answer_no_memory(struct request *request)
{
	struct error error;

	(void)error_set(&error, ERROR_INTERNAL, NULL, "not enough memory");
	return reply_error(request, &error, 0);
}

enum MHD_Result pools_list(struct request *request)
{
	struct server_snapshot snapshot;
	struct buffer body = {0};
	struct json_writer writer = {.buffer = &body};

	if (server_snapshot_take(request->http->server, &snapshot) < 0)
		return answer_no_memory(request);
	json_write_begin_object(&writer, NULL);
	json_write_string(&writer, "default", server_config(request->http->server)->default_pool);
	json_write_begin_array(&writer, "pools");
	for (size_t i = 0; i < snapshot.pool_count; i++)
		write_pool(&snapshot.pools[i], &writer);
	json_write_end_array(&writer);
	json_write_end_object(&writer);
	server_snapshot_release(&snapshot);
	return reply_json(request, &body);
}

/* --- one pool --------------------------------------------------------------------------------- */

void pools_append_names(const struct config *config, struct buffer *names)
{
	for (size_t i = 0; i < config->pool_count; i++)
		render_name(names, config->pools[i].name);
}

/* 0, or ERROR_NOT_FOUND if the path names no pool. */
static int check_pool(const struct request *request, struct error *error)
{
	const struct config *config = server_config(request->http->server);
	struct buffer names = {0};

	if (config_find_pool(config, request->target) >= 0)
		return 0;
	pools_append_names(config, &names);
	int result = error_set(error, ERROR_NOT_FOUND, NULL,
			       "there is no pool \"%.64s\"; those that exist: %.*s",
			       request->target, (int)names.length, names.data ? names.data : "");
	buffer_release(&names);
	return result;
}

static enum MHD_Result answer_pool(struct request *request)
{
	struct server_snapshot snapshot;
	struct buffer body = {0};
	struct json_writer writer = {.buffer = &body};

	if (server_snapshot_take(request->http->server, &snapshot) < 0)
		return answer_no_memory(request);
	for (size_t i = 0; i < snapshot.pool_count; i++)
		if (strcmp(snapshot.pools[i].config->name, request->target) == 0)
			write_pool(&snapshot.pools[i], &writer);
	server_snapshot_release(&snapshot);
	return reply_json(request, &body);
}

enum MHD_Result pools_get(struct request *request)
{
	struct error error;

	if (check_pool(request, &error) < 0)
		return reply_error(request, &error, 0);
	return answer_pool(request);
}

/* --- changing it ------------------------------------------------------------------------------ */

static const char patch_fields[] = "\"hosts\", \"max_hosts\", \"spare_hosts\", \"paused\"";

static int read_hosts(const json_t *value, const char *field, int least, int *ret_hosts,
		      struct error *error)
{
	if (!json_is_integer(value))
		return error_set(error, ERROR_INVALID, field,
				 "found %s; expected an integer from %d to %d",
				 json_type_name(value), least, CONFIG_HOSTS_MAX);
	json_int_t hosts = json_integer_value(value);
	if (hosts < least || hosts > CONFIG_HOSTS_MAX)
		return error_set(error, ERROR_INVALID, field,
				 "found %lld; expected an integer from %d to %d", (long long)hosts,
				 least, CONFIG_HOSTS_MAX);
	*ret_hosts = (int)hosts;
	return 0;
}

static int read_field(const char *key, const json_t *value, struct pool_patch *patch,
		      struct error *error)
{
	if (strcmp(key, "hosts") == 0)
		return read_hosts(value, key, 1, &patch->hosts, error);
	if (strcmp(key, "max_hosts") == 0)
		return read_hosts(value, key, 1, &patch->max_hosts, error);
	if (strcmp(key, "spare_hosts") == 0)
		return read_hosts(value, key, 0, &patch->spare_hosts, error);
	if (strcmp(key, "paused") != 0)
		return error_set(error, ERROR_INVALID, key,
				 "there is no such field; those that exist: %s", patch_fields);
	if (!json_is_boolean(value))
		return error_set(error, ERROR_INVALID, key, "found %s; expected true or false",
				 json_type_name(value));
	patch->paused = json_is_true(value);
	return 0;
}

static int read_patch(const struct buffer *body, struct pool_patch *ret_patch, struct error *error)
{
	struct pool_patch patch = POOL_PATCH_NONE;
	const char *key;
	json_t *document, *value;
	int result = json_parse(body->data, body->length, &document, error);

	if (result < 0)
		return result;
	if (!json_is_object(document))
		result = error_set(error, ERROR_INVALID, NULL,
				   "found %s; expected an object such as {\"paused\": true}",
				   json_type_name(document));
	json_object_foreach (document, key, value) {
		result = read_field(key, value, &patch, error);
		if (result < 0)
			break;
	}
	json_decref(document);
	if (result == 0)
		*ret_patch = patch;
	return result;
}

enum MHD_Result pools_patch(struct request *request)
{
	struct pool_patch patch;
	struct error error;
	unsigned int status;

	if (check_pool(request, &error) < 0 || request_check_open(request, &error) < 0)
		return reply_error(request, &error, 0);
	status = request_check_body(request, "{\"paused\": true}", &error);
	if (status == MHD_HTTP_UNSUPPORTED_MEDIA_TYPE)
		return reply_problem(request, status, NULL, error.message);
	if (status != 0 || read_patch(&request->body, &patch, &error) < 0 ||
	    server_patch_pool(request->http->server, request->target, &patch, &error) < 0)
		return reply_error(request, &error, 0);
	return answer_pool(request);
}
