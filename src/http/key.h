/*
 * The header Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a string of structured
 * fields (RFC 8941, section 3.3.3), "in quotes". A bare word is taken as well, since many clients
 * send one.
 *
 * Event loop only.
 */
#ifndef HTTP_KEY_H
#define HTTP_KEY_H

#include <stdbool.h>

#include "base/error.h"
#include "http/request.h"

/* Reads the value of the header; false, and *ret_key is "", if it is no key. */
bool key_parse(const char *text, char ret_key[static STORE_KEY_MAX + 1]);

/* *ret_key is "" if the request has none. 0, or ERROR_SYNTAX on "Idempotency-Key". */
int key_read(const struct request *request, char ret_key[static STORE_KEY_MAX + 1],
	     struct error *error);

#endif
