/*
 * The histogram against exact percentiles, the rate against counted events.
 */
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
#include "base/histogram.h"
#include "base/rate.h"
#include "random.h"

#define VALUES 5000

static const double quantiles[] = {0.0001, 0.01, 0.07, 0.1, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0};
static struct histogram histogram, other;
static int64_t values[VALUES];

static int compare_values(const void *a, const void *b)
{
	int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

	return (left > right) - (left < right);
}

/* The exact value, by the definition in the header; sorted values. */
static int64_t exact_quantile(size_t count, double quantile)
{
	size_t rank = (size_t)ceil(quantile * (double)count - 1e-6);

	return values[rank > 0 ? rank - 1 : 0];
}

static void assert_quantiles(size_t count)
{
	int64_t last = 0;

	qsort(values, count, sizeof(values[0]), compare_values);
	for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
		int64_t exact = exact_quantile(count, quantiles[i]);
		int64_t bound = exact / (1 << HISTOGRAM_SUB_BITS);
		int64_t found = histogram_quantile(&histogram, quantiles[i]);

		if (bound < 1 << HISTOGRAM_UNIT_SHIFT)
			bound = 1 << HISTOGRAM_UNIT_SHIFT;
		assert_true(found >= exact);
		assert_true(found - exact <= bound);
		assert_true(found <= values[count - 1]);
		assert_true(found >= last);
		last = found;
	}
}

/* A value of a random order of magnitude below 2^bits. */
static int64_t random_value(unsigned bits)
{
	return (int64_t)(random_next() >> (64 - 1 - random_below(bits)));
}

static void test_quantiles_of_random_values(void **state)
{
	(void)state;
	for (unsigned bits = 1; bits <= 51; bits += 5) {
		for (size_t count = 1; count <= VALUES; count = count * 3 + 1) {
			uint64_t sum = 0;

			histogram_reset(&histogram);
			for (size_t i = 0; i < count; i++) {
				values[i] = random_value(bits);
				sum += (uint64_t)values[i];
				histogram_record(&histogram, values[i]);
			}
			assert_quantiles(count);
			assert_int_equal(histogram.count, count);
			assert_int_equal(histogram.sum_ns, sum);
			assert_int_equal(histogram.min_ns, values[0]);
			assert_int_equal(histogram.max_ns, values[count - 1]);
		}
	}
}

/* Where the product of a quantile and a count is a whole number, though not quite in binary. */
static void test_whole_ranks(void **state)
{
	(void)state;
	histogram_reset(&histogram);
	for (int64_t i = 1; i <= 100; i++)
		histogram_record(&histogram, i * NS_PER_S);
	for (int64_t i = 1; i <= 16; i++) {
		int64_t found = histogram_quantile(&histogram, (double)i / 100);

		assert_true(found >= i * NS_PER_S && found < (i + 1) * NS_PER_S);
	}
}

/* Round each power of two, where an error of one in the arithmetic of the buckets would sit. */
static void test_edges_of_buckets(void **state)
{
	(void)state;
	for (unsigned bit = 0; bit <= 50; bit++) {
		for (int64_t near = -1; near <= 1; near++) {
			int64_t value = (INT64_C(1) << bit) + near;
			int64_t most = value / 32 > 1024 ? value / 32 : 1024;

			histogram_reset(&histogram);
			histogram_record(&histogram, value);
			histogram_record(&histogram, HISTOGRAM_MAX_NS);
			int64_t found = histogram_quantile(&histogram, 0.5);
			assert_true(found >= value && found - value <= most);
		}
	}
}

/* How many of the values are at most the bound, counted one by one. */
static uint64_t count_within(int64_t bound_ns)
{
	uint64_t within = 0;

	for (size_t i = 0; i < VALUES; i++)
		within += values[i] <= bound_ns;
	return within;
}

/* Values on the bounds, one beside them, and anywhere: what is between them is counted exactly, also
 * after merging. */
static void test_between_bounds(void **state)
{
	uint64_t within = 0;

	(void)state;
	histogram_reset(&histogram);
	histogram_reset(&other);
	for (size_t i = 0; i < VALUES; i++) {
		values[i] = random_value(46);
		if (i < 3 * (size_t)HISTOGRAM_BOUNDS)
			values[i] = histogram_bounds_ns[i / 3] + (int64_t)(i % 3) - 1;
		histogram_record(i % 2 ? &histogram : &other, values[i]);
	}
	histogram_merge(&histogram, &other);
	for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
		assert_true(i == 0 || histogram_bounds_ns[i] > histogram_bounds_ns[i - 1]);
		within += histogram.between[i];
		assert_int_equal(within, count_within(histogram_bounds_ns[i]));
	}
	assert_true(histogram.between[HISTOGRAM_BOUNDS] > 0);
	assert_int_equal(within + histogram.between[HISTOGRAM_BOUNDS], VALUES);
}

static void test_out_of_range(void **state)
{
	(void)state;
	histogram_reset(&histogram);
	assert_int_equal(histogram_quantile(&histogram, 0.5), 0);
	assert_int_equal(histogram.min_ns, INT64_MAX);
	histogram_record(&histogram, -5);
	assert_int_equal(histogram.min_ns, 0);
	assert_int_equal(histogram.max_ns, 0);
	assert_int_equal(histogram_quantile(&histogram, 1.0), 0);

	histogram_record(&histogram, INT64_MAX);
	assert_int_equal(histogram.max_ns, INT64_MAX);
	assert_int_equal(histogram.sum_ns, INT64_MAX);
	assert_int_equal(histogram_quantile(&histogram, 1.0), INT64_MAX);
	assert_true(histogram_quantile(&histogram, 0.5) < 1024);
	assert_int_equal(histogram.buckets[HISTOGRAM_BUCKETS - 1], 1);
}

