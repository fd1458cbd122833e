/* What a run came to. */
#ifndef TALLYD_BENCH_RESULT_H
#define TALLYD_BENCH_RESULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "book.h"
#include "histogram.h"
#include "operation.h"

#define REASONS_MAX 64 /* reasons that are counted apart; further ones as "other" */
#define REASON_MAX  48 /* bytes of a reason; a longer one is cut */

struct reason {
	char name[REASON_MAX];
	uint64_t count;
};

/* Operations of one kind; each event of a batch is one. */
struct outcomes {
	uint64_t accepted, rejected, unknown;
	struct histogram latency; /* of answered requests, in nanoseconds */
};

struct result {
	struct outcomes kind[KINDS];
	struct histogram latency; /* of all kinds */
	struct reason reason[REASONS_MAX + 1];
	uint32_t reasons;

	uint64_t requests;  /* that were begun */
	uint64_t unsent;    /* operations that were due, but never begun */
	uint64_t timeouts;  /* requests without an answer in time */
	uint64_t cut;       /* requests whose connection ended before the answer */
	uint64_t malformed; /* answers that could not be read, or made no sense */
	uint64_t refused;   /* attempts to connect that failed */
	uint64_t reconnects;
	char fault[96]; /* the first malformed answer: what was wrong with it */

	double seconds; /* from the first request to the last answer */
	bool verified;
	struct book_verdict verdict;
	uint64_t verified_accounts;
};

/* All zero but for the histograms; allocated, since it is large.  Ends the process without memory.
 */
struct result *result_new(void);

/* Counts COUNT rejections by the reason NAME[0..LENGTH). */
void result_reject(struct result *result, enum kind kind, const char *name, size_t length,
                   uint64_t count);

uint64_t result_accepted(const struct result *result);
uint64_t result_rejected(const struct result *result);
uint64_t result_unknown(const struct result *result);

/* Requests and connections that went wrong, whatever the reason. */
uint64_t result_failed(const struct result *result);

/* Was each operation answered, and does the verification, if there was one, hold? */
bool result_is_good(const struct result *result);

/* Accepted and rejected operations in a second. */
double result_rate(const struct result *result);

#endif
