/*
 * config: what loads and to what; that every bad configuration is told with its place, what was
 * found and what was expected; that the shipped files, the schema and the built-in defaults agree;
 * and the CPU quota.
 *
 * TEST_SOURCE_DIR is the root of the source tree; without it the tests run there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/json.h"
#include "base/schema.h"
#include "config/build.h"
#include "config/config.h"
#include "config/config_schema.h"
#include "config/cores.h"

#ifndef TEST_SOURCE_DIR
#define TEST_SOURCE_DIR "."
#endif

static char directory[] = "/tmp/twinpool-config-XXXXXX";
static char file[sizeof(directory) + 16];

static int make_directory(void **state)
{
	(void)state;
	if (mkdtemp(directory) == NULL)
		return -1;
	(void)snprintf(file, sizeof(file), "%s/c.json", directory);
	return 0;
}

static int remove_directory(void **state)
{
	(void)state;
	(void)unlink(file);
	return rmdir(directory);
}

static void write_file(const char *text)
{
	FILE *stream = fopen(file, "w");

	assert_non_null(stream);
	assert_true(fputs(text, stream) >= 0);
	assert_int_equal(fclose(stream), 0);
}

static struct config *load_with(const struct config_flags *flags, char *const *environment)
{
	struct config *config = NULL;
	struct error error = {0};

	if (config_load(flags, environment, &config, &error) < 0)
		fail_msg("%s: %s", error.field, error.message);
	return config;
}

static struct config *load_file(const char *path)
{
	return load_with(&(struct config_flags){.config_path = path}, NULL);
}

static struct config *load_text(const char *text)
{
	write_file(text);
	return load_file(file);
}

static void expect_failure(const struct config_flags *flags, char *const *environment,
			   const char *field, const char *message)
{
	struct config *config = NULL;
	struct error error = {0};

	if (config_load(flags, environment, &config, &error) >= 0)
		fail_msg("loaded, where %s was to fail", field);
	assert_null(config);
	assert_string_equal(error.field, field);
	assert_string_equal(error.message, message);
}

/* For a message that is longer than an error holds. */
static void refuses_beginning(const char *text, const char *field, const char *beginning)
{
	struct config *config = NULL;
	struct error error = {0};
	char whole[1000];

	write_file(text);
	(void)snprintf(whole, sizeof(whole), "%s: %s", file, beginning);
	assert_true(config_load(&(struct config_flags){.config_path = file}, NULL, &config,
				&error) < 0);
	assert_string_equal(error.field, field);
	assert_true(strlen(error.message) >= strlen(whole));
	assert_memory_equal(error.message, whole, strlen(whole));
}

/* The file's name comes before the message. */
static void refuses(const char *text, const char *field, const char *message)
{
	char whole[1000];

	write_file(text);
	(void)snprintf(whole, sizeof(whole), "%s: %s", file, message);
	expect_failure(&(struct config_flags){.config_path = file}, NULL, field, whole);
}

static void refuses_variable(const char *variable, const char *field, const char *message)
{
	char *copy = strdup(variable);
	char *environment[] = {copy, NULL};

	assert_non_null(copy);
	expect_failure(&(struct config_flags){0}, environment, field, message);
	free(copy);
}

/* value, or the part of the memory limit that it gives way to, if there is a limit. */
static uint64_t bounded(uint64_t value, uint64_t part)
{
	return part > 0 && part < value ? part : value;
}

static json_t *parse_bytes(const char *data, size_t length)
{
	struct error error = {0};
	json_t *value = NULL;

	if (json_parse(data, length, &value, &error) < 0)
		fail_msg("%s", error.message);
	return value;
}

static json_t *schema_tree(void)
{
	return parse_bytes(config_schema_json, config_schema_json_size);
}

static json_t *tree_of(const char *path)
{
	char *data = NULL;
	size_t length = 0;
	json_t *value;

	assert_int_equal(fd_read_file(path, 1 << 20, &data, &length), 0);
	value = parse_bytes(data, length);
	free(data);
	return value;
}

static void test_defaults(void **state)
{
	struct config *config = load_with(&(struct config_flags){0}, NULL);
	unsigned int cores = config_cores();

	(void)state;
	assert_null(config->path);
	assert_int_equal(config->digest, 0);
	assert_string_equal(config->listen_host, "127.0.0.1");
	assert_int_equal(config->listen_port, 8080);
	assert_int_equal(config->max_connections, 4096);
	assert_int_equal(config->max_body_bytes, 1048576);
	assert_int_equal(config->idle_timeout_ms, 75000);
	assert_int_equal(config->default_wait_ms, 30000);
	assert_int_equal(config->max_wait_ms, 300000);
	assert_int_equal(config->max_batch_jobs, 10000);
	assert_int_equal(config->shutdown_grace_ms, 8000);
	assert_int_equal(config->log_level, LOG_LEVEL_INFO);
	assert_int_equal(config->log_format, LOG_FORMAT_AUTO);
	assert_null(config->data_dir);
	assert_string_equal(config->command_cgroup, "auto");
	assert_int_equal(config->keep_jobs, 10000);
	assert_int_equal(config->keep_bytes, bounded(67108864, config->memory_bytes / 8));
	assert_int_equal(config->keep_ms, 3600000);
	assert_string_equal(config->default_pool, "process");
	assert_int_equal(config->task_count, 0);
	assert_int_equal(config->pool_count, 2);
	assert_int_equal(config_find_pool(config, "process"), 0);
	assert_int_equal(config_find_pool(config, "thread"), 1);
	assert_int_equal(config_find_pool(config, "none"), -1);
	assert_int_equal(config->pools[0].hosts, cores);
	assert_int_equal(config->pools[0].threads, 1);
	assert_int_equal(config->pools[1].hosts, 1);
	assert_int_equal(config->pools[1].threads, cores);
	for (size_t i = 0; i < 2; i++) {
		const struct config_pool *pool = &config->pools[i];

		assert_int_equal(pool->queue_jobs, 10000);
		assert_int_equal(pool->queue_bytes,
				 bounded(268435456, config->memory_bytes / 8)); /* of two pools */
		assert_int_equal(pool->max_hosts, pool->hosts);
		assert_int_equal(pool->spare_hosts, 0);
		assert_int_equal(pool->grow_after_ms, 100);
		assert_int_equal(pool->shrink_after_ms, 30000);
		assert_int_equal(pool->limits.timeout_ms, 60000);
		assert_int_equal(pool->limits.max_timeout_ms, 3600000);
		assert_int_equal(pool->limits.queue_ttl_ms, 0);
		assert_int_equal(pool->limits.max_queue_ttl_ms, 0);
		assert_int_equal(pool->limits.cpu_ms, 0);
		assert_int_equal(pool->limits.max_cpu_ms, 0);
		assert_int_equal(pool->limits.memory_bytes, 0);
		assert_int_equal(pool->limits.max_memory_bytes, 0);
		assert_int_equal(pool->stop_grace_ms, 2000);
		assert_int_equal(pool->quarantine_ms, 10000);
		assert_int_equal(pool->output_bytes, 65536);
		assert_int_equal(pool->result_bytes, 16777216);
		assert_int_equal(pool->restart_backoff_ms, 100);
		assert_int_equal(pool->restart_backoff_max_ms, 30000);
		assert_int_equal(pool->max_output_bytes, 1048576);
		assert_int_equal(pool->recycle.jobs, 0);
		assert_int_equal(pool->recycle.jitter_percent, 20);
		assert_int_equal(pool->recycle.age_ms, 0);
		assert_int_equal(pool->recycle.idle_ms, 0);
		assert_int_equal(pool->recycle.rss_bytes, 0);
		assert_int_equal(pool->aging_ms, 10000);
		assert_int_equal(pool->reserved_workers, 0);
		assert_int_equal(pool->reserved_priority, 1);
		assert_int_equal(pool->max_attempts, 20);
		assert_int_equal(pool->max_crashes, 2);
		assert_int_equal(pool->label_limit_count, 0);
	}
	config_free(config);
	config_free(NULL);
}

/* Filled, the shipped file is what an empty one would be filled to. */
static void test_shipped_file_is_the_defaults(void **state)
{
	json_t *shipped = tree_of(TEST_SOURCE_DIR "/config/twinpool.json");
	json_t *filled = json_object();
	json_t *document = schema_tree();
	struct schema *schema = NULL;
	struct error error = {0};
	struct config *config;

	(void)state;
	assert_int_equal(schema_compile(document, &schema, &error), 0);
	assert_int_equal(schema_check(schema, filled, true, "", &error), 0);
	assert_int_equal(json_object_del(shipped, "$schema"), 0);
	assert_string_equal(json_string_value(json_object_get(shipped, "default_pool")), "process");
	assert_int_equal(json_object_del(shipped, "default_pool"), 0);
	assert_int_equal(schema_check(schema, shipped, true, "", &error), 0);
	assert_true(json_equal(shipped, filled));
	json_decref(shipped);
	json_decref(filled);
	json_decref(document);
	schema_free(schema);

	config = load_file(TEST_SOURCE_DIR "/config/twinpool.json");
	assert_string_equal(config->path, TEST_SOURCE_DIR "/config/twinpool.json");
	config_free(config);
}

