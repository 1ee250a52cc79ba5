/*
 * The limit on what a thread holds on the heap: that it is exact whatever is asked for and by which
 * function, that it is told, and that it is its thread's and its run's alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/heap.h"
#include "host/limit.h"

#define KIB	   ((size_t)1024)
#define MIB	   (1024 * KIB)
#define LIMIT	   (32 * MIB)
#define BLOCKS_MAX 1048576

/* Blocks of one thread, allocated before any limit. */
struct holder {
	void **blocks;
	size_t count;
	size_t usable;
};

/* Compilers leave out an allocation that is not used. */
static void *(*volatile ask)(size_t size) = malloc;
static void *(*volatile ask_cleared)(size_t count, size_t size) = calloc;
static void *(*volatile ask_again)(void *memory, size_t size) = realloc;

static void *by_malloc(size_t size)
{
	return malloc(size);
}

static void *by_calloc(size_t size)
{
	return calloc(size / 16, 16);
}

static void *by_realloc(size_t size)
{
	return realloc(NULL, size);
}

static void *by_reallocarray(size_t size)
{
	return reallocarray(NULL, size / 16, 16);
}

static void *by_posix_memalign(size_t size)
{
	void *memory = NULL;

	return posix_memalign(&memory, 256, size) == 0 ? memory : NULL;
}

static void *by_aligned_alloc(size_t size)
{
	return aligned_alloc(64, size);
}

static void *by_memalign(size_t size)
{
	return memalign(4096, size);
}

static void *by_valloc(size_t size)
{
	return valloc(size);
}

/* Weak: a program in C has them only with jemalloc. */
__attribute__((weak)) void *new_nothrow(size_t size,
					const void *tag) __asm__("_ZnwmRKSt9nothrow_t");
__attribute__((weak)) void *
new_aligned_nothrow(size_t size, size_t alignment,
		    const void *tag) __asm__("_ZnamSt11align_val_tRKSt9nothrow_t");

static void *by_new(size_t size)
{
	return new_nothrow(size, NULL);
}

static void *by_aligned_new(size_t size)
{
	return new_aligned_nothrow(size, 128, NULL);
}

/* A function of the C library that calls malloc(): the account is not only ours. */
static void *by_strndup(size_t size)
{
	static char text[16 * KIB];

	memset(text, 'x', sizeof(text) - 1);
	return strndup(text, size < sizeof(text) ? size - 1 : sizeof(text) - 1);
}

struct kind {
	const char *name;
	void *(*allocate)(size_t size);
};

static const struct kind kinds[] = {
	{"malloc", by_malloc},
	{"calloc", by_calloc},
	{"realloc", by_realloc},
	{"reallocarray", by_reallocarray},
	{"posix_memalign", by_posix_memalign},
	{"aligned_alloc", by_aligned_alloc},
	{"memalign", by_memalign},
	{"valloc", by_valloc},
	{"new", by_new},
	{"aligned new", by_aligned_new},
	{"strndup", by_strndup},
};

static const size_t mixes[][4] = {
	{64, 64, 64, 64},
	{64, 1008, 4096, 20480},
	{64, 100 * KIB, 640, MIB},
	{64, 8 * MIB, 64 * KIB, 512},
	{8 * MIB, 8 * MIB, 8 * MIB, 8 * MIB},
};

static void hold_until_refused(struct holder *holder, void *(*allocate)(size_t), const size_t *mix)
{
	holder->count = 0;
	holder->usable = 0;
	while (holder->count < BLOCKS_MAX) {
		void *block = allocate(mix[holder->count % 4]);
		if (!block)
			return;
		holder->usable += malloc_usable_size(block);
		holder->blocks[holder->count++] = block;
	}
}

static void let_go(struct holder *holder)
{
	for (size_t i = 0; i < holder->count; i++)
		free(holder->blocks[i]);
	holder->count = 0;
}

