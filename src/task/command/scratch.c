/*
 * A tree is removed without recursion: a directory that is found in a directory is moved up beside
 * it, under a name that is free, until the top holds nothing but files and empty directories. So a
 * tree of any depth takes two descriptors.
 *
 * Invariants
 * 1. Only entries of a directory that we hold open, and opened with O_NOFOLLOW, are unlinked or
 * moved.
 * 2. A name with the pid and start time of a living process of our namespace is never removed but by
 * that process.
 */
#include "task/command/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define MOVED_NAME "twinpool-moved-%llu"
#define PASSES_MAX                                                                                 \
	1000000 /* directories removed in one call: an end even with a hostile neighbour */

static struct {
	int base;				     /* the directory of all of them */
	char path[PATH_MAX - SCRATCH_NAME_SIZE - 1]; /* of that */
	unsigned long long pid_namespace;
	unsigned long long start;
	atomic_ullong number;
} state = {.base = -1};

void scratch_base(const char *data_dir, char ret_path[static PATH_MAX])
{
	const char *temporary = getenv("TMPDIR");

	if (data_dir != NULL) {
		snprintf(ret_path, PATH_MAX, "%s/scratch", data_dir);
		return;
	}
	if (temporary == NULL || temporary[0] != '/') {
		temporary = "/tmp";
	}
	snprintf(ret_path, PATH_MAX, "%s/twinpool-scratch-%u", temporary, (unsigned int)geteuid());
}

/* --- removing --- */

/* As unlinkat(2), and answers -EISDIR for every directory. */
static int unlink_file(int directory, const char *name)
{
	return unlinkat(directory, name, 0) == 0 ? 0 : errno == EPERM ? -EISDIR : -errno;
}

/* Opens a directory, if need be by giving its owner, us, the right to. The mode is changed by the
 * descriptor, so no link that takes its place can be meant. */
static int open_directory(int directory, const char *name)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	char path[64];
	int fd = openat(directory, name, flags);

	if (fd >= 0 || errno != EACCES) {
		// cppcheck-suppress resourceLeak ; the descriptor is what is answered
		return fd < 0 ? -errno : fd;
	}
	int handle = openat(directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (handle < 0) {
		return -errno;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", handle);
	fd = chmod(path, 0700) == 0 ? openat(directory, name, flags) : -1;
	int status = fd < 0 ? -errno : fd;
	close(handle);
	return status;
}

/* Moves a directory up, under a name that is free. It must be ours to write, since its ".."
 * changes. */
static int move_up(int from, const char *name, int to, unsigned long long *number)
{
	char moved[64];
	int fd = open_directory(from, name);

	if (fd < 0) {
		return fd;
	}
	fchmod(fd, 0700);
	close(fd);
	do {
		snprintf(moved, sizeof(moved), MOVED_NAME, (*number)++);
		if (renameat2(from, name, to, moved, 1 /* RENAME_NOREPLACE */) == 0 ||
		    (errno == EINVAL && renameat(from, name, to, moved) == 0)) {
			return 0;
		}
	} while (errno == EEXIST);
	return -errno;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Unlinks what is no directory, and deals with the directories by `with`: 0 or the last -errno. */
static int empty(int directory, int top, unsigned long long *number)
{
	int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = copy < 0 ? NULL : fdopendir(copy);
	int status = 0;

	if (entries == NULL) {
		status = -errno;
		fd_close(&copy);
		return status;
	}
	for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
		if (is_dots(entry->d_name)) {
			continue;
		}
		int result = unlink_file(directory, entry->d_name);
		if (result == -EISDIR) {
			result = move_up(directory, entry->d_name, top, number);
		}
		if (result < 0 && result != -ENOENT) {
			status = result;
		}
	}
	closedir(entries);
	return status;
}

/* Empties one directory of the top into the top, and removes it. */
static int remove_directory(int top, const char *name, unsigned long long *number)
{
	if (unlinkat(top, name, AT_REMOVEDIR) == 0) {
		return 0;
	}
	int fd = open_directory(top, name);
	if (fd < 0) {
		return fd;
	}
	fchmod(fd, 0700);
	int status = empty(fd, top, number);
	close(fd);
	if (status < 0) {
		return status;
	}
	return unlinkat(top, name, AT_REMOVEDIR) == 0 ? 0 : -errno;
}

/* Removes each entry that is there now. Answers how many directories were dealt with, which may
 * have brought new ones, or -errno if something cannot be removed. */
static int pass_top(int top, unsigned long long *number)
{
	int copy = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = copy < 0 ? NULL : fdopendir(copy);
	int directories = 0;
	int failure = 0;

	if (entries == NULL) {
		failure = -errno;
		fd_close(&copy);
		return failure;
	}
	for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
		if (is_dots(entry->d_name)) {
			continue;
		}
		int result = unlink_file(top, entry->d_name);
		if (result == -EISDIR) {
			directories++;
			result = remove_directory(top, entry->d_name, number);
		}
		if (result < 0 && result != -ENOENT) {
			failure = result;
		}
	}
	closedir(entries);
	return failure < 0 ? failure : directories;
}

