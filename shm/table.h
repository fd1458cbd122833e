/*
 * The account table: open addressing within stripes.  A stripe is one lock and the slots
 * that it alone covers, so one lock covers a whole probe.  All functions but
 * table_stripe and table_prefetch need the stripe's lock to be held.
 */
#ifndef TALLYD_SHM_TABLE_H
#define TALLYD_SHM_TABLE_H

#include <stdint.h>

#define TABLE_NAME_MAX    100
#define TABLE_NAME_INLINE 52  /* a longer name's rest is in a second slot of the same stripe */
#define TABLE_REST        255 /* name_length of such a second slot */

struct region;

/* Two cache lines, the first of which tells whether an event can be taken. */
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
	uint16_t rest; /* 1 + the index in the stripe of the slot with the name's rest; 0: none */
	uint8_t frozen;
	uint8_t name_length; /* 0: the slot is free; TABLE_REST: it holds only the rest of a name */
	char name[TABLE_NAME_INLINE];
};

_Static_assert(sizeof(struct account_slot) == 128, "an account is two cache lines");

/* The stripe, and so the lock, of an account whose name hashes to HASH. */
uint32_t table_stripe(const struct region *region, uint64_t hash);

/* The slot of NAME in STRIPE as it is in the table (images staged now are not looked at), or NULL.
 */
struct account_slot *table_find(const struct region *region, uint32_t stripe, uint64_t hash,
                                const char *name, uint32_t length);

/*
 * The first slot of STRIPE, in the order of probes for HASH, that is free and that no operation of
 * this process has staged.  NULL: the stripe is full.
 */
struct account_slot *table_vacancy(const struct region *region, uint32_t stripe, uint64_t hash);

/* Copies SLOT's name (of STRIPE) into NAME (TABLE_NAME_MAX bytes).  Returns its length. */
uint32_t table_name(const struct region *region, uint32_t stripe, const struct account_slot *slot,
                    char *name);

/* Asks the processor to fetch the slot where a probe for HASH begins.  Needs no lock. */
void table_prefetch(const struct region *region, uint64_t hash);

/* Slot INDEX (from 0 to table_stripe_slots - 1) of STRIPE, for walks, and its index. */
struct account_slot *table_slot(const struct region *region, uint32_t stripe, uint32_t index);
uint32_t table_index(const struct region *region, uint32_t stripe, const struct account_slot *slot);
uint32_t table_stripe_slots(const struct region *region);

#endif
