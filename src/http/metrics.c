/*
 * /metrics: what /stats says, for Prometheus. Both write the same snapshots; this one family by
 * family, as the format wants it.
 *
 * Invariant: no label's value comes from whoever sends requests. Pools are the operator's, states,
 * causes, reasons and routes are the program's, so the number of samples is bounded by the number
 * of pools.
 */
#include <microhttpd.h>
#include <string.h>

#include "base/proc.h"
#include "http/exposition.h"
#include "http/reply.h"
#include "http/resources.h"
#include "http/route.h"
#include "job/metering.h"
#include "version.h"

struct metrics {
	struct exposition out;
	struct server_snapshot server;
	struct http_snapshot http;
	struct proc_self self;
	bool ready;
};

static struct exposition_labels labels(const char *name, const char *value)
{
	return (struct exposition_labels){{{name, value}}};
}

static struct exposition_labels pool_labels(const struct pool_snapshot *pool, const char *name,
					    const char *value)
{
	return (struct exposition_labels){{{"pool", pool->config->name}, {name, value}}};
}

static void write_uint(struct metrics *metrics, const char *name, enum exposition_type type,
		       const char *help, uint64_t value)
{
	exposition_begin(&metrics->out, name, type, help);
	exposition_uint(&metrics->out, EXPOSITION_NO_LABELS, value);
}

static void write_seconds(struct metrics *metrics, const char *name, enum exposition_type type,
			  const char *help, int64_t ns)
{
	exposition_begin(&metrics->out, name, type, help);
	exposition_seconds(&metrics->out, EXPOSITION_NO_LABELS, ns);
}

/* A number that cannot be had is left out. */
static void write_gauge_if_known(struct metrics *metrics, const char *name, const char *help,
				 int64_t value)
{
	if (value >= 0)
		write_uint(metrics, name, EXPOSITION_GAUGE, help, (uint64_t)value);
}

/* --- the server ------------------------------------------------------------------------------- */

/* The names that all of Prometheus' client libraries give to these. */
static void write_process(struct metrics *metrics)
{
	const struct server_snapshot *server = &metrics->server;

	write_seconds(metrics, "process_start_time_seconds", EXPOSITION_GAUGE,
		      "When the server process started, in seconds since 1970.",
		      server->started_real_ns);
	write_seconds(metrics, "process_cpu_seconds_total", EXPOSITION_COUNTER,
		      "CPU time of the server process, user and system.",
		      server->cpu_user_ns + server->cpu_system_ns);
	write_gauge_if_known(metrics, "process_resident_memory_bytes",
			     "Resident set of the server process.", server->rss_bytes);
	write_gauge_if_known(metrics, "process_virtual_memory_bytes",
			     "Address space of the server process.", metrics->self.virtual_bytes);
	write_gauge_if_known(metrics, "process_open_fds",
			     "Descriptors that the server process has open.",
			     metrics->self.open_fds);
	write_gauge_if_known(metrics, "process_max_fds",
			     "Most descriptors that the server process may have open.",
			     metrics->self.max_fds);
	write_gauge_if_known(metrics, "process_threads", "Threads of the server process.",
			     metrics->self.threads);
}

static void write_server(struct metrics *metrics)
{
	struct exposition *out = &metrics->out;

	exposition_begin(out, "twinpool_build_info", EXPOSITION_GAUGE,
			 "1, with the version as a label.");
	exposition_uint(out, labels("version", TWINPOOL_VERSION), 1);
	write_uint(metrics, "twinpool_ready", EXPOSITION_GAUGE,
		   "1 if GET /readyz says yes, else 0.", metrics->ready);
	exposition_begin(out, "twinpool_server_cpu_seconds_total", EXPOSITION_COUNTER,
			 "CPU time of the server process, by mode.");
	exposition_seconds(out, labels("mode", "user"), metrics->server.cpu_user_ns);
	exposition_seconds(out, labels("mode", "system"), metrics->server.cpu_system_ns);
}

