#include "ipc/channel.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int channel_pair(int ret_fds[static 2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_fds) < 0)
		return -errno;
	return 0;
}

/* Room for the control message, aligned as CMSG_FIRSTHDR() wants it. */
union control {
	char bytes[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)];
	struct cmsghdr align;
};

static void put_fds(struct msghdr *message, union control *control, const int *fds, size_t fd_count)
{
	memset(control, 0, sizeof(*control));
	message->msg_control = control->bytes;
	message->msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
	struct cmsghdr *header = CMSG_FIRSTHDR(message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
	memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
}

static bool is_empty(const struct iovec *parts, size_t part_count)
{
	while (part_count > 0)
		if (parts[--part_count].iov_len > 0)
			return false;
	return true;
}

int channel_send(int fd, const struct iovec *parts, size_t part_count, const int *fds,
		 size_t fd_count, int dontwait)
{
	struct msghdr message = {.msg_iovlen = part_count};
	union control control;

	if (fd_count > CHANNEL_FDS_MAX || is_empty(parts, part_count))
		return -EINVAL;
	/* sendmsg() only reads the parts; its interface is older than const. */
	memcpy(&message.msg_iov, &parts, sizeof(parts)); // NOLINT(bugprone-sizeof-expression)
	if (fd_count > 0)
		put_fds(&message, &control, fds, fd_count);
	for (;;) {
		if (sendmsg(fd, &message, MSG_NOSIGNAL | (dontwait ? MSG_DONTWAIT : 0)) >= 0)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
}

static void close_all(const int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
}

/* Takes the descriptors out of a received message; closes those that do not fit. */
static int take_fds(struct msghdr *message, int *fds, size_t fds_max, size_t *ret_count)
{
	int all[CHANNEL_FDS_MAX];
	size_t count = 0;

	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
	     header = CMSG_NXTHDR(message, header)) {
		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		size_t here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(all + count, CMSG_DATA(header), here * sizeof(int));
		count += here;
	}
	/* MSG_CTRUNC alone: this process has no room for another descriptor. */
	if (count > fds_max || (message->msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		close_all(all, count);
		return -EMSGSIZE;
	}
	if (count > 0)
		memcpy(fds, all, count * sizeof(int));
	*ret_count = count;
	return 0;
}

ssize_t channel_receive(int fd, void *buffer, size_t size, int *fds, size_t fds_max,
			size_t *ret_fd_count, int dontwait)
{
	union control control;
	struct iovec part = {.iov_base = buffer, .iov_len = size};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes)};
	ssize_t length;

	/* A peer that died with unread messages gives ECONNRESET, once and before what it had sent
	 * itself; that is still there to be read, and the end behind it. */
	do
		length = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | (dontwait ? MSG_DONTWAIT : 0));
	while (length < 0 && (errno == EINTR || errno == ECONNRESET));
	if (length < 0)
		return -errno;
	*ret_fd_count = 0;
	if (length == 0)
		fds_max = 0; /* no end carries descriptors: an empty message of a stranger */
	if (message.msg_controllen > 0 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		int result = take_fds(&message, fds, fds_max, ret_fd_count);
		if (result < 0)
			return result;
	}
	return length;
}
