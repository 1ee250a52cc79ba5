/*
 * The server process from its birth to its end: event loop, server, HTTP, readiness, shutdown.
 */
#ifndef MASTER_SERVICE_H
#define MASTER_SERVICE_H

#include <stdint.h>

#include "master/loaded.h"

struct service_setup {
	const struct config_flags *flags; /* borrowed */
	int channel;			  /* to the master; taken, as the next two */
	int ready_fd;			  /* -1: none */
	int listen_fd;	     /* a socket to serve on instead of the configuration's; -1: none */
	int64_t watchdog_ns; /* 0: nobody watches; else the master is told well within that time
				    that the service is alive, if it is */
};

/*
 * Runs until shutdown is complete or the master is lost. loaded is this process's own from now on
 * (it is replaced at a reload, and whatever is in force at the end is the caller's to release);
 * Answers the exit status: 0 after an orderly shutdown, 1 otherwise.
 */
int service_run(struct loaded *loaded, const struct service_setup *setup);

#endif
