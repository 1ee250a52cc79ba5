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
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/buffer.h"
#include "base/json.h"
#include "base/schema.h"

#define HOST_NAME_LENGTH_MAX 255
#define UNIX_PREFIX	     "unix:"
#define PATH_SIZE	     128 /* of a pool or a task */
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

/* The path of "unix:/PATH"; NULL if it is none, or longer than an address holds. */
static const char *socket_path(const char *text)
{
	const char *path = text + strlen(UNIX_PREFIX);

	if (path[0] != '/' || path[strlen(path) - 1] == '/' ||
	    strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return NULL;
	return path;
}

static int build_unix(struct config *config, const json_t *value, struct error *error)
{
	const char *path = socket_path(json_string_value(value));
	char shown[120];

	schema_show(value, shown, sizeof(shown));
	if (path == NULL)
		return error_set(error, ERROR_INVALID, "server.listen",
				 "found %s; expected unix: and an absolute path of at most %zu "
				 "bytes, such as \"unix:/run/twinpool/twinpool.sock\"",
				 shown, sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	config->listen_path = strdup(path);
	return config->listen_path != NULL ? 0 : fail_memory(error);
}

/* Three octal digits behind a 0, such as "0660". */
static int build_socket_mode(struct config *config, const json_t *value, struct error *error)
{
	const char *text = json_string_value(value);
	char shown[120];

	if (strlen(text) == 4 && text[0] == '0' && strspn(text, "01234567") == 4) {
		config->listen_mode = (unsigned int)strtoul(text, NULL, 8);
		return 0;
	}
	schema_show(value, shown, sizeof(shown));
	return error_set(error, ERROR_INVALID, "server.socket_mode",
			 "found %s; expected permissions as 0 and three octal digits, such as "
			 "\"0660\"",
			 shown);
}

static int build_listen(struct config *config, const json_t *value, struct error *error)
{
	static const char *const expected =
		"HOST:PORT, [IPV6]:PORT or unix:/PATH, such as \"127.0.0.1:8080\", with a port "
		"from 0 to 65535";
	struct address address;
	char shown[120];
	bool good;

	if (strncmp(json_string_value(value), UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0)
		return build_unix(config, value, error);
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

/* Whether only this machine can reach it; of a name, only "localhost" is known without asking. */
static bool is_loopback(const char *host)
{
	struct in6_addr six;
	struct in_addr four;

	if (inet_pton(AF_INET, host, &four) == 1)
		return (ntohl(four.s_addr) >> 24) == 127;
	if (inet_pton(AF_INET6, host, &six) == 1)
		return IN6_IS_ADDR_LOOPBACK(&six);
	return strcasecmp(host, "localhost") == 0;
}

/* To be open to all who can reach it must be said, not come about. */
static int check_access(const struct config *config, const json_t *listen, struct error *error)
{
	char shown[120];

	if (config->tokens_file != NULL || config->allow_anonymous || config->listen_path != NULL ||
	    is_loopback(config->listen_host))
		return 0;
	schema_show(listen, shown, sizeof(shown));
	return error_set(error, ERROR_INVALID, "server.listen",
			 "found %s, which others than this machine can reach, without tokens; "
			 "expected a loopback address, server.tokens_file, or "
			 "server.allow_anonymous (TWINPOOL_ALLOW_ANONYMOUS=1)",
			 shown);
}

/* ---- The server, the log, what is kept ---- */

static int copy_text(char **ret_copy, const char *text, struct error *error)
{
	*ret_copy = text != NULL ? strdup(text) : NULL;
	return text != NULL && *ret_copy == NULL ? fail_memory(error) : 0;
}

static int build_tls(struct config *config, const json_t *tls, struct error *error)
{
	const char *certificate = get_string(tls, "certificate");
	const char *key = get_string(tls, "key");
	const char *client_ca = get_string(tls, "client_ca");
	int result;

	if (certificate == NULL && (key != NULL || client_ca != NULL))
		return error_set(error, ERROR_INVALID, "server.tls.certificate",
				 "found none; expected one beside %s",
				 key != NULL ? "server.tls.key" : "server.tls.client_ca");
	if (certificate != NULL && key == NULL)
		return error_set(error, ERROR_INVALID, "server.tls.key",
				 "found none; expected that of server.tls.certificate");
	result = copy_text(&config->tls_certificate, certificate, error);
	if (result == 0)
		result = copy_text(&config->tls_key, key, error);
	return result == 0 ? copy_text(&config->tls_client_ca, client_ca, error) : result;
}

static int build_access(struct config *config, const json_t *server, struct error *error)
{
	const json_t *listen = json_object_get(server, "listen");
	const char *tokens_file = get_string(server, "tokens_file");
	int result = build_listen(config, listen, error);

	if (result == 0)
		result = build_socket_mode(config, json_object_get(server, "socket_mode"), error);
	if (result < 0)
		return result;
	config->allow_anonymous = json_is_true(json_object_get(server, "allow_anonymous"));
	result = copy_text(&config->tokens_file, tokens_file, error);
	if (result == 0)
		result = build_tls(config, json_object_get(server, "tls"), error);
	return result == 0 ? check_access(config, listen, error) : result;
}

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
	return build_access(config, server, error);
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

const char *const config_count_names[] = {"hosts", "max_hosts", "threads", NULL};

bool config_is_count(const char *name)
{
	for (size_t i = 0; config_count_names[i] != NULL; i++) {
		if (strcmp(name, config_count_names[i]) == 0)
			return true;
	}
	return false;
}

static unsigned int count_maximum(const char *name)
{
	if (strcmp(name, "threads") == 0)
		return CONFIG_THREADS_MAX;
	return CONFIG_HOSTS_MAX;
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

/* A setting and the one that it must not pass. */
struct bounded {
	const char *name;
	int64_t value;
	const char *limit_name;
	int64_t limit;
};

static int check_bounded(const char *path, const struct bounded *pairs, size_t count,
			 struct error *error)
{
	for (size_t i = 0; i < count; i++) {
		char field[FIELD_SIZE];

		if (pairs[i].value <= pairs[i].limit)
			continue;
		(void)snprintf(field, sizeof(field), "%s.%s", path, pairs[i].name);
		return error_set(error, ERROR_INVALID, field,
				 "found the integer %lld; expected at most %s, which is %lld",
				 (long long)pairs[i].value, pairs[i].limit_name,
				 (long long)pairs[i].limit);
	}
	return 0;
}

static int64_t get_limit(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	return value != NULL ? json_integer_value(value) : CONFIG_UNSET;
}

/* Of no limit, as of one that is not given, everything is within. */
static int64_t bound(int64_t limit)
{
	return limit > 0 ? limit : INT64_MAX;
}

static void read_limits(struct config_limits *limits, const json_t *source)
{
	limits->timeout_ms = get_limit(source, "timeout_ms");
	limits->max_timeout_ms = get_limit(source, "max_timeout_ms");
	limits->queue_ttl_ms = get_limit(source, "queue_ttl_ms");
	limits->max_queue_ttl_ms = get_limit(source, "max_queue_ttl_ms");
	limits->cpu_ms = get_limit(source, "cpu_ms");
	limits->max_cpu_ms = get_limit(source, "max_cpu_ms");
	limits->memory_bytes = get_limit(source, "memory_bytes");
	limits->max_memory_bytes = get_limit(source, "max_memory_bytes");
}

static int build_limits(struct config_limits *limits, const json_t *source, const char *path,
			struct error *error)
{
	struct bounded pairs[4];

	read_limits(limits, source);
	pairs[0] = (struct bounded){"timeout_ms", limits->timeout_ms, "max_timeout_ms",
				    bound(limits->max_timeout_ms)};
	pairs[1] = (struct bounded){"queue_ttl_ms", limits->queue_ttl_ms, "max_queue_ttl_ms",
				    bound(limits->max_queue_ttl_ms)};
	pairs[2] =
		(struct bounded){"cpu_ms", limits->cpu_ms, "max_cpu_ms", bound(limits->max_cpu_ms)};
	pairs[3] = (struct bounded){"memory_bytes", limits->memory_bytes, "max_memory_bytes",
				    bound(limits->max_memory_bytes)};
	return check_bounded(path, pairs, sizeof(pairs) / sizeof(pairs[0]), error);
}

/* Two numbers are held to each other by check_pool(); "cores" differs from machine to machine, so
 * it gives way, and one file serves all of them. */
static void build_hosts(struct config_pool *pool, const json_t *source, unsigned int cores)
{
	const json_t *hosts = json_object_get(source, "hosts");
	const json_t *max_hosts = json_object_get(source, "max_hosts");

	pool->hosts = resolve_count(source, "hosts", cores);
	pool->max_hosts =
		max_hosts != NULL ? resolve_count(source, "max_hosts", cores) : pool->hosts;
	if (pool->hosts <= pool->max_hosts)
		return;
	if (json_is_string(max_hosts))
		pool->max_hosts = pool->hosts;
	else if (json_is_string(hosts))
		pool->hosts = pool->max_hosts;
}

static void build_recycle(struct config_recycle *recycle, const json_t *source)
{
	recycle->jobs = get_count(source, "jobs");
	recycle->jitter_percent = (unsigned int)get_count(source, "jitter_percent");
	recycle->age_ms = get_integer(source, "age_ms");
	recycle->idle_ms = get_integer(source, "idle_ms");
	recycle->rss_bytes = get_count(source, "rss_bytes");
}

static int check_label(const char *label, const char *field, struct error *error)
{
	json_t *value;
	char shown[120];
	size_t length = strlen(label);

	if (length >= 1 && length <= CONFIG_LABEL_MAX)
		return 0;
	value = json_string(label);
	if (value == NULL)
		return fail_memory(error);
	schema_show(value, shown, sizeof(shown));
	json_decref(value);
	return error_set(error, ERROR_INVALID, field,
			 "found %s as a label of %zu bytes; expected one of 1 to %d bytes", shown,
			 length, CONFIG_LABEL_MAX);
}

static int build_label_limits(struct config_pool *pool, json_t *source, const char *path,
			      struct error *error)
{
	size_t count = json_object_size(source);
	char field[FIELD_SIZE];
	const char *label;
	json_t *running;

	(void)snprintf(field, sizeof(field), "%s.label_limits", path);
	if (count > CONFIG_LABEL_LIMITS_MAX)
		return error_set(error, ERROR_INVALID, field,
				 "found %zu labels; expected at most %d", count,
				 CONFIG_LABEL_LIMITS_MAX);
	if (count == 0)
		return 0;
	pool->label_limits = calloc(count, sizeof(*pool->label_limits));
	if (pool->label_limits == NULL)
		return fail_memory(error);
	json_object_foreach (source, label, running) {
		struct config_label_limit *limit = &pool->label_limits[pool->label_limit_count];
		int result = check_label(label, field, error);

		if (result < 0)
			return result;
		limit->label = strdup(label);
		if (limit->label == NULL)
			return fail_memory(error);
		limit->running = (unsigned int)json_integer_value(running);
		pool->label_limit_count++;
	}
	return 0;
}

static int check_reserve(const struct config_pool *pool, const char *path, struct error *error)
{
	unsigned int workers = pool->max_hosts * pool->threads;
	char field[FIELD_SIZE];

	if (pool->reserved_workers < workers)
		return 0;
	(void)snprintf(field, sizeof(field), "%s.reserve.workers", path);
	return error_set(error, ERROR_INVALID, field,
			 "found the integer %u; expected fewer than the pool's %u workers "
			 "(max_hosts %u x threads %u)",
			 pool->reserved_workers, workers, pool->max_hosts, pool->threads);
}

static int check_pool(const struct config_pool *pool, const char *path, struct error *error)
{
	const struct bounded pairs[] = {
		{"hosts", pool->hosts, "max_hosts", pool->max_hosts},
		{"spare_hosts", pool->spare_hosts, "max_hosts", pool->max_hosts},
		{"output_bytes", (int64_t)pool->output_bytes, "max_output_bytes",
		 (int64_t)pool->max_output_bytes},
		{"restart_backoff_ms", pool->restart_backoff_ms, "restart_backoff_max_ms",
		 pool->restart_backoff_max_ms},
	};
	int result = check_bounded(path, pairs, sizeof(pairs) / sizeof(pairs[0]), error);

	return result < 0 ? result : check_reserve(pool, path, error);
}

/* What is taken as it stands. */
static void build_plain(struct config_pool *pool, const json_t *source)
{
	const json_t *reserve = json_object_get(source, "reserve");

	pool->spare_hosts = (unsigned int)get_count(source, "spare_hosts");
	pool->grow_after_ms = get_integer(source, "grow_after_ms");
	pool->shrink_after_ms = get_integer(source, "shrink_after_ms");
	pool->queue_jobs = get_count(source, "queue_jobs");
	pool->queue_bytes = get_count(source, "queue_bytes");
	pool->stop_grace_ms = get_integer(source, "stop_grace_ms");
	pool->quarantine_ms = get_integer(source, "quarantine_ms");
	pool->output_bytes = get_count(source, "output_bytes");
	pool->max_output_bytes = get_count(source, "max_output_bytes");
	pool->result_bytes = get_count(source, "result_bytes");
	pool->restart_backoff_ms = get_integer(source, "restart_backoff_ms");
	pool->restart_backoff_max_ms = get_integer(source, "restart_backoff_max_ms");
	build_recycle(&pool->recycle, json_object_get(source, "recycle"));
	pool->aging_ms = get_integer(source, "aging_ms");
	pool->reserved_workers = (unsigned int)get_count(reserve, "workers");
	pool->reserved_priority = (int)get_integer(reserve, "priority");
	pool->max_attempts = (unsigned int)get_count(source, "max_attempts");
	pool->max_crashes = (unsigned int)get_count(source, "max_crashes");
}

static int build_pool(struct config_pool *pool, const char *name, const json_t *source,
		      unsigned int cores, struct error *error)
{
	char path[PATH_SIZE];
	int result;

	(void)snprintf(path, sizeof(path), "pools.%s", name);
	result = check_pool_name(name, path, error);
	if (result < 0)
		return result;
	pool->name = strdup(name);
	if (pool->name == NULL)
		return fail_memory(error);
	build_hosts(pool, source, cores);
	pool->threads = resolve_count(source, "threads", cores);
	build_plain(pool, source);
	result = build_limits(&pool->limits, source, path, error);
	if (result == 0)
		result = check_pool(pool, path, error);
	if (result == 0)
		result = build_label_limits(pool, json_object_get(source, "label_limits"), path,
					    error);
	return result;
}

static int check_workers(const struct config *config, struct error *error)
{
	unsigned int workers = 0;

	for (size_t i = 0; i < config->pool_count; i++) {
		const struct config_pool *pool = &config->pools[i];
		char field[FIELD_SIZE];

		workers += pool->max_hosts * pool->threads;
		if (workers <= CONFIG_WORKERS_MAX)
			continue;
		(void)snprintf(field, sizeof(field), "pools.%s", pool->name);
		return error_set(error, ERROR_INVALID, field,
				 "found %u hosts x %u threads, with the pools before it %u "
				 "workers; expected at most %d workers in all pools",
				 pool->max_hosts, pool->threads, workers, CONFIG_WORKERS_MAX);
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

/* The members that declare a task; each is the name of a kind. */
static const char *const task_kind_names[] = {"command", "python"};

#define TASK_KINDS	  (sizeof(task_kind_names) / sizeof(task_kind_names[0]))
#define TASK_NAME_MAX	  63
#define NO_ARGUMENTS	  "{\"type\":\"object\",\"properties\":{}}"
#define DECLARATION_FIELD 200

static int fail_declaration(const char *path, const char *member, const char *message,
			    struct error *error)
{
	char field[DECLARATION_FIELD];

	(void)snprintf(field, sizeof(field), "%s%s%s", path, member[0] != '\0' ? "." : "", member);
	return error_set(error, ERROR_INVALID, field, "%s", message);
}

/* Which kind the task is declared as, NULL if it is not declared here. */
static int find_kind(const json_t *source, const char *path, const char **ret_kind,
		     struct error *error)
{
	const char *kind = NULL;

	for (size_t i = 0; i < TASK_KINDS; i++) {
		if (json_object_get(source, task_kind_names[i]) == NULL)
			continue;
		if (kind != NULL)
			return fail_declaration(path, task_kind_names[i],
						"found a second kind of task; expected one of "
						"command and python",
						error);
		kind = task_kind_names[i];
	}
	*ret_kind = kind;
	return 0;
}

static int check_declared_name(const char *name, const char *path, struct error *error)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_.-";
	size_t length = strlen(name);

	if (length >= 1 && length <= TASK_NAME_MAX && name[0] >= 'a' && name[0] <= 'z' &&
	    strspn(name, allowed) == length)
		return 0;
	return error_set(error, ERROR_INVALID, path,
			 "found the task name \"%.70s\"; expected a lower-case letter, then "
			 "lower-case letters, digits, _, . and -, at most %d characters",
			 name, TASK_NAME_MAX);
}

/* What only a task that is declared here may have. */
static int check_not_declared(const json_t *source, const char *path, struct error *error)
{
	static const char *const members[] = {"description", "args_schema"};

	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		if (json_object_get(source, members[i]) != NULL)
			return fail_declaration(path, members[i],
						"found it for a task that is not declared here; "
						"expected a member command or python beside it",
						error);
	return 0;
}

static int check_args_schema(const json_t *schema, const char *path, struct error *error)
{
	const char *type = get_string(schema, "type");

	if (schema == NULL || (type != NULL && strcmp(type, "object") == 0))
		return 0;
	return fail_declaration(path, "args_schema.type",
				"found a schema of another type than object; expected "
				"\"type\": \"object\"",
				error);
}

static int build_declaration(struct config_task *task, const json_t *source, const char *path,
			     struct error *error)
{
	const char *description = get_string(source, "description");
	const json_t *schema = json_object_get(source, "args_schema");
	const char *kind = NULL;
	int result = find_kind(source, path, &kind, error);

	if (result < 0)
		return result;
	if (kind == NULL)
		return check_not_declared(source, path, error);
	result = check_declared_name(task->name, path, error);
	if (result == 0)
		result = check_args_schema(schema, path, error);
	if (result < 0)
		return result;
	task->kind = strdup(kind);
	task->description = strdup(description != NULL ? description : "");
	task->args_schema = schema != NULL ? json_encode(schema, NULL) : strdup(NO_ARGUMENTS);
	task->spec = json_encode(json_object_get(source, kind), NULL);
	if (task->kind == NULL || task->description == NULL || task->args_schema == NULL ||
	    task->spec == NULL)
		return fail_memory(error);
	return 0;
}

static int build_task(struct config_task *task, const char *name, const json_t *source,
		      struct error *error)
{
	const json_t *enabled = json_object_get(source, "enabled");
	const char *root = get_string(source, "root");
	char path[PATH_SIZE];
	int result;

	task->name = strdup(name);
	if (task->name == NULL)
		return fail_memory(error);
	task->enabled = enabled == NULL ? -1 : json_is_true(enabled);
	task->max_running = (unsigned int)get_count(source, "max_running");
	(void)snprintf(path, sizeof(path), "tasks.%.100s", name);
	result = build_limits(&task->limits, source, path, error);
	if (result == 0)
		result = build_declaration(task, source, path, error);
	if (result < 0 || root == NULL)
		return result;
	if (strcmp(name, "read") != 0) {
		char field[FIELD_SIZE];

		(void)snprintf(field, sizeof(field), "%s.root", path);
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

static int build_commands(struct config *config, const json_t *source, struct error *error)
{
	const char *cgroup = get_string(source, "cgroup");

	if (strcmp(cgroup, "auto") != 0 && strcmp(cgroup, "off") != 0 && cgroup[0] != '/')
		return error_set(
			error, ERROR_INVALID, "commands.cgroup",
			"found the string \"%.80s\"; expected auto, off, or an absolute path",
			cgroup);
	config->command_cgroup = strdup(cgroup);
	return config->command_cgroup != NULL ? 0 : fail_memory(error);
}

/* The directories are resolved already. */
static int build_python(struct config *config, const json_t *source, struct error *error)
{
	const json_t *path = json_object_get(source, "path");
	const char *venv = get_string(source, "venv");

	config->python_path = calloc(json_array_size(path) + 1, sizeof(*config->python_path));
	if (config->python_path == NULL)
		return fail_memory(error);
	for (size_t i = 0; i < json_array_size(path); i++) {
		char *directory = strdup(json_string_value(json_array_get(path, i)));

		if (directory == NULL)
			return fail_memory(error);
		config->python_path[config->python_path_count++] = directory;
	}
	if (venv == NULL)
		return 0;
	config->python_venv = strdup(venv);
	return config->python_venv != NULL ? 0 : fail_memory(error);
}

static int build_plugins(struct config *config, const json_t *plugins, struct error *error)
{
	const json_t *source;
	size_t i;

	config->plugins = calloc(json_array_size(plugins) + 1, sizeof(*config->plugins));
	if (config->plugins == NULL)
		return fail_memory(error);
	json_array_foreach (plugins, i, source) {
		struct config_plugin *plugin = &config->plugins[config->plugin_count++];

		plugin->path = strdup(get_string(source, "path"));
		plugin->settings = json_encode(json_object_get(source, "settings"), NULL);
		if (plugin->path == NULL || plugin->settings == NULL)
			return fail_memory(error);
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

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void config_bound(struct config *config, uint64_t memory_bytes)
{
	config->memory_bytes = memory_bytes;
	if (memory_bytes == 0)
		return;
	config->keep_bytes = least(config->keep_bytes, memory_bytes / 8);
	for (size_t i = 0; i < config->pool_count; i++)
		config->pools[i].queue_bytes =
			least(config->pools[i].queue_bytes, memory_bytes / 4 / config->pool_count);
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
		result = config_build_store(config, json_object_get(tree, "store"), error);
	if (result == 0)
		result = config_build_callbacks(config, json_object_get(tree, "callbacks"), error);
	if (result == 0)
		result = build_pools(config, json_object_get(tree, "pools"), error);
	if (result == 0)
		result = build_default_pool(config, json_object_get(tree, "default_pool"), error);
	if (result == 0)
		result = build_tasks(config, json_object_get(tree, "tasks"), error);
	if (result == 0)
		result = build_plugins(config, json_object_get(tree, "plugins"), error);
	if (result == 0)
		result = build_commands(config, json_object_get(tree, "commands"), error);
	if (result == 0)
		result = build_python(config, json_object_get(tree, "python"), error);
	if (result < 0) {
		config_free(config);
		return result;
	}
	*ret_config = config;
	return 0;
}
