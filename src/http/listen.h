/*
 * The listening socket, made here rather than by libmicrohttpd, so that an error says what could
 * not be bound and why, and the port is known if it was chosen by the kernel.
 *
 * A Unix socket has a file. One that a dead predecessor has left is replaced, one on which somebody
 * listens is not, and whatever else lies there is not touched. Its directory is locked meanwhile
 * (flock(2)), so of two that start at once only one wins. The file goes with the listener, if it is
 * still this listener's.
 *
 * It may block, on a name look-up or on that lock: for the start and the end only.
 */
#ifndef HTTP_LISTEN_H
#define HTTP_LISTEN_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "config/config.h"

struct listener {
	int fd;		/* non-blocking, close-on-exec; -1: none */
	char url[128];	/* "http://127.0.0.1:8080", "https://…", "unix:/run/twinpool.sock" */
	bool beyond;	/* others than this machine can reach it */
	char path[108]; /* of the file that goes with it; "" if none does */
	dev_t device;	/* of that file, */
	ino_t inode;	/* by which it is known */
};

/* Listens as the configuration says; on inherited instead, which is taken, if that is not -1. 0, or
 * -errno and *error with the field "server.listen", or "LISTEN_FDS" for what was inherited. */
int listener_open(const struct config *config, int inherited, struct listener *ret_listener,
		  struct error *error);

/* Whether the configuration lets anybody in who can reach the listener, or wants tokens. 0, or
 * -EINVAL and *error. */
int listener_check(const struct listener *listener, const struct config *config,
		   struct error *error);

/* Closes it, and removes its file. Does nothing to one that is closed. */
void listener_close(struct listener *listener);

#endif
