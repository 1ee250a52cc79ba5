#include "base/proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

int64_t proc_number(int fd, unsigned int place)
{
	char text[256];
	ssize_t length = pread(fd, text, sizeof(text) - 1, 0);
	char *at = text;
	char *end;

	if (length <= 0)
		return -1;
	text[length] = '\0';
	for (;; place--) {
		int64_t number = strtoll(at, &end, 10);
		if (end == at)
			return -1;
		if (place == 0)
			return number;
		at = end;
	}
}

int64_t proc_rss_bytes_of(int statm_fd)
{
	int64_t pages = proc_number(statm_fd, 1);

	return pages < 0 ? -1 : pages * sysconf(_SC_PAGESIZE);
}

int64_t proc_rss_bytes(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int64_t bytes = proc_rss_bytes_of(fd);
	close(fd);
	return bytes;
}

int64_t proc_thread_cpu_ns(pid_t pid, pid_t tid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", (int)pid, (int)tid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int64_t ns = proc_number(fd, 0);
	close(fd);
	return ns;
}

static int64_t count_entries(const char *path)
{
	DIR *directory = opendir(path);
	int64_t entries = 0;

	if (!directory)
		return -1;
	for (const struct dirent *entry; (entry = readdir(directory));)
		entries += entry->d_name[0] != '.';
	closedir(directory);
	return entries;
}

/* Since Linux 6.2 the directory's size is the number of descriptors; before, it was 0. */
static int64_t open_fds(void)
{
	static const char path[] = "/proc/self/fd";
	struct stat status;

	if (stat(path, &status) == 0 && status.st_size > 0)
		return status.st_size;
	int64_t entries = count_entries(path);
	return entries > 0 ? entries - 1 : -1; /* without the one that it was read by */
}

/* The 20th field of stat (proc(5)); the second one may hold spaces and parentheses. */
static int64_t thread_count(void)
{
	char text[1024];
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	int64_t threads;

	if (fd >= 0)
		close(fd);
	if (length <= 0)
		return -1;
	text[length] = '\0';
	const char *at = strrchr(text, ')');
	for (int field = 3; at && field <= 20; field++)
		at = strchr(at + 1, ' ');
	return at && sscanf(at, "%" SCNd64, &threads) == 1 ? threads : -1;
}

void proc_self_take(struct proc_self *ret_self)
{
	struct rlimit limit;
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	int64_t pages = fd < 0 ? -1 : proc_number(fd, 0);

	if (fd >= 0)
		close(fd);
	*ret_self = (struct proc_self){
		.virtual_bytes = pages < 0 ? -1 : pages * sysconf(_SC_PAGESIZE),
		.open_fds = open_fds(),
		.max_fds = -1,
		.threads = thread_count(),
	};
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur <= INT64_MAX)
		ret_self->max_fds = (int64_t)limit.rlim_cur;
}