static void test_embedded_schema_is_the_shipped_one(void **state)
{
	json_t *shipped = tree_of(TEST_SOURCE_DIR "/config/twinpool.schema.json");
	json_t *embedded = schema_tree();

	(void)state;
	assert_true(json_equal(shipped, embedded));
	json_decref(shipped);
	json_decref(embedded);
}

static bool says_number(const char *description, const json_t *number)
{
	char digits[32];

	(void)snprintf(digits, sizeof(digits), " %lld", (long long)json_integer_value(number));
	return strstr(description, digits) != NULL;
}

/* Every property has a title and a description, which tells each of its limits and its default. */
static void check_documented(const json_t *schema, const char *name)
{
	static const char *const told[] = {"minimum", "maximum", "minLength", "maxLength",
					   "default"};
	const char *description = json_string_value(json_object_get(schema, "description"));
	const char *inner;
	json_t *value;

	if (description == NULL || json_object_get(schema, "title") == NULL)
		fail_msg("%s has no title or no description", name);
	for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
		const json_t *number = json_object_get(schema, told[i]);

		if (json_is_integer(number) && !says_number(description, number))
			fail_msg("the description of %s does not tell its %s", name, told[i]);
	}
	json_object_foreach (json_object_get(schema, "properties"), inner, value) {
		check_documented(value, inner);
	}
	if (json_is_object(json_object_get(schema, "additionalProperties")))
		check_documented(json_object_get(schema, "additionalProperties"), name);
}

static void test_schema_is_documented(void **state)
{
	json_t *document = schema_tree();

	(void)state;
	check_documented(document, "the whole");
	json_decref(document);
}

static void test_schema_limits_are_the_program_s(void **state)
{
	json_t *document = schema_tree();
	const json_t *pool = json_object_get(
		json_object_get(json_object_get(json_object_get(document, "properties"), "pools"),
				"additionalProperties"),
		"properties");
	static const char *const hosts[] = {"hosts", "max_hosts", "spare_hosts"};

	(void)state;
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		const json_t *count = json_object_get(pool, hosts[i]);

		assert_int_equal(json_integer_value(json_object_get(count, "maximum")),
				 CONFIG_HOSTS_MAX);
	}
	assert_int_equal(CONFIG_HOSTS_MAX, CONFIG_THREADS_MAX);
	json_decref(document);
}

