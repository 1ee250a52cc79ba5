/*
 * The master: the first process. Forks the server and, at its word, hosts; reaps everything; ends
 * when the server has.
 *
 * It is single-threaded for ever, so fork is safe; it holds no job and reads nothing that a host
 * writes, so nothing that a host does can harm it. When and how often a host is started again is
 * the server's decision (it knows the pools and the load); the master is the mechanism: HOST_START
 * in, HOST_UP and HOST_DOWN out.
 *
 * Signals: SIGTERM and SIGINT ask for shutdown (a second one hurries, a third kills), SIGCHLD
 * reaps. It works as PID 1: it reaps orphans too, and needs no default action of any signal.
 */
#ifndef MASTER_MASTER_H
#define MASTER_MASTER_H

#include "config/config.h"
#include "task/registry.h"

/*
 * Runs the service in the calling process. ready_fd (-1 for none; taken) gets the URL and a newline
 * once every pool can take jobs. Answers the exit status: 0 after an orderly shutdown, 1 if the
 * server could not start or ended on its own account.
 */
int master_run(const struct config *config, const struct registry *registry, int ready_fd);

#endif
