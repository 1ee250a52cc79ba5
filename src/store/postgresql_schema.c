/*
 * The tables of the shared store. See the header.
 */
#include "store/postgresql_schema.h"

#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const char postgresql_sql[];

#define STEP_MARK "\n-- version "

/* The number of the last step in the file. */
static int32_t newest_version(void)
{
	const char *at = postgresql_sql;
	int32_t version = 0;

	while ((at = strstr(at, STEP_MARK)) != NULL) {
		at += strlen(STEP_MARK);
		version = (int32_t)strtol(at, NULL, 10);
	}
	return version;
}

/* Carries out the steps that come after `version`. */
static int run_steps(struct pg_link *link, int32_t version, char message[static PG_MESSAGE_SIZE])
{
	const char *at = strstr(postgresql_sql, STEP_MARK);
	int status = 0;

	while (at && status == 0) {
		const char *step = at + strlen(STEP_MARK);
		const char *next = strstr(step, STEP_MARK);
		const char *body = strchr(step, '\n');
		char *sql;

		if (strtol(step, NULL, 10) > version && body) {
			sql = next ? strndup(body, (size_t)(next - body)) : strdup(body);
			status = sql ? pg_link_script(link, sql, message) : -ENOMEM;
			free(sql);
		}
		at = next;
	}
	return status;
}

/* The version of the tables that there are, 0 if there are none. */
static int read_version(struct pg_link *link, int32_t *ret_version,
			char message[static PG_MESSAGE_SIZE])
{
	struct pg_result *result = NULL;
	bool is_there;
	int status =
		pg_link_run(link,
			    "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'twinpool_version'"
			    " AND relnamespace = to_regnamespace(quote_ident(current_schema())))",
			    NULL, &result, message);

	if (status != 0)
		return status;
	is_there = pg_get_bool(result, 0, 0);
	PQclear(result);
	*ret_version = 0;
	if (!is_there)
		return 0;
	status = pg_link_run(link, "SELECT coalesce(max(version), 0) FROM twinpool_version", NULL,
			     &result, message);
	if (status != 0)
		return status;
	*ret_version = pg_get_int4(result, 0, 0);
	PQclear(result);
	return 0;
}

/* The key is that of this purpose in any database. The schema is the first that search_path names:
 * as SQL text, since an operator has written it. */
static const char begin_sql[] =
	"BEGIN;"
	"SELECT pg_advisory_xact_lock(8606216600190023532);" /* "twinpool" */
	"DO $$ BEGIN IF current_schema() IS NULL THEN EXECUTE 'CREATE SCHEMA ' ||"
	" split_part(current_setting('search_path'), ',', 1); END IF; END $$";

static int migrate(struct pg_link *link, int32_t *version, char message[static PG_MESSAGE_SIZE])
{
	char rest[PG_MESSAGE_SIZE];
	int status = pg_link_script(link, begin_sql, message);

	if (status == 0)
		status = read_version(link, version, message);
	if (status == 0)
		status = run_steps(link, *version, message);
	if (status == 0)
		status = read_version(link, version, message);
	if (status == 0)
		return pg_link_script(link, "COMMIT", message);
	if (link->conn)
		(void)pg_link_script(link, "ROLLBACK", rest);
	return status;
}

int pg_schema_ensure(struct pg_link *link, int32_t *ret_schema,
		     char message[static PG_MESSAGE_SIZE])
{
	struct pg_result *result = NULL;
	int32_t version = 0;
	int status = read_version(link, &version, message);

	if (status == 0 && version < newest_version())
		status = migrate(link, &version, message);
	if (status != 0)
		return status;
	if (version != newest_version()) {
		snprintf(message, PG_MESSAGE_SIZE,
			 "the tables are of version %d; this program knows up to %d", version,
			 newest_version());
		return -EPROTONOSUPPORT;
	}
	status = pg_link_run(link,
			     "SELECT to_regnamespace(quote_ident(current_schema()))::oid::bigint",
			     NULL, &result, message);
	if (status != 0)
		return status;
	*ret_schema = (int32_t)pg_get_int8(result, 0, 0);
	PQclear(result);
	return 0;
}
