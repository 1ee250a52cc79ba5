/*
 * The sending thread: one multi handle of libcurl, woken by curl_multi_wakeup().
 *
 * Invariants
 * 1. A delivery is on exactly one of: incoming, sending (the thread's), done. incoming, done and the
 * allow-list are held by the lock; nothing is called under it but what cannot block.
 * 2. The address of each connection is judged when its socket is made, after the name was resolved:
 * what is judged is what is connected to.
 */
#include "server/sender.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fd.h"
#include "server/allow.h"
#include "version.h"

#define WAIT_MS	      1000
#define CONNECTS_MAX  64
#define RETRY_AFTER_S 86400

/* One that is on its way. */
struct sending {
	struct list node;
	struct sender *sender;
	struct delivery *delivery;
	CURL *handle;
	struct curl_slist *headers;
	bool refused; /* the address is not allowed */
	char message[CURL_ERROR_SIZE];
};

struct sender {
	pthread_t thread;
	bool has_thread;
	CURLM *multi;
	int done_fd;
	struct list sending; /* the thread's */

	pthread_mutex_t lock;
	struct list incoming;
	struct list done;
	struct config_callbacks allowed; /* only allow and allow_count */
	bool ends;
};

/* --- deliveries ------------------------------------------------------------------------------- */

struct delivery *delivery_new(void)
{
	struct delivery *delivery = calloc(1, sizeof(*delivery));

	if (delivery)
		list_init(&delivery->node);
	return delivery;
}

void delivery_free(struct delivery *delivery)
{
	if (!delivery)
		return;
	for (int i = 0; i < SENDER_HEADERS_MAX; i++)
		free(delivery->headers[i]);
	free(delivery->data);
	free(delivery->url);
	free(delivery->host);
	free(delivery->body);
	free(delivery);
}

static void free_list(struct list *list)
{
	while (!list_empty(list)) {
		struct delivery *delivery = container_of(list->next, struct delivery, node);
		list_remove(&delivery->node);
		delivery_free(delivery);
	}
}

/* --- one request ------------------------------------------------------------------------------ */

static void sending_free(struct sending *sending)
{
	list_remove(&sending->node);
	if (sending->handle) {
		(void)curl_multi_remove_handle(sending->sender->multi, sending->handle);
		curl_easy_cleanup(sending->handle);
	}
	curl_slist_free_all(sending->headers);
	free(sending);
}

static curl_socket_t open_socket(void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct sending *sending = data;
	struct sender *sender = sending->sender;

	(void)purpose;
	pthread_mutex_lock(&sender->lock);
	bool allowed = allow_address(&sender->allowed, sending->delivery->host, &address->addr);
	pthread_mutex_unlock(&sender->lock);
	if (!allowed) {
		sending->refused = true;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* What the other side has to say beyond its status is of no interest. */
static size_t drop_body(char *bytes, /* NOLINT(readability-non-const-parameter): libcurl's type */
			size_t size, size_t count, void *data)
{
	(void)bytes;
	(void)data;
	return size * count;
}

static size_t read_header(char *bytes, size_t size, size_t count, void *data)
{
	static const char name[] = "retry-after:";
	struct delivery *delivery = data;
	size_t length = size * count;
	char value[16];

	if (length > sizeof(name) && strncasecmp(bytes, name, sizeof(name) - 1) == 0) {
		snprintf(value, sizeof(value), "%.*s", (int)(length - sizeof(name) + 1),
			 bytes + sizeof(name) - 1);
		long seconds = strtol(value, NULL, 10);
		delivery->retry_after_s = seconds > 0 && seconds < RETRY_AFTER_S ? seconds : 0;
	}
	return length;
}

static bool add_headers(struct sending *sending)
{
	for (int i = 0; i < SENDER_HEADERS_MAX; i++) {
		const char *header = sending->delivery->headers[i];
		struct curl_slist *longer =
			header ? curl_slist_append(sending->headers, header) : sending->headers;
		if (header && !longer)
			return false;
		sending->headers = longer;
	}
	return true;
}

#define SET(option, value) (status = status ? status : curl_easy_setopt(handle, option, value))

static CURLcode set_up(struct sending *sending)
{
	struct delivery *delivery = sending->delivery;
	CURL *handle = sending->handle;
	CURLcode status = CURLE_OK;

	SET(CURLOPT_URL, delivery->url);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_USERAGENT, "twinpool/" TWINPOOL_VERSION);
	SET(CURLOPT_POSTFIELDS, delivery->body);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)delivery->body_length);
	SET(CURLOPT_HTTPHEADER, sending->headers);
	SET(CURLOPT_TIMEOUT_MS, (long)delivery->timeout_ms);
	SET(CURLOPT_FORBID_REUSE, 1L); /* each is judged by its own address */
	SET(CURLOPT_FRESH_CONNECT, 1L);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, sending);
	SET(CURLOPT_WRITEFUNCTION, drop_body);
	SET(CURLOPT_HEADERFUNCTION, read_header);
	SET(CURLOPT_HEADERDATA, delivery);
	SET(CURLOPT_ERRORBUFFER, sending->message);
	SET(CURLOPT_PRIVATE, sending);
	return status;
}

