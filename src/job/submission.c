/* Reading a submission. Everything that is wrong is told by the path of the field and what was
 * expected there. */
#include "job/submission.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"

#define DURATION_MS_MAX	 31536000000LL	    /* a year */
#define MEMORY_BYTES_MAX 1099511627776000LL /* 1000 TiB */
#define OUTPUT_BYTES_MAX 1073741824LL
#define ATTEMPTS_MAX	 1000000LL

#define RETRY_BACKOFF_MS     1000
#define RETRY_BACKOFF_MAX_MS 60000

/* What a job may be tried again after; all but output_limit unless it says otherwise. */
static const enum job_cause retry_causes[] = {
	CAUSE_TASK_ERROR,   CAUSE_WALL_LIMIT, CAUSE_CPU_LIMIT,	 CAUSE_MEMORY_LIMIT,
	CAUSE_OUTPUT_LIMIT, CAUSE_SIGNAL,     CAUSE_EXIT_STATUS, CAUSE_HOST_LOST,
};

static int expect(struct error *error, const char *field, const char *expected, const json_t *found)
{
	return error_set(error, ERROR_INVALID, field, "found %s; expected %s",
			 found ? json_type_name(found) : "nothing", expected);
}

static int read_name(const json_t *value, const char *field, const char **ret_name,
		     struct error *error)
{
	if (!json_is_string(value) || json_string_length(value) == 0)
		return expect(error, field, "a non-empty string", value);
	*ret_name = json_string_value(value);
	return 0;
}

static int read_integer(const json_t *value, const char *field, int64_t least, int64_t most,
			int64_t *ret_value, struct error *error)
{
	if (!json_is_integer(value))
		return error_set(error, ERROR_INVALID, field,
				 "found %s; expected an integer from %lld to %lld",
				 json_type_name(value), (long long)least, (long long)most);
	int64_t number = json_integer_value(value);
	if (number < least || number > most)
		return error_set(error, ERROR_INVALID, field,
				 "found %lld; expected an integer from %lld to %lld",
				 (long long)number, (long long)least, (long long)most);
	*ret_value = number;
	return 0;
}

static int read_boolean(const json_t *value, const char *field, bool *ret_value,
			struct error *error)
{
	if (!json_is_boolean(value))
		return expect(error, field, "true or false", value);
	*ret_value = json_is_true(value);
	return 0;
}

static int check_label(const char *key, const json_t *value, struct error *error)
{
	char field[sizeof(error->field)] = "labels";

	if (*key == '\0' || strlen(key) > SUBMISSION_LABEL_KEY_MAX)
		return error_set(error, ERROR_INVALID, field,
				 "found a name of %zu bytes; expected 1 to %d", strlen(key),
				 SUBMISSION_LABEL_KEY_MAX);
	if (json_is_string(value) && json_string_length(value) <= SUBMISSION_LABEL_VALUE_MAX)
		return 0;
	int result = error_set(error, ERROR_INVALID, key,
			       "found %s; expected a string of at most %d bytes",
			       json_is_string(value) ? "a longer string" : json_type_name(value),
			       SUBMISSION_LABEL_VALUE_MAX);
	error_prefix_field(error, "labels");
	return result;
}

static int read_labels(json_t *value, json_t **ret_labels, struct error *error)
{
	const char *key;
	json_t *label;

	if (json_is_null(value))
		return 0;
	if (!json_is_object(value))
		return expect(error, "labels", "an object of strings", value);
	if (json_object_size(value) > SUBMISSION_LABELS_MAX)
		return error_set(error, ERROR_INVALID, "labels",
				 "found %zu labels; expected at most %d", json_object_size(value),
				 SUBMISSION_LABELS_MAX);
	json_object_foreach (value, key, label) {
		int result = check_label(key, label, error);
		if (result < 0)
			return result;
	}
	*ret_labels = value;
	return 0;
}

static int read_cause(const json_t *value, size_t index, uint32_t *causes, struct error *error)
{
	char field[64];
	enum job_cause cause;

	snprintf(field, sizeof(field), "retry.on[%zu]", index);
	if (json_is_string(value) && job_cause_parse(json_string_value(value), &cause)) {
		for (size_t i = 0; i < sizeof(retry_causes) / sizeof(retry_causes[0]); i++) {
			if (retry_causes[i] == cause) {
				*causes |= 1U << cause;
				return 0;
			}
		}
	}
	return expect(error, field,
		      "one of \"task_error\", \"wall_limit\", \"cpu_limit\", \"memory_limit\", "
		      "\"output_limit\", \"signal\", \"exit_status\", \"host_lost\"",
		      value);
}

