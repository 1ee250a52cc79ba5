/*
 * A growable run of bytes.
 *
 * Invariants: length <= capacity <= PTRDIFF_MAX; data is NULL if and only if capacity is 0; once
 * failed is set the content does not change until buffer_clear(), buffer_take() or buffer_release()
 * begins a new one.
 */
#include "base/buffer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 64

int buffer_reserve(struct buffer *buffer, size_t extra)
{
	if (buffer->failed)
		return -ENOMEM;
	if (extra <= buffer->capacity - buffer->length)
		return 0;
	if (extra > (size_t)PTRDIFF_MAX - buffer->length)
		goto fail;

	size_t needed = buffer->length + extra;
	size_t capacity = buffer->capacity < CAPACITY_MIN ? CAPACITY_MIN : buffer->capacity * 2;
	if (capacity < needed)
		capacity = needed;
	if (capacity > (size_t)PTRDIFF_MAX)
		capacity = (size_t)PTRDIFF_MAX;
	char *data = realloc(buffer->data, capacity);
	if (data == NULL)
		goto fail;
	buffer->data = data;
	buffer->capacity = capacity;
	return 0;

fail:
	buffer->failed = true;
	return -ENOMEM;
}

void buffer_append(struct buffer *buffer, const void *data, size_t length)
{
	if (length == 0 || buffer_reserve(buffer, length) != 0)
		return;
	memcpy(buffer->data + buffer->length, data, length);
	buffer->length += length;
}

void buffer_append_text(struct buffer *buffer, const char *text)
{
	buffer_append(buffer, text, strlen(text));
}

void buffer_append_char(struct buffer *buffer, char c)
{
	if (buffer_reserve(buffer, 1) != 0)
		return;
	buffer->data[buffer->length++] = c;
}

/* Answers the length the text needs, or -1; what fits is written behind the content. */
static int format_into_room(struct buffer *buffer, const char *format, va_list arguments)
	__attribute__((format(printf, 2, 0)));

static int format_into_room(struct buffer *buffer, const char *format, va_list arguments)
{
	va_list copy;

	va_copy(copy, arguments);
	int length = vsnprintf(buffer->data + buffer->length, buffer->capacity - buffer->length,
			       format, copy);
	va_end(copy);
	return length;
}

void buffer_append_format(struct buffer *buffer, const char *format, ...)
{
	va_list arguments;
	int length;

	if (buffer_reserve(buffer, CAPACITY_MIN) != 0)
		return;
	va_start(arguments, format);
	length = format_into_room(buffer, format, arguments);
	if (length >= 0 && (size_t)length >= buffer->capacity - buffer->length &&
	    buffer_reserve(buffer, (size_t)length + 1) == 0)
		length = format_into_room(buffer, format, arguments);
	va_end(arguments);
	if (length < 0)
		buffer->failed = true;
	if (!buffer->failed)
		buffer->length += (size_t)length;
}

bool buffer_failed(const struct buffer *buffer)
{
	return buffer->failed;
}

void buffer_clear(struct buffer *buffer)
{
	buffer->length = 0;
	buffer->failed = false;
}

char *buffer_take(struct buffer *buffer, size_t *ret_length)
{
	char *data = NULL;
	size_t length = 0;

	if (!buffer->failed && buffer->length > 0) {
		data = buffer->data;
		length = buffer->length;
		buffer->data = NULL;
	}
	buffer_release(buffer);
	if (ret_length != NULL)
		*ret_length = length;
	return data;
}

void buffer_release(struct buffer *buffer)
{
	free(buffer->data);
	*buffer = (struct buffer){0};
}
