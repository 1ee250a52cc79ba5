/*
 * Invariants
 * 1. Everything about a job is said with its cell and its sequence number, so nothing can be taken
 * for another job's.
 * 2. A worker writes the scoreboard before the run ("started") and the DONE message after it;
 * between those two the job's fate is the host's.
 * 3. Nothing is freed, locked or written by the handler of a fatal signal but two words of the
 * scoreboard.
 * 4. Between two jobs, a host of one worker has no child.
 */
#include "host/host.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/children.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "host/heap.h"
#include "host/limit.h"
#include "host/meter.h"
#include "host/stop_signal.h"
#include "ipc/channel.h"
#include "ipc/message.h"
#include "ipc/scoreboard.h"
#include "task/context.h"

#define SIGNAL_STACK_BYTES 65536
#define CHILDREN_END_NS	   NS_PER_S /* to end what a job has left; it takes about a millisecond */

struct host {
	const struct host_setup *setup;
	struct scoreboard_map scoreboard;
	bool is_process;	    /* one worker, which is the main thread */
	int64_t thread_start_ns;    /* mean of what its threads took to be workers */
	pthread_barrier_t all_open; /* of several workers, and the main thread */
};

struct worker {
	struct host *host;
	uint32_t index;
	int32_t tid;
	uint64_t jobs_done;
	int64_t asked_ns;  /* of a thread: when it was asked for, */
	int64_t opened_ns; /* and when it could work */
	struct meter meter;
	bool kinds_open;    /* registry_open_worker() was done */
	void *signal_stack; /* NULL on the only worker of a host */
	char *buffer;	    /* MESSAGE_SIZE_MAX */
};

/* One job on its way through a worker. */
struct run {
	struct worker *worker;
	struct message_run message;
	json_t *args;
};

/* --- who took the host down ------------------------------------------------------------------- */

static const int fatal_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};

/* Which worker this thread is, for the handler; SCOREBOARD_NOBODY on other threads. */
static __thread uint32_t this_worker = SCOREBOARD_NOBODY;
static struct scoreboard_map *fallen_map;

static void record_fall(int signal_number)
{
	uint32_t nobody = SCOREBOARD_NOBODY;

	if (this_worker == SCOREBOARD_NOBODY)
		return;
	if (atomic_compare_exchange_strong(scoreboard_fallen_worker(fallen_map), &nobody,
					   this_worker))
		atomic_store(scoreboard_fallen_signal(fallen_map), signal_number);
}

/* SA_RESETHAND has put the default action back, so the signal that is raised here ends the process.
 */
static void on_fatal_signal(int signal_number)
{
	record_fall(signal_number);
	raise(signal_number);
}

static void on_exit_called(void)
{
	record_fall(0);
}

static int watch_for_falls(struct host *host)
{
	struct sigaction action = {.sa_handler = on_fatal_signal,
				   .sa_flags = (int)SA_RESETHAND | SA_ONSTACK | SA_NODEFER};

	fallen_map = &host->scoreboard;
	for (size_t i = 0; i < sizeof(fatal_signals) / sizeof(fatal_signals[0]); i++)
		if (sigaction(fatal_signals[i], &action, NULL) < 0)
			return -errno;
	return atexit(on_exit_called) == 0 ? 0 : -ENOMEM;
}

/* --- output ----------------------------------------------------------------------------------- */

/* On a worker that is a process, output goes where printf() goes, so that the two stay in order. */
static int write_to_descriptor(struct tp_context *ctx, enum tp_stream stream, const void *data,
			       size_t length)
{
	(void)ctx;
	if (fflush(stream == TP_STDOUT ? stdout : stderr) != 0)
		return -errno;
	return fd_write_all(stream == TP_STDOUT ? STDOUT_FILENO : STDERR_FILENO, data, length);
}

static int write_to_channel(struct tp_context *ctx, enum tp_stream stream, const void *data,
			    size_t length)
{
	const struct run *run = ctx->host_data;
	const char *bytes = data;

	while (length > 0) {
		size_t piece = length < MESSAGE_INLINE_MAX ? length : MESSAGE_INLINE_MAX;
		struct message_output message = {.kind = MESSAGE_OUTPUT,
						 .stream = (uint32_t)stream,
						 .seq = run->message.seq,
						 .cell = run->message.cell,
						 .length = (uint32_t)piece};
		struct iovec parts[2] = {{.iov_base = &message, .iov_len = sizeof(message)},
					 {.iov_len = piece}};
		memcpy(&parts[1].iov_base, &bytes, sizeof(bytes));
		int result = channel_send(run->worker->host->setup->channel, parts, 2, NULL, 0, 0);
		if (result < 0)
			return result;
		bytes += piece;
		length -= piece;
	}
	return 0;
}

