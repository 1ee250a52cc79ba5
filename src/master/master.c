/*
 * Invariants
 * 1. Only this file forks hosts and the server. Signals are blocked round every fork; the child
 * restores them, keeps only its own descriptors, and asks to be killed when the master dies (and
 * looks whether it has already).
 * 2. A child that was not reaped keeps its pid, so a kill by pid from here can never hit a
 * stranger.
 * 3. The master keeps no copy of any descriptor of a host: one stray copy would hide the end of a
 * channel.
 * 4. A dead host is reaped only after its process group was killed: until then its pid, and so its
 * group's number, can be nobody else's. And only then it is told (HOST_DOWN).
 * 5. A child of ours that is neither the server nor a host nor was there before us is an orphan:
 * something that a job has started. It is ended.
 */
#include "master/master.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/children.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "host/host.h"
#include "ipc/channel.h"
#include "ipc/message.h"
#include "ipc/scoreboard.h"
#include "master/probe.h"
#include "master/service.h"
#include "task/command/cgroup.h"
#include "task/shared.h"

#define HOSTS_END_NS		  (2 * NS_PER_S) /* that idle hosts get to leave once the server has gone */
#define ORPHANS_END_NS		  (2 * NS_PER_S) /* at the very end, to end what jobs have left */
#define REPORT_NS		  (200 * NS_PER_MS) /* that a HOST_DOWN waits for orphans at the most */
#define SWEEP_NS		  (5 * NS_PER_MS) /* that the loop may spend on orphans at once */
#define SWEEP_PAUSE_NS		  (5 * NS_PER_MS) /* the shortest between two such; doubles */
#define SWEEP_PAUSE_MAX_NS	  NS_PER_S
#define SWEEP_PAUSE_UNREPORTED_NS (20 * NS_PER_MS) /* the longest while a HOST_DOWN waits */
#define INHERITED_MAX		  64
#define HOST_OOM_SCORE		  500 /* more than the server's: half of all memory */
#define OOM_SCORE_MAX		  1000L

struct child {
	struct list node;
	pid_t pid;
	uint32_t pool_index;
	uint32_t slot;
	uint64_t generation;
	struct message_host_down down; /* once it was reaped: what is to be told, */
	int64_t report_by_ns;	       /* and when at the latest */
};

/* The memory that all hosts of a pool share, as long as the service lives. */
struct pool_memory {
	char pool[CONFIG_NAME_MAX + 1];
	struct shared *shared;
};

/* The same of a lab, as long as no other has taken its place. */
struct lab_memory {
	uint64_t run; /* 0: none yet */
	struct shared *shared;
};

struct master {
	struct loaded *loaded; /* in force */
	struct loaded tried;   /* read; its plug-ins are being tried out by … */
	struct probe probe;    /* … this; config is NULL, and fd -1, if there is no trial */
	bool read_again;       /* SIGHUP has come meanwhile */
	struct loaded pending; /* offered to the server; config is NULL if none is */
	const struct config_flags *flags;
	struct supervisor *supervisor;
	bool serving;	  /* the supervisor knows that we are ready */
	sigset_t signals; /* those that the signalfd takes */
	int signal_fd;
	int channel;  /* to the server; -1 once it has gone */
	pid_t server; /* 0 once it was reaped */
	int server_status;
	int shutdowns;	      /* how many were asked for */
	struct list children; /* hosts that run */
	struct list fallen;   /* hosts that were reaped and are not told yet */
	int64_t sweep_ns;     /* when to look for orphans next; 0: no need */
	int64_t sweep_pause_ns;
	pid_t inherited[INHERITED_MAX]; /* children of who executed us; let alone */
	size_t inherited_count;
	struct pool_memory memories[CONFIG_POOLS_MAX];
	size_t memory_count;
	struct lab_memory labs[MESSAGE_LABS_MAX];
};

/* --- memory that hosts share ------------------------------------------------------------------ */

static struct shared *find_shared(const struct master *master, const char *pool)
{
	for (size_t i = 0; i < master->memory_count; i++)
		if (strcmp(master->memories[i].pool, pool) == 0)
			return master->memories[i].shared;
	return NULL;
}

