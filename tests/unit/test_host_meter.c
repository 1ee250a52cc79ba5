/*
 * The meter against what is known of a run beforehand: memory that it touches, CPU time that it
 * burns, sleep. Runs are on a process of their own, as in a host, where the kernel's high-water
 * mark is read.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "host/heap.h"
#include "host/meter.h"

#define MIB (INT64_C(1) << 20)

/* --- runs ------------------------------------------------------------------------------------ */

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerrordesc_np(errno));
	_exit(10);
}

/* Straight from the kernel and filled by it, so that a sanitizer's shadow does not grow with it. */
static void *touch(size_t bytes)
{
	void *memory = NULL;
	long result = syscall(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (result == -1)
		die("mmap");
	memcpy(&memory, &result, sizeof(memory));
	return memory;
}

static void untouch(void *memory, size_t bytes)
{
	if (syscall(SYS_munmap, memory, bytes) < 0)
		die("munmap");
}

static void touch_and_give_back(size_t bytes)
{
	untouch(touch(bytes), bytes);
}

static void allocate_and_free(size_t bytes)
{
	volatile char *memory = malloc(bytes);

	if (!memory)
		die("malloc");
	for (size_t i = 0; i < bytes; i += 512)
		memory[i] = 1;
	free((void *)(uintptr_t)memory);
}

static int64_t cpu_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return time.tv_sec * NS_PER_S + time.tv_nsec;
}

static void spin(int64_t ns)
{
	volatile uint64_t work = 1;
	int64_t until_ns = cpu_ns() + ns;

	do
		for (int i = 0; i < 500; i++)
			work = work * 31 + 7;
	while (cpu_ns() < until_ns);
}

static void sleep_for(int64_t ns)
{
	const struct timespec time = {.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};

	nanosleep(&time, NULL);
}

/* --- a process to run them on ---------------------------------------------------------------- */

#define RUNS_MAX 8

struct report {
	struct metering runs[RUNS_MAX];
};

/* Runs body in a forked child, and answers what it reported. */
static struct report in_child(void (*body)(struct report *report))
{
	struct report *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct report report;
	int status;

	assert_ptr_not_equal(shared, MAP_FAILED);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		heap_meter_init();
		body(shared);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	report = *shared;
	munmap(shared, sizeof(*shared));
	return report;
}

static int64_t growth(const struct metering *metering)
{
	return metering->peak_bytes - metering->baseline_bytes;
}

static int64_t cpu_of(const struct metering *metering)
{
	return metering->cpu_user_ns + metering->cpu_system_ns;
}

/* Where the kernel refuses to reset the mark there is nothing to be tested. */
static void need_peaks(const struct metering *metering)
{
	if (metering->source == MEMORY_SOURCE_NONE) {
		print_message("the kernel denies /proc/self/clear_refs\n");
		skip();
	}
	assert_int_equal(metering->source, MEMORY_SOURCE_VM_HWM);
	assert_int_equal(metering->scope, MEMORY_SCOPE_PROCESS);
}

/* --- memory of a process --------------------------------------------------------------------- */

static void measure_peaks(struct report *report)
{
	struct meter meter;

	meter_open(&meter, true);
	meter_begin(&meter); /* what a first run brings in: the library's pages, the heap's first */
	touch_and_give_back(4096);
	meter_end(&meter, &report->runs[0]);

	meter_begin(&meter);
	touch_and_give_back(32 * MIB);
	meter_end(&meter, &report->runs[1]);
	meter_settle(&report->runs[1]);

	meter_begin(&meter);
	touch_and_give_back(MIB / 4);
	meter_end(&meter, &report->runs[2]);

	meter_begin(&meter); /* kept: the next one's baseline */
	void *kept = touch(32 * MIB);
	meter_end(&meter, &report->runs[3]);

	meter_begin(&meter);
	touch_and_give_back(2 * MIB);
	meter_end(&meter, &report->runs[4]);
	untouch(kept, 32 * MIB);

	meter_begin(&meter);
	meter_end(&meter, &report->runs[5]);
	meter_close(&meter);
	meter_close(&meter);
}

static void test_peak_of_a_process(void **state)
{
	struct report report = in_child(measure_peaks);
	const struct metering *runs = report.runs;

	(void)state;
	need_peaks(&runs[1]);
	assert_in_range(growth(&runs[1]), 31 * MIB, 33 * MIB);
	assert_in_range(growth(&runs[2]) + MIB, MIB, 2 * MIB); /* 0 to 1 MiB */
	assert_in_range(growth(&runs[3]), 31 * MIB, 33 * MIB);
	assert_in_range(growth(&runs[4]), MIB, 3 * MIB);
	assert_in_range(growth(&runs[5]) + MIB, MIB, 2 * MIB);
	assert_in_range(runs[4].baseline_bytes - runs[2].baseline_bytes, 31 * MIB, 33 * MIB);
	assert_in_range(runs[5].baseline_bytes - runs[2].baseline_bytes + MIB, 0, 2 * MIB);
	for (int i = 0; i < 6; i++) {
		assert_true(metering_is_valid(&runs[i]));
		assert_true(runs[i].peak_bytes >= runs[i].baseline_bytes);
	}
}

