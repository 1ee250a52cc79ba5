/*
 * The job: its table of states, its document, and the reading of submissions.
 *
 * The table and the documents are written out here a second time, from the description of them and
 * not from the code, so that neither can drift.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/json.h"
#include "job/batch.h"
#include "job/job.h"
#include "job/submission.h"
#include "random.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* --- states ---------------------------------------------------------------------------------- */

static const char *const states[JOB_STATES] = {"scheduled", "queued", "running",   "stopping",
					       "succeeded", "failed", "timed_out", "cancelled",
					       "crashed",   "expired"};
static const char *const events[JOB_EVENTS] = {"due",	 "start",   "requeue", "stop",
					       "retry",	 "succeed", "fail",    "time_out",
					       "cancel", "crash",   "expire"};

/* All that may happen; whatever is not here may not. */
static const char *const may_happen[][3] = {
	{"scheduled", "due", "queued"},	       {"scheduled", "cancel", "cancelled"},
	{"queued", "start", "running"},	       {"queued", "cancel", "cancelled"},
	{"queued", "expire", "expired"},       {"running", "requeue", "queued"},
	{"running", "stop", "stopping"},       {"running", "retry", "scheduled"},
	{"running", "succeed", "succeeded"},   {"running", "fail", "failed"},
	{"running", "crash", "crashed"},       {"stopping", "retry", "scheduled"},
	{"stopping", "succeed", "succeeded"},  {"stopping", "fail", "failed"},
	{"stopping", "time_out", "timed_out"}, {"stopping", "cancel", "cancelled"},
	{"stopping", "crash", "crashed"},
};

static const char *expected_state(const char *state, const char *event)
{
	for (size_t i = 0; i < COUNT(may_happen); i++)
		if (strcmp(may_happen[i][0], state) == 0 && strcmp(may_happen[i][1], event) == 0)
			return may_happen[i][2];
	return NULL;
}

static void test_every_transition(void **state)
{
	struct job *job = job_new();
	size_t allowed = 0;

	(void)state;
	assert_non_null(job);
	assert_int_equal(job->state, JOB_SCHEDULED);
	for (int from = 0; from < JOB_STATES; from++) {
		for (int event = 0; event < JOB_EVENTS; event++) {
			const char *to = expected_state(states[from], events[event]);
			int next = job_next_state((enum job_state)from, (enum job_event)event);
			job->state = (enum job_state)from;
			int result = job_transition(job, (enum job_event)event);
			if (to) {
				allowed++;
				assert_int_equal(result, 0);
				assert_string_equal(job_state_name(job->state), to);
				assert_int_equal(next, (int)job->state);
			} else {
				assert_int_equal(result, -EPROTO);
				assert_int_equal(next, -1);
				assert_int_equal(job->state, from);
			}
		}
	}
	assert_int_equal(allowed, COUNT(may_happen));
	job_free(job);
}

static void test_ended_states_never_change(void **state)
{
	struct job *job = job_new();

	(void)state;
	assert_non_null(job);
	for (int from = 0; from < JOB_STATES; from++) {
		bool ended = from > 3; /* all but scheduled, queued, running and stopping */
		assert_int_equal(job_state_is_ended((enum job_state)from), ended);
		if (!ended)
			continue;
		job->state = (enum job_state)from;
		for (int i = 0; i < 1000; i++) {
			enum job_event event = (enum job_event)random_below(JOB_EVENTS);
			assert_int_equal(job_transition(job, event), -EPROTO);
			assert_int_equal(job->state, from);
		}
	}
	job_free(job);
}

/* Any walk from the start ends within the states, and every state can be reached by some. */
static void test_random_walks_reach_all(void **state)
{
	bool reached[JOB_STATES] = {false};
	struct job *job = job_new();

	(void)state;
	assert_non_null(job);
	for (int walk = 0; walk < 2000; walk++) {
		job->state = JOB_SCHEDULED;
		for (int step = 0; step < 40; step++) {
			bool was_ended = job_state_is_ended(job->state);
			int result = job_transition(job, (enum job_event)random_below(JOB_EVENTS));
			assert_true((int)job->state >= 0 && job->state < JOB_STATES);
			assert_false(was_ended && result == 0);
			reached[job->state] = true;
		}
	}
	for (int i = 0; i < JOB_STATES; i++)
		assert_true(reached[i]);
	job_free(job);
}

static void test_names(void **state)
{
	static const char *const not_names[] = {"",	   "Queued", "queued ", "queue", "ended",
						"succeed", "none",   "timeout", "\xff"};
	static const char *const causes[JOB_CAUSES] = {
		"none",	  "task_error",	 "wall_limit", "cpu_limit", "memory_limit", "output_limit",
		"signal", "exit_status", "host_lost",  "cancelled", "queue_ttl"};
	enum job_cause cause = CAUSE_SIGNAL;
	enum job_state parsed;

	(void)state;
	for (int i = 0; i < JOB_STATES; i++) {
		assert_string_equal(job_state_name((enum job_state)i), states[i]);
		parsed = JOB_QUEUED;
		assert_true(job_state_parse(states[i], &parsed));
		assert_int_equal(parsed, i);
	}
	for (int i = 0; i < JOB_EVENTS; i++)
		assert_string_equal(job_event_name((enum job_event)i), events[i]);
	assert_false(job_cause_parse("", &cause) || job_cause_parse("Signal", &cause) ||
		     job_cause_parse("timed_out", &cause));
	assert_int_equal(cause, CAUSE_SIGNAL);
	for (int i = 0; i < JOB_CAUSES; i++) {
		assert_string_equal(job_cause_name((enum job_cause)i), causes[i]);
		assert_true(job_cause_parse(causes[i], &cause));
		assert_int_equal(cause, i);
	}
	parsed = JOB_FAILED;
	for (size_t i = 0; i < COUNT(not_names); i++)
		assert_false(job_state_parse(not_names[i], &parsed));
	assert_int_equal(parsed, JOB_FAILED);
}

/* --- the document ---------------------------------------------------------------------------- */

/* 2026-01-02T03:04:05.678901Z, and some moment of a monotonic clock. */
#define SUBMITTED_REAL_NS (1767323045LL * NS_PER_S + 678901000)
#define SUBMITTED_NS	  (5000LL * NS_PER_S)
#define JOB_ID		  "019b7d3c-6001-7000-8a55-2f19c0a3d7e2"
#define OTHER_ID	  "019b7d3c-5fff-7000-8a55-000000000001"

static struct id parse_id(const char *text)
{
	struct id id;

	assert_true(id_parse(text, &id));
	return id;
}

static struct job *make_job(const char *task, const char *pool)
{
	struct job *job = job_new();

	assert_non_null(job);
	job->by_id.id = parse_id(JOB_ID);
	job->task = task;
	job->pool = pool;
	job->state = JOB_QUEUED;
	job->max_attempts = 1;
	job->submitted_ns = SUBMITTED_NS;
	job->submitted_real_ns = SUBMITTED_REAL_NS;
	job->queued_ns = SUBMITTED_NS;
	output_init(&job->stdout_output, 64);
	output_init(&job->stderr_output, 64);
	return job;
}

static char *copy_text(const char *text, size_t *ret_length)
{
	char *copy = strdup(text);

	assert_non_null(copy);
	*ret_length = strlen(text);
	return copy;
}

static void start_job(struct job *job)
{
	assert_int_equal(job_transition(job, JOB_EVENT_START), 0);
	job->attempt = 1;
	job->dispatched_ns = SUBMITTED_NS + 31000;
	job->metering.started_ns = job->dispatched_ns + 14000;
	job->worker = (struct job_worker){.pid = 4711,
					  .tid = 4712,
					  .host = 2,
					  .thread = 1,
					  .generation = 3,
					  .jobs_before = 41};
}

static json_t *document_of(const struct job *job, int64_t now_ns)
{
	struct buffer buffer = {0};
	struct json_writer writer = {.buffer = &buffer};
	struct error error;
	json_t *document = NULL;

	job_write_json(job, now_ns, &writer, NULL);
	assert_false(buffer_failed(&buffer));
	assert_true(json_is_wellformed(buffer.data, buffer.length));
	assert_int_equal(json_parse(buffer.data, buffer.length, &document, &error), 0);
	buffer_release(&buffer);
	return document;
}

