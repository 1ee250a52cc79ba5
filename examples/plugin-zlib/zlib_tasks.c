/*
 * A plug-in for twinpool: zlib as three tasks.
 *
 *	zlib.compress    {"text": "..."} or {"base64": "..."}, level  →  {"base64", "bytes_in", "bytes_out"}
 *	zlib.decompress  {"base64": "..."}                            →  {"text"} or {"base64"}, "bytes_out"
 *	zlib.crc32       {"text": "..."} or {"base64": "..."}         →  {"crc32"}, and how often it was asked for
 *
 * What there is to see in it:
 *   - Long work is done in pieces, with a look at tp_should_stop() between them: that is what makes a
 * job on a thread stoppable at all.
 *   - Memory is from tp_alloc(), so no way out of a function has to free it. zlib is given the same
 * allocator, so that its memory is freed even if the job ends in the middle.
 *   - A setting of the operator (the level) is read once a host, in host_open(), which refuses a bad one.
 *   - A counter across all jobs of the pool, in processes or in threads, lies in a shared block.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <twinpool/task.h>

#include "base64.h"

#define PIECE_BYTES	 65536
#define DECOMPRESSED_MAX (64u << 20)
#define LEVEL_DEFAULT	 6

static int default_level = LEVEL_DEFAULT; /* written by host_open(), before there are jobs */

/* Bytes that a run works on. */
struct bytes {
	unsigned char *data;
	size_t length;
};

/* --- arguments and results --------------------------------------------------------------------- */

/* The bytes of "text" or "base64". 0, or what tp_fail() answers. */
static int read_input(struct tp_context *ctx, const json_t *args, struct bytes *ret_input)
{
	const json_t *text = json_object_get(args, "text");
	const json_t *base64 = json_object_get(args, "base64");
	const json_t *given = text ? text : base64;

	if (!text == !base64)
		return tp_fail(ctx, "found %s; expected either \"text\" or \"base64\"",
			       text ? "both of them" : "none of them");
	size_t length = json_string_length(given);
	struct bytes input = {.data = tp_alloc(ctx, length + 1), .length = length};
	if (!input.data)
		return tp_fail(ctx, "no memory for %zu bytes", length);
	if (text)
		memcpy(input.data, json_string_value(text), length);
	else if (base64_decode(json_string_value(base64), length, input.data, &input.length) != 0)
		return tp_fail(ctx, "\"base64\" is no base64");
	*ret_input = input;
	return 0;
}

/* NULL if memory is short. */
static json_t *encode(struct tp_context *ctx, const struct bytes *bytes)
{
	char *text = tp_alloc(ctx, BASE64_LENGTH(bytes->length) + 1);

	if (!text)
		return NULL;
	base64_encode(bytes->data, bytes->length, text);
	return json_stringn_nocheck(text, BASE64_LENGTH(bytes->length));
}

/* --- zlib --------------------------------------------------------------------------------------- */

static void *allocate(void *ctx, unsigned int count, unsigned int size)
{
	size_t bytes;

	return __builtin_mul_overflow((size_t)count, (size_t)size, &bytes) ? NULL
									   : tp_alloc(ctx, bytes);
}

/* The run's end frees it. */
static void release(void *ctx, void *memory)
{
	(void)ctx;
	(void)memory;
}

static z_stream new_stream(struct tp_context *ctx, const struct bytes *input)
{
	return (z_stream){.zalloc = allocate,
			  .zfree = release,
			  .opaque = ctx,
			  .next_in = input->data,
			  .avail_in = 0};
}

/* Gives the stream its next piece of the input: the flush that goes with it. */
static int feed(z_stream *stream, const struct bytes *input)
{
	size_t left = input->length - stream->total_in - stream->avail_in;

	if (stream->avail_in == 0)
		stream->avail_in = (unsigned int)(left < PIECE_BYTES ? left : PIECE_BYTES);
	return stream->total_in + stream->avail_in == input->length ? Z_FINISH : Z_NO_FLUSH;
}

/* --- zlib.compress ------------------------------------------------------------------------------ */

