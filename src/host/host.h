/*
 * The host: a worker process. It runs tasks and nothing else.
 *
 * A host of one worker is a single-threaded process: its main thread receives a job, runs it,
 * answers. A host of T > 1 workers starts T threads that do the same on one socket, so the kernel
 * hands each job to one that waits; the main thread only joins them. A host ends when its channel
 * does.
 *
 * What a job starts and leaves. A host leads a session and is a child subreaper, so processes of
 * its jobs, daemons too, stay its descendants. A host of one worker ends them all after each run,
 * before the job is answered for, so the next job starts alone; a job that leaves none pays one
 * system call. When such a job is asked to stop (MESSAGE_STOP_SIGNAL), the host passes that on as
 * SIGTERM to its process group; processes that have left the group get SIGKILL only, at the job's
 * end. In a host of several workers a child cannot be told to belong to one job or another: what
 * they leave runs on until the host ends, when the master ends it, and what of it dies before stays
 * a zombie for so long.
 *
 * It trusts the server. The server trusts nothing of it: see ipc/message.h and ipc/scoreboard.h.
 */
#ifndef HOST_HOST_H
#define HOST_HOST_H

#include <stdint.h>

#include "config/config.h"
#include "task/registry.h"

struct host_setup {
	const struct config *config;
	const struct config_pool *pool;
	const struct registry *registry;
	struct shared *shared; /* of the pool */
	int channel;	       /* blocking; taken */
	int scoreboard_fd;     /* taken */
	uint32_t slot;
	uint64_t generation;
};

/*
 * Runs the host in the calling process, the leader of a session, until its channel ends. Signals
 * must have their default actions and none be blocked. Answers the exit status: 0, or 1 if it could
 * not be set up (said in the log).
 */
int host_run(const struct host_setup *setup);

#endif
