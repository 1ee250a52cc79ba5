/*
 * JSON Schema, the subset: see schema.h.
 *
 * A schema document is compiled into a tree of nodes, one for each (sub)schema, whose bounds,
 * choices and names point into a private deep copy of the document. Checking walks that tree and
 * never touches the reference counts of the copy, which is why any number of threads may check with
 * one schema.
 *
 * Invariants:
 *  1. A node is made only of keywords in the table below: an unknown one stops the compilation.
 *  2. A keyword whose types the schema excludes ("minLength" beside "type": "integer") stops it
 * too, since it would be ignored in silence.
 *  3. Every default is valid under its own schema, so filling in can never make a value wrong.
 */
#include "base/schema.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define SHOWN_BYTES_MAX 60

/* Types as bits. An integer is also a number: a value has both bits, a schema the one it names. */
#define TYPE_NULL    1U
#define TYPE_BOOLEAN 2U
#define TYPE_INTEGER 4U
#define TYPE_NUMBER  8U
#define TYPE_STRING  16U
#define TYPE_ARRAY   32U
#define TYPE_OBJECT  64U
#define TYPE_ANY     127U
#define TYPE_NUMERIC (TYPE_INTEGER | TYPE_NUMBER)

static const struct type {
	const char *name;
	const char *phrase;
	unsigned int bit;
} types[] = {
	{"integer", "an integer", TYPE_INTEGER},
	{"number", "a number", TYPE_NUMBER},
	{"string", "a string", TYPE_STRING},
	{"boolean", "true or false", TYPE_BOOLEAN},
	{"array", "an array", TYPE_ARRAY},
	{"object", "an object", TYPE_OBJECT},
	{"null", "null", TYPE_NULL},
};

enum bound { BOUND_MINIMUM, BOUND_MAXIMUM, BOUND_ABOVE, BOUND_BELOW, BOUND_COUNT };

struct range {
	size_t least;
	size_t most; /* SIZE_MAX: no limit */
};

struct node {
	unsigned int types;
	const json_t *bounds[BOUND_COUNT]; /* NULL where there is none */
	struct range length;		   /* of a string, in code points */
	struct range items_count;
	const json_t *choices;	/* the array of "enum", or NULL */
	const json_t *constant; /* or NULL */
	const json_t *fallback; /* the default, or NULL */

	struct property *properties;
	size_t property_count;
	const json_t *required;	 /* array of names, or NULL */
	struct node *items;	 /* of an array; NULL: anything */
	struct node *additional; /* of an object; NULL: anything, if allowed at all */
	bool properties_said;
	bool additional_said;
	bool additional_allowed;
};

struct property {
	const char *name; /* in the document */
	struct node *node;
};

struct schema {
	json_t *document;
	struct node *root;
};

/* Where a walk is. Places lie on the stack and are written out only when something is wrong. */
struct place {
	const struct place *outer; /* NULL: the start */
	const char *name;	   /* NULL: an item of an array */
	size_t index;
};

/* Text of bounded size; what does not fit is cut at a character's edge. */
struct text {
	size_t length;
	char data[400];
};

/* The greatest length <= limit at which text can be cut without parting a character. */
static size_t cut_length(const char *text, size_t length, size_t limit)
{
	if (length <= limit)
		return length;
	while (limit > 0 && ((unsigned char)text[limit] & 0xC0U) == 0x80U)
		limit--;
	return limit;
}

static void text_add_bytes(struct text *text, const char *data, size_t length)
{
	length = cut_length(data, length, sizeof(text->data) - 1 - text->length);
	memcpy(text->data + text->length, data, length);
	text->length += length;
	text->data[text->length] = '\0';
}

static void text_add(struct text *text, const char *string)
{
	text_add_bytes(text, string, strlen(string));
}

static void text_add_count(struct text *text, size_t count)
{
	char digits[24];

	(void)snprintf(digits, sizeof(digits), "%zu", count);
	text_add(text, digits);
}

