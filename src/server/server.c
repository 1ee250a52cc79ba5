/*
 * The server: making and unmaking it, what the master says, shutting down, waiting, listing.
 */
#include "server/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "ipc/channel.h"
#include "server/state.h"

#define SWEEP_NS NS_PER_S
/* After the grace, jobs are asked to stop, and after this their hosts are killed. */
#define SHUTDOWN_KILL_NS NS_PER_S

const struct config *server_config(const struct server *server)
{
	return server->config;
}

const struct registry *server_registry(const struct server *server)
{
	return server->registry;
}

struct loop *server_loop(const struct server *server)
{
	return server->loop;
}

/* --- the master ------------------------------------------------------------------------------- */

int server_tell_master(struct server *server, const void *message, size_t length)
{
	struct iovec part = {.iov_len = length};

	memcpy(&part.iov_base, &message, sizeof(message));
	return channel_send(server->master.fd, &part, 1, NULL, 0, 1);
}

/* Takes a job that has not begun from where it waits. */
static void leave_waiting(struct server *server, struct job *job)
{
	struct pool *pool = &server->pools[job->pool_index];

	if (job->state == JOB_QUEUED) {
		dispatch_withdraw(server, job);
	} else {
		pool->scheduled--;
		pool->scheduled_bytes -= job->args_length;
	}
}

/* Ends a job that has not begun. */
void cancel_waiting(struct server *server, struct job *job, enum stop_reason reason)
{
	leave_waiting(server, job);
	job->stop_reason = reason;
	job_end_stopped(server, job);
}

static void cancel_queued(struct server *server)
{
	struct list *node = server->table.in_order.next;

	while (node != &server->table.in_order) {
		struct job *job = container_of(node, struct job, in_order);
		node = node->next;
		if (job->state != JOB_QUEUED && job->state != JOB_SCHEDULED)
			continue;
		if (job->stored)
			keep_set_aside(server, job);
		else
			cancel_waiting(server, job, STOP_SHUTDOWN);
	}
}

static void visit_running(struct server *server,
			  void (*visit)(struct server *server, struct job *job))
{
	struct list *node = server->table.in_order.next;

	while (node != &server->table.in_order) {
		struct job *job = container_of(node, struct job, in_order);
		node = node->next; /* visiting may end the job, which stays in the store until the
				      next sweep */
		if (job->state == JOB_RUNNING || job->state == JOB_STOPPING)
			visit(server, job);
	}
}

static void stop_for_shutdown(struct server *server, struct job *job)
{
	job_stop(server, job, STOP_SHUTDOWN);
}

/* The grace is over, or somebody is in a hurry. */
static void force_shutdown(struct server *server)
{
	if (server->shutdown_forced) {
		hosts_kill_busy(server);
		return;
	}
	server->shutdown_forced = true;
	log_info("shutdown_forced", log_uint("running", server->live));
	visit_running(server, stop_for_shutdown);
	loop_timer_set(server->loop, &server->shutdown_timer,
		       clock_monotonic_ns() + SHUTDOWN_KILL_NS);
}

static void shutdown_timer_expired(struct loop_timer *timer)
{
	force_shutdown(container_of(timer, struct server, shutdown_timer));
}

static void begin_shutdown(struct server *server)
{
	log_info("shutdown_begun", log_uint("jobs", server->live));
	for (uint32_t i = 0; i < server->pool_count; i++)
		for (uint32_t slot = 0; slot < server->pools[i].wanted; slot++)
			loop_timer_cancel(server->loop, &server->pools[i].slots[slot].backoff);
	cancel_queued(server);
	loop_timer_set(server->loop, &server->shutdown_timer,
		       clock_monotonic_ns() + server->config->shutdown_grace_ms * NS_PER_MS);
}

static void take_shutdown(struct server *server, unsigned int count)
{
	bool first = server->shutdowns == 0;

	server->shutdowns = count;
	if (first)
		begin_shutdown(server);
	if (count > 1)
		force_shutdown(server);
	server_changed(server);
}

static void master_is_gone(struct server *server)
{
	server->lost_master = true;
	loop_remove(server->loop, &server->master);
	server_changed(server);
}

/* file: what was found of the plug-ins; -1 if the message had none. */
static void take_reload(struct server *server, const struct message_reload *message, int file)
{
	struct message_reload answer = {.kind = MESSAGE_RELOADED, .digest = message->digest};
	char *found = NULL;
	bool is_whole = message->found_length == 0 ||
			fd_read_sealed(file, message->found_length, &found) == 0;

	if (!is_whole || server->shutdowns || !server->reload)
		free(found);
	else
		answer.accepted = server->reload(server->reload_data, message->digest, found,
						 message->found_length);
	/* First the master's consent, then hosts by the new configuration: the channel keeps the
	 * order, and server_reload() only marks the old ones, which go from the next tick on. */
	server_tell_master(server, &answer, sizeof(answer));
}

