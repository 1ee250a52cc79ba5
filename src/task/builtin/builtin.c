/*
 * The table of built-in tasks, and what they share.
 */
#include "task/builtin/builtin.h"

#include "task/registry.h"

const struct tp_task *const builtin_tasks[] = {
	&builtin_allocate, &builtin_counter, &builtin_crash, &builtin_echo, &builtin_fib,
	&builtin_leak,	   &builtin_primes,  &builtin_print, &builtin_read, &builtin_sha256,
	&builtin_sleep,	   &builtin_spawn,   &builtin_spin,  NULL,
};

int64_t builtin_integer(const json_t *args, const char *name, int64_t fallback)
{
	const json_t *value = json_object_get(args, name);
	return json_is_integer(value) ? json_integer_value(value) : fallback;
}

void builtin_hex(const uint8_t *bytes, size_t length, char *ret_text)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < length; i++) {
		ret_text[2 * i] = digits[bytes[i] >> 4];
		ret_text[2 * i + 1] = digits[bytes[i] & 15];
	}
	ret_text[2 * length] = '\0';
}
