/*
 * The configuration: loaded once, validated, then immutable.
 *
 * Order, later wins: built-in defaults (those in config/twinpool.schema.json, which is compiled
 * into the binary) → the file of --config → TWINPOOL_* variables → flags. The file is checked
 * against the same schema that documents it, so the two cannot part.
 *
 * Ownership: a struct config owns all that it points to. Thread: immutable after config_load(),
 * any.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "config/tokens.h"

#define CONFIG_NAME_MAX	   32 /* bytes of a pool's name: [a-z0-9_-], first a letter */
#define CONFIG_POOLS_MAX   32
#define CONFIG_HOSTS_MAX   256
#define CONFIG_THREADS_MAX 256
#define CONFIG_WORKERS_MAX 4096 /* of all pools together, each at its max_hosts */

#define CONFIG_LABEL_LIMITS_MAX 16
#define CONFIG_LABEL_MAX	63 /* bytes of a label's name */

/*
 * Default and maximum of what a job may ask for. A job that asks for more than the maximum is
 * refused; 0 means no limit. For a task, CONFIG_UNSET stands where the file says nothing: then the
 * pool's holds.
 */
#define CONFIG_UNSET (-1)
struct config_limits {
	int64_t timeout_ms; /* of one run, by the wall clock */
	int64_t max_timeout_ms;
	int64_t queue_ttl_ms; /* of waiting in the queue */
	int64_t max_queue_ttl_ms;
	int64_t cpu_ms; /* of one run, user and system */
	int64_t max_cpu_ms;
	int64_t memory_bytes; /* of one run, above what its worker held before */
	int64_t max_memory_bytes;
};

/* When a host is replaced by a fresh one; 0: never on that account. Always after a job, never under
 * one. */
struct config_recycle {
	uint64_t jobs;		     /* done by the host … */
	unsigned int jitter_percent; /* … give or take so much, drawn for each host, so that they do
					not all go at once */
	int64_t age_ms;
	int64_t idle_ms;    /* since its last job, if it has had one */
	uint64_t rss_bytes; /* resident set after a job */
};

/* At most `running` jobs at once that bear this label with the same value. */
struct config_label_limit {
	char *label;
	unsigned int running;
};

struct config_pool {
	char *name;
	unsigned int hosts; /* worker processes, at the start and at least; "cores" in the file is
			       already resolved */
	unsigned int
		max_hosts; /* >= hosts; more than hosts: the pool grows and shrinks by itself */
	unsigned int spare_hosts; /* so many of them are to be idle, if max_hosts allows */
	int64_t grow_after_ms;	  /* the oldest job has waited so long: one more host */
	int64_t shrink_after_ms;  /* a host has been idle so long: one less */
	unsigned int threads;	  /* workers of each host */
	uint64_t queue_jobs;	  /* most jobs that wait, delayed ones included */
	uint64_t queue_bytes;	  /* most bytes of their arguments */
	struct config_limits limits;
	int64_t stop_grace_ms; /* between asking a job to stop and the kill */
	int64_t quarantine_ms; /* most time that neighbours get to finish on a host that is to be
				  killed */
	uint64_t output_bytes; /* kept of each of stdout and stderr unless a job asks for less or
				  more: half head, half tail */
	uint64_t max_output_bytes;
	uint64_t result_bytes;	    /* most bytes of an encoded result */
	int64_t restart_backoff_ms; /* wait before the second restart in a row; doubles up to … */
	int64_t restart_backoff_max_ms;
	struct config_recycle recycle;
	int64_t aging_ms;	       /* waiting so long counts as much as one step of priority */
	unsigned int reserved_workers; /* kept free for jobs of at least … */
	int reserved_priority;	       /* … this priority */
	unsigned int max_attempts;     /* most that a job may ask for */
	unsigned int max_crashes; /* attempts of one job that may end by a crash; then it is not
				     tried again */
	struct config_label_limit *label_limits;
	size_t label_limit_count;
};

