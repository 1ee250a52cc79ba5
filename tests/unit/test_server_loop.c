/*
 * The event loop: when timers, sources and hooks are called, and when they are no more.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fd.h"
#include "random.h"
#include "server/loop.h"

static struct loop *loop; /* of the test that runs */

static int set_up(void **state)
{
	(void)state;
	return loop_new(&loop);
}

static int tear_down(void **state)
{
	(void)state;
	loop_free(loop);
	loop = NULL;
	return 0;
}

static void run(void)
{
	int result = loop_run(loop);

	assert_int_equal(result, 0);
}

/* --- timers ---------------------------------------------------------------------------------- */

#define TIMERS 200

struct alarm_clock {
	struct loop_timer timer;
	int64_t at_ns;
	unsigned int rung;
	int64_t rung_ns;
	unsigned int place; /* in which it rang */
};

static struct alarm_clock clocks[TIMERS];
static unsigned int rung;
static unsigned int to_ring;

static void stop_after(unsigned int count)
{
	rung = 0;
	to_ring = count;
}

static void ring(struct loop_timer *timer)
{
	struct alarm_clock *clock = container_of(timer, struct alarm_clock, timer);

	clock->rung++;
	clock->rung_ns = clock_monotonic_ns();
	clock->place = rung++;
	if (rung == to_ring)
		loop_stop(loop);
}

static void set_clock(struct alarm_clock *clock, int64_t at_ns)
{
	clock->at_ns = at_ns;
	assert_int_equal(loop_timer_set(loop, &clock->timer, at_ns), 0);
}

static void init_clocks(void (*expired)(struct loop_timer *timer))
{
	memset(clocks, 0, sizeof(clocks));
	for (int i = 0; i < TIMERS; i++)
		loop_timer_init(&clocks[i].timer, expired);
}

static void test_timers_in_order(void **state)
{
	int64_t now_ns = clock_monotonic_ns();

	(void)state;
	init_clocks(ring);
	for (int i = 0; i < TIMERS; i++)
		set_clock(&clocks[i], now_ns + (int64_t)random_below(50 * NS_PER_MS));
	for (int i = 0; i < TIMERS; i += 3) /* moved */
		set_clock(&clocks[i], now_ns + (int64_t)random_below(50 * NS_PER_MS));
	unsigned int cancelled = 0;
	for (int i = 0; i < TIMERS; i += 7, cancelled++) {
		loop_timer_cancel(loop, &clocks[i].timer);
		loop_timer_cancel(loop, &clocks[i].timer); /* twice does no harm */
	}
	stop_after(TIMERS - cancelled);
	run();
	for (int i = 0; i < TIMERS; i++) {
		assert_int_equal(clocks[i].rung, i % 7 != 0);
		if (i % 7 == 0)
			continue;
		assert_true(clocks[i].rung_ns >= clocks[i].at_ns);
		for (int j = 0; j < TIMERS; j++)
			if (j % 7 != 0 && clocks[j].at_ns < clocks[i].at_ns)
				assert_true(clocks[j].place < clocks[i].place);
	}
}

static void test_timers_of_the_past(void **state)
{
	(void)state;
	init_clocks(ring);
	set_clock(&clocks[0], 0);
	set_clock(&clocks[1], 1);
	set_clock(&clocks[2], -1);
	set_clock(&clocks[3], INT64_MAX); /* never */
	stop_after(3);
	run();
	assert_int_equal(clocks[3].rung, 0);
}

static void cancel_the_others(struct loop_timer *timer)
{
	ring(timer);
	for (int i = 0; i < 4; i++)
		if (timer != &clocks[i].timer)
			loop_timer_cancel(loop, &clocks[i].timer);
	if (rung == 1) /* so that the loop goes on for another round */
		set_clock(&clocks[5], clock_monotonic_ns() + NS_PER_MS);
}