static void test_examples(void **state)
{
	struct config *config = load_file(TEST_SOURCE_DIR "/config/examples/development.json");
	char resolved[PATH_MAX];

	(void)state;
	assert_int_equal(config_find_task(config, "crash")->enabled, 1);
	assert_null(config_find_task(config, "crash")->root);
	assert_int_equal(config_find_task(config, "read")->enabled, -1);
	assert_non_null(realpath(TEST_SOURCE_DIR "/config/examples", resolved));
	assert_string_equal(config_find_task(config, "read")->root, resolved);
	assert_null(config_find_task(config, "echo"));
	assert_int_equal(config->log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(config->log_format, LOG_FORMAT_TEXT);
	config_free(config);

	config = load_file(TEST_SOURCE_DIR "/config/examples/mixed.json");
	assert_int_equal(config->pool_count, 4);
	assert_string_equal(config->default_pool, "compute");
	assert_int_equal(config->pools[config_find_pool(config, "mixed")].hosts, 2);
	assert_int_equal(config->pools[config_find_pool(config, "mixed")].max_hosts, 4);
	assert_int_equal(config->pools[config_find_pool(config, "mixed")].threads, 4);
	assert_int_equal(config->pools[config_find_pool(config, "compute")].max_hosts,
			 config_cores());
	assert_int_equal(config->pools[config_find_pool(config, "io")].label_limit_count, 1);
	config_free(config);
}

static void test_pools_replace_the_default_ones(void **state)
{
	struct config *config =
		load_text("{\"pools\":{\"b\":{},\"a-1_x\":{\"hosts\":3,\"threads\":2}}}");

	(void)state;
	assert_int_equal(config->pool_count, 2);
	assert_string_equal(config->default_pool, "b");
	assert_int_equal(config->pools[0].hosts, 1);
	assert_int_equal(config->pools[0].threads, 1);
	assert_int_equal(config->pools[0].queue_jobs, 10000);
	assert_int_equal(config->pools[1].hosts, 3);
	assert_int_equal(config->pools[1].threads, 2);
	config_free(config);

	config = load_text("{\"pools\":{\"a\":{},\"process\":{}}}");
	assert_string_equal(config->default_pool, "process");
	config_free(config);
}

static void test_pool_is_spelt_out(void **state)
{
	struct config *config = load_text(
		"{\"pools\":{\"a\":{\"hosts\":2,\"max_hosts\":8,\"spare_hosts\":3,\"threads\":2,"
		"\"grow_after_ms\":11,\"shrink_after_ms\":12,\"timeout_ms\":1,"
		"\"max_timeout_ms\":2,\"queue_ttl_ms\":3,\"max_queue_ttl_ms\":4,\"cpu_ms\":5,"
		"\"max_cpu_ms\":6,\"memory_bytes\":7,\"max_memory_bytes\":8,"
		"\"output_bytes\":2000000,\"max_output_bytes\":3000000,"
		"\"recycle\":{\"jobs\":21,\"jitter_percent\":50,\"age_ms\":22,\"idle_ms\":23,"
		"\"rss_bytes\":24},\"aging_ms\":25,\"reserve\":{\"workers\":15,\"priority\":-9},"
		"\"max_attempts\":5,\"max_crashes\":1,"
		"\"label_limits\":{\"tenant\":4,\"x\":1}}}}");
	const struct config_pool *pool = &config->pools[0];

	(void)state;
	assert_int_equal(pool->hosts, 2);
	assert_int_equal(pool->max_hosts, 8);
	assert_int_equal(pool->spare_hosts, 3);
	assert_int_equal(pool->grow_after_ms, 11);
	assert_int_equal(pool->shrink_after_ms, 12);
	assert_int_equal(pool->limits.timeout_ms, 1);
	assert_int_equal(pool->limits.max_timeout_ms, 2);
	assert_int_equal(pool->limits.queue_ttl_ms, 3);
	assert_int_equal(pool->limits.max_queue_ttl_ms, 4);
	assert_int_equal(pool->limits.cpu_ms, 5);
	assert_int_equal(pool->limits.max_cpu_ms, 6);
	assert_int_equal(pool->limits.memory_bytes, 7);
	assert_int_equal(pool->limits.max_memory_bytes, 8);
	assert_int_equal(pool->output_bytes, 2000000);
	assert_int_equal(pool->max_output_bytes, 3000000);
	assert_int_equal(pool->recycle.jobs, 21);
	assert_int_equal(pool->recycle.jitter_percent, 50);
	assert_int_equal(pool->recycle.age_ms, 22);
	assert_int_equal(pool->recycle.idle_ms, 23);
	assert_int_equal(pool->recycle.rss_bytes, 24);
	assert_int_equal(pool->aging_ms, 25);
	assert_int_equal(pool->reserved_workers, 15);
	assert_int_equal(pool->reserved_priority, -9);
	assert_int_equal(pool->max_attempts, 5);
	assert_int_equal(pool->max_crashes, 1);
	assert_int_equal(pool->label_limit_count, 2);
	assert_string_equal(pool->label_limits[0].label, "tenant");
	assert_int_equal(pool->label_limits[0].running, 4);
	assert_string_equal(pool->label_limits[1].label, "x");
	assert_int_equal(pool->label_limits[1].running, 1);
	config_free(config);
}

/* "cores" gives way to a number, so that a file holds on any machine. */
static void test_cores_and_most_hosts(void **state)
{
	struct config *config = load_text(
		"{\"pools\":{\"a\":{\"hosts\":3},\"b\":{\"hosts\":\"cores\",\"max_hosts\":1},"
		"\"c\":{\"hosts\":256,\"max_hosts\":\"cores\"},"
		"\"d\":{\"hosts\":\"cores\",\"max_hosts\":\"cores\"}}}");

	(void)state;
	assert_int_equal(config->pools[0].max_hosts, 3);
	assert_int_equal(config->pools[1].hosts, 1);
	assert_int_equal(config->pools[1].max_hosts, 1);
	assert_int_equal(config->pools[2].hosts, 256);
	assert_int_equal(config->pools[2].max_hosts, 256);
	assert_int_equal(config->pools[3].hosts, config_cores());
	assert_int_equal(config->pools[3].max_hosts, config_cores());
	config_free(config);
}

static void test_tasks(void **state)
{
	struct config *config =
		load_text("{\"tasks\":{\"fib\":{\"timeout_ms\":1,\"max_timeout_ms\":2,"
			  "\"queue_ttl_ms\":3,\"max_queue_ttl_ms\":4,\"cpu_ms\":0,\"max_cpu_ms\":6,"
			  "\"memory_bytes\":7,\"max_memory_bytes\":0,\"max_running\":9},"
			  "\"sleep\":{\"cpu_ms\":5}}}");
	const struct config_limits *fib = &config_find_task(config, "fib")->limits;
	const struct config_limits *sleep_limits = &config_find_task(config, "sleep")->limits;

	(void)state;
	assert_int_equal(fib->timeout_ms, 1);
	assert_int_equal(fib->max_timeout_ms, 2);
	assert_int_equal(fib->queue_ttl_ms, 3);
	assert_int_equal(fib->max_queue_ttl_ms, 4);
	assert_int_equal(fib->cpu_ms, 0);
	assert_int_equal(fib->max_cpu_ms, 6);
	assert_int_equal(fib->memory_bytes, 7);
	assert_int_equal(fib->max_memory_bytes, 0);
	assert_int_equal(config_find_task(config, "fib")->max_running, 9);
	assert_int_equal(config_find_task(config, "fib")->enabled, -1);
	assert_int_equal(sleep_limits->cpu_ms, 5);
	assert_int_equal(sleep_limits->timeout_ms, CONFIG_UNSET);
	assert_int_equal(sleep_limits->max_timeout_ms, CONFIG_UNSET);
	assert_int_equal(sleep_limits->queue_ttl_ms, CONFIG_UNSET);
	assert_int_equal(sleep_limits->max_queue_ttl_ms, CONFIG_UNSET);
	assert_int_equal(sleep_limits->max_cpu_ms, CONFIG_UNSET);
	assert_int_equal(sleep_limits->memory_bytes, CONFIG_UNSET);
	assert_int_equal(sleep_limits->max_memory_bytes, CONFIG_UNSET);
	assert_int_equal(config_find_task(config, "sleep")->max_running, 0);
	config_free(config);
}

static void test_file_is_wrong(void **state)
{
	struct config *config = NULL;
	struct error error = {0};
	char whole[300];

	(void)state;
	(void)snprintf(
		whole, sizeof(whole),
		"%s/none: found a file that cannot be read (No such file or directory); expected "
		"a configuration of at most 1048576 bytes",
		directory);
	(void)snprintf(file, sizeof(file), "%s/none", directory);
	expect_failure(&(struct config_flags){.config_path = file}, NULL, "--config", whole);
	(void)snprintf(file, sizeof(file), "%s/c.json", directory);

	write_file("{\n\t\"server\": }");
	assert_true(config_load(&(struct config_flags){.config_path = file}, NULL, &config,
				&error) < 0);
	assert_int_equal(error.code, ERROR_SYNTAX);
	(void)snprintf(whole, sizeof(whole), "%s: line 2, column ", file);
	assert_memory_equal(error.message, whole, strlen(whole));

	refuses("[]", "", "found the array []; expected an object");
	refuses("{\"srever\":{}}", "srever",
		"found the unknown property \"srever\"; expected one of $schema, server, log, "
		"retention, "
		"data_dir, store, callbacks, default_pool, pools, commands, python, plugins, "
		"tasks");
}

static void test_plugins(void **state)
{
	struct config *config =
		load_text("{\"plugins\":[{\"path\":\"/lib/a.so\"},{\"path\":\"sub/b.so\","
			  "\"settings\":{\"b.task\":{\"x\":\"y\"}}}]}");

	(void)state;
	assert_int_equal(config->plugin_count, 2);
	assert_string_equal(config->plugins[0].path, "/lib/a.so");
	assert_string_equal(config->plugins[0].settings, "{}");
	/* It starts at the file's directory. */
	assert_int_equal(config->plugins[1].path[0], '/');
	assert_non_null(strstr(config->plugins[1].path, "/sub/b.so"));
	assert_string_equal(config->plugins[1].settings, "{\"b.task\":{\"x\":\"y\"}}");
	config_free(config);
	config = load_text("{}");
	assert_int_equal(config->plugin_count, 0);
	config_free(config);
}

static void test_plugins_are_wrong(void **state)
{
	(void)state;
	refuses("{\"plugins\":[{}]}", "plugins[0].path",
		"found no \"path\", which is required; expected a string of 1 to 4000 characters");
	refuses("{\"plugins\":[{\"path\":\"a\",\"settings\":{\"t\":{\"x\":1}}}]}",
		"plugins[0].settings.t.x", "found the integer 1; expected a string");
}

static void test_settings_are_wrong(void **state)
{
	(void)state;
	refuses("{\"server\":{\"max_connections\":0}}", "server.max_connections",
		"found the integer 0; expected an integer from 1 to 1000000");
	refuses("{\"server\":{\"max_wait_ms\":\"1s\"}}", "server.max_wait_ms",
		"found the string \"1s\"; expected an integer from 0 to 86400000");
	refuses("{\"server\":{\"default_wait_ms\":2000,\"max_wait_ms\":1000}}",
		"server.default_wait_ms",
		"found the integer 2000; expected at most server.max_wait_ms, which is 1000");
	refuses("{\"log\":{\"level\":\"verbose\"}}", "log.level",
		"found the string \"verbose\"; expected one of \"debug\", \"info\", \"warning\", "
		"\"error\"");
	refuses("{\"retention\":{\"age\":1}}", "retention.age",
		"found the unknown property \"age\"; expected one of jobs, bytes, age_ms");
	refuses("{\"commands\":{\"cgroup\":\"on\"}}", "commands.cgroup",
		"found the string \"on\"; expected auto, off, or an absolute path");
	refuses("{\"data_dir\":\"\"}", "data_dir",
		"found the string \"\"; expected a string of 1 to 4000 characters");
	refuses("{\"tasks\":{\"crash\":{\"enabled\":1}}}", "tasks.crash.enabled",
		"found the integer 1; expected true or false");
	refuses("{\"tasks\":{\"echo\":{\"root\":\".\"}}}", "tasks.echo.root",
		"found a root; expected none, since only the task \"read\" has one");
	refuses("{\"tasks\":{\"read\":{\"root\":\"none\"}}}", "tasks.read.root",
		"found the string \"none\" (No such file or directory); expected an existing "
		"directory");
	refuses("{\"tasks\":{\"read\":{\"root\":\"c.json\"}}}", "tasks.read.root",
		"found the string \"c.json\" (Not a directory); expected an existing directory");
}

static void test_pools_are_wrong(void **state)
{
	(void)state;
	refuses("{\"pools\":{}}", "pools", "found 0 pools; expected 1 to 32");
	refuses_beginning("{\"pools\":{\"a\":{\"treads\":1}}}", "pools.a.treads",
			  "found the unknown property \"treads\"; expected one of hosts, "
			  "max_hosts, spare_hosts, grow_after_ms, shrink_after_ms, threads, "
			  "queue_jobs, queue_bytes, timeout_ms, max_timeout_ms, ");
	refuses("{\"pools\":{\"a\":{\"hosts\":0}}}", "pools.a.hosts",
		"found the integer 0; expected an integer from 1 to 256 or the string \"cores\"");
	refuses("{\"pools\":{\"a\":{\"threads\":\"many\"}}}", "pools.a.threads",
		"found the string \"many\"; expected an integer from 1 to 256 or the string "
		"\"cores\"");
	refuses("{\"pools\":{\"a\":{\"threads\":null}}}", "pools.a.threads",
		"found null; expected an integer from 1 to 256 or the string \"cores\"");
	refuses("{\"pools\":{\"a\":3}}", "pools.a", "found the integer 3; expected an object");
	refuses("{\"pools\":{\"Big\":{}}}", "pools.Big",
		"found the pool name \"Big\"; expected a lower-case letter, then lower-case "
		"letters, "
		"digits, - and _, at most 32 characters");
	refuses("{\"pools\":{\"a\":{\"timeout_ms\":5,\"max_timeout_ms\":4}}}", "pools.a.timeout_ms",
		"found the integer 5; expected at most max_timeout_ms, which is 4");
	refuses("{\"pools\":{\"a\":{\"restart_backoff_ms\":5,\"restart_backoff_max_ms\":4}}}",
		"pools.a.restart_backoff_ms",
		"found the integer 5; expected at most restart_backoff_max_ms, which is 4");
	refuses("{\"pools\":{\"a\":{\"hosts\":16,\"threads\":255},\"b\":{\"hosts\":17}}}",
		"pools.b",
		"found 17 hosts x 1 threads, with the pools before it 4097 workers; expected at "
		"most 4096 workers in all pools");
	refuses("{\"pools\":{\"a\":{},\"b\":{}},\"default_pool\":\"c\"}", "default_pool",
		"found the string \"c\"; expected one of \"a\", \"b\"");
	refuses("{\"pools\":{\"a\":{}},\"default_pool\":\"c\"}", "default_pool",
		"found the string \"c\"; expected \"a\"");
}

static void test_pools_break_their_own_limits(void **state)
{
	static const struct {
		const char *text;
		const char *field;
		const char *message;
	} wrong[] = {
		{"\"hosts\":3,\"max_hosts\":2", "hosts",
		 "found the integer 3; expected at most max_hosts, which is 2"},
		{"\"max_hosts\":2,\"spare_hosts\":3", "spare_hosts",
		 "found the integer 3; expected at most max_hosts, which is 2"},
		{"\"spare_hosts\":2", "spare_hosts",
		 "found the integer 2; expected at most max_hosts, which is 1"},
		{"\"max_hosts\":\"few\"", "max_hosts",
		 "found the string \"few\"; expected an integer from 1 to 256 or the string "
		 "\"cores\""},
		{"\"max_hosts\":257", "max_hosts",
		 "found the integer 257; expected an integer from 1 to 256 or the string "
		 "\"cores\""},
		{"\"queue_ttl_ms\":5,\"max_queue_ttl_ms\":4", "queue_ttl_ms",
		 "found the integer 5; expected at most max_queue_ttl_ms, which is 4"},
		{"\"cpu_ms\":5,\"max_cpu_ms\":4", "cpu_ms",
		 "found the integer 5; expected at most max_cpu_ms, which is 4"},
		{"\"memory_bytes\":5,\"max_memory_bytes\":4", "memory_bytes",
		 "found the integer 5; expected at most max_memory_bytes, which is 4"},
		{"\"memory_bytes\":-1", "memory_bytes",
		 "found the integer -1; expected an integer from 0 to 1099511627776"},
		{"\"output_bytes\":5,\"max_output_bytes\":4", "output_bytes",
		 "found the integer 5; expected at most max_output_bytes, which is 4"},
		{"\"output_bytes\":1,\"max_output_bytes\":0", "output_bytes",
		 "found the integer 1; expected at most max_output_bytes, which is 0"},
		{"\"max_hosts\":3,\"threads\":2,\"reserve\":{\"workers\":6}", "reserve.workers",
		 "found the integer 6; expected fewer than the pool's 6 workers (max_hosts 3 x "
		 "threads 2)"},
		{"\"reserve\":{\"priority\":-10}", "reserve.priority",
		 "found the integer -10; expected an integer from -9 to 10"},
		{"\"reserve\":{\"priority\":11}", "reserve.priority",
		 "found the integer 11; expected an integer from -9 to 10"},
		{"\"reserve\":{\"jobs\":1}", "reserve.jobs",
		 "found the unknown property \"jobs\"; expected one of workers, priority"},
		{"\"recycle\":{\"jitter_percent\":51}", "recycle.jitter_percent",
		 "found the integer 51; expected an integer from 0 to 50"},
		{"\"recycle\":{\"rss\":1}", "recycle.rss",
		 "found the unknown property \"rss\"; expected one of jobs, jitter_percent, "
		 "age_ms, idle_ms, rss_bytes"},
		{"\"aging_ms\":0", "aging_ms",
		 "found the integer 0; expected an integer from 1 to 86400000"},
		{"\"max_attempts\":0", "max_attempts",
		 "found the integer 0; expected an integer from 1 to 100"},
		{"\"max_crashes\":101", "max_crashes",
		 "found the integer 101; expected an integer from 1 to 100"},
		{"\"label_limits\":{\"tenant\":0}", "label_limits.tenant",
		 "found the integer 0; expected an integer from 1 to 1000000"},
		{"\"label_limits\":{\"\":1}", "label_limits",
		 "found the string \"\" as a label of 0 bytes; expected one of 1 to 63 bytes"},
		{"\"label_limits\":[\"tenant\"]", "label_limits",
		 "found the array [\"tenant\"]; expected an object"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char text[300];
		char field[80];

		(void)snprintf(text, sizeof(text), "{\"pools\":{\"a\":{%s}}}", wrong[i].text);
		(void)snprintf(field, sizeof(field), "pools.a.%s", wrong[i].field);
		refuses(text, field, wrong[i].message);
	}
	refuses("{\"pools\":{\"a\":{\"hosts\":1,\"max_hosts\":17,\"threads\":256}}}", "pools.a",
		"found 17 hosts x 256 threads, with the pools before it 4352 workers; expected at "
		"most 4096 workers in all pools");
}

static void test_label_limits(void **state)
{
	char name[CONFIG_LABEL_MAX + 2];
	char text[600] = "{\"pools\":{\"a\":{\"label_limits\":{";
	size_t length = strlen(text);
	struct config *config;

	(void)state;
	for (int i = 0; i < CONFIG_LABEL_LIMITS_MAX; i++)
		length += (size_t)snprintf(text + length, sizeof(text) - length, "%s\"l%d\":1",
					   i == 0 ? "" : ",", i);
	(void)snprintf(text + length, sizeof(text) - length, "}}}}");
	config = load_text(text);
	assert_int_equal(config->pools[0].label_limit_count, CONFIG_LABEL_LIMITS_MAX);
	config_free(config);
	(void)snprintf(text + length, sizeof(text) - length, ",\"l16\":1}}}}");
	refuses(text, "pools.a.label_limits", "found 17 labels; expected at most 16");

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	(void)snprintf(text, sizeof(text), "{\"pools\":{\"a\":{\"label_limits\":{\"%s\":1}}}}",
		       name + 1);
	config = load_text(text);
	assert_string_equal(config->pools[0].label_limits[0].label, name + 1);
	config_free(config);
	(void)snprintf(text, sizeof(text), "{\"pools\":{\"a\":{\"label_limits\":{\"%s\":1}}}}",
		       name);
	refuses_beginning(text, "pools.a.label_limits", "found the string \"nnnnnnn");
}

static void test_tasks_are_wrong(void **state)
{
	(void)state;
	refuses("{\"tasks\":{\"fib\":{\"timeout_ms\":5,\"max_timeout_ms\":4}}}",
		"tasks.fib.timeout_ms",
		"found the integer 5; expected at most max_timeout_ms, which is 4");
	refuses("{\"tasks\":{\"fib\":{\"queue_ttl_ms\":5,\"max_queue_ttl_ms\":4}}}",
		"tasks.fib.queue_ttl_ms",
		"found the integer 5; expected at most max_queue_ttl_ms, which is 4");
	refuses("{\"tasks\":{\"fib\":{\"cpu_ms\":5,\"max_cpu_ms\":4}}}", "tasks.fib.cpu_ms",
		"found the integer 5; expected at most max_cpu_ms, which is 4");
	refuses("{\"tasks\":{\"fib\":{\"memory_bytes\":5,\"max_memory_bytes\":4}}}",
		"tasks.fib.memory_bytes",
		"found the integer 5; expected at most max_memory_bytes, which is 4");
	refuses("{\"tasks\":{\"fib\":{\"max_running\":-1}}}", "tasks.fib.max_running",
		"found the integer -1; expected an integer from 0 to 1000000");
}

static void test_no_limits(void **state)
{
	struct config *config =
		load_text("{\"pools\":{\"a\":{\"timeout_ms\":5,\"max_timeout_ms\":0},"
			  "\"b\":{\"timeout_ms\":0,\"max_timeout_ms\":4}}}");

	(void)state;
	assert_int_equal(config->pools[0].limits.max_timeout_ms, 0);
	assert_int_equal(config->pools[1].limits.timeout_ms, 0);
	config_free(config);
}

static void test_too_many_pools(void **state)
{
	json_t *pools = json_object();
	json_t *tree = json_pack("{s:o}", "pools", pools);
	char *text;

	(void)state;
	for (int i = 0; i < CONFIG_POOLS_MAX + 1; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "p%d", i);
		assert_int_equal(json_object_set_new(pools, name, json_object()), 0);
	}
	text = json_dumps(tree, 0);
	assert_non_null(text);
	refuses(text, "pools", "found 33 pools; expected 1 to 32");
	free(text);
	json_decref(tree);
}

static void listens(const char *text, const char *host, unsigned int port)
{
	struct config *config =
		load_with(&(struct config_flags){.listen = text, .allow_anonymous = "true"}, NULL);

	assert_string_equal(config->listen_host, host);
	assert_int_equal(config->listen_port, port);
	config_free(config);
}

static void test_listen(void **state)
{
	static const char *const bad[] = {
		"",
		"8080",
		":8080",
		"localhost",
		"localhost:",
		"localhost:x",
		"host:65536",
		"host:123456",
		"host:-1",
		"host: 1",
		"::1:8080",
		"[::1]",
		"[]:1",
		"[::1:1",
		"[::g]:1",
		"[1.2.3.4]:1",
		"300.1.1.1:1",
		"1.2.3:1",
		"ho st:1",
		"http://h:1",
		"*:80",
		"[::1]x:1",
		"[fe80::1%]:1",
	};

	(void)state;
	listens("127.0.0.1:0", "127.0.0.1", 0);
	listens("0.0.0.0:65535", "0.0.0.0", 65535);
	listens("[::1]:80", "::1", 80);
	listens("[fe80::1%eth0]:80", "fe80::1%eth0", 80);
	listens("my-host.example:1", "my-host.example", 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char message[300];

		(void)snprintf(message, sizeof(message),
			       "found the string \"%s\"; expected HOST:PORT, [IPV6]:PORT or "
			       "unix:/PATH, such as "
			       "\"127.0.0.1:8080\", with a port from 0 to 65535",
			       bad[i]);
		expect_failure(&(struct config_flags){.listen = bad[i]}, NULL, "--listen", message);
	}
	refuses("{\"server\":{\"listen\":\"x\"}}", "server.listen",
		"found the string \"x\"; expected HOST:PORT, [IPV6]:PORT or unix:/PATH, such as "
		"\"127.0.0.1:8080\", "
		"with a port from 0 to 65535");
}

/* Beyond this machine only with tokens, or if it is said. */
static void test_anonymous(void **state)
{
	static const char *const near[] = {"127.0.0.1:0", "127.9.9.9:1", "[::1]:0", "localhost:1",
					   "LOCALHOST:1"};
	static const char *const far[] = {"0.0.0.0:0", "[::]:0",      "10.0.0.1:1",
					  "my-host:1", "128.0.0.1:1", "[::ffff:10.0.0.1]:1"};

	(void)state;
	for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++)
		config_free(load_with(&(struct config_flags){.listen = near[i]}, NULL));
	for (size_t i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
		char message[300];

		(void)snprintf(
			message, sizeof(message),
			"found the string \"%s\", which others than this machine can reach, "
			"without tokens; expected a loopback address, server.tokens_file, or "
			"server.allow_anonymous (TWINPOOL_ALLOW_ANONYMOUS=1)",
			far[i]);
		expect_failure(&(struct config_flags){.listen = far[i]}, NULL, "--listen", message);
	}
	refuses_variable("TWINPOOL_ALLOW_ANONYMOUS=yes", "TWINPOOL_ALLOW_ANONYMOUS",
			 "found the string \"yes\"; expected true or false");
	struct config *config =
		load_text("{\"server\":{\"listen\":\"0.0.0.0:1\",\"allow_anonymous\":true}}");
	assert_true(config->allow_anonymous);
	assert_null(config->tokens);
	config_free(config);
}

