/*
 * The kind, and one run.
 *
 * Invariants
 * 1. The program is not reaped before all else of the run has ended, and the scratch directory is not
 * looked at or removed before that.
 * 2. Whatever way a run ends, run() gives back all that the struct holds by finish().
 */
#include "task/command/command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "job/metering.h"
#include "task/command/cgroup.h"
#include "task/command/files.h"
#include "task/command/sandbox.h"
#include "task/command/scratch.h"
#include "task/command/system.h"
#include "task/command/tree.h"
#include "task/context.h"

#define LOOK_MS_MAX                                                                                \
	20 /* the longest time in which a request to stop may go unseen on a pool of threads */
#define CHUNK_BYTES 65536
#define DRAIN_CHUNKS                                                                               \
	16 /* read after the end: more than a pipe holds; an end even if somebody still writes */
#define STDERR_TAIL 400
#define CAPTURE_MAX (UINT64_C(64) << 20)
#define MIB	    (INT64_C(1) << 20)
#define PEAK_SLACK  (INT64_C(256) << 10) /* the kernel adds resident pages up in batches */
#define RUN_LIMITS  (COMMAND_LIMITS_MAX + 2)

struct run {
	struct tp_context *ctx;
	const struct command *command;
	const json_t *args;
	struct error error;

	struct scratch scratch;
	struct strings argv;
	struct strings environment;
	int standard[3]; /* what the program gets */
	int output[2];	 /* our ends of its stdout and stderr; -1 after their end */

	struct tree tree;
	int pidfd; /* -1 where there are none */
	int proc;  /* /proc/PID/status */
	int stat;  /* /proc/PID/stat; only if there is a CPU limit */
	int wait_status;

	struct buffer captured; /* of stdout, if it is to be the result */
	bool captured_too_much;
	char tail[STDERR_TAIL]; /* the end of stderr */
	size_t tail_length;

	bool asked;	    /* SIGTERM was sent */
	bool killed;	    /* SIGKILL was sent */
	int64_t kill_at_ns; /* if asked */
	bool service_gone;

	int64_t started_ns;
	int64_t sampled_ns;    /* when it was last seen */
	int64_t sampled_bytes; /* largest resident set seen while it ran */
	int64_t floor_bytes;   /* wait4() shows at least this, whatever the program held */
	int64_t memory_seen;   /* more than the limit; 0: it was kept */
	int64_t cpu_start_ns;
	int64_t looked_ns; /* when it was last looked at */
	bool was_killed;   /* by the kernel, for want of memory that was not the job's limit */
};

/* --- before ---------------------------------------------------------------------------------- */

static int fail_step(struct run *run, const char *step, int status)
{
	return tp_fail(run->ctx, "cannot %s: %s", step, strerror(-status));
}

static int fail_error(struct run *run)
{
	if (run->error.field[0] == '\0') {
		return tp_fail(run->ctx, "%s", run->error.message);
	}
	return tp_fail(run->ctx, "%s: %s", run->error.field, run->error.message);
}

static int make_sandbox(struct run *run)
{
	char path[PATH_MAX];

	if (!run->command->sandboxed) {
		return 0;
	}
	scratch_path(&run->scratch, path);
	return sandbox_arguments(system_capabilities()->bubblewrap, scratch_open_base(), path,
				 run->command->program, &run->argv);
}

/* Of a command in a sandbox, the first argument is the program for bwrap, which was given already.
 * */
static void drop_name(struct strings *argv, size_t at)
{
	free(argv->items[at]);
	memmove(&argv->items[at], &argv->items[at + 1],
		(argv->count - at) * sizeof(argv->items[0]));
	argv->count--;
}

static int make_argv(struct run *run)
{
	int status = make_sandbox(run);
	size_t own = run->argv.count;

	if (status < 0) {
		return fail_step(run, "make the arguments", status);
	}
	if (template_expand_argv(&run->command->argv, run->args, &run->argv, &run->error) != 0) {
		return fail_error(run);
	}
	if (run->command->sandboxed) {
		drop_name(&run->argv, own);
	}
	return 0;
}

