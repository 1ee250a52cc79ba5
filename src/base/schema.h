/*
 * A documented subset of JSON Schema (draft 2020-12), for the arguments of tasks and for the
 * configuration.
 *
 * Understood: type (a name or a list of names), properties, required, additionalProperties (a
 * boolean or a schema), items (one schema), minItems, maxItems, minimum, maximum, exclusiveMinimum,
 * exclusiveMaximum, minLength, maxLength (in code points), enum, const, default, and the
 * annotations title, description, examples, $schema, $id, $comment, deprecated. A schema that uses
 * anything else is refused when it is compiled, so no keyword is ever silently ignored. Two
 * differences from the standard, both stricter: additionalProperties is false unless said (a
 * misspelt name is an error) where properties is given, and a number written with a fraction or an
 * exponent is no integer.
 *
 * A check can fill in defaults: a property that is absent and has a default in its schema is added.
 *
 * Thread: compiling on one thread; a compiled schema is immutable, and any thread may check with
 * it.
 */
#ifndef BASE_SCHEMA_H
#define BASE_SCHEMA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct schema;

/* Compiles document (borrowed; a deep copy is kept). 0, or ERROR_INVALID whose field is the place
 * in the schema
 * ("properties.n.pattern") and whose message says which keywords are understood. */
int schema_compile(const json_t *document, struct schema **ret_schema, struct error *error);

/* NULL is allowed. */
void schema_free(struct schema *schema);

/* The schema as it was written; borrowed, lives as long as the schema. */
const json_t *schema_document(const struct schema *schema);

/*
 * Checks value; with fill_defaults, also adds absent properties that have one (also in nested
 * objects). path names the value for messages, such as "args". On failure ERROR_INVALID; field is
 * the path of what is wrong ("args.n", "args.items[3]"); message tells what was found and what was
 * expected ("found the string \"abc\"; expected an integer from 0 to 100"), an unknown property
 * lists those that exist, and a missing one is named. A value that is shown is cut to about 60
 * bytes at a character's edge. Answers 0 or -errno; on failure value may hold some defaults
 * already.
 */
int schema_check(const struct schema *schema, json_t *value, bool fill_defaults, const char *path,
		 struct error *error);

/* Writes what value is, for messages: "the string \"abc\"", "the integer 5", "null"; cut as
 * described above. */
void schema_show(const json_t *value, char *buffer, size_t size);

#endif
