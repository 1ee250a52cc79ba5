/*
 * tokens: what is made is found again, by its owner's token alone; every line that is none is told by
 * its number, and nothing of it is shown; the digest is what any other tool computes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "config/tokens.h"

static struct tokens *parse(const char *text)
{
	struct tokens *tokens = NULL;
	struct error error = {0};

	if (tokens_parse("file", text, strlen(text), &tokens, &error) < 0)
		fail_msg("%s", error.message);
	return tokens;
}

static void refuses(const char *text, const char *beginning)
{
	struct tokens *tokens = NULL;
	struct error error = {0};

	assert_int_equal(tokens_parse("file", text, strlen(text), &tokens, &error), -EINVAL);
	assert_null(tokens);
	assert_string_equal(error.field, "server.tokens_file");
	if (strncmp(error.message, beginning, strlen(beginning)) != 0)
		fail_msg("%s", error.message);
}

static void test_made_is_found(void **state)
{
	char token[3][TOKENS_TOKEN_SIZE];
	char line[3][TOKENS_LINE_SIZE];
	char text[4 * TOKENS_LINE_SIZE];
	static const char *const names[] = {"ci", "grafana", "Root.1_x-y"};

	(void)state;
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(tokens_make(names[i], 1u << i, token[i], line[i]), 0);
	(void)snprintf(text, sizeof(text), "# who\n\n%s\n  \t%s  \r\n%s", line[0], line[1],
		       line[2]);
	struct tokens *tokens = parse(text);
	assert_int_equal(tokens->count, 3);
	for (unsigned int i = 0; i < 3; i++) {
		const struct token *found = tokens_find(tokens, token[i], strlen(token[i]));
		assert_non_null(found);
		assert_string_equal(found->name, names[i]);
		assert_int_equal(found->scopes, 1u << i);
		assert_null(tokens_find(tokens, token[i], strlen(token[i]) - 1));
		token[i][20] = token[i][20] == 'A' ? 'B' : 'A';
		assert_null(tokens_find(tokens, token[i], strlen(token[i])));
		/* The token is nowhere in its line. */
		assert_null(strstr(line[i], token[i] + 4));
	}
	assert_string_not_equal(token[0] + 21, token[1] + 21);
	assert_null(tokens_find(tokens, "", 0));
	tokens_free(tokens);
}

/* printf %s%s 00112233445566778899aabbccddeeff hello | sha256sum */
static void test_digest_is_sha256_of_salt_and_token(void **state)
{
	struct tokens *tokens =
		parse("a admin,read sha256:00112233445566778899aabbccddeeff:"
		      "45e15d402f92d4c60cb6ac1ed2812ae46c72ea9082187888c26a4543ee27c32a");

	(void)state;
	const struct token *found = tokens_find(tokens, "hello", 5);
	assert_non_null(found);
	assert_int_equal(found->scopes, SCOPE_ADMIN | SCOPE_READ);
	tokens_free(tokens);
}

static void test_bad_lines(void **state)
{
#define SALT   "00112233445566778899aabbccddeeff"
#define DIGEST "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define HASH   "sha256:" SALT ":" DIGEST
	(void)state;
	refuses("", "file: found no token");
	refuses("# only this\n\n", "file: found no token");
	refuses("\na/b read " HASH, "file, line 2: expected a name");
	refuses("twp_secret\n", "file, line 1: expected scopes");
	refuses("a\n", "file, line 1: expected scopes");
	refuses("a reads " HASH, "file, line 1: expected scopes");
	refuses("a read,read " HASH, "file, line 1: expected scopes");
	refuses("a read, " HASH, "file, line 1: expected scopes");
	refuses("a read", "file, line 1: expected sha256");
	refuses("a read twp_secret", "file, line 1: expected sha256");
	refuses("a read sha256:" SALT ":" SALT, "file, line 1: expected sha256");
	refuses("a read sha256::" DIGEST, "file, line 1: expected sha256");
	refuses("a read " HASH "0", "file, line 1: expected sha256");
	refuses("a read sha256:" SALT ":"
		"00112233445566778899AABBCCDDEEFF00112233445566778899aabbccddeeff",
		"file, line 1: expected sha256");
	refuses("a read " HASH " more", "file, line 1: expected nothing");
	refuses("a read " HASH "\na read " HASH, "file, line 2: expected a name that no line");
}

static void test_too_many(void **state)
{
	static char text[(TOKENS_MAX + 1) * 160];
	size_t length = 0;

	(void)state;
	for (int i = 0; i <= TOKENS_MAX; i++)
		length += (size_t)snprintf(text + length, sizeof(text) - length,
					   "n%d read " HASH "\n", i);
	refuses(text, "file, line 257: found one token more");
	text[length - strlen("n256 read " HASH "\n")] = '\0';
	struct tokens *tokens = parse(text);
	assert_int_equal(tokens->count, TOKENS_MAX);
	tokens_free(tokens);
}

static void test_names(void **state)
{
	char token[TOKENS_TOKEN_SIZE];
	char line[TOKENS_LINE_SIZE];
	char name[TOKENS_NAME_MAX + 2];

	(void)state;
	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(tokens_make(name, SCOPE_READ, token, line), -EINVAL);
	assert_int_equal(tokens_make("", SCOPE_READ, token, line), -EINVAL);
	assert_int_equal(tokens_make("a b", SCOPE_READ, token, line), -EINVAL);
	name[TOKENS_NAME_MAX] = '\0';
	assert_int_equal(tokens_make(name, SCOPE_SUBMIT | SCOPE_READ | SCOPE_ADMIN, token, line),
			 0);
	tokens_free(parse(line));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_made_is_found),
		cmocka_unit_test(test_digest_is_sha256_of_salt_and_token),
		cmocka_unit_test(test_bad_lines),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
