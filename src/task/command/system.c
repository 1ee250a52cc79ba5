#include "task/command/system.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "task/command/sandbox.h"
#include "task/command/spawn.h"

#define TRY_NS (5 * NS_PER_S) /* for bwrap to start */

/* Whether the descriptor, or -1, is one; closes it. */
static bool works(int fd)
{
	bool is_open = fd >= 0;

	fd_close(&fd);
	return is_open;
}

static bool has_capability(int number)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	memset(data, 0, sizeof(data));
	return syscall(SYS_capget, &header, data) == 0 &&
	       (data[CAP_TO_INDEX(number)].effective & CAP_TO_MASK(number)) != 0;
}

static void look_at_kernel(struct system_capabilities *system)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
	char path[64];

	system->pidfd = works((int)syscall(SYS_pidfd_open, getpid(), 0));
	system->openat2 = works((int)syscall(SYS_openat2, AT_FDCWD, ".", &how, sizeof(how)));
	system->close_range = close_range(~0U, ~0U, 0) == 0;
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	system->proc_children = access(path, R_OK) == 0;
	system->clear_refs = works(open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC));
	system->no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) >= 0;
	system->change_user = has_capability(CAP_SETUID) && has_capability(CAP_SETGID);
}

/* --- bubblewrap --- */

static void find_bubblewrap(struct system_capabilities *system)
{
	static const char *const places[] = {"/usr/local/bin/bwrap", "/usr/bin/bwrap",
					     "/bin/bwrap"};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (access(places[i], X_OK) == 0) {
			snprintf(system->bubblewrap, sizeof(system->bubblewrap), "%s", places[i]);
			return;
		}
	}
}

/* Reads what bwrap says until it ends or the time is over; only its first line is kept. */
static void read_reason(int fd, char *text, size_t size)
{
	int64_t deadline_ns = clock_monotonic_ns() + TRY_NS;
	struct pollfd waited = {.fd = fd, .events = POLLIN};
	size_t length = 0;
	ssize_t got = 1;

	while (got > 0 && length < size - 1) {
		int64_t left_ns = deadline_ns - clock_monotonic_ns();
		if (left_ns <= 0 || poll(&waited, 1, (int)(left_ns / NS_PER_MS) + 1) <= 0) {
			break;
		}
		got = read(fd, text + length, size - 1 - length);
		length += got > 0 ? (size_t)got : 0;
	}
	text[length] = '\0';
	text[strcspn(text, "\n")] = '\0';
}

/* Starts bwrap to do nothing, as commands will: its exit status, or -errno. */
static int run_bubblewrap(struct strings *argv, const char *bwrap, int null, const int *pipe_ends,
			  char *reason, size_t size)
{
	char *const environment[] = {NULL};
	int directory = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	const struct spawn spawn = {.program = bwrap,
				    .argv = argv->items,
				    .environment = environment,
				    .standard = {null, null, pipe_ends[1]},
				    .directory = directory};
	const char *step = "";
	pid_t pid;
	int status = spawn_start(&spawn, &pid, &step);

	fd_close(&directory);
	close(pipe_ends[1]);
	if (status < 0) {
		snprintf(reason, size, "cannot %s: %s", step, strerror(-status));
		return status;
	}
	read_reason(pipe_ends[0], reason, size);
	/* Who still runs has had the time to end. */
	kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

static void try_bubblewrap(struct system_capabilities *system)
{
	struct strings argv = {0};
	int ends[2] = {-1, -1};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || pipe2(ends, O_CLOEXEC) < 0 ||
	    sandbox_arguments(system->bubblewrap, NULL, NULL, system->bubblewrap, &argv) < 0 ||
	    strings_take(&argv, strdup("--version")) < 0) {
		snprintf(system->bubblewrap_reason, sizeof(system->bubblewrap_reason),
			 "bwrap could not be tried: memory or descriptors are short");
	} else {
		int status = run_bubblewrap(&argv, system->bubblewrap, null, ends,
					    system->bubblewrap_reason,
					    sizeof(system->bubblewrap_reason));
		ends[1] = -1;
		system->bubblewrap_usable = status == 0;
		if (status == 0) {
			system->bubblewrap_reason[0] = '\0';
		} else if (system->bubblewrap_reason[0] == '\0') {
			snprintf(system->bubblewrap_reason, sizeof(system->bubblewrap_reason),
				 "bwrap does not work here and says nothing");
		}
	}
	strings_release(&argv);
	fd_close(&ends[0]);
	fd_close(&ends[1]);
	fd_close(&null);
}

const struct system_capabilities *system_capabilities(void)
{
	static struct system_capabilities system;
	static bool known;

	if (known) {
		return &system;
	}
	known = true;
	look_at_kernel(&system);
	find_bubblewrap(&system);
	if (system.bubblewrap[0] != '\0') {
		try_bubblewrap(&system);
	} else {
		snprintf(
			system.bubblewrap_reason, sizeof(system.bubblewrap_reason),
			"bubblewrap is not installed (no bwrap in /usr/local/bin, /usr/bin, /bin)");
	}
	return &system;
}
