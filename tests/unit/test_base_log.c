/*
 * The log, as a reader of the pipe behind stderr sees it, with the errors and the clock.
 *
 * The pipe is in packet mode (O_DIRECT, pipe(7)): one read answers what one write wrote, so a line
 * that left in two writes would be seen.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "random.h"

static struct {
	int pipe[2];
	int stderr_kept;
	char line[2 * LOG_LINE_MAX];
	size_t length;
} capture;

static void capture_begin(void)
{
	assert_int_equal(pipe2(capture.pipe, O_CLOEXEC | O_DIRECT | O_NONBLOCK), 0);
	capture.stderr_kept = dup(STDERR_FILENO);
	assert_true(capture.stderr_kept >= 0);
	assert_true(dup2(capture.pipe[1], STDERR_FILENO) >= 0);
}

/* Answers the line that was logged since capture_begin(), with its newline; "" if there was none.
 */
static const char *capture_end(void)
{
	char more;

	assert_true(dup2(capture.stderr_kept, STDERR_FILENO) >= 0);
	close(capture.stderr_kept);
	close(capture.pipe[1]);
	ssize_t got = read(capture.pipe[0], capture.line, sizeof(capture.line) - 1);
	capture.length = got > 0 ? (size_t)got : 0;
	capture.line[capture.length] = '\0';
	assert_int_equal(read(capture.pipe[0], &more, 1), 0);
	close(capture.pipe[0]);
	return capture.line;
}

/* Every promise that holds for whatever is logged. */
static void assert_one_line(void)
{
	assert_true(capture.length > 0);
	assert_true(capture.length <= LOG_LINE_MAX);
	assert_int_equal(strlen(capture.line), capture.length);
	assert_int_equal(capture.line[capture.length - 1], '\n');
	for (size_t i = 0; i + 1 < capture.length; i++) {
		unsigned char c = (unsigned char)capture.line[i];

		assert_true(c >= 0x20 && c != 0x7f);
		/* U+0080 to U+009F, such as the one-byte CSI of terminals */
		if (c == 0xc2)
			assert_true((unsigned char)capture.line[i + 1] >= 0xa0);
	}
}

static json_t *parse_line(void)
{
	json_error_t error;

	assert_one_line();
	assert_true(json_is_wellformed(capture.line, capture.length));
	json_t *line = json_loadb(capture.line, capture.length, JSON_REJECT_DUPLICATES, &error);
	assert_non_null(line);
	return line;
}

static const char *text_of(const json_t *line, const char *key)
{
	const char *text = json_string_value(json_object_get(line, key));

	assert_non_null(text);
	return text;
}

static void test_json_line(void **state)
{
	(void)state;
	log_init(LOG_LEVEL_DEBUG, LOG_FORMAT_JSON, "server");
	int64_t before = clock_realtime_ns();
	capture_begin();
	log_info("host_up", log_str("pool", "process"), log_int("pid", INT64_MIN),
		 log_uint("bytes", UINT64_MAX), log_float("share", 0.25), log_bool("first", 1),
		 log_str("left_out", NULL), log_float("unknown", (double)NAN));
	capture_end();
	int64_t after = clock_realtime_ns();

	char from[CLOCK_RFC3339_SIZE], to[CLOCK_RFC3339_SIZE];
	const char *time = capture.line + strlen("{\"time\":\"");
	assert_memory_equal(capture.line, "{\"time\":\"", 9);
	assert_true(strncmp(time, clock_rfc3339(before, from), 27) >= 0);
	assert_true(strncmp(time, clock_rfc3339(after, to), 27) <= 0);
	assert_string_equal(time + 27,
			    "\",\"level\":\"info\",\"event\":\"host_up\",\"process\":\"server\","
			    "\"pool\":\"process\",\"pid\":-9223372036854775808,"
			    "\"bytes\":18446744073709551615,\"share\":0.25,\"first\":true,"
			    "\"unknown\":null}\n");
}