static void test_timer_cancelled_by_another(void **state)
{
	int64_t now_ns = clock_monotonic_ns();

	(void)state;
	init_clocks(cancel_the_others);
	for (int i = 0; i < 4; i++)
		set_clock(&clocks[i], now_ns);
	stop_after(2);
	run();
	assert_int_equal(clocks[0].rung + clocks[1].rung + clocks[2].rung + clocks[3].rung, 1);
	assert_int_equal(clocks[5].rung, 1);
}

static void again_in_2_ms(struct loop_timer *timer)
{
	struct alarm_clock *clock = container_of(timer, struct alarm_clock, timer);

	assert_true(clock_monotonic_ns() >= clock->at_ns);
	ring(timer);
	set_clock(clock, clock_monotonic_ns() + 2 * NS_PER_MS);
}

static void test_timer_sets_itself(void **state)
{
	int64_t now_ns = clock_monotonic_ns();

	(void)state;
	init_clocks(again_in_2_ms);
	set_clock(&clocks[0], now_ns);
	stop_after(6);
	run();
	assert_true(clock_monotonic_ns() - now_ns >= 10 * NS_PER_MS);
}

/* --- rounds ---------------------------------------------------------------------------------- */

static struct loop_hook hook;
static unsigned int rounds;
static unsigned int stop_at_round;
static int64_t hook_answer_ns;

static int64_t count_round(struct loop_hook *counted)
{
	assert_ptr_equal(counted, &hook);
	if (++rounds == stop_at_round)
		loop_stop(loop);
	return hook_answer_ns;
}

static void count_rounds(unsigned int stop_at, int64_t answer_ns)
{
	rounds = 0;
	stop_at_round = stop_at;
	hook_answer_ns = answer_ns;
	loop_add_hook(loop, &hook, count_round);
}

static unsigned int most_in_a_round;
static unsigned int round_of_last;
static unsigned int in_this_round;

static void again_now(struct loop_timer *timer)
{
	in_this_round = rounds == round_of_last ? in_this_round + 1 : 1;
	round_of_last = rounds;
	if (in_this_round > most_in_a_round)
		most_in_a_round = in_this_round;
	set_clock(container_of(timer, struct alarm_clock, timer), loop_now_ns(loop));
}

/* However many timers there are besides. */
static void test_timer_runs_once_a_round(void **state)
{
	(void)state;
	init_clocks(again_now);
	most_in_a_round = round_of_last = in_this_round = 0;
	for (int i = 1; i < 10; i++)
		set_clock(&clocks[i], clock_monotonic_ns() + 3600 * NS_PER_S);
	set_clock(&clocks[0], 0);
	count_rounds(50, -1);
	run();
	assert_true(round_of_last >= 45); /* and in each of them */
	assert_int_equal(most_in_a_round, 1);
}

static void always_first(struct loop_timer *timer)
{
	container_of(timer, struct alarm_clock, timer)->rung++;
	set_clock(container_of(timer, struct alarm_clock, timer), 1);
}

/* One that keeps asking for a moment long past does not keep the others from theirs. */
static void test_timer_starves_no_other(void **state)
{
	(void)state;
	init_clocks(always_first);
	loop_timer_init(&clocks[1].timer, ring);
	set_clock(&clocks[0], 1);
	set_clock(&clocks[1], clock_monotonic_ns() + NS_PER_MS);
	stop_after(1);
	count_rounds(200000, -1);
	run();
	assert_int_equal(clocks[1].rung, 1);
	assert_true(clocks[0].rung > 0);
}

static void test_hook_bounds_the_sleep(void **state)
{
	int64_t started_ns = clock_monotonic_ns();

	(void)state;
	count_rounds(6, 3 * NS_PER_MS);
	run(); /* five sleeps */
	assert_true(clock_monotonic_ns() - started_ns >= 15 * NS_PER_MS);
	assert_true(clock_monotonic_ns() - started_ns < 10 * NS_PER_S);
}

