/*
 * config/twinpool.schema.json as it was when the program was built: what documents the
 * configuration is what checks it. The build writes the definitions.
 */
#ifndef CONFIG_CONFIG_SCHEMA_H
#define CONFIG_CONFIG_SCHEMA_H

#include <stddef.h>

extern const char config_schema_json[]; /* config_schema_json_size bytes; need not end with a NUL */
extern const size_t config_schema_json_size;

#endif
