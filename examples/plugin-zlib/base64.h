/* Base64 (RFC 4648, section 4, with padding): bytes have to travel as text, since arguments and results are JSON. */
#ifndef PLUGIN_ZLIB_BASE64_H
#define PLUGIN_ZLIB_BASE64_H

#include <stddef.h>

/* Characters for so many bytes, without a NUL. */
#define BASE64_LENGTH(bytes) (((bytes) + 2) / 3 * 4)

/* Writes BASE64_LENGTH(length) characters; no NUL. */
void base64_encode(const unsigned char *bytes, size_t length, char *ret_text);

/* Writes at most length / 4 * 3 bytes. 0, or -1 if text is no base64. */
int base64_decode(const char *text, size_t length, unsigned char *ret_bytes, size_t *ret_length);

#endif
