/*
 * Watchers: those who are told of each change of a job, of which a struct waiter sees only the end.
 *
 * A change of state, progress or output only marks the job's watchers as due; they are told once a
 * turn of the loop, however much the turn has brought. What they then read is the job itself:
 * nothing is copied for them. A watcher does not keep a job from being forgotten.
 *
 * Event loop only.
 */
#ifndef SERVER_WATCH_H
#define SERVER_WATCH_H

#include <stdbool.h>

#include "base/list.h"
#include "job/job.h"

struct server;
struct watcher;

/* In these calls a watcher may remove itself, and no other. */
struct watcher_calls {
	/* Something of the job has changed, perhaps several things. Not from inside a call of
	 * whoever watches; the job may have ended. */
	void (*changed)(struct watcher *watcher);
	/* Some of the output that is kept is about to be dropped: new output takes its place or, if
	 * the attempt is over, there is to be another. From anywhere. */
	void (*output_leaves)(struct watcher *watcher, bool attempt_is_over);
	/* The ended job is about to be forgotten. The watcher must remove itself. Not from inside a
	 * call of whoever watches. */
	void (*forgotten)(struct watcher *watcher);
};

struct watcher {
	struct list node; /* of the job's watchers */
	struct list due;  /* of the server's, or none */
	struct job *job;
	const struct watcher_calls *calls;
};

void watcher_add(struct watcher *watcher, struct job *job, const struct watcher_calls *calls);
void watcher_remove(struct watcher *watcher);

/* The watcher of the job with these calls; NULL if there is none. */
struct watcher *watcher_find(const struct job *job, const struct watcher_calls *calls);

/* Whether watchers are to be told: the loop must not sleep before server_tell_watchers(). */
bool server_watchers_due(const struct server *server);
void server_tell_watchers(struct server *server);

/* --- for the files of src/server ----------------------------------------------------------------
 * */

void watch_changed(struct server *server, const struct job *job);
void watch_attempt_ends(const struct job *job);
/* output_append() to one of the job's outputs, so that each watcher can have all of it. */
void watch_output(struct server *server, const struct job *job, struct output *output,
		  const char *bytes, size_t length);
/* For job_table.forgetting. */
void watch_forgotten(struct job *job);

#endif
