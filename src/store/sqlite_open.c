/*
 * Opening and closing the database: see sqlite.h.
 *
 * A file is ours if it bears our application id, or is empty. Another service is kept out by a lock
 * on a file beside it, which the kernel takes away with the process, however that ends. What is
 * looked at here is cheap: the header, the length, the order of a few pages; the whole of a small
 * database. A page that is damaged deeper down shows itself when it is read.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "store/sqlite.h"

#define BUSY_MS	      5000
#define CHECKED_BYTES (32LL << 20) /* a database up to this size is checked as a whole */

#define TEXT_OF(number)	      TEXT_OF_VALUE(number)
#define TEXT_OF_VALUE(number) #number

/* The numbers of the states are in the file. */
_Static_assert(JOB_SCHEDULED == 0 && JOB_QUEUED == 1 && JOB_RUNNING == 2 && JOB_SUCCEEDED == 4 &&
		       JOB_FAILED == 5 && JOB_TIMED_OUT == 6 && JOB_CANCELLED == 7 &&
		       JOB_CRASHED == 8 && JOB_EXPIRED == 9 && JOB_STATES == 10,
	       "the states of a job are kept by these numbers");

/*
 * A job's row is narrow, so that a listing which looks at many of them reads little; its long texts
 * lie elsewhere. A plain job costs four insertions, each at or near the end of its tree: jobs, texts,
 * and the indexes by state and by age. A rare task or pool is found by looking at all of them, at
 * some tenths of a microsecond each.
 */
static const char schema[] =
	"CREATE TABLE jobs(id BLOB PRIMARY KEY NOT NULL,seq INTEGER NOT NULL,state INTEGER NOT "
	"NULL,"
	"attempt INTEGER NOT NULL,priority INTEGER NOT NULL,submitted_us INTEGER NOT NULL,"
	"due_us INTEGER NOT NULL,expires_us INTEGER NOT NULL,ended_us INTEGER NOT NULL,"
	"epoch INTEGER NOT NULL,held INTEGER NOT NULL,batch_index INTEGER NOT NULL,batch BLOB,"
	"task TEXT NOT NULL,pool TEXT NOT NULL,labels TEXT,callback TEXT)STRICT,WITHOUT ROWID;"
	"CREATE TABLE texts(seq INTEGER PRIMARY KEY NOT NULL,record TEXT,document TEXT)STRICT;"
	"CREATE INDEX jobs_state ON jobs(state);"
	"CREATE INDEX jobs_oldest ON jobs(state,ended_us)WHERE held=0 AND state>=4;"
	"CREATE INDEX jobs_batch ON jobs(batch,batch_index)WHERE batch IS NOT NULL;"
	"CREATE TABLE labels(name TEXT NOT NULL,value TEXT NOT NULL,id BLOB NOT NULL,"
	"PRIMARY KEY(name,value,id))STRICT,WITHOUT ROWID;"
	"CREATE TABLE batches(id BLOB PRIMARY KEY NOT NULL,task TEXT NOT NULL,pool TEXT NOT NULL,"
	"count INTEGER NOT NULL,submitted_us INTEGER NOT NULL,open INTEGER NOT NULL,"
	"ended_us INTEGER NOT NULL,ended_state INTEGER NOT NULL,doomed INTEGER NOT NULL)"
	"STRICT,WITHOUT ROWID;"
	"CREATE INDEX batches_oldest ON batches(ended_state,ended_us)WHERE open=0 AND doomed=0 AND "
	"ended_state>=4;"
	"CREATE INDEX batches_doomed ON batches(doomed)WHERE doomed=1;"
	"CREATE TABLE keys(key TEXT PRIMARY KEY NOT NULL,fingerprint BLOB NOT NULL,id BLOB NOT "
	"NULL,"
	"is_batch INTEGER NOT NULL,expires_us INTEGER NOT NULL)STRICT,WITHOUT ROWID;"
	"CREATE INDEX keys_expires ON keys(expires_us);"
	"CREATE TABLE callbacks(id BLOB PRIMARY KEY NOT NULL,first_us INTEGER NOT NULL,"
	"due_us INTEGER NOT NULL,tries INTEGER NOT NULL,http_status INTEGER NOT NULL,"
	"delivered INTEGER NOT NULL,url TEXT NOT NULL,error TEXT)STRICT,WITHOUT ROWID;"
	"CREATE INDEX callbacks_due ON callbacks(due_us)WHERE due_us>0;"
	"CREATE TABLE openings(epoch INTEGER NOT NULL)STRICT;"
	"INSERT INTO openings VALUES(0);"
	"PRAGMA application_id=" TEXT_OF(STORE_APPLICATION) ";"
							    "PRAGMA user_version=" TEXT_OF(
								    STORE_SCHEMA) ";";

