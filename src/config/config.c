/*
 * The configuration: see config.h.
 *
 * The file is parsed and checked, variables and flags are laid over its tree, and one struct is
 * built from the result. So there is one path for all sources, and the schema document is the only
 * place that knows a default or a limit.
 *
 * Invariant: an error names what the user wrote. A place of the tree that a variable or a flag has
 * set is reported under that name, every other one with the file in front of the message.
 */
#include "config/config.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/schema.h"
#include "config/build.h"
#include "config/config_schema.h"
#include "config/overlay.h"

#define FILE_BYTES_MAX (1U << 20)
#define SHOWN_PATH_MAX 200

/* What one loading works with. */
struct loading {
	const char *path;	 /* of the file, or NULL */
	const char *path_source; /* who named it: "--config" or "TWINPOOL_CONFIG" */
	uint64_t digest;	 /* of the file's bytes */
	struct schema *schema;
	json_t *tree;
	json_t *origins; /* object: path in the tree → variable or flag that set it */
};

static int fail_memory(struct error *error)
{
	return error_set(error, ERROR_INTERNAL, "", "out of memory");
}

/* Puts the file's path, if there is one, in front of the message; of a very long one only the end.
 */
static void name_file(const char *whole_path, struct error *error)
{
	char message[sizeof(error->message)];
	const char *path = whole_path;

	if (path == NULL)
		return;
	if (strlen(path) > SHOWN_PATH_MAX) {
		path += strlen(path) - SHOWN_PATH_MAX;
		while (((unsigned char)*path & 0xC0U) == 0x80U)
			path++;
	}
	memcpy(message, error->message, sizeof(message));
	(void)error_set(error, error->code, error->field, "%s%s: %s", path == whole_path ? "" : "…",
			path, message);
}

/* A connection string may hold a password, so a wrong one is not shown. field is as the user knows
 * it. */
static void hide_connection(struct error *error)
{
	if (error->code != ERROR_INTERNAL &&
	    (strcmp(error->field, "store.connection") == 0 ||
	     strcmp(error->field, "TWINPOOL_STORE_CONNECTION") == 0))
		(void)error_set(error, error->code, error->field,
				"found a value that is no connection string; expected a string of "
				"1 to 4000 characters for libpq");
}

/* The invariant above; for errors whose field is a path in the tree. */
static void name_source(const struct loading *loading, struct error *error)
{
	const json_t *origin = json_object_get(loading->origins, error->field);
	char message[sizeof(error->message)];

	if (error->code == ERROR_INTERNAL)
		return;
	hide_connection(error);
	if (origin == NULL) {
		name_file(loading->path, error);
		return;
	}
	memcpy(message, error->message, sizeof(message));
	(void)error_set(error, error->code, json_string_value(origin), "%s", message);
}

static int compile_schema(struct loading *loading, struct error *error)
{
	json_t *document = NULL;
	int result = json_parse(config_schema_json, config_schema_json_size, &document, error);

	if (result == 0)
		result = schema_compile(document, &loading->schema, error);
	json_decref(document);
	return result;
}

/* FNV-1a: tells one file from another; no protection against who means to deceive. */
static uint64_t digest_bytes(const char *data, size_t length)
{
	uint64_t digest = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < length; i++)
		digest = (digest ^ (unsigned char)data[i]) * UINT64_C(0x100000001b3);
	return digest;
}

static int read_file(struct loading *loading, struct error *error)
{
	char *data = NULL;
	size_t length = 0;
	int result = fd_read_file(loading->path, FILE_BYTES_MAX, &data, &length);

	if (result < 0) {
		result =
			error_set(error, ERROR_INVALID, loading->path_source,
				  "found a file that cannot be read (%s); expected a configuration "
				  "of at most %u bytes",
				  strerror(-result), FILE_BYTES_MAX);
		name_file(loading->path, error);
		return result;
	}
	loading->digest = digest_bytes(data, length);
	result = json_parse(data, length, &loading->tree, error);
	free(data);
	if (result < 0)
		name_file(loading->path, error);
	return result;
}

static int read_tree(struct loading *loading, struct error *error)
{
	if (loading->path != NULL)
		return read_file(loading, error);
	loading->tree = json_object();
	return loading->tree != NULL ? 0 : fail_memory(error);
}

