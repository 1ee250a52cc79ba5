/*
 * Sends requests of HTTP by libcurl, on a thread of its own: looking names up, connecting and
 * waiting never hold the event loop.
 *
 * Thread: the event loop's; the thread inside touches only what was handed over.
 */
#ifndef SERVER_SENDER_H
#define SERVER_SENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "config/config.h"

#define SENDER_HEADERS_MAX 8

/* A POST. Texts are owned. */
struct delivery {
	struct list node; /* the sender's */
	char *url;
	char *host; /* of the URL, without brackets */
	char *body;
	size_t body_length;
	char *headers[SENDER_HEADERS_MAX]; /* "Name: value"; NULL where there is none */
	int64_t timeout_ms;
	void *data; /* the asker's; owned, freed with it */

	/* The result. */
	int http_status;       /* 0: there was no answer */
	char error[240];       /* why; "" if there was an answer */
	int64_t retry_after_s; /* of the answer; 0 if it named none */
};

struct delivery *delivery_new(void);	       /* NULL if memory is short */
void delivery_free(struct delivery *delivery); /* NULL is allowed */

struct sender;

/* config: copied as far as it is needed. 0 or -errno. */
int sender_new(const struct config_callbacks *config, struct sender **ret_sender);

/* Breaks off what is on its way and frees all. NULL is allowed. */
void sender_free(struct sender *sender);

/* Another allow-list is in force, for connections from now on. 0 or -ENOMEM, and the old one stays. */
int sender_configure(struct sender *sender, const struct config_callbacks *config);

/* Takes the delivery. */
void sender_send(struct sender *sender, struct delivery *delivery);

/* Readable when there are results. */
int sender_fd(const struct sender *sender);

/* A delivery that is done, which is the caller's again; NULL if there is none. */
struct delivery *sender_take(struct sender *sender);

#endif
