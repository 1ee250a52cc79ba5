#include "base/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RESOLVE_TRIES 16

/* Opens the last name, or walks down one directory: a descriptor, or -errno. */
static int open_step(int directory, const char *name, size_t length, int flags, mode_t mode)
{
	char step[NAME_MAX + 1];

	if (length >= sizeof(step)) {
		return -ENAMETOOLONG;
	}
	memcpy(step, name, length);
	step[length] = '\0';
	if (strcmp(step, "..") == 0) {
		return -EXDEV;
	}
	int fd = openat(directory, step, flags | O_NOFOLLOW | O_CLOEXEC, mode);
	// cppcheck-suppress resourceLeak ; the descriptor is what is answered
	return fd < 0 ? -errno : fd;
}

static int open_by_walking(int root, const char *path, int flags, mode_t mode)
{
	int directory = root;

	if (path[0] == '/') {
		return -EXDEV;
	}
	for (;;) {
		size_t length = strcspn(path, "/");
		const char *rest = path + length;
		bool is_last = *rest == '\0';
		int fd = directory;
		if (length > 0 || is_last) {
			fd = open_step(directory, length > 0 ? path : ".", length > 0 ? length : 1,
				       is_last ? flags : O_PATH | O_DIRECTORY, is_last ? mode : 0);
		}
		if (fd != directory && directory != root) {
			close(directory);
		}
		if (fd < 0 || is_last) {
			return fd;
		}
		directory = fd;
		path = rest + 1;
	}
}

int beneath_open(int directory, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (unsigned int)flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
		.mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	long fd = -1;

	/* EAGAIN: something was renamed meanwhile and the kernel could not be sure of a "..". */
	for (int i = 0; i < RESOLVE_TRIES; i++) {
		fd = syscall(SYS_openat2, directory, path, &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) {
			break;
		}
	}
	if (fd < 0 && (errno == ENOSYS || errno == EPERM)) {
		return open_by_walking(directory, path, flags | O_NOCTTY | O_NONBLOCK, mode);
	}
	return fd < 0 ? -errno : (int)fd;
}
