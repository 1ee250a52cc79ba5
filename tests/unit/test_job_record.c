/*
 * The record of a job that lives: what was written is read, whatever is in it; what is no record is
 * refused; what is not known, or not there, does no harm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/json.h"
#include "job/record.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct job *job_with(const char *args)
{
	struct job *job = job_new();

	assert_non_null(job);
	job->task = "echo";
	job->pool = "process";
	job->args = strdup(args);
	assert_non_null(job->args);
	job->args_length = strlen(args);
	job->max_attempts = 1;
	return job;
}

/* The job that the next service makes of it. */
static struct job *pass_on(const struct job *job)
{
	struct error error = {0};
	char *text = record_write(job);
	struct job *read = job_new();

	assert_non_null(text);
	assert_non_null(read);
	assert_int_equal(record_read(text, read, &error), 0);
	free(text);
	return read;
}

static void assert_args(const struct job *job, const char *expected)
{
	assert_int_equal(job->args_length, strlen(expected));
	assert_memory_equal(job->args, expected, job->args_length);
}

static void test_terms(void **state)
{
	struct job *job = job_with("{\"n\":1}");

	(void)state;
	job->timeout_ms = 1;
	job->queue_ttl_ms = INT64_C(31536000000);
	job->cpu_ms = 3;
	job->memory_bytes = INT64_C(1099511627776);
	job->stop_on_output = true;
	job->cancel_on_disconnect = true;
	job->max_attempts = 1000000;
	job->crashes = 4;
	job->retry = (struct job_retry){.causes = 1U << CAUSE_SIGNAL | 1U << CAUSE_WALL_LIMIT,
					.backoff_ms = 5,
					.backoff_max_ms = 6};
	output_init(&job->stdout_output, 7);
	output_init(&job->stderr_output, 7);
	struct job *read = pass_on(job);
	assert_args(read, "{\"n\":1}");
	assert_int_equal(read->timeout_ms, 1);
	assert_int_equal(read->queue_ttl_ms, job->queue_ttl_ms);
	assert_int_equal(read->cpu_ms, 3);
	assert_int_equal(read->memory_bytes, job->memory_bytes);
	assert_true(read->stop_on_output);
	assert_true(read->cancel_on_disconnect);
	assert_int_equal(read->max_attempts, 1000000);
	assert_int_equal(read->crashes, 4);
	assert_int_equal(read->retry.causes, job->retry.causes);
	assert_int_equal(read->retry.backoff_ms, 5);
	assert_int_equal(read->retry.backoff_max_ms, 6);
	assert_int_equal(read->stdout_output.capacity, 7);
	assert_int_equal(read->stderr_output.capacity, 7);
	assert_null(read->earlier);
	job_free(job);
	job_free(read);
}

static void test_arguments_of_every_kind(void **state)
{
	static const char *const texts[] = {
		"null",
		"true",
		"0",
		"-9223372036854775808",
		"1.5e-300",
		"\"\"",
		"[]",
		"{}",
		"\"a\\\"\\\\\\n\\u007f\xc3\xa9\xf0\x9f\x98\x80\"",
		"[[[{\"a\":[{}]}]]]",
		"{\"args\":{\"retry\":1},\"\":null}",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct job *job = job_with(texts[i]);
		struct job *read = pass_on(job);
		json_t *before = json_loads(texts[i], JSON_DECODE_ANY, NULL);
		json_t *after = json_loadb(read->args, read->args_length, JSON_DECODE_ANY, NULL);

		assert_non_null(before);
		assert_true(json_equal(before, after));
		json_decref(before);
		json_decref(after);
		job_free(job);
		job_free(read);
	}
}

