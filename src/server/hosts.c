/*
 * Worker processes as the server sees them: started by the master at our word, fed over a channel,
 * read with suspicion, buried when the master says so.
 *
 * What a host does to a job is final only when a DONE message of that job was read, or when
 * HOST_DOWN has come and all that the host had sent before was read first.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/proc.h"
#include "ipc/channel.h"
#include "server/state.h"

#define MESSAGES_A_ROUND 32    /* read from one host before others get their turn */
#define PIPE_READ_BYTES	 65536 /* at once */
#define PIPE_DRAIN_BYTES                                                                           \
	(1 << 20) /* at a job's end: more than a pipe holds (pipe(7): 65536 by default) */
#define STRAY_LOG_BYTES 4096		   /* of output that belongs to no job, logged for a host */
#define LOG_LINES_MAX	300		   /* of its tasks, between two ends of jobs */
#define CPU_NS_MAX	(INT64_C(1) << 60) /* 36 years: beyond it, a host has scribbled */
#define MASTER_RETRY_NS (10 * NS_PER_MS)
#define LOST_STARTS_MAX                                                                            \
	5 /* hosts that a job may lose before it has begun: its arguments may be what kills them */

static void channel_is_ready(struct loop_source *source, uint32_t events);

/* --- making and freeing ----------------------------------------------------------------------- */

static void slot_backoff_over(struct loop_timer *timer)
{
	slot_start(container_of(timer, struct slot, backoff));
}

void slot_init(struct pool *pool, struct slot *slot, uint32_t index)
{
	*slot = (struct slot){.pool = pool, .index = index};
	loop_timer_init(&slot->backoff, slot_backoff_over);
}

static void draining_is_over(struct loop_timer *timer)
{
	host_kill(container_of(timer, struct host, kill));
}

static struct host *host_new(struct slot *slot)
{
	struct host *host = calloc(1, sizeof(*host));
	uint32_t cells = slot->pool->config->threads;

	if (!host)
		return NULL;
	list_init(&host->node);
	list_init(&host->idle);
	loop_timer_init(&host->kill, draining_is_over);
	host->pool = slot->pool;
	host->slot_index = slot->index;
	host->generation = slot->generation;
	host->epoch = slot->pool->server->epoch;
	host->born_ns = clock_monotonic_ns();
	host->jobs_limit = recycle_limit(&slot->pool->config->recycle);
	host->pidfd = host->channel.fd = host->output.fd = host->errors.fd = -1;
	host->cells = calloc(cells, sizeof(struct job *));
	host->free_cells = calloc(cells, sizeof(uint32_t));
	if (!host->cells || !host->free_cells) {
		host_free(host);
		return NULL;
	}
	while (host->free_count < cells) {
		host->free_cells[host->free_count] = cells - 1 - host->free_count;
		host->free_count++;
	}
	return host;
}

/* Removes a source and closes its descriptor. */
static void close_source(struct loop *loop, struct loop_source *source)
{
	int fd = source->fd;

	loop_remove(loop, source);
	fd_close(&fd);
}

void host_free(struct host *host)
{
	struct loop *loop = host->pool->server->loop;

	list_remove(&host->node);
	list_remove(&host->idle);
	loop_timer_cancel(loop, &host->kill);
	close_source(loop, &host->channel);
	close_source(loop, &host->output);
	close_source(loop, &host->errors);
	fd_close(&host->pidfd);
	scoreboard_close(&host->scoreboard);
	free(host->cells);
	free(host->free_cells);
	free(host);
}

void slot_start(struct slot *slot)
{
	struct pool *pool = slot->pool;
	struct message_host_start start = {.kind = MESSAGE_HOST_START,
					   .pool_index = pool->index,
					   .slot = slot->index,
					   .threads = pool->config->threads,
					   .enables = MESSAGE_NO_TASK};

	if (pool->server->shutdowns || slot->host || slot->index >= pool->wanted)
		return;
	snprintf(start.pool, sizeof(start.pool), "%s", pool->name);
	slot->generation++;
	start.generation = slot->generation;
	if (pool->lab)
		lab_fill_start(pool->lab, &start);
	slot->host = host_new(slot);
	if (slot->host && server_tell_master(pool->server, &start, sizeof(start)) == 0)
		return;
	if (slot->host) {
		host_free(slot->host);
		slot->host = NULL;
	}
	loop_timer_set(pool->server->loop, &slot->backoff, clock_monotonic_ns() + MASTER_RETRY_NS);
}