static int add_variable(struct run *run, const char *name, const struct template *value)
{
	struct buffer entry = {0};

	buffer_append_text(&entry, name);
	buffer_append_char(&entry, '=');
	template_expand(value, run->args, &entry);
	buffer_append_char(&entry, '\0');
	return strings_take(&run->environment, buffer_take(&entry, NULL));
}

static int make_environment(struct run *run)
{
	const struct command *command = run->command;

	tree_mark(run->tree.mark);
	int status = strings_take(&run->environment, strdup(run->tree.mark));
	for (size_t i = 0; status == 0 && i < command->inherited.count; i++) {
		status = strings_take(&run->environment, strdup(command->inherited.items[i]));
	}
	for (size_t i = 0; status == 0 && i < command->set_count; i++) {
		status = add_variable(run, command->set_names[i], &command->set_values[i]);
	}
	return status == 0 ? 0 : fail_step(run, "make the environment", status);
}

/* What stdin has is a file of its own: it needs nobody to write it, and nobody's SIGPIPE. */
static int open_input(struct run *run)
{
	const struct command *command = run->command;
	struct buffer bytes = {0};
	int status = 0;

	if (!command->has_stdin) {
		run->standard[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		return run->standard[0] < 0 ? fail_step(run, "open /dev/null", -errno) : 0;
	}
	const json_t *value = command->stdin_base64 == NULL
				      ? NULL
				      : json_object_get(run->args, command->stdin_base64);
	if (command->stdin_base64 == NULL) {
		template_expand(&command->stdin_text, run->args, &bytes);
	} else if (json_is_string(value)) {
		status = files_decode(json_string_value(value), json_string_length(value), &bytes);
	}
	if (status == -EINVAL) {
		buffer_release(&bytes);
		return tp_fail(run->ctx, "args.%s: found no base64; expected it",
			       command->stdin_base64);
	}
	if (status == 0) {
		status = buffer_failed(&bytes)
				 ? -ENOMEM
				 : fd_sealed_file("stdin", bytes.data == NULL ? "" : bytes.data,
						  bytes.length, &run->standard[0]);
	}
	buffer_release(&bytes);
	if (status == 0 && lseek(run->standard[0], 0, SEEK_SET) < 0) {
		status = -errno;
	}
	return status == 0 ? 0 : fail_step(run, "make its stdin", status);
}

static int open_output(struct run *run)
{
	for (int i = 0; i < 2; i++) {
		int ends[2];
		if (pipe2(ends, O_CLOEXEC) < 0) {
			return fail_step(run, "make a pipe", -errno);
		}
		run->output[i] = ends[0];
		run->standard[1 + i] = ends[1];
		if (fd_set_nonblocking(ends[0]) < 0) {
			return fail_step(run, "make a pipe", -errno);
		}
	}
	return 0;
}

static int lay_scratch(struct run *run)
{
	const struct command *command = run->command;
	uid_t uid = command->changes_user ? command->uid : (uid_t)-1;
	gid_t gid = command->changes_user ? command->gid : (gid_t)-1;
	int status = scratch_make(uid, gid, &run->scratch);

	if (status < 0) {
		return fail_step(run, "make a scratch directory", status);
	}
	if (files_lay(command, run->args, run->scratch.directory, &run->error) != 0) {
		return fail_error(run);
	}
	return 0;
}

/* The cgroup keeps the limits of memory and of processes, where there is one. */
static int make_cgroup(struct run *run)
{
	const struct cgroup_limits limits = {.memory_bytes = run->ctx->memory_limit,
					     .processes = run->command->processes};

	if (!cgroup_state()->in_force) {
		return 0;
	}
	int status = cgroup_make(&limits, &run->tree.cgroup);
	return status == 0 ? 0 : fail_step(run, "make a cgroup", status);
}

static void add_limit(struct spawn_limit *limits, size_t *count, int resource, rlim_t value)
{
	limits[(*count)++] = (struct spawn_limit){.resource = resource, .value = value};
}

/* Room above the limit as the host's own has it: address space comes in larger pieces than what is
 * used of it, and what goes past the limit itself is to be seen, not refused. */
static size_t make_limits(const struct run *run, struct spawn_limit limits[static RUN_LIMITS])
{
	size_t count = run->command->limit_count;
	int64_t memory = run->ctx->memory_limit;
	bool has_cgroup = run->tree.cgroup.directory >= 0;

	memcpy(limits, run->command->limits, count * sizeof(limits[0]));
	if (memory > 0 && has_cgroup) {
		/* A host of one worker has such a limit for itself, which is not the command's. */
		add_limit(limits, &count, RLIMIT_DATA, RLIM_INFINITY);
	} else if (memory > 0 && memory < INT64_MAX / 2) {
		add_limit(limits, &count, RLIMIT_DATA, (rlim_t)(memory + memory / 4 + 64 * MIB));
	}
	if (run->command->processes > 0 && !(has_cgroup && cgroup_state()->has_pids)) {
		add_limit(limits, &count, RLIMIT_NPROC, (rlim_t)run->command->processes);
	}
	return count;
}

/* --- while it runs --------------------------------------------------------------------------- */

static int open_proc(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static int start(struct run *run)
{
	struct spawn_limit limits[RUN_LIMITS];
	const struct command *command = run->command;
	const struct spawn spawn = {
		.program =
			command->sandboxed ? system_capabilities()->bubblewrap : command->program,
		.argv = run->argv.items,
		.environment = run->environment.items,
		.standard = {run->standard[0], run->standard[1], run->standard[2]},
		.directory = run->scratch.directory,
		.cgroup = run->tree.cgroup.directory >= 0 ? run->tree.cgroup.directory : 0,
		.limits = limits,
		.limit_count = make_limits(run, limits),
		.changes_user = command->changes_user,
		.uid = command->uid,
		.gid = command->gid,
	};
	const char *step = "";
	struct rusage own;
	int status = spawn_start(&spawn, &run->tree.pid, &step);

	if (status < 0) {
		return tp_fail(run->ctx, "cannot %s %s: %s", step, command->program,
			       strerror(-status));
	}
	getrusage(RUSAGE_SELF, &own);
	run->started_ns = clock_monotonic_ns();
	run->floor_bytes = own.ru_maxrss * 1024 + PEAK_SLACK;
	run->pidfd = (int)syscall(SYS_pidfd_open, run->tree.pid, 0);
	bool has_cgroup = run->tree.cgroup.directory >= 0;
	if (!has_cgroup || !cgroup_state()->has_peak) {
		run->proc = open_proc(run->tree.pid, "status");
	}
	if (run->ctx->cpu_start != NULL) {
		run->cpu_start_ns = atomic_load(run->ctx->cpu_start);
		run->stat = has_cgroup ? -1 : open_proc(run->tree.pid, "stat");
	}
	for (int i = 0; i < 3; i++) {
		fd_close(&run->standard[i]);
	}
	return 0;
}

static size_t pread_text(int fd, char *text, size_t size)
{
	ssize_t length = fd < 0 ? -1 : pread(fd, text, size - 1, 0);

	text[length > 0 ? length : 0] = '\0';
	return length > 0 ? (size_t)length : 0;
}

static void count_cpu(const struct run *run, int64_t used_ns)
{
	if (run->ctx->cpu_start != NULL) {
		atomic_store(run->ctx->cpu_start, run->cpu_start_ns - used_ns);
	}
}

/* CPU time of the program and of what it has waited for: fields 14 to 17 of its stat (proc(5)), in
 * ticks. A cgroup knows that of all. */
static void look_at_cpu(const struct run *run)
{
	char text[1024];
	long long ticks[4];

	if (run->tree.cgroup.directory >= 0 && run->ctx->cpu_start != NULL) {
		int64_t used_ns = cgroup_cpu_ns(&run->tree.cgroup);
		if (used_ns >= 0) {
			count_cpu(run, used_ns);
		}
		return;
	}
	if (run->stat < 0 || pread_text(run->stat, text, sizeof(text)) == 0) {
		return;
	}
	const char *at = strrchr(text, ')');
	if (at == NULL ||
	    sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lld %lld %lld %lld",
		   &ticks[0], &ticks[1], &ticks[2], &ticks[3]) != 4) {
		return;
	}
	count_cpu(run,
		  (ticks[0] + ticks[1] + ticks[2] + ticks[3]) * (NS_PER_S / sysconf(_SC_CLK_TCK)));
}

/* The resident set of the program at its highest so far. */
static void look_at_memory(struct run *run)
{
	char text[4096];

	if (pread_text(run->proc, text, sizeof(text)) == 0) {
		return;
	}
	const char *at = strstr(text, "\nVmHWM:");
	int64_t bytes = at == NULL ? 0 : strtoll(at + 7, NULL, 10) * 1024;
	if (bytes > 0) {
		run->sampled_ns = run->looked_ns;
	}
	if (bytes > run->sampled_bytes) {
		run->sampled_bytes = bytes;
	}
	/* A cgroup keeps the limit itself, and counts otherwise: not what others have touched. */
	if (run->tree.cgroup.directory < 0 && run->ctx->memory_limit > 0 &&
	    bytes > run->ctx->memory_limit) {
		run->memory_seen = bytes;
	}
}

/* Looks at what it holds and uses, unless that was just done. */
static void look(struct run *run)
{
	int64_t now_ns = clock_monotonic_ns();

	if (now_ns - run->looked_ns < NS_PER_MS) {
		return;
	}
	run->looked_ns = now_ns;
	look_at_memory(run);
	look_at_cpu(run);
}

static void keep_tail(struct run *run, const char *data, size_t length)
{
	if (length >= sizeof(run->tail)) {
		memcpy(run->tail, data + length - sizeof(run->tail), sizeof(run->tail));
		run->tail_length = sizeof(run->tail);
		return;
	}
	size_t keep = sizeof(run->tail) - length;
	if (run->tail_length > keep) {
		memmove(run->tail, run->tail + run->tail_length - keep, keep);
		run->tail_length = keep;
	}
	memcpy(run->tail + run->tail_length, data, length);
	run->tail_length += length;
}

static void capture(struct run *run, const char *data, size_t length)
{
	uint64_t limit = run->ctx->result_limit;

	if (limit == 0 || limit > CAPTURE_MAX) {
		limit = CAPTURE_MAX;
	}
	if (run->captured.length + length > limit) {
		run->captured_too_much = true;
	} else {
		buffer_append(&run->captured, data, length);
	}
}

/* Passes a piece of output on: false at the end for now. */
static bool pass_on(struct run *run, int which)
{
	char chunk[CHUNK_BYTES];
	ssize_t length =
		run->output[which] < 0 ? -1 : read(run->output[which], chunk, sizeof(chunk));

	if (length == 0) {
		fd_close(&run->output[which]);
	}
	if (length <= 0) {
		return false;
	}
	if (which == 1) {
		keep_tail(run, chunk, (size_t)length);
	} else if (run->command->result != COMMAND_RESULT_STATUS) {
		capture(run, chunk, (size_t)length);
	}
	if (tp_write(run->ctx, which == 0 ? TP_STDOUT : TP_STDERR, chunk, (size_t)length) < 0) {
		run->service_gone = true;
	}
	return true;
}

static void ask(struct run *run)
{
	int64_t grace_ns = run->command->stop_grace_ns;

	/* The host is ended after the pool's grace, with all its jobs: the kill comes well before.
	 * */
	if (run->ctx->stop_grace_ns > 0 && grace_ns > run->ctx->stop_grace_ns / 2) {
		grace_ns = run->ctx->stop_grace_ns / 2;
	}
	run->asked = true;
	run->kill_at_ns = clock_monotonic_ns() + grace_ns;
	tree_signal(&run->tree, SIGTERM);
	tree_signal(&run->tree, SIGCONT); /* who is stopped hears nothing */
}

static void see_to_stop(struct run *run)
{
	if (!run->asked && tp_should_stop(run->ctx)) {
		ask(run);
	}
	if (!run->killed && (run->memory_seen > 0 || run->service_gone ||
			     (run->asked && clock_monotonic_ns() >= run->kill_at_ns))) {
		run->killed = true;
		tree_kill(&run->tree);
	}
}

static bool has_ended(const struct run *run)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)run->tree.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == run->tree.pid;
}