/* Sees that each pool has some. */
static int share_memory(struct master *master, const struct config *config)
{
	for (size_t i = 0; i < config->pool_count; i++) {
		if (find_shared(master, config->pools[i].name))
			continue;
		if (master->memory_count == CONFIG_POOLS_MAX)
			return -ENOSPC;
		struct pool_memory *memory = &master->memories[master->memory_count];
		int status = shared_create(&memory->shared);
		if (status < 0)
			return status;
		master->memory_count++;
		snprintf(memory->pool, sizeof(memory->pool), "%s", config->pools[i].name);
	}
	return 0;
}

/* The memory of a host that is to be started. Hosts of a lab that has ended keep what they have
 * mapped. */
static int share_with_host(struct master *master, const struct message_host_start *start,
			   struct shared **ret_shared)
{
	if (start->lab == 0 || start->lab > MESSAGE_LABS_MAX) {
		*ret_shared = find_shared(master, start->pool);
		return 0;
	}
	struct lab_memory *lab = &master->labs[start->lab - 1];
	if (lab->run != start->lab_run) {
		struct shared *shared;
		int status = shared_create(&shared);
		if (status < 0)
			return status;
		shared_free(lab->shared);
		*lab = (struct lab_memory){.run = start->lab_run, .shared = shared};
	}
	*ret_shared = lab->shared;
	return 0;
}

/* --- children --------------------------------------------------------------------------------- */

/* In the child: undoes what the master set up. Ends the process if the master has gone meanwhile.
 */
static void enter_child(struct master *master, pid_t parent)
{
	struct sigaction action = {.sa_handler = SIG_DFL};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	fd_close(&master->signal_fd);
	for (int number = 1; number < NSIG; number++)
		sigaction(number, &action, NULL);
}

static void unblock_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* How a child ends. With a sanitizer, by exit(), so that leaks are reported; else nothing of the
 * master's is run again. */
static void __attribute__((noreturn)) leave(int status)
{
#ifdef TWINPOOL_SANITIZER
	exit(status);
#else
	_exit(status);
#endif
}

static void free_list(struct list *children)
{
	list_for_each_safe (node, children) {
		list_remove(node);
		free(container_of(node, struct child, node));
	}
}

static void free_children(struct master *master)
{
	free_list(&master->children);
	free_list(&master->fallen);
}

/* --- hosts ------------------------------------------------------------------------------------ */

/* The descriptors of a host that is about to be forked: ours to hand over, and the host's own. */
struct host_fds {
	int channel[2]; /* [0] the server's, [1] the host's */
	int scoreboard;
	int output[2]; /* stdout: [0] to read, [1] the host's */
	int errors[2]; /* stderr */
	int pidfd;
};

static void host_fds_close(struct host_fds *fds)
{
	int *all[] = {&fds->channel[0], &fds->channel[1], &fds->scoreboard, &fds->output[0],
		      &fds->output[1],	&fds->errors[0],  &fds->errors[1],  &fds->pidfd};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		fd_close(all[i]);
}

static int host_fds_open(uint32_t threads, struct host_fds *fds)
{
	int status;

	*fds = (struct host_fds){{-1, -1}, -1, {-1, -1}, {-1, -1}, -1};
	status = channel_pair(fds->channel);
	if (status == 0)
		status = scoreboard_create(threads, threads, &fds->scoreboard);
	if (status == 0 && pipe2(fds->output, O_CLOEXEC) < 0)
		status = -errno;
	if (status == 0 && pipe2(fds->errors, O_CLOEXEC) < 0)
		status = -errno;
	if (status ==
	    0) /* only the server's ends: the host's stdout must block when the pipe is full */
		status = fd_set_nonblocking(fds->output[0]);
	if (status == 0)
		status = fd_set_nonblocking(fds->errors[0]);
	if (status < 0)
		host_fds_close(fds);
	return status;
}

/* Lays the host's descriptors out as 0 to 4 and closes all others. Says nothing on failure: there
 * is no log in a host before this, so the exit status tells. */
