#include "base/proc.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
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