/* What the file says of one task under "tasks". A task that the file does not name has enabled =
 * its own default. */
struct config_task {
	char *name;
	int enabled; /* 1, 0, or -1 where the file says nothing */
	char *root;  /* directory for the task "read"; NULL if not given; absolute, resolved */
	/* Of a task that the configuration itself declares; NULL of one that it only sets up. */
	char *kind; /* "command" or "python": the member that is there */
	char *spec; /* that member, encoded as JSON; checked by the schema, read by src/task/KIND.c */
	char *description; /* "" if the file has none */
	char *args_schema; /* encoded; "{\"type\":\"object\"}" with nothing allowed if the file has none */
	char *directory; /* of the configuration file: where relative paths of spec begin */
	struct config_limits limits; /* CONFIG_UNSET where the file says nothing */
	unsigned int max_running;    /* at once, of this task in all pools; 0: no limit */
};

/* A shared object with tasks, loaded by hosts only. */
struct config_plugin {
	char *path;	/* absolute */
	char *settings; /* encoded object for tp_setting(); "{}" if the file has none */
};

/* Where jobs are kept beyond their request. */
enum config_store_kind { CONFIG_STORE_MEMORY, CONFIG_STORE_SQLITE, CONFIG_STORE_POSTGRESQL };

/* Which jobs are on disk before their submission is answered. */
enum config_durable {
	CONFIG_DURABLE_AUTO, /* those answered 202, and those with a key, a delay or a callback */
	CONFIG_DURABLE_ALL,
	CONFIG_DURABLE_NONE
};

/* How long and how many ended jobs of one state are kept in the store; 0: no bound. */
struct config_retention {
	int64_t age_ms;
	uint64_t jobs;
};

/* The states, in their order from JOB_SUCCEEDED on: succeeded failed timed_out cancelled crashed
 * expired. */
#define CONFIG_ENDED_STATES 6

struct config_store {
	enum config_store_kind kind; /* "auto" is resolved: SQLite with a data_dir, else memory */
	enum config_durable durable;
	bool history;	  /* jobs that are not durable are kept after their end as well */
	char *connection; /* PostgreSQL: a connection string of libpq; NULL */
	char *node; /* PostgreSQL: name of this service among the others; "" = made of host name
			      and process id */
	int64_t lease_ms; /* PostgreSQL: a service that was not heard of for so long is dead */
	int64_t poll_ms;  /* PostgreSQL: how often to look for work and news, besides hints */
	int64_t key_ms;	  /* how long an Idempotency-Key is remembered */
	struct config_retention retention[CONFIG_ENDED_STATES];
};

/* Who may be told of a job's end by its callback_url. */
struct config_callbacks {
	char **allow; /* host names ("hooks.example.org", "*.example.org"), addresses or networks
			 ("10.1.0.0/16"), each perhaps with ":port"; none: callbacks are refused */
	size_t allow_count;
	char *secret_file;  /* whose content (without the final newline) signs; NULL: not signed */
	char *secret;	    /* that content; NULL */
	int64_t timeout_ms; /* of one try */
	unsigned int max_tries;
	int64_t backoff_ms; /* before the second try, doubling up to … */
	int64_t backoff_max_ms;
};

struct config {
	char *path;	 /* the file it came from; NULL if there was none */
	uint64_t digest; /* of the file's bytes, and of those of the tokens' (FNV-1a, 64 bits); 0 if
			    there was none */

