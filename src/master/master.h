/*
 * The master: the first process. Forks the server and, at its word, hosts; reaps everything; ends
 * when the server has.
 *
 * It is single-threaded for ever, so fork is safe; it holds no job and reads nothing that a host
 * writes, so nothing that a host does can harm it. When and how often a host is started again is
 * the server's decision (it knows the pools and the load); the master is the mechanism: HOST_START
 * in, HOST_UP and HOST_DOWN out.
 *
 * Nothing that a job has started outlives its host: a host is a session of its own and is killed as
 * a group, and what has left the group comes to the master, as to the nearest child subreaper, and
 * is ended there. HOST_DOWN waits for both, for the latter 200 ms at the most. So every child that
 * the master neither forked nor had from the start is taken for such a process; where it is PID 1,
 * that is also true of what others leave behind in its namespace.
 *
 * Signals: SIGTERM and SIGINT ask for shutdown (a second one hurries, a third kills), SIGCHLD
 * reaps. It works as PID 1: it reaps orphans too, and needs no default action of any signal.
 */
#ifndef MASTER_MASTER_H
#define MASTER_MASTER_H

#include "master/loaded.h"
#include "master/supervisor.h"

/*
 * Runs the service in the calling process. loaded may be replaced at a reload; what is in force at
 * the end is the caller's to release. flags are borrowed: SIGHUP loads by them again. ready_fd (-1
 * for none; taken) gets the URL and a newline once every pool can take jobs; supervisor (borrowed,
 * but for its socket) is told the same, and more. Answers the exit status: 0 after an orderly shutdown, 1 if the server could not start or ended on its own account.
 */
int master_run(struct loaded *loaded, const struct config_flags *flags,
	       struct supervisor *supervisor, int ready_fd);

#endif
