/*
 * See experiments.h. An experiment judges by intervals and by wide margins: what it says must hold
 * on the machine that it was measured on, not on a good day. Where chance can hide an effect, not to
 * have seen it is no disproof: then it says that it cannot tell.
 */
#include "compare/experiments.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/statistics.h"
#include "compare/result.h"
#include "server/server.h"

#define FEW_WORKERS    4
#define JOB_TIMEOUT_MS 60000
#define MIB	       (1024.0 * 1024.0)
#define PYTHON_TASK    "(python_count)"

/* --- planning --------------------------------------------------------------------------------- */

struct kind {
	bool threads; /* workers are threads of one host; else hosts of one */
	uint32_t workers;
};

static struct lab_shape shape_of(const struct trial *trial, struct kind kind)
{
	return (struct lab_shape){.pool = server_config(trial->server)->default_pool,
				  .hosts = kind.threads ? 1 : kind.workers,
				  .threads = kind.threads ? kind.workers : 1};
}

/* Steals args. */
static int make_terms(struct trial *trial, const char *task, json_t *args, struct terms **ret_terms,
		      struct error *error)
{
	int status =
		terms_new(trial->server, task, args, server_config(trial->server)->default_pool,
			  true, JOB_TIMEOUT_MS, ret_terms, error);

	json_decref(args);
	return status;
}

static int no_memory(struct error *error)
{
	return error_set(error, ERROR_INTERNAL, NULL, "memory is short");
}

/* Steals args; task NULL: it has jobs of steps only. */
static int add_kind(struct trial *trial, struct kind kind, const char *task, json_t *args,
		    uint32_t *ret_contender, struct error *error)
{
	struct lab_shape shape = shape_of(trial, kind);
	struct terms *terms = NULL;
	char name[64];

	if (task && make_terms(trial, task, args, &terms, error) < 0)
		return -EINVAL;
	if (task && strcmp(task, PYTHON_TASK) == 0)
		shape.enables = PYTHON_TASK;
	snprintf(name, sizeof(name), "%u %s%s", kind.workers, kind.threads ? "thread" : "process",
		 kind.workers == 1 ? ""
		 : kind.threads	   ? "s"
				   : "es");
	if (trial_add_contender(trial, name, &shape, terms, kind.workers, ret_contender) < 0)
		return no_memory(error);
	return 0;
}

static int add_step(struct trial *trial, struct step step, struct error *error)
{
	return trial_add_step(trial, &step) < 0 ? no_memory(error) : 0;
}

/* Jobs of that task on a contender, whose answers are kept. Steals args. */
static int add_kept(struct trial *trial, uint32_t contender, uint32_t jobs, const char *task,
		    json_t *args, struct error *error)
{
	struct terms *terms = NULL;

	if (make_terms(trial, task, args, &terms, error) < 0)
		return -EINVAL;
	if (trial_add_terms(trial, terms) < 0)
		return no_memory(error);
	return add_step(trial,
			(struct step){.kind = STEP_RUN,
				      .pass = PASS_KEPT,
				      .contender = contender,
				      .jobs = jobs,
				      .concurrency = trial->contenders[contender].concurrency,
				      .terms = terms},
			error);
}

static int add_bare(struct trial *trial, enum step_kind kind, uint32_t contender, uint32_t repeat,
		    struct error *error)
{
	return add_step(trial,
			(struct step){.kind = kind, .contender = contender, .repeat = repeat},
			error);
}

/* --- judging ---------------------------------------------------------------------------------- */

static void find(struct judgement *judgement, double value, const char *unit, const char *format,
		 ...) __attribute__((format(printf, 4, 5)));

static void find(struct judgement *judgement, double value, const char *unit, const char *format,
		 ...)
{
	va_list arguments;

	if (judgement->finding_count == FINDINGS_MAX)
		return;
	struct finding *finding = &judgement->findings[judgement->finding_count++];
	finding->value = value;
	finding->unit = unit;
	va_start(arguments, format);
	vsnprintf(finding->name, sizeof(finding->name), format, arguments);
	va_end(arguments);
}

