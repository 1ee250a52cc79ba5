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

/* Whether bytes between head and tail are missing. */
bool output_truncated(const struct output *output);

/* Bytes of memory held. */
size_t output_memory(const struct output *output);

/* {"text": "…", "total_bytes": n, "truncated": bool}; if truncated, "text" is the head and "tail"
 * the end. Bytes that are no UTF-8 become U+FFFD. key as in json_write_string(). */
void output_write_json(const struct output *output, struct json_writer *writer, const char *key);

#endif
