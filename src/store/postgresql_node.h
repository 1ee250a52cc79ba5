/*
 * This service among those that share the queue: its boot, its lease, its clock, its hints.
 *
 * A boot is a number that the database gives to one life of a service. Rows say which boot has
 * them, and every change of a row that somebody has demands that its boot and attempt be the ones
 * that the changer believes in. So what a service does after others took its jobs over changes
 * nothing: not because it knows better, but because the rows are no longer its own.
 *
 * Invariants
 * 1. The lease is renewed by a thread with a connection of its own, which no job and no slow
 *    transaction can hold up. All comparisons are made by the database's clock.
 * 2. A lease that has run out is still this boot's until another service marks the boot as taken
 *    over; both are updates of one row, so one comes first. A boot that is taken over stays so: the
 *    service gets a new one, and what it had under the old one is not its own any more (-ESTALE).
 * 3. Once the lease may have run out by our own clock, pg_node_begin() renews it before anything is
 *    written under it.
 * 4. A node outlives the connections: when the database comes back within the same life of the
 *    service, its jobs are still its own unless they were taken over. Otherwise a restart of the
 *    database would cost every running job.
 * 5. One session at a time writes as a boot: it holds an advisory lock. A session that takes its
 *    place ends the one before and waits for its end, so that what was sent in it is either in or
 *    will never be; see "uncertain" below.
 *
 * Uncertain: when a connection is lost in COMMIT, nobody knows whether it is in. Requests handed in
 * until then are carried out with `again` set: what they find done by this boot for the same
 * attempt is taken for their own doing. Claims whose answer was lost are found by their number
 * (jobs.take), and given back before the next claim.
 *
 * Thread: the fields say. Nothing is called with the lock held.
 */
#ifndef STORE_POSTGRESQL_NODE_H
#define STORE_POSTGRESQL_NODE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "store/postgresql_link.h"

struct pg_node {
	const char *connection; /* borrowed; constant, as name and lease_us */
	char *name;
	int64_t lease_us;

	pthread_mutex_t lock;
	int64_t boot; /* guarded by lock, as all up to `others`; 0: to be given a new one */
	int64_t fresh_until_ns; /* monotonic; until then the lease runs for certain */
	int64_t sweep_from_ns; /* monotonic; the database has been there for a lease by then, and so
				   the others had the time to renew theirs */
	int64_t offset_us;     /* database's clock - this service's */
	bool others;	       /* there are other living services */

	/* the writer's alone */
	int64_t take;	      /* number of the last claim */
	int64_t lost_from;    /* claims whose answer was lost: from this number … */
	int64_t lost_to;      /* … to this one; 0: none */
	int64_t uncertain_ns; /* monotonic; requests handed in until then may be in already; -1 */
};

/* 0 or -errno. */
int pg_node_init(struct pg_node *node, const struct config_store *config);
void pg_node_destroy(struct pg_node *node);

struct pg_view {
	int64_t boot;
	int64_t offset_us;
	bool may_sweep;
};

/*
 * By the writer's link, before it writes: sees to it that there is a boot and that its lease runs,
 * and that this link is the one that writes as it (is_new: since it was opened just now).
 */
int pg_node_begin(struct pg_node *node, struct pg_link *link, int32_t schema, bool is_new,
		  struct pg_view *ret_view, char message[static PG_MESSAGE_SIZE]);
/* Ends the lease, so that nobody needs to wait for its end. */
void pg_node_release(struct pg_node *node, struct pg_link *link);
/* A connection was lost or could not be made: others may have the same trouble. */
void pg_node_disturbed(struct pg_node *node);
/* Renews the lease: 0; -ESTALE if the boot was taken over, and then the node has none. */
int pg_node_renew(struct pg_node *node, struct pg_link *link, char message[static PG_MESSAGE_SIZE]);
struct pg_view pg_node_view(struct pg_node *node);
bool pg_node_has_others(struct pg_node *node);

/* The thread that keeps the lease and listens. */
struct pg_heart;
int pg_heart_start(struct pg_node *node, int32_t schema, void (*hint)(void *data), void *data,
		   struct pg_heart **ret_heart);
/* Ends and joins it; NULL is allowed. */
void pg_heart_stop(struct pg_heart *heart);
/* Tells the others, soon, that there is something to look for. */
void pg_heart_announce(struct pg_heart *heart);

#endif