static struct host *find_host(struct server *server, uint32_t pool_index, uint32_t slot_index,
			      uint64_t generation)
{
	struct pool *pool = &server->pools[pool_index];
	struct host *host = pool->slots[slot_index].host;

	if (host && host->generation == generation)
		return host;
	list_for_each (node, &pool->draining) {
		host = container_of(node, struct host, node);
		if (host->slot_index == slot_index && host->generation == generation)
			return host;
	}
	return NULL;
}

/* --- ending a host ---------------------------------------------------------------------------- */

void host_kill(struct host *host)
{
	host->killed = true;
	/* By pidfd, so it can hit nobody else, however late. Without one yet, host_is_up() will do
	 * it. */
	if (host->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, host->pidfd, SIGKILL, NULL, 0);
}

void host_signal_stop(const struct host *host)
{
	/* On a host of several workers it would reach the neighbours' processes as well. */
	if (host->pidfd >= 0 && host->pool->config->threads == 1)
		syscall(SYS_pidfd_send_signal, host->pidfd, MESSAGE_STOP_SIGNAL, NULL, 0);
}

/* Jobs of the host that may yet end by themselves: all but those whose grace is over. */
static uint32_t healthy_jobs(const struct host *host)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < host->pool->config->threads; i++) {
		const struct job *job = host->cells[i];
		count += job && (job->state == JOB_RUNNING || heap_contains(&job->deadline));
	}
	return count;
}

/* Takes the host out of its slot, where a fresh one is started at once if one is wanted. */
static void leave_slot(struct host *host)
{
	struct slot *slot = &host->pool->slots[host->slot_index];

	host->draining = true;
	list_remove(&host->idle);
	list_append(&host->pool->draining, &host->node);
	slot->host = NULL;
	slot_start(slot);
}

/* What does not end by then is killed. */
static void drain_by_deadline(struct host *host)
{
	int64_t at_ns = clock_monotonic_ns() + host->pool->config->quarantine_ms * NS_PER_MS;

	if (!heap_contains(&host->kill.node))
		loop_timer_set(host->pool->server->loop, &host->kill, at_ns);
}

/* A draining host that has no job left leaves by itself when its channel ends; one that is left
 * with nothing but jobs that ignore their grace is killed. */
static void drain_further(struct host *host)
{
	if (!host->draining || host->killed)
		return;
	if (host->free_count == host->pool->config->threads) {
		close_source(host->pool->server->loop, &host->channel);
		drain_by_deadline(host);
	} else if (host->has_culprit && healthy_jobs(host) == 0)
		host_kill(host);
}

void host_condemn(struct host *host, const struct job *job)
{
	const struct server *server = host->pool->server;

	if (host->killed)
		return;
	if (!host->has_culprit)
		host->culprit = job->by_id.id;
	host->has_culprit = true;
	if (healthy_jobs(host) == 0 || server->shutdown_forced) {
		host_kill(host);
		return;
	}
	if (!host->draining)
		leave_slot(host);
	drain_by_deadline(host);
}

void host_retire(struct host *host, enum restart_reason reason)
{
	if (host->draining || host->killed)
		return;
	host->retired = true;
	host->reason = reason;
	leave_slot(host);
	if (host->ready)
		drain_further(host);
	else
		drain_by_deadline(host); /* it is told when it is up: see take_ready() */
}

void hosts_kill_busy(struct server *server)
{
	for (uint32_t i = 0; i < server->pool_count; i++) {
		struct pool *pool = &server->pools[i];
		for (uint32_t slot = 0; slot < pool->wanted; slot++) {
			struct host *host = pool->slots[slot].host;
			if (host && host->free_count < pool->config->threads)
				host_kill(host);
		}
		list_for_each (node, &pool->draining)
			host_kill(container_of(node, struct host, node));
	}
}

/* --- output ----------------------------------------------------------------------------------- */

/* Output that no job can be given for: of a host with several workers, or after the job's end. */
static void stray_output(struct host *host, const char *bytes, size_t length)
{
	char text[1024];

	if (host->stray_bytes < STRAY_LOG_BYTES) {
		snprintf(text, sizeof(text), "%.*s", (int)(length < 1000 ? length : 1000), bytes);
		log_info("host_output", log_str("pool", host->pool->name),
			 log_int("pid", host->pid), log_str("text", text));
	}
	host->stray_bytes += length;
}

