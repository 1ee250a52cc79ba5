/* The job record, its state × event table, and its document. */
#include "job/job.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define NO (-1)

/* What becomes of a job in a state (row) when an event (column) happens; NO: it cannot happen. */
static const int8_t transitions[JOB_STATES][JOB_EVENTS] = {
	/* clang-format off */
	[JOB_SCHEDULED] = {[JOB_EVENT_DUE] = JOB_QUEUED, [JOB_EVENT_CANCEL] = JOB_CANCELLED,
		[JOB_EVENT_START] = NO, [JOB_EVENT_REQUEUE] = NO, [JOB_EVENT_STOP] = NO, [JOB_EVENT_RETRY] = NO,
		[JOB_EVENT_SUCCEED] = NO, [JOB_EVENT_FAIL] = NO, [JOB_EVENT_TIME_OUT] = NO, [JOB_EVENT_CRASH] = NO,
		[JOB_EVENT_EXPIRE] = NO},
	[JOB_QUEUED] = {[JOB_EVENT_START] = JOB_RUNNING, [JOB_EVENT_CANCEL] = JOB_CANCELLED,
		[JOB_EVENT_EXPIRE] = JOB_EXPIRED, [JOB_EVENT_FAIL] = NO,
		[JOB_EVENT_DUE] = NO, [JOB_EVENT_REQUEUE] = NO, [JOB_EVENT_STOP] = NO, [JOB_EVENT_RETRY] = NO,
		[JOB_EVENT_SUCCEED] = NO, [JOB_EVENT_TIME_OUT] = NO, [JOB_EVENT_CRASH] = NO},
	[JOB_RUNNING] = {[JOB_EVENT_REQUEUE] = JOB_QUEUED, [JOB_EVENT_STOP] = JOB_STOPPING,
		[JOB_EVENT_RETRY] = JOB_SCHEDULED, [JOB_EVENT_SUCCEED] = JOB_SUCCEEDED, [JOB_EVENT_FAIL] = JOB_FAILED,
		[JOB_EVENT_CRASH] = JOB_CRASHED,
		[JOB_EVENT_DUE] = NO, [JOB_EVENT_START] = NO, [JOB_EVENT_TIME_OUT] = NO, [JOB_EVENT_CANCEL] = NO,
		[JOB_EVENT_EXPIRE] = NO},
	[JOB_STOPPING] = {[JOB_EVENT_RETRY] = JOB_SCHEDULED, [JOB_EVENT_SUCCEED] = JOB_SUCCEEDED,
		[JOB_EVENT_FAIL] = JOB_FAILED, [JOB_EVENT_TIME_OUT] = JOB_TIMED_OUT, [JOB_EVENT_CANCEL] = JOB_CANCELLED,
		[JOB_EVENT_CRASH] = JOB_CRASHED,
		[JOB_EVENT_DUE] = NO, [JOB_EVENT_START] = NO, [JOB_EVENT_REQUEUE] = NO, [JOB_EVENT_STOP] = NO,
		[JOB_EVENT_EXPIRE] = NO},
	[JOB_SUCCEEDED] = {NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO},
	[JOB_FAILED]    = {NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO},
	[JOB_TIMED_OUT] = {NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO},
	[JOB_CANCELLED] = {NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO},
	[JOB_CRASHED]   = {NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO},
	[JOB_EXPIRED]   = {NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO},
	/* clang-format on */
};

static const char *const state_names[JOB_STATES] = {
	[JOB_SCHEDULED] = "scheduled", [JOB_QUEUED] = "queued",	      [JOB_RUNNING] = "running",
	[JOB_STOPPING] = "stopping",   [JOB_SUCCEEDED] = "succeeded", [JOB_FAILED] = "failed",
	[JOB_TIMED_OUT] = "timed_out", [JOB_CANCELLED] = "cancelled", [JOB_CRASHED] = "crashed",
	[JOB_EXPIRED] = "expired",
};

static const char *const event_names[JOB_EVENTS] = {
	[JOB_EVENT_DUE] = "due",	 [JOB_EVENT_START] = "start",
	[JOB_EVENT_REQUEUE] = "requeue", [JOB_EVENT_STOP] = "stop",
	[JOB_EVENT_RETRY] = "retry",	 [JOB_EVENT_SUCCEED] = "succeed",
	[JOB_EVENT_FAIL] = "fail",	 [JOB_EVENT_TIME_OUT] = "time_out",
	[JOB_EVENT_CANCEL] = "cancel",	 [JOB_EVENT_CRASH] = "crash",
	[JOB_EVENT_EXPIRE] = "expire",
};