static void test_merge(void **state)
{
	(void)state;
	histogram_reset(&histogram);
	histogram_reset(&other);
	for (size_t i = 0; i < VALUES; i++) {
		values[i] = random_value(40);
		histogram_record(i % 3 ? &histogram : &other, values[i]);
	}
	histogram_merge(&histogram, &other);
	assert_int_equal(histogram.count, VALUES);
	assert_quantiles(VALUES);
	assert_int_equal(histogram.min_ns, values[0]);
	assert_int_equal(histogram.max_ns, values[VALUES - 1]);

	/* merging an empty one changes nothing */
	struct histogram before = histogram;
	histogram_reset(&other);
	histogram_merge(&histogram, &other);
	assert_memory_equal(&before, &histogram, sizeof(before));
}

static void test_saturation(void **state)
{
	(void)state;
	histogram_reset(&histogram);
	histogram_record(&histogram, 0);
	histogram.buckets[0] = UINT32_MAX;
	histogram_record(&histogram, 0);
	assert_int_equal(histogram.buckets[0], UINT32_MAX);
	histogram_reset(&other);
	histogram_record(&other, 0);
	histogram_record(&other, NS_PER_S);
	histogram_merge(&histogram, &other);
	assert_int_equal(histogram.buckets[0], UINT32_MAX);
	assert_true(histogram_quantile(&histogram, 0.99) < 1024);
	assert_int_equal(histogram_quantile(&histogram, 1.0), NS_PER_S);
}

static void assert_rate(const struct rate *rate, int64_t now_ns, int seconds, double expected)
{
	double found = rate_per_second(rate, now_ns, seconds);

	if (fabs(found - expected) > 1e-9)
		fail_msg("rate over %d s is %f, not %f", seconds, found, expected);
}

static void test_rate_of_a_young_one(void **state)
{
	int64_t start = 1000 * NS_PER_S + NS_PER_S / 2;
	struct rate rate;

	(void)state;
	rate_init(&rate, start);
	rate_add(&rate, start, 8);
	assert_rate(&rate, start, 1, 0);
	assert_rate(&rate, start + NS_PER_S / 4, 60, 0);
	assert_rate(&rate, start + NS_PER_S, 1, 8);
	assert_rate(&rate, start + NS_PER_S, 60, 8);
	assert_rate(&rate, start + 4 * NS_PER_S, 60, 2);
	assert_rate(&rate, start + 4 * NS_PER_S, 1, 0);
}

static void test_rate_ignores_the_running_second(void **state)
{
	struct rate rate;

	(void)state;
	rate_init(&rate, 0);
	for (int64_t second = 0; second < 300; second++)
		rate_add(&rate, second * NS_PER_S + 7, 10);
	assert_rate(&rate, 300 * NS_PER_S, 60, 10);
	rate_add(&rate, 300 * NS_PER_S, 1000000);
	assert_rate(&rate, 300 * NS_PER_S + 5, 1, 10);
	assert_rate(&rate, 300 * NS_PER_S + 5, 10, 10);
	assert_rate(&rate, 300 * NS_PER_S + 5, 60, 10);
	assert_rate(&rate, 301 * NS_PER_S, 1, 1000000);
	/* long silence, read without an event in between */
	assert_rate(&rate, 400 * NS_PER_S, 60, 0);
	assert_rate(&rate, 364 * NS_PER_S, 60, 0);
	rate_add(&rate, 400 * NS_PER_S, 60);
	assert_rate(&rate, 401 * NS_PER_S, 60, 1);
}

static void test_rate_random(void **state)
{
	static uint64_t counted[3000];
	static const int spans[] = {1, 10, 60};
	struct rate rate;
	int64_t second = 5;

	(void)state;
	rate_init(&rate, second * NS_PER_S);
	while (second < 2900) {
		uint64_t events = random_below(100);

		rate_add(&rate, second * NS_PER_S + (int64_t)random_below(NS_PER_S), events);
		counted[second] += events;
		if (random_below(3) == 0)
			second += (int64_t)random_below(random_below(20) == 0 ? 90 : 3);

		int64_t now = second + (int64_t)random_below(4);
		for (size_t i = 0; i < 3; i++) {
			int64_t span = now - 5 < spans[i] ? now - 5 : spans[i];
			uint64_t total = 0;

			for (int64_t s = now - span; s < now; s++)
				total += counted[s];
			assert_rate(&rate, now * NS_PER_S, spans[i],
				    span > 0 ? (double)total / (double)span : 0);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quantiles_of_random_values),
		cmocka_unit_test(test_whole_ranks),
		cmocka_unit_test(test_edges_of_buckets),
		cmocka_unit_test(test_between_bounds),
		cmocka_unit_test(test_out_of_range),
		cmocka_unit_test(test_merge),
		cmocka_unit_test(test_saturation),
		cmocka_unit_test(test_rate_of_a_young_one),
		cmocka_unit_test(test_rate_ignores_the_running_second),
		cmocka_unit_test(test_rate_random),
	};

	return cmocka_run_group_tests_name("base histogram and rate", tests, NULL, NULL);
}
