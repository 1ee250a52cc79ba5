/*
 * The text format, byte by byte.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "http/exposition.h"

static struct buffer buffer;
static struct exposition exposition = {.buffer = &buffer};
static struct histogram histogram;

static int reset(void **state)
{
	(void)state;
	buffer_release(&buffer);
	return 0;
}

static void assert_written(const char *expected)
{
	assert_false(buffer_failed(&buffer));
	buffer_append_char(&buffer, '\0');
	assert_string_equal(buffer.data, expected);
}

static void test_families(void **state)
{
	(void)state;
	exposition_begin(&exposition, "a_total", EXPOSITION_COUNTER, "Counts.");
	exposition_uint(&exposition, EXPOSITION_NO_LABELS, UINT64_MAX);
	exposition_begin(&exposition, "b", EXPOSITION_GAUGE, "Goes.");
	exposition_uint(&exposition, (struct exposition_labels){{{"x", "1"}}}, 0);
	exposition_uint(&exposition,
			(struct exposition_labels){{{"x", "1"}, {"y", ""}, {"z", "2"}}}, 7);
	assert_written("# HELP a_total Counts.\n# TYPE a_total counter\n"
		       "a_total 18446744073709551615\n"
		       "# HELP b Goes.\n# TYPE b gauge\n"
		       "b{x=\"1\"} 0\nb{x=\"1\",y=\"\",z=\"2\"} 7\n");
}

/* A quote needs no escape in a help text, and gets none. */
static void test_escapes(void **state)
{
	(void)state;
	exposition_begin(&exposition, "a", EXPOSITION_GAUGE, "say \"\\\"\nand go");
	exposition_uint(&exposition, (struct exposition_labels){{{"x", "\"\\\n\"ä}"}}}, 1);
	assert_written("# HELP a say \"\\\\\"\\nand go\n# TYPE a gauge\n"
		       "a{x=\"\\\"\\\\\\n\\\"ä}\"} 1\n");
}

static void test_seconds(void **state)
{
	static const int64_t values_ns[] = {
		-5, 0, 1, 10 * NS_PER_US, NS_PER_S, 100 * NS_PER_S, 1500 * NS_PER_MS, INT64_MAX,
	};

	(void)state;
	exposition_begin(&exposition, "s", EXPOSITION_GAUGE, "S.");
	for (size_t i = 0; i < sizeof(values_ns) / sizeof(values_ns[0]); i++)
		exposition_seconds(&exposition, EXPOSITION_NO_LABELS, values_ns[i]);
	assert_written("# HELP s S.\n# TYPE s gauge\n"
		       "s 0\ns 0\ns 0.000000001\ns 0.00001\ns 1\ns 100\ns 1.5\n"
		       "s 9223372036.854775807\n");
}

static void test_histogram(void **state)
{
	struct buffer expected = {0};
	static const char *const bounds[HISTOGRAM_BOUNDS + 1] = {
		"0.00001", "0.000025", "0.00005", "0.0001", "0.00025", "0.0005", "0.001",
		"0.0025",  "0.005",    "0.01",	  "0.025",  "0.05",    "0.1",	 "0.25",
		"0.5",	   "1",	       "2.5",	  "5",	    "10",      "30",	 "60",
		"300",	   "900",      "3600",	  "+Inf",
	};

	(void)state;
	histogram_reset(&histogram);
	histogram_record(&histogram, NS_PER_MS);	/* on a bound: within it */
	histogram_record(&histogram, NS_PER_S + 1);	/* just above one */
	histogram_record(&histogram, 10000 * NS_PER_S); /* above all */
	exposition_begin(&exposition, "h", EXPOSITION_HISTOGRAM, "H.");
	exposition_histogram(&exposition, (struct exposition_labels){{{"x", "1"}}}, &histogram);
	buffer_append_text(&expected, "# HELP h H.\n# TYPE h histogram\n");
	for (int i = 0; i <= HISTOGRAM_BOUNDS; i++)
		buffer_append_format(&expected, "h_bucket{x=\"1\",le=\"%s\"} %d\n", bounds[i],
				     (i >= 6) + (i >= 16) + (i >= HISTOGRAM_BOUNDS));
	buffer_append_text(&expected, "h_sum{x=\"1\"} 10001.001000001\nh_count{x=\"1\"} 3\n");
	buffer_append_char(&expected, '\0');
	assert_written(expected.data);
	buffer_release(&expected);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_families, reset, reset),
		cmocka_unit_test_setup_teardown(test_escapes, reset, reset),
		cmocka_unit_test_setup_teardown(test_seconds, reset, reset),
		cmocka_unit_test_setup_teardown(test_histogram, reset, reset),
	};

	return cmocka_run_group_tests_name("http exposition", tests, NULL, NULL);
}
