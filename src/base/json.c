/*
 * JSON: reading with useful errors, checking without building, writing.
 *
 * Invariants of the writer: between two calls the buffer ends after a complete member or an opening
 * bracket; comma is set exactly if it ends after a member. Whatever bytes a string is made of, what
 * is written is valid UTF-8 and JSON.
 */
#include "base/json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* Deepest tree that json_encode() walks: documents from outside, wrapped in some of ours. */
#define ENCODE_DEPTH_MAX (2 * JSON_DEPTH_MAX)

#define TEXT_OF(token)	    #token
#define NUMBER_TEXT(number) TEXT_OF(number)

/* ---- Parsing ---- */

/* Where nesting exceeds JSON_DEPTH_MAX in a document that is known to be well-formed; length if
 * nowhere. */
static size_t find_too_deep(const char *data, size_t length)
{
	size_t depth = 0;
	bool in_string = false;

	for (size_t at = 0; at < length; at++) {
		char c = data[at];

		if (in_string && c == '\\')
			at++;
		else if (c == '"')
			in_string = !in_string;
		else if (in_string)
			continue;
		else if ((c == '[' || c == '{') && ++depth > JSON_DEPTH_MAX)
			return at;
		else if (c == ']' || c == '}')
			depth--;
	}
	return length;
}

/* Lines and columns are counted from 1, columns in characters, as jansson does. */
static int set_error_at(struct error *error, const char *data, size_t at, const char *what)
{
	size_t line = 1, column = 1;

	for (size_t i = 0; i < at; i++) {
		if (data[i] == '\n') {
			line++;
			column = 1;
		} else if (((unsigned char)data[i] & 0xc0) != 0x80) {
			column++;
		}
	}
	return error_set(error, ERROR_SYNTAX, NULL, "line %zu, column %zu: %s", line, column, what);
}

/* jansson's text quotes the input, which may hold control characters: a message is one printable
 * line. */
static int set_syntax_error(struct error *error, json_error_t *parsing)
{
	if (json_error_code(parsing) == json_error_out_of_memory) {
		(void)error_set(error, ERROR_INTERNAL, NULL, "out of memory");
		return -ENOMEM;
	}
	for (char *c = parsing->text; *c != '\0'; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = ' ';
	if (parsing->line < 1)
		return error_set(error, ERROR_SYNTAX, NULL, "%s", parsing->text);
	return error_set(error, ERROR_SYNTAX, NULL, "line %d, column %d: %s", parsing->line,
			 parsing->column, parsing->text);
}

int json_parse(const char *data, size_t length, json_t **ret_value, struct error *error)
{
	/* jansson 2.14 skips a NUL behind a number. */
	const char *nul = length > 0 ? memchr(data, '\0', length) : NULL;
	if (nul != NULL)
		return set_error_at(error, data, (size_t)(nul - data), "unexpected NUL byte");

	json_error_t parsing;
	json_t *value = json_loadb(length > 0 ? data : "", length,
				   JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &parsing);
	if (value == NULL)
		return set_syntax_error(error, &parsing);

	size_t too_deep = find_too_deep(data, length);
	if (too_deep < length) {
		json_decref(value);
		return set_error_at(error, data, too_deep,
				    "nested more than " NUMBER_TEXT(JSON_DEPTH_MAX) " deep");
	}
	*ret_value = value;
	return 0;
}

const char *json_type_name(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "object";
	case JSON_ARRAY:
		return "array";
	case JSON_STRING:
		return "string";
	case JSON_INTEGER:
		return "integer";
	case JSON_REAL:
		return "number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "boolean";
	case JSON_NULL:
		return "null";
	}
	return "unknown";
}

/* ---- Checking ---- */

/* The brackets that are open: bit depth - 1 of objects tells an object from an array. */
struct scan {
	const char *at;
	const char *end;
	size_t depth;
	uint64_t objects[JSON_DEPTH_MAX / 64];
};

