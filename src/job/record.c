#include "job/record.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "job/submission.h"

/* --- writing ---------------------------------------------------------------------------------- */

static void write_retry(const struct job *job, struct json_writer *writer)
{
	json_write_begin_object(writer, "retry");
	json_write_begin_array(writer, "on");
	for (int i = 0; i < JOB_CAUSES; i++)
		if (job->retry.causes & (1U << i))
			json_write_string(writer, NULL, job_cause_name((enum job_cause)i));
	json_write_end_array(writer);
	json_write_int(writer, "backoff_ms", job->retry.backoff_ms);
	json_write_int(writer, "backoff_max_ms", job->retry.backoff_max_ms);
	json_write_end_object(writer);
}

char *record_write(const struct job *job)
{
	struct buffer text = {0};
	struct json_writer writer = {.buffer = &text};

	json_write_begin_object(&writer, NULL);
	json_write_raw(&writer, "args", job->args, job->args_length);
	json_write_int(&writer, "timeout_ms", job->timeout_ms);
	json_write_int(&writer, "queue_ttl_ms", job->queue_ttl_ms);
	json_write_int(&writer, "cpu_ms", job->cpu_ms);
	json_write_int(&writer, "memory_bytes", job->memory_bytes);
	json_write_uint(&writer, "output_bytes", job->stdout_output.capacity);
	json_write_bool(&writer, "stop_on_output", job->stop_on_output);
	json_write_bool(&writer, "cancel_on_disconnect", job->cancel_on_disconnect);
	json_write_uint(&writer, "max_attempts", job->max_attempts);
	write_retry(job, &writer);
	json_write_uint(&writer, "crashes", job->crashes);
	json_write_begin_array(&writer, "previous_attempts");
	if (job->earlier_count + job->previous_count > 0) {
		struct buffer earlier = {0};
		job_write_earlier(job, &earlier);
		if (buffer_failed(&earlier))
			buffer_append_char(&text, ']'); /* spoils it: it is not to be used */
		else
			json_write_raw(&writer, NULL, earlier.data, earlier.length);
		buffer_release(&earlier);
	}
	json_write_end_array(&writer);
	json_write_end_object(&writer);
	buffer_append_char(&text, '\0');
	if (buffer_failed(&text)) {
		buffer_release(&text);
		return NULL;
	}
	return buffer_take(&text, &(size_t){0});
}

/* --- reading ---------------------------------------------------------------------------------- */

static int64_t read_integer(const json_t *record, const char *key, int64_t fallback)
{
	const json_t *value = json_object_get(record, key);

	return json_is_integer(value) && json_integer_value(value) >= 0 ? json_integer_value(value)
									: fallback;
}

static void read_retry(const json_t *retry, struct job *job)
{
	size_t index;
	json_t *name;
	enum job_cause cause;

	json_array_foreach (json_object_get(retry, "on"), index, name)
		if (json_is_string(name) && job_cause_parse(json_string_value(name), &cause))
			job->retry.causes |= 1U << cause;
	job->retry.backoff_ms = read_integer(retry, "backoff_ms", 0);
	job->retry.backoff_max_ms = read_integer(retry, "backoff_max_ms", job->retry.backoff_ms);
}

/* Encodes the elements with commas between. 0 or -ENOMEM. */
static int read_earlier(const json_t *list, struct job *job)
{
	size_t length;

	if (json_array_size(list) == 0)
		return 0;
	char *text = json_encode(list, &length);
	if (!text)
		return -1;
	memmove(text, text + 1, length - 2); /* without the brackets */
	text[length - 2] = '\0';
	job->earlier = text;
	job->earlier_length = length - 2;
	return 0;
}

static int read_args(const json_t *args, struct job *job)
{
	job->args = args ? json_encode(args, &job->args_length) : NULL;
	return job->args ? 0 : -1;
}

int record_read(const char *text, struct job *job, struct error *error)
{
	/* Not by json_parse(): the arguments may be nested as deep as it allows, and are one deeper
	 * here. */
	json_t *record = json_loads(text, 0, NULL);
	int status = 0;

	if (!json_is_object(record)) {
		json_decref(record);
		return error_set(error, ERROR_INVALID, NULL, "the job's record is no JSON object");
	}
	job->timeout_ms = read_integer(record, "timeout_ms", 0);
	job->queue_ttl_ms = read_integer(record, "queue_ttl_ms", 0);
	job->cpu_ms = read_integer(record, "cpu_ms", 0);
	job->memory_bytes = read_integer(record, "memory_bytes", 0);
	job->stop_on_output = json_is_true(json_object_get(record, "stop_on_output"));
	job->cancel_on_disconnect = json_is_true(json_object_get(record, "cancel_on_disconnect"));
	job->max_attempts = (uint32_t)read_integer(record, "max_attempts", 1);
	job->crashes = (uint32_t)read_integer(record, "crashes", 0);
	output_init(&job->stdout_output, (size_t)read_integer(record, "output_bytes", 0));
	output_init(&job->stderr_output, (size_t)read_integer(record, "output_bytes", 0));
	read_retry(json_object_get(record, "retry"), job);
	if (read_args(json_object_get(record, "args"), job) < 0 ||
	    read_earlier(json_object_get(record, "previous_attempts"), job) < 0)
		status = error_set(error, ERROR_INVALID, NULL, "the job's record has no arguments");
	json_decref(record);
	return status;
}