static int read_retry_on(struct submission *submission, json_t *value, struct error *error)
{
	uint32_t causes = 0;
	size_t index;
	json_t *cause;

	if (!json_is_array(value))
		return expect(error, "retry.on", "an array of causes", value);
	json_array_foreach (value, index, cause) {
		int status = read_cause(cause, index, &causes, error);
		if (status < 0)
			return status;
	}
	submission->retry.causes = causes;
	return 0;
}

static int read_on_output(struct submission *submission, json_t *value, struct error *error)
{
	const char *action = json_is_string(value) ? json_string_value(value) : "";

	submission->stop_on_output = strcmp(action, "stop") == 0;
	if (submission->stop_on_output || strcmp(action, "truncate") == 0)
		return 0;
	return expect(error, "limits.on_output", "\"truncate\" or \"stop\"", value);
}

static int read_task(struct submission *submission, json_t *value, struct error *error)
{
	return read_name(value, "task", &submission->task, error);
}

static int read_pool(struct submission *submission, json_t *value, struct error *error)
{
	return read_name(value, "pool", &submission->pool, error);
}

static int read_args(struct submission *submission, json_t *value, struct error *error)
{
	(void)error;
	submission->args = value;
	return 0;
}

static int read_label_object(struct submission *submission, json_t *value, struct error *error)
{
	return read_labels(value, &submission->labels, error);
}

/* As far as it can be seen without taking it apart: a scheme, something behind it, and nothing that
 * would have to be encoded. */
static bool is_web_url(const char *text, size_t length)
{
	size_t scheme = strncasecmp(text, "https://", 8) == 0  ? 8
			: strncasecmp(text, "http://", 7) == 0 ? 7
							       : 0;

	if (scheme == 0 || length == scheme || length > SUBMISSION_CALLBACK_MAX)
		return false;
	for (size_t i = 0; i < length; i++)
		if (text[i] <= ' ' || text[i] > '~')
			return false;
	return true;
}

static int read_callback(struct submission *submission, json_t *value, struct error *error)
{
	const char *text = json_string_value(value);

	if (!text)
		return expect(error, "callback_url", "an http or https URL", value);
	if (!is_web_url(text, json_string_length(value)))
		return error_set(
			error, ERROR_INVALID, "callback_url",
			"found \"%.80s\"; expected an http or https URL of at most %d bytes, "
			"all of them printable ASCII",
			text, SUBMISSION_CALLBACK_MAX);
	submission->callback_url = text;
	return 0;
}

static int read_retry(struct submission *submission, json_t *value, struct error *error);
static int read_limits(struct submission *submission, json_t *value, struct error *error);

/* How one field is read: as an integer, as a boolean, or by a function. */
struct field {
	const char *name;
	const char *path;
	enum { FIELD_INTEGER, FIELD_BOOLEAN, FIELD_CUSTOM } kind;
	size_t offset; /* in struct submission, of an int64_t or a bool */
	int64_t least;
	int64_t most;
	int (*read)(struct submission *submission, json_t *value, struct error *error);
};

#define INTEGER(n, p, member, l, m)                                                                \
	{                                                                                          \
		.name = (n), .path = (p), .kind = FIELD_INTEGER,                                   \
		.offset = offsetof(struct submission, member), .least = (l), .most = (m)           \
	}
#define BOOLEAN(n, p, member)                                                                      \
	{                                                                                          \
		.name = (n), .path = (p), .kind = FIELD_BOOLEAN,                                   \
		.offset = offsetof(struct submission, member)                                      \
	}
#define CUSTOM(n, p, f)                                                                            \
	{                                                                                          \
		.name = (n), .path = (p), .kind = FIELD_CUSTOM, .read = (f)                        \
	}

static const struct field submission_fields[] = {
	CUSTOM("task", "task", read_task),
	CUSTOM("args", "args", read_args),
	CUSTOM("pool", "pool", read_pool),
	INTEGER("priority", "priority", priority, JOB_PRIORITY_MIN, JOB_PRIORITY_MAX),
	INTEGER("delay_ms", "delay_ms", delay_ms, 0, DURATION_MS_MAX),
	INTEGER("queue_ttl_ms", "queue_ttl_ms", queue_ttl_ms, 1, DURATION_MS_MAX),
	INTEGER("timeout_ms", "timeout_ms", timeout_ms, 1, DURATION_MS_MAX),
	INTEGER("max_attempts", "max_attempts", max_attempts, 1, ATTEMPTS_MAX),
	CUSTOM("retry", "retry", read_retry),
	CUSTOM("limits", "limits", read_limits),
	BOOLEAN("cancel_on_disconnect", "cancel_on_disconnect", cancel_on_disconnect),
	CUSTOM("labels", "labels", read_label_object),
	CUSTOM("callback_url", "callback_url", read_callback),
	{.name = NULL},
};

