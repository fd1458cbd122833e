/* tallybench compare: the same load on several servers, in turn. */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "report.h"

enum figure { RATE, P50, P99, P999, MOST, ACCEPTED, REJECTED, FAILED, FIGURES };

static const char *const title[FIGURES] = {"throughput", "p50",      "p99",      "p99.9",
                                           "max",        "accepted", "rejected", "failed"};
static const char *const key[FIGURES] = {"throughput", "p50_us",   "p99_us",   "p99.9_us",
                                         "max_us",     "accepted", "rejected", "failed"};

/* Of each server, its rounds and then their medians. */
struct row {
	struct target target;
	double round[FIGURES][ROUNDS_MAX];
	double median[FIGURES];
	bool good;
};

static void note(struct row *row, uint32_t round, const struct result *result)
{
	const struct histogram *latency = &result->latency;
	const double figure[FIGURES] = {
	    [RATE] = result_rate(result),
	    [P50] = (double)histogram_percentile(latency, 50),
	    [P99] = (double)histogram_percentile(latency, 99),
	    [P999] = (double)histogram_percentile(latency, 99.9),
	    [MOST] = (double)latency->most,
	    [ACCEPTED] = (double)result_accepted(result),
	    [REJECTED] = (double)result_rejected(result),
	    [FAILED] = (double)(result_failed(result) + result_unknown(result) + result->unsent),
	};

	for (int i = 0; i < FIGURES; i++)
		row->round[i][round] = figure[i];
	row->good = row->good && result_is_good(result);
}

static int ascending(const void *one, const void *other)
{
	double a = *(const double *)one, b = *(const double *)other;

	return (a > b) - (a < b);
}

static double median(const double *value, uint32_t count)
{
	double sorted[ROUNDS_MAX];

	if (count == 0)
		return 0;
	for (uint32_t i = 0; i < count; i++)
		sorted[i] = value[i];
	qsort(sorted, count, sizeof *sorted, ascending);
	return count % 2 == 1 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

/* ---- printing */

static void show_figure(char text[REPORT_NUMBER], int figure, double value)
{
	if (figure == RATE)
		report_rate(text, value);
	else if (figure <= MOST)
		report_latency(text, (uint64_t)value);
	else
		snprintf(text, REPORT_NUMBER, "%.0f", value);
}

/* Beside the first server's: that is 1. */
static void show_ratio(char text[REPORT_NUMBER], double value, double first)
{
	if (first > 0)
		snprintf(text, REPORT_NUMBER, "%.2f x", value / first);
	else
		snprintf(text, REPORT_NUMBER, "-");
}

static void print_table(const struct options *options, const struct row *row)
{
	char text[REPORT_NUMBER], ratio[REPORT_NUMBER];

	printf("%u rounds each, in turn; medians, and their ratios to the first\n",
	       options->rounds);
	for (uint32_t i = 0; i < options->urls; i++)
		printf("  %u  %s%s\n", i + 1, options->url[i],
		       row[i].good ? "" : "   (something failed)");
	printf("%-12s", "");
	for (uint32_t i = 0; i < options->urls; i++)
		printf("%14u%*s", i + 1, i == 0 ? 0 : 10, "");
	putchar('\n');
	for (int f = 0; f < FIGURES; f++) {
		printf("%-12s", title[f]);
		for (uint32_t i = 0; i < options->urls; i++) {
			show_figure(text, f, row[i].median[f]);
			printf("%14s", text);
			if (i == 0)
				continue;
			show_ratio(ratio, row[i].median[f], row[0].median[f]);
			printf("%10s", ratio);
		}
		putchar('\n');
	}
}

/* Latencies in microseconds. */
static double in_unit(int figure, double value)
{
	return figure >= P50 && figure <= MOST ? value / 1000 : value;
}

static void print_server(const struct options *options, const struct row *row,
                         const struct row *first)
{
	printf("{\"url\":");
	report_json_string(row->target.url);
	printf(",\"good\":%s", row->good ? "true" : "false");
	for (int f = 0; f < FIGURES; f++)
		printf(",\"%s\":%.3f", key[f], in_unit(f, row->median[f]));
	printf(",\"ratio\":{");
	for (int f = 0; f <= MOST; f++) {
		printf("%s\"%s\":", f == 0 ? "" : ",", title[f]);
		if (first->median[f] > 0)
			printf("%.6f", row->median[f] / first->median[f]);
		else
			printf("null");
	}
	printf("},\"rounds\":[");
	for (uint32_t r = 0; r < options->rounds; r++) {
		for (int f = 0; f < FIGURES; f++)
			printf("%s\"%s\":%.3f",
			       f > 0   ? ","
			       : r > 0 ? ",{"
			               : "{",
			       key[f], in_unit(f, row->round[f][r]));
		putchar('}');
	}
	printf("]}");
}

static void print_json(const struct options *options, const struct row *row)
{
	putchar('{');
	report_json_setting(options);
	printf(",\"servers\":[");
	for (uint32_t i = 0; i < options->urls; i++) {
		if (i > 0)
			putchar(',');
		print_server(options, &row[i], &row[0]);
	}
	printf("]}\n");
}

/* ---- running */

static bool run_round(const struct options *options, struct row *row, uint32_t round, int *status)
{
	for (uint32_t i = 0; i < options->urls; i++) {
		struct result *result = bench_once(options, &row[i].target, status);
		if (result == NULL)
			return false;
		note(&row[i], round, result);
		free(result);
	}
	return true;
}

int bench_compare(const struct options *options)
{
	struct row *row = calloc(options->urls, sizeof *row);
	int status = BENCH_GOOD;
	bool whole = row != NULL;

	if (row == NULL)
		perror("tallybench: memory");
	for (uint32_t i = 0; i < options->urls && whole; i++) {
		whole = bench_find(options, options->url[i], &row[i].target, &status);
		row[i].good = true;
	}
	for (uint32_t r = 0; r < options->rounds && whole; r++)
		whole = run_round(options, row, r, &status);
	if (!whole) {
		free(row);
		return status == BENCH_GOOD ? BENCH_WRONG : status;
	}
	status = BENCH_GOOD;
	for (uint32_t i = 0; i < options->urls; i++) {
		for (int f = 0; f < FIGURES; f++)
			row[i].median[f] = median(row[i].round[f], options->rounds);
		if (!row[i].good)
			status = BENCH_WRONG;
	}
	if (options->json)
		print_json(options, row);
	else
		print_table(options, row);
	free(row);
	return status;
}
