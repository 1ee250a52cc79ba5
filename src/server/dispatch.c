/*
 * From the queue to a worker: a job goes to the host that became free last, whose memory and caches
 * are warm; on hosts with several workers, to each host in turn.
 */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "ipc/channel.h"
#include "server/state.h"

void dispatch_host_is_free(struct host *host)
{
	bool takes_jobs = host->ready && !host->draining && !host->closed && !host->blocked &&
			  host->free_count > 0;

	if (!takes_jobs) {
		list_remove(&host->idle);
		return;
	}
	if (!list_empty(&host->idle))
		return;
	if (host->pool->config->threads == 1)
		list_prepend(&host->pool->idle, &host->idle);
	else
		list_append(&host->pool->idle, &host->idle);
}

static void fill_message(const struct job *job, int64_t now_ns, struct message_run *ret_message)
{
	const struct pool *pool = ((const struct host *)job->host)->pool;

	*ret_message = (struct message_run){
		.kind = MESSAGE_RUN,
		.seq = job->seq,
		.task_index = job->task_index,
		.attempt = job->attempt,
		.cell = job->cell,
		.deadline_ns = job->timeout_ms ? now_ns + job->timeout_ms * NS_PER_MS : 0,
		.result_limit = pool->config->result_bytes,
		.args_length = job->args_length,
	};
}

/* Sends the job to its host: 0 or -errno. */
static int send_job(const struct job *job, int64_t now_ns)
{
	struct message_run message;
	struct iovec parts[2] = {{.iov_base = &message, .iov_len = sizeof(message)},
				 {.iov_base = job->args, .iov_len = job->args_length}};
	const struct host *host = job->host;
	int file = -1;

	fill_message(job, now_ns, &message);
	if (job->args_length > MESSAGE_INLINE_MAX) {
		int status = fd_sealed_file("args", job->args, job->args_length, &file);
		if (status < 0)
			return status;
		message.in_file = 1;
	}
	int status = channel_send(host->channel.fd, parts, file >= 0 ? 1 : 2, &file, file >= 0, 1);
	fd_close(&file);
	return status;
}

static void enter_cell(struct host *host, struct job *job, int64_t now_ns)
{
	uint32_t cell = host->free_cells[--host->free_count];

	/* Clean before the job can be in it; from now on the cell is this job's alone. */
	atomic_store(&scoreboard_cell(&host->scoreboard, cell)->stop, 0);
	host->cells[cell] = job;
	host->pool->running++;
	job->host = host;
	job->cell = cell;
	job->attempt++;
	job->dispatched_ns = now_ns;
	job_transition(job, JOB_EVENT_START);
}

static void leave_cell_unsent(struct host *host, struct job *job)
{
	host_release_cell(host, job);
	job->attempt--;
	job->dispatched_ns = 0;
	job_transition(job, JOB_EVENT_REQUEUE);
	queue_push_front(host->pool, job);
}

/* The host did not take the job: why, and what becomes of the two. */
static void not_sent(struct host *host, struct job *job, int status)
{
	leave_cell_unsent(host, job);
	if (status == -EAGAIN) {
		host->blocked = true;
		loop_change(host->pool->server->loop, &host->channel, EPOLLIN | EPOLLOUT);
	} else {
		/* Its channel is broken: it is dying, or to be ended. HOST_DOWN follows either way.
		 */
		log_warning("host_unreachable", log_str("pool", host->pool->config->name),
			    log_int("pid", host->pid), log_str("error", strerrordesc_np(-status)));
		host->closed = true;
		host_kill(host);
	}
}

static void hand_over(struct host *host, struct job *job)
{
	struct server *server = host->pool->server;
	int64_t now_ns = clock_monotonic_ns();

	enter_cell(host, job, now_ns);
	int status = send_job(job, now_ns);
	list_remove(&host->idle);
	if (status < 0)
		not_sent(host, job, status);
	else if (job->timeout_ms)
		deadline_set(server, job, now_ns + job->timeout_ms * NS_PER_MS);
	dispatch_host_is_free(host);
}

void dispatch(struct pool *pool)
{
	while (pool->queue_length > 0 && !list_empty(&pool->idle)) {
		struct host *host = container_of(pool->idle.next, struct host, idle);
		hand_over(host, queue_pop(pool));
	}
}