struct excerpt {
	struct text *text;
	size_t room;
	bool cut;
};

/* jansson hands over an escape sequence as one piece, so dropping whole pieces that start with a
 * backslash never leaves half of one. */
static int excerpt_take(const char *data, size_t size, void *context)
{
	struct excerpt *excerpt = context;
	size_t kept = cut_length(data, size, excerpt->room);

	if (kept < size && data[0] == '\\')
		kept = 0;
	text_add_bytes(excerpt->text, data, kept);
	excerpt->room -= kept;
	excerpt->cut = kept < size;
	return excerpt->cut
		       ? -1
		       : 0; /* -1 ends the encoding: a large value costs no more than a small one */
}

/* Adds value as JSON of at most about SHOWN_BYTES_MAX bytes; answers whether it was cut. */
static bool text_add_json(struct text *text, const json_t *value)
{
	struct excerpt excerpt = {.text = text, .room = SHOWN_BYTES_MAX};

	(void)json_dump_callback(value, excerpt_take, &excerpt, JSON_ENCODE_ANY | JSON_COMPACT);
	if (excerpt.cut)
		text_add(text, json_is_string(value) ? "…\"" : "…");
	return excerpt.cut;
}

static void text_add_place(struct text *text, const struct place *place)
{
	if (place == NULL)
		return;
	text_add_place(text, place->outer);
	if (place->name == NULL) {
		text_add(text, "[");
		text_add_count(text, place->index);
		text_add(text, "]");
		return;
	}
	if (text->length > 0 && place->name[0] != '\0')
		text_add(text, ".");
	text_add(text, place->name);
}

static size_t count_code_points(const json_t *string)
{
	const char *bytes = json_string_value(string);
	size_t length = json_string_length(string);
	size_t count = 0;

	for (size_t i = 0; i < length; i++)
		count += ((unsigned char)bytes[i] & 0xC0U) != 0x80U;
	return count;
}

static void text_add_plural(struct text *text, size_t count, const char *unit)
{
	text_add_count(text, count);
	text_add(text, " ");
	text_add(text, unit);
	if (count != 1)
		text_add(text, "s");
}

static void text_add_value(struct text *text, const json_t *value)
{
	if (!json_is_null(value)) {
		text_add(text, "the ");
		text_add(text, json_type_name(value));
		text_add(text, " ");
	}
	if (!text_add_json(text, value))
		return;
	if (json_is_string(value)) {
		text_add(text, " of ");
		text_add_plural(text, count_code_points(value), "character");
	} else if (json_is_array(value)) {
		text_add(text, " of ");
		text_add_plural(text, json_array_size(value), "item");
	}
}

void schema_show(const json_t *value, char *buffer, size_t size)
{
	struct text text = {0};

	if (size == 0)
		return;
	text_add_value(&text, value);
	text.length = cut_length(text.data, text.length, size - 1);
	memcpy(buffer, text.data, text.length);
	buffer[text.length] = '\0';
}