static const char *const cause_names[JOB_CAUSES] = {
	[CAUSE_NONE] = "none",
	[CAUSE_TASK_ERROR] = "task_error",
	[CAUSE_WALL_LIMIT] = "wall_limit",
	[CAUSE_CPU_LIMIT] = "cpu_limit",
	[CAUSE_MEMORY_LIMIT] = "memory_limit",
	[CAUSE_OUTPUT_LIMIT] = "output_limit",
	[CAUSE_SIGNAL] = "signal",
	[CAUSE_EXIT_STATUS] = "exit_status",
	[CAUSE_HOST_LOST] = "host_lost",
	[CAUSE_CANCELLED] = "cancelled",
	[CAUSE_QUEUE_TTL] = "queue_ttl",
};

struct job *job_new(void)
{
	struct job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	list_init(&job->in_order);
	list_init(&job->in_queue);
	list_init(&job->waiting);
	list_init(&job->in_called);
	list_init(&job->ended);
	list_init(&job->waiters);
	list_init(&job->watchers);
	heap_node_init(&job->deadline);
	metering_init(&job->metering);
	job->error.exit_status = -1;
	return job;
}

void job_free(struct job *job)
{
	if (!job)
		return;
	output_release(&job->stdout_output);
	output_release(&job->stderr_output);
	for (uint32_t i = 0; i < job->previous_count; i++)
		free(job->previous[i].error.message);
	free(job->previous);
	free(job->earlier);
	free(job->callback);
	free(job->caps);
	free(job->args);
	free(job->labels);
	free(job->result);
	free(job->error.message);
	free(job->progress.message);
	free(job);
}

int job_next_state(enum job_state state, enum job_event event)
{
	return transitions[state][event];
}

void job_begin(struct job *job, enum job_state state)
{
	job->state = state;
	job->passages[job->passage_count++ % JOB_PASSAGES] =
		(struct job_passage){.state = state, .attempt = job->attempt};
}

int job_transition(struct job *job, enum job_event event)
{
	int next = job_next_state(job->state, event);

	if (next < 0)
		return -EPROTO;
	job_begin(job, (enum job_state)next);
	return 0;
}

bool job_state_is_ended(enum job_state state)
{
	return state >= JOB_SUCCEEDED;
}

bool job_is_settled(const struct job *job)
{
	return job_state_is_ended(job->state) && (!job->stored || job->unsaved == 0);
}

const char *job_state_name(enum job_state state)
{
	return state_names[state];
}

bool job_state_parse(const char *name, enum job_state *ret_state)
{
	for (int i = 0; i < JOB_STATES; i++) {
		if (strcmp(name, state_names[i]) == 0) {
			*ret_state = (enum job_state)i;
			return true;
		}
	}
	return false;
}

const char *job_event_name(enum job_event event)
{
	return event_names[event];
}

const char *job_cause_name(enum job_cause cause)
{
	return cause_names[cause];
}

bool job_cause_parse(const char *name, enum job_cause *ret_cause)
{
	for (int i = 0; i < JOB_CAUSES; i++) {
		if (strcmp(name, cause_names[i]) == 0) {
			*ret_cause = (enum job_cause)i;
			return true;
		}
	}
	return false;
}

int job_keep_attempt(struct job *job, enum job_state state)
{
	size_t size = (job->previous_count + 1) * sizeof(*job->previous);
	struct job_attempt *previous = realloc(job->previous, size);

	if (!previous)
		return -ENOMEM;
	job->previous = previous;
	previous[job->previous_count++] = (struct job_attempt){
		.state = state,
		.error = job->error,
		.metering = job->metering,
		.worker = job->worker,
		.queued_ns = job->queued_ns,
		.dispatched_ns = job->dispatched_ns,
		.finished_ns = job->finished_ns,
		.stdout_bytes = job->stdout_output.total_bytes,
		.stderr_bytes = job->stderr_output.total_bytes,
	};
	job->error = (struct job_error){.exit_status = -1};
	metering_init(&job->metering);
	job->worker = (struct job_worker){0};
	job->stop_reason = STOP_NONE;
	job->queued_ns = 0;
	job->dispatched_ns = 0;
	job->stop_asked_ns = 0;
	job->cpu_seen_ns = 0;
	job->finished_ns = 0;
	free(job->result);
	job->result = NULL;
	job->result_length = 0;
	free(job->progress.message);
	job->progress = (struct job_progress){.version = job->progress.version};
	output_release(&job->stdout_output);
	output_release(&job->stderr_output);
	return 0;
}

