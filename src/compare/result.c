/* See result.h. */
#include "compare/result.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define REPEATS_MAX 64
#define MIB	    (1024.0 * 1024.0)

/* Beyond these, a machine is not quiet: percent of its CPU time, or of the time. */
#define STEAL_PERCENT	  1.0
#define OTHER_CPU_PERCENT 10.0
#define PRESSURE_PERCENT  1.0

/* --- figures, repeat by repeat ---------------------------------------------------------------- */

/* A figure of one round; NaN if it has none. */
static double figure_of(const struct round *round, enum figure figure)
{
	switch (figure) {
	case FIGURE_THROUGHPUT:
		if (round->succeeded == 0 || round->wall_ns <= 0)
			return STATISTICS_UNKNOWN;
		return (double)round->succeeded / ((double)round->wall_ns / 1e9);
	case FIGURE_RUN_P50:
		return round->run_p50_ns > 0 ? round->run_p50_ns : STATISTICS_UNKNOWN;
	case FIGURE_CPU:
		if (round->succeeded == 0 || round->cpu_ns <= 0)
			return STATISTICS_UNKNOWN;
		return (double)round->cpu_ns / round->succeeded;
	case FIGURE_MEMORY:
		if (round->memory.pss_bytes == MACHINE_UNKNOWN)
			return STATISTICS_UNKNOWN;
		return (double)round->memory.pss_bytes;
	}
	return STATISTICS_UNKNOWN;
}

static const struct round *find_round(const struct contender *contender, uint32_t repeat)
{
	for (size_t i = 0; i < contender->round_count; i++)
		if (contender->rounds[i].repeat == repeat)
			return &contender->rounds[i];
	return NULL;
}

/* The figure in the repeats that both have. */
static size_t pair(const struct contender *a, const struct contender *b, enum figure figure,
		   double of_a[static REPEATS_MAX], double of_b[static REPEATS_MAX])
{
	size_t count = 0;

	for (size_t i = 0; i < a->round_count && count < REPEATS_MAX; i++) {
		const struct round *other = find_round(b, a->rounds[i].repeat);
		double value = figure_of(&a->rounds[i], figure);
		double against = other ? figure_of(other, figure) : STATISTICS_UNKNOWN;
		if (isnan(value) || isnan(against))
			continue;
		of_a[count] = value;
		of_b[count] = against;
		count++;
	}
	return count;
}

bool result_difference(const struct contender *a, const struct contender *b, enum figure figure,
		       struct statistics_interval *ret_interval)
{
	double of_a[REPEATS_MAX];
	double of_b[REPEATS_MAX];
	size_t count = pair(a, b, figure, of_a, of_b);

	if (count == 0)
		return false;
	if (figure != FIGURE_MEMORY)
		return statistics_ratio(of_a, of_b, count, ret_interval);
	*ret_interval = statistics_difference(of_a, of_b, count);
	return true;
}

bool result_speedup(const struct trial *trial, const struct contender *contender,
		    struct statistics_interval *ret_interval)
{
	double serial[REPEATS_MAX];
	double parallel[REPEATS_MAX];
	size_t count = 0;

	if (contender->base != TRIAL_NONE)
		return result_difference(contender, &trial->contenders[contender->base],
					 FIGURE_THROUGHPUT, ret_interval);
	for (size_t i = 0; i < contender->round_count && count < REPEATS_MAX; i++) {
		const struct round *round = &contender->rounds[i];
		if (round->serial_jobs == 0 || round->jobs == 0 || round->succeeded != round->jobs)
			continue;
		serial[count] = (double)round->serial_ns / round->serial_jobs;
		parallel[count] = (double)round->wall_ns / round->jobs;
		count++;
	}
	return count > 0 && statistics_ratio(serial, parallel, count, ret_interval);
}

/* --- writing ---------------------------------------------------------------------------------- */

void result_write_number(struct json_writer *writer, const char *key, double value)
{
	char text[48];
	bool is_whole = fabs(value) < 1e15 && value == floor(value);
	int length = snprintf(text, sizeof(text), is_whole ? "%.0f" : "%.6g", value);

	if (isfinite(value) && length > 0 && (size_t)length < sizeof(text))
		json_write_raw(writer, key, text, (size_t)length);
	else
		json_write_null(writer, key);
}

