/*
 * Output of a job: what is kept of it, against a model that keeps everything, and how it is
 * written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/json.h"
#include "base/text.h"
#include "job/output.h"
#include "random.h"

static json_t *document_of(const struct output *output)
{
	struct buffer buffer = {0};
	struct json_writer writer = {.buffer = &buffer};
	struct error error;
	json_t *document = NULL;

	output_write_json(output, &writer, NULL);
	assert_false(buffer_failed(&buffer));
	assert_true(json_is_wellformed(buffer.data, buffer.length));
	if (json_parse(buffer.data, buffer.length, &document, &error) < 0)
		fail_msg("%s", error.message);
	buffer_release(&buffer);
	return document;
}

static void assert_bytes(const json_t *document, const char *key, const char *bytes, size_t length)
{
	const json_t *value = json_object_get(document, key);

	assert_true(json_is_string(value));
	assert_int_equal(json_string_length(value), length);
	if (length > 0)
		assert_memory_equal(json_string_value(value), bytes, length);
}

/* --- against everything that was written ----------------------------------------------------- */

struct model {
	char *bytes;
	size_t length;
	size_t capacity;
};

static void assert_as_model(const struct output *output, const struct model *model)
{
	size_t head = model->capacity - model->capacity / 2;
	size_t tail = model->capacity / 2;
	bool truncated = model->length > model->capacity;
	json_t *document = document_of(output);

	assert_int_equal(output->total_bytes, model->length);
	assert_int_equal(output_truncated(output), truncated);
	assert_true(output_memory(output) <= model->capacity);
	assert_int_equal(json_integer_value(json_object_get(document, "total_bytes")),
			 model->length);
	assert_true(json_is_boolean(json_object_get(document, "truncated")));
	assert_int_equal(json_is_true(json_object_get(document, "truncated")), truncated);
	assert_int_equal(json_object_size(document), truncated ? 4 : 3);
	if (truncated) {
		assert_bytes(document, "text", model->bytes, head);
		assert_bytes(document, "tail", model->bytes + model->length - tail, tail);
	} else {
		assert_bytes(document, "text", model->bytes, model->length);
	}
	json_decref(document);
}

/* Reads all from offset on in pieces: what is kept is as it was written, and holes are where they
 * must be. */
static void assert_reads_as_model(const struct output *output, const struct model *model,
				  size_t offset)
{
	size_t head = model->capacity - model->capacity / 2;
	bool truncated = model->length > model->capacity;
	size_t tail = truncated ? model->length - model->capacity / 2 : 0;
	char bytes[64];

	for (;;) {
		size_t at = (size_t)output_kept_from(output, offset);
		bool in_hole = truncated && offset >= head && offset < tail;
		assert_int_equal(at, in_hole		      ? tail
				     : offset > model->length ? model->length
							      : offset);
		if (at == model->length)
			break;
		size_t most = 1 + random_below(sizeof(bytes));
		size_t length = output_copy(output, at, bytes, most);
		size_t contiguous = truncated && at < head ? head - at : model->length - at;
		if (truncated && tail == head)
			contiguous = model->length - at;
		assert_int_equal(length, contiguous < most ? contiguous : most);
		assert_memory_equal(bytes, model->bytes + at, length);
		offset = at + length;
	}
}

/* Appends printable bytes, so that each stays one byte of the document. */
static void append_random(struct output *output, struct model *model, size_t length)
{
	model->bytes = realloc(model->bytes, model->length + length + 1);
	assert_non_null(model->bytes);
	for (size_t i = 0; i < length; i++)
		model->bytes[model->length + i] = (char)(' ' + random_below(95));
	output_append(output, model->bytes + model->length, length);
	model->length += length;
}

static size_t random_length(size_t capacity)
{
	switch (random_below(8)) {
	case 0:
		return 0;
	case 1:
		return 1;
	case 2:
		return capacity / 2;
	case 3:
		return capacity - capacity / 2;
	case 4:
		return capacity + random_below(3);
	case 5:
		return random_below(3 * capacity + 2);
	default:
		return random_below(capacity / 4 + 2);
	}
}

