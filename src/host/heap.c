#include "host/heap.h"

#include <stddef.h>

#include "job/metering.h"

#ifdef TWINPOOL_JEMALLOC

#include <jemalloc/jemalloc.h>

/* Looked up once: a call by these numbers costs about 10 ns, by name about a microsecond. */
static size_t reset_mib[3], read_mib[3], purge_mib[3];
static size_t reset_depth, read_depth, purge_depth;
static bool available;

void heap_meter_init(void)
{
	reset_depth = read_depth = purge_depth = 3;
	available = mallctlnametomib("thread.peak.reset", reset_mib, &reset_depth) == 0 &&
		    mallctlnametomib("thread.peak.read", read_mib, &read_depth) == 0 &&
		    mallctlnametomib("arena.0.purge", purge_mib, &purge_depth) == 0;
	purge_mib[1] = MALLCTL_ARENAS_ALL;
}

bool heap_meter_available(void)
{
	return available;
}

void heap_meter_reset(void)
{
	if (available)
		mallctlbymib(reset_mib, reset_depth, NULL, NULL, NULL, 0);
}

int64_t heap_meter_peak(void)
{
	uint64_t peak;
	size_t size = sizeof(peak);

	if (!available || mallctlbymib(read_mib, read_depth, &peak, &size, NULL, 0) != 0)
		return METERING_UNKNOWN;
	return (int64_t)peak;
}

void heap_meter_purge(void)
{
	if (available)
		mallctlbymib(purge_mib, purge_depth, NULL, NULL, NULL, 0);
}

#else

void heap_meter_init(void)
{
}

bool heap_meter_available(void)
{
	return false;
}

void heap_meter_reset(void)
{
}

int64_t heap_meter_peak(void)
{
	return METERING_UNKNOWN;
}

void heap_meter_purge(void)
{
}

#endif
