/*
 * Text that may come from anybody: UTF-8 read defensively, bounded copies, decimal digits. Shared
 * by the errors, the log and the JSON code, and inline because they call it for every string.
 * Thread: any.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TEXT_INVALID	 UINT32_MAX	/* no code point */
#define TEXT_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */
#define TEXT_DECIMAL_MAX 20		/* digits of UINT64_MAX */

/*
 * Reads the character at text, of which length > 0 bytes may be looked at. Answers how many bytes
 * it has. Where there is no well-formed character (table 3-7 of the Unicode standard, so neither
 * overlong forms, nor surrogates, nor anything above U+10FFFF) *ret_code_point is TEXT_INVALID and
 * the answer is the length of the maximal subpart, which one U+FFFD replaces.
 */
static inline size_t text_decode(const char *text, size_t length, uint32_t *ret_code_point)
{
	const unsigned char *bytes = (const unsigned char *)text;
	unsigned char lead = bytes[0], low = 0x80, high = 0xbf;
	uint32_t code_point;
	size_t need;

	*ret_code_point = TEXT_INVALID;
	if (lead < 0x80) {
		*ret_code_point = lead;
		return 1;
	} else if (lead < 0xc2 || lead > 0xf4) {
		return 1;
	} else if (lead < 0xe0) {
		need = 2;
		code_point = lead & 0x1fu;
	} else if (lead < 0xf0) {
		need = 3;
		code_point = lead & 0x0fu;
		low = lead == 0xe0 ? 0xa0 : 0x80;
		high = lead == 0xed ? 0x9f : 0xbf;
	} else {
		need = 4;
		code_point = lead & 0x07u;
		low = lead == 0xf0 ? 0x90 : 0x80;
		high = lead == 0xf4 ? 0x8f : 0xbf;
	}
	for (size_t i = 1; i < need; i++) {
		if (i >= length || bytes[i] < low || bytes[i] > high)
			return i;
		code_point = code_point << 6 | (bytes[i] & 0x3fu);
		low = 0x80;
		high = 0xbf;
	}
	*ret_code_point = code_point;
	return need;
}

/* The length without a last character of which only the beginning is there: where a text may be
 * cut. */
static inline size_t text_trim(const char *text, size_t length)
{
	size_t start = length;
	uint32_t code_point;

	for (int back = 0; back < 3 && start > 0; back++) {
		start--;
		if (((unsigned char)text[start] & 0xc0) != 0x80)
			break;
	}
	if (start < length && (unsigned char)text[start] >= 0xc0) {
		(void)text_decode(text + start, length - start, &code_point);
		if (code_point == TEXT_INVALID)
			return start;
	}
	return length;
}

/* Copies text, cut at a character's edge if it must be; always ends it. Answers the length of the
 * copy. */
static inline size_t text_copy(char *out, size_t size, const char *text)
{
	size_t length = strnlen(text, size);

	if (length == size)
		length = text_trim(text, size - 1);
	memmove(out, text, length);
	out[length] = '\0';
	return length;
}

/*
 * How many bytes from the start are plain in a JSON string: ASCII from 0x20 on, neither '"' nor
 * '\\'. Eight bytes at a time: a byte of each term below gets its high bit if it is not plain, and
 * a borrow can only spoil bytes above one that was caught, so the lowest one caught is exact.
 */
static inline size_t text_plain_run(const char *text, size_t length)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	size_t at = 0;

	for (; length - at >= 8; at += 8) {
		uint64_t word;

		memcpy(&word, text + at, sizeof(word));
		word = le64toh(word);
		uint64_t caught = (word | (word - ones * 0x20) | ((word ^ ones * '"') - ones) |
				   ((word ^ ones * '\\') - ones)) &
				  ones * 0x80;
		if (caught != 0)
			return at + (size_t)__builtin_ctzll(caught) / 8;
	}
	while (at < length && (unsigned char)text[at] >= 0x20 && (unsigned char)text[at] < 0x80 &&
	       text[at] != '"' && text[at] != '\\')
		at++;
	return at;
}

/* Writes value in decimal, without an end mark. Answers how many digits. */
static inline size_t text_decimal(char out[static TEXT_DECIMAL_MAX], uint64_t value)
{
	char digits[TEXT_DECIMAL_MAX];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value != 0);
	memcpy(out, digits + at, sizeof(digits) - at);
	return sizeof(digits) - at;
}

/* The same for a signed value: at most 19 digits and a sign. */
static inline size_t text_decimal_signed(char out[static TEXT_DECIMAL_MAX + 1], int64_t value)
{
	if (value >= 0)
		return text_decimal(out, (uint64_t)value);
	out[0] = '-';
	return 1 + text_decimal(out + 1, 0 - (uint64_t)value);
}

#endif
