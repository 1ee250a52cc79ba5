/*
 * Bearer tokens: who may do what over HTTP.
 *
 * The file of server.tokens_file has a line for each token, without the token itself:
 *
 *	NAME SCOPES sha256:SALT:DIGEST
 *	ci submit,read sha256:5d8d0a…:9f86d0…
 *
 * DIGEST is the SHA-256, in lower-case hexadecimal, of SALT followed by the token. A token is 256
 * bits from the kernel's random source, so there is nothing to guess and a fast hash is right; one
 * that is slow by design is for passwords, and would only make requests slow. Empty lines and those
 * that begin with # are passed over.
 *
 * Thread: immutable after it was loaded, any.
 */
#ifndef CONFIG_TOKENS_H
#define CONFIG_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define TOKENS_MAX	  256	/* looking one up hashes once for each */
#define TOKENS_BYTES_MAX  65536 /* of the file */
#define TOKENS_NAME_MAX	  63	/* bytes: [A-Za-z0-9._-] */
#define TOKENS_SALT_MAX	  64	/* bytes: hexadecimal digits */
#define TOKENS_TOKEN_MAX  256	/* bytes of what a request may bring */
#define TOKENS_TOKEN_SIZE 48	/* of one that is made, with its end mark */
#define TOKENS_LINE_SIZE  256

enum scope { SCOPE_SUBMIT = 1, SCOPE_READ = 2, SCOPE_ADMIN = 4 };
#define SCOPES 3

struct token {
	char name[TOKENS_NAME_MAX + 1];
	unsigned int scopes; /* of enum scope, or-ed */
	char salt[TOKENS_SALT_MAX + 1];
	uint8_t digest[32];
};

struct tokens {
	size_t count;
	bool readable_by_all; /* the file is */
	struct token list[];
};

/* "submit", "read", "admin". */
const char *scope_name(enum scope scope);

/* Reads "submit,read": false if it is none such, or names one twice. */
bool scopes_parse(const char *text, unsigned int *ret_scopes);

/* Reads the lines of the file at path. digest is changed by its bytes (FNV-1a goes on over them). 0,
 * or -errno and *error with the field "server.tokens_file"; a file that anybody may write is
 * refused. */
int tokens_load(const char *path, struct tokens **ret_tokens, uint64_t *digest,
		struct error *error);

/* The same for text that is at hand; name is what messages call it. */
int tokens_parse(const char *name, const char *text, size_t length, struct tokens **ret_tokens,
		 struct error *error);

/* NULL is allowed. */
void tokens_free(struct tokens *tokens);

/* Whose token this is; NULL: nobody's. Takes as long for one as for the other. */
const struct token *tokens_find(const struct tokens *tokens, const char *token, size_t length);

/* Makes a token and its line (without a newline). 0, or -EINVAL for a name that is none, or -errno
 * if there is no randomness. */
int tokens_make(const char *name, unsigned int scopes, char token[static TOKENS_TOKEN_SIZE],
		char line[static TOKENS_LINE_SIZE]);

#endif
