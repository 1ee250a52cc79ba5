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

#define CONFIG_NAME_MAX	   32 /* bytes of a pool's name: [a-z0-9_-], first a letter */
#define CONFIG_POOLS_MAX   32
#define CONFIG_HOSTS_MAX   256
#define CONFIG_THREADS_MAX 256
#define CONFIG_WORKERS_MAX 4096 /* of all pools together */

struct config_pool {
	char *name;
	unsigned int hosts;	/* worker processes; "cores" in the file is already resolved */
	unsigned int threads;	/* workers of each host */
	uint64_t queue_jobs;	/* most jobs that wait */
	uint64_t queue_bytes;	/* most bytes of their arguments */
	int64_t timeout_ms;	/* for jobs that ask for none; 0 = no limit */
	int64_t max_timeout_ms; /* most that a job may ask for; 0 = no limit */
	int64_t stop_grace_ms;	/* between asking a job to stop and the kill */
	int64_t quarantine_ms;	/* most time that neighbours get to finish on a host that is to be
				   killed */
	uint64_t output_bytes;	/* kept of each of stdout and stderr: half head, half tail */
	uint64_t result_bytes;	/* most bytes of an encoded result; more is a task_error */
	int64_t restart_backoff_ms; /* wait before the second restart in a row; doubles up to … */
	int64_t restart_backoff_max_ms;
};

/* What the file says of one task under "tasks". A task that the file does not name has enabled =
 * its own default. */
struct config_task {
	char *name;
	int enabled; /* 1, 0, or -1 where the file says nothing */
	char *root;  /* directory for the task "read"; NULL if not given; absolute, resolved */
};

struct config {
	char *path; /* the file it came from; NULL if there was none */

	char *listen_host;    /* numeric or a name; IPv6 without brackets */
	uint16_t listen_port; /* 0: any free port */
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

	uint64_t keep_jobs;  /* ended jobs kept: most of them … */
	uint64_t keep_bytes; /* … most bytes of them (results, outputs, records) … */
	int64_t keep_ms;     /* … and for how long after they ended */

	char *default_pool; /* name; for jobs that name no pool */
	struct config_pool *pools;
	size_t pool_count;
	struct config_task *tasks;
	size_t task_count;
};

/* What the command line said; NULL or -1 where it said nothing. All borrowed. */
struct config_flags {
	const char *config_path;
	const char *listen; /* "HOST:PORT", "[IPV6]:PORT", ":PORT" is not accepted */
	const char *data_dir;
	const char *log_level;	/* "debug" "info" "warning" "error" */
	const char *log_format; /* "auto" "text" "json" */
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

/* NULL is allowed. */
void config_free(struct config *config);

/* Index of the pool of that name, or -1. */
int config_find_pool(const struct config *config, const char *name);

/* NULL if the file does not name that task. */
const struct config_task *config_find_task(const struct config *config, const char *name);

/* The number of CPUs this process may use: sched_getaffinity(2), limited by the CPU quota of its
 * cgroup (v2 cpu.max, else v1 cpu.cfs_quota_us / cpu.cfs_period_us), rounded up; at least 1. */
unsigned int config_cores(void);

#endif
