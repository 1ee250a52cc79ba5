/*
 * Answers that go on: bytes are sent as they come to be, until the source says that it was all.
 *
 * A stream asks its source for more only when all it had was taken by libmicrohttpd, which asks
 * only when the connection takes it. So a client that reads slowly makes nobody wait and holds what
 * the source wrote at once, no more. A stream that has nothing to send is suspended until
 * stream_wake().
 *
 * A client that hangs up is noticed by its connection's descriptor, which is watched from the
 * beginning; closing only its sending half is taken as hanging up. After STREAM_KEEP_ALIVE_NS of
 * silence a comment is sent, so that nobody in between takes the connection for dead.
 *
 * Event loop only.
 */
#ifndef HTTP_STREAM_H
#define HTTP_STREAM_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/list.h"
#include "server/loop.h"

#define STREAM_KEEP_ALIVE_NS (15 * NS_PER_S)

struct http;
struct request;
struct stream;

/* Bytes that several streams send, held once. */
struct stream_text {
	unsigned int holders;
	struct buffer bytes;
};

struct stream_calls {
	/* Appends to stream->pending what there is by now, within reason, and sets stream->last if
	 * nothing will follow. To append nothing is to wait for stream_wake(). */
	void (*fill)(struct stream *stream);
	/* The request is over: frees the stream. */
	void (*close)(struct stream *stream);
};

struct stream {
	struct request *request;
	const struct stream_calls *calls;
	struct list node; /* of http->streams_waiting while suspended, else of http->streams */
	struct loop_source hangup;
	struct buffer pending; /* of which `sent` bytes have been taken */
	size_t sent;
	struct stream_text *shared; /* sent after what is pending; NULL = none */
	size_t shared_sent;
	bool last; /* nothing follows these two */
	bool suspended;
	int64_t since_ns; /* suspended: since when */
};

/* Answers 200 with text/event-stream. The stream is taken: close() is called at the request's end,
 * or at once if there is no answer. */
enum MHD_Result stream_begin(struct request *request, struct stream *stream,
			     const struct stream_calls *calls);

/* The source may have more. Not from inside a handler or fill(). */
void stream_wake(struct stream *stream);

/* How much is written and not taken yet. */
size_t stream_backlog(const struct stream *stream);

/* For request_completed(). NULL is allowed. */
void stream_close(struct stream *stream);

/* Sends comments where they are due. Answers in how many ns the next will be, -1 if none. */
int64_t stream_keep_alive_due(struct http *http, int64_t now_ns);

/* Every stream ends with what it has by now. */
void stream_end_all(struct http *http);

/* One holder: the caller; NULL if memory is short. */
struct stream_text *stream_text_new(void);
struct stream_text *stream_text_hold(struct stream_text *text);
void stream_text_drop(struct stream_text *text); /* NULL is allowed */

#endif
