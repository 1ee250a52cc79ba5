/*
 * The no-op job by Gearman, in C on both sides: an upper bound of what a service before it could do,
 * since no HTTP is spoken at all.
 *
 *	gearman_echo work PORT			a worker: parses a body, gives its args back
 *	gearman_echo load PORT CLIENTS SECONDS BODY-FILE
 *
 * The load is CLIENTS threads with a connection each, which submit the body and wait for its result, over and
 * over. It prints one line of JSON: answers a second, median and 99th percentile in microseconds.
 */
#include <jansson.h>
#include <libgearman/gearman.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_S    1000000000
#define CLIENTS_MAX 1024
#define SAMPLES	    65536u
#define BODY_MAX    65536u

struct client {
	pthread_t thread;
	in_port_t port;
	const char *body;
	size_t length;
	int64_t until_ns;
	uint32_t *sample_us; /* owned; SAMPLES of them, the newest */
	size_t done;
	bool failed;
};

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* --- the worker ------------------------------------------------------------------------------- */

static gearman_return_t echo(gearman_job_st *job, void *data)
{
	json_t *document = json_loadb(gearman_job_workload(job), gearman_job_workload_size(job),
				      JSON_REJECT_DUPLICATES, NULL);
	char *result =
		json_dumps(json_object_get(document, "args"), JSON_COMPACT | JSON_ENCODE_ANY);
	gearman_return_t status = GEARMAN_ERROR;

	(void)data;
	if (result)
		status = gearman_job_send_complete(job, result, strlen(result));
	free(result);
	json_decref(document);
	return gearman_failed(status) ? GEARMAN_ERROR : GEARMAN_SUCCESS;
}

static int work(in_port_t port)
{
	gearman_worker_st *worker = gearman_worker_create(NULL);

	if (!worker || gearman_failed(gearman_worker_add_server(worker, "127.0.0.1", port)) ||
	    gearman_failed(gearman_worker_define_function(worker, "echo", 4,
							  gearman_function_create(echo), 0, NULL)))
		return 1;
	while (gearman_success(gearman_worker_work(worker)))
		;
	fprintf(stderr, "gearman_echo: %s\n", gearman_worker_error(worker));
	return 1;
}

/* --- the load --------------------------------------------------------------------------------- */

static bool submit(gearman_client_st *connection, struct client *client)
{
	gearman_return_t status;
	size_t length;
	int64_t began_ns = now_ns();
	void *result = gearman_client_do(connection, "echo", NULL, client->body, client->length,
					 &length, &status);

	client->sample_us[client->done++ % SAMPLES] = (uint32_t)((now_ns() - began_ns) / 1000);
	bool good = gearman_success(status) && result;
	free(result);
	return good;
}

static void *client_main(void *data)
{
	struct client *client = data;
	gearman_client_st *connection = gearman_client_create(NULL);

	client->failed =
		!connection ||
		gearman_failed(gearman_client_add_server(connection, "127.0.0.1", client->port));
	while (!client->failed && now_ns() < client->until_ns)
		client->failed = !submit(connection, client);
	if (connection)
		gearman_client_free(connection);
	return NULL;
}

static int compare(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a;
	uint32_t right = *(const uint32_t *)b;

	return (left > right) - (left < right);
}

/* Gathers the samples of all into one, sorted; answers how many there are. */
static size_t gather(const struct client *clients, size_t count, uint32_t *ret_sample)
{
	size_t total = 0;

	for (size_t i = 0; i < count; i++) {
		size_t kept = clients[i].done < SAMPLES ? clients[i].done : SAMPLES;
		memcpy(ret_sample + total, clients[i].sample_us, kept * sizeof(*ret_sample));
		total += kept;
	}
	qsort(ret_sample, total, sizeof(*ret_sample), compare);
	return total;
}

static int load(in_port_t port, size_t count, int64_t seconds, const char *body, size_t length)
{
	struct client *clients = calloc(count, sizeof(*clients));
	uint32_t *sample = calloc(count * SAMPLES, sizeof(*sample));
	int64_t began_ns = now_ns();
	size_t started = 0, done = 0;
	bool failed = !clients || !sample;

	for (; !failed && started < count; started++) {
		clients[started] = (struct client){
			.port = port,
			.body = body,
			.length = length,
			.until_ns = began_ns + seconds * NS_PER_S,
			.sample_us = calloc(SAMPLES, sizeof(*sample)),
		};
		failed = !clients[started].sample_us ||
			 pthread_create(&clients[started].thread, NULL, client_main,
					&clients[started]) != 0;
		if (failed)
			break;
	}
	for (size_t i = 0; i < started; i++) {
		pthread_join(clients[i].thread, NULL);
		failed = failed || clients[i].failed;
		done += clients[i].done;
	}
	int64_t took_ns = now_ns() - began_ns;
	size_t kept = failed ? 0 : gather(clients, started, sample);
	if (kept > 0)
		printf("{\"rate\": %.1f, \"p50_us\": %u, \"p99_us\": %u, \"requests\": %zu}\n",
		       (double)done * NS_PER_S / (double)took_ns, sample[kept / 2],
		       sample[kept * 99 / 100], done);
	for (size_t i = 0; i < started; i++)
		free(clients[i].sample_us);
	free(sample);
	free(clients);
	return kept > 0 ? 0 : 1;
}

static size_t read_body(const char *path, char *ret_body)
{
	FILE *file = fopen(path, "rbe");
	size_t length = 0;

	if (!file)
		return 0;
	length = fread(ret_body, 1, BODY_MAX, file);
	(void)fclose(file);
	return length;
}

int main(int argc, char **argv)
{
	static char body[BODY_MAX];
	in_port_t port = argc > 2 ? (in_port_t)strtoul(argv[2], NULL, 10) : 0;

	if (argc == 3 && strcmp(argv[1], "work") == 0)
		return work(port);
	if (argc == 6 && strcmp(argv[1], "load") == 0) {
		size_t clients = strtoul(argv[3], NULL, 10);
		size_t length = read_body(argv[5], body);
		if (clients >= 1 && clients <= CLIENTS_MAX && length > 0)
			return load(port, clients, strtol(argv[4], NULL, 10), body, length);
	}
	fprintf(stderr, "usage: gearman_echo work PORT | load PORT CLIENTS SECONDS BODY-FILE\n");
	return 2;
}
