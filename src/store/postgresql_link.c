/*
 * A connection by libpq. See the header.
 */
#include "store/postgresql_link.h"

#include <errno.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"

#define BINARY 1

#define STRING(macro)	  STRING_OF(macro)
#define STRING_OF(tokens) #tokens

/* Errors of statements that the callers tell apart. */
#define CONFLICT (-EDEADLK)
#define REFUSED	 (-EILSEQ)

bool pg_is_conflict(int status)
{
	return status == CONFLICT;
}

bool pg_is_refused(int status)
{
	return status == REFUSED;
}

/* The text on one line, without what stands behind the last character. */
static void set_message(char message[static PG_MESSAGE_SIZE], const char *text)
{
	size_t length = text_copy(message, PG_MESSAGE_SIZE, text);

	while (length > 0 && (unsigned char)message[length - 1] <= ' ')
		message[--length] = '\0';
	for (size_t i = 0; i < length; i++) {
		if ((unsigned char)message[i] < ' ')
			message[i] = ' ';
	}
}

void pg_link_close(struct pg_link *link)
{
	PQfinish(link->conn); /* NULL is allowed */
	link->conn = NULL;
}

static int lost(struct pg_link *link, char message[static PG_MESSAGE_SIZE])
{
	const char *text = PQerrorMessage(link->conn);

	set_message(message, text && *text ? text : "the connection to the database was lost");
	pg_link_close(link);
	return -ECONNRESET;
}

/* What kind of failure an SQLSTATE is: by its class, and by itself where that matters. */
static int status_of_sqlstate(const char *code)
{
	static const struct {
		const char *prefix;
		int status;
	} kinds[] = {
		{"40", CONFLICT},   {"55P03", CONFLICT},  {"22", REFUSED},	 {"23", REFUSED},
		{"53100", -ENOSPC}, {"53", -EAGAIN},	  {"28", -EACCES},	 {"42501", -EACCES},
		{"25006", -EROFS},  {"57P", -ECONNRESET}, {"57014", -ETIMEDOUT}, {"3D", -ENOENT},
	};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strncmp(code, kinds[i].prefix, strlen(kinds[i].prefix)) == 0)
			return kinds[i].status;
	}
	return -EIO;
}

static int judge(const PGresult *result, char message[static PG_MESSAGE_SIZE])
{
	const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	char text[PG_MESSAGE_SIZE];

	switch (PQresultStatus(result)) {
	case PGRES_COMMAND_OK:
	case PGRES_TUPLES_OK:
	case PGRES_PIPELINE_SYNC:
		return 0;
	case PGRES_PIPELINE_ABORTED:
		return -ECANCELED;
	case PGRES_EMPTY_QUERY:
	case PGRES_COPY_OUT:
	case PGRES_COPY_IN:
	case PGRES_COPY_BOTH:
	case PGRES_BAD_RESPONSE:
	case PGRES_NONFATAL_ERROR:
	case PGRES_FATAL_ERROR:
	case PGRES_SINGLE_TUPLE:
		break;
	}
	snprintf(text, sizeof(text), "%s%s%s%s", primary ? primary : PQresultErrorMessage(result),
		 code ? " (" : "", code ? code : "", code ? ")" : "");
	set_message(message, text);
	return code ? status_of_sqlstate(code) : -EIO;
}

/* Waits for the socket, stop_fd, and a third that only wakes. */
static int wait_for(struct pg_link *link, short events, int wake_fd, int64_t deadline_ns)
{
	struct pollfd fds[] = {
		{.fd = PQsocket(link->conn), .events = events},
		{.fd = link->stop_fd, .events = POLLIN},
		{.fd = wake_fd, .events = POLLIN},
	};
	int64_t left_ns = deadline_ns - clock_monotonic_ns();
	int ready = poll(fds, 3, left_ns > 0 ? (int)(left_ns / NS_PER_MS) + 1 : 0);

	if (ready < 0)
		return errno == EINTR ? 0 : -errno;
	if (fds[1].revents != 0)
		return -ECANCELED;
	return ready == 0 ? -ETIMEDOUT : 0;
}

/* A wait that came to nothing: the link is of no use any more, since an answer may still come. */
static int give_up(struct pg_link *link, int status, char message[static PG_MESSAGE_SIZE])
{
	set_message(message,
		    status == -ECANCELED ? "stopped" : "the database did not answer in time");
	pg_link_close(link);
	return status == -ECANCELED ? status : -ECONNRESET;
}

