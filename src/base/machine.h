/*
 * What the machine was doing besides: samples of the kernel's own counters, of which the difference
 * of two tells how quiet the time between them was.
 *
 * /proc/stat (proc(5)): CPU time of all CPUs, in ticks, and what the hypervisor has stolen.
 * /proc/pressure/{cpu,memory,io} (Documentation/accounting/psi.rst of the kernel): how long some
 * task was held up by that resource. cpu.stat of the control group, version 2 or else 1: how often
 * and for how long the group's quota had run out.
 *
 * A figure that cannot be had is MACHINE_UNKNOWN. Reading takes some ten to hundred microseconds: do
 * it off the event loop. Thread: any; nothing is kept.
 */
#ifndef BASE_MACHINE_H
#define BASE_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MACHINE_UNKNOWN (-1)

enum machine_pressure { MACHINE_CPU, MACHINE_MEMORY, MACHINE_IO };
#define MACHINE_PRESSURES 3

struct machine_sample {
	int64_t taken_ns; /* monotonic */
	int64_t busy_ns;  /* of all CPUs together: user, nice, system, interrupts */
	int64_t total_ns; /* the same with idle, waiting for I/O, and stolen */
	int64_t steal_ns;
	int64_t pressure_ns[MACHINE_PRESSURES]; /* "some" */
	int64_t throttled_periods;
	int64_t throttled_ns;
};

/* The difference of two samples, of each figure: unknown if it is in either. */
struct machine_sample machine_between(const struct machine_sample *before,
				      const struct machine_sample *after);

/* Resident memory of a process, of smaps_rollup (proc(5)): shared pages in full, divided by those
 * who share them, and not at all. In bytes. */
struct machine_memory {
	int64_t rss_bytes;
	int64_t pss_bytes;
	int64_t private_bytes;
};

/* How files are read, so that a test can stand in for the kernel. */
struct machine_files {
	/* As a text of fewer than size bytes, ended with a NUL; false if it cannot be read. What is
	 * longer is cut. */
	bool (*read)(void *context, const char *path, char *buffer, size_t size);
	void *context;
};

void machine_sample_take(const struct machine_files *files, struct machine_sample *ret_sample);
void machine_memory_take(const struct machine_files *files, pid_t pid,
			 struct machine_memory *ret_memory);

/* The kernel's own files. */
extern const struct machine_files machine_files;

#endif