static void test_hook_of_0_is_another_round_at_once(void **state)
{
	(void)state;
	init_clocks(ring);
	set_clock(&clocks[0], clock_monotonic_ns() + 3600 * NS_PER_S);
	count_rounds(10000, 0);
	run();
	assert_int_equal(rounds, 10000);
}

static int64_t no_bound(struct loop_hook *careless)
{
	(void)careless;
	return -1;
}

/* A hook without a wish takes none from another. */
static void test_no_wish_is_no_wish(void **state)
{
	struct loop_hook before, after;

	(void)state;
	loop_add_hook(loop, &before, no_bound);
	count_rounds(3, 3 * NS_PER_MS);
	loop_add_hook(loop, &after, no_bound);
	run(); /* which would not end, were the sleep unbounded */
	assert_int_equal(rounds, 3);
}

static int64_t sleep_an_hour(struct loop_hook *longer)
{
	(void)longer;
	return 3600 * NS_PER_S;
}

static void test_least_wish_counts(void **state)
{
	struct loop_hook longer;

	(void)state;
	init_clocks(ring);
	loop_add_hook(loop, &longer, sleep_an_hour);
	count_rounds(0, -1);
	set_clock(&clocks[0], clock_monotonic_ns() + 20 * NS_PER_MS);
	stop_after(1);
	run();
	/* slept for it in one go, not by spinning */
	assert_true(rounds <= 4);
	assert_true(clocks[0].rung_ns >= clocks[0].at_ns);
}

/* --- stopping -------------------------------------------------------------------------------- */

static void test_stop_before_the_start(void **state)
{
	(void)state;
	count_rounds(0, -1);
	loop_stop(loop);
	run();
	assert_int_equal(rounds, 0);
}

static void test_stop_by_hook_without_sleep(void **state)
{
	(void)state;
	count_rounds(1, -1); /* nothing would ever wake it */
	run();
	assert_int_equal(rounds, 1);
}

static void test_free_of_nothing(void **state)
{
	(void)state;
	loop_free(NULL);
}

/* --- sources --------------------------------------------------------------------------------- */

#define SOURCES 300 /* more than one epoll_wait() of the loop answers */

struct spring {
	struct loop_source source;
	int fd;
	unsigned int called;
	uint32_t events;
};

static struct spring *springs[SOURCES];
static unsigned int calls;

static struct spring *open_spring(void (*ready)(struct loop_source *source, uint32_t events))
{
	struct spring *spring = calloc(1, sizeof(*spring));

	assert_non_null(spring);
	spring->fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(spring->fd >= 0);
	assert_int_equal(loop_add(loop, &spring->source, spring->fd, EPOLLIN, ready), 0);
	assert_int_equal(spring->source.fd, spring->fd);
	return spring;
}

static void close_spring(struct spring **spring)
{
	if (!*spring)
		return;
	loop_remove(loop, &(*spring)->source);
	assert_int_equal((*spring)->source.fd, -1);
	fd_close(&(*spring)->fd);
	memset(*spring, 0x5a, sizeof(**spring));
	free(*spring);
	*spring = NULL;
}

static void drain(struct spring *spring)
{
	uint64_t count;

	assert_int_equal(read(spring->fd, &count, sizeof(count)), sizeof(count));
}

static void drain_and_count(struct loop_source *source, uint32_t events)
{
	struct spring *spring = container_of(source, struct spring, source);

	assert_int_equal(events, EPOLLIN);
	drain(spring);
	spring->called++;
	if (++calls == SOURCES)
		loop_stop(loop);
}

static void test_many_sources(void **state)
{
	(void)state;
	calls = 0;
	for (int i = 0; i < SOURCES; i++)
		springs[i] = open_spring(drain_and_count);
	run();
	for (int i = 0; i < SOURCES; i++) {
		assert_int_equal(springs[i]->called, 1);
		close_spring(&springs[i]);
	}
}

static void stop(struct loop_source *source, uint32_t events)
{
	(void)source;
	(void)events;
	loop_stop(loop);
}

