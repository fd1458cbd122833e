/*
 * Prometheus' text format for metrics, version 0.0.4: families of samples, written into a text.
 * Pure functions.  The caller writes all samples of a family right behind its heading, and looks at
 * out->full once, at the end.
 */
#ifndef TALLYD_WIRE_EXPOSITION_H
#define TALLYD_WIRE_EXPOSITION_H

#include <stddef.h>
#include <stdint.h>

#include "text.h"

#define EXPOSITION_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* What a number is written as. */
enum exposition_unit {
	EXPOSITION_COUNT,   /* as it is */
	EXPOSITION_SECONDS, /* it is microseconds */
};

/* A sample's labels end with a NULL name.  Values are UTF-8, escaped here. */
struct exposition_label {
	const char *name;
	const char *value;
};

/* "# HELP" and "# TYPE"; KIND is "counter", "gauge" or "histogram", HELP one line without '\\'. */
void exposition_family(struct text *out, const char *name, const char *kind, const char *help);

/* One sample of NAME; LABELS may be NULL. */
void exposition_sample(struct text *out, const char *name, const struct exposition_label *labels,
                       uint64_t value, enum exposition_unit unit);

/* How many of the values were at most BOUND. */
struct exposition_bucket {
	uint64_t bound;
	uint64_t count;
};

/* The samples of the histogram NAME of COUNT values; BUCKETS ascend and count up. */
void exposition_histogram(struct text *out, const char *name,
                          const struct exposition_bucket *buckets, size_t bucket_count,
                          uint64_t count, uint64_t sum, enum exposition_unit unit);

#endif
