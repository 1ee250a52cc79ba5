/*
 * base/schema: what compiles and what is refused, what values pass, and above all that the messages
 * tell what was found and what was expected.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/schema.h"

static json_t *parse(const char *text)
{
	json_error_t failure;
	json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &failure);

	if (value == NULL)
		fail_msg("%s: %s", text, failure.text);
	return value;
}

static struct schema *compile(const char *text)
{
	struct error error = {0};
	struct schema *schema = NULL;
	json_t *document = parse(text);

	if (schema_compile(document, &schema, &error) < 0)
		fail_msg("%s: %s: %s", text, error.field, error.message);
	json_decref(document);
	return schema;
}

static int check(const char *schema_text, const char *value_text, struct error *error)
{
	struct schema *schema = compile(schema_text);
	json_t *value = parse(value_text);
	int result;

	memset(error, 0, sizeof(*error));
	result = schema_check(schema, value, false, "args", error);
	json_decref(value);
	schema_free(schema);
	return result;
}

static void accepts(const char *schema, const char *value)
{
	struct error error;

	if (check(schema, value, &error) != 0)
		fail_msg("%s refuses %s: %s", schema, value, error.message);
}

static void refuses(const char *schema, const char *value, const char *field, const char *message)
{
	struct error error;

	if (check(schema, value, &error) >= 0)
		fail_msg("%s accepts %s", schema, value);
	assert_int_equal(error.code, ERROR_INVALID);
	assert_string_equal(error.field, field);
	assert_string_equal(error.message, message);
}

static void refuses_schema(const char *text, const char *field, const char *part)
{
	struct error error = {0};
	struct schema *schema = NULL;
	json_t *document = parse(text);
	int result = schema_compile(document, &schema, &error);

	json_decref(document);
	if (result >= 0)
		fail_msg("%s compiles", text);
	assert_null(schema);
	assert_int_equal(error.code, ERROR_INVALID);
	assert_string_equal(error.field, field);
	if (strstr(error.message, part) == NULL)
		fail_msg("\"%s\" does not tell \"%s\"", error.message, part);
}

static void test_types(void **state)
{
	static const char *const names[] = {"integer", "number", "string", "boolean",
					    "array",   "object", "null"};
	static const char *const values[] = {"1", "1.5", "\"a\"", "true", "[]", "{}", "null"};

	(void)state;
	for (size_t i = 0; i < 7; i++) {
		for (size_t j = 0; j < 7; j++) {
			char schema[64];
			struct error error;
			/* An integer is a number too. */
			int wanted = i == j || (i == 1 && j == 0);

			(void)snprintf(schema, sizeof(schema), "{\"type\":\"%s\"}", names[i]);
			assert_int_equal(check(schema, values[j], &error) == 0, wanted);
		}
	}
	accepts("{}", "[1, {\"a\": null}]");
	accepts("{\"type\":[\"integer\",\"null\"]}", "null");
	refuses("{\"type\":[\"integer\",\"null\"]}", "\"x\"", "args",
		"found the string \"x\"; expected an integer or null");
	refuses("{\"type\":\"integer\"}", "1.0", "args",
		"found the number 1.0; expected an integer");
	refuses("{\"type\":\"integer\"}", "1e3", "args",
		"found the number 1000.0; expected an integer");
	refuses("{\"type\":\"boolean\"}", "0", "args",
		"found the integer 0; expected true or false");
	refuses("{\"type\":\"object\"}", "[1,2]", "args",
		"found the array [1,2]; expected an object");
	refuses("{\"type\":\"array\"}", "false", "args",
		"found the boolean false; expected an array");
	refuses("{\"type\":\"string\"}", "null", "args", "found null; expected a string");
}

