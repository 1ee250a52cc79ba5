#include "task/command/sandbox.h"

#include <errno.h>
#include <string.h>

static int append(struct strings *argv, const char *const *items)
{
	int status = 0;

	for (; status == 0 && *items != NULL; items++) {
		status = strings_take(argv, strdup(*items));
	}
	return status;
}

int sandbox_arguments(const char *bwrap, const char *hidden, const char *scratch,
		      const char *program, struct strings *argv)
{
	/* Later ones lie over earlier ones. */
	const char *const always[] = {bwrap,
				      "--unshare-all",
				      "--die-with-parent",
				      "--cap-drop",
				      "ALL",
				      "--ro-bind",
				      "/",
				      "/",
				      "--dev",
				      "/dev",
				      "--proc",
				      "/proc",
				      "--tmpfs",
				      "/tmp",
				      NULL};
	const char *const hide[] = {"--tmpfs", hidden, NULL};
	const char *const work[] = {"--bind", scratch, scratch, "--chdir", scratch, NULL};
	const char *const rest[] = {"--", program, NULL};
	int status = append(argv, always);

	if (status == 0 && hidden != NULL) {
		status = append(argv, hide);
	}
	if (status == 0 && scratch != NULL) {
		status = append(argv, work);
	}
	return status == 0 ? append(argv, rest) : status;
}