void result_write_interval(struct json_writer *writer, const char *key,
			   const struct statistics_interval *interval)
{
	json_write_begin_object(writer, key);
	result_write_number(writer, "value", interval->value);
	result_write_number(writer, "low",
			    interval->has_bounds ? interval->low : STATISTICS_UNKNOWN);
	result_write_number(writer, "high",
			    interval->has_bounds ? interval->high : STATISTICS_UNKNOWN);
	json_write_end_object(writer);
}

static void write_known(struct json_writer *writer, const char *key, int64_t value)
{
	if (value == METERING_UNKNOWN)
		json_write_null(writer, key);
	else
		json_write_int(writer, key, value);
}

static void write_known_ms(struct json_writer *writer, const char *key, int64_t ns)
{
	if (ns == METERING_UNKNOWN)
		json_write_null(writer, key);
	else
		json_write_ms(writer, key, ns);
}

static void write_quantiles(const double *sorted, size_t count, struct json_writer *writer)
{
	static const struct {
		const char *key;
		double quantile;
	} quantiles[] = {{"min", 0}, {"p50", 0.5}, {"p95", 0.95}, {"p99", 0.99}, {"max", 1}};

	for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
		if (count > 0)
			json_write_ms(
				writer, quantiles[i].key,
				(int64_t)statistics_quantile(sorted, count, quantiles[i].quantile));
		else
			json_write_null(writer, quantiles[i].key);
	if (count > 0)
		json_write_ms(writer, "mean", (int64_t)statistics_mean(sorted, count));
	else
		json_write_null(writer, "mean");
}

static void write_distribution(struct json_writer *writer, const char *key,
			       const struct series *series, bool with_samples)
{
	double *sorted = malloc((series->count + 1) * sizeof(*sorted));

	if (!sorted) {
		writer->buffer->failed = true;
		return;
	}
	if (series->count > 0)
		memcpy(sorted, series->values, series->count * sizeof(*sorted));
	statistics_sort(sorted, series->count);
	json_write_begin_object(writer, key);
	json_write_uint(writer, "count", series->count);
	write_quantiles(sorted, series->count, writer);
	if (with_samples) {
		json_write_begin_array(writer, "samples");
		for (size_t i = 0; i < series->count; i++)
			json_write_ms(writer, NULL, (int64_t)series->values[i]);
		json_write_end_array(writer);
	}
	json_write_end_object(writer);
	free(sorted);
}

/* The interval of one figure of a contender over its repeats, scaled; null without any. */
static void write_figure(struct json_writer *writer, const char *key,
			 const struct contender *contender, double (*value)(const struct round *))
{
	double values[REPEATS_MAX];
	size_t count = 0;

	for (size_t i = 0; i < contender->round_count && count < REPEATS_MAX; i++) {
		double one = value(&contender->rounds[i]);
		if (!isnan(one))
			values[count++] = one;
	}
	if (count == 0) {
		json_write_null(writer, key);
		return;
	}
	struct statistics_interval interval = statistics_mean_interval(values, count);
	result_write_interval(writer, key, &interval);
}

static double throughput_of(const struct round *round)
{
	return figure_of(round, FIGURE_THROUGHPUT);
}

static double wall_of(const struct round *round)
{
	return round->jobs > 0 ? (double)round->wall_ns / 1e6 : STATISTICS_UNKNOWN;
}

/* --- a contender ------------------------------------------------------------------------------ */

static void write_pids(const struct contender *contender, struct json_writer *writer)
{
	struct lab_host hosts[GAUGE_PIDS_MAX];
	size_t count = contender->lab ? lab_hosts(contender->lab, hosts, GAUGE_PIDS_MAX) : 0;

	json_write_begin_array(writer, "pids");
	for (size_t i = 0; i < count; i++)
		json_write_int(writer, NULL, hosts[i].pid);
	json_write_end_array(writer);
}

