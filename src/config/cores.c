/*
 * How many CPUs and how much memory may be used: see cores.h, and config_cores() and
 * config_memory() in config.h.
 *
 * A limit holds for a group and for all below it, so the way goes from this process's group up to
 * the root and the least wins. In a container the path of /proc/self/cgroup may be the host's, of
 * which only the root is mounted; files that are not there are passed over, and the root's file is
 * then the container's own.
 */
#include "config/cores.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "config/config.h"

#define CGROUP_ROOT	"/sys/fs/cgroup"
#define CGROUP_PATH_MAX 2048
#define NO_MEMORY_LIMIT (INT64_C(1) << 60)
#define CGROUP_LIST_MAX 16384 /* of /proc/self/cgroup: about 15 lines */

/* 0 if there is no limit, else the CPUs of a quota, rounded up. */
static uint64_t quota_cpus(int64_t quota_us, int64_t period_us)
{
	if (quota_us <= 0 || period_us <= 0)
		return 0;
	return ((uint64_t)quota_us + (uint64_t)period_us - 1) / (uint64_t)period_us;
}

static bool read_number(const struct cores_files *files, const char *directory, const char *name,
			int64_t *ret_number)
{
	char path[CGROUP_PATH_MAX + 128];
	char text[64];
	char *end;

	(void)snprintf(path, sizeof(path), "%s/%s", directory, name);
	if (!files->read(files->context, path, text, sizeof(text)))
		return false;
	*ret_number = strtoll(text, &end, 10);
	return end != text;
}

/* "max 100000" or "150000 100000". */
static uint64_t read_v2(const struct cores_files *files, const char *directory)
{
	char path[CGROUP_PATH_MAX + 128];
	char text[64];
	char *end;
	int64_t quota;

	(void)snprintf(path, sizeof(path), "%s/cpu.max", directory);
	if (!files->read(files->context, path, text, sizeof(text)))
		return 0;
	quota = strtoll(text, &end, 10);
	return end == text ? 0 : quota_cpus(quota, strtoll(end, NULL, 10));
}

static uint64_t read_v1(const struct cores_files *files, const char *directory)
{
	int64_t quota;
	int64_t period;

	if (!read_number(files, directory, "cpu.cfs_quota_us", &quota) ||
	    !read_number(files, directory, "cpu.cfs_period_us", &period))
		return 0;
	return quota_cpus(quota, period);
}

/* "max" or bytes. */
static uint64_t read_memory_v2(const struct cores_files *files, const char *directory)
{
	int64_t bytes;

	return read_number(files, directory, "memory.max", &bytes) && bytes > 0 ? (uint64_t)bytes
										: 0;
}

/* No limit is the largest number of pages, in bytes. */
static uint64_t read_memory_v1(const struct cores_files *files, const char *directory)
{
	int64_t bytes;

	if (!read_number(files, directory, "memory.limit_in_bytes", &bytes) || bytes <= 0 ||
	    bytes >= NO_MEMORY_LIMIT)
		return 0;
	return (uint64_t)bytes;
}

/* The least limit of base/group and of all groups above it, base itself last; 0 if none has one. */
static uint64_t least_limit(const struct cores_files *files, const char *base, const char *group,
			    uint64_t (*read)(const struct cores_files *files,
					     const char *directory))
{
	char directory[CGROUP_PATH_MAX + 64];
	size_t base_length = strlen(base);
	uint64_t least = 0;

	(void)snprintf(directory, sizeof(directory), "%s%s", base, group);
	for (;;) {
		uint64_t limit = read(files, directory);
		char *slash;

		if (limit != 0 && (least == 0 || limit < least))
			least = limit;
		slash = strrchr(directory + base_length, '/');
		if (slash == NULL)
			return least;
		*slash = '\0';
	}
}

/* Whether the comma-separated list, length bytes long, has name. */
static bool list_has(const char *list, size_t length, const char *name)
{
	size_t name_length = strlen(name);
	const char *end = list + length;

	while (list < end) {
		const char *comma = memchr(list, ',', (size_t)(end - list));
		const char *stop = comma != NULL ? comma : end;

		if ((size_t)(stop - list) == name_length && memcmp(list, name, name_length) == 0)
			return true;
		list = stop + 1;
	}
	return false;
}

/* Copies the path of a line; one that leads out of what is mounted ("/../x") counts as the root,
 * which is "". */
