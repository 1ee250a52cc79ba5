/* Shared blocks and their locks, memory of a run, and lines for the log: src/task/shared.c,
 * context.c. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "task/context.h"

#define PROCESSES  4
#define INCREMENTS 20000

static struct shared *shared;
static _Atomic uint32_t stop;

static struct tp_context new_context(void)
{
	return (struct tp_context){.pool = "process", .shared = shared, .stop = &stop};
}

static int set_up(void **state)
{
	(void)state;
	stop = 0;
	return shared_create(&shared);
}

static int tear_down(void **state)
{
	(void)state;
	shared_free(shared);
	shared = NULL;
	return 0;
}

static void test_a_name_is_a_block(void **state)
{
	(void)state;
	struct tp_context ctx = new_context();
	unsigned char *a = tp_shared_block(&ctx, "a", 100);
	unsigned char *b = tp_shared_block(&ctx, "b", 1);
	assert_non_null(a);
	assert_non_null(b);
	assert_true(b >= a + 100 || a >= b + 1);
	assert_int_equal((uintptr_t)a % 64, 0);
	assert_int_equal((uintptr_t)b % 64, 0);
	for (size_t i = 0; i < 100; i++) {
		assert_int_equal(a[i], 0);
	}
	assert_ptr_equal(tp_shared_block(&ctx, "a", 100), a);
	assert_ptr_equal(tp_shared_block(&ctx, "b", 1), b);
}

static void assert_no_block(const char *name, size_t size, int expected)
{
	struct tp_context ctx = new_context();
	errno = 0;
	assert_null(tp_shared_block(&ctx, name, size));
	assert_int_equal(errno, expected);
}

static void test_what_is_no_block(void **state)
{
	(void)state;
	struct tp_context ctx = new_context();
	char name[TP_SHARED_NAME_MAX + 2];
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_no_block("", 1, EINVAL);
	assert_no_block(name, 1, EINVAL);
	assert_no_block("a", 0, EINVAL);
	assert_no_block("a", TP_SHARED_BYTES + 1, ENOSPC);
	assert_no_block("a", SIZE_MAX, ENOSPC);
	name[TP_SHARED_NAME_MAX] = '\0';
	assert_non_null(tp_shared_block(&ctx, name, 8));
	assert_no_block(name, 9, EINVAL);
}

static void test_room_is_bounded(void **state)
{
	(void)state;
	struct tp_context ctx = new_context();
	assert_non_null(tp_shared_block(&ctx, "most", TP_SHARED_BYTES - 64));
	assert_no_block("more", 65, ENOSPC);
	assert_non_null(tp_shared_block(&ctx, "rest", 64));
	assert_no_block("one", 1, ENOSPC);
	assert_non_null(tp_shared_block(&ctx, "rest", 64));
}

static void test_blocks_are_bounded(void **state)
{
	(void)state;
	struct tp_context ctx = new_context();
	char name[16];
	for (int i = 0; i < TP_SHARED_BLOCKS_MAX; i++) {
		snprintf(name, sizeof(name), "%d", i);
		void *block = tp_shared_block(&ctx, name, 1);
		assert_non_null(block);
		if (i % 2 == 1) { /* ThreadSanitizer can tell no more than 63 at once */
			assert_int_equal(tp_lock(&ctx, block), 0);
		}
	}
	assert_no_block("another", 1, ENOSPC);
	assert_int_equal(shared_unlock_all(&ctx), TP_SHARED_BLOCKS_MAX / 2);
	assert_int_equal(shared_unlock_all(&ctx), 0);
}

static void test_lock_and_unlock(void **state)
{
	(void)state;
	struct tp_context ctx = new_context();
	struct tp_context other = new_context();
	char *block = tp_shared_block(&ctx, "a", 128);
	int elsewhere = 0;
	assert_int_equal(tp_unlock(&ctx, block), -EPERM);
	assert_int_equal(tp_lock(&ctx, block + 1), -EINVAL);
	assert_int_equal(tp_lock(&ctx, &elsewhere), -EINVAL);
	assert_int_equal(tp_lock(&ctx, NULL), -EINVAL);
	assert_int_equal(tp_lock(&ctx, block), 0);
	assert_int_equal(tp_lock(&ctx, block), -EDEADLK);
	assert_int_equal(tp_unlock(&other, block), -EPERM);
	assert_int_equal(tp_unlock(&ctx, block), 0);
	assert_int_equal(tp_lock(&ctx, block), 0);
	context_release(&ctx); /* as at the end of a run */
	assert_int_equal(tp_lock(&other, block), 0);
	context_release(&other);
}