static const char settings[] =
	"PRAGMA temp_store=MEMORY;PRAGMA cache_size=-16384;PRAGMA foreign_keys=OFF;"
	"PRAGMA trusted_schema=OFF;PRAGMA wal_autocheckpoint=0;"
	"PRAGMA journal_size_limit=33554432;";

/* ---- The directory and its lock ---- */

static int say_errno(char message[static 240], const char *path, int error)
{
	sqlite_say(message, path, strerrordesc_np(error));
	return -error;
}

/* Who holds it has written its number there. */
static int say_locked(char message[static 240], const char *path, int lock)
{
	char pid[24] = "";
	char problem[80];
	ssize_t length = pread(lock, pid, sizeof(pid) - 1, 0);

	pid[length > 0 ? length : 0] = '\0';
	pid[strspn(pid, "0123456789")] = '\0';
	(void)snprintf(problem, sizeof(problem), "in use by another service%s%s",
		       pid[0] != '\0' ? ", process " : "", pid);
	sqlite_say(message, path, problem);
	return -EBUSY;
}

static int lock_directory(const char *directory, int *ret_lock, char message[static 240])
{
	char path[4200];
	char pid[24];
	int length = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	int lock;

	if (mkdir(directory, 0700) < 0 && errno != EEXIST)
		return say_errno(message, directory, errno);
	(void)snprintf(path, sizeof(path), "%s/%s", directory, STORE_LOCK_FILE);
	lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lock < 0)
		return say_errno(message, path, errno);
	if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
		int result = errno == EWOULDBLOCK ? say_locked(message, directory, lock)
						  : say_errno(message, path, errno);

		fd_close(&lock);
		return result;
	}
	/* For the reader of a message only; a full disk is no reason to stop here. */
	if (ftruncate(lock, 0) == 0)
		(void)!pwrite(lock, pid, (size_t)length, 0);
	*ret_lock = lock;
	return 0;
}

/* The file is made here, so that nobody else can read it, and its name is on disk before anything
 * in it is promised. */
static int make_file(const char *directory, const char *path, char message[static 240])
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct stat status;
	int result = 0;

	if (fd < 0)
		return say_errno(message, path, errno);
	if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
		result = say_errno(message, path, S_ISDIR(status.st_mode) ? EISDIR : EINVAL);
	fd_close(&fd);
	if (result < 0 || status.st_size > 0)
		return result;
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		result = say_errno(message, directory, errno);
	fd_close(&fd);
	return result;
}

/* ---- What is in it ---- */

static int refuse(struct sqlite_link *link, int code, const char *problem)
{
	(void)snprintf(link->message, sizeof(link->message), "%s", problem);
	return code;
}

static int make_tables(struct sqlite_link *link)
{
	int result = sqlite_execute(link, "BEGIN IMMEDIATE");

	if (result == 0)
		result = sqlite_execute(link, schema);
	if (result == 0)
		result = sqlite_execute(link, "COMMIT");
	return result;
}