union master_message {
	struct message_host_up up;
	struct message_host_down down;
	struct message_shutdown shutdown;
	struct message_reload reload;
};

static bool take_master_message(struct server *server)
{
	union master_message message;
	int fds[HOST_UP_FDS];
	size_t fd_count;
	ssize_t length = channel_receive(server->master.fd, &message, sizeof(message), fds,
					 HOST_UP_FDS, &fd_count, 1);

	if (length == -EAGAIN)
		return false;
	if (length <= 0) {
		master_is_gone(server);
		return false;
	}
	uint32_t kind = message_kind(&message, (size_t)length);
	if (kind == MESSAGE_HOST_UP && fd_count == HOST_UP_FDS)
		host_is_up(server, &message.up, fds);
	else if (kind == MESSAGE_HOST_DOWN)
		host_is_down(server, &message.down);
	else if (kind == MESSAGE_SHUTDOWN)
		take_shutdown(server, message.shutdown.count);
	else if (kind == MESSAGE_RELOAD)
		take_reload(server, &message.reload, fd_count == 1 ? fds[0] : -1);
	for (size_t i = 0; kind == MESSAGE_RELOAD && i < fd_count; i++)
		fd_close(&fds[i]);
	return server->master.fd >= 0;
}

static void master_is_ready(struct loop_source *source, uint32_t events)
{
	struct server *server = container_of(source, struct server, master);

	(void)events;
	while (take_master_message(server))
		;
}

/* --- life ------------------------------------------------------------------------------------- */

static int64_t before_sleep(struct loop_hook *hook)
{
	struct server *server = container_of(hook, struct server, hook);

	bool again = dispatch_due(server);
	keep_flush(server);
	server_tell_watchers(server);
	if (server->sweep_due) {
		server->sweep_due = false;
		job_table_sweep(&server->table, clock_monotonic_ns());
	}
	return again ? 0 : -1;
}

/* Takes the numbers of a configuration over, at the start and at each reload. */
static void configure_pool(struct pool *pool, const struct config_pool *config)
{
	pool->config = config;
	pool->min_hosts = config->hosts;
	pool->max_hosts = config->max_hosts;
	pool->spare_hosts = config->spare_hosts;
	pool->queue.aging_ns = config->aging_ms * NS_PER_MS;
}

int pool_init(struct server *server, uint32_t index, const struct config_pool *config)
{
	struct pool *pool = &server->pools[index];

	pool->slots = calloc(CONFIG_HOSTS_MAX, sizeof(*pool->slots));
	if (!pool->slots)
		return -ENOMEM;
	pool->server = server;
	snprintf(pool->name, sizeof(pool->name), "%s", config->name);
	pool->index = index;
	list_init(&pool->idle);
	list_init(&pool->draining);
	list_init(&pool->to_claim);
	list_init(&pool->claiming);
	list_init(&pool->claimed);
	list_init(&pool->stalled);
	queue_init(&pool->queue, config->aging_ms);
	rate_init(&pool->rate, clock_monotonic_ns());
	histogram_reset(&pool->queued);
	histogram_reset(&pool->run);
	histogram_reset(&pool->total);
	configure_pool(pool, config);
	for (uint32_t i = 0; i < CONFIG_HOSTS_MAX; i++)
		slot_init(pool, &pool->slots[i], i);
	return 0;
}

static int add_pool(struct server *server, const struct config_pool *config)
{
	int status = pool_init(server, server->pool_count, config);

	server->pool_count += status == 0;
	return status;
}

static uint32_t within(uint32_t value, uint32_t least, uint32_t most)
{
	return value < least ? least : value > most ? most : value;
}

void size_pools(struct server *server)
{
	for (uint32_t i = 0; i < server->pool_count; i++) {
		struct pool *pool = &server->pools[i];
		pool_resize(pool, within(pool->wanted, pool->min_hosts, pool->max_hosts));
	}
}

/* Notes the places that tasks have in the table, by which hosts know them. Whether they are others
 * than before; true also if memory is short. */