static void write_ends(const struct contender *contender, struct json_writer *writer)
{
	json_write_begin_object(writer, "jobs");
	for (int i = 0; i < JOB_STATES; i++)
		if (contender->by_state[i] > 0)
			json_write_uint(writer, job_state_name((enum job_state)i),
					contender->by_state[i]);
	json_write_end_object(writer);
	json_write_string(writer, "failure", contender->failure);
}

static void write_speedup(const struct trial *trial, const struct contender *contender,
			  struct json_writer *writer)
{
	uint32_t workers = contender->shape.hosts * contender->shape.threads;
	uint32_t busy = workers < contender->concurrency ? workers : contender->concurrency;
	struct statistics_interval speedup;

	if (!result_speedup(trial, contender, &speedup)) {
		json_write_null(writer, "speedup");
		json_write_null(writer, "efficiency");
		return;
	}
	result_write_interval(writer, "speedup", &speedup);
	result_write_number(writer, "efficiency", speedup.value / (busy > 0 ? busy : 1));
}

static void write_mean(struct json_writer *writer, const char *key, int64_t sum, size_t count)
{
	if (sum == METERING_UNKNOWN || count == 0)
		json_write_null(writer, key);
	else
		result_write_number(writer, key, (double)sum / (double)count);
}

static void write_per_job(const struct contender *contender, struct json_writer *writer)
{
	size_t count = contender->run.count;
	int64_t jobs = count > 0 ? (int64_t)count : 1;
	bool has_cpu = count > 0 && contender->user_ns != METERING_UNKNOWN &&
		       contender->system_ns != METERING_UNKNOWN;

	json_write_begin_object(writer, "per_job");
	write_known_ms(writer, "cpu_user_ms",
		       has_cpu ? contender->user_ns / jobs : METERING_UNKNOWN);
	write_known_ms(writer, "cpu_system_ms",
		       has_cpu ? contender->system_ns / jobs : METERING_UNKNOWN);
	write_mean(writer, "minor_faults", contender->minor_faults, count);
	write_mean(writer, "major_faults", contender->major_faults, count);
	write_mean(writer, "voluntary_switches", contender->voluntary_switches, count);
	write_mean(writer, "involuntary_switches", contender->involuntary_switches, count);
	write_known(writer, "peak_bytes", contender->peak_bytes);
	json_write_end_object(writer);
}

static int64_t rss_of(const struct machine_memory *memory)
{
	return memory->rss_bytes;
}

static int64_t pss_of(const struct machine_memory *memory)
{
	return memory->pss_bytes;
}

static int64_t private_of(const struct machine_memory *memory)
{
	return memory->private_bytes;
}

/* The median over the rounds; unknown if none has it. */
static int64_t median_memory(const struct contender *contender,
			     int64_t (*part)(const struct machine_memory *memory))
{
	double values[REPEATS_MAX];
	size_t count = 0;

	for (size_t i = 0; i < contender->round_count && count < REPEATS_MAX; i++) {
		int64_t value = part(&contender->rounds[i].memory);
		if (value != MACHINE_UNKNOWN)
			values[count++] = (double)value;
	}
	return count > 0 ? (int64_t)statistics_median(values, count) : MACHINE_UNKNOWN;
}

static void write_memory(const struct contender *contender, struct json_writer *writer)
{
	int64_t workers = (int64_t)contender->shape.hosts * contender->shape.threads;
	int64_t pss_bytes = median_memory(contender, pss_of);

	if (contender->round_count == 0) {
		json_write_null(writer, "memory");
		return;
	}
	json_write_begin_object(writer, "memory");
	write_known(writer, "rss_bytes", median_memory(contender, rss_of));
	write_known(writer, "pss_bytes", pss_bytes);
	write_known(writer, "private_bytes", median_memory(contender, private_of));
	write_known(writer, "per_worker_bytes",
		    pss_bytes == MACHINE_UNKNOWN ? MACHINE_UNKNOWN : pss_bytes / workers);
	json_write_end_object(writer);
}

static void write_crash(const struct contender *contender, struct json_writer *writer)
{
	if (!contender->crashed) {
		json_write_null(writer, "blast_radius");
		return;
	}
	json_write_begin_object(writer, "blast_radius");
	json_write_uint(writer, "running", contender->crash_running);
	json_write_uint(writer, "lost", contender->crash_lost);
	json_write_string(writer, "next_job",
			  contender->crash_next < 0
				  ? NULL
				  : job_state_name((enum job_state)contender->crash_next));
	json_write_end_object(writer);
}

