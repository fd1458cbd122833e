#include <inttypes.h>
#include <stdio.h>

#include "report.h"

void report_json_string(const char *text)
{
	putchar('"');
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			putchar('\\');
		putchar(*text >= ' ' && *text <= '~' ? *text : '?');
	}
	putchar('"');
}

static void number(const char *name, uint64_t value)
{
	printf("\"%s\":%" PRIu64, name, value);
}

static void microseconds(const char *name, double ns)
{
	printf("\"%s\":%.3f", name, ns / 1000);
}

static const char *truth(bool value)
{
	return value ? "true" : "false";
}

void report_json_setting(const struct options *options)
{
	printf("\"connections\":%u,\"pipeline\":%u,\"batch\":%u,\"accounts\":%u",
	       options->connections, options->depth, options->batch, options->accounts);
	if (options->zipf > 0)
		printf(",\"skew\":\"zipf:%g\"", options->zipf);
	else
		printf(",\"skew\":\"uniform\"");
	printf(",\"mix\":{");
	const char *comma = "";
	for (int i = 0; i < MIXES; i++) {
		if (options->weight[i] == 0)
			continue;
		printf("%s\"%s\":%u", comma, mix_name[i], options->weight[i]);
		comma = ",";
	}
	printf("},\"ids\":%s,\"seed\":%" PRIu64, truth(options->ids), options->seed);
	if (options->rate > 0)
		printf(",\"rate\":%.10g", options->rate);
	else
		printf(",\"rate\":null");
}

static void latency(const struct histogram *histogram)
{
	printf("\"latency_us\":{");
	microseconds("min", histogram->count > 0 ? (double)histogram->least : 0);
	putchar(',');
	microseconds("mean", histogram_mean(histogram));
	for (size_t i = 0; i < report_percentiles; i++) {
		putchar(',');
		microseconds(report_percentile[i].name,
		             (double)histogram_percentile(histogram, report_percentile[i].percent));
	}
	putchar(',');
	microseconds("max", (double)histogram->most);
	putchar('}');
}

static void reasons(const struct result *result)
{
	const char *comma = "";

	printf("\"reasons\":{");
	for (uint32_t i = 0; i <= REASONS_MAX; i++) {
		if (result->reason[i].count == 0)
			continue;
		printf("%s\"%s\":%" PRIu64, comma, result->reason[i].name, result->reason[i].count);
		comma = ",";
	}
	putchar('}');
}

static void outcomes(const struct result *result)
{
	number("requests", result->requests);
	putchar(',');
	number("accepted", result_accepted(result));
	putchar(',');
	number("rejected", result_rejected(result));
	putchar(',');
	reasons(result);
	putchar(',');
	number("unknown", result_unknown(result));
	putchar(',');
	number("unsent", result->unsent);
	printf(",\"failed\":{");
	number("timeouts", result->timeouts);
	putchar(',');
	number("cut", result->cut);
	putchar(',');
	number("malformed", result->malformed);
	putchar(',');
	number("refused", result->refused);
	printf("},");
	number("reconnects", result->reconnects);
	printf(",\"throughput\":%.3f,", result_rate(result));
	latency(&result->latency);
}

static void kinds(const struct result *result)
{
	const char *comma = "";

	printf(",\"kinds\":{");
	for (int i = 0; i < KINDS; i++) {
		const struct outcomes *kind = &result->kind[i];
		if (kind->accepted + kind->rejected + kind->unknown == 0)
			continue;
		printf("%s\"%s\":{", comma, kind_name[i]);
		number("accepted", kind->accepted);
		putchar(',');
		number("rejected", kind->rejected);
		putchar(',');
		number("unknown", kind->unknown);
		putchar(',');
		latency(&kind->latency);
		putchar('}');
		comma = ",";
	}
	putchar('}');
}

static void verdict(const struct result *result)
{
	const struct book_verdict *found = &result->verdict;

	if (!result->verified) {
		printf(",\"verify\":null");
		return;
	}
	printf(",\"verify\":{\"good\":%s,\"accounts\":%" PRIu64 ",\"wrong\":%u,",
	       truth(found->good), result->verified_accounts, found->wrong);
	printf("\"least\":%" PRId64 ",\"most\":%" PRId64 ",\"applied\":%" PRId64 "}", found->least,
	       found->most, found->sum);
}

void report_json(const struct options *options, const struct target *target,
                 const struct result *result)
{
	printf("{\"url\":");
	report_json_string(target->url);
	putchar(',');
	report_json_setting(options);
	printf(",\"seconds\":%.6f,", result->seconds);
	outcomes(result);
	kinds(result);
	verdict(result);
	printf(",\"good\":%s}\n", truth(result_is_good(result)));
}
