/*
 * The limit: a bare libmicrohttpd server, driven as twinpool drives it (one thread, an epoll of its
 * own inside ours, the same flags and options), that parses each body with jansson and answers with
 * one fixed document. What is faster than this is not to be had by a service on that library.
 *
 *	bare_server ANSWER-FILE
 *
 * serves on a free port of 127.0.0.1, which it prints, until SIGTERM. Whatever is posted must be a
 * JSON object with the text "task"; all else is answered with 400.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONNECTION_LIMIT	4096u
#define CONNECTION_MEMORY_BYTES 16384u
#define IDLE_SECONDS		75u
#define BODY_FIRST_ROOM		65536u
#define ANSWER_MAX		(64 << 20)
#define RUNS_A_ROUND		4

struct body {
	char *data; /* owned */
	size_t length, room;
};

struct server {
	struct MHD_Daemon *daemon;
	char *answer; /* owned */
	size_t answer_length;
	unsigned int connections;
};

/* --- one request ------------------------------------------------------------------------------ */

static bool body_append(struct body *body, const char *data, size_t length)
{
	if (body->length + length > body->room) {
		size_t room = body->room ? body->room * 2 : BODY_FIRST_ROOM;
		while (room < body->length + length)
			room *= 2;
		char *grown = realloc(body->data, room);
		if (!grown)
			return false;
		body->data = grown;
		body->room = room;
	}
	memcpy(body->data + body->length, data, length);
	body->length += length;
	return true;
}

static bool is_job(const struct body *body)
{
	json_t *document = json_loadb(body->data ? body->data : "", body->length,
				      JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
	bool is_job = json_is_string(json_object_get(document, "task"));

	json_decref(document);
	return is_job;
}

static enum MHD_Result answer(const struct server *server, struct MHD_Connection *connection,
			      const struct body *body)
{
	bool good = is_job(body);
	struct MHD_Response *response = MHD_create_response_from_buffer(
		good ? server->answer_length : 0, good ? server->answer : NULL,
		MHD_RESPMEM_PERSISTENT);

	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
	enum MHD_Result result =
		MHD_queue_response(connection, good ? MHD_HTTP_OK : MHD_HTTP_BAD_REQUEST, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result handle(void *data, struct MHD_Connection *connection, const char *url,
			      const char *method, const char *version, const char *upload_data,
			      size_t *upload_data_size, void **state)
{
	struct body *body = *state;

	(void)url;
	(void)method;
	(void)version;
	if (!body) {
		*state = calloc(1, sizeof(*body));
		return *state ? MHD_YES : MHD_NO;
	}
	if (*upload_data_size > 0) {
		size_t length = *upload_data_size;
		*upload_data_size = 0;
		return body_append(body, upload_data, length) ? MHD_YES : MHD_NO;
	}
	return answer(data, connection, body);
}

static void completed(void *data, struct MHD_Connection *connection, void **state,
		      enum MHD_RequestTerminationCode why)
{
	struct body *body = *state;

	(void)data;
	(void)connection;
	(void)why;
	if (body)
		free(body->data);
	free(body);
	*state = NULL;
}

static void connection_changed(void *data, struct MHD_Connection *connection, void **state,
			       enum MHD_ConnectionNotificationCode code)
{
	struct server *server = data;

	(void)connection;
	(void)state;
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
		server->connections++;
	else
		server->connections--;
}

/* --- the loop --------------------------------------------------------------------------------- */

/* How long epoll may sleep, in milliseconds; -1 for as long as nothing comes. */
static int run(struct server *server)
{
	MHD_UNSIGNED_LONG_LONG timeout_ms = 0;

	for (int i = 0; i < RUNS_A_ROUND; i++) {
		MHD_run(server->daemon);
		if (MHD_get_timeout(server->daemon, &timeout_ms) != MHD_YES)
			return -1;
		if (timeout_ms > 0)
			return timeout_ms < 60000 ? (int)timeout_ms : 60000;
	}
	return 0;
}

/* Serves until stop_fd can be read. */
static int serve(struct server *server, int stop_fd)
{
	int http_fd = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
	struct epoll_event event = {.events = EPOLLIN, .data.fd = http_fd};
	struct epoll_event events[8];
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	int result = -1;

	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, http_fd, &event) < 0)
		goto out;
	event.data.fd = stop_fd;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, stop_fd, &event) < 0)
		goto out;
	for (;;) {
		int count = epoll_wait(epoll_fd, events, 8, run(server));
		if (count < 0 && errno != EINTR)
			goto out;
		for (int i = 0; i < count; i++)
			if (events[i].data.fd == stop_fd) {
				result = 0;
				goto out;
			}
	}
out:
	if (epoll_fd >= 0)
		close(epoll_fd);
	return result;
}

/* --- starting --------------------------------------------------------------------------------- */

static int read_answer(const char *path, struct server *server)
{
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int result = -1;

	if (fd < 0 || fstat(fd, &status) < 0 || status.st_size > ANSWER_MAX)
		goto out;
	server->answer_length = (size_t)status.st_size;
	server->answer = malloc(server->answer_length + 1);
	if (!server->answer)
		goto out;
	size_t done = 0;
	while (done < server->answer_length) {
		ssize_t length = read(fd, server->answer + done, server->answer_length - done);
		if (length <= 0)
			goto out;
		done += (size_t)length;
	}
	result = 0;
out:
	if (fd >= 0)
		close(fd);
	return result;
}

static int listen_anywhere(unsigned int *ret_port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, SOMAXCONN) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &length) < 0) {
		close(fd);
		return -1;
	}
	*ret_port = ntohs(address.sin_port);
	return fd;
}

static int open_stop(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -1;
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static bool start(struct server *server, unsigned int *ret_port)
{
	int listen_fd = listen_anywhere(ret_port);

	if (listen_fd < 0)
		return false;
	server->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, handle,
		server, MHD_OPTION_LISTEN_SOCKET, listen_fd, MHD_OPTION_NOTIFY_COMPLETED, completed,
		server, MHD_OPTION_NOTIFY_CONNECTION, connection_changed, server,
		MHD_OPTION_CONNECTION_LIMIT, CONNECTION_LIMIT, MHD_OPTION_CONNECTION_TIMEOUT,
		IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY_BYTES,
		MHD_OPTION_END);
	return server->daemon != NULL;
}

int main(int argc, char **argv)
{
	struct server server = {0};
	unsigned int port;
	int stop_fd = open_stop();

	if (argc != 2 || stop_fd < 0 || read_answer(argv[1], &server) < 0 ||
	    !start(&server, &port)) {
		fprintf(stderr, "usage: bare_server ANSWER-FILE; or it could not start: %s\n",
			strerrordesc_np(errno));
		return 2;
	}
	printf("%u\n", port);
	fflush(stdout);
	int result = serve(&server, stop_fd);
	MHD_stop_daemon(server.daemon);
	free(server.answer);
	return result < 0 ? 1 : 0;
}
