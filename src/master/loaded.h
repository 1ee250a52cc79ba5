/*
 * A configuration and the registry that was built from it: what is loaded, put in force and given
 * up together, at the start and at each SIGHUP.
 */
#ifndef MASTER_LOADED_H
#define MASTER_LOADED_H

#include "base/error.h"
#include "config/config.h"
#include "task/registry.h"

struct loaded {
	struct config *config; /* owned */
	struct registry registry;
};

/* Loads by flags and the environment. 0, or -errno, *error, and nothing to give up. */
int loaded_load(const struct config_flags *flags, struct loaded *ret_loaded, struct error *error);

/* Loads a successor of `current`: as loaded_load(), and refuses what cannot change while running.
 * */
int loaded_reload(const struct config_flags *flags, const struct loaded *current,
		  struct loaded *ret_loaded, struct error *error);

void loaded_release(struct loaded *loaded);

#endif
