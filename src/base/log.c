/*
 * Structured log.
 *
 * A line is put together on the stack and leaves in one write(2). A line that is too long is
 * rendered again with a cap on the strings, the largest with which it fits; the cap cuts the
 * longest strings only, as water fills a vessel from below. If even that does not help, because
 * there are too many fields, the last ones are left out.
 *
 * Invariant: a line is escaped so that its only newline is its last byte, it is valid UTF-8, and a
 * terminal finds no control character in it.
 */
#include "base/log.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"

#define ELLIPSIS    "\xe2\x80\xa6" /* U+2026 */
#define CAP_MIN	    (sizeof(ELLIPSIS) - 1)
#define PROCESS_MAX 63

static const char *const level_names[] = {
	[LOG_LEVEL_DEBUG] = "debug",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_WARNING] = "warning",
	[LOG_LEVEL_ERROR] = "error",
};

/* Written before other threads run, only read after. */
static struct {
	enum log_level level;
	bool text;
	char process[PROCESS_MAX + 1];
} settings = {.level = LOG_LEVEL_INFO};

/* Bytes beyond LOG_LINE_MAX are counted, not kept. */
struct line {
	char data[LOG_LINE_MAX];
	size_t length;
};

struct event {
	const char *time;
	enum log_level level;
	const char *name;
	const struct log_field *fields;
};

static void put(struct line *line, const char *data, size_t length)
{
	if (line->length <= LOG_LINE_MAX && length <= LOG_LINE_MAX - line->length)
		memcpy(line->data + line->length, data, length);
	line->length += length;
}

static void put_text(struct line *line, const char *text)
{
	put(line, text, strlen(text));
}

/* C0, DEL and C1 control characters, and the two that some readers take for the end of a line. */
static bool must_escape(uint32_t code_point)
{
	return code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0) ||
	       code_point == 0x2028 || code_point == 0x2029;
}

static void put_escape(struct line *line, uint32_t code_point)
{
	static const char digits[] = "0123456789abcdef";

	if (code_point == '\n' || code_point == '\r' || code_point == '\t') {
		put_text(line, code_point == '\n' ? "\\n" : code_point == '\r' ? "\\r" : "\\t");
	} else {
		const char escape[] = {'\\',
				       'u',
				       digits[code_point >> 12 & 0xf],
				       digits[code_point >> 8 & 0xf],
				       digits[code_point >> 4 & 0xf],
				       digits[code_point & 0xf]};

		put(line, escape, sizeof(escape));
	}
}

/* Puts one character and answers how many bytes of text it was. */
static size_t put_character(struct line *line, const char *text)
{
	uint32_t code_point;
	/* No character reaches beyond the end mark, which continues none: so 4 may be looked at. */
	size_t length = text_decode(text, 4, &code_point);

	if (code_point == TEXT_INVALID)
		put_text(line, TEXT_REPLACEMENT);
	else if (code_point == '"' || code_point == '\\')
		put(line, (const char[]){'\\', (char)code_point}, 2);
	else if (must_escape(code_point))
		put_escape(line, code_point);
	else
		put(line, text, length);
	return length;
}

/* At most cap (>= CAP_MIN) bytes of escaped text: all of it, or a beginning and an ellipsis. */
static void put_escaped(struct line *line, const char *text, size_t cap)
{
	size_t start = line->length, cut = start;

	while (*text != '\0') {
		text += put_character(line, text);
		if (line->length - start > cap) {
			line->length = cut;
			put_text(line, ELLIPSIS);
			return;
		}
		if (line->length - start <= cap - CAP_MIN)
			cut = line->length;
	}
}

/* In text: whether a value could be mistaken for several, or for none. Looks at what can show only.
 */
static bool needs_quotes(const char *text)
{
	size_t length = strnlen(text, LOG_LINE_MAX);

	for (size_t i = 0; i < length; i++)
		if (text[i] == ' ' || text[i] == '"' || text[i] == '=')
			return true;
	return length == 0;
}

static void put_string(struct line *line, const char *text, size_t cap)
{
	bool quotes = !settings.text || needs_quotes(text);

	if (quotes)
		put(line, "\"", 1);
	put_escaped(line, text, cap);
	if (quotes)
		put(line, "\"", 1);
}

