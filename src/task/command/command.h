/*
 * The kind "command": a task that runs a program, as the configuration declares it.
 *
 *   spec.c      the declaration, read and checked when the configuration is loaded
 *   template.c  argument vectors with placeholders
 *   command.c   the kind; one run of a command from its arguments to its result
 *   spawn.c     vfork and exec
 *   cgroup.c    the cgroup of a run; cgroup_base.c: what holds all of them; cgroup_text.c: reading
 *   tree.c      the processes of a run, and their end
 *   scratch.c   the directory of a run, and its end
 *   files.c     files in and out
 *   sandbox.c   bubblewrap
 *   system.c    what of all that this system allows, for GET /capabilities
 *
 * A run: its scratch directory is made and its files are laid there; the program is started as the
 * leader of a session of its own; what it writes goes on to the job at once; when it has ended, or
 * was made to, all that it has started is killed and reaped; only then are its files read and the
 * scratch directory is removed. A stop is told to its process group as SIGTERM, and after the grace
 * the whole run gets SIGKILL.
 */
#ifndef TASK_COMMAND_COMMAND_H
#define TASK_COMMAND_COMMAND_H

#include "task/command/spawn.h"
#include "task/command/template.h"
#include "task/registry.h"

#define COMMAND_LIMITS_MAX 8

enum command_result {
	COMMAND_RESULT_STATUS, /* {"exit_status": 0, "usage": {…}, "files": {…}} */
	COMMAND_RESULT_JSON,   /* what is on stdout, as JSON */
	COMMAND_RESULT_TEXT    /* as a string */
};

/* An argument that becomes a file of the scratch directory. */
struct command_file_in {
	const char *argument;
	const char *as;	  /* name in the scratch directory */
	const char *root; /* the argument is a path below it; NULL: it is the content, in base64 */
};

/* A file of the scratch directory that goes into the result. */
struct command_file_out {
	const char *name; /* in the result */
	const char *path; /* name in the scratch directory */
	size_t max_bytes;
	const char *root;   /* where it is put; NULL: it goes into the result, in base64 */
	struct template to; /* path below root */
	bool optional;
};

/* Strings that are not owned point into `document`. Immutable once it is built. */
struct command {
	json_t *document; /* the declaration; owned */
	char *program;	  /* absolute path; owned */
	struct template_argv argv;
	bool has_stdin;
	struct template stdin_text;
	const char *stdin_base64;    /* argument; or NULL */
	struct strings inherited;    /* NAME=VALUE, as it was when the configuration was loaded */
	const char **set_names;	     /* environment: names … */
	struct template *set_values; /* … and values */
	size_t set_count;
	struct command_file_in *files_in;
	size_t file_in_count;
	struct command_file_out *files_out;
	size_t file_out_count;
	enum command_result result;
	bool succeeds[256]; /* by exit status */
	struct spawn_limit limits[COMMAND_LIMITS_MAX];
	size_t limit_count;
	int64_t processes; /* most of a run, in a cgroup; else of its user (RLIMIT_NPROC); 0: any number */
	bool changes_user;
	uid_t uid;
	gid_t gid;
	bool sandboxed;
	int64_t stop_grace_ns; /* between SIGTERM and SIGKILL, if the pool gives so much */
};

/* Reads a declaration: 0, or -errno and *error, whose field begins with "command". */
int command_read(const struct config_task *settings, struct command **ret_command,
		 struct error *error);
/* NULL is allowed. */
void command_free(struct command *command);

extern const struct task_kind command_kind;

#endif