static void write_round(const struct round *round, struct json_writer *writer)
{
	json_write_begin_object(writer, NULL);
	json_write_uint(writer, "repeat", round->repeat > 0 ? round->repeat : 1);
	json_write_ms(writer, "wall_ms", round->wall_ns);
	json_write_uint(writer, "jobs", round->jobs);
	json_write_uint(writer, "succeeded", round->succeeded);
	write_known_ms(writer, "serial_ms",
		       round->serial_jobs > 0 ? round->serial_ns : METERING_UNKNOWN);
	json_write_uint(writer, "serial_jobs", round->serial_jobs);
	write_known_ms(writer, "run_p50_ms", (int64_t)round->run_p50_ns);
	write_known_ms(writer, "cpu_ms", round->cpu_ns);
	write_known(writer, "pss_bytes", round->memory.pss_bytes);
	json_write_end_object(writer);
}

static void write_measured(const struct trial *trial, const struct contender *contender,
			   struct json_writer *writer)
{
	write_figure(writer, "throughput_per_s", contender, throughput_of);
	write_figure(writer, "wall_ms", contender, wall_of);
	write_speedup(trial, contender, writer);
	write_distribution(writer, "run_ms", &contender->run, true);
	write_distribution(writer, "queued_ms", &contender->queued, false);
	write_distribution(writer, "dispatch_ms", &contender->dispatch, false);
	write_distribution(writer, "collect_ms", &contender->collect, false);
	write_per_job(contender, writer);
	write_memory(contender, writer);
	json_write_begin_object(writer, "cold_start");
	write_distribution(writer, "host_ms", &contender->host_starts, false);
	write_distribution(writer, "thread_ms", &contender->thread_starts, false);
	json_write_end_object(writer);
	write_crash(contender, writer);
	json_write_begin_array(writer, "rounds");
	for (size_t i = 0; i < contender->round_count; i++)
		write_round(&contender->rounds[i], writer);
	json_write_end_array(writer);
}

static void write_contender(const struct trial *trial, const struct contender *contender,
			    struct json_writer *writer)
{
	const struct lab_shape *shape = &contender->shape;
	uint64_t lost = contender->lab && !contender->crashed ? lab_hosts_lost(contender->lab)
							      : contender->hosts_lost;

	json_write_begin_object(writer, NULL);
	json_write_string(writer, "name", contender->name);
	json_write_string(writer, "pool", contender->pool);
	json_write_uint(writer, "hosts", shape->hosts);
	json_write_uint(writer, "threads", shape->threads);
	json_write_uint(writer, "workers", (uint64_t)shape->hosts * shape->threads);
	json_write_uint(writer, "concurrency", contender->concurrency);
	write_pids(contender, writer);
	json_write_uint(writer, "hosts_lost", lost);
	write_ends(contender, writer);
	write_measured(trial, contender, writer);
	json_write_end_object(writer);
}

void result_write_contenders(const struct trial *trial, struct json_writer *writer)
{
	json_write_begin_array(writer, "contenders");
	for (size_t i = 0; trial && i < trial->contender_count; i++)
		write_contender(trial, &trial->contenders[i], writer);
	json_write_end_array(writer);
}

/* --- differences ------------------------------------------------------------------------------ */

static double indifferent(enum figure figure)
{
	return figure == FIGURE_MEMORY ? 0 : 1;
}

static void write_difference(const struct contender *a, const struct contender *b,
			     enum figure figure, struct json_writer *writer)
{
	static const struct {
		const char *name;
		const char *unit;
	} figures[FIGURES] = {
		[FIGURE_THROUGHPUT] = {"throughput", "jobs_per_s"},
		[FIGURE_RUN_P50] = {"run_p50", "ms"},
		[FIGURE_CPU] = {"cpu", "ms"},
		[FIGURE_MEMORY] = {"memory", "bytes"},
	};
	struct statistics_interval interval;
	bool known = result_difference(a, b, figure, &interval);

