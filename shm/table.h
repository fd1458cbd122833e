/*
 * The account table: open addressing within stripes.  A stripe is one lock and the slots
 * that it alone covers, so one lock covers a whole probe.  All functions but
 * table_stripe need the stripe's lock to be held.
 */
#ifndef TALLYD_SHM_TABLE_H
#define TALLYD_SHM_TABLE_H

#include <stdint.h>

#define TABLE_NAME_MAX 100

struct region;

struct account_slot {
	uint64_t lsn; /* of the newest record that changed this slot; 0: never used */
	uint64_t hash;
	int64_t balance;
	int64_t held;
	int64_t floor;
	int64_t ceiling;
	uint64_t version; /* counts the account's changes from 1 */
	uint64_t created_us;
	uint64_t updated_us;
	uint32_t flags;
	uint8_t name_length; /* 0: the slot is free */
	char name[TABLE_NAME_MAX];
	uint8_t spare[15];
};

_Static_assert(sizeof(struct account_slot) == 192, "an account takes 192 bytes");

/* The stripe, and so the lock, of an account whose name hashes to HASH. */
uint32_t table_stripe(const struct region *region, uint64_t hash);

/*
 * The slot of NAME in STRIPE, or, if it has none, NULL and in *FREE the slot that it would
 * take (NULL: the stripe is full).  FREE may be NULL.
 */
struct account_slot *table_find(const struct region *region, uint32_t stripe, uint64_t hash,
                                const char *name, uint32_t length, struct account_slot **free);

/* Asks the processor to fetch the slot where a probe for HASH begins.  Needs no lock. */
void table_prefetch(const struct region *region, uint64_t hash);

/* Slot INDEX (from 0 to table_stripe_slots - 1) of STRIPE, for walks. */
struct account_slot *table_slot(const struct region *region, uint32_t stripe, uint32_t index);
uint32_t table_stripe_slots(const struct region *region);

#endif
