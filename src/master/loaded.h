/*
 * A configuration and the registry that was built from it: what is loaded, put in force and given
 * up together, at the start and at each SIGHUP.
 *
 * A reload has two steps, since between them the plug-ins are tried out, which may take long: read,
 * then build.
 */
#ifndef MASTER_LOADED_H
#define MASTER_LOADED_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "config/config.h"
#include "task/registry.h"

struct loaded {
	struct config *config; /* owned */
	struct registry registry;
	char *found; /* what the trial of the plug-ins has found, found_length bytes; owned; NULL: nothing */
	size_t found_length;
};

/* Loads by flags and the environment, and tries out the plug-ins (PROBE_PLUGIN_MS each at the
 * most). 0, or -errno, *error, and nothing to give up. */
int loaded_load(const struct config_flags *flags, struct loaded *ret_loaded, struct error *error);

/* Reads, to see that they can be, the files that else only the server reads. 0, or -errno and
 * *error. */
int loaded_check_files(const struct loaded *loaded, struct error *error);

/* Reads a successor of `current`, and refuses what cannot change while running. The registry is
 * empty yet. 0, or -errno, *error, and nothing to give up. */
int loaded_read(const struct config_flags *flags, const struct loaded *current,
		struct loaded *ret_loaded, struct error *error);

/* Builds the registry of what was read. found is taken, also on failure; NULL is allowed. 0, or
 * -errno and *error; to be released either way. */
int loaded_build(struct loaded *loaded, char *found, size_t found_length, struct error *error);

/* Tells apart what would not make the same registry: over the file's bytes and what was found of
 * the plug-ins. */
uint64_t loaded_digest(const struct loaded *loaded);

/* Writes a line to the log for each plug-in: what it is, or why it was left out. */
void loaded_log_plugins(const struct loaded *loaded);

void loaded_release(struct loaded *loaded);

#endif
