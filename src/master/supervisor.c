#include "master/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#define LISTEN_FDS_START 3
#define SEND_S		 1 /* that a manager may take for one datagram */

/* The value of a variable that is a whole number above 0; 0 if it is not there, -1 if it is none. */
static int64_t number_of(const char *name)
{
	const char *text = getenv(name);
	char *end;

	if (!text)
		return 0;
	errno = 0;
	long long number = strtoll(text, &end, 10);
	return errno == 0 && end != text && *end == '\0' && number > 0 ? number : -1;
}

/* Whether what comes with a variable is for this process. */
static bool is_meant(const char *variable)
{
	int64_t pid = number_of(variable);

	return pid == getpid();
}

static int take_socket(struct supervisor *supervisor, struct error *error)
{
	int64_t count = number_of("LISTEN_FDS");

	if (count == 0 || !is_meant("LISTEN_PID"))
		return 0;
	if (count != 1)
		return error_set(error, ERROR_INVALID, "LISTEN_FDS",
				 "found \"%.20s\"; expected one socket", getenv("LISTEN_FDS"));
	if (fcntl(LISTEN_FDS_START, F_SETFD, FD_CLOEXEC) < 0)
		return error_set(error, ERROR_INVALID, "LISTEN_FDS",
				 "found no open descriptor %d; expected the socket",
				 LISTEN_FDS_START);
	supervisor->listen_fd = LISTEN_FDS_START;
	return 0;
}

/* A path, or an abstract name, which begins with @. */
static int take_address(struct supervisor *supervisor, struct error *error)
{
	const char *text = getenv("NOTIFY_SOCKET");
	size_t length = text ? strlen(text) : 0;

	if (length == 0)
		return 0;
	if ((text[0] != '/' && text[0] != '@') || length >= sizeof(supervisor->address.sun_path))
		return error_set(error, ERROR_INVALID, "NOTIFY_SOCKET",
				 "found \"%.60s\"; expected the path of a Unix socket, or @ and an "
				 "abstract name",
				 text);
	supervisor->address.sun_family = AF_UNIX;
	memcpy(supervisor->address.sun_path, text, length);
	if (text[0] == '@')
		supervisor->address.sun_path[0] = '\0';
	supervisor->address_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
	return 0;
}

static void take_watchdog(struct supervisor *supervisor)
{
	int64_t us = number_of("WATCHDOG_USEC");

	if (us > 0 && us < INT64_MAX / NS_PER_US &&
	    (!getenv("WATCHDOG_PID") || is_meant("WATCHDOG_PID")))
		supervisor->watchdog_ns = us * NS_PER_US;
}

int supervisor_take(struct supervisor *ret_supervisor, struct error *error)
{
	static const char *const variables[] = {"LISTEN_PID",	 "LISTEN_FDS",	  "LISTEN_FDNAMES",
						"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"};
	struct supervisor supervisor = {.listen_fd = -1};
	int result = take_socket(&supervisor, error);

	if (result == 0)
		result = take_address(&supervisor, error);
	if (result < 0)
		return result;
	take_watchdog(&supervisor);
	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
		unsetenv(variables[i]);
	*ret_supervisor = supervisor;
	return 0;
}

static int send_text(const struct supervisor *supervisor, const char *text, size_t length)
{
	const struct timeval patience = {.tv_sec = SEND_S};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int result = 0;

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
	    sendto(fd, text, length, MSG_NOSIGNAL, (const struct sockaddr *)&supervisor->address,
		   supervisor->address_length) < 0)
		result = -errno;
	fd_close(&fd);
	return result;
}

void supervisor_tell(const struct supervisor *supervisor, const char *format, ...)
{
	char text[512];
	va_list arguments;

	if (supervisor->address_length == 0)
		return;
	va_start(arguments, format);
	int length = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (length < 0 || (size_t)length >= sizeof(text))
		return;
	int result = send_text(supervisor, text, (size_t)length);
	if (result < 0)
		log_warning("notify_failed", log_str("text", text),
			    log_str("error", strerrordesc_np(-result)));
}

void supervisor_release(struct supervisor *supervisor)
{
	fd_close(&supervisor->listen_fd);
}
