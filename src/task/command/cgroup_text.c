/* What the kernel says of cgroups, read: proc(5), and Documentation/admin-guide/cgroup-v2.rst. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "task/command/cgroup.h"

static bool copy(const char *text, size_t length, char *ret_path, size_t size)
{
	if (length >= size) {
		return false;
	}
	memcpy(ret_path, text, length);
	ret_path[length] = '\0';
	return true;
}

bool cgroup_parse_own(const char *text, char *ret_path, size_t size)
{
	for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, "0::/", 4) == 0) {
			return copy(line + 3, strcspn(line + 3, "\n"), ret_path, size);
		}
	}
	return false;
}

/* What follows the directory at the beginning of a path: "" or "/…"; NULL if it does not begin so. */
static const char *below(const char *path, const char *directory)
{
	size_t length = strcmp(directory, "/") == 0 ? 0 : strlen(directory);

	if (strncmp(path, directory, length) != 0 ||
	    (path[length] != '/' && path[length] != '\0')) {
		return NULL;
	}
	return strcmp(path + length, "/") == 0 ? "" : path + length;
}

/* "ID PARENT DEVICE ROOT TARGET OPTIONS… - TYPE SOURCE OPTIONS". */
static bool parse_mount(const char *line, const char *own, char *ret_path, size_t size)
{
	char root[CGROUP_PATH_SIZE];
	char target[CGROUP_PATH_SIZE];
	char type[16];
	const char *separator = strstr(line, " - ");
	const char *end = strchr(line, '\n');

	_Static_assert(CGROUP_PATH_SIZE == 1200, "the widths below are one less");
	if (separator == NULL || (end != NULL && separator > end) ||
	    sscanf(separator, " - %15s", type) != 1 || strcmp(type, "cgroup2") != 0 ||
	    sscanf(line, "%*s %*s %*s %1199s %1199s", root, target) != 2 || target[0] != '/') {
		return false;
	}
	/* What the kernel writes with a backslash is not worth reading here. */
	const char *rest = strchr(target, '\\') == NULL ? below(own, root) : NULL;
	return rest != NULL && (size_t)snprintf(ret_path, size, "%s%s", target, rest) < size;
}

bool cgroup_parse_mounts(const char *text, const char *own, char *ret_path, size_t size)
{
	/* Outside of our namespace it begins with "/..". */
	if (strncmp(own, "/..", 3) == 0) {
		return false;
	}
	for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (parse_mount(line, own, ret_path, size)) {
			return true;
		}
	}
	return false;
}

int64_t cgroup_parse_keyed(const char *text, const char *key)
{
	size_t length = strlen(key);

	for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, length) == 0 && line[length] == ' ') {
			char *end;
			long long number = strtoll(line + length + 1, &end, 10);
			return end != line + length + 1 && number >= 0 ? number : -1;
		}
	}
	return -1;
}

bool cgroup_parse_has(const char *list, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = list; *at != '\0';) {
		size_t here = strcspn(at, " \n");
		if (here == length && strncmp(at, word, length) == 0) {
			return true;
		}
		at += here;
		at += strspn(at, " \n");
	}
	return false;
}
