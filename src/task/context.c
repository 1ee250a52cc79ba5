/*
 * The functions of twinpool/task.h, over struct tp_context.
 *
 * Invariants:
 *   1. ctx->result is owned by the context, and is NULL once tp_stopped() was called.
 *   2. ctx->failure always ends with a NUL and is never cut inside a UTF-8 sequence that was whole.
 *   3. Only ctx->stop is read by other threads than the one that runs the task.
 */
#include "task/context.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "task/plugin.h"

#define PRINTF_STACK_BYTES 1024
#define LOG_TEXT_BYTES	   1024

static context_log_fn *log_sink;

void context_release(struct tp_context *ctx)
{
	unsigned int locks = shared_unlock_all(ctx);
	if (locks > 0) {
		tp_log(ctx, TP_LOG_WARNING, "the task returned with %u locks held; released",
		       locks);
	}
	while (ctx->memory != NULL) {
		struct tp_memory *next = ctx->memory->next;
		free(ctx->memory);
		ctx->memory = next;
	}
	json_decref(ctx->result);
	ctx->result = NULL;
}

void *tp_alloc(struct tp_context *ctx, size_t size)
{
	size_t whole = 0;
	if (__builtin_add_overflow(size, sizeof(struct tp_memory), &whole)) {
		errno = ENOMEM;
		return NULL;
	}
	struct tp_memory *memory = calloc(1, whole);
	if (memory == NULL) {
		return NULL;
	}
	memory->next = ctx->memory;
	ctx->memory = memory;
	return memory + 1;
}

void context_set_log(context_log_fn *sink)
{
	log_sink = sink;
}

void tp_log(const struct tp_context *ctx, enum tp_log_level level, const char *format, ...)
{
	char text[LOG_TEXT_BYTES];
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (length <= 0 || log_sink == NULL) {
		return;
	}
	log_sink(ctx, level, text, strlen(text));
}

int tp_set_result(struct tp_context *ctx, json_t *result)
{
	if (result == NULL) {
		return -EINVAL;
	}
	if (ctx->stopped) {
		json_decref(result);
		return 0;
	}
	json_decref(ctx->result);
	ctx->result = result;
	return 0;
}

/* Takes off a UTF-8 sequence at the end of text that lacks some of its bytes. */
static void drop_cut_sequence(char *text, size_t length)
{
	size_t tail = 0; /* continuation bytes at the end */
	while (tail < 3 && tail < length &&
	       ((unsigned char)text[length - 1 - tail] & 0xC0) == 0x80) {
		tail++;
	}
	if (tail == length) {
		return;
	}
	unsigned char lead = (unsigned char)text[length - 1 - tail];
	size_t needed = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
	if (tail < needed) {
		text[length - 1 - tail] = '\0';
	}
}

int tp_fail(struct tp_context *ctx, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	/* Written elsewhere first: an argument may be the earlier message. */
	char text[sizeof(ctx->failure)];
	int length = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (length < 0) {
		text[0] = '\0';
	} else if ((size_t)length >= sizeof(text)) {
		drop_cut_sequence(text, sizeof(text) - 1);
	}
	memcpy(ctx->failure, text, sizeof(text));
	return -1;
}

int tp_write(struct tp_context *ctx, enum tp_stream stream, const void *data, size_t length)
{
	if (length == 0) {
		return 0;
	}
	return ctx->write(ctx, stream, data, length);
}

int tp_printf(struct tp_context *ctx, enum tp_stream stream, const char *format, ...)
{
	char small[PRINTF_STACK_BYTES];
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(small, sizeof(small), format, arguments);
	va_end(arguments);
	if (length < 0) {
		return -errno;
	}
	if ((size_t)length < sizeof(small)) {
		return tp_write(ctx, stream, small, (size_t)length);
	}
	char *large = malloc((size_t)length + 1);
	if (large == NULL) {
		return -ENOMEM;
	}
	va_start(arguments, format);
	vsnprintf(large, (size_t)length + 1, format, arguments);
	va_end(arguments);
	int status = tp_write(ctx, stream, large, (size_t)length);
	free(large);
	return status;
}

