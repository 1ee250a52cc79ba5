/*
 * The statements of the shared store.
 *
 * What they have in common:
 * - States are numbers of enum job_state: below 2 waiting, below 4 live, from 4 on ended. They stand
 *   as literals, so that the planner can see that a partial index serves.
 * - A statement works on arrays, so one carries out many requests.
 * - A CTE that picks rows by FOR UPDATE SKIP LOCKED is MATERIALIZED: otherwise the planner may carry
 *   it out more than once and take more than its LIMIT.
 * - Where rows are found by their ids, a condition that a partial index has, too, is written so that
 *   the planner does not see it (state + 0): as long as it believes the table to be small, it may
 *   prefer to read all of that index to a few look-ups, and go on doing so.
 * - Who picks repeats the conditions on the row that is locked, since another transaction may have
 *   changed it between the statement's snapshot and the lock.
 */
#include "store/postgresql_statements.h"

/* The columns of rows as arrays $1 … $16, and one more of the sort given, numbered from 1. */
#define ROWS(more, type)                                                                           \
	"unnest($1::uuid[], $2::integer[], $3::integer[], $4::integer[], $5::bigint[],"            \
	" $6::bigint[], $7::bigint[], $8::bigint[], $9::uuid[], $10::integer[], $11::text[],"      \
	" $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::" type             \
	"[]) WITH ORDINALITY AS a(id, state, attempt, priority, submitted_us, due_us, expires_us," \
	" ended_us, batch, batch_index, task, pool, labels, callback, record, document, " more     \
	", n)"

#define JOB_COLUMNS                                                                                \
	"id, state, attempt, priority, submitted_us, due_us, expires_us, ended_us, batch,"         \
	" batch_index, task, pool, labels, callback, record, document, boot, held"
#define JOB_VALUES                                                                                 \
	"a.id, a.state, a.attempt, a.priority, a.submitted_us, a.due_us, a.expires_us, "           \
	"a.ended_us,"                                                                              \
	" a.batch, a.batch_index, a.task, a.pool, a.labels::json, a.callback, a.record,"           \
	" a.document, $18::bigint, a.state = 2"

#define IS_SWEEPER "EXISTS (SELECT FROM sweeper WHERE boot = $1::bigint AND until_us > now_us())"

