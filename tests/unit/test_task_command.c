/*
 * Commands: templates and what may not get through them, the declaration, scratch directories and
 * their end, files, and runs of real programs under a context of our own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/json.h"
#include "job/metering.h"
#include "task/command/command.h"
#include "task/command/files.h"
#include "task/command/sandbox.h"
#include "task/command/scratch.h"
#include "task/command/system.h"
#include "task/command/tree.h"
#include "task/context.h"

static char directory[PATH_MAX]; /* of the tests */

static json_t *parse(const char *text)
{
	struct error error = {0};
	json_t *value = NULL;

	if (json_parse(text, strlen(text), &value, &error) < 0)
		fail_msg("%s: %s", text, error.message);
	return value;
}

/* --- templates ------------------------------------------------------------------------------- */

static const char schema_text[] =
	"{\"type\": \"object\", \"required\": [\"s\", \"n\"], \"properties\": {"
	"\"s\": {\"type\": \"string\"}, \"n\": {\"type\": \"integer\"}, \"x\": {\"type\": "
	"\"number\"},"
	"\"b\": {\"type\": \"boolean\"}, \"d\": {\"type\": \"string\", \"default\": \"dd\"},"
	"\"o\": {\"type\": \"string\"}, \"either\": {\"type\": [\"string\", \"integer\"], "
	"\"default\": 1},"
	"\"list\": {\"type\": \"array\", \"items\": {\"type\": \"string\"}, \"default\": []},"
	"\"object\": {\"type\": \"object\", \"default\": {}},"
	"\"deep\": {\"type\": \"array\", \"items\": {\"type\": \"array\"}, \"default\": []},"
	"\"maybe\": {\"type\": [\"string\", \"null\"], \"default\": null},"
	"\"any\": {\"default\": 1}}}";

/* The expanded arguments, joined by "|"; or, if it is refused, "!" and why. */
static char *expand(const char *template, const char *args_text)
{
	json_t *schema = parse(schema_text);
	json_t *document = parse(template);
	json_t *args = parse(args_text);
	struct template_argv argv;
	struct strings strings = {0};
	struct error error = {0};
	struct buffer joined = {0};
	int status = template_compile_argv(document, schema, "argv", &argv, &error);

	if (status == 0) {
		status = template_expand_argv(&argv, args, &strings, &error);
		template_release_argv(&argv);
	}
	if (status != 0)
		buffer_append_format(&joined, "!%s: %s", error.field, error.message);
	for (size_t i = 0; status == 0 && i < strings.count; i++)
		buffer_append_format(&joined, "%s%s", i == 0 ? "" : "|", strings.items[i]);
	strings_release(&strings);
	json_decref(schema);
	json_decref(document);
	json_decref(args);
	buffer_append_char(&joined, '\0');
	return buffer_take(&joined, NULL);
}

static void assert_expands(const char *template, const char *args, const char *expected)
{
	char *found = expand(template, args);

	assert_string_equal(found, expected);
	free(found);
}

static void assert_refused(const char *template, const char *args, const char *fragment)
{
	char *found = expand(template, args);

	if (found[0] != '!' || strstr(found, fragment) == NULL)
		fail_msg("%s with %s: %s; expected %s", template, args, found, fragment);
	free(found);
}

static void test_placeholders(void **state)
{
	(void)state;
	assert_expands("[\"p\"]", "{}", "p");
	assert_expands("[\"\"]", "{}", "");
	assert_expands("[\"{s}\"]", "{\"s\": \"v\"}", "v");
	assert_expands("[\"{s}\"]", "{\"s\": \"\"}", "");
	assert_expands("[\"a{s}b{n}c\"]", "{\"s\": \"v\", \"n\": -7}", "avb-7c");
	assert_expands("[\"{{{s}}}\"]", "{\"s\": \"v\"}", "{v}");
	assert_expands("[\"{{s}}\"]", "{}", "{s}");
	assert_expands("[\"{d}\", \"{either}\"]", "{\"d\": \"dd\", \"either\": 3}", "dd|3");
	assert_expands("[{\"if\": \"x\", \"argv\": [\"{x}\"]}]", "{\"x\": 0.5}", "0.5");
	assert_expands("[\"{list...}\", \"end\"]", "{\"list\": [\"a\", \"b c\", \"\"]}",
		       "a|b c||end");
	assert_expands("[\"{list...}\", \"end\"]", "{\"list\": []}", "end");
}