static bool note_places(struct server *server)
{
	const struct registry *registry = server->registry;
	const char **places = calloc(registry->count + 1, sizeof(*places));
	bool moved = !places || registry->count != server->place_count;

	for (size_t i = 0; places && i < registry->count; i++) {
		places[i] = names_keep(&server->names, registry->tasks[i].definition->name);
		/* Of one name there is one copy. */
		moved = moved || !places[i] || places[i] != server->places[i];
	}
	free(server->places);
	server->places = places;
	server->place_count = places ? registry->count : 0;
	return moved;
}

int server_new(struct loop *loop, const struct config *config, const struct registry *registry,
	       int channel, struct server **ret_server)
{
	struct server *server = calloc(1, sizeof(*server));
	int status = -ENOMEM;

	if (!server)
		return -ENOMEM;
	server->loop = loop;
	server->config = config;
	server->registry = registry;
	server->next_seq = 1;
	server->started_ns = clock_monotonic_ns();
	server->started_real_ns = clock_realtime_ns();
	server->master.fd = -1;
	list_init(&server->watchers_due);
	server->store_source.fd = -1;
	(void)note_places(server);
	job_table_init(&server->table, config);
	server->table.forgetting = watch_forgotten;
	deadlines_init(server);
	dispatch_init(server);
	loop_timer_init(&server->shutdown_timer, shutdown_timer_expired);
	loop_add_hook(loop, &server->hook, before_sleep);
	lab_init(server);
	server->buffer = malloc(MESSAGE_SIZE_MAX);
	server->pools = calloc(SERVER_POOLS_MAX, sizeof(*server->pools));
	if (!server->buffer || !server->pools)
		goto fail;
	for (size_t i = 0; i < config->pool_count; i++) {
		status = add_pool(server, &config->pools[i]);
		if (status < 0)
			goto fail;
	}
	status = loop_add(loop, &server->master, channel, EPOLLIN, master_is_ready);
	if (status < 0)
		goto fail;
	scaling_init(server);
	size_pools(server);
	status = keep_start(server);
	if (status < 0)
		goto fail;
	*ret_server = server;
	return 0;
fail:
	server_free(server);
	return status;
}

void pool_free(struct pool *pool)
{
	for (uint32_t i = 0; i < CONFIG_HOSTS_MAX; i++) {
		loop_timer_cancel(pool->server->loop, &pool->slots[i].backoff);
		if (pool->slots[i].host)
			host_free(pool->slots[i].host);
	}
	while (!list_empty(&pool->draining))
		host_free(container_of(pool->draining.next, struct host, node));
	free(pool->slots);
}

void server_free(struct server *server)
{
	if (!server)
		return;
	keep_stop(server);
	heap_release(&server->deadlines); /* first: its nodes lie in the jobs */
	lab_free_all(server);
	for (uint32_t i = 0; i < server->pool_count; i++)
		pool_free(&server->pools[i]);
	list_for_each (node, &server->table.in_order)
		caps_release(&server->caps, container_of(node, struct job, in_order));
	job_table_release(&server->table);
	loop_timer_cancel(server->loop, &server->deadline_timer);
	loop_timer_cancel(server->loop, &server->tick_timer);
	loop_timer_cancel(server->loop, &server->shutdown_timer);
	loop_remove(server->loop, &server->master);
	list_remove(&server->hook.node);
	list_remove(&server->lab_hook.node);
	free(server->places);
	names_release(&server->names);
	free(server->pools);
	free(server->buffer);
	free(server);
}

void server_on_change(struct server *server, void (*changed)(void *data), void *data)
{
	server->changed = changed;
	server->changed_data = data;
}

void server_changed(struct server *server)
{
	if (server->changed)
		server->changed(server->changed_data);
}

static bool pool_is_ready(const struct pool *pool)
{
	for (uint32_t i = 0; i < pool->wanted; i++)
		if (pool->slots[i].host && pool->slots[i].host->ready)
			return true;
	return false;
}

bool server_is_ready(const struct server *server, const char **ret_reason)
{
	/* The reason is scratch space, not state: a question changes nothing that anybody can see.
	 */
	char *reason = (char *)(uintptr_t)server->not_ready;

	*ret_reason = reason;
	if (server->lost_master || server->shutdowns) {
		snprintf(reason, sizeof(server->not_ready), "the service is shutting down");
		return false;
	}
	for (uint32_t i = 0; i < server->pool_count; i++) {
		if (pool_is_ready(&server->pools[i]))
			continue;
		snprintf(reason, sizeof(server->not_ready),
			 "the pool \"%s\" has no host that can take jobs%s", server->pools[i].name,
			 server->pools[i].slots[0].failures > 1 ? "; its hosts keep ending" : "");
		return false;
	}
	if (server->registry->problem_count > 0) {
		snprintf(reason, sizeof(server->not_ready), "%s", server->registry->problems[0]);
		return false;
	}
	return true;
}