static void write_jobs(struct metrics *metrics)
{
	const struct server_snapshot *server = &metrics->server;

	write_uint(metrics, "twinpool_jobs_live", EXPOSITION_GAUGE,
		   "Jobs that are scheduled, queued, running or stopping.", server->jobs_live);
	write_uint(metrics, "twinpool_jobs_kept", EXPOSITION_GAUGE,
		   "Jobs that have ended and are not yet forgotten.", server->jobs_kept);
	write_uint(metrics, "twinpool_jobs_kept_bytes", EXPOSITION_GAUGE,
		   "Memory of the jobs that are kept.", server->jobs_kept_bytes);
	write_uint(metrics, "twinpool_jobs_forgotten_total", EXPOSITION_COUNTER,
		   "Jobs that have ended and are forgotten.", server->jobs_forgotten);
	write_uint(metrics, "twinpool_waiters", EXPOSITION_GAUGE,
		   "Requests that wait for a job or a batch to end.", server->waiters);
}

/* --- HTTP ------------------------------------------------------------------------------------- */

/* Also where it is 0: a rate needs the number before the first event. */
static void write_route(struct exposition *out, struct route_name route, const uint64_t *by_class)
{
	static const char *const classes[] = {"2xx", "3xx", "4xx", "5xx"};

	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		const struct exposition_labels all = {
			{{"method", route.method}, {"route", route.path}, {"code", classes[i]}}};

		exposition_uint(out, all, by_class[i + 2]);
	}
}

static void write_http(struct metrics *metrics)
{
	const struct http_snapshot *http = &metrics->http;

	write_uint(metrics, "twinpool_http_connections", EXPOSITION_GAUGE,
		   "Connections that are open.", http->connections);
	write_uint(metrics, "twinpool_http_connections_accepted_total", EXPOSITION_COUNTER,
		   "Connections that were accepted.", http->connections_accepted);
	write_uint(metrics, "twinpool_http_requests_total", EXPOSITION_COUNTER,
		   "Requests that have begun.", http->requests);
	write_uint(metrics, "twinpool_http_requests_open", EXPOSITION_GAUGE,
		   "Requests that are not completed, this one included.", http->requests_open);
	write_uint(metrics, "twinpool_http_requests_waiting", EXPOSITION_GAUGE,
		   "Requests that are suspended until a job or a batch has ended.",
		   http->requests_waiting);
	write_uint(metrics, "twinpool_event_readers", EXPOSITION_GAUGE,
		   "Readers of the events of a job.", http->streams_open);
	exposition_begin(&metrics->out, "twinpool_http_responses_total", EXPOSITION_COUNTER,
			 "Answers by route and class of status; HEAD counts as GET, what no route "
			 "takes as other.");
	for (size_t i = 0; i < route_count(); i++)
		write_route(&metrics->out, route_name(i), http->responses_by_route[i]);
}

/* --- pools: families of one number ------------------------------------------------------------ */

static uint64_t hosts(const struct pool_snapshot *pool)
{
	return pool->hosts;
}

static uint64_t hosts_min(const struct pool_snapshot *pool)
{
	return pool->min_hosts;
}

static uint64_t hosts_max(const struct pool_snapshot *pool)
{
	return pool->max_hosts;
}

static uint64_t hosts_spare(const struct pool_snapshot *pool)
{
	return pool->spare_hosts;
}

static uint64_t threads(const struct pool_snapshot *pool)
{
	return pool->config->threads;
}

static uint64_t paused(const struct pool_snapshot *pool)
{
	return pool->paused;
}

static uint64_t queue_length(const struct pool_snapshot *pool)
{
	return pool->queue_length;
}

static uint64_t queue_bytes(const struct pool_snapshot *pool)
{
	return pool->queue_bytes;
}

static uint64_t queue_limit_jobs(const struct pool_snapshot *pool)
{
	return pool->config->queue_jobs;
}

static uint64_t queue_limit_bytes(const struct pool_snapshot *pool)
{
	return pool->config->queue_bytes;
}

static uint64_t scheduled(const struct pool_snapshot *pool)
{
	return pool->scheduled;
}

static uint64_t submitted(const struct pool_snapshot *pool)
{
	return pool->submitted;
}

static uint64_t rejected(const struct pool_snapshot *pool)
{
	return pool->rejected;
}

static uint64_t retries(const struct pool_snapshot *pool)
{
	return pool->retries;
}

/* Each host once, though each of its workers has the number. Memory that hosts share is in the set
 * of each. */
static uint64_t hosts_rss_bytes(const struct pool_snapshot *pool)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < pool->worker_count; i++) {
		const struct worker_snapshot *worker = &pool->workers[i];

		if (worker->thread == 0 && worker->rss_bytes != METERING_UNKNOWN)
			bytes += (uint64_t)worker->rss_bytes;
	}
	return bytes;
}

