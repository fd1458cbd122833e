/*
 * The account table: open addressing within stripes.  A stripe is one lock and the slots
 * that it alone covers, so one lock covers a whole probe.  All functions but
 * table_stripe and table_prefetch need the stripe's lock to be held.
 *
 * A probe ends at a slot that is vacant.  A slot that is freed becomes TABLE_FREED, because
 * another account's probe may go beyond it.  What no probe needs any more is made vacant again by
 * the next look-up that walks over it in vain, so that a stripe of much coming and going stays as
 * quick as a new one.
 */
#ifndef TALLYD_SHM_TABLE_H
#define TALLYD_SHM_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#define TABLE_NAME_MAX    100
#define TABLE_NAME_INLINE 52  /* a longer name's rest is in a second slot of the same stripe */
#define TABLE_REST        255 /* name_length of such a second slot */
#define TABLE_FREED       254 /* name_length of a slot that is free again, with a probe beyond it */
#define TABLE_HEAL        8   /* so many freed slots on one vain probe are looked at again */

struct region;

/* Two cache lines, the first of which tells whether an event can be taken. */
struct account_slot {
	uint64_t lsn; /* of the newest record that changed this slot; 0: none */
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
	uint8_t
	    name_length; /* 0: vacant; TABLE_FREED; TABLE_REST: it has only the rest of a name */
	char name[TABLE_NAME_INLINE];
};

_Static_assert(sizeof(struct account_slot) == 128, "an account is two cache lines");
_Static_assert(TABLE_NAME_MAX < TABLE_FREED, "no name is as long as what is none");

static inline bool table_is_free(const struct account_slot *slot)
{
	return slot->name_length == 0 || slot->name_length == TABLE_FREED;
}

/* Does SLOT hold an account, and not nothing or the rest of a name? */
static inline bool table_is_account(const struct account_slot *slot)
{
	return slot->name_length != 0 && slot->name_length < TABLE_FREED;
}

/* The stripe, and so the lock, of an account whose name hashes to HASH. */
uint32_t table_stripe(const struct region *region, uint64_t hash);

/*
 * The slot of NAME in STRIPE as it is in the table (images staged now are not looked at), or NULL.
 * A vain probe of TABLE_HEAL freed slots makes those vacant that no probe needs (table.c says why
 * that is safe outside of an operation).
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
