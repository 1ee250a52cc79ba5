/*
 * Quantiles, Student's t and its intervals against values of printed tables and against worked
 * examples.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/statistics.h"
#include "random.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void assert_near(double found, double wanted, double tolerance)
{
	if (!(fabs(found - wanted) <= tolerance))
		fail_msg("found %.9g, wanted %.9g", found, wanted);
}

/* R: quantile(c(1, 2, 4, 8, 16), c(0, .25, .5, .9, .95, 1)). */
static void test_quantiles(void **state)
{
	double values[] = {16, 1, 8, 2, 4};
	const double one[] = {7};

	(void)state;
	statistics_sort(values, COUNT(values));
	assert_near(statistics_quantile(values, COUNT(values), 0), 1, 0);
	assert_near(statistics_quantile(values, COUNT(values), 0.25), 2, 0);
	assert_near(statistics_quantile(values, COUNT(values), 0.5), 4, 0);
	assert_near(statistics_quantile(values, COUNT(values), 0.9), 12.8, 1e-12);
	assert_near(statistics_quantile(values, COUNT(values), 0.95), 14.4, 1e-12);
	assert_near(statistics_quantile(values, COUNT(values), 1), 16, 0);
	assert_near(statistics_quantile(one, 1, 0.99), 7, 0);
}

static void test_median(void **state)
{
	double odd[] = {5, 1, 3};
	double even[] = {4, 1, 3, 2};

	(void)state;
	assert_near(statistics_median(odd, COUNT(odd)), 3, 0);
	assert_near(statistics_median(even, COUNT(even)), 2.5, 0);
	assert_near(statistics_mean(even, COUNT(even)), 2.5, 1e-15);
}

/* Two-sided bounds, as tables of the t distribution print them. */
static void test_t_against_tables(void **state)
{
	static const struct {
		double probability;
		unsigned int degrees;
		double bound;
	} table[] = {
		{0.95, 1, 12.7062},  {0.95, 2, 4.30265},   {0.95, 3, 3.18245},	{0.95, 4, 2.77645},
		{0.95, 5, 2.57058},  {0.95, 9, 2.26216},   {0.95, 10, 2.22814}, {0.95, 29, 2.04523},
		{0.95, 30, 2.04227}, {0.95, 120, 1.97993}, {0.99, 1, 63.6567},	{0.99, 2, 9.92484},
		{0.99, 5, 4.03214},  {0.90, 7, 1.89458},   {0.50, 4, 0.740697}, {0.999, 3, 12.9240},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		double bound = statistics_t_bound(table[i].probability, table[i].degrees);
		assert_near(bound, table[i].bound, table[i].bound * 5e-6);
		assert_near(statistics_t_within(bound, table[i].degrees), table[i].probability,
			    1e-9);
	}
}

/* Student's own example, of the additional sleep by two drugs: the mean of the differences is 1.58,
 * its 95 % interval 0.7001 to 2.4599 (R: t.test(sleep$extra paired)). */
static void test_paired_difference(void **state)
{
	static const double first[] = {0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0};
	static const double second[] = {1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4};
	struct statistics_interval interval = statistics_difference(second, first, COUNT(first));

	(void)state;
	assert_true(interval.has_bounds);
	assert_near(interval.value, 1.58, 1e-12);
	assert_near(interval.low, 0.7001142, 1e-6);
	assert_near(interval.high, 2.4598858, 1e-6);
	assert_true(statistics_tells(&interval, 0));
	assert_false(statistics_tells(&interval, 1));
}

/* Logarithms 0, 0.1, 0.2: mean 0.1, standard error 0.1 / sqrt(3), t = 4.30265. */
static void test_ratio(void **state)
{
	const double a[] = {1, exp(0.1) * 3, exp(0.2) * 5};
	const double b[] = {1, 3, 5};
	double reach = 4.302652730 * 0.1 / sqrt(3);
	struct statistics_interval interval;
	struct statistics_interval inverse;

	(void)state;
	assert_true(statistics_ratio(a, b, 3, &interval));
	assert_near(interval.value, exp(0.1), 1e-12);
	assert_near(interval.low, exp(0.1 - reach), 1e-8);
	assert_near(interval.high, exp(0.1 + reach), 1e-8);
	assert_false(statistics_tells(&interval, 1));
	assert_true(statistics_ratio(b, a, 3, &inverse));
	assert_near(inverse.value, 1 / interval.value, 1e-12);
	assert_near(inverse.low, 1 / interval.high, 1e-8);
}

static void test_too_few(void **state)
{
	const double a[] = {6, 0};
	const double b[] = {3, 1};
	struct statistics_interval interval = {.value = -5};

	(void)state;
	assert_false(statistics_ratio(a, b, 2, &interval));
	assert_near(interval.value, -5, 0);
	assert_true(statistics_ratio(a, b, 1, &interval));
	assert_near(interval.value, 2, 1e-12);
	assert_false(interval.has_bounds);
	assert_false(statistics_tells(&interval, 1));
}

/* An interval of 95 % misses the truth about once in twenty times: of 2000 samples of four sums of
 * twelve uniform numbers, 100 are to be expected, and three standard deviations are 29. */
static void test_coverage(void **state)
{
	int missed = 0;

	(void)state;
	for (int round = 0; round < 2000; round++) {
		double values[4];
		for (size_t i = 0; i < COUNT(values); i++) {
			values[i] = 0;
			for (int j = 0; j < 12; j++)
				values[i] += (double)(random_next() >> 11) / 9007199254740992.0;
		}
		struct statistics_interval interval =
			statistics_mean_interval(values, COUNT(values));
		missed += interval.low > 6 || interval.high < 6;
	}
	assert_in_range(missed, 60, 140);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quantiles),
		cmocka_unit_test(test_median),
		cmocka_unit_test(test_t_against_tables),
		cmocka_unit_test(test_paired_difference),
		cmocka_unit_test(test_ratio),
		cmocka_unit_test(test_too_few),
		cmocka_unit_test(test_coverage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
