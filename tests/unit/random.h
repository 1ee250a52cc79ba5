/*
 * Random numbers for tests: xorshift64* with a fixed seed, so that a failure can be repeated.
 */
#ifndef TEST_RANDOM_H
#define TEST_RANDOM_H

#include <stddef.h>
#include <stdint.h>

static uint64_t random_state = UINT64_C(0x9e3779b97f4a7c15);

static inline uint64_t random_next(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * UINT64_C(0x2545f4914f6cdd1d);
}

/* 0 to limit - 1 */
static inline size_t random_below(size_t limit)
{
	return (size_t)((random_next() >> 16) % limit);
}

#endif
