/*
 * Events per second over the last 1, 10 and 60 whole seconds, in 61 counters of a second each: the
 * second that is still running is not counted, so a rate never dips because a second has only
 * begun. Thread: one owner.
 */
#ifndef BASE_RATE_H
#define BASE_RATE_H

#include <stdint.h>

#define RATE_SECONDS 64 /* a power of two above 61 */

struct rate {
	int64_t second;	 /* the monotonic second that counts[second % RATE_SECONDS] belongs to */
	int64_t started; /* the second of rate_init(): shorter lives divide by what has passed */
	uint64_t counts[RATE_SECONDS];
};

void rate_init(struct rate *rate, int64_t now_ns);
void rate_add(struct rate *rate, int64_t now_ns, uint64_t events);

/* Mean of the last `seconds` whole seconds (1 to 60), or of as many as have passed since
 * rate_init(); 0 in the first. */
double rate_per_second(const struct rate *rate, int64_t now_ns, int seconds);

#endif
