/*
 * Ending children: plain ones, dead ones, daemons, chains, bombs of bounded size; sparing some. The
 * test is a child subreaper, as a host is. Whatever goes wrong, what it started ends by SIGALRM.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/children.h"
#include "base/clock.h"

#define LIFE_S	     60
#define TREE_DEPTH   6
#define TREE_SIZE    127 /* 2^(depth + 1) - 1 */
#define CHAIN_LENGTH 60
#define COMET_STEPS  20000

static int pids[2]; /* each process that means to stay writes its pid here */

static int64_t within_s(int64_t seconds)
{
	return clock_monotonic_ns() + seconds * NS_PER_S;
}

static void __attribute__((noreturn)) stay(void)
{
	pid_t self = getpid();

	alarm(LIFE_S);
	if (write(pids[1], &self, sizeof(self)) != (ssize_t)sizeof(self))
		_exit(1);
	for (;;)
		pause();
}

static pid_t next_pid(void)
{
	pid_t pid = 0;

	assert_int_equal(read(pids[0], &pid, sizeof(pid)), sizeof(pid));
	return pid;
}

static pid_t start(void (*life)(void))
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		life();
		_exit(0);
	}
	return pid;
}

static void assert_gone(pid_t pid)
{
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
}

static void assert_nobody(void)
{
	assert_false(children_exist());
	assert_int_equal(waitpid(-1, NULL, WNOHANG | __WALL), -1);
	assert_int_equal(errno, ECHILD);
}

static int set_up(void **state)
{
	(void)state;
	return pipe2(pids, O_CLOEXEC) < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1) < 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(pids[0]);
	close(pids[1]);
	return children_end(NULL, NULL, within_s(10)) < 0;
}

static void test_without_children_nothing_is_done(void **state)
{
	(void)state;
	assert_nobody();
	assert_int_equal(children_end(NULL, NULL, 0), 0);
}

static void ignore_and_stay(void)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};

	sigaction(SIGTERM, &ignore, NULL);
	stay();
}

static void test_children_are_listed_and_ended(void **state)
{
	(void)state;
	pid_t started[3];
	pid_t listed[8];

	for (int i = 0; i < 3; i++) {
		started[i] = start(ignore_and_stay);
		assert_int_equal(next_pid(), started[i]);
	}
	assert_true(children_exist());
	assert_int_equal(children_list(listed, 2), 2);
	assert_int_equal(children_list(listed, 8), 3);
	for (int i = 0; i < 3; i++)
		assert_true(started[i] == listed[0] || started[i] == listed[1] ||
			    started[i] == listed[2]);
	assert_int_equal(children_end(NULL, NULL, within_s(10)), 3);
	for (int i = 0; i < 3; i++)
		assert_gone(started[i]);
	assert_nobody();
}

static void leave_at_once(void)
{
}

static void test_the_dead_are_reaped(void **state)
{
	(void)state;
	siginfo_t info;
	pid_t pid = start(leave_at_once);

	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_true(children_exist());
	assert_int_equal(children_end(NULL, NULL, within_s(10)), 1);
	assert_nobody();
}

static void test_a_stopped_child_is_ended(void **state)
{
	(void)state;
	siginfo_t info;
	pid_t pid = start(stay);

	assert_int_equal(next_pid(), pid);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOWAIT), 0);
	assert_int_equal(children_end(NULL, NULL, within_s(10)), 1);
	assert_gone(pid);
}

static void become_daemon(void)
{
	setsid();
	if (fork() == 0)
		stay();
}

static void test_a_daemon_comes_to_us_and_is_ended(void **state)
{
	(void)state;
	pid_t between = start(become_daemon);
	pid_t daemon = next_pid();

	assert_int_equal(waitpid(between, NULL, 0), between);
	assert_int_not_equal(getsid(daemon), getsid(0));
	assert_true(children_exist());
	assert_int_equal(children_end(NULL, NULL, within_s(10)), 1);
	assert_gone(daemon);
	assert_nobody();
}

/* Each forks the next and stays, in a session of its own. */
static void be_chain(void)
{
	for (int i = 1; i < CHAIN_LENGTH && fork() == 0; i++)
		setsid();
	stay();
}