static void keep_output(struct host *host, struct job *job, bool is_stdout, const char *bytes,
			size_t length)
{
	struct output *output = is_stdout ? &job->stdout_output : &job->stderr_output;

	watch_output(host->pool->server, job, output, bytes, length);
	if (job->stop_on_output && output->total_bytes > output->capacity)
		job_stop(host->pool->server, job, STOP_OUTPUT);
}

static void take_output(struct host *host, bool is_stdout, const char *bytes, size_t length)
{
	struct job *job = host->pool->config->threads == 1 ? host->cells[0] : NULL;

	if (job)
		keep_output(host, job, is_stdout, bytes, length);
	else
		stray_output(host, bytes, length);
}

/* Reads at most `most` bytes of what is there. */
static void read_pipe(struct host *host, struct loop_source *source, bool is_stdout, size_t most)
{
	static char bytes[PIPE_READ_BYTES]; /* event loop only */

	while (source->fd >= 0 && most > 0) {
		size_t wanted = most < sizeof(bytes) ? most : sizeof(bytes);
		ssize_t length = read(source->fd, bytes, wanted);
		if (length > 0) {
			take_output(host, is_stdout, bytes, (size_t)length);
			most -= (size_t)length;
		} else if (length == 0 || (errno != EAGAIN && errno != EINTR)) {
			close_source(host->pool->server->loop, source);
		} else if (errno == EAGAIN) {
			return;
		}
	}
}

static void output_is_ready(struct loop_source *source, uint32_t events)
{
	(void)events;
	read_pipe(container_of(source, struct host, output), source, true, PIPE_READ_BYTES);
}

static void errors_are_ready(struct loop_source *source, uint32_t events)
{
	(void)events;
	read_pipe(container_of(source, struct host, errors), source, false, PIPE_READ_BYTES);
}

static void drain_pipes(struct host *host)
{
	read_pipe(host, &host->output, true, PIPE_DRAIN_BYTES);
	read_pipe(host, &host->errors, false, PIPE_DRAIN_BYTES);
}

/* --- what a host says ------------------------------------------------------------------------- */

/* It sent something that none of ours sends: it cannot be believed any more. */
static void host_is_mad(struct host *host, const char *what)
{
	log_warning("host_sent_nonsense", log_str("pool", host->pool->name),
		    log_int("pid", host->pid), log_str("message", what));
	host->closed = true;
	list_remove(&host->idle);
	close_source(host->pool->server->loop, &host->channel);
	host_kill(host);
}

void host_release_cell(struct host *host, struct job *job)
{
	host->cells[job->cell] = NULL;
	host->free_cells[host->free_count++] = job->cell;
	host->pool->running--;
	job->host = NULL;
	caps_leave(&host->pool->server->caps, job);
}

bool host_has_begun(const struct host *host, const struct job *job)
{
	if (!host->scoreboard.memory)
		return false;
	return atomic_load_explicit(&scoreboard_cell(&host->scoreboard, job->cell)->started,
				    memory_order_acquire) == job->seq;
}

int64_t host_memory_seen(const struct host *host, const struct job *job)
{
	if (job->memory_bytes == 0 || !host->scoreboard.memory)
		return 0;
	int64_t seen = atomic_load(&scoreboard_cell(&host->scoreboard, job->cell)->memory_seen);
	return seen > 0 ? seen : 0;
}

static int64_t process_cpu_ns(pid_t pid)
{
	struct timespec time;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) < 0)
		return METERING_UNKNOWN;
	return time.tv_sec * NS_PER_S + time.tv_nsec;
}

