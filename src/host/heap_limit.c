/*
 * A limit on what one thread holds on the heap.
 *
 * The program's own malloc() and its kin stand before the allocator's: the dynamic linker finds
 * symbols in the program before those in any library, so libraries and plug-ins come here too. They
 * pass on to the next ones, found by dlsym(3), and on a thread without a limit that costs one load
 * and one untaken branch. free() is left alone: jemalloc itself counts per thread, to the byte,
 * what was ever allocated and freed, and the difference is what the thread holds.
 *
 * Counting what an arena has mapped, by extent hooks, would need none of this but tells something
 * else: pages that were freed but not yet returned, and what fragmentation costs, were charged to
 * the job (refused at half of its limit after a churn of sizes), and half empty pages of the jobs
 * before it were free room.
 *
 * Invariants
 * 1. Nothing here enters itself: nothing allocates but by the allocator's functions, and dlsym() in
 * resolve() allocates only to tell an error.
 * 2. A limit is its thread's own: no lock, no atomic but the word that the server reads.
 * 3. What is refused has been told first: the task may fall over the NULL.
 */
#include "host/heap.h"

#ifdef TWINPOOL_JEMALLOC

#include <dlfcn.h>
#include <errno.h>
#include <jemalloc/jemalloc.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- the account ------------------------------------------------------------------------------ */

static size_t allocated_mib[2], deallocated_mib[2];
static bool available;

static __thread struct {
	uint64_t bytes; /* 0: no limit */
	uint64_t baseline;
	/* jemalloc's own counters of this thread. Compilers believe that malloc() and free() change
	 * nothing that can be read. */
	const volatile uint64_t *allocated;
	const volatile uint64_t *deallocated;
	int64_t (*grown)(void);
	_Atomic int64_t *seen;
	pid_t pid; /* of the host: a child that the task forked has the limit, but no say */
} limit;

/* False if another allocator was put before this one (LD_PRELOAD): then nothing would be refused.
 * */
static bool malloc_is_counted(void)
{
	const volatile uint64_t *allocated;
	size_t size = sizeof(allocated);

	if (mallctlbymib(allocated_mib, 2, &allocated, &size, NULL, 0) != 0)
		return false;
	uint64_t before = *allocated;
	void *volatile memory = malloc(1);
	free(memory);
	return *allocated > before;
}

void heap_limit_init(void)
{
	size_t depth = 2;

	available = mallctlnametomib("thread.allocatedp", allocated_mib, &depth) == 0 &&
		    mallctlnametomib("thread.deallocatedp", deallocated_mib, &depth) == 0 &&
		    malloc_is_counted();
}

bool heap_limit_available(void)
{
	return available;
}

void heap_limit_begin(int64_t limit_bytes, int64_t (*grown)(void), _Atomic int64_t *seen)
{
	size_t size = sizeof(limit.allocated);

	if (limit_bytes <= 0 || !available ||
	    mallctlbymib(allocated_mib, 2, &limit.allocated, &size, NULL, 0) != 0 ||
	    mallctlbymib(deallocated_mib, 2, &limit.deallocated, &size, NULL, 0) != 0)
		return;
	limit.grown = grown;
	limit.seen = seen;
	limit.pid = getpid();
	limit.baseline = *limit.allocated - *limit.deallocated;
	limit.bytes = (uint64_t)limit_bytes;
}

void heap_limit_end(void)
{
	limit.bytes = 0;
}

static void tell(uint64_t bytes)
{
	int64_t seen = bytes < INT64_MAX ? (int64_t)bytes : INT64_MAX;

	if (getpid() == limit.pid)
		atomic_store_explicit(limit.seen, seen, memory_order_relaxed);
}

/* What the thread would hold with this much more; 0 if it has freed more than that since. */
static uint64_t held_with(uint64_t more)
{
	int64_t held = (int64_t)(*limit.allocated - *limit.deallocated - limit.baseline);

	if (held < 0 && more <= (uint64_t)-held)
		return 0;
	return (uint64_t)held + more;
}

static bool fits(size_t bytes)
{
	return held_with(bytes) <= limit.bytes;
}

static void *refuse(size_t bytes)
{
	tell(held_with(bytes));
	errno = ENOMEM;
	return NULL;
}

/* The allocator got nothing from the kernel for these bytes: if the process has grown past the
 * limit by other ways than the heap, then that is why. */
