/*
 * Invariants
 * 1. Of the events of one epoll_wait(), those whose source was removed meanwhile are struck out
 * (loop_remove() clears them), so a callback never runs for a source that its owner has freed.
 * 2. Timers due at one moment run in no particular order, each at most once a round, so one that
 * sets itself to "now" cannot keep the loop from its events.
 */
#include "server/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define LOOP_EVENTS 128

struct loop {
	int epoll_fd;
	bool stopping;
	int64_t now_ns;
	struct heap timers;
	struct list hooks;
	struct epoll_event events[LOOP_EVENTS]; /* of this round */
	int event_count;
	int event_next; /* first that was not yet delivered */
};

int loop_new(struct loop **ret_loop)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return -ENOMEM;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		int status = -errno;
		free(loop);
		return status;
	}
	list_init(&loop->hooks);
	loop->now_ns = clock_monotonic_ns();
	*ret_loop = loop;
	return 0;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	heap_release(&loop->timers);
	fd_close(&loop->epoll_fd);
	free(loop);
}

int loop_add(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
	     void (*ready)(struct loop_source *source, uint32_t events))
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	source->fd = -1;
	source->ready = ready;
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	source->fd = fd;
	return 0;
}

int loop_change(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	return epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0 ? -errno : 0;
}

void loop_remove(struct loop *loop, struct loop_source *source)
{
	if (source->fd < 0)
		return;
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	source->fd = -1;
	for (int i = loop->event_next; i < loop->event_count; i++)
		if (loop->events[i].data.ptr == source)
			loop->events[i].data.ptr = NULL;
}

void loop_timer_init(struct loop_timer *timer, void (*expired)(struct loop_timer *timer))
{
	heap_node_init(&timer->node);
	timer->expired = expired;
}

int loop_timer_set(struct loop *loop, struct loop_timer *timer, int64_t at_ns)
{
	/* One whose time has come already is due in the next round: invariant 2. */
	if (at_ns <= loop->now_ns)
		at_ns = loop->now_ns + 1;
	return heap_put(&loop->timers, &timer->node, at_ns);
}

void loop_timer_cancel(struct loop *loop, struct loop_timer *timer)
{
	heap_remove(&loop->timers, &timer->node);
}

void loop_add_hook(struct loop *loop, struct loop_hook *hook,
		   int64_t (*before_sleep)(struct loop_hook *hook))
{
	hook->before_sleep = before_sleep;
	list_append(&loop->hooks, &hook->node);
}

/* Runs the timers that were due when it was called. */
static void run_timers(struct loop *loop)
{
	struct heap_node *node;

	while ((node = heap_least(&loop->timers)) && node->key <= loop->now_ns) {
		heap_remove(&loop->timers, node);
		struct loop_timer *timer = container_of(node, struct loop_timer, node);
		timer->expired(timer);
	}
}

/* Runs the hooks; answers the longest sleep in ns that they and the timers allow, -1 for any. */
static int64_t run_hooks(struct loop *loop)
{
	int64_t sleep_ns = -1;

	list_for_each (node, &loop->hooks) {
		struct loop_hook *hook = container_of(node, struct loop_hook, node);
		int64_t wish_ns = hook->before_sleep(hook);
		if (wish_ns >= 0 && (sleep_ns < 0 || wish_ns < sleep_ns))
			sleep_ns = wish_ns;
	}
	const struct heap_node *least = heap_least(&loop->timers);
	if (least) {
		int64_t left_ns = least->key - clock_monotonic_ns();
		left_ns = left_ns > 0 ? left_ns : 0;
		if (sleep_ns < 0 || left_ns < sleep_ns)
			sleep_ns = left_ns;
	}
	return sleep_ns;
}

/* Milliseconds for epoll_wait(), rounded up so that a timer is due when we wake. */
static int sleep_ms(int64_t sleep_ns)
{
	if (sleep_ns < 0)
		return -1;
	int64_t ms = (sleep_ns + NS_PER_MS - 1) / NS_PER_MS;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

static void deliver(struct loop *loop)
{
	while (loop->event_next < loop->event_count) {
		struct epoll_event *event = &loop->events[loop->event_next++];
		struct loop_source *source = event->data.ptr;
		if (source)
			source->ready(source, event->events);
	}
}

int loop_run(struct loop *loop)
{
	while (!loop->stopping) {
		int64_t sleep_ns = run_hooks(loop);
		if (loop->stopping)
			break;
		int count =
			epoll_wait(loop->epoll_fd, loop->events, LOOP_EVENTS, sleep_ms(sleep_ns));
		if (count < 0 && errno != EINTR)
			return -errno;
		loop->now_ns = clock_monotonic_ns();
		loop->event_next = 0;
		loop->event_count = count > 0 ? count : 0;
		deliver(loop);
		run_timers(loop);
	}
	return 0;
}

void loop_stop(struct loop *loop)
{
	loop->stopping = true;
}

int64_t loop_now_ns(const struct loop *loop)
{
	return loop->now_ns;
}
