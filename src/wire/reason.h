/*
 * Every refusal that the service knows: its stable word, its status, and a sentence for a person.
 * One table, which tallyd-http(7) repeats and a test compares.
 */
#ifndef TALLYD_WIRE_REASON_H
#define TALLYD_WIRE_REASON_H

#include <stddef.h>

#include "../ledger/event.h"

#define REASON_DETAIL_MAX 120 /* bytes of a detail in the table: printable ASCII without '"' */

struct reason {
	const char *word;
	unsigned status;
	const char *detail; /* NULL: said where it is found, since there is more than one */
};

/* Of an OUTCOME other than ACCEPTED and POISONED; NULL for those and for what is none. */
const struct reason *reason_of(enum outcome outcome);

/* The place in the table of REASON, which is one of its entries. */
size_t reason_place(const struct reason *reason);

/* The table: INDEX from 0; NULL: no more. */
const struct reason *reason_at(size_t index);

/* The first entry called WORD, or NULL.  Only "bad_version" has two: 400 and 505. */
const struct reason *reason_find(const char *word);

#endif