int64_t host_cpu_ns(const struct host *host, const struct job *job)
{
	if (!host_has_begun(host, job))
		return 0;
	const struct scoreboard_cell *cell = scoreboard_cell(&host->scoreboard, job->cell);
	uint32_t worker = atomic_load(&cell->worker);
	int64_t now_ns;
	if (host->pool->config->threads == 1)
		now_ns = process_cpu_ns(host->pid);
	else if (worker < host->scoreboard.workers)
		now_ns = proc_thread_cpu_ns(
			host->pid, atomic_load(&scoreboard_worker(&host->scoreboard, worker)->tid));
	else
		return METERING_UNKNOWN;
	int64_t before_ns = atomic_load(&cell->cpu_ns);
	/* A worker lowers it by what its job's processes have used, even below 0. */
	if (now_ns == METERING_UNKNOWN || before_ns > now_ns || before_ns < -CPU_NS_MAX)
		return METERING_UNKNOWN;
	return now_ns - before_ns;
}

static void take_worker(struct job *job, const struct host *host, const struct message_done *done)
{
	job->metering = done->metering;
	job->worker = (struct job_worker){.pid = host->pid,
					  .tid = done->tid,
					  .host = host->slot_index,
					  .thread = done->worker,
					  .generation = host->generation,
					  .jobs_before = done->jobs_before};
}

/* Takes the result, from the message or its file: 0, or -errno if it is not what it should be. */
static int take_result(const struct host *host, struct job *job, const struct message_done *done,
		       const char *bytes, int file)
{
	char *copy = NULL;

	if (done->result_length == 0)
		return 0;
	if (done->result_length > host->pool->config->result_bytes)
		return -EPROTO; /* the host keeps to the limit, if it is sane */
	if (!done->in_file) {
		copy = malloc(done->result_length);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, bytes, done->result_length);
	} else {
		int status = fd_read_sealed(file, done->result_length, &copy);
		if (status < 0)
			return status;
		if (!json_is_wellformed(copy, done->result_length)) {
			free(copy);
			return -EPROTO;
		}
	}
	job->result = copy;
	job->result_length = done->result_length;
	return 0;
}

static void end_failed(struct server *server, struct job *job, const char *failure, size_t length)
{
	job_set_error(job, CAUSE_TASK_ERROR, "%.*s", (int)length, failure);
	job_end(server, job, JOB_EVENT_FAIL);
}

static void end_too_large(struct server *server, struct job *job, const char *failure,
			  size_t length)
{
	char seen[32];

	snprintf(seen, sizeof(seen), "%.*s", (int)length, failure);
	job->error.limit_bytes = (int64_t)server->pools[job->pool_index].config->result_bytes;
	job->error.seen_bytes = strtoll(seen, NULL, 10);
	job_set_error(job, CAUSE_OUTPUT_LIMIT,
		      "the result has %lld bytes; the pool keeps at most %lld",
		      (long long)job->error.seen_bytes, (long long)job->error.limit_bytes);
	job_end(server, job, JOB_EVENT_FAIL);
}

static bool wrote_too_much(const struct job *job)
{
	return job->stop_on_output &&
	       (job->stdout_output.total_bytes > job->stdout_output.capacity ||
		job->stderr_output.total_bytes > job->stderr_output.capacity);
}

/* What the job held too much of, if it did: the worker's allocator had to refuse it memory, and it
 * failed; or it went past the limit by other ways, and whatever it answers then, it has broken its
 * limit. 0 if it did not. */
static int64_t memory_passed(const struct job *job, enum done_outcome outcome,
			     int64_t refused_bytes)
{
	int64_t passed_bytes = job->memory_bytes > 0
				       ? metering_memory_passed(&job->metering, job->memory_bytes)
				       : 0;

	if (passed_bytes > 0)
		return passed_bytes;
	return outcome == DONE_FAILED ? refused_bytes : 0;
}

static void end_unasked(struct server *server, struct job *job, const struct message_done *done,
			const char *failure)
{
	switch ((enum done_outcome)done->outcome) {
	case DONE_SUCCEEDED:
		job_end(server, job, JOB_EVENT_SUCCEED);
		break;
	case DONE_FAILED:
		end_failed(server, job, failure, done->failure_length);
		break;
	case DONE_STOPPED:
		job_set_error(job, CAUSE_TASK_ERROR,
			      "the task stopped, though nobody had asked it to");
		job_end(server, job, JOB_EVENT_FAIL);
		break;
	case DONE_RESULT_TOO_LARGE:
		end_too_large(server, job, failure, done->failure_length);
		break;
	}
}

/* Ends the job as its worker reports. A job that was cancelled and succeeded all the same has
 * succeeded; one that broke a limit has broken it, whatever it answers. */