enum scan_next { SCAN_MORE, SCAN_DONE, SCAN_BAD };

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static void skip_space(struct scan *scan)
{
	while (scan->at < scan->end &&
	       (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\r' || *scan->at == '\t'))
		scan->at++;
}

/* Takes the character c, if it is what comes next. */
static bool take(struct scan *scan, char c)
{
	if (scan->at == scan->end || *scan->at != c)
		return false;
	scan->at++;
	return true;
}

static bool take_literal(struct scan *scan, const char *text, size_t length)
{
	if ((size_t)(scan->end - scan->at) < length || memcmp(scan->at, text, length) != 0)
		return false;
	scan->at += length;
	return true;
}

static bool take_digits(struct scan *scan)
{
	const char *start = scan->at;

	while (scan->at < scan->end && is_digit(*scan->at))
		scan->at++;
	return scan->at > start;
}

static bool take_number(struct scan *scan)
{
	(void)take(scan, '-');
	if (!take(scan, '0') && !take_digits(scan))
		return false;
	if (take(scan, '.') && !take_digits(scan))
		return false;
	if (take(scan, 'e') || take(scan, 'E')) {
		if (!take(scan, '+'))
			(void)take(scan, '-');
		return take_digits(scan);
	}
	return true;
}

/* The four digits of a \u escape; TEXT_INVALID if they are not there. */
static uint32_t take_hex4(struct scan *scan)
{
	uint32_t value = 0;

	if (scan->end - scan->at < 4)
		return TEXT_INVALID;
	for (int i = 0; i < 4; i++) {
		char c = *scan->at++;

		if (is_digit(c))
			value = value << 4 | (uint32_t)(c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			value = value << 4 | (uint32_t)((c | 0x20) - 'a' + 10);
		else
			return TEXT_INVALID;
	}
	return value;
}

/* What follows a backslash. Half of a surrogate pair alone is no character and is refused. */
static bool take_escape(struct scan *scan)
{
	if (scan->at == scan->end)
		return false;

	char c = *scan->at++;
	if (c != 'u')
		return c != '\0' && strchr("\"\\/bfnrt", c) != NULL;

	uint32_t unit = take_hex4(scan);
	if (unit == TEXT_INVALID || (unit >= 0xdc00 && unit <= 0xdfff))
		return false;
	if (unit < 0xd800 || unit > 0xdbff)
		return true;
	if (!take_literal(scan, "\\u", 2))
		return false;
	unit = take_hex4(scan);
	return unit >= 0xdc00 && unit <= 0xdfff;
}

/* A string, from its opening quote on. */
static bool take_string(struct scan *scan)
{
	if (!take(scan, '"'))
		return false;
	for (;;) {
		scan->at += text_plain_run(scan->at, (size_t)(scan->end - scan->at));
		if (scan->at == scan->end)
			return false;

		unsigned char c = (unsigned char)*scan->at;
		if (c >= 0x80) {
			uint32_t code_point;

			scan->at +=
				text_decode(scan->at, (size_t)(scan->end - scan->at), &code_point);
			if (code_point == TEXT_INVALID)
				return false;
			continue;
		}
		scan->at++;
		if (c == '"')
			return true;
		if (c != '\\' || !take_escape(scan))
			return false;
	}
}

static bool take_scalar(struct scan *scan)
{
	if (scan->at == scan->end)
		return false;
	switch (*scan->at) {
	case '"':
		return take_string(scan);
	case 't':
		return take_literal(scan, "true", 4);
	case 'f':
		return take_literal(scan, "false", 5);
	case 'n':
		return take_literal(scan, "null", 4);
	default:
		return take_number(scan);
	}
}

/* A member's name and its colon. */
static bool take_key(struct scan *scan)
{
	skip_space(scan);
	if (!take_string(scan))
		return false;
	skip_space(scan);
	return take(scan, ':');
}

static bool push(struct scan *scan, bool object)
{
	if (scan->depth == JSON_DEPTH_MAX)
		return false;

	uint64_t bit = UINT64_C(1) << scan->depth % 64;
	if (object)
		scan->objects[scan->depth / 64] |= bit;
	else
		scan->objects[scan->depth / 64] &= ~bit;
	scan->depth++;
	return true;
}

static bool in_object(const struct scan *scan)
{
	return (scan->objects[(scan->depth - 1) / 64] >> (scan->depth - 1) % 64 & 1) != 0;
}

/* Opens brackets up to and with the first value that is complete: a scalar, or empty brackets. */
static bool take_value(struct scan *scan)
{
	for (;;) {
		skip_space(scan);

		bool object = take(scan, '{');
		if (!object && !take(scan, '['))
			return take_scalar(scan);
		if (!push(scan, object))
			return false;
		skip_space(scan);
		if (take(scan, object ? '}' : ']')) {
			scan->depth--;
			return true;
		}
		if (object && !take_key(scan))
			return false;
	}
}

/* Closes brackets after a value, up to where another value must come or the document ends. */
static enum scan_next take_end(struct scan *scan)
{
	for (;;) {
		skip_space(scan);
		if (scan->depth == 0)
			return scan->at == scan->end ? SCAN_DONE : SCAN_BAD;

		bool object = in_object(scan);
		if (take(scan, ','))
			return !object || take_key(scan) ? SCAN_MORE : SCAN_BAD;
		if (!take(scan, object ? '}' : ']'))
			return SCAN_BAD;
		scan->depth--;
	}
}

bool json_is_wellformed(const char *data, size_t length)
{
	struct scan scan = {.at = data, .end = data, .depth = 0};
	enum scan_next next;

	if (length == 0)
		return false;
	scan.end += length;
	do {
		if (!take_value(&scan))
			return false;
		next = take_end(&scan);
	} while (next == SCAN_MORE);
	return next == SCAN_DONE;
}

/* ---- Finding ---- */

/* Brackets are only counted: the value is well-formed. */
static bool skip_brackets(struct scan *scan)
{
	size_t depth = 0;

	while (scan->at < scan->end) {
		char c = *scan->at;
		if (c == '"') {
			if (!take_string(scan))
				return false;
			continue;
		}
		scan->at++;
		if (c == '{' || c == '[')
			depth++;
		else if ((c == '}' || c == ']') && --depth == 0)
			return true;
	}
	return false;
}

static bool skip_value(struct scan *scan)
{
	bool has_brackets = scan->at < scan->end && (*scan->at == '{' || *scan->at == '[');

	return has_brackets ? skip_brackets(scan) : take_scalar(scan);
}

bool json_find_member(const char *data, size_t length, const char *key, const char **ret_value,
		      size_t *ret_length)
{
	struct scan scan = {.at = data, .end = data + length};
	size_t key_length = strlen(key);

	skip_space(&scan);
	if (!take(&scan, '{'))
		return false;
	do {
		skip_space(&scan);
		const char *name = scan.at + 1; /* behind the quote */
		if (!take_key(&scan))
			return false;
		bool found = (size_t)(scan.end - name) > key_length &&
			     memcmp(name, key, key_length) == 0 && name[key_length] == '"';
		skip_space(&scan);
		const char *value = scan.at;
		if (!skip_value(&scan))
			return false;
		if (found) {
			*ret_value = value;
			*ret_length = (size_t)(scan.at - value);
			return true;
		}
		skip_space(&scan);
	} while (take(&scan, ','));
	return false;
}

/* ---- Writing ---- */

static void put_escape(struct buffer *buffer, unsigned char c)
{
	static const char digits[] = "0123456789abcdef";
	static const char shorts[] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f',
				      ['\r'] = 'r', ['"'] = '"',  ['\\'] = '\\'};

	if (c < sizeof(shorts) && shorts[c] != '\0') {
		buffer_append(buffer, (const char[]){'\\', shorts[c]}, 2);
	} else {
		const char escape[] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 0xf]};

		buffer_append(buffer, escape, sizeof(escape));
	}
}

