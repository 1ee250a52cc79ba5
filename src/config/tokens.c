/*
 * Bearer tokens: see tokens.h.
 *
 * Invariant: a token is never kept, shown or compared as it is: only its digest is, and that in
 * constant time and against every line, so that how long it takes tells nothing about any of them.
 */
#include "config/tokens.h"

#include <errno.h>
#include <nettle/base64.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/fd.h"

#define FIELD	      "server.tokens_file"
#define SECRET_BYTES  32
#define SALT_BYTES    16
#define TOKEN_PREFIX  "twp_" /* so that those who look for leaked tokens can tell them */
#define DIGEST_PREFIX "sha256:"
#define HEX_DIGITS    "0123456789abcdef"
#define WORD_MAX      200

static const char *const scope_names[SCOPES] = {"submit", "read", "admin"};

const char *scope_name(enum scope scope)
{
	switch (scope) {
	case SCOPE_SUBMIT:
		return scope_names[0];
	case SCOPE_READ:
		return scope_names[1];
	case SCOPE_ADMIN:
		return scope_names[2];
	}
	return "";
}

bool scopes_parse(const char *text, unsigned int *ret_scopes)
{
	unsigned int scopes = 0;

	for (;;) {
		size_t length = strcspn(text, ",");
		unsigned int found = 0;

		for (size_t i = 0; i < SCOPES; i++)
			if (strlen(scope_names[i]) == length &&
			    strncmp(text, scope_names[i], length) == 0)
				found = 1u << i;
		if (found == 0 || scopes & found)
			return false;
		scopes |= found;
		if (text[length] == '\0')
			break;
		text += length + 1;
	}
	*ret_scopes = scopes;
	return true;
}

/* --- the digest ------------------------------------------------------------------------------- */

static void digest_token(const char *salt, const char *token, size_t length,
			 uint8_t ret_digest[static SHA256_DIGEST_SIZE])
{
	struct sha256_ctx hash;

	sha256_init(&hash);
	sha256_update(&hash, strlen(salt), (const uint8_t *)salt);
	sha256_update(&hash, length, (const uint8_t *)token);
	sha256_digest(&hash, SHA256_DIGEST_SIZE, ret_digest);
}

const struct token *tokens_find(const struct tokens *tokens, const char *token, size_t length)
{
	const struct token *found = NULL;

	for (size_t i = 0; i < tokens->count; i++) {
		uint8_t digest[SHA256_DIGEST_SIZE];

		digest_token(tokens->list[i].salt, token, length, digest);
		if (memeql_sec(digest, tokens->list[i].digest, sizeof(digest)))
			found = &tokens->list[i];
	}
	return found;
}

/* --- reading ---------------------------------------------------------------------------------- */

/* What is being read. */
struct reading {
	const char *name;
	unsigned int line;
	struct error *error;
};

/* Says what was expected only: what stands there may be a token that was put into the wrong place. */
static int fail_line(const struct reading *reading, const char *expected)
{
	return error_set(reading->error, ERROR_INVALID, FIELD,
			 "%.200s, line %u: expected %s; the line is to be as \"twinpool token\" "
			 "prints it: NAME SCOPES sha256:SALT:DIGEST",
			 reading->name, reading->line, expected);
}

static bool name_is_good(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789._-";
	size_t length = strlen(name);

	return length >= 1 && length <= TOKENS_NAME_MAX && strspn(name, allowed) == length;
}

static unsigned int hex_value(char digit)
{
	return (unsigned int)(strchr(HEX_DIGITS, digit) - HEX_DIGITS);
}