static void copy_group(const char *group, size_t length, char path[static CGROUP_PATH_MAX])
{
	memcpy(path, group, length);
	path[length] = '\0';
	if (path[0] != '/' || length == 1 || strstr(path, "/..") != NULL)
		path[0] = '\0';
}

/*
 * From the lines "ID:CONTROLLERS:PATH" of /proc/self/cgroup the path of the v1 group that has the
 * controller, or, for controller "", of the v2 group. Answers false if there is no such line.
 */
static bool find_group(const char *lines, const char *controller, char path[static CGROUP_PATH_MAX])
{
	while (*lines != '\0') {
		const char *end = lines + strcspn(lines, "\n");
		const char *list = memchr(lines, ':', (size_t)(end - lines));
		const char *group =
			list != NULL ? memchr(list + 1, ':', (size_t)(end - list - 1)) : NULL;

		if (group != NULL && end - group <= CGROUP_PATH_MAX) {
			size_t length = (size_t)(group - list - 1);

			if (controller[0] == '\0' ? length == 0
						  : list_has(list + 1, length, controller)) {
				copy_group(group + 1, (size_t)(end - group - 1), path);
				return true;
			}
		}
		lines = *end == '\n' ? end + 1 : end;
	}
	return false;
}

static uint64_t group_cpus(const struct cores_files *files)
{
	static const char *const v1_bases[] = {CGROUP_ROOT "/cpu", CGROUP_ROOT "/cpu,cpuacct"};
	char lines[CGROUP_LIST_MAX];
	char group[CGROUP_PATH_MAX];
	uint64_t cpus = 0;

	if (!files->read(files->context, "/proc/self/cgroup", lines, sizeof(lines)))
		return 0;
	if (find_group(lines, "", group))
		cpus = least_limit(files, CGROUP_ROOT, group, read_v2);
	if (cpus != 0 || !find_group(lines, "cpu", group))
		return cpus;
	for (size_t i = 0; cpus == 0 && i < sizeof(v1_bases) / sizeof(v1_bases[0]); i++)
		cpus = least_limit(files, v1_bases[i], group, read_v1);
	return cpus;
}

uint64_t cores_memory(const struct cores_files *files)
{
	char lines[CGROUP_LIST_MAX];
	char group[CGROUP_PATH_MAX];
	uint64_t bytes = 0;

	if (!files->read(files->context, "/proc/self/cgroup", lines, sizeof(lines)))
		return 0;
	if (find_group(lines, "", group))
		bytes = least_limit(files, CGROUP_ROOT, group, read_memory_v2);
	if (bytes == 0 && find_group(lines, "memory", group))
		bytes = least_limit(files, CGROUP_ROOT "/memory", group, read_memory_v1);
	return bytes;
}

unsigned int cores_limit(unsigned int cpus, const struct cores_files *files)
{
	uint64_t quota = group_cpus(files);

	if (quota != 0 && quota < cpus)
		cpus = (unsigned int)quota;
	return cpus > 0 ? cpus : 1;
}

static bool read_real_file(void *context, const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t got = -1;

	(void)context;
	if (fd < 0)
		return false;
	while (length < size) {
		got = read(fd, buffer + length, size - length);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		length += (size_t)got;
	}
	fd_close(&fd);
	if (got < 0 || length == size)
		return false;
	buffer[length] = '\0';
	return true;
}

/* A mask that is too small for the machine is refused with EINVAL, hence the growth. */
static unsigned int allowed_cpus(void)
{
	for (size_t most = 1024; most <= 1U << 20; most *= 4) {
		size_t size = CPU_ALLOC_SIZE(most);
		cpu_set_t *set = CPU_ALLOC(most);
		int count = 0;
		int failure = 0;

		if (set == NULL)
			return 1;
		if (sched_getaffinity(0, size, set) == 0)
			count = CPU_COUNT_S(size, set);
		else
			failure = errno;
		CPU_FREE(set);
		if (failure != EINVAL)
			return count > 0 ? (unsigned int)count : 1;
	}
	return 1;
}

unsigned int config_cores(void)
{
	const struct cores_files files = {.read = read_real_file};

	return cores_limit(allowed_cpus(), &files);
}

uint64_t config_memory(void)
{
	const struct cores_files files = {.read = read_real_file};

	return cores_memory(&files);
}