static void test_bounds(void **state)
{
	static const char *const percent = "{\"type\":\"integer\",\"minimum\":0,\"maximum\":100}";
	static const char *const open_range =
		"{\"type\":\"number\",\"exclusiveMinimum\":0,\"exclusiveMaximum\":1.5}";

	(void)state;
	accepts(percent, "0");
	accepts(percent, "100");
	refuses(percent, "-1", "args", "found the integer -1; expected an integer from 0 to 100");
	refuses(percent, "101", "args", "found the integer 101; expected an integer from 0 to 100");
	refuses(percent, "\"abc\"", "args",
		"found the string \"abc\"; expected an integer from 0 to 100");
	accepts(open_range, "1");
	accepts(open_range, "0.1");
	refuses(open_range, "0", "args",
		"found the integer 0; expected a number greater than 0 and less than 1.5");
	refuses(open_range, "1.5", "args",
		"found the number 1.5; expected a number greater than 0 and less than 1.5");
	refuses("{\"minimum\":2}", "1", "args",
		"found the integer 1; expected a number of at least 2");
	refuses("{\"maximum\":2}", "2.5", "args",
		"found the number 2.5; expected a number of at most 2");
	accepts("{\"minimum\":2}", "\"no number\"");
}

/* 2^53 + 1 and its neighbours are no longer told apart once they are doubles. */
static void test_bounds_are_exact(void **state)
{
	(void)state;
	accepts("{\"maximum\":9007199254740993}", "9007199254740993");
	refuses("{\"maximum\":9007199254740992}", "9007199254740993", "args",
		"found the integer 9007199254740993; expected a number of at most "
		"9007199254740992");
	refuses("{\"maximum\":9007199254740992.0}", "9007199254740993", "args",
		"found the integer 9007199254740993; expected a number of at most "
		"9007199254740992.0");
	accepts("{\"maximum\":1e300,\"minimum\":-1e300}", "9223372036854775807");
	accepts("{\"minimum\":-9223372036854775808}", "-9223372036854775808");
	refuses("{\"minimum\":-0.5}", "-1", "args",
		"found the integer -1; expected a number of at least -0.5");
}

static void test_strings(void **state)
{
	static const char *const name = "{\"type\":\"string\",\"minLength\":1,\"maxLength\":3}";

	(void)state;
	accepts(name, "\"äöü\"");
	refuses(name, "\"\"", "args",
		"found the string \"\"; expected a string of 1 to 3 characters");
	refuses(name, "\"äöüß\"", "args",
		"found the string \"äöüß\"; expected a string of 1 to 3 characters");
	refuses("{\"type\":\"string\",\"minLength\":1}", "\"\"", "args",
		"found the string \"\"; expected a string of at least 1 character");
	refuses("{\"type\":\"string\",\"maxLength\":0}", "\"a\"", "args",
		"found the string \"a\"; expected a string of exactly 0 characters");
	refuses("{\"type\":\"string\",\"maxLength\":1}", "\"ab\"", "args",
		"found the string \"ab\"; expected a string of at most 1 character");
}

static void test_arrays(void **state)
{
	static const char *const schema = "{\"type\":\"array\",\"minItems\":1,\"maxItems\":3,"
					  "\"items\":{\"type\":\"integer\"}}";

	(void)state;
	accepts(schema, "[1,2,3]");
	refuses(schema, "[]", "args", "found the array []; expected an array of 1 to 3 items");
	refuses(schema, "[1,2,3,4]", "args",
		"found the array [1,2,3,4]; expected an array of 1 to 3 items");
	refuses(schema, "[1,2,\"x\"]", "args[2]", "found the string \"x\"; expected an integer");
	refuses("{\"properties\":{\"items\":{\"items\":{\"items\":{\"type\":\"null\"}}}}}",
		"{\"items\":[[],[null,1]]}", "args.items[1][1]",
		"found the integer 1; expected null");
}

