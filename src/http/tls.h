/*
 * TLS: the certificate that the service shows, its key, and whose certificates it wants to see.
 *
 * libmicrohttpd asks for the certificate at each handshake, so a new one is in force from the next
 * connection on, and those that are open go on under the old one. A connection may still be in its
 * handshake then; so an identity is kept until all connections that began while it was in force, or
 * before, have ended.
 *
 * The key is read by the server only: neither the master nor any host ever has it in its memory.
 *
 * Event loop only; one struct tls in a process, since GnuTLS tells its callback nothing.
 */
#ifndef HTTP_TLS_H
#define HTTP_TLS_H

#include <microhttpd.h>

#include "base/error.h"
#include "config/config.h"

#define TLS_OPTIONS 3 /* that tls_options() sets, its end included */

struct tls;

/* Reads what server.tls names. 0, or -errno and *error, whose field is "server.tls.key" or the
 * like. */
int tls_new(const struct config *config, struct tls **ret_tls, struct error *error);

/* Reads it again; the old one stays in force if that fails. */
int tls_reload(struct tls *tls, const struct config *config, struct error *error);

/* What libmicrohttpd has to know. */
void tls_options(const struct tls *tls, struct MHD_OptionItem options[static TLS_OPTIONS]);

/* A connection has begun, or ended; *mark is the connection's, and NULL before. */
void tls_connection_began(struct tls *tls, void **mark);
void tls_connection_ended(struct tls *tls, void **mark);

/* NULL is allowed. No connection may be left. */
void tls_free(struct tls *tls);

#endif