static void keep_only_own(struct host_fds *fds)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	/* First up and out of the way of the numbers that they are to get. */
	int channel = fcntl(fds->channel[1], F_DUPFD_CLOEXEC, 64);
	int scoreboard = fcntl(fds->scoreboard, F_DUPFD_CLOEXEC, 64);
	int output = fcntl(fds->output[1], F_DUPFD_CLOEXEC, 64);
	int errors = fcntl(fds->errors[1], F_DUPFD_CLOEXEC, 64);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
	    dup2(errors, STDERR_FILENO) < 0 || dup3(channel, 3, O_CLOEXEC) < 0 ||
	    dup3(scoreboard, 4, O_CLOEXEC) < 0 || close_range(5, ~0U, 0) < 0)
		_exit(1);
}

/* What a terminal or a supervisor sends to all of us, and only the master is to act on. */
static const int for_master[] = {SIGINT, SIGHUP, SIGQUIT};

static void ignore_signals(const int *signals, size_t count)
{
	struct sigaction action = {.sa_handler = SIG_IGN};

	for (size_t i = 0; i < count; i++)
		sigaction(signals[i], &action, NULL);
}

/* Where memory is short, the kernel is to end a host, and with it jobs that are told so, rather than
 * the server or the master, and with them the service. What it must not be told is left. */
static void offer_to_oom_killer(void)
{
	static const char path[] = "/proc/self/oom_score_adj";
	char text[16] = "";
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0) {
		long score = strtol(text, NULL, 10) + HOST_OOM_SCORE;
		int length = snprintf(text, sizeof(text), "%ld",
				      score < OOM_SCORE_MAX ? score : OOM_SCORE_MAX);
		if (pwrite(fd, text, (size_t)length, 0) < 0)
			log_debug("oom_score_kept", log_str("error", strerrordesc_np(errno)));
	}
	fd_close(&fd);
}

/* In the child: the task that is on in this host only. */
static void enable_task(struct registry *registry, uint32_t index)
{
	if (index < registry->count)
		registry->tasks[index].enabled = true;
}

static void __attribute__((noreturn))
host_main(struct master *master, struct host_fds *fds, const struct message_host_start *start,
	  struct shared *shared, pid_t parent)
{
	const struct config *config = master->loaded->config;
	struct config_pool pool = config->pools[config_find_pool(config, start->pool)];
	char name[64];
	struct host_setup setup = {
		.config = config,
		.pool = &pool,
		.registry = &master->loaded->registry,
		.shared = shared,
		.channel = 3,
		.scoreboard_fd = 4,
		.slot = start->slot,
		.generation = start->generation,
	};

	pool.threads = start->threads; /* a lab may have another number of them */
	enable_task(&master->loaded->registry, start->enables);
	enter_child(master, parent);
	/* A session of its own, so that all that its jobs start can be signalled as one group, and
	 * a terminal's Ctrl-C reaches nobody of them. */
	setsid();
	free_children(master);
	offer_to_oom_killer();
	keep_only_own(fds);
	ignore_signals(for_master, sizeof(for_master) / sizeof(for_master[0]));
	snprintf(name, sizeof(name), "%s%s/%u", start->lab ? "lab:" : "", pool.name, start->slot);
	prctl(PR_SET_NAME, name);
	log_set_process(name);
	unblock_signals();
	leave(host_run(&setup));
}

static void send_to_server(struct master *master, const void *message, size_t length,
			   const int *fds, size_t fd_count)
{
	struct iovec part = {.iov_len = length};

	memcpy(&part.iov_base, &message, sizeof(message));
	if (master->channel < 0)
		return;
	/* The server reads its end promptly and both ends are ours; if it is gone, SIGCHLD will
	 * tell. */
	int status = channel_send(master->channel, &part, 1, fds, fd_count, 0);
	if (status < 0 && status != -EPIPE && status != -ECONNRESET)
		log_error("server_unreachable", log_str("error", strerrordesc_np(-status)));
}

static void say_host_failed(struct master *master, const struct message_host_start *start,
			    int error)
{
	struct message_host_down down = {.kind = MESSAGE_HOST_DOWN,
					 .pool_index = start->pool_index,
					 .slot = start->slot,
					 .generation = start->generation,
					 .start_errno = error};

	send_to_server(master, &down, sizeof(down), NULL, 0);
}