static void assert_document(const struct job *job, int64_t now_ns, const char *expected_text)
{
	json_error_t error;
	json_t *document = document_of(job, now_ns);
	json_t *expected = json_loads(expected_text, JSON_REJECT_DUPLICATES, &error);

	if (!expected)
		fail_msg("the test's own document, line %d: %s", error.line, error.text);
	if (!json_equal(document, expected)) {
		char *found = json_dumps(document, JSON_INDENT(2));
		print_error("found: %s\n", found);
		free(found);
		fail_msg("the document is not as expected");
	}
	json_decref(expected);
	json_decref(document);
}

/* What a job asks for if it asks for nothing. */
#define LIMITS                                                                                     \
	"\"limits\":{\"queue_ttl_ms\":null,\"cpu_ms\":null,\"memory_bytes\":null,"                 \
	"\"output_bytes\":64,\"on_output\":\"truncate\"},"
#define KEPT "\"durable\":false,\"callback_url\":null,"
#define TERMS                                                                                      \
	"\"priority\":0,\"max_attempts\":1,\"queue_position\":null,\"scheduled_for\":null,"        \
	"\"previous_attempts\":[],\"progress\":null," KEPT LIMITS

static void test_document_queued(void **state)
{
	struct job *job = make_job("primes", "process");

	(void)state;
	job->args = copy_text("{\"n\":10}", &job->args_length);
	job->timeout_ms = 60000;
	assert_document(job, SUBMITTED_NS + 1500000,
			"{\"id\":\"" JOB_ID "\",\"task\":\"primes\",\"pool\":\"process\","
			"\"state\":\"queued\",\"attempt\":0,\"result\":null,\"error\":null,"
			"\"timing\":{\"queued_ms\":1.500,\"dispatch_ms\":null,\"run_ms\":null,"
			"\"collect_ms\":null,\"total_ms\":1.500,\"cpu_user_ms\":null,"
			"\"cpu_system_ms\":null},"
			"\"memory\":null,\"switches\":null,\"worker\":null,"
			"\"stdout\":{\"text\":\"\",\"total_bytes\":0,\"truncated\":false},"
			"\"stderr\":{\"text\":\"\",\"total_bytes\":0,\"truncated\":false}," TERMS
			"\"labels\":null,\"timeout_ms\":60000,\"batch\":null,"
			"\"submitted_at\":\"2026-01-02T03:04:05.678901Z\","
			"\"started_at\":null,\"finished_at\":null}");
	job_free(job);
}

static void test_document_running(void **state)
{
	struct job *job = make_job("sleep", "thread");

	(void)state;
	start_job(job);
	job->labels = copy_text("{\"a\":\"b\"}", &job->labels_length);
	output_append(&job->stdout_output, "so far\n", 7);
	assert_document(job, SUBMITTED_NS + 2045000,
			"{\"id\":\"" JOB_ID "\",\"task\":\"sleep\",\"pool\":\"thread\","
			"\"state\":\"running\",\"attempt\":1,\"result\":null,\"error\":null,"
			"\"timing\":{\"queued_ms\":0.031,\"dispatch_ms\":0.014,\"run_ms\":2.000,"
			"\"collect_ms\":null,\"total_ms\":2.045,\"cpu_user_ms\":null,"
			"\"cpu_system_ms\":null},"
			"\"memory\":null,\"switches\":null,"
			"\"worker\":{\"pid\":4711,\"tid\":4712,\"host\":2,\"thread\":1,"
			"\"generation\":3,\"jobs_before\":41},"
			"\"stdout\":{\"text\":\"so far\\n\",\"total_bytes\":7,\"truncated\":false},"
			"\"stderr\":{\"text\":\"\",\"total_bytes\":0,\"truncated\":false}," TERMS
			"\"labels\":{\"a\":\"b\"},\"timeout_ms\":null,\"batch\":null,"
			"\"submitted_at\":\"2026-01-02T03:04:05.678901Z\","
			"\"started_at\":\"2026-01-02T03:04:05.678946Z\",\"finished_at\":null}");
	job_free(job);
}

static void end_measured(struct job *job)
{
	job->metering = (struct metering){
		.started_ns = SUBMITTED_NS + 45000,
		.ended_ns = SUBMITTED_NS + 45000 + 12331000,
		.cpu_user_ns = 12290000,
		.cpu_system_ns = 10400,
		.peak_bytes = 1835008,
		.baseline_bytes = 1200128,
		.heap_peak_bytes = METERING_UNKNOWN,
		.host_rss_bytes = 1835008,
		.minor_faults = 128,
		.major_faults = 0,
		.voluntary_switches = 2,
		.involuntary_switches = 1,
		.scope = MEMORY_SCOPE_PROCESS,
		.source = MEMORY_SOURCE_VM_HWM,
	};
	job->finished_ns = job->metering.ended_ns + 12000;
}

static void test_document_succeeded(void **state)
{
	struct job *job = make_job("primes", "process");

	(void)state;
	start_job(job);
	end_measured(job);
	job->has_batch = true;
	job->batch_id = parse_id(OTHER_ID);
	job->result = copy_text("{\"count\":17984}", &job->result_length);
	assert_int_equal(job_transition(job, JOB_EVENT_SUCCEED), 0);
	output_append(&job->stderr_output, "\xff\"", 2);
	/* what the clock says now is of no interest any more */
	assert_document(job, SUBMITTED_NS + 999 * NS_PER_S,
			"{\"id\":\"" JOB_ID "\",\"task\":\"primes\",\"pool\":\"process\","
			"\"state\":\"succeeded\",\"attempt\":1,\"result\":{\"count\":17984},"
			"\"error\":null,"
			"\"timing\":{\"queued_ms\":0.031,\"dispatch_ms\":0.014,\"run_ms\":12.331,"
			"\"collect_ms\":0.012,\"total_ms\":12.388,\"cpu_user_ms\":12.290,"
			"\"cpu_system_ms\":0.010},"
			"\"memory\":{\"peak_bytes\":1835008,\"baseline_bytes\":1200128,"
			"\"source\":\"vm_hwm\",\"scope\":\"process\",\"heap_peak_bytes\":null,"
			"\"host_rss_bytes\":1835008,\"minor_faults\":128,\"major_faults\":0},"
			"\"switches\":{\"voluntary\":2,\"involuntary\":1},"
			"\"worker\":{\"pid\":4711,\"tid\":4712,\"host\":2,\"thread\":1,"
			"\"generation\":3,\"jobs_before\":41},"
			"\"stdout\":{\"text\":\"\",\"total_bytes\":0,\"truncated\":false},"
			"\"stderr\":{\"text\":\"\\uFFFD\\\"\",\"total_bytes\":2,"
			"\"truncated\":false}," TERMS
			"\"labels\":null,\"timeout_ms\":null,\"batch\":\"" OTHER_ID "\","
			"\"submitted_at\":\"2026-01-02T03:04:05.678901Z\","
			"\"started_at\":\"2026-01-02T03:04:05.678946Z\","
			"\"finished_at\":\"2026-01-02T03:04:05.691289Z\"}");
	job_free(job);
}

/* One that its host took along: its beginning is known from the scoreboard, its cost is not. */
static void crash_job(struct job *job)
{
	start_job(job);
	job->metering.ended_ns = SUBMITTED_NS + 3045000;
	job->finished_ns = job->metering.ended_ns + 1000;
	assert_int_equal(job_transition(job, JOB_EVENT_CRASH), 0);
}

#define CRASHED_TIMING                                                                             \
	"{\"queued_ms\":0.031,\"dispatch_ms\":0.014,\"run_ms\":3.000,\"collect_ms\":0.001,"        \
	"\"total_ms\":3.046,\"cpu_user_ms\":null,\"cpu_system_ms\":null}"

static void test_document_crashed(void **state)
{
	struct job *job = make_job("crash", "process");

	(void)state;
	crash_job(job);
	job_set_error(job, CAUSE_SIGNAL, "killed by %s", "SIGSEGV");
	job->error.signal = SIGSEGV;
	assert_document(job, SUBMITTED_NS + NS_PER_S,
			"{\"id\":\"" JOB_ID "\",\"task\":\"crash\",\"pool\":\"process\","
			"\"state\":\"crashed\",\"attempt\":1,\"result\":null,"
			"\"error\":{\"code\":\"signal\",\"message\":\"killed by SIGSEGV\","
			"\"signal\":11,\"signal_name\":\"SIGSEGV\"},"
			"\"timing\":" CRASHED_TIMING ",\"memory\":null,\"switches\":null,"
			"\"worker\":{\"pid\":4711,\"tid\":4712,\"host\":2,\"thread\":1,"
			"\"generation\":3,\"jobs_before\":41},"
			"\"stdout\":{\"text\":\"\",\"total_bytes\":0,\"truncated\":false},"
			"\"stderr\":{\"text\":\"\",\"total_bytes\":0,\"truncated\":false}," TERMS
			"\"labels\":null,\"timeout_ms\":null,\"batch\":null,"
			"\"submitted_at\":\"2026-01-02T03:04:05.678901Z\","
			"\"started_at\":\"2026-01-02T03:04:05.678946Z\","
			"\"finished_at\":\"2026-01-02T03:04:05.681947Z\"}");
	job_free(job);
}

