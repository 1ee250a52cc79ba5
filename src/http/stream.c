/*
 * Answers that go on.
 *
 * Invariants
 * 1. stream->suspended holds from MHD_suspend_connection() to MHD_resume_connection(), and exactly
 * then the stream is on http->streams_waiting, which is ordered by since_ns.
 * 2. libmicrohttpd tells the end of a request before it closes the connection's descriptor, so the
 * descriptor can be watched for as long as there is the stream.
 */
#include "http/stream.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "http/daemon.h"
#include "http/reply.h"
#include "http/request.h"

/* Room beyond this is given back once it has been used, and so much of what was taken stays before
 * the rest. */
#define KEPT_ROOM_BYTES (64u << 10)

static const char keep_alive[] = ": keep-alive\n\n";

struct stream_text *stream_text_new(void)
{
	struct stream_text *text = calloc(1, sizeof(*text));

	return text ? stream_text_hold(text) : NULL;
}

struct stream_text *stream_text_hold(struct stream_text *text)
{
	text->holders++;
	return text;
}

void stream_text_drop(struct stream_text *text)
{
	if (!text || --text->holders > 0)
		return;
	buffer_release(&text->bytes);
	free(text);
}

size_t stream_backlog(const struct stream *stream)
{
	return stream->pending.length - stream->sent;
}

/* --- sending ---------------------------------------------------------------------------------- */

static void refill(struct stream *stream)
{
	if (stream->pending.capacity > KEPT_ROOM_BYTES)
		buffer_release(&stream->pending);
	buffer_clear(&stream->pending);
	stream->sent = 0;
	if (!stream->last)
		stream->calls->fill(stream);
}

/* The source may go on writing and never be read to the end: what was taken must not pile up. */
static void drop_taken(struct stream *stream)
{
	struct buffer *pending = &stream->pending;

	if (stream->sent < KEPT_ROOM_BYTES)
		return;
	pending->length -= stream->sent;
	memmove(pending->data, pending->data + stream->sent, pending->length);
	stream->sent = 0;
}

static size_t take(const struct buffer *bytes, size_t *sent, char *out, size_t room)
{
	size_t left = bytes->length - *sent;
	size_t taken = left < room ? left : room;

	if (taken > 0)
		memcpy(out, bytes->data + *sent, taken);
	*sent += taken;
	return taken;
}

static void suspend(struct stream *stream)
{
	struct http *http = stream->request->http;

	stream->suspended = true;
	stream->since_ns = clock_monotonic_ns();
	list_remove(&stream->node);
	list_append(&http->streams_waiting, &stream->node);
	MHD_suspend_connection(stream->request->connection);
}

/* An answer of 0 from a suspended connection means: ask again when it is resumed. */
static ssize_t read_stream(void *data, uint64_t position, char *out, size_t room)
{
	struct stream *stream = data;

	(void)position;
	if (stream_backlog(stream) == 0)
		refill(stream);
	if (buffer_failed(&stream->pending))
		return MHD_CONTENT_READER_END_WITH_ERROR;
	size_t taken = take(&stream->pending, &stream->sent, out, room);
	drop_taken(stream);
	if (taken == 0 && stream->shared)
		taken = take(&stream->shared->bytes, &stream->shared_sent, out, room);
	if (taken > 0)
		return (ssize_t)taken;
	if (stream->last || stream->request->http->ending)
		return MHD_CONTENT_READER_END_OF_STREAM;
	suspend(stream);
	return 0;
}

void stream_wake(struct stream *stream)
{
	struct http *http = stream->request->http;

	if (!stream->suspended)
		return;
	stream->suspended = false;
	list_remove(&stream->node);
	list_append(&http->streams, &stream->node);
	http->run_needed = true;
	MHD_resume_connection(stream->request->connection);
}

/* --- beginning and ending --------------------------------------------------------------------- */

static void end(struct stream *stream)
{
	stream->last = true;
	stream_wake(stream);
}

static void hung_up(struct loop_source *source, uint32_t events)
{
	struct stream *stream = container_of(source, struct stream, hangup);

	(void)events;
	loop_remove(stream->request->http->loop, source);
	end(stream);
}

/* One that cannot be watched is found out by the next thing that is sent. */
static void watch(struct stream *stream)
{
	struct request *request = stream->request;
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);

	if (info)
		(void)loop_add(request->http->loop, &stream->hangup, info->connect_fd, EPOLLRDHUP,
			       hung_up);
}

enum MHD_Result stream_begin(struct request *request, struct stream *stream,
			     const struct stream_calls *calls)
{
	stream->request = request;
	stream->calls = calls;
	stream->hangup.fd = -1;
	list_init(&stream->node);
	list_append(&request->http->streams, &stream->node);
	request->http->streams_open++;
	request->stream = stream;
	watch(stream);
	return reply_stream(request, read_stream, stream);
}

void stream_close(struct stream *stream)
{
	if (!stream)
		return;
	struct http *http = stream->request->http;
	loop_remove(http->loop, &stream->hangup);
	list_remove(&stream->node);
	http->streams_open--;
	buffer_release(&stream->pending);
	stream_text_drop(stream->shared);
	stream->calls->close(stream);
}

int64_t stream_keep_alive_due(struct http *http, int64_t now_ns)
{
	while (!list_empty(&http->streams_waiting)) {
		struct stream *oldest =
			container_of(http->streams_waiting.next, struct stream, node);
		int64_t due_ns = oldest->since_ns + STREAM_KEEP_ALIVE_NS;
		if (due_ns > now_ns)
			return due_ns - now_ns;
		buffer_append(&oldest->pending, keep_alive, sizeof(keep_alive) - 1);
		stream_wake(oldest);
	}
	return -1;
}

void stream_end_all(struct http *http)
{
	list_for_each (node, &http->streams)
		container_of(node, struct stream, node)->last = true;
	while (!list_empty(&http->streams_waiting))
		end(container_of(http->streams_waiting.next, struct stream, node));
}
