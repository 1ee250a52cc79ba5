/*
 * The header Idempotency-Key: which values are keys, and what key they are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "http/key.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void test_what_is_a_key(void **state)
{
	static const char *const cases[][2] = {
		{"\"a\"", "a"},
		{"a", "a"},
		{" \t\"a\"\t ", "a"},
		{" \ta\t ", "a"},
		{"\"a b\"", "a b"},
		{"\" \"", " "},
		{"\"\\\"\"", "\""},
		{"\"\\\\\"", "\\"},
		{"\"a\\\\\\\"b\"", "a\\\"b"},
		{"\"a,b;c=d\"", "a,b;c=d"},
		{"!#$%&'()*+-./:<=>?@[\\]^_`{|}~", "!#$%&'()*+-./:<=>?@[\\]^_`{|}~"},
		{"8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"},
	};
	char key[STORE_KEY_MAX + 1];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_true(key_parse(cases[i][0], key));
		assert_string_equal(key, cases[i][1]);
	}
}

static void test_what_is_none(void **state)
{
	static const char *const texts[] = {
		"",	     " ",	 "\"",		 "\"\"",	 "\"a",	       "a\"",
		"\"a\"b",    "\"a\" b",	 "a b",		 "a,b",		 "a;b",	       ",",
		"\"a\";p=1", "\"\\a\"",	 "\"a\\\"",	 "\"a\\",	 "\"a\tb\"",   "a\x7f",
		"\"\x7f\"",  "\xc3\xa9", "\"\xc3\xa9\"", "\"a\", \"b\"", "\"a\"\"b\"", "\x01",
	};
	char key[STORE_KEY_MAX + 1];

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		memset(key, 'x', sizeof(key));
		if (key_parse(texts[i], key))
			fail_msg("<%s>: <%s>", texts[i], key);
		assert_string_equal(key, "");
	}
}

static void test_length(void **state)
{
	char text[2 * STORE_KEY_MAX + 8];
	char key[STORE_KEY_MAX + 1];

	(void)state;
	for (int length = STORE_KEY_MAX - 1; length <= STORE_KEY_MAX + 1; length++) {
		bool fits = length <= STORE_KEY_MAX;

		memset(text, 'k', (size_t)length);
		text[length] = '\0';
		assert_int_equal(key_parse(text, key), fits);
		assert_int_equal(strlen(key), fits ? length : 0);
		text[0] = '"';
		memset(text + 1, 'k', (size_t)length);
		memcpy(text + 1 + length, "\"", 2);
		assert_int_equal(key_parse(text, key), fits);
		/* What is escaped counts once. */
		for (int i = 0; i < length; i++)
			memcpy(text + 1 + 2 * i, "\\\"", 2);
		memcpy(text + 1 + 2 * length, "\"", 2);
		assert_int_equal(key_parse(text, key), fits);
		assert_int_equal(strlen(key), fits ? length : 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_a_key),
		cmocka_unit_test(test_what_is_none),
		cmocka_unit_test(test_length),
	};

	return cmocka_run_group_tests_name("http key", tests, NULL, NULL);
}
