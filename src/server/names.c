#include "server/names.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

const char *names_keep(struct names *names, const char *name)
{
	char **found = tfind(name, &names->root, compare);

	if (found)
		return *found;
	char *copy = strdup(name);
	if (copy && tsearch(copy, &names->root, compare))
		return copy;
	free(copy);
	return NULL;
}

void names_release(struct names *names)
{
	tdestroy(names->root, free);
	names->root = NULL;
}
