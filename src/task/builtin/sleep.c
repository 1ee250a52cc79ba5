/*
 * sleep: waits without using the CPU, as a job does that waits for somebody else. Wakes at once
 * when the job should stop.
 */
#include <time.h>

#include "task/builtin/builtin.h"

static int64_t monotonic_us(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int run(struct tp_context *ctx, const json_t *args)
{
	int64_t begin_us = monotonic_us();
	if (!tp_sleep_ns(ctx, builtin_integer(args, "ms", 0) * BUILTIN_NS_PER_MS)) {
		return tp_stopped(ctx);
	}
	double slept_ms = (double)(monotonic_us() - begin_us) / 1000.0;
	return tp_set_result(ctx, json_pack("{s:f}", "slept_ms", slept_ms));
}

static const char schema[] =
	"{\"type\": \"object\", \"properties\": {"
	"\"ms\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 3600000, "
	"\"description\": \"How long to sleep, in milliseconds.\"}},"
	"\"required\": [\"ms\"]}";

const struct tp_task builtin_sleep = {
	.name = "sleep",
	.description = "Sleeps. The result tells how long it really took.",
	.args_schema = schema,
	.flags = TP_TASK_THREAD_SAFE,
	.run = run,
};
