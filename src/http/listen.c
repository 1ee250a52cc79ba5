/* Making the listening socket. */
#include "http/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define FIELD	       "server.listen"
#define LOCK_NS	       (2 * NS_PER_S) /* that somebody else may hold the directory's lock */
#define LOCK_PAUSE_NS  (20 * NS_PER_MS)
#define SOCKET_FLAGS   (SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
#define PERMISSIONS    07777
#define DIRECTORY_SIZE sizeof(((struct listener *)0)->path)

union address {
	struct sockaddr any;
	struct sockaddr_in four;
	struct sockaddr_in6 six;
	struct sockaddr_un unix_;
	struct sockaddr_storage storage;
};

/* --- what was bound --------------------------------------------------------------------------- */

static bool is_loopback(const union address *address)
{
	if (address->any.sa_family == AF_INET)
		return ntohl(address->four.sin_addr.s_addr) >> 24 == 127;
	return address->any.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&address->six.sin6_addr);
}

static int describe_unix(const union address *address, socklen_t length, struct listener *listener)
{
	size_t offset = offsetof(struct sockaddr_un, sun_path);
	const char *path = address->unix_.sun_path;

	/* An abstract name begins with a NUL, which is shown as @. */
	bool abstract = length > offset && path[0] == '\0';
	snprintf(listener->url, sizeof(listener->url), "unix:%s%.*s", abstract ? "@" : "",
		 length > offset ? (int)(length - offset - abstract) : 0, path + abstract);
	return 0;
}

