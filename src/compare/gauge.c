/*
 * Invariants
 * 1. `asked` counts requests and is written by the loop, `answered` says which one the reading is of
 * and is written by the thread, both under the lock.
 * 2. The thread touches nothing but the shared fields, under the lock, and copies of its own.
 */
#include "compare/gauge.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fd.h"

struct request {
	uint64_t number;
	size_t count;
	pid_t pids[GAUGE_PIDS_MAX];
};

struct gauge {
	struct loop *loop;
	struct loop_source answer; /* an eventfd */
	void (*read)(const struct gauge_reading *reading, void *data);
	void *data;
	bool wanted; /* the loop's: somebody waits for the newest request */
	bool runs;   /* the loop's: there is a thread */
	pthread_t thread;
	int wake_fd; /* a copy of the eventfd's number for the thread; constant */

	pthread_mutex_t lock;
	pthread_cond_t asking;
	bool ends; /* under lock, as the next ones */
	struct request asked;
	uint64_t answered;
	struct gauge_reading reading;
};

/* --- the thread ------------------------------------------------------------------------------- */

static int64_t sum(int64_t total, int64_t more)
{
	return total == MACHINE_UNKNOWN || more == MACHINE_UNKNOWN ? MACHINE_UNKNOWN : total + more;
}

static struct machine_memory read_memory(const struct request *request)
{
	struct machine_memory total = {0};
	struct machine_memory one;

	if (request->count == 0)
		return (struct machine_memory){MACHINE_UNKNOWN, MACHINE_UNKNOWN, MACHINE_UNKNOWN};
	for (size_t i = 0; i < request->count; i++) {
		machine_memory_take(&machine_files, request->pids[i], &one);
		total.rss_bytes = sum(total.rss_bytes, one.rss_bytes);
		total.pss_bytes = sum(total.pss_bytes, one.pss_bytes);
		total.private_bytes = sum(total.private_bytes, one.private_bytes);
	}
	return total;
}

/* Waits for a request that is not answered; false if the thread is to end. */
static bool next_request(struct gauge *gauge, struct request *ret_request)
{
	pthread_mutex_lock(&gauge->lock);
	while (!gauge->ends && gauge->asked.number == gauge->answered)
		pthread_cond_wait(&gauge->asking, &gauge->lock);
	bool ends = gauge->ends;
	*ret_request = gauge->asked;
	pthread_mutex_unlock(&gauge->lock);
	return !ends;
}

/* The machine is read last before a round and first after one, so that the memory, which takes
 * longest, is not in the time between. */
static void *thread_main(void *data)
{
	struct gauge *gauge = data;
	struct request request;
	const uint64_t one = 1;

	while (next_request(gauge, &request)) {
		struct gauge_reading reading = {.count = request.count};
		machine_sample_take(&machine_files, &reading.machine);
		reading.memory = read_memory(&request);
		pthread_mutex_lock(&gauge->lock);
		gauge->answered = request.number;
		gauge->reading = reading;
		pthread_mutex_unlock(&gauge->lock);
		(void)!write(gauge->wake_fd, &one,
			     sizeof(one)); /* fails only when it is readable */
	}
	return NULL;
}

/* --- the loop --------------------------------------------------------------------------------- */

static void answer_is_ready(struct loop_source *source, uint32_t events)
{
	struct gauge *gauge = container_of(source, struct gauge, answer);
	uint64_t count;

	(void)events;
	(void)!read(source->fd, &count, sizeof(count));
	pthread_mutex_lock(&gauge->lock);
	bool is_newest = gauge->answered == gauge->asked.number;
	struct gauge_reading reading = gauge->reading;
	pthread_mutex_unlock(&gauge->lock);
	if (!is_newest || !gauge->wanted)
		return;
	gauge->wanted = false;
	gauge->read(&reading, gauge->data);
}

int gauge_new(struct loop *loop, void (*read)(const struct gauge_reading *reading, void *data),
	      struct gauge **ret_gauge)
{
	struct gauge *gauge = calloc(1, sizeof(*gauge));

	if (!gauge)
		return -ENOMEM;
	gauge->loop = loop;
	gauge->read = read;
	gauge->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int status = gauge->wake_fd < 0 ? -errno
					: loop_add(loop, &gauge->answer, gauge->wake_fd, EPOLLIN,
						   answer_is_ready);
	if (status < 0) {
		fd_close(&gauge->wake_fd);
		free(gauge);
		return status;
	}
	pthread_mutex_init(&gauge->lock, NULL);
	pthread_cond_init(&gauge->asking, NULL);
	*ret_gauge = gauge;
	return 0;
}

void gauge_free(struct gauge *gauge)
{
	if (!gauge)
		return;
	pthread_mutex_lock(&gauge->lock);
	gauge->ends = true;
	pthread_cond_signal(&gauge->asking);
	pthread_mutex_unlock(&gauge->lock);
	if (gauge->runs)
		pthread_join(gauge->thread, NULL);
	loop_remove(gauge->loop, &gauge->answer);
	fd_close(&gauge->wake_fd);
	pthread_cond_destroy(&gauge->asking);
	pthread_mutex_destroy(&gauge->lock);
	free(gauge);
}

int gauge_read(struct gauge *gauge, const pid_t *pids, size_t count, void *data)
{
	if (!gauge->runs) {
		int error = pthread_create(&gauge->thread, NULL, thread_main, gauge);
		if (error != 0)
			return -error;
		gauge->runs = true;
	}
	gauge->data = data;
	gauge->wanted = true;
	pthread_mutex_lock(&gauge->lock);
	gauge->asked.number++;
	gauge->asked.count = count < GAUGE_PIDS_MAX ? count : GAUGE_PIDS_MAX;
	for (size_t i = 0; i < gauge->asked.count; i++)
		gauge->asked.pids[i] = pids[i];
	pthread_cond_signal(&gauge->asking);
	pthread_mutex_unlock(&gauge->lock);
	return 0;
}

void gauge_forget(struct gauge *gauge)
{
	gauge->wanted = false;
}
