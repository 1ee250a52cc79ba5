/*
 * TWINPOOL_* variables and flags over the file's tree: see overlay.h.
 *
 * Invariant: a value enters the tree only after the schema of its place has accepted it, so the
 * tree stays valid.
 */
#include "config/overlay.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/schema.h"
#include "config/build.h"

#define PREFIX	    "TWINPOOL_"
#define POOL_PREFIX "TWINPOOL_POOL_"

static const struct setting {
	const char *variable;
	const char *object; /* names with stops between them; NULL: the name lies at the top */
	const char *name;
} settings[] = {
	{"TWINPOOL_LISTEN", "server", "listen"},
	{"TWINPOOL_DATA_DIR", NULL, "data_dir"},
	{"TWINPOOL_LOG_LEVEL", "log", "level"},
	{"TWINPOOL_LOG_FORMAT", "log", "format"},
	{"TWINPOOL_DEFAULT_POOL", NULL, "default_pool"},
	{"TWINPOOL_SHUTDOWN_GRACE_MS", "server", "shutdown_grace_ms"},
	{"TWINPOOL_STORE_KIND", "store", "kind"},
	{"TWINPOOL_STORE_CONNECTION", "store", "connection"},
	{"TWINPOOL_STORE_NODE", "store", "node"},
	{"TWINPOOL_STORE_DURABLE", "store", "durable"},
	{"TWINPOOL_CALLBACKS_SECRET_FILE", "callbacks", "secret_file"},
	{"TWINPOOL_TOKENS_FILE", "server", "tokens_file"},
	{"TWINPOOL_ALLOW_ANONYMOUS", "server", "allow_anonymous"},
	{"TWINPOOL_TLS_CERTIFICATE", "server.tls", "certificate"},
	{"TWINPOOL_TLS_KEY", "server.tls", "key"},
	{"TWINPOOL_TLS_CLIENT_CA", "server.tls", "client_ca"},
};

/* Of a pool; behind TWINPOOL_POOL_<NAME>. */
static const struct member {
	const char *suffix;
	const char *name;
} members[] = {
	{"_HOSTS", "hosts"},
	{"_MAX_HOSTS", "max_hosts"},
	{"_THREADS", "threads"},
};

/* Others look at these: config_load() itself, and the program's start. */
static const char *const elsewhere[] = {"TWINPOOL_CONFIG", "TWINPOOL_READY_FD"};

/* One place of the tree. */
struct target {
	json_t *object;
	const json_t *schema; /* of the value */
	const char *name;
	char path[160];
};

static int fail_memory(struct error *error)
{
	return error_set(error, ERROR_INTERNAL, "", "out of memory");
}

const char *overlay_variable(char *const *environment, const char *name)
{
	size_t length = strlen(name);

	for (; environment != NULL && *environment != NULL; environment++) {
		if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=')
			return *environment + length + 1;
	}
	return NULL;
}

static const json_t *property_schema(const json_t *schema, const char *name)
{
	return json_object_get(json_object_get(schema, "properties"), name);
}

static struct target find_target(json_t *tree, const json_t *schema, const char *object,
				 const char *name)
{
	struct target target = {.object = tree, .schema = schema, .name = name};

	for (const char *at = object; at != NULL && *at != '\0';) {
		size_t length = strcspn(at, ".");
		char step[32];

		(void)snprintf(step, sizeof(step), "%.*s", (int)length, at);
		target.object = json_object_get(target.object, step);
		target.schema = property_schema(target.schema, step);
		at += length + (at[length] == '.');
	}
	target.schema = property_schema(target.schema, name);
	(void)snprintf(target.path, sizeof(target.path), "%s%s%s", object != NULL ? object : "",
		       object != NULL ? "." : "", name);
	return target;
}

/* What a variable says for a boolean; NULL for anything else. */
static json_t *boolean_value(const char *text)
{
	if (strcmp(text, "1") == 0 || strcmp(text, "true") == 0)
		return json_true();
	return strcmp(text, "0") == 0 || strcmp(text, "false") == 0 ? json_false() : NULL;
}

/* Whether the schema names the type, alone or as one of several. */
static bool takes(const json_t *schema, const char *name)
{
	const json_t *type = json_object_get(schema, "type");
	const json_t *one;
	size_t i;

	json_array_foreach (type, i, one)
		if (strcmp(json_string_value(one), name) == 0)
			return true;
	return json_is_string(type) && strcmp(json_string_value(type), name) == 0;
}