/* Longer than epoll_wait() can be told; a source wakes the loop all the same. */
static void test_sleep_for_ever(void **state)
{
	(void)state;
	init_clocks(ring);
	set_clock(&clocks[0], INT64_MAX);
	springs[0] = open_spring(stop);
	count_rounds(0, 366LL * 24 * 3600 * NS_PER_S);
	run();
	assert_int_equal(rounds, 1);
	close_spring(&springs[0]);
}

/* The one that is called first frees the other, whose event is at hand already. */
static void free_the_other(struct loop_source *source, uint32_t events)
{
	struct spring *spring = container_of(source, struct spring, source);

	(void)events;
	calls++;
	drain(spring);
	for (int i = 0; i < 2; i++)
		if (springs[i] != spring)
			close_spring(&springs[i]);
}

static void test_source_removed_in_the_same_round(void **state)
{
	(void)state;
	calls = 0;
	for (int i = 0; i < 2; i++)
		springs[i] = open_spring(free_the_other);
	count_rounds(4, NS_PER_MS);
	run();
	assert_int_equal(calls, 1);
	assert_true((springs[0] == NULL) != (springs[1] == NULL));
	close_spring(&springs[0]);
	close_spring(&springs[1]);
}

static void free_itself_or_others(struct loop_source *source, uint32_t events)
{
	(void)events;
	calls++;
	assert_true(source->fd >= 0); /* of one that is freed this would be -1 or worse */
	drain(container_of(source, struct spring, source));
	for (int i = 0; i < SOURCES; i++)
		if (springs[i] && (&springs[i]->source == source || random_below(4) == 0))
			close_spring(&springs[i]);
}

static void test_sources_removed_at_random(void **state)
{
	(void)state;
	for (int i = 0; i < SOURCES; i++)
		springs[i] = open_spring(free_itself_or_others);
	calls = 0;
	count_rounds(20, NS_PER_MS);
	run();
	assert_true(calls > 0 && calls < SOURCES);
	for (int i = 0; i < SOURCES; i++)
		assert_null(springs[i]);
}

/* One that goes and comes back in the same round, by the same struct, is a new one. */
static void remove_and_add_the_other(struct loop_source *source, uint32_t events)
{
	struct spring *spring = container_of(source, struct spring, source);

	(void)events;
	calls++;
	spring->called++;
	drain(spring);
	struct spring *other = springs[spring == springs[0]];
	if (calls > 1)
		return;
	loop_remove(loop, &other->source);
	assert_int_equal(
		loop_add(loop, &other->source, other->fd, EPOLLIN, remove_and_add_the_other), 0);
	assert_int_equal(other->called, 0);
}

static void test_source_comes_back(void **state)
{
	(void)state;
	calls = 0;
	for (int i = 0; i < 2; i++)
		springs[i] = open_spring(remove_and_add_the_other);
	count_rounds(4, NS_PER_MS);
	run();
	for (int i = 0; i < 2; i++) {
		assert_int_equal(springs[i]->called, 1);
		close_spring(&springs[i]);
	}
}

static void note_events(struct loop_source *source, uint32_t events)
{
	struct spring *spring = container_of(source, struct spring, source);

	spring->events = events;
	spring->called++;
	loop_stop(loop);
}

static void test_change(void **state)
{
	struct spring spring = {0};
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(loop_add(loop, &spring.source, fds[1], 0, note_events), 0);
	assert_int_equal(loop_change(loop, &spring.source, EPOLLOUT), 0);
	run();
	assert_int_equal(spring.called, 1);
	assert_int_equal(spring.events, EPOLLOUT);
	loop_remove(loop, &spring.source);
	assert_int_equal(loop_change(loop, &spring.source, EPOLLOUT), -EBADF);
	loop_remove(loop, &spring.source);		      /* twice does no harm */
	assert_int_equal(fcntl(fds[1], F_GETFD), FD_CLOEXEC); /* it is still open */
	fd_close(&fds[0]);
	fd_close(&fds[1]);
}