	json_write_begin_object(writer, NULL);
	json_write_string(writer, "a", a->name);
	json_write_string(writer, "b", b->name);
	json_write_string(writer, "figure", figures[figure].name);
	json_write_string(writer, "unit", figures[figure].unit);
	if (known && figure != FIGURE_MEMORY)
		result_write_interval(writer, "ratio", &interval);
	else
		json_write_null(writer, "ratio");
	if (known && figure == FIGURE_MEMORY)
		result_write_interval(writer, "difference", &interval);
	else
		json_write_null(writer, "difference");
	json_write_bool(writer, "told_apart",
			known && statistics_tells(&interval, indifferent(figure)));
	json_write_end_object(writer);
}

static void for_each_pair(const struct trial *trial,
			  void (*visit)(const struct contender *a, const struct contender *b,
					void *data),
			  void *data)
{
	for (size_t i = 0; i < trial->contender_count; i++)
		for (size_t j = i + 1; j < trial->contender_count; j++)
			visit(&trial->contenders[i], &trial->contenders[j], data);
}

static void write_differences(const struct contender *a, const struct contender *b, void *writer)
{
	for (int figure = 0; figure < FIGURES; figure++)
		write_difference(a, b, (enum figure)figure, writer);
}

void result_write_differences(const struct trial *trial, struct json_writer *writer)
{
	json_write_begin_array(writer, "differences");
	if (trial)
		for_each_pair(trial, write_differences, writer);
	json_write_end_array(writer);
}

/* --- the verdict ------------------------------------------------------------------------------ */

const char *result_format(const struct statistics_interval *interval, char *text, size_t size)
{
	if (interval->has_bounds)
		snprintf(text, size, "%.2f (95 %% CI %.2f–%.2f)", interval->value, interval->low,
			 interval->high);
	else
		snprintf(text, size, "%.2f", interval->value);
	return text;
}

/* As seen from the other side. */
static struct statistics_interval invert(const struct statistics_interval *interval, bool is_ratio)
{
	return (struct statistics_interval){
		.value = is_ratio ? 1 / interval->value : -interval->value,
		.low = is_ratio ? 1 / interval->high : -interval->high,
		.high = is_ratio ? 1 / interval->low : -interval->low,
		.has_bounds = interval->has_bounds,
	};
}

/* "uses 9.1 MiB more memory (95 % CI 8.9–9.3)", of a against b. */
static void say_memory(struct buffer *text, const struct statistics_interval *seen)
{
	bool less = seen->value < 0;
	struct statistics_interval more = less ? invert(seen, false) : *seen;

	buffer_append_format(text, "uses %.2f MiB %s memory (95 %% CI %.2f–%.2f)", more.value / MIB,
			     less ? "less" : "more", more.low / MIB, more.high / MIB);
}

/* Names the faster one first; true if that is b. */
static bool say_speed(struct buffer *text, const struct contender *a, const struct contender *b,
		      const struct statistics_interval *ratio)
{
	char figure[96];
	bool b_first = statistics_tells(ratio, 1) && ratio->value < 1;
	struct statistics_interval seen = b_first ? invert(ratio, true) : *ratio;

	result_format(&seen, figure, sizeof(figure));
	if (!ratio->has_bounds)
		buffer_append_format(text,
				     "%s did %s times as much as %s in one repeat, of which no "
				     "difference can be told from chance",
				     a->name, figure, b->name);
	else if (!statistics_tells(ratio, 1))
		buffer_append_format(
			text,
			"%s and %s cannot be told apart in speed (ratio %.2f, 95 %% CI "
			"%.2f–%.2f)",
			a->name, b->name, seen.value, seen.low, seen.high);
	else
		buffer_append_format(text, "%s is %.2f× as fast as %s (95 %% CI %.2f–%.2f)",
				     (b_first ? b : a)->name, seen.value, (b_first ? a : b)->name,
				     seen.low, seen.high);
	return b_first;
}

