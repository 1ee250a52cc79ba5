/*
 * Labs: private instances of pools, on which measurements are made. A lab has hosts and a queue of
 * its own, with the settings of the pool it is modelled on, so no other traffic is on its workers;
 * what its tasks share (tp_shared_block()) is its own, too. Its jobs take the same way as all
 * others: queue, dispatch, host, metering. But they are the lab's: no store, no list and no
 * statistics of a pool has them.
 *
 * A lab is of the configuration that was in force when it was opened, and must be closed when
 * another is put in force: hosts number tasks by their configuration.
 *
 * Event loop only. Calls back only from the loop's hook, never from inside a function of this file.
 */
#ifndef SERVER_LAB_H
#define SERVER_LAB_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "job/job.h"

struct server;
struct lab;
struct terms;

struct lab_shape {
	const char *pool; /* whose settings it has; borrowed for the call */
	uint32_t hosts;
	uint32_t threads;
	const char *enables; /* a task that is on in its hosts whatever the configuration says;
				NULL: none */
};

struct lab_calls {
	/* All its hosts take jobs, for the first time. */
	void (*opened)(struct lab *lab, void *data);
	/* A job has ended; it is freed when this returns. */
	void (*job_ended)(struct lab *lab, const struct job *job, void *data);
	/* After lab_close(): all its hosts have gone, and so has the lab when this returns. Every job
	 * of it has been given to job_ended() before. */
	void (*closed)(struct lab *lab, void *data);
};

/* How P hosts of T threads of a pool of the configuration are. ERROR_INVALID with field "pools" if
 * there is none of that name. */
int lab_shape_of_pool(const struct server *server, const char *pool, struct lab_shape *ret_shape,
		      struct error *error);

/* Asks for its hosts. 0, -EBUSY if there are MESSAGE_LABS_MAX labs, or -errno. */
int lab_open(struct server *server, const struct lab_shape *shape, const struct lab_calls *calls,
	     void *data, struct lab **ret_lab);

/* Ends its jobs and its hosts at once. */
void lab_close(struct lab *lab);

/* Hosts that ended other than by lab_close(), or could not be started. */
uint64_t lab_hosts_lost(const struct lab *lab);

struct lab_host {
	pid_t pid;
	int64_t start_ns;	 /* from asking for it to its taking jobs; 0 if it does not */
	int64_t thread_start_ns; /* mean of its threads; 0 on a host of one worker */
};
/* Its hosts that are up: how many were written, at most size. */
size_t lab_hosts(const struct lab *lab, struct lab_host *hosts, size_t size);

/* Whether every job of it that has not ended is being run by a worker. */
bool lab_jobs_have_begun(const struct lab *lab);

/* --- its jobs --------------------------------------------------------------------------------- */

/*
 * What a job of a lab is to do, checked once. args is borrowed, NULL if there are none; defaults
 * are filled in. For what a user asks (is_own false) the task must be enabled, the limits of pool
 * and task hold, and the task must have no max_running, which would make jobs wait for jobs of
 * others; the errors are those of server_submit(). The service's own may be any task, without
 * limits but timeout_ms.
 */
int terms_new(struct server *server, const char *task, json_t *args, const char *pool, bool is_own,
	      int64_t timeout_ms, struct terms **ret_terms, struct error *error);
void terms_free(struct terms *terms); /* NULL is allowed */

/* Submits one job; *ret_seq is its job->seq. 0, -ENOMEM, or -EPIPE once the lab is being
 * closed or the service shuts down. */
int lab_submit(struct lab *lab, const struct terms *terms, uint64_t *ret_seq);

/* --- the others ------------------------------------------------------------------------------- */

/* Of the pools of the configuration: jobs that run now, and jobs that have ended ever. */
void lab_count_others(const struct server *server, uint64_t *ret_running, uint64_t *ret_ended);

#endif