void job_set_error(struct job *job, enum job_cause cause, const char *format, ...)
{
	va_list args;
	char *message = NULL;

	va_start(args, format);
	if (vasprintf(&message, format, args) < 0)
		message = NULL;
	va_end(args);
	free(job->error.message);
	job->error.message = message;
	job->error.cause = cause;
}

void job_set_progress(struct job *job, int64_t done, int64_t total, const char *message,
		      size_t length)
{
	char *copy = length > 0 ? malloc(length) : NULL;

	if (copy)
		memcpy(copy, message, length);
	free(job->progress.message);
	job->progress = (struct job_progress){
		.known = true,
		.version = job->progress.version + 1,
		.done = done,
		.total = total,
		.message = copy,
		.message_length = copy ? length : 0,
	};
}

size_t job_memory(const struct job *job)
{
	size_t message = (job->error.message ? strlen(job->error.message) + 1 : 0) +
			 job->progress.message_length;

	for (uint32_t i = 0; i < job->previous_count; i++)
		message +=
			sizeof(job->previous[i]) +
			(job->previous[i].error.message ? strlen(job->previous[i].error.message) + 1
							: 0);
	return sizeof(*job) + job->earlier_length + job->args_length + job->labels_length +
	       job->result_length + message + job->cap_count * sizeof(void *) +
	       output_memory(&job->stdout_output) + output_memory(&job->stderr_output);
}

/* --- the document ----------------------------------------------------------------------------- */

/* a - b where both are known times; else null. */
static void write_span(struct json_writer *writer, const char *key, int64_t from_ns, int64_t to_ns)
{
	if (from_ns > 0 && to_ns > 0)
		json_write_ms(writer, key, to_ns - from_ns);
	else
		json_write_null(writer, key);
}

static void write_known(struct json_writer *writer, const char *key, int64_t value)
{
	if (value == METERING_UNKNOWN)
		json_write_null(writer, key);
	else
		json_write_int(writer, key, value);
}

static void write_known_ms(struct json_writer *writer, const char *key, int64_t ns)
{
	if (ns == METERING_UNKNOWN)
		json_write_null(writer, key);
	else
		json_write_ms(writer, key, ns);
}

/* What the parts of a run's time are made of. */
struct span {
	int64_t submitted_ns;
	int64_t queued_ns;
	int64_t dispatched_ns; /* 0: it never ran */
	int64_t finished_ns;   /* 0: it goes on */
	int64_t now_ns;
	bool ended;
	bool is_lost; /* when it was submitted is not known: it was in a service that is no more */
};

static void write_timing(const struct span *span, const struct metering *m,
			 struct json_writer *writer)
{
	int64_t until_ns = span->finished_ns ? span->finished_ns : span->now_ns;
	bool never_ran = span->ended && !span->dispatched_ns;

	json_write_begin_object(writer, "timing");
	write_span(writer, "queued_ms", span->queued_ns,
		   span->dispatched_ns ? span->dispatched_ns : until_ns);
	write_span(writer, "dispatch_ms", span->dispatched_ns, m->started_ns);
	if (never_ran)
		json_write_null(writer, "run_ms");
	else
		write_span(writer, "run_ms", m->started_ns,
			   m->ended_ns > 0 ? m->ended_ns : until_ns);
	write_span(writer, "collect_ms", m->ended_ns, span->finished_ns);
	/* One that was submitted before the machine's last start has come before its clock began. */
	if (span->is_lost)
		json_write_null(writer, "total_ms");
	else
		json_write_ms(writer, "total_ms", until_ns - span->submitted_ns);
	write_known_ms(writer, "cpu_user_ms", m->cpu_user_ns);
	write_known_ms(writer, "cpu_system_ms", m->cpu_system_ns);
	json_write_end_object(writer);
}

static const char *source_name(uint32_t source)
{
	switch ((enum memory_source)source) {
	case MEMORY_SOURCE_VM_HWM:
		return "vm_hwm";
	case MEMORY_SOURCE_JEMALLOC_PEAK:
		return "jemalloc_peak";
	case MEMORY_SOURCE_WAIT4:
		return "wait4";
	case MEMORY_SOURCE_SAMPLED:
		return "sampled";
	case MEMORY_SOURCE_CGROUP_MEMORY_PEAK:
		return "cgroup_memory_peak";
	case MEMORY_SOURCE_NONE:
		break;
	}
	return NULL;
}

