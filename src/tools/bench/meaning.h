/* What a document of tallyd's, read by its first bytes, means for the operation that it answers. */
#ifndef TALLYD_BENCH_MEANING_H
#define TALLYD_BENCH_MEANING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "operation.h"

enum meaning {
	MEANING_ACCEPTED,
	MEANING_REJECTED,
	MEANING_NONE, /* not an answer to this */
};

struct words_of_reason {
	const char *name; /* points into the document, or at a constant */
	size_t length;
};

/*
 * DOCUMENT[0..LENGTH) was answered with STATUS to an operation of KIND.  If it is rejected,
 * *REASON is the document's, or "http_NNN" where it has none.
 */
enum meaning meaning_of(enum kind kind, uint16_t status, const char *document, size_t length,
                        struct words_of_reason *reason);

/* The same for a line of a batch, which has no status of its own. */
enum meaning meaning_of_line(const char *line, size_t length, struct words_of_reason *reason);

/*
 * Is REASON one that ends a stream (tallyd-http(7), BATCHES)?  A line with it is about the stream:
 * nothing is known of the events that had no line before it.
 */
bool meaning_ends_stream(const struct words_of_reason *reason);

/* Sets *HOLD to the name in the document of a hold that was accepted; false if it has none. */
bool meaning_hold(const char *document, size_t length, struct hold *hold);

#endif