static void test_choices(void **state)
{
	(void)state;
	accepts("{\"enum\":[\"a\",1,null]}", "null");
	accepts("{\"enum\":[1]}", "1.0");
	refuses("{\"enum\":[\"a\",1,null]}", "\"b\"", "args",
		"found the string \"b\"; expected one of \"a\", 1, null");
	refuses("{\"enum\":[\"a\"]}", "2", "args", "found the integer 2; expected \"a\"");
	accepts("{\"const\":{\"a\":[1]}}", "{\"a\":[1]}");
	refuses("{\"const\":{\"a\":[1]}}", "{\"a\":[2]}", "args",
		"found the object {\"a\":[2]}; expected exactly {\"a\":[1]}");
}

static void test_objects(void **state)
{
	static const char *const schema =
		"{\"type\":\"object\",\"required\":[\"n\"],\"properties\":{"
		"\"n\":{\"type\":\"integer\",\"minimum\":0},\"deep\":{\"type\":\"object\","
		"\"properties\":{}}}}";

	(void)state;
	accepts(schema, "{\"n\":1,\"deep\":{}}");
	refuses(schema, "{}", "args.n",
		"found no \"n\", which is required; expected an integer of at least 0");
	refuses(schema, "{\"m\":1}", "args.m",
		"found the unknown property \"m\"; expected one of n, deep");
	refuses(schema, "{\"n\":1,\"deep\":{\"x\":1}}", "args.deep.x",
		"found the unknown property \"x\"; expected none");
	refuses("{\"properties\":{\"n\":{}}}", "{\"m\":1}", "args.m",
		"found the unknown property \"m\"; expected only n");
	refuses(schema, "{\"n\":-1}", "args.n",
		"found the integer -1; expected an integer of at least 0");
	accepts("{\"type\":\"object\"}", "{\"any\":1}");
	accepts("{\"properties\":{\"n\":{}},\"additionalProperties\":true}", "{\"m\":1}");
	accepts("{\"additionalProperties\":{\"type\":\"integer\"}}", "{\"m\":1}");
	refuses("{\"additionalProperties\":{\"type\":\"integer\"}}", "{\"m\":true}", "args.m",
		"found the boolean true; expected an integer");
	refuses("{\"additionalProperties\":false}", "{\"m\":1}", "args.m",
		"found the unknown property \"m\"; expected none");
	refuses("{\"required\":[\"a\"]}", "{}", "args.a",
		"found no \"a\", which is required; expected a value");
}

static void test_empty_path(void **state)
{
	struct schema *schema = compile("{\"properties\":{\"a\":{\"items\":{\"type\":\"null\"}}}}");
	json_t *value = parse("{\"a\":[1]}");
	struct error error = {0};

	(void)state;
	assert_true(schema_check(schema, value, false, "", &error) < 0);
	assert_string_equal(error.field, "a[0]");
	json_decref(value);
	schema_free(schema);
}

static void test_shown_values_are_cut(void **state)
{
	char text[400];
	json_t *value;
	char shown[200];

	(void)state;
	/* 59 bytes with the quote, then a character of two: it does not fit and is left out whole.
	 */
	(void)snprintf(text, sizeof(text), "\"%058dää%0100d\"", 0, 0);
	value = parse(text);
	schema_show(value, shown, sizeof(shown));
	(void)snprintf(text, sizeof(text), "the string \"%058d…\" of 160 characters", 0);
	assert_string_equal(shown, text);
	schema_show(value, shown, 16);
	assert_string_equal(shown, "the string \"000");
	json_decref(value);

	/* Half an escape sequence is never shown. */
	(void)snprintf(text, sizeof(text), "\"%057d\\u0001\\u0001\"", 0);
	value = parse(text);
	schema_show(value, shown, sizeof(shown));
	(void)snprintf(text, sizeof(text), "the string \"%057d…\" of 59 characters", 0);
	assert_string_equal(shown, text);
	json_decref(value);

	value = json_array();
	for (int i = 0; i < 1000; i++)
		assert_int_equal(json_array_append_new(value, json_integer(i % 10)), 0);
	schema_show(value, shown, sizeof(shown));
	assert_non_null(strstr(shown, "the array [0,1,2,3,"));
	assert_non_null(strstr(shown, "… of 1000 items"));
	json_decref(value);
}

