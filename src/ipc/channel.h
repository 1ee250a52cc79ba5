/*
 * A channel: one end of a SOCK_SEQPACKET pair. Messages keep their bounds and their order, and may
 * carry descriptors (SCM_RIGHTS, unix(7)). Every received descriptor is close-on-exec. Thread:
 * several threads may receive from, and send to, one channel at once: the kernel gives each message
 * to one of them whole.
 */
#ifndef IPC_CHANNEL_H
#define IPC_CHANNEL_H

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#define CHANNEL_FDS_MAX 8

/* A connected pair, close-on-exec, blocking. 0 or -errno. */
int channel_pair(int ret_fds[static 2]);

/*
 * Sends the parts as one message, whole or not at all. Never raises SIGPIPE. Answers 0, -EAGAIN if
 * the socket is full and non-blocking (or dontwait), -EPIPE or -ECONNRESET if the other side is
 * gone, -EINVAL for an empty message, which would read as the end, or -errno. Descriptors stay the
 * caller's.
 */
int channel_send(int fd, const struct iovec *parts, size_t part_count, const int *fds,
		 size_t fd_count, int dontwait);

/*
 * Receives one message. Answers its length (> 0), 0 at the end, or -errno: -EAGAIN if there is none
 * (non-blocking or dontwait), -EMSGSIZE if it did not fit buffer, or had more descriptors than
 * fds_max or than this process has room for (it is lost and its descriptors closed). However the
 * peer died, what it had sent is read before the end. fds the caller then owns; *ret_fd_count may
 * be 0.
 */
ssize_t channel_receive(int fd, void *buffer, size_t size, int *fds, size_t fds_max,
			size_t *ret_fd_count, int dontwait);

#endif