static void say_host_up(struct master *master, const struct child *child,
			const struct host_fds *fds)
{
	struct message_host_up up = {.kind = MESSAGE_HOST_UP,
				     .pool_index = child->pool_index,
				     .slot = child->slot,
				     .pid = child->pid,
				     .generation = child->generation};
	const int handed[HOST_UP_FDS] = {
		[HOST_UP_CHANNEL] = fds->channel[0],	[HOST_UP_PIDFD] = fds->pidfd,
		[HOST_UP_SCOREBOARD] = fds->scoreboard, [HOST_UP_STDOUT] = fds->output[0],
		[HOST_UP_STDERR] = fds->errors[0],
	};

	send_to_server(master, &up, sizeof(up), handed, HOST_UP_FDS);
}

static int fork_host(struct master *master, const struct message_host_start *start,
		     struct child *child)
{
	struct host_fds fds;
	struct shared *shared = NULL;
	pid_t parent = getpid();
	int status = share_with_host(master, start, &shared);

	if (status == 0)
		status = host_fds_open(start->threads, &fds);
	if (status < 0)
		return status;
	pid_t pid = fork(); /* signals are blocked here for good: the signalfd takes them */
	if (pid == 0)
		host_main(master, &fds, start, shared, parent);
	if (pid < 0) {
		status = -errno;
		goto fail;
	}
	fds.pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fds.pidfd < 0) {
		status = -errno;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		goto fail;
	}
	fcntl(fds.pidfd, F_SETFD, FD_CLOEXEC);
	child->pid = pid;
	say_host_up(master, child, &fds);
fail:
	host_fds_close(&fds);
	return status;
}

static void start_host(struct master *master, const struct message_host_start *start)
{
	if (config_find_pool(master->loaded->config, start->pool) < 0) {
		say_host_failed(master, start, ESRCH);
		return;
	}
	struct child *child = calloc(1, sizeof(*child));
	if (!child) {
		say_host_failed(master, start, ENOMEM);
		return;
	}
	child->pool_index = start->pool_index;
	child->slot = start->slot;
	child->generation = start->generation;
	int status = fork_host(master, start, child);
	if (status < 0) {
		log_error("host_fork_failed", log_str("error", strerrordesc_np(-status)));
		say_host_failed(master, start, -status);
		free(child);
		return;
	}
	list_append(&master->children, &child->node);
}

/* --- the server ------------------------------------------------------------------------------- */

static void __attribute__((noreturn))
server_main(struct master *master, int channel, int ready_fd, pid_t parent)
{
	const int as_well[] = {SIGTERM, SIGPIPE};

	enter_child(master, parent);
	/* A terminal's Ctrl-C reaches the whole foreground group; only the master is to act on it.
	 */
	setpgid(0, 0);
	free_children(master);
	ignore_signals(for_master, sizeof(for_master) / sizeof(for_master[0]));
	ignore_signals(as_well, sizeof(as_well) / sizeof(as_well[0]));
	prctl(PR_SET_NAME, "server");
	log_set_process("server");
	unblock_signals();
	struct service_setup setup = {.flags = master->flags,
				      .channel = channel,
				      .ready_fd = ready_fd,
				      .listen_fd = master->supervisor->listen_fd,
				      .watchdog_ns = master->supervisor->watchdog_ns};
	int status = service_run(master->loaded, &setup);
	loaded_release(master->loaded);
	leave(status);
}

static int fork_server(struct master *master, int *ready_fd)
{
	int pair[2];
	pid_t parent = getpid();
	int status = channel_pair(pair);

	if (status < 0)
		return status;
	pid_t pid = fork();
	if (pid == 0) {
		close(pair[0]);
		server_main(master, pair[1], *ready_fd, parent);
	}
	status = pid < 0 ? -errno : 0;
	close(pair[1]);
	fd_close(ready_fd);
	supervisor_release(master->supervisor);
	if (status < 0) {
		close(pair[0]);
		return status;
	}
	master->server = pid;
	master->channel = pair[0];
	return 0;
}

