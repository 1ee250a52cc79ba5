#include "task/command/template.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/schema.h"

#define ARGUMENT_BYTES_MAX 131071 /* the kernel's MAX_ARG_STRLEN, without the NUL (execve(2)) */
#define NAME_MAX_BYTES	   63
#define FIELD_BYTES	   160

/* What the compiling of one text goes by. */
struct scope {
	const json_t *schema;
	const char *field;
	const char *condition; /* an argument that is certain to be there; or NULL */
};

static int fail_memory(struct error *error)
{
	return error_set(error, ERROR_INTERNAL, NULL, "out of memory");
}

/* --- vectors --- */

int strings_take(struct strings *strings, char *item)
{
	if (item == NULL) {
		return -ENOMEM;
	}
	if (strings->count + 1 >= strings->capacity) {
		size_t capacity = strings->capacity == 0 ? 16 : strings->capacity * 2;
		char **items = realloc(strings->items, capacity * sizeof(*items));
		if (items == NULL) {
			free(item);
			return -ENOMEM;
		}
		strings->items = items;
		strings->capacity = capacity;
	}
	strings->items[strings->count++] = item;
	strings->items[strings->count] = NULL;
	return 0;
}

void strings_release(struct strings *strings)
{
	for (size_t i = 0; i < strings->count; i++) {
		free(strings->items[i]);
	}
	free(strings->items);
	*strings = (struct strings){0};
}

/* --- the schema --- */

static const json_t *property_of(const json_t *schema, const char *name)
{
	return json_object_get(json_object_get(schema, "properties"), name);
}

bool template_is_certain(const json_t *schema, const char *name)
{
	size_t index;
	json_t *required;

	json_array_foreach (json_object_get(schema, "required"), index, required) {
		if (strcmp(json_string_value(required), name) == 0) {
			return true;
		}
	}
	return json_object_get(property_of(schema, name), "default") != NULL;
}

static bool is_among(const char *name, const char *const *names)
{
	for (; *names != NULL; names++) {
		if (strcmp(*names, name) == 0) {
			return true;
		}
	}
	return false;
}

/* Whether the type that a schema gives is one of these, or a list of nothing but these. */
static bool has_types(const json_t *schema, const char *const *types)
{
	const json_t *type = json_object_get(schema, "type");
	size_t index;
	json_t *item;

	if (json_is_string(type)) {
		return is_among(json_string_value(type), types);
	}
	json_array_foreach (type, index, item) {
		if (!is_among(json_string_value(item), types)) {
			return false;
		}
	}
	return json_array_size(type) > 0;
}

static bool is_scalar(const json_t *schema)
{
	static const char *const scalars[] = {"string", "integer", "number", "boolean", NULL};

	return has_types(schema, scalars);
}

bool template_is_of_type(const json_t *schema, const char *name, const char *type)
{
	const char *const types[] = {type, NULL};

	return has_types(property_of(schema, name), types);
}

static bool is_array_of_scalars(const json_t *schema, const char *name)
{
	return template_is_of_type(schema, name, "array") &&
	       is_scalar(json_object_get(property_of(schema, name), "items"));
}

static int check_known(const struct scope *scope, const char *name, struct error *error)
{
	if (property_of(scope->schema, name) != NULL) {
		return 0;
	}
	return error_set(error, ERROR_INVALID, scope->field,
			 "found the placeholder {%s}; expected a property of args_schema", name);
}

static int check_placeholder(const struct scope *scope, const char *name, bool spreads,
			     struct error *error)
{
	int status = check_known(scope, name, error);
	if (status != 0) {
		return status;
	}
	bool fits = spreads ? is_array_of_scalars(scope->schema, name)
			    : is_scalar(property_of(scope->schema, name));
	if (!fits) {
		return error_set(error, ERROR_INVALID, scope->field,
				 "found the placeholder {%s%s}, which args_schema gives another "
				 "type; expected %s",
				 name, spreads ? "..." : "",
				 spreads ? "an array whose items are strings, integers, numbers or "
					   "booleans"
					 : "a string, an integer, a number or a boolean");
	}
	if (template_is_certain(scope->schema, name) ||
	    (scope->condition != NULL && strcmp(scope->condition, name) == 0)) {
		return 0;
	}
	return error_set(
		error, ERROR_INVALID, scope->field,
		"found the placeholder {%s} for an argument that may be left out; expected "
		"it to be required, to have a default, or to stand in an element with "
		"\"if\": \"%s\"",
		name, name);
}

