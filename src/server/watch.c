#include "server/watch.h"

#include "server/state.h"

static struct watcher *watcher_of(struct list *node)
{
	return container_of(node, struct watcher, node);
}

void watcher_add(struct watcher *watcher, struct job *job, const struct watcher_calls *calls)
{
	list_init(&watcher->due);
	watcher->job = job;
	watcher->calls = calls;
	list_append(&job->watchers, &watcher->node);
}

void watcher_remove(struct watcher *watcher)
{
	list_remove(&watcher->node);
	list_remove(&watcher->due);
	watcher->job = NULL;
}

struct watcher *watcher_find(const struct job *job, const struct watcher_calls *calls)
{
	list_for_each (node, &job->watchers)
		if (watcher_of(node)->calls == calls)
			return watcher_of(node);
	return NULL;
}

bool server_watchers_due(const struct server *server)
{
	return !list_empty(&server->watchers_due);
}

void server_tell_watchers(struct server *server)
{
	while (!list_empty(&server->watchers_due)) {
		struct watcher *watcher =
			container_of(server->watchers_due.next, struct watcher, due);
		list_remove(&watcher->due);
		watcher->calls->changed(watcher);
	}
}

void watch_changed(struct server *server, const struct job *job)
{
	list_for_each (node, &job->watchers) {
		struct watcher *watcher = watcher_of(node);
		if (list_empty(&watcher->due))
			list_append(&server->watchers_due, &watcher->due);
	}
}

static void say_output_leaves(const struct job *job, bool attempt_is_over)
{
	list_for_each_safe (node, &job->watchers)
		watcher_of(node)->calls->output_leaves(watcher_of(node), attempt_is_over);
}

void watch_attempt_ends(const struct job *job)
{
	say_output_leaves(job, true);
}

/* In pieces, of which none pushes out what was written since the watchers were told. */
static void append_in_pieces(const struct job *job, struct output *output, const char *bytes,
			     size_t length)
{
	while (length > 0) {
		size_t piece = output_room(output);
		if (piece == 0) {
			say_output_leaves(job, false);
			piece = output_replaceable(output);
		}
		if (piece == 0 || piece > length)
			piece = length;
		output_append(output, bytes, piece);
		bytes += piece;
		length -= piece;
	}
}

void watch_output(struct server *server, const struct job *job, struct output *output,
		  const char *bytes, size_t length)
{
	if (list_empty(&job->watchers)) {
		output_append(output, bytes, length);
		return;
	}
	append_in_pieces(job, output, bytes, length);
	watch_changed(server, job);
}

void watch_forgotten(struct job *job)
{
	while (!list_empty(&job->watchers))
		watcher_of(job->watchers.next)->calls->forgotten(watcher_of(job->watchers.next));
}
