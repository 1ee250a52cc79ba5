#include "host/limit.h"

#include <stdlib.h>
#include <unistd.h>

#include "host/heap.h"

#define MIB (INT64_C(1) << 20)

#ifdef TWINPOOL_SANITIZER
#define CAN_BOUND_DATA false /* it maps for itself, and keeps what was freed, without bound */
#else
#define CAN_BOUND_DATA true
#endif

/* Of the only worker of a host, for the run. */
static int statm;
static int64_t data_at_start;

/* Bytes that the process has mapped to write to, with its first stack: the sixth number of
 * /proc/self/statm, in pages (proc(5)). Or 0. Must not allocate. */
static int64_t read_data(void)
{
	char text[128];
	char *at = text;
	long pages = 0;
	ssize_t length = pread(statm, text, sizeof(text) - 1, 0);

	if (length <= 0)
		return 0;
	text[length] = '\0';
	for (int i = 0; i < 6; i++)
		pages = strtol(at, &at, 10);
	return pages * sysconf(_SC_PAGESIZE);
}

static int64_t data_growth(void)
{
	return read_data() - data_at_start;
}

/* Address space comes in larger pieces than what is used of it: the allocator maps 2 MiB and more
 * at a time, a thread's stack is 8 MiB. */
static int64_t data_room(int64_t limit_bytes)
{
	return limit_bytes / 4 + 64 * MIB;
}

static void lower_data_limit(struct limit *limit, int statm_fd)
{
	statm = statm_fd;
	data_at_start = read_data();
	rlim_t bound = (rlim_t)(data_at_start + limit->bytes + data_room(limit->bytes));
	if (data_at_start == 0 || getrlimit(RLIMIT_DATA, &limit->data_before) < 0 ||
	    bound >= limit->data_before.rlim_cur)
		return;
	struct rlimit lowered = {.rlim_cur = bound, .rlim_max = limit->data_before.rlim_max};
	limit->has_data_limit = setrlimit(RLIMIT_DATA, &lowered) == 0;
}

void limit_begin(struct limit *limit, int64_t bytes, int statm_fd, _Atomic int64_t *seen)
{
	*limit = (struct limit){.bytes = bytes, .seen = seen};
	if (bytes <= 0)
		return;
	if (statm_fd >= 0 && CAN_BOUND_DATA)
		lower_data_limit(limit, statm_fd);
	heap_limit_begin(bytes, limit->has_data_limit ? data_growth : NULL, seen);
}

void limit_end(struct limit *limit, const struct metering *metering)
{
	if (limit->bytes <= 0)
		return;
	heap_limit_end();
	if (limit->has_data_limit)
		setrlimit(RLIMIT_DATA, &limit->data_before);
	int64_t passed_bytes = metering_memory_passed(metering, limit->bytes);
	if (passed_bytes > 0 && atomic_load_explicit(limit->seen, memory_order_relaxed) == 0)
		atomic_store_explicit(limit->seen, passed_bytes, memory_order_relaxed);
}