/* "sha256:SALT:DIGEST". */
static bool parse_digest(const char *text, struct token *token)
{
	size_t salt;

	if (strncmp(text, DIGEST_PREFIX, strlen(DIGEST_PREFIX)) != 0)
		return false;
	text += strlen(DIGEST_PREFIX);
	salt = strspn(text, HEX_DIGITS);
	if (salt < 2 * (size_t)SALT_BYTES || salt > TOKENS_SALT_MAX || text[salt] != ':')
		return false;
	memcpy(token->salt, text, salt);
	token->salt[salt] = '\0';
	text += salt + 1;
	if (strspn(text, HEX_DIGITS) != 2 * sizeof(token->digest) ||
	    text[2 * sizeof(token->digest)] != '\0')
		return false;
	for (size_t i = 0; i < sizeof(token->digest); i++)
		token->digest[i] =
			(uint8_t)(hex_value(text[2 * i]) << 4 | hex_value(text[2 * i + 1]));
	return true;
}

/* Takes the next word of the line; false if there is none, or it is too long. */
static bool take_word(const char **text, const char *end, char word[static WORD_MAX])
{
	const char *start = *text;
	size_t length = 0;

	while (start < end && (*start == ' ' || *start == '\t'))
		start++;
	while (start + length < end && start[length] != ' ' && start[length] != '\t')
		length++;
	if (length == 0 || length >= WORD_MAX)
		return false;
	memcpy(word, start, length);
	word[length] = '\0';
	*text = start + length;
	return true;
}

static int parse_line(const struct reading *reading, const char *text, const char *end,
		      struct token *token)
{
	char word[WORD_MAX];

	if (!take_word(&text, end, word) || !name_is_good(word))
		return fail_line(reading, "a name of letters, digits, . _ and -");
	memcpy(token->name, word, strlen(word) + 1);
	if (!take_word(&text, end, word) || !scopes_parse(word, &token->scopes))
		return fail_line(reading, "scopes: submit, read, admin, with commas between them");
	if (!take_word(&text, end, word) || !parse_digest(word, token))
		return fail_line(reading, "sha256:SALT:DIGEST in lower-case hexadecimal digits");
	if (take_word(&text, end, word))
		return fail_line(reading, "nothing behind the digest");
	return 0;
}

static bool line_is_empty(const char *text, const char *end)
{
	while (text < end && (*text == ' ' || *text == '\t'))
		text++;
	return text == end || *text == '#';
}

static int add_line(const struct reading *reading, const char *text, const char *end,
		    struct tokens *tokens)
{
	int result;

	if (text < end && end[-1] == '\r')
		end--;
	if (line_is_empty(text, end))
		return 0;
	if (tokens->count == TOKENS_MAX)
		return error_set(reading->error, ERROR_INVALID, FIELD,
				 "%.200s, line %u: found one token more; expected at most %d",
				 reading->name, reading->line, TOKENS_MAX);
	result = parse_line(reading, text, end, &tokens->list[tokens->count]);
	if (result < 0)
		return result;
	for (size_t i = 0; i < tokens->count; i++)
		if (strcmp(tokens->list[i].name, tokens->list[tokens->count].name) == 0)
			return fail_line(reading, "a name that no line before has");
	tokens->count++;
	return 0;
}

int tokens_parse(const char *name, const char *text, size_t length, struct tokens **ret_tokens,
		 struct error *error)
{
	struct reading reading = {.name = name, .error = error};
	struct tokens *tokens = calloc(1, sizeof(*tokens) + TOKENS_MAX * sizeof(struct token));
	const char *end = text + length;
	int result = 0;

	if (tokens == NULL)
		return error_set(error, ERROR_INTERNAL, FIELD, "out of memory");
	while (result == 0 && text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		const char *stop = newline != NULL ? newline : end;

		reading.line++;
		result = add_line(&reading, text, stop, tokens);
		text = newline != NULL ? newline + 1 : end;
	}
	if (result == 0 && tokens->count == 0)
		result = error_set(error, ERROR_INVALID, FIELD,
				   "%.200s: found no token; expected at least one, since nobody "
				   "could do anything",
				   name);
	if (result < 0) {
		tokens_free(tokens);
		return result;
	}
	*ret_tokens = tokens;
	return 0;
}

static uint64_t add_to_digest(uint64_t digest, const char *data, size_t length)
{
	for (size_t i = 0; i < length; i++)
		digest = (digest ^ (unsigned char)data[i]) * UINT64_C(0x100000001b3);
	return digest;
}