/* --- compiling --- */

static int add_piece(struct template *template, const char *text, size_t length,
		     bool is_placeholder, struct error *error)
{
	struct template_piece *pieces =
		realloc(template->pieces, (template->count + 1) * sizeof(*pieces));
	if (pieces == NULL) {
		return fail_memory(error);
	}
	template->pieces = pieces;
	char *copy = strndup(text, length);
	if (copy == NULL) {
		return fail_memory(error);
	}
	pieces[template->count++] =
		(struct template_piece){.text = copy, .is_placeholder = is_placeholder};
	return 0;
}

static int fail_brace(const struct scope *scope, const char *at, struct error *error)
{
	return error_set(error, ERROR_INVALID, scope->field,
			 "found \"%.20s\"; expected {name}, or a brace written twice", at);
}

/* From a "{": answers what is behind the placeholder, or NULL and *error. */
static const char *compile_placeholder(const struct scope *scope, const char *at,
				       struct template *template, struct error *error)
{
	size_t length = strcspn(at + 1, "{}");
	char name[NAME_MAX_BYTES + 1];

	if (at[1 + length] != '}' || length == 0 || length > NAME_MAX_BYTES) {
		fail_brace(scope, at, error);
		return NULL;
	}
	memcpy(name, at + 1, length);
	name[length] = '\0';
	if (length > 3 && strcmp(name + length - 3, "...") == 0) {
		error_set(error, ERROR_INVALID, scope->field,
			  "found {%s} as a part of an argument; expected it as an element of argv "
			  "on its own",
			  name);
		return NULL;
	}
	if (check_placeholder(scope, name, false, error) != 0 ||
	    add_piece(template, name, length, true, error) != 0) {
		return NULL;
	}
	return at + length + 2;
}

/* Literal text up to the next placeholder: answers what is behind it, or NULL and *error. */
static const char *compile_literal(const struct scope *scope, const char *at,
				   struct template *template, struct error *error)
{
	struct buffer text = {0};

	while (*at != '\0' && (at[0] != '{' || at[1] == '{')) {
		if (at[0] == '}' && at[1] != '}') {
			fail_brace(scope, at, error);
			buffer_release(&text);
			return NULL;
		}
		buffer_append_char(&text, at[0]);
		at += at[0] == '{' || at[0] == '}' ? 2 : 1;
	}
	buffer_append_char(&text, '\0');
	if (buffer_failed(&text)) {
		fail_memory(error);
		at = NULL;
	} else if (add_piece(template, text.data, text.length - 1, false, error) != 0) {
		at = NULL;
	}
	buffer_release(&text);
	return at;
}

static int compile_text(const struct scope *scope, const char *text, struct template *ret_template,
			struct error *error)
{
	struct template template = {0};

	while (text != NULL && *text != '\0') {
		text = text[0] == '{' && text[1] != '{'
			       ? compile_placeholder(scope, text, &template, error)
			       : compile_literal(scope, text, &template, error);
	}
	if (text == NULL) {
		template_release(&template);
		return error->code == ERROR_INTERNAL ? -ENOMEM : -EINVAL;
	}
	*ret_template = template;
	return 0;
}

int template_compile(const char *text, const json_t *schema, const char *field,
		     struct template *ret_template, struct error *error)
{
	const struct scope scope = {.schema = schema, .field = field};

	return compile_text(&scope, text, ret_template, error);
}

/* Whether the text is "{name...}" and nothing else. */
static bool is_spread(const char *text, char name[static NAME_MAX_BYTES + 1])
{
	size_t length = strlen(text);

	if (length < 6 || length - 5 > NAME_MAX_BYTES || text[0] != '{' ||
	    strcmp(text + length - 4, "...}") != 0 || strcspn(text + 1, "{}") != length - 2) {
		return false;
	}
	memcpy(name, text + 1, length - 5);
	name[length - 5] = '\0';
	return true;
}

