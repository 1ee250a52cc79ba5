/*
 * Filling in struct error. The arguments may be parts of the very error that is filled (a message
 * that wraps the former one), so everything is put together aside first.
 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

static int errno_of(enum error_code code)
{
	switch (code) {
	case ERROR_NONE:
		return 0;
	case ERROR_SYNTAX:
		return -EBADMSG;
	case ERROR_INVALID:
		return -EINVAL;
	case ERROR_NOT_FOUND:
		return -ENOENT;
	case ERROR_CONFLICT:
		return -EBUSY;
	case ERROR_TOO_LARGE:
		return -EFBIG;
	case ERROR_OVERLOADED:
		return -EAGAIN;
	case ERROR_UNAVAILABLE:
		return -ESHUTDOWN;
	case ERROR_INTERNAL:
		return -EIO;
	}
	return -EIO;
}

int error_set(struct error *error, enum error_code code, const char *field, const char *format, ...)
{
	struct error filled = {.code = code};
	va_list arguments;

	if (field != NULL)
		text_copy(filled.field, sizeof(filled.field), field);
	va_start(arguments, format);
	int length = vsnprintf(filled.message, sizeof(filled.message), format, arguments);
	va_end(arguments);
	if (length < 0)
		text_copy(filled.message, sizeof(filled.message), format);
	else if ((size_t)length >= sizeof(filled.message))
		filled.message[text_trim(filled.message, sizeof(filled.message) - 1)] = '\0';
	*error = filled;
	return errno_of(code);
}

void error_prefix_field(struct error *error, const char *prefix)
{
	char path[sizeof(error->field)];
	size_t length = text_copy(path, sizeof(path), prefix);

	if (error->field[0] != '\0') {
		if (length > 0 && error->field[0] != '[' && length < sizeof(path) - 1)
			path[length++] = '.';
		text_copy(path + length, sizeof(path) - length, error->field);
	}
	text_copy(error->field, sizeof(error->field), path);
}
