/*
 * The host: a worker process. It runs tasks and nothing else.
 *
 * A host of one worker is a single-threaded process: its main thread receives a job, runs it,
 * answers. A host of T > 1 workers starts T threads that do the same on one socket, so the kernel
 * hands each job to one that waits; the main thread only joins them. A host ends when its channel
 * does.
 *
 * It trusts the server. The server trusts nothing of it: see ipc/message.h and ipc/scoreboard.h.
 */
#ifndef HOST_HOST_H
#define HOST_HOST_H

#include <stdint.h>

#include "config/config.h"
#include "task/registry.h"

struct host_setup {
	const struct config_pool *pool;
	const struct registry *registry;
	void *shared;	   /* TP_SHARED_BYTES of the pool, MAP_SHARED */
	int channel;	   /* blocking; taken */
	int scoreboard_fd; /* taken */
	uint32_t slot;
	uint64_t generation;
};

/*
 * Runs the host in the calling process until its channel ends. Signals must have their default
 * actions and none be blocked. Answers the exit status: 0, or 1 if it could not be set up (said in
 * the log).
 */
int host_run(const struct host_setup *setup);

#endif
