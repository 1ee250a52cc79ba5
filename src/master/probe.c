/*
 * Invariants
 * 1. The trial has none of the master's descriptors but the pipe that it answers through, and what
 * runs a plug-in does not have that either.
 * 2. A plug-in's process leads a group, which is killed before it is reaped, so that its number can
 * be nobody else's; what has left the group comes to the trial, a child subreaper, and is ended
 * there.
 * 3. Only the answer of a process that has left with status 0 counts, and only if it is well-formed.
 */
#include "master/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/children.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "task/plugin.h"

#define LEFTOVERS_NS NS_PER_S /* to end what a plug-in has started and left */
#define ANSWER_MAX   (PLUGIN_DESCRIPTION_MAX + 64)
#define ANSWER_FD    3 /* of both processes */

/* What a plug-in's process is about to do: said before it does so, a byte each, in front of the
 * answer. */
enum stage { STAGE_LOAD = 1, STAGE_OPEN, STAGE_OPEN_THREAD, STAGE_CLOSE_THREAD, STAGE_CLOSE };

static const char *const stage_texts[] = {
	[0] = "before it was loaded",
	[STAGE_LOAD] = "while it was loaded",
	[STAGE_OPEN] = "in its host_open()",
	[STAGE_OPEN_THREAD] = "in its thread_open()",
	[STAGE_CLOSE_THREAD] = "in its thread_close()",
	[STAGE_CLOSE] = "in its host_close()",
};

/* --- the process that runs a plug-in's code ----------------------------------------------------
 * */

static void say_stage(enum stage stage)
{
	const char byte = (char)stage;

	if (fd_write_all(ANSWER_FD, &byte, 1) < 0)
		_exit(1);
}

static int describe(struct plugin *plugin, json_t **ret_description, struct error *error)
{
	say_stage(STAGE_LOAD);
	int status = plugin_load(plugin, error);

	if (status < 0)
		return status;
	*ret_description = plugin_describe(plugin, error);
	return *ret_description ? 0 : -EINVAL;
}

static int set_up(const struct plugin *plugin, struct error *error)
{
	say_stage(STAGE_OPEN);
	int status = plugin_open_host(plugin, error);

	if (status < 0)
		return status;
	say_stage(STAGE_OPEN_THREAD);
	status = plugin_open_thread(plugin, error);
	if (status == 0) {
		say_stage(STAGE_CLOSE_THREAD);
		plugin_close_thread(plugin);
	}
	say_stage(STAGE_CLOSE);
	plugin_close_host(plugin);
	return status;
}

static void __attribute__((noreturn)) run_plugin(const struct config_plugin *config)
{
	struct error error = {0};
	struct plugin plugin;
	json_t *description = NULL;
	int status = plugin_init(config, &plugin, &error);

	if (status == 0)
		status = describe(&plugin, &description, &error);
	if (status == 0)
		status = set_up(&plugin, &error);
	json_t *answer = status == 0 ? json_pack("{s:o}", "plugin", description)
				     : json_pack("{s:s}", "problem", error.message);
	size_t length = 0;
	char *text = answer ? json_encode(answer, &length) : NULL;
	if (length > PLUGIN_DESCRIPTION_MAX) {
		static const char too_long[] =
			"{\"problem\":\"the description of its tasks is too long\"}";
		free(text);
		text = strdup(too_long);
		length = sizeof(too_long) - 1;
	}
	if (!text || fd_write_all(ANSWER_FD, text, length) < 0)
		_exit(1);
	_exit(0); /* nothing that the plug-in has registered is to run now */
}

/* Standard streams that lead nowhere, and the pipe. */
static void keep_only(int answer)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	answer = fcntl(answer, F_DUPFD_CLOEXEC, 64);
	if (null < 0 || answer < 0)
		_exit(1);
	for (int fd = 0; fd < ANSWER_FD; fd++)
		if (dup2(null, fd) < 0)
			_exit(1);
	if (dup3(answer, ANSWER_FD, O_CLOEXEC) < 0 || close_range(ANSWER_FD + 1, ~0U, 0) < 0)
		_exit(1);
}