static void test_text_line(void **state)
{
	(void)state;
	log_init(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT, "server");
	capture_begin();
	log_info("host_up", log_str("pool", "process"), log_int("pid", 4711));
	capture_end();
	assert_one_line();
	/* 2026-01-02T03:04:05.678Z */
	assert_int_equal(capture.line[19], '.');
	assert_int_equal(capture.line[23], 'Z');
	assert_string_equal(capture.line + 24, " info  host_up pool=process pid=4711\n");

	capture_begin();
	log_warning("odd", log_str("a", ""), log_str("b", "x y"), log_str("c", "say \"hi\""),
		    log_str("d", "k=v"), log_str("e", "1\n2\r3\t4"),
		    log_str("f", "\x1b[31mred\x7f\xc2\x9b"), log_str("g", "caf\xc3\xa9"),
		    log_str("h", "\xff"), log_str("i", "a\\b"), log_str("j", "\xe2\x80\xa8"));
	capture_end();
	assert_one_line();
	assert_string_equal(capture.line + 24,
			    " warning odd a=\"\" b=\"x y\" c=\"say \\\"hi\\\"\" d=\"k=v\" "
			    "e=1\\n2\\r3\\t4 f=\\u001b[31mred\\u007f\\u009b g=caf\xc3\xa9 "
			    "h=\xef\xbf\xbd i=a\\\\b j=\\u2028\n");

	capture_begin();
	log_error("alone");
	assert_string_equal(capture_end() + 24, " error alone\n");
}

static void test_level_and_errno(void **state)
{
	(void)state;
	log_init(LOG_LEVEL_WARNING, LOG_FORMAT_JSON, "server");
	assert_false(log_enabled(LOG_LEVEL_INFO));
	assert_true(log_enabled(LOG_LEVEL_WARNING));
	capture_begin();
	log_info("quiet");
	assert_string_equal(capture_end(), "");

	/* A write that fails is dropped, and whoever logs keeps its errno. */
	int kept = dup(STDERR_FILENO);
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	assert_true(dup2(full, STDERR_FILENO) >= 0);
	errno = ENOTBLK;
	log_error("dropped");
	int seen = errno;
	assert_true(dup2(kept, STDERR_FILENO) >= 0);
	close(kept);
	close(full);
	assert_int_equal(seen, ENOTBLK);
}

static void test_auto_is_json_on_a_pipe(void **state)
{
	(void)state;
	capture_begin();
	log_init(LOG_LEVEL_INFO, LOG_FORMAT_AUTO, "master");
	log_set_process("process/0");
	log_info("x");
	capture_end();
	json_t *line = parse_line();
	assert_string_equal(text_of(line, "process"), "process/0");
	json_decref(line);
}

static void test_long_string_is_cut(void **state)
{
	static char longest[3 * LOG_LINE_MAX], shorter[1001];
	json_t *line;

	(void)state;
	memset(longest, 'a', sizeof(longest) - 1);
	memset(shorter, 'b', sizeof(shorter) - 1);
	log_init(LOG_LEVEL_INFO, LOG_FORMAT_JSON, "server");
	capture_begin();
	log_info("cut", log_str("longest", longest), log_str("shorter", shorter), log_int("n", 7));
	capture_end();
	line = parse_line();
	/* all the room is used, nothing else is harmed */
	assert_int_equal(capture.length, LOG_LINE_MAX);
	assert_string_equal(text_of(line, "shorter"), shorter);
	assert_int_equal(json_integer_value(json_object_get(line, "n")), 7);
	const char *cut = text_of(line, "longest");
	assert_true(strspn(cut, "a") > 2500);
	assert_string_equal(cut + strspn(cut, "a"), "\xe2\x80\xa6");
	json_decref(line);

	/* two that share the room, and multi-byte characters that must not be halved */
	for (size_t i = 0; i + 3 < sizeof(longest); i += 3)
		memcpy(longest + i, "\xe2\x82\xac", 4);
	capture_begin();
	log_info("cut", log_str("first", longest), log_str("second", longest));
	capture_end();
	line = parse_line();
	assert_true(strlen(text_of(line, "first")) > 1900);
	assert_string_equal(text_of(line, "first"), text_of(line, "second"));
	assert_null(strstr(capture.line, "\xef\xbf\xbd"));
	json_decref(line);
}