/* The schema can only say "an integer or a string"; looked at before it, so that the message is
 * exact. */
static int check_counts(const struct loading *loading, struct error *error)
{
	const char *const *names = config_count_names;
	const char *pool;
	json_t *object;

	json_object_foreach (json_object_get(loading->tree, "pools"), pool, object) {
		for (size_t i = 0; names[i] != NULL; i++) {
			const json_t *value = json_object_get(object, names[i]);
			char field[sizeof(error->field)];
			int result;

			(void)snprintf(field, sizeof(field), "pools.%.100s.%s", pool, names[i]);
			result = value != NULL ? config_check_count(value, names[i], field, error)
					       : 0;
			if (result < 0)
				return result;
		}
	}
	return 0;
}

/* A path of the file, which starts at the file's directory unless it is absolute. NULL if memory is
 * short. */
static char *path_from_file(const struct loading *loading, const char *path)
{
	const char *slash = strrchr(loading->path, '/');
	char *joined = NULL;

	if (path[0] == '/' || slash == NULL)
		return strdup(path);
	if (asprintf(&joined, "%.*s/%s", (int)(slash - loading->path), loading->path, path) < 0)
		return NULL;
	return joined;
}

static int replace_string(json_t *object, const char *name, const char *text, struct error *error)
{
	json_t *value = json_string(text);

	if (value == NULL)
		return error_set(error, ERROR_INVALID, name,
				 "found a path that is no UTF-8; expected one that is");
	/* Takes the value. */
	return json_object_set_new(object, name, value) < 0 ? fail_memory(error) : 0;
}

/* A path that need not be there yet, and may be left out or null. */
static int resolve_path(const struct loading *loading, json_t *object, const char *name,
			struct error *error)
{
	const json_t *value = json_object_get(object, name);
	char *path;
	int result;

	if (!json_is_string(value))
		return 0;
	path = path_from_file(loading, json_string_value(value));
	if (path == NULL)
		return fail_memory(error);
	result = replace_string(object, name, path, error);
	free(path);
	return result;
}

static int resolve_tls(const struct loading *loading, struct error *error)
{
	static const char *const files[] = {"certificate", "key", "client_ca"};
	json_t *tls = json_object_get(json_object_get(loading->tree, "server"), "tls");
	int result = 0;

	for (size_t i = 0; result == 0 && i < sizeof(files) / sizeof(files[0]); i++)
		result = resolve_path(loading, tls, files[i], error);
	return result;
}

/* The directory's absolute name without symbolic links; NULL and errno if there is no such
 * directory. */
static char *resolve_directory(const char *path)
{
	char *resolved = realpath(path, NULL);
	struct stat status;
	int failure;

	if (resolved == NULL)
		return NULL;
	failure = stat(resolved, &status) < 0 ? errno : S_ISDIR(status.st_mode) ? 0 : ENOTDIR;
	if (failure == 0)
		return resolved;
	free(resolved);
	errno = failure;
	return NULL;
}

static int resolve_root(const struct loading *loading, const char *task, json_t *object,
			struct error *error)
{
	const json_t *value = json_object_get(object, "root");
	char field[sizeof(error->field)];
	char *path;
	char *resolved;
	char shown[120];
	int result;

	if (value == NULL)
		return 0;
	path = path_from_file(loading, json_string_value(value));
	if (path == NULL)
		return fail_memory(error);
	resolved = resolve_directory(path);
	free(path);
	if (resolved == NULL) {
		const char *reason = strerror(errno);

		(void)snprintf(field, sizeof(field), "tasks.%.100s.root", task);
		schema_show(value, shown, sizeof(shown));
		return error_set(error, ERROR_INVALID, field,
				 "found %s (%s); expected an existing directory", shown, reason);
	}
	result = replace_string(object, "root", resolved, error);
	free(resolved);
	return result;
}

/* A directory that must exist, at field in the tree. *ret_value is a new string. */
static int resolve_existing(const struct loading *loading, const json_t *value, const char *field,
			    json_t **ret_value, struct error *error)
{
	char *path = path_from_file(loading, json_string_value(value));
	char *resolved;
	char shown[120];

	if (path == NULL)
		return fail_memory(error);
	resolved = resolve_directory(path);
	free(path);
	if (resolved == NULL) {
		const char *reason = strerror(errno);

		schema_show(value, shown, sizeof(shown));
		return error_set(error, ERROR_INVALID, field,
				 "found %s (%s); expected an existing directory", shown, reason);
	}
	*ret_value = json_string(resolved);
	free(resolved);
	return *ret_value != NULL
		       ? 0
		       : error_set(error, ERROR_INVALID, field,
				   "found a path that is no UTF-8; expected one that is");
}