/* Passes its output on and sees to it until the program has ended. On a pool of processes, a
 * request to stop interrupts the wait. */
static void watch(struct run *run)
{
	int pause_ms = 1;

	for (;;) {
		struct pollfd waited[3] = {{.fd = run->output[0], .events = POLLIN},
					   {.fd = run->output[1], .events = POLLIN},
					   {.fd = run->pidfd, .events = POLLIN}};
		see_to_stop(run);
		int ready = poll(waited, 3, pause_ms);
		for (int i = 0; i < 2; i++) {
			if (waited[i].revents != 0) {
				pass_on(run, i);
			}
		}
		if ((run->pidfd < 0 || waited[2].revents != 0) && has_ended(run)) {
			return;
		}
		look(run);
		if (ready <= 0) {
			pause_ms = pause_ms * 2 < LOOK_MS_MAX ? pause_ms * 2 : LOOK_MS_MAX;
		}
	}
}

/* --- after ----------------------------------------------------------------------------------- */

/* Whether what was seen can stand for the whole: a program that was seen only as it began was not.
 * */
static bool was_seen_enough(const struct run *run)
{
	int64_t lived_ns = clock_monotonic_ns() - run->started_ns;

	return run->sampled_bytes > 0 && run->sampled_ns - run->started_ns >= lived_ns / 2;
}