#define TOKEN_LINE                                                                                 \
	"ci submit,read sha256:00112233445566778899aabbccddeeff:"                                  \
	"c9bb7fac35c55d6a5d2f2b4ef2e2f2cd1dc0a2dcb03d43f2a5a1b4c3f3a0d2e1\n"

/* The file lies beside the configuration; its bytes are part of the digest. */
static void test_tokens_file(void **state)
{
	char path[sizeof(directory) + 16];
	struct config *first;
	struct config *second;
	FILE *stream;

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/tokens", directory);
	for (int i = 0; i < 2; i++) {
		stream = fopen(path, i == 0 ? "w" : "a");
		assert_non_null(stream);
		assert_true(fputs(i == 0 ? TOKEN_LINE : "# more\n", stream) >= 0);
		assert_int_equal(fclose(stream), 0);
		assert_int_equal(chmod(path, i == 0 ? 0600 : 0644), 0);
		*(i == 0 ? &first : &second) = load_text(
			"{\"server\":{\"listen\":\"0.0.0.0:1\",\"tokens_file\":\"tokens\"}}");
	}
	assert_string_equal(first->tokens_file, path);
	assert_int_equal(first->tokens->count, 1);
	assert_false(first->tokens->readable_by_all);
	assert_true(second->tokens->readable_by_all);
	assert_true(first->digest != second->digest);
	config_free(first);
	config_free(second);

	assert_int_equal(chmod(path, 0602), 0);
	refuses_beginning("{\"server\":{\"tokens_file\":\"tokens\"}}", "server.tokens_file", path);
	assert_int_equal(unlink(path), 0);
	refuses_beginning("{\"server\":{\"tokens_file\":\"tokens\"}}", "server.tokens_file", path);
	expect_failure(&(struct config_flags){.tokens_file = "/none"}, NULL, "--tokens-file",
		       "/none: found a file that cannot be read (No such file or directory); "
		       "expected lines of tokens, at most 65536 bytes");
}

