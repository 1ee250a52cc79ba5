/*
 * From the configuration's tree to the struct: what the schema cannot say is checked here. Private
 * to config/.
 */
#ifndef CONFIG_BUILD_H
#define CONFIG_BUILD_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "config/config.h"

/* tree (borrowed) has passed the schema with its defaults filled in. On failure ERROR_INVALID with
 * the JSON path as field. Answers 0 or -errno. */
int config_build(const json_t *tree, struct config **ret_config, struct error *error);

/* The members "store" and "callbacks" (borrowed), filled in as the whole tree is. data_dir is built
 * before; what they own is in config even on failure. */
int config_build_store(struct config *config, const json_t *source, struct error *error);
int config_build_callbacks(struct config *config, const json_t *source, struct error *error);
void config_release_store(struct config *config);
/*
 * What the service itself holds for its clients must leave room for the jobs where memory is
 * limited, as in a container: of memory_bytes (0: no limit) all queues get a quarter at the most, in
 * equal parts, and the jobs that have ended an eighth, whatever was configured.
 */
void config_bound(struct config *config, uint64_t memory_bytes);

/* The settings of a pool that are a number or "cores"; NULL ends them. */
extern const char *const config_count_names[];

bool config_is_count(const char *name);

/* One of these settings: an integer from 1 to CONFIG_HOSTS_MAX (or CONFIG_THREADS_MAX), or "cores".
 * name is which of them. */
int config_check_count(const json_t *value, const char *name, const char *field,
		       struct error *error);

#endif