static int flush(struct pg_link *link, char message[static PG_MESSAGE_SIZE])
{
	int64_t deadline_ns = clock_monotonic_ns() + PG_ANSWER_TIMEOUT_MS * NS_PER_MS;

	for (;;) {
		int left = PQflush(link->conn);
		int status;

		if (left == 0)
			return 0;
		if (left < 0)
			return lost(link, message);
		/* The server may want its answers read before it reads on. */
		status = wait_for(link, POLLIN | POLLOUT, -1, deadline_ns);
		if (status != 0)
			return give_up(link, status, message);
		if (!PQconsumeInput(link->conn))
			return lost(link, message);
	}
}

/* The next result; NULL where one statement's results end. */
static int take(struct pg_link *link, PGresult **ret_result, char message[static PG_MESSAGE_SIZE])
{
	int64_t deadline_ns = clock_monotonic_ns() + PG_ANSWER_TIMEOUT_MS * NS_PER_MS;

	while (PQisBusy(link->conn)) {
		int status = wait_for(link, POLLIN, -1, deadline_ns);

		if (status != 0)
			return give_up(link, status, message);
		if (!PQconsumeInput(link->conn))
			return lost(link, message);
	}
	*ret_result = PQgetResult(link->conn);
	return 0;
}

/* Judges a result, and the link with it; clears it unless it is wanted and good. */
static int settle(struct pg_link *link, PGresult *result, struct pg_result **ret_result,
		  char message[static PG_MESSAGE_SIZE])
{
	int status = judge(result, message);

	if (status == 0 && ret_result)
		*ret_result = result;
	else
		PQclear(result);
	if (status != 0 && (PQstatus(link->conn) == CONNECTION_BAD || status == -ECONNRESET)) {
		pg_link_close(link);
		return -ECONNRESET;
	}
	return status;
}

/* The answer to the one statement that was sent, outside a pipeline. */
static int finish(struct pg_link *link, struct pg_result **ret_result,
		  char message[static PG_MESSAGE_SIZE])
{
	PGresult *first = NULL, *result = NULL;
	int status = flush(link, message);

	while (status == 0) {
		status = take(link, &result, message);
		if (status != 0 || !result)
			break;
		/* Of a script the last result counts, or the first that is bad. */
		if (first && PQresultStatus(first) == PGRES_FATAL_ERROR) {
			PQclear(result);
		} else {
			PQclear(first);
			first = result;
		}
	}
	if (status != 0) {
		PQclear(first);
		return status;
	}
	return first ? settle(link, first, ret_result, message) : lost(link, message);
}

static int send_failed(struct pg_link *link, char message[static PG_MESSAGE_SIZE])
{
	return lost(link, message);
}

/* Where the parameters lie, as libpq wants them. */
struct wire {
	const char *values[PG_PARAMS_MAX];
	int formats[PG_PARAMS_MAX];
};

static int make_wire(const struct pg_params *params, struct wire *ret_wire)
{
	if (!params)
		return 0;
	if (pg_params_failed(params))
		return -ENOMEM;
	for (int i = 0; i < params->count; i++) {
		const char *value =
			params->bytes.data ? params->bytes.data + params->offsets[i] : "";

		ret_wire->values[i] = params->lengths[i] < 0 ? NULL : value;
		ret_wire->formats[i] = BINARY;
	}
	return 0;
}

int pg_link_run(struct pg_link *link, const char *sql, const struct pg_params *params,
		struct pg_result **ret_result, char message[static PG_MESSAGE_SIZE])
{
	struct wire wire;
	int status = make_wire(params, &wire);

	if (status != 0)
		return status;
	if (!PQsendQueryParams(link->conn, sql, params ? params->count : 0, NULL, wire.values,
			       params ? params->lengths : NULL, wire.formats, BINARY))
		return send_failed(link, message);
	return finish(link, ret_result, message);
}

int pg_link_script(struct pg_link *link, const char *sql, char message[static PG_MESSAGE_SIZE])
{
	if (!PQsendQuery(link->conn, sql))
		return send_failed(link, message);
	return finish(link, NULL, message);
}

static int send_prepared(struct pg_link *link, size_t statement, const struct pg_params *params,
			 char message[static PG_MESSAGE_SIZE])
{
	char name[24];
	struct wire wire;
	int status = make_wire(params, &wire);

	if (status != 0) {
		set_message(message, "memory is short");
		return status;
	}
	snprintf(name, sizeof(name), "%zu", statement);
	if (!PQsendQueryPrepared(link->conn, name, params ? params->count : 0, wire.values,
				 params ? params->lengths : NULL, wire.formats, BINARY))
		return send_failed(link, message);
	return 0;
}

