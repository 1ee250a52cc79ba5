/*
 * echo: answers with its arguments, whatever they are; null if it was given none.
 */
#include "task/builtin/builtin.h"

static int run(struct tp_context *ctx, const json_t *args)
{
	/* A copy, since args may not be kept beyond this call and a result is. */
	return tp_set_result(ctx, json_deep_copy(args));
}

const struct tp_task builtin_echo = {
	.name = "echo",
	.description = "Gives its args back as the result: any JSON value, none included.",
	.args_schema = "{\"description\": \"Any JSON value.\"}",
	.flags = TP_TASK_THREAD_SAFE,
	.run = run,
};
