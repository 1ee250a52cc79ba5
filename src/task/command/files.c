#include "task/command/files.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/base64.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/fd.h"

#define CHUNK_BYTES 65536
#define FIELD_BYTES 160

static int fail_memory(struct error *error)
{
	(void)error_set(error, ERROR_INTERNAL, NULL, "out of memory");
	return -ENOMEM;
}

/* Names the argument; the reason is that of an -errno. */
static int fail_system(const char *field, const char *what, int status, struct error *error)
{
	(void)error_set(error, ERROR_INVALID, field, "%s: %s", what,
			status == -EXDEV ? "the path leads out of the directory that is allowed"
					 : strerror(-status));
	return status;
}

int files_decode(const char *text, size_t length, struct buffer *ret_bytes)
{
	struct base64_decode_ctx context;
	size_t decoded = BASE64_DECODE_LENGTH(length) + 1;

	if (buffer_reserve(ret_bytes, decoded) < 0) {
		return -ENOMEM;
	}
	base64_decode_init(&context);
	if (!base64_decode_update(&context, &decoded,
				  (uint8_t *)(ret_bytes->data + ret_bytes->length), length, text) ||
	    !base64_decode_final(&context)) {
		return -EINVAL;
	}
	ret_bytes->length += decoded;
	return 0;
}

/* --- in --- */

/* Copies the rest of one file to the end of another, at most limit bytes: how many, or -errno. */
static int64_t copy(int from, int to, int64_t limit)
{
	char chunk[CHUNK_BYTES];
	int64_t copied = 0;

	for (;;) {
		ssize_t got = read(from, chunk, sizeof(chunk));
		if (got < 0 && errno == EINTR) {
			continue;
		}
		if (got <= 0) {
			return got < 0 ? -errno : copied;
		}
		copied += got;
		if (copied > limit) {
			return -EFBIG;
		}
		int status = fd_write_all(to, chunk, (size_t)got);
		if (status < 0) {
			return status;
		}
	}
}

/* Opens a regular file below a root: a descriptor, or -errno. */
static int open_source(const char *root_path, const char *path)
{
	struct stat status;
	int root = open(root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (root < 0) {
		return -errno;
	}
	int fd = beneath_open(root, path, O_RDONLY, 0);
	close(root);
	if (fd >= 0 && (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))) {
		close(fd);
		return S_ISDIR(status.st_mode) ? -EISDIR : -EINVAL;
	}
	return fd;
}

static int lay_copy(const struct command_file_in *file, const char *path, int target)
{
	int source = open_source(file->root, path);

	if (source < 0) {
		return source;
	}
	int64_t copied = copy(source, target, INT64_MAX);
	close(source);
	return copied < 0 ? (int)copied : 0;
}

static int lay_content(const json_t *value, int target)
{
	struct buffer bytes = {0};
	int status = files_decode(json_string_value(value), json_string_length(value), &bytes);

	if (status == 0) {
		status = fd_write_all(target, bytes.data, bytes.length);
	}
	buffer_release(&bytes);
	return status;
}