static void test_document_cancelled_while_queued(void **state)
{
	struct job *job = make_job("primes", "process");

	(void)state;
	assert_int_equal(job_transition(job, JOB_EVENT_CANCEL), 0);
	job_set_error(job, CAUSE_CANCELLED, "the job was cancelled");
	job->finished_ns = SUBMITTED_NS + 7000000;
	assert_document(job, SUBMITTED_NS + NS_PER_S,
			"{\"id\":\"" JOB_ID "\",\"task\":\"primes\",\"pool\":\"process\","
			"\"state\":\"cancelled\",\"attempt\":0,\"result\":null,"
			"\"error\":{\"code\":\"cancelled\",\"message\":\"the job was cancelled\"},"
			"\"timing\":{\"queued_ms\":7.000,\"dispatch_ms\":null,\"run_ms\":null,"
			"\"collect_ms\":null,\"total_ms\":7.000,\"cpu_user_ms\":null,"
			"\"cpu_system_ms\":null},"
			"\"memory\":null,\"switches\":null,\"worker\":null,"
			"\"stdout\":{\"text\":\"\",\"total_bytes\":0,\"truncated\":false},"
			"\"stderr\":{\"text\":\"\",\"total_bytes\":0,\"truncated\":false}," TERMS
			"\"labels\":null,\"timeout_ms\":null,\"batch\":null,"
			"\"submitted_at\":\"2026-01-02T03:04:05.678901Z\","
			"\"started_at\":null,"
			"\"finished_at\":\"2026-01-02T03:04:05.685901Z\"}");
	job_free(job);
}

/* Everything that can be asked for; delayed, then queued, then expired. */
static void test_document_terms(void **state)
{
	struct job *job = make_job("primes", "process");

	(void)state;
	job->state = JOB_SCHEDULED;
	job->queued_ns = 0;
	job->due_ns = SUBMITTED_NS + 90 * NS_PER_S + 1000;
	job->priority = -7;
	job->max_attempts = 5;
	job->queue_position = 3; /* of another time */
	job->timeout_ms = 1000;
	job->queue_ttl_ms = 2000;
	job->cpu_ms = 3000;
	job->memory_bytes = 1LL << 40;
	job->stop_on_output = true;
	output_init(&job->stdout_output, 0);
	output_init(&job->stderr_output, 0);
#define ALL_TERMS                                                                                  \
	KEPT "\"priority\":-7,\"max_attempts\":5,\"previous_attempts\":[],\"progress\":null,"      \
	     "\"timeout_"                                                                          \
	     "ms\":1000,"                                                                          \
	     "\"limits\":{\"queue_ttl_ms\":2000,\"cpu_ms\":3000,\"memory_bytes\":1099511627776,"   \
	     "\"output_bytes\":0,\"on_output\":\"stop\"},\"labels\":null,\"batch\":null,"          \
	     "\"memory\":null,\"switches\":null,\"worker\":null,\"attempt\":0,\"result\":null,"    \
	     "\"stdout\":{\"text\":\"\",\"total_bytes\":0,\"truncated\":false},"                   \
	     "\"stderr\":{\"text\":\"\",\"total_bytes\":0,\"truncated\":false},"                   \
	     "\"id\":\"" JOB_ID "\",\"task\":\"primes\",\"pool\":\"process\",\"started_at\":null," \
	     "\"submitted_at\":\"2026-01-02T03:04:05.678901Z\","
#define NO_RUN                                                                                     \
	"\"dispatch_ms\":null,\"run_ms\":null,\"collect_ms\":null,\"cpu_user_ms\":null,"           \
	"\"cpu_system_ms\":null}"
	assert_document(job, SUBMITTED_NS + NS_PER_MS,
			"{" ALL_TERMS "\"state\":\"scheduled\",\"error\":null,"
			"\"queue_position\":null,"
			"\"scheduled_for\":\"2026-01-02T03:05:35.678902Z\","
			"\"timing\":{\"queued_ms\":null,\"total_ms\":1.000," NO_RUN
			",\"finished_at\":null}");
	assert_int_equal(job_transition(job, JOB_EVENT_DUE), 0);
	job->queued_ns = job->due_ns;
	assert_document(job, job->due_ns + NS_PER_MS,
			"{" ALL_TERMS "\"state\":\"queued\",\"error\":null,\"queue_position\":3,"
			"\"scheduled_for\":null,"
			"\"timing\":{\"queued_ms\":1.000,\"total_ms\":90001.001," NO_RUN
			",\"finished_at\":null}");
	job->queue_position = 0; /* too far to count */
	json_t *document = document_of(job, SUBMITTED_NS + 1);
	assert_true(json_is_null(json_object_get(document, "queue_position")));
	json_decref(document);
	job->queue_position = 3;
	assert_int_equal(job_transition(job, JOB_EVENT_EXPIRE), 0);
	job_set_error(job, CAUSE_QUEUE_TTL, "too long");
	job->error.limit_ms = 2000;
	job->error.seen_ms = 2003;
	job->finished_ns = job->queued_ns + 2003 * NS_PER_MS;
	assert_document(job, job->due_ns + 99 * NS_PER_S,
			"{" ALL_TERMS "\"state\":\"expired\",\"queue_position\":null,"
			"\"error\":{\"code\":\"queue_ttl\",\"message\":\"too long\","
			"\"limit_ms\":2000,\"seen_ms\":2003},"
			"\"scheduled_for\":null,"
			"\"timing\":{\"queued_ms\":2003.000,\"total_ms\":92003.001," NO_RUN
			",\"finished_at\":\"2026-01-02T03:05:37.681902Z\"}");
	job_free(job);
}

/* Only attempts that ran are told, each with what it cost. */
static void fail_attempt(struct job *job, int64_t from_ns)
{
	assert_int_equal(job_transition(job, JOB_EVENT_START), 0);
	job->attempt++;
	job->queued_ns = from_ns;
	job->dispatched_ns = from_ns + 1000000;
	job->worker = (struct job_worker){.pid = 4000 + (int32_t)job->attempt,
					  .tid = 5000 + (int32_t)job->attempt,
					  .host = job->attempt,
					  .generation = 9};
	end_measured(job);
	job->metering.started_ns = from_ns + 3000000;
	job->metering.ended_ns = from_ns + 6000000;
	job->finished_ns = from_ns + 10000000;
	job->result = copy_text("\"half\"", &job->result_length);
	output_append(&job->stdout_output, "said", 4);
	output_append(&job->stderr_output, "said", 4);
}

static void keep_attempt(struct job *job, enum job_state end)
{
	assert_int_equal(job_keep_attempt(job, end), 0);
	assert_int_equal(job_transition(job, JOB_EVENT_RETRY), 0);
}

#define ATTEMPT_MEASURED                                                                           \
	"\"memory\":{\"peak_bytes\":1835008,\"baseline_bytes\":1200128,\"source\":\"vm_hwm\","     \
	"\"scope\":\"process\",\"heap_peak_bytes\":null,\"host_rss_bytes\":1835008,"               \
	"\"minor_faults\":128,\"major_faults\":0},"                                                \
	"\"switches\":{\"voluntary\":2,\"involuntary\":1},"                                        \
	"\"timing\":{\"queued_ms\":1.000,\"dispatch_ms\":2.000,\"run_ms\":3.000,"                  \
	"\"collect_ms\":4.000,\"total_ms\":10.000,\"cpu_user_ms\":12.290,\"cpu_system_ms\":0.010}"

