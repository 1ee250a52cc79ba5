/* See statistics.h. Values below count are finite; sums are short, so they are plain ones. */
#include "base/statistics.h"

#include <math.h>
#include <stdlib.h>

#define CONFIDENCE 0.95
#define PI	   3.14159265358979323846

static int compare(const void *left, const void *right)
{
	double a = *(const double *)left;
	double b = *(const double *)right;

	return (a > b) - (a < b);
}

void statistics_sort(double *values, size_t count)
{
	if (count > 1)
		qsort(values, count, sizeof(*values), compare);
}

double statistics_quantile(const double *sorted, size_t count, double quantile)
{
	double place = quantile * (double)(count - 1);
	size_t below = (size_t)place;

	if (below + 1 >= count)
		return sorted[count - 1];
	return sorted[below] + (place - (double)below) * (sorted[below + 1] - sorted[below]);
}

double statistics_mean(const double *values, size_t count)
{
	double sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += values[i];
	return sum / (double)count;
}

double statistics_median(double *values, size_t count)
{
	statistics_sort(values, count);
	return statistics_quantile(values, count, 0.5);
}

/* --- Student's t ------------------------------------------------------------------------------ */

/* The series for an odd number of degrees, at the angle theta = atan(t / sqrt(degrees)). */
static double within_odd(double theta, unsigned int degrees)
{
	double cosine = cos(theta);
	double term = cosine;
	double sum = degrees > 1 ? term : 0;

	for (unsigned int k = 3; k + 2 <= degrees; k += 2) {
		term *= cosine * cosine * (double)(k - 1) / (double)k;
		sum += term;
	}
	return 2 / PI * (theta + sin(theta) * sum);
}

/* The same for an even number. */
static double within_even(double theta, unsigned int degrees)
{
	double square = cos(theta) * cos(theta);
	double term = 1;
	double sum = 1;

	for (unsigned int k = 2; k + 2 <= degrees; k += 2) {
		term *= square * (double)(k - 1) / (double)k;
		sum += term;
	}
	return sin(theta) * sum;
}

double statistics_t_within(double value, unsigned int degrees)
{
	double theta = atan(value / sqrt((double)degrees));

	return degrees % 2 ? within_odd(theta, degrees) : within_even(theta, degrees);
}

double statistics_t_bound(double probability, unsigned int degrees)
{
	double low = 0;
	double high = 1;

	while (statistics_t_within(high, degrees) < probability && high < 1e12)
		high *= 2;
	for (int i = 0; i < 200 && high - low > 1e-12 * high; i++) {
		double middle = (low + high) / 2;
		if (statistics_t_within(middle, degrees) < probability)
			low = middle;
		else
			high = middle;
	}
	return high;
}

/* --- intervals -------------------------------------------------------------------------------- */

static double squares_from(const double *values, size_t count, double mean)
{
	double sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += (values[i] - mean) * (values[i] - mean);
	return sum;
}

struct statistics_interval statistics_mean_interval(const double *values, size_t count)
{
	struct statistics_interval interval = {.value = statistics_mean(values, count)};

	if (count < 2)
		return interval;
	double squares = squares_from(values, count, interval.value);
	double error = sqrt(squares / (double)(count - 1) / (double)count);
	double reach = error * statistics_t_bound(CONFIDENCE, (unsigned int)(count - 1));
	interval.low = interval.value - reach;
	interval.high = interval.value + reach;
	interval.has_bounds = true;
	return interval;
}

/* The interval of f(i) over all i; memory is short: only its value, from the first pass. */
static struct statistics_interval of_pairs(const double *a, const double *b, size_t count,
					   double (*join)(double a, double b))
{
	double *joined = malloc(count * sizeof(*joined));
	struct statistics_interval interval = {0};

	if (!joined) {
		for (size_t i = 0; i < count; i++)
			interval.value += join(a[i], b[i]) / (double)count;
		return interval;
	}
	for (size_t i = 0; i < count; i++)
		joined[i] = join(a[i], b[i]);
	interval = statistics_mean_interval(joined, count);
	free(joined);
	return interval;
}

static double subtract(double a, double b)
{
	return a - b;
}

static double log_ratio(double a, double b)
{
	return log(a / b);
}

struct statistics_interval statistics_difference(const double *a, const double *b, size_t count)
{
	return of_pairs(a, b, count, subtract);
}

bool statistics_ratio(const double *a, const double *b, size_t count,
		      struct statistics_interval *ret_interval)
{
	for (size_t i = 0; i < count; i++)
		if (!(a[i] > 0) || !(b[i] > 0))
			return false;
	struct statistics_interval logs = of_pairs(a, b, count, log_ratio);
	*ret_interval = (struct statistics_interval){.value = exp(logs.value),
						     .low = exp(logs.low),
						     .high = exp(logs.high),
						     .has_bounds = logs.has_bounds};
	return true;
}

bool statistics_tells(const struct statistics_interval *interval, double from)
{
	return interval->has_bounds && (interval->low > from || interval->high < from);
}