static void say_pair(const struct contender *a, const struct contender *b, void *data)
{
	struct buffer *text = data;
	struct statistics_interval speed, memory;
	bool has_speed = result_difference(a, b, FIGURE_THROUGHPUT, &speed);
	bool has_memory = result_difference(a, b, FIGURE_MEMORY, &memory) && memory.has_bounds;

	if (text->length > 0)
		buffer_append_text(text, " ");
	if (!has_speed) {
		buffer_append_format(text,
				     "%s and %s cannot be compared: there is no repeat in which "
				     "jobs of both succeeded.",
				     a->name, b->name);
		return;
	}
	bool b_first = say_speed(text, a, b, &speed);
	if (has_memory && statistics_tells(&memory, 0)) {
		struct statistics_interval seen = b_first ? invert(&memory, false) : memory;
		if (statistics_tells(&speed, 1))
			buffer_append_text(text, " and ");
		else
			buffer_append_format(text, "; %s ", a->name);
		say_memory(text, &seen);
	} else if (has_memory) {
		buffer_append_text(text, "; in memory they cannot be told apart");
	}
	buffer_append_text(text, ".");
}

/* Of a single contender there is nothing to tell apart. */
static void say_alone(const struct trial *trial, const struct contender *contender,
		      struct buffer *text)
{
	struct statistics_interval speedup;
	char figure[96];

	if (!result_speedup(trial, contender, &speedup))
		return;
	buffer_append_format(text, "%s does %s times the work of one worker.", contender->name,
			     result_format(&speedup, figure, sizeof(figure)));
}

static void say_failures(const struct contender *contender, struct buffer *text)
{
	uint64_t all = 0;

	for (int i = 0; i < JOB_STATES; i++)
		all += contender->by_state[i];
	uint64_t bad = all - contender->by_state[JOB_SUCCEEDED];
	if (bad > 0)
		buffer_append_format(text, " On %s, %llu of %llu jobs did not succeed (%.120s).",
				     contender->name, (unsigned long long)bad,
				     (unsigned long long)all,
				     contender->failure ? contender->failure : "");
	if (contender->hosts_lost > 0)
		buffer_append_format(text, " %s lost %llu of its hosts on the way.",
				     contender->name, (unsigned long long)contender->hosts_lost);
}

char *result_verdict(const struct trial *trial)
{
	struct buffer text = {0};

	for_each_pair(trial, say_pair, &text);
	if (trial->contender_count == 1)
		say_alone(trial, &trial->contenders[0], &text);
	for (size_t i = 0; i < trial->contender_count; i++)
		say_failures(&trial->contenders[i], &text);
	if (!result_is_quiet(&trial->noise))
		buffer_append_text(&text, RESULT_NOT_QUIET);
	buffer_append_char(&text, '\0');
	return buffer_take(&text, NULL);
}

/* The one of whom there is more by this figure; NULL if they cannot be told apart. */
static const char *greater(const struct contender *a, const struct contender *b, enum figure figure)
{
	struct statistics_interval interval;

	if (!result_difference(a, b, figure, &interval) ||
	    !statistics_tells(&interval, indifferent(figure)))
		return NULL;
	return interval.value > indifferent(figure) ? a->name : b->name;
}

static void write_pair(const struct contender *a, const struct contender *b, void *data)
{
	struct json_writer *writer = data;
	const char *hungrier = greater(a, b, FIGURE_MEMORY);

	json_write_begin_object(writer, NULL);
	json_write_string(writer, "a", a->name);
	json_write_string(writer, "b", b->name);
	json_write_string(writer, "faster", greater(a, b, FIGURE_THROUGHPUT));
	json_write_string(writer, "leaner",
			  !hungrier		? NULL
			  : hungrier == a->name ? b->name
						: a->name);
	json_write_end_object(writer);
}

void result_write_verdict(const struct trial *trial, const char *text, struct json_writer *writer)
{
	json_write_begin_object(writer, "verdict");
	json_write_string(writer, "text", text);
	json_write_begin_array(writer, "pairs");
	for_each_pair(trial, write_pair, writer);
	json_write_end_array(writer);
	json_write_end_object(writer);
}

/* --- noise ------------------------------------------------------------------------------------ */

