/* The kernel's counters, from files that the test stands in for, and from this machine's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "base/clock.h"
#include "base/machine.h"

struct entry {
	const char *path;
	const char *text;
};

static bool read_entry(void *context, const char *path, char *buffer, size_t size)
{
	for (const struct entry *entry = context; entry->path; entry++)
		if (strcmp(entry->path, path) == 0)
			return snprintf(buffer, size, "%s", entry->text) >= 0;
	return false;
}

static struct machine_sample sample_of(struct entry *entries)
{
	const struct machine_files files = {.read = read_entry, .context = entries};
	struct machine_sample sample;

	machine_sample_take(&files, &sample);
	return sample;
}

static void test_version_2(void **state)
{
	struct entry entries[] = {
		{"/proc/stat", "cpu  100 20 30 4000 50 6 7 80 9 1\ncpu0 1 2 3 4 5 6 7 8 9 10\n"},
		{"/proc/pressure/cpu", "some avg10=1.00 avg60=2.00 avg300=3.00 total=4567\n"
				       "full avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"},
		{"/proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"},
		{"/proc/self/cgroup", "0::/some/group\n"},
		{"/sys/fs/cgroup/some/group/cpu.stat",
		 "usage_usec 99\nnr_periods 10\nnr_throttled 3\nthrottled_usec 2500\n"},
		{NULL, NULL},
	};
	struct machine_sample sample = sample_of(entries);
	int64_t tick_ns = NS_PER_S / sysconf(_SC_CLK_TCK);

	(void)state;
	assert_int_equal(sample.busy_ns, (100 + 20 + 30 + 6 + 7) * tick_ns);
	assert_int_equal(sample.steal_ns, 80 * tick_ns);
	assert_int_equal(sample.total_ns, (100 + 20 + 30 + 4000 + 50 + 6 + 7 + 80) * tick_ns);
	assert_int_equal(sample.pressure_ns[MACHINE_CPU], 4567 * NS_PER_US);
	assert_int_equal(sample.pressure_ns[MACHINE_MEMORY], 0);
	assert_int_equal(sample.pressure_ns[MACHINE_IO], MACHINE_UNKNOWN);
	assert_int_equal(sample.throttled_periods, 3);
	assert_int_equal(sample.throttled_ns, 2500 * NS_PER_US);
}

/* In a container, the path is the host's and only the root is there. */
static void test_version_1(void **state)
{
	struct entry entries[] = {
		{"/proc/self/cgroup", "12:memory:/docker/x\n4:cpuacct,cpu:/docker/x\n0::/\n"},
		{"/sys/fs/cgroup/cpu/cpu.stat",
		 "nr_periods 7\nnr_throttled 2\nthrottled_time 123456789\n"},
		{NULL, NULL},
	};
	struct machine_sample sample = sample_of(entries);

	(void)state;
	assert_int_equal(sample.throttled_periods, 2);
	assert_int_equal(sample.throttled_ns, 123456789);
	assert_int_equal(sample.busy_ns, MACHINE_UNKNOWN);
}

static void test_nothing_there(void **state)
{
	struct entry entries[] = {{"/proc/stat", "cpu 1 2 x\n"}, {NULL, NULL}};
	struct machine_sample sample = sample_of(entries);

	(void)state;
	assert_int_equal(sample.busy_ns, MACHINE_UNKNOWN);
	assert_int_equal(sample.throttled_periods, MACHINE_UNKNOWN);
	assert_int_equal(sample.pressure_ns[MACHINE_CPU], MACHINE_UNKNOWN);
}

static void test_between(void **state)
{
	struct machine_sample before = {.taken_ns = 5, .busy_ns = 10, .steal_ns = 4};
	struct machine_sample after = {.taken_ns = 9, .busy_ns = 17, .steal_ns = MACHINE_UNKNOWN};
	struct machine_sample difference;

	(void)state;
	before.pressure_ns[MACHINE_IO] = 3;
	after.pressure_ns[MACHINE_IO] = 8;
	difference = machine_between(&before, &after);
	assert_int_equal(difference.taken_ns, 4);
	assert_int_equal(difference.busy_ns, 7);
	assert_int_equal(difference.steal_ns, MACHINE_UNKNOWN);
	assert_int_equal(difference.pressure_ns[MACHINE_IO], 5);
}

static void test_memory(void **state)
{
	struct entry entries[] = {
		{"/proc/77/smaps_rollup",
		 "5000-7fff ---p 00000000 00:00 0   [rollup]\n"
		 "Rss:                3000 kB\nPss:                1500 kB\n"
		 "Pss_Dirty:           900 kB\nShared_Clean:       1000 kB\n"
		 "Private_Clean:        24 kB\nPrivate_Dirty:      800 kB\n"},
		{NULL, NULL},
	};
	const struct machine_files files = {.read = read_entry, .context = entries};
	struct machine_memory memory;

	(void)state;
	machine_memory_take(&files, 77, &memory);
	assert_int_equal(memory.rss_bytes, 3000 * 1024);
	assert_int_equal(memory.pss_bytes, 1500 * 1024);
	assert_int_equal(memory.private_bytes, 824 * 1024);
	machine_memory_take(&files, 78, &memory);
	assert_int_equal(memory.pss_bytes, MACHINE_UNKNOWN);
}

/* The real files: what every Linux has, and an order that always holds. */
static void test_this_machine(void **state)
{
	struct machine_sample first;
	struct machine_sample second;
	struct machine_memory memory;

	(void)state;
	machine_sample_take(&machine_files, &first);
	machine_sample_take(&machine_files, &second);
	assert_true(first.busy_ns > 0 && first.total_ns > first.busy_ns);
	assert_true(second.total_ns >= first.total_ns && second.taken_ns > first.taken_ns);
	machine_memory_take(&machine_files, getpid(), &memory);
	assert_true(memory.private_bytes > 0 && memory.private_bytes <= memory.pss_bytes);
	assert_true(memory.pss_bytes <= memory.rss_bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_version_2),     cmocka_unit_test(test_version_1),
		cmocka_unit_test(test_nothing_there), cmocka_unit_test(test_between),
		cmocka_unit_test(test_memory),	      cmocka_unit_test(test_this_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
