/*
 * print: writes a line to the job's stdout, by default one that tells whether it ran in a process
 * of its own or in a thread among others.
 */
#include <stdlib.h>
#include <string.h>

#include "task/builtin/builtin.h"

/* Each line leaves in one piece, so that lines are never torn apart where the output is cut by a
 * kill. */
static int write_lines(struct tp_context *ctx, const char *text, size_t length, int64_t times,
		       int64_t interval_ns)
{
	char *line = malloc(length + 1);
	if (line == NULL) {
		return tp_fail(ctx, "no memory for a line of %zu bytes", length);
	}
	memcpy(line, text, length);
	line[length] = '\n';
	int status = 0;
	for (int64_t i = 0; i < times && status == 0; i++) {
		bool paused = i > 0 && interval_ns > 0;
		if (tp_should_stop(ctx) || (paused && !tp_sleep_ns(ctx, interval_ns))) {
			status = tp_stopped(ctx);
			break;
		}
		int written = tp_write(ctx, TP_STDOUT, line, length + 1);
		if (written != 0) {
			status = tp_fail(ctx, "cannot write the output: %s", strerror(-written));
		} else if (interval_ns > 0) {
			tp_progress(ctx, i + 1, times, "lines");
		}
	}
	free(line);
	return status;
}

static int run(struct tp_context *ctx, const json_t *args)
{
	const char *text = tp_is_process(ctx) ? "Sample Process" : "Sample Thread";
	size_t length = strlen(text);
	const json_t *given = json_object_get(args, "text");
	if (json_is_string(given)) {
		text = json_string_value(given);
		length = json_string_length(given);
	}
	int64_t times = builtin_integer(args, "times", 1);
	int64_t interval_ns = builtin_integer(args, "interval_ms", 0) * BUILTIN_NS_PER_MS;
	int status = write_lines(ctx, text, length, times, interval_ns);
	if (status != 0) {
		return status;
	}
	return tp_set_result(
		ctx, json_pack("{s:s%, s:I}", "printed", text, length, "times", (json_int_t)times));
}

static const char schema[] =
	"{\"type\": \"object\", \"properties\": {"
	"\"text\": {\"type\": \"string\", \"description\": \"The line to write, without its end. "
	"Without it, \\\"Sample Process\\\" where the worker is a process of its own and "
	"\\\"Sample Thread\\\" where it is a thread among others.\"},"
	"\"times\": {\"type\": \"integer\", \"minimum\": 1, \"maximum\": 1000, \"default\": 1, "
	"\"description\": \"How often to write the line.\"},"
	"\"interval_ms\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 60000, \"default\": "
	"0, "
	"\"description\": \"How long to pause between two lines, in milliseconds. With pauses, the "
	"job "
	"reports its progress.\"}}}";

const struct tp_task builtin_print = {
	.name = "print",
	.description = "Writes a line to stdout. The result tells the line and how often it was "
		       "written.",
	.args_schema = schema,
	.flags = TP_TASK_THREAD_SAFE,
	.run = run,
};