/* Ends with the process that forked it, of which it keeps nothing but what it is to have. */
static void enter_child(pid_t parent, int answer)
{
	const struct sigaction standard = {.sa_handler = SIG_DFL};
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	setsid();
	for (int number = 1; number < NSIG; number++)
		sigaction(number, &standard, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	keep_only(answer);
}

static void __attribute__((noreturn))
plugin_main(const struct config_plugin *config, pid_t parent, int answer)
{
	const struct rlimit no_core = {0};

	enter_child(parent, answer);
	setrlimit(RLIMIT_CORE, &no_core);
	run_plugin(config);
}

/* --- the trial -------------------------------------------------------------------------------- */

/* One plug-in's process, seen from the trial. */
struct trial {
	pid_t pid;
	int pidfd;
	int pipe;
	struct buffer answer;
};

/* Takes what is in the pipe now; no more than an answer may have, so that nobody can fill us. */
static void take_answer(struct trial *trial)
{
	char bytes[4096];

	while (trial->pipe >= 0) {
		ssize_t length = read(trial->pipe, bytes, sizeof(bytes));
		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0 && errno == EAGAIN)
			return;
		if (length <= 0 || trial->answer.length > ANSWER_MAX)
			fd_close(&trial->pipe);
		else
			buffer_append(&trial->answer, bytes, (size_t)length);
	}
}

/* Waits until the process has ended; false if it has not in time. */
static bool wait_for_end(struct trial *trial)
{
	int64_t deadline_ns = clock_monotonic_ns() + PROBE_PLUGIN_MS * NS_PER_MS;

	for (;;) {
		int64_t left_ns = deadline_ns - clock_monotonic_ns();
		struct pollfd fds[2] = {{.fd = trial->pidfd, .events = POLLIN},
					{.fd = trial->pipe, .events = POLLIN}};
		if (left_ns <= 0)
			return false;
		if (poll(fds, 2, (int)(left_ns / NS_PER_MS) + 1) < 0 && errno != EINTR)
			return false;
		take_answer(trial);
		if (fds[0].revents)
			return true;
	}
}

static int start_plugin(const struct config_plugin *config, struct trial *ret_trial)
{
	struct trial trial = {.pid = -1, .pidfd = -1, .pipe = -1};
	pid_t parent = getpid();
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	trial.pid = fork();
	if (trial.pid == 0)
		plugin_main(config, parent, ends[1]);
	int status = trial.pid < 0 ? -errno : 0;
	close(ends[1]);
	trial.pipe = ends[0];
	if (status == 0)
		status = fd_set_nonblocking(trial.pipe);
	if (status == 0) {
		trial.pidfd = (int)syscall(SYS_pidfd_open, trial.pid, 0);
		status = trial.pidfd < 0 ? -errno : 0;
	}
	*ret_trial = trial;
	return status;
}

/* Kills and reaps the process with all that it has started: its status, as of waitpid(2). */
static int end_plugin(struct trial *trial)
{
	int wait_status = 0;

	if (trial->pid > 0) {
		kill(trial->pid, SIGKILL);  /* it may not have become the leader of a group yet */
		kill(-trial->pid, SIGKILL); /* and then there is none of that number */
		while (waitpid(trial->pid, &wait_status, 0) < 0 && errno == EINTR)
			;
	}
	if (children_exist())
		children_end(NULL, NULL, clock_monotonic_ns() + LEFTOVERS_NS);
	take_answer(trial);
	fd_close(&trial->pipe);
	fd_close(&trial->pidfd);
	return wait_status;
}

static const char *stage_text(const struct trial *trial, size_t *ret_stages)
{
	size_t stages = 0;
	unsigned char last = 0;

	while (stages < trial->answer.length && stages <= STAGE_CLOSE &&
	       (unsigned char)trial->answer.data[stages] <= STAGE_CLOSE)
		last = (unsigned char)trial->answer.data[stages++];
	*ret_stages = stages;
	return stage_texts[last];
}

