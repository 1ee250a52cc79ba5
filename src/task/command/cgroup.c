/*
 * A run's cgroup. Hosts reach it by its path: they keep no descriptors of the master's.
 *
 * Invariant: the name of a run's cgroup begins with the pid of its host, which the host keeps until it
 * is reaped; so the master, who reaps, knows whose have to go.
 */
#include "task/command/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define TEXT_SIZE   4096
#define DEPTH_MAX   32 /* of cgroups that a run has made below its own */
#define REMOVE_NS   NS_PER_S
#define PAUSE_NS    NS_PER_MS
#define NUMBER_SIZE 32

/* --- files --- */

int cgroup_write(int directory, const char *name, const char *text)
{
	int fd = openat(directory, name, O_WRONLY | O_CLOEXEC);
	int status = fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;

	fd_close(&fd);
	return status;
}

int cgroup_read(int directory, const char *name, char *text, size_t size)
{
	size_t length = 0;
	ssize_t got = 0;
	int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);

	text[0] = '\0';
	if (fd < 0) {
		return -errno;
	}
	while (length < size - 1 && (got = read(fd, text + length, size - 1 - length)) > 0) {
		length += (size_t)got;
	}
	int status = got < 0 ? -errno : 0;
	text[length] = '\0';
	fd_close(&fd);
	return status;
}

/* --- removing --- */

/* Removes the cgroups below that of an open directory. Depth is bounded: what is deeper makes the
 * rmdir() above it fail, and stays. */
static void remove_below(int directory, int depth) // NOLINT(misc-no-recursion): bounded
{
	int again = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = again < 0 ? NULL : fdopendir(again);

	if (list == NULL) {
		fd_close(&again);
		return;
	}
	for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
		if (entry->d_type != DT_DIR || strcmp(entry->d_name, ".") == 0 ||
		    strcmp(entry->d_name, "..") == 0) {
			continue;
		}
		int inner = openat(directory, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (inner >= 0 && depth < DEPTH_MAX) {
			remove_below(inner, depth + 1);
		}
		fd_close(&inner);
		unlinkat(directory, entry->d_name, AT_REMOVEDIR);
	}
	closedir(list);
}

int cgroup_remove_at(int directory, const char *name)
{
	if (unlinkat(directory, name, AT_REMOVEDIR) == 0 || errno == ENOENT) {
		return 0;
	}
	int inner = openat(directory, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (inner < 0) {
		return -errno;
	}
	cgroup_write(inner, "cgroup.kill", "1");
	remove_below(inner, 0);
	fd_close(&inner);
	return unlinkat(directory, name, AT_REMOVEDIR) == 0 ? 0 : -errno;
}

static int open_runs(void)
{
	char path[CGROUP_PATH_SIZE + 8];

	snprintf(path, sizeof(path), "%s/runs", cgroup_state()->path);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int cgroup_remove(struct cgroup *cgroup)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};
	int64_t deadline_ns = clock_monotonic_ns() + REMOVE_NS;
	int status = -EBUSY;

	if (cgroup->directory < 0) {
		return 0;
	}
	fd_close(&cgroup->directory);
	int runs = open_runs();
	if (runs < 0) {
		return -errno;
	}
	while ((status = cgroup_remove_at(runs, cgroup->name)) == -EBUSY &&
	       clock_monotonic_ns() < deadline_ns) {
		nanosleep(&pause, NULL);
	}
	fd_close(&runs);
	return status;
}

bool cgroup_end_dead(bool (*lives)(pid_t pid, void *data), void *data)
{
	int runs = cgroup_state()->in_force ? open_runs() : -1;
	DIR *list = runs < 0 ? NULL : fdopendir(runs);
	bool all = true;

	if (list == NULL) {
		fd_close(&runs);
		return true;
	}
	for (struct dirent *entry; (entry = readdir(list)) != NULL;) {
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.' &&
		    !lives((pid_t)strtol(entry->d_name, NULL, 10), data)) {
			all = cgroup_remove_at(dirfd(list), entry->d_name) == 0 && all;
		}
	}
	closedir(list);
	return all;
}

/* --- a run --- */

static int write_number(const struct cgroup *cgroup, const char *name, int64_t number)
{
	char text[NUMBER_SIZE];

	snprintf(text, sizeof(text), "%" PRId64, number);
	return cgroup_write(cgroup->directory, name, text);
}

/* A limit is of memory: what does not fit is not to go to the swap, where it would cost others. And
 * who breaks it ends as a whole, not piece by piece. */