static void finish(struct sender *sender, struct delivery *delivery)
{
	uint64_t one = 1;

	pthread_mutex_lock(&sender->lock);
	list_append(&sender->done, &delivery->node);
	pthread_mutex_unlock(&sender->lock);
	(void)fd_write_all(sender->done_fd, &one, sizeof(one));
}

static void start(struct sender *sender, struct delivery *delivery)
{
	struct sending *sending = calloc(1, sizeof(*sending));

	if (!sending)
		goto fail;
	list_init(&sending->node);
	sending->sender = sender;
	sending->delivery = delivery;
	sending->handle = curl_easy_init();
	if (!sending->handle || !add_headers(sending) || set_up(sending) != CURLE_OK ||
	    curl_multi_add_handle(sender->multi, sending->handle) != CURLM_OK)
		goto fail;
	list_append(&sender->sending, &sending->node);
	return;
fail:
	snprintf(delivery->error, sizeof(delivery->error), "the request cannot be made");
	if (sending)
		sending_free(sending);
	finish(sender, delivery);
}

static void end(struct sender *sender, CURL *handle, CURLcode code)
{
	struct sending *sending = NULL;
	long http_status = 0;

	if (curl_easy_getinfo(handle, CURLINFO_PRIVATE, (char **)&sending) != CURLE_OK || !sending)
		return;
	struct delivery *delivery = sending->delivery;
	(void)curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &http_status);
	if (code == CURLE_OK)
		delivery->http_status = (int)http_status;
	else if (sending->refused)
		snprintf(delivery->error, sizeof(delivery->error),
			 "the address of %.180s is not allowed", delivery->host);
	else
		snprintf(delivery->error, sizeof(delivery->error), "%.200s",
			 sending->message[0] ? sending->message : curl_easy_strerror(code));
	sending_free(sending);
	finish(sender, delivery);
}

/* --- the thread ------------------------------------------------------------------------------- */

/* Takes what has come. False when the thread is to end. */
static bool take_incoming(struct sender *sender)
{
	struct delivery *delivery = NULL;

	do {
		pthread_mutex_lock(&sender->lock);
		bool ends = sender->ends;
		delivery = NULL;
		if (!ends && !list_empty(&sender->incoming)) {
			delivery = container_of(sender->incoming.next, struct delivery, node);
			list_remove(&delivery->node);
		}
		pthread_mutex_unlock(&sender->lock);
		if (ends)
			return false;
		if (delivery)
			start(sender, delivery);
	} while (delivery);
	return true;
}