static int lay_file(const struct command *command, const struct command_file_in *file,
		    const json_t *value, int directory, struct error *error)
{
	char field[FIELD_BYTES];

	snprintf(field, sizeof(field), "args.%.120s", file->argument);
	if (file->root != NULL && strlen(json_string_value(value)) != json_string_length(value)) {
		return fail_system(field, "the path has a NUL", -EINVAL, error);
	}
	int target = openat(directory, file->as, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (target < 0) {
		return fail_system(field, "the file cannot be made in the scratch directory",
				   -errno, error);
	}
	int status = command->changes_user && fchown(target, command->uid, command->gid) < 0
			     ? -errno
			     : 0;
	if (status == 0) {
		status = file->root != NULL ? lay_copy(file, json_string_value(value), target)
					    : lay_content(value, target);
	}
	close(target);
	if (status == 0) {
		return 0;
	}
	if (status == -EINVAL && file->root == NULL) {
		(void)error_set(error, ERROR_INVALID, field, "found no base64; expected it");
		return status;
	}
	return fail_system(field, "the file cannot be copied", status, error);
}

int files_lay(const struct command *command, const json_t *args, int directory, struct error *error)
{
	for (size_t i = 0; i < command->file_in_count; i++) {
		const struct command_file_in *file = &command->files_in[i];
		const json_t *value = json_object_get(args, file->argument);
		int status = json_is_string(value)
				     ? lay_file(command, file, value, directory, error)
				     : 0;
		if (status != 0) {
			return status;
		}
	}
	return 0;
}

/* --- out --- */

/* Opens what the command has made: a descriptor, or -errno; -EPERM for what a command could put
 * there to have something else read: a link to a file of another user, say. */
static int open_made(const struct command *command, const struct command_file_out *file,
		     int directory, int64_t *ret_bytes)
{
	uid_t owner = command->changes_user ? command->uid : geteuid();
	struct stat status;
	int fd = openat(directory, file->path,
			O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0) {
		return errno == ELOOP ? -EPERM : -errno;
	}
	int result = fstat(fd, &status) < 0			? -errno
		     : !S_ISREG(status.st_mode)			? -EPERM
		     : status.st_nlink != 1			? -EPERM
		     : status.st_uid != owner			? -EPERM
		     : (size_t)status.st_size > file->max_bytes ? -EFBIG
								: 0;
	if (result < 0) {
		close(fd);
		return result;
	}
	*ret_bytes = status.st_size;
	return fd;
}

static json_t *encode(const struct buffer *bytes)
{
	size_t length = BASE64_ENCODE_RAW_LENGTH(bytes->length);
	char *text = malloc(length + 1);

	if (text == NULL) {
		return NULL;
	}
	base64_encode_raw(text, bytes->length, (const uint8_t *)bytes->data);
	json_t *value = json_stringn(text, length);
	free(text);
	return value;
}

/* The content for the result; NULL if memory is short or the file cannot be read. */
static json_t *read_content(int fd, int64_t length)
{
	struct buffer bytes = {0};
	json_t *content = NULL;
	ssize_t got = 1;

	if (buffer_reserve(&bytes, (size_t)length + 1) < 0) {
		return NULL;
	}
	while (bytes.length < (size_t)length && got > 0) {
		got = read(fd, bytes.data + bytes.length, (size_t)length - bytes.length);
		bytes.length += got > 0 ? (size_t)got : 0;
	}
	if (got > 0 || length == 0) {
		content = encode(&bytes);
	}
	buffer_release(&bytes);
	return content;
}

/* Puts the content below the root, as a new file: 0 or -errno. */
static int put(const struct command_file_out *file, const char *path, int fd, int64_t length)
{
	int root = open(file->root, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (root < 0) {
		return -errno;
	}
	int target = beneath_open(root, path, O_WRONLY | O_CREAT | O_EXCL, 0644);
	close(root);
	if (target < 0) {
		return target;
	}
	int64_t copied = copy(fd, target, length);
	close(target);
	return copied < 0 ? (int)copied : copied == length ? 0 : -EIO;
}

/* Takes away what put() has put. */
static void unput(const struct command_file_out *file, const char *path)
{
	const char *slash = strrchr(path, '/');
	int root = open(file->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int parent = root;
	char *directory = slash == NULL ? NULL : strndup(path, (size_t)(slash - path));

	if (root >= 0 && directory != NULL) {
		parent = beneath_open(root, directory, O_PATH | O_DIRECTORY, 0);
	}
	if (parent >= 0) {
		unlinkat(parent, slash == NULL ? path : slash + 1, 0);
	}
	if (parent != root) {
		fd_close(&parent);
	}
	fd_close(&root);
	free(directory);
}

static char *target_path(const struct command_file_out *file, const json_t *args)
{
	struct buffer path = {0};

	template_expand(&file->to, args, &path);
	buffer_append_char(&path, '\0');
	return buffer_take(&path, NULL);
}

static int put_file(const struct command_file_out *file, const json_t *args, int fd, int64_t length,
		    json_t **ret_entry, struct error *error)
{
	char *path = target_path(file, args);

	if (path == NULL) {
		return fail_memory(error);
	}
	int status = put(file, path, fd, length);
	if (status == 0) {
		*ret_entry = json_pack("{s:s,s:I}", "path", path, "bytes", (json_int_t)length);
		status = *ret_entry == NULL ? -ENOMEM : 0;
		if (status < 0) {
			unput(file, path);
		}
	}
	free(path);
	return status == 0 ? 0
			   : fail_system(file->name, "the file cannot be put where it belongs",
					 status, error);
}

static int fail_made(const struct command_file_out *file, int status, struct error *error)
{
	char what[400];

	if (status == -EFBIG) {
		(void)error_set(error, ERROR_INVALID, file->name,
				"the command made the file %.100s larger than %zu bytes",
				file->path, file->max_bytes);
		return status;
	}
	if (status == -EPERM) {
		(void)error_set(error, ERROR_INVALID, file->name,
				"the command made %.100s no plain file of its own", file->path);
		return status;
	}
	snprintf(what, sizeof(what), "the command did not make the file %.100s", file->path);
	return fail_system(file->name, what, status, error);
}

/* *ret_entry stays NULL if the file is not there and need not be. */
static int take_file(const struct command *command, const struct command_file_out *file,
		     const json_t *args, int directory, json_t **ret_entry, struct error *error)
{
	int64_t length = 0;
	int fd = open_made(command, file, directory, &length);

	if (fd == -ENOENT && file->optional) {
		return 0;
	}
	if (fd < 0) {
		return fail_made(file, fd, error);
	}
	int status = 0;
	if (file->root != NULL) {
		status = put_file(file, args, fd, length, ret_entry, error);
	} else {
		json_t *content = read_content(fd, length);
		*ret_entry = content == NULL ? NULL
					     : json_pack("{s:o,s:I}", "base64", content, "bytes",
							 (json_int_t)length);
		status = *ret_entry == NULL ? fail_memory(error) : 0;
	}
	close(fd);
	return status;
}

/* Takes away what was put below roots, by what was told of it. */
static void unput_all(const struct command *command, const json_t *files)
{
	for (size_t i = 0; i < command->file_out_count; i++) {
		const json_t *entry = json_object_get(files, command->files_out[i].name);
		const char *path = json_string_value(json_object_get(entry, "path"));
		if (path != NULL) {
			unput(&command->files_out[i], path);
		}
	}
}

int files_take(const struct command *command, const json_t *args, int directory, json_t **ret_files,
	       struct error *error)
{
	json_t *files = json_object();
	int status = files == NULL ? fail_memory(error) : 0;

	for (size_t i = 0; status == 0 && i < command->file_out_count; i++) {
		json_t *entry = NULL;
		status = take_file(command, &command->files_out[i], args, directory, &entry, error);
		if (status == 0 && entry != NULL &&
		    json_object_set_new(files, command->files_out[i].name, entry) < 0) {
			status = fail_memory(error);
		}
	}
	if (status != 0) {
		unput_all(command, files);
		json_decref(files);
		return status;
	}
	*ret_files = files;
	return 0;
}