static void *explain(size_t bytes)
{
	int64_t grown = limit.grown ? limit.grown() : 0;

	if (grown > 0 && (uint64_t)grown + bytes > limit.bytes)
		tell((uint64_t)grown + bytes);
	errno = ENOMEM;
	return NULL;
}

/* A size that the allocator has no class for is 0 bytes here. That refusal is its own and has
 * nothing to do with the limit. */
static void *limited(size_t size, int flags)
{
	size_t asked = size > 0 ? size : 1;
	size_t bytes = nallocx(asked, flags);

	if (bytes > 0 && !fits(bytes))
		return refuse(bytes);
	void *memory = bytes > 0 ? mallocx(asked, flags) : NULL;
	return memory ? memory : explain(bytes);
}

static void *limited_realloc(void *memory, size_t size)
{
	size_t bytes = nallocx(size, 0);
	size_t before = sallocx(memory, 0);

	if (bytes > before && !fits(bytes)) {
		/* Not enough for a second block while the first is still there: so in place. */
		bool enlarged = fits(bytes - before) && xallocx(memory, size, 0, 0) >= size;
		return enlarged ? memory : refuse(bytes);
	}
	void *moved = bytes > 0 ? rallocx(memory, size, 0) : NULL;
	return moved ? moved : explain(bytes);
}

/* --- what stands before the allocator --------------------------------------------------------- */

/* The rest of operator new is made of these, as it is in C++ itself. The names are those of
 * machines where size_t is unsigned long. */
void *new_plain(size_t size) __asm__("_Znwm");
void *new_array(size_t size) __asm__("_Znam");
void *new_plain_nothrow(size_t size, const void *tag) __asm__("_ZnwmRKSt9nothrow_t");
void *new_array_nothrow(size_t size, const void *tag) __asm__("_ZnamRKSt9nothrow_t");
void *new_aligned(size_t size, size_t alignment) __asm__("_ZnwmSt11align_val_t");
void *new_array_aligned(size_t size, size_t alignment) __asm__("_ZnamSt11align_val_t");
void *new_aligned_nothrow(size_t size, size_t alignment,
			  const void *tag) __asm__("_ZnwmSt11align_val_tRKSt9nothrow_t");
void *new_array_aligned_nothrow(size_t size, size_t alignment,
				const void *tag) __asm__("_ZnamSt11align_val_tRKSt9nothrow_t");

static void *first_malloc(size_t size);
static void *first_calloc(size_t count, size_t size);
static void *first_realloc(void *memory, size_t size);

/* Written once, at the first allocation or by the constructor, before there is a second thread. */
static struct {
	void *(*malloc)(size_t size);
	void *(*calloc)(size_t count, size_t size);
	void *(*realloc)(void *memory, size_t size);
	int (*posix_memalign)(void **ret_memory, size_t alignment, size_t size);
	void *(*aligned_alloc)(size_t alignment, size_t size);
	void *(*memalign)(size_t alignment, size_t size);
	void *(*valloc)(size_t size);
	void *(*new_plain)(size_t size);
	void *(*new_plain_nothrow)(size_t size, const void *tag);
	void *(*new_aligned)(size_t size, size_t alignment);
	void *(*new_aligned_nothrow)(size_t size, size_t alignment, const void *tag);
} next = {.malloc = first_malloc, .calloc = first_calloc, .realloc = first_realloc};

static const struct {
	const char *name;
	void *slot;
} names[] = {
	{"malloc", &next.malloc},
	{"calloc", &next.calloc},
	{"realloc", &next.realloc},
	{"posix_memalign", &next.posix_memalign},
	{"aligned_alloc", &next.aligned_alloc},
	{"memalign", &next.memalign},
	{"valloc", &next.valloc},
	{"_Znwm", &next.new_plain},
	{"_ZnwmRKSt9nothrow_t", &next.new_plain_nothrow},
	{"_ZnwmSt11align_val_t", &next.new_aligned},
	{"_ZnwmSt11align_val_tRKSt9nothrow_t", &next.new_aligned_nothrow},
};

__attribute__((constructor)) static void resolve(void)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		void *function = dlsym(RTLD_NEXT, names[i].name);

		if (function)
			memcpy(names[i].slot, &function, sizeof(function));
	}
}

/* For those that are not worth a function of their own at the start. */
static void resolve_once(void)
{
	if (!next.valloc)
		resolve();
}

static void *first_malloc(size_t size)
{
	resolve();
	return next.malloc(size);
}

