/*
 * What a job wrote to one stream: the beginning and the end are kept, the middle is counted.
 *
 * Of a capacity of 2k bytes the first k stay for good and a ring holds the last k. Memory grows
 * with what is written, up to the capacity. Thread: one owner.
 */
#ifndef JOB_OUTPUT_H
#define JOB_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"

struct output {
	uint64_t total_bytes; /* all that was written */
	size_t capacity;      /* set once, before the first byte */
	char *head;	      /* NULL until needed */
	size_t head_length;
	size_t head_room;
	char *tail; /* ring of `tail_room` bytes; NULL until needed */
	size_t tail_length;
	size_t tail_start;
	size_t tail_room;
};

void output_init(struct output *output, size_t capacity);
void output_release(struct output *output);

/* Counts all; keeps what fits by the rule above. If memory is short the bytes are counted and lost.
 */
void output_append(struct output *output, const void *data, size_t length);

/* How many bytes can be appended before any that is kept is dropped. */
size_t output_room(const struct output *output);

/* How many bytes can be appended when there is no room, if all but the last OUTPUT_UNREAD_MAX bytes
 * may be dropped; 0: nothing can be kept. */
#define OUTPUT_UNREAD_MAX 3 /* of a character that is not whole */
size_t output_replaceable(const struct output *output);

/* Whether bytes between head and tail are missing. */
bool output_truncated(const struct output *output);

/* The offset of the first kept byte that is not before this one; total_bytes if there is none. */
uint64_t output_kept_from(const struct output *output, uint64_t offset);

/* Copies what is kept from offset, which is that of a kept byte, up to a hole, the end, or `most`
 * bytes: how many. */
size_t output_copy(const struct output *output, uint64_t offset, char *bytes, size_t most);

/* Bytes of memory held. */
size_t output_memory(const struct output *output);

/* {"text": "…", "total_bytes": n, "truncated": bool}; if truncated, "text" is the head and "tail"
 * the end. Bytes that are no UTF-8 become U+FFFD. key as in json_write_string(). */
void output_write_json(const struct output *output, struct json_writer *writer, const char *key);

#endif
