/*
 * The ready-made experiments: each has a claim, a plan that puts it to the test, and a judgement of
 * what was measured. Event loop only.
 */
#ifndef COMPARE_EXPERIMENTS_H
#define COMPARE_EXPERIMENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "compare/trial.h"

#define FINDINGS_MAX 32

enum borne_out { BORNE_OUT_UNKNOWN, BORNE_OUT_NO, BORNE_OUT_YES };

struct finding {
	char name[64];
	double value; /* NaN: it could not be had */
	const char *unit;
};

struct judgement {
	enum borne_out borne_out;
	char why[640];
	struct finding findings[FINDINGS_MAX];
	size_t finding_count;
};

struct experiment {
	const char *name;
	const char *claim;
	/* Why it cannot be run here; NULL: it can. */
	const char *(*unavailable)(const struct server *server);
	/* Adds contenders and steps. 0, or -errno and *error. */
	int (*plan)(struct trial *trial, struct error *error);
	/* Of a trial that has ended well. */
	void (*judge)(const struct trial *trial, struct judgement *judgement);
	/* As trial->is_needed; may be NULL. */
	bool (*is_needed)(const struct trial *trial, size_t step);
};

extern const struct experiment experiments[];
extern const size_t experiment_count;

/* NULL if there is none of that name. */
const struct experiment *experiment_find(const char *name);

#endif
