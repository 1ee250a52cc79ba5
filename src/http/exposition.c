/* Writes the text format. Numbers are written from integers, so none is rounded on its way. */
#include "http/exposition.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

#define SECONDS_SIZE 32

static const char *type_name(enum exposition_type type)
{
	switch (type) {
	case EXPOSITION_COUNTER:
		return "counter";
	case EXPOSITION_GAUGE:
		return "gauge";
	case EXPOSITION_HISTOGRAM:
		return "histogram";
	}
	return "untyped";
}

/* What the format escapes: backslash and newline everywhere, the quote in a label's value. */
static void append_escaped(struct buffer *buffer, const char *text, const char *special)
{
	for (;;) {
		size_t plain = strcspn(text, special);

		buffer_append(buffer, text, plain);
		text += plain;
		if (*text == '\0')
			return;
		buffer_append_char(buffer, '\\');
		buffer_append_char(buffer, *text == '\n' ? 'n' : *text);
		text++;
	}
}

/* As few decimals as the value needs. */
static const char *format_seconds(uint64_t ns, char text[static SECONDS_SIZE])
{
	uint64_t seconds = ns / NS_PER_S, rest_ns = ns % NS_PER_S;
	int length = snprintf(text, SECONDS_SIZE, "%" PRIu64 ".%09" PRIu64, seconds, rest_ns);

	while (text[length - 1] == '0')
		length--;
	if (text[length - 1] == '.')
		length--;
	text[length] = '\0';
	return text;
}

void exposition_begin(struct exposition *exposition, const char *name, enum exposition_type type,
		      const char *help)
{
	exposition->family = name;
	buffer_append_format(exposition->buffer, "# HELP %s ", name);
	append_escaped(exposition->buffer, help, "\\\n");
	buffer_append_format(exposition->buffer, "\n# TYPE %s %s\n", name, type_name(type));
}

static void append_label(struct buffer *buffer, char *separator, const char *name,
			 const char *value)
{
	buffer_append_char(buffer, *separator);
	buffer_append_text(buffer, name);
	buffer_append_text(buffer, "=\"");
	append_escaped(buffer, value, "\\\"\n");
	buffer_append_char(buffer, '"');
	*separator = ',';
}

/* Up to the value. le: the bound of a bucket, or NULL. */
static void begin_sample(struct exposition *exposition, const char *suffix,
			 const struct exposition_labels *labels, const char *le)
{
	struct buffer *buffer = exposition->buffer;
	char separator = '{';

	buffer_append_text(buffer, exposition->family);
	buffer_append_text(buffer, suffix);
	for (size_t i = 0; i < EXPOSITION_LABELS && labels->label[i].name; i++)
		append_label(buffer, &separator, labels->label[i].name, labels->label[i].value);
	if (le)
		append_label(buffer, &separator, "le", le);
	if (separator == ',')
		buffer_append_char(buffer, '}');
	buffer_append_char(buffer, ' ');
}

static void append_uint(struct buffer *buffer, uint64_t value)
{
	buffer_append_format(buffer, "%" PRIu64 "\n", value);
}

static void append_seconds(struct buffer *buffer, uint64_t ns)
{
	char text[SECONDS_SIZE];

	buffer_append_text(buffer, format_seconds(ns, text));
	buffer_append_char(buffer, '\n');
}

void exposition_uint(struct exposition *exposition, struct exposition_labels labels, uint64_t value)
{
	begin_sample(exposition, "", &labels, NULL);
	append_uint(exposition->buffer, value);
}

void exposition_seconds(struct exposition *exposition, struct exposition_labels labels, int64_t ns)
{
	begin_sample(exposition, "", &labels, NULL);
	append_seconds(exposition->buffer, ns > 0 ? (uint64_t)ns : 0);
}

void exposition_histogram(struct exposition *exposition, struct exposition_labels labels,
			  const struct histogram *histogram)
{
	char bound[SECONDS_SIZE];
	uint64_t count = 0;

	for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++) {
		const char *le = "+Inf";

		if (i < HISTOGRAM_BOUNDS)
			le = format_seconds((uint64_t)histogram_bounds_ns[i], bound);
		count += histogram->between[i];
		begin_sample(exposition, "_bucket", &labels, le);
		append_uint(exposition->buffer, count);
	}
	begin_sample(exposition, "_sum", &labels, NULL);
	append_seconds(exposition->buffer, histogram->sum_ns);
	begin_sample(exposition, "_count", &labels, NULL);
	append_uint(exposition->buffer, count);
}