/* Makes the tables where there is nothing, refuses what is not ours. */
static int check_identity(struct sqlite_link *link)
{
	int64_t application = 0;
	int64_t version = 0;
	int64_t tables = 0;
	int result = sqlite_integer(link, "PRAGMA application_id", 0, &application);

	if (result == 0)
		result = sqlite_integer(link, "PRAGMA user_version", 0, &version);
	if (result == 0)
		result = sqlite_integer(link, "SELECT count(*) FROM sqlite_master", 0, &tables);
	if (result < 0)
		return result;
	if (application == 0 && version == 0 && tables == 0)
		return make_tables(link);
	if (application != STORE_APPLICATION)
		return refuse(link, -EMEDIUMTYPE, "a database of another program");
	if (version > STORE_SCHEMA)
		return refuse(link, -EPROTONOSUPPORT,
			      "written by a newer version of twinpool; this one cannot read it");
	return 0;
}

static int count_bytes(struct sqlite_link *link, int64_t *ret_bytes)
{
	int64_t pages = 0;
	int64_t page_bytes = 0;
	int result = sqlite_integer(link, "PRAGMA page_count", 0, &pages);

	if (result == 0)
		result = sqlite_integer(link, "PRAGMA page_size", 0, &page_bytes);
	if (result == 0)
		*ret_bytes = pages * page_bytes;
	return result;
}

/* After the write-ahead log was taken in, the file is as long as its header says. */
static int check_length(struct sqlite_link *link, const char *path)
{
	struct stat status;
	int64_t bytes = 0;
	int result = count_bytes(link, &bytes);

	if (result < 0)
		return result;
	if (stat(path, &status) < 0)
		return refuse(link, -errno, strerrordesc_np(errno));
	if (status.st_size < bytes)
		return refuse(link, -EUCLEAN, "the database is damaged: a part of it is missing");
	return 0;
}

static int check_content(struct sqlite_link *link)
{
	sqlite3_stmt *statement = NULL;
	const unsigned char *word;
	int64_t bytes = 0;
	int code;
	int result = count_bytes(link, &bytes);

	if (result < 0 || bytes > CHECKED_BYTES)
		return result;
	code = sqlite3_prepare_v2(link->db, "PRAGMA quick_check(1)", -1, &statement, NULL);
	result = code == SQLITE_OK ? sqlite_next(link, statement) : sqlite_fail(link, code);
	word = result == 1 ? sqlite3_column_text(statement, 0) : NULL;
	if (result == 1 && (word == NULL || strcmp((const char *)word, "ok") != 0))
		result = refuse(link, -EUCLEAN, "the database is damaged");
	(void)sqlite3_finalize(statement);
	return result < 0 ? result : 0;
}

/* ---- Connections ---- */

static int connect_to(struct sqlite_link *link, const char *name)
{
	int code = sqlite3_open_v2(name, &link->db,
				   SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
					   SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
				   NULL);
	int result = code == SQLITE_OK ? 0 : sqlite_fail(link, code);

	if (result == 0) {
		(void)sqlite3_extended_result_codes(link->db, 1);
		(void)sqlite3_busy_timeout(link->db, BUSY_MS);
		result = sqlite_execute(link, settings);
	}
	return result;
}

/* SQLite calls it after each commit. */
static int note_wal(void *data, sqlite3 *db, const char *name, int pages)
{
	struct backend *backend = data;

	(void)db;
	(void)name;
	backend->wal_pages = pages;
	return SQLITE_OK;
}

/* What is counted or numbered once and kept in memory from here on. */
/* Callbacks that the service before this one had begun to make: it is gone, so they are due. One
 * that waits for its next try no longer than a lease is cannot be told from them, and is due too. */
static int free_leases(struct sqlite_link *link)
{
	char text[120];
	long long now_us = clock_realtime_ns() / NS_PER_US;

	(void)snprintf(text, sizeof(text),
		       "UPDATE callbacks SET due_us=%lld WHERE due_us>%lld AND due_us<=%lld",
		       now_us, now_us, now_us + STORE_CALLBACK_LEASE_US);
	return sqlite_execute(link, text);
}