static int resolve_python(const struct loading *loading, struct error *error)
{
	json_t *python = json_object_get(loading->tree, "python");
	json_t *venv = json_object_get(python, "venv");
	json_t *directories = json_object_get(python, "path");
	json_t *directory;
	json_t *resolved = NULL;
	size_t i;

	json_array_foreach (directories, i, directory) {
		char field[40];
		int result;

		(void)snprintf(field, sizeof(field), "python.path[%zu]", i);
		result = resolve_existing(loading, directory, field, &resolved, error);
		if (result < 0)
			return result;
		if (json_array_set_new(directories, i, resolved) < 0) /* takes it */
			return fail_memory(error);
	}
	if (venv == NULL)
		return 0;
	int result = resolve_existing(loading, venv, "python.venv", &resolved, error);
	if (result < 0)
		return result;
	/* Takes it. */
	return json_object_set_new(python, "venv", resolved) < 0 ? fail_memory(error) : 0;
}

/* Only made absolute: whether there is such a file is found out when it is loaded. */
static int resolve_plugin(const struct loading *loading, json_t *object, struct error *error)
{
	char *path = path_from_file(loading, json_string_value(json_object_get(object, "path")));
	char *directory = path != NULL && path[0] != '/' ? getcwd(NULL, 0) : NULL;
	char *absolute = NULL;
	int result = path != NULL ? 0 : fail_memory(error);

	if (directory != NULL && asprintf(&absolute, "%s/%s", directory, path) < 0)
		absolute = NULL;
	if (result == 0)
		result = replace_string(object, "path", absolute != NULL ? absolute : path, error);
	free(absolute);
	free(directory);
	free(path);
	return result;
}

static int resolve_paths(const struct loading *loading, struct error *error)
{
	int result = resolve_path(loading, loading->tree, "data_dir", error);
	const char *task;
	size_t index;
	json_t *object;

	if (result == 0)
		result = resolve_path(loading, json_object_get(loading->tree, "callbacks"),
				      "secret_file", error);
	if (result == 0)
		result = resolve_path(loading, json_object_get(loading->tree, "server"),
				      "tokens_file", error);
	if (result == 0)
		result = resolve_tls(loading, error);
	if (result == 0)
		result = resolve_python(loading, error);
	if (result < 0)
		return result;
	json_array_foreach (json_object_get(loading->tree, "plugins"), index, object) {
		result = resolve_plugin(loading, object, error);
		if (result < 0)
			return result;
	}
	json_object_foreach (json_object_get(loading->tree, "tasks"), task, object) {
		result = resolve_root(loading, task, object, error);
		if (result < 0)
			return result;
	}
	return 0;
}

static int check_tree(const struct loading *loading, struct error *error)
{
	int result = check_counts(loading, error);

	if (result == 0)
		result = schema_check(loading->schema, loading->tree, true, "", error);
	if (result == 0)
		result = resolve_paths(loading, error);
	if (result < 0)
		name_source(loading, error);
	return result;
}

/* The directory of the file, absolute if it can be had; of none, the working directory. NULL if
 * memory is short. */
static char *file_directory(const char *path)
{
	const char *slash = path != NULL ? strrchr(path, '/') : NULL;
	char *directory;
	char *resolved;

	if (slash == NULL)
		directory = strdup(".");
	else
		directory = slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
	resolved = directory != NULL ? realpath(directory, NULL) : NULL;
	if (resolved == NULL)
		return directory;
	free(directory);
	return resolved;
}

/* Tells each task that the file declares where it was declared. */
static int name_directories(struct config *config, struct error *error)
{
	for (size_t i = 0; i < config->task_count; i++) {
		if (config->tasks[i].kind == NULL)
			continue;
		config->tasks[i].directory = file_directory(config->path);
		if (config->tasks[i].directory == NULL)
			return fail_memory(error);
	}
	return 0;
}