/* A boolean or an integer where the schema may take one and the text is one, else a string; NULL
 * for text that is no UTF-8. */
static json_t *text_value(const json_t *schema, const char *text)
{
	const char *digits = text[0] == '-' ? text + 1 : text;

	if (takes(schema, "boolean")) {
		json_t *boolean = boolean_value(text);
		return boolean != NULL ? boolean : json_string(text);
	}
	if (takes(schema, "integer")) {
		if (digits[0] != '\0' && digits[strspn(digits, "0123456789")] == '\0') {
			long long number;

			errno = 0;
			number = strtoll(text, NULL, 10);
			if (errno == 0)
				return json_integer(number);
		}
	}
	return json_string(text);
}

static int check_value(const struct target *target, json_t *value, const char *source,
		       struct error *error)
{
	struct schema *schema = NULL;
	int result;

	if (config_is_count(target->name))
		return config_check_count(value, target->name, source, error);
	result = schema_compile(target->schema, &schema, error);
	if (result < 0)
		return result;
	result = schema_check(schema, value, false, source, error);
	schema_free(schema);
	return result;
}

/* source is what the user wrote: the name of a variable or a flag. */
static int set_text(const struct target *target, const char *text, const char *source,
		    json_t *origins, struct error *error)
{
	json_t *value = text_value(target->schema, text);
	int result;

	if (value == NULL)
		return error_set(error, ERROR_INVALID, source,
				 "found bytes that are no UTF-8; expected text");
	result = check_value(target, value, source, error);
	/* Both setters take what they are given, even when they fail. */
	if (result == 0 && (json_object_set(target->object, target->name, value) < 0 ||
			    json_object_set_new(origins, target->path, json_string(source)) < 0))
		result = fail_memory(error);
	json_decref(value);
	return result;
}

/* How a character of a pool's name stands in a variable. */
static char upper(char c)
{
	if (c == '-')
		return '_';
	return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

/* Whether name, as it stands in a variable (upper case, '-' as '_'), means this pool. */
static bool names_pool(const char *name, size_t length, const char *pool)
{
	if (strlen(pool) != length)
		return false;
	for (size_t i = 0; i < length; i++) {
		if (name[i] != upper(pool[i]))
			return false;
	}
	return true;
}

static int fail_pool(json_t *pools, const char *name, size_t length, const char *source,
		     struct error *error)
{
	struct buffer list = {0};
	const char *pool;
	json_t *value;
	int result;

	json_object_foreach (pools, pool, value) {
		if (list.length > 0)
			buffer_append_text(&list, ", ");
		for (size_t i = 0; pool[i] != '\0'; i++)
			buffer_append_char(&list, upper(pool[i]));
	}
	result = error_set(error, ERROR_INVALID, source,
			   "found the pool name \"%.*s\", which means no pool or more than one; "
			   "expected one of %.*s",
			   length < 60 ? (int)length : 60, name, (int)list.length,
			   list.data != NULL ? list.data : "");
	buffer_release(&list);
	return result;
}

/* The length of name without the suffix; 0 if it does not end so, or is nothing else. */
static size_t stem_length(const char *name, const char *suffix)
{
	size_t length = strlen(name);
	size_t suffix_length = strlen(suffix);

	if (length <= suffix_length || strcmp(name + length - suffix_length, suffix) != 0)
		return 0;
	return length - suffix_length;
}

/* Counts the pools that name can mean, and makes the last of them the target. */
static size_t match_pools(json_t *pools, const char *name, size_t length, const char *member,
			  struct target *target)
{
	size_t matches = 0;
	const char *pool;
	json_t *object;

	json_object_foreach (pools, pool, object) {
		if (!names_pool(name, length, pool))
			continue;
		matches++;
		target->object = object;
		target->name = member;
		(void)snprintf(target->path, sizeof(target->path), "pools.%s.%s", pool, member);
	}
	return matches;
}

/*
 * TWINPOOL_POOL_<NAME>_ and a member. *ret_known is false if the variable is none. One that ends in
 * _MAX_HOSTS may as well mean the hosts of a pool x_max: it must mean one thing only.
 */
static int set_pool(json_t *tree, const json_t *schema, const char *source, const char *text,
		    json_t *origins, bool *ret_known, struct error *error)
{
	const char *name = source + strlen(POOL_PREFIX);
	json_t *pools = json_object_get(tree, "pools");
	struct target target = {0};
	size_t matches = 0;
	size_t longest = 0; /* name of a pool that was looked for */

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		size_t length = stem_length(name, members[i].suffix);

		if (length == 0)
			continue;
		matches += match_pools(pools, name, length, members[i].name, &target);
		longest = length > longest ? length : longest;
	}
	*ret_known = longest > 0;
	if (!*ret_known)
		return 0;
	if (matches != 1)
		return fail_pool(pools, name, longest, source, error);
	target.schema = property_schema(
		json_object_get(property_schema(schema, "pools"), "additionalProperties"),
		target.name);
	return set_text(&target, text, source, origins, error);
}

