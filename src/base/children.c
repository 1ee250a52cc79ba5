/*
 * Invariants
 * 1. A pid is killed only after the kernel has let us wait for it, and is reaped only here, so in
 * between it is that child, dead or alive.
 * 2. A pass that finds no child proves that there is nothing left to end: a tree of processes has
 * at every moment a root that is our child, and a root only goes by being reaped here.
 */
#include "base/children.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"

#define PASS_MAX     1024 /* children dealt with in one pass; others get theirs in the next */
#define PAUSE_MIN_NS (100 * NS_PER_US)
#define PAUSE_MAX_NS (10 * NS_PER_MS)

struct filter {
	bool (*keep)(pid_t pid, void *data); /* NULL: keep nobody */
	void *data;
};

bool children_exist(void)
{
	siginfo_t info;

	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 ||
	       errno != ECHILD;
}

/* The pid that an entry of /proc stands for; 0 if it is something else. */
static pid_t entry_pid(const char *name)
{
	char *end;
	long number = strtol(name, &end, 10);

	return *end == '\0' && number > 0 ? (pid_t)number : 0;
}

/* Whether it is our child, alive or dead: the kernel lets us wait for nobody else. */
static bool is_child(pid_t pid)
{
	siginfo_t info;

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0;
}

static size_t list_from(DIR *proc, const struct filter *filter, pid_t *ret_pids, size_t max)
{
	size_t count = 0;

	for (const struct dirent *entry; count < max && (entry = readdir(proc));) {
		pid_t pid = entry_pid(entry->d_name);
		if (pid > 0 && is_child(pid) && (!filter->keep || !filter->keep(pid, filter->data)))
			ret_pids[count++] = pid;
	}
	return count;
}

/* Lists children that the filter does not keep: how many, or -errno. */
static int list(const struct filter *filter, pid_t *ret_pids, size_t max)
{
	DIR *proc = opendir("/proc");

	if (!proc)
		return -errno;
	size_t count = list_from(proc, filter, ret_pids, max);
	closedir(proc);
	return (int)count;
}

int children_list(pid_t *ret_pids, size_t max)
{
	const struct filter nobody = {0};

	return list(&nobody, ret_pids, max);
}

/* Reaps those of the pids that are dead, and forgets them: how many. */
static int reap(pid_t *pids, int *count)
{
	int reaped = 0;
	int left = 0;

	for (int i = 0; i < *count; i++) {
		pid_t pid = waitpid(pids[i], NULL, WNOHANG | __WALL);
		if (pid == 0)
			pids[left++] = pids[i];
		else if (pid > 0)
			reaped++;
	}
	*count = left;
	return reaped;
}

/* Sleeps, at the most until the deadline; false if that has passed. */
static bool pause_until(int64_t deadline_ns, int64_t pause_ns)
{
	int64_t left_ns = deadline_ns - clock_monotonic_ns();
	const struct timespec pause = {.tv_nsec = left_ns < pause_ns ? left_ns : pause_ns};

	if (left_ns <= 0)
		return false;
	nanosleep(&pause, NULL);
	return true;
}

/* One pass: kills who is there and reaps who dies of it within a moment. Answers how many were
 * found, or -errno. */
static int end_once(const struct filter *filter, int64_t deadline_ns, int *reaped)
{
	pid_t pids[PASS_MAX];
	int found = list(filter, pids, PASS_MAX);
	int left = found;

	for (int i = 0; i < found; i++)
		kill(pids[i], SIGKILL);
	if (found > 0)
		*reaped += reap(pids, &left);
	/* Only a pass over all of /proc finds what comes to us by these deaths. */
	for (int i = 0; i < 2 && left > 0 && pause_until(deadline_ns, PAUSE_MIN_NS); i++)
		*reaped += reap(pids, &left);
	return found;
}

/* Undoes what would let the kernel reap our children itself, and give their pids to others. */
static void keep_the_dead(void)
{
	const struct sigaction standard = {.sa_handler = SIG_DFL};
	struct sigaction action;

	if (sigaction(SIGCHLD, NULL, &action) == 0 &&
	    (action.sa_handler == SIG_IGN || (action.sa_flags & SA_NOCLDWAIT)))
		sigaction(SIGCHLD, &standard, NULL);
}

int children_end(bool (*keep)(pid_t pid, void *data), void *data, int64_t deadline_ns)
{
	const struct filter filter = {.keep = keep, .data = data};
	int64_t pause_ns = PAUSE_MIN_NS;
	int reaped = 0;

	keep_the_dead();
	for (;;) {
		int reaped_before = reaped;
		int found = end_once(&filter, deadline_ns, &reaped);
		if (found < 0)
			return found;
		if (keep ? found == 0 : !children_exist())
			return reaped;
		/* Who is killed and does not die is waited for ever more slowly. */
		if (reaped > reaped_before)
			pause_ns = PAUSE_MIN_NS;
		else if (pause_ns < PAUSE_MAX_NS)
			pause_ns *= 2;
		if (!pause_until(deadline_ns, pause_ns))
			return -ETIMEDOUT;
	}
}
