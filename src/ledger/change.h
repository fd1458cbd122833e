/*
 * What a record says, for those who tell others.
 */
#ifndef TALLYD_LEDGER_CHANGE_H
#define TALLYD_LEDGER_CHANGE_H

#include "event.h"
#include "record.h"

/* What RECORD did, which has an effect (record_has_effect): *CHANGE borrows its words. */
void change_tell(const struct record_head *record, struct change *change);

#endif