static void test_long_names_are_cut(void **state)
{
	struct schema *schema = compile("{\"properties\":{\"a\":{}}}");
	json_t *value = json_object();
	struct error error = {0};
	char name[2000];

	(void)state;
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(json_object_set_new(value, name, json_null()), 0);
	assert_true(schema_check(schema, value, false, "args", &error) < 0);
	assert_memory_equal(error.field, "args.xxx", 8);
	assert_non_null(strstr(error.message, "xxx…\"; expected only a"));
	json_decref(value);
	schema_free(schema);
}

static void test_defaults(void **state)
{
	struct schema *schema =
		compile("{\"properties\":{"
			"\"a\":{\"type\":\"integer\",\"default\":5},"
			"\"b\":{\"type\":\"object\",\"default\":{\"x\":1},\"properties\":{"
			"\"x\":{},\"y\":{\"default\":[2]}}},"
			"\"c\":{\"type\":\"object\",\"properties\":{\"z\":{\"default\":3}}}},"
			"\"required\":[\"a\"],"
			"\"additionalProperties\":{\"properties\":{\"w\":{\"default\":null}}}}");
	json_t *first = parse("{\"more\":{}}");
	json_t *wanted = parse("{\"more\":{\"w\":null},\"a\":5,\"b\":{\"x\":1,\"y\":[2]}}");
	json_t *second = parse("{\"a\":6,\"c\":{}}");
	json_t *wanted_second = parse("{\"a\":6,\"b\":{\"x\":1,\"y\":[2]},\"c\":{\"z\":3}}");
	struct error error = {0};

	(void)state;
	assert_int_equal(schema_check(schema, first, true, "args", &error), 0);
	assert_true(json_equal(first, wanted));
	/* What was filled in is a copy: changing it changes no later value. */
	assert_int_equal(json_array_append_new(json_object_get(json_object_get(first, "b"), "y"),
					       json_true()),
			 0);
	assert_int_equal(schema_check(schema, second, true, "args", &error), 0);
	assert_true(json_equal(second, wanted_second));
	json_decref(first);
	json_decref(second);
	json_decref(wanted);
	json_decref(wanted_second);
	schema_free(schema);
}

static void test_defaults_only_when_asked(void **state)
{
	struct schema *schema = compile("{\"properties\":{\"a\":{\"default\":5}}}");
	json_t *value = json_object();
	struct error error = {0};

	(void)state;
	assert_int_equal(schema_check(schema, value, false, "args", &error), 0);
	assert_int_equal(json_object_size(value), 0);
	json_decref(value);
	schema_free(schema);
}

static void test_refused_schemas(void **state)
{
	(void)state;
	refuses_schema(
		"{\"properties\":{\"n\":{\"pattern\":\"x\"}}}", "properties.n.pattern",
		"found the keyword \"pattern\"; expected one of type, properties, required,");
	refuses_schema("{\"$ref\":\"#/x\"}", "$ref", "minItems, maxItems, minimum");
	refuses_schema("[]", "", "found the array []; expected a schema, which is an object");
	refuses_schema("{\"items\":true}", "items", "expected a schema");
	refuses_schema("{\"items\":{\"oneOf\":[]}}", "items.oneOf", "\"oneOf\"");
	refuses_schema("{\"additionalProperties\":{\"anyOf\":[]}}", "additionalProperties.anyOf",
		       "\"anyOf\"");
	refuses_schema("{\"type\":\"int\"}", "type",
		       "found the string \"int\"; expected one of integer");
	refuses_schema("{\"type\":[]}", "type", "at least one type");
	refuses_schema("{\"type\":[\"null\",3]}", "type", "found the integer 3");
	refuses_schema("{\"properties\":[]}", "properties", "an object of schemas");
	refuses_schema("{\"required\":\"a\"}", "required", "an array of names");
	refuses_schema("{\"required\":[\"a\",1]}", "required[1]", "the name of a property");
	refuses_schema("{\"required\":[\"b\"],\"properties\":{\"a\":{}}}", "required[0]",
		       "found the string \"b\"; expected the name of one of the properties");
	refuses_schema("{\"minLength\":-1}", "minLength", "an integer of at least 0");
	refuses_schema("{\"maxItems\":1.5}", "maxItems", "an integer of at least 0");
	refuses_schema("{\"minimum\":\"0\"}", "minimum", "a number");
	refuses_schema("{\"enum\":[]}", "enum", "at least 1 item");
	refuses_schema("{\"title\":1}", "title", "a string");
	refuses_schema("{\"examples\":1}", "examples", "an array");
	refuses_schema("{\"deprecated\":1}", "deprecated", "true or false");
	refuses_schema("{\"minLength\":1,\"type\":\"integer\"}", "minLength", "does not apply");
	refuses_schema("{\"type\":\"string\",\"items\":{}}", "items", "does not apply");
}

