/*
 * The functions of twinpool/task.h over a real context: results, failures, output, stopping and
 * sleeping.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "task/context.h"

#define SOON_NS (20 * NS_PER_MS)
#define LONG_NS (60 * NS_PER_S)

struct output {
	char *data;
	size_t length;
	unsigned int writes;
	enum tp_stream stream;
	int answer;
};

static int keep_output(struct tp_context *ctx, enum tp_stream stream, const void *data,
		       size_t length)
{
	struct output *output = ctx->host_data;
	output->data = realloc(output->data, output->length + length + 1);
	assert_non_null(output->data);
	memcpy(output->data + output->length, data, length);
	output->length += length;
	output->data[output->length] = '\0';
	output->stream = stream;
	output->writes++;
	return output->answer;
}

static void wake(_Atomic uint32_t *stop)
{
	atomic_store(stop, 1);
	syscall(SYS_futex, stop, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static void test_result_is_kept_and_replaced(void **state)
{
	(void)state;
	struct tp_context ctx = {0};
	json_t *first = json_integer(1);
	json_incref(first);
	assert_int_equal(tp_set_result(&ctx, first), 0);
	assert_int_equal(tp_set_result(&ctx, json_integer(2)), 0);
	assert_int_equal(first->refcount, 1);
	json_decref(first);
	assert_int_equal(json_integer_value(ctx.result), 2);
	assert_int_equal(tp_set_result(&ctx, NULL), -EINVAL);
	assert_int_equal(json_integer_value(ctx.result), 2);
	context_release(&ctx);
	assert_null(ctx.result);
	context_release(&ctx);
}

static void test_stopped_drops_the_result(void **state)
{
	(void)state;
	struct tp_context ctx = {0};
	assert_int_equal(tp_set_result(&ctx, json_integer(1)), 0);
	assert_int_not_equal(tp_stopped(&ctx), 0);
	assert_true(ctx.stopped);
	assert_null(ctx.result);
	assert_int_equal(tp_set_result(&ctx, json_integer(2)), 0);
	assert_null(ctx.result);
}

static void test_fail_keeps_the_last_message(void **state)
{
	(void)state;
	struct tp_context ctx = {0};
	assert_int_equal(tp_fail(&ctx, "first %d", 1), -1);
	assert_int_equal(tp_fail(&ctx, "%s and %s", ctx.failure, "second"), -1);
	assert_string_equal(ctx.failure, "first 1 and second");
}

static void test_fail_cuts_at_a_character(void **state)
{
	(void)state;
	char text[2000];
	/* With each shift another byte of the three-byte characters lies at the edge. */
	for (size_t shift = 0; shift < 3; shift++) {
		struct tp_context ctx = {0};
		memset(text, 'x', shift);
		for (size_t i = shift; i + 3 < sizeof(text); i += 3) {
			memcpy(text + i, "€", 4);
		}
		tp_fail(&ctx, "%s", text);
		size_t length = strlen(ctx.failure);
		assert_true(length > 1000 && length < sizeof(ctx.failure));
		assert_int_equal((length - shift) % 3, 0);
		json_t *string = json_string(ctx.failure);
		assert_non_null(string);
		json_decref(string);
	}
}

static void test_write_and_printf(void **state)
{
	(void)state;
	struct output output = {0};
	struct tp_context ctx = {.write = keep_output, .host_data = &output};
	assert_int_equal(tp_write(&ctx, TP_STDOUT, "a\0b", 3), 0);
	assert_int_equal(tp_write(&ctx, TP_STDOUT, NULL, 0), 0);
	assert_int_equal(output.writes, 1);
	assert_int_equal(tp_printf(&ctx, TP_STDERR, "%s-%d", "c", 4), 0);
	assert_int_equal(output.stream, TP_STDERR);
	assert_int_equal(output.writes, 2);
	assert_memory_equal(output.data, "a\0bc-4", 7);
	output.answer = -EPIPE;
	assert_int_equal(tp_printf(&ctx, TP_STDERR, "x"), -EPIPE);
	free(output.data);
}

static void test_printf_of_any_length(void **state)
{
	(void)state;
	static const int lengths[] = {0, 1, 1022, 1023, 1024, 1025, 100000};
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct output output = {0};
		struct tp_context ctx = {.write = keep_output, .host_data = &output};
		assert_int_equal(tp_printf(&ctx, TP_STDOUT, "%*s", lengths[i], ""), 0);
		assert_int_equal(output.length, lengths[i]);
		assert_int_equal(output.writes, lengths[i] == 0 ? 0 : 1);
		free(output.data);
	}
}

/* --- progress -------------------------------------------------------------------------------- */

struct progress {
	unsigned int messages;
	int64_t done;
	int64_t total;
	char text[TP_PROGRESS_MESSAGE_MAX];
	size_t length;
	int answer;
};

