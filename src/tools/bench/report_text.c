#include <inttypes.h>
#include <stdio.h>

#include "report.h"

static void print_setting(const struct options *options, const struct target *target)
{
	printf("%s: %u connections", target->url, options->connections);
	if (options->depth > 1)
		printf(", %u deep", options->depth);
	if (options->batch > 1)
		printf(", %u events a request", options->batch);
	printf(", %u accounts", options->accounts);
	if (options->zipf > 0)
		printf(" (zipf:%g)", options->zipf);
	if (options->ids)
		printf(", with ids");
	if (options->rate > 0)
		printf(", %g a second\n", options->rate);
	else
		printf(", as fast as it goes\n");
}

/* The most frequent first. */
static void print_reasons(const struct result *result)
{
	bool shown[REASONS_MAX + 1] = {false};

	for (uint32_t n = 0; n <= REASONS_MAX; n++) {
		const struct reason *most = NULL;
		for (uint32_t i = 0; i <= REASONS_MAX; i++)
			if (!shown[i] && result->reason[i].count > 0 &&
			    (most == NULL || result->reason[i].count > most->count))
				most = &result->reason[i];
		if (most == NULL)
			return;
		shown[most - result->reason] = true;
		printf("  %-26s %12" PRIu64 "\n", most->name, most->count);
	}
}

static void print_outcomes(const struct result *result)
{
	char rate[REPORT_NUMBER];

	report_rate(rate, result_rate(result));
	printf("answered in %-16.3f %12" PRIu64 "  %s\n", result->seconds,
	       result_accepted(result) + result_rejected(result), rate);
	printf("accepted                     %12" PRIu64 "\n", result_accepted(result));
	printf("rejected                     %12" PRIu64 "\n", result_rejected(result));
	print_reasons(result);
	printf("failed                       %12" PRIu64 "\n", result_failed(result));
	const struct {
		const char *name;
		uint64_t count;
	} failure[] = {
	    {"no answer in time", result->timeouts},
	    {"cut before the answer", result->cut},
	    {"malformed answers", result->malformed},
	    {"connections refused", result->refused},
	};
	for (size_t i = 0; i < sizeof failure / sizeof *failure; i++)
		if (failure[i].count > 0)
			printf("  %-26s %12" PRIu64 "\n", failure[i].name, failure[i].count);
	if (result->malformed > 0)
		printf("  the first one: %s\n", result->fault);
	if (result_unknown(result) > 0)
		printf("unknown: applied or not      %12" PRIu64 "\n", result_unknown(result));
	if (result->unsent > 0)
		printf("not sent any more            %12" PRIu64 "\n", result->unsent);
	if (result->reconnects > 0)
		printf("connections made again       %12" PRIu64 "\n", result->reconnects);
}

static void print_latency(const char *name, const struct histogram *histogram)
{
	char text[REPORT_NUMBER];

	printf("%-12s", name);
	for (size_t i = 0; i < report_percentiles; i++) {
		report_latency(text, histogram_percentile(histogram, report_percentile[i].percent));
		printf(" %9s", text);
	}
	report_latency(text, histogram->most);
	printf(" %9s\n", text);
}

static void print_latencies(const struct result *result)
{
	int kinds = 0;

	printf("latency     ");
	for (size_t i = 0; i < report_percentiles; i++)
		printf(" %9s", report_percentile[i].name);
	printf(" %9s\n", "max");
	print_latency("  all", &result->latency);
	for (int i = 0; i < KINDS; i++)
		kinds += result->kind[i].latency.count > 0;
	for (int i = 0; i < KINDS && kinds > 1; i++) {
		char name[16];
		snprintf(name, sizeof name, "  %s", kind_name[i]);
		if (result->kind[i].latency.count > 0)
			print_latency(name, &result->kind[i].latency);
	}
}

static void print_verdict(const struct result *result)
{
	const struct book_verdict *verdict = &result->verdict;
	uint64_t unknown = result_unknown(result);

	printf("verify: %s: ", verdict->good ? "good" : "WRONG");
	printf("%" PRIu64 " accepted", result_accepted(result));
	if (unknown > 0)
		printf(", %" PRIu64 " unknown", unknown);
	printf("; %u of %" PRIu64 " accounts differ", verdict->wrong, result->verified_accounts);
	printf(", their sum changed by %+" PRId64, verdict->sum);
	if (verdict->least != verdict->most)
		printf(" (from %+" PRId64 " to %+" PRId64 ")", verdict->least, verdict->most);
	else if (!verdict->sum_good)
		printf(" (not by %+" PRId64 ")", verdict->least);
	putchar('\n');
}

void report_text(const struct options *options, const struct target *target,
                 const struct result *result)
{
	print_setting(options, target);
	print_outcomes(result);
	print_latencies(result);
	if (result->verified)
		print_verdict(result);
}