static void test_conditions(void **state)
{
	const char *template = "[\"p\", {\"if\": \"b\", \"argv\": [\"-v\", \"--all\"]}, "
			       "{\"if\": \"o\", \"argv\": [\"--o={o}\"]}]";

	(void)state;
	assert_expands(template, "{}", "p");
	assert_expands(template, "{\"b\": false, \"o\": \"\"}", "p|--o=");
	assert_expands(template, "{\"b\": true, \"o\": \"x\"}", "p|-v|--all|--o=x");
}

static void test_templates_that_are_refused(void **state)
{
	(void)state;
	assert_refused("[\"{none}\"]", "{}",
		       "!argv[0]: found the placeholder {none}; expected a property");
	assert_refused("[\"p\", \"{o}\"]", "{}",
		       "!argv[1]: found the placeholder {o} for an argument that may");
	assert_refused("[{\"if\": \"b\", \"argv\": [\"{o}\"]}]", "{}", "may be left out");
	assert_refused("[{\"if\": \"none\", \"argv\": []}]", "{}", "{none}");
	assert_refused("[\"{object}\"]", "{}", "another type");
	assert_refused("[\"{any}\"]", "{}", "another type");
	assert_refused("[\"{maybe}\"]", "{}", "another type");
	assert_refused("[\"{list}\"]", "{}", "another type");
	assert_refused("[\"{s...}\"]", "{}", "an array whose items");
	assert_refused("[\"{deep...}\"]", "{}", "an array whose items");
	assert_refused("[\"x{list...}\"]", "{}", "on its own");
	assert_refused("[\"{s\"]", "{}", "a brace written twice");
	assert_refused("[\"s}\"]", "{}", "a brace written twice");
	assert_refused("[\"{}\"]", "{}", "a brace written twice");
	assert_refused("[\"{a{s}}\"]", "{}", "a brace written twice");
	assert_refused("[1]", "{}", "expected a string");
	assert_refused("[{\"argv\": [{\"argv\": []}]}]", "{}", "expected a string");
	assert_refused("[{\"if\": \"b\"}]", "{}", "no member \"argv\"");
	assert_refused("[{\"argv\": [], \"shell\": true}]", "{}", "the member \"shell\"");
}

static void test_no_argument_becomes_an_option(void **state)
{
	(void)state;
	assert_refused("[\"{s}\"]", "{\"s\": \"-rf\"}", "!args.s: found a text that starts with");
	assert_refused("[\"{s}\"]", "{\"s\": \"-\"}", "starts with");
	assert_refused("[\"{s}\"]", "{\"s\": \"--\"}", "starts with");
	assert_refused("[\"{n}\"]", "{\"n\": -1}", "!args.n");
	assert_refused("[\"{s}{n}\"]", "{\"s\": \"\", \"n\": -1}", "starts with");
	assert_refused("[\"{s}x\"]", "{\"s\": \"-o\"}", "starts with");
	assert_refused("[\"{list...}\"]", "{\"list\": [\"a\", \"-b\"]}", "!args.list");
	assert_refused("[{\"if\": \"o\", \"argv\": [\"{o}\"]}]", "{\"o\": \"-x\"}", "!args.o");
	/* A "--" that may be left out says nothing for what comes after. */
	assert_refused("[{\"if\": \"b\", \"argv\": [\"--\"]}, \"{s}\"]",
		       "{\"s\": \"-x\", \"b\": true}", "starts with");
	/* Nor one that an argument has made. */
	assert_refused("[\"{d}\", \"{s}\"]", "{\"d\": \"--\", \"s\": \"-x\"}", "!args.d");
	assert_expands("[\"--o={s}\", \"x{s}\"]", "{\"s\": \"-x\"}", "--o=-x|x-x");
	assert_expands("[\"--\", \"{s}\"]", "{\"s\": \"-x\"}", "--|-x");
	assert_expands("[\"--\", {\"if\": \"o\", \"argv\": [\"{o}\"]}]", "{\"o\": \"-x\"}",
		       "--|-x");
	assert_expands("[{\"if\": \"o\", \"argv\": [\"--\", \"{o}\"]}]", "{\"o\": \"-x\"}",
		       "--|-x");
	assert_expands("[{\"argv\": [\"{s}\"], \"allow_dash\": true}]", "{\"s\": \"-x\"}", "-x");
}

