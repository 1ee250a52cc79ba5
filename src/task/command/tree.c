/*
 * Invariant: the program is reaped last. Until then its pid, and so its group's and its session's
 * number, cannot become a stranger's.
 */
#include "task/command/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/children.h"
#include "base/clock.h"
#include "base/fd.h"

#define END_NS	      NS_PER_S
#define ORPHANS_MAX   1024  /* dealt with in one pass */
#define CHILDREN_TEXT 16384 /* of a list of pids */
#define ENVIRON_BYTES 65536 /* looked at; the mark is put first */
#define CLEAN_PASSES  3
#define DOUBTS_MAX    5
#define PAUSE_NS      (200 * NS_PER_US)

void tree_mark(char ret_mark[static TREE_MARK_SIZE])
{
	static atomic_ullong counter;
	unsigned long long random[2] = {0, 0};

	if (getrandom(random, sizeof(random), GRND_NONBLOCK) < 0) {
		random[0] = (unsigned long long)clock_monotonic_ns();
	}
	random[1] ^= atomic_fetch_add(&counter, 1) ^ (unsigned long long)getpid() << 32;
	snprintf(ret_mark, TREE_MARK_SIZE, TREE_VARIABLE "=%016llx%016llx", random[0], random[1]);
}

void tree_signal(const struct tree *tree, int signal_number)
{
	kill(-tree->pid, signal_number);
}

void tree_kill(const struct tree *tree)
{
	cgroup_kill(&tree->cgroup);
	tree_signal(tree, SIGKILL);
}

/* --- who is left --- */

/* The children of the main thread, which is whom orphans come to; -errno where the kernel has no
 * such list. */
static int read_children(pid_t *pids, size_t max)
{
	char path[64];
	char text[CHILDREN_TEXT];
	size_t length = 0;
	ssize_t got;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	while (length < sizeof(text) - 1 &&
	       (got = read(fd, text + length, sizeof(text) - 1 - length)) > 0) {
		length += (size_t)got;
	}
	close(fd);
	text[length] = '\0';
	size_t count = 0;
	char *end;
	for (char *at = text; count < max; at = end) {
		long pid = strtol(at, &end, 10);
		/* A number at the very end may have been cut. */
		if (end == at || *end != ' ') {
			break;
		}
		pids[count++] = (pid_t)pid;
	}
	return (int)count;
}

static int list_orphans(pid_t *pids, size_t max)
{
	int count = read_children(pids, max);

	if (count >= 0) {
		return count;
	}
	count = children_list(pids, max);
	return count < 0 ? 0 : count;
}

/* Reads the beginning of a file of /proc/PID: how many bytes; a NUL is behind them. */
static size_t read_proc(pid_t pid, const char *name, char *text, size_t size)
{
	char path[64];
	size_t length = 0;
	ssize_t got;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && length < size - 1 &&
	       (got = read(fd, text + length, size - 1 - length)) > 0) {
		length += (size_t)got;
	}
	fd_close(&fd);
	text[length] = '\0';
	return length;
}

struct process {
	char state; /* as in its stat: 'Z' is dead and was not waited for */
	int group;
	int session;
};

/* false if there is no such process. */
static bool read_process(pid_t pid, struct process *ret_process)
{
	char text[1024];

	read_proc(pid, "stat", text, sizeof(text));
	const char *at = strrchr(text, ')'); /* the program's name may hold anything */
	/* ") S ppid pgrp session" */
	return at != NULL && sscanf(at + 1, " %c %*d %d %d", &ret_process->state,
				    &ret_process->group, &ret_process->session) == 3;
}

/* *ret_unsure: it has no environment at all, as for a moment in execve(2). */
static bool is_marked(const struct tree *tree, pid_t pid, bool *ret_unsure)
{
	char *text = malloc(ENVIRON_BYTES);

	if (text == NULL) {
		return false;
	}
	size_t length = read_proc(pid, "environ", text, ENVIRON_BYTES);
	bool found = memmem(text, length, tree->mark, strlen(tree->mark)) != NULL;
	free(text);
	*ret_unsure = length == 0;
	return found;
}

static bool belongs(const struct tree *tree, pid_t pid, const struct process *process,
		    bool *ret_unsure)
{
	return process->group == tree->pid || process->session == tree->pid ||
	       cgroup_has(&tree->cgroup, pid) || is_marked(tree, pid, ret_unsure);
}

/* Whether it is a dead daemon, of whose run nothing is left to reap it: it is in no session of
 * ours, and not in that of another program that still runs. */
static bool is_forgotten(const struct process *process)
{
	return process->state == 'Z' && process->session != getsid(0) &&
	       kill(process->session, 0) < 0 && errno == ESRCH;
}

/* --- ending them --- */

static int64_t timeval_ns(const struct timeval *time)
{
	return time->tv_sec * NS_PER_S + time->tv_usec * NS_PER_US;
}