/* --- reaping ---------------------------------------------------------------------------------- */

static void server_ended(struct master *master, int wait_status)
{
	bool orderly = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0;

	master->server = 0;
	master->server_status = orderly ? 0 : 1;
	fd_close(&master->channel);
	if (WIFSIGNALED(wait_status))
		log_error("server_died", log_int("signal", WTERMSIG(wait_status)));
	else if (!orderly)
		log_error("server_failed", log_int("exit_status", WEXITSTATUS(wait_status)));
}

/* Notes how a host ended; that is told once what it leaves behind has been ended. */
static void host_ended(struct master *master, struct child *child, int wait_status,
		       const struct rusage *usage)
{
	int64_t now_ns = clock_monotonic_ns();

	child->down = (struct message_host_down){.kind = MESSAGE_HOST_DOWN,
						 .pool_index = child->pool_index,
						 .slot = child->slot,
						 .pid = child->pid,
						 .generation = child->generation,
						 .wait_status = wait_status,
						 .usage = *usage};
	child->report_by_ns = now_ns + REPORT_NS;
	list_remove(&child->node);
	list_append(&master->fallen, &child->node);
	master->sweep_ns = now_ns;
	master->sweep_pause_ns = SWEEP_PAUSE_NS;
}

static struct child *find_child(struct master *master, pid_t pid)
{
	list_for_each (node, &master->children) {
		struct child *child = container_of(node, struct child, node);
		/* The analyzer does not see that list_remove() took the freed ones out. */
		if (child->pid == pid) // NOLINT(clang-analyzer-unix.Malloc)
			return child;
	}
	return NULL;
}

static bool is_inherited(const struct master *master, pid_t pid)
{
	for (size_t i = 0; i < master->inherited_count; i++)
		if (master->inherited[i] == pid)
			return true;
	return false;
}

/* Its pid can now become another's. */
static void inherited_ended(struct master *master, pid_t pid)
{
	for (size_t i = 0; i < master->inherited_count; i++)
		if (master->inherited[i] == pid)
			master->inherited[i] = 0;
}

/* The pid of a dead child, which stays a zombie for now; 0 if there is none. */
static pid_t next_dead(void)
{
	siginfo_t info = {0};

	if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0)
		return 0;
	return info.si_pid;
}

static void reap(struct master *master)
{
	struct rusage usage;
	int wait_status;

	for (pid_t pid; (pid = next_dead()) > 0;) {
		struct child *child = find_child(master, pid);
		if (child)
			kill(-pid, SIGKILL); /* at once, so none of them can fork meanwhile */
		if (wait4(pid, &wait_status, __WALL, &usage) != pid)
			continue;
		if (pid == master->server)
			server_ended(master, wait_status);
		else if (child)
			host_ended(master, child, wait_status, &usage);
		else if (pid == master->probe.pid)
			master->probe.pid = 0; /* what it had to say is in the pipe */
		else
			inherited_ended(master, pid); /* or it was an orphan */
	}
}

static void kill_hosts(struct master *master)
{
	list_for_each (node, &master->children) {
		struct child *child = container_of(node, struct child, node);

		kill(child->pid, SIGKILL); // NOLINT(clang-analyzer-unix.Malloc): as above
	}
}

/* --- orphans ---------------------------------------------------------------------------------- */

static bool is_known(pid_t pid, void *data)
{
	struct master *master = data;

	return pid == master->server || (master->probe.fd >= 0 && pid == master->probe.pid) ||
	       find_child(master, pid) || is_inherited(master, pid);
}

static bool is_host(pid_t pid, void *data)
{
	return find_child(data, pid) != NULL;
}

/* Tells of hosts that have ended: of all, or of those that cannot wait any longer. */
static void report_fallen(struct master *master, bool all)
{
	int64_t now_ns = clock_monotonic_ns();

	list_for_each_safe (node, &master->fallen) {
		struct child *child = container_of(node, struct child, node);
		if (!all && now_ns < child->report_by_ns)
			continue;
		send_to_server(master, &child->down, sizeof(child->down), NULL, 0);
		list_remove(node);
		free(child);
	}
}