/* Sets url and beyond, of what was really bound. */
static int describe(struct listener *listener, bool tls)
{
	union address address;
	socklen_t length = sizeof(address);
	char host[64];
	char port[8];

	if (getsockname(listener->fd, &address.any, &length) < 0)
		return -errno;
	if (address.any.sa_family == AF_UNIX)
		return describe_unix(&address, length, listener);
	if (getnameinfo(&address.any, length, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return -EINVAL;
	snprintf(listener->url, sizeof(listener->url),
		 strchr(host, ':') ? "http%s://[%s]:%s" : "http%s://%s:%s", tls ? "s" : "", host,
		 port);
	listener->beyond = !is_loopback(&address);
	return 0;
}

/* --- a host and a port ------------------------------------------------------------------------ */

static int open_address(const struct addrinfo *address, int *ret_fd)
{
	const int on = 1;
	int fd = socket(address->ai_family, SOCKET_FLAGS, IPPROTO_TCP);
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

static int open_host(const struct config *config, struct listener *listener, struct error *error)
{
	const struct addrinfo hints = {
		.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *addresses = NULL;
	char service[8];

	snprintf(service, sizeof(service), "%u", config->listen_port);
	int lookup = getaddrinfo(config->listen_host, service, &hints, &addresses);
	int result = lookup == 0 ? -EADDRNOTAVAIL : -ENOENT;
	for (struct addrinfo *at = addresses; at && result < 0; at = at->ai_next)
		result = open_address(at, &listener->fd);
	if (addresses)
		freeaddrinfo(addresses);
	if (result == 0)
		return 0;
	return error_set(error, ERROR_INVALID, FIELD, "cannot listen on %s, port %u: %s",
			 config->listen_host, config->listen_port,
			 lookup != 0 ? gai_strerror(lookup) : strerror(-result));
}

/* --- a Unix socket ---------------------------------------------------------------------------- */

/* Locks the file's directory: a descriptor, or -errno. */
static int lock_directory(const char *path)
{
	char directory[DIRECTORY_SIZE];
	int64_t deadline_ns = clock_monotonic_ns() + LOCK_NS;
	const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
	const char *slash = strrchr(path, '/');
	int result;

	snprintf(directory, sizeof(directory), "%.*s", slash == path ? 1 : (int)(slash - path),
		 path);
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK && clock_monotonic_ns() < deadline_ns) {
			nanosleep(&pause, NULL);
			continue;
		}
		result = -errno;
		fd_close(&fd);
		return result;
	}
	return fd;
}

/* Whether somebody listens there: 1 or 0, or -errno if that cannot be told. */
static int somebody_listens(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCKET_FLAGS, 0);
	int result;

	if (fd < 0)
		return -errno;
	/* A full backlog is somebody's, too. */
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
		result = 1;
	else
		result = errno == ECONNREFUSED ? 0 : -errno;
	fd_close(&fd);
	return result;
}

/* Makes room at the path: removes what a dead predecessor has left. */
static int clear_path(const struct sockaddr_un *address, const char **ret_reason)
{
	struct stat status;

	if (lstat(address->sun_path, &status) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(status.st_mode)) {
		*ret_reason = "what lies there is no socket";
		return -EEXIST;
	}
	int listens = somebody_listens(address);
	if (listens > 0)
		return -EADDRINUSE;
	if (listens < 0)
		return listens;
	return unlink(address->sun_path) < 0 ? -errno : 0;
}

/* The file is never open to more than it shall be: the socket's own mode bounds it from the start,
 * and what the umask has taken is given afterwards. */
static int bind_path(const struct sockaddr_un *address, unsigned int mode,
		     struct listener *listener)
{
	struct stat status;

	listener->fd = socket(AF_UNIX, SOCKET_FLAGS, 0);
	if (listener->fd < 0 || fchmod(listener->fd, mode) < 0)
		return -errno;
	if (bind(listener->fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		return -errno;
	if (lstat(address->sun_path, &status) < 0)
		return -errno;
	memcpy(listener->path, address->sun_path, sizeof(listener->path));
	listener->device = status.st_dev;
	listener->inode = status.st_ino;
	if ((status.st_mode & PERMISSIONS) != mode && chmod(address->sun_path, mode) < 0)
		return -errno;
	return listen(listener->fd, SOMAXCONN) < 0 ? -errno : 0;
}

static int open_path(const struct config *config, struct listener *listener, struct error *error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *reason = NULL;
	int lock = lock_directory(config->listen_path);
	int result = lock < 0 ? lock : 0;

	/* The configuration holds no longer one. */
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", config->listen_path);
	if (result == 0)
		result = clear_path(&address, &reason);
	if (result == 0)
		result = bind_path(&address, config->listen_mode, listener);
	fd_close(&lock);
	if (result == 0)
		return 0;
	return error_set(error, ERROR_INVALID, FIELD, "cannot listen on unix:%s: %s",
			 config->listen_path, reason ? reason : strerror(-result));
}

/* --- one that was inherited ------------------------------------------------------------------- */

static int take_inherited(int fd, struct listener *listener, struct error *error)
{
	int type = 0;
	int listens = 0;
	socklen_t type_length = sizeof(type);
	socklen_t listens_length = sizeof(listens);

	listener->fd = fd;
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_length) < 0 ||
	    type != SOCK_STREAM || !listens)
		return error_set(error, ERROR_INVALID, "LISTEN_FDS",
				 "found descriptor %d, which is no listening stream socket; "
				 "expected one, as of ListenStream= with Accept=no",
				 fd);
	return fd_set_nonblocking(fd);
}

/* --- all of them ------------------------------------------------------------------------------ */

int listener_check(const struct listener *listener, const struct config *config,
		   struct error *error)
{
	if (!listener->beyond || config->tokens || config->allow_anonymous)
		return 0;
	return error_set(error, ERROR_INVALID, FIELD,
			 "found %s, which others than this machine can reach, without tokens; "
			 "expected a loopback address, server.tokens_file, or "
			 "server.allow_anonymous (TWINPOOL_ALLOW_ANONYMOUS=1)",
			 listener->url);
}

int listener_open(const struct config *config, int inherited, struct listener *ret_listener,
		  struct error *error)
{
	struct listener listener = {.fd = -1};
	int result;

	if (inherited >= 0)
		result = take_inherited(inherited, &listener, error);
	else if (config->listen_path)
		result = open_path(config, &listener, error);
	else
		result = open_host(config, &listener, error);
	if (result < 0)
		goto fail;
	result = describe(&listener, config->tls_certificate != NULL);
	if (result < 0) {
		(void)error_set(error, ERROR_INTERNAL, FIELD, "what was bound is not known: %s",
				strerror(-result));
		goto fail;
	}
	result = listener_check(&listener, config, error);
	if (result < 0)
		goto fail;
	*ret_listener = listener;
	return 0;
fail:
	listener_close(&listener);
	return result;
}

static void remove_file(struct listener *listener)
{
	struct stat status;
	int lock = lock_directory(listener->path);

	if (lock >= 0 && lstat(listener->path, &status) == 0 && status.st_dev == listener->device &&
	    status.st_ino == listener->inode)
		(void)unlink(listener->path);
	fd_close(&lock);
	listener->path[0] = '\0';
}

void listener_close(struct listener *listener)
{
	if (listener->path[0])
		remove_file(listener);
	fd_close(&listener->fd);
}