static void holder_init(struct holder *holder)
{
	*holder = (struct holder){.blocks = malloc(BLOCKS_MAX * sizeof(void *))};
	assert_non_null(holder->blocks);
}

/* Held and seen: the limit is between them, and the difference is what was asked for last. */
static void assert_exact(const char *name, const struct holder *holder, size_t limit, int64_t seen,
			 size_t largest)
{
	if (holder->usable > limit || seen <= (int64_t)limit ||
	    (size_t)seen > holder->usable + largest + largest / 4 + 4096)
		fail_msg("%s: %zu bytes held, %lld seen, limit %zu", name, holder->usable,
			 (long long)seen, limit);
}

static size_t largest_of(const size_t *mix)
{
	size_t largest = 0;

	for (size_t i = 0; i < 4; i++)
		largest = mix[i] > largest ? mix[i] : largest;
	return largest;
}

static void test_exact_whatever_is_asked_for(void **state)
{
	struct holder holder;

	(void)state;
	if (!heap_limit_available())
		skip();
	holder_init(&holder);
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		for (size_t m = 0; m < sizeof(mixes) / sizeof(mixes[0]); m++) {
			_Atomic int64_t seen = 0;

			heap_limit_begin((int64_t)LIMIT, NULL, &seen);
			hold_until_refused(&holder, kinds[k].allocate, mixes[m]);
			int error = errno;
			heap_limit_end();
			assert_exact(kinds[k].name, &holder, LIMIT, seen, largest_of(mixes[m]));
			assert_int_equal(error, ENOMEM);
			let_go(&holder);
		}
	free(holder.blocks);
}

static void test_leftovers_are_neither_charged_nor_room(void **state)
{
	static const size_t small[4] = {200, 200, 200, 200};
	static const size_t large[4] = {MIB, MIB, MIB, MIB};
	struct holder first;
	struct holder second;
	_Atomic int64_t seen = 0;

	(void)state;
	if (!heap_limit_available())
		skip();
	holder_init(&first);
	holder_init(&second);
	heap_limit_begin((int64_t)LIMIT, NULL, &seen);
	hold_until_refused(&first, by_malloc, small);
	heap_limit_end();
	for (size_t i = 0; i < first.count; i++)
		if (i % 10 != 0) {
			free(first.blocks[i]); /* nearly empty pages remain */
			first.blocks[i] = NULL;
		}
	seen = 0;
	heap_limit_begin((int64_t)LIMIT, NULL, &seen);
	hold_until_refused(&second, by_malloc, small);
	heap_limit_end();
	assert_exact("small after small", &second, LIMIT, seen, 256);
	let_go(&second);

	seen = 0;
	heap_limit_begin((int64_t)LIMIT, NULL, &seen);
	hold_until_refused(&second, by_malloc, small);
	let_go(&second);
	hold_until_refused(&second, by_malloc, large);
	heap_limit_end();
	assert_int_equal(second.usable, LIMIT); /* what was freed in the run is free again */
	let_go(&second);
	let_go(&first);
	free(first.blocks);
	free(second.blocks);
}

static void test_enlarging(void **state)
{
	_Atomic int64_t seen = 0;
	size_t size = 64;

	(void)state;
	if (!heap_limit_available())
		skip();
	char *old = ask(12 * MIB); /* of before: its growth alone counts */
	assert_non_null(old);
	heap_limit_begin((int64_t)LIMIT, NULL, &seen);
	old = ask_again(old, 24 * MIB);
	assert_non_null(old);
	assert_int_equal(seen, 0);
	char *memory = ask(size);
	assert_non_null(memory);
	for (char *moved = memory; moved; moved = ask_again(memory, size * 2)) {
		size = malloc_usable_size(moved);
		memory = moved;
	}
	int64_t last_seen = seen;
	memset(memory, 1, size); /* is still there */
	memory = ask_again(memory, 64);
	heap_limit_end();
	assert_non_null(memory);
	/* 12 MiB more than before are held; 16 MiB and its 8 fit only in place. */
	assert_true(size == 8 * MIB || size == 16 * MIB);
	assert_true(last_seen > (int64_t)LIMIT);
	free(memory);
	free(old);
}

