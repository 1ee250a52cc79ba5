/*
 * A trial: contenders, each a lab and what its jobs do, and a plan of steps that are carried out one
 * after the other: open a lab, run jobs on it, gauge it, crash one of its jobs, close it. What is
 * measured is kept with the contender; what it means is for others to say (result.h,
 * experiments.h).
 *
 * Jobs are driven as by so many clients of whom each submits its next job when its last has ended.
 *
 * Life: trial_new(), contenders and steps are added, trial_begin(), ended() is called, trial_free().
 * Event loop only.
 */
#ifndef COMPARE_TRIAL_H
#define COMPARE_TRIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/machine.h"
#include "compare/gauge.h"
#include "config/config.h"
#include "ipc/message.h"
#include "job/job.h"
#include "server/lab.h"
#include "server/loop.h"

#define TRIAL_CONTENDERS_MAX MESSAGE_LABS_MAX
#define TRIAL_NONE	     UINT32_MAX
#define TRIAL_TIME_NS	     (600 * NS_PER_S) /* that all of it may take */
#define TRIAL_STEP_NS	     (60 * NS_PER_S) /* that a lab may take to open or a crash to be seen */

/* Numbers that grow by one at a time. */
struct series {
	double *values; /* owned */
	size_t count;
	size_t capacity;
};

/* What one round of a contender gave. METERING_UNKNOWN where a figure cannot be had. */
struct round {
	uint32_t repeat; /* from 1 */
	uint32_t jobs;	 /* 0: it was only gauged */
	uint32_t succeeded;
	int64_t wall_ns;      /* from the first submission to the last end */
	uint32_t serial_jobs; /* 0: there was no serial pass */
	int64_t serial_ns;
	double run_p50_ns;
	int64_t cpu_ns;	 /* of the jobs that succeeded */
	int64_t open_ns; /* that its lab took to open before this round; 0: it was open */
	struct machine_memory memory;
};

struct contender {
	char name[64];
	char pool[CONFIG_NAME_MAX + 1];
	struct lab_shape shape; /* its pool is the one above */
	struct terms *terms;	/* owned; what its jobs do; NULL if only steps say */
	uint32_t concurrency;
	uint32_t
		base; /* contender with one worker that it is held against; TRIAL_NONE: itself, serially */
	struct lab *lab; /* NULL while it is closed */

	struct round *rounds; /* owned */
	size_t round_count;
	uint32_t serial_jobs; /* of the serial pass, until the round that it is of */
	int64_t serial_ns;
	int64_t open_ns;
	/* Of the measured jobs that succeeded, in ns: */
	struct series run, queued, dispatch, collect;
	uint64_t by_state[JOB_STATES];
	char *failure; /* of the first that did not; owned */
	int64_t user_ns, system_ns, minor_faults, major_faults; /* sums; unknown if one was */
	int64_t voluntary_switches, involuntary_switches;
	int64_t peak_bytes;			  /* the greatest; unknown if there is none */
	struct series host_starts, thread_starts; /* ns */
	uint64_t hosts_lost;
	bool crashed; /* one of its jobs was made to crash: */
	uint32_t crash_running;
	uint32_t crash_lost;
	int crash_next; /* enum job_state of the job after it; -1 if there was none */
};

enum step_kind { STEP_OPEN, STEP_RUN, STEP_GAUGE, STEP_CRASH, STEP_CLOSE };
enum step_pass {
	PASS_WARMUP,   /* not counted */
	PASS_SERIAL,   /* one at a time, for the speed-up */
	PASS_MEASURED, /* counted, and the machine is gauged around it */
	PASS_KEPT      /* what its jobs answer is kept with the step */
};

struct kept {
	uint64_t seq;
	int32_t pid;  /* of the host; 0 if unknown */
	char *result; /* encoded, length bytes; NULL if it did not succeed */
	size_t length;
};