static int limit(const struct cgroup *cgroup, const struct cgroup_limits *limits)
{
	int status = 0;

	if (limits->memory_bytes > 0) {
		status = write_number(cgroup, "memory.max", limits->memory_bytes);
		if (status == 0) {
			status = cgroup_write(cgroup->directory, "memory.oom.group", "1");
		}
		if (status == 0) {
			status = cgroup_write(cgroup->directory, "memory.swap.max", "0");
			status = status == -ENOENT ? 0 : status; /* swap is not accounted for */
		}
	}
	if (status == 0 && limits->processes > 0 && cgroup_state()->has_pids) {
		status = write_number(cgroup, "pids.max", limits->processes);
	}
	return status;
}

int cgroup_make(const struct cgroup_limits *limits, struct cgroup *ret_cgroup)
{
	static atomic_ullong counter;
	struct cgroup cgroup = {.directory = -1};
	int runs = open_runs();

	if (runs < 0) {
		return -errno;
	}
	snprintf(cgroup.name, sizeof(cgroup.name), "%d.%llu", (int)getpid(),
		 atomic_fetch_add(&counter, 1));
	int status = mkdirat(runs, cgroup.name, 0755) < 0 ? -errno : 0;
	if (status < 0) {
		goto fail;
	}
	cgroup.directory = openat(runs, cgroup.name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	status = cgroup.directory < 0 ? -errno : limit(&cgroup, limits);
	if (status < 0) {
		fd_close(&cgroup.directory);
		unlinkat(runs, cgroup.name, AT_REMOVEDIR);
		goto fail;
	}
	*ret_cgroup = cgroup;
fail:
	fd_close(&runs);
	return status;
}

void cgroup_kill(const struct cgroup *cgroup)
{
	if (cgroup->directory >= 0) {
		cgroup_write(cgroup->directory, "cgroup.kill", "1");
	}
}

bool cgroup_has(const struct cgroup *cgroup, pid_t pid)
{
	char path[64];
	char text[TEXT_SIZE];
	char own[CGROUP_PATH_SIZE];
	char wanted[CGROUP_NAME_SIZE + 8];

	if (cgroup->directory < 0) {
		return false;
	}
	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	if (cgroup_read(AT_FDCWD, path, text, sizeof(text)) < 0 ||
	    !cgroup_parse_own(text, own, sizeof(own))) {
		return false;
	}
	snprintf(wanted, sizeof(wanted), "/runs/%s", cgroup->name);
	const char *at = strstr(own, wanted);
	/* Behind it: nothing, a cgroup below it, or " (deleted)". */
	return at != NULL && strchr("/ ", at[strlen(wanted)]) != NULL;
}

static void read_cpu(const struct cgroup *cgroup, int64_t *ret_user_ns, int64_t *ret_system_ns)
{
	char text[TEXT_SIZE];

	*ret_user_ns = *ret_system_ns = -1;
	if (cgroup_read(cgroup->directory, "cpu.stat", text, sizeof(text)) < 0) {
		return;
	}
	int64_t user_us = cgroup_parse_keyed(text, "user_usec");
	int64_t system_us = cgroup_parse_keyed(text, "system_usec");
	if (user_us >= 0 && system_us >= 0) {
		*ret_user_ns = user_us * NS_PER_US;
		*ret_system_ns = system_us * NS_PER_US;
	}
}

int64_t cgroup_cpu_ns(const struct cgroup *cgroup)
{
	int64_t user_ns;
	int64_t system_ns;

	read_cpu(cgroup, &user_ns, &system_ns);
	return user_ns < 0 ? -1 : user_ns + system_ns;
}

void cgroup_read_usage(const struct cgroup *cgroup, struct cgroup_usage *ret_usage)
{
	struct cgroup_usage usage = {.peak_bytes = -1};
	char text[TEXT_SIZE];

	if (cgroup_read(cgroup->directory, "memory.peak", text, sizeof(text)) == 0) {
		usage.peak_bytes = strtoll(text, NULL, 10);
	}
	if (cgroup_read(cgroup->directory, "memory.events", text, sizeof(text)) == 0) {
		/* "oom" counts here only if it was this cgroup's own limit. */
		usage.was_killed = cgroup_parse_keyed(text, "oom_kill") > 0;
		usage.was_limited = usage.was_killed && cgroup_parse_keyed(text, "oom") > 0;
	}
	read_cpu(cgroup, &usage.cpu_user_ns, &usage.cpu_system_ns);
	*ret_usage = usage;
}