static int load_tokens(const struct loading *loading, struct config *config, struct error *error)
{
	int result;

	if (config->tokens_file == NULL)
		return 0;
	result = tokens_load(config->tokens_file, &config->tokens, &config->digest, error);
	if (result < 0)
		name_source(loading, error);
	return result;
}

static int build(const struct loading *loading, struct config **ret_config, struct error *error)
{
	struct config *config = NULL;
	int result = config_build(loading->tree, &config, error);

	if (result < 0) {
		name_source(loading, error);
		return result;
	}
	config_bound(config, config_memory());
	config->digest = loading->digest;
	if (loading->path != NULL) {
		config->path = strdup(loading->path);
		if (config->path == NULL) {
			config_free(config);
			return fail_memory(error);
		}
	}
	result = name_directories(config, error);
	if (result == 0)
		result = load_tokens(loading, config, error);
	if (result < 0) {
		config_free(config);
		return result;
	}
	*ret_config = config;
	return 0;
}

int config_load(const struct config_flags *flags, char *const *environment,
		struct config **ret_config, struct error *error)
{
	struct loading loading = {.path = flags->config_path, .path_source = "--config"};
	int result = 0;

	if (loading.path == NULL) {
		loading.path = overlay_variable(environment, "TWINPOOL_CONFIG");
		loading.path_source = "TWINPOOL_CONFIG";
	}
	loading.origins = json_object();
	if (loading.origins == NULL)
		result = fail_memory(error);
	if (result == 0)
		result = compile_schema(&loading, error);
	if (result == 0)
		result = read_tree(&loading, error);
	if (result == 0)
		result = check_tree(&loading, error);
	if (result == 0) {
		result = overlay_apply(loading.tree, schema_document(loading.schema), environment,
				       flags, loading.origins, error);
		if (result < 0)
			hide_connection(error);
	}
	if (result == 0)
		result = build(&loading, ret_config, error);
	json_decref(loading.tree);
	json_decref(loading.origins);
	schema_free(loading.schema);
	return result;
}

/* ---- Reloading ---- */

/* Shows a text as messages do; NULL as "nothing". */
static void show_text(const char *text, char *buffer, size_t size)
{
	json_t *value = text != NULL ? json_string(text) : NULL;

	if (value != NULL)
		schema_show(value, buffer, size);
	else
		(void)snprintf(buffer, size, "nothing");
	json_decref(value);
}

static int fail_fixed(const char *field, const char *found, const char *expected,
		      struct error *error)
{
	return error_set(error, ERROR_INVALID, field,
			 "found %s; expected %s, the value in force: a change needs a restart",
			 found, expected);
}

static int check_same_text(const char *field, const char *old, const char *new, struct error *error)
{
	char found[120];
	char expected[120];

	if (old == NULL ? new == NULL : new != NULL && strcmp(old, new) == 0)
		return 0;
	show_text(new, found, sizeof(found));
	show_text(old, expected, sizeof(expected));
	return fail_fixed(field, found, expected, error);
}

static int check_same_count(const char *field, unsigned int old, unsigned int new,
			    struct error *error)
{
	char found[40];
	char expected[40];

	if (old == new)
		return 0;
	(void)snprintf(found, sizeof(found), "the integer %u", new);
	(void)snprintf(expected, sizeof(expected), "%u", old);
	return fail_fixed(field, found, expected, error);
}

/* "HOST:PORT", "[IPV6]:PORT", or "unix:PATH" and its mode. */
static void write_listen(const struct config *config, char *buffer, size_t size)
{
	bool brackets = config->listen_host != NULL && strchr(config->listen_host, ':') != NULL;

	if (config->listen_path != NULL) {
		(void)snprintf(buffer, size, "unix:%s, mode 0%03o", config->listen_path,
			       config->listen_mode);
		return;
	}
	(void)snprintf(buffer, size, "%s%s%s:%u", brackets ? "[" : "", config->listen_host,
		       brackets ? "]" : "", config->listen_port);
}

static int check_same_listen(const struct config *old, const struct config *new,
			     struct error *error)
{
	char old_text[300];
	char new_text[300];

	write_listen(old, old_text, sizeof(old_text));
	write_listen(new, new_text, sizeof(new_text));
	return check_same_text("server.listen", old_text, new_text, error);
}

