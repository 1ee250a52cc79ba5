/*
 * A histogram of durations with bounded memory and bounded relative error, after the idea of Gil
 * Tene's HdrHistogram (log-linear buckets: each power of two is divided into 2^HISTOGRAM_SUB_BITS
 * equal parts).
 *
 * Values are nanoseconds. The unit of the lowest buckets is 1 µs (2^10 ns); the error of a
 * percentile is never downwards and at most one unit or 1 / 2^HISTOGRAM_SUB_BITS of the value
 * (3.2 %), whichever is more; values beyond HISTOGRAM_MAX_NS (about 26 days) count in the last
 * bucket, while max and sum stay exact.
 *
 * Beside these, values are counted exactly between a few round bounds, for readers that know a
 * distribution by such bounds only. Thread: one owner.
 */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS   5
#define HISTOGRAM_UNIT_SHIFT 10 /* log2 of the lowest unit in ns */
#define HISTOGRAM_OCTAVES    37
#define HISTOGRAM_BUCKETS    ((HISTOGRAM_OCTAVES) << HISTOGRAM_SUB_BITS)
#define HISTOGRAM_MAX_NS                                                                           \
	((INT64_C(1) << (HISTOGRAM_UNIT_SHIFT + HISTOGRAM_SUB_BITS + HISTOGRAM_OCTAVES - 1)) - 1)

#define HISTOGRAM_BOUNDS 24
/* From 10 µs to an hour, rising. */
extern const int64_t histogram_bounds_ns[HISTOGRAM_BOUNDS];

struct histogram {
	uint64_t count;
	uint64_t sum_ns;
	int64_t min_ns; /* INT64_MAX while empty */
	int64_t max_ns;
	uint32_t buckets[HISTOGRAM_BUCKETS]; /* saturate at UINT32_MAX */
	/* [i]: values of at most histogram_bounds_ns[i], and above the bound before it; the last
	   one has what is above all bounds. Their sum is count. */
	uint64_t between[HISTOGRAM_BOUNDS + 1];
};

void histogram_reset(struct histogram *histogram);

/* Negative values count as 0. */
void histogram_record(struct histogram *histogram, int64_t value_ns);

/* Adds from to into. */
void histogram_merge(struct histogram *into, const struct histogram *from);

/* The least value that at least quantile (0 < q <= 1) of the values do not exceed, as the upper
 * edge of its bucket, never beyond max_ns; 0 while empty. */
int64_t histogram_quantile(const struct histogram *histogram, double quantile);

#endif
