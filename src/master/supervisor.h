/*
 * A service manager such as systemd: what it hands over (a listening socket), and what it is told
 * (ready, reloading, stopping, alive). The protocols are those of sd_listen_fds(3) and
 * sd_notify(3), which are a few variables and datagrams, so no library is needed.
 *
 * All of it is the master's, the process that the manager has started, so NotifyAccess=main is
 * enough. The master passes on that the server is alive, and has to turn itself to do so.
 *
 * Without the variables nothing is there, and nothing is told. They are removed from the
 * environment: no job is to see them.
 */
#ifndef MASTER_SUPERVISOR_H
#define MASTER_SUPERVISOR_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/error.h"

struct supervisor {
	int listen_fd;	     /* handed over, close-on-exec; owned; -1: none */
	int64_t watchdog_ns; /* it kills the service when it has not heard of it for so long; 0: it
				does not watch */
	struct sockaddr_un address; /* where it is told */
	socklen_t address_length;   /* 0: nowhere */
};

/* Reads and removes the variables. 0, or -EINVAL and *error. */
int supervisor_take(struct supervisor *ret_supervisor, struct error *error);

/* Tells it, by lines such as "READY=1\nSTATUS=…". What cannot be told is said in the log. */
void supervisor_tell(const struct supervisor *supervisor, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Closes what was handed over. */
void supervisor_release(struct supervisor *supervisor);

#endif