static int compress_all(struct tp_context *ctx, const struct bytes *input, int level,
			struct bytes *ret_output)
{
	z_stream stream = new_stream(ctx, input);
	int status = deflateInit(&stream, level);

	if (status != Z_OK)
		return tp_fail(ctx, "zlib: %s", zError(status));
	size_t room = deflateBound(&stream, input->length);
	struct bytes output = {.data = tp_alloc(ctx, room)};
	if (!output.data)
		return tp_fail(ctx, "no memory for %zu bytes", room);
	stream.next_out = output.data;
	while (status != Z_STREAM_END) {
		if (tp_should_stop(ctx))
			return tp_stopped(ctx);
		int flush = feed(&stream, input);
		stream.avail_out = (unsigned int)(room - stream.total_out);
		status = deflate(&stream, flush);
		if (status != Z_OK && status != Z_STREAM_END)
			return tp_fail(ctx, "zlib: %s", zError(status));
		tp_progress(ctx, (int64_t)stream.total_in, (int64_t)input->length, NULL);
	}
	output.length = stream.total_out;
	deflateEnd(&stream);
	*ret_output = output;
	return 0;
}

static int run_compress(struct tp_context *ctx, const json_t *args)
{
	const json_t *level = json_object_get(args, "level");
	struct bytes input;
	struct bytes output;
	int status = read_input(ctx, args, &input);

	if (status == 0)
		status = compress_all(ctx, &input,
				      level ? (int)json_integer_value(level) : default_level,
				      &output);
	if (status != 0)
		return status;
	return tp_set_result(ctx, json_pack("{s:o, s:I, s:I}", "base64", encode(ctx, &output),
					    "bytes_in", (json_int_t)input.length, "bytes_out",
					    (json_int_t)output.length));
}

/* --- zlib.decompress ---------------------------------------------------------------------------- */

/* Doubles the room; what was there stays. 0, or what tp_fail() answers. */
static int grow(struct tp_context *ctx, struct bytes *output)
{
	size_t room = output->length ? 2 * output->length : PIECE_BYTES;

	if (room > DECOMPRESSED_MAX)
		return tp_fail(ctx, "it would have more than %u bytes", DECOMPRESSED_MAX);
	unsigned char *data = tp_alloc(ctx, room);
	if (!data)
		return tp_fail(ctx, "no memory for %zu bytes", room);
	if (output->length)
		memcpy(data, output->data, output->length);
	*output = (struct bytes){.data = data, .length = room};
	return 0;
}

static int decompress_all(struct tp_context *ctx, const struct bytes *input,
			  struct bytes *ret_output)
{
	z_stream stream = new_stream(ctx, input);
	struct bytes output = {0};
	int status = inflateInit(&stream);

	if (status != Z_OK)
		return tp_fail(ctx, "zlib: %s", zError(status));
	while (status != Z_STREAM_END) {
		if (tp_should_stop(ctx))
			return tp_stopped(ctx);
		if (stream.total_out == output.length && grow(ctx, &output) != 0)
			return -1;
		feed(&stream, input);
		stream.next_out = output.data + stream.total_out;
		stream.avail_out = (unsigned int)(output.length - stream.total_out);
		status = inflate(&stream, Z_NO_FLUSH);
		if (status == Z_BUF_ERROR)
			return tp_fail(ctx, "the compressed bytes end too early");
		if (status != Z_OK && status != Z_STREAM_END)
			return tp_fail(ctx, "zlib: %s", stream.msg ? stream.msg : zError(status));
	}
	output.length = stream.total_out;
	inflateEnd(&stream);
	*ret_output = output;
	return 0;
}

static int run_decompress(struct tp_context *ctx, const json_t *args)
{
	struct bytes input;
	struct bytes output;
	int status = read_input(ctx, args, &input);

	if (status == 0)
		status = decompress_all(ctx, &input, &output);
	if (status != 0)
		return status;
	/* Text if it is that (NULL if not), else base64. */
	json_t *text = json_stringn((const char *)output.data, output.length);
	return tp_set_result(ctx, json_pack("{s:o, s:I}", text ? "text" : "base64",
					    text ? text : encode(ctx, &output), "bytes_out",
					    (json_int_t)output.length));
}