static void test_add_that_fails(void **state)
{
	struct loop_source source, second;
	int fd = eventfd(0, EFD_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	source.fd = 5;
	assert_int_equal(loop_add(loop, &source, -1, EPOLLIN, note_events), -EBADF);
	assert_int_equal(source.fd, -1);
	loop_remove(loop, &source);
	assert_int_equal(loop_add(loop, &source, fd, EPOLLIN, note_events), 0);
	assert_int_equal(loop_add(loop, &second, fd, EPOLLIN, note_events), -EEXIST);
	assert_int_equal(second.fd, -1);
	loop_remove(loop, &source);
	fd_close(&fd);
}

/* Timers and sources get their turns beside each other. */
static void stay_ready(struct loop_source *source, uint32_t events)
{
	(void)source;
	(void)events;
	calls++;
}

static void test_busy_source_and_timers(void **state)
{
	(void)state;
	init_clocks(again_in_2_ms);
	springs[0] = open_spring(stay_ready);
	calls = 0;
	set_clock(&clocks[0], clock_monotonic_ns());
	stop_after(5);
	run();
	assert_true(calls > 5);
	close_spring(&springs[0]);
}

/* --- interruptions --------------------------------------------------------------------------- */

static volatile sig_atomic_t interruptions;

static void interrupt(int signal_number)
{
	(void)signal_number;
	interruptions = interruptions + 1;
}

static void test_signals_do_not_disturb(void **state)
{
	const struct sigaction action = {.sa_handler = interrupt};
	const struct itimerval every_ms = {.it_interval = {.tv_usec = 1000},
					   .it_value = {.tv_usec = 1000}};
	const struct itimerval never = {0};
	struct sigaction old;

	(void)state;
	interruptions = 0;
	init_clocks(ring);
	set_clock(&clocks[0], clock_monotonic_ns() + 50 * NS_PER_MS);
	stop_after(1);
	assert_int_equal(sigaction(SIGALRM, &action, &old), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &every_ms, NULL), 0);
	int result = loop_run(loop);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
	assert_int_equal(result, 0);
	assert_true(interruptions > 0);
	assert_true(clocks[0].rung_ns >= clocks[0].at_ns);
}

static void test_now(void **state)
{
	int64_t before_ns = clock_monotonic_ns();

	(void)state;
	assert_true(loop_now_ns(loop) <= before_ns);
	init_clocks(ring);
	set_clock(&clocks[0], before_ns + 5 * NS_PER_MS);
	stop_after(1);
	run();
	assert_true(loop_now_ns(loop) >= clocks[0].at_ns);
	assert_true(loop_now_ns(loop) <= clocks[0].rung_ns);
}

#define LOOP_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		LOOP_TEST(test_timers_in_order),
		LOOP_TEST(test_timers_of_the_past),
		LOOP_TEST(test_timer_cancelled_by_another),
		LOOP_TEST(test_timer_sets_itself),
		LOOP_TEST(test_timer_runs_once_a_round),
		LOOP_TEST(test_timer_starves_no_other),
		LOOP_TEST(test_hook_bounds_the_sleep),
		LOOP_TEST(test_hook_of_0_is_another_round_at_once),
		LOOP_TEST(test_no_wish_is_no_wish),
		LOOP_TEST(test_least_wish_counts),
		LOOP_TEST(test_stop_before_the_start),
		LOOP_TEST(test_stop_by_hook_without_sleep),
		LOOP_TEST(test_free_of_nothing),
		LOOP_TEST(test_many_sources),
		LOOP_TEST(test_sleep_for_ever),
		LOOP_TEST(test_source_removed_in_the_same_round),
		LOOP_TEST(test_sources_removed_at_random),
		LOOP_TEST(test_source_comes_back),
		LOOP_TEST(test_change),
		LOOP_TEST(test_add_that_fails),
		LOOP_TEST(test_busy_source_and_timers),
		LOOP_TEST(test_signals_do_not_disturb),
		LOOP_TEST(test_now),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
