/*
 * BASE: found, judged, taken and given back, by the master.
 *
 * Invariants
 * 1. Nothing is changed in a cgroup that is not ours by every sign there is.
 * 2. Whatever set-up leaves not in force, it has undone.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "task/command/cgroup.h"
#include "task/command/spawn.h"

#define FILE_MAX  (1 << 20) /* of mountinfo */
#define TEXT_SIZE 4096
#define END_NS	  (2 * NS_PER_S) /* for what a predecessor has left to die */
#define PAUSE_NS  (2 * NS_PER_MS)
#define SERVICE	  "service"

struct base {
	int directory;
	int lock;	/* cgroup.subtree_control, open as long as BASE is ours; see take_lock() */
	bool is_named;	/* by the configuration */
	bool is_inside; /* this process is in BASE itself */
	bool has_moved; /* it was in BASE, or its predecessor was, and is in BASE/service now */
	bool has_given; /* controllers to what is below */
};

static struct cgroup_state state;
static struct base base = {.directory = -1, .lock = -1};

const struct cgroup_state *cgroup_state(void)
{
	return &state;
}

static int __attribute__((format(printf, 2, 3))) refuse(int status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(state.reason, sizeof(state.reason), format, arguments);
	va_end(arguments);
	return status;
}

/* --- finding --- */

/* Whether a predecessor that was killed has left this process's cgroup as its BASE/service. */
static bool is_left_service(const char *path)
{
	char runs[CGROUP_PATH_SIZE + 8];
	const char *name = strrchr(path, '/');

	if (name == NULL || strcmp(name + 1, SERVICE) != 0) {
		return false;
	}
	snprintf(runs, sizeof(runs), "%.*s/runs", (int)(name - path), path);
	return access(runs, F_OK) == 0;
}

static int find_own(char *ret_own, size_t size)
{
	char *text = NULL;
	size_t length;
	int status = fd_read_file("/proc/self/cgroup", FILE_MAX, &text, &length);

	if (status < 0) {
		return refuse(status, "/proc/self/cgroup: %s", strerror(-status));
	}
	state.version = text[0] == '\0' ? 0 : 1;
	bool found = cgroup_parse_own(text, ret_own, size);
	free(text);
	return found ? 0 : refuse(-ENOENT, "there are no cgroups of version 2 here");
}

static int find(void)
{
	char own[CGROUP_PATH_SIZE];
	char *text = NULL;
	size_t length;
	int status = find_own(own, sizeof(own));

	if (status < 0) {
		return status;
	}
	status = fd_read_file("/proc/self/mountinfo", FILE_MAX, &text, &length);
	if (status < 0) {
		return refuse(status, "/proc/self/mountinfo: %s", strerror(-status));
	}
	bool found = cgroup_parse_mounts(text, own, state.path, sizeof(state.path));
	free(text);
	if (!found) {
		state.path[0] = '\0';
		return refuse(-ENOENT,
			      "no file system of version 2 that has our cgroup, %.300s, is mounted",
			      own);
	}
	if (is_left_service(state.path)) {
		*strrchr(state.path, '/') = '\0';
		base.has_moved = true;
	}
	return 0;
}