/* --- zlib.crc32 --------------------------------------------------------------------------------- */

static int run_crc32(struct tp_context *ctx, const json_t *args)
{
	/* One for all jobs of the pool. A single number needs no tp_lock(), only to be atomic. */
	_Atomic int64_t *calls = tp_shared_block(ctx, "zlib.calls", sizeof(*calls));
	uLong crc = crc32(0, NULL, 0);
	struct bytes input;
	int status = read_input(ctx, args, &input);

	if (status != 0)
		return status;
	for (size_t done = 0; done < input.length;) {
		size_t left = input.length - done;
		unsigned int piece = (unsigned int)(left < PIECE_BYTES ? left : PIECE_BYTES);
		if (tp_should_stop(ctx))
			return tp_stopped(ctx);
		crc = crc32(crc, input.data + done, piece);
		done += piece;
	}
	return tp_set_result(ctx,
			     json_pack("{s:I, s:I, s:I}", "crc32", (json_int_t)crc, "bytes_in",
				       (json_int_t)input.length, "calls",
				       (json_int_t)(calls ? atomic_fetch_add(calls, 1) + 1 : 0)));
}

/* --- the plug-in -------------------------------------------------------------------------------- */

#define INPUT_PROPERTIES                                                                           \
	"\"text\": {\"type\": \"string\", \"description\": \"Text, taken as UTF-8.\"},"            \
	"\"base64\": {\"type\": \"string\", \"description\": \"Any bytes, as base64.\"}"

static const struct tp_task compress_task = {
	.name = "zlib.compress",
	.description = "Compresses text or bytes (RFC 1950).",
	.args_schema = "{\"type\": \"object\", \"properties\": {" INPUT_PROPERTIES
		       ", \"level\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 9,"
		       " \"description\": \"0 (none) to 9 (best); left out: the operator's.\"}}}",
	.flags = TP_TASK_THREAD_SAFE,
	.run = run_compress,
};

static const struct tp_task decompress_task = {
	.name = "zlib.decompress",
	.description = "Undoes zlib.compress; answers text if it is that, else base64.",
	.args_schema = "{\"type\": \"object\", \"required\": [\"base64\"], \"properties\": {"
		       "\"base64\": {\"type\": \"string\"}}}",
	.flags = TP_TASK_THREAD_SAFE,
	.run = run_decompress,
};

static const struct tp_task crc32_task = {
	.name = "zlib.crc32",
	.description = "The CRC-32 of text or bytes, and how many of these the pool has computed.",
	.args_schema = "{\"type\": \"object\", \"properties\": {" INPUT_PROPERTIES "}}",
	.flags = TP_TASK_THREAD_SAFE,
	.run = run_crc32,
};

static int host_open(struct tp_host *host)
{
	const char *level = tp_host_setting(host, "zlib.compress", "level");

	/* Another zlib than the one whose header this was built with? */
	if (zlibVersion()[0] != ZLIB_VERSION[0])
		return tp_host_fail(host, "built with zlib " ZLIB_VERSION ", found %s",
				    zlibVersion());
	if (!level)
		return 0;
	if (strlen(level) != 1 || level[0] < '0' || level[0] > '9')
		return tp_host_fail(host, "the setting \"level\" is \"%.20s\"; expected 0 to 9",
				    level);
	default_level = level[0] - '0';
	return 0;
}

static const struct tp_task *const tasks[] = {&compress_task, &decompress_task, &crc32_task, NULL};

static const struct tp_plugin plugin = {
	.abi = TP_TASK_ABI,
	.name = "zlib",
	.version = PLUGIN_VERSION,
	.tasks = tasks,
	.host_open = host_open,
};

TP_PLUGIN_EXPORT const struct tp_plugin *tp_plugin_entry(unsigned int host_abi)
{
	return host_abi == TP_TASK_ABI ? &plugin : NULL;
}