static const struct {
	const char *name;
	enum exposition_type type;
	const char *help;
	uint64_t (*read)(const struct pool_snapshot *pool);
} pool_numbers[] = {
	{"twinpool_pool_hosts", EXPOSITION_GAUGE, "Worker processes that are wanted now.", hosts},
	{"twinpool_pool_hosts_min", EXPOSITION_GAUGE, "Fewest worker processes.", hosts_min},
	{"twinpool_pool_hosts_max", EXPOSITION_GAUGE, "Most worker processes.", hosts_max},
	{"twinpool_pool_hosts_spare", EXPOSITION_GAUGE, "Worker processes that are to be idle.",
	 hosts_spare},
	{"twinpool_pool_threads_per_host", EXPOSITION_GAUGE, "Workers of each worker process.",
	 threads},
	{"twinpool_pool_paused", EXPOSITION_GAUGE, "1 while the pool begins no jobs, else 0.",
	 paused},
	{"twinpool_pool_resident_memory_bytes", EXPOSITION_GAUGE,
	 "Sum of the resident sets of the worker processes; what they share counts in each.",
	 hosts_rss_bytes},
	{"twinpool_queue_length", EXPOSITION_GAUGE, "Jobs that wait for a worker.", queue_length},
	{"twinpool_queue_bytes", EXPOSITION_GAUGE, "Arguments of the jobs that wait for a worker.",
	 queue_bytes},
	{"twinpool_queue_limit_jobs", EXPOSITION_GAUGE,
	 "Most jobs that may wait for a worker or for their time.", queue_limit_jobs},
	{"twinpool_queue_limit_bytes", EXPOSITION_GAUGE,
	 "Most bytes of arguments of the jobs that wait for a worker or for their time.",
	 queue_limit_bytes},
	{"twinpool_jobs_scheduled", EXPOSITION_GAUGE,
	 "Jobs that wait for their time, by a delay or before another attempt.", scheduled},
	{"twinpool_jobs_submitted_total", EXPOSITION_COUNTER, "Jobs that were taken.", submitted},
	{"twinpool_jobs_rejected_total", EXPOSITION_COUNTER,
	 "Jobs that were refused because the queue was full.", rejected},
	{"twinpool_job_retries_total", EXPOSITION_COUNTER,
	 "Attempts that were followed by another.", retries},
};

static void write_pool_numbers(struct metrics *metrics)
{
	const struct server_snapshot *server = &metrics->server;

	for (size_t i = 0; i < sizeof(pool_numbers) / sizeof(pool_numbers[0]); i++) {
		exposition_begin(&metrics->out, pool_numbers[i].name, pool_numbers[i].type,
				 pool_numbers[i].help);
		for (size_t p = 0; p < server->pool_count; p++)
			exposition_uint(&metrics->out,
					labels("pool", server->pools[p].config->name),
					pool_numbers[i].read(&server->pools[p]));
	}
}

/* --- pools: the other families ---------------------------------------------------------------- */

static void write_oldest_wait(struct exposition *out, const struct pool_snapshot *pool)
{
	exposition_seconds(out, labels("pool", pool->config->name), pool->oldest_wait_ns);
}

static void write_longest_run(struct exposition *out, const struct pool_snapshot *pool)
{
	int64_t longest_ns = 0;

	for (size_t i = 0; i < pool->worker_count; i++)
		if (pool->workers[i].busy_ns > longest_ns)
			longest_ns = pool->workers[i].busy_ns;
	exposition_seconds(out, labels("pool", pool->config->name), longest_ns);
}

static void write_slots(struct exposition *out, const struct pool_snapshot *pool)
{
	exposition_uint(out, pool_labels(pool, "state", "busy"), pool->workers_busy);
	exposition_uint(out, pool_labels(pool, "state", "idle"), pool->workers_idle);
	exposition_uint(out, pool_labels(pool, "state", "down"), pool->workers_down);
}

static void write_workers(struct exposition *out, const struct pool_snapshot *pool)
{
	static const char *const states[] = {"idle",	 "busy",     "stopping",
					     "starting", "draining", "backoff"};

	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		uint64_t count = 0;

		for (size_t w = 0; w < pool->worker_count; w++)
			count += strcmp(pool->workers[w].state, states[i]) == 0;
		exposition_uint(out, pool_labels(pool, "state", states[i]), count);
	}
}