static void test_line_of_exactly_the_limit(void **state)
{
	static char value[LOG_LINE_MAX];

	(void)state;
	log_init(LOG_LEVEL_INFO, LOG_FORMAT_JSON, "server");
	capture_begin();
	log_info("x", log_str("k", ""));
	capture_end();
	size_t room = LOG_LINE_MAX - capture.length;

	memset(value, 'a', room);
	capture_begin();
	log_info("x", log_str("k", value));
	capture_end();
	assert_one_line();
	assert_int_equal(capture.length, LOG_LINE_MAX);
	assert_null(strstr(capture.line, "\xe2\x80\xa6"));

	value[room] = 'a';
	capture_begin();
	log_info("x", log_str("k", value));
	capture_end();
	json_decref(parse_line());
	assert_non_null(strstr(capture.line, "aaa\xe2\x80\xa6"));
}

static void test_too_many_fields(void **state)
{
	struct log_field fields[601];

	(void)state;
	log_init(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "server");
	for (int i = 0; i < 600; i++)
		fields[i] = i % 2 ? log_str("key_of_a_string", "some text")
				  : log_int("key_of_a_number", i);
	fields[600] = log_end();
	capture_begin();
	log_write(LOG_LEVEL_INFO, "many", fields);
	capture_end();
	assert_one_line();
	assert_true(capture.length > LOG_LINE_MAX - 40);
}

static void random_text(char *out, size_t size)
{
	static const char *const pieces[] = {
		"\n",	"\x1b[2J",     "\"", "\\", "\xc3\xa9", "\xf0\x9f\x98\x80", "\xed\xa0\x80",
		"\xff", "\xe2\x82",    "=",  " ",  "plain",    "\xc2\x9b",	   "\x01",
		"}",	"\xe2\x80\xa9"};
	size_t length = 0, want = random_below(size);

	for (;;) {
		const char *piece = pieces[random_below(sizeof(pieces) / sizeof(pieces[0]))];

		if (length + strlen(piece) > want)
			break;
		memcpy(out + length, piece, strlen(piece));
		length += strlen(piece);
	}
	out[length] = '\0';
}

static void test_hostile_strings(void **state)
{
	static char a[6000], b[6000], c[200], event[300];

	(void)state;
	for (int round = 0; round < 3000; round++) {
		enum log_format format = round % 2 ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT;
		size_t size = round % 3 ? 300 : 6000;

		random_text(a, size);
		random_text(b, size);
		random_text(c, sizeof(c));
		random_text(event, sizeof(event));
		log_init(LOG_LEVEL_DEBUG, format, c);
		capture_begin();
		log_error(event, log_str("a", a), log_int("n", round), log_str("b", b),
			  log_str("c", c), log_bool("last", 0));
		capture_end();
		if (format == LOG_FORMAT_TEXT) {
			assert_one_line();
			assert_string_equal(capture.line + capture.length - 12, " last=false\n");
			continue;
		}
		json_t *line = parse_line();
		assert_int_equal(json_integer_value(json_object_get(line, "n")), round);
		assert_true(json_is_false(json_object_get(line, "last")));
		json_decref(line);
	}
}