/* When to go on with orphans that could not all be ended. */
static void sweep_later(struct master *master)
{
	int64_t pause_ns = master->sweep_pause_ns;

	if (!list_empty(&master->fallen) && pause_ns > SWEEP_PAUSE_UNREPORTED_NS)
		pause_ns = SWEEP_PAUSE_UNREPORTED_NS;
	else if (pause_ns < SWEEP_PAUSE_MAX_NS)
		master->sweep_pause_ns *= 2;
	master->sweep_ns = clock_monotonic_ns() + pause_ns;
}

/* Ends orphans, if there can be any: they come to us when a host dies, and with each of their own
 * deaths. Takes SWEEP_NS at the most, and a pass over /proc. */
static void sweep(struct master *master)
{
	int64_t now_ns = clock_monotonic_ns();

	if (master->sweep_ns == 0 || now_ns < master->sweep_ns)
		return;
	int ended = children_end(is_known, master, now_ns + SWEEP_NS);
	if (ended > 0)
		log_info("orphans_ended", log_int("count", ended));
	bool all = cgroup_end_dead(is_host, master) && ended >= 0;
	if (all)
		master->sweep_ns = 0;
	else
		sweep_later(master);
	report_fallen(master, all);
}

/* For poll(2): milliseconds until the next sweep, -1 if none is due. */
static int sweep_timeout_ms(const struct master *master)
{
	int64_t left_ns = master->sweep_ns - clock_monotonic_ns();

	if (master->sweep_ns == 0)
		return -1;
	return left_ns > 0 ? (int)(left_ns / NS_PER_MS) + 1 : 0;
}

/* All hosts have ended: so must what their jobs have left. */
static void end_orphans(struct master *master)
{
	if (!children_exist())
		return;
	int ended = children_end(is_known, master, clock_monotonic_ns() + ORPHANS_END_NS);
	if (ended > 0)
		log_info("orphans_ended", log_int("count", ended));
	else if (ended < 0)
		log_error("orphans_left", log_str("error", strerrordesc_np(-ended)));
}

/* --- the loop --------------------------------------------------------------------------------- */

/* --- reloading: the master reads, the server reads the same and consents, then both go by it ----
 * */

static void drop_pending(struct master *master)
{
	if (master->pending.config)
		loaded_release(&master->pending);
}

static void drop_trial(struct master *master)
{
	probe_release(&master->probe);
	if (master->tried.config)
		loaded_release(&master->tried);
}

static void say_refused(const struct error *error)
{
	log_error("reload_refused", log_str("field", error->field),
		  log_str("error", error->message));
}

static void tell_reloading(const struct master *master)
{
	if (master->serving)
		supervisor_tell(master->supervisor, "RELOADING=1\nMONOTONIC_USEC=%lld",
				(long long)(clock_monotonic_ns() / NS_PER_US));
}

/* However the reload has ended. */
static void tell_reloaded(const struct master *master, bool accepted)
{
	if (master->serving)
		supervisor_tell(master->supervisor, "READY=1\nSTATUS=%s",
				accepted ? "Serving by a configuration that was read again"
					 : "Serving by the old configuration: the new one was "
					   "refused, see the log");
}

/* Offers what is pending to the server, with what was found of the plug-ins. */
static void offer(struct master *master)
{
	const struct loaded *pending = &master->pending;
	struct message_reload message = {.kind = MESSAGE_RELOAD,
					 .digest = loaded_digest(pending),
					 .found_length = pending->found_length};
	int file = -1;

	if (pending->found_length > 0 &&
	    fd_sealed_file("plugins", pending->found, pending->found_length, &file) < 0) {
		log_error("reload_refused", log_str("error", "no memory file"));
		drop_pending(master);
		tell_reloaded(master, false);
		return;
	}
	send_to_server(master, &message, sizeof(message), &file, file >= 0);
	fd_close(&file);
}

/* found is taken. */
static void build_tried(struct master *master, char *found, size_t found_length)
{
	struct error error = {0};

	if (loaded_build(&master->tried, found, found_length, &error) < 0) {
		say_refused(&error);
		loaded_release(&master->tried);
		tell_reloaded(master, false);
		return;
	}
	loaded_log_plugins(&master->tried);
	drop_pending(master);
	master->pending = master->tried;
	master->tried = (struct loaded){0};
	offer(master);
}

