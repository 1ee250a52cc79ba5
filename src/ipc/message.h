/*
 * What the processes say to each other.
 *
 *	server → host    RUN
 *	host → server    READY, OUTPUT, PROGRESS, LOG, DONE
 *	server → master  HOST_START, RELOADED, SERVING, ALIVE
 *	master → server  HOST_UP, HOST_DOWN, SHUTDOWN, RELOAD
 *
 * A message is a fixed struct, whose first word is its kind, with bytes behind it. Both ends are
 * the same binary on the same machine, so there is no byte order and no version. What a host sends
 * is checked by message_read_*(): lengths, ranges, and well-formed JSON.
 *
 * Bytes longer than MESSAGE_INLINE_MAX travel in a sealed memory file behind the message, as its
 * only descriptor.
 */
#ifndef IPC_MESSAGE_H
#define IPC_MESSAGE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include "config/config.h"
#include "job/metering.h"

#define MESSAGE_INLINE_MAX                                                                         \
	32768 /* so that several fit a socket buffer of 212992 bytes, the kernel's default */
#define MESSAGE_SIZE_MAX     (MESSAGE_INLINE_MAX + 4096)
#define MESSAGE_ERROR_MAX    1024
#define MESSAGE_PROGRESS_MAX 200 /* bytes of what a job says of its progress */
#define MESSAGE_LABS_MAX     16	 /* labs that are open at once */
#define MESSAGE_NO_TASK	     UINT32_MAX

/* Sent to a host of one worker when its job is asked to stop, by pidfd. The host passes it on as
 * SIGTERM to the processes that the job has started, and a system call that the task waits in is
 * interrupted. Does nothing if no job was asked to stop, so one that comes late hurts nobody. */
#define MESSAGE_STOP_SIGNAL SIGRTMIN

enum message_kind {
	MESSAGE_RUN = 1,
	MESSAGE_READY,
	MESSAGE_OUTPUT,
	MESSAGE_DONE,
	MESSAGE_HOST_START,
	MESSAGE_HOST_UP,
	MESSAGE_HOST_DOWN,
	MESSAGE_SHUTDOWN,
	MESSAGE_RELOAD,
	MESSAGE_RELOADED,
	MESSAGE_PROGRESS,
	MESSAGE_LOG,
	MESSAGE_SERVING,
	MESSAGE_ALIVE
};

/* Run this job. Behind it: the arguments, inline or as a memory file. */
struct message_run {
	uint32_t kind;
	uint32_t in_file; /* 1: the arguments are in the descriptor */
	uint64_t seq;
	uint32_t task_index;
	uint32_t attempt;
	uint32_t cell;
	uint32_t has_cpu_limit; /* 1: cell.cpu_ns is wanted */
	int64_t deadline_ns;	/* monotonic; 0 = none */
	int64_t memory_limit;	/* bytes above what the worker holds at the start; 0 = none */
	uint64_t result_limit;	/* bytes */
	uint64_t args_length;
};

/* The host's workers wait for jobs. */
struct message_ready {
	uint32_t kind;
	uint32_t workers;
	int64_t thread_start_ns; /* mean time from asking for a thread to its being a worker; 0 on a
				    host of one worker, which starts none */
};

/* A piece of output, on hosts with several workers. Behind it: the bytes. */
struct message_output {
	uint32_t kind;
	uint32_t stream; /* enum tp_stream: 1 stdout, 2 stderr */
	uint64_t seq;
	uint32_t cell;
	uint32_t length;
};

/* How far a job is. Behind it: what it says of that, perhaps nothing. */
struct message_progress {
	uint32_t kind;
	uint32_t cell;
	uint64_t seq;
	int64_t done;
	int64_t total; /* 0 = unknown */
	uint64_t length;
};

/* A line of a task or a plug-in for the service's log. Behind it: the text, any bytes. */
#define MESSAGE_LOG_NO_JOB UINT32_MAX
struct message_log {
	uint32_t kind;
	uint32_t level;	 /* enum log_level */
	uint64_t seq;	 /* of the job, if there is one */
	uint32_t cell;	 /* MESSAGE_LOG_NO_JOB: outside of a job */
	uint32_t length; /* 1 to MESSAGE_ERROR_MAX */
};

