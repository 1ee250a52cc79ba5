/*
 * Bubblewrap: a command that sees no network, no processes but its own, and a file system that it
 * can only read, but for its scratch directory and an empty /tmp.
 */
#ifndef TASK_COMMAND_SANDBOX_H
#define TASK_COMMAND_SANDBOX_H

#include "task/command/template.h"

/*
 * Appends the arguments that come before those of the command: bwrap's own, and the program. bwrap
 * is its path; hidden is a directory to hide, or NULL; scratch the directory to work in, below it,
 * or NULL. 0 or -ENOMEM.
 */
int sandbox_arguments(const char *bwrap, const char *hidden, const char *scratch,
		      const char *program, struct strings *argv);

#endif
