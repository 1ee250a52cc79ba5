/*
 * Callbacks: who asked for it (callback_url) is told of a job's end by a POST of the ended job's
 * document.
 *
 * What is to be told lies in the store until it was delivered or given up, so it survives a restart
 * and is made at least once. Requests are made by libcurl on a thread of its own (server/sender.h);
 * the event loop only hands over and takes results.
 *
 * A request goes to an address that the configuration allows (callbacks.allow), checked after the
 * name was resolved, for the very address that is then connected to; redirections are not followed;
 * no proxy of the environment is used.
 *
 * Each request bears
 *	Content-Type: application/json
 *	Twinpool-Job: ID
 *	Twinpool-Delivery: ID of the job and the number of the try, "ID.3"
 *	Twinpool-Signature: t=SECONDS,v1=HEX	HMAC-SHA-256 by the secret of "SECONDS." and the body,
 *						if there is a secret
 * Any 2xx is success; 410 gives up; all else is tried again after backoff_ms, doubling up to
 * backoff_max_ms, with full jitter, max_tries times in all; Retry-After of 429 and 503 is heeded up
 * to backoff_max_ms.
 *
 * Event loop only.
 */
#ifndef SERVER_CALLBACKS_H
#define SERVER_CALLBACKS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "config/config.h"

struct server;
struct callbacks;

/* Whether a job may have this URL: 0, or ERROR_INVALID on "callback_url" that says what is allowed:
 * not a URL of http or https, with user or password, a host that no entry of the configuration could
 * allow. The address is judged when the request is made. */
int callbacks_check(const struct config *config, const char *url, struct error *error);

/* Starts the thread; *ret_callbacks is NULL if the configuration allows nobody. 0 or -errno. */
int callbacks_new(struct server *server, struct callbacks **ret_callbacks);
/* Stops requests that are on their way; they are made again after the next start. NULL is allowed. */
void callbacks_free(struct callbacks *callbacks);
/* After a reload. NULL is allowed. */
void callbacks_configure(struct callbacks *callbacks);

/* A job with a callback has ended, and the store has it. */
void callbacks_hint(struct callbacks *callbacks);

struct callbacks_stats {
	uint64_t delivered;
	uint64_t failed_tries;
	uint64_t given_up;
	uint64_t running; /* now */
};
void callbacks_stats(const struct callbacks *callbacks, struct callbacks_stats *ret_stats);

#endif
