/*
 * The server process from its birth to its end: event loop, server, HTTP, readiness, shutdown.
 */
#ifndef MASTER_SERVICE_H
#define MASTER_SERVICE_H

#include "config/config.h"
#include "task/registry.h"

/*
 * Runs until shutdown is complete or the master is lost. channel (to the master) and ready_fd (-1
 * for none) are taken. Answers the exit status: 0 after an orderly shutdown, 1 otherwise.
 */
int service_run(const struct config *config, const struct registry *registry, int channel,
		int ready_fd);

#endif
