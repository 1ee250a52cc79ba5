/*
 * The members "store" and "callbacks" of the configuration: see build.h.
 *
 * Invariant: neither the connection string nor the secret ever gets into a message.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/schema.h"
#include "config/build.h"

#define SECRET_BYTES_MAX 4096
#define ADDRESS_SIZE	 64

static int fail_memory(struct error *error)
{
	return error_set(error, ERROR_INTERNAL, "", "out of memory");
}

static int64_t get_integer(const json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}

static const char *get_string(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

/* null is NULL. */
static int copy_string(const json_t *object, const char *name, char **ret_text, struct error *error)
{
	const char *text = get_string(object, name);

	if (text == NULL)
		return 0;
	*ret_text = strdup(text);
	return *ret_text != NULL ? 0 : fail_memory(error);
}

/* ---- The store ---- */

static int build_kind(struct config *config, const char *kind, struct error *error)
{
	struct config_store *store = &config->store;

	if (strcmp(kind, "memory") == 0) {
		store->kind = CONFIG_STORE_MEMORY;
	} else if (strcmp(kind, "sqlite") == 0) {
		store->kind = CONFIG_STORE_SQLITE;
		if (config->data_dir == NULL)
			return error_set(error, ERROR_INVALID, "store.kind",
					 "found the string \"sqlite\" without a data_dir; expected "
					 "a data_dir beside it, since the file lies there");
	} else if (strcmp(kind, "postgresql") == 0) {
		store->kind = CONFIG_STORE_POSTGRESQL;
#ifndef TWINPOOL_POSTGRESQL
		return error_set(error, ERROR_INVALID, "store.kind",
				 "found the string \"postgresql\" in a program that was built "
				 "without libpq; expected \"auto\", \"memory\" or \"sqlite\"");
#endif
	} else {
		store->kind = config->data_dir != NULL ? CONFIG_STORE_SQLITE : CONFIG_STORE_MEMORY;
	}
	return 0;
}

static enum config_durable durable_of(const char *text)
{
	if (strcmp(text, "all") == 0)
		return CONFIG_DURABLE_ALL;
	return strcmp(text, "none") == 0 ? CONFIG_DURABLE_NONE : CONFIG_DURABLE_AUTO;
}

static int build_node(struct config_store *store, const json_t *source, struct error *error)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-_.";
	const char *node = get_string(source, "node");
	char shown[120];

	if (node[strspn(node, allowed)] != '\0') {
		schema_show(json_object_get(source, "node"), shown, sizeof(shown));
		return error_set(error, ERROR_INVALID, "store.node",
				 "found %s; expected letters, digits, -, _ and full stops", shown);
	}
	return copy_string(source, "node", &store->node, error);
}

int config_build_store(struct config *config, const json_t *source, struct error *error)
{
	static const char *const states[CONFIG_ENDED_STATES] = {"succeeded", "failed",	"timed_out",
								"cancelled", "crashed", "expired"};
	const json_t *retention = json_object_get(source, "retention");
	struct config_store *store = &config->store;
	int result = build_kind(config, get_string(source, "kind"), error);

	if (result == 0)
		result = copy_string(source, "connection", &store->connection, error);
	if (result == 0)
		result = build_node(store, source, error);
	store->durable = durable_of(get_string(source, "durable"));
	store->history = strcmp(get_string(source, "history"), "all") == 0;
	store->lease_ms = get_integer(source, "lease_ms");
	store->poll_ms = get_integer(source, "poll_ms");
	store->key_ms = get_integer(source, "idempotency_ms");
	for (size_t i = 0; i < CONFIG_ENDED_STATES; i++) {
		const json_t *bounds = json_object_get(retention, states[i]);

		store->retention[i].age_ms = get_integer(bounds, "age_ms");
		store->retention[i].jobs = (uint64_t)get_integer(bounds, "jobs");
	}
	return result;
}

/* ---- Callbacks ---- */

static bool is_number_up_to(const char *text, unsigned long maximum)
{
	size_t length = strlen(text);

	return length >= 1 && length <= 5 && text[strspn(text, "0123456789")] == '\0' &&
	       strtoul(text, NULL, 10) <= maximum;
}

static bool is_port(const char *text)
{
	return is_number_up_to(text, UINT16_MAX) && strtoul(text, NULL, 10) > 0;
}

/* An address of that family, perhaps with the length of a network's prefix. */
static bool is_network(int family, const char *text, size_t length)
{
	char address[ADDRESS_SIZE];
	unsigned char parsed[sizeof(struct in6_addr)];
	char *slash;

	if (length >= sizeof(address))
		return false;
	memcpy(address, text, length);
	address[length] = '\0';
	slash = strchr(address, '/');
	if (slash != NULL) {
		*slash = '\0';
		if (!is_number_up_to(slash + 1, family == AF_INET ? 32 : 128))
			return false;
	}
	return inet_pton(family, address, parsed) == 1;
}

/* A host name of at least one part, or "*." and one. */
static bool is_name(const char *text, size_t length)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-_";
	bool has_letter = false;

	if (length >= 2 && text[0] == '*' && text[1] == '.') {
		text += 2;
		length -= 2;
	}
	for (size_t i = 0; i < length; i++) {
		if (text[i] == '.' ? i == 0 || text[i - 1] == '.'
				   : strchr(allowed, text[i]) == NULL)
			return false;
		has_letter |= text[i] != '.' && (text[i] < '0' || text[i] > '9');
	}
	return length >= 1 && length <= 253 && text[length - 1] != '.' && has_letter;
}