static void put_string(struct buffer *buffer, const char *value, size_t length)
{
	/* What most strings need, at once; a failure shows in the buffer. */
	if (length > SIZE_MAX - 2 || buffer_reserve(buffer, length + 2) != 0)
		return;
	buffer_append_char(buffer, '"');
	for (size_t at = 0; at < length;) {
		size_t run = text_plain_run(value + at, length - at);
		uint32_t code_point = 0;

		buffer_append(buffer, value + at, run);
		at += run;
		if (at == length)
			break;
		run = text_decode(value + at, length - at, &code_point);
		if (code_point < 0x80)
			put_escape(buffer, (unsigned char)value[at]);
		else if (code_point == TEXT_INVALID)
			buffer_append(buffer, TEXT_REPLACEMENT, sizeof(TEXT_REPLACEMENT) - 1);
		else
			buffer_append(buffer, value + at, run);
		at += run;
	}
	buffer_append_char(buffer, '"');
}

/* The comma and the key of a member whose value follows. */
static void put_key(struct json_writer *writer, const char *key)
{
	struct buffer *buffer = writer->buffer;
	size_t key_length = key != NULL ? strlen(key) : 0;

	if (buffer_reserve(buffer, key_length + 4) != 0)
		return;

	char *out = buffer->data + buffer->length;
	if (writer->comma)
		*out++ = ',';
	if (key != NULL) {
		*out++ = '"';
		memcpy(out, key, key_length);
		out += key_length;
		*out++ = '"';
		*out++ = ':';
	}
	buffer->length = (size_t)(out - buffer->data);
	writer->comma = true;
}