bool server_has_hosts(const struct server *server)
{
	for (uint32_t i = 0; i < server->pool_count; i++)
		if (!pool_is_ready(&server->pools[i]))
			return false;
	return !server->lost_master && !server->shutdowns;
}

static bool host_answers(const struct host *host, int64_t given_before_ns)
{
	if (!host || !host->ready || host->closed || host->killed)
		return false;
	for (uint32_t i = 0; i < host->pool->config->threads; i++) {
		const struct job *job = host->cells[i];
		if (job && job->dispatched_ns < given_before_ns && !host_has_begun(host, job))
			return false;
	}
	return true;
}

bool server_hosts_answer(const struct server *server, int64_t within_ns)
{
	int64_t given_before_ns = clock_monotonic_ns() - within_ns;

	if (server->shutdowns)
		return true;
	for (uint32_t i = 0; i < server->pool_count; i++)
		for (uint32_t slot = 0; slot < server->pools[i].wanted; slot++)
			if (host_answers(server->pools[i].slots[slot].host, given_before_ns))
				return true;
	return false;
}

bool server_is_stopping(const struct server *server)
{
	return server->shutdowns > 0;
}

bool server_is_drained(const struct server *server)
{
	return server->shutdowns > 0 && server->live == 0;
}

bool server_lost_master(const struct server *server)
{
	return server->lost_master;
}

/* --- jobs ------------------------------------------------------------------------------------- */

struct job *server_find_job(struct server *server, const struct id *id)
{
	struct job *job = job_table_find_job(&server->table, id);

	if (job)
		job_refresh(server, job);
	return job;
}

struct batch *server_find_batch(struct server *server, const struct id *id)
{
	return job_table_find_batch(&server->table, id);
}

enum cancel_answer server_cancel(struct server *server, struct job *job)
{
	if (job_state_is_ended(job->state))
		return CANCEL_HAD_ENDED;
	if (job->set_aside) {
		job->set_aside = false;
		server->live++;
		job->stop_reason = STOP_CANCELLED;
		job_end_stopped(server, job);
		return CANCEL_DONE;
	}
	if (job->state == JOB_QUEUED || job->state == JOB_SCHEDULED) {
		cancel_waiting(server, job, STOP_CANCELLED);
		dispatch_due(server);
		return CANCEL_DONE;
	}
	job->is_cancelled = true;
	job_stop(server, job, STOP_CANCELLED);
	return CANCEL_STOPPING;
}

/* --- changing while it runs ------------------------------------------------------------------- */

int server_find_pool(const struct server *server, const char *name)
{
	for (uint32_t i = 0; i < server->pool_count; i++)
		if (strcmp(server->pools[i].name, name) == 0)
			return (int)i;
	return -1;
}

static int check_hosts(const char *field, int hosts, int least, int most, struct error *error)
{
	if (hosts >= least && hosts <= most)
		return 0;
	return error_set(error, ERROR_INVALID, field, "found %d; expected an integer from %d to %d",
			 hosts, least, most);
}

static int check_workers(const struct server *server, const struct pool *changed, uint32_t most,
			 struct error *error)
{
	uint64_t workers = (uint64_t)most * changed->config->threads;

	for (uint32_t i = 0; i < server->pool_count; i++)
		if (&server->pools[i] != changed)
			workers += (uint64_t)server->pools[i].max_hosts *
				   server->pools[i].config->threads;
	if (workers <= CONFIG_WORKERS_MAX)
		return 0;
	return error_set(error, ERROR_INVALID, "max_hosts",
			 "all pools together could have %llu workers; expected at most %d",
			 (unsigned long long)workers, CONFIG_WORKERS_MAX);
}

int server_patch_pool(struct server *server, const char *name, const struct pool_patch *patch,
		      struct error *error)
{
	int index = server_find_pool(server, name);

