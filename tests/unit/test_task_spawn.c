/*
 * The built-in tasks that serve to show deadlines and the end of what jobs leave behind: spawn and
 * spin. What is left behind is ended here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/children.h"
#include "base/clock.h"
#include "base/json.h"
#include "task/context.h"

static struct config config;
static struct registry registry;
static _Atomic uint32_t stop;

struct outcome {
	int status;
	bool stopped;
	json_t *result;
	char output[2048];
	size_t output_length;
};

static int keep_output(struct tp_context *ctx, enum tp_stream stream, const void *data,
		       size_t length)
{
	struct outcome *outcome = ctx->host_data;

	assert_int_equal(stream, TP_STDOUT);
	assert_true(outcome->output_length + length < sizeof(outcome->output));
	memcpy(outcome->output + outcome->output_length, data, length);
	outcome->output_length += length;
	return 0;
}

static void run(const char *name, const char *text, struct outcome *ret_outcome)
{
	struct outcome outcome = {0};
	struct error error;
	const struct task *task = registry_find(&registry, name);
	json_t *args = NULL;

	assert_non_null(task);
	assert_int_equal(json_parse(text, strlen(text), &args, &error), 0);
	assert_int_equal(schema_check(task->args_schema, args, true, "args", &error), 0);
	struct tp_context ctx = {.task = task,
				 .pool = "process",
				 .attempt = 1,
				 .is_process = true,
				 .stop = &stop,
				 .write = keep_output,
				 .host_data = &outcome};
	outcome.status = task->definition->run(&ctx, args);
	outcome.stopped = ctx.stopped;
	outcome.result = json_incref(ctx.result);
	context_release(&ctx);
	json_decref(args);
	*ret_outcome = outcome;
}

static int set_up(void **state)
{
	struct error error;

	(void)state;
	return registry_build(&config, &registry, &error) < 0 ||
	       prctl(PR_SET_CHILD_SUBREAPER, 1) < 0;
}

static int tear_down(void **state)
{
	(void)state;
	registry_release(&registry);
	return 0;
}

/* Of a thread: asks to stop in a while. */
static void *stop_later(void *data)
{
	const struct timespec pause = {.tv_nsec = 50 * NS_PER_MS};

	(void)data;
	nanosleep(&pause, NULL);
	atomic_store(&stop, 1);
	syscall(SYS_futex, &stop, FUTEX_WAKE, 1, NULL, NULL, 0);
	return NULL;
}

/* Runs, and asks to stop 50 ms later: milliseconds that it took. */
static int64_t run_and_stop(const char *name, const char *text, struct outcome *ret_outcome)
{
	pthread_t thread;
	int64_t begin_ns = clock_monotonic_ns();

	assert_int_equal(pthread_create(&thread, NULL, stop_later, NULL), 0);
	run(name, text, ret_outcome);
	int64_t took_ns = clock_monotonic_ns() - begin_ns;
	pthread_join(thread, NULL);
	atomic_store(&stop, 0);
	return took_ns / NS_PER_MS;
}

/* The pids of the result: that many, as printed, all alive. */
static void check_pids(const struct outcome *outcome, size_t count, pid_t *ret_pids)
{
	const json_t *pids = json_object_get(outcome->result, "pids");
	char wanted[sizeof(outcome->output)] = "";
	size_t length = 0;

	assert_int_equal(outcome->status, 0);
	assert_int_equal(json_array_size(pids), count);
	for (size_t i = 0; i < count; i++) {
		ret_pids[i] = (pid_t)json_integer_value(json_array_get(pids, i));
		assert_true(ret_pids[i] > 0);
		assert_int_equal(kill(ret_pids[i], 0), 0);
		length += (size_t)snprintf(wanted + length, sizeof(wanted) - length, "%d\n",
					   (int)ret_pids[i]);
	}
	assert_int_equal(outcome->output_length, length);
	assert_memory_equal(outcome->output, wanted, length);
}

static int end_all(void)
{
	return children_end(NULL, NULL, clock_monotonic_ns() + 10 * NS_PER_S);
}

