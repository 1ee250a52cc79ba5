#include "job/batch.h"

#include <stdlib.h>

struct batch *batch_new(size_t count)
{
	struct batch *batch = calloc(1, sizeof(*batch));

	if (!batch)
		return NULL;
	batch->jobs = calloc(count ? count : 1, sizeof(struct job *));
	if (!batch->jobs) {
		free(batch);
		return NULL;
	}
	batch->count = count;
	list_init(&batch->ended);
	list_init(&batch->waiters);
	return batch;
}

void batch_free(struct batch *batch)
{
	if (!batch)
		return;
	for (size_t i = 0; i < batch->count; i++)
		job_free(batch->jobs[i]);
	free(batch->jobs);
	free(batch);
}

bool batch_job_ended(struct batch *batch, const struct job *job)
{
	const struct metering *metering = &job->metering;

	batch->ended_count++;
	batch->by_state[job->state]++;
	batch->memory_bytes += job_memory(job);
	if (metering->started_ns > 0 && metering->ended_ns > 0)
		batch->run_ns += metering->ended_ns - metering->started_ns;
	if (batch->ended_count < batch->count)
		return false;
	batch->finished_ns = job->finished_ns;
	return true;
}

bool batch_is_settled(const struct batch *batch)
{
	/* They are kept together or not at all. */
	bool stored = batch->count > 0 && batch->jobs[0]->stored;

	return batch->ended_count == batch->count && (!stored || batch->unsaved == 0);
}
