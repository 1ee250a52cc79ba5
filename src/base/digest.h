/*
 * SHA-256 (FIPS 180-4) and HMAC-SHA-256 (RFC 2104), by nettle. Thread: any.
 */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_SIZE	 32
#define DIGEST_TEXT_SIZE 65 /* lower-case hexadecimal digits and the end mark */

void digest_sha256(const void *data, size_t length, uint8_t ret_digest[static DIGEST_SIZE]);

/* Of several pieces as if they were one: key, then pieces. */
struct digest_piece {
	const void *data;
	size_t length;
};
void digest_hmac_sha256(const void *key, size_t key_length, const struct digest_piece *pieces,
			size_t count, uint8_t ret_digest[static DIGEST_SIZE]);

/* Answers text. */
const char *digest_format(const uint8_t digest[static DIGEST_SIZE],
			  char text[static DIGEST_TEXT_SIZE]);

#endif
