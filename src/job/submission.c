/* Reading a submission. Everything that is wrong is told by the path of the field and what was
 * expected there. */
#include "job/submission.h"

#include <errno.h>
#include <string.h>

#include "base/json.h"

static const char known_fields[] = "\"task\", \"args\", \"pool\", \"timeout_ms\", \"labels\"";

#define TIMEOUT_MS_MAX 31536000000LL /* a year */

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

static int read_timeout(const json_t *value, int64_t *ret_timeout_ms, struct error *error)
{
	if (!json_is_integer(value))
		return expect(error, "timeout_ms", "an integer of milliseconds", value);
	int64_t ms = json_integer_value(value);
	if (ms < 1 || ms > TIMEOUT_MS_MAX)
		return error_set(error, ERROR_INVALID, "timeout_ms",
				 "found %lld; expected an integer from 1 to %lld", (long long)ms,
				 TIMEOUT_MS_MAX);
	*ret_timeout_ms = ms;
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

static int read_field(struct submission *submission, const char *key, json_t *value, bool is_batch,
		      struct error *error)
{
	if (strcmp(key, "task") == 0)
		return read_name(value, key, &submission->task, error);
	if (strcmp(key, "pool") == 0)
		return read_name(value, key, &submission->pool, error);
	if (strcmp(key, "timeout_ms") == 0)
		return read_timeout(value, &submission->timeout_ms, error);
	if (strcmp(key, "labels") == 0)
		return read_labels(value, &submission->labels, error);
	if (strcmp(key, "args") == 0) {
		if (is_batch && !json_is_array(value))
			return expect(error, key, "an array, one element for each job", value);
		submission->args = value;
		return 0;
	}
	return error_set(error, ERROR_INVALID, key, "there is no such field; those that exist: %s",
			 known_fields);
}

int submission_parse(const char *body, size_t length, bool is_batch,
		     struct submission *ret_submission, struct error *error)
{
	struct submission submission = {.timeout_ms = -1};
	const char *key;
	json_t *value;
	int result = json_parse(body, length, &submission.document, error);

	if (result < 0)
		return result;
	if (!json_is_object(submission.document)) {
		result = expect(error, "", "an object such as {\"task\": \"echo\"}",
				submission.document);
		goto fail;
	}
	json_object_foreach (submission.document, key, value) {
		result = read_field(&submission, key, value, is_batch, error);
		if (result < 0)
			goto fail;
	}
	if (!submission.task) {
		result = expect(error, "task", "the name of a task", NULL);
		goto fail;
	}
	if (is_batch && !submission.args) {
		result = expect(error, "args", "an array, one element for each job", NULL);
		goto fail;
	}
	*ret_submission = submission;
	return 0;
fail:
	submission_release(&submission);
	return result;
}

void submission_release(struct submission *submission)
{
	json_decref(submission->document);
	*submission = (struct submission){.timeout_ms = -1};
}
