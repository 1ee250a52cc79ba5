/*
 * What a trial's measurements come to: figures of each contender, differences between two, how
 * quiet the machine was, and a verdict in words. Reads a trial and changes nothing in it.
 *
 * Figures of a contender are taken repeat by repeat; two contenders are held against each other in
 * the repeats that both have (base/statistics.h says by what method).
 */
#ifndef COMPARE_RESULT_H
#define COMPARE_RESULT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"
#include "base/statistics.h"
#include "compare/trial.h"

enum figure { FIGURE_THROUGHPUT, FIGURE_RUN_P50, FIGURE_CPU, FIGURE_MEMORY };
#define FIGURES 4

/* The figure of a against b: a ratio, or of FIGURE_MEMORY a difference, in jobs/s, ns, ns a job,
 * bytes. false if there is no repeat in which both have it. */
bool result_difference(const struct contender *a, const struct contender *b, enum figure figure,
		       struct statistics_interval *ret_interval);

/* Throughput against one worker: see struct contender's base. false if there is none. */
bool result_speedup(const struct trial *trial, const struct contender *contender,
		    struct statistics_interval *ret_interval);

/* Whether the machine was quiet; what a verdict says if it was not. */
bool result_is_quiet(const struct noise *noise);
#define RESULT_NOT_QUIET " The machine was not quiet meanwhile: see noise."

/* "1.93 (95 % CI 1.88–1.97)", or without an interval "1.93". Answers text. */
const char *result_format(const struct statistics_interval *interval, char *text, size_t size);

void result_write_interval(struct json_writer *writer, const char *key,
			   const struct statistics_interval *interval);
void result_write_contenders(const struct trial *trial, struct json_writer *writer);
void result_write_differences(const struct trial *trial, struct json_writer *writer);
void result_write_noise(const struct noise *noise, struct json_writer *writer);

/* The verdict on all pairs, in words; the caller frees. NULL if memory is short. */
char *result_verdict(const struct trial *trial);
void result_write_verdict(const struct trial *trial, const char *text, struct json_writer *writer);

/* A number with so many significant digits as are of use; null if it is not finite. */
void result_write_number(struct json_writer *writer, const char *key, double value);

#endif