struct step {
	enum step_kind kind;
	enum step_pass pass;
	uint32_t contender;
	uint32_t repeat; /* 0: none */
	uint32_t jobs;
	uint32_t concurrency;
	const struct terms *terms; /* borrowed; NULL: the contender's */
	struct kept *kept;	   /* owned; `jobs` of them, by submission */
	bool skipped;
};

/* What else went on during the measured rounds. */
struct noise {
	struct machine_sample machine; /* sums; taken_ns is the time that was measured */
	int64_t own_cpu_ns;	       /* of the jobs and of this process */
	uint64_t other_jobs;
	uint32_t gauged; /* rounds */
};

enum trial_error {
	TRIAL_FINE,
	TRIAL_TIME_LIMIT,
	TRIAL_HOSTS,
	TRIAL_RELOADED,
	TRIAL_CANCELLED,
	TRIAL_SHUTDOWN,
	TRIAL_MEMORY
};
#define TRIAL_ERRORS 7

struct trial {
	struct server *server;
	struct loop *loop;
	struct gauge *gauge;
	struct contender *contenders; /* owned; TRIAL_CONTENDERS_MAX places */
	size_t contender_count;
	struct step *steps; /* owned */
	size_t step_count;
	struct terms **extra; /* owned; terms of steps */
	size_t extra_count;
	uint32_t repeats; /* for the text of the progress */
	void *data;
	/* Whether the step is to be carried out; NULL: all are. */
	bool (*is_needed)(const struct trial *trial, size_t step);
	void (*progressed)(struct trial *trial);
	void (*ended)(struct trial *trial); /* all labs are closed; not from inside trial_*() */

	/* how it goes */
	size_t at; /* the step */
	bool stopping;
	enum trial_error error;
	char message[240];
	uint64_t done, total; /* jobs and other steps */
	struct noise noise;

	/* the step that is being carried out; see trial.c */
	uint32_t submitted, over, crash_lost;
	uint64_t crash_seq;
	int phase;
	int64_t begun_ns, last_end_ns, round_cpu_ns;
	struct series round_run;
	uint32_t round_succeeded;
	struct machine_sample before;
	int64_t own_before_ns;
	uint64_t others_before, running_before;
	struct loop_timer step_timer, limit_timer, poll_timer;
	struct terms *sleep, *crash, *next; /* owned; for STEP_CRASH */
};

/* NULL if memory is short. */
struct trial *trial_new(struct server *server, struct gauge *gauge);
/* It has not begun, or has ended, or the loop runs no more. NULL is allowed. */
void trial_free(struct trial *trial);

/* --- the plan --------------------------------------------------------------------------------- */

/* Takes terms, also on failure. *ret_contender is its number. 0 or -errno. */
int trial_add_contender(struct trial *trial, const char *name, const struct lab_shape *shape,
			struct terms *terms, uint32_t concurrency, uint32_t *ret_contender);
/* 0 or -ENOMEM. */
int trial_add_step(struct trial *trial, const struct step *step);
/* Takes terms; it lives as long as the trial. 0 or -ENOMEM. */
int trial_add_terms(struct trial *trial, struct terms *terms);
/* Adds, for all contenders: open; warm up; repeats rounds, each with a serial pass if that is
 * wanted and the contender has more than one job at a time; perhaps a crash; close. 0 or -ENOMEM. */
struct trial_plan {
	uint32_t jobs, warmup, repeats;
	bool serial, crash;
};
int trial_plan(struct trial *trial, const struct trial_plan *plan);

/* --- carrying it out -------------------------------------------------------------------------- */

/* Begins with the first step; from here on, ended() will be called. */
void trial_begin(struct trial *trial);

/* Ends its jobs and hosts at once; ended() follows when they have gone. Only the first reason
 * counts. */
void trial_stop(struct trial *trial, enum trial_error error, const char *message);

const char *trial_error_name(enum trial_error error);

/* What it is doing, for people. */
void trial_describe(const struct trial *trial, char *text, size_t size);

void trial_take_reading(struct trial *trial, const struct gauge_reading *reading);

#endif
