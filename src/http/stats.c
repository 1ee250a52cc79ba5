/* /stats: the numbers of the service, one snapshot taken first and written after. */
#include <stdio.h>

#include "base/histogram.h"
#include "http/reply.h"
#include "http/resources.h"
#include "version.h"

static void write_responses(const struct http_snapshot *http, struct json_writer *writer)
{
	json_write_begin_object(writer, "responses");
	json_write_uint(writer, "2xx", http->responses_by_class[2]);
	json_write_uint(writer, "3xx", http->responses_by_class[3]);
	json_write_uint(writer, "4xx", http->responses_by_class[4]);
	json_write_uint(writer, "5xx", http->responses_by_class[5]);
	json_write_end_object(writer);
}

static void write_server(const struct server_snapshot *server, const struct http_snapshot *http,
			 struct json_writer *writer)
{
	json_write_begin_object(writer, "server");
	json_write_int(writer, "pid", server->pid);
	json_write_int(writer, "master_pid", server->master_pid);
	if (server->rss_bytes < 0)
		json_write_null(writer, "rss_bytes");
	else
		json_write_int(writer, "rss_bytes", server->rss_bytes);
	json_write_ms(writer, "cpu_user_ms", server->cpu_user_ns);
	json_write_ms(writer, "cpu_system_ms", server->cpu_system_ns);
	json_write_uint(writer, "connections", http->connections);
	json_write_uint(writer, "connections_accepted", http->connections_accepted);
	json_write_uint(writer, "requests", http->requests);
	json_write_uint(writer, "requests_open", http->requests_open);
	json_write_uint(writer, "requests_waiting", http->requests_waiting);
	json_write_uint(writer, "streams_open", http->streams_open);
	write_responses(http, writer);
	json_write_end_object(writer);
}

static void write_jobs(const struct server_snapshot *server, struct json_writer *writer)
{
	json_write_begin_object(writer, "jobs");
	json_write_uint(writer, "live", server->jobs_live);
	json_write_uint(writer, "kept", server->jobs_kept);
	json_write_uint(writer, "kept_bytes", server->jobs_kept_bytes);
	json_write_uint(writer, "forgotten", server->jobs_forgotten);
	json_write_uint(writer, "waiters", server->waiters);
	json_write_end_object(writer);
}

static const char *kind_name(enum config_store_kind kind)
{
	switch (kind) {
	case CONFIG_STORE_SQLITE:
		return "sqlite";
	case CONFIG_STORE_POSTGRESQL:
		return "postgresql";
	case CONFIG_STORE_MEMORY:
		break;
	}
	return "memory";
}

static void write_store(const struct server *server, struct json_writer *writer)
{
	struct store_stats stats;

	server_store_stats(server, &stats);
	json_write_begin_object(writer, "store");
	json_write_string(writer, "kind", kind_name(stats.kind));
	json_write_bool(writer, "available", stats.available);
	json_write_string(writer, "error", stats.error[0] ? stats.error : NULL);
	if (stats.size_bytes < 0)
		json_write_null(writer, "database_bytes");
	else
		json_write_int(writer, "database_bytes", stats.size_bytes);
	json_write_uint(writer, "waiting", stats.waiting);
	json_write_uint(writer, "kept", stats.kept);
	json_write_ms(writer, "lag_ms", stats.lag_ns);
	json_write_uint(writer, "transactions", stats.transactions);
	json_write_uint(writer, "synced", stats.synced);
	json_write_uint(writer, "requests", stats.requests);
	json_write_uint(writer, "failures", stats.failures);
	json_write_uint(writer, "dropped", stats.dropped);
	json_write_ms(writer, "commit_ms", stats.commit_ns);
	json_write_end_object(writer);
}

static void write_latency(struct json_writer *writer, const char *key,
			  const struct histogram *histogram)
{
	static const struct {
		const char *key;
		double quantile;
	} quantiles[] = {
		{"p50", 0.5}, {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99}, {"p999", 0.999},
	};
	uint64_t mean_ns = histogram->count ? histogram->sum_ns / histogram->count : 0;

	json_write_begin_object(writer, key);
	json_write_uint(writer, "count", histogram->count);
	json_write_ms(writer, "mean", (int64_t)mean_ns);
	for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
		json_write_ms(writer, quantiles[i].key,
			      histogram_quantile(histogram, quantiles[i].quantile));
	json_write_ms(writer, "max", histogram->count ? histogram->max_ns : 0);
	json_write_end_object(writer);
}

