/*
 * Head and tail of a stream. The head fills first; only what does not fit there reaches the ring.
 * The ring's room doubles until it has its full size; it wraps only then, so growing never has to
 * unroll it.
 */
#include "job/output.h"

#include <stdlib.h>
#include <string.h>

#define OUTPUT_FIRST_ROOM 256

void output_init(struct output *output, size_t capacity)
{
	*output = (struct output){.capacity = capacity};
}

void output_release(struct output *output)
{
	free(output->head);
	free(output->tail);
	output_init(output, output->capacity);
}

static size_t head_size(const struct output *output)
{
	return output->capacity - output->capacity / 2;
}

static size_t tail_size(const struct output *output)
{
	return output->capacity / 2;
}

/* Grows *data to hold `needed`, at most `limit`: true if it does. */
static bool grow(char **data, size_t *room, size_t needed, size_t limit)
{
	size_t bigger = *room ? *room : OUTPUT_FIRST_ROOM;

	if (needed <= *room)
		return true;
	while (bigger < needed)
		bigger *= 2;
	if (bigger > limit)
		bigger = limit;
	char *moved = realloc(*data, bigger);
	if (!moved)
		return false;
	*data = moved;
	*room = bigger;
	return true;
}

static size_t append_head(struct output *output, const char *bytes, size_t length)
{
	size_t free_bytes = head_size(output) - output->head_length;
	size_t take = length < free_bytes ? length : free_bytes;

	if (take == 0 ||
	    !grow(&output->head, &output->head_room, output->head_length + take, head_size(output)))
		return take;
	memcpy(output->head + output->head_length, bytes, take);
	output->head_length += take;
	return take;
}

static void append_tail(struct output *output, const char *bytes, size_t length)
{
	size_t size = tail_size(output);

	if (length > size) { /* only its end can stay */
		bytes += length - size;
		length = size;
	}
	size_t wanted = output->tail_length + length;
	if (wanted > size)
		wanted = size;
	if (length == 0 || !grow(&output->tail, &output->tail_room, wanted, size))
		return;
	size_t room = output->tail_room;
	size_t overflow =
		output->tail_length + length > room ? output->tail_length + length - room : 0;
	output->tail_start = (output->tail_start + overflow) % room;
	output->tail_length -= overflow;
	size_t end = (output->tail_start + output->tail_length) % room;
	size_t first = length < room - end ? length : room - end;
	memcpy(output->tail + end, bytes, first);
	memcpy(output->tail, bytes + first, length - first);
	output->tail_length += length;
}

void output_append(struct output *output, const void *data, size_t length)
{
	const char *bytes = data;

	output->total_bytes += length;
	if (output->total_bytes - length < head_size(output)) {
		size_t taken = append_head(output, bytes, length);
		bytes += taken;
		length -= taken;
	}
	append_tail(output, bytes, length);
}

size_t output_room(const struct output *output)
{
	return output_truncated(output) ? 0 : output->capacity - (size_t)output->total_bytes;
}

size_t output_replaceable(const struct output *output)
{
	size_t size = tail_size(output);

	return size > OUTPUT_UNREAD_MAX ? size - OUTPUT_UNREAD_MAX : size;
}

bool output_truncated(const struct output *output)
{
	return output->total_bytes > output->head_length + output->tail_length;
}

size_t output_memory(const struct output *output)
{
	return output->head_room + output->tail_room;
}

static uint64_t tail_offset(const struct output *output)
{
	return output->total_bytes - output->tail_length;
}

uint64_t output_kept_from(const struct output *output, uint64_t offset)
{
	if (offset < output->head_length || offset >= tail_offset(output))
		return offset < output->total_bytes ? offset : output->total_bytes;
	return tail_offset(output);
}

/* A piece of the ring, of which `offset` is counted from its first byte. */
static size_t copy_of_tail(const struct output *output, size_t offset, char *bytes, size_t most)
{
	size_t left = output->tail_length - offset;
	size_t take = left < most ? left : most;

	if (take == 0)
		return 0;
	size_t start = (output->tail_start + offset) % output->tail_room;
	size_t first = output->tail_room - start;
	if (first > take)
		first = take;
	memcpy(bytes, output->tail + start, first);
	memcpy(bytes + first, output->tail, take - first);
	return take;
}

size_t output_copy(const struct output *output, uint64_t offset, char *bytes, size_t most)
{
	uint64_t tail = tail_offset(output);
	size_t taken = 0;

	if (offset < output->head_length) {
		size_t left = output->head_length - (size_t)offset;
		taken = left < most ? left : most;
		memcpy(bytes, output->head + offset, taken);
		offset += taken;
	}
	if (taken < most && offset >= tail && offset < output->total_bytes)
		taken += copy_of_tail(output, (size_t)(offset - tail), bytes + taken, most - taken);
	return taken;
}

/* The ring, laid out straight, behind `bytes`. */
static void copy_tail(const struct output *output, struct buffer *bytes)
{
	if (output->tail_length == 0)
		return;
	size_t first = output->tail_room - output->tail_start;
	if (first > output->tail_length)
		first = output->tail_length;
	buffer_append(bytes, output->tail + output->tail_start, first);
	buffer_append(bytes, output->tail, output->tail_length - first);
}

void output_write_json(const struct output *output, struct json_writer *writer, const char *key)
{
	struct buffer bytes = {0};
	bool truncated = output_truncated(output);
	const char *head = output->head ? output->head : "";

	json_write_begin_object(writer, key);
	if (!truncated && output->tail_length == 0) {
		json_write_bytes(writer, "text", head, output->head_length);
	} else if (!truncated) {
		buffer_append(&bytes, output->head, output->head_length);
		copy_tail(output, &bytes);
		json_write_bytes(writer, "text", bytes.data, bytes.length);
	} else {
		copy_tail(output, &bytes);
		json_write_bytes(writer, "text", head, output->head_length);
		json_write_bytes(writer, "tail", bytes.data, bytes.length);
	}
	json_write_uint(writer, "total_bytes", output->total_bytes);
	json_write_bool(writer, "truncated", truncated);
	json_write_end_object(writer);
	if (buffer_failed(&bytes))
		writer->buffer->failed = true;
	buffer_release(&bytes);
}