int pg_link_run_prepared(struct pg_link *link, size_t statement, const struct pg_params *params,
			 struct pg_result **ret_result, char message[static PG_MESSAGE_SIZE])
{
	int status = send_prepared(link, statement, params, message);

	return status != 0 ? status : finish(link, ret_result, message);
}

int pg_pipeline_begin(struct pg_link *link, char message[static PG_MESSAGE_SIZE])
{
	return PQenterPipelineMode(link->conn) ? 0 : lost(link, message);
}

int pg_pipeline_queue(struct pg_link *link, const char *sql, char message[static PG_MESSAGE_SIZE])
{
	if (!PQsendQueryParams(link->conn, sql, 0, NULL, NULL, NULL, NULL, BINARY))
		return send_failed(link, message);
	return 0;
}

int pg_pipeline_queue_prepared(struct pg_link *link, size_t statement,
			       const struct pg_params *params, char message[static PG_MESSAGE_SIZE])
{
	return send_prepared(link, statement, params, message);
}

int pg_pipeline_flush(struct pg_link *link, char message[static PG_MESSAGE_SIZE])
{
	if (!PQpipelineSync(link->conn))
		return send_failed(link, message);
	return flush(link, message);
}

int pg_pipeline_take(struct pg_link *link, struct pg_result **ret_result,
		     char message[static PG_MESSAGE_SIZE])
{
	PGresult *result = NULL, *end = NULL;
	int status = take(link, &result, message);

	if (status != 0)
		return status;
	if (!result)
		return lost(link, message);
	/* Each statement's results end with a NULL. */
	status = take(link, &end, message);
	if (status != 0 || end) {
		PQclear(result);
		PQclear(end);
		return status != 0 ? status : lost(link, message);
	}
	return settle(link, result, ret_result, message);
}

int pg_pipeline_end(struct pg_link *link, char message[static PG_MESSAGE_SIZE])
{
	PGresult *result = NULL;
	int status = take(link, &result, message);

	if (status != 0)
		return status;
	if (PQresultStatus(result) != PGRES_PIPELINE_SYNC || !PQexitPipelineMode(link->conn)) {
		PQclear(result);
		return lost(link, message);
	}
	PQclear(result);
	if (PQtransactionStatus(link->conn) != PQTRANS_IDLE)
		return pg_link_script(link, "ROLLBACK", message);
	return 0;
}

int pg_link_idle(struct pg_link *link, int wake_fd, int64_t timeout_ms,
		 char message[static PG_MESSAGE_SIZE])
{
	int status = wait_for(link, POLLIN, wake_fd, clock_monotonic_ns() + timeout_ms * NS_PER_MS);

	if (status == -ETIMEDOUT)
		return 0;
	if (status != 0)
		return give_up(link, status, message);
	return PQconsumeInput(link->conn) ? 0 : lost(link, message);
}

int pg_link_pause(int stop_fd, int64_t timeout_ms)
{
	struct pollfd stop = {.fd = stop_fd, .events = POLLIN};

	return poll(&stop, 1, (int)timeout_ms) > 0 ? -ECANCELED : 0;
}

/* Drives PQconnectPoll(), since PQconnectdb() would wait where nobody can stop it. */
static int connect_wait(struct pg_link *link, char message[static PG_MESSAGE_SIZE])
{
	int64_t deadline_ns = clock_monotonic_ns() + PG_CONNECT_TIMEOUT_MS * NS_PER_MS;
	PostgresPollingStatusType next = PGRES_POLLING_WRITING;

	while (next == PGRES_POLLING_WRITING || next == PGRES_POLLING_READING) {
		short events = next == PGRES_POLLING_WRITING ? POLLOUT : POLLIN;
		int status = wait_for(link, events, -1, deadline_ns);

		if (status != 0)
			return give_up(link, status, message);
		next = PQconnectPoll(link->conn);
	}
	if (next != PGRES_POLLING_OK)
		return lost(link, message);
	return PQsetnonblocking(link->conn, 1) == 0 ? 0 : lost(link, message);
}

/* libpq would write what a dying server says to stderr; it is in the error's message, too. */
static void ignore_notice(void *data, const char *text)
{
	(void)data;
	(void)text;
}

static int refuse(struct pg_link *link, const char *text, char message[static PG_MESSAGE_SIZE])
{
	set_message(message, text);
	pg_link_close(link);
	return -EPROTONOSUPPORT;
}