static void test_previous_attempts(void **state)
{
	struct job *job = make_job("primes", "process");

	(void)state;
	job->max_attempts = 3;
	fail_attempt(job, SUBMITTED_NS);
	job_set_error(job, CAUSE_TASK_ERROR, "first");
	keep_attempt(job, JOB_FAILED);
	assert_int_equal(job_transition(job, JOB_EVENT_DUE), 0);
	fail_attempt(job, SUBMITTED_NS + NS_PER_S);
	assert_int_equal(job_transition(job, JOB_EVENT_STOP), 0);
	job_set_error(job, CAUSE_WALL_LIMIT, "second");
	job->error.limit_ms = 5;
	job->error.seen_ms = 6;
	keep_attempt(job, JOB_TIMED_OUT);
	assert_int_equal(job_transition(job, JOB_EVENT_DUE), 0);
	job->queued_ns = SUBMITTED_NS + 2 * NS_PER_S;

	json_t *document = document_of(job, SUBMITTED_NS + 3 * NS_PER_S);
	json_t *expected = json_loads(
		"[{\"attempt\":1,\"state\":\"failed\",\"error\":{\"code\":\"task_error\","
		"\"message\":\"first\"}," ATTEMPT_MEASURED
		",\"worker\":{\"pid\":4001,\"tid\":5001,\"host\":1,\"thread\":0,"
		"\"generation\":9,\"jobs_before\":0},"
		"\"started_at\":\"2026-01-02T03:04:05.681901Z\","
		"\"finished_at\":\"2026-01-02T03:04:05.688901Z\"},"
		"{\"attempt\":2,\"state\":\"timed_out\",\"error\":{\"code\":\"wall_limit\","
		"\"message\":\"second\",\"limit_ms\":5,\"seen_ms\":6}," ATTEMPT_MEASURED
		",\"worker\":{\"pid\":4002,\"tid\":5002,\"host\":2,\"thread\":0,"
		"\"generation\":9,\"jobs_before\":0},"
		"\"started_at\":\"2026-01-02T03:04:06.681901Z\","
		"\"finished_at\":\"2026-01-02T03:04:06.688901Z\"}]",
		0, NULL);
	assert_non_null(expected);
	assert_true(json_equal(json_object_get(document, "previous_attempts"), expected));
	/* and the job itself is as new, but for its number and its age */
	assert_int_equal(json_integer_value(json_object_get(document, "attempt")), 2);
	assert_string_equal(json_string_value(json_object_get(document, "state")), "queued");
	assert_true(json_is_null(json_object_get(document, "error")));
	assert_true(json_is_null(json_object_get(document, "started_at")));
	json_decref(expected);
	expected = json_loads("{\"queued_ms\":1000.000,\"total_ms\":3000.000," NO_RUN, 0, NULL);
	assert_true(json_equal(json_object_get(document, "timing"), expected));
	json_decref(expected);
	json_decref(document);
	job_free(job);
}

static void test_keep_attempt_makes_it_as_before(void **state)
{
	struct job *job = make_job("primes", "process");
	char block[64];
	size_t before;

	(void)state;
	job->args = copy_text("{}", &job->args_length);
	before = job_memory(job);
	memset(block, 'x', sizeof(block));
	for (uint32_t i = 0; i < 50; i++) {
		if (i > 0)
			assert_int_equal(job_transition(job, JOB_EVENT_DUE), 0);
		fail_attempt(job, SUBMITTED_NS + i);
		job->stop_reason = STOP_CPU;
		job->stop_asked_ns = job->cpu_seen_ns = 7;
		job->error.has_culprit = true;
		job->error.signal = SIGSEGV;
		job_set_error(job, CAUSE_HOST_LOST, "%u", i % 10);
		output_append(&job->stdout_output, block, sizeof(block));
		keep_attempt(job, JOB_CRASHED);
		assert_int_equal(job->previous_count, i + 1);
		assert_int_equal(job->attempt, i + 1);
		assert_int_equal(job->state, JOB_SCHEDULED);
		assert_int_equal(job->stop_reason, STOP_NONE);
		assert_true(job->queued_ns == 0 && job->dispatched_ns == 0 &&
			    job->finished_ns == 0 && job->stop_asked_ns == 0 &&
			    job->cpu_seen_ns == 0);
		assert_int_equal(job->metering.started_ns, METERING_UNKNOWN);
		assert_int_equal(job->worker.pid, 0);
		assert_null(job->result);
		assert_null(job->error.message);
		assert_int_equal(job->error.cause, CAUSE_NONE);
		assert_int_equal(job->error.signal, 0);
		assert_int_equal(job->error.exit_status, -1);
		assert_false(job->error.has_culprit);
		assert_int_equal(job->stdout_output.total_bytes, 0);
		assert_int_equal(job->stdout_output.capacity, 64); /* the limit stands */
		assert_int_equal(job->stderr_output.capacity, 64);
		assert_int_equal(job_memory(job),
				 before + (i + 1) * (sizeof(struct job_attempt) + 2));
	}
	for (uint32_t i = 0; i < 50; i++) {
		assert_int_equal(job->previous[i].state, JOB_CRASHED);
		assert_int_equal(job->previous[i].error.signal, SIGSEGV);
		assert_int_equal(job->previous[i].queued_ns, SUBMITTED_NS + i);
		assert_int_equal(job->previous[i].worker.pid, 4001 + i);
		assert_int_equal(job->previous[i].error.message[0], '0' + i % 10);
	}
	/* It may be cancelled between two attempts. */
	assert_int_equal(job_transition(job, JOB_EVENT_CANCEL), 0);
	job_set_error(job, CAUSE_CANCELLED, "the job was cancelled");
	job->finished_ns = SUBMITTED_NS + NS_PER_S;
	json_t *document = document_of(job, SUBMITTED_NS + 2 * NS_PER_S);
	const json_t *timing = json_object_get(document, "timing");
	assert_true(json_is_null(json_object_get(timing, "queued_ms")));
	assert_true(json_is_null(json_object_get(timing, "run_ms")));
	assert_true(json_is_null(json_object_get(document, "worker")));
	assert_int_equal(json_array_size(json_object_get(document, "previous_attempts")), 50);
	json_decref(document);
	job_free(job);
}

/* The member "error" alone. */
static void assert_error(const struct job *job, const char *expected_text)
{
	struct buffer buffer = {0};
	struct json_writer writer = {.buffer = &buffer};

	json_write_begin_object(&writer, NULL);
	job_write_error(job, &writer, "error");
	json_write_end_object(&writer);
	buffer_append_char(&buffer, '\0');
	assert_false(buffer_failed(&buffer));
	json_t *document = json_loads(buffer.data, 0, NULL);
	json_t *expected = json_loads(expected_text, JSON_DECODE_ANY, NULL);
	assert_non_null(document);
	assert_non_null(expected);
	if (!json_equal(json_object_get(document, "error"), expected))
		fail_msg("found %s, expected %s", buffer.data, expected_text);
	json_decref(document);
	json_decref(expected);
	buffer_release(&buffer);
}

static void test_document_timed_out(void **state)
{
	struct job *job = make_job("sleep", "process");

	(void)state;
	job->timeout_ms = 5;
	start_job(job);
	assert_int_equal(job_transition(job, JOB_EVENT_STOP), 0);
	/* killed: what it cost is not known, when it began is */
	job->finished_ns = SUBMITTED_NS + 10045000;
	assert_int_equal(job_transition(job, JOB_EVENT_TIME_OUT), 0);
	job_set_error(job, CAUSE_WALL_LIMIT, "longer than %d ms", 5);
	job->error.limit_ms = 5;
	job->error.seen_ms = 10;
	assert_error(job, "{\"code\":\"wall_limit\",\"message\":\"longer than 5 ms\","
			  "\"limit_ms\":5,\"seen_ms\":10}");
	json_t *document = document_of(job, SUBMITTED_NS + NS_PER_S);
	json_t *timing = json_loads("{\"queued_ms\":0.031,\"dispatch_ms\":0.014,\"run_ms\":10.000,"
				    "\"collect_ms\":null,\"total_ms\":10.045,"
				    "\"cpu_user_ms\":null,\"cpu_system_ms\":null}",
				    0, NULL);
	assert_string_equal(json_string_value(json_object_get(document, "state")), "timed_out");
	assert_int_equal(json_integer_value(json_object_get(document, "timeout_ms")), 5);
	assert_true(json_equal(json_object_get(document, "timing"), timing));
	assert_true(json_is_null(json_object_get(document, "memory")));
	assert_true(json_is_null(json_object_get(document, "result")));
	json_decref(timing);
	json_decref(document);
	job_free(job);
}