static int fail_at(const struct place *place, struct error *error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int fail_at(const struct place *place, struct error *error, const char *format, ...)
{
	struct text field = {0};
	char message[sizeof(error->message)];
	va_list arguments;

	text_add_place(&field, place);
	va_start(arguments, format);
	(void)vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	return error_set(error, ERROR_INVALID, field.data, "%s", message);
}

static int fail_memory(struct error *error)
{
	return error_set(error, ERROR_INTERNAL, "", "out of memory");
}

/* ---- What a node expects, in words ---- */

static void describe_bounds(struct text *text, const struct node *node)
{
	static const char *const phrases[BOUND_COUNT] = {
		[BOUND_MINIMUM] = "of at least",
		[BOUND_MAXIMUM] = "of at most",
		[BOUND_ABOVE] = "greater than",
		[BOUND_BELOW] = "less than",
	};
	const json_t *const *bounds = node->bounds;
	bool first = true;

	if (bounds[BOUND_MINIMUM] != NULL && bounds[BOUND_MAXIMUM] != NULL &&
	    bounds[BOUND_ABOVE] == NULL && bounds[BOUND_BELOW] == NULL) {
		text_add(text, " from ");
		text_add_json(text, bounds[BOUND_MINIMUM]);
		text_add(text, " to ");
		text_add_json(text, bounds[BOUND_MAXIMUM]);
		return;
	}
	for (size_t i = 0; i < BOUND_COUNT; i++) {
		if (bounds[i] == NULL)
			continue;
		text_add(text, first ? " " : " and ");
		text_add(text, phrases[i]);
		text_add(text, " ");
		text_add_json(text, bounds[i]);
		first = false;
	}
}

static void describe_range(struct text *text, const struct range *range, const char *unit)
{
	if (range->least == 0 && range->most == SIZE_MAX)
		return;
	text_add(text, " of ");
	if (range->most == SIZE_MAX) {
		text_add(text, "at least ");
		text_add_plural(text, range->least, unit);
		return;
	}
	if (range->least == range->most) {
		text_add(text, "exactly ");
	} else if (range->least == 0) {
		text_add(text, "at most ");
	} else {
		text_add_count(text, range->least);
		text_add(text, " to ");
	}
	text_add_plural(text, range->most, unit);
}

static void describe_type(struct text *text, const struct node *node, const struct type *type)
{
	text_add(text, type->phrase);
	if ((type->bit & TYPE_NUMERIC) != 0)
		describe_bounds(text, node);
	else if (type->bit == TYPE_STRING)
		describe_range(text, &node->length, "character");
	else if (type->bit == TYPE_ARRAY)
		describe_range(text, &node->items_count, "item");
}

static unsigned int type_bits(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return TYPE_OBJECT;
	case JSON_ARRAY:
		return TYPE_ARRAY;
	case JSON_STRING:
		return TYPE_STRING;
	case JSON_INTEGER:
		return TYPE_NUMERIC;
	case JSON_REAL:
		return TYPE_NUMBER;
	case JSON_TRUE:
	case JSON_FALSE:
		return TYPE_BOOLEAN;
	case JSON_NULL:
		return TYPE_NULL;
	}
	return 0;
}

/* value is what was found, or NULL. A schema that takes every type is described for the type of
 * value. */
static void describe(struct text *text, const struct node *node, const json_t *value)
{
	unsigned int wanted = node->types;
	const char *between = "";
	size_t i;
	const json_t *choice;

	if (node->constant != NULL) {
		text_add(text, "exactly ");
		text_add_json(text, node->constant);
		return;
	}
	if (node->choices != NULL) {
		text_add(text, json_array_size(node->choices) == 1 ? "" : "one of ");
		json_array_foreach (node->choices, i, choice) {
			text_add(text, i == 0 ? "" : ", ");
			text_add_json(text, choice);
		}
		return;
	}
	if (wanted == TYPE_ANY) {
		if (value == NULL) {
			text_add(text, "a value");
			return;
		}
		wanted = type_bits(value) == TYPE_NUMERIC ? TYPE_NUMBER : type_bits(value);
	}
	for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if ((wanted & types[i].bit) == 0)
			continue;
		text_add(text, between);
		describe_type(text, node, &types[i]);
		between = " or ";
	}
}

static int fail_value(const struct node *node, const json_t *value, const struct place *place,
		      struct error *error)
{
	struct text found = {0};
	struct text expected = {0};

	text_add_value(&found, value);
	describe(&expected, node, value);
	return fail_at(place, error, "found %s; expected %s", found.data, expected.data);
}

/* ---- Checking ---- */