static void test_what_no_argument_can_hold(void **state)
{
	json_t *schema = parse(schema_text);
	json_t *document = parse("[\"{s}\"]");
	json_t *args = json_pack("{s:o}", "s", json_stringn("a\0-b", 4));
	char *large = calloc(1, 131073);
	struct template_argv argv;
	struct strings strings = {0};
	struct error error = {0};

	(void)state;
	assert_int_equal(template_compile_argv(document, schema, "argv", &argv, &error), 0);
	assert_true(template_expand_argv(&argv, args, &strings, &error) < 0);
	assert_string_equal(error.message, "found a NUL; expected text without");
	memset(large, 'x', 131072);
	json_object_set_new(args, "s", json_string(large));
	assert_true(template_expand_argv(&argv, args, &strings, &error) < 0);
	assert_non_null(strstr(error.message, "131071 bytes"));
	large[131071] = '\0';
	json_object_set_new(args, "s", json_string(large));
	assert_int_equal(template_expand_argv(&argv, args, &strings, &error), 0);
	template_release_argv(&argv);
	strings_release(&strings);
	json_decref(schema);
	json_decref(document);
	json_decref(args);
	free(large);
}

/* --- scratch directories --------------------------------------------------------------------- */

static size_t count_entries(const char *path)
{
	DIR *entries = opendir(path);
	size_t count = 0;

	assert_non_null(entries);
	while (readdir(entries) != NULL)
		count++;
	closedir(entries);
	return count - 2;
}

static void open_scratch(const char *name, char path[static PATH_MAX])
{
	snprintf(path, PATH_MAX, "%.3000s/%s", directory, name);
	assert_int_equal(scratch_open(path, false), 0);
}