static const char *scope_name(uint32_t scope)
{
	switch ((enum memory_scope)scope) {
	case MEMORY_SCOPE_PROCESS:
		return "process";
	case MEMORY_SCOPE_THREAD:
		return "thread";
	case MEMORY_SCOPE_CHILDREN:
		return "children";
	case MEMORY_SCOPE_NONE:
		break;
	}
	return NULL;
}

static void write_memory(const struct metering *m, struct json_writer *writer)
{
	/* Faults are counted wherever anything is; a job that went with its host has only times. */
	if (m->minor_faults == METERING_UNKNOWN) {
		json_write_null(writer, "memory");
		json_write_null(writer, "switches");
		return;
	}
	json_write_begin_object(writer, "memory");
	write_known(writer, "peak_bytes", m->peak_bytes);
	write_known(writer, "baseline_bytes", m->baseline_bytes);
	json_write_string(writer, "source", source_name(m->source));
	json_write_string(writer, "scope", scope_name(m->scope));
	write_known(writer, "heap_peak_bytes", m->heap_peak_bytes);
	write_known(writer, "host_rss_bytes", m->host_rss_bytes);
	write_known(writer, "minor_faults", m->minor_faults);
	write_known(writer, "major_faults", m->major_faults);
	json_write_end_object(writer);

	json_write_begin_object(writer, "switches");
	write_known(writer, "voluntary", m->voluntary_switches);
	write_known(writer, "involuntary", m->involuntary_switches);
	json_write_end_object(writer);
}

static void write_worker(const struct job_worker *worker, struct json_writer *writer)
{
	if (worker->pid == 0) {
		json_write_null(writer, "worker");
		return;
	}
	json_write_begin_object(writer, "worker");
	json_write_int(writer, "pid", worker->pid);
	json_write_int(writer, "tid", worker->tid);
	json_write_uint(writer, "host", worker->host);
	json_write_uint(writer, "thread", worker->thread);
	json_write_uint(writer, "generation", worker->generation);
	json_write_uint(writer, "jobs_before", worker->jobs_before);
	json_write_end_object(writer);
}

static void write_error(const struct job_error *error, struct json_writer *writer, const char *key)
{
	char text[ID_TEXT_SIZE];

	if (error->cause == CAUSE_NONE) {
		json_write_null(writer, key);
		return;
	}
	json_write_begin_object(writer, key);
	json_write_string(writer, "code", job_cause_name(error->cause));
	json_write_string(writer, "message", error->message ? error->message : "");
	if (error->signal) {
		const char *name = sigabbrev_np(error->signal);
		char signal_name[32];

		snprintf(signal_name, sizeof(signal_name), "SIG%s", name ? name : "RT");
		json_write_int(writer, "signal", error->signal);
		json_write_string(writer, "signal_name", signal_name);
	}
	if (error->exit_status >= 0)
		json_write_int(writer, "exit_status", error->exit_status);
	if (error->limit_ms) {
		json_write_int(writer, "limit_ms", error->limit_ms);
		json_write_int(writer, "seen_ms", error->seen_ms);
	}
	if (error->limit_bytes) {
		json_write_int(writer, "limit_bytes", error->limit_bytes);
		json_write_int(writer, "seen_bytes", error->seen_bytes);
	}
	if (error->has_culprit)
		json_write_string(writer, "culprit", id_format(&error->culprit, text));
	json_write_end_object(writer);
}

void job_write_progress(const struct job *job, struct json_writer *writer, const char *key)
{
	const struct job_progress *progress = &job->progress;

	if (!progress->known) {
		json_write_null(writer, key);
		return;
	}
	json_write_begin_object(writer, key);
	json_write_int(writer, "done", progress->done);
	if (progress->total > 0)
		json_write_int(writer, "total", progress->total);
	else
		json_write_null(writer, "total");
	if (progress->message)
		json_write_bytes(writer, "message", progress->message, progress->message_length);
	else
		json_write_null(writer, "message");
	json_write_end_object(writer);
}

void job_write_error(const struct job *job, struct json_writer *writer, const char *key)
{
	write_error(&job->error, writer, key);
}

/* The date of a monotonic moment, by its distance from the submission; null if it is not known. */
static void write_date(const struct job *job, struct json_writer *writer, const char *key,
		       int64_t at_ns)
{
	char text[CLOCK_RFC3339_SIZE];

	if (at_ns <= 0) {
		json_write_null(writer, key);
		return;
	}
	json_write_string(
		writer, key,
		clock_rfc3339(job->submitted_real_ns + (at_ns - job->submitted_ns), text));
}