int scratch_remove_at(int directory, const char *name)
{
	int status = unlink_file(directory, name);
	unsigned long long number = 0;

	if (status != -EISDIR) {
		return status;
	}
	if (unlinkat(directory, name, AT_REMOVEDIR) == 0) {
		return 0;
	}
	int top = open_directory(directory, name);
	if (top < 0) {
		return top;
	}
	fchmod(top, 0700);
	int found = 1;
	for (int done = 0; found > 0 && done < PASSES_MAX; done += found) {
		found = pass_top(top, &number);
	}
	close(top);
	if (found < 0) {
		return found;
	}
	return unlinkat(directory, name, AT_REMOVEDIR) == 0 ? 0 : -errno;
}

/* --- whose they are --- */

/* When a process began, in ticks since the boot: the 22nd field of its stat (proc(5)). 0: there is
 * none. */
static unsigned long long start_of(pid_t pid)
{
	char path[64];
	char text[1024];

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	fd_close(&fd);
	if (length <= 0) {
		return 0;
	}
	text[length] = '\0';
	/* The name of the program, in brackets, may hold anything. */
	char *at = strrchr(text, ')');
	for (int field = 3; at != NULL && field <= 22; field++) {
		at = strchr(at + 1, ' ');
	}
	return at == NULL ? 0 : strtoull(at, NULL, 10);
}

static unsigned long long read_namespace(void)
{
	struct stat status;

	return stat("/proc/self/ns/pid", &status) == 0 ? status.st_ino : 0;
}

/* Whether the directory was made by a process that is gone. */
static bool is_left(const char *name, bool is_ours)
{
	unsigned long long pid_namespace;
	unsigned long long start;
	unsigned int pid;
	unsigned long long number;
	int end = 0;

	if (sscanf(name, "%llu.%u.%llu.%llu%n", &pid_namespace, &pid, &start, &number, &end) != 4 ||
	    name[end] != '\0') {
		return false;
	}
	if (pid_namespace != state.pid_namespace) {
		return is_ours;
	}
	return start_of((pid_t)pid) != start;
}

static void sweep(bool is_ours)
{
	int copy = openat(state.base, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = copy < 0 ? NULL : fdopendir(copy);

	if (entries == NULL) {
		fd_close(&copy);
		return;
	}
	for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
		if (is_left(entry->d_name, is_ours)) {
			scratch_remove_at(state.base, entry->d_name);
		}
	}
	closedir(entries);
}

int scratch_open(const char *path, bool is_ours)
{
	struct stat status;

	if (strlen(path) >= sizeof(state.path)) {
		return -ENAMETOOLONG;
	}
	/* Others may pass through, to a directory of theirs, but see and change nothing. */
	if (mkdir(path, 0711) < 0 && errno != EEXIST) {
		return -errno;
	}
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	if (fstat(fd, &status) < 0 || status.st_uid != geteuid() || (status.st_mode & 022) != 0) {
		close(fd);
		return -EPERM;
	}
	state.base = fd;
	snprintf(state.path, sizeof(state.path), "%s", path);
	state.pid_namespace = read_namespace();
	state.start = start_of(getpid());
	sweep(is_ours);
	return 0;
}

void scratch_close(void)
{
	fd_close(&state.base);
}

int scratch_make(uid_t uid, gid_t gid, struct scratch *ret_scratch)
{
	struct scratch scratch = {.directory = -1};

	snprintf(scratch.name, sizeof(scratch.name), "%llu.%u.%llu.%llu", state.pid_namespace,
		 (unsigned int)getpid(), state.start, atomic_fetch_add(&state.number, 1));
	if (mkdirat(state.base, scratch.name, 0700) < 0) {
		return -errno;
	}
	scratch.directory =
		openat(state.base, scratch.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (scratch.directory < 0 ||
	    (uid != (uid_t)-1 && fchown(scratch.directory, uid, gid) < 0)) {
		int status = -errno;
		fd_close(&scratch.directory);
		unlinkat(state.base, scratch.name, AT_REMOVEDIR);
		return status;
	}
	*ret_scratch = scratch;
	return 0;
}

void scratch_path(const struct scratch *scratch, char ret_path[static PATH_MAX])
{
	snprintf(ret_path, PATH_MAX, "%s/%s", state.path, scratch->name);
}

const char *scratch_open_base(void)
{
	return state.path;
}

int scratch_remove(struct scratch *scratch)
{
	if (scratch->directory < 0) {
		return 0;
	}
	fd_close(&scratch->directory);
	return scratch_remove_at(state.base, scratch->name);
}
