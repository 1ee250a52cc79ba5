/*
 * Time. Durations are taken from CLOCK_MONOTONIC, which is one clock for all processes of a
 * machine, so a time stamp of a host can be compared with one of the server. Dates are
 * CLOCK_REALTIME. Thread: any.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NS_PER_US 1000LL
#define NS_PER_MS 1000000LL
#define NS_PER_S  1000000000LL

/* Nanoseconds of CLOCK_MONOTONIC; never 0. */
int64_t clock_monotonic_ns(void);

/* Nanoseconds since 1970-01-01T00:00:00Z. */
int64_t clock_realtime_ns(void);

#define CLOCK_RFC3339_SIZE 28 /* "2026-01-02T03:04:05.678901Z" and its end mark */

/* Writes realtime_ns as RFC 3339 in UTC with microseconds; years 1970 to 9999. Answers buffer. */
const char *clock_rfc3339(int64_t realtime_ns, char buffer[static CLOCK_RFC3339_SIZE]);

/* Reads RFC 3339, with any offset and any number of decimals (what is beyond microseconds is cut):
 * microseconds since 1970-01-01T00:00:00Z. False for anything else, and for times before that. */
bool clock_parse_rfc3339(const char *text, int64_t *ret_us);

#endif