	if (index < 0) {
		server_unknown_pool(server, ERROR_NOT_FOUND, "", name, error);
		return -ENOENT;
	}
	struct pool *pool = &server->pools[index];
	int hosts = patch->hosts >= 0 ? patch->hosts : (int)pool->min_hosts;
	int most = patch->max_hosts >= 0 ? patch->max_hosts : (int)pool->max_hosts;
	int spare = patch->spare_hosts >= 0 ? patch->spare_hosts : (int)pool->spare_hosts;
	if (patch->max_hosts < 0 && (pool->max_hosts == pool->min_hosts || hosts > most))
		most = hosts;
	int status = check_hosts("hosts", hosts, 1, CONFIG_HOSTS_MAX, error);
	if (status == 0)
		status = check_hosts("max_hosts", most, hosts, CONFIG_HOSTS_MAX, error);
	if (status == 0)
		status = check_hosts("spare_hosts", spare, 0, most, error);
	if (status == 0)
		status = check_workers(server, pool, (uint32_t)most, error);
	if (status < 0)
		return status;
	pool->min_hosts = (uint32_t)hosts;
	pool->max_hosts = (uint32_t)most;
	pool->spare_hosts = (uint32_t)spare;
	if (patch->paused >= 0 && pool->paused != (patch->paused == 1)) {
		pool->paused = patch->paused == 1;
		log_info(pool->paused ? "pool_paused" : "pool_resumed",
			 log_str("pool", pool->name));
	}
	pool_resize(pool, patch->hosts >= 0
				  ? pool->min_hosts
				  : within(pool->wanted, pool->min_hosts, pool->max_hosts));
	dispatch(pool);
	return 0;
}

static bool find_place(const struct server *server, struct job *job)
{
	const struct task *task = registry_find(server->registry, job->task);

	if (task)
		job->task_index = task->index;
	return task && task->enabled;
}

/* Jobs that wait are to run the task that they name, wherever that is in the new table. */
static void find_places(struct server *server)
{
	list_for_each_safe (node, &server->table.in_order) {
		struct job *job = container_of(node, struct job, in_order);
		if (job_state_is_ended(job->state) || job->set_aside || find_place(server, job))
			continue;
		job->max_attempts = job->attempt;
		if (job->state != JOB_QUEUED && job->state != JOB_SCHEDULED)
			continue; /* this attempt is its last */
		leave_waiting(server, job);
		keep_end_unrunnable(server, job, "its task is no longer configured");
	}
}

void server_reload(struct server *server, const struct config *config,
		   const struct registry *registry)
{
	bool moved;

	server->config = config;
	server->registry = registry;
	server->epoch++;
	moved = note_places(server);
	/* The hosts there are have the old table: they are to take no more jobs. */
	server->tasks_moved = server->tasks_moved || moved;
	if (moved)
		find_places(server);
	job_table_configure(&server->table, config);
	store_set_retention(server->store, config);
	for (size_t i = 0; i < config->pool_count; i++) {
		int index = server_find_pool(server, config->pools[i].name);
		if (index >= 0)
			configure_pool(&server->pools[index], &config->pools[i]);
		else if (add_pool(server, &config->pools[i]) < 0)
			log_error("pool_not_added", log_str("pool", config->pools[i].name));
	}
	if (server->callbacks)
		callbacks_configure(server->callbacks);
	else if (callbacks_new(server, &server->callbacks) < 0)
		log_error("callbacks_not_started");
	server->resize_due = true;
	loop_timer_set(server->loop, &server->tick_timer, clock_monotonic_ns());
}

void server_on_reload(struct server *server, server_reload_fn *reload, void *data)
{
	server->reload = reload;
	server->reload_data = data;
}

/* --- waiting ---------------------------------------------------------------------------------- */

static void waiter_expired(struct loop_timer *timer)
{
	struct waiter *waiter = container_of(timer, struct waiter, timer);

	waiter_cancel(waiter);
	waiter->wake(waiter, false);
}

int waiter_wait(struct server *server, struct waiter *waiter, struct list *waiters,
		int64_t deadline_ns, void (*wake)(struct waiter *waiter, bool ended))
{
	loop_timer_init(&waiter->timer, waiter_expired);
	int status = loop_timer_set(server->loop, &waiter->timer, deadline_ns);
	if (status < 0)
		return status;
	waiter->server = server;
	waiter->wake = wake;
	list_append(waiters, &waiter->node);
	server->waiters++;
	return 0;
}

int waiter_wait_job(struct server *server, struct waiter *waiter, struct job *job,
		    int64_t deadline_ns, void (*wake)(struct waiter *waiter, bool ended))
{
	return waiter_wait(server, waiter, &job->waiters, deadline_ns, wake);
}

int waiter_wait_batch(struct server *server, struct waiter *waiter, struct batch *batch,
		      int64_t deadline_ns, void (*wake)(struct waiter *waiter, bool ended))
{
	return waiter_wait(server, waiter, &batch->waiters, deadline_ns, wake);
}

void waiter_cancel(struct waiter *waiter)
{
	list_remove(&waiter->node);
	loop_timer_cancel(waiter->server->loop, &waiter->timer);
	waiter->server->waiters--;
}