static int check_same_store(const struct config_store *old, const struct config_store *new,
			    struct error *error)
{
	static const char *const kinds[] = {
		[CONFIG_STORE_MEMORY] = "memory",
		[CONFIG_STORE_SQLITE] = "sqlite",
		[CONFIG_STORE_POSTGRESQL] = "postgresql",
	};
	const char *old_connection = old->connection != NULL ? old->connection : "";
	const char *new_connection = new->connection != NULL ? new->connection : "";
	int result = check_same_text("store.kind", kinds[old->kind], kinds[new->kind], error);

	if (result == 0 && strcmp(old_connection, new_connection) != 0)
		result = fail_fixed("store.connection", "another connection string", "the same",
				    error);
	return result < 0 ? result : check_same_text("store.node", old->node, new->node, error);
}

/* new is NULL if the pool is to go. */
static int check_same_pool(const struct config_pool *old, const struct config_pool *new,
			   struct error *error)
{
	char field[sizeof(error->field)];

	if (new == NULL) {
		(void)snprintf(field, sizeof(field), "pools.%s", old->name);
		return error_set(error, ERROR_INVALID, field,
				 "found no such pool; expected the one in force to stay: to remove "
				 "or rename a pool needs a restart");
	}
	(void)snprintf(field, sizeof(field), "pools.%s.threads", old->name);
	return check_same_count(field, old->threads, new->threads, error);
}

int config_reload_check(const struct config *old, const struct config *new, struct error *error)
{
	int result = check_same_listen(old, new, error);

	if (result == 0 && (old->tls_certificate == NULL) != (new->tls_certificate == NULL))
		result = fail_fixed("server.tls",
				    new->tls_certificate != NULL ? "TLS asked for" : "no TLS",
				    old->tls_certificate != NULL ? "TLS" : "none", error);
	if (result == 0)
		result = check_same_count("server.max_connections", old->max_connections,
					  new->max_connections, error);
	if (result == 0)
		result = check_same_text("data_dir", old->data_dir, new->data_dir, error);
	if (result == 0)
		result = check_same_store(&old->store, &new->store, error);
	if (result == 0)
		result = check_same_text("commands.cgroup", old->command_cgroup,
					 new->command_cgroup, error);
	for (size_t i = 0; result == 0 && i < old->pool_count; i++) {
		int index = config_find_pool(new, old->pools[i].name);

		result = check_same_pool(&old->pools[i], index < 0 ? NULL : &new->pools[index],
					 error);
	}
	if (result < 0)
		name_file(new->path, error);
	return result;
}

static void release_pool(struct config_pool *pool)
{
	for (size_t i = 0; i < pool->label_limit_count; i++)
		free(pool->label_limits[i].label);
	free(pool->label_limits);
	free(pool->name);
}

static void release_task(struct config_task *task)
{
	free(task->name);
	free(task->root);
	free(task->kind);
	free(task->spec);
	free(task->description);
	free(task->args_schema);
	free(task->directory);
}

void config_free(struct config *config)
{
	if (config == NULL)
		return;
	for (size_t i = 0; i < config->pool_count; i++)
		release_pool(&config->pools[i]);
	for (size_t i = 0; i < config->task_count; i++)
		release_task(&config->tasks[i]);
	for (size_t i = 0; i < config->plugin_count; i++) {
		free(config->plugins[i].path);
		free(config->plugins[i].settings);
	}
	free(config->plugins);
	free(config->pools);
	free(config->tasks);
	free(config->path);
	free(config->listen_host);
	free(config->listen_path);
	free(config->tokens_file);
	free(config->tls_certificate);
	free(config->tls_key);
	free(config->tls_client_ca);
	tokens_free(config->tokens);
	free(config->data_dir);
	free(config->command_cgroup);
	free(config->default_pool);
	for (size_t i = 0; i < config->python_path_count; i++)
		free(config->python_path[i]);
	free(config->python_path);
	free(config->python_venv);
	config_release_store(config);
	free(config);
}

int config_find_pool(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->pool_count; i++) {
		if (strcmp(config->pools[i].name, name) == 0)
			return (int)i;
	}
	return -1;
}

const struct config_task *config_find_task(const struct config *config, const char *name)
{
	for (size_t i = 0; i < config->task_count; i++) {
		if (strcmp(config->tasks[i].name, name) == 0)
			return &config->tasks[i];
	}
	return NULL;
}
