/*
 * What this system lets us do to commands and hosts, as it was found when the service started; for
 * people, by GET /capabilities.
 */
#ifndef TASK_COMMAND_SYSTEM_H
#define TASK_COMMAND_SYSTEM_H

#include <stdbool.h>

#define SYSTEM_REASON_SIZE 300
#define SYSTEM_PATH_SIZE   256

struct system_capabilities {
	bool pidfd;	    /* pidfd_open(2) */
	bool openat2;	    /* openat2(2) */
	bool close_range;   /* close_range(2) */
	bool proc_children; /* /proc/PID/task/TID/children */
	bool clear_refs;    /* /proc/self/clear_refs may be written: exact memory peaks of hosts */
	bool no_new_privs;  /* PR_SET_NO_NEW_PRIVS */
	bool change_user;   /* CAP_SETUID and CAP_SETGID are there */
	char bubblewrap[SYSTEM_PATH_SIZE]; /* path of bwrap; "" if there is none */
	bool bubblewrap_usable;
	char bubblewrap_reason[SYSTEM_REASON_SIZE]; /* why not; "" if it is */
};

/* Looks, the first time; may start bwrap to try it. Call it before the first fork, on the only
 * thread; afterwards it answers what was found then. */
const struct system_capabilities *system_capabilities(void);

#endif