static void measure_heap(struct report *report)
{
	struct meter meter;

	meter_open(&meter, true);
	meter_begin(&meter);
	allocate_and_free(4096);
	meter_end(&meter, &report->runs[0]);
	for (int i = 1; i < 5; i++) { /* a large one, and two small ones after it */
		meter_begin(&meter);
		allocate_and_free(i == 1 || i == 3 ? (size_t)(32 * MIB) : 100000);
		meter_end(&meter, &report->runs[i]);
		meter_settle(&report->runs[i]);
	}
	meter_close(&meter);
}

/* What the large run has left in the allocator's caches is not the small one's. */
static void test_small_run_after_a_large_one(void **state)
{
	struct report report = in_child(measure_heap);
	const struct metering *runs = report.runs;

	(void)state;
	need_peaks(&runs[1]);
#ifndef TWINPOOL_SANITIZER /* whose allocators keep what was freed, and a shadow of it */
	assert_in_range(growth(&runs[1]), 31 * MIB, 33 * MIB);
	assert_in_range(growth(&runs[2]) + MIB, MIB, 2 * MIB);
	assert_in_range(growth(&runs[3]), 31 * MIB, 33 * MIB);
	assert_in_range(growth(&runs[4]) + MIB, MIB, 2 * MIB);
	assert_true(runs[1].minor_faults > 0);
#endif
	if (runs[1].heap_peak_bytes == METERING_UNKNOWN)
		return;
	assert_in_range(runs[1].heap_peak_bytes, 32 * MIB, 33 * MIB);
	assert_true(runs[2].heap_peak_bytes < MIB);
	assert_in_range(runs[3].heap_peak_bytes, 32 * MIB, 33 * MIB);
	assert_true(runs[4].heap_peak_bytes < MIB);
}

static void measure_without_peaks(struct report *report)
{
	struct meter meter;

	meter_open(&meter, true);
	fd_close(&meter.clear_refs_fd);
	meter_begin(&meter);
	touch_and_give_back(MIB);
	meter_end(&meter, &report->runs[0]);
	/* one that is denied only when it is used */
	meter.clear_refs_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (int i = 1; i < 3; i++) {
		meter_begin(&meter);
		touch_and_give_back(MIB);
		meter_end(&meter, &report->runs[i]);
	}
	meter_close(&meter);
}

static void test_no_peak_is_no_guess(void **state)
{
	struct report report = in_child(measure_without_peaks);

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(report.runs[i].peak_bytes, METERING_UNKNOWN);
		assert_int_equal(report.runs[i].baseline_bytes, METERING_UNKNOWN);
		assert_int_equal(report.runs[i].scope, MEMORY_SCOPE_NONE);
		assert_int_equal(report.runs[i].source, MEMORY_SOURCE_NONE);
		assert_true(report.runs[i].cpu_user_ns >= 0);
		assert_true(metering_is_valid(&report.runs[i]));
	}
}

/* --- memory of a thread ---------------------------------------------------------------------- */

/* Resident set of this process by another way than the meter's. */
static int64_t resident_bytes(void)
{
	FILE *file = fopen("/proc/self/status", "re");
	long long kib = -1;
	char line[256];

	if (!file)
		die("/proc/self/status");
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, "VmRSS:", 6) == 0)
			kib = strtoll(line + 6, NULL, 10);
	fclose(file);
	return kib * 1024;
}

static void *allocate_elsewhere(void *unused)
{
	(void)unused;
	allocate_and_free(16 * MIB);
	return NULL;
}

static void run_on_thread(void *(*body)(void *data), void *data)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, body, data) != 0)
		die("pthread_create");
	pthread_join(thread, NULL);
}

static void *measure_thread(void *data)
{
	struct report *report = data;
	struct meter meter;

	meter_open(&meter, false);
	meter_begin(&meter);
	allocate_and_free(8 * MIB);
	meter_end(&meter, &report->runs[0]);
	meter_settle(&report->runs[0]);

	meter_begin(&meter);
	allocate_and_free(1000);
	meter_end(&meter, &report->runs[1]);

	meter_begin(&meter); /* another thread's memory is not this one's */
	run_on_thread(allocate_elsewhere, NULL);
	meter_end(&meter, &report->runs[2]);

	void *kept = touch(32 * MIB);
	meter_begin(&meter);
	meter_end(&meter, &report->runs[3]);
	report->runs[4].host_rss_bytes = resident_bytes();
	untouch(kept, 32 * MIB);
	meter_close(&meter);
	return NULL;
}

static void measure_on_thread(struct report *report)
{
	run_on_thread(measure_thread, report);
}

