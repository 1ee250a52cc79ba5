/*
 * Statistics of small samples: what a comparison needs, and no more.
 *
 * Quantiles are type 7 of Hyndman and Fan, "Sample Quantiles in Statistical Packages", The American
 * Statistician 50 (1996): linear between the order statistics, the default of R and NumPy.
 *
 * Intervals are Student's t intervals of paired figures (Student, "The Probable Error of a Mean",
 * Biometrika 6, 1908): two things are measured in turn, repeat by repeat, so what a repeat has in
 * common, such as the machine's clock or its other load, is in both figures and drops out of their
 * difference; single runs within a repeat are not independent of each other, repeats nearly are, so
 * it is the repeats that are counted. Of a ratio, the logarithms are taken, which makes the
 * interval that of a geometric mean: by how much more a is than b is then the reciprocal of how
 * much more b is than a.
 *
 * The distribution of t for n degrees of freedom is the finite series 26.7.3 and 26.7.4 of
 * Abramowitz and Stegun, Handbook of Mathematical Functions (1964).
 *
 * Thread: any; nothing is kept.
 */
#ifndef BASE_STATISTICS_H
#define BASE_STATISTICS_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

/* A figure that is not there. */
#define STATISTICS_UNKNOWN ((double)NAN)

/* A figure, and where it lies with a confidence of 95 %. */
struct statistics_interval {
	double value;
	double low; /* valid if has_bounds */
	double high;
	bool has_bounds; /* from two repeats on */
};

/* Sorts ascending; no NaN. */
void statistics_sort(double *values, size_t count);

/* Of sorted values, count at least 1; 0 <= quantile <= 1. */
double statistics_quantile(const double *sorted, size_t count, double quantile);

double statistics_mean(const double *values, size_t count); /* count at least 1 */

/* The median of values in any order, count at least 1; they are sorted by it. */
double statistics_median(double *values, size_t count);

/* The probability that |t| <= value, of a t of so many degrees of freedom (at least 1). */
double statistics_t_within(double value, unsigned int degrees);

/* What |t| does not exceed with this probability, 0 < probability < 1. */
double statistics_t_bound(double probability, unsigned int degrees);

/* The mean of differences, and its interval. count at least 1. */
struct statistics_interval statistics_mean_interval(const double *values, size_t count);

/* The mean of a[i] - b[i]. */
struct statistics_interval statistics_difference(const double *a, const double *b, size_t count);

/* The geometric mean of a[i] / b[i]. All of them above 0, else false and *ret_interval untouched. */
bool statistics_ratio(const double *a, const double *b, size_t count,
		      struct statistics_interval *ret_interval);

/* Whether an interval tells its figure from this value. */
bool statistics_tells(const struct statistics_interval *interval, double from);

#endif
