/*
 * Between vfork and exec the child runs in our memory, on our stack, while the thread that called
 * waits. So there it uses nothing but system calls and writes nothing but *report and its own
 * locals. It calls the kernel for the user's change, not the C library, which would change all our
 * threads (nptl(7)). All signals are blocked meanwhile: a handler of ours must not run in it.
 *
 * A child can enter its cgroup by writing to cgroup.procs, as anybody can. But to move a process the
 * kernel stops the forking of all processes, and for that it waits for an RCU grace period, which is
 * several milliseconds. To be born there costs nothing of the kind, and takes clone3(2), for which the
 * C library has no call. It must not return twice on one stack, as vfork() does by art, so the
 * child has a stack of its own, in the frame of the thread that waits. Where clone3() is refused, as
 * by Docker's seccomp filter, or for a machine that it is not written for here, the child writes.
 */
#include "task/command/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK_BYTES 16384

struct report {
	int error;
	const char *step;
};

/* What a child that is born in its cgroup is given. */
struct birth {
	const struct spawn *spawn;
	volatile struct report *report;
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

static int enter_cgroup(const struct spawn *spawn)
{
	if (spawn->cgroup == 0) {
		return 0;
	}
	int fd = openat(spawn->cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, "0", 1) < 0 ? -1 : 0;
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

	if (step == NULL && spawn->program == NULL) {
		_exit(0);
	}
	if (step == NULL) {
		execve(spawn->program, spawn->argv, spawn->environment);
		step = "run the program";
	}
	report->error = errno;
	report->step = step;
	_exit(127);
}

static void __attribute__((noreturn))
enter_and_become(const struct spawn *spawn, volatile struct report *report)
{
	if (enter_cgroup(spawn) < 0) {
		report->error = errno;
		report->step = "enter its cgroup";
		_exit(127);
	}
	become(spawn, report);
}

/* A sanitizer does not know the child's stack. */
#if defined(__x86_64__) && !defined(TWINPOOL_SANITIZER)

static void __attribute__((noreturn)) born(struct birth *birth)
{
	become(birth->spawn, birth->report);
}

/* The child's pid, or -errno. Waits, as vfork() does, until the child has ended or become the program. */
static pid_t clone_into_cgroup(const struct spawn *spawn, volatile struct report *report)
{
	_Alignas(16) char stack[STACK_BYTES];
	struct birth birth = {.spawn = spawn, .report = report};
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_VFORK | CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD,
		.stack = (__u64)(uintptr_t)stack,
		.stack_size = sizeof(stack),
		.cgroup = (__u64)spawn->cgroup,
	};
	long result;

	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "mov %[birth], %%rdi\n\t"
			 "call *%[born]\n\t"
			 "ud2\n"
			 "1:"
			 : "=a"(result)
			 : "0"((long)SYS_clone3), "D"(&args),
			   "S"(sizeof(args)), [born] "r"(born), [birth] "r"(&birth)
			 : "rcx", "r11", "cc", "memory");
	return (pid_t)result;
}

#else

static pid_t clone_into_cgroup(const struct spawn *spawn, volatile struct report *report)
{
	(void)spawn;
	(void)report;
	return -ENOSYS;
}

#endif

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
	pid_t pid = spawn->cgroup == 0 ? -ENOSYS : clone_into_cgroup(spawn, &report);
	if (pid < 0) {
		pid = vfork();
	}
	if (pid == 0) {
		enter_and_become(spawn, &report);
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
