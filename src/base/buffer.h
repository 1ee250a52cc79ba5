/*
 * A growable run of bytes.
 *
 * A buffer that could not grow remembers it: every later append does nothing, and buffer_failed()
 * tells, so that a long piece of writing needs one check at its end. Zero-initialised is empty and
 * valid. Thread: one owner.
 */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

struct buffer {
	char *data; /* length bytes, not ended by a NUL; NULL while empty and never grown */
	size_t length;
	size_t capacity;
	bool failed;
};

/* Makes room for at least extra more bytes. Answers 0 or -ENOMEM. */
int buffer_reserve(struct buffer *buffer, size_t extra);

void buffer_append(struct buffer *buffer, const void *data, size_t length);
void buffer_append_text(struct buffer *buffer, const char *text);
void buffer_append_char(struct buffer *buffer, char c);
void buffer_append_format(struct buffer *buffer, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

bool buffer_failed(const struct buffer *buffer);

/* Drops the content, keeps the room. */
void buffer_clear(struct buffer *buffer);

/* Gives the bytes (from malloc; the caller frees) and leaves the buffer empty. NULL if it failed or
 * is empty. *ret_length may be NULL. */
char *buffer_take(struct buffer *buffer, size_t *ret_length);

/* Frees the bytes; the buffer is empty and valid after it. */
void buffer_release(struct buffer *buffer);

#endif
