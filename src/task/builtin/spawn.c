/*
 * spawn: starts processes that sleep, and leaves them behind. It serves to show that they are
 * ended, and must be enabled by the operator.
 *
 * The process may have other threads, so a child calls nothing but async-signal-safe functions
 * between fork and _exit. It says its pid through a pipe once it has set itself up, so what is
 * printed is there, and ignores SIGTERM if it should.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "task/builtin/builtin.h"

#define PATIENCE_MS 10000 /* for a child to say its pid */
#define LINK_MS	    2	  /* how long a process of a chain lives */

struct order {
	int64_t count;
	int64_t run_ms;
	bool daemon; /* forked twice, in a session of its own */
	bool chain;  /* a daemon that flees: it goes on in a child of its own, again and again */
	bool ignores_term;
	bool waits;
	bool holds_stop; /* goes on waiting when asked to stop */
};

/* Sleeps all of it, whatever signal comes between. */
static void sleep_ms(int64_t ms)
{
	struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * BUILTIN_NS_PER_MS};
	while (nanosleep(&left, &left) < 0 && errno == EINTR) {
	}
}

/* Each process of a chain hands over to a child and ends. A limited fork bomb: whoever wants to end
 * it must be faster than it. */
static void flee(int64_t ms)
{
	for (int64_t slept = 0; slept < ms; slept += LINK_MS) {
		sleep_ms(LINK_MS);
		if (fork() != 0) {
			_exit(0);
		}
	}
}

/* In the process that is to stay: never returns. */
static void __attribute__((noreturn)) live(const struct order *order, const int *pipe_ends)
{
	struct sigaction action = {.sa_handler = order->ignores_term ? SIG_IGN : SIG_DFL};
	pid_t self = getpid();
	sigaction(SIGTERM, &action, NULL);
	if (write(pipe_ends[1], &self, sizeof(self)) != (ssize_t)sizeof(self)) {
		_exit(1);
	}
	close(pipe_ends[0]);
	close(pipe_ends[1]);
	if (order->chain) {
		flee(order->run_ms);
	} else {
		sleep_ms(order->run_ms);
	}
	_exit(0);
}

static void __attribute__((noreturn)) become_daemon(const struct order *order, const int *pipe_ends)
{
	setsid();
	pid_t pid = fork();
	if (pid == 0) {
		live(order, pipe_ends);
	}
	_exit(pid < 0 ? 1 : 0);
}

/* 0 or -errno. */
static int start_one(const struct order *order, const int *pipe_ends)
{
	pid_t pid = fork();
	if (pid < 0) {
		return -errno;
	}
	if (pid == 0) {
		if (order->daemon) {
			become_daemon(order, pipe_ends);
		}
		live(order, pipe_ends);
	}
	int status = 0;
	if (order->daemon) {
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
		}
	}
	return status == 0 ? 0 : -EAGAIN;
}

/* Reads a pid that a child has said: it, or -errno. */
static pid_t read_pid(int fd)
{
	struct pollfd waited = {.fd = fd, .events = POLLIN};
	pid_t pid;
	int ready;
	do {
		ready = poll(&waited, 1, PATIENCE_MS);
	} while (ready < 0 && errno == EINTR);
	if (ready <= 0) {
		return -ETIMEDOUT;
	}
	return read(fd, &pid, sizeof(pid)) == (ssize_t)sizeof(pid) ? pid : -ECHILD;
}

/* Starts them all; appends and prints the pids. 0 or -errno; what was started stays. */
static int start_all(struct tp_context *ctx, const struct order *order, const int *pipe_ends,
		     json_t *pids)
{
	for (int64_t i = 0; i < order->count; i++) {
		int status = start_one(order, pipe_ends);
		if (status < 0) {
			return status;
		}
		pid_t pid = read_pid(pipe_ends[0]);
		if (pid < 0) {
			return pid;
		}
		if (json_array_append_new(pids, json_integer(pid)) < 0) {
			return -ENOMEM;
		}
		status = tp_printf(ctx, TP_STDOUT, "%d\n", (int)pid);
		if (status < 0) {
			return status;
		}
	}
	return 0;
}

/* false if it should stop. */
static bool wait_with_them(struct tp_context *ctx, const struct order *order)
{
	if (!order->waits) {
		return true;
	}
	if (order->holds_stop) {
		sleep_ms(order->run_ms);
		return true;
	}
	return tp_sleep_ns(ctx, order->run_ms * BUILTIN_NS_PER_MS);
}

static struct order read_order(const json_t *args)
{
	const char *how = json_string_value(json_object_get(args, "how"));
	return (struct order){
		.count = builtin_integer(args, "children", 1),
		.run_ms = builtin_integer(args, "run_ms", 60000),
		.daemon = how != NULL && strcmp(how, "child") != 0,
		.chain = how != NULL && strcmp(how, "chain") == 0,
		.ignores_term = json_is_true(json_object_get(args, "ignore_term")),
		.waits = json_is_true(json_object_get(args, "wait")),
		.holds_stop = json_is_true(json_object_get(args, "hold_stop")),
	};
}

static int run(struct tp_context *ctx, const json_t *args)
{
	struct order order = read_order(args);
	json_t *pids = json_array();
	int ends[2];
	if (pids == NULL || pipe2(ends, O_CLOEXEC) < 0) {
		json_decref(pids);
		return tp_fail(ctx, "no pipe: %s", strerror(errno));
	}
	int status = start_all(ctx, &order, ends, pids);
	close(ends[0]);
	close(ends[1]);
	if (status < 0) {
		size_t started = json_array_size(pids);
		json_decref(pids);
		return tp_fail(ctx, "after %zu processes: %s", started, strerror(-status));
	}
	if (!wait_with_them(ctx, &order)) {
		json_decref(pids);
		return tp_stopped(ctx);
	}
	return tp_set_result(ctx, json_pack("{s:o}", "pids", pids));
}

static const char schema[] =
	"{\"type\": \"object\", \"properties\": {"
	"\"children\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 200, \"default\": 1, "
	"\"description\": \"How many processes to start.\"},"
	"\"how\": {\"enum\": [\"child\", \"daemon\", \"chain\"], \"default\": \"child\", "
	"\"description\": \"child: forked. daemon: forked twice, in a session of its own. chain: a "
	"daemon "
	"that hands over to a new process every 2 ms, so that its pid is never the one that was "
	"seen.\"},"
	"\"run_ms\": {\"type\": \"integer\", \"minimum\": 0, \"maximum\": 3600000, "
	"\"default\": 60000, \"description\": \"How long each of them sleeps, in milliseconds.\"},"
	"\"ignore_term\": {\"type\": \"boolean\", \"default\": false, "
	"\"description\": \"Whether they ignore SIGTERM.\"},"
	"\"wait\": {\"type\": \"boolean\", \"default\": false, "
	"\"description\": \"Whether the job goes on for run_ms, or until it is asked to stop.\"},"
	"\"hold_stop\": {\"type\": \"boolean\", \"default\": false, "
	"\"description\": \"Whether it goes on so even when it is asked to stop.\"}}}";

const struct tp_task builtin_spawn = {
	.name = "spawn",
	.description = "Starts processes that sleep, prints their pids and leaves them behind. "
		       "Must be enabled in the configuration.",
	.args_schema = schema,
	.flags = TP_TASK_THREAD_SAFE | TP_TASK_DISABLED_BY_DEFAULT,
	.run = run,
};
