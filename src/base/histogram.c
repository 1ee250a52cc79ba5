/*
 * A log-linear histogram.
 *
 * With v a value in units and S = 2^HISTOGRAM_SUB_BITS: buckets 0 to S - 1 hold one unit each; from
 * v = S on, each power of two has S buckets, the first digits of v after the leading one choosing
 * among them. A bucket is thus never wider than 1/S of the least value in it, or than one unit.
 */
#include "base/histogram.h"

#include <stddef.h>
#include <string.h>

#include "base/clock.h"

#define SUB_COUNT   (1u << HISTOGRAM_SUB_BITS)
#define LAST_BUCKET ((size_t)HISTOGRAM_BUCKETS - 1)

#define US(n) ((n)*NS_PER_US)
#define MS(n) ((n)*NS_PER_MS)
#define S(n)  ((n)*NS_PER_S)

const int64_t histogram_bounds_ns[HISTOGRAM_BOUNDS] = {
	US(10),		US(25), US(50), US(100), US(250), US(500), MS(1),   MS(2) + US(500),
	MS(5),		MS(10), MS(25), MS(50),	 MS(100), MS(250), MS(500), S(1),
	S(2) + MS(500), S(5),	S(10),	S(30),	 S(60),	  S(300),  S(900),  S(3600),
};

static size_t bucket_of(int64_t value_ns)
{
	uint64_t units = (uint64_t)value_ns >> HISTOGRAM_UNIT_SHIFT;

	if (units < SUB_COUNT)
		return (size_t)units;

	unsigned shift = 63u - (unsigned)__builtin_clzll(units) - HISTOGRAM_SUB_BITS;
	size_t bucket = ((size_t)shift << HISTOGRAM_SUB_BITS) + (size_t)(units >> shift);
	return bucket < LAST_BUCKET ? bucket : LAST_BUCKET;
}

/* The place of the first bound that is not below the value; HISTOGRAM_BOUNDS if all are. */
static size_t place_of(int64_t value_ns)
{
	size_t low = 0, high = HISTOGRAM_BOUNDS;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (histogram_bounds_ns[middle] < value_ns)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The greatest value of a bucket that is not the last. */
static int64_t upper_edge(size_t bucket)
{
	uint64_t units = bucket + 1;

	if (bucket >= SUB_COUNT) {
		size_t shift = (bucket >> HISTOGRAM_SUB_BITS) - 1;

		units = (bucket + 1 - (shift << HISTOGRAM_SUB_BITS)) << shift;
	}
	return (int64_t)(units << HISTOGRAM_UNIT_SHIFT) - 1;
}

static void add_saturating(uint32_t *count, uint32_t more)
{
	if (__builtin_add_overflow(*count, more, count))
		*count = UINT32_MAX;
}

void histogram_reset(struct histogram *histogram)
{
	memset(histogram, 0, sizeof(*histogram));
	histogram->min_ns = INT64_MAX;
}

void histogram_record(struct histogram *histogram, int64_t value_ns)
{
	if (value_ns < 0)
		value_ns = 0;
	histogram->count++;
	histogram->sum_ns += (uint64_t)value_ns;
	if (value_ns < histogram->min_ns)
		histogram->min_ns = value_ns;
	if (value_ns > histogram->max_ns)
		histogram->max_ns = value_ns;
	add_saturating(&histogram->buckets[bucket_of(value_ns)], 1);
	histogram->between[place_of(value_ns)]++;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
	into->count += from->count;
	into->sum_ns += from->sum_ns;
	if (from->min_ns < into->min_ns)
		into->min_ns = from->min_ns;
	if (from->max_ns > into->max_ns)
		into->max_ns = from->max_ns;
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		add_saturating(&into->buckets[i], from->buckets[i]);
	for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++)
		into->between[i] += from->between[i];
}

/* The rank, from 1, of the value that a quantile names. A millionth is taken off so that 0.07 of
 * 100 is 7 and not, for want of a double that is 0.07, 8. */
static uint64_t rank_of(double quantile, uint64_t total)
{
	double exact = quantile * (double)total - 1e-6;

	if (!(exact > 1))
		return 1;
	if (exact >= (double)total)
		return total;
	uint64_t rank = (uint64_t)exact;
	return (double)rank < exact ? rank + 1 : rank;
}

int64_t histogram_quantile(const struct histogram *histogram, double quantile)
{
	uint64_t total = 0, passed = 0;
	size_t bucket = 0;

	/* Not count: a bucket that is saturated would push every quantile towards the maximum. */
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		total += histogram->buckets[i];
	if (total == 0)
		return 0;

	uint64_t rank = rank_of(quantile, total);
	while (bucket < LAST_BUCKET) {
		passed += histogram->buckets[bucket];
		if (passed >= rank)
			break;
		bucket++;
	}
	if (bucket == LAST_BUCKET || upper_edge(bucket) > histogram->max_ns)
		return histogram->max_ns;
	return upper_edge(bucket);
}
