/* /pools: the pools, their settings, and each worker. */
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

static void write_settings(const struct config_pool *pool, struct json_writer *writer)
{
	json_write_string(writer, "name", pool->name);
	json_write_uint(writer, "hosts", pool->hosts);
	json_write_uint(writer, "threads", pool->threads);
	json_write_uint(writer, "workers", (uint64_t)pool->hosts * pool->threads);
	json_write_int(writer, "timeout_ms", pool->timeout_ms);
	json_write_int(writer, "max_timeout_ms", pool->max_timeout_ms);
	json_write_int(writer, "stop_grace_ms", pool->stop_grace_ms);
	json_write_int(writer, "quarantine_ms", pool->quarantine_ms);
	json_write_uint(writer, "queue_jobs", pool->queue_jobs);
	json_write_uint(writer, "queue_bytes", pool->queue_bytes);
	json_write_uint(writer, "output_bytes", pool->output_bytes);
	json_write_uint(writer, "result_bytes", pool->result_bytes);
	json_write_int(writer, "restart_backoff_ms", pool->restart_backoff_ms);
	json_write_int(writer, "restart_backoff_max_ms", pool->restart_backoff_max_ms);
}

static void write_pool(const struct pool_snapshot *pool, struct json_writer *writer)
{
	json_write_begin_object(writer, NULL);
	write_settings(pool->config, writer);
	json_write_uint(writer, "workers_busy", pool->workers_busy);
	json_write_uint(writer, "workers_idle", pool->workers_idle);
	json_write_uint(writer, "workers_down", pool->workers_down);
	json_write_uint(writer, "queue_length", pool->queue_length);
	pools_write_workers(pool, writer);
	pools_write_restarts(pool, writer);
	json_write_end_object(writer);
}

enum MHD_Result pools_list(struct request *request)
{
	struct server_snapshot snapshot;
	struct buffer body = {0};
	struct json_writer writer = {.buffer = &body};

	if (server_snapshot_take(request->http->server, &snapshot) < 0) {
		struct error error;
		(void)error_set(&error, ERROR_INTERNAL, NULL, "not enough memory");
		return reply_error(request, &error, 0);
	}
	json_write_begin_object(&writer, NULL);
	json_write_string(&writer, "default", request->http->config->default_pool);
	json_write_begin_array(&writer, "pools");
	for (size_t i = 0; i < snapshot.pool_count; i++)
		write_pool(&snapshot.pools[i], &writer);
	json_write_end_array(&writer);
	json_write_end_object(&writer);
	server_snapshot_release(&snapshot);
	return reply_json(request, &body);
}
