#include "base64.h"

#include <stdint.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Writes four characters for one to three bytes. */
static void encode_group(const unsigned char *bytes, size_t count, char *text)
{
	uint32_t group = (uint32_t)bytes[0] << 16;

	if (count > 1)
		group |= (uint32_t)bytes[1] << 8;
	if (count > 2)
		group |= bytes[2];
	text[0] = alphabet[group >> 18];
	text[1] = alphabet[group >> 12 & 63];
	text[2] = count > 1 ? alphabet[group >> 6 & 63] : '=';
	text[3] = count > 2 ? alphabet[group & 63] : '=';
}

void base64_encode(const unsigned char *bytes, size_t length, char *ret_text)
{
	for (size_t i = 0; i < length; i += 3, ret_text += 4)
		encode_group(bytes + i, length - i < 3 ? length - i : 3, ret_text);
}

/* The six bits of a character, or -1. */
static int bits_of(char c)
{
	const char *place = c != '\0' ? strchr(alphabet, c) : NULL;

	return place ? (int)(place - alphabet) : -1;
}

int base64_decode(const char *text, size_t length, unsigned char *ret_bytes, size_t *ret_length)
{
	size_t padding = 0;
	size_t written = 0;
	uint32_t group = 0;

	if (length % 4 != 0)
		return -1;
	while (padding < 2 && padding < length && text[length - 1 - padding] == '=')
		padding++;
	for (size_t i = 0; i < length; i++) {
		int bits = i < length - padding ? bits_of(text[i]) : 0;
		if (bits < 0)
			return -1;
		group = group << 6 | (uint32_t)bits;
		if (i % 4 != 3)
			continue;
		ret_bytes[written++] = (unsigned char)(group >> 16);
		ret_bytes[written++] = (unsigned char)(group >> 8);
		ret_bytes[written++] = (unsigned char)group;
		group = 0;
	}
	*ret_length = written - padding;
	return 0;
}