static void test_error(void **state)
{
	struct error error;
	char text[1200];

	(void)state;
	assert_int_equal(error_set(&error, ERROR_INVALID, "n", "found %d", 7), -EINVAL);
	assert_int_equal(error.code, ERROR_INVALID);
	assert_string_equal(error.field, "n");
	assert_string_equal(error.message, "found 7");
	error_prefix_field(&error, "args");
	assert_string_equal(error.field, "args.n");
	assert_true(error_set(&error, ERROR_NOT_FOUND, "[3]", "x") < 0);
	error_prefix_field(&error, "items");
	assert_string_equal(error.field, "items[3]");
	/* a message about a message, and no field */
	error_set(&error, ERROR_INTERNAL, NULL, "again: %s", error.message);
	assert_string_equal(error.message, "again: x");
	assert_string_equal(error.field, "");
	error_prefix_field(&error, "args");
	assert_string_equal(error.field, "args");

	/* cut, with an end mark, and never inside a character */
	for (size_t lead = 0; lead < 3; lead++) {
		memset(text, 'x', lead);
		for (size_t i = lead; i + 3 < sizeof(text); i += 3)
			memcpy(text + i, "\xe2\x82\xac", 4);
		error_set(&error, ERROR_SYNTAX, text, "%s", text);
		size_t message = strlen(error.message), field = strlen(error.field);
		assert_true(message > sizeof(error.message) - 4 && message < sizeof(error.message));
		assert_true(field > sizeof(error.field) - 4 && field < sizeof(error.field));
		assert_int_equal((message - lead) % 3, 0);
		assert_int_equal((field - lead) % 3, 0);
		error_prefix_field(&error, "args");
		assert_memory_equal(error.field, "args.", 5);
		assert_true(strlen(error.field) < sizeof(error.field));
	}
	for (int code = ERROR_SYNTAX; code <= ERROR_INTERNAL; code++)
		assert_true(error_set(&error, (enum error_code)code, NULL, "x") < 0);
}

static void assert_date(int64_t ns, const char *expected)
{
	char text[CLOCK_RFC3339_SIZE];

	assert_string_equal(clock_rfc3339(ns, text), expected);
}

static void test_clock(void **state)
{
	char text[CLOCK_RFC3339_SIZE], expected[64];

	(void)state;
	assert_date(0, "1970-01-01T00:00:00.000000Z");
	assert_date(-5, "1970-01-01T00:00:00.000000Z");
	assert_date(INT64_C(951782400) * NS_PER_S - 1, "2000-02-28T23:59:59.999999Z");
	assert_date(INT64_C(951782400) * NS_PER_S, "2000-02-29T00:00:00.000000Z");
	assert_date(INT64_C(4107542400) * NS_PER_S, "2100-03-01T00:00:00.000000Z");
	assert_date(INT64_MAX, "2262-04-11T23:47:16.854775Z");

	for (int round = 0; round < 100000; round++) {
		int64_t ns = (int64_t)(random_next() >> 1);
		time_t seconds = (time_t)(ns / NS_PER_S);
		struct tm tm;

		assert_non_null(gmtime_r(&seconds, &tm));
		snprintf(expected, sizeof(expected), "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ",
			 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
			 tm.tm_sec, (int)(ns % NS_PER_S / NS_PER_US));
		if (strcmp(clock_rfc3339(ns, text), expected) != 0)
			assert_string_equal(text, expected);
	}

	int64_t before = clock_monotonic_ns();
	nanosleep(&(struct timespec){.tv_nsec = 2 * NS_PER_MS}, NULL);
	int64_t passed = clock_monotonic_ns() - before;
	assert_true(before != 0 && passed >= 2 * NS_PER_MS);
	int64_t apart = clock_realtime_ns() / NS_PER_S - (int64_t)time(NULL);
	assert_true(apart >= -1 && apart <= 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json_line),
		cmocka_unit_test(test_text_line),
		cmocka_unit_test(test_level_and_errno),
		cmocka_unit_test(test_auto_is_json_on_a_pipe),
		cmocka_unit_test(test_long_string_is_cut),
		cmocka_unit_test(test_line_of_exactly_the_limit),
		cmocka_unit_test(test_too_many_fields),
		cmocka_unit_test(test_hostile_strings),
		cmocka_unit_test(test_error),
		cmocka_unit_test(test_clock),
	};

	return cmocka_run_group_tests_name("base log", tests, NULL, NULL);
}