static void run_model(size_t capacity, size_t appends)
{
	struct model model = {.capacity = capacity};
	struct output output;

	output_init(&output, capacity);
	assert_int_equal(output_memory(&output), 0);
	append_random(&output, &model, 0);
	assert_as_model(&output, &model);
	for (size_t i = 0; i < appends; i++) {
		append_random(&output, &model, random_length(capacity));
		if (random_below(3) == 0)
			assert_as_model(&output, &model);
	}
	assert_as_model(&output, &model);
	for (int i = 0; i < 4; i++)
		assert_reads_as_model(&output, &model, i ? random_below(model.length + 3) : 0);
	output_release(&output);
	assert_int_equal(output.total_bytes, 0);
	assert_int_equal(output_memory(&output), 0);
	free(model.bytes);
}

static void test_small_capacities(void **state)
{
	(void)state;
	for (size_t capacity = 0; capacity <= 40; capacity++)
		for (int round = 0; round < 30; round++)
			run_model(capacity, 1 + random_below(30));
}

/* About the sizes at which the rooms of head and tail double. */
static void test_larger_capacities(void **state)
{
	static const size_t capacities[] = {255, 256,  257,  511,  512,	 513,  767,
					    769, 1023, 1024, 1025, 2047, 4096, 10001};

	(void)state;
	for (size_t i = 0; i < sizeof(capacities) / sizeof(capacities[0]); i++)
		for (int round = 0; round < 8; round++)
			run_model(capacities[i], 1 + random_below(25));
	for (int round = 0; round < 60; round++)
		run_model(random_below(3000), 1 + random_below(20));
}

static void test_single_bytes_round_the_ring(void **state)
{
	struct model model = {.capacity = 601};
	struct output output;

	(void)state;
	output_init(&output, model.capacity);
	for (int i = 0; i < 2000; i++) {
		append_random(&output, &model, 1);
		if (i % 7 == 0)
			assert_as_model(&output, &model);
	}
	assert_as_model(&output, &model);
	output_release(&output);
	free(model.bytes);
}

/* A job that says little costs little, whatever it may say. */
static void test_memory_grows_with_what_is_written(void **state)
{
	struct output output;
	char block[1000];

	(void)state;
	memset(block, 'x', sizeof(block));
	output_init(&output, 64 << 20);
	assert_int_equal(output_memory(&output), 0);
	output_append(&output, block, 10);
	assert_true(output_memory(&output) <= 4096);
	for (int i = 0; i < 100; i++)
		output_append(&output, block, sizeof(block));
	assert_true(output_memory(&output) <= 4 * 100010);
	output_release(&output);
}

static void test_counts_beyond_32_bits(void **state)
{
	struct output output;
	json_t *document;

	(void)state;
	output_init(&output, 4);
	output_append(&output, "abcdef", 6);
	output.total_bytes += UINT64_C(5) << 32; /* as if so much had come between */
	output_append(&output, "gh", 2);
	document = document_of(&output);
	assert_int_equal(json_integer_value(json_object_get(document, "total_bytes")),
			 (INT64_C(5) << 32) + 8);
	assert_bytes(document, "text", "ab", 2);
	assert_bytes(document, "tail", "gh", 2);
	json_decref(document);
	output_release(&output);
}

/* --- bytes that are no text ------------------------------------------------------------------ */