static void write_workers(const struct pool_snapshot *pool, struct json_writer *writer)
{
	json_write_begin_object(writer, "workers");
	json_write_uint(writer, "total", pool->worker_count);
	json_write_uint(writer, "busy", pool->workers_busy);
	json_write_uint(writer, "idle", pool->workers_idle);
	json_write_uint(writer, "down", pool->workers_down);
	json_write_end_object(writer);
}

static void write_queue(const struct pool_snapshot *pool, struct json_writer *writer)
{
	json_write_begin_object(writer, "queue");
	json_write_uint(writer, "length", pool->queue_length);
	json_write_uint(writer, "bytes", pool->queue_bytes);
	json_write_ms(writer, "oldest_wait_ms", pool->oldest_wait_ns);
	json_write_end_object(writer);
}

static void write_ended(const struct pool_snapshot *pool, struct json_writer *writer)
{
	json_write_begin_object(writer, "ended");
	for (int i = 0; i < JOB_STATES; i++)
		if (job_state_is_ended((enum job_state)i))
			json_write_uint(writer, job_state_name((enum job_state)i), pool->ended[i]);
	json_write_end_object(writer);
}

static void write_causes(const struct pool_snapshot *pool, struct json_writer *writer)
{
	json_write_begin_object(writer, "ended_by_cause");
	for (int i = CAUSE_NONE + 1; i < JOB_CAUSES; i++)
		json_write_uint(writer, job_cause_name((enum job_cause)i), pool->causes[i]);
	json_write_end_object(writer);
}

static void write_rates(const struct pool_snapshot *pool, struct json_writer *writer)
{
	json_write_begin_object(writer, "throughput");
	render_number(writer, "1s", pool->rate_1s);
	render_number(writer, "10s", pool->rate_10s);
	render_number(writer, "60s", pool->rate_60s);
	json_write_end_object(writer);
}

static void write_pool(const struct pool_snapshot *pool, struct json_writer *writer)
{
	json_write_begin_object(writer, pool->config->name);
	pools_write_size(pool, writer);
	write_workers(pool, writer);
	write_queue(pool, writer);
	json_write_uint(writer, "scheduled", pool->scheduled);
	json_write_uint(writer, "submitted", pool->submitted);
	json_write_uint(writer, "rejected", pool->rejected);
	json_write_uint(writer, "retries", pool->retries);
	write_ended(pool, writer);
	write_causes(pool, writer);
	pools_write_restarts(pool, writer);
	write_rates(pool, writer);
	json_write_begin_object(writer, "latency");
	write_latency(writer, "queued_ms", pool->queued);
	write_latency(writer, "run_ms", pool->run);
	write_latency(writer, "total_ms", pool->total);
	json_write_end_object(writer);
	pools_write_workers(pool, writer);
	json_write_end_object(writer);
}

enum MHD_Result stats_get(struct request *request)
{
	struct server_snapshot server;
	struct http_snapshot http;
	struct buffer body = {0};
	struct json_writer writer = {.buffer = &body};

	if (server_snapshot_take(request->http->server, &server) < 0) {
		struct error error;
		(void)error_set(&error, ERROR_INTERNAL, NULL, "not enough memory");
		return reply_error(request, &error, 0);
	}
	http_snapshot_take(request->http, &http);
	json_write_begin_object(&writer, NULL);
	json_write_string(&writer, "version", TWINPOOL_VERSION);
	json_write_ms(&writer, "uptime_ms", server.uptime_ns);
	render_time(&writer, "started_at", server.started_real_ns);
	render_time(&writer, "taken_at", server.taken_real_ns);
	write_server(&server, &http, &writer);
	write_jobs(&server, &writer);
	write_store(request->http->server, &writer);
	json_write_begin_object(&writer, "pools");
	for (size_t i = 0; i < server.pool_count; i++)
		write_pool(&server.pools[i], &writer);
	json_write_end_object(&writer);
	json_write_end_object(&writer);
	server_snapshot_release(&server);
	return reply_json(request, &body);
}
