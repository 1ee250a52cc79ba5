/*
 * File descriptors: closing, flags, and passing them over Unix sockets. Every descriptor made here
 * is close-on-exec. Thread: any.
 */
#ifndef BASE_FD_H
#define BASE_FD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Closes *fd if it is >= 0 and sets it to -1; errno is kept. */
void fd_close(int *fd);

int fd_set_nonblocking(int fd);

/* A sealed memory file (memfd_create(2)) with these bytes that can neither shrink, grow nor change
 * (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL). name shows in /proc. Answers 0 or
 * -errno. */
int fd_sealed_file(const char *name, const void *data, size_t length, int *ret_fd);

/*
 * Reads a sealed memory file that somebody else made: refuses one that is not sealed against
 * shrinking and writing or whose size is not exactly length (-EPROTO), so a hostile sender can
 * neither change nor cut it under our reading. Answers 0 and a malloc'ed copy with a NUL behind it,
 * which the caller frees, or -errno. */
int fd_read_sealed(int fd, size_t length, char **ret_data);

/* Reads a whole regular file of at most limit bytes: 0, -EFBIG, -EISDIR, or -errno. The copy has a
 * NUL behind it and is the caller's to free. */
int fd_read_file(const char *path, size_t limit, char **ret_data, size_t *ret_length);

/* Writes all of it, going on after EINTR and short writes: 0 or -errno. */
int fd_write_all(int fd, const void *data, size_t length);

#endif