static int fail_unknown(const char *source, struct error *error)
{
	struct buffer list = {0};
	int result;

	for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++)
		buffer_append_format(&list, "%s, ", elsewhere[i]);
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		buffer_append_format(&list, "%s, ", settings[i].variable);
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		buffer_append_format(&list, "%s%s<NAME>%s", i == 0 ? "" : ", ", POOL_PREFIX,
				     members[i].suffix);
	result = error_set(error, ERROR_INVALID, source,
			   "found an unknown variable; expected one of %.*s", (int)list.length,
			   list.data != NULL ? list.data : "");
	buffer_release(&list);
	return result;
}

static bool is_elsewhere(const char *source)
{
	for (size_t i = 0; i < sizeof(elsewhere) / sizeof(elsewhere[0]); i++) {
		if (strcmp(source, elsewhere[i]) == 0)
			return true;
	}
	return false;
}

static int set_variable(json_t *tree, const json_t *schema, const char *source, const char *text,
			json_t *origins, struct error *error)
{
	bool known = false;
	int result = 0;

	if (is_elsewhere(source))
		return 0;
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		struct target target;

		if (strcmp(source, settings[i].variable) != 0)
			continue;
		target = find_target(tree, schema, settings[i].object, settings[i].name);
		return set_text(&target, text, source, origins, error);
	}
	if (strncmp(source, POOL_PREFIX, strlen(POOL_PREFIX)) == 0)
		result = set_pool(tree, schema, source, text, origins, &known, error);
	if (result == 0 && !known)
		result = fail_unknown(source, error);
	return result;
}

static int apply_variables(json_t *tree, const json_t *schema, char *const *environment,
			   json_t *origins, struct error *error)
{
	int result = 0;

	for (; result == 0 && environment != NULL && *environment != NULL; environment++) {
		const char *equals = strchr(*environment, '=');
		char *source;

		if (equals == NULL || strncmp(*environment, PREFIX, strlen(PREFIX)) != 0)
			continue;
		source = strndup(*environment, (size_t)(equals - *environment));
		if (source == NULL)
			return fail_memory(error);
		result = set_variable(tree, schema, source, equals + 1, origins, error);
		free(source);
	}
	return result;
}

static int apply_flags(json_t *tree, const json_t *schema, const struct config_flags *flags,
		       json_t *origins, struct error *error)
{
	const struct {
		const char *text;
		const char *source;
		const char *object;
		const char *name;
	} given[] = {
		{flags->listen, "--listen", "server", "listen"},
		{flags->data_dir, "--data-dir", NULL, "data_dir"},
		{flags->log_level, "--log-level", "log", "level"},
		{flags->log_format, "--log-format", "log", "format"},
		{flags->tokens_file, "--tokens-file", "server", "tokens_file"},
		{flags->allow_anonymous, "--allow-anonymous", "server", "allow_anonymous"},
	};

	for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
		struct target target;
		int result;

		if (given[i].text == NULL)
			continue;
		target = find_target(tree, schema, given[i].object, given[i].name);
		result = set_text(&target, given[i].text, given[i].source, origins, error);
		if (result < 0)
			return result;
	}
	return 0;
}

int overlay_apply(json_t *tree, const json_t *schema, char *const *environment,
		  const struct config_flags *flags, json_t *origins, struct error *error)
{
	int result = apply_variables(tree, schema, environment, origins, error);

	return result < 0 ? result : apply_flags(tree, schema, flags, origins, error);
}
