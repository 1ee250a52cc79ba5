/*
 * The listening socket, made here rather than by libmicrohttpd, so that an error says what could
 * not be bound and why, and the port is known if it was chosen by the kernel.
 */
#ifndef HTTP_LISTEN_H
#define HTTP_LISTEN_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Listens on host (numeric or a name; IPv6 without brackets) and port (0: any). *ret_fd is the
 * caller's, non-blocking and close-on-exec; url gets "http://127.0.0.1:8080". 0, or -errno and
 * *error with the field "server.listen". */
int listen_open(const char *host, uint16_t port, int *ret_fd, char *url, size_t url_size,
		struct error *error);

#endif
