/*
 * The built-in tasks, one file each. They use nothing of the service but twinpool/task.h, exactly
 * as a task that somebody else writes; what they share among themselves is here. One exception: read
 * opens paths by base/beneath.h, as commands do, since one such check is to be right, not two.
 */
#ifndef TASK_BUILTIN_H
#define TASK_BUILTIN_H

#include <stddef.h>
#include <stdint.h>

#include "twinpool/task.h"

extern const struct tp_task builtin_allocate;
extern const struct tp_task builtin_counter;
extern const struct tp_task builtin_crash;
extern const struct tp_task builtin_echo;
extern const struct tp_task builtin_fib;
extern const struct tp_task builtin_leak;
extern const struct tp_task builtin_primes;
extern const struct tp_task builtin_print;
extern const struct tp_task builtin_read;
extern const struct tp_task builtin_sha256;
extern const struct tp_task builtin_sleep;
extern const struct tp_task builtin_spawn;
extern const struct tp_task builtin_spin;

#define BUILTIN_NS_PER_MS 1000000LL
#define BUILTIN_MIB	  (INT64_C(1) << 20)

/* The integer argument of that name; absent, or no integer: fallback. */
int64_t builtin_integer(const json_t *args, const char *name, int64_t fallback);

/* Writes two lower-case hexadecimal digits a byte, and a NUL: 2 * length + 1 bytes. */
void builtin_hex(const uint8_t *bytes, size_t length, char *ret_text);

#endif