static void write_attempts(const struct job *job, struct json_writer *writer)
{
	for (uint32_t i = 0; i < job->previous_count; i++) {
		const struct job_attempt *attempt = &job->previous[i];
		struct span span = {.submitted_ns = attempt->queued_ns,
				    .queued_ns = attempt->queued_ns,
				    .dispatched_ns = attempt->dispatched_ns,
				    .finished_ns = attempt->finished_ns,
				    .ended = true,
				    .is_lost = attempt->queued_ns == 0};

		json_write_begin_object(writer, NULL);
		json_write_uint(writer, "attempt", job->earlier_count + i + 1);
		json_write_string(writer, "state", job_state_name(attempt->state));
		write_error(&attempt->error, writer, "error");
		write_timing(&span, &attempt->metering, writer);
		write_memory(&attempt->metering, writer);
		write_worker(&attempt->worker, writer);
		write_date(job, writer, "started_at", attempt->metering.started_ns);
		write_date(job, writer, "finished_at", attempt->finished_ns);
		json_write_end_object(writer);
	}
}

static void write_previous(const struct job *job, struct json_writer *writer)
{
	json_write_begin_array(writer, "previous_attempts");
	if (job->earlier)
		json_write_raw(writer, NULL, job->earlier, job->earlier_length);
	write_attempts(job, writer);
	json_write_end_array(writer);
}

void job_write_earlier(const struct job *job, struct buffer *buffer)
{
	struct json_writer writer = {.buffer = buffer};

	if (job->earlier)
		json_write_raw(&writer, NULL, job->earlier, job->earlier_length);
	write_attempts(job, &writer);
}

uint32_t job_output_attempt(const struct job *job)
{
	return job->earlier_count + job->previous_count + 1;
}

/* 0 stands for none. */
static void write_limit(struct json_writer *writer, const char *key, int64_t limit)
{
	if (limit)
		json_write_int(writer, key, limit);
	else
		json_write_null(writer, key);
}

static void write_terms(const struct job *job, struct json_writer *writer)
{
	json_write_int(writer, "priority", job->priority);
	json_write_uint(writer, "max_attempts", job->max_attempts);
	write_limit(writer, "queue_position", job->state == JOB_QUEUED ? job->queue_position : 0);
	write_date(job, writer, "scheduled_for", job->state == JOB_SCHEDULED ? job->due_ns : 0);
	write_limit(writer, "timeout_ms", job->timeout_ms);
	json_write_begin_object(writer, "limits");
	write_limit(writer, "queue_ttl_ms", job->queue_ttl_ms);
	write_limit(writer, "cpu_ms", job->cpu_ms);
	write_limit(writer, "memory_bytes", job->memory_bytes);
	json_write_uint(writer, "output_bytes", job->stdout_output.capacity);
	json_write_string(writer, "on_output", job->stop_on_output ? "stop" : "truncate");
	json_write_end_object(writer);
}

void job_write_json(const struct job *job, int64_t now_ns, struct json_writer *writer,
		    const char *key)
{
	char text[ID_TEXT_SIZE];
	char date[CLOCK_RFC3339_SIZE];
	struct span span = {.submitted_ns = job->submitted_ns,
			    .queued_ns = job->queued_ns,
			    .dispatched_ns = job->dispatched_ns,
			    .finished_ns = job->finished_ns,
			    .now_ns = now_ns,
			    .ended = job_state_is_ended(job->state)};

	json_write_begin_object(writer, key);
	json_write_string(writer, "id", id_format(&job->by_id.id, text));
	json_write_string(writer, "task", job->task);
	json_write_string(writer, "pool", job->pool);
	json_write_string(writer, "state", job_state_name(job->state));
	json_write_uint(writer, "attempt", job->attempt);
	json_write_raw(writer, "result", job->result, job->result_length);
	write_error(&job->error, writer, "error");
	job_write_progress(job, writer, "progress");
	write_timing(&span, &job->metering, writer);
	write_memory(&job->metering, writer);
	write_worker(&job->worker, writer);
	output_write_json(&job->stdout_output, writer, "stdout");
	output_write_json(&job->stderr_output, writer, "stderr");
	json_write_raw(writer, "labels", job->labels, job->labels_length);
	write_terms(job, writer);
	write_previous(job, writer);
	json_write_string(writer, "batch", job->has_batch ? id_format(&job->batch_id, text) : NULL);
	json_write_bool(writer, "durable", job->durable);
	json_write_string(writer, "callback_url", job->callback);
	json_write_string(writer, "submitted_at", clock_rfc3339(job->submitted_real_ns, date));
	write_date(job, writer, "started_at", job->metering.started_ns);
	write_date(job, writer, "finished_at", job->finished_ns);
	json_write_end_object(writer);
}