static void ask_reload(struct master *master)
{
	struct error error = {0};

	if (master->probe.fd >= 0) {
		master->read_again = true; /* once this trial is over */
		return;
	}
	tell_reloading(master);
	if (loaded_read(master->flags, master->loaded, &master->tried, &error) < 0) {
		say_refused(&error);
		tell_reloaded(master, false);
		return;
	}
	if (master->tried.config->plugin_count == 0 ||
	    probe_start(master->tried.config, &master->probe) < 0)
		build_tried(master, NULL, 0);
}

/* The trial of the plug-ins has something to say. */
static void take_probe(struct master *master)
{
	size_t length = 0;
	int status = probe_read(&master->probe);

	if (status == 0)
		return;
	char *found = status == 1 ? buffer_take(&master->probe.text, &length) : NULL;
	probe_release(&master->probe);
	if (!master->read_again) {
		build_tried(master, found, length);
		return;
	}
	master->read_again = false; /* what was tried may not be what lies there now */
	free(found);
	loaded_release(&master->tried);
	ask_reload(master);
}

static void end_reload(struct master *master, const struct message_reload *message)
{
	if (!master->pending.config || message->digest != loaded_digest(&master->pending))
		return; /* of a reload that another has overtaken */
	bool accepted = message->accepted && share_memory(master, master->pending.config) == 0;
	if (accepted) {
		loaded_release(master->loaded);
		*master->loaded = master->pending;
		master->pending = (struct loaded){0};
		log_set_level(master->loaded->config->log_level);
	}
	drop_pending(master);
	tell_reloaded(master, accepted);
}

static void ask_shutdown(struct master *master, int signal_number)
{
	struct message_shutdown message = {.kind = MESSAGE_SHUTDOWN,
					   .count = (uint32_t)++master->shutdowns};

	log_info("shutdown_asked", log_str("signal", sigabbrev_np(signal_number)),
		 log_int("times", master->shutdowns));
	supervisor_tell(master->supervisor, "STOPPING=1\nSTATUS=Shutting down");
	send_to_server(master, &message, sizeof(message), NULL, 0);
}

