/*
 * Connections to SQLite and their statements: see sqlite.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "store/sqlite.h"

/* Bytes of a path that are shown, and the end mark. */
#define SHOWN_PATH 121

#define FROM_JOBS " FROM jobs j LEFT JOIN texts t ON t.seq=j.seq "

static const char *const statement_texts[SQL_STATEMENTS] = {
	[SQL_BEGIN] = "BEGIN IMMEDIATE",
	[SQL_COMMIT] = "COMMIT",
	[SQL_ROLLBACK] = "ROLLBACK",

	[SQL_FIND] = "SELECT seq,state,attempt,held,batch,callback,ended_us FROM jobs "
		     "WHERE id=?1",
	[SQL_INSERT] =
		"INSERT INTO jobs(id,seq,state,attempt,priority,submitted_us,due_us,expires_us,"
		"ended_us,epoch,held,batch_index,batch,task,pool,labels,callback)"
		"VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17)",
	[SQL_INSERT_TEXTS] = "INSERT INTO texts(seq,record,document)VALUES(?1,?2,?3)",
	[SQL_INSERT_LABELS] = "INSERT OR IGNORE INTO labels(name,value,id)SELECT key,value,?1 FROM "
			      "json_each(CASE WHEN json_valid(?2) THEN ?2 ELSE '{}' END)",
	[SQL_REPUT] = "UPDATE jobs SET state=?2,attempt=?3,priority=?4,due_us=?5,expires_us=?6,"
		      "epoch=?7,held=?8,callback=coalesce(?9,callback) WHERE id=?1",
	[SQL_JOIN_BATCH] = "UPDATE jobs SET held=held|1 WHERE id=?1",
	[SQL_SET_RECORD] = "UPDATE texts SET record=coalesce(?2,record) WHERE seq=?1",
	[SQL_SET_DOCUMENT] = "UPDATE texts SET record=NULL,document=?2 WHERE seq=?1",
	[SQL_CLAIM] = "UPDATE jobs SET state=2,attempt=?2 WHERE id=?1 AND state IN(0,1) AND "
		      "attempt<?2",
	[SQL_UPDATE_LIVE] = "UPDATE jobs SET state=?2,attempt=?3,due_us=?4,expires_us=?5,epoch=?6 "
			    "WHERE id=?1",
	[SQL_END_LIVE] = "UPDATE jobs SET state=?2,attempt=?3,due_us=?4,expires_us=0,ended_us=?5,"
			 "held=?6,callback=coalesce(callback,?7) WHERE id=?1",
	[SQL_ADOPT] = "UPDATE jobs SET epoch=?2 WHERE id=?1",
	[SQL_FIND_KEY] = "SELECT fingerprint,id,is_batch FROM keys WHERE key=?1 AND expires_us>?2",
	[SQL_PUT_KEY] = "INSERT OR REPLACE INTO keys(key,fingerprint,id,is_batch,expires_us)"
			"VALUES(?1,?2,?3,?4,?5)",
	[SQL_PUT_BATCH] = "INSERT OR IGNORE INTO batches(id,task,pool,count,submitted_us,open,"
			  "ended_us,ended_state,doomed)VALUES(?1,?2,?3,?4,?5,0,0,0,0)",
	[SQL_FIND_BATCH] = "SELECT task,pool,count,submitted_us FROM batches WHERE id=?1 AND "
			   "doomed=0",
	[SQL_NOTE_BATCH] = "UPDATE batches SET open=open+?2,ended_us=max(ended_us,?3),"
			   "ended_state=iif(?3>=ended_us,?4,ended_state) WHERE id=?1",
	[SQL_RECOVER] =
		"SELECT " SQL_ROW_COLUMNS " FROM("
		"SELECT id FROM jobs INDEXED BY jobs_state WHERE state=0 AND id>?1 AND epoch<?2 "
		"UNION ALL "
		"SELECT id FROM jobs INDEXED BY jobs_state WHERE state=1 AND id>?1 AND epoch<?2 "
		"UNION ALL "
		"SELECT id FROM jobs INDEXED BY jobs_state WHERE state=2 AND id>?1 AND epoch<?2 "
		"ORDER BY id LIMIT ?3)p CROSS JOIN jobs j ON j.id=p.id LEFT JOIN texts t ON "
		"t.seq=j.seq ORDER BY p.id",

	[SQL_PUT_CALLBACK] =
		"INSERT OR REPLACE INTO callbacks(id,first_us,due_us,tries,http_status,delivered,"
		"url,error)VALUES(?1,?2,?2,0,0,0,(SELECT callback FROM jobs WHERE id=?1),NULL)",
	[SQL_DUE_CALLBACKS] =
		"SELECT c.id,c.url,t.document,c.tries,c.first_us FROM callbacks c JOIN jobs j ON "
		"j.id=c.id JOIN texts t ON t.seq=j.seq WHERE c.due_us>0 AND c.due_us<=?1 ORDER BY "
		"c.due_us LIMIT ?2",
	[SQL_LEASE_CALLBACK] = "UPDATE callbacks SET due_us=?2 WHERE id=?1",
	[SQL_NEXT_CALLBACK] = "SELECT min(due_us) FROM callbacks WHERE due_us>0",
	[SQL_CALLBACK_DONE] = "UPDATE callbacks SET due_us=?2,tries=?3,http_status=?4,"
			      "delivered=?5,error=?6 WHERE id=?1",
	[SQL_RELEASE_CALLBACK] = "UPDATE jobs SET held=held&~2 WHERE id=?1",

	[SQL_FETCH] = "SELECT " SQL_ROW_COLUMNS FROM_JOBS "WHERE j.id=?1",
	[SQL_FETCH_ROWS_OF_BATCH] =
		"SELECT " SQL_ROW_COLUMNS FROM_JOBS "WHERE j.batch=?1 ORDER BY j.batch_index",

	[SQL_OLDEST] = "SELECT id,seq,ended_us,labels IS NOT NULL,callback IS NOT NULL FROM jobs "
		       "WHERE state=?1 AND held=0 AND state>=4 ORDER BY ended_us LIMIT ?2",
	[SQL_OLDEST_BATCHES] =
		"SELECT b.id,0,b.ended_us,0,0 FROM batches b WHERE b.ended_state=?1 AND b.open=0 "
		"AND "
		"b.doomed=0 AND b.ended_state>=4 AND NOT EXISTS(SELECT 1 FROM jobs j WHERE "
		"j.batch=b.id AND j.held&2) ORDER BY b.ended_us LIMIT ?2",
	[SQL_DOOM_BATCH] = "UPDATE batches SET doomed=1 WHERE id=?1",
	[SQL_DOOMED_BATCH] = "SELECT id FROM batches WHERE doomed=1 LIMIT 1",
	[SQL_OF_BATCH] = "SELECT id,seq,state,labels IS NOT NULL,callback IS NOT NULL FROM jobs "
			 "WHERE batch=?1 AND state>=4 AND held&1 LIMIT ?2",
	[SQL_DELETE_JOB] = "DELETE FROM jobs WHERE id=?1",
	[SQL_DELETE_TEXTS] = "DELETE FROM texts WHERE seq=?1",
	[SQL_DELETE_LABELS] =
		"DELETE FROM labels WHERE (name,value,id) IN(SELECT e.key,e.value,?1 FROM jobs "
		"j,json_each(CASE WHEN json_valid(j.labels) THEN j.labels ELSE '{}' END) e WHERE "
		"j.id=?1)",
	[SQL_DELETE_CALLBACK] = "DELETE FROM callbacks WHERE id=?1",
	[SQL_DELETE_BATCH] = "DELETE FROM batches WHERE id=?1",
	[SQL_DELETE_KEYS] = "DELETE FROM keys WHERE key IN(SELECT key FROM keys WHERE "
			    "expires_us<=?1 ORDER BY expires_us LIMIT ?2)",
};