static int load_numbers(struct backend *backend)
{
	struct sqlite_link *link = &backend->writer;
	int result = sqlite_execute(link, "UPDATE openings SET epoch=epoch+1");

	if (result == 0)
		result = free_leases(link);

	if (result == 0)
		result = sqlite_integer(link, "SELECT epoch FROM openings", 1, &backend->epoch);
	if (result == 0)
		result =
			sqlite_integer(link, "SELECT max(seq)+1 FROM texts", 1, &backend->next_seq);
	if (backend->next_seq < 1)
		backend->next_seq = 1;
	for (int i = 0; result == 0 && i < CONFIG_ENDED_STATES; i++) {
		char text[80];

		(void)snprintf(text, sizeof(text), "SELECT count(*) FROM jobs WHERE state=%d",
			       JOB_SUCCEEDED + i);
		result = sqlite_integer(link, text, 0, &backend->tally.ended[i]);
	}
	return result;
}

static int open_writer(struct backend *backend)
{
	struct sqlite_link *link = &backend->writer;
	int result = connect_to(link, backend->path);

	/* What is not ours is not changed by a bit, so this comes first. */
	if (result == 0)
		result = check_identity(link);
	if (result == 0)
		result = check_content(link);
	if (result == 0)
		result = sqlite_execute(link, "PRAGMA journal_mode=WAL");
	if (result == 0) /* a file that was not in this mode before stays locked until it is read */
		result = sqlite_integer(link, "SELECT epoch FROM openings", 0, &backend->epoch);
	if (result == 0)
		result = sqlite_execute(link, "PRAGMA wal_checkpoint(TRUNCATE)");
	if (result == 0)
		result = check_length(link, backend->path);
	if (result == 0)
		(void)sqlite3_wal_hook(link->db, note_wal, backend);
	return result < 0 ? result : load_numbers(backend);
}

static struct backend *make_backend(const struct config *config)
{
	struct backend *backend = calloc(1, sizeof(*backend));

	if (backend == NULL)
		return NULL;
	backend->config = config;
	backend->lock = -1;
	backend->full_sync = true; /* SQLite's default */
	return backend;
}

int sqlite_open_file(const struct config *config, void (*hint)(void *data), void *data,
		     struct backend **ret_backend, char message[static 240])
{
	struct backend *backend = make_backend(config);
	int result = -ENOMEM;

	(void)hint;
	(void)data;
	if (backend == NULL ||
	    asprintf(&backend->path, "%s/%s", config->data_dir, STORE_FILE) < 0) {
		sqlite_say(message, config->data_dir, "memory is short");
		goto fail;
	}
	result = lock_directory(config->data_dir, &backend->lock, message);
	if (result == 0)
		result = make_file(config->data_dir, backend->path, message);
	if (result < 0)
		goto fail;
	result = open_writer(backend);
	if (result < 0) {
		sqlite_say(message, backend->path, backend->writer.message);
		goto fail;
	}
	result = connect_to(&backend->reader, backend->path);
	if (result == 0)
		result = sqlite_execute(&backend->reader, "PRAGMA query_only=ON");
	if (result < 0) {
		sqlite_say(message, backend->path, backend->reader.message);
		goto fail;
	}
	*ret_backend = backend;
	return 0;

fail:
	sqlite_close_backend(backend);
	return result;
}

int sqlite_open_memory(const struct config *config, void (*hint)(void *data), void *data,
		       struct backend **ret_backend, char message[static 240])
{
	struct backend *backend = make_backend(config);
	int result = -ENOMEM;

	(void)hint;
	(void)data;
	if (backend == NULL) {
		sqlite_say(message, "memory", "memory is short");
		return result;
	}
	result = connect_to(&backend->writer, ":memory:");
	if (result == 0)
		result = make_tables(&backend->writer);
	if (result == 0)
		result = load_numbers(backend);
	if (result < 0) {
		sqlite_say(message, "memory", backend->writer.message);
		sqlite_close_backend(backend);
		return result;
	}
	*ret_backend = backend;
	return 0;
}

void sqlite_close_backend(struct backend *backend)
{
	if (backend == NULL)
		return;
	/* The last one to close takes the write-ahead log in. */
	sqlite_unlink(&backend->reader);
	sqlite_unlink(&backend->writer);
	fd_close(&backend->lock);
	free(backend->path);
	free(backend);
}