/* As struct config_callbacks says. An IPv6 address with a port stands in brackets. */
static bool is_allowable(const char *text)
{
	const char *colon = strrchr(text, ':');
	size_t length = colon != NULL ? (size_t)(colon - text) : strlen(text);

	if (text[0] == '[') {
		const char *end = strchr(text, ']');

		return end != NULL && is_network(AF_INET6, text + 1, (size_t)(end - text) - 1) &&
		       (end[1] == '\0' || (end[1] == ':' && is_port(end + 2)));
	}
	if (colon != NULL && strchr(text, ':') != colon)
		return is_network(AF_INET6, text, strlen(text));
	if (colon != NULL && !is_port(colon + 1))
		return false;
	return is_network(AF_INET, text, length) || is_name(text, length);
}

static int build_allow(struct config_callbacks *callbacks, const json_t *source,
		       struct error *error)
{
	const json_t *value;
	size_t i;

	callbacks->allow = calloc(json_array_size(source) + 1, sizeof(*callbacks->allow));
	if (callbacks->allow == NULL)
		return fail_memory(error);
	json_array_foreach (source, i, value) {
		char field[40];
		char shown[120];

		if (!is_allowable(json_string_value(value))) {
			(void)snprintf(field, sizeof(field), "callbacks.allow[%zu]", i);
			schema_show(value, shown, sizeof(shown));
			return error_set(error, ERROR_INVALID, field,
					 "found %s; expected a host name, \"*.\" and one, an "
					 "address or a network, perhaps with \":\" and a port",
					 shown);
		}
		callbacks->allow[i] = strdup(json_string_value(value));
		if (callbacks->allow[i] == NULL)
			return fail_memory(error);
		callbacks->allow_count++;
	}
	return 0;
}

static int fail_secret(const char *path, const char *problem, struct error *error)
{
	return error_set(error, ERROR_INVALID, "callbacks.secret_file",
			 "found the file \"%.200s\" %s; expected a readable file of 1 to %d bytes, "
			 "that only its owner may write, and only its owner and its group read",
			 path, problem, SECRET_BYTES_MAX);
}

/* The mode that was checked is that of the file that is read. */
static int read_secret(const char *path, char **ret_data, size_t *ret_length, struct error *error)
{
	char problem[80];
	char opened[32];
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int result = fd < 0 || fstat(fd, &status) < 0 ? -errno : 0;

	if (result == 0 && S_ISREG(status.st_mode) && (status.st_mode & 027U) != 0) {
		(void)snprintf(problem, sizeof(problem), "with the mode %04o",
			       (unsigned int)status.st_mode & 07777U);
		result = fail_secret(path, problem, error);
	} else if (result == 0) {
		(void)snprintf(opened, sizeof(opened), "/proc/self/fd/%d", fd);
		result = fd_read_file(opened, SECRET_BYTES_MAX, ret_data, ret_length);
	}
	if (result < 0 && error->code == ERROR_NONE) {
		(void)snprintf(problem, sizeof(problem), "(%s)", strerrordesc_np(-result));
		result = fail_secret(path, problem, error);
	}
	fd_close(&fd);
	return result;
}

static int build_secret(struct config_callbacks *callbacks, struct error *error)
{
	struct error problem = {0};
	char *data = NULL;
	size_t length = 0;
	int result;

	if (callbacks->secret_file == NULL)
		return 0;
	result = read_secret(callbacks->secret_file, &data, &length, &problem);
	if (result < 0) {
		*error = problem;
		return result;
	}
	callbacks->secret = data;
	if (strlen(data) != length)
		return fail_secret(callbacks->secret_file, "with a NUL in it", error);
	if (length > 0 && data[length - 1] == '\n')
		data[--length] = '\0';
	if (length > 0 && data[length - 1] == '\r')
		data[--length] = '\0';
	return length > 0 ? 0
			  : fail_secret(callbacks->secret_file, "without anything in it", error);
}

int config_build_callbacks(struct config *config, const json_t *source, struct error *error)
{
	struct config_callbacks *callbacks = &config->callbacks;
	int result = build_allow(callbacks, json_object_get(source, "allow"), error);

	callbacks->timeout_ms = get_integer(source, "timeout_ms");
	callbacks->max_tries = (unsigned int)get_integer(source, "max_tries");
	callbacks->backoff_ms = get_integer(source, "backoff_ms");
	callbacks->backoff_max_ms = get_integer(source, "backoff_max_ms");
	if (result == 0 && callbacks->backoff_ms > callbacks->backoff_max_ms)
		result = error_set(error, ERROR_INVALID, "callbacks.backoff_ms",
				   "found the integer %lld; expected at most "
				   "callbacks.backoff_max_ms, which is %lld",
				   (long long)callbacks->backoff_ms,
				   (long long)callbacks->backoff_max_ms);
	if (result == 0)
		result = copy_string(source, "secret_file", &callbacks->secret_file, error);
	return result < 0 ? result : build_secret(callbacks, error);
}

/* What a secret's memory held is not left behind. */
static void free_secret(char *text)
{
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	free(text);
}

void config_release_store(struct config *config)
{
	free_secret(config->store.connection);
	free(config->store.node);
	for (size_t i = 0; i < config->callbacks.allow_count; i++)
		free(config->callbacks.allow[i]);
	free(config->callbacks.allow);
	free(config->callbacks.secret_file);
	free_secret(config->callbacks.secret);
}
