/*
 * Times as texts: what clock_parse_rfc3339() takes, what it refuses, and that it reads what
 * clock_rfc3339() writes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "random.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SECOND	     INT64_C(1000000)

/* The seconds are those of date(1). */
static void test_what_is_a_time(void **state)
{
	static const struct {
		const char *text;
		int64_t us;
	} cases[] = {
		{"1970-01-01T00:00:00Z", 0},
		{"1970-01-01T00:00:00.000001Z", 1},
		{"2026-01-02T03:04:05Z", 1767323045 * SECOND},
		{"2026-01-02t03:04:05z", 1767323045 * SECOND},
		{"2026-01-02 03:04:05Z", 1767323045 * SECOND},
		{"2026-01-02T03:04:05.5Z", 1767323045 * SECOND + 500000},
		{"2026-01-02T03:04:05.678901Z", 1767323045 * SECOND + 678901},
		{"2026-01-02T03:04:05.6789019999999999999999999Z", 1767323045 * SECOND + 678901},
		{"2026-01-02T05:04:05+02:00", 1767323045 * SECOND},
		{"2026-01-01T21:34:05-05:30", 1767323045 * SECOND},
		{"2026-01-02T03:04:05-00:00", 1767323045 * SECOND},
		{"1970-01-01T05:30:00+05:30", 0},
		{"2024-02-29T00:00:00Z", 1709164800 * SECOND},
		{"2000-02-29T00:00:00Z", 951782400 * SECOND},
		{"2016-12-31T23:59:60Z", 1483228800 * SECOND},
		{"9999-12-31T23:59:59Z", 253402300799 * SECOND},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		int64_t us = -1;
		if (!clock_parse_rfc3339(cases[i].text, &us) || us != cases[i].us)
			fail_msg("%s: %lld", cases[i].text, (long long)us);
	}
}

static void test_what_is_none(void **state)
{
	static const char *const texts[] = {
		"",
		"now",
		"2026",
		"2026-01-02",
		"2026-01-02T03:04",
		"2026-01-02T03:04:05",
		"2026-01-02T03:04Z",
		"2026-1-2T03:04:05Z",
		"2026-01-02T03:04:05.Z",
		"2026-01-02T03:04:05,5Z",
		"2026-01-02T03:04:05ZZ",
		"2026-01-02T03:04:05Z ",
		" 2026-01-02T03:04:05Z",
		"2026-01-02X03:04:05Z",
		"2026-01-02T03:04:05+0200",
		"2026-01-02T03:04:05+24:00",
		"2026-01-02T03:04:05+02:60",
		"2026-01-02T03:04:05 02:00",
		"2026-00-02T03:04:05Z",
		"2026-13-02T03:04:05Z",
		"2026-01-00T03:04:05Z",
		"2026-01-32T03:04:05Z",
		"2026-02-29T03:04:05Z",
		"2100-02-29T03:04:05Z",
		"2026-04-31T03:04:05Z",
		"2026-01-02T24:00:00Z",
		"2026-01-02T03:60:05Z",
		"2026-01-02T03:04:61Z",
		"2026-02-30T23:59:60Z",
		"1969-12-31T23:59:59Z",
		"1970-01-01T00:00:00+00:01",
		"20260102T030405Z",
		"+2026-01-02T03:04:05Z",
		"2026-01-02T03:04:-5Z",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		int64_t us = -1;
		if (clock_parse_rfc3339(texts[i], &us))
			fail_msg("%s: %lld", texts[i], (long long)us);
	}
}

static void test_what_is_written_is_read(void **state)
{
	(void)state;
	for (int round = 0; round < 20000; round++) {
		int64_t us = (int64_t)(random_next() % (UINT64_C(253402300800) * 1000000));
		char text[CLOCK_RFC3339_SIZE];
		int64_t read = -1;

		if (us > INT64_MAX / 1000)
			us /= 1000; /* what nanoseconds hold ends in 2262 */
		clock_rfc3339(us * 1000, text);
		assert_true(clock_parse_rfc3339(text, &read));
		assert_int_equal(read, us);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_a_time),
		cmocka_unit_test(test_what_is_none),
		cmocka_unit_test(test_what_is_written_is_read),
	};

	return cmocka_run_group_tests_name("base clock", tests, NULL, NULL);
}