static void take_signals(struct master *master)
{
	struct signalfd_siginfo info;

	while (read(master->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
			ask_shutdown(master, (int)info.ssi_signo);
		else if (info.ssi_signo == SIGHUP)
			ask_reload(master);
	reap(master);
	sweep(master);
}

static void say_serving(struct master *master, const struct message_serving *message)
{
	master->serving = true;
	supervisor_tell(master->supervisor, "READY=1\nSTATUS=Serving at %.*s",
			(int)sizeof(message->url), message->url);
}

static void take_message(struct master *master)
{
	union {
		struct message_host_start start;
		struct message_reload reload;
		struct message_serving serving;
	} message;
	size_t fd_count;
	ssize_t length =
		channel_receive(master->channel, &message, sizeof(message), NULL, 0, &fd_count, 1);

	if (length == 0 || length == -ECONNRESET)
		fd_close(&master->channel); /* the server is leaving; SIGCHLD follows */
	else if (length < 0)
		return;
	else if (message_kind(&message, (size_t)length) == MESSAGE_ALIVE)
		supervisor_tell(master->supervisor, "WATCHDOG=1");
	else if (message_kind(&message, (size_t)length) == MESSAGE_SERVING)
		say_serving(master, &message.serving);
	else if (message_kind(&message, (size_t)length) == MESSAGE_HOST_START)
		start_host(master, &message.start);
	else if (message_kind(&message, (size_t)length) == MESSAGE_RELOADED)
		end_reload(master, &message.reload);
}

/* Serves until the server has ended. */
static void serve(struct master *master)
{
	while (master->server) {
		struct pollfd fds[3] = {{.fd = master->signal_fd, .events = POLLIN},
					{.fd = master->channel, .events = POLLIN},
					{.fd = master->probe.fd, .events = POLLIN}};
		if (poll(fds, 3, sweep_timeout_ms(master)) < 0 && errno != EINTR) {
			log_error("poll_failed", log_str("error", strerrordesc_np(errno)));
			kill(master->server, SIGKILL);
		}
		if (fds[1].revents)
			take_message(master);
		if (fds[2].revents)
			take_probe(master);
		take_signals(master);
	}
}

/* The server has gone: idle hosts leave by themselves when their channels end; what is left is
 * killed. */
static void end_hosts(struct master *master)
{
	int64_t deadline_ns =
		clock_monotonic_ns() + (master->server_status == 0 ? HOSTS_END_NS : 0);

	for (;;) {
		reap(master);
		int64_t left_ns = deadline_ns - clock_monotonic_ns();
		if (list_empty(&master->children))
			return;
		if (left_ns <= 0)
			break;
		struct pollfd fd = {.fd = master->signal_fd, .events = POLLIN};
		poll(&fd, 1, (int)(left_ns / NS_PER_MS) + 1);
		take_signals(master);
	}
	kill_hosts(master);
	while (!list_empty(&master->children)) {
		struct pollfd fd = {.fd = master->signal_fd, .events = POLLIN};
		poll(&fd, 1, -1);
		take_signals(master);
	}
}

/* Children of a shell that has executed us, say: they are not ours to end. */
static int note_inherited(struct master *master)
{
	int count = children_exist() ? children_list(master->inherited, INHERITED_MAX) : 0;

	if (count < 0)
		return count;
	master->inherited_count = (size_t)count;
	return 0;
}

/* Says in the log what commands are to be held by. */
static int open_cgroup(const struct config *config)
{
	const struct cgroup_state *cgroup = cgroup_state();
	int status = cgroup_open(config->command_cgroup);

	if (status < 0)
		log_error("cgroup_unusable", log_str("field", "commands.cgroup"),
			  log_str("error", cgroup->reason));
	else if (cgroup->in_force)
		log_info("cgroup", log_str("path", cgroup->path));
	else
		log_debug("no_cgroup", log_str("reason", cgroup->reason));
	return status;
}

static int set_up(struct master *master)
{
	list_init(&master->children);
	list_init(&master->fallen);
	int status = note_inherited(master);
	if (status == 0)
		status = open_cgroup(master->loaded->config);
	if (status < 0)
		return status;
	sigemptyset(&master->signals);
	sigaddset(&master->signals, SIGCHLD);
	sigaddset(&master->signals, SIGTERM);
	sigaddset(&master->signals, SIGINT);
	sigaddset(&master->signals, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &master->signals, NULL) < 0)
		return -errno;
	master->signal_fd = signalfd(-1, &master->signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (master->signal_fd < 0)
		return -errno;
	/* Processes that a dead host leaves behind come to us rather than to the machine's init. */
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return -errno;
	return share_memory(master, master->loaded->config);
}

static void tear_down(struct master *master)
{
	cgroup_close();
	fd_close(&master->signal_fd);
	fd_close(&master->channel);
	free_children(master);
	for (size_t i = 0; i < master->memory_count; i++)
		shared_free(master->memories[i].shared);
	for (size_t i = 0; i < MESSAGE_LABS_MAX; i++)
		shared_free(master->labs[i].shared);
	drop_trial(master);
	drop_pending(master);
}

int master_run(struct loaded *loaded, const struct config_flags *flags,
	       struct supervisor *supervisor, int ready_fd)
{
	struct master master = {.loaded = loaded,
				.flags = flags,
				.supervisor = supervisor,
				.signal_fd = -1,
				.channel = -1,
				.server_status = 1,
				.probe.fd = -1};
	int status = set_up(&master);

	if (status == 0)
		status = fork_server(&master, &ready_fd);
	if (status < 0) {
		log_error("start_failed", log_str("error", strerrordesc_np(-status)));
		fd_close(&ready_fd);
	} else {
		serve(&master);
		end_hosts(&master);
		end_orphans(&master);
		log_info("stopped", log_int("exit_status", master.server_status));
	}
	tear_down(&master);
	return master.server_status;
}