static int compare_integer_real(json_int_t integer, double real)
{
	json_int_t whole;

	if (real >= 0x1p63)
		return -1;
	if (real < -0x1p63)
		return 1;
	whole = (json_int_t)real;
	if (integer != whole)
		return integer < whole ? -1 : 1;
	if (real > (double)whole)
		return -1;
	return real < (double)whole ? 1 : 0;
}

/* <0, 0, >0; exact where an integer is no double. */
static int compare_numbers(const json_t *a, const json_t *b)
{
	if (json_is_integer(a) && json_is_integer(b)) {
		json_int_t x = json_integer_value(a);
		json_int_t y = json_integer_value(b);

		return x < y ? -1 : x > y;
	}
	if (json_is_integer(a))
		return compare_integer_real(json_integer_value(a), json_real_value(b));
	if (json_is_integer(b))
		return -compare_integer_real(json_integer_value(b), json_real_value(a));
	if (json_real_value(a) < json_real_value(b))
		return -1;
	return json_real_value(a) > json_real_value(b);
}

static bool values_equal(const json_t *a, const json_t *b)
{
	if (json_is_number(a) && json_is_number(b))
		return compare_numbers(a, b) == 0;
	return json_equal(a, b) != 0;
}

static bool in_bounds(const struct node *node, const json_t *value)
{
	const json_t *const *bounds = node->bounds;

	if (bounds[BOUND_MINIMUM] != NULL && compare_numbers(value, bounds[BOUND_MINIMUM]) < 0)
		return false;
	if (bounds[BOUND_MAXIMUM] != NULL && compare_numbers(value, bounds[BOUND_MAXIMUM]) > 0)
		return false;
	if (bounds[BOUND_ABOVE] != NULL && compare_numbers(value, bounds[BOUND_ABOVE]) <= 0)
		return false;
	return bounds[BOUND_BELOW] == NULL || compare_numbers(value, bounds[BOUND_BELOW]) < 0;
}

static bool in_range(const struct range *range, size_t count)
{
	return count >= range->least && count <= range->most;
}

static bool is_chosen(const struct node *node, const json_t *value)
{
	size_t i;
	const json_t *choice;

	if (node->choices == NULL)
		return true;
	json_array_foreach (node->choices, i, choice) {
		if (values_equal(value, choice))
			return true;
	}
	return false;
}

/* All that concerns the value itself and not what is in it. */
static bool value_fits(const struct node *node, const json_t *value)
{
	unsigned int bits = type_bits(value);

	if ((node->types & bits) == 0)
		return false;
	if (node->constant != NULL && !values_equal(value, node->constant))
		return false;
	if (!is_chosen(node, value))
		return false;
	if ((bits & TYPE_NUMBER) != 0)
		return in_bounds(node, value);
	if (bits == TYPE_STRING && (node->length.least != 0 || node->length.most != SIZE_MAX))
		return in_range(&node->length, count_code_points(value));
	if (bits == TYPE_ARRAY)
		return in_range(&node->items_count, json_array_size(value));
	return true;
}

static int check_node(const struct node *node, json_t *value, bool fill, const struct place *place,
		      struct error *error);

static const struct node *find_property(const struct node *node, const char *name)
{
	for (size_t i = 0; i < node->property_count; i++) {
		if (strcmp(node->properties[i].name, name) == 0)
			return node->properties[i].node;
	}
	return NULL;
}

static int fail_unknown(const struct node *node, const char *name, const struct place *place,
			struct error *error)
{
	struct text list = {0};
	json_t *shown = json_string(name);
	struct text found = {0};

	if (shown == NULL)
		return fail_memory(error);
	text_add_json(&found, shown);
	json_decref(shown);
	for (size_t i = 0; i < node->property_count; i++) {
		text_add(&list, i == 0 ? "" : ", ");
		text_add(&list, node->properties[i].name);
	}
	return fail_at(place, error, "found the unknown property %s; expected %s%s", found.data,
		       node->property_count == 0   ? "none"
		       : node->property_count == 1 ? "only "
						   : "one of ",
		       list.data);
}

