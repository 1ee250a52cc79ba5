/*
 * The event loop: one epoll, a heap of timers, and work to be done before the next sleep.
 *
 * Thread: one; loop_stop() too. A callback may add and remove any source and timer, its own
 * included: a removed source gets no further call, even for an event that is already at hand.
 */
#ifndef SERVER_LOOP_H
#define SERVER_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/list.h"

struct loop;

/* Something with a descriptor. Owned by whoever adds it; must stay until it is removed. */
struct loop_source {
	int fd; /* -1 while not added */
	void (*ready)(struct loop_source *source, uint32_t events);
};

/* Called once when its time has come; may be set again at once. */
struct loop_timer {
	struct heap_node node;
	void (*expired)(struct loop_timer *timer);
};

/* Called before each sleep of the loop. Answers the longest time in ns that the loop may sleep, -1
 * for no bound, 0 for another round at once. */
struct loop_hook {
	struct list node;
	int64_t (*before_sleep)(struct loop_hook *hook);
};

int loop_new(struct loop **ret_loop);
void loop_free(struct loop *loop); /* NULL is allowed; sources and timers are only forgotten */

/* Sets *source up and adds it with events of epoll_ctl(2). 0 or -errno. */
int loop_add(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
	     void (*ready)(struct loop_source *source, uint32_t events));
int loop_change(struct loop *loop, struct loop_source *source, uint32_t events);
/* Nothing happens if it is not in. The descriptor stays open. */
void loop_remove(struct loop *loop, struct loop_source *source);

void loop_timer_init(struct loop_timer *timer, void (*expired)(struct loop_timer *timer));
/* at_ns is monotonic; a timer that is set is moved. 0 or -ENOMEM. */
int loop_timer_set(struct loop *loop, struct loop_timer *timer, int64_t at_ns);
void loop_timer_cancel(struct loop *loop, struct loop_timer *timer);

void loop_add_hook(struct loop *loop, struct loop_hook *hook,
		   int64_t (*before_sleep)(struct loop_hook *hook));

/* Runs until loop_stop(). 0, or -errno if epoll itself fails. */
int loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* Time as of the last wake-up, monotonic: good enough for timers, not for measuring. */
int64_t loop_now_ns(const struct loop *loop);

#endif