static void *first_calloc(size_t count, size_t size)
{
	resolve();
	return next.calloc(count, size);
}

static void *first_realloc(void *memory, size_t size)
{
	resolve();
	return next.realloc(memory, size);
}

static bool is_limited(void)
{
	return __builtin_expect(limit.bytes != 0, 0);
}

/* 0: not an alignment; the allocator itself says so. */
static int alignment_flag(size_t alignment)
{
	bool is_power = alignment > 0 && (alignment & (alignment - 1)) == 0;

	return is_power ? MALLOCX_LG_ALIGN(__builtin_ctzl(alignment)) : 0;
}

static bool is_limited_at(size_t alignment)
{
	resolve_once();
	return is_limited() && alignment > 1 && alignment_flag(alignment) != 0;
}

void *malloc(size_t size)
{
	return is_limited() ? limited(size, 0) : next.malloc(size);
}

void *calloc(size_t count, size_t size)
{
	size_t bytes;

	if (!is_limited() || __builtin_mul_overflow(count, size, &bytes))
		return next.calloc(count, size);
	return limited(bytes, MALLOCX_ZERO);
}

void *realloc(void *memory, size_t size)
{
	if (!is_limited() || (memory && size == 0))
		return next.realloc(memory, size);
	return memory ? limited_realloc(memory, size) : limited(size, 0);
}

int posix_memalign(void **ret_memory, size_t alignment, size_t size)
{
	if (!is_limited_at(alignment) || alignment % sizeof(void *) != 0)
		return next.posix_memalign(ret_memory, alignment, size);
	void *memory = limited(size, alignment_flag(alignment));
	if (!memory)
		return ENOMEM;
	*ret_memory = memory;
	return 0;
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return is_limited_at(alignment) ? limited(size, alignment_flag(alignment))
					: next.aligned_alloc(alignment, size);
}

void *memalign(size_t alignment, size_t size)
{
	return is_limited_at(alignment) ? limited(size, alignment_flag(alignment))
					: next.memalign(alignment, size);
}

void *valloc(size_t size)
{
	size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);

	return is_limited_at(page_bytes) ? limited(size, alignment_flag(page_bytes))
					 : next.valloc(size);
}

/* Where these have nothing to give, the next operator new is asked for what nobody has: it then
 * calls the new-handler and throws, or answers NULL, as C++ will have it. */
#define IMPOSSIBLE_SIZE SIZE_MAX

void *new_plain(size_t size)
{
	resolve_once();
	if (!is_limited())
		return next.new_plain(size);
	void *memory = limited(size, 0);
	return memory ? memory : next.new_plain(IMPOSSIBLE_SIZE);
}

void *new_array(size_t size)
{
	return new_plain(size);
}

void *new_plain_nothrow(size_t size, const void *tag)
{
	resolve_once();
	if (!is_limited())
		return next.new_plain_nothrow(size, tag);
	void *memory = limited(size, 0);
	return memory ? memory : next.new_plain_nothrow(IMPOSSIBLE_SIZE, tag);
}

void *new_array_nothrow(size_t size, const void *tag)
{
	return new_plain_nothrow(size, tag);
}

void *new_aligned(size_t size, size_t alignment)
{
	if (!is_limited_at(alignment))
		return next.new_aligned(size, alignment);
	void *memory = limited(size, alignment_flag(alignment));
	return memory ? memory : next.new_aligned(IMPOSSIBLE_SIZE, alignment);
}

void *new_array_aligned(size_t size, size_t alignment)
{
	return new_aligned(size, alignment);
}

void *new_aligned_nothrow(size_t size, size_t alignment, const void *tag)
{
	if (!is_limited_at(alignment))
		return next.new_aligned_nothrow(size, alignment, tag);
	void *memory = limited(size, alignment_flag(alignment));
	return memory ? memory : next.new_aligned_nothrow(IMPOSSIBLE_SIZE, alignment, tag);
}

void *new_array_aligned_nothrow(size_t size, size_t alignment, const void *tag)
{
	return new_aligned_nothrow(size, alignment, tag);
}

#else

void heap_limit_init(void)
{
}

bool heap_limit_available(void)
{
	return false;
}

void heap_limit_begin(int64_t limit_bytes, int64_t (*grown)(void), _Atomic int64_t *seen)
{
	(void)limit_bytes;
	(void)grown;
	(void)seen;
}

void heap_limit_end(void)
{
}

#endif
