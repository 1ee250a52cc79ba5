/*
 * Invariants
 * 1. At most one step is under way: trial->at. Whatever it waits for (a lab, jobs, a reading, a
 * timer) calls back from the loop, and only what the step is at is taken.
 * 2. contender->lab is set from lab_open() to closed(); trial->ended() is called when none is.
 */
#include "compare/trial.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/statistics.h"
#include "server/server.h"

#define POLL_NS	       (2 * NS_PER_MS)
#define SLEEPER_MS     120000
#define OWN_TIMEOUT_MS 180000

/* What a STEP_CRASH is at. */
enum { CRASH_FILLING, CRASH_CRASHING, CRASH_COUNTING, CRASH_FOLLOWING };
/* What a measured pass is at; and when it is to be counted once more what its lab's hosts hold. */
enum { RUN_BEFORE, RUN_RUNNING, RUN_AFTER };

static void begin_step(struct trial *trial);
static void step_timed_out(struct loop_timer *timer);
static void limit_reached(struct loop_timer *timer);
static void poll_due(struct loop_timer *timer);

/* --- making and freeing ----------------------------------------------------------------------- */

static int series_add(struct series *series, double value)
{
	if (series->count == series->capacity) {
		size_t capacity = series->capacity ? 2 * series->capacity : 64;
		double *values = realloc(series->values, capacity * sizeof(*values));
		if (!values)
			return -ENOMEM;
		series->values = values;
		series->capacity = capacity;
	}
	series->values[series->count++] = value;
	return 0;
}

static void series_release(struct series *series)
{
	free(series->values);
	*series = (struct series){0};
}

struct trial *trial_new(struct server *server, struct gauge *gauge)
{
	struct trial *trial = calloc(1, sizeof(*trial));

	if (!trial)
		return NULL;
	trial->server = server;
	trial->loop = server_loop(server);
	trial->gauge = gauge;
	loop_timer_init(&trial->step_timer, step_timed_out);
	loop_timer_init(&trial->limit_timer, limit_reached);
	loop_timer_init(&trial->poll_timer, poll_due);
	trial->contenders = calloc(TRIAL_CONTENDERS_MAX, sizeof(*trial->contenders));
	if (!trial->contenders) {
		free(trial);
		return NULL;
	}
	return trial;
}

static void release_contender(struct contender *contender)
{
	struct series *all[] = {&contender->run,	 &contender->queued,
				&contender->dispatch,	 &contender->collect,
				&contender->host_starts, &contender->thread_starts};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		series_release(all[i]);
	terms_free(contender->terms);
	free(contender->rounds);
	free(contender->failure);
}

static void release_step(struct step *step)
{
	for (uint32_t i = 0; step->kept && i < step->jobs; i++)
		free(step->kept[i].result);
	free(step->kept);
}

void trial_free(struct trial *trial)
{
	if (!trial)
		return;
	loop_timer_cancel(trial->loop, &trial->step_timer);
	loop_timer_cancel(trial->loop, &trial->limit_timer);
	loop_timer_cancel(trial->loop, &trial->poll_timer);
	for (size_t i = 0; i < trial->contender_count; i++)
		release_contender(&trial->contenders[i]);
	for (size_t i = 0; i < trial->step_count; i++)
		release_step(&trial->steps[i]);
	for (size_t i = 0; i < trial->extra_count; i++)
		terms_free(trial->extra[i]);
	terms_free(trial->sleep);
	terms_free(trial->crash);
	terms_free(trial->next);
	series_release(&trial->round_run);
	free(trial->contenders);
	free(trial->steps);
	free(trial->extra);
	free(trial);
}

/* --- the plan --------------------------------------------------------------------------------- */

int trial_add_contender(struct trial *trial, const char *name, const struct lab_shape *shape,
			struct terms *terms, uint32_t concurrency, uint32_t *ret_contender)
{
	if (trial->contender_count == TRIAL_CONTENDERS_MAX) {
		terms_free(terms);
		return -EBUSY;
	}
	struct contender *contender = &trial->contenders[trial->contender_count];
	*contender = (struct contender){.shape = *shape,
					.terms = terms,
					.concurrency = concurrency,
					.base = TRIAL_NONE,
					.peak_bytes = METERING_UNKNOWN,
					.crash_next = -1};
	snprintf(contender->name, sizeof(contender->name), "%s", name);
	snprintf(contender->pool, sizeof(contender->pool), "%s", shape->pool);
	contender->shape.pool = contender->pool; /* contenders never move */
	*ret_contender = (uint32_t)trial->contender_count++;
	return 0;
}