/* Lines of the log go by the channel: on a host of one worker, stderr is the job's. */
static const struct host *log_host;

static void send_log(const struct tp_context *ctx, enum tp_log_level level, const char *text,
		     size_t length)
{
	struct message_log message = {
		.kind = MESSAGE_LOG, .level = (uint32_t)level, .cell = MESSAGE_LOG_NO_JOB};
	struct iovec parts[2] = {{.iov_base = &message, .iov_len = sizeof(message)}};

	if (ctx) {
		const struct run *run = ctx->host_data;
		message.seq = run->message.seq;
		message.cell = run->message.cell;
	}
	message.length = (uint32_t)(length < MESSAGE_ERROR_MAX ? length : MESSAGE_ERROR_MAX);
	memcpy(&parts[1].iov_base, &text, sizeof(text));
	parts[1].iov_len = message.length;
	channel_send(log_host->setup->channel, parts, 2, NULL, 0, 0);
}

/* Whether the server has still to read something of this job from our pipes. FIONREAD counts what
 * is in the pipe on either end (pipe(7)); what the server has read already, it has. */
static bool output_is_pending(void)
{
	int pending_out = 0;
	int pending_err = 0;

	fflush(stdout);
	fflush(stderr);
	ioctl(STDOUT_FILENO, FIONREAD, &pending_out);
	ioctl(STDERR_FILENO, FIONREAD, &pending_err);
	return pending_out > 0 || pending_err > 0;
}

/* --- progress -------------------------------------------------------------------------------- */

_Static_assert(TP_PROGRESS_MESSAGE_MAX == MESSAGE_PROGRESS_MAX,
	       "what a task says fits its message");

static int send_progress(struct tp_context *ctx, int64_t done, int64_t total, const char *text,
			 size_t length)
{
	const struct run *run = ctx->host_data;
	struct message_progress message = {.kind = MESSAGE_PROGRESS,
					   .cell = run->message.cell,
					   .seq = run->message.seq,
					   .done = done,
					   .total = total,
					   .length = length};
	struct iovec parts[2] = {{.iov_base = &message, .iov_len = sizeof(message)},
				 {.iov_len = length}};

	memcpy(&parts[1].iov_base, &text, sizeof(text));
	return channel_send(run->worker->host->setup->channel, parts, 2, NULL, 0, 0);
}

/* --- one job --------------------------------------------------------------------------------- */

static json_t *decode_args(const struct message_run *message, const char *inline_args, int fd)
{
	char *copy = NULL;
	struct error error;
	json_t *args = NULL;

	if (message->args_length == 0)
		return json_null();
	if (message->in_file) {
		if (fd_read_sealed(fd, message->args_length, &copy) < 0)
			return NULL;
		inline_args = copy;
	}
	if (json_parse(inline_args, message->args_length, &args, &error) < 0)
		args = NULL;
	free(copy);
	return args;
}