void json_write_raw(struct json_writer *writer, const char *key, const char *data, size_t length)
{
	put_key(writer, key);
	if (data != NULL)
		buffer_append(writer->buffer, data, length);
	else
		buffer_append(writer->buffer, "null", 4);
}

static void begin(struct json_writer *writer, const char *key, char bracket)
{
	put_key(writer, key);
	buffer_append_char(writer->buffer, bracket);
	writer->comma = false;
}

static void end(struct json_writer *writer, char bracket)
{
	buffer_append_char(writer->buffer, bracket);
	writer->comma = true;
}

void json_write_begin_object(struct json_writer *writer, const char *key)
{
	begin(writer, key, '{');
}

void json_write_end_object(struct json_writer *writer)
{
	end(writer, '}');
}

void json_write_begin_array(struct json_writer *writer, const char *key)
{
	begin(writer, key, '[');
}

void json_write_end_array(struct json_writer *writer)
{
	end(writer, ']');
}

void json_write_string(struct json_writer *writer, const char *key, const char *value)
{
	if (value == NULL)
		json_write_null(writer, key);
	else
		json_write_bytes(writer, key, value, strlen(value));
}

void json_write_bytes(struct json_writer *writer, const char *key, const char *value, size_t length)
{
	put_key(writer, key);
	put_string(writer->buffer, value, length);
}

void json_write_int(struct json_writer *writer, const char *key, int64_t value)
{
	char digits[TEXT_DECIMAL_MAX + 1];

	json_write_raw(writer, key, digits, text_decimal_signed(digits, value));
}

void json_write_uint(struct json_writer *writer, const char *key, uint64_t value)
{
	char digits[TEXT_DECIMAL_MAX];

	json_write_raw(writer, key, digits, text_decimal(digits, value));
}

void json_write_bool(struct json_writer *writer, const char *key, bool value)
{
	json_write_raw(writer, key, value ? "true" : "false", value ? 4 : 5);
}

void json_write_null(struct json_writer *writer, const char *key)
{
	json_write_raw(writer, key, "null", 4);
}

