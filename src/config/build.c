/*
 * From the configuration's tree to struct config: see build.h.
 *
 * Invariant: whatever was checked by the schema is read without checking again; the types are
 * certain and every property with a default is there.
 */
#include "config/build.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/schema.h"

#define HOST_NAME_LENGTH_MAX 255
#define FIELD_SIZE	     160

static int fail_memory(struct error *error)
{
	return error_set(error, ERROR_INTERNAL, "", "out of memory");
}

static int64_t get_integer(const json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}

static uint64_t get_count(const json_t *object, const char *name)
{
	return (uint64_t)get_integer(object, name);
}

static const char *get_string(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

/* ---- The address ---- */

struct address {
	const char *host;
	size_t host_length;
	const char *port;
	bool bracketed;
};

/* Parts "HOST:PORT" or "[IPV6]:PORT"; false if it is neither. */
static bool split_address(const char *text, struct address *ret_address)
{
	const char *colon = strrchr(text, ':');
	struct address address = {.host = text};

	if (colon == NULL)
		return false;
	address.host_length = (size_t)(colon - text);
	address.port = colon + 1;
	if (text[0] == '[') {
		if (address.host_length < 2 || colon[-1] != ']')
			return false;
		address.bracketed = true;
		address.host++;
		address.host_length -= 2;
	}
	*ret_address = address;
	return address.host_length > 0 && address.host_length <= HOST_NAME_LENGTH_MAX;
}

/* An IPv6 address may bear a zone, such as fe80::1%eth0. */
static bool is_ipv6(const char *host)
{
	char address[INET6_ADDRSTRLEN];
	struct in6_addr parsed;
	size_t length = strcspn(host, "%");

	if (length >= sizeof(address) || (host[length] == '%' && host[length + 1] == '\0'))
		return false;
	memcpy(address, host, length);
	address[length] = '\0';
	return inet_pton(AF_INET6, address, &parsed) == 1;
}

/* What is made of digits and dots alone must be an IPv4 address. */
static bool is_name_or_ipv4(const char *host)
{
	static const char digits[] = "0123456789.";
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
	char all[sizeof(digits) + sizeof(letters)];
	struct in_addr parsed;

	if (host[strspn(host, digits)] == '\0')
		return inet_pton(AF_INET, host, &parsed) == 1;
	(void)snprintf(all, sizeof(all), "%s%s", digits, letters);
	return host[strspn(host, all)] == '\0';
}

static bool parse_port(const char *text, uint16_t *ret_port)
{
	unsigned int port = 0;
	size_t length = strspn(text, "0123456789");

	if (length == 0 || length > 5 || text[length] != '\0')
		return false;
	for (size_t i = 0; i < length; i++)
		port = port * 10 + (unsigned int)(text[i] - '0');
	if (port > UINT16_MAX)
		return false;
	*ret_port = (uint16_t)port;
	return true;
}

static int build_listen(struct config *config, const json_t *value, struct error *error)
{
	static const char *const expected =
		"HOST:PORT or [IPV6]:PORT, such as \"127.0.0.1:8080\", with a port "
		"from 0 to 65535";
	struct address address;
	char shown[120];
	bool good;

	schema_show(value, shown, sizeof(shown));
	if (!split_address(json_string_value(value), &address))
		return error_set(error, ERROR_INVALID, "server.listen", "found %s; expected %s",
				 shown, expected);
	config->listen_host = strndup(address.host, address.host_length);
	if (config->listen_host == NULL)
		return fail_memory(error);
	good = address.bracketed ? is_ipv6(config->listen_host)
				 : is_name_or_ipv4(config->listen_host);
	if (!good || !parse_port(address.port, &config->listen_port))
		return error_set(error, ERROR_INVALID, "server.listen", "found %s; expected %s",
				 shown, expected);
	return 0;
}

/* ---- The server, the log, what is kept ---- */

static int build_server(struct config *config, const json_t *server, struct error *error)
{
	config->max_connections = (unsigned int)get_count(server, "max_connections");
	config->max_body_bytes = get_count(server, "max_body_bytes");
	config->idle_timeout_ms = get_integer(server, "idle_timeout_ms");
	config->default_wait_ms = get_integer(server, "default_wait_ms");
	config->max_wait_ms = get_integer(server, "max_wait_ms");
	config->max_batch_jobs = get_count(server, "max_batch_jobs");
	config->shutdown_grace_ms = get_integer(server, "shutdown_grace_ms");
	if (config->default_wait_ms > config->max_wait_ms)
		return error_set(error, ERROR_INVALID, "server.default_wait_ms",
				 "found the integer %lld; expected at most server.max_wait_ms, "
				 "which is %lld",
				 (long long)config->default_wait_ms,
				 (long long)config->max_wait_ms);
	return build_listen(config, json_object_get(server, "listen"), error);
}

static void build_log(struct config *config, const json_t *log)
{
	static const char *const levels[] = {
		[LOG_LEVEL_DEBUG] = "debug",
		[LOG_LEVEL_INFO] = "info",
		[LOG_LEVEL_WARNING] = "warning",
		[LOG_LEVEL_ERROR] = "error",
	};
	static const char *const formats[] = {
		[LOG_FORMAT_AUTO] = "auto",
		[LOG_FORMAT_TEXT] = "text",
		[LOG_FORMAT_JSON] = "json",
	};
	const char *level = get_string(log, "level");
	const char *format = get_string(log, "format");

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (strcmp(level, levels[i]) == 0)
			config->log_level = (enum log_level)i;
	}
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		if (strcmp(format, formats[i]) == 0)
			config->log_format = (enum log_format)i;
	}
}