static void test_a_chain_is_ended_to_its_last_link(void **state)
{
	(void)state;
	pid_t links[CHAIN_LENGTH];

	start(be_chain);
	for (int i = 0; i < CHAIN_LENGTH; i++)
		links[i] = next_pid();
	assert_int_equal(children_end(NULL, NULL, within_s(10)), CHAIN_LENGTH);
	for (int i = 0; i < CHAIN_LENGTH; i++)
		assert_gone(links[i]);
	assert_nobody();
}

static void test_the_deadline_is_kept(void **state)
{
	(void)state;
	start(be_chain);
	for (int i = 0; i < CHAIN_LENGTH; i++)
		next_pid();
	assert_int_equal(children_end(NULL, NULL, 0), -ETIMEDOUT);
	int64_t deadline_ns = within_s(10);
	int ended = children_end(NULL, NULL, deadline_ns);
	/* The pass that was made reaped the first link, or left it dying. */
	assert_in_range(ended, CHAIN_LENGTH - 1, CHAIN_LENGTH);
	assert_true(clock_monotonic_ns() < deadline_ns);
	assert_nobody();
}

/* Two children each, down to a depth, and all of them stay. */
static void be_tree(void)
{
	int depth = 0;

	for (int children = 0; depth < TREE_DEPTH && children < 2; children++) {
		if (fork() == 0) {
			depth++;
			children = -1;
		}
	}
	stay();
}

static void test_a_bomb_of_bounded_size_is_ended(void **state)
{
	(void)state;
	start(be_tree);
	/* While it still grows: some of it may never be born. */
	next_pid();
	assert_in_range(children_end(NULL, NULL, within_s(10)), 1, TREE_SIZE);
	assert_nobody();
}

/* Always one step ahead: forks the next and ends. */
static void be_comet(void)
{
	alarm(LIFE_S);
	for (int i = 0; i < COMET_STEPS; i++)
		if (fork() != 0)
			_exit(0);
}

static void test_a_comet_leaves_nobody(void **state)
{
	(void)state;
	start(be_comet);
	assert_true(children_end(NULL, NULL, within_s(60)) >= 1);
	assert_nobody();
}

static bool is_it(pid_t pid, void *data)
{
	return pid == *(pid_t *)data;
}

static void test_who_is_kept_lives_on(void **state)
{
	(void)state;
	pid_t kept = start(stay);
	pid_t other = start(become_daemon);

	next_pid();
	next_pid();
	/* The one between is dead or dying, and its child comes to us. */
	assert_int_equal(children_end(is_it, &kept, within_s(10)), 2);
	assert_gone(other);
	assert_int_equal(kill(kept, 0), 0);
	assert_int_equal(waitpid(kept, NULL, WNOHANG), 0);
	assert_int_equal(children_end(is_it, &kept, within_s(10)), 0);
	assert_int_equal(children_end(NULL, NULL, within_s(10)), 1);
	assert_nobody();
}

static void test_ignored_SIGCHLD_is_put_right(void **state)
{
	(void)state;
	struct sigaction action = {.sa_handler = SIG_IGN};
	pid_t pid;

	assert_int_equal(sigaction(SIGCHLD, &action, NULL), 0);
	pid = start(stay);
	assert_int_equal(next_pid(), pid);
	assert_int_equal(children_end(NULL, NULL, within_s(10)), 1);
	assert_int_equal(sigaction(SIGCHLD, NULL, &action), 0);
	assert_true(action.sa_handler == SIG_DFL);
	assert_gone(pid);
}

#define each(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		each(test_without_children_nothing_is_done),
		each(test_children_are_listed_and_ended),
		each(test_the_dead_are_reaped),
		each(test_a_stopped_child_is_ended),
		each(test_a_daemon_comes_to_us_and_is_ended),
		each(test_a_chain_is_ended_to_its_last_link),
		each(test_the_deadline_is_kept),
		each(test_a_bomb_of_bounded_size_is_ended),
		each(test_a_comet_leaves_nobody),
		each(test_who_is_kept_lives_on),
		each(test_ignored_SIGCHLD_is_put_right),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
