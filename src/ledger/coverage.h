/*
 * What a snapshot holds beyond its start.  It is taken beside live traffic, one lock after the
 * other; what one lock guards was copied at one moment, so of it the snapshot has exactly the
 * effects up to the newest among what was copied, of what is no longer there too.  Replay leaves
 * these out, part by part of the tables, and needs no other leniency.
 */
#ifndef TALLYD_LEDGER_COVERAGE_H
#define TALLYD_LEDGER_COVERAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum coverage_table { COVERAGE_ACCOUNTS = 1, COVERAGE_IDS = 2, COVERAGE_HOLDS = 3 };

/*
 * A part of a table: those accounts whose names hash to FIRST .. LAST, or ids and holds whose
 * keys' upper halves lie there.  Also the format of a snapshot's entry.
 */
struct coverage_part {
	uint64_t first;
	uint64_t last;
	uint64_t newest; /* LSN of the newest record whose effect on this part is in the snapshot */
	uint32_t table;
	uint32_t zero;
};

struct coverage {
	struct coverage_part *part; /* ascending by table, then by first; not overlapping */
	size_t count;
	size_t capacity;
};

/*
 * Adds *PART behind the others.  0, or -1 with errno: ENOMEM, or EUCLEAN if it does not come behind
 * them.  coverage_free frees what was added; a coverage of zeros is empty.
 */
int coverage_add(struct coverage *coverage, const struct coverage_part *part);
void coverage_free(struct coverage *coverage);

/* Does the snapshot have the effects of the record at LSN on what HASH stands for in TABLE? */
bool coverage_has(const struct coverage *coverage, enum coverage_table table, uint64_t hash,
                  uint64_t lsn);

#endif