/* Steps count as what people wait for: a job each, or one. */
static uint64_t weight(const struct step *step)
{
	return step->kind == STEP_RUN ? step->jobs : 1;
}

int trial_add_step(struct trial *trial, const struct step *step)
{
	struct step *steps = realloc(trial->steps, (trial->step_count + 1) * sizeof(*trial->steps));

	if (!steps)
		return -ENOMEM;
	trial->steps = steps;
	steps[trial->step_count] = *step;
	if (step->pass == PASS_KEPT && step->kind == STEP_RUN) {
		steps[trial->step_count].kept = calloc(step->jobs, sizeof(struct kept));
		if (!steps[trial->step_count].kept)
			return -ENOMEM;
	}
	trial->step_count++;
	trial->total += weight(step);
	return 0;
}

int trial_add_terms(struct trial *trial, struct terms *terms)
{
	struct terms **extra =
		realloc(trial->extra, (trial->extra_count + 1) * sizeof(struct terms *));

	if (!extra) {
		terms_free(terms);
		return -ENOMEM;
	}
	trial->extra = extra;
	extra[trial->extra_count++] = terms;
	return 0;
}

/* One step of that kind for each contender. */
static int add_for_all(struct trial *trial, const struct step *step)
{
	int status = 0;

	for (uint32_t i = 0; status == 0 && i < trial->contender_count; i++) {
		struct step one = *step;
		one.contender = i;
		one.concurrency = trial->contenders[i].concurrency;
		status = trial_add_step(trial, &one);
	}
	return status;
}

/* As many as take about as long one at a time as all of them at once. */
static uint32_t serial_jobs(uint32_t jobs, uint32_t concurrency)
{
	return (jobs + concurrency - 1) / concurrency;
}

static int add_round(struct trial *trial, const struct trial_plan *plan, uint32_t contender,
		     uint32_t repeat)
{
	uint32_t concurrency = trial->contenders[contender].concurrency;
	struct step step = {.kind = STEP_RUN,
			    .pass = PASS_SERIAL,
			    .contender = contender,
			    .repeat = repeat,
			    .jobs = serial_jobs(plan->jobs, concurrency),
			    .concurrency = 1};
	int status = 0;

	if (plan->serial && concurrency > 1)
		status = trial_add_step(trial, &step);
	step.pass = PASS_MEASURED;
	step.jobs = plan->jobs;
	step.concurrency = concurrency;
	return status == 0 ? trial_add_step(trial, &step) : status;
}

int trial_plan(struct trial *trial, const struct trial_plan *plan)
{
	uint32_t count = (uint32_t)trial->contender_count;
	int status = add_for_all(trial, &(struct step){.kind = STEP_OPEN});

	trial->repeats = plan->repeats;
	if (status == 0 && plan->warmup > 0)
		status = add_for_all(trial, &(struct step){.kind = STEP_RUN,
							   .pass = PASS_WARMUP,
							   .jobs = plan->warmup});
	for (uint32_t repeat = 1; status == 0 && repeat <= plan->repeats; repeat++)
		for (uint32_t i = 0; status == 0 && i < count; i++)
			status = add_round(trial, plan, repeat % 2 ? i : count - 1 - i, repeat);
	if (status == 0 && plan->crash)
		status = add_for_all(trial, &(struct step){.kind = STEP_CRASH});
	return status == 0 ? add_for_all(trial, &(struct step){.kind = STEP_CLOSE}) : status;
}

/* --- ending ----------------------------------------------------------------------------------- */

static bool any_is_open(const struct trial *trial)
{
	for (size_t i = 0; i < trial->contender_count; i++)
		if (trial->contenders[i].lab)
			return true;
	return false;
}

