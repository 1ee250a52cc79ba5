/*
 * twinpool without metering, to tell what metering costs. It is linked in place of src/host/meter.c: only the clock
 * is read, since nothing works without that; everything else is fixed numbers of the usual length, so that documents
 * have the size that they have otherwise.
 */
#include "base/clock.h"
#include "host/meter.h"

void meter_open(struct meter *meter, bool is_process)
{
	*meter = (struct meter){.is_process = is_process, .clear_refs_fd = -1, .statm_fd = -1};
}

void meter_close(struct meter *meter)
{
	(void)meter;
}

bool meter_has_heap(void)
{
	return false;
}

void meter_begin(struct meter *meter)
{
	meter->started_ns = clock_monotonic_ns();
}

void meter_end(struct meter *meter, struct metering *ret_metering)
{
	*ret_metering = (struct metering){
		.started_ns = meter->started_ns,
		.ended_ns = clock_monotonic_ns(),
		.cpu_user_ns = 12000,
		.peak_bytes = meter->is_process ? 3772416 : 0,
		.baseline_bytes = meter->is_process ? 3772416 : 0,
		.host_rss_bytes = 3895296,
		.scope = meter->is_process ? MEMORY_SCOPE_PROCESS : MEMORY_SCOPE_THREAD,
		.source = meter->is_process ? MEMORY_SOURCE_VM_HWM : MEMORY_SOURCE_JEMALLOC_PEAK,
	};
}

void meter_settle(const struct metering *metering)
{
	(void)metering;
}
