/* What measurements come to in words and figures, from rounds that are made up. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "compare/result.h"

#define MIB INT64_C(1048576)

static struct round rounds_of_a[3], rounds_of_b[3];
static struct contender contenders[2];
static struct trial trial;

/* a is twice as fast as b and has 9 MiB more, give or take a little. */
static int set_up(void **state)
{
	static const int64_t walls_of_a[] = {100, 101, 99};
	static const int64_t walls_of_b[] = {200, 199, 201};

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		rounds_of_a[i] = (struct round){.repeat = i + 1,
						.jobs = 10,
						.succeeded = 10,
						.wall_ns = walls_of_a[i] * NS_PER_MS,
						.serial_jobs = 5,
						.serial_ns = walls_of_a[i] * NS_PER_MS,
						.run_p50_ns = 1e6,
						.cpu_ns = 10 * NS_PER_MS,
						.memory = {20 * MIB, 12 * MIB + i, 8 * MIB}};
		rounds_of_b[i] = rounds_of_a[i];
		rounds_of_b[i].wall_ns = walls_of_b[i] * NS_PER_MS;
		rounds_of_b[i].memory.pss_bytes = 3 * MIB;
	}
	contenders[0] = (struct contender){
		.name = "a", .rounds = rounds_of_a, .round_count = 3, .base = TRIAL_NONE};
	contenders[1] = (struct contender){
		.name = "b", .rounds = rounds_of_b, .round_count = 3, .base = TRIAL_NONE};
	trial = (struct trial){.contenders = contenders, .contender_count = 2};
	return 0;
}

static void assert_verdict(const char *wanted)
{
	char *text = result_verdict(&trial);

	assert_non_null(text);
	if (!strstr(text, wanted))
		fail_msg("found \"%s\", wanted \"%s\"", text, wanted);
	free(text);
}

static void test_the_faster_one_comes_first(void **state)
{
	(void)state;
	assert_verdict("a is 2.00× as fast as b (95 % CI 1.93–2.08) and uses 9.00 MiB more memory");
	contenders[0].rounds = rounds_of_b;
	contenders[1].rounds = rounds_of_a;
	assert_verdict("b is 2.00× as fast as a (95 % CI 1.93–2.08) and uses 9.00 MiB more memory");
	rounds_of_a[0].memory.pss_bytes = rounds_of_a[1].memory.pss_bytes =
		rounds_of_a[2].memory.pss_bytes = 2 * MIB;
	assert_verdict("and uses 1.00 MiB less memory");
}

static void test_what_cannot_be_told_apart(void **state)
{
	(void)state;
	rounds_of_b[0].wall_ns = 100 * NS_PER_MS;
	rounds_of_b[1].wall_ns = 110 * NS_PER_MS;
	rounds_of_b[2].wall_ns = 90 * NS_PER_MS;
	assert_verdict("a and b cannot be told apart in speed (ratio ");
	assert_verdict("; a uses 9.00 MiB more memory");
	rounds_of_b[0].memory.pss_bytes = 30 * MIB;
	assert_verdict("; in memory they cannot be told apart.");
}

static void test_one_repeat_tells_nothing(void **state)
{
	(void)state;
	contenders[0].round_count = contenders[1].round_count = 1;
	assert_verdict("no difference can be told from chance");
}

static void test_only_common_repeats_count(void **state)
{
	struct statistics_interval interval;

	(void)state;
	rounds_of_b[1].succeeded = 0;
	assert_true(
		result_difference(&contenders[0], &contenders[1], FIGURE_THROUGHPUT, &interval));
	assert_true(fabs(interval.value - sqrt(2.0 * 201 / 99)) < 1e-9);
	rounds_of_b[0].succeeded = rounds_of_b[2].succeeded = 0;
	contenders[1].by_state[JOB_FAILED] = 30;
	assert_false(
		result_difference(&contenders[0], &contenders[1], FIGURE_THROUGHPUT, &interval));
	assert_verdict("cannot be compared");
	assert_verdict("On b, 30 of 30 jobs did not succeed");
}

/* Five jobs one at a time took as long as ten at once: twice the throughput. */
static void test_speedup(void **state)
{
	struct statistics_interval speedup;

	(void)state;
	assert_true(result_speedup(&trial, &contenders[0], &speedup));
	assert_true(fabs(speedup.value - 2) < 1e-9);
	contenders[0].base = 1;
	assert_true(result_speedup(&trial, &contenders[0], &speedup));
	assert_true(fabs(speedup.value - 2) < 1e-3);
	rounds_of_b[0].serial_jobs = rounds_of_b[1].serial_jobs = rounds_of_b[2].serial_jobs = 0;
	assert_false(result_speedup(&trial, &contenders[1], &speedup));
}

static void test_noise(void **state)
{
	struct noise noise = {.gauged = 1,
			      .own_cpu_ns = 95,
			      .machine = {.taken_ns = 100,
					  .busy_ns = 100,
					  .total_ns = 100,
					  .steal_ns = 1,
					  .throttled_periods = MACHINE_UNKNOWN,
					  .throttled_ns = MACHINE_UNKNOWN}};

	(void)state;
	assert_true(result_is_quiet(&noise));
	noise.machine.pressure_ns[MACHINE_CPU] = 100; /* the jobs' own doing */
	assert_true(result_is_quiet(&noise));
	noise.machine.steal_ns = 2;
	assert_false(result_is_quiet(&noise));
	noise.machine.steal_ns = MACHINE_UNKNOWN;
	assert_true(result_is_quiet(&noise));
	noise.own_cpu_ns = 80;
	assert_false(result_is_quiet(&noise));
	noise.own_cpu_ns = METERING_UNKNOWN;
	noise.machine.throttled_periods = 1;
	assert_false(result_is_quiet(&noise));
	noise.machine.throttled_periods = 0;
	noise.other_jobs = 1;
	trial.noise = noise;
	assert_verdict("The machine was not quiet");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_the_faster_one_comes_first, set_up),
		cmocka_unit_test_setup(test_what_cannot_be_told_apart, set_up),
		cmocka_unit_test_setup(test_one_repeat_tells_nothing, set_up),
		cmocka_unit_test_setup(test_only_common_repeats_count, set_up),
		cmocka_unit_test_setup(test_speedup, set_up),
		cmocka_unit_test_setup(test_noise, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