static void test_data_dir(void **state)
{
	struct config *config = load_text("{\"data_dir\":\"data\"}");
	char path[sizeof(directory) + 16];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/data", directory);
	assert_string_equal(config->data_dir, path);
	config_free(config);

	config = load_text("{\"data_dir\":\"/var/lib/x\"}");
	assert_string_equal(config->data_dir, "/var/lib/x");
	config_free(config);

	config = load_with(&(struct config_flags){.config_path = file, .data_dir = "here"}, NULL);
	assert_string_equal(config->data_dir, "here");
	config_free(config);
}

static void test_variables(void **state)
{
	char path[sizeof(file) + 32];
	char *environment[] = {
		path,
		(char[]){"HOME=/root"},
		(char[]){"TWINPOOL_LISTEN=[::]:9000"},
		(char[]){"TWINPOOL_DATA_DIR=/data"},
		(char[]){"TWINPOOL_LOG_LEVEL=warning"},
		(char[]){"TWINPOOL_LOG_FORMAT=json"},
		(char[]){"TWINPOOL_DEFAULT_POOL=my-pool"},
		(char[]){"TWINPOOL_SHUTDOWN_GRACE_MS=0"},
		(char[]){"TWINPOOL_POOL_MY_POOL_HOSTS=7"},
		(char[]){"TWINPOOL_POOL_MY_POOL_MAX_HOSTS=9"},
		(char[]){"TWINPOOL_POOL_MY_POOL_THREADS=cores"},
		(char[]){"TWINPOOL_READY_FD=3"},
		(char[]){"TWINPOOL_ALLOW_ANONYMOUS=1"},
		NULL,
	};
	struct config *config;

	(void)state;
	(void)snprintf(path, sizeof(path), "TWINPOOL_CONFIG=%s", file);
	write_file("{\"log\":{\"level\":\"error\"},\"pools\":{\"a\":{},\"my-pool\":{}},\"data_"
		   "dir\":\"x\"}");
	config = load_with(&(struct config_flags){.listen = "h:1"}, environment);
	assert_true(config->allow_anonymous);
	assert_string_equal(config->path, file);
	assert_string_equal(config->listen_host, "h"); /* the flag wins */
	assert_string_equal(config->data_dir, "/data");
	assert_int_equal(config->log_level, LOG_LEVEL_WARNING);
	assert_int_equal(config->log_format, LOG_FORMAT_JSON);
	assert_string_equal(config->default_pool, "my-pool");
	assert_int_equal(config->shutdown_grace_ms, 0);
	assert_int_equal(config->pools[0].hosts, 1);
	assert_int_equal(config->pools[1].hosts, 7);
	assert_int_equal(config->pools[1].max_hosts, 9);
	assert_int_equal(config->pools[1].threads, config_cores());
	config_free(config);
}

static void test_variables_are_wrong(void **state)
{
	(void)state;
	refuses_variable(
		"TWINPOOL_LOG_LEVEL=loud", "TWINPOOL_LOG_LEVEL",
		"found the string \"loud\"; expected one of \"debug\", \"info\", \"warning\", "
		"\"error\"");
	refuses_variable("TWINPOOL_SHUTDOWN_GRACE_MS=-5", "TWINPOOL_SHUTDOWN_GRACE_MS",
			 "found the integer -5; expected an integer from 0 to 3600000");
	refuses_variable("TWINPOOL_SHUTDOWN_GRACE_MS=5s", "TWINPOOL_SHUTDOWN_GRACE_MS",
			 "found the string \"5s\"; expected an integer from 0 to 3600000");
	refuses_variable(
		"TWINPOOL_SHUTDOWN_GRACE_MS=99999999999999999999", "TWINPOOL_SHUTDOWN_GRACE_MS",
		"found the string \"99999999999999999999\"; expected an integer from 0 to 3600000");
	refuses_variable("TWINPOOL_SHUTDOWN_GRACE_MS=", "TWINPOOL_SHUTDOWN_GRACE_MS",
			 "found the string \"\"; expected an integer from 0 to 3600000");
	refuses_variable("TWINPOOL_DEFAULT_POOL=x", "TWINPOOL_DEFAULT_POOL",
			 "found the string \"x\"; expected one of \"process\", \"thread\"");
	refuses_variable(
		"TWINPOOL_LISTEN=8080", "TWINPOOL_LISTEN",
		"found the string \"8080\"; expected HOST:PORT, [IPV6]:PORT or unix:/PATH, such as "
		"\"127.0.0.1:8080\", with a port from 0 to 65535");
	refuses_variable("TWINPOOL_DATA_DIR=\xff", "TWINPOOL_DATA_DIR",
			 "found bytes that are no UTF-8; expected text");
	refuses_variable(
		"TWINPOOL_POOL_PROCESS_HOSTS=257", "TWINPOOL_POOL_PROCESS_HOSTS",
		"found the integer 257; expected an integer from 1 to 256 or the string \"cores\"");
	refuses_variable(
		"TWINPOOL_POOL_THREAD_MAX_HOSTS=0", "TWINPOOL_POOL_THREAD_MAX_HOSTS",
		"found the integer 0; expected an integer from 1 to 256 or the string \"cores\"");
	refuses_variable(
		"TWINPOOL_POOL_X_MAX_HOSTS=1", "TWINPOOL_POOL_X_MAX_HOSTS",
		"found the pool name \"X_MAX\", which means no pool or more than one; expected "
		"one of PROCESS, THREAD");
	refuses_variable(
		"TWINPOOL_POOL_X_HOSTS=1", "TWINPOOL_POOL_X_HOSTS",
		"found the pool name \"X\", which means no pool or more than one; expected one "
		"of PROCESS, THREAD");
	refuses_variable(
		"TWINPOOL_PORT=1", "TWINPOOL_PORT",
		"found an unknown variable; expected one of TWINPOOL_CONFIG, TWINPOOL_READY_FD, "
		"TWINPOOL_LISTEN, TWINPOOL_DATA_DIR, TWINPOOL_LOG_LEVEL, TWINPOOL_LOG_FORMAT, "
		"TWINPOOL_DEFAULT_POOL, TWINPOOL_SHUTDOWN_GRACE_MS, TWINPOOL_STORE_KIND, "
		"TWINPOOL_STORE_CONNECTION, TWINPOOL_STORE_NODE, TWINPOOL_STORE_DURABLE, "
		"TWINPOOL_CALLBACKS_SECRET_FILE, TWINPOOL_TOKENS_FILE, "
		"TWINPOOL_ALLOW_ANONYMOUS, TWINPOOL_TLS_CERTIFICATE, TWINPOOL_TLS_KEY, "
		"TWINPOOL_TLS_CLIENT_CA, TWINPOOL_POOL_<NAME>_HOSTS, "
		"TWINPOOL_POOL_<NAME>_MAX_HOSTS, TWINPOOL_POOL_<NAME>_THREADS");
	refuses_variable(
		"TWINPOOL_CONFIG=/none.json", "TWINPOOL_CONFIG",
		"/none.json: found a file that cannot be read (No such file or directory); "
		"expected a configuration of at most 1048576 bytes");
	expect_failure(&(struct config_flags){.log_format = "xml"}, NULL, "--log-format",
		       "found the string \"xml\"; expected one of \"auto\", \"text\", \"json\"");
	expect_failure(&(struct config_flags){.data_dir = ""}, NULL, "--data-dir",
		       "found the string \"\"; expected a string of 1 to 4000 characters");
}