static void test_heap_peak_of_a_thread(void **state)
{
	heap_meter_init();
	struct report report = in_child(measure_on_thread);
	const struct metering *runs = report.runs;

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_true(metering_is_valid(&runs[i]));
	if (!meter_has_heap()) {
		for (int i = 0; i < 4; i++) {
			assert_int_equal(runs[i].heap_peak_bytes, METERING_UNKNOWN);
			assert_int_equal(runs[i].peak_bytes, METERING_UNKNOWN);
			assert_int_equal(runs[i].scope, MEMORY_SCOPE_NONE);
			assert_int_equal(runs[i].source, MEMORY_SOURCE_NONE);
		}
		print_message("built without jemalloc\n");
		skip();
	}
	for (int i = 0; i < 4; i++) {
		assert_int_equal(runs[i].scope, MEMORY_SCOPE_THREAD);
		assert_int_equal(runs[i].source, MEMORY_SOURCE_JEMALLOC_PEAK);
		assert_int_equal(runs[i].baseline_bytes, 0);
		assert_int_equal(runs[i].peak_bytes, runs[i].heap_peak_bytes);
	}
	assert_in_range(runs[0].peak_bytes, 8 * MIB, 9 * MIB);
	assert_true(runs[1].peak_bytes < MIB);
	assert_true(runs[2].peak_bytes < 2 * MIB);
}

static void test_resident_set_of_the_host(void **state)
{
	struct report report = in_child(measure_on_thread);

	(void)state;
	assert_true(report.runs[3].host_rss_bytes > 32 * MIB);
	assert_in_range(report.runs[3].host_rss_bytes - report.runs[4].host_rss_bytes + 2 * MIB, 0,
			4 * MIB);
}

/* --- time ------------------------------------------------------------------------------------ */

/* Of one run of body on this thread: the metering, and the CPU time by another clock. */
static struct metering measure(bool is_process, void (*body)(int64_t ns), int64_t ns,
			       int64_t *ret_cpu_ns)
{
	struct metering metering;
	struct meter meter;

	meter_open(&meter, is_process);
	meter_begin(&meter);
	int64_t before_ns = cpu_ns();
	body(ns);
	*ret_cpu_ns = cpu_ns() - before_ns;
	meter_end(&meter, &metering);
	meter_close(&meter);
	assert_true(metering_is_valid(&metering));
	return metering;
}

static void test_cpu_time_of_a_spin(void **state)
{
	int64_t burnt_ns;

	(void)state;
	for (int i = 0; i < 6; i++) {
		struct metering metering = measure(i % 2 == 0, spin, 20 * NS_PER_MS, &burnt_ns);
		assert_true(burnt_ns >= 20 * NS_PER_MS);
		assert_in_range(cpu_of(&metering), burnt_ns * 8 / 10, burnt_ns * 12 / 10);
		assert_true(metering.ended_ns - metering.started_ns >= burnt_ns);
	}
}

/* Far shorter than the kernel's tick. */
static void test_cpu_time_of_short_spins(void **state)
{
	int64_t burnt_ns, all_burnt_ns = 0, all_read_ns = 0;

	(void)state;
	for (int i = 0; i < 100; i++) {
		struct metering metering = measure(false, spin, NS_PER_MS, &burnt_ns);
		assert_true(cpu_of(&metering) > NS_PER_MS / 2);
		all_burnt_ns += burnt_ns;
		all_read_ns += cpu_of(&metering);
	}
	assert_in_range(all_read_ns, all_burnt_ns * 8 / 10, all_burnt_ns * 12 / 10);
}

static void test_sleep_costs_nothing(void **state)
{
	int64_t burnt_ns;

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct metering metering =
			measure(i % 2 == 0, sleep_for, 30 * NS_PER_MS, &burnt_ns);
		assert_true(cpu_of(&metering) < 5 * NS_PER_MS);
		assert_true(metering.voluntary_switches >= 1);
		assert_true(metering.ended_ns - metering.started_ns >= 30 * NS_PER_MS);
	}
}

static void *spin_elsewhere(void *unused)
{
	(void)unused;
	spin(50 * NS_PER_MS);
	return NULL;
}

static void wait_for_a_spin(int64_t ns)
{
	(void)ns;
	run_on_thread(spin_elsewhere, NULL);
}

static void test_thread_does_not_pay_for_others(void **state)
{
	int64_t burnt_ns;
	struct metering metering = measure(false, wait_for_a_spin, 0, &burnt_ns);

	(void)state;
	assert_true(cpu_of(&metering) < 15 * NS_PER_MS);
	assert_true(metering.voluntary_switches >= 1);
	metering = measure(true, wait_for_a_spin, 0, &burnt_ns); /* a process does */
	assert_true(cpu_of(&metering) >= 45 * NS_PER_MS);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_peak_of_a_process),
		cmocka_unit_test(test_small_run_after_a_large_one),
		cmocka_unit_test(test_no_peak_is_no_guess),
		cmocka_unit_test(test_heap_peak_of_a_thread),
		cmocka_unit_test(test_resident_set_of_the_host),
		cmocka_unit_test(test_cpu_time_of_a_spin),
		cmocka_unit_test(test_cpu_time_of_short_spins),
		cmocka_unit_test(test_sleep_costs_nothing),
		cmocka_unit_test(test_thread_does_not_pay_for_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
