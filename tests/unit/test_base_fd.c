/*
 * Descriptors: sealed files that keep their promise and those that do not, whole files, whole
 * writes.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"

static void test_close_and_flags(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(fd_set_nonblocking(fds[0]), 0);
	assert_true(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
	char c;
	assert_int_equal(read(fds[0], &c, 1), -1);
	assert_int_equal(errno, EAGAIN);

	int closed = fds[0];
	errno = ENOTBLK;
	fd_close(&fds[0]);
	assert_int_equal(errno, ENOTBLK);
	assert_int_equal(fds[0], -1);
	assert_int_equal(fcntl(closed, F_GETFD), -1);
	fd_close(&fds[0]);
	fd_close(&fds[1]);
	assert_int_equal(fd_set_nonblocking(closed), -EBADF);
}

static void test_sealed_file(void **state)
{
	static const char text[] = "sealed";
	char *data = NULL;
	int fd = -1;

	(void)state;
	assert_int_equal(fd_sealed_file("test", text, 6, &fd), 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(fcntl(fd, F_GET_SEALS) & 0xf,
			 F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(ftruncate(fd, 3), -1);
	assert_int_equal(ftruncate(fd, 30), -1);
	assert_ptr_equal(mmap(NULL, 6, PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);

	/* wherever the descriptor stands */
	assert_int_equal(lseek(fd, 4, SEEK_SET), 4);
	assert_int_equal(fd_read_sealed(fd, 6, &data), 0);
	assert_string_equal(data, "sealed");
	free(data);
	data = NULL;

	assert_int_equal(fd_read_sealed(fd, 5, &data), -EPROTO);
	assert_int_equal(fd_read_sealed(fd, 7, &data), -EPROTO);
	assert_int_equal(fd_read_sealed(fd, 0, &data), -EPROTO);
	assert_int_equal(fd_read_sealed(fd, SIZE_MAX, &data), -EPROTO);
	assert_null(data);
	fd_close(&fd);
}

static void test_sealed_empty_and_large(void **state)
{
	const size_t length = 5 << 20;
	char *large = malloc(length), *data = NULL;
	int fd = -1;

	(void)state;
	assert_int_equal(fd_sealed_file("empty", "", 0, &fd), 0);
	assert_int_equal(fd_read_sealed(fd, 0, &data), 0);
	assert_string_equal(data, "");
	free(data);
	fd_close(&fd);

	assert_non_null(large);
	for (size_t i = 0; i < length; i++)
		large[i] = (char)(i % 251);
	assert_int_equal(fd_sealed_file("large", large, length, &fd), 0);
	assert_int_equal(fd_read_sealed(fd, length, &data), 0);
	assert_memory_equal(data, large, length);
	assert_int_equal(data[length], '\0');
	free(data);
	free(large);
	fd_close(&fd);
}

/* A memory file of 4 bytes with these seals. */
static int make_file(int seals)
{
	int fd = memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "data", 4), 4);
	if (seals != 0)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void test_unsealed_is_refused(void **state)
{
	static const int not_enough[] = {0,
					 F_SEAL_SHRINK,
					 F_SEAL_WRITE,
					 F_SEAL_GROW | F_SEAL_SEAL,
					 F_SEAL_GROW | F_SEAL_WRITE,
					 F_SEAL_SHRINK | F_SEAL_GROW};
	char *data = NULL;
	int fd, fds[2];

	(void)state;
	for (size_t i = 0; i < sizeof(not_enough) / sizeof(not_enough[0]); i++) {
		fd = make_file(not_enough[i]);
		assert_int_equal(fd_read_sealed(fd, 4, &data), -EPROTO);
		fd_close(&fd);
	}
	fd = make_file(F_SEAL_SHRINK | F_SEAL_WRITE);
	assert_int_equal(fd_read_sealed(fd, 4, &data), 0);
	assert_string_equal(data, "data");
	free(data);
	data = NULL;
	fd_close(&fd);

	/* what has no seals at all */
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(fd_read_sealed(fds[0], 0, &data), -EPROTO);
	fd_close(&fds[0]);
	fd_close(&fds[1]);
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct stat stat;
	assert_int_equal(fstat(fd, &stat), 0);
	assert_int_equal(fd_read_sealed(fd, (size_t)stat.st_size, &data), -EPROTO);
	fd_close(&fd);
	assert_int_equal(fd_read_sealed(-1, 0, &data), -EBADF);
	assert_null(data);
}

