#include "job/metering.h"

#include <stddef.h>

#include "base/clock.h"

void metering_init(struct metering *metering)
{
	*metering = (struct metering){
		.started_ns = METERING_UNKNOWN,
		.ended_ns = METERING_UNKNOWN,
		.cpu_user_ns = METERING_UNKNOWN,
		.cpu_system_ns = METERING_UNKNOWN,
		.peak_bytes = METERING_UNKNOWN,
		.baseline_bytes = METERING_UNKNOWN,
		.heap_peak_bytes = METERING_UNKNOWN,
		.host_rss_bytes = METERING_UNKNOWN,
		.minor_faults = METERING_UNKNOWN,
		.major_faults = METERING_UNKNOWN,
		.voluntary_switches = METERING_UNKNOWN,
		.involuntary_switches = METERING_UNKNOWN,
		.scope = MEMORY_SCOPE_NONE,
		.source = MEMORY_SOURCE_NONE,
	};
}

/* Far above all that can be, and so small that a few can be added: 36 years in ns, an exbibyte. */
#define NUMBER_MAX (INT64_C(1) << 60)

int metering_is_valid(const struct metering *m)
{
	const int64_t numbers[] = {
		m->cpu_user_ns,	       m->cpu_system_ns,	m->peak_bytes,	 m->baseline_bytes,
		m->heap_peak_bytes,    m->host_rss_bytes,	m->minor_faults, m->major_faults,
		m->voluntary_switches, m->involuntary_switches,
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (numbers[i] < METERING_UNKNOWN || numbers[i] > NUMBER_MAX)
			return 0;
	/* Times of the future would make sums and dates overflow, as numbers above the most would.
	 * */
	return m->started_ns > 0 && m->ended_ns >= m->started_ns &&
	       m->ended_ns <= clock_monotonic_ns() && m->scope <= MEMORY_SCOPE_CHILDREN &&
	       m->source <= MEMORY_SOURCE_CGROUP_MEMORY_PEAK;
}

int64_t metering_memory_passed(const struct metering *metering, int64_t limit_bytes)
{
	int64_t growth = metering->peak_bytes - metering->baseline_bytes;
	int64_t room = limit_bytes / 8 + (4 << 20);

	if (metering->scope != MEMORY_SCOPE_PROCESS || metering->peak_bytes == METERING_UNKNOWN ||
	    metering->baseline_bytes == METERING_UNKNOWN || growth <= limit_bytes + room)
		return 0;
	return growth;
}