void sqlite_say(char message[static 240], const char *path, const char *problem)
{
	size_t length = text_copy(message, SHOWN_PATH, path);

	(void)text_copy(message + length, 240 - length, ": ");
	(void)text_copy(message + length + 2, 240 - length - 2, problem);
}

/* The reasons that an operator can do something about are told in his words. */
static int explain(struct sqlite_link *link, int code, const char **ret_text)
{
	switch (code & 0xff) {
	case SQLITE_FULL:
		*ret_text = "the disk is full";
		return -ENOSPC;
	case SQLITE_READONLY:
		*ret_text = "the database cannot be written";
		return -EROFS;
	case SQLITE_CORRUPT:
		*ret_text = "the database is damaged";
		return -EUCLEAN;
	case SQLITE_NOTADB:
		*ret_text = "the file is no database of SQLite";
		return -EMEDIUMTYPE;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		*ret_text = "another program has locked the database for too long";
		return -EBUSY;
	case SQLITE_NOMEM:
		*ret_text = "memory is short";
		return -ENOMEM;
	case SQLITE_CANTOPEN:
		*ret_text = "the database cannot be opened";
		return -EIO;
	default:
		*ret_text = link->db != NULL ? sqlite3_errmsg(link->db) : sqlite3_errstr(code);
		return -EIO;
	}
}