static char directory[] = "/tmp/test_base_fd.XXXXXX";
static char path[64];

static int make_directory(void **state)
{
	(void)state;
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/file", directory);
	return 0;
}

static int remove_directory(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(directory);
}

static void write_file(const char *data, size_t length)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, data, length), 0);
	fd_close(&fd);
}

static void test_read_file(void **state)
{
	static char content[20000];
	static const size_t lengths[] = {0, 1, 4095, 4096, 4097, 8192, 20000};
	char *data = NULL;
	size_t length = 99;

	(void)state;
	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = (char)(i % 253);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		const size_t limits[] = {lengths[i], lengths[i] + 1, 100000, SIZE_MAX};

		write_file(content, lengths[i]);
		for (size_t l = 0; l < 4; l++) {
			assert_int_equal(fd_read_file(path, limits[l], &data, &length), 0);
			assert_int_equal(length, lengths[i]);
			assert_memory_equal(data, content, length);
			assert_int_equal(data[length], '\0');
			free(data);
			data = NULL;
		}
		length = 99;
		if (lengths[i] > 0)
			assert_int_equal(fd_read_file(path, lengths[i] - 1, &data, &length),
					 -EFBIG);
		assert_int_equal(length, 99);
		assert_null(data);
	}
}

static void test_read_file_refuses(void **state)
{
	char *data = NULL;
	size_t length = 99;

	(void)state;
	assert_int_equal(fd_read_file(directory, 100, &data, &length), -EISDIR);
	assert_int_equal(fd_read_file("/nonexistent/file", 100, &data, &length), -ENOENT);
	assert_int_equal(fd_read_file("/dev/null", 100, &data, &length), -EINVAL);
	/* a FIFO with no writer must not hold us up */
	(void)unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(fd_read_file(path, 100, &data, &length), -EINVAL);
	assert_null(data);
	assert_int_equal(length, 99);

	/* a file whose size is told as 0 but that has content, and more than the limit of it */
	assert_int_equal(fd_read_file("/proc/self/status", 100000, &data, &length), 0);
	assert_memory_equal(data, "Name:", 5);
	assert_int_equal(length, strlen(data));
	free(data);
	data = NULL;
	assert_int_equal(fd_read_file("/proc/self/status", 64, &data, &length), -EFBIG);
	assert_null(data);
}

static void test_write_all(void **state)
{
	const size_t total = 1 << 20;
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t reader = fork();
	assert_true(reader >= 0);
	if (reader == 0) {
		static char chunk[1000];
		size_t seen = 0;
		ssize_t got;

		close(fds[1]);
		while ((got = read(fds[0], chunk, sizeof(chunk))) > 0)
			for (ssize_t i = 0; i < got; i++, seen++)
				if (chunk[i] != (char)(seen % 251))
					_exit(1);
		_exit(seen == total ? 0 : 2);
	}
	char *data = malloc(total);
	assert_non_null(data);
	for (size_t i = 0; i < total; i++)
		data[i] = (char)(i % 251);
	fd_close(&fds[0]);
	assert_int_equal(fd_write_all(fds[1], data, total), 0);
	fd_close(&fds[1]);
	free(data);

	int status;
	assert_int_equal(waitpid(reader, &status, 0), reader);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(fd_write_all(-1, "x", 1), -EBADF);
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	assert_int_equal(fd_write_all(full, "x", 1), -ENOSPC);
	fd_close(&full);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_close_and_flags),
		cmocka_unit_test(test_sealed_file),
		cmocka_unit_test(test_sealed_empty_and_large),
		cmocka_unit_test(test_unsealed_is_refused),
		cmocka_unit_test(test_read_file),
		cmocka_unit_test(test_read_file_refuses),
		cmocka_unit_test(test_write_all),
	};

	return cmocka_run_group_tests_name("base fd", tests, make_directory, remove_directory);
}
