/*
 * The trial of the plug-ins: what tasks they have is found out in processes of their own, so that
 * no code of theirs ever runs in the master or the server, and a plug-in that cannot be set up
 * harms nobody.
 *
 *	master ── trial: knows all plug-ins, runs no code of theirs
 *	           └── for each plug-in, one after the other: loads it, describes it, sets it up, tears it down
 *
 * The trial ends what a plug-in has left, however it ended, and answers with a JSON array, as
 * registry_build_with_plugins() takes it. It always ends: each plug-in has PROBE_PLUGIN_MS.
 *
 * Thread: the master's only one.
 */
#ifndef MASTER_PROBE_H
#define MASTER_PROBE_H

#include <sys/types.h>

#include "base/buffer.h"
#include "config/config.h"

#define PROBE_PLUGIN_MS 10000

struct probe {
	pid_t pid; /* a child that the caller reaps, and then sets this to 0 */
	int fd; /* readable when there is something for probe_read(); -1 when there is no trial */
	struct buffer text;
};

/* Starts the trial of config's plug-ins. 0 or -errno. */
int probe_start(const struct config *config, struct probe *ret_probe);

/* Reads what is there, or waits for it: 0 if there is more to come; 1 at the end, when text is
 * complete and fd closed; or -errno. */
int probe_read(struct probe *probe);

/* Gives up what is open and kept. A trial that still runs is killed. */
void probe_release(struct probe *probe);

/* All of it at once, and reaps: the answer, which the caller frees; NULL if there is none, or
 * nothing to try. */
char *probe_run(const struct config *config, size_t *ret_length);

#endif