/* Why it cannot be used, as a sentence. NULL if the answer can be believed. */
static const char *find_problem(const struct trial *trial, bool in_time, int wait_status,
				char *text, size_t size, size_t *ret_stages)
{
	const char *stage = stage_text(trial, ret_stages);

	if (!in_time)
		snprintf(text, size, "it did not come to an end within %d ms, %s", PROBE_PLUGIN_MS,
			 stage);
	else if (WIFSIGNALED(wait_status))
		snprintf(text, size, "it crashed %s (SIG%s)", stage,
			 sigabbrev_np(WTERMSIG(wait_status)) ? sigabbrev_np(WTERMSIG(wait_status))
							     : "?");
	else if (WEXITSTATUS(wait_status) != 0)
		snprintf(text, size, "it ended its process with the exit status %d, %s",
			 WEXITSTATUS(wait_status), stage);
	else if (!trial->answer.data || trial->answer.length > ANSWER_MAX ||
		 !json_is_wellformed(trial->answer.data + *ret_stages,
				     trial->answer.length - *ret_stages))
		snprintf(text, size, "its process left without an answer, %s", stage);
	else
		return NULL;
	return text;
}

static void write_problem(struct json_writer *writer, const char *problem)
{
	json_write_begin_object(writer, NULL);
	json_write_string(writer, "problem", problem);
	json_write_end_object(writer);
}

static void try_plugin(const struct config_plugin *config, struct json_writer *writer)
{
	struct trial trial;
	char text[256];
	size_t stages = 0;
	int status = start_plugin(config, &trial);
	bool in_time = status == 0 && wait_for_end(&trial);
	int wait_status = 0;

	/* A status that was there before our SIGKILL is the process's own: it is a zombie then. */
	wait_status = end_plugin(&trial);
	const char *problem = text;
	if (status < 0)
		snprintf(text, sizeof(text), "it could not be tried out: %s",
			 strerrordesc_np(-status));
	else
		problem = find_problem(&trial, in_time, wait_status, text, sizeof(text), &stages);
	if (problem)
		write_problem(writer, problem);
	else
		json_write_raw(writer, NULL, trial.answer.data + stages,
			       trial.answer.length - stages);
	buffer_release(&trial.answer);
}

static void __attribute__((noreturn))
trial_main(const struct config *config, pid_t parent, int answer)
{
	struct buffer body = {0};
	struct json_writer writer = {.buffer = &body};

	enter_child(parent, answer);
	prctl(PR_SET_NAME, "trial");
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		_exit(1);
	json_write_begin_array(&writer, NULL);
	for (size_t i = 0; i < config->plugin_count; i++)
		try_plugin(&config->plugins[i], &writer);
	json_write_end_array(&writer);
	if (buffer_failed(&body) || fd_write_all(ANSWER_FD, body.data, body.length) < 0)
		_exit(1);
	_exit(0);
}

/* --- the master ------------------------------------------------------------------------------- */

int probe_start(const struct config *config, struct probe *ret_probe)
{
	struct probe probe = {.fd = -1};
	pid_t parent = getpid();
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	probe.pid = fork();
	if (probe.pid == 0)
		trial_main(config, parent, ends[1]);
	int status = probe.pid < 0 ? -errno : 0;
	close(ends[1]);
	if (status < 0) {
		close(ends[0]);
		return status;
	}
	probe.fd = ends[0];
	*ret_probe = probe;
	return 0;
}

int probe_read(struct probe *probe)
{
	char bytes[16384];
	ssize_t length = read(probe->fd, bytes, sizeof(bytes));

	if (length < 0)
		return errno == EINTR ? 0 : -errno;
	if (length > 0) {
		buffer_append(&probe->text, bytes, (size_t)length);
		return 0;
	}
	fd_close(&probe->fd);
	return buffer_failed(&probe->text) ? -ENOMEM : 1;
}

void probe_release(struct probe *probe)
{
	if (probe->fd >= 0 && probe->pid > 0)
		kill(probe->pid, SIGKILL);
	fd_close(&probe->fd);
	buffer_release(&probe->text);
}

char *probe_run(const struct config *config, size_t *ret_length)
{
	struct probe probe = {.fd = -1};
	int status = 0;
	char *text = NULL;

	*ret_length = 0;
	if (config->plugin_count == 0 || probe_start(config, &probe) < 0)
		return NULL;
	while (status == 0)
		status = probe_read(&probe);
	if (status == 1)
		text = buffer_take(&probe.text, ret_length);
	pid_t pid = probe.pid;
	probe_release(&probe);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return text;
}
