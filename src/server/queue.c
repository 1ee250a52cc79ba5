#include "server/state.h"

#define RETRY_AFTER_MAX 600

void queue_push(struct pool *pool, struct job *job)
{
	list_append(&pool->queue, &job->in_queue);
	pool->queue_length++;
	pool->queue_bytes += job->args_length;
}

void queue_push_front(struct pool *pool, struct job *job)
{
	list_prepend(&pool->queue, &job->in_queue);
	pool->queue_length++;
	pool->queue_bytes += job->args_length;
}

void queue_remove(struct pool *pool, struct job *job)
{
	list_remove(&job->in_queue);
	pool->queue_length--;
	pool->queue_bytes -= job->args_length;
}

struct job *queue_pop(struct pool *pool)
{
	if (list_empty(&pool->queue))
		return NULL;
	struct job *job = container_of(pool->queue.next, struct job, in_queue);
	queue_remove(pool, job);
	return job;
}

bool queue_has_room(const struct pool *pool, size_t jobs, uint64_t bytes)
{
	return jobs <= pool->config->queue_jobs &&
	       pool->queue_length <= pool->config->queue_jobs - jobs &&
	       bytes <= pool->config->queue_bytes &&
	       pool->queue_bytes <= pool->config->queue_bytes - bytes;
}

unsigned int queue_retry_after(const struct pool *pool, int64_t now_ns)
{
	double rate = rate_per_second(&pool->rate, now_ns, 10);
	double seconds = 1;

	if (rate > 0)
		seconds = (double)pool->queue_length / rate;
	else if (pool->queue_length > 0)
		seconds = RETRY_AFTER_MAX; /* nothing has ended in ten seconds */
	if (seconds >= RETRY_AFTER_MAX)
		return RETRY_AFTER_MAX;
	return (unsigned int)seconds + 1;
}
