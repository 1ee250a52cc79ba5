/*
 * File descriptors, sealed memory files, and whole reads and writes.
 *
 * What another process sends is read only once nothing can change it any more: the seals are looked
 * at first, then the size, then the content, and seals cannot be taken off.
 */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_STEP 4096

void fd_close(int *fd)
{
	int kept = errno;

	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
	errno = kept;
}

int fd_set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

int fd_sealed_file(const char *name, const void *data, size_t length, int *ret_fd)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int status;

	if (fd < 0)
		return -errno;
	status = fd_write_all(fd, data, length);
	if (status == 0 && fcntl(fd, F_ADD_SEALS, seals) < 0)
		status = -errno;
	if (status != 0) {
		fd_close(&fd);
		return status;
	}
	*ret_fd = fd;
	return 0;
}

/* Reads exactly length bytes from the start of a file; one that ends before is -EPROTO. */
static int read_exactly(int fd, char *data, size_t length)
{
	size_t done = 0;

	while (done < length) {
		ssize_t got = pread(fd, data + done, length - done, (off_t)done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -EPROTO;
		done += (size_t)got;
	}
	return 0;
}

int fd_read_sealed(int fd, size_t length, char **ret_data)
{
	const int needed = F_SEAL_SHRINK | F_SEAL_WRITE;
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat stat;

	/* EINVAL: a kind of file that has no seals. */
	if (seals < 0)
		return errno == EINVAL ? -EPROTO : -errno;
	if ((seals & needed) != needed)
		return -EPROTO;
	if (fstat(fd, &stat) < 0)
		return -errno;
	if (stat.st_size < 0 || (uintmax_t)stat.st_size != length)
		return -EPROTO;

	char *data = malloc(length + 1);
	if (data == NULL)
		return -ENOMEM;
	int status = read_exactly(fd, data, length);
	if (status != 0) {
		free(data);
		return status;
	}
	data[length] = '\0';
	*ret_data = data;
	return 0;
}

/* Opens a regular file. O_NONBLOCK: a FIFO at that path must not hold us up before we have seen
 * what it is. */
static int open_regular(const char *path, int *ret_fd, struct stat *ret_stat)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int status = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, ret_stat) < 0)
		status = -errno;
	else if (S_ISDIR(ret_stat->st_mode))
		status = -EISDIR;
	else if (!S_ISREG(ret_stat->st_mode))
		status = -EINVAL;
	if (status != 0) {
		fd_close(&fd);
		return status;
	}
	*ret_fd = fd;
	return 0;
}

/* Reads on until the end. *data has room for *capacity bytes and grows, up to limit and one byte
 * for the end mark. */
static int read_to_end(int fd, size_t limit, char **data, size_t capacity, size_t *ret_length)
{
	size_t length = 0;

	for (;;) {
		ssize_t got = read(fd, *data + length, capacity - length);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		length += (size_t)got;
		if (length > limit)
			return -EFBIG;
		if (length < capacity)
			continue;
		capacity = capacity > limit / 2 ? limit + 1 : capacity * 2;
		char *grown = realloc(*data, capacity);
		if (grown == NULL)
			return -ENOMEM;
		*data = grown;
	}
	(*data)[length] = '\0';
	*ret_length = length;
	return 0;
}

int fd_read_file(const char *path, size_t limit, char **ret_data, size_t *ret_length)
{
	struct stat stat;
	char *data = NULL;
	size_t capacity, length = 0;
	int fd = -1, status;

	status = open_regular(path, &fd, &stat);
	if (status != 0)
		return status;
	if (limit > (size_t)PTRDIFF_MAX - 1)
		limit = (size_t)PTRDIFF_MAX - 1;
	status = -EFBIG;
	if ((uintmax_t)stat.st_size > limit)
		goto fail;

	/* The size is a hint only: files of /proc say 0, and a file can grow while it is read. */
	capacity = (size_t)stat.st_size + 1;
	if (capacity < READ_STEP)
		capacity = limit < READ_STEP ? limit + 1 : READ_STEP;
	data = malloc(capacity);
	status = data == NULL ? -ENOMEM : read_to_end(fd, limit, &data, capacity, &length);
	if (status != 0)
		goto fail;
	fd_close(&fd);
	*ret_data = data;
	*ret_length = length;
	return 0;

fail:
	free(data);
	fd_close(&fd);
	return status;
}

int fd_write_all(int fd, const void *data, size_t length)
{
	const char *at = data;

	while (length > 0) {
		ssize_t written = write(fd, at, length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -errno;
		if (written == 0)
			return -EIO;
		at += written;
		length -= (size_t)written;
	}
	return 0;
}
