/*
 * Events per second.
 *
 * Invariant: counts[s % RATE_SECONDS] belongs to second s for each s with second - RATE_SECONDS < s
 * <= second.
 */
#include "base/rate.h"

#include <string.h>

#include "base/clock.h"

static uint64_t *count_of(struct rate *rate, int64_t second)
{
	return &rate->counts[(uint64_t)second % RATE_SECONDS];
}

void rate_init(struct rate *rate, int64_t now_ns)
{
	memset(rate, 0, sizeof(*rate));
	rate->second = now_ns / NS_PER_S;
	rate->started = rate->second;
}

void rate_add(struct rate *rate, int64_t now_ns, uint64_t events)
{
	int64_t second = now_ns / NS_PER_S;

	/* An event stamped a little before one that was added already counts in the running second.
	 */
	if (second > rate->second) {
		if (second - rate->second >= RATE_SECONDS)
			memset(rate->counts, 0, sizeof(rate->counts));
		else
			for (int64_t s = rate->second + 1; s <= second; s++)
				*count_of(rate, s) = 0;
		rate->second = second;
	}
	*count_of(rate, rate->second) += events;
}

double rate_per_second(const struct rate *rate, int64_t now_ns, int seconds)
{
	int64_t now = now_ns / NS_PER_S;
	int64_t passed = now - rate->started;
	int64_t span = seconds < passed ? seconds : passed;
	uint64_t events = 0;

	if (span <= 0)
		return 0;
	for (int64_t s = now - span; s < now; s++)
		if (s <= rate->second && s > rate->second - RATE_SECONDS)
			events += rate->counts[(uint64_t)s % RATE_SECONDS];
	return (double)events / (double)span;
}
