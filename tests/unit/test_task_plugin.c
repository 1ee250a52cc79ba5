/* What the trial of plug-ins has found becomes tasks, or problems: src/task/plugin.c, registry.c.
 * */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "task/plugin.h"
#include "task/registry.h"

#define TASK(name)                                                                                 \
	"{\"name\":\"" name "\",\"description\":\"d\",\"args_schema\":\"{\\\"type\\\":"            \
	"\\\"object\\\"}\",\"flags\":1}"
#define PLUGIN(tasks) "{\"plugin\":{\"name\":\"n\",\"version\":\"1\",\"tasks\":[" tasks "]}}"

static char path[] = "/a.so";
static char other_path[] = "/b.so";
static char no_settings[] = "{}";
static char settings[] = "{\"x.one\":{\"level\":\"9\"}}";
static struct config_plugin plugins[2] = {{.path = path, .settings = settings},
					  {.path = other_path, .settings = no_settings}};
static struct config config = {.plugins = plugins, .plugin_count = 2};

static struct registry build(const char *found)
{
	struct registry registry = {0};
	struct error error = {0};
	size_t length = found != NULL ? strlen(found) : 0;
	assert_int_equal(registry_build_with_plugins(&config, found, length, &registry, &error), 0);
	return registry;
}

static void test_tasks_are_taken(void **state)
{
	(void)state;
	struct registry registry =
		build("[" PLUGIN(TASK("x.one") "," TASK("two")) "," PLUGIN(TASK("three")) "]");
	assert_int_equal(registry.problem_count, 0);
	const struct task *task = registry_find(&registry, "x.one");
	assert_non_null(task);
	assert_string_equal(task->kind, "plugin");
	assert_true(task->enabled);
	assert_int_equal(task->definition->flags, TP_TASK_THREAD_SAFE);
	assert_ptr_equal(task->plugin, &registry.plugins[0]);
	assert_string_equal(plugin_setting(task->plugin, "x.one", "level"), "9");
	assert_null(plugin_setting(task->plugin, "x.one", "other"));
	assert_null(plugin_setting(task->plugin, "two", "level"));
	assert_non_null(registry_find(&registry, "three"));
	assert_non_null(registry_find(&registry, "echo"));
	for (uint32_t i = 0; i < registry.count; i++) {
		assert_int_equal(registry.tasks[i].index, i);
	}
	registry_release(&registry);
	assert_null(registry.tasks);
}

/* The second plug-in is well and must stay; the first is left out, whole, and the reason has this.
 * */
static void assert_left_out(const char *first, const char *reason)
{
	struct buffer found = {0};
	buffer_append_format(&found, "[%s," PLUGIN(TASK("three")) "]", first);
	buffer_append_char(&found, '\0');
	struct registry registry = build(found.data);
	assert_int_equal(registry.problem_count, 1);
	assert_non_null(strstr(registry.problems[0], "/a.so was left out"));
	if (strstr(registry.problems[0], reason) == NULL) {
		fail_msg("\"%s\" has no \"%s\"", registry.problems[0], reason);
	}
	assert_null(registry_find(&registry, "x.one"));
	assert_non_null(registry_find(&registry, "three"));
	registry_release(&registry);
	buffer_release(&found);
}

static void test_problems_of_one(void **state)
{
	(void)state;
	assert_left_out("{\"problem\":\"it is broken\"}", "it is broken");
	assert_left_out("{}", "could not be tried");
	assert_left_out("null", "could not be tried");
	assert_left_out("{\"plugin\":7}", "not described");
	assert_left_out("{\"plugin\":{\"name\":\"n\",\"version\":\"1\",\"tasks\":{}}}",
			"not described");
	assert_left_out("{\"plugin\":{\"name\":\"\",\"version\":\"1\",\"tasks\":[]}}", "named so");
	assert_left_out(PLUGIN(""), "0 tasks");
	assert_left_out(PLUGIN("7"), "not described");
	assert_left_out(PLUGIN(TASK("x.one") "," TASK("Upper")), "Upper");
	assert_left_out(PLUGIN(TASK("x.one") "," TASK("echo")), "there already");
	assert_left_out(PLUGIN(TASK("x.one") "," TASK("x.one")), "there already");
	assert_left_out(PLUGIN(TASK("two")), "x.one");
	assert_left_out(PLUGIN("{\"name\":\"x.one\",\"description\":\"\",\"args_schema\":\"{\","
			       "\"flags\":0}"),
			"args_schema");
	assert_left_out(PLUGIN("{\"name\":\"x.one\",\"description\":\"\",\"args_schema\":"
			       "\"{\\\"pattern\\\":1}\",\"flags\":0}"),
			"pattern");
	assert_left_out(PLUGIN("{\"name\":\"x.one\",\"description\":\"\",\"args_schema\":\"{}\","
			       "\"flags\":4}"),
			"flags");
	assert_left_out(PLUGIN("{\"name\":\"x.one\",\"description\":\"\",\"args_schema\":\"{}\","
			       "\"flags\":-1}"),
			"flags");
}

static void test_nothing_was_found(void **state)
{
	(void)state;
	static const char *const texts[] = {NULL, "", "[", "{}", "[]", "[null,null]", "\"\xFF\""};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct registry registry = build(texts[i]);
		assert_int_equal(registry.problem_count, 2);
		assert_non_null(registry_find(&registry, "echo"));
		registry_release(&registry);
	}
}

static void test_names_of_settings(void **state)
{
	(void)state;
	char name[] = "x.one";
	struct config_task task = {.name = name, .enabled = 0};
	struct error error = {0};
	struct registry registry;
	config.tasks = &task;
	config.task_count = 1;
	registry = build("[" PLUGIN(TASK("x.one")) "," PLUGIN(TASK("three")) "]");
	assert_int_equal(registry.problem_count, 0);
	assert_false(registry_find(&registry, "x.one")->enabled);
	registry_release(&registry);
	/* It may be of what was left out. */
	registry = build("[{\"problem\":\"p\"}," PLUGIN(TASK("three")) "]");
	assert_int_equal(registry.problem_count, 2);
	assert_non_null(strstr(registry.problems[1], "tasks.x.one"));
	registry_release(&registry);
	/* It can be of nobody. */
	config.plugin_count = 0;
	assert_int_not_equal(registry_build(&config, &registry, &error), 0);
	assert_string_equal(error.field, "tasks.x.one");
	config.plugin_count = 2;
	config.tasks = NULL;
	config.task_count = 0;
}

static void test_what_cannot_be_loaded(void **state)
{
	(void)state;
	struct plugin plugin;
	struct error error = {0};
	assert_int_equal(plugin_init(&plugins[0], &plugin, &error), 0);
	assert_true(plugin_load(&plugin, &error) < 0);
	assert_non_null(strstr(error.message, "/a.so"));
	assert_null(plugin.loaded);
	plugin_release(&plugin);
}

static int seed(void **state)
{
	(void)state;
	json_object_seed(0);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tasks_are_taken),
		cmocka_unit_test(test_problems_of_one),
		cmocka_unit_test(test_nothing_was_found),
		cmocka_unit_test(test_names_of_settings),
		cmocka_unit_test(test_what_cannot_be_loaded),
	};
	return cmocka_run_group_tests_name("task_plugin", tests, seed, NULL);
}
