/*
 * Whom a callback may be sent to: the entries of callbacks.allow, applied to a host name and to the
 * address that it was resolved to.
 *
 * An entry with an address or a network allows that, by whatever name. An entry with a name allows
 * that name, if its address is one of the public internet: a name alone never leads to a loopback,
 * private or link-local address, whoever is in charge of the name. Either kind may be limited to a
 * port.
 *
 * "Of the public internet" is what the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC
 * 6890 and its successors) do not set apart. An IPv4 address within IPv6 (::ffff:0:0/96) is judged
 * as IPv4.
 *
 * Thread: any; pure.
 */
#ifndef SERVER_ALLOW_H
#define SERVER_ALLOW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "config/config.h"

/* Whether a request to this host (a name, or an address without brackets) and port could be allowed,
 * depending on the address if it is a name. */
bool allow_host(const struct config_callbacks *config, const char *host, uint16_t port);

/* Whether a connection to this address, for a request to this host, is allowed. */
bool allow_address(const struct config_callbacks *config, const char *host,
		   const struct sockaddr *address);

#endif
