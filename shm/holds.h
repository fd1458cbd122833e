/*
 * The hold table: what is reserved, by the hold's id.  Buckets of slots; one lock covers one
 * bucket.  Beside the slots stand arrays of hints, one entry a slot each, so that looking for
 * a hold, for an account's holds or for those whose time is over reads a few cache lines and no
 * slots.
 *
 * Two kinds of hints.  Those read under the bucket's lock (which hold a slot has; when it was
 * settled) follow the slot: who copies an image into it writes them before its LSN, so they are
 * right whenever that lock is held, whatever died.  Those scanned without a lock (whose it is; when
 * its time is over) are written before the slot's operation commits, with the lock held: so every
 * open hold has right ones at any moment.  One that is wrong because that operation never happened
 * is harmless: whoever follows it looks at the slot, with its lock.
 */
#ifndef TALLYD_SHM_HOLDS_H
#define TALLYD_SHM_HOLDS_H

#include <stdbool.h>
#include <stdint.h>

#include "ids.h"

#define HOLDS_BUCKET      256 /* slots of a bucket */
#define HOLDS_ID_MAX      128
#define HOLDS_ACCOUNT_MAX 100

/* Five cache lines, the first of which tells what state it is in. */
struct hold_slot {
	uint64_t lsn; /* of the newest record that changed it; 0: never used */
	struct key key;
	int64_t amount;
	uint64_t expires_us;
	uint64_t placed_us;
	uint64_t settled_us;
	uint8_t state; /* 0: never used; see enum hold_state of the ledger: 1 is open */
	uint8_t id_length;
	uint8_t account_length;
	uint8_t zero[5];
	int64_t captured;
	uint64_t to_hash; /* keyed hash of who received a capture; 0: nobody else */
	char id[HOLDS_ID_MAX];
	char account[HOLDS_ACCOUNT_MAX];
	uint8_t spare[12];
};

_Static_assert(sizeof(struct hold_slot) == 320, "a hold is five cache lines");

#define HOLD_SLOT_OPEN 1

/* The lock of KEY's bucket (after the ids' locks in the order of locks). */
uint32_t holds_lock(const struct region *region, const struct key *key);

/* The slot of KEY as it is in the table, or NULL.  With the lock held, as the next two. */
struct hold_slot *holds_find(const struct region *region, const struct key *key);

/*
 * Where to put KEY: a slot of its bucket that was never used, else the one that was settled first,
 * never an open or a staged one.  NULL: all are open.
 */
struct hold_slot *holds_vacancy(const struct region *region, const struct key *key);

/* Before the operation that puts a hold into SLOT commits: the hints that are scanned unlocked. */
void holds_hint(struct region *region, const struct hold_slot *slot, uint64_t account_hash,
                uint64_t expires_us);

/* With the lock held: that operation was not committed, these hints are not an open hold's. */
void holds_unhint(struct region *region, const struct hold_slot *slot);

/*
 * Without a lock: the first slot from index *AT on whose hint says that it belongs to ACCOUNT_HASH,
 * or that its time is over at NOW_US.  *AT moves behind it; false: none is left.  What is found
 * must be looked at again with its lock.
 */
bool holds_next_of(const struct region *region, uint64_t account_hash, uint64_t *at,
                   struct hold_slot **slot);
bool holds_next_over(const struct region *region, uint64_t now_us, uint64_t *at,
                     struct hold_slot **slot);

/*
 * Writes HOLD, of the account with ACCOUNT_HASH, into SLOT at once, and its hints: for recovery,
 * before the first fork.  After that only an operation's image may.
 */
void holds_put(struct region *region, struct hold_slot *slot, const struct hold_slot *hold,
               uint64_t account_hash);

/*
 * With the lock held, where SLOT's hold is not open (any more): its time need not be looked at.
 */
void holds_forget_time(struct region *region, const struct hold_slot *slot);

/* All slots, for walks, and each one's lock. */
uint64_t holds_slots(const struct region *region);
struct hold_slot *holds_slot(const struct region *region, uint64_t index);
uint64_t holds_count(const struct region *region); /* open ones; with nobody at work */
uint32_t holds_slot_lock(const struct region *region, const struct hold_slot *slot);

#endif
