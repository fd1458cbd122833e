/* Results for people and for programs. */
#ifndef TALLYD_BENCH_REPORT_H
#define TALLYD_BENCH_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "options.h"
#include "result.h"
#include "../http/target.h"

#define REPORT_NUMBER 24 /* bytes of a number with its unit, NUL included */

/* "75.3 k/s" and "1.23 ms", of NS nanoseconds, NUL-terminated. */
void report_rate(char text[REPORT_NUMBER], double rate);
void report_latency(char text[REPORT_NUMBER], uint64_t ns);

/* The percentiles that are shown. */
struct report_percentile {
	const char *name;
	double percent;
};
extern const struct report_percentile report_percentile[];
extern const size_t report_percentiles;

/* Writes RESULT of a run on TARGET to standard output; what goes wrong there stays with stdout. */
void report_text(const struct options *options, const struct target *target,
                 const struct result *result);
void report_json(const struct options *options, const struct target *target,
                 const struct result *result);

/* What options and target are, as members of an object that is open, without a comma behind. */
void report_json_setting(const struct options *options);

/* TEXT as a JSON string; of what is no plain ASCII, "?". */
void report_json_string(const char *text);

/* Writes the latencies to options->plot; false if that fails: why is on standard error. */
bool report_plot(const struct options *options, const struct result *result);

#endif
