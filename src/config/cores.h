/*
 * The CPU quota and the memory limit of a control group, worked out from the text of the kernel's files. What reads them
 * is handed in, so that a test can stand in for the kernel. Thread: any; nothing is kept.
 */
#ifndef CONFIG_CORES_H
#define CONFIG_CORES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cores_files {
	/* Reads the file as a text of fewer than size bytes and ends it with a NUL; false if it is
	 * not there, cannot be read or is larger. */
	bool (*read)(void *context, const char *path, char *buffer, size_t size);
	void *context;
};

/* The least of cpus and the quotas of this process's control group and of all above it, rounded up;
 * at least 1. */
unsigned int cores_limit(unsigned int cpus, const struct cores_files *files);

/* The least memory limit of this process's control group and of all above it, in bytes; 0 if there
 * is none. */
uint64_t cores_memory(const struct cores_files *files);

#endif
