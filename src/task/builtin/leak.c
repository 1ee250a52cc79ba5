/*
 * leak: takes memory from the heap, writes to all of it, and never gives it back while its process
 * lives. It serves to show that worn hosts are replaced, and must be enabled by the operator.
 *
 * The blocks hang together in one list, which only grows, so whoever looks for lost memory sees
 * that these are meant.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "task/builtin/builtin.h"

struct block {
	struct block *next;
};

static struct block *_Atomic blocks;
static _Atomic int64_t kept_bytes; /* by this process */

static void keep(struct block *block)
{
	struct block *first = atomic_load(&blocks);
	do {
		block->next = first;
	} while (!atomic_compare_exchange_weak(&blocks, &first, block));
}

static int run(struct tp_context *ctx, const json_t *args)
{
	int64_t mib = builtin_integer(args, "mib", 1);
	size_t bytes = 0;
	if (__builtin_mul_overflow(mib, BUILTIN_MIB, &bytes)) {
		return tp_fail(ctx, "%lld MiB are more than can be addressed", (long long)mib);
	}
	struct block *block = malloc(bytes);
	if (block == NULL) {
		return tp_fail(ctx, "cannot allocate %lld MiB (%zu bytes)", (long long)mib, bytes);
	}
	memset(block, 1, bytes);
	keep(block);
	int64_t all_bytes = atomic_fetch_add(&kept_bytes, (int64_t)bytes) + (int64_t)bytes;
	return tp_set_result(ctx, json_pack("{s:I, s:I}", "bytes", (json_int_t)bytes, "host_bytes",
					    (json_int_t)all_bytes));
}

static const char schema[] =
	"{\"type\": \"object\", \"properties\": {"
	"\"mib\": {\"type\": \"integer\", \"minimum\": 1, \"maximum\": 1024, \"default\": 1, "
	"\"description\": \"How many MiB to take and keep.\"}}}";

const struct tp_task builtin_leak = {
	.name = "leak",
	.description =
		"Takes memory and keeps it as long as its process lives. The result tells how "
		"much, and how much such jobs of the process hold by now. "
		"Must be enabled in the configuration.",
	.args_schema = schema,
	.flags = TP_TASK_THREAD_SAFE | TP_TASK_DISABLED_BY_DEFAULT,
	.run = run,
};