static void build_retention(struct config *config, const json_t *retention)
{
	config->keep_jobs = get_count(retention, "jobs");
	config->keep_bytes = get_count(retention, "bytes");
	config->keep_ms = get_integer(retention, "age_ms");
}

/* ---- Pools ---- */

static unsigned int count_maximum(const char *name)
{
	if (strcmp(name, "hosts") == 0)
		return CONFIG_HOSTS_MAX;
	return CONFIG_THREADS_MAX;
}

int config_check_count(const json_t *value, const char *name, const char *field,
		       struct error *error)
{
	unsigned int maximum = count_maximum(name);
	char shown[120];

	if (json_is_integer(value) && json_integer_value(value) >= 1 &&
	    json_integer_value(value) <= (json_int_t)maximum)
		return 0;
	if (json_is_string(value) && strcmp(json_string_value(value), "cores") == 0)
		return 0;
	schema_show(value, shown, sizeof(shown));
	return error_set(error, ERROR_INVALID, field,
			 "found %s; expected an integer from 1 to %u or the string \"cores\"",
			 shown, maximum);
}

/* "cores" on a machine with more of them than is allowed is as many as are allowed. */
static unsigned int resolve_count(const json_t *pool, const char *name, unsigned int cores)
{
	const json_t *value = json_object_get(pool, name);
	unsigned int maximum = count_maximum(name);

	if (json_is_integer(value))
		return (unsigned int)json_integer_value(value);
	return cores < maximum ? cores : maximum;
}

static int check_pool_name(const char *name, const char *field, struct error *error)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
	size_t length = strlen(name);

	if (length >= 1 && length <= CONFIG_NAME_MAX && name[0] >= 'a' && name[0] <= 'z' &&
	    strspn(name, allowed) == length)
		return 0;
	return error_set(
		error, ERROR_INVALID, field,
		"found the pool name \"%.60s\"; expected a lower-case letter, then lower-case "
		"letters, digits, - and _, at most %d characters",
		name, CONFIG_NAME_MAX);
}

static int fail_above(const char *pool, const char *name, int64_t value, const char *limit_name,
		      int64_t limit, struct error *error)
{
	char field[FIELD_SIZE];

	(void)snprintf(field, sizeof(field), "pools.%s.%s", pool, name);
	return error_set(error, ERROR_INVALID, field,
			 "found the integer %lld; expected at most %s, which is %lld",
			 (long long)value, limit_name, (long long)limit);
}

static int check_pool_times(const struct config_pool *pool, struct error *error)
{
	if (pool->max_timeout_ms != 0 && pool->timeout_ms > pool->max_timeout_ms)
		return fail_above(pool->name, "timeout_ms", pool->timeout_ms, "max_timeout_ms",
				  pool->max_timeout_ms, error);
	if (pool->restart_backoff_ms > pool->restart_backoff_max_ms)
		return fail_above(pool->name, "restart_backoff_ms", pool->restart_backoff_ms,
				  "restart_backoff_max_ms", pool->restart_backoff_max_ms, error);
	return 0;
}

static int build_pool(struct config_pool *pool, const char *name, const json_t *source,
		      unsigned int cores, struct error *error)
{
	char field[FIELD_SIZE];
	int result;

	(void)snprintf(field, sizeof(field), "pools.%s", name);
	result = check_pool_name(name, field, error);
	if (result < 0)
		return result;
	pool->name = strdup(name);
	if (pool->name == NULL)
		return fail_memory(error);
	pool->hosts = resolve_count(source, "hosts", cores);
	pool->threads = resolve_count(source, "threads", cores);
	pool->queue_jobs = get_count(source, "queue_jobs");
	pool->queue_bytes = get_count(source, "queue_bytes");
	pool->timeout_ms = get_integer(source, "timeout_ms");
	pool->max_timeout_ms = get_integer(source, "max_timeout_ms");
	pool->stop_grace_ms = get_integer(source, "stop_grace_ms");
	pool->quarantine_ms = get_integer(source, "quarantine_ms");
	pool->output_bytes = get_count(source, "output_bytes");
	pool->result_bytes = get_count(source, "result_bytes");
	pool->restart_backoff_ms = get_integer(source, "restart_backoff_ms");
	pool->restart_backoff_max_ms = get_integer(source, "restart_backoff_max_ms");
	return check_pool_times(pool, error);
}

