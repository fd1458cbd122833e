/* What both reports share, and the plot. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "report.h"

const struct report_percentile report_percentile[] = {
    {"p50", 50}, {"p75", 75}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}, {"p99.99", 99.99},
};
const size_t report_percentiles = sizeof report_percentile / sizeof *report_percentile;

void report_rate(char text[REPORT_NUMBER], double rate)
{
	if (rate >= 1e6)
		snprintf(text, REPORT_NUMBER, "%.2f M/s", rate / 1e6);
	else if (rate >= 1e3)
		snprintf(text, REPORT_NUMBER, "%.1f k/s", rate / 1e3);
	else
		snprintf(text, REPORT_NUMBER, "%.1f /s", rate);
}

void report_latency(char text[REPORT_NUMBER], uint64_t ns)
{
	if (ns >= 10000000000)
		snprintf(text, REPORT_NUMBER, "%.1f s", (double)ns / 1e9);
	else if (ns >= 1000000000)
		snprintf(text, REPORT_NUMBER, "%.2f s", (double)ns / 1e9);
	else if (ns >= 10000000)
		snprintf(text, REPORT_NUMBER, "%.1f ms", (double)ns / 1e6);
	else if (ns >= 1000000)
		snprintf(text, REPORT_NUMBER, "%.2f ms", (double)ns / 1e6);
	else
		snprintf(text, REPORT_NUMBER, "%.0f us", (double)ns / 1e3);
}

bool report_plot(const struct options *options, const struct result *result)
{
	FILE *file = fopen(options->plot, "we");

	if (file != NULL) {
		histogram_plot(&result->latency, file);
		bool failed = ferror(file) != 0;
		if (fclose(file) == 0 && !failed)
			return true;
	}
	fprintf(stderr, "tallybench: cannot write %s: %s\n", options->plot, strerror(errno));
	return false;
}