static void test_no_limit(void **state)
{
	static const size_t sizes[4] = {8 * MIB, 64, 8 * MIB, 64};
	_Atomic int64_t seen = 0;

	(void)state;
	heap_limit_begin(0, NULL, &seen);
	for (size_t i = 0; i < 16; i++) {
		void *memory = ask(sizes[i % 4] * (i + 1));
		assert_non_null(memory);
		free(memory);
	}
	heap_limit_end();
	assert_int_equal(seen, 0);
}

/* Nobody has that much, with or without a limit: not the limit's affair. */
static void test_absurd_sizes(void **state)
{
	volatile size_t absurd = SIZE_MAX / 2 + 2;
	void *memory = NULL;
	_Atomic int64_t seen = 0;

	(void)state;
	if (!heap_limit_available())
		skip();
	heap_limit_begin((int64_t)LIMIT, NULL, &seen);
	assert_null(ask(absurd));
	assert_null(ask_cleared(absurd, 4));
	assert_int_equal(posix_memalign(&memory, 24, 100), EINVAL);
	memory = ask(0);
	assert_non_null(memory);
	assert_null(ask_again(memory, absurd));
	free(memory);
	assert_int_equal(seen, 0);
	heap_limit_end();
}

struct member {
	size_t limit;
	size_t held;
	int64_t seen;
	pthread_barrier_t *together;
};

static void *run_member(void *data)
{
	static const size_t mix[4] = {64, 4096, 48 * KIB, 256 * KIB};
	struct member *member = data;
	struct holder holder = {.blocks = malloc(BLOCKS_MAX * sizeof(void *))};
	_Atomic int64_t seen = 0;

	if (!holder.blocks)
		return NULL;
	pthread_barrier_wait(member->together);
	for (int run = 0; run < 20; run++) {
		seen = 0;
		heap_limit_begin((int64_t)member->limit, NULL, &seen);
		hold_until_refused(&holder, by_malloc, mix);
		heap_limit_end();
		let_go(&holder);
	}
	member->held = holder.usable;
	member->seen = seen;
	free(holder.blocks);
	return NULL;
}

static void test_threads_have_limits_of_their_own(void **state)
{
	pthread_barrier_t together;
	struct member members[2] = {{.limit = 4 * MIB, .together = &together},
				    {.limit = LIMIT, .together = &together}};
	pthread_t threads[2];

	(void)state;
	if (!heap_limit_available())
		skip();
	pthread_barrier_init(&together, NULL, 2);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_member, &members[i]), 0);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		assert_in_range(members[i].held, members[i].limit - 256 * KIB, members[i].limit);
		assert_true(members[i].seen > (int64_t)members[i].limit);
	}
	pthread_barrier_destroy(&together);
}

static void *free_block(void *block)
{
	free(block);
	return NULL;
}

/* Stays on the account of the run, since it cannot be known whose it was; but not on the next. */
static void test_freed_by_another_thread(void **state)
{
	_Atomic int64_t seen = 0;
	pthread_t thread;

	(void)state;
	if (!heap_limit_available())
		skip();
	heap_limit_begin((int64_t)LIMIT, NULL, &seen);
	void *block = ask(20 * MIB);
	heap_limit_end();
	assert_non_null(block);
	assert_int_equal(pthread_create(&thread, NULL, free_block, block), 0);
	pthread_join(thread, NULL);

	heap_limit_begin((int64_t)LIMIT, NULL, &seen);
	block = ask(LIMIT);
	void *more = ask(1);
	heap_limit_end();
	assert_non_null(block);
	assert_null(more);
	assert_int_equal(seen, LIMIT + 8);
	free(block);
}