/* ended() follows from the loop. */
static void finish(struct trial *trial)
{
	trial->stopping = true;
	gauge_forget(trial->gauge);
	loop_timer_cancel(trial->loop, &trial->step_timer);
	loop_timer_cancel(trial->loop, &trial->limit_timer);
	loop_timer_cancel(trial->loop, &trial->poll_timer);
	for (size_t i = 0; i < trial->contender_count; i++)
		if (trial->contenders[i].lab)
			lab_close(trial->contenders[i].lab);
	if (!any_is_open(trial))
		loop_timer_set(trial->loop, &trial->poll_timer, clock_monotonic_ns());
}

void trial_stop(struct trial *trial, enum trial_error error, const char *message)
{
	if (trial->stopping)
		return;
	trial->error = error;
	snprintf(trial->message, sizeof(trial->message), "%s", message);
	finish(trial);
}

static void limit_reached(struct loop_timer *timer)
{
	char message[120];

	snprintf(message, sizeof(message), "it was not over after %lld s, which is all it may take",
		 (long long)(TRIAL_TIME_NS / NS_PER_S));
	trial_stop(container_of(timer, struct trial, limit_timer), TRIAL_TIME_LIMIT, message);
}

/* --- steps ------------------------------------------------------------------------------------ */

static struct step *step_of(const struct trial *trial)
{
	return &trial->steps[trial->at];
}

static struct contender *contender_of(const struct trial *trial)
{
	return &trial->contenders[step_of(trial)->contender];
}

static void step_timed_out(struct loop_timer *timer)
{
	struct trial *trial = container_of(timer, struct trial, step_timer);
	char message[200];

	snprintf(message, sizeof(message), "after %lld s, %s of %s %s",
		 (long long)(TRIAL_STEP_NS / NS_PER_S),
		 step_of(trial)->kind == STEP_OPEN ? "the hosts" : "the jobs",
		 contender_of(trial)->name,
		 step_of(trial)->kind == STEP_OPEN ? "were not all up" : "had not all begun");
	trial_stop(trial, TRIAL_HOSTS, message);
}

static void next_step(struct trial *trial)
{
	loop_timer_cancel(trial->loop, &trial->step_timer);
	loop_timer_cancel(trial->loop, &trial->poll_timer);
	if (step_of(trial)->kind != STEP_RUN)
		trial->done++;
	trial->at++;
	trial->progressed(trial);
	begin_step(trial);
}

static void out_of_memory(struct trial *trial)
{
	trial_stop(trial, TRIAL_MEMORY, "memory or descriptors were short");
}

/* Submits one job; 0 if that did not work, and then the trial stops or is about to. */
static uint64_t submit(struct trial *trial, const struct terms *terms)
{
	uint64_t seq = 0;
	int status = lab_submit(contender_of(trial)->lab, terms, &seq);

	if (status == -ENOMEM)
		out_of_memory(trial);
	return status == 0 ? seq : 0;
}

static void ask_reading(struct trial *trial, bool with_hosts)
{
	struct lab_host hosts[GAUGE_PIDS_MAX];
	pid_t pids[GAUGE_PIDS_MAX];
	size_t count = with_hosts ? lab_hosts(contender_of(trial)->lab, hosts, GAUGE_PIDS_MAX) : 0;

	for (size_t i = 0; i < count; i++)
		pids[i] = hosts[i].pid;
	if (gauge_read(trial->gauge, pids, count, trial) < 0)
		out_of_memory(trial);
}

/* --- jobs of a pass --------------------------------------------------------------------------- */

static void submit_next(struct trial *trial)
{
	struct step *step = step_of(trial);
	uint64_t seq = submit(trial, step->terms ? step->terms : contender_of(trial)->terms);

	if (seq != 0 && step->kept)
		step->kept[trial->submitted].seq = seq;
	trial->submitted++;
}

static void start_jobs(struct trial *trial)
{
	const struct step *step = step_of(trial);

	trial->phase = RUN_RUNNING;
	trial->submitted = trial->over = trial->round_succeeded = 0;
	trial->round_cpu_ns = 0;
	trial->round_run.count = 0;
	trial->begun_ns = clock_monotonic_ns();
	trial->last_end_ns = trial->begun_ns;
	while (trial->submitted < step->jobs && trial->submitted < step->concurrency &&
	       !trial->stopping)
		submit_next(trial);
}