int sqlite_fail(struct sqlite_link *link, int code)
{
	int error = errno; /* SQLite's own memory of it often is empty */
	int system = link->db != NULL ? sqlite3_system_errno(link->db) : 0;
	const char *text;
	int result;

	if (system == 0)
		system = error;
	if (link->db != NULL && code == SQLITE_ERROR)
		code = sqlite3_extended_errcode(link->db);
	result = explain(link, code, &text);
	if (system != 0 && ((code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN))
		(void)snprintf(link->message, sizeof(link->message), "%s (%s)", text,
			       strerrordesc_np(system));
	else
		(void)snprintf(link->message, sizeof(link->message), "%s", text);
	return result;
}

sqlite3_stmt *sqlite_prepare(struct sqlite_link *link, enum sqlite_statement which)
{
	int code;

	if (link->statements[which] != NULL)
		return link->statements[which];
	code = sqlite3_prepare_v3(link->db, statement_texts[which], -1, SQLITE_PREPARE_PERSISTENT,
				  &link->statements[which], NULL);
	if (code == SQLITE_OK)
		return link->statements[which];
	(void)sqlite_fail(link, code);
	return NULL;
}

int sqlite_next(struct sqlite_link *link, sqlite3_stmt *statement)
{
	int code;
	int result;

	errno = 0;
	code = sqlite3_step(statement);
	if (code == SQLITE_ROW)
		return 1;
	result = code == SQLITE_DONE ? 0 : sqlite_fail(link, code);
	(void)sqlite3_reset(statement);
	return result;
}

int sqlite_run(struct sqlite_link *link, sqlite3_stmt *statement)
{
	int result = sqlite_next(link, statement);

	if (result == 1)
		(void)sqlite3_reset(statement);
	return result < 0 ? result : 0;
}

int sqlite_execute(struct sqlite_link *link, const char *text)
{
	int code;

	errno = 0;
	code = sqlite3_exec(link->db, text, NULL, NULL, NULL);
	return code == SQLITE_OK ? 0 : sqlite_fail(link, code);
}

int sqlite_integer(struct sqlite_link *link, const char *text, int64_t fallback, int64_t *ret_value)
{
	sqlite3_stmt *statement = NULL;
	int code = sqlite3_prepare_v2(link->db, text, -1, &statement, NULL);
	int result = code == SQLITE_OK ? sqlite_next(link, statement) : sqlite_fail(link, code);

	if (result >= 0)
		*ret_value = result == 1 ? sqlite3_column_int64(statement, 0) : fallback;
	(void)sqlite3_finalize(statement);
	return result < 0 ? result : 0;
}

void sqlite_unlink(struct sqlite_link *link)
{
	for (size_t i = 0; i < SQL_STATEMENTS; i++) {
		(void)sqlite3_finalize(link->statements[i]);
		link->statements[i] = NULL;
	}
	(void)sqlite3_close(link->db);
	link->db = NULL;
}

void sqlite_bind_id(sqlite3_stmt *statement, int at, const struct id *id)
{
	(void)sqlite3_bind_blob(statement, at, id->bytes, sizeof(id->bytes), SQLITE_STATIC);
}

void sqlite_bind_text(sqlite3_stmt *statement, int at, const char *text)
{
	(void)sqlite3_bind_text(statement, at, text, -1, SQLITE_STATIC);
}

bool sqlite_column_id(sqlite3_stmt *statement, int at, struct id *ret_id)
{
	const void *bytes = sqlite3_column_blob(statement, at);

	if (bytes == NULL || sqlite3_column_bytes(statement, at) != (int)sizeof(ret_id->bytes))
		return false;
	memcpy(ret_id->bytes, bytes, sizeof(ret_id->bytes));
	return true;
}

char *sqlite_column_copy(sqlite3_stmt *statement, int at, bool *failed)
{
	const unsigned char *text = sqlite3_column_text(statement, at);
	char *copy = NULL;

	if (sqlite3_column_type(statement, at) == SQLITE_NULL)
		return NULL;
	if (text != NULL)
		copy = strdup((const char *)text);
	if (copy == NULL)
		*failed = true;
	return copy;
}
