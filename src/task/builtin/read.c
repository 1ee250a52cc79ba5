/*
 * read: reads a file below the directory that the operator configured as the task's root, and
 * answers with the digest of what it read.
 *
 * Nothing outside of the root can be opened, whatever the path says: see base/beneath.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "task/builtin/builtin.h"

#define CHUNK_BYTES (INT64_C(256) * 1024)

static int fail_open(struct tp_context *ctx, const char *path, int error)
{
	if (error == EXDEV) {
		return tp_fail(ctx, "%s: leads out of the directory that may be read", path);
	}
	return tp_fail(ctx, "%s: %s", path, strerror(error));
}

/* Opens the file that the job names: 0, or what run() is to answer. */
static int open_file(struct tp_context *ctx, const char *path, int *ret_fd)
{
	const char *root_path = tp_setting(ctx, "root");
	if (root_path == NULL) {
		return tp_fail(ctx, "no directory may be read: the setting tasks.read.root is not "
				    "in the configuration");
	}
	int root = open(root_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0) {
		return tp_fail(ctx, "the directory of tasks.read.root cannot be opened: %s",
			       strerror(errno));
	}
	int fd = beneath_open(root, path, O_RDONLY, 0);
	close(root);
	if (fd < 0) {
		return fail_open(ctx, path, -fd);
	}
	struct stat status;
	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
		close(fd);
		return tp_fail(ctx, "%s: is not a regular file", path);
	}
	*ret_fd = fd;
	return 0;
}

/* Hashes up to length bytes from offset on, fewer if the file ends. 0, -ECANCELED to stop, or
 * -errno. */
static int hash_file(struct tp_context *ctx, int fd, int64_t offset, int64_t length,
		     struct sha256_ctx *hash, int64_t *ret_bytes)
{
	int64_t done = 0;
	uint8_t *chunk = malloc(CHUNK_BYTES);
	if (chunk == NULL) {
		return -ENOMEM;
	}
	int status = 0;
	while (done < length) {
		if (tp_should_stop(ctx)) {
			status = -ECANCELED;
			break;
		}
		size_t wanted = length - done < CHUNK_BYTES ? (size_t)(length - done) : CHUNK_BYTES;
		ssize_t got = pread(fd, chunk, wanted, (off_t)(offset + done));
		if (got < 0 && errno == EINTR) {
			continue;
		}
		if (got <= 0) {
			status = got < 0 ? -errno : 0;
			break;
		}
		sha256_update(hash, (size_t)got, chunk);
		done += got;
	}
	free(chunk);
	*ret_bytes = done;
	return status;
}

static int run(struct tp_context *ctx, const json_t *args)
{
	const char *path = json_string_value(json_object_get(args, "path"));
	if (path == NULL) {
		return tp_fail(ctx, "\"path\" must be given");
	}
	int fd = -1;
	int status = open_file(ctx, path, &fd);
	if (status != 0) {
		return status;
	}
	struct sha256_ctx hash;
	int64_t bytes = 0;
	sha256_init(&hash);
	status = hash_file(ctx, fd, builtin_integer(args, "offset", 0),
			   builtin_integer(args, "length", INT64_MAX), &hash, &bytes);
	close(fd);
	if (status == -ECANCELED) {
		return tp_stopped(ctx);
	}
	if (status != 0) {
		return tp_fail(ctx, "%s: %s", path, strerror(-status));
	}
	uint8_t digest[SHA256_DIGEST_SIZE];
	char hex[2 * SHA256_DIGEST_SIZE + 1];
	sha256_digest(&hash, sizeof(digest), digest);
	builtin_hex(digest, sizeof(digest), hex);
	return tp_set_result(ctx,
			     json_pack("{s:I, s:s}", "bytes", (json_int_t)bytes, "sha256", hex));
}

static const char schema[] =
	"{\"type\": \"object\", \"properties\": {"
	"\"path\": {\"type\": \"string\", \"minLength\": 1, \"maxLength\": 4095, "
	"\"description\": \"The file, relative to the directory configured as tasks.read.root; "
	"nothing outside of it can be read.\"},"
	"\"offset\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 9007199254740991, "
	"\"default\": 0, \"description\": \"Where to begin, in bytes.\"},"
	"\"length\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 9007199254740991, "
	"\"description\": \"How many bytes to read at most; without it, to the end of the "
	"file.\"}},"
	"\"required\": [\"path\"]}";

const struct tp_task builtin_read = {
	.name = "read",
	.description = "Reads a file below a configured directory. The result tells how many bytes "
		       "were read and their SHA-256.",
	.args_schema = schema,
	.flags = TP_TASK_THREAD_SAFE,
	.run = run,
};
