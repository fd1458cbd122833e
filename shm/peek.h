/*
 * Reading cells without their locks, from a region that is mapped read-only: for tools, which must
 * neither wait for anybody nor be waited for.  What is read is as it was at one moment, or it is
 * said that none could be caught.
 *
 * Why that can be known.  A cell changes only while a committed operation's area (operation.h) says
 * that it will, and when it has changed its LSN is another.  So if no area says it before the cell
 * is read and none after, and the LSN is the same, nothing wrote it meanwhile.  If one says it, the
 * operation has happened, and what the cell will be stands in the area, frozen until the
 * area is cleared: its owner may be stopped there, or dead, for as long as it likes.
 */
#ifndef TALLYD_SHM_PEEK_H
#define TALLYD_SHM_PEEK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "holds.h"
#include "table.h"

#define PEEK_TRIES 10000 /* looks at one cell before giving up; nearly always one is enough */

struct region;

enum peek_status {
	PEEK_OK,
	PEEK_NONE,   /* there is no such account */
	PEEK_MOVING, /* it changed at each of PEEK_TRIES looks */
};

/* How a cell was found. */
struct peek_note {
	bool under_way;   /* it was being written: what was read is what it is going to be */
	uint32_t process; /* under_way: the process slot that does it, or died of it */
};

/* The account NAME of LENGTH bytes, whose hash is HASH, into *SLOT. */
enum peek_status peek_account(const struct region *region, uint64_t hash, const char *name,
                              uint32_t length, struct account_slot *slot, struct peek_note *note);

/* The hold in CELL, a slot of REGION's, into *HOLD.  PEEK_OK or PEEK_MOVING. */
enum peek_status peek_hold(const struct region *region, const struct hold_slot *cell,
                           struct hold_slot *hold, struct peek_note *note);

/* Locks, by number from 0 on, and what they guard: "accounts", "ids", "holds", "ring". */
uint32_t peek_locks(const struct region *region);
const char *peek_guarded(const struct region *region, uint32_t lock);

/*
 * The thread that holds LOCK just now, 0: nobody does.  *DEAD: it died of it, and nobody has come
 * to finish what it did.
 */
uint32_t peek_holder(const struct region *region, uint32_t lock, bool *dead);

#endif