static void end_as_reported(struct server *server, struct job *job, const struct message_done *done,
			    const char *failure, int64_t refused_bytes)
{
	enum done_outcome outcome = (enum done_outcome)done->outcome;
	bool cancelled = job->stop_reason == STOP_CANCELLED || job->stop_reason == STOP_SHUTDOWN;
	int64_t passed_bytes = memory_passed(job, outcome, refused_bytes);

	if (job->state == JOB_RUNNING && wrote_too_much(job))
		job->stop_reason = STOP_OUTPUT;
	if (job->stop_reason != STOP_NONE && !(cancelled && outcome == DONE_SUCCEEDED))
		job_end_stopped(server, job);
	else if (passed_bytes > 0)
		job_end_memory(server, job, passed_bytes);
	else
		end_unasked(server, job, done, failure);
}

static void take_done(struct host *host, size_t length, int file, size_t fd_count)
{
	struct server *server = host->pool->server;
	struct message_done done;
	const char *result;
	const char *failure;
	uint32_t threads = host->pool->config->threads;

	if (!message_read_done(server->buffer, length, threads, threads, fd_count, &done, &result,
			       &failure)) {
		host_is_mad(host, "DONE");
		return;
	}
	struct job *job = host->cells[done.cell];
	if (!job || job->seq != done.seq || done.metering.started_ns < job->dispatched_ns) {
		host_is_mad(host, "DONE of another job");
		return;
	}
	int status =
		done.outcome == DONE_SUCCEEDED ? take_result(host, job, &done, result, file) : 0;
	if (status == -EPROTO) {
		host_is_mad(host, "result");
		return;
	}
	if (done.output_pending)
		drain_pipes(host);
	take_worker(job, host, &done);
	host->begun = true;
	host->log_lines = 0;
	host->jobs_done++;
	host->idle_since_ns = done.metering.ended_ns;
	host->pool->slots[host->slot_index].failures = 0;
	int64_t refused_bytes = host_memory_seen(host, job);
	host_release_cell(host, job);
	if (status < 0) {
		static const char lost[] =
			"the result could not be taken over: memory or descriptors are short";
		end_failed(server, job, lost, sizeof(lost) - 1);
	} else {
		end_as_reported(server, job, &done, failure, refused_bytes);
	}
	enum restart_reason reason;
	if (!host->draining &&
	    host_is_worn(host, done.metering.host_rss_bytes, done.metering.ended_ns, &reason))
		host_retire(host, reason);
	dispatch_host_is_free(host);
	drain_further(host);
}

static void take_host_output(struct host *host, size_t length)
{
	const char *bytes;
	struct message_output output;

	if (!message_read_output(host->pool->server->buffer, length, host->pool->config->threads,
				 &output, &bytes)) {
		host_is_mad(host, "OUTPUT");
		return;
	}
	struct job *job = host->cells[output.cell];
	if (job && job->seq == output.seq)
		keep_output(host, job, output.stream == 1, bytes, output.length);
}

static void take_progress(struct host *host, size_t length)
{
	struct server *server = host->pool->server;
	const char *text;
	struct message_progress progress;

	if (!message_read_progress(server->buffer, length, host->pool->config->threads, &progress,
				   &text)) {
		host_is_mad(host, "PROGRESS");
		return;
	}
	struct job *job = host->cells[progress.cell];
	if (!job || job->seq != progress.seq)
		return;
	job_set_progress(job, progress.done, progress.total, text, progress.length);
	watch_changed(server, job);
}

/* A line for the log, from a task or a plug-in. So many at the most until the next job ends. */
static void take_log(struct host *host, size_t length)
{
	struct message_log line;
	const char *bytes;
	char text[MESSAGE_ERROR_MAX + 1];
	char id[ID_TEXT_SIZE];

	if (!message_read_log(host->pool->server->buffer, length, host->pool->config->threads,
			      &line, &bytes)) {
		host_is_mad(host, "LOG");
		return;
	}
	if (host->log_lines++ >= LOG_LINES_MAX)
		return;
	snprintf(text, sizeof(text), "%.*s", (int)line.length, bytes);
	const struct job *job = line.cell == MESSAGE_LOG_NO_JOB ? NULL : host->cells[line.cell];
	if (job && job->seq != line.seq)
		job = NULL;
	log_event((enum log_level)line.level, "task_log", log_str("pool", host->pool->name),
		  log_int("pid", host->pid), log_str("task", job ? job->task : NULL),
		  log_str("job", job ? id_format(&job->by_id.id, id) : NULL),
		  log_str("text", text));
}