static int64_t add_known(int64_t sum, int64_t more)
{
	return sum == METERING_UNKNOWN || more == METERING_UNKNOWN ? METERING_UNKNOWN : sum + more;
}

static void note_metering(struct trial *trial, struct contender *contender,
			  const struct metering *metering)
{
	contender->user_ns = add_known(contender->user_ns, metering->cpu_user_ns);
	contender->system_ns = add_known(contender->system_ns, metering->cpu_system_ns);
	contender->minor_faults = add_known(contender->minor_faults, metering->minor_faults);
	contender->major_faults = add_known(contender->major_faults, metering->major_faults);
	contender->voluntary_switches =
		add_known(contender->voluntary_switches, metering->voluntary_switches);
	contender->involuntary_switches =
		add_known(contender->involuntary_switches, metering->involuntary_switches);
	if (metering->peak_bytes > contender->peak_bytes)
		contender->peak_bytes = metering->peak_bytes;
	trial->round_cpu_ns = add_known(trial->round_cpu_ns,
					add_known(metering->cpu_user_ns, metering->cpu_system_ns));
}

static void note_failure(struct contender *contender, const struct job *job)
{
	if (!contender->failure &&
	    asprintf(&contender->failure, "%s: %s", job_state_name(job->state),
		     job->error.message ? job->error.message : "") < 0)
		contender->failure = NULL;
}

static void note_measured(struct trial *trial, const struct job *job)
{
	struct contender *contender = contender_of(trial);
	const struct metering *metering = &job->metering;
	double run_ns = (double)(metering->ended_ns - metering->started_ns);

	contender->by_state[job->state]++;
	if (job->state != JOB_SUCCEEDED) {
		note_failure(contender, job);
		return;
	}
	trial->round_succeeded++;
	note_metering(trial, contender, metering);
	if (series_add(&contender->run, run_ns) < 0 || series_add(&trial->round_run, run_ns) < 0 ||
	    series_add(&contender->queued, (double)(job->dispatched_ns - job->queued_ns)) < 0 ||
	    series_add(&contender->dispatch, (double)(metering->started_ns - job->dispatched_ns)) <
		    0 ||
	    series_add(&contender->collect, (double)(job->finished_ns - metering->ended_ns)) < 0)
		out_of_memory(trial);
}

static void keep_answer(struct step *step, const struct job *job)
{
	for (uint32_t i = 0; i < step->jobs; i++) {
		struct kept *kept = &step->kept[i];
		if (kept->seq != job->seq)
			continue;
		kept->pid = job->worker.pid;
		if (job->state != JOB_SUCCEEDED || job->result_length == 0)
			return;
		kept->result = malloc(job->result_length);
		kept->length = kept->result ? job->result_length : 0;
		if (kept->result)
			memcpy(kept->result, job->result, job->result_length);
		return;
	}
}

/* All jobs of the pass have ended. */
static void pass_is_over(struct trial *trial)
{
	struct contender *contender = contender_of(trial);
	const struct step *step = step_of(trial);

	switch (step->pass) {
	case PASS_MEASURED:
		trial->phase = RUN_AFTER;
		ask_reading(trial, true);
		return;
	case PASS_SERIAL:
		contender->serial_jobs = step->jobs;
		contender->serial_ns = trial->last_end_ns - trial->begun_ns;
		break;
	case PASS_WARMUP:
	case PASS_KEPT:
		break;
	}
	next_step(trial);
}

static void run_job_ended(struct trial *trial, const struct job *job)
{
	struct step *step = step_of(trial);

	trial->over++;
	trial->done++;
	if (job->finished_ns > trial->last_end_ns)
		trial->last_end_ns = job->finished_ns;
	if (step->pass == PASS_MEASURED)
		note_measured(trial, job);
	else if (step->pass == PASS_KEPT)
		keep_answer(step, job);
	if (trial->stopping)
		return;
	if (trial->submitted < step->jobs)
		submit_next(trial);
	else if (trial->over == step->jobs)
		pass_is_over(trial);
	if (!trial->stopping)
		trial->progressed(trial);
}

