/*
 * The description of the API, openapi.yaml, as it is compiled into the binary: the build makes a
 * source file of it that defines these two. Immutable.
 */
#ifndef HTTP_OPENAPI_H
#define HTTP_OPENAPI_H

#include <stddef.h>

extern const char openapi_yaml[];
extern const size_t openapi_yaml_size; /* bytes, without an end mark */

#endif