const struct pg_statement pg_statements[PG_STATEMENTS] = {
	/*
	 * Rows, $17 the number of each one's request, $18 boot; then of the requests the key, its
	 * fingerprint, expiry, what it stands for, whether that is a batch; and the batch. Answers the
	 * requests whose key was taken, with what it stands for. A key that is there is "updated" to
	 * itself, so that it is locked and seen even if it came after our snapshot. One that stands for
	 * our own id is our own earlier doing.
	 */
	[PG_PUT] =
		{"WITH asked AS MATERIALIZED (SELECT * FROM unnest($19::text[], $20::bytea[],"
		 " $21::bigint[], $22::uuid[], $23::boolean[], $24::uuid[], $25::bigint[],"
		 " $26::integer[], $27::text[], $28::text[]) WITH ORDINALITY AS q(key, fingerprint,"
		 " expires_us, id, is_batch, batch, submitted_us, count, task, pool, n)),"
		 " keyed AS (INSERT INTO keys AS k (key, fingerprint, expires_us, id, is_batch)"
		 " SELECT key, fingerprint, expires_us, id, is_batch FROM asked WHERE key IS NOT "
		 "NULL"
		 " ORDER BY key ON CONFLICT (key) DO UPDATE SET"
		 " fingerprint = CASE WHEN k.expires_us <= now_us() THEN excluded.fingerprint"
		 " ELSE k.fingerprint END,"
		 " id = CASE WHEN k.expires_us <= now_us() THEN excluded.id ELSE k.id END,"
		 " is_batch = CASE WHEN k.expires_us <= now_us() THEN excluded.is_batch"
		 " ELSE k.is_batch END,"
		 " expires_us = CASE WHEN k.expires_us <= now_us() THEN excluded.expires_us"
		 " ELSE k.expires_us END RETURNING key, id, is_batch, fingerprint),"
		 " good AS MATERIALIZED (SELECT q.* FROM asked q LEFT JOIN keyed k ON k.key = q.key"
		 " WHERE q.key IS NULL OR k.id = q.id),"
		 " batched AS (INSERT INTO batches (id, submitted_us, count, task, pool)"
		 " SELECT batch, submitted_us, count, task, pool FROM good WHERE batch IS NOT NULL"
		 " ON CONFLICT (id) DO NOTHING),"
		 " put AS (INSERT INTO jobs AS j (" JOB_COLUMNS ")"
		 " SELECT " JOB_VALUES " FROM " ROWS(
			 "request",
			 "integer") " WHERE a.request IN (SELECT good.n FROM good)"
				    " ON CONFLICT (id) DO UPDATE SET state = excluded.state,"
				    " attempt = excluded.attempt, priority = excluded.priority,"
				    " submitted_us = excluded.submitted_us, due_us = "
				    "excluded.due_us,"
				    " expires_us = excluded.expires_us, ended_us = "
				    "excluded.ended_us,"
				    " labels = excluded.labels, callback = excluded.callback,"
				    " record = excluded.record, document = excluded.document, held "
				    "= excluded.held,"
				    " revision = j.revision + 1"
				    " WHERE j.state < 4 AND j.boot = excluded.boot AND j.attempt "
				    "<= excluded.attempt)"
				    " SELECT q.n, k.id, k.is_batch, k.fingerprint = q.fingerprint"
				    " FROM asked q JOIN keyed k ON k.key = q.key WHERE k.id <> "
				    "q.id"},
	/* Ids, attempts, again, boot. Answers the numbers of those that may run. */
	[PG_CLAIM] =
		{"WITH asked AS MATERIALIZED (SELECT * FROM unnest($1::uuid[], $2::integer[],"
		 " $3::boolean[]) WITH ORDINALITY AS a(id, attempt, again, n)),"
		 " done AS (UPDATE jobs j SET state = 2, attempt = a.attempt, boot = $4::bigint,"
		 " held = true, take = 0, revision = j.revision + 1 FROM asked a WHERE j.id = a.id"
		 " AND j.attempt < a.attempt AND (j.state <= 1 AND NOT j.held"
		 " OR j.state <= 2 AND j.held AND j.boot = $4::bigint) RETURNING a.n)"
		 " SELECT n FROM done UNION ALL"
		 " SELECT a.n FROM asked a JOIN jobs j ON j.id = a.id"
		 " WHERE a.again AND j.boot = $4::bigint AND j.attempt = a.attempt AND j.state >= "
		 "2"},
	/*
	 * Pool, count, aging, boot, number of the claim. The order of the queue is due_us - priority x
	 * aging, and aging is not the database's to know, so no index has that order. But within one
	 * priority it is that of due_us: so the heads of the 21 priorities, each from the index, are
	 * merged. More heads are looked at than are wanted, so that what others are just taking does
	 * not leave us without.
	 */
	[PG_TAKE] =
		{"WITH heads AS MATERIALIZED (SELECT w.id, w.due_us - p.priority * $3::bigint "
		 "AS rank"
		 " FROM generate_series(-10, 10) AS p(priority) CROSS JOIN LATERAL"
		 " (SELECT j.id, j.due_us FROM jobs j WHERE j.pool = $1::text"
		 " AND j.priority = p.priority::smallint AND j.state <= 1 AND NOT j.held"
		 " AND j.due_us <= now_us() AND (j.expires_us = 0 OR j.expires_us > now_us())"
		 " ORDER BY j.due_us, j.id LIMIT $2::integer * 4 + 16) w"
		 " ORDER BY rank, w.id LIMIT $2::integer * 4 + 16),"
		 " picked AS MATERIALIZED (SELECT j.id, h.rank FROM heads h JOIN jobs j ON "
		 "j.id = h.id"
		 " WHERE j.state + 0 <= 1 AND NOT j.held ORDER BY h.rank, h.id LIMIT $2::integer"
		 " FOR UPDATE OF j SKIP LOCKED),"
		 " taken AS (UPDATE jobs j SET state = 2, attempt = j.attempt + 1, boot = "
		 "$4::bigint,"
		 " held = true, take = $5::bigint, revision = j.revision + 1"
		 " FROM picked p WHERE j.id = p.id RETURNING " PG_ROW(
			 j) ", p.rank)"
			    " SELECT * FROM taken ORDER BY rank, id"},
	/* Pool, limit. How many are due, counted up to the limit for each priority. */
	[PG_WAITING] =
		{"SELECT coalesce(sum(w.count), 0)::bigint FROM generate_series(-10, 10) AS "
		 "p(priority)"
		 " CROSS JOIN LATERAL (SELECT count(*) FROM (SELECT FROM jobs j"
		 " WHERE j.pool = $1::text AND j.priority = p.priority::smallint AND j.state <= 1"
		 " AND NOT j.held AND j.due_us <= now_us() LIMIT $2::integer) x) w"},
	/* Boot, first and last number of the claims whose answer was lost. Those of STORE_TAKE have even
	 * numbers and go back to the queue as if they had not been; of the others, what ran goes back
	 * to the boot that never lived, to be recovered again. */
	[PG_GIVE_BACK] =
		{"UPDATE jobs SET state = CASE WHEN take % 2 = 0 THEN 1 ELSE state END,"
		 " attempt = CASE WHEN take % 2 = 0 THEN attempt - 1 ELSE attempt END,"
		 " held = take % 2 = 1 AND state = 2,"
		 " boot = CASE WHEN take % 2 = 1 AND state = 2 THEN 0 ELSE boot END,"
		 " take = 0, revision = revision + 1"
		 " WHERE held AND boot = $1::bigint AND take BETWEEN $2::bigint AND $3::bigint"},
	/* Rows, again, boot. Answers the numbers of those that were ours. To do it twice is to do it
	 * once. */
	[PG_UPDATE] =
		{"UPDATE jobs j SET state = a.state, attempt = a.attempt, due_us = a.due_us,"
		 " expires_us = a.expires_us, record = coalesce(a.record, j.record),"
		 " held = a.state = 2, take = 0, revision = j.revision + 1"
		 " FROM " ROWS(
			 "again",
			 "boolean") " WHERE j.id = a.id AND j.state < 4 AND j.boot = $18::bigint"
				    " AND a.attempt >= j.attempt - 1 RETURNING "
				    "a.n"},
	/* Rows, again, boot. Answers the numbers of those that are in, and whether others watch them. */
	[PG_END] = {"WITH asked AS MATERIALIZED (SELECT * FROM " ROWS(
		"again",
		"boolean") "),"
			   " done AS (UPDATE jobs j SET state = a.state, attempt = a.attempt,"
			   " ended_us = a.ended_us, document = a.document, record = NULL, held = "
			   "false,"
			   " revision = j.revision + 1 FROM asked a WHERE j.id = a.id AND j.state "
			   "< 4"
			   " AND j.attempt <= a.attempt AND j.boot = $18::bigint"
			   " RETURNING a.n, j.id, a.ended_us, coalesce(a.callback, j.callback) AS "
			   "callback,"
			   " j.watched_us > now_us() AS watched),"
			   " put AS (INSERT INTO jobs (" JOB_COLUMNS ") SELECT " JOB_VALUES
			   " FROM asked a WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.id = a.id)"
			   " ON CONFLICT (id) DO NOTHING RETURNING id, ended_us, callback),"
			   " calls AS (INSERT INTO callbacks (id, url, first_us, due_us)"
			   " SELECT id, callback, ended_us, least(nullif(ended_us, 0), now_us())"
			   " FROM (SELECT id, callback, ended_us FROM done"
			   " UNION ALL SELECT id, callback, ended_us FROM put) e"
			   " WHERE callback IS NOT NULL ON CONFLICT (id) DO NOTHING)"
			   " SELECT n, watched FROM done UNION ALL"
			   " SELECT a.n, false FROM asked a"
			   " WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.id = a.id) UNION ALL"
			   " SELECT a.n, false FROM asked a JOIN jobs j ON j.id = a.id WHERE "
			   "a.again"
			   " AND j.state + 0 >= 4 AND j.boot = $18::bigint AND j.attempt = "
			   "a.attempt"},
	/* Ids, attempts, documents, boot. Answers the numbers of those that are ours. */
	[PG_LIVE] = {"UPDATE jobs j SET document = a.document, revision = j.revision + 1"
		     " FROM unnest($1::uuid[], $2::integer[], $3::text[]) WITH ORDINALITY"
		     " AS a(id, attempt, document, n)"
		     " WHERE j.id = a.id AND j.boot = $4::bigint"
		     " AND j.attempt = a.attempt AND j.state BETWEEN 2 AND 3 RETURNING a.n"},
	/* Boot, for how long. Makes us the sweeper unless another is. */
	[PG_ELECT] = {"UPDATE sweeper SET boot = $1::bigint, until_us = now_us() + $2::bigint"
		      " WHERE ctid IN (SELECT ctid FROM sweeper"
		      " WHERE until_us <= now_us() OR boot = $1::bigint"
		      " AND until_us < now_us() + $2::bigint / 2 FOR UPDATE SKIP LOCKED)"},
	/* Boot, whether we have seen the database for long enough. Marks those whose lease has run out;
	 * but after a restart of the database everybody has a lease's time to renew it. */
	[PG_BURY] = {"UPDATE nodes SET taken_us = now_us() WHERE taken_us IS NULL"
		     " AND lease_until_us <= now_us() AND boot <> $1::bigint AND $2::boolean"
		     " AND now() - pg_postmaster_start_time() > lease_us * interval '1 microsecond'"
		     " AND " IS_SWEEPER},
	/* Boot, limit, number of the claim. Answers the rows as they were; they are ours now. */
	[PG_RECOVER] =
		{"WITH lost AS MATERIALIZED (SELECT l.id FROM nodes n CROSS JOIN LATERAL"
		 " (SELECT j.id FROM jobs j WHERE j.held AND j.boot = n.boot ORDER BY j.id"
		 " LIMIT $2::integer FOR UPDATE SKIP LOCKED) l"
		 " WHERE n.taken_us IS NOT NULL AND " IS_SWEEPER "),"
		 " expired AS MATERIALIZED (SELECT j.id FROM jobs j WHERE j.state <= 1 AND NOT "
		 "j.held"
		 " AND j.expires_us > 0 AND j.expires_us <= now_us() AND " IS_SWEEPER
		 " ORDER BY j.expires_us LIMIT $2::integer FOR UPDATE SKIP LOCKED),"
		 " taken AS (UPDATE jobs j SET boot = $1::bigint, held = true, take = $3::bigint"
		 " FROM (SELECT id FROM (SELECT id FROM lost UNION ALL SELECT id FROM expired) u"
		 " ORDER BY id LIMIT $2::integer) p WHERE j.id = p.id RETURNING " PG_ROW(
			 j) ")"
			    " SELECT * FROM taken ORDER BY id"},
	/* Id, boot, number of the claim. Answers nothing if there is no such job; else the row if it is
	 * ours now, else nulls; and its state. */
	[PG_CANCEL] =
		{"WITH found AS MATERIALIZED (SELECT id, state, held, boot FROM jobs"
		 " WHERE id = $1::uuid FOR UPDATE),"
		 " ours AS (UPDATE jobs j SET boot = $2::bigint, held = true, take = $3::bigint"
		 " FROM found f WHERE j.id = f.id AND f.state <= 1"
		 " AND (NOT f.held OR f.boot = $2::bigint) RETURNING " PG_ROW(
			 j) "),"
			    " told AS (UPDATE jobs j SET cancel = true FROM found f WHERE j.id = "
			    "f.id"
			    " AND f.state < 4 AND f.held AND NOT (f.state <= 1 AND f.boot = "
			    "$2::bigint))"
			    " SELECT ours.*, found.state::integer FROM found LEFT JOIN ours ON "
			    "true"},
	/* Ids, for how long. Marks them as watched, when half of an earlier mark has passed; a row that
	 * is just being changed is left out, since nobody should wait for this. */
	[PG_WATCH] = {"UPDATE jobs SET watched_us = now_us() + $2::bigint WHERE id IN (SELECT id "
		      "FROM jobs"
		      " WHERE id = ANY ($1::uuid[]) AND state < 4"
		      " AND watched_us < now_us() + $2::bigint / 2 FOR UPDATE SKIP LOCKED)"},
	/* Ids, revisions. Answers the rows of another revision, and theirs. */
	[PG_CHANGED] = {"SELECT " PG_ROW(
		j) ", j.revision FROM unnest($1::uuid[], $2::integer[])"
		   " AS w(id, revision) JOIN jobs j ON j.id = w.id WHERE j.revision <> w.revision"},
	/* Boot. What others want of ours: id, to be ended, watched. */
	[PG_WANTED] = {"SELECT id, cancel, watched_us > now_us() FROM jobs"
		       " WHERE held AND boot = $1::bigint AND (cancel OR watched_us > now_us())"},
	/* Limit, lease. Answers those that are due. */
	[PG_CALLBACKS] =
		{"WITH due AS MATERIALIZED (SELECT id FROM callbacks WHERE due_us > 0"
		 " AND due_us <= now_us() ORDER BY due_us LIMIT $1::integer FOR UPDATE SKIP "
		 "LOCKED),"
		 " given AS (UPDATE callbacks c SET due_us = now_us() + $2::bigint FROM due d"
		 " WHERE c.id = d.id RETURNING c.id, c.url, c.tries, c.first_us)"
		 " SELECT g.id, g.url, g.tries, g.first_us, j.document"
		 " FROM given g JOIN jobs j ON j.id = g.id ORDER BY g.first_us"},
	[PG_CALLBACKS_NEXT] = {"SELECT coalesce(min(due_us), 0) FROM callbacks WHERE due_us > 0"},
	/* Ids, tries, due_us, delivered, http_status, error. */
	[PG_CALLBACK_RESULT] = {"UPDATE callbacks c SET tries = a.tries, due_us = a.due_us, "
				"delivered = a.delivered,"
				" http_status = a.http_status, error = a.error FROM "
				"unnest($1::uuid[], $2::integer[],"
				" $3::bigint[], $4::boolean[], $5::integer[], $6::text[])"
				" AS a(id, tries, due_us, delivered, http_status, error)"
				" WHERE c.id = a.id AND c.due_us + 0 > 0"},
	/*
	 * Boot, of each ended state the age (0: any) and the number (0: any) that are kept, limit.
	 * Answers how many went. Of each state, what ended before `cut_us` is to go, but of a batch
	 * only when that is so for all of it. A batch that is too large for one sweep goes with the
	 * first of its jobs, so nobody sees half of it; the rest are then like jobs of no batch.
	 */
	[PG_SWEEP] =
		{"WITH rule AS MATERIALIZED (SELECT (r.n + 3)::smallint AS state, greatest("
		 " CASE WHEN r.age_us > 0 THEN now_us() - r.age_us ELSE 0 END,"
		 " CASE WHEN r.keep > 0 THEN coalesce((SELECT j.ended_us + 1 FROM jobs j"
		 " WHERE j.state = (r.n + 3)::smallint AND j.state >= 4"
		 " ORDER BY j.ended_us DESC, j.id DESC OFFSET r.keep LIMIT 1), 0)"
		 " ELSE 0 END) AS cut_us"
		 " FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY AS r(age_us, keep, n)"
		 " WHERE " IS_SWEEPER "),"
		 " lone AS MATERIALIZED (SELECT l.id FROM rule r CROSS JOIN LATERAL"
		 " (SELECT j.id FROM jobs j WHERE j.state = r.state AND j.state >= 4"
		 " AND j.ended_us < r.cut_us AND NOT EXISTS"
		 " (SELECT FROM callbacks c WHERE c.id = j.id AND c.due_us + 0 > 0)"
		 " AND NOT EXISTS (SELECT FROM batches b WHERE b.id = j.batch)"
		 " ORDER BY j.ended_us LIMIT $4::integer) l LIMIT $4::integer),"
		 " whole AS MATERIALIZED (SELECT b.id FROM batches b"
		 " WHERE EXISTS (SELECT FROM rule)"
		 " AND NOT EXISTS (SELECT FROM jobs j WHERE j.batch = b.id AND (j.state < 4"
		 " OR j.ended_us >= (SELECT r.cut_us FROM rule r WHERE r.state = j.state)"
		 " OR EXISTS (SELECT FROM callbacks c WHERE c.id = j.id AND c.due_us + 0 > 0)))"
		 " ORDER BY b.id LIMIT $4::integer),"
		 " gone AS MATERIALIZED (SELECT id, NULL::uuid AS batch FROM lone"
		 " UNION ALL (SELECT j.id, j.batch FROM whole w JOIN jobs j ON j.batch = w.id)"
		 " LIMIT $4::integer),"
		 " deleted AS (DELETE FROM jobs j USING gone g WHERE j.id = g.id RETURNING j.id),"
		 " calls AS (DELETE FROM callbacks c USING gone g WHERE c.id = g.id),"
		 " opened AS (DELETE FROM batches b WHERE b.id IN (SELECT batch FROM gone)"
		 " OR b.id IN (SELECT w.id FROM whole w"
		 " WHERE NOT EXISTS (SELECT FROM jobs j WHERE j.batch = w.id)))"
		 " SELECT count(*) FROM deleted"},
	/* Boot, limit. */
	[PG_SWEEP_KEYS] =
		{"DELETE FROM keys WHERE key IN (SELECT key FROM keys WHERE expires_us <= now_us()"
		 " AND " IS_SWEEPER
		 " ORDER BY expires_us LIMIT $2::integer FOR UPDATE SKIP LOCKED)"},
	/* Boot. Those that have nothing left, an hour after. */
	[PG_SWEEP_NODES] =
		{"DELETE FROM nodes n WHERE n.boot <> 0 AND n.taken_us < now_us() - 3600000000"
		 " AND NOT EXISTS (SELECT FROM jobs j WHERE j.held AND j.boot = n.boot)"
		 " AND " IS_SWEEPER},
	/* Ids. */
	[PG_FETCH] = {"SELECT " PG_ROW(j) " FROM jobs j WHERE j.id = ANY ($1::uuid[])"},
	/* Cursor, states as bits, pool, task, label, its value, since, until, limit. In the order of the
	 * identifiers, which is that of submission. */
	[PG_LIST] = {"SELECT " PG_ROW(
		j) " FROM jobs j"
		   " WHERE j.id < coalesce($1::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')"
		   " AND ($2::integer = 0 OR ($2::integer >> j.state) & 1 = 1)"
		   " AND ($3::text IS NULL OR j.pool = $3::text)"
		   " AND ($4::text IS NULL OR j.task = $4::text)"
		   " AND ($5::text IS NULL OR j.labels ->> $5::text = $6::text)"
		   " AND j.submitted_us >= $7::bigint"
		   " AND ($8::bigint = 0 OR j.submitted_us < $8::bigint)"
		   " ORDER BY j.id DESC LIMIT $9::integer"},
	[PG_BATCH] =
		{"SELECT id, task, pool, count, submitted_us FROM batches WHERE id = $1::uuid"},
	[PG_BATCH_ROWS] = {"SELECT " PG_ROW(
		j) " FROM jobs j WHERE j.batch = $1::uuid ORDER BY j.batch_index"},
	[PG_SIZE] = {"SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c"
		     " WHERE c.relkind = 'r' AND c.relnamespace = "
		     "to_regnamespace(quote_ident(current_schema()))"},
};