enum done_outcome { DONE_SUCCEEDED, DONE_FAILED, DONE_STOPPED, DONE_RESULT_TOO_LARGE };

/* A job has ended on its worker. Behind it: the result (inline or as a memory file), then the
 * failure's text. */
struct message_done {
	uint32_t kind;
	uint32_t in_file;
	uint64_t seq;
	uint32_t cell;
	uint32_t worker;
	uint32_t outcome;	 /* enum done_outcome */
	uint32_t output_pending; /* 1: bytes of this job may still be in the host's output pipes */
	int32_t tid;
	uint32_t failure_length; /* at most MESSAGE_ERROR_MAX */
	uint64_t jobs_before;
	uint64_t result_length; /* 0 = null */
	struct metering metering;
};

/* Fork this host. Answered by HOST_UP, or by HOST_DOWN with a failure. */
struct message_host_start {
	uint32_t kind;
	uint32_t pool_index; /* the server's; the master only gives it back */
	uint32_t slot;
	uint32_t threads;
	uint64_t generation;
	uint64_t lab_run; /* counts the labs of this server: each has shared memory of its own */
	uint32_t lab; /* 0: a host of the pool itself; else of a lab, from 1 to MESSAGE_LABS_MAX */
	uint32_t enables; /* index of a task that is on in this host, whatever the configuration
			     says; MESSAGE_NO_TASK: none */
	char pool[CONFIG_NAME_MAX + 1]; /* by which the master finds its configuration */
};

/* Descriptors: channel, pidfd, scoreboard, read end of stdout, of stderr. */
enum {
	HOST_UP_CHANNEL,
	HOST_UP_PIDFD,
	HOST_UP_SCOREBOARD,
	HOST_UP_STDOUT,
	HOST_UP_STDERR,
	HOST_UP_FDS
};

struct message_host_up {
	uint32_t kind;
	uint32_t pool_index;
	uint32_t slot;
	int32_t pid;
	uint64_t generation;
};

/* The host was reaped, or could not be started at all. */
struct message_host_down {
	uint32_t kind;
	uint32_t pool_index;
	uint32_t slot;
	int32_t pid;
	uint64_t generation;
	int32_t start_errno; /* not 0: it never ran */
	int32_t wait_status; /* as of wait4(2) */
	struct rusage usage;
};

/* Stop accepting, let jobs end, then exit. Each further one hurries. */
struct message_shutdown {
	uint32_t kind;
	uint32_t count; /* how many such requests there were, from 1 */
};

/*
 * RELOAD: the master has read and checked a new configuration; the server is to read the same.
 * RELOADED: whether it has, and applied it; only then the master forks by it. Each side reads the
 * file, so the digest tells whether they read the same. What the trial of the plug-ins has found
 * travels with RELOAD, as its only descriptor, a sealed memory file, if there are plug-ins.
 */
struct message_reload {
	uint32_t kind;
	uint32_t accepted;     /* RELOADED: 1 or 0 */
	uint64_t digest;       /* struct loaded's */
	uint64_t found_length; /* RELOAD: bytes of the file; 0: there is none */
};

/* Every pool can take jobs, for the first time. */
struct message_serving {
	uint32_t kind;
	char url[128];
};

/* The event loop turns and hosts answer: sent again and again if a service manager watches. */
struct message_alive {
	uint32_t kind;
};

/* The kind of a message, 0 if it is too short to have one. */
uint32_t message_kind(const void *data, size_t length);

/*
 * Readers of what hosts send: false if the length does not fit, or a number is out of its range.
 * Pointers point into data. workers and cells are the host's. A result in a memory file is not read
 * here: message_done.in_file tells, and ret_result is NULL.
 */
bool message_read_ready(const void *data, size_t length, uint32_t workers,
			struct message_ready *ret_message);
bool message_read_output(const void *data, size_t length, uint32_t cells,
			 struct message_output *ret_message, const char **ret_bytes);
bool message_read_progress(const void *data, size_t length, uint32_t cells,
			   struct message_progress *ret_message, const char **ret_text);
bool message_read_log(const void *data, size_t length, uint32_t cells,
		      struct message_log *ret_message, const char **ret_text);
bool message_read_done(const void *data, size_t length, uint32_t cells, uint32_t workers,
		       size_t fd_count, struct message_done *ret_message, const char **ret_result,
		       const char **ret_failure);

#endif