static void add_usage(struct tree_usage *usage, const struct rusage *used)
{
	int64_t peak_bytes = used->ru_maxrss * 1024;

	usage->cpu_user_ns += timeval_ns(&used->ru_utime);
	usage->cpu_system_ns += timeval_ns(&used->ru_stime);
	usage->minor_faults += used->ru_minflt;
	usage->major_faults += used->ru_majflt;
	usage->voluntary_switches += used->ru_nvcsw;
	usage->involuntary_switches += used->ru_nivcsw;
	if (peak_bytes > usage->peak_bytes) {
		usage->peak_bytes = peak_bytes;
	}
}

/* false while it lives. */
static bool reap(pid_t pid, struct tree_usage *usage)
{
	struct rusage used;
	pid_t reaped = wait4(pid, NULL, WNOHANG | __WALL, &used);

	if (reaped > 0) {
		add_usage(usage, &used);
	}
	return reaped != 0;
}

/* Kills those of the orphans that are the run's, and reaps who is dead: how many of the run were
 * found. *ret_unsure: of some that live it could not be told. */
static int end_pass(const struct tree *tree, struct tree_usage *usage, bool *ret_unsure)
{
	pid_t pids[ORPHANS_MAX];
	int count = list_orphans(pids, ORPHANS_MAX);
	int found = 0;

	for (int i = 0; i < count; i++) {
		struct process process;
		bool unsure = false;
		if (pids[i] == tree->pid || !read_process(pids[i], &process)) {
			continue;
		}
		if (belongs(tree, pids[i], &process, &unsure)) {
			kill(pids[i], SIGKILL);
			found++;
			reap(pids[i], usage);
		} else if (is_forgotten(&process)) {
			waitpid(pids[i], NULL, WNOHANG | __WALL);
		} else if (unsure && process.state != 'Z') {
			*ret_unsure = true;
		}
	}
	return found;
}

/*
 * One pass that finds nobody is enough for a run that left nobody. Where somebody was killed, it
 * takes a moment until he has died and his children have come to us, so nobody must be found
 * several times in a row. Doubt is given a few passes: an execve(2) is over by then, and who has
 * cleared his environment is not to hold up everybody.
 */
static bool end_beside_others(const struct tree *tree, bool was_dead, struct tree_usage *usage)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};
	int64_t deadline_ns = clock_monotonic_ns() + END_NS;
	int wanted = was_dead ? 1 : CLEAN_PASSES;
	int doubts = 0;

	for (int clean = 0;;) {
		bool unsure = false;
		if (end_pass(tree, usage, &unsure) > 0) {
			clean = 0;
			wanted = CLEAN_PASSES;
		} else if (!unsure || ++doubts > DOUBTS_MAX) {
			clean++;
		}
		if (clean >= wanted) {
			return true;
		}
		if (clock_monotonic_ns() > deadline_ns) {
			return false;
		}
		nanosleep(&pause, NULL);
	}
}

static bool is_program(pid_t pid, void *tree)
{
	return pid == ((const struct tree *)tree)->pid;
}

/* Whether the host has no child but the program; also false if that cannot be told cheaply. */
static bool is_only_child(const struct tree *tree)
{
	pid_t pids[2];

	return read_children(pids, 2) == 1 && pids[0] == tree->pid;
}

static bool end_alone(const struct tree *tree)
{
	struct tree copy = *tree;

	return is_only_child(tree) ||
	       children_end(is_program, &copy, clock_monotonic_ns() + END_NS) >= 0;
}

static void difference(const struct rusage *before, struct tree_usage *usage)
{
	struct rusage after;
	int64_t peak_bytes = usage->peak_bytes;
	struct tree_usage earlier = {0};

	getrusage(RUSAGE_CHILDREN, &after);
	*usage = (struct tree_usage){0};
	add_usage(usage, &after);
	add_usage(&earlier, before);
	usage->cpu_user_ns -= earlier.cpu_user_ns;
	usage->cpu_system_ns -= earlier.cpu_system_ns;
	usage->minor_faults -= earlier.minor_faults;
	usage->major_faults -= earlier.major_faults;
	usage->voluntary_switches -= earlier.voluntary_switches;
	usage->involuntary_switches -= earlier.involuntary_switches;
	usage->peak_bytes = peak_bytes; /* that of all children ever is not this run's */
}

int tree_end(const struct tree *tree, struct tree_usage *ret_usage, bool *ret_all)
{
	struct tree_usage usage = {0};
	struct rusage before;
	struct rusage used = {0};
	struct process program;
	int status = 0;
	bool was_dead = read_process(tree->pid, &program) && program.state == 'Z';

	tree_kill(tree);
	getrusage(RUSAGE_CHILDREN, &before);
	*ret_all = tree->alone ? end_alone(tree) : end_beside_others(tree, was_dead, &usage);
	while (wait4(tree->pid, &status, 0, &used) < 0 && errno == EINTR) {
	}
	add_usage(&usage, &used);
	if (tree->alone) {
		difference(&before, &usage);
	}
	*ret_usage = usage;
	return status;
}
