/*
 * JSON: reading by jansson with errors that a user can act on, and writing of documents that splice
 * already encoded values.
 *
 * All trees are jansson's. A tree never crosses threads or processes; encoded bytes do. The writer
 * exists because a job's document embeds the task's result, which is kept encoded as it came from
 * the worker: building a tree around it would mean to parse it again. Everything else is written
 * from jansson's trees.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

/* Deepest nesting accepted from outside. jansson's own limit is 2048; ours is lower. */
#define JSON_DEPTH_MAX 128

/*
 * Parses exactly one value of these bytes (any type; duplicate keys refused; NUL in strings refused
 * by jansson's default). On failure ERROR_SYNTAX whose message has line and column, such as "line
 * 1, column 9: '}' expected near end of file". Answers 0 or -errno.
 */
int json_parse(const char *data, size_t length, json_t **ret_value, struct error *error);

/* Encodes compactly, in the order of insertion, real numbers with as few digits as read back the
 * same. The text has a NUL behind it; ret_length may be NULL; the caller frees. NULL if memory is
 * short, or if value is nested more than 2 * JSON_DEPTH_MAX deep. */
char *json_encode(const json_t *value, size_t *ret_length);

/*
 * Whether these bytes are exactly one well-formed JSON value in valid UTF-8 (RFC 8259), nested at
 * most JSON_DEPTH_MAX deep; without building anything. Half a surrogate pair in \u escapes is
 * refused, since no reader can make a character of it. For what comes from a host: it may have been
 * scribbled upon.
 */
bool json_is_wellformed(const char *data, size_t length);

/*
 * Finds a member of a well-formed object: the value as it is written there, whatever its depth and
 * however large its numbers are. False if there is none, or that is no object. The key is compared
 * as it is written, so it should be one that needs no escapes.
 */
bool json_find_member(const char *data, size_t length, const char *key, const char **ret_value,
		      size_t *ret_length);

/* The JSON name of a value's type: "object", "array", "string", "integer", "number", "boolean",
 * "null". */
const char *json_type_name(const json_t *value);

/*
 * Writer: appends to a buffer, puts the commas. Key strings are literals that need no escaping.
 * Failure is the buffer's (buffer_failed()).
 */
struct json_writer {
	struct buffer *buffer; /* borrowed */
	bool comma;	       /* the next member needs a comma before it */
};

void json_write_begin_object(struct json_writer *writer,
			     const char *key); /* key NULL inside an array or at the top */
void json_write_end_object(struct json_writer *writer);
void json_write_begin_array(struct json_writer *writer, const char *key);
void json_write_end_array(struct json_writer *writer);
void json_write_string(struct json_writer *writer, const char *key,
		       const char *value); /* NULL: null */
/* Bytes that need not be UTF-8: what is not is replaced by U+FFFD, as the Unicode standard's
 * "maximal subpart" practice has it. Every JSON string we write is thus valid. */
void json_write_bytes(struct json_writer *writer, const char *key, const char *value,
		      size_t length);
void json_write_int(struct json_writer *writer, const char *key, int64_t value);
void json_write_uint(struct json_writer *writer, const char *key, uint64_t value);
void json_write_bool(struct json_writer *writer, const char *key, bool value);
void json_write_null(struct json_writer *writer, const char *key);
/* Milliseconds with three decimals (microseconds kept, rounded to nearest); negative as 0. */
void json_write_ms(struct json_writer *writer, const char *key, int64_t ns);
/* Splices an already encoded value; data NULL: null. */
void json_write_raw(struct json_writer *writer, const char *key, const char *data, size_t length);

#endif