static void take_ready(struct host *host, size_t length)
{
	struct message_ready ready;

	if (host->ready || !message_read_ready(host->pool->server->buffer, length,
					       host->pool->config->threads, &ready)) {
		host_is_mad(host, "READY");
		return;
	}
	host->ready = true;
	host->ready_ns = clock_monotonic_ns();
	host->thread_start_ns = ready.thread_start_ns;
	if (host->draining) { /* it was retired before it was up */
		drain_further(host);
		return;
	}
	log_info("host_ready", log_str("pool", host->pool->name),
		 log_str("of", host->pool->lab ? "lab" : NULL), log_uint("host", host->slot_index),
		 log_int("pid", host->pid), log_uint("generation", host->generation));
	dispatch_host_is_free(host);
	server_changed(host->pool->server);
}

/* Reads one message: true if there may be another. */
static bool take_message(struct host *host)
{
	struct server *server = host->pool->server;
	int file = -1;
	size_t fd_count = 0;
	ssize_t length = channel_receive(host->channel.fd, server->buffer, MESSAGE_SIZE_MAX, &file,
					 1, &fd_count, 1);

	if (length == -EAGAIN)
		return false;
	if (length == -EMSGSIZE) {
		host_is_mad(host, "too long");
		return false;
	}
	if (length <= 0) { /* the end; the master will say how it came */
		/* If it has not ended, but has closed its channel or become another program, it is
		 * of no more use. What has ended by itself is past being killed, and keeps its own
		 * status. */
		if (host->pidfd >= 0)
			syscall(SYS_pidfd_send_signal, host->pidfd, SIGKILL, NULL, 0);
		host->closed = true;
		list_remove(&host->idle);
		close_source(server->loop, &host->channel);
		return false;
	}
	switch (message_kind(server->buffer, (size_t)length)) {
	case MESSAGE_DONE:
		take_done(host, (size_t)length, file, fd_count);
		break;
	case MESSAGE_OUTPUT:
		take_host_output(host, (size_t)length);
		break;
	case MESSAGE_PROGRESS:
		take_progress(host, (size_t)length);
		break;
	case MESSAGE_LOG:
		take_log(host, (size_t)length);
		break;
	case MESSAGE_READY:
		take_ready(host, (size_t)length);
		break;
	default:
		host_is_mad(host, "unknown kind");
		break;
	}
	fd_close(&file);
	return host->channel.fd >= 0;
}

static void channel_is_ready(struct loop_source *source, uint32_t events)
{
	struct host *host = container_of(source, struct host, channel);
	struct pool *pool = host->pool;

	if ((events & EPOLLOUT) && host->blocked) {
		host->blocked = false;
		loop_change(pool->server->loop, source, EPOLLIN);
		dispatch_host_is_free(host);
	}
	for (int i = 0; i < MESSAGES_A_ROUND && take_message(host); i++)
		;
	dispatch(pool);
	dispatch_due(pool->server);
}

/* --- birth ------------------------------------------------------------------------------------ */

static int adopt(struct host *host, int fds[static HOST_UP_FDS])
{
	struct loop *loop = host->pool->server->loop;
	uint32_t threads = host->pool->config->threads;
	int status = scoreboard_open(fds[HOST_UP_SCOREBOARD], threads, threads, &host->scoreboard);

	if (status == 0)
		status = loop_add(loop, &host->channel, fds[HOST_UP_CHANNEL], EPOLLIN,
				  channel_is_ready);
	if (status < 0)
		return status;
	fds[HOST_UP_CHANNEL] = -1;
	status = loop_add(loop, &host->output, fds[HOST_UP_STDOUT], EPOLLIN, output_is_ready);
	if (status < 0)
		return status;
	fds[HOST_UP_STDOUT] = -1;
	status = loop_add(loop, &host->errors, fds[HOST_UP_STDERR], EPOLLIN, errors_are_ready);
	if (status == 0)
		fds[HOST_UP_STDERR] = -1;
	return status;
}