static int open_base(const char *setting)
{
	struct statfs system;

	base.is_named = setting[0] == '/';
	if (base.is_named) {
		char own[CGROUP_PATH_SIZE];
		(void)find_own(own, sizeof(own)); /* for the version */
		snprintf(state.path, sizeof(state.path), "%s", setting);
	} else {
		int status = find();
		if (status < 0) {
			return status;
		}
	}
	base.directory = open(state.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (base.directory < 0) {
		return refuse(-errno, "%.300s: %s", state.path, strerror(errno));
	}
	if (fstatfs(base.directory, &system) < 0 || system.f_type != CGROUP2_SUPER_MAGIC) {
		return refuse(-ENOTSUP, "%.300s is no cgroup of version 2", state.path);
	}
	return 0;
}

/* --- judging --- */

static int judge_kind(void)
{
	char type[64];

	if (cgroup_read(base.directory, "cgroup.controllers", state.controllers,
			sizeof(state.controllers)) < 0) {
		state.controllers[0] = '\0';
	}
	state.controllers[strcspn(state.controllers, "\n")] = '\0';
	/* With the memory controller under version 1, this one is a hierarchy beside it. */
	bool has_memory = cgroup_parse_has(state.controllers, "memory");
	if (has_memory) {
		state.version = 2;
	}
	state.has_pids = cgroup_parse_has(state.controllers, "pids");
	state.writable = faccessat(base.directory, ".", W_OK, AT_EACCESS) == 0 &&
			 faccessat(base.directory, "cgroup.procs", W_OK, AT_EACCESS) == 0 &&
			 faccessat(base.directory, "cgroup.subtree_control", W_OK, AT_EACCESS) == 0;
	if (!state.writable) {
		return refuse(-errno, "%.300s may not be written to: %s", state.path,
			      strerror(errno));
	}
	if (cgroup_read(base.directory, "cgroup.type", type, sizeof(type)) < 0) {
		return refuse(-EPERM,
			      "%.300s is the root of all cgroups, and was delegated to nobody",
			      state.path);
	}
	if (strcmp(type, "domain\n") != 0) {
		return refuse(-ENOTSUP, "%.300s is of the type %.*s", state.path,
			      (int)strcspn(type, "\n"), type);
	}
	if (!has_memory) {
		return refuse(
			-ENOTSUP,
			"%.300s has no memory controller: its parent's cgroup.subtree_control "
			"must have it, and not version 1",
			state.path);
	}
	if (faccessat(base.directory, "cgroup.kill", F_OK, 0) < 0) {
		return refuse(-ENOTSUP, "the kernel has no cgroup.kill (Linux 5.14)");
	}
	return 0;
}

static bool has_mark(const char *name)
{
	char value[8] = "";

	return fgetxattr(base.directory, name, value, sizeof(value) - 1) == 1 && value[0] == '1';
}

/* Units of systemd are systemd's alone unless they say Delegate=yes; root could write there all the
 * same. */
static int judge_delegation(void)
{
	const char *name = strrchr(state.path, '/');
	const char *suffix = name == NULL ? NULL : strrchr(name, '.');
	bool is_unit = suffix != NULL &&
		       (strcmp(suffix, ".service") == 0 || strcmp(suffix, ".scope") == 0);

	if (base.is_named || !is_unit || has_mark("user.delegate") ||
	    has_mark("trusted.delegate")) {
		return 0;
	}
	return refuse(-EPERM, "%.300s is a unit of systemd without Delegate=yes", state.path);
}

/*
 * So that no two services share one BASE. Such a lock is given up when the process that took it
 * closes any descriptor of that file, or ends; a child that inherits the descriptor has no part in
 * it. So the file is opened nowhere else in the master.
 */
static int take_lock(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	base.lock = openat(base.directory, "cgroup.subtree_control", O_RDWR | O_CLOEXEC);
	if (base.lock < 0) {
		return refuse(-errno, "%.300s may not be written to: %s", state.path,
			      strerror(errno));
	}
	if (fcntl(base.lock, F_SETLK, &lock) < 0) {
		return refuse(-EBUSY, "another service of this kind has %.300s", state.path);
	}
	return 0;
}

static int judge_inhabitants(void)
{
	char text[TEXT_SIZE];
	char *end;
	int status = cgroup_read(base.directory, "cgroup.procs", text, sizeof(text));

	if (status < 0) {
		return refuse(status, "%.300s/cgroup.procs: %s", state.path, strerror(-status));
	}
	for (char *at = text; *at != '\0'; at = end + strspn(end, "\n")) {
		long pid = strtol(at, &end, 10);
		if (end == at) {
			break;
		}
		if (pid != getpid()) {
			return refuse(-EBUSY, "%.300s has processes of others in it, such as %ld%s",
				      state.path, pid,
				      pid == 0 ? " (of another pid namespace)" : "");
		}
		base.is_inside = true;
	}
	return 0;
}

/* --- taking --- */

static int make_at(int directory, const char *name)
{
	return mkdirat(directory, name, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

static int write_procs(const char *name)
{
	return cgroup_write(base.directory, name, "0");
}

static int move_service(void)
{
	int status = make_at(base.directory, SERVICE);

	if (status == 0) {
		status = write_procs(SERVICE "/cgroup.procs");
	}
	base.has_moved = status == 0;
	return status == 0 ? 0
			   : refuse(status, "the service cannot be moved to %.300s/" SERVICE ": %s",
				    state.path, strerror(-status));
}

/* Through the descriptor that has the lock. */
static int control(const char *text)
{
	return pwrite(base.lock, text, strlen(text), 0) < 0 ? -errno : 0;
}

static int give_controllers(void)
{
	const char *wanted = state.has_pids ? "+memory +pids" : "+memory";
	int status = control(wanted);

	base.has_given = status == 0;
	if (status == 0) {
		status = make_at(base.directory, "runs");
	}
	if (status == 0) {
		status = cgroup_write(base.directory, "runs/cgroup.subtree_control", wanted);
	}
	return status == 0 ? 0
			   : refuse(status, "%.300s cannot give its controllers on: %s", state.path,
				    strerror(-status));
}

static bool nobody_lives(pid_t pid, void *data)
{
	(void)pid;
	(void)data;
	return false;
}

/* Ends and removes all runs: 0 or -EBUSY. */
static int remove_runs(void)
{
	const struct timespec pause = {.tv_nsec = PAUSE_NS};
	int64_t deadline_ns = clock_monotonic_ns() + END_NS;

	while (!cgroup_end_dead(nobody_lives, NULL)) {
		if (clock_monotonic_ns() > deadline_ns) {
			return -EBUSY;
		}
		nanosleep(&pause, NULL);
	}
	return 0;
}

/* A child that is put there, with limits, and ends. */
static int try_child(const struct cgroup *cgroup)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const struct spawn spawn = {.standard = {null, null, null},
				    .directory = base.directory,
				    .cgroup = cgroup->directory};
	const char *step = "open /dev/null";
	pid_t pid;
	int status = null < 0 ? -errno : spawn_start(&spawn, &pid, &step);

	if (status == 0) {
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
		}
	}
	fd_close(&null);
	return status == 0
		       ? 0
		       : refuse(status, "a process that was to be put below %.300s cannot %s: %s",
				state.path, step, strerror(-status));
}

static int try_run(void)
{
	const struct cgroup_limits limits = {.memory_bytes = 64 << 20, .processes = 64};
	struct cgroup cgroup;
	int status = cgroup_make(&limits, &cgroup);

	if (status < 0) {
		return refuse(status, "no cgroup can be made below %.300s: %s", state.path,
			      strerror(-status));
	}
	state.has_peak = faccessat(cgroup.directory, "memory.peak", R_OK, 0) == 0;
	status = try_child(&cgroup);
	cgroup_remove(&cgroup);
	return status;
}

static int take(void)
{
	int status = base.is_inside ? move_service() : 0;

	if (status == 0) {
		status = give_controllers();
	}
	if (status == 0) {
		state.in_force = true; /* what is below can be used now, first by us */
		if (remove_runs() < 0) {
			status = refuse(-EBUSY,
					"what an earlier service has left in %.300s/runs does not "
					"end",
					state.path);
		}
	}
	return status == 0 ? try_run() : status;
}

/* --- giving back --- */

static void undo(void)
{
	if (state.in_force) {
		remove_runs();
	}
	state.in_force = false;
	if (base.has_given) {
		unlinkat(base.directory, "runs", AT_REMOVEDIR);
		control(state.has_pids ? "-memory -pids" : "-memory");
	}
	if (base.has_moved && write_procs("cgroup.procs") == 0) {
		unlinkat(base.directory, SERVICE, AT_REMOVEDIR);
	}
	fd_close(&base.directory);
	fd_close(&base.lock);
	base = (struct base){.directory = -1, .lock = -1};
}

int cgroup_open(const char *setting)
{
	int (*const steps[])(void) = {judge_kind, judge_delegation, take_lock, judge_inhabitants,
				      take};
	state = (struct cgroup_state){0};
	int status = open_base(setting);

	if (strcmp(setting, "off") == 0) {
		status = refuse(-ECANCELED, "the configuration says commands.cgroup: off");
	}
	for (size_t i = 0; status == 0 && i < sizeof(steps) / sizeof(steps[0]); i++) {
		status = steps[i]();
	}
	if (status < 0) {
		bool is_named = base.is_named;
		undo();
		return is_named ? status : 0;
	}
	state.reason[0] = '\0';
	return 0;
}

void cgroup_close(void)
{
	if (state.in_force) {
		undo();
	}
}