static void test_unknown_pool_variables(void **state)
{
	static const char *const names[] = {"TWINPOOL_POOL_", "TWINPOOL_POOL_HOSTS",
					    "TWINPOOL_POOL_PROCESS", "TWINPOOL_POOL_PROCESS_HOST",
					    "TWINPOOL_"};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char variable[64];
		char *environment[] = {variable, NULL};
		struct config *config = NULL;
		struct error error = {0};

		(void)snprintf(variable, sizeof(variable), "%s=1", names[i]);
		assert_true(config_load(&(struct config_flags){0}, environment, &config, &error) <
			    0);
		assert_string_equal(error.field, names[i]);
		assert_memory_equal(error.message, "found an unknown variable", 25);
	}
}

/* Two pools whose names differ only by '-' and '_' share a variable: refused, since it could mean
 * either. */
static void test_ambiguous_pool_variable(void **state)
{
	char *environment[] = {(char[]){"TWINPOOL_POOL_A_B_HOSTS=1"}, NULL};

	(void)state;
	write_file("{\"pools\":{\"a-b\":{},\"a_b\":{}}}");
	expect_failure(&(struct config_flags){.config_path = file}, environment,
		       "TWINPOOL_POOL_A_B_HOSTS",
		       "found the pool name \"A_B\", which means no pool or more than one; "
		       "expected one of "
		       "A_B, A_B");
}

/* X_MAX_HOSTS: the most hosts of x, or the hosts of x_max; refused where it could be either. */
static void test_most_hosts_of_one_or_hosts_of_another(void **state)
{
	char *environment[] = {(char[]){"TWINPOOL_POOL_X_MAX_HOSTS=5"}, NULL};
	const struct config_flags flags = {.config_path = file};
	struct config *config;

	(void)state;
	write_file("{\"pools\":{\"x\":{}}}");
	config = load_with(&flags, environment);
	assert_int_equal(config->pools[0].hosts, 1);
	assert_int_equal(config->pools[0].max_hosts, 5);
	config_free(config);

	write_file("{\"pools\":{\"x-max\":{}}}");
	config = load_with(&flags, environment);
	assert_int_equal(config->pools[0].hosts, 5);
	assert_int_equal(config->pools[0].max_hosts, 5);
	config_free(config);

	write_file("{\"pools\":{\"x\":{},\"x-max\":{}}}");
	expect_failure(&flags, environment, "TWINPOOL_POOL_X_MAX_HOSTS",
		       "found the pool name \"X_MAX\", which means no pool or more than one; "
		       "expected one of X, X_MAX");

	/* Told by the name of what set it. */
	environment[0] = (char[]){"TWINPOOL_POOL_X_HOSTS=5"};
	write_file("{\"pools\":{\"x\":{\"max_hosts\":4}}}");
	expect_failure(&flags, environment, "TWINPOOL_POOL_X_HOSTS",
		       "found the integer 5; expected at most max_hosts, which is 4");
}

/* ---- The store and callbacks ---- */

static char secret[sizeof(directory) + 16];

static void write_secret(const char *text, size_t length, mode_t mode)
{
	FILE *stream;

	(void)snprintf(secret, sizeof(secret), "%s/secret", directory);
	(void)unlink(secret);
	stream = fopen(secret, "w");
	assert_non_null(stream);
	assert_int_equal(fwrite(text, 1, length, stream), length);
	assert_int_equal(fclose(stream), 0);
	assert_int_equal(chmod(secret, mode), 0);
}

static void test_store(void **state)
{
	struct config *config = load_with(&(struct config_flags){0}, NULL);

	(void)state;
	assert_int_equal(config->store.kind, CONFIG_STORE_MEMORY);
	assert_int_equal(config->store.durable, CONFIG_DURABLE_AUTO);
	assert_true(config->store.history);
	assert_null(config->store.connection);
	assert_string_equal(config->store.node, "");
	assert_int_equal(config->store.lease_ms, 10000);
	assert_int_equal(config->store.poll_ms, 500);
	assert_int_equal(config->store.key_ms, 86400000);
	for (size_t i = 0; i < CONFIG_ENDED_STATES; i++) {
		assert_int_equal(config->store.retention[i].age_ms, 604800000);
		assert_int_equal(config->store.retention[i].jobs, 100000);
	}
	config_free(config);

	config = load_text("{\"data_dir\":\"/d\"}");
	assert_int_equal(config->store.kind, CONFIG_STORE_SQLITE);
	config_free(config);
	config = load_text("{\"data_dir\":\"/d\",\"store\":{\"kind\":\"memory\",\"durable\":"
			   "\"none\",\"history\":\"durable\",\"connection\":\"host=x "
			   "password=geheim\",\"node\":\"n-1.a_B\",\"lease_ms\":1000,"
			   "\"poll_ms\":10,\"idempotency_ms\":2000,\"retention\":{\"timed_out\":"
			   "{\"age_ms\":5},\"expired\":{\"jobs\":0}}}}");
	assert_int_equal(config->store.kind, CONFIG_STORE_MEMORY);
	assert_int_equal(config->store.durable, CONFIG_DURABLE_NONE);
	assert_false(config->store.history);
	assert_string_equal(config->store.connection, "host=x password=geheim");
	assert_string_equal(config->store.node, "n-1.a_B");
	assert_int_equal(config->store.lease_ms, 1000);
	assert_int_equal(config->store.poll_ms, 10);
	assert_int_equal(config->store.key_ms, 2000);
	assert_int_equal(config->store.retention[1].age_ms, 604800000);
	assert_int_equal(config->store.retention[2].age_ms, 5);
	assert_int_equal(config->store.retention[2].jobs, 100000);
	assert_int_equal(config->store.retention[5].jobs, 0);
	config_free(config);
}

static void test_store_by_variables(void **state)
{
	char *environment[] = {
		(char[]){"TWINPOOL_DATA_DIR=/d"},	    (char[]){"TWINPOOL_STORE_KIND=sqlite"},
		(char[]){"TWINPOOL_STORE_CONNECTION=1234"}, (char[]){"TWINPOOL_STORE_NODE=n1"},
		(char[]){"TWINPOOL_STORE_DURABLE=all"},	    NULL,
	};
	struct config *config = load_with(&(struct config_flags){0}, environment);

	(void)state;
	assert_int_equal(config->store.kind, CONFIG_STORE_SQLITE);
	assert_string_equal(config->store.connection, "1234");
	assert_string_equal(config->store.node, "n1");
	assert_int_equal(config->store.durable, CONFIG_DURABLE_ALL);
	config_free(config);

	refuses_variable("TWINPOOL_STORE_KIND=sqlite", "TWINPOOL_STORE_KIND",
			 "found the string \"sqlite\" without a data_dir; expected a data_dir "
			 "beside it, since the file lies there");
	refuses_variable("TWINPOOL_STORE_NODE=a b", "TWINPOOL_STORE_NODE",
			 "found the string \"a b\"; expected letters, digits, -, _ and full stops");
	/* Nothing of a connection string is ever shown. */
	refuses_variable("TWINPOOL_STORE_CONNECTION=", "TWINPOOL_STORE_CONNECTION",
			 "found a value that is no connection string; expected a string of 1 to "
			 "4000 characters for libpq");
}

