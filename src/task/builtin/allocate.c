/*
 * allocate: takes memory from the heap, writes to each of its pages so that it really is occupied,
 * holds it for a while, and gives it back.
 */
#include <stdlib.h>
#include <unistd.h>

#include "task/builtin/builtin.h"

#define PAGES_PER_POLL 128 /* a first touch takes up to 10 µs */

/* Answers false if the job should stop. */
static bool touch(struct tp_context *ctx, volatile unsigned char *memory, size_t bytes)
{
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	size_t page = 0;
	for (size_t at = 0; at < bytes; at += page_bytes, page++) {
		if (page % PAGES_PER_POLL == 0 && tp_should_stop(ctx)) {
			return false;
		}
		memory[at] = (unsigned char)(page % 255 + 1);
	}
	return true;
}

static int run(struct tp_context *ctx, const json_t *args)
{
	int64_t mib = builtin_integer(args, "mib", 0);
	int64_t hold_ns = builtin_integer(args, "hold_ms", 0) * BUILTIN_NS_PER_MS;
	size_t bytes = 0;
	if (__builtin_mul_overflow(mib, BUILTIN_MIB, &bytes)) {
		return tp_fail(ctx, "%lld MiB are more than can be addressed", (long long)mib);
	}
	unsigned char *memory = malloc(bytes > 0 ? bytes : 1);
	if (memory == NULL) {
		return tp_fail(ctx, "cannot allocate %lld MiB (%zu bytes)", (long long)mib, bytes);
	}
	bool done = touch(ctx, memory, bytes) && tp_sleep_ns(ctx, hold_ns);
	free(memory);
	if (!done) {
		return tp_stopped(ctx);
	}
	return tp_set_result(ctx, json_pack("{s:I}", "bytes", (json_int_t)bytes));
}

static const char schema[] =
	"{\"type\": \"object\", \"properties\": {"
	"\"mib\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 1048576, "
	"\"description\": \"How many MiB to allocate; every page of them is written to.\"},"
	"\"hold_ms\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 3600000, \"default\": "
	"0, "
	"\"description\": \"How long to hold the memory, in milliseconds.\"}},"
	"\"required\": [\"mib\"]}";

const struct tp_task builtin_allocate = {
	.name = "allocate",
	.description = "Allocates memory, writes to each of its pages, holds it and frees it.",
	.args_schema = schema,
	.flags = TP_TASK_THREAD_SAFE,
	.run = run,
};
