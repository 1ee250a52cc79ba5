#include "base/digest.h"

#include <nettle/hmac.h>
#include <nettle/sha2.h>

void digest_sha256(const void *data, size_t length, uint8_t ret_digest[static DIGEST_SIZE])
{
	struct sha256_ctx context;

	sha256_init(&context);
	sha256_update(&context, length, data);
	sha256_digest(&context, DIGEST_SIZE, ret_digest);
}

void digest_hmac_sha256(const void *key, size_t key_length, const struct digest_piece *pieces,
			size_t count, uint8_t ret_digest[static DIGEST_SIZE])
{
	struct hmac_sha256_ctx context;

	hmac_sha256_set_key(&context, key_length, key);
	for (size_t i = 0; i < count; i++)
		hmac_sha256_update(&context, pieces[i].length, pieces[i].data);
	hmac_sha256_digest(&context, DIGEST_SIZE, ret_digest);
}

const char *digest_format(const uint8_t digest[static DIGEST_SIZE],
			  char text[static DIGEST_TEXT_SIZE])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < DIGEST_SIZE; i++) {
		text[2 * i] = digits[digest[i] >> 4];
		text[2 * i + 1] = digits[digest[i] & 15];
	}
	text[DIGEST_TEXT_SIZE - 1] = '\0';
	return text;
}