static void test_errors(void **state)
{
	struct job *job = make_job("primes", "thread");

	(void)state;
	assert_error(job, "null");
	crash_job(job);
	job_set_error(job, CAUSE_HOST_LOST, "by %s", "another");
	assert_error(job, "{\"code\":\"host_lost\",\"message\":\"by another\"}");
	job->error.has_culprit = true;
	job->error.culprit = parse_id(OTHER_ID);
	job->error.signal = SIGABRT;
	assert_error(job, "{\"code\":\"host_lost\",\"message\":\"by another\",\"signal\":6,"
			  "\"signal_name\":\"SIGABRT\",\"culprit\":\"" OTHER_ID "\"}");
	job->error = (struct job_error){.message = job->error.message, .exit_status = 0};
	/* a message is replaced, not leaked; exit(0) is a status too */
	job_set_error(job, CAUSE_EXIT_STATUS, "exit");
	assert_error(job, "{\"code\":\"exit_status\",\"message\":\"exit\",\"exit_status\":0}");
	job->error.exit_status = -1;
	job->error.limit_bytes = 10;
	job->error.seen_bytes = 11;
	job_set_error(job, CAUSE_OUTPUT_LIMIT, "%s", "\xc3\x28 \"quoted\"\n");
	assert_error(job, "{\"code\":\"output_limit\",\"message\":\"\\ufffd( \\\"quoted\\\"\\n\","
			  "\"limit_bytes\":10,\"seen_bytes\":11}");
	job->error.limit_bytes = 1048576;
	job->error.seen_bytes = 1LL << 41;
	job_set_error(job, CAUSE_MEMORY_LIMIT, "m");
	assert_error(job, "{\"code\":\"memory_limit\",\"message\":\"m\","
			  "\"limit_bytes\":1048576,\"seen_bytes\":2199023255552}");
	job->error.limit_bytes = 0;
	job->error.limit_ms = 20;
	job->error.seen_ms = 0;
	job_set_error(job, CAUSE_CPU_LIMIT, "c");
	assert_error(job, "{\"code\":\"cpu_limit\",\"message\":\"c\",\"limit_ms\":20,"
			  "\"seen_ms\":0}");
	job_free(job);
}

/* A real-time signal has no name of its own. */
static void test_error_names_signals(void **state)
{
	struct job *job = make_job("crash", "process");

	(void)state;
	job_set_error(job, CAUSE_SIGNAL, "x");
	job->error.signal = SIGKILL;
	assert_error(job, "{\"code\":\"signal\",\"message\":\"x\",\"signal\":9,"
			  "\"signal_name\":\"SIGKILL\"}");
	job->error.signal = SIGRTMIN + 3;
	json_t *document = document_of(job, SUBMITTED_NS + 1);
	const char *name = json_string_value(
		json_object_get(json_object_get(document, "error"), "signal_name"));
	assert_non_null(name);
	assert_memory_equal(name, "SIGRT", 5);
	json_decref(document);
	job_free(job);
}

static double member_ms(const json_t *timing, const char *key)
{
	const json_t *value = json_object_get(timing, key);

	assert_true(json_is_real(value));
	return json_real_value(value);
}

/* Each of the four parts is rounded to a microsecond, so the sum may be two off. */
static void test_timing_adds_up(void **state)
{
	struct job *job = make_job("primes", "process");

	(void)state;
	start_job(job);
	for (int i = 0; i < 2000; i++) {
		size_t scale = (size_t)1 << random_below(34);
		job->dispatched_ns = SUBMITTED_NS + (int64_t)random_below(scale);
		job->metering.started_ns = job->dispatched_ns + (int64_t)random_below(scale);
		job->metering.ended_ns = job->metering.started_ns + (int64_t)random_below(scale);
		job->finished_ns = job->metering.ended_ns + (int64_t)random_below(scale);
		json_t *document = document_of(job, SUBMITTED_NS + NS_PER_S);
		const json_t *timing = json_object_get(document, "timing");
		double sum = member_ms(timing, "queued_ms") + member_ms(timing, "dispatch_ms") +
			     member_ms(timing, "run_ms") + member_ms(timing, "collect_ms");
		assert_true(fabs(sum - member_ms(timing, "total_ms")) < 0.0026);
		assert_true(fabs(member_ms(timing, "total_ms") -
				 (double)(job->finished_ns - SUBMITTED_NS) / 1e6) < 0.0006);
		json_decref(document);
	}
	job_free(job);
}

static void test_memory_counts_what_is_held(void **state)
{
	struct job *job = make_job("echo", "process");
	size_t bare = job_memory(job);
	char block[4096];

	(void)state;
	assert_true(bare >= sizeof(*job));
	job->result = copy_text("[1,2,3]", &job->result_length);
	assert_int_equal(job_memory(job), bare + 7);
	job->labels = copy_text("{}", &job->labels_length);
	job_set_error(job, CAUSE_TASK_ERROR, "four");
	assert_int_equal(job_memory(job), bare + 7 + 2 + 5);
	memset(block, 'x', sizeof(block));
	output_append(&job->stdout_output, block, sizeof(block));
	assert_true(job_memory(job) <= bare + 14 + 64); /* the capacity, however much came */
	assert_true(job_memory(job) >= bare + 14 + 32);
	job_free(job);
	job_free(NULL);
}

/* --- batches --------------------------------------------------------------------------------- */

static void test_batch_counts(void **state)
{
	struct batch *batch = batch_new(3);

	(void)state;
	assert_non_null(batch);
	for (size_t i = 0; i < 3; i++) {
		struct job *job = make_job("primes", "process");
		job->batch = batch;
		batch->jobs[i] = job;
		start_job(job);
		end_measured(job);
		job->finished_ns += (int64_t)i;
		if (i == 1)
			job->metering.ended_ns = METERING_UNKNOWN;
		assert_int_equal(job_transition(job, i == 1 ? JOB_EVENT_CRASH : JOB_EVENT_SUCCEED),
				 0);
		assert_int_equal(batch_job_ended(batch, job), i == 2);
		assert_int_equal(batch->ended_count, i + 1);
		assert_int_equal(batch->finished_ns, i == 2 ? job->finished_ns : 0);
	}
	assert_int_equal(batch->by_state[JOB_SUCCEEDED], 2);
	assert_int_equal(batch->by_state[JOB_CRASHED], 1);
	assert_int_equal(batch->run_ns, 2 * 12331000);
	assert_int_equal(batch->memory_bytes, job_memory(batch->jobs[0]) +
						      job_memory(batch->jobs[1]) +
						      job_memory(batch->jobs[2]));
	batch_free(batch);
	batch_free(NULL);
	batch_free(batch_new(5)); /* of which none was made */
}

/* --- metering -------------------------------------------------------------------------------- */

static struct metering good_metering(void)
{
	struct metering metering;

	metering_init(&metering);
	metering.ended_ns = clock_monotonic_ns();
	metering.started_ns = metering.ended_ns - 10;
	return metering;
}

static void test_metering_ranges(void **state)
{
	static const size_t numbers[] = {
		offsetof(struct metering, cpu_user_ns),
		offsetof(struct metering, cpu_system_ns),
		offsetof(struct metering, peak_bytes),
		offsetof(struct metering, baseline_bytes),
		offsetof(struct metering, heap_peak_bytes),
		offsetof(struct metering, host_rss_bytes),
		offsetof(struct metering, minor_faults),
		offsetof(struct metering, major_faults),
		offsetof(struct metering, voluntary_switches),
		offsetof(struct metering, involuntary_switches),
	};
	struct metering metering;

	(void)state;
	metering_init(&metering);
	assert_false(metering_is_valid(&metering)); /* a run has a beginning and an end */
	metering = good_metering();
	assert_true(metering_is_valid(&metering));
	for (size_t i = 0; i < COUNT(numbers); i++) {
		static const int64_t wrong[] = {-2, INT64_MIN, (1LL << 60) + 1, INT64_MAX};
		static const int64_t right[] = {METERING_UNKNOWN, 0, 1, 1LL << 60};
		for (size_t j = 0; j < COUNT(wrong); j++) {
			metering = good_metering();
			memcpy((char *)&metering + numbers[i], &wrong[j], sizeof(wrong[j]));
			assert_false(metering_is_valid(&metering));
		}
		for (size_t j = 0; j < COUNT(right); j++) {
			metering = good_metering();
			memcpy((char *)&metering + numbers[i], &right[j], sizeof(right[j]));
			assert_true(metering_is_valid(&metering));
		}
	}
	metering = good_metering();
	metering.started_ns = 0;
	assert_false(metering_is_valid(&metering));
	metering = good_metering();
	metering.ended_ns = metering.started_ns - 1;
	assert_false(metering_is_valid(&metering));
	metering = good_metering();
	metering.ended_ns = metering.started_ns;
	assert_true(metering_is_valid(&metering));
	metering.scope = MEMORY_SCOPE_CHILDREN + 1;
	assert_false(metering_is_valid(&metering));
	metering = good_metering();
	metering.source = MEMORY_SOURCE_CGROUP_MEMORY_PEAK + 1;
	assert_false(metering_is_valid(&metering));
}