static void write_ended(struct exposition *out, const struct pool_snapshot *pool)
{
	for (int i = 0; i < JOB_STATES; i++)
		if (job_state_is_ended((enum job_state)i))
			exposition_uint(
				out, pool_labels(pool, "state", job_state_name((enum job_state)i)),
				pool->ended[i]);
}

static void write_causes(struct exposition *out, const struct pool_snapshot *pool)
{
	for (int i = CAUSE_NONE + 1; i < JOB_CAUSES; i++)
		exposition_uint(out, pool_labels(pool, "cause", job_cause_name((enum job_cause)i)),
				pool->causes[i]);
}

static void write_restarts(struct exposition *out, const struct pool_snapshot *pool)
{
	for (int i = 0; i < RESTART_REASONS; i++)
		exposition_uint(
			out,
			pool_labels(pool, "reason", restart_reason_name((enum restart_reason)i)),
			pool->restarts[i]);
}

static void write_queued(struct exposition *out, const struct pool_snapshot *pool)
{
	exposition_histogram(out, labels("pool", pool->config->name), pool->queued);
}

static void write_run(struct exposition *out, const struct pool_snapshot *pool)
{
	exposition_histogram(out, labels("pool", pool->config->name), pool->run);
}

static void write_total(struct exposition *out, const struct pool_snapshot *pool)
{
	exposition_histogram(out, labels("pool", pool->config->name), pool->total);
}

static const struct {
	const char *name;
	enum exposition_type type;
	const char *help;
	void (*write)(struct exposition *out, const struct pool_snapshot *pool);
} pool_families[] = {
	{"twinpool_queue_oldest_wait_seconds", EXPOSITION_GAUGE,
	 "How long the oldest job of the queue has waited; 0 if it is empty.", write_oldest_wait},
	{"twinpool_longest_run_seconds", EXPOSITION_GAUGE,
	 "How long the job has run that has run longest; 0 if none runs.", write_longest_run},
	{"twinpool_worker_slots", EXPOSITION_GAUGE,
	 "Workers by whether a job was given to them; down: of hosts that are not up.",
	 write_slots},
	{"twinpool_workers", EXPOSITION_GAUGE, "Workers by what they do.", write_workers},
	{"twinpool_jobs_ended_total", EXPOSITION_COUNTER, "Jobs that have ended, by state.",
	 write_ended},
	{"twinpool_jobs_unsuccessful_total", EXPOSITION_COUNTER,
	 "Jobs that have ended without success, by the code of their error.", write_causes},
	{"twinpool_host_restarts_total", EXPOSITION_COUNTER,
	 "Worker processes that have ended, by reason.", write_restarts},
	{"twinpool_job_queued_seconds", EXPOSITION_HISTOGRAM,
	 "From being queued to being given to a worker.", write_queued},
	{"twinpool_job_run_seconds", EXPOSITION_HISTOGRAM, "From the task's call to its return.",
	 write_run},
	{"twinpool_job_duration_seconds", EXPOSITION_HISTOGRAM,
	 "From the submission to the known end.", write_total},
};

static void write_pool_families(struct metrics *metrics)
{
	for (size_t i = 0; i < sizeof(pool_families) / sizeof(pool_families[0]); i++) {
		exposition_begin(&metrics->out, pool_families[i].name, pool_families[i].type,
				 pool_families[i].help);
		for (size_t p = 0; p < metrics->server.pool_count; p++)
			pool_families[i].write(&metrics->out, &metrics->server.pools[p]);
	}
}

/* --- the answer ------------------------------------------------------------------------------- */

enum MHD_Result metrics_get(struct request *request)
{
	const struct reply reply = {.status = MHD_HTTP_OK, .content_type = EXPOSITION_CONTENT_TYPE};
	struct buffer body = {0};
	struct metrics metrics = {.out.buffer = &body};
	const char *reason;

	if (server_snapshot_take(request->http->server, &metrics.server) < 0) {
		struct error error;
		(void)error_set(&error, ERROR_INTERNAL, NULL, "not enough memory");
		return reply_error(request, &error, 0);
	}
	http_snapshot_take(request->http, &metrics.http);
	proc_self_take(&metrics.self);
	metrics.ready = server_is_ready(request->http->server, &reason);
	write_server(&metrics);
	write_process(&metrics);
	write_http(&metrics);
	write_jobs(&metrics);
	write_pool_numbers(&metrics);
	write_pool_families(&metrics);
	server_snapshot_release(&metrics.server);
	return reply_send(request, &reply, &body);
}