static void test_spawn_leaves_children(void **state)
{
	struct outcome outcome;
	pid_t pids[3];

	(void)state;
	run("spawn", "{\"children\": 3}", &outcome);
	check_pids(&outcome, 3, pids);
	json_decref(outcome.result);
	for (int i = 0; i < 3; i++)
		assert_int_equal(getsid(pids[i]), getsid(0));
	assert_int_equal(kill(pids[0], SIGTERM), 0);
	assert_int_equal(end_all(), 3);
}

static void test_spawn_leaves_daemons_that_ignore_SIGTERM(void **state)
{
	struct outcome outcome;
	pid_t pids[200];

	(void)state;
	run("spawn", "{\"children\": 200, \"how\": \"daemon\", \"ignore_term\": true}", &outcome);
	check_pids(&outcome, 200, pids);
	json_decref(outcome.result);
	for (int i = 0; i < 200; i++) {
		assert_int_not_equal(getsid(pids[i]), getsid(0));
		assert_int_equal(kill(pids[i], SIGTERM), 0);
	}
	for (int i = 0; i < 200; i++)
		assert_int_equal(kill(pids[i], 0), 0);
	assert_int_equal(end_all(), 200);
}

static void test_spawned_processes_end_by_themselves(void **state)
{
	struct outcome outcome;
	siginfo_t info;

	(void)state;
	run("spawn", "{\"run_ms\": 20, \"wait\": true}", &outcome);
	assert_int_equal(outcome.status, 0);
	pid_t pid = (pid_t)json_integer_value(
		json_array_get(json_object_get(outcome.result, "pids"), 0));
	json_decref(outcome.result);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED), 0);
	assert_int_equal(info.si_code, CLD_EXITED);
	assert_int_equal(info.si_status, 0);
	assert_false(children_exist());
}

static void test_spawn_stops_or_holds(void **state)
{
	struct outcome outcome;

	(void)state;
	assert_in_range(run_and_stop("spawn", "{\"wait\": true}", &outcome), 0, 20000);
	assert_true(outcome.stopped);
	assert_null(outcome.result);
	assert_true(outcome.output_length > 0);
	assert_int_equal(end_all(), 1);

	assert_in_range(run_and_stop("spawn",
				     "{\"children\": 0, \"run_ms\": 200, \"wait\": true, "
				     "\"hold_stop\": true}",
				     &outcome),
			200, 20000);
	assert_false(outcome.stopped);
	assert_int_equal(outcome.status, 0);
	json_decref(outcome.result);
}

static int64_t cpu_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * 1000 + now.tv_nsec / NS_PER_MS;
}

static void test_spin_uses_the_cpu(void **state)
{
	struct outcome outcome;
	int64_t before_ms = cpu_ms();

	(void)state;
	run("spin", "{\"ms\": 100}", &outcome);
	assert_int_equal(outcome.status, 0);
	assert_true(json_real_value(json_object_get(outcome.result, "spun_ms")) >= 100.0);
	/* On a busy machine it gets less than the time. */
	assert_true(cpu_ms() - before_ms >= 5);
	json_decref(outcome.result);
}

static void test_spin_stops_or_goes_on(void **state)
{
	struct outcome outcome;

	(void)state;
	assert_in_range(run_and_stop("spin", "{\"ms\": 60000}", &outcome), 0, 20000);
	assert_true(outcome.stopped);
	assert_in_range(run_and_stop("spin", "{\"ms\": 200, \"ignore_stop\": true}", &outcome), 200,
			20000);
	assert_false(outcome.stopped);
	assert_int_equal(outcome.status, 0);
	json_decref(outcome.result);
}

static void test_who_is_enabled(void **state)
{
	(void)state;
	assert_false(registry_find(&registry, "spawn")->enabled);
	assert_true(registry_find(&registry, "spin")->enabled);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spawn_leaves_children),
		cmocka_unit_test(test_spawn_leaves_daemons_that_ignore_SIGTERM),
		cmocka_unit_test(test_spawned_processes_end_by_themselves),
		cmocka_unit_test(test_spawn_stops_or_holds),
		cmocka_unit_test(test_spin_uses_the_cpu),
		cmocka_unit_test(test_spin_stops_or_goes_on),
		cmocka_unit_test(test_who_is_enabled),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
