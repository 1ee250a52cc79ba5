#include "host/meter.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/proc.h"
#include "host/heap.h"

/* A run that held more than this on the heap, or grew the resident set by it, is worth a purge of
 * about a hundred microseconds afterwards. */
#define SETTLE_BYTES (1 << 20)

void meter_open(struct meter *meter, bool is_process)
{
	*meter = (struct meter){.is_process = is_process, .clear_refs_fd = -1, .statm_fd = -1};
	if (is_process)
		meter->clear_refs_fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
	meter->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
}

void meter_close(struct meter *meter)
{
	fd_close(&meter->clear_refs_fd);
	fd_close(&meter->statm_fd);
}

bool meter_has_heap(void)
{
	return heap_meter_available();
}

static void read_usage(const struct meter *meter, struct rusage *ret_usage)
{
	struct timespec unused;

	if (!meter->is_process)
		clock_gettime(CLOCK_THREAD_CPUTIME_ID,
			      &unused); /* brings RUSAGE_THREAD up to date */
	getrusage(meter->is_process ? RUSAGE_SELF : RUSAGE_THREAD, ret_usage);
}

void meter_begin(struct meter *meter)
{
	if (meter->clear_refs_fd >= 0 && write(meter->clear_refs_fd, "5", 1) != 1)
		fd_close(&meter->clear_refs_fd); /* denied: from now on there is no peak */
	heap_meter_reset();
	read_usage(meter, &meter->before);
	meter->started_ns = clock_monotonic_ns();
}

static int64_t timeval_ns(const struct timeval *time)
{
	return time->tv_sec * NS_PER_S + time->tv_usec * NS_PER_US;
}

/* A difference that the kernel's adjusting of the user/system split may turn slightly negative. */
static int64_t elapsed_ns(const struct timeval *from, const struct timeval *to)
{
	int64_t ns = timeval_ns(to) - timeval_ns(from);

	return ns > 0 ? ns : 0;
}

static void read_memory(const struct meter *meter, const struct rusage *after,
			struct metering *metering)
{
	metering->heap_peak_bytes = heap_meter_peak();
	if (meter->is_process && meter->clear_refs_fd >= 0) {
		metering->scope = MEMORY_SCOPE_PROCESS;
		metering->source = MEMORY_SOURCE_VM_HWM;
		metering->baseline_bytes = meter->before.ru_maxrss * 1024;
		metering->peak_bytes = after->ru_maxrss * 1024;
	} else if (!meter->is_process && heap_meter_available()) {
		metering->scope = MEMORY_SCOPE_THREAD;
		metering->source = MEMORY_SOURCE_JEMALLOC_PEAK;
		metering->baseline_bytes = 0;
		metering->peak_bytes = metering->heap_peak_bytes;
	}
	if (meter->statm_fd >= 0)
		metering->host_rss_bytes = proc_rss_bytes_of(meter->statm_fd);
}

void meter_end(struct meter *meter, struct metering *ret_metering)
{
	const struct rusage *before = &meter->before;
	struct rusage after;

	metering_init(ret_metering);
	ret_metering->started_ns = meter->started_ns;
	ret_metering->ended_ns = clock_monotonic_ns();
	read_usage(meter, &after);
	ret_metering->cpu_user_ns = elapsed_ns(&before->ru_utime, &after.ru_utime);
	ret_metering->cpu_system_ns = elapsed_ns(&before->ru_stime, &after.ru_stime);
	ret_metering->minor_faults = after.ru_minflt - before->ru_minflt;
	ret_metering->major_faults = after.ru_majflt - before->ru_majflt;
	ret_metering->voluntary_switches = after.ru_nvcsw - before->ru_nvcsw;
	ret_metering->involuntary_switches = after.ru_nivcsw - before->ru_nivcsw;
	read_memory(meter, &after, ret_metering);
}

void meter_settle(const struct metering *metering)
{
	bool grew = metering->scope == MEMORY_SCOPE_PROCESS &&
		    metering->peak_bytes - metering->baseline_bytes > SETTLE_BYTES;

	if (grew || metering->heap_peak_bytes > SETTLE_BYTES)
		heap_meter_purge();
}