/* A run that ends in the future would make sums and dates overflow. */
static void test_metering_is_of_the_past(void **state)
{
	struct metering metering = good_metering();

	(void)state;
	metering.ended_ns = INT64_MAX;
	assert_false(metering_is_valid(&metering));
	metering.started_ns = INT64_MAX;
	assert_false(metering_is_valid(&metering));
	metering = good_metering();
	metering.ended_ns += 3600 * NS_PER_S;
	assert_false(metering_is_valid(&metering));
}

/* --- submissions ----------------------------------------------------------------------------- */

static void assert_refused(const char *body, bool is_batch, enum error_code code, const char *field,
			   const char *part_of_message)
{
	struct submission submission = {.task = "untouched"};
	struct error error = {0};
	int result = submission_parse(body, strlen(body), is_batch, &submission, &error);

	if (result >= 0)
		fail_msg("accepted: %s", body);
	assert_int_equal(error.code, code);
	assert_string_equal(error.field, field);
	if (!strstr(error.message, part_of_message))
		fail_msg("for %s: \"%s\" is not in \"%s\"", body, part_of_message, error.message);
	assert_string_equal(submission.task, "untouched");
}

static struct submission parse(const char *body, bool is_batch)
{
	struct submission submission;
	struct error error = {0};

	if (submission_parse(body, strlen(body), is_batch, &submission, &error) < 0)
		fail_msg("%s: %s: %s", body, error.field, error.message);
	return submission;
}

/* After which causes a job is tried again. */
#define BIT(cause) (1U << (cause))
#define DEFAULT_CAUSES                                                                             \
	(BIT(CAUSE_TASK_ERROR) | BIT(CAUSE_WALL_LIMIT) | BIT(CAUSE_CPU_LIMIT) |                    \
	 BIT(CAUSE_MEMORY_LIMIT) | BIT(CAUSE_SIGNAL) | BIT(CAUSE_EXIT_STATUS) |                    \
	 BIT(CAUSE_HOST_LOST))

static void test_submission_every_field(void **state)
{
	struct submission s = parse(
		"{\"task\":\"primes\",\"args\":{\"n\":10},\"pool\":\"process\",\"priority\":-3,"
		"\"delay_ms\":100,\"queue_ttl_ms\":200,\"timeout_ms\":1500,\"max_attempts\":7,"
		"\"retry\":{\"on\":[\"signal\",\"output_limit\",\"signal\"],\"backoff_ms\":5,"
		"\"backoff_max_ms\":6},"
		"\"limits\":{\"cpu_ms\":300,\"memory_bytes\":4194304,\"output_bytes\":500,"
		"\"on_output\":\"stop\"},"
		"\"cancel_on_disconnect\":true,\"labels\":{\"a\":\"b\",\"c\":\"\"},"
		"\"callback_url\":\"https://example.org/hook?a=b\"}",
		false);

	(void)state;
	assert_string_equal(s.task, "primes");
	assert_string_equal(s.pool, "process");
	assert_int_equal(s.priority, -3);
	assert_int_equal(s.delay_ms, 100);
	assert_int_equal(s.queue_ttl_ms, 200);
	assert_int_equal(s.timeout_ms, 1500);
	assert_int_equal(s.max_attempts, 7);
	assert_int_equal(s.retry.causes, BIT(CAUSE_SIGNAL) | BIT(CAUSE_OUTPUT_LIMIT));
	assert_int_equal(s.retry.backoff_ms, 5);
	assert_int_equal(s.retry.backoff_max_ms, 6);
	assert_int_equal(s.cpu_ms, 300);
	assert_int_equal(s.memory_bytes, 4194304);
	assert_int_equal(s.output_bytes, 500);
	assert_true(s.stop_on_output);
	assert_true(s.cancel_on_disconnect);
	assert_int_equal(json_integer_value(json_object_get(s.args, "n")), 10);
	assert_int_equal(json_object_size(s.labels), 2);
	assert_string_equal(s.callback_url, "https://example.org/hook?a=b");
	submission_release(&s);
	assert_null(s.document);
	submission_release(&s); /* twice does no harm */
}

static void assert_defaults(const struct submission *s)
{
	assert_null(s->args);
	assert_null(s->pool);
	assert_null(s->labels);
	assert_null(s->callback_url);
	assert_int_equal(s->priority, 0);
	assert_int_equal(s->delay_ms, 0);
	assert_int_equal(s->queue_ttl_ms, SUBMISSION_UNSET);
	assert_int_equal(s->timeout_ms, SUBMISSION_UNSET);
	assert_int_equal(s->cpu_ms, SUBMISSION_UNSET);
	assert_int_equal(s->memory_bytes, SUBMISSION_UNSET);
	assert_int_equal(s->output_bytes, SUBMISSION_UNSET);
	assert_false(s->stop_on_output);
	assert_int_equal(s->max_attempts, 1);
	assert_int_equal(s->retry.causes, DEFAULT_CAUSES);
	assert_int_equal(s->retry.backoff_ms, 1000);
	assert_int_equal(s->retry.backoff_max_ms, 60000);
	assert_false(s->cancel_on_disconnect);
}

static void test_submission_callback(void **state)
{
	static const char *const wrong[] = {
		"null",
		"7",
		"{}",
		"\"\"",
		"\"example.org\"",
		"\"ftp://example.org/\"",
		"\"http:/example.org\"",
		"\"http://\"",
		"\" http://example.org\"",
		"\"http://example.org/a b\"",
		"\"http://example.org/\\n\"",
		"\"http://ex\u00e4mple.org/\"",
	};
	char body[SUBMISSION_CALLBACK_MAX + 64];
	char url[SUBMISSION_CALLBACK_MAX + 2];

	(void)state;
	for (size_t i = 0; i < COUNT(wrong); i++) {
		snprintf(body, sizeof(body), "{\"task\":\"a\",\"callback_url\":%s}", wrong[i]);
		assert_refused(body, false, ERROR_INVALID, "callback_url", "http or https URL");
	}
	memset(url, 'x', sizeof(url));
	memcpy(url, "HTTP://", 7);
	url[SUBMISSION_CALLBACK_MAX + 1] = '\0';
	snprintf(body, sizeof(body), "{\"task\":\"a\",\"callback_url\":\"%s\"}", url);
	assert_refused(body, false, ERROR_INVALID, "callback_url", "2048 bytes");
	url[SUBMISSION_CALLBACK_MAX] = '\0';
	snprintf(body, sizeof(body), "{\"task\":\"a\",\"args\":[1],\"callback_url\":\"%s\"}", url);
	struct submission s = parse(body, true);
	assert_string_equal(s.callback_url, url);
	submission_release(&s);
}

static void test_submission_defaults(void **state)
{
	static const char *const bodies[] = {
		" {\"task\":\"primes\"}\n",
		"{\"task\":\"primes\",\"retry\":{},\"limits\":{},\"labels\":null}",
		"{\"task\":\"a\",\"limits\":{\"on_output\":\"truncate\"}}",
		"{\"task\":\"a\",\"cancel_on_disconnect\":false}",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(bodies); i++) {
		struct submission s = parse(bodies[i], false);
		assert_defaults(&s);
		submission_release(&s);
	}
	struct submission s = parse("{\"task\":\"a\",\"retry\":{\"on\":[]}}", false);
	assert_int_equal(s.retry.causes, 0);
	submission_release(&s);
}

