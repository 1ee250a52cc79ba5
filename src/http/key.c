#include "http/key.h"

#include <string.h>
#include <strings.h>

static int refuse(struct error *error, const char *what)
{
	return error_set(error, ERROR_SYNTAX, "Idempotency-Key",
			 "%s; expected 1 to %d printable ASCII characters in double quotes", what,
			 STORE_KEY_MAX);
}

static bool append(char *key, size_t *length, char c)
{
	if (c < ' ' || c > '~' || *length == STORE_KEY_MAX)
		return false;
	key[(*length)++] = c;
	return true;
}

/* What is between the quotes: a backslash stands before a quote or a backslash, and nowhere else. */
static bool read_quoted(const char *text, char *key)
{
	size_t length = 0;

	for (text++; *text != '"'; text++) {
		if (*text == '\\' && text[1] != '"' && text[1] != '\\')
			return false;
		text += *text == '\\';
		if (!append(key, &length, *text))
			return false; /* the end of the text, too */
	}
	key[length] = '\0';
	text += 1 + strspn(text + 1, " \t");
	return length > 0 && *text == '\0';
}

static bool read_bare(const char *text, char *key)
{
	size_t length = 0;

	for (; *text && *text != ' ' && *text != '\t'; text++)
		if (strchr("\",;", *text) || !append(key, &length, *text))
			return false;
	key[length] = '\0';
	text += strspn(text, " \t");
	return length > 0 && *text == '\0';
}

bool key_parse(const char *text, char ret_key[static STORE_KEY_MAX + 1])
{
	text += strspn(text, " \t");
	bool whole = *text == '"' ? read_quoted(text, ret_key) : read_bare(text, ret_key);
	if (!whole)
		ret_key[0] = '\0';
	return whole;
}

struct header {
	const char *text;
	unsigned int count;
};

static enum MHD_Result find_header(void *data, enum MHD_ValueKind kind, const char *name,
				   const char *value)
{
	struct header *header = data;

	(void)kind;
	if (strcasecmp(name, "Idempotency-Key") == 0) {
		header->text = value ? value : "";
		header->count++;
	}
	return MHD_YES;
}

int key_read(const struct request *request, char ret_key[static STORE_KEY_MAX + 1],
	     struct error *error)
{
	struct header header = {0};

	ret_key[0] = '\0';
	MHD_get_connection_values(request->connection, MHD_HEADER_KIND, find_header, &header);
	if (header.count == 0)
		return 0;
	if (header.count > 1)
		return refuse(error, "the header is there more than once");
	return key_parse(header.text, ret_key) ? 0 : refuse(error, "this is no key");
}