/* What the cgroup knows better: memory and CPU time of all that were in it, and who killed. Where the
 * peak is not kept, the limit was at least reached by who fell over it. */
static void ask_cgroup(struct run *run, struct context_children *children)
{
	struct cgroup_usage usage;

	cgroup_read_usage(&run->tree.cgroup, &usage);
	if (usage.peak_bytes >= 0) {
		children->peak_bytes = usage.peak_bytes;
		children->source = MEMORY_SOURCE_CGROUP_MEMORY_PEAK;
	}
	if (usage.cpu_user_ns >= 0) {
		children->cpu_user_ns = usage.cpu_user_ns;
		children->cpu_system_ns = usage.cpu_system_ns;
	}
	if (usage.was_limited && run->ctx->memory_limit > 0) {
		run->memory_seen = usage.peak_bytes > 0 ? usage.peak_bytes : run->ctx->memory_limit;
	}
	run->was_killed = usage.was_killed;
}

static void tell_usage(struct run *run, const struct tree_usage *usage)
{
	struct context_children *children = &run->ctx->children;

	*children = (struct context_children){
		.any = true,
		.cpu_user_ns = usage->cpu_user_ns,
		.cpu_system_ns = usage->cpu_system_ns,
		.minor_faults = usage->minor_faults,
		.major_faults = usage->major_faults,
		.voluntary_switches = usage->voluntary_switches,
		.involuntary_switches = usage->involuntary_switches,
		.peak_bytes = METERING_UNKNOWN,
		.source = MEMORY_SOURCE_NONE,
	};
	if (usage->peak_bytes > run->floor_bytes) {
		children->peak_bytes = usage->peak_bytes;
		children->source = MEMORY_SOURCE_WAIT4;
	} else if (was_seen_enough(run)) {
		children->peak_bytes = run->sampled_bytes;
		children->source = MEMORY_SOURCE_SAMPLED;
	}
	if (run->tree.cgroup.directory >= 0) {
		ask_cgroup(run, children);
	} else if (run->ctx->memory_limit > 0 && children->peak_bytes > run->ctx->memory_limit) {
		run->memory_seen = children->peak_bytes;
	}
	count_cpu(run, children->cpu_user_ns + children->cpu_system_ns);
	if (run->memory_seen > 0 && run->ctx->memory_seen != NULL) {
		atomic_store(run->ctx->memory_seen, run->memory_seen);
	}
}