static int compile_element(const struct scope *scope, const char *text,
			   struct template_element *element, struct error *error)
{
	char name[NAME_MAX_BYTES + 1];

	if (!is_spread(text, name)) {
		return compile_text(scope, text, &element->text, error);
	}
	int status = check_placeholder(scope, name, true, error);
	if (status == 0) {
		status = add_piece(&element->text, name, strlen(name), true, error);
	}
	element->spreads = true;
	return status;
}

static bool is_double_dash(const struct template_element *element)
{
	return element->text.count == 1 && !element->text.pieces[0].is_placeholder &&
	       strcmp(element->text.pieces[0].text, "--") == 0;
}

/* What elements of one list have in common. */
struct group {
	const char *condition;
	bool allow_dash;
	bool after_double_dash;
};

static int add_element(struct template_argv *argv, const struct scope *scope, const json_t *item,
		       struct group *group, struct error *error)
{
	struct template_element element = {.condition = group->condition,
					   .allow_dash =
						   group->allow_dash || group->after_double_dash};
	if (!json_is_string(item)) {
		char shown[100];
		schema_show(item, shown, sizeof(shown));
		return error_set(error, ERROR_INVALID, scope->field, "found %s; expected a string",
				 shown);
	}
	struct template_element *elements =
		realloc(argv->elements, (argv->count + 1) * sizeof(*elements));
	if (elements == NULL) {
		return fail_memory(error);
	}
	argv->elements = elements;
	int status = compile_element(scope, json_string_value(item), &element, error);
	if (status != 0) {
		template_release(&element.text);
		return status;
	}
	group->after_double_dash |= is_double_dash(&element);
	elements[argv->count++] = element;
	return 0;
}

static int check_group(const json_t *document, const struct scope *scope, struct error *error)
{
	const char *member;
	json_t *value;

	json_object_foreach ((json_t *)(uintptr_t)document, member, value) {
		bool fits = strcmp(member, "if") == 0		? json_is_string(value)
			    : strcmp(member, "argv") == 0	? json_is_array(value)
			    : strcmp(member, "allow_dash") == 0 ? json_is_boolean(value)
								: false;
		if (!fits) {
			return error_set(
				error, ERROR_INVALID, scope->field,
				"found the member \"%.60s\"; expected \"argv\" with a list of "
				"strings, and perhaps \"if\" with the name of an argument "
				"and \"allow_dash\" with true or false",
				member);
		}
	}
	if (json_object_get(document, "argv") == NULL) {
		return error_set(error, ERROR_INVALID, scope->field,
				 "found no member \"argv\"; expected a list of strings");
	}
	return 0;
}

static int add_group(struct template_argv *argv, const struct scope *outer, const json_t *document,
		     bool after_double_dash, struct error *error)
{
	struct scope scope = *outer;
	int status = check_group(document, &scope, error);
	if (status != 0) {
		return status;
	}
	scope.condition = json_string_value(json_object_get(document, "if"));
	struct group group = {.condition = scope.condition,
			      .allow_dash = json_is_true(json_object_get(document, "allow_dash")),
			      .after_double_dash = after_double_dash};
	if (scope.condition != NULL) {
		status = check_known(&scope, scope.condition, error);
	}
	size_t index;
	json_t *item;
	json_array_foreach (json_object_get(document, "argv"), index, item) {
		if (status == 0) {
			status = add_element(argv, &scope, item, &group, error);
		}
	}
	return status;
}

int template_compile_argv(const json_t *document, const json_t *schema, const char *field,
			  struct template_argv *ret_argv, struct error *error)
{
	struct template_argv argv = {0};
	struct group group = {0};
	size_t index;
	json_t *item;
	int status = 0;

	json_array_foreach (document, index, item) {
		char place[FIELD_BYTES];
		snprintf(place, sizeof(place), "%.120s[%zu]", field, index);
		const struct scope scope = {.schema = schema, .field = place};
		status = json_is_object(item)
				 ? add_group(&argv, &scope, item, group.after_double_dash, error)
				 : add_element(&argv, &scope, item, &group, error);
		if (status != 0) {
			template_release_argv(&argv);
			return status;
		}
	}
	*ret_argv = argv;
	return 0;
}