static const struct field retry_fields[] = {
	CUSTOM("on", "retry.on", read_retry_on),
	INTEGER("backoff_ms", "retry.backoff_ms", retry.backoff_ms, 0, DURATION_MS_MAX),
	INTEGER("backoff_max_ms", "retry.backoff_max_ms", retry.backoff_max_ms, 0, DURATION_MS_MAX),
	{.name = NULL},
};

static const struct field limit_fields[] = {
	INTEGER("cpu_ms", "limits.cpu_ms", cpu_ms, 1, DURATION_MS_MAX),
	INTEGER("memory_bytes", "limits.memory_bytes", memory_bytes, 1048576, MEMORY_BYTES_MAX),
	INTEGER("output_bytes", "limits.output_bytes", output_bytes, 0, OUTPUT_BYTES_MAX),
	CUSTOM("on_output", "limits.on_output", read_on_output),
	{.name = NULL},
};

static int unknown_field(const struct field *fields, const char *prefix, const char *key,
			 struct error *error)
{
	struct buffer names = {0};
	char path[sizeof(error->field)];

	for (; fields->name; fields++)
		buffer_append_format(&names, "%s\"%s\"", names.length ? ", " : "", fields->name);
	buffer_append_char(&names, '\0');
	snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix ? "." : "", key);
	int status = error_set(error, ERROR_INVALID, path,
			       "there is no such field; those that exist: %s",
			       buffer_failed(&names) ? "" : names.data);
	buffer_release(&names);
	return status;
}

static int read_field(struct submission *submission, const struct field *field, json_t *value,
		      struct error *error)
{
	char *place = (char *)submission + field->offset;

	switch (field->kind) {
	case FIELD_INTEGER:
		return read_integer(value, field->path, field->least, field->most,
				    (int64_t *)(void *)place, error);
	case FIELD_BOOLEAN:
		return read_boolean(value, field->path, (bool *)(void *)place, error);
	case FIELD_CUSTOM:
		break;
	}
	return field->read(submission, value, error);
}

/* Reads every member of object by its entry in fields. */
static int read_fields(struct submission *submission, const struct field *fields,
		       const char *prefix, json_t *object, struct error *error)
{
	const char *key;
	json_t *value;

	json_object_foreach (object, key, value) {
		const struct field *field = fields;
		while (field->name && strcmp(field->name, key) != 0)
			field++;
		int status = field->name ? read_field(submission, field, value, error)
					 : unknown_field(fields, prefix, key, error);
		if (status < 0)
			return status;
	}
	return 0;
}

static int read_retry(struct submission *submission, json_t *value, struct error *error)
{
	if (!json_is_object(value))
		return expect(error, "retry", "an object", value);
	return read_fields(submission, retry_fields, "retry", value, error);
}

static int read_limits(struct submission *submission, json_t *value, struct error *error)
{
	if (!json_is_object(value))
		return expect(error, "limits", "an object", value);
	return read_fields(submission, limit_fields, "limits", value, error);
}

static struct submission defaults(void)
{
	struct submission submission = {
		.queue_ttl_ms = SUBMISSION_UNSET,
		.timeout_ms = SUBMISSION_UNSET,
		.cpu_ms = SUBMISSION_UNSET,
		.memory_bytes = SUBMISSION_UNSET,
		.output_bytes = SUBMISSION_UNSET,
		.max_attempts = 1,
		.retry = {.backoff_ms = RETRY_BACKOFF_MS, .backoff_max_ms = RETRY_BACKOFF_MAX_MS},
	};

	for (size_t i = 0; i < sizeof(retry_causes) / sizeof(retry_causes[0]); i++)
		if (retry_causes[i] != CAUSE_OUTPUT_LIMIT)
			submission.retry.causes |= 1U << retry_causes[i];
	return submission;
}

/* What must be there, and what a batch needs besides. */
static int check_whole(const struct submission *submission, bool is_batch, struct error *error)
{
	if (!submission->task)
		return expect(error, "task", "the name of a task", NULL);
	if (is_batch && !json_is_array(submission->args))
		return expect(error, "args", "an array, one element for each job",
			      submission->args);
	return 0;
}

int submission_parse(const char *body, size_t length, bool is_batch,
		     struct submission *ret_submission, struct error *error)
{
	struct submission submission = defaults();
	int status = json_parse(body, length, &submission.document, error);

	if (status < 0)
		return status;
	if (json_is_object(submission.document))
		status =
			read_fields(&submission, submission_fields, "", submission.document, error);
	else
		status = expect(error, "", "an object such as {\"task\": \"echo\"}",
				submission.document);
	if (status == 0)
		status = check_whole(&submission, is_batch, error);
	if (status < 0) {
		submission_release(&submission);
		return status;
	}
	*ret_submission = submission;
	return 0;
}

void submission_release(struct submission *submission)
{
	json_decref(submission->document);
	*submission = defaults();
}
