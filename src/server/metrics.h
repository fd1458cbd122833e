/*
 * The page of GET /metrics, in Prometheus' text format.  tallyd-http(7) says what each of its
 * metrics means; t/metrics.t holds the two together.
 */
#ifndef TALLYD_SERVER_METRICS_H
#define TALLYD_SERVER_METRICS_H

#include <stddef.h>
#include <stdint.h>

#include "../../shm/counter.h"
#include "../ledger/facts.h"
#include "../wire/text.h"

#define METRICS_SLOTS_MAX    160   /* process slots that may be told of */
#define METRICS_REQUESTS_MAX 256   /* endpoints with a status; what is more is told as one */
#define METRICS_FIXED        69632 /* bytes of what does not depend on the processes */
#define METRICS_PER_SLOT     1024  /* bytes of what is told of each of them */
#define METRICS_PAGE_MAX     (METRICS_FIXED + METRICS_SLOTS_MAX * METRICS_PER_SLOT)

/* All borrowed. */
struct metrics {
	const struct facts *facts;
	const struct counters *const *sets; /* by process slot, `slots` of them */
	size_t slots;                       /* at most METRICS_SLOTS_MAX */
	const char *version;
	uint64_t now_us; /* since 1970 */
};

/* Bytes that the page of so many SLOTS takes at most. */
size_t metrics_size(size_t slots);

/* Writes the page. */
void metrics_write(struct text *out, const struct metrics *metrics);

#endif