static void test_store_is_wrong(void **state)
{
	(void)state;
	refuses("{\"store\":{\"kind\":\"sqlite\"}}", "store.kind",
		"found the string \"sqlite\" without a data_dir; expected a data_dir beside it, "
		"since the file lies there");
	refuses("{\"store\":{\"connection\":{\"password\":\"geheim\"}}}", "store.connection",
		"found a value that is no connection string; expected a string of 1 to 4000 "
		"characters for libpq");
	refuses("{\"store\":{\"retention\":{\"queued\":{}}}}", "store.retention.queued",
		"found the unknown property \"queued\"; expected one of succeeded, failed, "
		"timed_out, cancelled, crashed, expired");
#ifdef TWINPOOL_POSTGRESQL
	struct config *config = load_text("{\"store\":{\"kind\":\"postgresql\"}}");
	assert_int_equal(config->store.kind, CONFIG_STORE_POSTGRESQL);
	config_free(config);
#else
	refuses("{\"store\":{\"kind\":\"postgresql\"}}", "store.kind",
		"found the string \"postgresql\" in a program that was built without libpq; "
		"expected \"auto\", \"memory\" or \"sqlite\"");
#endif
}

static void test_callbacks(void **state)
{
	struct config *config = load_with(&(struct config_flags){0}, NULL);

	(void)state;
	assert_int_equal(config->callbacks.allow_count, 0);
	assert_null(config->callbacks.secret_file);
	assert_null(config->callbacks.secret);
	assert_int_equal(config->callbacks.timeout_ms, 10000);
	assert_int_equal(config->callbacks.max_tries, 10);
	assert_int_equal(config->callbacks.backoff_ms, 1000);
	assert_int_equal(config->callbacks.backoff_max_ms, 3600000);
	config_free(config);

	write_secret("s3cret key\n", 11, 0640);
	config = load_text("{\"callbacks\":{\"allow\":[\"hooks.example.org\",\"*.example.org:443\","
			   "\"10.1.0.0/16:8443\",\"::1\",\"[fd00::/8]:80\",\"[::1]\",\"fd00::/8\","
			   "\"127.0.0.1\",\"localhost:1\"],\"secret_file\":\"secret\","
			   "\"timeout_ms\":1,\"max_tries\":2,\"backoff_ms\":3,"
			   "\"backoff_max_ms\":4}}");
	assert_int_equal(config->callbacks.allow_count, 9);
	assert_string_equal(config->callbacks.allow[2], "10.1.0.0/16:8443");
	assert_string_equal(config->callbacks.secret_file, secret);
	assert_string_equal(config->callbacks.secret, "s3cret key");
	assert_int_equal(config->callbacks.timeout_ms, 1);
	assert_int_equal(config->callbacks.max_tries, 2);
	assert_int_equal(config->callbacks.backoff_ms, 3);
	assert_int_equal(config->callbacks.backoff_max_ms, 4);
	config_free(config);
	assert_int_equal(unlink(secret), 0);
}

static void refuses_secret(const char *problem)
{
	char message[600];

	(void)snprintf(
		message, sizeof(message),
		"found the file \"%s\" %s; expected a readable file of 1 to 4096 bytes, that "
		"only its owner may write, and only its owner and its group read",
		secret, problem);
	refuses("{\"callbacks\":{\"secret_file\":\"secret\"}}", "callbacks.secret_file", message);
	(void)unlink(secret);
}

static void test_callbacks_are_wrong(void **state)
{
	static const char *const bad[] = {
		"*",	     "*.",	"a..b",	      "a.",	 "http://a",  "a/b",
		"300.0.0.1", "1.2.3",	"1.2.3.4/33", "a:0",	 "a:65536",   "a:x",
		"[1.2.3.4]", "[::1",	"[::1]x",     "::1/129", "10.0.0.0/", "a b",
		"[::1]:0",   "*.*.org", "a:",	      "::g",
	};
	char text[5000];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char message[200];

		(void)snprintf(text, sizeof(text), "{\"callbacks\":{\"allow\":[\"ok\",\"%s\"]}}",
			       bad[i]);
		(void)snprintf(message, sizeof(message),
			       "found the string \"%s\"; expected a host name, \"*.\" and one, an "
			       "address or a network, perhaps with \":\" and a port",
			       bad[i]);
		refuses(text, "callbacks.allow[1]", message);
	}
	refuses("{\"callbacks\":{\"backoff_ms\":5,\"backoff_max_ms\":4}}", "callbacks.backoff_ms",
		"found the integer 5; expected at most callbacks.backoff_max_ms, which is 4");
	(void)snprintf(secret, sizeof(secret), "%s/secret", directory);
	refuses_secret("(No such file or directory)");
	write_secret("x", 1, 0644);
	refuses_secret("with the mode 0644");
	write_secret("x", 1, 0620);
	refuses_secret("with the mode 0620");
	write_secret("\n", 1, 0600);
	refuses_secret("without anything in it");
	write_secret("a\0b", 3, 0600);
	refuses_secret("with a NUL in it");
	memset(text, 'x', sizeof(text));
	write_secret(text, 4097, 0600);
	refuses_secret("(File too large)");
	assert_int_equal(mkdir(secret, 0700), 0);
	refuses_secret("(Is a directory)");
	assert_int_equal(rmdir(secret), 0);
}

/* ---- Reloading ---- */

static void test_digest(void **state)
{
	struct config *config = load_text("{}");

	(void)state;
	assert_true(config->digest == UINT64_C(0x08f44b07b5901a25));
	config_free(config);
}

static const char in_force[] =
	"{\"server\":{\"listen\":\"[::1]:80\",\"max_connections\":9},\"data_dir\":\"/d\","
	"\"pools\":{\"a\":{\"threads\":2},\"b\":{}}}";

/* message NULL: it may be reloaded. */
static void reloads(const char *old_text, const char *text, const char *field, const char *message)
{
	struct config *old = load_text(old_text);
	struct config *new = load_text(text);
	struct error error = {0};
	int result = config_reload_check(old, new, &error);
	char whole[500];

	if (message == NULL) {
		assert_int_equal(result, 0);
	} else {
		(void)snprintf(whole, sizeof(whole), "%s: %s", file, message);
		assert_true(result < 0);
		assert_int_equal(error.code, ERROR_INVALID);
		assert_string_equal(error.field, field);
		assert_string_equal(error.message, whole);
	}
	config_free(old);
	config_free(new);
}

static void test_reload_allows(void **state)
{
	(void)state;
	reloads(in_force, in_force, NULL, NULL);
	reloads("{}", "{}", NULL, NULL);
	reloads(in_force,
		"{\"server\":{\"listen\":\"[::1]:80\",\"max_connections\":9,\"max_body_bytes\":5},"
		"\"data_dir\":\"/d\",\"log\":{\"level\":\"debug\"},\"retention\":{\"jobs\":1},"
		"\"default_pool\":\"c\",\"tasks\":{\"crash\":{\"enabled\":true}},"
		"\"pools\":{\"c\":{\"threads\":5},\"b\":{\"hosts\":2,\"max_hosts\":4,"
		"\"timeout_ms\":1},\"a\":{\"threads\":2,\"label_limits\":{\"x\":1}}}}",
		NULL, NULL);
}

static void test_reload_refuses(void **state)
{
	(void)state;
	reloads(in_force,
		"{\"server\":{\"listen\":\"[::1]:81\",\"max_connections\":9},\"data_dir\":\"/d\","
		"\"pools\":{\"a\":{\"threads\":2},\"b\":{}}}",
		"server.listen",
		"found the string \"[::1]:81\"; expected the string \"[::1]:80\", the value in "
		"force: a change needs a restart");
	reloads("{}", "{\"server\":{\"listen\":\"localhost:8080\"}}", "server.listen",
		"found the string \"localhost:8080\"; expected the string \"127.0.0.1:8080\", the "
		"value in force: a change needs a restart");
	reloads("{}", "{\"server\":{\"max_connections\":8}}", "server.max_connections",
		"found the integer 8; expected 4096, the value in force: a change needs a restart");
	reloads("{}", "{\"data_dir\":\"/d\"}", "data_dir",
		"found the string \"/d\"; expected nothing, the value in force: a change needs a "
		"restart");
	reloads("{\"data_dir\":\"/d\"}", "{}", "data_dir",
		"found nothing; expected the string \"/d\", the value in force: a change needs a "
		"restart");
	reloads("{\"data_dir\":\"/d\"}", "{\"data_dir\":\"/e\"}", "data_dir",
		"found the string \"/e\"; expected the string \"/d\", the value in force: a change "
		"needs a restart");
	reloads("{\"data_dir\":\"/d\"}", "{\"data_dir\":\"/d\",\"store\":{\"kind\":\"memory\"}}",
		"store.kind",
		"found the string \"memory\"; expected the string \"sqlite\", the value in force: "
		"a change needs a restart");
	reloads("{\"store\":{\"connection\":\"password=a\"}}",
		"{\"store\":{\"connection\":\"password=b\"}}", "store.connection",
		"found another connection string; expected the same, the value in force: a change "
		"needs a restart");
	reloads("{}", "{\"store\":{\"node\":\"b\"}}", "store.node",
		"found the string \"b\"; expected the string \"\", the value in force: a change "
		"needs a restart");
	reloads("{}", "{\"commands\":{\"cgroup\":\"off\"}}", "commands.cgroup",
		"found the string \"off\"; expected the string \"auto\", the value in force: a "
		"change needs a restart");
	reloads("{\"pools\":{\"a\":{},\"b\":{}}}", "{\"pools\":{\"b\":{},\"c\":{}}}", "pools.a",
		"found no such pool; expected the one in force to stay: to remove or rename a pool "
		"needs a restart");
	reloads("{\"pools\":{\"a\":{},\"b\":{}}}", "{\"pools\":{\"b\":{\"threads\":3},\"a\":{}}}",
		"pools.b.threads",
		"found the integer 3; expected 1, the value in force: a change needs a restart");
}