static void make_file(int at, const char *name)
{
	int fd = openat(at, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
}

/* A tree deeper than any path may be long. */
static void make_deep(int at, int depth)
{
	int here = dup(at);

	for (int i = 0; i < depth; i++) {
		assert_int_equal(mkdirat(here, "directory-with-a-long-name", 0700), 0);
		make_file(here, "file");
		int next = openat(here, "directory-with-a-long-name", O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(here);
		here = next;
	}
	close(here);
}

static void test_scratch_is_removed_whole(void **state)
{
	char path[PATH_MAX];
	char outside[PATH_MAX];
	struct scratch scratch;
	struct stat status;

	(void)state;
	open_scratch("removed", path);
	snprintf(outside, sizeof(outside), "%.3000s/outside", directory);
	assert_int_equal(mkdir(outside, 0700), 0);
	int outside_fd = open(outside, O_DIRECTORY | O_CLOEXEC);
	make_file(outside_fd, "kept");
	assert_int_equal(scratch_make((uid_t)-1, (gid_t)-1, &scratch), 0);
	assert_int_equal(fstat(scratch.directory, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	make_deep(scratch.directory, 400);
	assert_int_equal(symlinkat(outside, scratch.directory, "link"), 0);
	assert_int_equal(symlinkat("/etc/passwd", scratch.directory, "file-link"), 0);
	assert_int_equal(mkfifoat(scratch.directory, "pipe", 0600), 0);
	assert_int_equal(mkdirat(scratch.directory, "closed", 0700), 0);
	assert_int_equal(mkdirat(scratch.directory, "closed/inner", 0700), 0);
	assert_int_equal(fchmodat(scratch.directory, "closed/inner", 0, 0), 0);
	assert_int_equal(fchmodat(scratch.directory, "closed", 0, 0), 0);
	assert_int_equal(mkdirat(scratch.directory, "twinpool-moved-0", 0700), 0);
	assert_int_equal(scratch_remove(&scratch), 0);
	assert_int_equal(count_entries(path), 0);
	assert_int_equal(count_entries(outside), 1);
	close(outside_fd);
	scratch_close();
}

static void test_scratch_of_the_dead_is_swept(void **state)
{
	char path[PATH_MAX];
	char name[200];
	struct scratch own;
	struct stat status;

	(void)state;
	open_scratch("swept", path);
	int base = open(path, O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(scratch_make((uid_t)-1, (gid_t)-1, &own), 0);
	assert_int_equal(stat("/proc/self/ns/pid", &status), 0);
	/* Ours by its pid, but of a process that had it before; and one of a dead process. */
	snprintf(name, sizeof(name), "%llu.%d.1.0", (unsigned long long)status.st_ino, getpid());
	assert_int_equal(mkdirat(base, name, 0700), 0);
	snprintf(name, sizeof(name), "%llu.%d.1.0", (unsigned long long)status.st_ino, INT_MAX);
	assert_int_equal(mkdirat(base, name, 0700), 0);
	/* What is not known to be dead, and what is no scratch directory. */
	assert_int_equal(mkdirat(base, "77.1.1.0", 0700), 0);
	assert_int_equal(mkdirat(base, "something", 0700), 0);
	scratch_close();
	assert_int_equal(scratch_open(path, false), 0);
	assert_int_equal(count_entries(path), 3);
	scratch_close();
	assert_int_equal(scratch_open(path, true), 0);
	assert_int_equal(count_entries(path), 2);
	assert_int_equal(scratch_remove(&own), 0);
	scratch_close();
	close(base);
}

static void test_scratch_that_others_can_write_to_is_refused(void **state)
{
	char path[PATH_MAX];
	char link[PATH_MAX];

	(void)state;
	snprintf(path, sizeof(path), "%.3000s/open", directory);
	snprintf(link, sizeof(link), "%.3000s/link", directory);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(symlink(path, link), 0);
	assert_true(scratch_open(link, false) < 0);
	assert_int_equal(chmod(path, 0777), 0);
	assert_int_equal(scratch_open(path, false), -EPERM);
}

/* --- paths ----------------------------------------------------------------------------------- */

static void test_beneath(void **state)
{
	char path[PATH_MAX];

	(void)state;
	snprintf(path, sizeof(path), "%.3000s/root", directory);
	assert_int_equal(mkdir(path, 0700), 0);
	int root = open(path, O_DIRECTORY | O_CLOEXEC);
	make_file(root, "file");
	assert_int_equal(symlinkat("/etc/passwd", root, "out"), 0);
	assert_int_equal(symlinkat("..", root, "up"), 0);
	int fd = beneath_open(root, "file", O_RDONLY, 0);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(beneath_open(root, "/etc/passwd", O_RDONLY, 0), -EXDEV);
	assert_int_equal(beneath_open(root, "../x", O_RDONLY, 0), -EXDEV);
	assert_true(beneath_open(root, "out", O_RDONLY, 0) < 0);
	assert_true(beneath_open(root, "up/x", O_RDONLY | O_CREAT, 0600) < 0);
	close(root);
}

static void test_base64(void **state)
{
	struct buffer bytes = {0};

	(void)state;
	assert_int_equal(files_decode("aGVs bG8=\n", 10, &bytes), 0);
	assert_int_equal(bytes.length, 5);
	assert_memory_equal(bytes.data, "hello", 5);
	buffer_clear(&bytes);
	assert_int_equal(files_decode("", 0, &bytes), 0);
	assert_int_equal(bytes.length, 0);
	assert_int_equal(files_decode("a", 1, &bytes), -EINVAL);
	assert_int_equal(files_decode("####", 4, &bytes), -EINVAL);
	assert_int_equal(files_decode("aGVsbG8", 7, &bytes), -EINVAL);
	buffer_release(&bytes);
}

/* --- runs ------------------------------------------------------------------------------------ */

struct outcome {
	int status;
	bool stopped;
	json_t *result;
	char failure[1024];
	char output[2][4096];
	size_t length[2];
	struct context_children children;
	int64_t memory_seen;
};

static _Atomic uint32_t stop;
static bool stop_at_output;

static int keep_output(struct tp_context *ctx, enum tp_stream stream, const void *data,
		       size_t length)
{
	struct outcome *outcome = ctx->host_data;
	int which = stream == TP_STDOUT ? 0 : 1;
	size_t room = sizeof(outcome->output[0]) - 1 - outcome->length[which];
	size_t kept = length < room ? length : room;

	memcpy(outcome->output[which] + outcome->length[which], data, kept);
	outcome->length[which] += kept;
	if (stop_at_output)
		stop = 1;
	return 0;
}

static struct config config;
static struct config_task settings = {.enabled = -1};

/* Runs a command that is declared by spec, with these arguments. */
static void run(const char *spec, const char *schema, const char *args_text, bool alone,
		int64_t memory_limit, struct outcome *ret_outcome)
{
	char name[] = "command";
	char here[] = "/";
	char *spec_copy = strdup(spec);
	char *schema_copy = strdup(schema);
	struct tp_task declared = {.name = name};
	struct task task = {.definition = &declared, .declared = &declared};
	struct outcome outcome = {0};
	_Atomic int64_t memory_seen = 0;
	struct error error = {0};
	json_t *args = parse(args_text);

	stop = 0;
	settings.name = name;
	settings.spec = spec_copy;
	settings.args_schema = schema_copy;
	settings.directory = here;
	if (command_kind.build(&config, &settings, &task, &error) != 0)
		fail_msg("%s: %s", error.field, error.message);
	struct tp_context ctx = {.task = &task,
				 .pool = "pool",
				 .is_process = alone,
				 .stop = &stop,
				 .write = keep_output,
				 .host_data = &outcome,
				 .memory_limit = memory_limit,
				 .memory_seen = &memory_seen};
	outcome.status = declared.run(&ctx, args);
	outcome.stopped = ctx.stopped;
	outcome.result = json_incref(ctx.result);
	memcpy(outcome.failure, ctx.failure, sizeof(outcome.failure));
	outcome.children = ctx.children;
	outcome.memory_seen = memory_seen;
	context_release(&ctx);
	command_kind.release(&task);
	json_decref(args);
	free(spec_copy);
	free(schema_copy);
	*ret_outcome = outcome;
}

#define NO_ARGS	    "{\"type\": \"object\"}"
#define SHELL(text) "{\"argv\": [\"sh\", \"-c\", \"" text "\"]}"

static void test_run_tells_all(void **state)
{
	struct outcome outcome;

	for (int alone = 0; alone < 2; alone++) {
		(void)state;
		run(SHELL("pwd; echo second >&2; cat; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); "
			  "done"),
		    NO_ARGS, "{}", alone, 0, &outcome);
		assert_int_equal(outcome.status, 0);
		assert_int_equal(json_integer_value(json_object_get(outcome.result, "exit_status")),
				 0);
		assert_non_null(strstr(outcome.output[0], "/runs/"));
		assert_string_equal(outcome.output[1], "second\n");
		assert_true(outcome.children.any);
		assert_true(outcome.children.cpu_user_ns + outcome.children.cpu_system_ns >
			    10000000);
		assert_true(outcome.children.peak_bytes > 500000);
		json_decref(outcome.result);
	}
}

static void test_run_fails_with_its_last_words(void **state)
{
	struct outcome outcome;

	(void)state;
	run(SHELL("echo first >&2; echo last words >&2; exit 3"), NO_ARGS, "{}", true, 0, &outcome);
	assert_int_not_equal(outcome.status, 0);
	assert_string_equal(outcome.failure, "exit status 3: last words");
	run(SHELL("kill -SEGV $$"), NO_ARGS, "{}", true, 0, &outcome);
	assert_string_equal(outcome.failure, "ended by the signal SIGSEGV");
	run("{\"argv\": [\"sh\", \"-c\", \"exit 3\"], \"exit\": {\"3\": \"succeeded\", \"0\": "
	    "\"failed\"}}",
	    NO_ARGS, "{}", true, 0, &outcome);
	assert_int_equal(outcome.status, 0);
	assert_int_equal(json_integer_value(json_object_get(outcome.result, "exit_status")), 3);
	json_decref(outcome.result);
	run("{\"argv\": [\"true\"], \"exit\": {\"0\": \"failed\"}}", NO_ARGS, "{}", true, 0,
	    &outcome);
	assert_string_equal(outcome.failure, "exit status 0");
}

static void test_run_has_nothing_but_its_own(void **state)
{
	struct outcome outcome;

	(void)state;
	assert_int_equal(setenv("TEST_COMMAND", "inherited", 1), 0);
	run("{\"argv\": [\"/usr/bin/env\"]}", NO_ARGS, "{}", true, 0, &outcome);
	assert_memory_equal(outcome.output[0], "TWINPOOL_RUN=", 13);
	assert_int_equal(outcome.length[0], 13 + 32 + 1);
	json_decref(outcome.result);
	run("{\"argv\": [\"/usr/bin/env\"], \"environment\": {\"inherit\": [\"TEST_COMMAND\", "
	    "\"TEST_NOT_THERE\"], \"set\": {\"A\": \"{v}=\"}}}",
	    "{\"properties\": {\"v\": {\"type\": \"string\", \"default\": \"\"}}}",
	    "{\"v\": \"x\\ny\"}", true, 0, &outcome);
	assert_non_null(strstr(outcome.output[0], "\nTEST_COMMAND=inherited\nA=x\ny=\n"));
	json_decref(outcome.result);
	run(SHELL("ls /proc/self/fd; grep -E '^(SigBlk|SigIgn|NoNewPrivs)' /proc/self/status"),
	    NO_ARGS, "{}", false, 0, &outcome);
	/* 3 is the directory that ls reads. */
	assert_string_equal(outcome.output[0], "0\n1\n2\n3\nSigBlk:\t0000000000000000\n"
					       "SigIgn:\t0000000000000000\nNoNewPrivs:\t1\n");
	json_decref(outcome.result);
}

static void test_run_takes_its_result_from_stdout(void **state)
{
	struct outcome outcome;

	(void)state;
	run("{\"argv\": [\"cat\"], \"stdin\": \"[{n}, \\\"{s}\\\"]\", \"result\": \"json\"}",
	    schema_text, "{\"n\": 4, \"s\": \"x\"}", true, 0, &outcome);
	assert_int_equal(outcome.status, 0);
	assert_int_equal(json_integer_value(json_array_get(outcome.result, 0)), 4);
	json_decref(outcome.result);
	run("{\"argv\": [\"cat\"], \"stdin\": \"{s}\", \"result\": \"json\"}", schema_text,
	    "{\"s\": \"no JSON\"}", true, 0, &outcome);
	assert_non_null(strstr(outcome.failure, "is no JSON: line 1"));
	run("{\"argv\": [\"cat\"], \"stdin\": {\"base64\": \"s\"}, \"result\": \"text\"}",
	    schema_text, "{\"s\": \"aGVsbG8=\"}", true, 0, &outcome);
	assert_string_equal(json_string_value(outcome.result), "hello");
	json_decref(outcome.result);
	run("{\"argv\": [\"cat\"], \"stdin\": {\"base64\": \"s\"}, \"result\": \"text\"}",
	    schema_text, "{\"s\": \"/w==\"}", true, 0, &outcome);
	assert_non_null(strstr(outcome.failure, "no UTF-8"));
}

static void test_run_stops(void **state)
{
	struct outcome outcome;

	(void)state;
	stop_at_output = true;
	run("{\"argv\": [\"sh\", \"-c\", \"echo on; (setsid sleep 1000 &); sleep 1000\"]}", NO_ARGS,
	    "{}", false, 0, &outcome);
	assert_true(outcome.stopped);
	run("{\"argv\": [\"sh\", \"-c\", \"trap 'echo bye; exit 0' TERM; echo on; while :; do "
	    "sleep 0.01; "
	    "done\"]}",
	    NO_ARGS, "{}", true, 0, &outcome);
	assert_false(outcome.stopped);
	assert_int_equal(outcome.status, 0);
	assert_string_equal(outcome.output[0], "on\nbye\n");
	json_decref(outcome.result);
	run("{\"argv\": [\"sh\", \"-c\", \"trap '' TERM; echo on; sleep 1000\"], "
	    "\"stop_grace_ms\": 50}",
	    NO_ARGS, "{}", false, 0, &outcome);
	assert_true(outcome.stopped);
	stop_at_output = false;
}

static void test_run_keeps_its_memory_limit(void **state)
{
	struct outcome outcome;
	const int64_t limit = 20 << 20;

	for (int alone = 0; alone < 2; alone++) {
		(void)state;
		/* tail keeps the only line that there is. */
		run(SHELL("head -c 60000000 /dev/zero | tail -n 1 | wc -c"), NO_ARGS, "{}", alone,
		    limit, &outcome);
		assert_true(outcome.memory_seen > limit);
		assert_int_not_equal(outcome.status, 0);
		run(SHELL("head -c 1000000 /dev/zero | tail -n 1 | wc -c"), NO_ARGS, "{}", alone,
		    limit, &outcome);
		assert_int_equal(outcome.memory_seen, 0);
		assert_int_equal(outcome.status, 0);
		json_decref(outcome.result);
	}
}

static void test_files_that_are_no_plain_files(void **state)
{
	static const char *const made[] = {
		"ln -s /etc/passwd made",	 "mkfifo made", "mkdir made",
		"echo x > other; ln other made", "true",	"head -c 2000000 /dev/zero > made"};
	struct outcome outcome;
	char spec[400];

	(void)state;
	for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++) {
		snprintf(spec, sizeof(spec),
			 "{\"argv\": [\"sh\", \"-c\", \"%s\"], \"files\": {\"out\": {\"made\": "
			 "{}}}}",
			 made[i]);
		run(spec, NO_ARGS, "{}", true, 0, &outcome);
		assert_int_not_equal(outcome.status, 0);
		assert_memory_equal(outcome.failure, "made: the command", 17);
	}
}

static void test_run_leaves_no_scratch(void **state)
{
	(void)state;
	assert_int_equal(count_entries(scratch_open_base()), 0);
}

/* --- declarations ---------------------------------------------------------------------------- */

static void assert_declaration_refused(const char *spec, const char *field, const char *fragment)
{
	char *spec_copy = strdup(spec);
	char *schema_copy = strdup(schema_text);
	char here[] = "/etc";
	struct config_task task = {
		.spec = spec_copy, .args_schema = schema_copy, .directory = here};
	struct command *command = NULL;
	struct error error = {0};

	if (command_read(&task, &command, &error) == 0)
		fail_msg("accepted: %s", spec);
	if (strcmp(error.field, field) != 0 || strstr(error.message, fragment) == NULL)
		fail_msg("%s: %s: %s", spec, error.field, error.message);
	free(spec_copy);
	free(schema_copy);
}

static void test_declarations_that_are_refused(void **state)
{
	(void)state;
	assert_declaration_refused("{\"argv\": [\"/no/such\"]}", "command.argv[0]",
				   "\"/no/such\" (No such file");
	assert_declaration_refused("{\"argv\": [\"./passwd\"]}", "command.argv[0]",
				   "\"/etc/./passwd\" (Permission denied)");
	assert_declaration_refused("{\"argv\": [\"/etc\"]}", "command.argv[0]", "Is a directory");
	assert_declaration_refused("{\"argv\": [\"no-such\"], \"path\": [\"/bin\", \"/etc\"]}",
				   "command.argv[0]", "in none of the directories /bin, /etc");
	assert_declaration_refused("{\"argv\": [\"{s}\"]}", "command.argv[0]",
				   "without placeholders");
	assert_declaration_refused("{\"argv\": [{\"argv\": []}]}", "command.argv[0]",
				   "no name of a program");
	assert_declaration_refused("{\"argv\": [\"true\", \"{o}\"]}", "command.argv[1]",
				   "may be left out");
	assert_declaration_refused("{\"argv\": [\"true\"], \"stdin\": \"{o}\"}", "command.stdin",
				   "may be left out");
	assert_declaration_refused("{\"argv\": [\"true\"], \"stdin\": {\"base64\": \"n\"}}",
				   "command.stdin.base64", "a string");
	assert_declaration_refused(
		"{\"argv\": [\"true\"], \"environment\": {\"set\": {\"A=B\": \"\"}}}",
		"command.environment.set.A=B", "without \"=\"");
	assert_declaration_refused(
		"{\"argv\": [\"true\"], \"files\": {\"in\": {\"s\": {\"as\": \"../x\"}}}}",
		"command.files.in.s", "without directories");
	assert_declaration_refused("{\"argv\": [\"true\"], \"files\": {\"in\": {\"none\": {}}}}",
				   "command.files.in.none", "the name of a property");
	assert_declaration_refused(
		"{\"argv\": [\"true\"], \"files\": {\"in\": {\"s\": {\"as\": \"x\"}, "
		"\"d\": {\"as\": \"x\"}}}}",
		"command.files.in.d", "a second file");
	assert_declaration_refused(
		"{\"argv\": [\"true\"], \"files\": {\"out\": {\"x\": {\"root\": \"/tmp\"}}}}",
		"command.files.out.x", "both or none");
	assert_declaration_refused(
		"{\"argv\": [\"true\"], \"files\": {\"out\": {\"x\": {\"root\": \"/no/such\", "
		"\"to\": \"y\"}}}}",
		"command.files.out.x", "existing directory");
	assert_declaration_refused(
		"{\"argv\": [\"true\"], \"result\": \"json\", \"files\": {\"out\": {\"x\": {}}}}",
		"command.files.out", "\"result\": \"status\"");
	assert_declaration_refused("{\"argv\": [\"true\"], \"exit\": {\"256\": \"failed\"}}",
				   "command.exit", "from 0 to 255");
	assert_declaration_refused("{\"argv\": [\"true\"], \"uid\": 7}", "command.gid",
				   "expected both");
}

static void test_sandbox_arguments(void **state)
{
	struct strings argv = {0};

	(void)state;
	assert_int_equal(sandbox_arguments("/bwrap", "/s", "/s/1", "/bin/true", &argv), 0);
	assert_string_equal(argv.items[0], "/bwrap");
	assert_string_equal(argv.items[argv.count - 2], "--");
	assert_string_equal(argv.items[argv.count - 1], "/bin/true");
	assert_null(argv.items[argv.count]);
	strings_release(&argv);
	if (system_capabilities()->bubblewrap_usable)
		assert_string_equal(system_capabilities()->bubblewrap_reason, "");
	else
		assert_string_not_equal(system_capabilities()->bubblewrap_reason, "");
}

static int set_up(void **state)
{
	(void)state;
	snprintf(directory, sizeof(directory), "/tmp/twinpool-unit-XXXXXX");
	return mkdtemp(directory) == NULL || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0;
}

static int tear_down(void **state)
{
	(void)state;
	return scratch_remove_at(AT_FDCWD, directory);
}

static int open_runs(void **state)
{
	char path[PATH_MAX];

	(void)state;
	open_scratch("runs", path);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_placeholders),
		cmocka_unit_test(test_conditions),
		cmocka_unit_test(test_templates_that_are_refused),
		cmocka_unit_test(test_no_argument_becomes_an_option),
		cmocka_unit_test(test_what_no_argument_can_hold),
		cmocka_unit_test(test_scratch_is_removed_whole),
		cmocka_unit_test(test_scratch_of_the_dead_is_swept),
		cmocka_unit_test(test_scratch_that_others_can_write_to_is_refused),
		cmocka_unit_test(test_beneath),
		cmocka_unit_test(test_base64),
		cmocka_unit_test(test_declarations_that_are_refused),
		cmocka_unit_test(test_sandbox_arguments),
		cmocka_unit_test_setup(test_run_tells_all, open_runs),
		cmocka_unit_test(test_run_fails_with_its_last_words),
		cmocka_unit_test(test_run_has_nothing_but_its_own),
		cmocka_unit_test(test_run_takes_its_result_from_stdout),
		cmocka_unit_test(test_run_stops),
		cmocka_unit_test(test_run_keeps_its_memory_limit),
		cmocka_unit_test(test_files_that_are_no_plain_files),
		cmocka_unit_test(test_run_leaves_no_scratch),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