/* Properties that "properties" does not name. */
static int check_additional(const struct node *node, json_t *value, bool fill,
			    const struct place *place, struct error *error)
{
	const char *name;
	json_t *member;

	if (node->additional_allowed && node->additional == NULL)
		return 0;
	json_object_foreach (value, name, member) {
		struct place inner = {.outer = place, .name = name};
		int result;

		if (find_property(node, name) != NULL)
			continue;
		if (!node->additional_allowed)
			return fail_unknown(node, name, &inner, error);
		result = check_node(node->additional, member, fill, &inner, error);
		if (result < 0)
			return result;
	}
	return 0;
}

static int check_required(const struct node *node, const json_t *value, const struct place *place,
			  struct error *error)
{
	size_t i;
	const json_t *name;

	json_array_foreach (node->required, i, name) {
		struct place inner = {.outer = place, .name = json_string_value(name)};
		const struct node *wanted = find_property(node, inner.name);
		struct text expected = {0};

		if (json_object_get(value, inner.name) != NULL)
			continue;
		if (wanted == NULL)
			wanted = node->additional;
		if (wanted == NULL)
			text_add(&expected, "a value");
		else
			describe(&expected, wanted, NULL);
		return fail_at(&inner, error, "found no \"%s\", which is required; expected %s",
			       inner.name, expected.data);
	}
	return 0;
}

static int fill_defaults(const struct node *node, json_t *value, struct error *error)
{
	for (size_t i = 0; i < node->property_count; i++) {
		const struct property *property = &node->properties[i];

		if (property->node->fallback == NULL ||
		    json_object_get(value, property->name) != NULL)
			continue;
		/* Takes the copy, and fails for NULL. */
		if (json_object_set_new(value, property->name,
					json_deep_copy(property->node->fallback)) < 0)
			return fail_memory(error);
	}
	return 0;
}

/* A misspelt name is told before the absence of what it was meant to be. */
static int check_object(const struct node *node, json_t *value, bool fill,
			const struct place *place, struct error *error)
{
	int result = fill ? fill_defaults(node, value, error) : 0;

	if (result == 0)
		result = check_additional(node, value, fill, place, error);
	if (result == 0)
		result = check_required(node, value, place, error);
	for (size_t i = 0; result == 0 && i < node->property_count; i++) {
		struct place inner = {.outer = place, .name = node->properties[i].name};
		json_t *member = json_object_get(value, inner.name);

		if (member != NULL)
			result = check_node(node->properties[i].node, member, fill, &inner, error);
	}
	return result;
}

static int check_node(const struct node *node, json_t *value, bool fill, const struct place *place,
		      struct error *error)
{
	struct place inner = {.outer = place};
	json_t *item;

	if (!value_fits(node, value))
		return fail_value(node, value, place, error);
	if (json_is_object(value))
		return check_object(node, value, fill, place, error);
	if (!json_is_array(value) || node->items == NULL)
		return 0;
	json_array_foreach (value, inner.index, item) {
		int result = check_node(node->items, item, fill, &inner, error);

		if (result < 0)
			return result;
	}
	return 0;
}

int schema_check(const struct schema *schema, json_t *value, bool fill_defaults, const char *path,
		 struct error *error)
{
	struct place place = {.name = path};

	return check_node(schema->root, value, fill_defaults, &place, error);
}

/* ---- Compiling ---- */

static int compile_node(json_t *document, const struct place *place, struct node **ret_node,
			struct error *error);

static void free_node(struct node *node)
{
	if (node == NULL)
		return;
	for (size_t i = 0; i < node->property_count; i++)
		free_node(node->properties[i].node);
	free(node->properties);
	free_node(node->items);
	free_node(node->additional);
	free(node);
}

static int fail_keyword(const json_t *value, const char *expected, const struct place *place,
			struct error *error)
{
	struct text found = {0};