/*
 * The session's settings, and why. A prepared statement's generic plan is made once, perhaps when the
 * tables are empty and unknown to the planner: without a ban it may then read whole tables, and go
 * on doing so when they have a million rows. All our statements are meant to be carried out by
 * indexes and nested loops, whatever the statistics say; JIT only costs at this size.
 */
static const char session_sql[] =
	"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE;"
	"SET statement_timeout = " STRING(
		PG_STATEMENT_TIMEOUT_MS) ";"
					 "SET lock_timeout = " STRING(
						 PG_LOCK_TIMEOUT_MS) ";"
								     "SET "
								     "idle_in_transaction_session_"
								     "timeout = " STRING(
									     PG_ANSWER_TIMEOUT_MS) ";"
												   "SET plan_cache_mode = force_generic_plan;"
												   "SET enable_seqscan = off;"
												   "SET enable_bitmapscan = off;"
												   "SET enable_hashjoin = off;"
												   "SET enable_mergejoin = off;"
												   "SET jit = off;"
												   "SELECT set_config('search_path', 'twinpool', false)"
												   " WHERE current_setting('search_path') = '\"$user\", public'";

static int set_up(struct pg_link *link, char message[static PG_MESSAGE_SIZE])
{
	struct pg_result *result = NULL;
	const char *encoding = PQparameterStatus(link->conn, "server_encoding");
	int status;

	if (PQserverVersion(link->conn) < 140000)
		return refuse(link, "PostgreSQL 14 or later is needed", message);
	if (!encoding || strcmp(encoding, "UTF8") != 0)
		return refuse(link, "the database's encoding must be UTF8", message);
	status = pg_link_script(link, session_sql, message);
	if (status == 0)
		status = pg_link_run(link, "SELECT current_setting('synchronous_commit')", NULL,
				     &result, message);
	if (status != 0) {
		pg_link_close(link);
		return status;
	}
	/* What the operator has chosen holds, if it waits for the disk at all. */
	text_copy(link->sync, sizeof(link->sync), PQgetvalue(result, 0, 0));
	link->is_sync = strcmp(link->sync, "off") != 0;
	if (!link->is_sync)
		text_copy(link->sync, sizeof(link->sync), "on");
	PQclear(result);
	return 0;
}

int pg_link_open(struct pg_link *link, const char *given, const char *application,
		 char message[static PG_MESSAGE_SIZE])
{
	const char *connection = given ? given : "";
	/* What the connection string says goes before what stands above it here. A lost peer is
	 * noticed within half a minute, also when there is nothing to say to it. */
	const char *keywords[] = {
		"keepalives_idle",  "keepalives_interval",  "keepalives_count",
		"tcp_user_timeout", "target_session_attrs", "fallback_application_name",
		"dbname",	    "client_encoding",	    NULL};
	const char *values[] = {"10",	     "5",	 "3",	 "20000", "read-write",
				application, connection, "UTF8", NULL};
	PQconninfoOption *options = PQconninfoParse(connection, NULL);
	int status;

	if (!options) {
		/* libpq's reason would quote the string, which may have the password. */
		set_message(message, "store.connection is not a connection string of libpq");
		return -EINVAL;
	}
	PQconninfoFree(options);
	link->conn = PQconnectStartParams(keywords, values, 1);
	if (!link->conn) {
		set_message(message, "memory is short");
		return -ENOMEM;
	}
	PQsetNoticeProcessor(link->conn, ignore_notice, NULL);
	if (PQstatus(link->conn) == CONNECTION_BAD)
		return lost(link, message);
	status = connect_wait(link, message);
	return status != 0 ? status : set_up(link, message);
}

int pg_link_prepare(struct pg_link *link, const struct pg_statement *statements, size_t count,
		    char message[static PG_MESSAGE_SIZE])
{
	int status = pg_pipeline_begin(link, message);

	for (size_t i = 0; i < count && status == 0; i++) {
		char name[24];

		snprintf(name, sizeof(name), "%zu", i);
		if (!PQsendPrepare(link->conn, name, statements[i].sql, 0, NULL))
			return send_failed(link, message);
	}
	if (status == 0)
		status = pg_pipeline_flush(link, message);
	for (size_t i = 0; i < count && status == 0; i++)
		status = pg_pipeline_take(link, NULL, message);
	if (status != 0) {
		/* A statement that cannot be prepared: the schema is not what we think it is. */
		pg_link_close(link);
		return status;
	}
	return pg_pipeline_end(link, message);
}