static int64_t cpu_clock_ns(bool is_process)
{
	struct timespec now = {0};

	clock_gettime(is_process ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void mark_started(const struct run *run)
{
	const struct worker *worker = run->worker;
	struct scoreboard_cell *cell =
		scoreboard_cell(&worker->host->scoreboard, run->message.cell);

	atomic_store_explicit(&cell->worker, worker->index, memory_order_relaxed);
	atomic_store_explicit(&cell->memory_seen, 0, memory_order_relaxed);
	if (run->message.has_cpu_limit)
		atomic_store_explicit(&cell->cpu_ns, cpu_clock_ns(worker->host->is_process),
				      memory_order_relaxed);
	atomic_store_explicit(&cell->started_ns, clock_monotonic_ns(), memory_order_relaxed);
	atomic_store_explicit(&cell->started, run->message.seq, memory_order_release);
}

static void context_init(struct tp_context *ctx, struct run *run)
{
	const struct host *host = run->worker->host;
	const struct host_setup *setup = host->setup;

	memset(ctx, 0, offsetof(struct tp_context, failure) + 1);
	ctx->task = &setup->registry->tasks[run->message.task_index];
	ctx->pool = setup->pool->name;
	ctx->attempt = run->message.attempt;
	ctx->deadline_ns = run->message.deadline_ns;
	ctx->is_process = host->is_process;
	ctx->shared = setup->shared;
	ctx->stop = &scoreboard_cell(&host->scoreboard, run->message.cell)->stop;
	ctx->write = host->is_process ? write_to_descriptor : write_to_channel;
	ctx->send_progress = send_progress;
	ctx->memory_limit = run->message.memory_limit;
	ctx->stop_grace_ns = setup->pool->stop_grace_ms * NS_PER_MS;
	ctx->result_limit = run->message.result_limit;
	ctx->memory_seen = &scoreboard_cell(&host->scoreboard, run->message.cell)->memory_seen;
	if (run->message.has_cpu_limit)
		ctx->cpu_start = &scoreboard_cell(&host->scoreboard, run->message.cell)->cpu_ns;
	ctx->host_data = run;
}

static enum done_outcome outcome_of(const struct tp_context *ctx, int answer)
{
	if (ctx->stopped)
		return DONE_STOPPED;
	return answer == 0 ? DONE_SUCCEEDED : DONE_FAILED;
}

/* Sends DONE with the result in the message or, if it is too long for that, in a sealed file. */
static int send_done(struct worker *worker, struct message_done *done, const char *result,
		     const char *failure)
{
	struct iovec parts[3] = {{.iov_base = done, .iov_len = sizeof(*done)}};
	size_t count = 1;
	int file = -1;

	if (done->result_length > MESSAGE_INLINE_MAX) {
		int status = fd_sealed_file("result", result, done->result_length, &file);
		if (status < 0)
			return status;
		done->in_file = 1;
	} else if (done->result_length > 0) {
		parts[count].iov_len = done->result_length;
		memcpy(&parts[count++].iov_base, &result, sizeof(result));
	}
	if (done->failure_length > 0) {
		parts[count].iov_len = done->failure_length;
		memcpy(&parts[count++].iov_base, &failure, sizeof(failure));
	}
	int status = channel_send(worker->host->setup->channel, parts, count, &file, file >= 0, 0);
	fd_close(&file);
	return status;
}

static const char general_failure[] = "the task failed without saying why";
static const char encode_failure[] = "the result could not be encoded as JSON";

/* Encodes what came of the run and sends it. 0 or -errno: then the host cannot go on. */
static int answer(struct run *run, struct tp_context *ctx, struct message_done *done)
{
	const char *failure = ctx->failure[0] ? ctx->failure : general_failure;
	char *result = NULL;
	size_t length = 0;

	if (done->outcome == DONE_SUCCEEDED && ctx->result) {
		result = json_encode(ctx->result, &length);
		if (!result) {
			done->outcome = DONE_FAILED;
			failure = encode_failure;
		}
	}
	done->result_length = length;
	if (length > run->message.result_limit) {
		done->outcome = DONE_RESULT_TOO_LARGE;
		/* The length says how large it was; the bytes stay here. */
		char seen[32];
		done->result_length = 0;
		done->failure_length = (uint32_t)snprintf(seen, sizeof(seen), "%zu", length);
		free(result);
		return send_done(run->worker, done, NULL, seen);
	}
	if (done->outcome == DONE_FAILED)
		done->failure_length = (uint32_t)strnlen(failure, MESSAGE_ERROR_MAX);
	int status = send_done(run->worker, done, result, failure);
	free(result);
	return status;
}

/* Ends what the job has started and left. Answers false if some of it still runs. */
static bool end_children(void)
{
	return !children_exist() ||
	       children_end(NULL, NULL, clock_monotonic_ns() + CHILDREN_END_NS) >= 0;
}

/*
 * What to do if that cannot be won. By now the job has been answered for: what came of it is true,
 * and a job that were called crashed for this might be tried again, with its fork bomb. But no job
 * may follow it here. A SIGKILL to the group takes the host and all of them in one instant, where
 * ending alone would leave them the time until the master acts; a job that was sent here meanwhile
 * has not begun and goes to another host. The master ends what has left the group.
 */
static void leave_with_children(void)
{
	log_error("children_left", log_str("action", "the host ends with them"));
	kill(0, SIGKILL);
}

/* What processes have used that worked for the job is the job's, too; and its memory is theirs. */
static void add_children(const struct context_children *children, struct metering *metering)
{
	if (!children->any)
		return;
	metering->cpu_user_ns += children->cpu_user_ns;
	metering->cpu_system_ns += children->cpu_system_ns;
	metering->minor_faults += children->minor_faults;
	metering->major_faults += children->major_faults;
	metering->voluntary_switches += children->voluntary_switches;
	metering->involuntary_switches += children->involuntary_switches;
	metering->scope = MEMORY_SCOPE_CHILDREN;
	metering->source = children->source;
	metering->baseline_bytes = 0;
	metering->peak_bytes = children->peak_bytes;
}

static int run_job(struct run *run)
{
	struct worker *worker = run->worker;
	const struct message_run *message = &run->message;
	_Atomic int64_t *memory_seen =
		&scoreboard_cell(&worker->host->scoreboard, message->cell)->memory_seen;
	struct limit limit;
	struct tp_context ctx;
	struct message_done done = {.kind = MESSAGE_DONE,
				    .seq = message->seq,
				    .cell = message->cell,
				    .worker = worker->index,
				    .tid = worker->tid,
				    .jobs_before = worker->jobs_done};

	context_init(&ctx, run);
	mark_started(run);
	if (worker->host->is_process)
		stop_signal_begin(ctx.stop);
	limit_begin(&limit, message->memory_limit,
		    worker->host->is_process ? worker->meter.statm_fd : -1, memory_seen);
	meter_begin(&worker->meter);
	int answered = ctx.task->definition->run(&ctx, run->args);
	meter_end(&worker->meter, &done.metering);
	limit_end(&limit, &done.metering);
	add_children(&ctx.children, &done.metering);
	bool alone = true;
	if (worker->host->is_process) {
		stop_signal_end();
		alone = end_children(); /* and with them what they would yet write */
	}

	done.outcome = (uint32_t)outcome_of(&ctx, answered);
	if (worker->host->is_process)
		done.output_pending = output_is_pending();
	worker->jobs_done++;
	atomic_store_explicit(&scoreboard_worker(&worker->host->scoreboard, worker->index)->jobs,
			      worker->jobs_done, memory_order_relaxed);
	int status = context_flush_progress(&ctx);
	if (status == 0)
		status = answer(run, &ctx, &done);
	if (!alone)
		leave_with_children();
	context_release(&ctx);
	meter_settle(&done.metering);
	return status;
}

/* Receives one job and runs it: 1 to go on, 0 at the end of the channel, -errno if the host must
 * end. */
static int serve_one(struct worker *worker)
{
	const struct host *host = worker->host;
	struct run run = {.worker = worker};
	int file = -1;
	size_t fd_count;
	ssize_t length = channel_receive(host->setup->channel, worker->buffer, MESSAGE_SIZE_MAX,
					 &file, 1, &fd_count, 0);

	if (length == 0 || length == -ECONNRESET)
		return 0;
	if (length < 0)
		return (int)length;
	if (message_kind(worker->buffer, (size_t)length) != MESSAGE_RUN ||
	    (size_t)length < sizeof(run.message))
		return -EPROTO;
	memcpy(&run.message, worker->buffer, sizeof(run.message));
	run.args = decode_args(&run.message, worker->buffer + sizeof(run.message), file);
	fd_close(&file);
	if (!run.args)
		return -ENOMEM;
	int status = run_job(&run);
	json_decref(run.args);
	return status < 0 ? status : 1;
}

/* --- the worker and the host ------------------------------------------------------------------ */

static int worker_open(struct worker *worker)
{
	worker->tid = (int32_t)syscall(SYS_gettid);
	worker->buffer = malloc(MESSAGE_SIZE_MAX);
	if (!worker->buffer)
		return -ENOMEM;
	meter_open(&worker->meter, worker->host->is_process);
	if (!worker->host->is_process) {
		/* A stack of its own for the handler: a stack overflow is told like any other
		 * crash. */
		worker->signal_stack = malloc(SIGNAL_STACK_BYTES);
		stack_t stack = {.ss_sp = worker->signal_stack, .ss_size = SIGNAL_STACK_BYTES};
		if (!worker->signal_stack || sigaltstack(&stack, NULL) < 0)
			return -ENOMEM;
		this_worker = worker->index;
	}
	atomic_store(&scoreboard_worker(&worker->host->scoreboard, worker->index)->tid,
		     worker->tid);
	int status = registry_open_worker();
	worker->kinds_open = status == 0;
	return status;
}

static void worker_close(struct worker *worker)
{
	stack_t none = {.ss_flags = SS_DISABLE};

	if (worker->kinds_open)
		registry_close_worker();
	this_worker = SCOREBOARD_NOBODY;
	if (worker->signal_stack)
		sigaltstack(&none, NULL);
	free(worker->signal_stack);
	free(worker->buffer);
	meter_close(&worker->meter);
}

static int say_ready(const struct host *host)
{
	struct message_ready ready = {.kind = MESSAGE_READY,
				      .workers = host->setup->pool->threads,
				      .thread_start_ns = host->thread_start_ns};
	struct iovec part = {.iov_base = &ready, .iov_len = sizeof(ready)};

	return channel_send(host->setup->channel, &part, 1, NULL, 0, 0);
}

/* The worker of a host that has only one says itself that the host is ready; several leave that to
 * the main thread, once all of them are. */
static int worker_begin(struct worker *worker)
{
	if (worker->host->is_process)
		return say_ready(worker->host);
	worker->opened_ns = clock_monotonic_ns();
	pthread_barrier_wait(&worker->host->all_open);
	return 0;
}

static int worker_run(struct worker *worker)
{
	int status = worker_open(worker);

	if (status == 0)
		status = worker_begin(worker);
	if (status == 0) {
		do
			status = serve_one(worker);
		while (status > 0);
	}
	if (status < 0 && status != -EPIPE)
		log_error("worker_failed", log_uint("worker", worker->index),
			  log_str("error", strerrordesc_np(-status)));
	worker_close(worker);
	return status < 0 ? 1 : 0;
}

/* A worker that cannot go on takes the host with it: a half-deaf host would strand jobs. */
static void *thread_main(void *data)
{
	if (worker_run(data) != 0)
		_exit(1);
	return NULL;
}

static int run_process(struct host *host)
{
	struct worker worker = {.host = host};

	if (stop_signal_open() < 0)
		return 1;
	/* Lines leave as they are complete, so that little is lost when a job is killed. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	return worker_run(&worker);
}

static int run_threads(struct host *host)
{
	uint32_t count = host->setup->pool->threads;
	struct worker *workers = calloc(count, sizeof(*workers));
	pthread_t *threads = calloc(count, sizeof(*threads));
	int status = !workers || !threads ? -ENOMEM : watch_for_falls(host);
	uint32_t started = 0;

	if (status == 0)
		status = -pthread_barrier_init(&host->all_open, NULL, count + 1);
	while (status == 0 && started < count) {
		workers[started] = (struct worker){
			.host = host, .index = started, .asked_ns = clock_monotonic_ns()};
		status = -pthread_create(&threads[started], NULL, thread_main, &workers[started]);
		if (status == 0)
			started++;
	}
	if (status == 0) {
		pthread_barrier_wait(&host->all_open); /* who they are stands in the scoreboard */
		for (uint32_t i = 0; i < count; i++)
			host->thread_start_ns +=
				(workers[i].opened_ns - workers[i].asked_ns) / count;
		status = say_ready(host);
	}
	if (status < 0) {
		log_error("host_start_failed", log_uint("threads", count),
			  log_str("error", strerrordesc_np(-status)));
		_exit(1); /* the threads that did start wait on the channel; they go with us */
	}
	for (uint32_t i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&host->all_open);
	free(threads);
	free(workers);
	return 0;
}

/* 0, or 1 if this host cannot serve what it should; that is said in the log. */
static int open_kinds(const struct host_setup *setup)
{
	struct error error = {0};

	if (registry_open_kinds(setup->registry, setup->config, &error) == 0)
		return 0;
	log_error("host_start_failed", log_str("field", error.field),
		  log_str("error", error.message));
	return 1;
}

int host_run(const struct host_setup *setup)
{
	uint32_t threads = setup->pool->threads;
	struct host host = {.setup = setup, .is_process = threads == 1};
	int status = scoreboard_open(setup->scoreboard_fd, threads, threads, &host.scoreboard);

	if (status == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		status = -errno;
	if (status < 0) {
		log_error("host_start_failed", log_str("error", strerrordesc_np(-status)));
		return 1;
	}
	heap_meter_init();
	heap_limit_init();
	log_host = &host;
	context_set_log(send_log);
	status = open_kinds(setup);
	if (status == 0) {
		status = host.is_process ? run_process(&host) : run_threads(&host);
		registry_close_kinds();
	}
	context_set_log(NULL);
	log_host = NULL;
	scoreboard_close(&host.scoreboard);
	return status;
}