/* --- readings --------------------------------------------------------------------------------- */

static int64_t process_cpu_ns(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_S +
	       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * NS_PER_US;
}

static void note_noise(struct trial *trial, const struct machine_sample *after)
{
	struct noise *noise = &trial->noise;
	struct machine_sample *sum = &noise->machine;
	struct machine_sample more = machine_between(&trial->before, after);
	uint64_t running, ended;

	sum->taken_ns += more.taken_ns;
	sum->busy_ns = add_known(sum->busy_ns, more.busy_ns);
	sum->total_ns = add_known(sum->total_ns, more.total_ns);
	sum->steal_ns = add_known(sum->steal_ns, more.steal_ns);
	for (int i = 0; i < MACHINE_PRESSURES; i++)
		sum->pressure_ns[i] = add_known(sum->pressure_ns[i], more.pressure_ns[i]);
	sum->throttled_periods = add_known(sum->throttled_periods, more.throttled_periods);
	sum->throttled_ns = add_known(sum->throttled_ns, more.throttled_ns);
	noise->own_cpu_ns = add_known(noise->own_cpu_ns, trial->round_cpu_ns);
	noise->own_cpu_ns = add_known(noise->own_cpu_ns, process_cpu_ns() - trial->own_before_ns);
	lab_count_others(trial->server, &running, &ended);
	noise->other_jobs += ended - trial->others_before + running;
	noise->gauged++;
}

static int add_gauged_round(struct trial *trial, const struct gauge_reading *reading)
{
	struct contender *contender = contender_of(trial);
	struct round *rounds =
		realloc(contender->rounds, (contender->round_count + 1) * sizeof(*rounds));

	if (!rounds)
		return -ENOMEM;
	contender->rounds = rounds;
	struct round *round = &rounds[contender->round_count++];
	*round = (struct round){.repeat = step_of(trial)->repeat,
				.open_ns = contender->open_ns,
				.run_p50_ns = METERING_UNKNOWN,
				.cpu_ns = METERING_UNKNOWN,
				.memory = reading->memory};
	contender->open_ns = 0;
	if (step_of(trial)->kind != STEP_RUN)
		return 0;
	round->jobs = step_of(trial)->jobs;
	round->succeeded = trial->round_succeeded;
	round->wall_ns = trial->last_end_ns - trial->begun_ns;
	round->serial_jobs = contender->serial_jobs;
	round->serial_ns = contender->serial_ns;
	if (trial->round_run.count > 0) {
		round->run_p50_ns =
			statistics_median(trial->round_run.values, trial->round_run.count);
		round->cpu_ns = trial->round_cpu_ns;
	}
	return 0;
}

void trial_take_reading(struct trial *trial, const struct gauge_reading *reading)
{
	const struct step *step = step_of(trial);

	if (trial->stopping)
		return;
	if (step->kind == STEP_RUN && trial->phase == RUN_BEFORE) {
		trial->before = reading->machine;
		trial->own_before_ns = process_cpu_ns();
		lab_count_others(trial->server, &trial->running_before, &trial->others_before);
		start_jobs(trial);
		return;
	}
	if (step->kind == STEP_RUN)
		note_noise(trial, &reading->machine);
	if (add_gauged_round(trial, reading) < 0)
		out_of_memory(trial);
	else
		next_step(trial);
}

/* --- a crash ---------------------------------------------------------------------------------- */

/* Every worker but one gets a job that goes on; when all of these have begun, the last gets one that
 * crashes. */
static void begin_crash(struct trial *trial)
{
	struct contender *contender = contender_of(trial);
	uint32_t workers = contender->shape.hosts * contender->shape.threads;

	trial->phase = CRASH_FILLING;
	trial->crash_lost = 0;
	contender->hosts_lost = lab_hosts_lost(contender->lab);
	contender->crash_running = workers;
	for (uint32_t i = 1; i < workers && !trial->stopping; i++)
		(void)submit(trial, trial->sleep);
	if (trial->stopping)
		return;
	loop_timer_set(trial->loop, &trial->step_timer, clock_monotonic_ns() + TRIAL_STEP_NS);
	loop_timer_set(trial->loop, &trial->poll_timer, clock_monotonic_ns());
}