/* Ends all that is left of the run. */
static void end_all(struct run *run)
{
	struct tree_usage usage;
	bool all;

	run->wait_status = tree_end(&run->tree, &usage, &all);
	if (!all) {
		log_error("command_left_processes",
			  log_str("task", run->ctx->task->definition->name));
	}
	for (int which = 0; which < 2; which++) {
		for (int i = 0; i < DRAIN_CHUNKS && pass_on(run, which); i++) {
		}
	}
	tell_usage(run, &usage);
}

/* The last line of stderr that says something, without its end. */
static void last_line(const struct run *run, char ret_line[static STDERR_TAIL + 1])
{
	size_t end = run->tail_length;

	while (end > 0 && strchr(" \t\r\n", run->tail[end - 1]) != NULL) {
		end--;
	}
	size_t start = end;
	while (start > 0 && run->tail[start - 1] != '\n') {
		start--;
	}
	/* A line that began before what was kept may begin within a character. */
	while (start < end && ((unsigned char)run->tail[start] & 0xC0) == 0x80) {
		start++;
	}
	size_t length = end - start;
	for (size_t i = 0; i < length; i++) {
		char c = run->tail[start + i];
		ret_line[i] = c == '\0' ? ' ' : c;
	}
	ret_line[length] = '\0';
}

