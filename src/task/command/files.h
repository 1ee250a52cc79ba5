/*
 * Files of a run: those that its arguments give are laid in the scratch directory before, those
 * that it has made are taken from there after. Thread: any.
 */
#ifndef TASK_COMMAND_FILES_H
#define TASK_COMMAND_FILES_H

#include "base/buffer.h"
#include "task/command/command.h"

/* Decodes base64 (RFC 4648; white space is allowed): 0, -EINVAL if it is none, or -ENOMEM. */
int files_decode(const char *text, size_t length, struct buffer *ret_bytes);

/* Lays what args give into the directory. 0, or -errno and *error, whose field is "args.NAME". */
int files_lay(const struct command *command, const json_t *args, int directory,
	      struct error *error);

/*
 * Takes the files out of the directory, in which nobody works any more. *ret_files is an object by
 * their names, {"base64": …, "bytes": n} or {"path": …, "bytes": n}; owned. What lies there need
 * not be what the command was meant to make: links, pipes, devices and files of others are refused.
 * 0, or -errno and *error; then none was left below a root.
 */
int files_take(const struct command *command, const json_t *args, int directory, json_t **ret_files,
	       struct error *error);

#endif
