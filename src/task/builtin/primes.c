/*
 * primes: counts the primes up to n by a segmented sieve of Eratosthenes: CPU-bound, with the same
 * small memory for every n.
 *
 * Only odd numbers are held: place i stands for 2i + 1. A segment is SEGMENT places long; base
 * primes are the odd primes up to the square root of n.
 *
 * Invariants, at the beginning of each segment:
 *   1. next[k] is the place, counted from the beginning of the segment, of the first odd multiple
 * of prime[k], from its square on, that has not been crossed out.
 *   2. Every composite before the segment has been crossed out.
 */
#include <stdlib.h>
#include <string.h>

#include "task/builtin/builtin.h"

#define SEGMENT	 32768u /* places, one byte each: fits a first-level cache */
#define REPORT	 16u	/* segments, about a millisecond of work, between two reports of progress */
#define BASE_MAX 4700u	/* there are 4647 odd primes up to 44721, the root of the largest n */

struct sieve {
	uint8_t composite[SEGMENT];
	uint32_t prime[BASE_MAX];
	uint32_t next[BASE_MAX];
	size_t base_count;
};

static uint32_t square_root(uint32_t n)
{
	uint32_t root = 0;
	while ((uint64_t)(root + 1) * (root + 1) <= n) {
		root++;
	}
	return root;
}

/* Finds the base primes in the first segment's memory, which is long enough for every root. */
static void find_base(struct sieve *sieve, uint32_t root)
{
	memset(sieve->composite, 0, sizeof(sieve->composite));
	sieve->base_count = 0;
	for (uint32_t i = 1; 2 * i + 1 <= root; i++) {
		if (sieve->composite[i] != 0) {
			continue;
		}
		uint32_t p = 2 * i + 1;
		uint32_t square = (p * p - 1) / 2;
		sieve->prime[sieve->base_count] = p;
		sieve->next[sieve->base_count] = square;
		sieve->base_count++;
		for (uint32_t j = square; 2 * j + 1 <= root; j += p) {
			sieve->composite[j] = 1;
		}
	}
}

/* Sieves the segment and counts what is left in its first `places` places. */
static uint32_t count_segment(struct sieve *sieve, uint32_t places)
{
	memset(sieve->composite, 0, sizeof(sieve->composite));
	for (size_t k = 0; k < sieve->base_count; k++) {
		uint32_t p = sieve->prime[k];
		uint32_t place = sieve->next[k];
		for (; place < SEGMENT; place += p) {
			sieve->composite[place] = 1;
		}
		sieve->next[k] = place - SEGMENT;
	}
	uint32_t crossed = 0;
	for (uint32_t i = 0; i < places; i++) {
		crossed += sieve->composite[i];
	}
	return places - crossed;
}

/* The number of primes up to n, or -1 if the job should stop. */
static int64_t count_primes(struct tp_context *ctx, struct sieve *sieve, uint32_t n)
{
	/* 1 is never crossed out though it is no prime; its place stands for 2, which has none. */
	uint32_t left = n < 2 ? 0 : (n + 1) / 2;
	bool reports = left > REPORT * SEGMENT;
	int64_t count = 0;
	find_base(sieve, square_root(n));
	for (uint32_t segment = 1; left > 0; segment++) {
		if (tp_should_stop(ctx)) {
			return -1;
		}
		uint32_t places = left < SEGMENT ? left : SEGMENT;
		count += count_segment(sieve, places);
		left -= places;
		if (reports && (segment % REPORT == 0 || left == 0)) {
			tp_progress(ctx, (int64_t)n - 2 * (int64_t)left, n, NULL);
		}
	}
	return count;
}

static int run(struct tp_context *ctx, const json_t *args)
{
	struct sieve *sieve = malloc(sizeof(*sieve));
	if (sieve == NULL) {
		return tp_fail(ctx, "no memory for a sieve of %zu bytes", sizeof(*sieve));
	}
	int64_t count = count_primes(ctx, sieve, (uint32_t)builtin_integer(args, "n", 0));
	free(sieve);
	if (count < 0) {
		return tp_stopped(ctx);
	}
	return tp_set_result(ctx, json_pack("{s:I}", "count", (json_int_t)count));
}

static const char schema[] =
	"{\"type\": \"object\", \"properties\": {"
	"\"n\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 2000000000, "
	"\"description\": \"Primes are counted up to this number, itself included.\"}},"
	"\"required\": [\"n\"]}";

const struct tp_task builtin_primes = {
	.name = "primes",
	.description = "Counts the primes up to n: work for the CPU, in little memory.",
	.args_schema = schema,
	.flags = TP_TASK_THREAD_SAFE,
	.run = run,
};
