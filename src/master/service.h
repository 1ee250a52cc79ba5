/*
 * The server process from its birth to its end: event loop, server, HTTP, readiness, shutdown.
 */
#ifndef MASTER_SERVICE_H
#define MASTER_SERVICE_H

#include "master/loaded.h"

/*
 * Runs until shutdown is complete or the master is lost. loaded is this process's own from now on
 * (it is replaced at a reload, and whatever is in force at the end is the caller's to release);
 * flags are borrowed. channel (to the master) and ready_fd (-1 for none) are taken. Answers the
 * exit status: 0 after an orderly shutdown, 1 otherwise.
 */
int service_run(struct loaded *loaded, const struct config_flags *flags, int channel, int ready_fd);

#endif
