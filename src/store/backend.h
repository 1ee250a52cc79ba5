/*
 * What an implementation of the store has to do. It is called by the threads of store.c only: the
 * writer's calls come one at a time, and so do the reader's, but those two may overlap if the
 * implementation has a reader.
 *
 * The conformance suite (tests/unit/test_store_backends.c) holds all implementations to this header
 * and to the descriptions of the operations in store/store.h.
 */
#ifndef STORE_BACKEND_H
#define STORE_BACKEND_H

#include "store/store.h"

struct backend;

struct backend_class {
	const char *name;
	bool is_durable;
	bool is_shared;
	/*
	 * Opens: makes what is missing (file, tables), refuses what is foreign, torn, of a newer
	 * version, or in use by another service. 0; or -errno with the reason, for an operator, in
	 * message. hint() may be called by any thread of the implementation, with data, when another
	 * service has announced something.
	 */
	int (*open)(const struct config *config, void (*hint)(void *data), void *data,
		    struct backend **ret_backend, char message[static 240]);
	/* Waits for nothing; NULL is allowed. */
	void (*close)(struct backend *backend);
	/*
	 * Carries out requests[0..count-1] in one transaction, in their order, and sets the status of
	 * each. sync: not before it is on disk (if not, it must survive the death of the process and
	 * may be lost with the power). 0: committed. -errno, with the reason in message: nothing of it
	 * is in, outputs of the requests are as before (backend_clear_outputs()), and the backend can
	 * go on, or has gone to look for a new connection itself; -ENOTCONN: it cannot, and store.c
	 * closes it and opens it anew.
	 */
	int (*write)(struct backend *backend, struct store_request **requests, size_t count,
		     bool sync, char message[static 240]);
	/* Like write() for one STORE_FETCH, STORE_LIST or STORE_FETCH_BATCH, beside write(). If it
	 * fails, the request comes by write(). NULL: they all come by write(). */
	int (*read)(struct backend *backend, struct store_request *request,
		    char message[static 240]);
	/* Bytes that the database takes, or -1. Called by the writer's thread about once a second. */
	int64_t (*size)(struct backend *backend);
};

extern const struct backend_class backend_memory;
extern const struct backend_class backend_sqlite;
#ifdef TWINPOOL_POSTGRESQL
extern const struct backend_class backend_postgresql;
#endif

/* The bounds of the retention for ended jobs of that state (store.retention). Writer's thread: they
 * may change between two calls of write(). */
const struct config_retention *backend_retention(const struct config *config, enum job_state state);

/* Frees and zeroes what the carrying out of a request has put into it; what came with it stays. */
void backend_clear_outputs(struct store_request *request);

/* store_open() with a given implementation. */
int store_open_with(const struct backend_class *class, const struct config *config,
		    struct store **ret_store);

#endif