void json_write_ms(struct json_writer *writer, const char *key, int64_t ns)
{
	uint64_t us = ns > 0 ? ((uint64_t)ns + 500) / 1000 : 0;
	char digits[TEXT_DECIMAL_MAX + 4];
	size_t length = text_decimal(digits, us / 1000);
	unsigned fraction = (unsigned)(us % 1000);

	digits[length++] = '.';
	digits[length++] = (char)('0' + fraction / 100);
	digits[length++] = (char)('0' + fraction / 10 % 10);
	digits[length++] = (char)('0' + fraction % 10);
	json_write_raw(writer, key, digits, length);
}

/* ---- Encoding ---- */

/*
 * The shortest of 15 to 17 significant digits that reads back as the same double: what came as 0.1
 * goes as 0.1, where jansson's encoder would write 0.10000000000000001. A point or an exponent
 * keeps it a real number.
 */
static void put_real(struct buffer *buffer, double value)
{
	char text[40];
	bool integral = true;

	for (int digits = 15; digits <= 17; digits++) {
		(void)snprintf(text, sizeof(text), "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			break;
	}
	for (char *c = text; *c != '\0'; c++) {
		if (is_digit(*c) || *c == '-' || *c == '+')
			continue;
		if (*c != 'e')
			*c = '.'; /* whatever the locale has */
		integral = false;
	}
	buffer_append_text(buffer, text);
	if (integral)
		buffer_append_text(buffer, ".0");
}

static bool put_value(struct json_writer *writer, const json_t *value, int depth);

static bool put_array(struct json_writer *writer, const json_t *array, int depth)
{
	json_write_begin_array(writer, NULL);
	for (size_t i = 0; i < json_array_size(array); i++) {
		put_key(writer, NULL);
		if (!put_value(writer, json_array_get(array, i), depth))
			return false;
	}
	json_write_end_array(writer);
	return true;
}

static bool put_object(struct json_writer *writer, json_t *object, int depth)
{
	json_write_begin_object(writer, NULL);
	for (void *member = json_object_iter(object); member != NULL;
	     member = json_object_iter_next(object, member)) {
		json_write_bytes(writer, NULL, json_object_iter_key(member),
				 json_object_iter_key_len(member));
		buffer_append_char(writer->buffer, ':');
		if (!put_value(writer, json_object_iter_value(member), depth))
			return false;
	}
	json_write_end_object(writer);
	return true;
}

/* A value whose comma and key, if it has any, are written. False only if it is nested too deep. */
static bool put_value(struct json_writer *writer, const json_t *value, int depth)
{
	struct json_writer inner = {.buffer = writer->buffer, .comma = false};

	if (depth > ENCODE_DEPTH_MAX)
		return false;
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		/* jansson's iterators ask for an object that may be changed, and change nothing. */
		return put_object(&inner, (json_t *)(uintptr_t)value, depth + 1);
	case JSON_ARRAY:
		return put_array(&inner, value, depth + 1);
	case JSON_STRING:
		put_string(inner.buffer, json_string_value(value), json_string_length(value));
		return true;
	case JSON_INTEGER:
		json_write_int(&inner, NULL, json_integer_value(value));
		return true;
	case JSON_REAL:
		put_real(inner.buffer, json_real_value(value));
		return true;
	case JSON_TRUE:
	case JSON_FALSE:
		json_write_bool(&inner, NULL, json_is_true(value));
		return true;
	case JSON_NULL:
		json_write_null(&inner, NULL);
		return true;
	}
	return false;
}

char *json_encode(const json_t *value, size_t *ret_length)
{
	struct buffer buffer = {0};
	struct json_writer writer = {.buffer = &buffer};
	size_t length;
	char *data;

	if (!put_value(&writer, value, 0))
		goto fail;
	buffer_append_char(&buffer, '\0');
	data = buffer_take(&buffer, &length);
	if (data == NULL)
		return NULL;
	if (ret_length != NULL)
		*ret_length = length - 1;
	return data;

fail:
	buffer_release(&buffer);
	return NULL;
}