static int keep_progress(struct tp_context *ctx, int64_t done, int64_t total, const char *message,
			 size_t length)
{
	struct progress *progress = ctx->host_data;
	assert_true(length <= sizeof(progress->text));
	progress->messages++;
	progress->done = done;
	progress->total = total;
	progress->length = length;
	memcpy(progress->text, message, length);
	return progress->answer;
}

static void assert_progress(const struct progress *progress, int64_t done, const char *text)
{
	assert_int_equal(progress->done, done);
	assert_int_equal(progress->length, strlen(text));
	assert_memory_equal(progress->text, text, progress->length);
}

static void test_first_progress_leaves_at_once(void **state)
{
	(void)state;
	struct progress progress = {0};
	struct tp_context ctx = {.send_progress = keep_progress, .host_data = &progress};
	assert_int_equal(tp_progress(&ctx, 1, 10, "first"), 0);
	assert_int_equal(progress.messages, 1);
	assert_int_equal(progress.total, 10);
	assert_progress(&progress, 1, "first");
	assert_int_equal(tp_progress(&ctx, 2, 0, NULL), 0);
	assert_int_equal(progress.messages, 2);
	assert_int_equal(progress.total, 0);
	assert_progress(&progress, 2, "");
	assert_int_equal(context_flush_progress(&ctx), 0);
	assert_int_equal(progress.messages, 2);
}

static void test_progress_is_held_back_and_the_last_is_kept(void **state)
{
	(void)state;
	const int64_t calls = 1000000;
	struct progress progress = {0};
	struct tp_context ctx = {.send_progress = keep_progress, .host_data = &progress};
	int64_t begin_ns = clock_monotonic_ns();
	for (int64_t i = 1; i <= calls; i++) {
		assert_int_equal(tp_progress(&ctx, i, calls, i == calls ? "last" : "more"), 0);
	}
	int64_t took_ns = clock_monotonic_ns() - begin_ns;
	assert_true(progress.messages >= CONTEXT_PROGRESS_BURST);
	assert_true(progress.messages <=
		    CONTEXT_PROGRESS_BURST + 1 + took_ns / CONTEXT_PROGRESS_NS);
	assert_int_equal(context_flush_progress(&ctx), 0);
	assert_progress(&progress, calls, "last");
}

static void test_progress_goes_on_after_a_pause(void **state)
{
	(void)state;
	struct progress progress = {0};
	struct tp_context ctx = {.send_progress = keep_progress, .host_data = &progress};
	while (!ctx.progress.pending) {
		tp_progress(&ctx, 1, 2, NULL);
	}
	unsigned int before = progress.messages;
	struct timespec pause = {.tv_nsec = CONTEXT_PROGRESS_NS + SOON_NS};
	nanosleep(&pause, NULL);
	tp_progress(&ctx, 2, 2, NULL);
	assert_int_equal(progress.messages, before + 1);
	assert_progress(&progress, 2, "");
}

static void test_progress_is_cut_at_a_character(void **state)
{
	(void)state;
	char text[TP_PROGRESS_MESSAGE_MAX + 20];
	for (size_t shift = 0; shift < 3; shift++) {
		struct progress progress = {0};
		struct tp_context ctx = {.send_progress = keep_progress, .host_data = &progress};
		memset(text, 'x', shift);
		for (size_t i = shift; i + 3 < sizeof(text); i += 3) {
			memcpy(text + i, "€", 4);
		}
		assert_int_equal(tp_progress(&ctx, 0, 0, text), 0);
		assert_true(progress.length > TP_PROGRESS_MESSAGE_MAX - 3);
		assert_int_equal((progress.length - shift) % 3, 0);
	}
	struct progress progress = {0};
	struct tp_context ctx = {.send_progress = keep_progress, .host_data = &progress};
	memset(text, 'y', TP_PROGRESS_MESSAGE_MAX);
	text[TP_PROGRESS_MESSAGE_MAX] = '\0';
	tp_progress(&ctx, 0, 0, text);
	assert_int_equal(progress.length, TP_PROGRESS_MESSAGE_MAX);
}

static void test_progress_that_cannot_be(void **state)
{
	(void)state;
	struct progress progress = {.answer = -EPIPE};
	struct tp_context ctx = {.send_progress = keep_progress, .host_data = &progress};
	assert_int_equal(tp_progress(&ctx, -1, 0, NULL), -EINVAL);
	assert_int_equal(tp_progress(&ctx, 0, -1, NULL), -EINVAL);
	assert_int_equal(progress.messages, 0);
	assert_int_equal(tp_progress(&ctx, 0, 0, NULL), -EPIPE);
	ctx.send_progress = NULL;
	assert_int_equal(tp_progress(&ctx, 0, 0, NULL), 0);
	assert_int_equal(context_flush_progress(&ctx), 0);
}