static int fail_status(struct run *run)
{
	char line[STDERR_TAIL + 1];
	char what[64];

	last_line(run, line);
	if (run->was_killed) {
		return tp_fail(run->ctx, "the kernel killed the command for want of memory, though "
					 "not by a limit of this job");
	}
	if (WIFSIGNALED(run->wait_status)) {
		const char *name = sigabbrev_np(WTERMSIG(run->wait_status));
		snprintf(what, sizeof(what), "ended by the signal %s%s", name == NULL ? "" : "SIG",
			 name == NULL ? "of a number" : name);
	} else {
		snprintf(what, sizeof(what), "exit status %d", WEXITSTATUS(run->wait_status));
	}
	return tp_fail(run->ctx, "%s%s%s", what, line[0] == '\0' ? "" : ": ", line);
}

/* Milliseconds with three decimals. */
static double to_ms(int64_t ns)
{
	int64_t us = ns / NS_PER_US;

	return (double)us / 1000.0;
}

static json_t *usage_document(const struct context_children *children)
{
	json_t *peak = children->peak_bytes == METERING_UNKNOWN
			       ? json_null()
			       : json_integer(children->peak_bytes);

	return json_pack("{s:f,s:f,s:o}", "cpu_user_ms", to_ms(children->cpu_user_ns),
			 "cpu_system_ms", to_ms(children->cpu_system_ns), "peak_bytes", peak);
}

static int set_status(struct run *run)
{
	json_t *files = NULL;

	if (files_take(run->command, run->args, run->scratch.directory, &files, &run->error) != 0) {
		return fail_error(run);
	}
	json_t *result = json_pack("{s:i,s:o}", "exit_status", WEXITSTATUS(run->wait_status),
				   "usage", usage_document(&run->ctx->children));
	if (result == NULL ||
	    (run->command->file_out_count > 0 && json_object_set(result, "files", files) < 0)) {
		json_decref(result);
		result = NULL;
	}
	json_decref(files);
	return result == NULL ? fail_step(run, "make the result", -ENOMEM)
			      : tp_set_result(run->ctx, result);
}

static int set_captured(struct run *run)
{
	const char *data = run->captured.data == NULL ? "" : run->captured.data;
	json_t *result = NULL;

	if (run->captured_too_much || buffer_failed(&run->captured)) {
		return tp_fail(run->ctx,
			       "stdout, which is the result, has more bytes than a result "
			       "may have");
	}
	if (run->command->result == COMMAND_RESULT_TEXT) {
		result = json_stringn(data, run->captured.length);
		if (result == NULL) {
			return tp_fail(run->ctx, "stdout, which is the result, is no UTF-8");
		}
	} else if (json_parse(data, run->captured.length, &result, &run->error) < 0) {
		return tp_fail(run->ctx, "stdout, which is the result, is no JSON: %s",
			       run->error.message);
	}
	return tp_set_result(run->ctx, result);
}