	text_add_value(&found, value);
	return fail_at(place, error, "found %s; expected %s", found.data, expected);
}

static int add_type(struct node *node, const json_t *name, const struct place *place,
		    struct error *error)
{
	for (size_t i = 0; json_is_string(name) && i < sizeof(types) / sizeof(types[0]); i++) {
		if (strcmp(types[i].name, json_string_value(name)) == 0) {
			node->types |= types[i].bit;
			return 0;
		}
	}
	return fail_keyword(
		name,
		"one of integer, number, string, boolean, array, object, null, or a list of them",
		place, error);
}

static int compile_type(struct node *node, json_t *value, const struct place *place,
			struct error *error)
{
	size_t i;
	json_t *name;

	node->types = 0;
	if (!json_is_array(value))
		return add_type(node, value, place, error);
	if (json_array_size(value) == 0)
		return fail_keyword(value, "at least one type", place, error);
	json_array_foreach (value, i, name) {
		int result = add_type(node, name, place, error);

		if (result < 0)
			return result;
	}
	return 0;
}

static int compile_properties(struct node *node, json_t *value, const struct place *place,
			      struct error *error)
{
	const char *name;
	json_t *member;

	if (!json_is_object(value))
		return fail_keyword(value, "an object of schemas", place, error);
	node->properties_said = true;
	node->properties = calloc(json_object_size(value) + 1, sizeof(*node->properties));
	if (node->properties == NULL)
		return fail_memory(error);
	json_object_foreach (value, name, member) {
		struct place inner = {.outer = place, .name = name};
		struct property *property = &node->properties[node->property_count];
		int result = compile_node(member, &inner, &property->node, error);

		if (result < 0)
			return result;
		property->name = name;
		node->property_count++;
	}
	return 0;
}

static int compile_required(struct node *node, json_t *value, const struct place *place,
			    struct error *error)
{
	struct place inner = {.outer = place};
	json_t *name;

	if (!json_is_array(value))
		return fail_keyword(value, "an array of names", place, error);
	json_array_foreach (value, inner.index, name) {
		if (!json_is_string(name))
			return fail_keyword(name, "the name of a property", &inner, error);
	}
	node->required = value;
	return 0;
}

static int compile_additional(struct node *node, json_t *value, const struct place *place,
			      struct error *error)
{
	node->additional_said = true;
	if (json_is_boolean(value)) {
		node->additional_allowed = json_is_true(value);
		return 0;
	}
	return compile_node(value, place, &node->additional, error);
}

static int compile_items(struct node *node, json_t *value, const struct place *place,
			 struct error *error)
{
	return compile_node(value, place, &node->items, error);
}

static int compile_bound(enum bound bound, struct node *node, json_t *value,
			 const struct place *place, struct error *error)
{
	if (!json_is_number(value))
		return fail_keyword(value, "a number", place, error);
	node->bounds[bound] = value;
	return 0;
}

static int compile_minimum(struct node *node, json_t *value, const struct place *place,
			   struct error *error)
{
	return compile_bound(BOUND_MINIMUM, node, value, place, error);
}

static int compile_maximum(struct node *node, json_t *value, const struct place *place,
			   struct error *error)
{
	return compile_bound(BOUND_MAXIMUM, node, value, place, error);
}

static int compile_above(struct node *node, json_t *value, const struct place *place,
			 struct error *error)
{
	return compile_bound(BOUND_ABOVE, node, value, place, error);
}

static int compile_below(struct node *node, json_t *value, const struct place *place,
			 struct error *error)
{
	return compile_bound(BOUND_BELOW, node, value, place, error);
}

static int compile_count(size_t *ret_count, json_t *value, const struct place *place,
			 struct error *error)
{
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return fail_keyword(value, "an integer of at least 0", place, error);
	*ret_count = (size_t)json_integer_value(value);
	return 0;
}

