/*
 * Templates of a command: text with "{name}" in it, which stands for the argument of that name, and
 * the list of them that makes an argument vector.
 *
 *   "--size={width}x{height}"   literal text and placeholders, in any mixture: one argument
 *   "{files...}"                an element on its own: each item of an array, an argument each
 *   "{{" and "}}"               the braces themselves
 *   {"if": "verbose", "argv": ["-v"]}
 *                               these only if that argument is given, and is not false
 *   {"argv": ["{expression}"], "allow_dash": true}
 *                               see below
 *
 * There is no shell, so nothing in an argument can become more than an argument. What is left is
 * that a program takes an argument for an option: one that starts with "-". An expanded argument
 * whose first character comes from a placeholder is refused if that character is "-", unless the
 * template says that it may (allow_dash) or the argument comes after a literal "--". Whether a
 * program keeps to "--", and what else it reads into an argument ("@file", "name=value", a URL),
 * only the author of the template knows: literal text before a placeholder, and an enum, a
 * maxLength or a minimum in the task's schema, bound it.
 *
 * Invariant: a template that compiled can be expanded with any arguments that the schema allows;
 * all that can go wrong then is memory, a dash, a NUL, or an argument longer than the system takes.
 *
 * Thread: compiling on one; a compiled template is immutable, and any thread may expand it.
 */
#ifndef TASK_COMMAND_TEMPLATE_H
#define TASK_COMMAND_TEMPLATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"

struct template_piece {
	char *text; /* literal text, or the name of an argument; owned */
	bool is_placeholder;
};

struct template
{
	struct template_piece *pieces;
	size_t count;
};

struct template_element {
	struct template text;
	bool spreads; /* "{name...}": its only piece is an array */
	bool allow_dash;
	const char *condition; /* NULL: always; points into the document */
};

struct template_argv {
	struct template_element *elements;
	size_t count;
};

/* An argument vector or an environment: count strings and a NULL behind them, each owned. */
struct strings {
	char **items;
	size_t count;
	size_t capacity;
};

/* Whether schema says that the property is there in all arguments: it is required or has a default.
 * */
bool template_is_certain(const json_t *schema, const char *name);

/* Whether values of the property are all of this type of JSON Schema ("string"). */
bool template_is_of_type(const json_t *schema, const char *name, const char *type);

/*
 * Compiles. schema is that of the task's arguments. Every placeholder must be a property of it that
 * is a string, an integer, a number or a boolean (of "{name...}" an array of those), and certain to
 * be there, unless the condition of its element is that property. On failure ERROR_INVALID with the
 * place below field; nothing is to be released then.
 */
int template_compile(const char *text, const json_t *schema, const char *field,
		     struct template *ret_template, struct error *error);
/* document is the array; it must outlive what is made of it. */
int template_compile_argv(const json_t *document, const json_t *schema, const char *field,
			  struct template_argv *ret_argv, struct error *error);
void template_release(struct template *template);
void template_release_argv(struct template_argv *argv);

/* Appends the text. The only failure is memory, which is the buffer's. */
void template_expand(const struct template *template, const json_t *args, struct buffer *buffer);

/* Appends the arguments. 0, or -errno and *error: field is "args.NAME". */
int template_expand_argv(const struct template_argv *argv, const json_t *args,
			 struct strings *strings, struct error *error);

/* Appends a string, which is taken, also on failure; NULL is taken for a lack of memory. 0 or
 * -ENOMEM. */
int strings_take(struct strings *strings, char *item);
void strings_release(struct strings *strings);

#endif
