/*
 * Durations counted in a log-linear histogram, as HdrHistogram does: every value is kept to within
 * a thousandth, in a fixed room, and a record costs a few instructions.
 */
#ifndef TALLYD_BENCH_HISTOGRAM_H
#define TALLYD_BENCH_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

#define HISTOGRAM_HALF_BITS 10 /* each power of two is cut into 2^10 equal parts */
#define HISTOGRAM_TOP_BITS  42 /* values below 2^42 ns (73 minutes); longer ones count as that */
#define HISTOGRAM_HALF      (1u << HISTOGRAM_HALF_BITS)
#define HISTOGRAM_CELLS     ((HISTOGRAM_TOP_BITS - HISTOGRAM_HALF_BITS + 1) * HISTOGRAM_HALF)

struct histogram {
	uint64_t count;
	uint64_t least, most; /* exact, in nanoseconds; of none: UINT64_MAX and 0 */
	double sum;
	uint64_t cell[HISTOGRAM_CELLS];
};

void histogram_clear(struct histogram *histogram);

/* Counts one duration of VALUE nanoseconds. */
void histogram_record(struct histogram *histogram, uint64_t value);

/* Adds to HISTOGRAM everything that was counted in OTHER. */
void histogram_add(struct histogram *histogram, const struct histogram *other);

/*
 * The smallest value that at least PERCENT (0 to 100) of all durations do not exceed, in
 * nanoseconds: the upper end of its cell, but never more than the longest of all; 0 if there are
 * none.
 */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

/* In nanoseconds; 0 if there are none. */
double histogram_mean(const struct histogram *histogram);
double histogram_deviation(const struct histogram *histogram);

/*
 * Writes the distribution as HdrHistogram's tools read it: lines of value (in milliseconds),
 * percentile (0 to 1), number of values up to it, 1/(1-percentile), five for each halving of the
 * distance to 1; then the summary in lines that begin with '#'.  Errors stay with STREAM.
 */
void histogram_plot(const struct histogram *histogram, FILE *stream);

#endif