static void test_arguments_as_deep_as_may_be(void **state)
{
	char text[2 * JSON_DEPTH_MAX + 1];

	(void)state;
	memset(text, '[', JSON_DEPTH_MAX);
	memset(text + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
	text[sizeof(text) - 1] = '\0';
	struct job *job = job_with(text);
	struct job *read = pass_on(job);
	assert_args(read, text);
	job_free(job);
	job_free(read);
}

/* "previous_attempts" as the job tells them. */
static json_t *attempts_of(const struct job *job)
{
	struct buffer text = {0};

	buffer_append_char(&text, '[');
	job_write_earlier(job, &text);
	buffer_append_char(&text, ']');
	assert_false(buffer_failed(&text));
	json_t *list = json_loadb(text.data, text.length, 0, NULL);
	assert_non_null(list);
	buffer_release(&text);
	return list;
}

static void end_attempt(struct job *job, const char *message)
{
	job->attempt++;
	job->submitted_real_ns = INT64_C(1767323045000000000);
	job->queued_ns = job->dispatched_ns = 1000;
	job->finished_ns = 2000;
	job_set_error(job, CAUSE_TASK_ERROR, "%s", message);
	assert_int_equal(job_keep_attempt(job, JOB_FAILED), 0);
}

/* Each service adds its own to those that it was told of. */
static void test_attempts_over_several_lives(void **state)
{
	struct job *job = job_with("1");

	(void)state;
	job->max_attempts = 10;
	for (uint32_t life = 0; life < 4; life++) {
		end_attempt(job, "first \"of\" this life\n");
		end_attempt(job, "second");
		json_t *before = attempts_of(job);
		struct job *read = pass_on(job);

		read->attempt = job->attempt;
		read->earlier_count = job->attempt;
		read->task = job->task;
		read->pool = job->pool;
		json_t *after = attempts_of(read);
		assert_int_equal(json_array_size(after), 2 * (life + 1));
		assert_true(json_equal(before, after));
		for (size_t i = 0; i < json_array_size(after); i++)
			assert_int_equal(json_integer_value(json_object_get(
						 json_array_get(after, i), "attempt")),
					 i + 1);
		json_decref(before);
		json_decref(after);
		job_free(job);
		job = read;
	}
	job_free(job);
}

/* One that was lost with its service: nobody knows when it was queued. */
static void test_an_attempt_without_times(void **state)
{
	struct job *job = job_with("1");

	(void)state;
	job->attempt = 1;
	job->finished_ns = INT64_C(86400000000000);
	job_set_error(job, CAUSE_HOST_LOST, "lost");
	assert_int_equal(job_keep_attempt(job, JOB_CRASHED), 0);
	json_t *attempts = attempts_of(job);
	json_t *timing = json_object_get(json_array_get(attempts, 0), "timing");
	const char *key;
	json_t *value;

	assert_int_equal(json_object_size(timing), 7);
	json_object_foreach (timing, key, value)
		assert_true(json_is_null(value));
	json_decref(attempts);
	job_free(job);
}

static void test_other_versions(void **state)
{
	struct job *job = job_new();
	struct error error;

	(void)state;
	assert_int_equal(record_read("{\"args\":{},\"news\":[1],\"timeout_ms\":\"soon\","
				     "\"cpu_ms\":-5,\"retry\":{\"on\":[\"flood\",7,\"signal\"]},"
				     "\"previous_attempts\":null,\"stop_on_output\":1}",
				     job, &error),
			 0);
	assert_args(job, "{}");
	assert_int_equal(job->timeout_ms, 0);
	assert_int_equal(job->cpu_ms, 0);
	assert_int_equal(job->max_attempts, 1);
	assert_int_equal(job->retry.causes, 1U << CAUSE_SIGNAL);
	assert_false(job->stop_on_output);
	job_free(job);
}

static void test_what_is_no_record(void **state)
{
	static const char *const texts[] = {"",
					    "{",
					    "[]",
					    "null",
					    "7",
					    "{}",
					    "\"{}\"",
					    "{\"args\":1}x",
					    "{\"args\":}",
					    "{\"timeout_ms\":1}"};

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct job *job = job_new();
		struct error error = {0};

		if (record_read(texts[i], job, &error) == 0)
			fail_msg("%s was read", texts[i]);
		assert_int_equal(error.code, ERROR_INVALID);
		assert_true(error.message[0] != '\0');
		job_free(job);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_terms),
		cmocka_unit_test(test_arguments_of_every_kind),
		cmocka_unit_test(test_arguments_as_deep_as_may_be),
		cmocka_unit_test(test_attempts_over_several_lives),
		cmocka_unit_test(test_an_attempt_without_times),
		cmocka_unit_test(test_other_versions),
		cmocka_unit_test(test_what_is_no_record),
	};

	return cmocka_run_group_tests_name("job record", tests, NULL, NULL);
}