int tokens_load(const char *path, struct tokens **ret_tokens, uint64_t *digest, struct error *error)
{
	struct stat status;
	size_t length = 0;
	char *text = NULL;
	int result = stat(path, &status) < 0 ? -errno : 0;

	if (result == 0 && status.st_mode & S_IWOTH)
		return error_set(error, ERROR_INVALID, FIELD,
				 "%.200s: found a file that anybody on this machine may write to; "
				 "expected one that is kept: chmod o-w",
				 path);
	if (result == 0)
		result = fd_read_file(path, TOKENS_BYTES_MAX, &text, &length);
	if (result < 0)
		return error_set(error, ERROR_INVALID, FIELD,
				 "%.200s: found a file that cannot be read (%s); expected lines of "
				 "tokens, at most %d bytes",
				 path, strerror(-result), TOKENS_BYTES_MAX);
	result = tokens_parse(path, text, length, ret_tokens, error);
	if (result == 0) {
		(*ret_tokens)->readable_by_all = (status.st_mode & S_IROTH) != 0;
		*digest = add_to_digest(*digest, text, length);
	}
	free(text);
	return result;
}

void tokens_free(struct tokens *tokens)
{
	free(tokens);
}

/* --- making ----------------------------------------------------------------------------------- */

static int fill_random(uint8_t *data, size_t length)
{
	while (length > 0) {
		ssize_t got = getrandom(data, length, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		data += got;
		length -= (size_t)got;
	}
	return 0;
}

static void write_hex(const uint8_t *data, size_t length, char *text)
{
	for (size_t i = 0; i < length; i++) {
		text[2 * i] = HEX_DIGITS[data[i] >> 4];
		text[2 * i + 1] = HEX_DIGITS[data[i] & 15];
	}
	text[2 * length] = '\0';
}

static void write_token(const uint8_t secret[static SECRET_BYTES],
			char token[static TOKENS_TOKEN_SIZE])
{
	char *out = token + strlen(TOKEN_PREFIX);
	struct base64_encode_ctx encoding;
	size_t length;

	memcpy(token, TOKEN_PREFIX, strlen(TOKEN_PREFIX));
	base64url_encode_init(&encoding);
	length = base64_encode_update(&encoding, out, SECRET_BYTES, secret);
	length += base64_encode_final(&encoding, out + length);
	while (length > 0 && out[length - 1] == '=')
		length--;
	out[length] = '\0';
}

static void write_scopes(unsigned int scopes, char *text, size_t size)
{
	size_t length = 0;

	text[0] = '\0';
	for (size_t i = 0; i < SCOPES && length < size; i++)
		if (scopes & 1u << i)
			length += (size_t)snprintf(text + length, size - length, "%s%s",
						   length > 0 ? "," : "", scope_names[i]);
}

int tokens_make(const char *name, unsigned int scopes, char token[static TOKENS_TOKEN_SIZE],
		char line[static TOKENS_LINE_SIZE])
{
	uint8_t bytes[SECRET_BYTES + SALT_BYTES];
	uint8_t digest[SHA256_DIGEST_SIZE];
	char salt[2 * SALT_BYTES + 1];
	char digest_text[2 * SHA256_DIGEST_SIZE + 1];
	char scope_text[32];
	int result = name_is_good(name) ? fill_random(bytes, sizeof(bytes)) : -EINVAL;

	if (result < 0)
		return result;
	write_token(bytes, token);
	write_hex(bytes + SECRET_BYTES, SALT_BYTES, salt);
	digest_token(salt, token, strlen(token), digest);
	write_hex(digest, sizeof(digest), digest_text);
	write_scopes(scopes, scope_text, sizeof(scope_text));
	(void)snprintf(line, TOKENS_LINE_SIZE, "%s %s " DIGEST_PREFIX "%s:%s", name, scope_text,
		       salt, digest_text);
	explicit_bzero(bytes, sizeof(bytes));
	return 0;
}
