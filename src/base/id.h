/*
 * Identifiers: UUID version 7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then 74 bits
 * of which the first 12 (rand_a) here are a counter within the millisecond (method 1 of
 * section 6.2), so identifiers made by one process sort by age, and 62 random bits from
 * getrandom(2), drawn in blocks. Thread: id_new() on one thread only (the event loop); the rest on
 * any.
 */
#ifndef BASE_ID_H
#define BASE_ID_H

#include <stdbool.h>
#include <stdint.h>

struct id {
	uint8_t bytes[16];
};

#define ID_TEXT_SIZE 37 /* 8-4-4-4-12 lower-case hexadecimal digits and the end mark */

/* A new identifier, greater than every one made before by this process, even if the clock steps
 * back. */
struct id id_new(void);

/* Answers text. */
const char *id_format(const struct id *id, char text[static ID_TEXT_SIZE]);

/* Reads the 36-character form, lower or upper case; false, and *ret_id untouched, for anything
 * else. */
bool id_parse(const char *text, struct id *ret_id);

/* <0, 0, >0 by age, like memcmp(). */
int id_compare(const struct id *a, const struct id *b);

#endif