static void test_refused_defaults(void **state)
{
	(void)state;
	refuses_schema(
		"{\"properties\":{\"n\":{\"type\":\"integer\",\"maximum\":3,\"default\":4}}}",
		"properties.n.default", "found the integer 4; expected an integer of at most 3");
	refuses_schema("{\"default\":{\"a\":1},\"properties\":{\"a\":{\"type\":\"string\"}}}",
		       "default.a", "found the integer 1");
}

static void test_annotations(void **state)
{
	(void)state;
	accepts("{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"$id\":\"a\","
		"\"$comment\":\"b\",\"title\":\"c\",\"description\":\"d\",\"examples\":[1],"
		"\"deprecated\":false}",
		"1");
}

static void test_document_is_a_copy(void **state)
{
	json_t *document = parse("{\"type\":\"integer\"}");
	struct schema *schema = NULL;
	struct error error = {0};

	(void)state;
	assert_int_equal(schema_compile(document, &schema, &error), 0);
	assert_true(json_equal(document, schema_document(schema)));
	assert_ptr_not_equal(document, schema_document(schema));
	json_decref(document);
	schema_free(schema);
	schema_free(NULL);
}

static void *check_often(void *argument)
{
	const struct schema *schema = argument;
	size_t wrong = 0;

	for (int i = 0; i < 2000; i++) {
		json_t *value = json_pack("{s:i}", "n", i % 200);
		struct error error = {0};
		int result = schema_check(schema, value, true, "args", &error);

		wrong += (result == 0) != (i % 200 <= 100);
		wrong += result == 0 && json_array_size(json_object_get(value, "list")) != 2;
		json_decref(value);
	}
	return wrong == 0 ? NULL : argument;
}

static void test_threads_share_a_schema(void **state)
{
	struct schema *schema =
		compile("{\"properties\":{\"n\":{\"type\":\"integer\",\"maximum\":100},"
			"\"list\":{\"default\":[1,\"two\"]},\"e\":{\"enum\":[1,2]}}}");
	pthread_t threads[4];

	(void)state;
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, check_often, schema), 0);
	for (size_t i = 0; i < 4; i++) {
		void *failed;

		assert_int_equal(pthread_join(threads[i], &failed), 0);
		assert_null(failed);
	}
	schema_free(schema);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_bounds_are_exact),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_arrays),
		cmocka_unit_test(test_choices),
		cmocka_unit_test(test_objects),
		cmocka_unit_test(test_empty_path),
		cmocka_unit_test(test_shown_values_are_cut),
		cmocka_unit_test(test_long_names_are_cut),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_defaults_only_when_asked),
		cmocka_unit_test(test_refused_schemas),
		cmocka_unit_test(test_refused_defaults),
		cmocka_unit_test(test_annotations),
		cmocka_unit_test(test_document_is_a_copy),
		cmocka_unit_test(test_threads_share_a_schema),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