static void test_binary_bytes(void **state)
{
	static const char bytes[] = "a\0b\x01\x7f\x80\xc0\xaf\xed\xa0\x80\xff\"\\\n\t\x1f/";
	static const char text[] =
		"{\"text\":\"a\\u0000b\\u0001\x7f" TEXT_REPLACEMENT TEXT_REPLACEMENT
			TEXT_REPLACEMENT TEXT_REPLACEMENT TEXT_REPLACEMENT TEXT_REPLACEMENT
				TEXT_REPLACEMENT
		"\\\"\\\\\\n\\t\\u001f/\",\"total_bytes\":18,\"truncated\":false}";
	struct buffer buffer = {0};
	struct json_writer writer = {.buffer = &buffer};
	struct output output;

	(void)state;
	output_init(&output, 100);
	output_append(&output, bytes, sizeof(bytes) - 1);
	output_write_json(&output, &writer, NULL);
	assert_true(json_is_wellformed(buffer.data, buffer.length));
	json_t *found = json_loadb(buffer.data, buffer.length, JSON_ALLOW_NUL, NULL);
	json_t *expected = json_loadb(text, sizeof(text) - 1, JSON_ALLOW_NUL, NULL);
	assert_non_null(found);
	assert_non_null(expected);
	if (!json_equal(found, expected))
		fail_msg("%.*s", (int)buffer.length, buffer.data);
	json_decref(found);
	json_decref(expected);
	buffer_release(&buffer);
	output_release(&output);
}

static void test_random_bytes_are_always_json(void **state)
{
	char bytes[300];

	(void)state;
	for (int round = 0; round < 3000; round++) {
		struct buffer buffer = {0};
		struct json_writer writer = {.buffer = &buffer};
		struct output output;
		output_init(&output, random_below(64));
		for (size_t i = random_below(5); i > 0; i--) {
			size_t length = random_below(sizeof(bytes));
			for (size_t j = 0; j < length; j++)
				bytes[j] = (char)(random_below(4) ? 0x80 + random_below(128)
								  : random_below(256));
			output_append(&output, bytes, length);
		}
		output_write_json(&output, &writer, NULL);
		assert_false(buffer_failed(&buffer));
		assert_true(json_is_wellformed(buffer.data, buffer.length));
		buffer_release(&buffer);
		output_release(&output);
	}
}

/* A character that lies across the edge of head and tail is whole while nothing is missing, and two
 * halves, neither of them a character, once something is. */
static void test_character_at_the_edge(void **state)
{
	static const char euro[] = "\xe2\x82\xac"; /* U+20AC */
	struct output output;
	json_t *document;

	(void)state;
	for (size_t before = 3; before <= 5; before++) {
		char text[16], expected[32];
		size_t length =
			(size_t)snprintf(text, sizeof(text), "%.*s%s", (int)before, "abcde", euro);
		output_init(&output, 10); /* head 5, tail 5 */
		output_append(&output, text, length);
		document = document_of(&output);
		assert_bytes(document, "text", text, length);
		json_decref(document);

		output_append(&output, "vwxyz", 5);
		document = document_of(&output);
		snprintf(expected, sizeof(expected), "%.*s%s", (int)before, "abcde",
			 before < 5 ? TEXT_REPLACEMENT : "");
		assert_bytes(document, "text", expected, strlen(expected));
		assert_bytes(document, "tail", "vwxyz", 5);
		json_decref(document);
		output_release(&output);
	}
}

static void test_character_cut_by_the_ring(void **state)
{
	struct output output;
	json_t *document;

	(void)state;
	output_init(&output, 8); /* head 4, tail 4 */
	output_append(&output,
		      "abcd.....\xe2\x82\xac"
		      "xy",
		      14);
	document = document_of(&output);
	assert_bytes(document, "text", "abcd", 4);
	/* two bytes of the three are left: each is replaced, since neither begins a character */
	assert_bytes(document, "tail", TEXT_REPLACEMENT TEXT_REPLACEMENT "xy", 8);
	json_decref(document);
	output_release(&output);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_capacities),
		cmocka_unit_test(test_larger_capacities),
		cmocka_unit_test(test_single_bytes_round_the_ring),
		cmocka_unit_test(test_memory_grows_with_what_is_written),
		cmocka_unit_test(test_counts_beyond_32_bits),
		cmocka_unit_test(test_binary_bytes),
		cmocka_unit_test(test_random_bytes_are_always_json),
		cmocka_unit_test(test_character_at_the_edge),
		cmocka_unit_test(test_character_cut_by_the_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