static int compile_min_length(struct node *node, json_t *value, const struct place *place,
			      struct error *error)
{
	return compile_count(&node->length.least, value, place, error);
}

static int compile_max_length(struct node *node, json_t *value, const struct place *place,
			      struct error *error)
{
	return compile_count(&node->length.most, value, place, error);
}

static int compile_min_items(struct node *node, json_t *value, const struct place *place,
			     struct error *error)
{
	return compile_count(&node->items_count.least, value, place, error);
}

static int compile_max_items(struct node *node, json_t *value, const struct place *place,
			     struct error *error)
{
	return compile_count(&node->items_count.most, value, place, error);
}

static int compile_enum(struct node *node, json_t *value, const struct place *place,
			struct error *error)
{
	if (!json_is_array(value) || json_array_size(value) == 0)
		return fail_keyword(value, "an array of at least 1 item", place, error);
	node->choices = value;
	return 0;
}

static int compile_const(struct node *node, json_t *value, const struct place *place,
			 struct error *error)
{
	(void)place;
	(void)error;
	node->constant = value;
	return 0;
}

static int compile_default(struct node *node, json_t *value, const struct place *place,
			   struct error *error)
{
	(void)place;
	(void)error;
	node->fallback = value;
	return 0;
}

static int compile_text(struct node *node, json_t *value, const struct place *place,
			struct error *error)
{
	(void)node;
	return json_is_string(value) ? 0 : fail_keyword(value, "a string", place, error);
}

static int compile_examples(struct node *node, json_t *value, const struct place *place,
			    struct error *error)
{
	(void)node;
	return json_is_array(value) ? 0 : fail_keyword(value, "an array", place, error);
}

static int compile_flag(struct node *node, json_t *value, const struct place *place,
			struct error *error)
{
	(void)node;
	return json_is_boolean(value) ? 0 : fail_keyword(value, "true or false", place, error);
}

static const struct keyword {
	const char *name;
	unsigned int applies; /* types of values that it says something about */
	int (*compile)(struct node *node, json_t *value, const struct place *place,
		       struct error *error);
} keywords[] = {
	{"type", TYPE_ANY, compile_type},
	{"properties", TYPE_OBJECT, compile_properties},
	{"required", TYPE_OBJECT, compile_required},
	{"additionalProperties", TYPE_OBJECT, compile_additional},
	{"items", TYPE_ARRAY, compile_items},
	{"minItems", TYPE_ARRAY, compile_min_items},
	{"maxItems", TYPE_ARRAY, compile_max_items},
	{"minimum", TYPE_NUMERIC, compile_minimum},
	{"maximum", TYPE_NUMERIC, compile_maximum},
	{"exclusiveMinimum", TYPE_NUMERIC, compile_above},
	{"exclusiveMaximum", TYPE_NUMERIC, compile_below},
	{"minLength", TYPE_STRING, compile_min_length},
	{"maxLength", TYPE_STRING, compile_max_length},
	{"enum", TYPE_ANY, compile_enum},
	{"const", TYPE_ANY, compile_const},
	{"default", TYPE_ANY, compile_default},
	{"title", TYPE_ANY, compile_text},
	{"description", TYPE_ANY, compile_text},
	{"examples", TYPE_ANY, compile_examples},
	{"$schema", TYPE_ANY, compile_text},
	{"$id", TYPE_ANY, compile_text},
	{"$comment", TYPE_ANY, compile_text},
	{"deprecated", TYPE_ANY, compile_flag},
};

static const struct keyword *find_keyword(const char *name)
{
	for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++) {
		if (strcmp(keywords[i].name, name) == 0)
			return &keywords[i];
	}
	return NULL;
}

