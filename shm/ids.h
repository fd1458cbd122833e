/*
 * The id table: which operation an id stood for.  Buckets of slots; one lock covers a run of
 * buckets.  A full bucket forgets its oldest id.  All functions but ids_lock and ids_prefetch need
 * that lock to be held.
 */
#ifndef TALLYD_SHM_IDS_H
#define TALLYD_SHM_IDS_H

#include <stdint.h>

#define IDS_BUCKET 64 /* slots of a bucket */

struct region;

/* 128 bits of a keyed hash of the id. */
struct key {
	uint64_t low;
	uint64_t high;
};

struct id_slot {
	uint64_t lsn; /* of the operation's record; 0: free */
	struct key key;
	uint64_t time_us; /* of that record */
};

_Static_assert(sizeof(struct id_slot) == 32, "two ids in a cache line");

/* The lock of KEY's bucket (after the accounts' stripes in the order of locks). */
uint32_t ids_lock(const struct region *region, const struct key *key);

void ids_prefetch(const struct region *region, const struct key *key);

/* The slot of KEY as it is in the table, or NULL. */
struct id_slot *ids_find(const struct region *region, const struct key *key);

/*
 * Where to put KEY: a slot of its bucket that is free, else the one whose record is the oldest (to
 * some 40 records), never one that is staged by this process.  There always is one.
 */
struct id_slot *ids_vacancy(const struct region *region, const struct key *key);

/*
 * Writes SLOT at once, for recovery, before the first fork.  After that only an operation's image
 * may: its commit (operation.h) keeps the tags by which ids are found.
 */
void ids_put(struct region *region, struct id_slot *slot, const struct key *key, uint64_t lsn,
             uint64_t time_us);

/* All slots, for walks: there are ids_slots, in runs that one lock covers. */
uint64_t ids_slots(const struct region *region);
struct id_slot *ids_slot(const struct region *region, uint64_t index);
uint64_t ids_count(const struct region *region); /* that are taken; with nobody at work */
uint32_t ids_slot_lock(const struct region *region, uint64_t index);

#endif