void template_release(struct template *template)
{
	for (size_t i = 0; i < template->count; i++) {
		free(template->pieces[i].text);
	}
	free(template->pieces);
	*template = (struct template){0};
}

void template_release_argv(struct template_argv *argv)
{
	for (size_t i = 0; i < argv->count; i++) {
		template_release(&argv->elements[i].text);
	}
	free(argv->elements);
	*argv = (struct template_argv){0};
}

/* --- expanding --- */

static void append_value(const json_t *value, struct buffer *buffer)
{
	if (json_is_string(value)) {
		buffer_append(buffer, json_string_value(value), json_string_length(value));
		return;
	}
	char *text = json_encode(value, NULL);
	if (text == NULL) {
		buffer->failed = true;
		return;
	}
	buffer_append_text(buffer, text);
	free(text);
}

void template_expand(const struct template *template, const json_t *args, struct buffer *buffer)
{
	for (size_t i = 0; i < template->count; i++) {
		const struct template_piece *piece = &template->pieces[i];
		if (piece->is_placeholder) {
			append_value(json_object_get(args, piece->text), buffer);
		} else {
			buffer_append_text(buffer, piece->text);
		}
	}
}

/* Whether the first character comes from a placeholder; a literal piece is never empty. */
static bool begins_with_value(const struct template_element *element)
{
	return element->text.count > 0 && element->text.pieces[0].is_placeholder;
}

static const char *first_name(const struct template_element *element)
{
	for (size_t i = 0; i < element->text.count; i++) {
		if (element->text.pieces[i].is_placeholder) {
			return element->text.pieces[i].text;
		}
	}
	return "";
}

static int fail_argument(const struct template_element *element, const char *found,
			 struct error *error)
{
	char field[FIELD_BYTES];

	snprintf(field, sizeof(field), "args.%s", first_name(element));
	return error_set(error, ERROR_INVALID, field, "%s", found);
}

/* Adds what is in the buffer as one argument, and empties it. */
static int add_argument(const struct template_element *element, struct buffer *buffer,
			struct strings *strings, struct error *error)
{
	buffer_append_char(buffer, '\0');
	if (buffer_failed(buffer)) {
		return fail_memory(error);
	}
	size_t length = buffer->length - 1;
	if (memchr(buffer->data, '\0', length) != NULL) {
		return fail_argument(element, "found a NUL; expected text without", error);
	}
	if (length > ARGUMENT_BYTES_MAX) {
		return fail_argument(element,
				     "found more than 131071 bytes; expected as many as the system "
				     "takes in one argument of a program",
				     error);
	}
	if (buffer->data[0] == '-' && begins_with_value(element) && !element->allow_dash) {
		return fail_argument(element,
				     "found a text that starts with \"-\", which the program might "
				     "take for an option; expected another beginning",
				     error);
	}
	char *copy = strdup(buffer->data);
	buffer_clear(buffer);
	return strings_take(strings, copy) == 0 ? 0 : fail_memory(error);
}

static bool is_wanted(const struct template_element *element, const json_t *args)
{
	if (element->condition == NULL) {
		return true;
	}
	const json_t *value = json_object_get(args, element->condition);
	return value != NULL && !json_is_false(value) && !json_is_null(value);
}

static int expand_spread(const struct template_element *element, const json_t *args,
			 struct buffer *buffer, struct strings *strings, struct error *error)
{
	size_t index;
	json_t *item;
	int status = 0;

	json_array_foreach (json_object_get(args, element->text.pieces[0].text), index, item) {
		append_value(item, buffer);
		status = add_argument(element, buffer, strings, error);
		if (status != 0) {
			return status;
		}
	}
	return 0;
}

int template_expand_argv(const struct template_argv *argv, const json_t *args,
			 struct strings *strings, struct error *error)
{
	struct buffer buffer = {0};
	int status = 0;

	for (size_t i = 0; status == 0 && i < argv->count; i++) {
		const struct template_element *element = &argv->elements[i];
		if (!is_wanted(element, args)) {
			continue;
		}
		if (element->spreads) {
			status = expand_spread(element, args, &buffer, strings, error);
		} else {
			template_expand(&element->text, args, &buffer);
			status = add_argument(element, &buffer, strings, error);
		}
	}
	buffer_release(&buffer);
	return status;
}
