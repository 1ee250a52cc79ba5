/*
 * Invariants
 * 1. A lab's pool is at the place CONFIG_POOLS_MAX + number - 1 of the server's pools, beyond those
 * of the configuration, so nothing that goes over all pools sees it.
 * 2. A job of a lab is on lab->live from its submission to its end, then on lab->ended until the
 * hook has told of it and freed it. It is in no store.
 * 3. A lab that is being closed wants no host, so none is started again. It goes when the last
 * HOST_DOWN has come: until then its place, by which the master names its hosts, is not another's.
 */
#include "server/lab.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/state.h"

struct lab {
	struct server *server;
	struct pool *pool;
	struct config_pool config; /* of the pool it is modelled on, and changed */
	char base[CONFIG_NAME_MAX + 1];
	uint32_t number; /* from 1 */
	uint64_t run;
	uint32_t enables;
	const struct lab_calls *calls;
	void *data;
	struct list live; /* by job->in_order */
	struct list ended;
	bool opened;
	bool closing;
};

/* --- opening ---------------------------------------------------------------------------------- */

int lab_shape_of_pool(const struct server *server, const char *pool, struct lab_shape *ret_shape,
		      struct error *error)
{
	int index = server_find_pool(server, pool);

	if (index < 0) {
		server_unknown_pool(server, ERROR_INVALID, "pools", pool, error);
		return -EINVAL;
	}
	*ret_shape = (struct lab_shape){.pool = server->pools[index].name,
					.hosts = server->pools[index].wanted,
					.threads = server->pools[index].config->threads};
	return 0;
}

/* As the pool's, without what would change its size or its hosts meanwhile. */
static void configure(struct lab *lab, const struct config_pool *base,
		      const struct lab_shape *shape)
{
	snprintf(lab->base, sizeof(lab->base), "%s", base->name);
	lab->config = *base;
	lab->config.name = lab->base;
	lab->config.hosts = lab->config.max_hosts = shape->hosts;
	lab->config.spare_hosts = 0;
	lab->config.threads = shape->threads;
	lab->config.recycle = (struct config_recycle){0};
	lab->config.reserved_workers = 0;
	lab->config.label_limits = NULL;
	lab->config.label_limit_count = 0;
}

static int find_place(const struct server *server, uint32_t *ret_place)
{
	for (uint32_t i = 0; i < MESSAGE_LABS_MAX; i++) {
		if (server->labs[i])
			continue;
		*ret_place = i;
		return 0;
	}
	return -EBUSY;
}

int lab_open(struct server *server, const struct lab_shape *shape, const struct lab_calls *calls,
	     void *data, struct lab **ret_lab)
{
	int base = server_find_pool(server, shape->pool);
	uint32_t place;
	int status = base < 0 ? -EINVAL : find_place(server, &place);

	if (status < 0)
		return status;
	struct lab *lab = calloc(1, sizeof(*lab));
	if (!lab)
		return -ENOMEM;
	const struct task *enables =
		shape->enables ? registry_find(server->registry, shape->enables) : NULL;
	configure(lab, server->pools[base].config, shape);
	status = pool_init(server, CONFIG_POOLS_MAX + place, &lab->config);
	if (status < 0) {
		free(lab);
		return status;
	}
	lab->server = server;
	lab->pool = &server->pools[CONFIG_POOLS_MAX + place];
	lab->pool->lab = lab;
	lab->number = place + 1;
	lab->run = ++server->lab_runs;
	lab->enables = enables ? enables->index : MESSAGE_NO_TASK;
	lab->calls = calls;
	lab->data = data;
	list_init(&lab->live);
	list_init(&lab->ended);
	server->labs[place] = lab;
	lab->pool->wanted = shape->hosts;
	for (uint32_t i = 0; i < shape->hosts; i++)
		slot_start(&lab->pool->slots[i]);
	*ret_lab = lab;
	return 0;
}

void lab_fill_start(const struct lab *lab, struct message_host_start *start)
{
	start->lab = lab->number;
	start->lab_run = lab->run;
	start->enables = lab->enables;
}

static bool is_open(const struct lab *lab)
{
	for (uint32_t i = 0; i < lab->pool->wanted; i++)
		if (!lab->pool->slots[i].host || !lab->pool->slots[i].host->ready)
			return false;
	return true;
}

/* --- closing ---------------------------------------------------------------------------------- */

/* A host without jobs leaves by itself when its channel ends; any other is killed, and one that is
 * not up yet, too. */
static void end_host(struct host *host)
{
	bool is_idle = host->ready && host->free_count == host->pool->config->threads;

	if (is_idle && !host->draining && !host->killed) {
		host_retire(host, RESTART_RESIZED);
		return;
	}
	host->retired = true;
	host->reason = RESTART_RESIZED;
	host_kill(host);
}

static void end_jobs(struct lab *lab)
{
	list_for_each_safe (node, &lab->live) {
		struct job *job = container_of(node, struct job, in_order);
		if (job->state == JOB_QUEUED)
			cancel_waiting(lab->server, job, STOP_CANCELLED);
		else
			job_stop(lab->server, job, STOP_CANCELLED);
	}
}

