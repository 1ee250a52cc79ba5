/*
 * Invariants
 * 1. Only the main thread acts on the signal, and it is also who begins and ends jobs, so while the
 * handler acts the job cannot change under it. On another thread, which a task may have made, the
 * handler sends the signal on to the main one.
 * 2. A child that was forked by a task has this handler too; there it does nothing.
 * 3. The handler uses nothing but async-signal-safe calls (signal-safety(7)), gettid(2) and
 * tgkill(2), which are bare system calls, and stop_signal() of the kinds of task.
 */
#include "host/stop_signal.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ipc/message.h"
#include "task/registry.h"

static pid_t host_pid;
static const _Atomic uint32_t *_Atomic current; /* stop word of the job that runs; or NULL */
static atomic_bool passed_on;			/* for that job */

/* SIGTERM to all of the group but us. It is ignored meanwhile; that is asked for a second time
 * since a signal that is blocked is kept even so, and is discarded by exactly that (sigaction(2)).
 * */
static void terminate_others(void)
{
	const struct sigaction ignore = {.sa_handler = SIG_IGN};
	struct sigaction before;

	if (sigaction(SIGTERM, &ignore, &before) < 0)
		return;
	kill(0, SIGTERM);
	sigaction(SIGTERM, &ignore, NULL);
	sigaction(SIGTERM, &before, NULL);
}

static void tell_kinds(void)
{
	for (size_t i = 0; task_kinds[i]; i++)
		if (task_kinds[i]->stop_signal)
			task_kinds[i]->stop_signal();
}

static void on_stop(int signal_number)
{
	int error = errno;
	pid_t pid = getpid();

	if (pid == host_pid && (pid_t)syscall(SYS_gettid) != pid) {
		syscall(SYS_tgkill, pid, pid, signal_number);
	} else if (pid == host_pid) {
		const _Atomic uint32_t *stop = atomic_load(&current);
		if (stop && atomic_load(stop) != 0 && !atomic_exchange(&passed_on, true)) {
			terminate_others();
			tell_kinds();
		}
	}
	errno = error;
}

int stop_signal_open(void)
{
	/* No SA_RESTART: a task that waits in a system call is to learn of it. */
	struct sigaction action = {.sa_handler = on_stop};

	host_pid = getpid();
	return sigaction(MESSAGE_STOP_SIGNAL, &action, NULL) < 0 ? -errno : 0;
}

void stop_signal_begin(const _Atomic uint32_t *stop)
{
	atomic_store(&passed_on, false);
	atomic_store(&current, stop);
}

void stop_signal_end(void)
{
	atomic_store(&current, NULL);
}
