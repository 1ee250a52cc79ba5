/*
 * spin: uses the CPU for so long, as a computation does that never waits; on demand one that never
 * asks either whether it should stop. It serves to show deadlines and limits.
 */
#include <time.h>

#include "task/builtin/builtin.h"

#define ROUND 20000 /* additions between two looks at the clock; well under a millisecond */

static int64_t monotonic_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 * BUILTIN_NS_PER_MS + now.tv_nsec;
}

static void burn(void)
{
	volatile uint32_t sum = 0;
	for (uint32_t i = 0; i < ROUND; i++) {
		sum = sum + i;
	}
}

static int run(struct tp_context *ctx, const json_t *args)
{
	bool ignores_stop = json_is_true(json_object_get(args, "ignore_stop"));
	int64_t begin_ns = monotonic_ns();
	int64_t end_ns = begin_ns + builtin_integer(args, "ms", 0) * BUILTIN_NS_PER_MS;
	while (monotonic_ns() < end_ns) {
		if (!ignores_stop && tp_should_stop(ctx)) {
			return tp_stopped(ctx);
		}
		burn();
	}
	double spun_ms = (double)(monotonic_ns() - begin_ns) / (double)BUILTIN_NS_PER_MS;
	return tp_set_result(ctx, json_pack("{s:f}", "spun_ms", spun_ms));
}

static const char schema[] =
	"{\"type\": \"object\", \"properties\": {"
	"\"ms\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 3600000, "
	"\"description\": \"How long to use the CPU, in milliseconds of wall time.\"},"
	"\"ignore_stop\": {\"type\": \"boolean\", \"default\": false, "
	"\"description\": \"Whether to go on when asked to stop.\"}},"
	"\"required\": [\"ms\"]}";

const struct tp_task builtin_spin = {
	.name = "spin",
	.description = "Uses the CPU for a while, on demand without ever asking whether it should "
		       "stop. The result tells how long it really took.",
	.args_schema = schema,
	.flags = TP_TASK_THREAD_SAFE,
	.run = run,
};
