/* Making the listening socket. It may block on a name look-up: only for the start. */
#include "http/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"

static int open_address(const struct addrinfo *address, int *ret_fd)
{
	const int on = 1;
	int fd =
		socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	int result;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		goto fail;
	if (bind(fd, address->ai_addr, address->ai_addrlen) < 0)
		goto fail;
	if (listen(fd, SOMAXCONN) < 0)
		goto fail;
	*ret_fd = fd;
	return 0;
fail:
	result = -errno;
	fd_close(&fd);
	return result;
}

/* Of what was really bound. */
static int write_url(int fd, char *url, size_t size)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	char host[64];
	char port[8];

	if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
		return -errno;
	if (getnameinfo((struct sockaddr *)&address, length, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return -EINVAL;
	snprintf(url, size, strchr(host, ':') ? "http://[%s]:%s" : "http://%s:%s", host, port);
	return 0;
}

static int set_error(struct error *error, const char *host, uint16_t port, const char *reason)
{
	return error_set(error, ERROR_INVALID, "server.listen", "cannot listen on %s, port %u: %s",
			 host, port, reason);
}

int listen_open(const char *host, uint16_t port, int *ret_fd, char *url, size_t url_size,
		struct error *error)
{
	const struct addrinfo hints = {
		.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *addresses = NULL;
	char service[8];
	int fd = -1;

	snprintf(service, sizeof(service), "%u", port);
	int lookup = getaddrinfo(host, service, &hints, &addresses);
	if (lookup != 0)
		return set_error(error, host, port, gai_strerror(lookup));
	int result = -EADDRNOTAVAIL;
	for (struct addrinfo *at = addresses; at && result < 0; at = at->ai_next)
		result = open_address(at, &fd);
	freeaddrinfo(addresses);
	if (result == 0)
		result = write_url(fd, url, url_size);
	if (result < 0) {
		fd_close(&fd);
		(void)set_error(error, host, port, strerror(-result));
		return result;
	}
	*ret_fd = fd;
	return 0;
}