static bool names_a_slot(const struct server *server, uint32_t pool_index, uint32_t slot)
{
	return pool_index < SERVER_POOLS_MAX && server->pools[pool_index].slots &&
	       slot < CONFIG_HOSTS_MAX;
}

void host_is_up(struct server *server, const struct message_host_up *message,
		int fds[static HOST_UP_FDS])
{
	struct host *host = NULL;

	if (names_a_slot(server, message->pool_index, message->slot))
		host = find_host(server, message->pool_index, message->slot, message->generation);
	if (host) {
		host->pid = message->pid;
		host->pidfd = fds[HOST_UP_PIDFD];
		fds[HOST_UP_PIDFD] = -1;
		int status = adopt(host, fds);
		if (status < 0)
			log_error("host_not_adopted", log_str("error", strerrordesc_np(-status)));
		if (status < 0 || host->killed)
			host_kill(host);
	}
	for (int i = 0; i < HOST_UP_FDS; i++)
		fd_close(&fds[i]);
}

/* --- death ------------------------------------------------------------------------------------ */

/* The job that took the host down, if the scoreboard or the circumstances tell; NULL otherwise. */
static struct job *find_culprit(const struct host *host)
{
	uint32_t fallen = SCOREBOARD_NOBODY;

	if (host->pool->config->threads == 1)
		return host->cells[0];
	if (host->scoreboard.memory)
		fallen = atomic_load(scoreboard_fallen_worker(&host->scoreboard));
	for (uint32_t i = 0; fallen != SCOREBOARD_NOBODY && i < host->pool->config->threads; i++) {
		struct job *job = host->cells[i];
		if (job && host_has_begun(host, job) &&
		    atomic_load(&scoreboard_cell(&host->scoreboard, i)->worker) == fallen)
			return job;
	}
	return NULL;
}

/* "SIGSEGV" or "exit status 3". */
static const char *death_text(int wait_status, char *text, size_t size)
{
	if (WIFSIGNALED(wait_status)) {
		const char *name = sigabbrev_np(WTERMSIG(wait_status));
		if (name)
			snprintf(text, size, "SIG%s", name);
		else
			snprintf(text, size, "signal %d", WTERMSIG(wait_status));
	} else {
		snprintf(text, size, "exit status %d", WEXITSTATUS(wait_status));
	}
	return text;
}

static void blame(struct job *job, int wait_status)
{
	char death[32];

	death_text(wait_status, death, sizeof(death));
	if (WIFSIGNALED(wait_status)) {
		job_set_error(job, CAUSE_SIGNAL, "the job's worker was ended by %s", death);
		job->error.signal = WTERMSIG(wait_status);
	} else {
		job_set_error(job, CAUSE_EXIT_STATUS, "the job ended its worker: %s", death);
		job->error.exit_status = WEXITSTATUS(wait_status);
	}
}

static void mourn(struct job *job, const struct id *culprit, int wait_status)
{
	char death[32];
	char id[ID_TEXT_SIZE];

	death_text(wait_status, death, sizeof(death));
	if (culprit) {
		job_set_error(job, CAUSE_HOST_LOST,
			      "the host was lost (%s) through job %s, which ran beside this one",
			      death, id_format(culprit, id));
		job->error.has_culprit = true;
		job->error.culprit = *culprit;
	} else {
		job_set_error(job, CAUSE_HOST_LOST,
			      "the host was lost (%s); no job is known to be the cause", death);
	}
	if (WIFSIGNALED(wait_status))
		job->error.signal = WTERMSIG(wait_status);
	else
		job->error.exit_status = WEXITSTATUS(wait_status);
}

/* What becomes of one job of a dead host. */
static void bury_job(struct host *host, struct job *job, const struct job *guilty,
		     const struct id *culprit, int wait_status)
{
	struct server *server = host->pool->server;
	bool begun = host_has_begun(host, job);
	int64_t refused_bytes = host_memory_seen(host, job);

	job_refresh(server, job);
	if (begun)
		job->metering.ended_ns = clock_monotonic_ns();
	host_release_cell(host, job);
	if (job->state == JOB_STOPPING && (host->killed || !begun)) {
		job_end_stopped(server, job);
		return;
	}
	if (!begun && ++job->lost_starts < LOST_STARTS_MAX) {
		dispatch_put_back(server, job);
		return;
	}
	if (job == guilty && refused_bytes > 0) {
		/* It did not bear being refused memory. That is the limit's doing; how it fell is
		 * not the news. */
		job_end_memory(server, job, refused_bytes);
		return;
	}
	if (job == guilty)
		blame(job, wait_status);
	else
		mourn(job, culprit, wait_status);
	job_end(server, job, JOB_EVENT_CRASH);
}

