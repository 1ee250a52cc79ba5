/*
 * Reading the clocks, and dates without the C library: gmtime_r() and strftime() look at the time
 * zone and the locale, under a lock, for what is a dozen divisions.
 */
#include "base/clock.h"

#include <string.h>
#include <time.h>

#define SECONDS_PER_DAY 86400

static int64_t read_clock(clockid_t clock)
{
	struct timespec now;

	/* It cannot fail: both clocks exist on every Linux, and the address is good. */
	(void)clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t clock_monotonic_ns(void)
{
	int64_t now = read_clock(CLOCK_MONOTONIC);

	return now != 0 ? now : 1;
}

int64_t clock_realtime_ns(void)
{
	return read_clock(CLOCK_REALTIME);
}

static void put_digits(char *out, unsigned value, int digits)
{
	while (digits-- > 0) {
		out[digits] = (char)('0' + value % 10);
		value /= 10;
	}
}

/*
 * The date of a day counted from 1970-01-01: civil_from_days of Howard Hinnant, "chrono-Compatible
 * Low-Level Date Algorithms" (howardhinnant.github.io/date_algorithms.html), for days that are not
 * negative. Years begin in March there, so that the leap day is the last of its year; an era is 400
 * years.
 */
static void put_date(char out[static 10], unsigned days)
{
	unsigned shifted = days + 719468; /* from 0000-03-01 */
	unsigned era = shifted / 146097;
	unsigned day_of_era = shifted % 146097;
	unsigned year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	unsigned day_of_year =
		day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	unsigned month_from_march = (5 * day_of_year + 2) / 153;
	unsigned day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
	unsigned month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
	unsigned year = era * 400 + year_of_era + (month <= 2 ? 1 : 0);

	put_digits(out, year, 4);
	out[4] = '-';
	put_digits(out + 5, month, 2);
	out[7] = '-';
	put_digits(out + 8, day, 2);
}

const char *clock_rfc3339(int64_t realtime_ns, char buffer[static CLOCK_RFC3339_SIZE])
{
	int64_t ns = realtime_ns > 0 ? realtime_ns : 0;
	int64_t seconds = ns / NS_PER_S;
	unsigned of_day = (unsigned)(seconds % SECONDS_PER_DAY);

	put_date(buffer, (unsigned)(seconds / SECONDS_PER_DAY));
	buffer[10] = 'T';
	put_digits(buffer + 11, of_day / 3600, 2);
	buffer[13] = ':';
	put_digits(buffer + 14, of_day / 60 % 60, 2);
	buffer[16] = ':';
	put_digits(buffer + 17, of_day % 60, 2);
	buffer[19] = '.';
	put_digits(buffer + 20, (unsigned)(ns % NS_PER_S / NS_PER_US), 6);
	buffer[26] = 'Z';
	buffer[27] = '\0';
	return buffer;
}

static bool read_digits(const char **text, int count, int least, int most, int *ret_value)
{
	int value = 0;

	for (int i = 0; i < count; i++, (*text)++) {
		if (**text < '0' || **text > '9')
			return false;
		value = value * 10 + (**text - '0');
	}
	*ret_value = value;
	return value >= least && value <= most;
}

static bool read_char(const char **text, const char *allowed)
{
	if (**text == '\0' || !strchr(allowed, **text))
		return false;
	(*text)++;
	return true;
}

static bool read_fraction(const char **text, int64_t *ret_us)
{
	int64_t unit = 100000;

	*ret_us = 0;
	if (**text != '.')
		return true;
	(*text)++;
	const char *begin = *text;
	for (; **text >= '0' && **text <= '9'; (*text)++, unit /= 10)
		*ret_us += (**text - '0') * unit;
	return *text > begin;
}

/* East of Greenwich is positive. */
static bool read_offset(const char **text, int *ret_seconds)
{
	int sign = **text == '-' ? -1 : 1;
	int hours, minutes;

	*ret_seconds = 0;
	if (read_char(text, "Zz"))
		return true;
	if (!read_char(text, "+-") || !read_digits(text, 2, 0, 23, &hours) ||
	    !read_char(text, ":") || !read_digits(text, 2, 0, 59, &minutes))
		return false;
	*ret_seconds = sign * (hours * 3600 + minutes * 60);
	return true;
}

bool clock_parse_rfc3339(const char *text, int64_t *ret_us)
{
	struct tm tm = {0};
	int64_t us;
	int offset;
	bool whole = read_digits(&text, 4, 1970, 9999, &tm.tm_year) && read_char(&text, "-") &&
		     read_digits(&text, 2, 1, 12, &tm.tm_mon) && read_char(&text, "-") &&
		     read_digits(&text, 2, 1, 31, &tm.tm_mday) && read_char(&text, "Tt ") &&
		     read_digits(&text, 2, 0, 23, &tm.tm_hour) && read_char(&text, ":") &&
		     read_digits(&text, 2, 0, 59, &tm.tm_min) && read_char(&text, ":") &&
		     read_digits(&text, 2, 0, 60, &tm.tm_sec) && read_fraction(&text, &us) &&
		     read_offset(&text, &offset) && *text == '\0';

	if (!whole)
		return false;
	int day = tm.tm_mday;
	bool is_leap_second = tm.tm_sec == 60;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	tm.tm_sec -= is_leap_second;
	int64_t seconds = timegm(&tm) + is_leap_second - offset;
	if (tm.tm_mday != day) /* it was the 30th of February */
		return false;
	*ret_us = seconds * 1000000 + us;
	return seconds >= 0;
}