/* Every cause that a job may be tried again after, alone, and all others refused. */
static void test_submission_retry_causes(void **state)
{
	char body[128];

	(void)state;
	for (int i = 0; i < JOB_CAUSES; i++) {
		enum job_cause cause = (enum job_cause)i;
		bool may =
			cause != CAUSE_NONE && cause != CAUSE_CANCELLED && cause != CAUSE_QUEUE_TTL;
		snprintf(body, sizeof(body),
			 "{\"task\":\"a\",\"retry\":{\"on\":[\"task_error\",\"%s\"]}}",
			 job_cause_name(cause));
		if (!may) {
			assert_refused(body, false, ERROR_INVALID, "retry.on[1]", "\"host_lost\"");
			continue;
		}
		struct submission s = parse(body, false);
		assert_int_equal(s.retry.causes, BIT(CAUSE_TASK_ERROR) | BIT(cause));
		submission_release(&s);
	}
	assert_refused("{\"task\":\"a\",\"retry\":{\"on\":[1]}}", false, ERROR_INVALID,
		       "retry.on[0]", "found integer");
	assert_refused("{\"task\":\"a\",\"retry\":{\"on\":\"signal\"}}", false, ERROR_INVALID,
		       "retry.on", "an array of causes");
	assert_refused("{\"task\":\"a\",\"retry\":{\"on\":null}}", false, ERROR_INVALID, "retry.on",
		       "found null");
}

/* A number of a submission: its path, its bounds, and where it comes to lie. */
static const struct {
	const char *path;
	long long least, most;
	size_t offset;
} numbers[] = {
	{"priority", -10, 10, offsetof(struct submission, priority)},
	{"delay_ms", 0, 31536000000, offsetof(struct submission, delay_ms)},
	{"queue_ttl_ms", 1, 31536000000, offsetof(struct submission, queue_ttl_ms)},
	{"timeout_ms", 1, 31536000000, offsetof(struct submission, timeout_ms)},
	{"max_attempts", 1, 1000000, offsetof(struct submission, max_attempts)},
	{"retry.backoff_ms", 0, 31536000000, offsetof(struct submission, retry.backoff_ms)},
	{"retry.backoff_max_ms", 0, 31536000000, offsetof(struct submission, retry.backoff_max_ms)},
	{"limits.cpu_ms", 1, 31536000000, offsetof(struct submission, cpu_ms)},
	{"limits.memory_bytes", 1048576, 1099511627776000,
	 offsetof(struct submission, memory_bytes)},
	{"limits.output_bytes", 0, 1073741824, offsetof(struct submission, output_bytes)},
};

/* A body with that value at that path of one or two names. */
static const char *body_with(const char *path, const char *value)
{
	static char body[512];
	const char *dot = strchr(path, '.');

	if (dot)
		snprintf(body, sizeof(body), "{\"task\":\"a\",\"%.*s\":{\"%s\":%s}}",
			 (int)(dot - path), path, dot + 1, value);
	else
		snprintf(body, sizeof(body), "{\"task\":\"a\",\"%s\":%s}", path, value);
	return body;
}

static void test_submission_ranges(void **state)
{
	static const char *const no_integers[] = {"null", "\"5\"", "5.0", "1e3",
						  "true", "[]",	   "{}"};
	char value[32], bounds[64];

	(void)state;
	for (size_t i = 0; i < COUNT(numbers); i++) {
		const long long right[] = {numbers[i].least, numbers[i].most};
		const long long wrong[] = {numbers[i].least - 1, numbers[i].most + 1, INT64_MIN,
					   INT64_MAX};
		snprintf(bounds, sizeof(bounds), "expected an integer from %lld to %lld",
			 numbers[i].least, numbers[i].most);
		for (size_t j = 0; j < COUNT(right); j++) {
			int64_t read;
			snprintf(value, sizeof(value), "%lld", right[j]);
			struct submission s = parse(body_with(numbers[i].path, value), false);
			memcpy(&read, (const char *)&s + numbers[i].offset, sizeof(read));
			assert_int_equal(read, right[j]);
			submission_release(&s);
		}
		for (size_t j = 0; j < COUNT(wrong); j++) {
			snprintf(value, sizeof(value), "%lld", wrong[j]);
			assert_refused(body_with(numbers[i].path, value), false, ERROR_INVALID,
				       numbers[i].path, bounds);
		}
		for (size_t j = 0; j < COUNT(no_integers); j++)
			assert_refused(body_with(numbers[i].path, no_integers[j]), false,
				       ERROR_INVALID, numbers[i].path, bounds);
		/* more than an integer of 64 bits is no JSON to us */
		assert_refused(body_with(numbers[i].path, "9223372036854775808"), false,
			       ERROR_SYNTAX, "", "");
	}
}

static void test_submission_nested(void **state)
{
	static const char *const no_objects[] = {"null", "1", "\"a\"", "[]", "true"};
	static const char *const no_booleans[] = {"null", "1", "\"true\"", "[]", "{}"};
	static const char *const no_actions[] = {"null",     "1",  "\"\"", "\"Stop\"",
						 "\"kill\"", "[]", "true", "\"stop \""};

	(void)state;
	for (size_t i = 0; i < COUNT(no_objects); i++) {
		assert_refused(body_with("retry", no_objects[i]), false, ERROR_INVALID, "retry",
			       "expected an object");
		assert_refused(body_with("limits", no_objects[i]), false, ERROR_INVALID, "limits",
			       "expected an object");
	}
	for (size_t i = 0; i < COUNT(no_booleans); i++)
		assert_refused(body_with("cancel_on_disconnect", no_booleans[i]), false,
			       ERROR_INVALID, "cancel_on_disconnect", "expected true or false");
	for (size_t i = 0; i < COUNT(no_actions); i++)
		assert_refused(body_with("limits.on_output", no_actions[i]), false, ERROR_INVALID,
			       "limits.on_output", "\"truncate\" or \"stop\"");
	assert_refused(body_with("limits.wall_ms", "1"), false, ERROR_INVALID, "limits.wall_ms",
		       "\"cpu_ms\", \"memory_bytes\", \"output_bytes\", \"on_output\"");
	assert_refused(body_with("limits.timeout_ms", "1"), false, ERROR_INVALID,
		       "limits.timeout_ms", "there is no such field");
	assert_refused(body_with("retry.max_attempts", "1"), false, ERROR_INVALID,
		       "retry.max_attempts", "\"on\", \"backoff_ms\", \"backoff_max_ms\"");
	assert_refused(body_with("retry.", "1"), false, ERROR_INVALID, "retry.",
		       "there is no such field");
	assert_refused(body_with("retry.on", "{}"), true, ERROR_INVALID, "retry.on", "an array");
}

static void test_submission_any_args(void **state)
{
	static const char *const args[] = {"null",  "true", "1",  "-0.5",
					   "\"x\"", "[]",   "{}", "[1,[2]]"};
	char body[64];

	(void)state;
	for (size_t i = 0; i < COUNT(args); i++) {
		snprintf(body, sizeof(body), "{\"task\":\"echo\",\"args\":%s}", args[i]);
		struct submission s = parse(body, false);
		json_t *expected = json_loads(args[i], JSON_DECODE_ANY, NULL);
		assert_true(json_equal(s.args, expected));
		json_decref(expected);
		submission_release(&s);
	}
}

static void test_submission_syntax(void **state)
{
	static const char *const bodies[] = {"",
					     "{",
					     "{\"task\":}",
					     "{\"task\":\"a\",}",
					     "{\"task\":\"a\"} x",
					     "{\"task\":\"a\",\"task\":\"a\"}",
					     "{\"task\":\"\xff\"}"};

	(void)state;
	for (size_t i = 0; i < COUNT(bodies); i++)
		assert_refused(bodies[i], false, ERROR_SYNTAX, "", "line ");
	assert_refused("{\n\"task\": oops}", false, ERROR_SYNTAX, "", "line 2, column ");
}

static void test_submission_wrong_types(void **state)
{
	static const char *const tops[][2] = {{"[]", "found array"},   {"1", "found integer"},
					      {"1.5", "found number"}, {"\"a\"", "found string"},
					      {"null", "found null"},  {"true", "found boolean"}};
	static const char *const not_strings[] = {"null", "1", "1.5", "true", "[]", "{}", "\"\""};
	static const char *const not_labels[] = {"1", "\"a\"", "[]", "true"};
	char body[128];

	(void)state;
	for (size_t i = 0; i < COUNT(tops); i++)
		assert_refused(tops[i][0], false, ERROR_INVALID, "", tops[i][1]);
	for (size_t i = 0; i < COUNT(not_strings); i++) {
		snprintf(body, sizeof(body), "{\"task\":%s}", not_strings[i]);
		assert_refused(body, false, ERROR_INVALID, "task", "expected a non-empty string");
		snprintf(body, sizeof(body), "{\"task\":\"a\",\"pool\":%s}", not_strings[i]);
		assert_refused(body, true, ERROR_INVALID, "pool", "expected a non-empty string");
	}
	for (size_t i = 0; i < COUNT(not_labels); i++) {
		snprintf(body, sizeof(body), "{\"task\":\"a\",\"labels\":%s}", not_labels[i]);
		assert_refused(body, false, ERROR_INVALID, "labels", "expected an object");
	}
	assert_refused("{}", false, ERROR_INVALID, "task", "found nothing");
	assert_refused("{\"args\":{}}", false, ERROR_INVALID, "task", "found nothing");
}