static int fail_unknown_keyword(const char *name, const struct place *place, struct error *error)
{
	struct text list = {0};

	for (size_t i = 0; i < sizeof(keywords) / sizeof(keywords[0]); i++) {
		text_add(&list, i == 0 ? "" : ", ");
		text_add(&list, keywords[i].name);
	}
	return fail_at(place, error, "found the keyword \"%.60s\"; expected one of %s", name,
		       list.data);
}

/* Known only once all keywords of the schema were read: invariant 2, and required names that
 * nothing could have. */
static int check_agreement(const struct node *node, json_t *document, const struct place *place,
			   struct error *error)
{
	struct place required = {.outer = place, .name = "required"};
	struct place item = {.outer = &required};
	const json_t *wanted;
	const char *name;
	json_t *value;

	json_object_foreach (document, name, value) {
		const struct keyword *keyword = find_keyword(name);
		struct place inner = {.outer = place, .name = name};

		if (keyword != NULL && (keyword->applies & node->types) == 0)
			return fail_at(&inner, error,
				       "found \"%s\" beside a \"type\" that it does not apply to; "
				       "expected a keyword of that type",
				       name);
	}
	if (node->additional_allowed)
		return 0;
	json_array_foreach (node->required, item.index, wanted) {
		if (find_property(node, json_string_value(wanted)) == NULL)
			return fail_keyword(wanted, "the name of one of the properties", &item,
					    error);
	}
	return 0;
}

/* Invariant 3. Nested defaults are filled in as they will be when this one is used. */
static int check_default(const struct node *node, const struct place *place, struct error *error)
{
	struct place inner = {.outer = place, .name = "default"};
	json_t *copy;
	int result;

	if (node->fallback == NULL)
		return 0;
	copy = json_deep_copy(node->fallback);
	if (copy == NULL)
		return fail_memory(error);
	result = check_node(node, copy, true, &inner, error);
	json_decref(copy);
	return result;
}

static int compile_keywords(struct node *node, json_t *document, const struct place *place,
			    struct error *error)
{
	const char *name;
	json_t *value;
	int result;

	json_object_foreach (document, name, value) {
		const struct keyword *keyword = find_keyword(name);
		struct place inner = {.outer = place, .name = name};

		if (keyword == NULL)
			return fail_unknown_keyword(name, &inner, error);
		result = keyword->compile(node, value, &inner, error);
		if (result < 0)
			return result;
	}
	if (node->properties_said && !node->additional_said)
		node->additional_allowed = false;
	result = check_agreement(node, document, place, error);
	return result < 0 ? result : check_default(node, place, error);
}

static int compile_node(json_t *document, const struct place *place, struct node **ret_node,
			struct error *error)
{
	struct node *node;
	int result;

	if (!json_is_object(document))
		return fail_keyword(document, "a schema, which is an object", place, error);
	node = calloc(1, sizeof(*node));
	if (node == NULL)
		return fail_memory(error);
	node->types = TYPE_ANY;
	node->length.most = SIZE_MAX;
	node->items_count.most = SIZE_MAX;
	node->additional_allowed = true;
	result = compile_keywords(node, document, place, error);
	if (result < 0) {
		free_node(node);
		return result;
	}
	*ret_node = node;
	return 0;
}

int schema_compile(const json_t *document, struct schema **ret_schema, struct error *error)
{
	struct schema *schema = calloc(1, sizeof(*schema));
	int result;

	if (schema == NULL)
		return fail_memory(error);
	schema->document = json_deep_copy(document);
	if (schema->document == NULL) {
		result = fail_memory(error);
		goto fail;
	}
	result = compile_node(schema->document, NULL, &schema->root, error);
	if (result < 0)
		goto fail;
	*ret_schema = schema;
	return 0;
fail:
	schema_free(schema);
	return result;
}

void schema_free(struct schema *schema)
{
	if (schema == NULL)
		return;
	free_node(schema->root);
	json_decref(schema->document);
	free(schema);
}

const json_t *schema_document(const struct schema *schema)
{
	return schema->document;
}
