/*
 * fib: the n-th Fibonacci number by plain recursion. It is slow on purpose: its time grows by the
 * factor 1.6 with each step of n, which makes work of any length for the CPU, in no memory.
 */
#include "task/builtin/builtin.h"

/* The stop word is read at numbers from this one on; below it a call takes well under a
 * millisecond. */
#define POLL_FROM 20

/* Answers anything if the job should stop. */
static uint64_t fibonacci(const struct tp_context *ctx, unsigned int n)
{
	if (n < 2) {
		return n;
	}
	if (n >= POLL_FROM && tp_should_stop(ctx)) {
		return 0;
	}
	return fibonacci(ctx, n - 1) + fibonacci(ctx, n - 2);
}

static int run(struct tp_context *ctx, const json_t *args)
{
	uint64_t value = fibonacci(ctx, (unsigned int)builtin_integer(args, "n", 0));
	if (tp_should_stop(ctx)) {
		return tp_stopped(ctx);
	}
	return tp_set_result(ctx, json_pack("{s:I}", "value", (json_int_t)value));
}

static const char schema[] =
	"{\"type\": \"object\", \"properties\": {"
	"\"n\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 60, "
	"\"description\": \"Which Fibonacci number: 0 gives 0, 1 gives 1, 30 gives 832040.\"}},"
	"\"required\": [\"n\"]}";

const struct tp_task builtin_fib = {
	.name = "fib",
	.description = "Computes a Fibonacci number by plain recursion, slowly on purpose: each "
		       "step of n takes 1.6 times as long.",
	.args_schema = schema,
	.flags = TP_TASK_THREAD_SAFE,
	.run = run,
};
