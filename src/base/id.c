/*
 * Identifiers: UUID version 7.
 *
 * Invariant: (unix_ms, counter) of the generator never decreases, and no pair is given out twice.
 * Where the clock steps back, or one millisecond asks for more than 4096 identifiers, the
 * generator's millisecond runs ahead of the clock, as section 6.2 of RFC 9562 allows.
 *
 * A child forked after the first id_new() would share the rest of the block of random bits with its
 * parent; only the server makes identifiers, and it forks nobody.
 */
#include "base/id.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/types.h>

#include "base/clock.h"

#define COUNTER_MAX  0xfffu
#define RANDOM_WORDS 128

/* The thread of id_new() only. */
static struct {
	uint64_t unix_ms;
	uint64_t counter;
	uint64_t random[RANDOM_WORDS];
	size_t random_left;
} generator;

/*
 * getrandom(2) fails only where a sandbox forbids it; there is then no safe way to go on, since
 * identifiers that can be guessed or that collide would hand one user's job to another.
 */
static void draw_random(void)
{
	char *at = (char *)generator.random;
	size_t left = sizeof(generator.random);

	while (left > 0) {
		ssize_t got = getrandom(at, left, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			abort();
		at += got;
		left -= (size_t)got;
	}
	generator.random_left = RANDOM_WORDS;
}

static uint64_t next_random(void)
{
	if (generator.random_left == 0)
		draw_random();
	return generator.random[--generator.random_left];
}

static void advance(void)
{
	uint64_t now_ms = (uint64_t)(clock_realtime_ns() / NS_PER_MS);

	if (now_ms > generator.unix_ms) {
		generator.unix_ms = now_ms;
		generator.counter = 0;
	} else if (generator.counter < COUNTER_MAX) {
		generator.counter++;
	} else {
		generator.unix_ms++;
		generator.counter = 0;
	}
}

static void put_big_endian(uint8_t out[static 8], uint64_t value)
{
	for (int i = 7; i >= 0; i--) {
		out[i] = (uint8_t)value;
		value >>= 8;
	}
}

struct id id_new(void)
{
	struct id id;

	advance();
	put_big_endian(id.bytes, generator.unix_ms << 16 | UINT64_C(0x7000) | generator.counter);
	put_big_endian(id.bytes + 8, UINT64_C(1) << 63 | next_random() >> 2);
	return id;
}

/* Whether a hyphen stands in front of this byte's digits. */
static bool after_hyphen(size_t byte)
{
	return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

const char *id_format(const struct id *id, char text[static ID_TEXT_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	char *out = text;

	for (size_t i = 0; i < sizeof(id->bytes); i++) {
		if (after_hyphen(i))
			*out++ = '-';
		*out++ = digits[id->bytes[i] >> 4];
		*out++ = digits[id->bytes[i] & 0xf];
	}
	*out = '\0';
	return text;
}

/* One more than the value of a digit; 0 for what is none. */
static const uint8_t digit_values[256] = {
	['0'] = 1,  ['1'] = 2,	['2'] = 3,  ['3'] = 4,	['4'] = 5,  ['5'] = 6,
	['6'] = 7,  ['7'] = 8,	['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12,
	['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16, ['A'] = 11, ['B'] = 12,
	['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
};

bool id_parse(const char *text, struct id *ret_id)
{
	struct id id;

	/* Each byte is looked at only if the one before it was as it must be, so never beyond the
	 * end mark. */
	for (size_t i = 0; i < sizeof(id.bytes); i++) {
		if (after_hyphen(i) && *text++ != '-')
			return false;
		uint8_t high = digit_values[(unsigned char)text[0]];
		if (high == 0)
			return false;
		uint8_t low = digit_values[(unsigned char)text[1]];
		if (low == 0)
			return false;
		id.bytes[i] = (uint8_t)((high - 1) << 4 | (low - 1));
		text += 2;
	}
	if (*text != '\0')
		return false;
	*ret_id = id;
	return true;
}

int id_compare(const struct id *a, const struct id *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}
