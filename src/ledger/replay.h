/*
 * Applying journal records to the table.  For the master before its first fork: takes no locks.
 */
#ifndef TALLYD_LEDGER_REPLAY_H
#define TALLYD_LEDGER_REPLAY_H

#include <stdbool.h>

#include "record.h"

struct region;

/*
 * Applies RECORD's legs, each only to an older version of its account.  NULL, or why the
 * record cannot follow what is in the table (a constant): the journal is corrupt or, for
 * replay_table_full, the table too small.
 */
const char *replay_apply(struct region *region, const struct record_head *record);

/* Asks the processor to fetch what replay_apply of RECORD will touch; some records ahead of it. */
void replay_prefetch(const struct region *region, const struct record_head *record);

extern const char replay_table_full[];

#endif