int context_flush_progress(struct tp_context *ctx)
{
	struct context_progress *progress = &ctx->progress;

	if (!progress->pending)
		return 0;
	progress->pending = false;
	return ctx->send_progress(ctx, progress->done, progress->total, ctx->progress_message,
				  progress->length);
}

/* Each message moves due_ns on by one interval; it may be ahead of the clock by a burst of them. */
static bool progress_may_be_sent(struct context_progress *progress)
{
	const int64_t ahead_ns = (CONTEXT_PROGRESS_BURST - 1) * CONTEXT_PROGRESS_NS;
	int64_t now_ns = clock_monotonic_ns(); /* by the vDSO: no system call */

	if (progress->due_ns - now_ns > ahead_ns)
		return false;
	if (progress->due_ns < now_ns)
		progress->due_ns = now_ns;
	progress->due_ns += CONTEXT_PROGRESS_NS;
	return true;
}

int tp_progress(struct tp_context *ctx, int64_t done, int64_t total, const char *message)
{
	struct context_progress *progress = &ctx->progress;

	if (done < 0 || total < 0)
		return -EINVAL;
	if (!ctx->send_progress)
		return 0;
	progress->done = done;
	progress->total = total;
	progress->length = message ? strnlen(message, TP_PROGRESS_MESSAGE_MAX + 1) : 0;
	if (progress->length > TP_PROGRESS_MESSAGE_MAX)
		progress->length = text_trim(message, TP_PROGRESS_MESSAGE_MAX);
	if (progress->length > 0)
		memmove(ctx->progress_message, message, progress->length);
	progress->pending = true;
	return progress_may_be_sent(progress) ? context_flush_progress(ctx) : 0;
}

bool tp_should_stop(const struct tp_context *ctx)
{
	return atomic_load_explicit(ctx->stop, memory_order_acquire) != 0;
}

int tp_stopped(struct tp_context *ctx)
{
	ctx->stopped = true;
	json_decref(ctx->result);
	ctx->result = NULL;
	return -ECANCELED;
}

bool tp_sleep_ns(struct tp_context *ctx, int64_t duration_ns)
{
	int64_t end_ns = 0;
	if (__builtin_add_overflow(clock_monotonic_ns(), duration_ns, &end_ns)) {
		end_ns = duration_ns > 0 ? INT64_MAX : 0;
	}
	struct timespec end = {.tv_sec = end_ns / NS_PER_S, .tv_nsec = end_ns % NS_PER_S};
	while (!tp_should_stop(ctx)) {
		if (clock_monotonic_ns() >= end_ns) {
			return true;
		}
		/* The kernel compares the word with 0 before it sleeps, so a stop that comes
		 * between the check above and this call is not slept through. Early returns of
		 * every kind (EINTR, EAGAIN, a stray wake-up) are settled by the two checks of the
		 * loop. */
		syscall(SYS_futex, ctx->stop, FUTEX_WAIT_BITSET, 0, &end, NULL,
			FUTEX_BITSET_MATCH_ANY);
	}
	return false;
}

unsigned int tp_attempt(const struct tp_context *ctx)
{
	return ctx->attempt;
}

int64_t tp_deadline_ns(const struct tp_context *ctx)
{
	return ctx->deadline_ns;
}

bool tp_is_process(const struct tp_context *ctx)
{
	return ctx->is_process;
}

const char *tp_pool_name(const struct tp_context *ctx)
{
	return ctx->pool;
}

const char *tp_setting(const struct tp_context *ctx, const char *name)
{
	const struct config_task *settings = ctx->task->settings;
	if (ctx->task->plugin != NULL) {
		return plugin_setting(ctx->task->plugin, ctx->task->definition->name, name);
	}
	if (settings == NULL) {
		return NULL;
	}
	return strcmp(name, "root") == 0 ? settings->root : NULL;
}
