/*
 * TWINPOOL_* variables and flags, laid over the file's tree. Private to config/.
 */
#ifndef CONFIG_OVERLAY_H
#define CONFIG_OVERLAY_H

#include <jansson.h>

#include "base/error.h"
#include "config/config.h"

/* The value of the variable of that name, or NULL; borrowed from environment. */
const char *overlay_variable(char *const *environment, const char *name);

/*
 * Changes tree, each value checked against its place in schema, variables first. origins (an
 * object) is given "path": "TWINPOOL_LISTEN" for each change, so that a later error can name what
 * the user wrote. On failure field names the variable or the flag. Answers 0 or -errno.
 */
int overlay_apply(json_t *tree, const json_t *schema, char *const *environment,
		  const struct config_flags *flags, json_t *origins, struct error *error);

#endif