static void test_submission_unknown_fields(void **state)
{
	static const char *const unknown[] = {"Task", "tasks",	"timeout",
					      "x",    "cpu_ms", "callback"};
	static const char *const exist[] = {"\"task\"",
					    "\"args\"",
					    "\"pool\"",
					    "\"priority\"",
					    "\"delay_ms\"",
					    "\"queue_ttl_ms\"",
					    "\"timeout_ms\"",
					    "\"max_attempts\"",
					    "\"retry\"",
					    "\"limits\"",
					    "\"cancel_on_disconnect\"",
					    "\"labels\"",
					    "\"callback_url\""};
	char body[512], name[301];

	(void)state;
	for (size_t i = 0; i < COUNT(unknown); i++) {
		snprintf(body, sizeof(body), "{\"task\":\"a\",\"%s\":1}", unknown[i]);
		for (size_t j = 0; j < COUNT(exist); j++) {
			assert_refused(body, false, ERROR_INVALID, unknown[i], exist[j]);
			assert_refused(body, true, ERROR_INVALID, unknown[i], exist[j]);
		}
	}
	/* one that is too long to be told whole */
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	snprintf(body, sizeof(body), "{\"%s\":1}", name);
	struct submission s;
	struct error error = {0};
	assert_true(submission_parse(body, strlen(body), false, &s, &error) < 0);
	assert_int_equal(error.code, ERROR_INVALID);
	assert_int_equal(strspn(error.field, "n"), strlen(error.field));
	assert_true(strlen(error.field) > 100);
}

/* A body with `count` labels whose first has a key and a value of these lengths. */
static char *body_with_labels(size_t count, size_t key_length, size_t value_length)
{
	struct buffer buffer = {0};

	buffer_append_text(&buffer, "{\"task\":\"a\",\"labels\":{");
	for (size_t i = 0; i < count; i++) {
		buffer_append_text(&buffer, i ? ",\"" : "\"");
		if (i > 0)
			buffer_append_format(&buffer, "key%zu", i);
		for (size_t j = 0; i == 0 && j < key_length; j++)
			buffer_append_char(&buffer, 'k');
		buffer_append_text(&buffer, "\":\"");
		for (size_t j = 0; i == 0 && j < value_length; j++)
			buffer_append_char(&buffer, 'v');
		buffer_append_char(&buffer, '"');
	}
	buffer_append_text(&buffer, "}}");
	buffer_append_char(&buffer, '\0');
	assert_false(buffer_failed(&buffer));
	return buffer.data;
}

static void test_submission_labels(void **state)
{
	static const struct {
		size_t count, key_length, value_length;
		const char *field; /* NULL: accepted */
		const char *message;
	} cases[] = {
		{0, 1, 0, NULL, NULL},
		{1, 1, 0, NULL, NULL},
		{32, 63, 255, NULL, NULL},
		{33, 1, 0, "labels", "33 labels"},
		{1, 64, 0, "labels", "64 bytes"},
		{1, 0, 1, "labels", "0 bytes"},
		{1, 1, 256, "labels.k", "a longer string"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		char *body = body_with_labels(cases[i].count, cases[i].key_length,
					      cases[i].value_length);
		if (cases[i].field) {
			assert_refused(body, false, ERROR_INVALID, cases[i].field,
				       cases[i].message);
		} else {
			struct submission s = parse(body, false);
			assert_int_equal(json_object_size(s.labels), cases[i].count);
			submission_release(&s);
		}
		free(body);
	}
	assert_refused("{\"task\":\"a\",\"labels\":{\"fine\":\"x\",\"k\":1}}", false, ERROR_INVALID,
		       "labels.k", "found integer");
	struct submission s = parse("{\"task\":\"a\",\"labels\":null}", false);
	assert_null(s.labels);
	submission_release(&s);
}

static void test_submission_batch(void **state)
{
	struct submission s = parse("{\"task\":\"a\",\"args\":[1,null,{}]}", true);

	(void)state;
	assert_int_equal(json_array_size(s.args), 3);
	submission_release(&s);
	s = parse("{\"args\":[],\"task\":\"a\"}", true); /* how many there may be is the server's */
	assert_int_equal(json_array_size(s.args), 0);
	submission_release(&s);
	assert_refused("{\"task\":\"a\"}", true, ERROR_INVALID, "args", "found nothing");
	assert_refused("{\"task\":\"a\",\"args\":{}}", true, ERROR_INVALID, "args", "found object");
	assert_refused("{\"task\":\"a\",\"args\":null}", true, ERROR_INVALID, "args", "found null");
}

/* Whatever the bytes, parsing neither crashes nor leaks, and tells an error if it refuses. */
static void test_submission_mutations(void **state)
{
	static const char seed[] =
		"{\"task\":\"primes\",\"args\":[{\"n\":10}],\"pool\":\"p\",\"timeout_ms\":15,"
		"\"priority\":1,\"delay_ms\":2,\"retry\":{\"on\":[\"signal\"],\"backoff_ms\":3},"
		"\"limits\":{\"cpu_ms\":1,\"on_output\":\"stop\"},\"labels\":{\"a\":\"b\"}}";
	char body[sizeof(seed)];

	(void)state;
	for (int i = 0; i < 20000; i++) {
		memcpy(body, seed, sizeof(seed));
		for (size_t changes = 1 + random_below(3); changes > 0; changes--)
			body[random_below(sizeof(seed) - 1)] = (char)random_below(256);
		size_t length = random_below(8) ? sizeof(seed) - 1 : random_below(sizeof(seed));
		struct submission s;
		struct error error = {0};
		if (submission_parse(body, length, i % 2, &s, &error) == 0) {
			assert_non_null(s.task);
			assert_true(s.timeout_ms == -1 || s.timeout_ms > 0);
			assert_true(s.cpu_ms == -1 || s.cpu_ms > 0);
			assert_true(s.priority >= -10 && s.priority <= 10);
			assert_true(s.max_attempts >= 1 && s.delay_ms >= 0);
			assert_true(s.retry.backoff_ms >= 0 && s.retry.backoff_max_ms >= 0);
			submission_release(&s);
		} else {
			assert_true(error.code == ERROR_SYNTAX || error.code == ERROR_INVALID);
			assert_true(error.message[0] != '\0');
		}
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_transition),
		cmocka_unit_test(test_ended_states_never_change),
		cmocka_unit_test(test_random_walks_reach_all),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_document_queued),
		cmocka_unit_test(test_document_running),
		cmocka_unit_test(test_document_succeeded),
		cmocka_unit_test(test_document_crashed),
		cmocka_unit_test(test_document_cancelled_while_queued),
		cmocka_unit_test(test_document_timed_out),
		cmocka_unit_test(test_document_terms),
		cmocka_unit_test(test_previous_attempts),
		cmocka_unit_test(test_keep_attempt_makes_it_as_before),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_error_names_signals),
		cmocka_unit_test(test_timing_adds_up),
		cmocka_unit_test(test_memory_counts_what_is_held),
		cmocka_unit_test(test_batch_counts),
		cmocka_unit_test(test_metering_ranges),
		cmocka_unit_test(test_metering_is_of_the_past),
		cmocka_unit_test(test_submission_every_field),
		cmocka_unit_test(test_submission_any_args),
		cmocka_unit_test(test_submission_syntax),
		cmocka_unit_test(test_submission_wrong_types),
		cmocka_unit_test(test_submission_callback),
		cmocka_unit_test(test_submission_defaults),
		cmocka_unit_test(test_submission_retry_causes),
		cmocka_unit_test(test_submission_ranges),
		cmocka_unit_test(test_submission_nested),
		cmocka_unit_test(test_submission_unknown_fields),
		cmocka_unit_test(test_submission_labels),
		cmocka_unit_test(test_submission_batch),
		cmocka_unit_test(test_submission_mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