/* More than the allocator can have kept of the tests before. */
#define HUGE_LIMIT (4096 * MIB)
#define HUGE_BLOCK (3072 * MIB)

static int64_t much_grown(void)
{
	return (int64_t)HUGE_LIMIT;
}

static void *ask_without_room(int64_t (*grown)(void), _Atomic int64_t *seen)
{
	struct rlimit before;

	assert_int_equal(getrlimit(RLIMIT_DATA, &before), 0);
	struct rlimit none = {.rlim_cur = 4096, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_DATA, &none), 0);
	heap_limit_begin((int64_t)HUGE_LIMIT, grown, seen);
	void *memory = ask(HUGE_BLOCK);
	heap_limit_end();
	assert_int_equal(setrlimit(RLIMIT_DATA, &before), 0);
	return memory;
}

/* The kernel refuses; only what the process has grown by makes that the job's doing. */
static void test_kernel_refuses(void **state)
{
	_Atomic int64_t seen = 0;

	(void)state;
	if (!heap_limit_available())
		skip();
	assert_null(ask_without_room(NULL, &seen));
	assert_int_equal(seen, 0);
	assert_null(ask_without_room(much_grown, &seen));
	assert_int_equal(seen, HUGE_LIMIT + HUGE_BLOCK);
}

/* Memory that is mapped without the allocator has a bound too. */
static void test_mapped_memory(void **state)
{
	const size_t length = LIMIT + LIMIT / 4 + 60 * MIB;
	struct metering metering;
	struct limit limit;
	struct rlimit after;
	_Atomic int64_t seen = 0;

	(void)state;
	if (!heap_limit_available())
		skip();
	int statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	metering_init(&metering);
	limit_begin(&limit, (int64_t)LIMIT, statm, &seen);
	assert_true(limit.has_data_limit);
	void *mapped =
		mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *more = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	limit_end(&limit, &metering);
	assert_ptr_not_equal(mapped, MAP_FAILED);
	assert_ptr_equal(more, MAP_FAILED);
	assert_int_equal(getrlimit(RLIMIT_DATA, &after), 0);
	assert_int_equal(after.rlim_cur, limit.data_before.rlim_cur);
	munmap(mapped, length);
	close(statm);
}

static void test_resident_set_is_told(void **state)
{
	int statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	struct metering metering;
	struct limit limit;
	_Atomic int64_t seen = 0;

	(void)state;
	metering_init(&metering);
	metering.scope = MEMORY_SCOPE_PROCESS;
	metering.baseline_bytes = 10 * (int64_t)MIB;
	metering.peak_bytes = 45 * (int64_t)MIB;
	limit_begin(&limit, (int64_t)LIMIT, statm, &seen);
	limit_end(&limit, &metering);
	assert_int_equal(seen, 0); /* 35 MiB: within what is not the job's own */
	metering.peak_bytes = 90 * (int64_t)MIB;
	limit_begin(&limit, (int64_t)LIMIT, statm, &seen);
	limit_end(&limit, &metering);
	assert_int_equal(seen, 80 * MIB);
	seen = 0;
	limit_begin(&limit, 0, statm, &seen);
	limit_end(&limit, &metering);
	assert_int_equal(seen, 0);
	close(statm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exact_whatever_is_asked_for),
		cmocka_unit_test(test_leftovers_are_neither_charged_nor_room),
		cmocka_unit_test(test_enlarging),
		cmocka_unit_test(test_no_limit),
		cmocka_unit_test(test_absurd_sizes),
		cmocka_unit_test(test_threads_have_limits_of_their_own),
		cmocka_unit_test(test_freed_by_another_thread),
		cmocka_unit_test(test_kernel_refuses),
		cmocka_unit_test(test_mapped_memory),
		cmocka_unit_test(test_resident_set_is_told),
	};

	heap_limit_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