static void test_plain_facts(void **state)
{
	(void)state;
	char name[] = "read";
	char root[] = "/srv";
	struct config_task settings = {.name = name, .enabled = -1, .root = root};
	struct task task = {.settings = &settings};
	struct tp_context ctx = {.task = &task,
				 .pool = "thread",
				 .attempt = 3,
				 .deadline_ns = 77,
				 .is_process = true};
	assert_int_equal(tp_attempt(&ctx), 3);
	assert_int_equal(tp_deadline_ns(&ctx), 77);
	assert_true(tp_is_process(&ctx));
	assert_string_equal(tp_pool_name(&ctx), "thread");
	assert_string_equal(tp_setting(&ctx, "root"), "/srv");
	assert_null(tp_setting(&ctx, "other"));
	settings.root = NULL;
	assert_null(tp_setting(&ctx, "root"));
	task.settings = NULL;
	assert_null(tp_setting(&ctx, "root"));
}

static void test_sleep_takes_its_time(void **state)
{
	(void)state;
	_Atomic uint32_t stop = 0;
	struct tp_context ctx = {.stop = &stop};
	int64_t begin_ns = clock_monotonic_ns();
	assert_true(tp_sleep_ns(&ctx, SOON_NS));
	assert_true(clock_monotonic_ns() - begin_ns >= SOON_NS);
	assert_true(tp_sleep_ns(&ctx, 0));
	assert_true(tp_sleep_ns(&ctx, -5));
	assert_true(tp_sleep_ns(&ctx, INT64_MIN));
}

static void test_sleep_does_not_begin_when_stopped(void **state)
{
	(void)state;
	_Atomic uint32_t stop = 1;
	struct tp_context ctx = {.stop = &stop};
	assert_true(tp_should_stop(&ctx));
	assert_false(tp_sleep_ns(&ctx, LONG_NS));
	assert_false(tp_sleep_ns(&ctx, INT64_MAX));
}

static void *sleep_long(void *argument)
{
	struct tp_context *ctx = argument;
	/* Without an end, too: the time is the largest there is. */
	return tp_sleep_ns(ctx, INT64_MAX) ? ctx : NULL;
}

static void test_stop_wakes_every_thread(void **state)
{
	(void)state;
	_Atomic uint32_t stop = 0;
	struct tp_context ctx[4];
	pthread_t threads[4];
	for (size_t i = 0; i < 4; i++) {
		ctx[i] = (struct tp_context){.stop = &stop};
		assert_int_equal(pthread_create(&threads[i], NULL, sleep_long, &ctx[i]), 0);
	}
	struct timespec pause = {.tv_nsec = SOON_NS};
	nanosleep(&pause, NULL);
	int64_t begin_ns = clock_monotonic_ns();
	wake(&stop);
	for (size_t i = 0; i < 4; i++) {
		void *answer = &stop;
		assert_int_equal(pthread_join(threads[i], &answer), 0);
		assert_null(answer);
	}
	assert_true(clock_monotonic_ns() - begin_ns < LONG_NS / 10);
}

/* The word is written by another process, through a mapping of its own that the sleeper may only
 * read. */
static void test_stop_from_another_process(void **state)
{
	(void)state;
	int fd = memfd_create("stop", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 4096), 0);
	_Atomic uint32_t *writable = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	_Atomic uint32_t *readable = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(writable, MAP_FAILED);
	assert_ptr_not_equal(readable, MAP_FAILED);
	close(fd);
	struct tp_context ctx = {.stop = readable};
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct timespec pause = {.tv_nsec = SOON_NS};
		nanosleep(&pause, NULL);
		wake(writable);
		_exit(0);
	}
	int64_t begin_ns = clock_monotonic_ns();
	assert_false(tp_sleep_ns(&ctx, LONG_NS));
	assert_true(clock_monotonic_ns() - begin_ns < LONG_NS / 10);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	munmap(writable, 4096);
	munmap(readable, 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_result_is_kept_and_replaced),
		cmocka_unit_test(test_stopped_drops_the_result),
		cmocka_unit_test(test_fail_keeps_the_last_message),
		cmocka_unit_test(test_fail_cuts_at_a_character),
		cmocka_unit_test(test_write_and_printf),
		cmocka_unit_test(test_printf_of_any_length),
		cmocka_unit_test(test_first_progress_leaves_at_once),
		cmocka_unit_test(test_progress_is_held_back_and_the_last_is_kept),
		cmocka_unit_test(test_progress_goes_on_after_a_pause),
		cmocka_unit_test(test_progress_is_cut_at_a_character),
		cmocka_unit_test(test_progress_that_cannot_be),
		cmocka_unit_test(test_plain_facts),
		cmocka_unit_test(test_sleep_takes_its_time),
		cmocka_unit_test(test_sleep_does_not_begin_when_stopped),
		cmocka_unit_test(test_stop_wakes_every_thread),
		cmocka_unit_test(test_stop_from_another_process),
	};
	return cmocka_run_group_tests_name("task_context", tests, NULL, NULL);
}