/* ---- The CPU quota ---- */

struct fake_file {
	const char *path;
	const char *text;
};

static bool read_fake(void *context, const char *path, char *buffer, size_t size)
{
	for (const struct fake_file *fake = context; fake->path != NULL; fake++) {
		if (strcmp(fake->path, path) == 0 && strlen(fake->text) < size) {
			(void)snprintf(buffer, size, "%s", fake->text);
			return true;
		}
	}
	return false;
}

static unsigned int limit(unsigned int cpus, struct fake_file *fakes)
{
	return cores_limit(cpus, &(struct cores_files){.read = read_fake, .context = fakes});
}

static uint64_t memory(struct fake_file *fakes)
{
	return cores_memory(&(struct cores_files){.read = read_fake, .context = fakes});
}

/* v2 before v1; the least of the way up; what means "none" in each. */
static void test_memory_limit(void **state)
{
	struct fake_file nested[] = {
		{"/proc/self/cgroup", "0::/a/b\n"},
		{"/sys/fs/cgroup/a/b/memory.max", "max\n"},
		{"/sys/fs/cgroup/a/memory.max", "536870912\n"},
		{"/sys/fs/cgroup/memory.max", "1073741824\n"},
		{NULL, NULL},
	};
	struct fake_file container[] = {
		{"/proc/self/cgroup", "0::/\n"},
		{"/sys/fs/cgroup/memory.max", "134217728\n"},
		{NULL, NULL},
	};
	struct fake_file v1[] = {
		{"/proc/self/cgroup", "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n"},
		{"/sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n"},
		{NULL, NULL},
	};
	struct fake_file unlimited[] = {
		{"/proc/self/cgroup", "5:memory:/\n0::/\n"},
		{"/sys/fs/cgroup/memory.max", "max\n"},
		{"/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"},
		{NULL, NULL},
	};
	struct fake_file nothing[] = {{NULL, NULL}};

	(void)state;
	assert_int_equal(memory(nested), 536870912);
	assert_int_equal(memory(container), 134217728);
	assert_int_equal(memory(v1), 268435456);
	assert_int_equal(memory(unlimited), 0);
	assert_int_equal(memory(nothing), 0);
}

/* A limit bounds what is held, and raises nothing. */
static void test_bounded_by_memory(void **state)
{
	struct config_pool pools[2] = {{.queue_bytes = 1000}, {.queue_bytes = 50}};
	struct config config = {.keep_bytes = 900, .pools = pools, .pool_count = 2};

	(void)state;
	config_bound(&config, 0);
	assert_int_equal(config.keep_bytes, 900);
	assert_int_equal(pools[0].queue_bytes, 1000);
	config_bound(&config, 1600);
	assert_int_equal(config.memory_bytes, 1600);
	assert_int_equal(config.keep_bytes, 200);
	assert_int_equal(pools[0].queue_bytes, 200);
	assert_int_equal(pools[1].queue_bytes, 50);
}

static void test_cores_v2(void **state)
{
	struct fake_file nested[] = {
		{"/proc/self/cgroup", "0::/a/b\n"},
		{"/sys/fs/cgroup/a/b/cpu.max", "max 100000\n"},
		{"/sys/fs/cgroup/a/cpu.max", "250000 100000\n"},
		{NULL, NULL},
	};
	struct fake_file container[] = {
		{"/proc/self/cgroup", "0::/\n"},
		{"/sys/fs/cgroup/cpu.max", "10000 100000\n"},
		{NULL, NULL},
	};
	struct fake_file outside[] = {
		{"/proc/self/cgroup", "0::/../../x"},
		{"/sys/fs/cgroup/cpu.max", "200000 100000\n"},
		{NULL, NULL},
	};

	(void)state;
	assert_int_equal(limit(8, nested), 3);
	assert_int_equal(limit(2, nested), 2);
	assert_int_equal(limit(8, container), 1);
	assert_int_equal(limit(8, outside), 2);
}

static void test_cores_v1(void **state)
{
	static const char *const lines =
		"5:cpuset:/x\n4:cpuacct,cpu:/docker/1\n1:name=systemd:/\n0::/system\nno colon\n";
	struct fake_file visible[] = {
		{"/proc/self/cgroup", lines},
		{"/sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us", "150000\n"},
		{"/sys/fs/cgroup/cpu/docker/1/cpu.cfs_period_us", "100000\n"},
		{"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"},
		{"/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"},
		{NULL, NULL},
	};
	struct fake_file only_root[] = {
		{"/proc/self/cgroup", lines},
		{"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"},
		{"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "25000\n"},
		{NULL, NULL},
	};

	(void)state;
	assert_int_equal(limit(16, visible), 2);
	assert_int_equal(limit(16, only_root), 2);
}

static void test_cores_without_a_quota(void **state)
{
	struct fake_file none[] = {{NULL, NULL}};
	struct fake_file odd[] = {
		{"/proc/self/cgroup", "::\n:\n\n0::\n9:cpu:/y"},
		{"/sys/fs/cgroup/cpu.max", "garbage"},
		{"/sys/fs/cgroup/cpu/y/cpu.cfs_quota_us", "5000"},
		{"/sys/fs/cgroup/cpu/y/cpu.cfs_period_us", "0"},
		{"/sys/fs/cgroup/cpu/cpu.cfs_quota_us", ""},
		{NULL, NULL},
	};

	(void)state;
	assert_int_equal(limit(6, none), 6);
	assert_int_equal(limit(0, none), 1);
	assert_int_equal(limit(6, odd), 6);
	assert_true(config_cores() >= 1);
	assert_true((long)config_cores() <= sysconf(_SC_NPROCESSORS_CONF));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_shipped_file_is_the_defaults),
		cmocka_unit_test(test_embedded_schema_is_the_shipped_one),
		cmocka_unit_test(test_schema_is_documented),
		cmocka_unit_test(test_schema_limits_are_the_program_s),
		cmocka_unit_test(test_examples),
		cmocka_unit_test(test_pools_replace_the_default_ones),
		cmocka_unit_test(test_pool_is_spelt_out),
		cmocka_unit_test(test_cores_and_most_hosts),
		cmocka_unit_test(test_tasks),
		cmocka_unit_test(test_file_is_wrong),
		cmocka_unit_test(test_plugins),
		cmocka_unit_test(test_plugins_are_wrong),
		cmocka_unit_test(test_settings_are_wrong),
		cmocka_unit_test(test_pools_are_wrong),
		cmocka_unit_test(test_pools_break_their_own_limits),
		cmocka_unit_test(test_label_limits),
		cmocka_unit_test(test_tasks_are_wrong),
		cmocka_unit_test(test_no_limits),
		cmocka_unit_test(test_too_many_pools),
		cmocka_unit_test(test_listen),
		cmocka_unit_test(test_data_dir),
		cmocka_unit_test(test_variables),
		cmocka_unit_test(test_variables_are_wrong),
		cmocka_unit_test(test_unknown_pool_variables),
		cmocka_unit_test(test_ambiguous_pool_variable),
		cmocka_unit_test(test_most_hosts_of_one_or_hosts_of_another),
		cmocka_unit_test(test_store),
		cmocka_unit_test(test_store_by_variables),
		cmocka_unit_test(test_store_is_wrong),
		cmocka_unit_test(test_callbacks),
		cmocka_unit_test(test_callbacks_are_wrong),
		cmocka_unit_test(test_digest),
		cmocka_unit_test(test_anonymous),
		cmocka_unit_test(test_tokens_file),
		cmocka_unit_test(test_reload_allows),
		cmocka_unit_test(test_reload_refuses),
		cmocka_unit_test(test_memory_limit),
		cmocka_unit_test(test_bounded_by_memory),
		cmocka_unit_test(test_cores_v2),
		cmocka_unit_test(test_cores_v1),
		cmocka_unit_test(test_cores_without_a_quota),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
