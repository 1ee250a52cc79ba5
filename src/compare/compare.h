/*
 * Comparisons and experiments: submitted, carried out one at a time, kept for a while.
 *
 * One runs, up to COMPARE_QUEUE_MAX wait, and the last COMPARE_KEPT that have ended are kept, as the
 * document that they came to. What is under way when another configuration is put in force, or when
 * the service shuts down, is ended, since its hosts are of the old one or are to go.
 *
 * Event loop only.
 */
#ifndef COMPARE_COMPARE_H
#define COMPARE_COMPARE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/json.h"
#include "server/server.h"

#define COMPARE_QUEUE_MAX    8
#define COMPARE_KEPT	     50
#define COMPARE_POOLS_MAX    4
#define COMPARE_JOBS_MAX     2000
#define COMPARE_CONCURRENCY  256
#define COMPARE_WARMUP_MAX   1000
#define COMPARE_REPEATS_MAX  30
#define COMPARE_ALL_JOBS_MAX 20000
#define COMPARE_PROGRESS_NS  (100 * NS_PER_MS) /* the shortest between two that are told */

struct compare;
struct comparison;

/* 0 or -errno. The server is borrowed and must outlive it. */
int compare_new(struct server *server, struct compare **ret_compare);
/* After the last turn of the loop. NULL is allowed. Watchers and waiters must be gone. */
void compare_free(struct compare *compare);

/* Ends all that has not ended, as the service shuts down. */
void compare_shut_down(struct compare *compare);
/* The same since another configuration comes into force: before server_reload(). */
void compare_reload(struct compare *compare);

/* Checks a body of POST /comparisons and queues it. ERROR_SYNTAX, ERROR_INVALID as
 * server_submit(), ERROR_OVERLOADED with the seconds in *ret_retry_after, ERROR_UNAVAILABLE. */
int compare_submit(struct compare *compare, const char *body, size_t length,
		   struct comparison **ret_comparison, unsigned int *ret_retry_after,
		   struct error *error);
/* The same for an experiment; ERROR_NOT_FOUND if there is none of that name. One that cannot be run
 * here has succeeded at once, and says why it tells nothing. */
int compare_submit_experiment(struct compare *compare, const char *name,
			      struct comparison **ret_comparison, unsigned int *ret_retry_after,
			      struct error *error);

/* NULL if there is none, or no longer. */
struct comparison *compare_find(const struct compare *compare, const struct id *id);
enum cancel_answer compare_cancel(struct comparison *comparison);
bool comparison_has_ended(const struct comparison *comparison);
const struct id *comparison_id(const struct comparison *comparison);

void compare_write(const struct comparison *comparison, struct json_writer *writer);
void compare_write_progress(const struct comparison *comparison, struct json_writer *writer);
void compare_write_list(const struct compare *compare, struct json_writer *writer);
void compare_write_experiments(const struct compare *compare, struct json_writer *writer);

/* --- being told ------------------------------------------------------------------------------- */

/* As waiter_wait_job(). */
int compare_wait(struct comparison *comparison, struct waiter *waiter, int64_t deadline_ns,
		 void (*wake)(struct waiter *waiter, bool ended));

/* changed() is called when there is news, at most every COMPARE_PROGRESS_NS and at the end; never
 * from inside a function of this file. The comparison stays while it is watched. */
struct compare_watcher {
	struct list node;
	struct comparison *comparison;
	void (*changed)(struct compare_watcher *watcher);
};
void compare_watch(struct comparison *comparison, struct compare_watcher *watcher,
		   void (*changed)(struct compare_watcher *watcher));
void compare_unwatch(struct compare_watcher *watcher);

#endif