static int answer(struct run *run)
{
	bool succeeded = WIFEXITED(run->wait_status) &&
			 run->command->succeeds[WEXITSTATUS(run->wait_status)];

	if (run->service_gone) {
		return tp_fail(run->ctx, "the service is gone");
	}
	if (run->memory_seen > 0) {
		return tp_fail(run->ctx, "the command held more memory than the job may");
	}
	if (run->asked && !succeeded) {
		return tp_stopped(run->ctx);
	}
	if (!succeeded) {
		return fail_status(run);
	}
	return run->command->result == COMMAND_RESULT_STATUS ? set_status(run) : set_captured(run);
}

static void finish(struct run *run)
{
	int status = cgroup_remove(&run->tree.cgroup);

	if (status < 0) {
		log_error("cgroup_left", log_str("name", run->tree.cgroup.name),
			  log_str("error", strerrordesc_np(-status)));
	}
	status = scratch_remove(&run->scratch);
	if (status < 0) {
		log_error("scratch_left", log_str("name", run->scratch.name),
			  log_str("error", strerrordesc_np(-status)));
	}
	for (int i = 0; i < 3; i++) {
		fd_close(&run->standard[i]);
	}
	fd_close(&run->output[0]);
	fd_close(&run->output[1]);
	fd_close(&run->pidfd);
	fd_close(&run->proc);
	fd_close(&run->stat);
	strings_release(&run->argv);
	strings_release(&run->environment);
	buffer_release(&run->captured);
}

static int prepare(struct run *run)
{
	int (*const steps[])(struct run *) = {lay_scratch, make_argv,	make_environment,
					      open_input,  open_output, make_cgroup,
					      start};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		int status = steps[i](run);
		if (status != 0) {
			return status;
		}
	}
	return 0;
}

static int run_command(struct tp_context *ctx, const json_t *args)
{
	struct run run = {.ctx = ctx,
			  .command = ctx->task->data,
			  .args = args,
			  .scratch = {.directory = -1},
			  .standard = {-1, -1, -1},
			  .output = {-1, -1},
			  .tree = {.alone = ctx->is_process, .cgroup.directory = -1},
			  .pidfd = -1,
			  .proc = -1,
			  .stat = -1};
	int status = prepare(&run);

	if (status == 0) {
		watch(&run);
		end_all(&run);
		status = answer(&run);
	}
	finish(&run);
	return status;
}

/* --- the kind -------------------------------------------------------------------------------- */

static int build(const struct config *config, const struct config_task *settings, struct task *task,
		 struct error *error)
{
	struct command *command = NULL;
	int status = command_read(settings, &command, error);

	(void)config;
	if (status != 0) {
		return status;
	}
	task->data = command;
	task->declared->run = run_command;
	task->declared->flags = TP_TASK_THREAD_SAFE;
	return 0;
}

static void release(struct task *task)
{
	command_free(task->data);
	task->data = NULL;
}

static bool has_commands(const struct registry *registry)
{
	for (size_t i = 0; i < registry->count; i++) {
		if (registry->tasks[i].methods == &command_kind) {
			return true;
		}
	}
	return false;
}

static int open_kind(const struct registry *registry, const struct config *config,
		     struct error *error)
{
	char path[PATH_MAX];

	if (!has_commands(registry)) {
		return 0;
	}
	if (config->data_dir != NULL) {
		mkdir(config->data_dir, 0711); /* may be there */
	}
	scratch_base(config->data_dir, path);
	int status = scratch_open(path, config->data_dir != NULL);
	if (status < 0) {
		(void)error_set(
			error, ERROR_INTERNAL, "data_dir",
			"the directory %.200s for scratch directories of commands cannot be "
			"used: %s",
			path,
			status == -EPERM ? "it belongs to somebody else, or others may write "
					   "to it"
					 : strerror(-status));
	}
	return status;
}

const struct task_kind command_kind = {
	.name = "command",
	.build = build,
	.release = release,
	.open = open_kind,
	.close = scratch_close,
};