/* JSON has no word for what is not finite. */
static void put_float(struct line *line, double value)
{
	char text[40];

	if (!__builtin_isfinite(value)) {
		put_text(line, "null");
		return;
	}
	(void)snprintf(text, sizeof(text), "%.9g", value);
	for (char *c = text; *c != '\0'; c++)
		if (strchr("0123456789+-e", *c) == NULL)
			*c = '.'; /* whatever the locale has */
	put_text(line, text);
}

static void put_key(struct line *line, const char *key)
{
	put_text(line, settings.text ? " " : ",\"");
	put_text(line, key);
	put_text(line, settings.text ? "=" : "\":");
}

static void put_field(struct line *line, const struct log_field *field, size_t cap)
{
	char digits[TEXT_DECIMAL_MAX + 1];

	if (field->type == LOG_TYPE_STR && field->value.str == NULL)
		return;
	put_key(line, field->key);
	switch (field->type) {
	case LOG_TYPE_END:
		break;
	case LOG_TYPE_STR:
		put_string(line, field->value.str, cap);
		break;
	case LOG_TYPE_INT:
		put(line, digits, text_decimal_signed(digits, field->value.i));
		break;
	case LOG_TYPE_UINT:
		put(line, digits, text_decimal(digits, field->value.u));
		break;
	case LOG_TYPE_FLOAT:
		put_float(line, field->value.f);
		break;
	case LOG_TYPE_BOOL:
		put_text(line, field->value.b ? "true" : "false");
		break;
	}
}

/* What every line begins with. */
static void put_head(struct line *line, const struct event *event, size_t cap)
{
	const char *level = level_names[event->level];

	if (settings.text) {
		put(line, event->time, sizeof("2026-01-02T03:04:05.678") - 1);
		put_text(line, "Z ");
		put_text(line, level);
		put(line, "      ", strlen(level) < 5 ? 6 - strlen(level) : 1);
		put_escaped(line, event->name, cap);
		return;
	}
	put_text(line, "{\"time\":\"");
	put_text(line, event->time);
	put_text(line, "\",\"level\":\"");
	put_text(line, level);
	put_text(line, "\",\"event\":");
	put_string(line, event->name, cap);
	if (settings.process[0] != '\0') {
		put_key(line, "process");
		put_string(line, settings.process, LOG_LINE_MAX);
	}
}

/* Renders the event; with drop, leaves out the fields from the first one on for which there is no
 * room. */
static void render(struct line *line, const struct event *event, size_t cap, bool drop)
{
	const char *tail = settings.text ? "\n" : "}\n";

	line->length = 0;
	put_head(line, event, cap);
	for (const struct log_field *field = event->fields; field->type != LOG_TYPE_END; field++) {
		size_t before = line->length;

		put_field(line, field, cap);
		if (drop && line->length + strlen(tail) > LOG_LINE_MAX) {
			line->length = before;
			break;
		}
	}
	put_text(line, tail);
}

/* Renders the event with the largest cap on its strings with which it fits. */
static void render_cut(struct line *line, const struct event *event)
{
	size_t fits = CAP_MIN, too_much = LOG_LINE_MAX;

	while (too_much - fits > 1) {
		size_t cap = fits + (too_much - fits) / 2;

		render(line, event, cap, false);
		if (line->length <= LOG_LINE_MAX)
			fits = cap;
		else
			too_much = cap;
	}
	render(line, event, fits, true);
}

void log_init(enum log_level level, enum log_format format, const char *process)
{
	int kept = errno;

	settings.level = level;
	settings.text = format == LOG_FORMAT_TEXT ||
			(format == LOG_FORMAT_AUTO && isatty(STDERR_FILENO) == 1);
	errno = kept;
	log_set_process(process);
}

void log_set_process(const char *process)
{
	(void)text_copy(settings.process, sizeof(settings.process), process);
}

void log_set_level(enum log_level level)
{
	settings.level = level;
}

int log_enabled(enum log_level level)
{
	return level >= settings.level;
}

void log_write(enum log_level level, const char *event, const struct log_field *fields)
{
	char time[CLOCK_RFC3339_SIZE];
	int kept = errno;
	struct line line;
	ssize_t written;

	if (!log_enabled(level))
		return;
	const struct event whole = {.time = clock_rfc3339(clock_realtime_ns(), time),
				    .level = level,
				    .name = event,
				    .fields = fields};

	render(&line, &whole, LOG_LINE_MAX, false);
	if (line.length > LOG_LINE_MAX)
		render_cut(&line, &whole);
	do
		written = write(STDERR_FILENO, line.data, line.length);
	while (written < 0 && errno == EINTR);
	errno = kept;
}