static void crash_job_ended(struct trial *trial, const struct job *job)
{
	struct contender *contender = contender_of(trial);

	if (trial->phase == CRASH_CRASHING) {
		trial->crash_lost += job->state == JOB_CRASHED;
		if (job->seq != trial->crash_seq)
			return;
		/* Those that fell with it are told of in the same turn. */
		trial->phase = CRASH_COUNTING;
		loop_timer_set(trial->loop, &trial->poll_timer, clock_monotonic_ns());
	} else if (trial->phase == CRASH_COUNTING) {
		trial->crash_lost += job->state == JOB_CRASHED;
	} else if (trial->phase == CRASH_FOLLOWING && job->seq == trial->crash_seq) {
		contender->crash_next = (int)job->state;
		next_step(trial);
	}
}

static void go_on_with_crash(struct trial *trial)
{
	struct contender *contender = contender_of(trial);

	if (trial->phase == CRASH_FILLING && !lab_jobs_have_begun(contender->lab)) {
		loop_timer_set(trial->loop, &trial->poll_timer, clock_monotonic_ns() + POLL_NS);
	} else if (trial->phase == CRASH_FILLING) {
		trial->phase = CRASH_CRASHING;
		trial->crash_seq = submit(trial, trial->crash);
	} else if (trial->phase == CRASH_COUNTING) {
		contender->crashed = true;
		contender->crash_lost = trial->crash_lost;
		trial->phase = CRASH_FOLLOWING;
		trial->crash_seq = submit(trial, trial->next);
	}
}

static void poll_due(struct loop_timer *timer)
{
	struct trial *trial = container_of(timer, struct trial, poll_timer);

	if (!trial->stopping)
		go_on_with_crash(trial);
	else if (!any_is_open(trial))
		trial->ended(trial);
}

/* --- labs ------------------------------------------------------------------------------------- */

static struct contender *contender_of_lab(const struct trial *trial, const struct lab *lab)
{
	for (size_t i = 0; i < trial->contender_count; i++)
		if (trial->contenders[i].lab == lab)
			return &trial->contenders[i];
	return NULL;
}

static void lab_opened(struct lab *lab, void *data)
{
	struct lab_host hosts[GAUGE_PIDS_MAX];
	struct trial *trial = data;
	struct contender *contender = contender_of_lab(trial, lab);
	size_t count = lab_hosts(lab, hosts, GAUGE_PIDS_MAX);
	int status = 0;

	if (trial->stopping || !contender)
		return;
	contender->open_ns = clock_monotonic_ns() - trial->begun_ns;
	for (size_t i = 0; status == 0 && i < count; i++) {
		status = series_add(&contender->host_starts, (double)hosts[i].start_ns);
		if (status == 0 && hosts[i].thread_start_ns > 0)
			status = series_add(&contender->thread_starts,
					    (double)hosts[i].thread_start_ns);
	}
	if (status < 0)
		out_of_memory(trial);
	else
		next_step(trial);
}

static void job_ended(struct lab *lab, const struct job *job, void *data)
{
	struct trial *trial = data;

	(void)lab;
	if (trial->stopping)
		return;
	if (step_of(trial)->kind == STEP_RUN)
		run_job_ended(trial, job);
	else if (step_of(trial)->kind == STEP_CRASH)
		crash_job_ended(trial, job);
}

static void lab_closed(struct lab *lab, void *data)
{
	struct trial *trial = data;

	struct contender *contender = contender_of_lab(trial, lab);
	if (contender)
		contender->lab = NULL;
	if (!trial->stopping)
		next_step(trial);
	else if (!any_is_open(trial))
		loop_timer_set(trial->loop, &trial->poll_timer, clock_monotonic_ns());
}

static const struct lab_calls lab_calls = {
	.opened = lab_opened,
	.job_ended = job_ended,
	.closed = lab_closed,
};