	char *listen_path; /* of a Unix socket, absolute; then there is no host. NULL: host and port */
	unsigned int listen_mode; /* permissions of that socket's file */
	char *listen_host;	  /* numeric or a name; IPv6 without brackets */
	uint16_t listen_port;	  /* 0: any free port */
	char *tls_certificate;	  /* file in PEM; NULL: plain HTTP, and then so are the next two */
	char *tls_key;
	char *tls_client_ca;   /* NULL: a client needs no certificate */
	char *tokens_file;     /* NULL: none */
	struct tokens *tokens; /* NULL without such a file: then anybody may do anything */
	bool allow_anonymous;  /* that, even for those who are not on this machine */
	unsigned int max_connections;
	uint64_t max_body_bytes;
	int64_t idle_timeout_ms; /* a connection that sends nothing */
	int64_t default_wait_ms;
	int64_t max_wait_ms;
	uint64_t max_batch_jobs;
	int64_t shutdown_grace_ms;

	enum log_level log_level;
	enum log_format log_format;
	char *data_dir; /* all that is ever written lies there; NULL: nothing is written. A relative
			   one of the file starts at the file's directory */

	uint64_t memory_bytes; /* as of config_memory() when it was loaded */

	uint64_t keep_jobs;  /* ended jobs kept: most of them … */
	uint64_t keep_bytes; /* … most bytes of them (results, outputs, records) … */
	int64_t keep_ms;     /* … and for how long after they ended */

	struct config_store store;
	struct config_callbacks callbacks;

	char *default_pool; /* name; for jobs that name no pool */
	struct config_pool *pools;
	size_t pool_count;
	struct config_task *tasks;
	size_t task_count;
	struct config_plugin *plugins;
	size_t plugin_count;
	char *command_cgroup; /* "auto", "off", or an absolute path */
	char **python_path;   /* directories that come first in sys.path; absolute */
	size_t python_path_count;
	char *python_venv; /* a virtual environment; NULL if none */
};

/* What the command line said; NULL or -1 where it said nothing. All borrowed. */
struct config_flags {
	const char *config_path;
	const char *listen; /* "HOST:PORT", "[IPV6]:PORT", "unix:/PATH"; ":PORT" is not accepted */
	const char *data_dir;
	const char *tokens_file;
	const char *allow_anonymous; /* "true" */
	const char *log_level;	     /* "debug" "info" "warning" "error" */
	const char *log_format;	     /* "auto" "text" "json" */
};

/*
 * Loads. Without a path from flags or TWINPOOL_CONFIG the built-in defaults alone serve, which
 * equal the shipped config/twinpool.json (a test holds them equal). On failure *error: field is the
 * path ("pools.process.threads", "--listen", "TWINPOOL_LISTEN"), message says what was found, what
 * was expected, and for syntax the file, line and column. environment is like environ; NULL entries
 * end it; a TWINPOOL_* variable that is not known is an error that lists those that are. Answers 0
 * or -errno.
 */
int config_load(const struct config_flags *flags, char *const *environment,
		struct config **ret_config, struct error *error);

/*
 * Whether new may take the place of old, which is in force, without a restart. Refused with
 * ERROR_INVALID are another server.listen, server.max_connections, data_dir,
 * commands.cgroup, store.kind, store.connection or store.node, a pool of old that is not in new (renamed or removed), and a pool
 * with another number of threads; field is the path. Everything else may differ: pools may be new
 * and in another order. Answers 0 or -errno.
 */
int config_reload_check(const struct config *old, const struct config *new, struct error *error);

/* NULL is allowed. */
void config_free(struct config *config);

/* Index of the pool of that name, or -1. */
int config_find_pool(const struct config *config, const char *name);

/* NULL if the file does not name that task. */
const struct config_task *config_find_task(const struct config *config, const char *name);

/* The number of CPUs this process may use: sched_getaffinity(2), limited by the CPU quota of its
 * cgroup (v2 cpu.max, else v1 cpu.cfs_quota_us / cpu.cfs_period_us), rounded up; at least 1. */
unsigned int config_cores(void);

/* The memory limit of this process's cgroup or of one above it (v2 memory.max, else v1
 * memory.limit_in_bytes), in bytes; 0 if there is none. */
uint64_t config_memory(void);

#endif
