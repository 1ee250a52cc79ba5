-- The tables of the shared store, made in the first schema of the connection's search_path.
--
-- A line "-- version N" begins what leads from version N-1 to N; store/postgresql_schema.c carries out, in one
-- transaction and under an advisory lock, those that a database does not have yet. Steps that were released never change.
--
-- Times are bigint: microseconds since 1970 by this database's clock, as struct store_row has them by the service's.
-- 0: none.

-- version 1

-- The one clock of all services: that of the transaction's begin.
CREATE FUNCTION now_us() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE
AS $$ SELECT (extract(epoch FROM now()) * 1000000)::bigint $$;

CREATE TABLE twinpool_version (
	version integer NOT NULL
);

-- A boot is one life of one service. It holds jobs as long as its lease runs, and after that until another service has
-- set taken_us; from then on it is dead for good. Boot 0 never lived: what is put to it waits to be taken over.
CREATE SEQUENCE boots AS bigint;
CREATE TABLE nodes (
	boot bigint PRIMARY KEY,
	name text NOT NULL,
	lease_us bigint NOT NULL,
	lease_until_us bigint NOT NULL,
	taken_us bigint,
	started_us bigint NOT NULL
) WITH (
	-- A row is written every few seconds for ever: room beside it keeps those writes off the index.
	fillfactor = 50,
	autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0
);
INSERT INTO nodes VALUES (0, 'nobody', 0, 0, 0, 0);

-- Who does what one service alone should do. One row.
CREATE TABLE sweeper (
	boot bigint NOT NULL,
	until_us bigint NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);
INSERT INTO sweeper VALUES (0, 0);

-- The columns of fixed width come first, widest first, so that none is padded.
CREATE TABLE jobs (
	id uuid NOT NULL,
	batch uuid,
	boot bigint NOT NULL,           -- who had it last: submitted, claimed or ended it
	take bigint NOT NULL DEFAULT 0, -- number of the claim within the boot; see postgresql_node.h
	submitted_us bigint NOT NULL,
	due_us bigint NOT NULL,
	expires_us bigint NOT NULL,
	ended_us bigint NOT NULL,
	watched_us bigint NOT NULL DEFAULT 0, -- somebody watches it until then
	attempt integer NOT NULL,
	revision integer NOT NULL DEFAULT 1, -- grows with state, attempt and document
	batch_index integer NOT NULL,
	state smallint NOT NULL, -- 0 scheduled 1 queued 2 running 3 stopping, then ended ones
	priority smallint NOT NULL,
	held boolean NOT NULL,   -- boot is at it; if not, any service may claim it when it is due
	cancel boolean NOT NULL DEFAULT false, -- whoever has it is to end it
	task text NOT NULL,
	pool text NOT NULL,
	labels json,
	callback text,
	record text,
	document text,
	PRIMARY KEY (id)
) WITH (
	-- Each job is written three times within moments (put, claimed, ended). Room for the later versions on the page of the
	-- first saves touching, and logging, another page for each.
	fillfactor = 60,
	-- Claimed and ended versions are garbage at the head of jobs_waiting, where every claim begins to look: they are to go
	-- by number (some thousands), whatever the size of the history, and without pauses.
	autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0.01,
	autovacuum_vacuum_insert_threshold = 20000, autovacuum_vacuum_insert_scale_factor = 0.05,
	autovacuum_analyze_threshold = 5000, autovacuum_analyze_scale_factor = 0.05,
	autovacuum_vacuum_cost_delay = 0,
	toast.autovacuum_vacuum_threshold = 5000, toast.autovacuum_vacuum_scale_factor = 0.05,
	toast.autovacuum_vacuum_cost_delay = 0
);
-- Records and documents are short-lived, and lz4 costs a fraction of pglz where it is compiled in.
DO $$ BEGIN
	ALTER TABLE jobs ALTER record SET COMPRESSION lz4, ALTER document SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$;
-- The claim: of each pool, the heads of its priorities, each in the order of due_us.
CREATE INDEX jobs_waiting ON jobs (pool, priority, due_us, id) WHERE state <= 1 AND NOT held;
-- What a boot has: its watchers and cancels, and what is taken over when it is dead.
CREATE INDEX jobs_held ON jobs (boot, id) WHERE held;
CREATE INDEX jobs_expiring ON jobs (expires_us) WHERE state <= 1 AND NOT held AND expires_us > 0;
-- The retention by age and count of each state.
CREATE INDEX jobs_ended ON jobs (state, ended_us, id) WHERE state >= 4;
CREATE INDEX jobs_batch ON jobs (batch, batch_index) WHERE batch IS NOT NULL;

CREATE TABLE batches (
	id uuid PRIMARY KEY,
	submitted_us bigint NOT NULL,
	count integer NOT NULL,
	task text NOT NULL,
	pool text NOT NULL
);

CREATE TABLE keys (
	key text COLLATE "C" PRIMARY KEY,
	fingerprint bytea NOT NULL,
	expires_us bigint NOT NULL,
	id uuid NOT NULL, -- of the job, or of the batch
	is_batch boolean NOT NULL
) WITH (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX keys_expiring ON keys (expires_us);

-- due_us is also the lease of the one who makes the call: it is pushed into the future when a call is handed out.
CREATE TABLE callbacks (
	id uuid PRIMARY KEY, -- of the job
	first_us bigint NOT NULL,
	due_us bigint NOT NULL, -- 0: no more
	tries integer NOT NULL DEFAULT 0,
	http_status integer NOT NULL DEFAULT 0,
	delivered boolean NOT NULL DEFAULT false,
	url text NOT NULL,
	error text
) WITH (fillfactor = 70, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX callbacks_due ON callbacks (due_us) WHERE due_us > 0;

INSERT INTO twinpool_version VALUES (1);
