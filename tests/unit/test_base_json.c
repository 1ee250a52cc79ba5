/*
 * JSON: the check for being well-formed against jansson, the writer against what a reader reads.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "random.h"

/* ---- Parsing ---- */

static void assert_parse_error(const char *text, const char *message)
{
	json_t *value = NULL;
	struct error error;

	assert_int_equal(json_parse(text, strlen(text), &value, &error), -EBADMSG);
	assert_null(value);
	assert_int_equal(error.code, ERROR_SYNTAX);
	assert_string_equal(error.message, message);
}

static void test_parse(void **state)
{
	static const char *const good[] = {"{}", "[]", "1", "-1.5e3", "\"x\"", "null", " true "};
	struct error error;
	json_t *value;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(json_parse(good[i], strlen(good[i]), &value, &error), 0);
		json_decref(value);
	}
	/* only length bytes are looked at */
	assert_int_equal(json_parse("12345", 2, &value, &error), 0);
	assert_int_equal(json_integer_value(value), 12);
	json_decref(value);

	assert_parse_error("{\"a\": 1 ", "line 1, column 8: '}' expected near end of file");
	assert_parse_error("{\n\"a\": x}", "line 2, column 6: invalid token near 'x'");
	assert_parse_error("{\"a\":1,\"a\":2}",
			   "line 1, column 10: duplicate object key near '\"a\"'");
	assert_parse_error("[\"\x1b\"]", "line 1, column 2: control character 0x1b near '\"'");
	assert_parse_error("1 2", "line 1, column 3: end of file expected near '2'");
	assert_int_not_equal(json_parse("", 0, &value, &error), 0);
	assert_int_not_equal(json_parse(NULL, 0, &value, &error), 0);
	assert_int_not_equal(json_parse("\"\\u0000\"", 8, &value, &error), 0);
	assert_int_not_equal(json_parse("[1\0]", 4, &value, &error), 0);
	assert_string_equal(error.message, "line 1, column 3: unexpected NUL byte");
	/* the message stays one printable line */
	assert_int_not_equal(json_parse("[1,\x1b\n]", 6, &value, &error), 0);
	for (const char *c = error.message; *c != '\0'; c++)
		assert_true((unsigned char)*c >= 0x20);
}

static char *nested(size_t depth, size_t *ret_length)
{
	char *text = malloc(2 * depth + 2);

	assert_non_null(text);
	text[0] = '\n';
	memset(text + 1, '[', depth);
	memset(text + 1 + depth, ']', depth);
	*ret_length = 2 * depth + 1;
	return text;
}

static void test_depth(void **state)
{
	struct error error;
	json_t *value;
	size_t length;
	char *text = nested(JSON_DEPTH_MAX, &length);

	(void)state;
	assert_int_equal(json_parse(text, length, &value, &error), 0);
	json_decref(value);
	assert_true(json_is_wellformed(text, length));
	free(text);

	text = nested(JSON_DEPTH_MAX + 1, &length);
	assert_int_equal(json_parse(text, length, &value, &error), -EBADMSG);
	assert_string_equal(error.message, "line 2, column 129: nested more than 128 deep");
	assert_false(json_is_wellformed(text, length));
	free(text);

	text = nested(1000000, &length);
	assert_int_not_equal(json_parse(text, length, &value, &error), 0);
	assert_false(json_is_wellformed(text, length));
	free(text);

	/* brackets in strings are none, nor do neighbours add up */
	char wide[2000] = "[\"[[{\\\"[[\"";
	for (int i = 0; i < 300; i++)
		memcpy(wide + strlen(wide), ",[]", 4);
	memcpy(wide + strlen(wide), "]", 2);
	assert_int_equal(json_parse(wide, strlen(wide), &value, &error), 0);
	json_decref(value);
	assert_true(json_is_wellformed(wide, strlen(wide)));
}

/* ---- Checking ---- */

/* In memory of exactly that size, for the sanitizer to watch. */
static bool is_wellformed(const char *data, size_t length)
{
	char *copy = malloc(length > 0 ? length : 1);

	assert_non_null(copy);
	memcpy(copy, data, length);
	bool answer = json_is_wellformed(copy, length);
	free(copy);
	return answer;
}

