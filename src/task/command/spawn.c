/*
 * Between vfork and exec the child runs in our memory, on our stack, while the thread that called
 * waits. So there it uses nothing but system calls and writes nothing but *report and its own
 * locals. It calls the kernel for the user's change, not the C library, which would change all our
 * threads (nptl(7)). All signals are blocked meanwhile: a handler of ours must not run in it.
 */
#include "task/command/spawn.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct report {
	int error;
	const char *step;
};

static int limit_resources(const struct spawn *spawn)
{
	for (size_t i = 0; i < spawn->limit_count; i++) {
		const struct spawn_limit *limit = &spawn->limits[i];
		struct rlimit both = {.rlim_cur = limit->value, .rlim_max = limit->value};
		struct rlimit before;
		if (getrlimit((__rlimit_resource_t)limit->resource, &before) < 0) {
			return -1;
		}
		if (both.rlim_max > before.rlim_max) {
			both.rlim_cur = both.rlim_max = before.rlim_max;
		}
		if (setrlimit((__rlimit_resource_t)limit->resource, &both) < 0) {
			return -1;
		}
	}
	return 0;
}

static int change_user(const struct spawn *spawn)
{
	if (!spawn->changes_user) {
		return 0;
	}
	if (syscall(SYS_setgroups, 0, NULL) < 0 ||
	    syscall(SYS_setresgid, spawn->gid, spawn->gid, spawn->gid) < 0 ||
	    syscall(SYS_setresuid, spawn->uid, spawn->uid, spawn->uid) < 0) {
		return -1;
	}
	return 0;
}

static int take_descriptors(const struct spawn *spawn)
{
	for (int i = 0; i < 3; i++) {
		if (dup2(spawn->standard[i], i) < 0) {
			return -1;
		}
	}
	return close_range(3, ~0U, 0);
}

/* Handlers go by exec anyway, but what is ignored would stay so. */
static int reset_signals(void)
{
	const struct sigaction standard = {.sa_handler = SIG_DFL};

	for (int i = 1; i < NSIG; i++) {
		if (i != SIGKILL && i != SIGSTOP) {
			sigaction(i, &standard, NULL);
		}
	}
	sigset_t none;
	sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL);
}

static const char *prepare(const struct spawn *spawn)
{
	if (setsid() < 0) {
		return "begin a session";
	}
	if (fchdir(spawn->directory) < 0) {
		return "enter its scratch directory";
	}
	if (take_descriptors(spawn) < 0) {
		return "take over its descriptors";
	}
	/* As the new user, whose processes are counted; the rights to set them are not needed. */
	if (change_user(spawn) < 0) {
		return "become the user of the command";
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		return "give up new privileges";
	}
	if (limit_resources(spawn) < 0) {
		return "limit its resources";
	}
	if (reset_signals() < 0) {
		return "reset its signals";
	}
	return NULL;
}

static void __attribute__((noreturn, noinline))
become(const struct spawn *spawn, volatile struct report *report)
{
	const char *step = prepare(spawn);

	if (step == NULL) {
		execve(spawn->program, spawn->argv, spawn->environment);
		step = "run the program";
	}
	report->error = errno;
	report->step = step;
	_exit(127);
}

static void reap(pid_t pid)
{
	siginfo_t info;

	while (waitid(P_PID, (id_t)pid, &info, WEXITED) < 0 && errno == EINTR) {
	}
}

int spawn_start(const struct spawn *spawn, pid_t *ret_pid, const char **ret_step)
{
	volatile struct report report = {.error = 0};
	sigset_t all;
	sigset_t before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid_t pid = vfork();
	if (pid == 0) {
		become(spawn, &report);
	}
	int error = pid < 0 ? errno : report.error;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error == 0) {
		*ret_pid = pid;
		return 0;
	}
	*ret_step = pid < 0 ? "start a process" : report.step;
	if (pid > 0) {
		reap(pid);
	}
	return -error;
}
