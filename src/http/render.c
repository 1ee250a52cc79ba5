/* What several resources write in the same way. */
#include <stdio.h>

#include "base/clock.h"
#include "http/resources.h"

void render_number(struct json_writer *writer, const char *key, double value)
{
	char text[48];
	int length = snprintf(text, sizeof(text), "%.3f", value);

	if (length > 0 && (size_t)length < sizeof(text))
		json_write_raw(writer, key, text, (size_t)length);
	else
		json_write_null(writer, key);
}

void render_time(struct json_writer *writer, const char *key, int64_t realtime_ns)
{
	char text[CLOCK_RFC3339_SIZE];

	json_write_string(writer, key, realtime_ns > 0 ? clock_rfc3339(realtime_ns, text) : NULL);
}

void render_name(struct buffer *names, const char *name)
{
	if (names->length > 0)
		buffer_append_text(names, ", ");
	buffer_append_text(names, name);
}

void render_id(struct json_writer *writer, const char *key, const struct id *id)
{
	char text[ID_TEXT_SIZE];

	json_write_string(writer, key, id_format(id, text));
}