static void test_wellformed(void **state)
{
	static const char *const good[] = {
		"0",
		"-0",
		"1.0e+5",
		"1E-2",
		"[1,2 , 3]",
		" {} ",
		"[[],{}]",
		"true",
		"false",
		"null",
		"\"\"",
		"\"\\u0000\"",
		"{\"a\":[{\"b\":null}],\"\":{}}",
		"\"\\ud83d\\ude00\"",
		"\"\x7f\"",
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\uABCD\"",
		"\r\n\t 1e99999 ",
	};
	static const char *const bad[] = {
		"",
		" ",
		"01",
		"1.",
		".5",
		"-",
		"+1",
		"1e",
		"1e+",
		"0x1",
		"[1,]",
		"[,1]",
		"[1 2]",
		"{,}",
		"{\"a\"}",
		"{\"a\":}",
		"{a:1}",
		"{\"a\":1,}",
		"[",
		"]",
		"{",
		"}",
		"[}",
		"{]",
		"[1}",
		"{\"a\":1]",
		"\"",
		"\"a",
		"\"\\\"",
		"\"\\x\"",
		"\"\\u12\"",
		"\"\\u12g4\"",
		"tru",
		"True",
		"nul",
		"1 2",
		"[]]",
		"{}{}",
		"'a'",
		"\"a\nb\"",
		"\"\\ud800\"",
		"\"\\udc00\"",
		"NaN",
		"Infinity",
		"1,",
		"\xef\xbb\xbf 1",
		"\"\\ud800\\u0041\"",
		"\"\\ud800x\"",
		"// c\n1",
		"[1]x",
		"--1",
		"1.e1",
		"\"\t\"",
		"{1:2}",
		"\"\\",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (!is_wellformed(good[i], strlen(good[i])))
			fail_msg("refused: %s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (is_wellformed(bad[i], strlen(bad[i])))
			fail_msg("taken: %s", bad[i]);
	assert_false(json_is_wellformed(NULL, 0));
	assert_false(is_wellformed("1\0", 2));
	assert_false(is_wellformed("\"\0\"", 3));
	assert_false(is_wellformed("\"\\\0\"", 4));
}

/* What is no plain byte must be seen at every place of the eight bytes that are looked at at once.
 */
static void test_special_byte_at_every_place(void **state)
{
	char text[40];

	(void)state;
	for (size_t length = 3; length <= sizeof(text); length++) {
		for (size_t at = 1; at + 1 < length; at++) {
			for (int c = 0; c < 256; c++) {
				memset(text, 'p', length);
				text[0] = '"';
				text[length - 1] = '"';
				text[at] = (char)c;
				bool good = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
				if (is_wellformed(text, length) != good)
					fail_msg("byte %d at %zu of %zu", c, at, length);
			}
		}
	}
}

struct utf8_case {
	const char *bytes;
	const char *replaced; /* NULL: valid, stays */
};

#define R "\xef\xbf\xbd"

static const struct utf8_case utf8_cases[] = {
	{"\xc2\x80", NULL},
	{"\xdf\xbf", NULL},
	{"\xe0\xa0\x80", NULL},
	{"\xed\x9f\xbf", NULL},
	{"\xee\x80\x80", NULL},
	{"\xef\xbf\xbf", NULL},
	{"\xf0\x90\x80\x80", NULL},
	{"\xf4\x8f\xbf\xbf", NULL},
	/* overlong */
	{"\xc0\x80", R R},
	{"\xc1\xbf", R R},
	{"\xe0\x80\x80", R R R},
	{"\xe0\x9f\xbf", R R R},
	{"\xf0\x80\x80\x80", R R R R},
	{"\xf0\x8f\xbf\xbf", R R R R},
	/* surrogates */
	{"\xed\xa0\x80", R R R},
	{"\xed\xbf\xbf", R R R},
	/* beyond U+10FFFF */
	{"\xf4\x90\x80\x80", R R R R},
	{"\xf5\x80\x80\x80", R R R R},
	{"\xff", R},
	{"\xfe\x80", R R},
	/* truncated, alone */
	{"\xc2", R},
	{"\xe2\x82", R},
	{"\xf0\x9f\x98", R},
	{"\xf0\x9f", R},
	{"\x80", R},
	{"\xbf\xbf", R R},
	{"\xe2\x82z", R "z"},
	{"\xf0\x9f\x98\xc3\xa9", R "\xc3\xa9"},
	{"\xe2\xe2\x82\xac", R "\xe2\x82\xac"},
	/* table 3-8 of the Unicode standard */
	{"a\xf1\x80\x80\xe1\x80\xc2"
	 "b\x80"
	 "c\x80\xbf"
	 "d",
	 "a" R R R "b" R "c" R R "d"},
};

static void test_utf8(void **state)
{
	struct buffer buffer = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(utf8_cases) / sizeof(utf8_cases[0]); i++) {
		const struct utf8_case *one = &utf8_cases[i];
		const char *expected = one->replaced != NULL ? one->replaced : one->bytes;
		struct json_writer writer = {.buffer = &buffer};
		char text[32];
		size_t length = strlen(one->bytes);

		text[0] = '"';
		memcpy(text + 1, one->bytes, length);
		text[length + 1] = '"';
		if (is_wellformed(text, length + 2) != (one->replaced == NULL))
			fail_msg("case %zu is judged wrongly", i);
		assert_false(is_wellformed(text, length + 1));

		buffer_clear(&buffer);
		json_write_bytes(&writer, NULL, one->bytes, length);
		assert_int_equal(buffer.length, strlen(expected) + 2);
		assert_memory_equal(buffer.data + 1, expected, strlen(expected));
	}
	buffer_release(&buffer);
}

/* Every sequence of up to three bytes, and of four with a lead of four, against jansson. */
static void test_utf8_against_jansson(void **state)
{
	(void)state;
	for (uint32_t bits = 0; bits < 1u << 16; bits++) {
		char text[8] = {'"',
				(char)(0x80 | (bits >> 10 & 0x7f)),
				(char)(bits >> 4),
				(char)(bits << 4 | 0x0f),
				(char)random_next(),
				'"'};
		json_t *value = json_loadb(text, 6, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

		if (json_is_wellformed(text, 6) != (value != NULL))
			fail_msg("%02x %02x %02x %02x", text[1] & 0xff, text[2] & 0xff,
				 text[3] & 0xff, text[4] & 0xff);
		json_decref(value);
	}
}

static const char *pick(const char *const *pieces, size_t count)
{
	return pieces[random_below(count)];
}

#define PICK(pieces) pick((pieces), sizeof(pieces) / sizeof((pieces)[0]))

static void generate_string(struct buffer *out)
{
	static const char *const pieces[] = {"a",
					     "plain text of some length",
					     "\\n",
					     "\\u00e9",
					     "\\ud83d\\ude00",
					     "\xc3\xa9",
					     "\xf0\x9f\x98\x80",
					     "\\\"",
					     "\\\\",
					     "\xe2\x82\xac",
					     "/",
					     "\x7f",
					     "\\/"};

	buffer_append_char(out, '"');
	for (size_t left = random_below(5); left > 0; left--)
		buffer_append_text(out, PICK(pieces));
	buffer_append_char(out, '"');
}

static void generate_space(struct buffer *out)
{
	static const char *const pieces[] = {"", "", "", " ", "\n", "\t\r ", "  "};

	buffer_append_text(out, PICK(pieces));
}

static void generate(struct buffer *out, int depth)
{
	static const char *const scalars[] = {
		"0",	"-0",	 "17",	 "-1.25",	    "1e5", "1E-7", "2.5e+3",
		"true", "false", "null", "9007199254740993"};
	size_t kind = random_below(depth > 0 ? 5 : 2);
	size_t members = kind >= 3 ? random_below(5) : 0;

	generate_space(out);
	if (kind == 0 || kind == 2)
		buffer_append_text(out, PICK(scalars));
	else if (kind == 1)
		generate_string(out);
	else
		buffer_append_char(out, kind == 3 ? '[' : '{');
	for (size_t i = 0; i < members; i++) {
		if (i > 0)
			buffer_append_char(out, ',');
		if (kind == 4) {
			generate_space(out);
			generate_string(out);
			generate_space(out);
			buffer_append_char(out, ':');
		}
		generate(out, depth - 1);
	}
	generate_space(out);
	if (kind >= 3)
		buffer_append_char(out, kind == 3 ? ']' : '}');
	generate_space(out);
}

/* Changes, removes, doubles or moves a few bytes. */
static void mutate(struct buffer *buffer)
{
	static const char bytes[] =
		"\"\\{}[],:0123456789.-+eEtrufalsn \n\t\x00\x1f\x80\xc3\xed\xf0\xff";

	for (size_t left = 1 + random_below(3); left > 0 && buffer->length > 0; left--) {
		size_t at = random_below(buffer->length), tail = buffer->length - at;

		switch (random_below(4)) {
		case 0:
			buffer->data[at] = bytes[random_below(sizeof(bytes) - 1)];
			break;
		case 1:
			memmove(buffer->data + at, buffer->data + at + 1, tail - 1);
			buffer->length--;
			break;
		case 2:
			buffer_append_char(buffer, ' ');
			memmove(buffer->data + at + 1, buffer->data + at, tail);
			buffer->data[at] = bytes[random_below(sizeof(bytes) - 1)];
			break;
		default:
			buffer->length = at;
			break;
		}
	}
}

/* What jansson refuses although the text is well-formed: numbers and keys that its tree cannot
 * hold. */
static bool is_limit_of_jansson(const json_error_t *error)
{
	enum json_error_code code = json_error_code(error);

	return code == json_error_numeric_overflow || code == json_error_null_byte_in_key;
}

static void test_generated_and_mutated(void **state)
{
	struct buffer buffer = {0};
	size_t taken = 0, refused = 0;

	(void)state;
	for (int round = 0; round < 100000; round++) {
		json_error_t error = {0};

		buffer_clear(&buffer);
		generate(&buffer, 5);
		assert_false(buffer_failed(&buffer));
		if (!json_is_wellformed(buffer.data, buffer.length))
			fail_msg("refused: %.*s", (int)buffer.length, buffer.data);
		mutate(&buffer);
		json_t *value = json_loadb(buffer.data, buffer.length,
					   JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
		bool found = is_wellformed(buffer.data, buffer.length);
		/* jansson skips a NUL behind a number */
		if (value != NULL && memchr(buffer.data, '\0', buffer.length) != NULL)
			assert_false(found);
		else if (found != (value != NULL) && !(found && is_limit_of_jansson(&error)))
			fail_msg("%s: %.*s", found ? "taken" : "refused", (int)buffer.length,
				 buffer.data);
		taken += found;
		refused += !found;
		json_decref(value);
	}
	/* both answers must have been put to the test */
	assert_true(taken > 10000 && refused > 10000);
	buffer_release(&buffer);
}

/* ---- Encoding and writing ---- */

static void test_encode_round_trip(void **state)
{
	struct buffer buffer = {0};

	(void)state;
	for (int round = 0; round < 20000; round++) {
		json_t *value, *again;
		struct error error;
		size_t length;

		buffer_clear(&buffer);
		generate(&buffer, 5);
		/* a duplicate key */
		if (json_parse(buffer.data, buffer.length, &value, &error) != 0)
			continue;
		char *text = json_encode(value, &length);
		assert_non_null(text);
		assert_int_equal(strlen(text), length);
		assert_true(json_is_wellformed(text, length));
		assert_int_equal(json_parse(text, length, &again, &error), 0);
		assert_true(json_equal(value, again));
		/* compact */
		char *other = json_dumps(again, JSON_COMPACT | JSON_ENCODE_ANY);
		if (strchr(other, '.') == NULL && strchr(other, 'e') == NULL)
			assert_string_equal(text, other);
		free(other);
		free(text);
		json_decref(value);
		json_decref(again);
	}
	buffer_release(&buffer);
}

static void assert_real(double value, const char *expected)
{
	json_t *real = json_real(value);
	char *text = json_encode(real, NULL);

	assert_string_equal(text, expected);
	free(text);
	json_decref(real);
}

static void test_encode_reals(void **state)
{
	(void)state;
	assert_real(0.1, "0.1");
	assert_real(0, "0.0");
	assert_real(-3, "-3.0");
	assert_real(1e22, "1e+22");
	assert_real(0.1 + 0.2, "0.30000000000000004");
	for (int round = 0; round < 50000; round++) {
		uint64_t bits = random_next();
		double value;

		memcpy(&value, &bits, sizeof(value));
		if (!isfinite(value))
			continue;
		json_t *real = json_real(value);
		size_t length;
		char *text = json_encode(real, &length);
		json_t *again = json_loadb(text, length, JSON_DECODE_ANY, NULL);
		assert_true(json_is_real(again));
		assert_true(json_real_value(again) == value);
		free(text);
		json_decref(real);
		json_decref(again);
	}
}

static void test_encode_refuses_the_deepest(void **state)
{
	json_t *value = json_array();

	(void)state;
	for (int i = 0; i < 200; i++) {
		json_t *outer = json_array();

		json_array_append_new(outer, value);
		value = outer;
	}
	char *text = json_encode(value, NULL);
	assert_non_null(text);
	free(text);
	for (int i = 0; i < 200; i++) {
		json_t *outer = json_array();

		json_array_append_new(outer, value);
		value = outer;
	}
	assert_null(json_encode(value, NULL));
	json_decref(value);
}

static void write_everything(struct json_writer *writer)
{
	json_write_begin_object(writer, NULL);
	json_write_string(writer, "id", "x\"y\\z\n\x01\x1f");
	json_write_string(writer, "none", NULL);
	json_write_begin_array(writer, "list");
	json_write_int(writer, NULL, INT64_MIN);
	json_write_int(writer, NULL, INT64_MAX);
	json_write_uint(writer, NULL, UINT64_MAX);
	json_write_begin_object(writer, NULL);
	json_write_end_object(writer);
	json_write_begin_array(writer, NULL);
	json_write_end_array(writer);
	json_write_bool(writer, NULL, true);
	json_write_end_array(writer);
	json_write_bool(writer, "no", false);
	json_write_null(writer, "null");
	json_write_raw(writer, "raw", "[1, 2]", 6);
	json_write_raw(writer, "nothing", NULL, 0);
	json_write_begin_object(writer, "inner");
	json_write_int(writer, "zero", 0);
	json_write_end_object(writer);
	json_write_bytes(writer, "bytes", "a\0b", 3);
	json_write_end_object(writer);
}

static void test_writer(void **state)
{
	static const char expected[] =
		"{\"id\":\"x\\\"y\\\\z\\n\\u0001\\u001f\",\"none\":null,\"list\":[-"
		"9223372036854775808,"
		"9223372036854775807,18446744073709551615,{},[],true],\"no\":false,\"null\":null,"
		"\"raw\":[1, 2],\"nothing\":null,\"inner\":{\"zero\":0},\"bytes\":\"a\\u0000b\"}";
	struct buffer buffer = {0};
	struct json_writer writer = {.buffer = &buffer};

	(void)state;
	write_everything(&writer);
	assert_int_equal(buffer.length, sizeof(expected) - 1);
	assert_memory_equal(buffer.data, expected, buffer.length);
	assert_true(json_is_wellformed(buffer.data, buffer.length));

	/* a buffer that failed stays as it was */
	size_t length = buffer.length;
	assert_int_not_equal(buffer_reserve(&buffer, SIZE_MAX), 0);
	write_everything(&writer);
	assert_true(buffer_failed(&buffer));
	assert_int_equal(buffer.length, length);
	buffer_release(&buffer);
}

static void assert_ms(int64_t ns, const char *expected)
{
	struct buffer buffer = {0};
	struct json_writer writer = {.buffer = &buffer};

	json_write_ms(&writer, NULL, ns);
	assert_int_equal(buffer.length, strlen(expected));
	assert_memory_equal(buffer.data, expected, buffer.length);
	buffer_release(&buffer);
}

static void test_ms(void **state)
{
	(void)state;
	assert_ms(0, "0.000");
	assert_ms(-1, "0.000");
	assert_ms(INT64_MIN, "0.000");
	assert_ms(499, "0.000");
	assert_ms(500, "0.001");
	assert_ms(31000, "0.031");
	assert_ms(12331499, "12.331");
	assert_ms(12331500, "12.332");
	assert_ms(999999500, "1000.000");
	assert_ms(INT64_MAX, "9223372036854.776");
}

static void test_random_bytes_are_written_wellformed(void **state)
{
	struct buffer buffer = {0};

	(void)state;
	for (int round = 0; round < 20000; round++) {
		struct json_writer writer = {.buffer = &buffer};
		char bytes[64];
		size_t length = random_below(sizeof(bytes));

		for (size_t i = 0; i < length; i++)
			bytes[i] = (char)(round % 2 ? random_next() : 0xe0 | random_next());
		buffer_clear(&buffer);
		json_write_begin_array(&writer, NULL);
		json_write_bytes(&writer, NULL, bytes, length);
		json_write_end_array(&writer);
		assert_true(json_is_wellformed(buffer.data, buffer.length));
		json_t *value = json_loadb(buffer.data, buffer.length, JSON_ALLOW_NUL, NULL);
		assert_non_null(value);
		json_decref(value);
	}
	buffer_release(&buffer);
}

static const char *member(const char *text, const char *key)
{
	static char found[64];
	const char *value;
	size_t length;

	if (!json_find_member(text, strlen(text), key, &value, &length))
		return "none";
	assert_in_range(value - text, 0, strlen(text) - length);
	snprintf(found, sizeof(found), "%.*s", (int)length, value);
	return found;
}

static void test_members_are_found_as_they_are_written(void **state)
{
	const char *text = " {\"a\" : [1, {\"b\":\"]}\"}] , \"b\":1e999,\"ab\":\"\\\"a\\\":1\",\n"
			   "\"c\":{},\"d\":null,\"e\":\"\\u0000\",\"b\":2} ";

	(void)state;
	assert_string_equal(member(text, "a"), "[1, {\"b\":\"]}\"}]");
	assert_string_equal(member(text, "b"), "1e999");
	assert_string_equal(member(text, "ab"), "\"\\\"a\\\":1\"");
	assert_string_equal(member(text, "c"), "{}");
	assert_string_equal(member(text, "d"), "null");
	assert_string_equal(member(text, "e"), "\"\\u0000\"");
	assert_string_equal(member(text, "f"), "none");
	assert_string_equal(member(text, ""), "none");
	assert_string_equal(member("{}", "a"), "none");
	assert_string_equal(member("[{\"a\":1}]", "a"), "none");
	assert_string_equal(member("", "a"), "none");
}

/* Whatever is cut off, nothing beyond the end is read or told. */
static void test_members_of_a_torn_object(void **state)
{
	static const char text[] = "{\"a\":[1,{\"b\":\"\\\"\"}],\"c\":[true,{}]}";
	const char *value;
	size_t length;

	(void)state;
	for (size_t cut = 0; cut < sizeof(text) - 1; cut++) {
		char *copy = malloc(cut + 1);
		assert_non_null(copy);
		memcpy(copy, text, cut);
		if (json_find_member(copy, cut, "c", &value, &length))
			assert_int_equal(cut,
					 sizeof(text) - 2); /* only the last bracket is missing */
		free(copy);
	}
}

static void test_type_names(void **state)
{
	static const char *const names[] = {"object", "array",	 "string",  "integer",
					    "number", "boolean", "boolean", "null"};
	json_t *values = json_pack("[{}, [], s, i, f, b, b, n]", "x", 1, 1.5, 0, 1);

	(void)state;
	assert_non_null(values);
	for (size_t i = 0; i < 8; i++)
		assert_string_equal(json_type_name(json_array_get(values, i)), names[i]);
	json_decref(values);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_wellformed),
		cmocka_unit_test(test_special_byte_at_every_place),
		cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_utf8_against_jansson),
		cmocka_unit_test(test_generated_and_mutated),
		cmocka_unit_test(test_encode_round_trip),
		cmocka_unit_test(test_encode_reals),
		cmocka_unit_test(test_encode_refuses_the_deepest),
		cmocka_unit_test(test_writer),
		cmocka_unit_test(test_ms),
		cmocka_unit_test(test_random_bytes_are_written_wellformed),
		cmocka_unit_test(test_members_are_found_as_they_are_written),
		cmocka_unit_test(test_members_of_a_torn_object),
		cmocka_unit_test(test_type_names),
	};

	return cmocka_run_group_tests_name("base json", tests, NULL, NULL);
}