static int wait_for(pid_t pid)
{
	int status = 0;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* Every process makes the blocks for itself; all at once. */
static void test_processes_count_without_a_loss(void **state)
{
	(void)state;
	struct tp_context ctx = new_context();
	pid_t pids[PROCESSES];
	for (size_t i = 0; i < PROCESSES; i++) {
		pids[i] = fork();
		if (pids[i] != 0) {
			continue;
		}
		volatile int64_t *value = tp_shared_block(&ctx, "count", sizeof(*value));
		for (int n = 0; n < INCREMENTS; n++) {
			int64_t *block = tp_shared_block(&ctx, "count", sizeof(*value));
			if (tp_lock(&ctx, block) != 0) {
				_exit(1);
			}
			*value = *value + 1;
			tp_unlock(&ctx, block);
		}
		_exit(0);
	}
	for (size_t i = 0; i < PROCESSES; i++) {
		assert_int_equal(wait_for(pids[i]), 0);
	}
	const int64_t *value = tp_shared_block(&ctx, "count", sizeof(*value));
	assert_int_equal(*value, PROCESSES * INCREMENTS);
}

static void test_a_dead_owner_is_told_once(void **state)
{
	(void)state;
	struct tp_context ctx = new_context();
	void *block = tp_shared_block(&ctx, "a", 8);
	pid_t pid = fork();
	if (pid == 0) {
		_exit(tp_lock(&ctx, block) == 0 ? 0 : 1);
	}
	assert_int_equal(wait_for(pid), 0);
	assert_int_equal(tp_lock(&ctx, block), TP_LOCK_OWNER_DIED);
	assert_int_equal(tp_unlock(&ctx, block), 0);
	assert_int_equal(tp_lock(&ctx, block), 0);
	assert_int_equal(tp_unlock(&ctx, block), 0);
}

static void test_waiting_ends_when_the_job_should_stop(void **state)
{
	(void)state;
	struct tp_context ctx = new_context();
	void *block = tp_shared_block(&ctx, "a", 8);
	int ready[2];
	char byte = 0;
	assert_int_equal(pipe(ready), 0);
	pid_t pid = fork();
	if (pid == 0) {
		close(ready[0]);
		byte = tp_lock(&ctx, block) == 0;
		(void)!write(ready[1], &byte, 1);
		for (;;) {
			pause();
		}
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(byte, 1);
	stop = 1;
	assert_int_equal(tp_lock(&ctx, block), -ECANCELED);
	assert_int_equal(tp_unlock(&ctx, block), -EPERM);
	kill(pid, SIGKILL);
	assert_int_equal(wait_for(pid), SIGKILL);
	close(ready[0]);
}

/* A hostile job may write anything there. What others get then lies within the memory all the same.
 * */
static void test_scribbles_do_not_lead_outside(void **state)
{
	(void)state;
	struct tp_context ctx = new_context();
	unsigned char *begin = (unsigned char *)shared;
	for (unsigned int fill = 1; fill < 256; fill += 2) {
		for (size_t at = 64; at < 64 + 4096; at += 4) {
			begin[at] = (unsigned char)fill;
		}
		char *block = tp_shared_block(&ctx, "b", 640);
		if (block != NULL) {
			assert_true((unsigned char *)block >= begin);
			assert_true((unsigned char *)block + 640 <= begin + shared_size());
		}
	}
}

static void test_memory_of_a_run(void **state)
{
	(void)state;
	struct tp_context ctx = new_context();
	for (size_t size = 0; size < 5000; size += 7) {
		char *memory = tp_alloc(&ctx, size);
		assert_non_null(memory);
		assert_int_equal((uintptr_t)memory % _Alignof(max_align_t), 0);
		for (size_t i = 0; i < size; i++) {
			assert_int_equal(memory[i], 0);
		}
		memset(memory, 1, size);
	}
	volatile size_t too_much = SIZE_MAX;
	assert_null(tp_alloc(&ctx, too_much));
	assert_int_equal(errno, ENOMEM);
	context_release(&ctx); /* LeakSanitizer sees whether that is all */
	assert_null(ctx.memory);
}

static char logged[2048];
static size_t logged_length;

static void keep_line(const struct tp_context *ctx, enum tp_log_level level, const char *text,
		      size_t length)
{
	(void)ctx;
	assert_int_equal(level, TP_LOG_WARNING);
	assert_true(length < sizeof(logged));
	memcpy(logged, text, length);
	logged_length = length;
}

static void test_log(void **state)
{
	(void)state;
	tp_log(NULL, TP_LOG_ERROR, "nobody hears this");
	context_set_log(keep_line);
	tp_log(NULL, TP_LOG_WARNING, "%d %s", 5, "things");
	assert_int_equal(logged_length, 8);
	assert_memory_equal(logged, "5 things", 8);
	tp_log(NULL, TP_LOG_WARNING, "%*s", 100000, "");
	assert_int_equal(logged_length, 1023);
	logged_length = 0;
	tp_log(NULL, TP_LOG_WARNING, "%s", "");
	assert_int_equal(logged_length, 0);
	struct tp_context ctx = new_context();
	assert_int_equal(tp_lock(&ctx, tp_shared_block(&ctx, "a", 1)), 0);
	context_release(&ctx);
	assert_true(logged_length > 0);
	context_set_log(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_name_is_a_block, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_no_block, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_room_is_bounded, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_blocks_are_bounded, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lock_and_unlock, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_processes_count_without_a_loss, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_a_dead_owner_is_told_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_waiting_ends_when_the_job_should_stop, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_scribbles_do_not_lead_outside, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_memory_of_a_run, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_log, set_up, tear_down),
	};
	return cmocka_run_group_tests_name("task_shared", tests, NULL, NULL);
}
