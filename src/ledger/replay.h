/*
 * Applying journal records to the tables.  For the master before its first fork: takes no locks.
 */
#ifndef TALLYD_LEDGER_REPLAY_H
#define TALLYD_LEDGER_REPLAY_H

#include <stdbool.h>

#include "coverage.h"
#include "record.h"

struct region;

/*
 * Applies RECORD to the accounts, holds and ids, but for the parts of them where COVERAGE (may be
 * NULL: none) says that its effect is there already.  NULL, or why the record cannot follow what is
 * in the tables (a constant): the journal is corrupt or, for replay_table_full and
 * replay_holds_full, a table too small.
 */
const char *replay_apply(struct region *region, const struct record_head *record,
                         const struct coverage *coverage);

/* Asks the processor to fetch what replay_apply of RECORD will touch; some records ahead of it. */
void replay_prefetch(const struct region *region, const struct record_head *record);

/*
 * Makes an account called NAME, whose slot's other fields are those of *FIELDS, in the tables.
 * False: there is no room.  Puts a hold, likewise; and an id, for which there always is room, but
 * only if it is newer than what it would displace (true: nothing was displaced or left out).
 * Which one was lost is noted: region_marks.ids_lost_us.
 */
struct account_slot;
struct hold_slot;
bool replay_put_account(struct region *region, const struct account_slot *fields, const char *name,
                        uint32_t length);
bool replay_put_hold(struct region *region, const struct hold_slot *hold);
bool replay_put_id(struct region *region, const struct key *key, uint64_t lsn, uint64_t time_us);

/* Notes that ids of TIME_US, or older, are missing. */
void replay_lose_id(struct region *region, uint64_t time_us);

extern const char replay_table_full[];
extern const char replay_holds_full[];

#endif