static void bury_jobs(struct host *host, int wait_status)
{
	struct job *guilty = host->killed && host->has_culprit ? NULL : find_culprit(host);
	const struct id *culprit = NULL;
	struct id culprit_id;

	if (guilty)
		culprit_id = guilty->by_id.id;
	else
		culprit_id = host->culprit;
	if (guilty || host->has_culprit)
		culprit = &culprit_id;
	for (uint32_t i = 0; i < host->pool->config->threads; i++)
		if (host->cells[i])
			bury_job(host, host->cells[i], guilty, culprit, wait_status);
}

static enum restart_reason reason_of(const struct host *host,
				     const struct message_host_down *message)
{
	if (message->start_errno)
		return RESTART_START_FAILED;
	if (host->has_culprit || host->killed)
		return RESTART_STOPPED;
	if (host->retired)
		return host->reason;
	return WIFSIGNALED(message->wait_status) ? RESTART_SIGNAL : RESTART_EXIT;
}

static void note_restart(struct host *host, const struct message_host_down *message)
{
	enum restart_reason reason = reason_of(host, message);
	struct pool *pool = host->pool;
	char death[64];
	char date[CLOCK_RFC3339_SIZE];

	if (message->start_errno)
		snprintf(death, sizeof(death), "not started: %s",
			 strerrordesc_np(message->start_errno));
	else
		death_text(message->wait_status, death, sizeof(death));
	pool->restarts[reason]++;
	snprintf(pool->last_restart, sizeof(pool->last_restart),
		 "host %u (pid %d, generation %llu): %s, %s at %s", host->slot_index,
		 (int)host->pid, (unsigned long long)host->generation, restart_reason_name(reason),
		 death, clock_rfc3339(clock_realtime_ns(), date));
	log_event(host->retired ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "host_down",
		  log_str("pool", pool->name), log_str("of", pool->lab ? "lab" : NULL),
		  log_uint("host", host->slot_index), log_int("pid", host->pid),
		  log_uint("generation", host->generation),
		  log_str("reason", restart_reason_name(reason)), log_str("death", death));
}

/* Fills the slot again: at once if a job was at work on the host (it is the job's fault, and others
 * should not wait for it), after a growing pause if hosts keep ending before any job began. */
static void refill(struct slot *slot, bool begun)
{
	const struct config_pool *config = slot->pool->config;

	slot->failures = begun ? 0 : slot->failures + 1;
	if (slot->failures <= 1) {
		slot_start(slot);
		return;
	}
	int64_t pause_ms = config->restart_backoff_ms;
	for (unsigned int i = 2; i < slot->failures && pause_ms < config->restart_backoff_max_ms;
	     i++)
		pause_ms *= 2;
	if (pause_ms > config->restart_backoff_max_ms)
		pause_ms = config->restart_backoff_max_ms;
	loop_timer_set(slot->pool->server->loop, &slot->backoff,
		       clock_monotonic_ns() + pause_ms * NS_PER_MS);
}

void host_is_down(struct server *server, const struct message_host_down *message)
{
	struct host *host = NULL;

	if (names_a_slot(server, message->pool_index, message->slot))
		host = find_host(server, message->pool_index, message->slot, message->generation);
	if (!host)
		return;
	struct pool *pool = host->pool;
	struct slot *slot = &pool->slots[host->slot_index];
	bool current = slot->host == host;

	host->ready = false;
	list_remove(&host->idle);
	while (host->channel.fd >= 0 && take_message(host))
		;
	drain_pipes(host);
	for (uint32_t i = 0; i < pool->config->threads; i++)
		host->begun =
			host->begun || (host->cells[i] && host_has_begun(host, host->cells[i]));
	bool begun = host->begun;
	if (!server->shutdowns)
		note_restart(host, message);
	if (current)
		slot->host = NULL;
	bury_jobs(host, message->wait_status);
	host_free(host);
	if (current && !server->shutdowns)
		refill(slot, begun);
	dispatch(pool);
	server_changed(server);
}