static double percent(int64_t part, int64_t whole)
{
	if (part == MACHINE_UNKNOWN || whole == MACHINE_UNKNOWN || whole <= 0)
		return STATISTICS_UNKNOWN;
	return 100.0 * (double)part / (double)whole;
}

/* Ticks and metering round differently, so a little less than nothing is nothing. */
static double other_cpu_percent(const struct noise *noise)
{
	if (noise->machine.busy_ns == MACHINE_UNKNOWN || noise->own_cpu_ns == METERING_UNKNOWN)
		return STATISTICS_UNKNOWN;
	int64_t other_ns = noise->machine.busy_ns - noise->own_cpu_ns;
	return percent(other_ns > 0 ? other_ns : 0, noise->machine.total_ns);
}

static double pressure_percent(const struct noise *noise, enum machine_pressure which)
{
	return percent(noise->machine.pressure_ns[which], noise->machine.taken_ns);
}

#define WARNINGS_MAX 6
#define WARNING_SIZE 160

/* How many were written. A comparison with NaN is false: what is not known does not warn. */
static size_t warn(const struct noise *noise, char warnings[WARNINGS_MAX][WARNING_SIZE])
{
	size_t count = 0;
	double steal = percent(noise->machine.steal_ns, noise->machine.total_ns);
	double others = other_cpu_percent(noise);
	double memory = pressure_percent(noise, MACHINE_MEMORY);
	double io = pressure_percent(noise, MACHINE_IO);

	if (steal > STEAL_PERCENT)
		snprintf(warnings[count++], WARNING_SIZE,
			 "the hypervisor took %.1f %% of the CPU time for others", steal);
	if (others > OTHER_CPU_PERCENT)
		snprintf(warnings[count++], WARNING_SIZE,
			 "other processes used %.0f %% of the CPU time", others);
	if (memory > PRESSURE_PERCENT)
		snprintf(warnings[count++], WARNING_SIZE,
			 "tasks waited for memory for %.1f %% of the time", memory);
	if (io > PRESSURE_PERCENT)
		snprintf(warnings[count++], WARNING_SIZE,
			 "tasks waited for disks for %.1f %% of the time", io);
	if (noise->machine.throttled_periods > 0)
		snprintf(warnings[count++], WARNING_SIZE,
			 "the CPU quota of the control group ran out %lld times",
			 (long long)noise->machine.throttled_periods);
	if (noise->other_jobs > 0)
		snprintf(warnings[count++], WARNING_SIZE,
			 "%llu jobs of others ran on the pools meanwhile",
			 (unsigned long long)noise->other_jobs);
	return count;
}

bool result_is_quiet(const struct noise *noise)
{
	char warnings[WARNINGS_MAX][WARNING_SIZE];

	return warn(noise, warnings) == 0;
}

void result_write_noise(const struct noise *noise, struct json_writer *writer)
{
	char warnings[WARNINGS_MAX][WARNING_SIZE];
	size_t count = warn(noise, warnings);

	if (noise->gauged == 0) {
		json_write_null(writer, "noise");
		return;
	}
	json_write_begin_object(writer, "noise");
	json_write_bool(writer, "quiet", count == 0);
	json_write_begin_array(writer, "warnings");
	for (size_t i = 0; i < count; i++)
		json_write_string(writer, NULL, warnings[i]);
	json_write_end_array(writer);
	json_write_ms(writer, "measured_ms", noise->machine.taken_ns);
	result_write_number(writer, "steal_percent",
			    percent(noise->machine.steal_ns, noise->machine.total_ns));
	result_write_number(writer, "other_cpu_percent", other_cpu_percent(noise));
	json_write_begin_object(writer, "pressure_percent");
	result_write_number(writer, "cpu", pressure_percent(noise, MACHINE_CPU));
	result_write_number(writer, "memory", pressure_percent(noise, MACHINE_MEMORY));
	result_write_number(writer, "io", pressure_percent(noise, MACHINE_IO));
	json_write_end_object(writer);
	write_known(writer, "throttled_periods", noise->machine.throttled_periods);
	write_known_ms(writer, "throttled_ms", noise->machine.throttled_ns);
	json_write_uint(writer, "other_jobs", noise->other_jobs);
	json_write_end_object(writer);
}