static void *run(void *data)
{
	struct sender *sender = data;
	CURLMsg *message;
	int running, left;

	pthread_setname_np(pthread_self(), "callbacks");
	while (take_incoming(sender)) {
		(void)curl_multi_perform(sender->multi, &running);
		while ((message = curl_multi_info_read(sender->multi, &left)))
			if (message->msg == CURLMSG_DONE)
				end(sender, message->easy_handle, message->data.result);
		(void)curl_multi_poll(sender->multi, NULL, 0, WAIT_MS, NULL);
	}
	while (!list_empty(&sender->sending)) {
		struct sending *sending = container_of(sender->sending.next, struct sending, node);
		delivery_free(sending->delivery);
		sending_free(sending);
	}
	return NULL;
}

static int start_thread(struct sender *sender)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int status = pthread_create(&sender->thread, NULL, run, sender);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	sender->has_thread = status == 0;
	return -status;
}

/* --- the event loop's side -------------------------------------------------------------------- */

static void free_allowed(struct config_callbacks *allowed)
{
	for (size_t i = 0; i < allowed->allow_count; i++)
		free(allowed->allow[i]);
	free(allowed->allow);
	*allowed = (struct config_callbacks){0};
}

int sender_configure(struct sender *sender, const struct config_callbacks *config)
{
	struct config_callbacks copy = {0};

	copy.allow = calloc(config->allow_count + 1, sizeof(*copy.allow));
	if (!copy.allow)
		return -ENOMEM;
	for (; copy.allow_count < config->allow_count; copy.allow_count++) {
		copy.allow[copy.allow_count] = strdup(config->allow[copy.allow_count]);
		if (!copy.allow[copy.allow_count]) {
			free_allowed(&copy);
			return -ENOMEM;
		}
	}
	pthread_mutex_lock(&sender->lock);
	struct config_callbacks old = sender->allowed;
	sender->allowed = copy;
	pthread_mutex_unlock(&sender->lock);
	free_allowed(&old);
	return 0;
}

int sender_new(const struct config_callbacks *config, struct sender **ret_sender)
{
	struct sender *sender = calloc(1, sizeof(*sender));
	int status = -ENOMEM;

	if (!sender)
		return -ENOMEM;
	pthread_mutex_init(&sender->lock, NULL);
	list_init(&sender->incoming);
	list_init(&sender->done);
	list_init(&sender->sending);
	sender->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		sender->multi = curl_multi_init();
	if (sender->done_fd < 0 || !sender->multi)
		goto fail;
	(void)curl_multi_setopt(sender->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)CONNECTS_MAX);
	status = sender_configure(sender, config);
	if (status == 0)
		status = start_thread(sender);
	if (status < 0)
		goto fail;
	*ret_sender = sender;
	return 0;
fail:
	sender_free(sender);
	return status;
}

void sender_free(struct sender *sender)
{
	if (!sender)
		return;
	if (sender->has_thread) {
		pthread_mutex_lock(&sender->lock);
		sender->ends = true;
		pthread_mutex_unlock(&sender->lock);
		(void)curl_multi_wakeup(sender->multi);
		pthread_join(sender->thread, NULL);
	}
	free_list(&sender->incoming);
	free_list(&sender->done);
	if (sender->multi)
		(void)curl_multi_cleanup(sender->multi);
	curl_global_cleanup();
	free_allowed(&sender->allowed);
	fd_close(&sender->done_fd);
	pthread_mutex_destroy(&sender->lock);
	free(sender);
}

void sender_send(struct sender *sender, struct delivery *delivery)
{
	pthread_mutex_lock(&sender->lock);
	list_append(&sender->incoming, &delivery->node);
	pthread_mutex_unlock(&sender->lock);
	(void)curl_multi_wakeup(sender->multi);
}

int sender_fd(const struct sender *sender)
{
	return sender->done_fd;
}

struct delivery *sender_take(struct sender *sender)
{
	struct delivery *delivery = NULL;
	uint64_t count;

	pthread_mutex_lock(&sender->lock);
	if (!list_empty(&sender->done)) {
		delivery = container_of(sender->done.next, struct delivery, node);
		list_remove(&delivery->node);
	} else {
		(void)!read(sender->done_fd, &count, sizeof(count));
	}
	pthread_mutex_unlock(&sender->lock);
	return delivery;
}