static void conclude(struct judgement *judgement, enum borne_out borne_out, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void conclude(struct judgement *judgement, enum borne_out borne_out, const char *format, ...)
{
	va_list arguments;

	judgement->borne_out = borne_out;
	va_start(arguments, format);
	vsnprintf(judgement->why, sizeof(judgement->why), format, arguments);
	va_end(arguments);
}

/* An integer of what the job of a step has answered; -1 if there is none. */
static int64_t answer_of(const struct kept *kept, const char *member)
{
	struct error error;
	json_t *result = NULL;
	int64_t value = -1;

	if (!kept->result || json_parse(kept->result, kept->length, &result, &error) < 0)
		return -1;
	const json_t *number = json_object_get(result, member);
	if (json_is_integer(number))
		value = json_integer_value(number);
	json_decref(result);
	return value;
}

static int64_t greatest_answer(const struct step *step, const char *member)
{
	int64_t greatest = -1;

	for (uint32_t i = 0; i < step->jobs; i++) {
		int64_t value = answer_of(&step->kept[i], member);
		if (value < 0)
			return -1;
		if (value > greatest)
			greatest = value;
	}
	return greatest;
}

/* --- startup ---------------------------------------------------------------------------------- */

#define STARTUP_REPEATS 20

static int plan_startup(struct trial *trial, struct error *error)
{
	uint32_t contender = 0;
	int status =
		add_kind(trial, (struct kind){false, FEW_WORKERS}, NULL, NULL, &contender, error);

	if (status == 0)
		status = add_kind(trial, (struct kind){true, FEW_WORKERS}, NULL, NULL, &contender,
				  error);
	trial->repeats = STARTUP_REPEATS;
	for (uint32_t i = 0; status == 0 && i < 2 * STARTUP_REPEATS; i++) {
		uint32_t repeat = i / 2 + 1;
		contender = repeat % 2 ? i % 2 : 1 - i % 2;
		status = add_bare(trial, STEP_OPEN, contender, repeat, error);
		if (status == 0)
			status = add_bare(trial, STEP_GAUGE, contender, repeat, error);
		if (status == 0)
			status = add_bare(trial, STEP_CLOSE, contender, repeat, error);
	}
	return status;
}

static double median_of(const struct series *series)
{
	double *values = malloc((series->count + 1) * sizeof(*values));
	double median = STATISTICS_UNKNOWN;

	if (values && series->count > 0) {
		memcpy(values, series->values, series->count * sizeof(*values));
		median = statistics_median(values, series->count);
	}
	free(values);
	return median;
}

/* How long the contenders took to open, the first against the second; rounds are in the order of
 * repeats. */
static bool compare_opening(const struct contender *a, const struct contender *b,
			    struct statistics_interval *ret_ratio)
{
	double of_a[STARTUP_REPEATS];
	double of_b[STARTUP_REPEATS];

	if (a->round_count != STARTUP_REPEATS || b->round_count != STARTUP_REPEATS)
		return false;
	for (size_t i = 0; i < STARTUP_REPEATS; i++) {
		of_a[i] = (double)a->rounds[i].open_ns;
		of_b[i] = (double)b->rounds[i].open_ns;
	}
	return statistics_ratio(of_a, of_b, STARTUP_REPEATS, ret_ratio);
}

static void judge_startup(const struct trial *trial, struct judgement *judgement)
{
	const struct contender *processes = &trial->contenders[0];
	const struct contender *threads = &trial->contenders[1];
	struct statistics_interval time, memory;
	char text[96];
	bool has_time = compare_opening(processes, threads, &time);
	bool has_memory = result_difference(processes, threads, FIGURE_MEMORY, &memory);
	bool slower = has_time && statistics_tells(&time, 1);
	bool larger = has_memory && statistics_tells(&memory, 0);

	find(judgement, median_of(&processes->host_starts) / 1e6, "ms", "start of a process");
	find(judgement, median_of(&threads->thread_starts) / 1e6, "ms", "start of a thread");
	find(judgement, has_time ? time.value : STATISTICS_UNKNOWN, "ratio",
	     "time until %u processes work, against %u threads of one", FEW_WORKERS, FEW_WORKERS);
	find(judgement, has_memory ? memory.value / MIB : STATISTICS_UNKNOWN, "MiB",
	     "more memory (PSS) of %u processes", FEW_WORKERS);
	if (!has_time || !has_memory || !slower || !larger)
		conclude(judgement, BORNE_OUT_UNKNOWN,
			 "the two could not be told apart in both time and memory");
	else
		conclude(judgement,
			 time.value > 1 && memory.value > 0 ? BORNE_OUT_YES : BORNE_OUT_NO,
			 "%u processes took %s times as long to start as one process with %u "
			 "threads, and %.1f MiB more memory",
			 FEW_WORKERS, result_format(&time, text, sizeof(text)), FEW_WORKERS,
			 memory.value / MIB);
}

/* --- scaling ---------------------------------------------------------------------------------- */

struct scaling {
	const char *task;
	const char *argument;
	int value;
	uint32_t sizes[6]; /* workers; ends with 0 */
	uint32_t jobs;
	uint32_t repeats;
};

/* 1, 2, 4 … up to the number of cores, and that itself; at most 32. */
static void sizes_up_to_cores(uint32_t sizes[static 6])
{
	unsigned int cores = config_cores();
	size_t count = 0;

	for (uint32_t size = 1; size < cores && count < 4; size *= 2)
		sizes[count++] = size;
	sizes[count++] = cores < 32 ? cores : 32;
	sizes[count] = 0;
}

static int plan_scaling(struct trial *trial, const struct scaling *scaling, struct error *error)
{
	struct trial_plan plan = {.jobs = scaling->jobs, .warmup = 2, .repeats = scaling->repeats};

	for (int threads = 0; threads < 2; threads++) {
		uint32_t base = (uint32_t)trial->contender_count;
		for (size_t i = 0; scaling->sizes[i] > 0; i++) {
			uint32_t contender;
			int status = add_kind(trial, (struct kind){threads, scaling->sizes[i]},
					      scaling->task,
					      json_pack("{s:i}", scaling->argument, scaling->value),
					      &contender, error);
			if (status < 0)
				return status;
			trial->contenders[contender].base = base;
		}
	}
	return trial_plan(trial, &plan) < 0 ? no_memory(error) : 0;
}

/* The contender with the most workers of a kind. */
static const struct contender *largest(const struct trial *trial, bool threads)
{
	size_t half = trial->contender_count / 2;

	return &trial->contenders[threads ? trial->contender_count - 1 : half - 1];
}

static void find_speedups(const struct trial *trial, struct judgement *judgement)
{
	struct statistics_interval speedup;

	for (size_t i = 0; i < trial->contender_count; i++) {
		const struct contender *contender = &trial->contenders[i];
		bool known = result_speedup(trial, contender, &speedup);
		find(judgement, known ? speedup.value : STATISTICS_UNKNOWN, "times",
		     "speed-up of %s", contender->name);
	}
}

struct pair {
	struct statistics_interval process, thread;
	char process_text[96], thread_text[96];
	uint32_t workers;
	bool known;
};

static struct pair largest_pair(const struct trial *trial)
{
	const struct contender *processes = largest(trial, false);
	const struct contender *threads = largest(trial, true);
	struct pair pair = {.workers = processes->shape.hosts};

	pair.known = result_speedup(trial, processes, &pair.process) &&
		     result_speedup(trial, threads, &pair.thread) && pair.process.has_bounds &&
		     pair.thread.has_bounds;
	if (!pair.known)
		return pair;
	result_format(&pair.process, pair.process_text, sizeof(pair.process_text));
	result_format(&pair.thread, pair.thread_text, sizeof(pair.thread_text));
	return pair;
}

static void not_measured(struct judgement *judgement)
{
	conclude(judgement, BORNE_OUT_UNKNOWN, "the jobs did not succeed, so there is no speed-up");
}

static bool reaches(const struct statistics_interval *speedup, double wanted)
{
	return statistics_tells(speedup, 1) && speedup->value >= wanted;
}

/* Both kinds reach the wanted speed-up with the most workers. */
static void judge_scaling(const struct trial *trial, double wanted, struct judgement *judgement)
{
	struct pair pair = largest_pair(trial);
	enum borne_out borne_out = BORNE_OUT_UNKNOWN;

	find_speedups(trial, judgement);
	if (!pair.known) {
		not_measured(judgement);
		return;
	}
	if (reaches(&pair.process, wanted) && reaches(&pair.thread, wanted))
		borne_out = BORNE_OUT_YES;
	else if (pair.process.high < wanted || pair.thread.high < wanted)
		borne_out = BORNE_OUT_NO;
	conclude(judgement, borne_out,
		 "%u processes did %s times the work of one, and %u threads %s times that of one; "
		 "%.2g times were to be reached%s",
		 pair.workers, pair.process_text, pair.workers, pair.thread_text, wanted,
		 borne_out == BORNE_OUT_UNKNOWN ? ", which these intervals leave open" : "");
}

static const char *needs_cores(const struct server *server)
{
	(void)server;
	return config_cores() > 1 ? NULL : "it needs two cores, and this machine gives it one";
}

static int plan_cpu_scaling(struct trial *trial, struct error *error)
{
	struct scaling scaling = {
		.task = "primes", .argument = "n", .value = 10000000, .jobs = 12, .repeats = 9};

	sizes_up_to_cores(scaling.sizes);
	return plan_scaling(trial, &scaling, error);
}

static void judge_cpu_scaling(const struct trial *trial, struct judgement *judgement)
{
	judge_scaling(trial, 0.6 * largest(trial, false)->shape.hosts, judgement);
}

static int plan_io_scaling(struct trial *trial, struct error *error)
{
	static const struct scaling scaling = {.task = "sleep",
					       .argument = "ms",
					       .value = 20,
					       .sizes = {1, 2, 4, 8},
					       .jobs = 8,
					       .repeats = 4};

	return plan_scaling(trial, &scaling, error);
}

static void judge_io_scaling(const struct trial *trial, struct judgement *judgement)
{
	judge_scaling(trial, 0.75 * largest(trial, false)->shape.hosts, judgement);
}

/* --- the GIL ---------------------------------------------------------------------------------- */

#define GIL_PARALLEL 0.6  /* of the workers: so much is parallel */
#define GIL_SERIAL   1.25 /* times one worker: up to this is not */

static const char *needs_python(const struct server *server)
{
	if (!registry_find(server_registry(server), PYTHON_TASK))
		return "this build is without Python";
	return needs_cores(server);
}

static int plan_gil(struct trial *trial, struct error *error)
{
	unsigned int cores = config_cores();
	const struct scaling scaling = {.task = PYTHON_TASK,
					.argument = "n",
					.value = 100000,
					.sizes = {1, cores < FEW_WORKERS ? cores : FEW_WORKERS},
					.jobs = 8,
					.repeats = 9};

	return plan_scaling(trial, &scaling, error);
}

static void judge_gil(const struct trial *trial, struct judgement *judgement)
{
	struct pair pair = largest_pair(trial);
	enum borne_out borne_out = BORNE_OUT_UNKNOWN;

	find_speedups(trial, judgement);
	if (!pair.known) {
		const char *failure = trial->contenders[0].failure;
		conclude(judgement, BORNE_OUT_UNKNOWN, "the Python jobs did not succeed: %.300s",
			 failure ? failure : "");
		return;
	}
	if (reaches(&pair.process, GIL_PARALLEL * pair.workers) && pair.thread.value <= GIL_SERIAL)
		borne_out = BORNE_OUT_YES;
	else if (pair.thread.low > GIL_SERIAL || pair.process.high < GIL_PARALLEL * pair.workers)
		borne_out = BORNE_OUT_NO;
	conclude(judgement, borne_out,
		 "%u processes did %s times the work of one, and %u threads %s times that of one",
		 pair.workers, pair.process_text, pair.workers, pair.thread_text);
}

/* --- the race --------------------------------------------------------------------------------- */

#define RACE_JOBS      4
#define RACE_FIRST     500000
#define RACE_DOUBLINGS 7
#define RACE_LOCKED    100000
/* Steps: open, then three for each of: without the lock, doubling; with it. */
#define RACE_STEP_OF(round) (1 + 3 * (size_t)(round))

static json_t *counting(int64_t increments, bool lock, bool reset, const char *memory)
{
	return json_pack("{s:I, s:b, s:b, s:s}", "increments", (json_int_t)increments, "lock", lock,
			 "reset", reset, "memory", memory);
}

/* Sets the counter to 0, has `jobs` jobs count, reads it. */
static int add_counting(struct trial *trial, uint32_t contender, uint32_t jobs, int64_t increments,
			bool lock, const char *memory, struct error *error)
{
	int status =
		add_kept(trial, contender, 1, "counter", counting(0, true, true, memory), error);

	if (status == 0)
		status = add_kept(trial, contender, jobs, "counter",
				  counting(increments, lock, false, memory), error);
	if (status == 0)
		status = add_kept(trial, contender, 1, "counter", counting(0, true, false, memory),
				  error);
	return status;
}

static int plan_race(struct trial *trial, struct error *error)
{
	uint32_t contender = 0;
	int status = add_kind(trial, (struct kind){true, RACE_JOBS}, NULL, NULL, &contender, error);

	if (status == 0)
		status = add_bare(trial, STEP_OPEN, contender, 0, error);
	for (int i = 0; status == 0 && i < RACE_DOUBLINGS; i++)
		status = add_counting(trial, contender, RACE_JOBS, (int64_t)RACE_FIRST << i, false,
				      "private", error);
	if (status == 0)
		status = add_counting(trial, contender, RACE_JOBS, RACE_LOCKED, true, "private",
				      error);
	return status == 0 ? add_bare(trial, STEP_CLOSE, contender, 0, error) : status;
}

/* What the counter showed at the end of a round; -1 if it was not carried out. */
static int64_t race_value(const struct trial *trial, int round)
{
	const struct step *step = &trial->steps[RACE_STEP_OF(round) + 2];

	return step->skipped ? -1 : answer_of(&step->kept[0], "value");
}

/* A race is a matter of chance: it gets longer and longer rounds, until it has shown itself. */
static bool is_race_needed(const struct trial *trial, size_t step)
{
	size_t round = step > 0 ? (step - 1) / 3 : 0;

	if (round == 0 || round >= RACE_DOUBLINGS)
		return true;
	for (size_t i = 0; i < round; i++)
		if (race_value(trial, (int)i) >= 0 &&
		    race_value(trial, (int)i) < (int64_t)RACE_JOBS * ((int64_t)RACE_FIRST << i))
			return false;
	return true;
}

static void judge_race(const struct trial *trial, struct judgement *judgement)
{
	int64_t locked = race_value(trial, RACE_DOUBLINGS);
	int64_t wanted = (int64_t)RACE_JOBS * RACE_LOCKED;
	int64_t unlocked = -1, increments = 0;

	for (int i = 0; i < RACE_DOUBLINGS; i++) {
		if (race_value(trial, i) < 0)
			continue;
		unlocked = race_value(trial, i);
		increments = (int64_t)RACE_JOBS * ((int64_t)RACE_FIRST << i);
	}
	if (unlocked < 0 || locked < 0) {
		conclude(judgement, BORNE_OUT_UNKNOWN, "the jobs did not succeed");
		return;
	}
	find(judgement, (double)increments, "increments", "made without the lock");
	find(judgement, (double)(increments - unlocked), "increments", "lost without the lock");
	find(judgement, (double)wanted, "increments", "made with the lock");
	find(judgement, (double)(wanted - locked), "increments", "lost with the lock");
	enum borne_out borne_out = locked != wanted	    ? BORNE_OUT_NO
				   : unlocked >= increments ? BORNE_OUT_UNKNOWN
							    : BORNE_OUT_YES;
	conclude(judgement, borne_out,
		 "of %lld increments by %d threads without the lock %lld were lost, and of %lld "
		 "with it %lld%s",
		 (long long)increments, RACE_JOBS, (long long)(increments - unlocked),
		 (long long)wanted, (long long)(wanted - locked),
		 borne_out == BORNE_OUT_UNKNOWN
			 ? "; that none was lost is chance: the race did not show itself"
			 : "");
}

/* --- memory ----------------------------------------------------------------------------------- */

#define MEMORY_JOBS	  12
#define MEMORY_INCREMENTS 1000
enum { MEMORY_PROCESSES = 3, MEMORY_THREADS = 6, MEMORY_SHARED = 9 }; /* the counting steps */

static int plan_memory(struct trial *trial, struct error *error)
{
	uint32_t processes = 0, threads = 1;
	int status =
		add_kind(trial, (struct kind){false, FEW_WORKERS}, NULL, NULL, &processes, error);

	if (status == 0)
		status = add_kind(trial, (struct kind){true, FEW_WORKERS}, NULL, NULL, &threads,
				  error);
	if (status == 0)
		status = add_bare(trial, STEP_OPEN, processes, 0, error);
	if (status == 0)
		status = add_bare(trial, STEP_OPEN, threads, 0, error);
	if (status == 0)
		status = add_counting(trial, processes, MEMORY_JOBS, MEMORY_INCREMENTS, true,
				      "private", error);
	if (status == 0)
		status = add_counting(trial, threads, MEMORY_JOBS, MEMORY_INCREMENTS, true,
				      "private", error);
	if (status == 0)
		status = add_counting(trial, processes, MEMORY_JOBS, MEMORY_INCREMENTS, true,
				      "shared", error);
	if (status == 0)
		status = add_bare(trial, STEP_CLOSE, processes, 0, error);
	return status == 0 ? add_bare(trial, STEP_CLOSE, threads, 0, error) : status;
}

/* How many processes have counted, each for itself from 0 in steps of its own jobs; 0 if that is not
 * what they have answered. */
static uint32_t count_islands(const struct step *step)
{
	uint32_t islands = 0;

	for (uint32_t i = 0; i < step->jobs; i++) {
		const struct kept *kept = &step->kept[i];
		int64_t jobs_of_pid = 0;
		int64_t greatest = 0;
		bool is_first = true;
		for (uint32_t j = 0; j < step->jobs; j++) {
			int64_t value = answer_of(&step->kept[j], "value");
			if (step->kept[j].pid != kept->pid)
				continue;
			is_first = is_first && j >= i;
			jobs_of_pid++;
			greatest = value > greatest ? value : greatest;
		}
		if (greatest != jobs_of_pid * MEMORY_INCREMENTS)
			return 0;
		islands += is_first;
	}
	return islands;
}

static void judge_memory(const struct trial *trial, struct judgement *judgement)
{
	const int64_t all = (int64_t)MEMORY_JOBS * MEMORY_INCREMENTS;
	const struct step *private_step = &trial->steps[MEMORY_PROCESSES];
	int64_t alone = greatest_answer(private_step, "value");
	int64_t threads = greatest_answer(&trial->steps[MEMORY_THREADS], "value");
	int64_t shared = greatest_answer(&trial->steps[MEMORY_SHARED], "value");
	uint32_t islands = count_islands(private_step);

	if (alone < 0 || threads < 0 || shared < 0) {
		conclude(judgement, BORNE_OUT_UNKNOWN, "the jobs did not succeed");
		return;
	}
	find(judgement, (double)all, "increments", "made each time");
	find(judgement, (double)alone, "increments", "seen by the busiest of %u processes",
	     islands);
	find(judgement, (double)threads, "increments", "seen by threads of one process");
	find(judgement, (double)shared, "increments", "seen by processes in shared memory");
	bool as_claimed = islands > 1 && alone < all && threads == all && shared == all;
	conclude(judgement, as_claimed ? BORNE_OUT_YES : BORNE_OUT_NO,
		 "of %lld increments each of %u processes saw its own only, %lld at the most; "
		 "threads of one process saw %lld, and processes in memory that they share %lld",
		 (long long)all, islands, (long long)alone, (long long)threads, (long long)shared);
}

/* --- a crash ---------------------------------------------------------------------------------- */

static int plan_crash(struct trial *trial, struct error *error)
{
	uint32_t contender = 0;
	int status = 0;

	for (int threads = 0; status == 0 && threads < 2; threads++) {
		status = add_kind(trial, (struct kind){threads, FEW_WORKERS}, NULL, NULL,
				  &contender, error);
		if (status == 0)
			status = add_bare(trial, STEP_OPEN, contender, 0, error);
		if (status == 0)
			status = add_bare(trial, STEP_CRASH, contender, 0, error);
		if (status == 0)
			status = add_bare(trial, STEP_CLOSE, contender, 0, error);
	}
	return status;
}

static void judge_crash(const struct trial *trial, struct judgement *judgement)
{
	const struct contender *processes = &trial->contenders[0];
	const struct contender *threads = &trial->contenders[1];
	bool goes_on =
		processes->crash_next == JOB_SUCCEEDED && threads->crash_next == JOB_SUCCEEDED;

	find(judgement, processes->crash_running, "jobs", "running as processes");
	find(judgement, processes->crash_lost, "jobs", "lost by a crash among processes");
	find(judgement, threads->crash_running, "jobs", "running as threads of a process");
	find(judgement, threads->crash_lost, "jobs", "lost by a crash among threads");
	bool as_claimed = processes->crash_lost == 1 &&
			  threads->crash_lost == threads->crash_running && goes_on;
	conclude(judgement, as_claimed ? BORNE_OUT_YES : BORNE_OUT_NO,
		 "a crash took %u of %u jobs that ran as processes, and %u of %u that ran as "
		 "threads; "
		 "the next job %s on both",
		 processes->crash_lost, processes->crash_running, threads->crash_lost,
		 threads->crash_running, goes_on ? "succeeded" : "did not succeed");
}

/* --- the table -------------------------------------------------------------------------------- */

const struct experiment experiments[] = {
	{.name = "startup",
	 .claim = "Threads start faster than processes and take less memory.",
	 .plan = plan_startup,
	 .judge = judge_startup},
	{.name = "cpu_scaling",
	 .claim = "Work that computes gets faster with more workers, up to the number of cores, on "
		  "processes and on threads (in C) alike.",
	 .unavailable = needs_cores,
	 .plan = plan_cpu_scaling,
	 .judge = judge_cpu_scaling},
	{.name = "io_scaling",
	 .claim = "Work that only waits gets faster with more workers, far beyond the number of "
		  "cores, on processes and on threads alike.",
	 .plan = plan_io_scaling,
	 .judge = judge_io_scaling},
	{.name = "race",
	 .claim = "Threads that add to one variable without a lock lose increments; with the lock "
		  "they lose none.",
	 .plan = plan_race,
	 .judge = judge_race,
	 .is_needed = is_race_needed},
	{.name = "shared_memory",
	 .claim = "Each process has memory of its own, the threads of a process share theirs, and "
		  "processes see of each other only what is put into shared memory.",
	 .plan = plan_memory,
	 .judge = judge_memory},
	{.name = "crash_containment",
	 .claim = "A crash takes only its own job where each job has a process, and every job "
		  "beside "
		  "it where they are threads of one.",
	 .plan = plan_crash,
	 .judge = judge_crash},
	{.name = "gil",
	 .claim = "Python code that computes runs in parallel on processes, and one at a time on "
		  "threads, which share the interpreter's lock (the GIL).",
	 .unavailable = needs_python,
	 .plan = plan_gil,
	 .judge = judge_gil},
};

const size_t experiment_count = sizeof(experiments) / sizeof(experiments[0]);

const struct experiment *experiment_find(const char *name)
{
	for (size_t i = 0; i < experiment_count; i++)
		if (strcmp(experiments[i].name, name) == 0)
			return &experiments[i];
	return NULL;
}
