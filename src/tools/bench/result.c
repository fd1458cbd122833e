#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "result.h"

struct result *result_new(void)
{
	struct result *result = calloc(1, sizeof *result);

	if (result == NULL) {
		perror("tallybench: memory");
		exit(EXIT_FAILURE);
	}
	histogram_clear(&result->latency);
	for (int i = 0; i < KINDS; i++)
		histogram_clear(&result->kind[i].latency);
	return result;
}

/* The last place is for the reasons that have none. */
static struct reason *find_reason(struct result *result, const char *name, size_t length)
{
	if (length >= REASON_MAX)
		length = REASON_MAX - 1;
	for (uint32_t i = 0; i < result->reasons; i++) {
		struct reason *reason = &result->reason[i];
		if (strncmp(reason->name, name, length) == 0 && reason->name[length] == '\0')
			return reason;
	}
	struct reason *reason = &result->reason[result->reasons];
	if (result->reasons == REASONS_MAX) {
		strcpy(reason->name, "other");
		return reason;
	}
	result->reasons++;
	memcpy(reason->name, name, length);
	reason->name[length] = '\0';
	return reason;
}

void result_reject(struct result *result, enum kind kind, const char *name, size_t length,
                   uint64_t count)
{
	result->kind[kind].rejected += count;
	find_reason(result, name, length)->count += count;
}

uint64_t result_accepted(const struct result *result)
{
	uint64_t sum = 0;

	for (int i = 0; i < KINDS; i++)
		sum += result->kind[i].accepted;
	return sum;
}

uint64_t result_rejected(const struct result *result)
{
	uint64_t sum = 0;

	for (int i = 0; i < KINDS; i++)
		sum += result->kind[i].rejected;
	return sum;
}

uint64_t result_unknown(const struct result *result)
{
	uint64_t sum = 0;

	for (int i = 0; i < KINDS; i++)
		sum += result->kind[i].unknown;
	return sum;
}

uint64_t result_failed(const struct result *result)
{
	return result->timeouts + result->cut + result->malformed + result->refused;
}

bool result_is_good(const struct result *result)
{
	return result_failed(result) == 0 && result_unknown(result) == 0 && result->unsent == 0 &&
	       result_accepted(result) + result_rejected(result) > 0 &&
	       (!result->verified || result->verdict.good);
}

double result_rate(const struct result *result)
{
	uint64_t answered = result_accepted(result) + result_rejected(result);

	return result->seconds > 0 ? (double)answered / result->seconds : 0;
}