static void open_lab(struct trial *trial)
{
	struct contender *contender = contender_of(trial);
	char message[200];

	trial->begun_ns = clock_monotonic_ns();
	loop_timer_set(trial->loop, &trial->step_timer, trial->begun_ns + TRIAL_STEP_NS);
	int status = lab_open(trial->server, &contender->shape, &lab_calls, trial, &contender->lab);
	if (status == 0)
		return;
	snprintf(message, sizeof(message), "the hosts of %s cannot be started: %s", contender->name,
		 strerrordesc_np(-status));
	trial_stop(trial, TRIAL_HOSTS, message);
}

static void close_lab(struct contender *contender)
{
	if (!contender->crashed)
		contender->hosts_lost = lab_hosts_lost(contender->lab);
	lab_close(contender->lab);
}

static void begin_step(struct trial *trial)
{
	while (trial->at < trial->step_count && trial->is_needed &&
	       !trial->is_needed(trial, trial->at)) {
		step_of(trial)->skipped = true;
		trial->done += weight(step_of(trial));
		trial->at++;
	}
	if (trial->at == trial->step_count) {
		finish(trial);
		return;
	}
	switch (step_of(trial)->kind) {
	case STEP_OPEN:
		open_lab(trial);
		break;
	case STEP_RUN:
		trial->phase = RUN_BEFORE;
		if (step_of(trial)->pass == PASS_MEASURED)
			ask_reading(trial, false);
		else
			start_jobs(trial);
		break;
	case STEP_GAUGE:
		ask_reading(trial, true);
		break;
	case STEP_CRASH:
		begin_crash(trial);
		break;
	case STEP_CLOSE:
		close_lab(contender_of(trial));
		break;
	}
}

/* --- the outside ------------------------------------------------------------------------------ */

static struct terms *own_terms(struct trial *trial, const char *task, json_t *args)
{
	struct terms *terms = NULL;
	struct error error;

	if (terms_new(trial->server, task, args, trial->contenders[0].pool, true, OWN_TIMEOUT_MS,
		      &terms, &error) < 0)
		terms = NULL;
	json_decref(args);
	return terms;
}

void trial_begin(struct trial *trial)
{
	int64_t now_ns = clock_monotonic_ns();

	trial->sleep = own_terms(trial, "sleep", json_pack("{s:i}", "ms", SLEEPER_MS));
	trial->crash = own_terms(trial, "crash", json_pack("{s:s}", "signal", "SEGV"));
	trial->next = own_terms(trial, "echo", json_null());
	loop_timer_set(trial->loop, &trial->limit_timer, now_ns + TRIAL_TIME_NS);
	if (!trial->sleep || !trial->crash || !trial->next)
		out_of_memory(trial);
	else
		begin_step(trial);
}

const char *trial_error_name(enum trial_error error)
{
	static const char *const names[TRIAL_ERRORS] = {
		[TRIAL_FINE] = "",
		[TRIAL_TIME_LIMIT] = "time_limit",
		[TRIAL_HOSTS] = "hosts",
		[TRIAL_RELOADED] = "reloaded",
		[TRIAL_CANCELLED] = "cancelled",
		[TRIAL_SHUTDOWN] = "shutdown",
		[TRIAL_MEMORY] = "memory",
	};

	return names[error];
}

static const char *action_of(const struct step *step)
{
	switch (step->kind) {
	case STEP_OPEN:
		return "starting hosts";
	case STEP_GAUGE:
		return "reading its memory";
	case STEP_CRASH:
		return "one of its jobs crashes";
	case STEP_CLOSE:
		return "ending hosts";
	case STEP_RUN:
		break;
	}
	return step->pass == PASS_WARMUP   ? "warming up"
	       : step->pass == PASS_SERIAL ? "one at a time"
					   : "all its workers";
}

void trial_describe(const struct trial *trial, char *text, size_t size)
{
	char repeat[48] = "";

	if (trial->stopping || trial->at >= trial->step_count) {
		snprintf(text, size, "ending hosts");
		return;
	}
	const struct step *step = step_of(trial);
	if (step->repeat > 0 && trial->repeats > 0)
		snprintf(repeat, sizeof(repeat), ", repeat %u of %u", step->repeat, trial->repeats);
	snprintf(text, size, "%s%s: %s", contender_of(trial)->name, repeat, action_of(step));
}
