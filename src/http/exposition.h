/*
 * The text format that Prometheus reads, version 0.0.4 ("Exposition formats" of its documentation):
 * families of samples, each family once and in one piece, with its help and its type.
 *
 * Failure is the buffer's (buffer_failed()). Thread: one owner.
 */
#ifndef HTTP_EXPOSITION_H
#define HTTP_EXPOSITION_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/histogram.h"

#define EXPOSITION_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum exposition_type { EXPOSITION_COUNTER, EXPOSITION_GAUGE, EXPOSITION_HISTOGRAM };

struct exposition {
	struct buffer *buffer; /* borrowed */
	const char *family;    /* the one that was begun last */
};

#define EXPOSITION_LABELS 3
/* A name that is NULL ends them. Values may be any UTF-8. */
struct exposition_labels {
	struct {
		const char *name;
		const char *value;
	} label[EXPOSITION_LABELS];
};
#define EXPOSITION_NO_LABELS ((struct exposition_labels){0})

/* Begins a family; name and help are borrowed while it goes on. A counter's name ends in "_total",
 * a unit in the name is the base unit. */
void exposition_begin(struct exposition *exposition, const char *name, enum exposition_type type,
		      const char *help);

/* A sample of the family. */
void exposition_uint(struct exposition *exposition, struct exposition_labels labels,
		     uint64_t value);
/* The same, in seconds with nanoseconds kept. */
void exposition_seconds(struct exposition *exposition, struct exposition_labels labels, int64_t ns);
/* The buckets, cumulative up to "+Inf", the sum and the count of one histogram. */
void exposition_histogram(struct exposition *exposition, struct exposition_labels labels,
			  const struct histogram *histogram);

#endif