static int check_workers(const struct config *config, struct error *error)
{
	unsigned int workers = 0;

	for (size_t i = 0; i < config->pool_count; i++) {
		const struct config_pool *pool = &config->pools[i];
		char field[FIELD_SIZE];

		workers += pool->hosts * pool->threads;
		if (workers <= CONFIG_WORKERS_MAX)
			continue;
		(void)snprintf(field, sizeof(field), "pools.%s", pool->name);
		return error_set(error, ERROR_INVALID, field,
				 "found %u hosts x %u threads, with the pools before it %u "
				 "workers; expected at "
				 "most %d workers in all pools",
				 pool->hosts, pool->threads, workers, CONFIG_WORKERS_MAX);
	}
	return 0;
}

static int build_pools(struct config *config, json_t *pools, struct error *error)
{
	size_t count = json_object_size(pools);
	unsigned int cores = config_cores();
	const char *name;
	json_t *source;

	if (count < 1 || count > CONFIG_POOLS_MAX)
		return error_set(error, ERROR_INVALID, "pools", "found %zu pools; expected 1 to %d",
				 count, CONFIG_POOLS_MAX);
	config->pools = calloc(count, sizeof(*config->pools));
	if (config->pools == NULL)
		return fail_memory(error);
	json_object_foreach (pools, name, source) {
		/* Counted first: a pool that is only half built is freed with the others. */
		struct config_pool *pool = &config->pools[config->pool_count++];
		int result = build_pool(pool, name, source, cores, error);

		if (result < 0)
			return result;
	}
	return check_workers(config, error);
}

static int fail_default_pool(const struct config *config, const json_t *value, struct error *error)
{
	struct buffer list = {0};
	char shown[120];
	int result;

	schema_show(value, shown, sizeof(shown));
	for (size_t i = 0; i < config->pool_count; i++)
		buffer_append_format(&list, "%s\"%s\"", i == 0 ? "" : ", ", config->pools[i].name);
	result = error_set(error, ERROR_INVALID, "default_pool", "found %s; expected %s%.*s", shown,
			   config->pool_count == 1 ? "" : "one of ", (int)list.length,
			   list.data != NULL ? list.data : "");
	buffer_release(&list);
	return result;
}

static int build_default_pool(struct config *config, const json_t *value, struct error *error)
{
	int index;

	if (value != NULL) {
		index = config_find_pool(config, json_string_value(value));
		if (index < 0)
			return fail_default_pool(config, value, error);
	} else {
		index = config_find_pool(config, "process");
		if (index < 0)
			index = 0;
	}
	config->default_pool = strdup(config->pools[index].name);
	return config->default_pool != NULL ? 0 : fail_memory(error);
}

/* ---- Tasks ---- */

static int build_task(struct config_task *task, const char *name, const json_t *source,
		      struct error *error)
{
	const json_t *enabled = json_object_get(source, "enabled");
	const char *root = get_string(source, "root");
	char field[FIELD_SIZE];

	task->name = strdup(name);
	if (task->name == NULL)
		return fail_memory(error);
	task->enabled = enabled == NULL ? -1 : json_is_true(enabled);
	if (root == NULL)
		return 0;
	if (strcmp(name, "read") != 0) {
		(void)snprintf(field, sizeof(field), "tasks.%.100s.root", name);
		return error_set(
			error, ERROR_INVALID, field,
			"found a root; expected none, since only the task \"read\" has one");
	}
	task->root = strdup(root);
	return task->root != NULL ? 0 : fail_memory(error);
}

static int build_tasks(struct config *config, json_t *tasks, struct error *error)
{
	const char *name;
	json_t *source;

	config->tasks = calloc(json_object_size(tasks) + 1, sizeof(*config->tasks));
	if (config->tasks == NULL)
		return fail_memory(error);
	json_object_foreach (tasks, name, source) {
		struct config_task *task = &config->tasks[config->task_count++];
		int result = build_task(task, name, source, error);

		if (result < 0)
			return result;
	}
	return 0;
}

static int build_data_dir(struct config *config, const json_t *value, struct error *error)
{
	if (value == NULL)
		return 0;
	config->data_dir = strdup(json_string_value(value));
	return config->data_dir != NULL ? 0 : fail_memory(error);
}

int config_build(const json_t *tree, struct config **ret_config, struct error *error)
{
	struct config *config = calloc(1, sizeof(*config));
	int result;

	if (config == NULL)
		return fail_memory(error);
	build_log(config, json_object_get(tree, "log"));
	build_retention(config, json_object_get(tree, "retention"));
	result = build_server(config, json_object_get(tree, "server"), error);
	if (result == 0)
		result = build_data_dir(config, json_object_get(tree, "data_dir"), error);
	if (result == 0)
		result = build_pools(config, json_object_get(tree, "pools"), error);
	if (result == 0)
		result = build_default_pool(config, json_object_get(tree, "default_pool"), error);
	if (result == 0)
		result = build_tasks(config, json_object_get(tree, "tasks"), error);
	if (result < 0) {
		config_free(config);
		return result;
	}
	*ret_config = config;
	return 0;
}
