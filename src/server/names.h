/*
 * Names of tasks that jobs point to. A registry goes when another configuration is put in force, the
 * jobs that were made by it stay: so they point to a copy that lives as long as the server. As many
 * are kept as tasks have ever been run, which the configurations bound.
 *
 * Event loop only.
 */
#ifndef SERVER_NAMES_H
#define SERVER_NAMES_H

struct names {
	void *root; /* of tsearch(3); NULL while empty */
};

/* The copy of this name; NULL if memory is short. */
const char *names_keep(struct names *names, const char *name);
void names_release(struct names *names);

#endif