void lab_close(struct lab *lab)
{
	struct pool *pool = lab->pool;
	uint32_t hosts = pool->wanted;

	if (lab->closing)
		return;
	lab->closing = true;
	pool->wanted = 0;
	end_jobs(lab);
	for (uint32_t i = 0; i < hosts; i++) {
		loop_timer_cancel(lab->server->loop, &pool->slots[i].backoff);
		if (pool->slots[i].host)
			end_host(pool->slots[i].host);
	}
	list_for_each (node, &pool->draining) {
		struct host *host = container_of(node, struct host, node);
		if (host->free_count < pool->config->threads)
			host_kill(host);
	}
}

static bool is_closed(const struct lab *lab)
{
	for (uint32_t i = 0; i < lab->config.hosts; i++)
		if (lab->pool->slots[i].host)
			return false;
	return lab->closing && list_empty(&lab->pool->draining) && list_empty(&lab->live);
}

static void free_jobs(struct list *jobs)
{
	list_for_each_safe (node, jobs) {
		struct job *job = container_of(node, struct job, in_order);
		list_remove(node);
		job_free(job);
	}
}

static void free_lab(struct lab *lab)
{
	lab->server->labs[lab->number - 1] = NULL;
	pool_free(lab->pool);
	*lab->pool = (struct pool){0};
	free_jobs(&lab->live);
	free_jobs(&lab->ended);
	free(lab);
}

void lab_free_all(struct server *server)
{
	for (uint32_t i = 0; i < MESSAGE_LABS_MAX; i++)
		if (server->labs[i])
			free_lab(server->labs[i]);
}

/* --- jobs ------------------------------------------------------------------------------------- */

int lab_submit(struct lab *lab, const struct terms *terms, uint64_t *ret_seq)
{
	if (lab->closing || lab->server->shutdowns || lab->server->lost_master)
		return -EPIPE;
	struct job *job = terms_submit(lab->server, terms, lab->pool);
	if (!job)
		return -ENOMEM;
	job->lab = lab;
	list_append(&lab->live, &job->in_order);
	*ret_seq = job->seq;
	dispatch(lab->pool);
	return 0;
}

void lab_job_ended(struct job *job)
{
	struct lab *lab = job->lab;

	list_remove(&job->in_order);
	list_append(&lab->ended, &job->in_order);
	if (lab->server->shutdowns && lab->server->live == 0)
		server_changed(lab->server);
}

bool lab_jobs_have_begun(const struct lab *lab)
{
	list_for_each (node, &lab->live) {
		const struct job *job = container_of(node, struct job, in_order);
		if (!job->host || !host_has_begun(job->host, job))
			return false;
	}
	return true;
}

/* --- telling ---------------------------------------------------------------------------------- */

static void tell_ended(struct lab *lab)
{
	while (!list_empty(&lab->ended)) {
		struct job *job = container_of(lab->ended.next, struct job, in_order);
		list_remove(&job->in_order);
		lab->calls->job_ended(lab, job, lab->data);
		job_free(job);
	}
}

static void tell(struct lab *lab)
{
	if (!lab->opened && !lab->closing && is_open(lab)) {
		lab->opened = true;
		lab->calls->opened(lab, lab->data);
	}
	tell_ended(lab);
	if (!is_closed(lab))
		return;
	lab->calls->closed(lab, lab->data);
	free_lab(lab);
}

/* What is told may make more to tell: labs that are idle when they are closed end later, by their
 * hosts, and jobs end by theirs; but queued ones end at once. */
static int64_t before_sleep(struct loop_hook *hook)
{
	struct server *server = container_of(hook, struct server, lab_hook);
	bool again = false;

	for (uint32_t i = 0; i < MESSAGE_LABS_MAX; i++)
		if (server->labs[i])
			tell(server->labs[i]);
	for (uint32_t i = 0; i < MESSAGE_LABS_MAX; i++)
		again = again || (server->labs[i] && (!list_empty(&server->labs[i]->ended) ||
						      is_closed(server->labs[i])));
	return again ? 0 : -1;
}

void lab_init(struct server *server)
{
	loop_add_hook(server->loop, &server->lab_hook, before_sleep);
}

/* --- numbers ---------------------------------------------------------------------------------- */

uint64_t lab_hosts_lost(const struct lab *lab)
{
	uint64_t lost = 0;

	for (int i = 0; i < RESTART_REASONS; i++)
		if (i != RESTART_RESIZED)
			lost += lab->pool->restarts[i];
	return lost;
}

size_t lab_hosts(const struct lab *lab, struct lab_host *hosts, size_t size)
{
	size_t count = 0;

	for (uint32_t i = 0; i < lab->pool->wanted && count < size; i++) {
		const struct host *host = lab->pool->slots[i].host;
		if (!host || host->pid == 0)
			continue;
		hosts[count++] = (struct lab_host){
			.pid = host->pid,
			.start_ns = host->ready_ns ? host->ready_ns - host->born_ns : 0,
			.thread_start_ns = host->thread_start_ns,
		};
	}
	return count;
}

void lab_count_others(const struct server *server, uint64_t *ret_running, uint64_t *ret_ended)
{
	*ret_running = *ret_ended = 0;
	for (uint32_t i = 0; i < server->pool_count; i++) {
		*ret_running += server->pools[i].running;
		for (int state = 0; state < JOB_STATES; state++)
			*ret_ended += server->pools[i].ended[state];
	}
}
