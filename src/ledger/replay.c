#include "replay.h"

#include <string.h>
#include <xxhash.h>

#include "../../shm/table.h"

const char replay_table_full[] = "the account table is full: raise max_accounts";

/* Does the leg continue the account's history where SLOT (or nothing) left it? */
static const char *check_chain(const struct account_slot *before, const struct record_leg *leg)
{
	int64_t balance;

	if (leg->previous != before->lsn)
		return "a record of this account before it is missing";
	if (leg->version != before->version + 1)
		return "the account's version does not follow";
	if (__builtin_add_overflow(before->balance, leg->amount, &balance) ||
	    balance != leg->balance)
		return "the balance does not follow from the amount";
	return NULL;
}

static void create(struct account_slot *slot, uint64_t hash, const struct record_leg *leg,
                   uint64_t time_us)
{
	slot->hash = hash;
	slot->floor = INT64_MIN;
	slot->ceiling = INT64_MAX;
	slot->created_us = time_us;
	slot->name_length = leg->name_length;
	memcpy(slot->name, leg->name, leg->name_length);
}

static uint64_t hash_name(const struct region *region, const struct record_leg *leg)
{
	return XXH3_64bits_withSeed(leg->name, leg->name_length,
	                            region_geometry(region)->hash_seed);
}

static const char *apply_leg(struct region *region, const struct record_head *record,
                             const struct record_leg *leg)
{
	static const struct account_slot nothing;
	struct account_slot *vacancy;
	uint64_t hash = hash_name(region, leg);
	struct account_slot *slot = table_find(region, table_stripe(region, hash), hash, leg->name,
	                                       leg->name_length, &vacancy);
	const char *why;

	if (slot != NULL && slot->lsn >= record->lsn)
		return NULL; /* the snapshot had it already */
	why = check_chain(slot != NULL ? slot : &nothing, leg);
	if (why != NULL)
		return why;
	if (slot == NULL && vacancy == NULL)
		return replay_table_full;
	if (slot == NULL) {
		slot = vacancy;
		create(slot, hash, leg, record->time_us);
	}
	slot->balance = leg->balance;
	slot->held = leg->held;
	slot->version = leg->version;
	slot->updated_us = record->time_us;
	slot->lsn = record->lsn;
	return NULL;
}

const char *replay_apply(struct region *region, const struct record_head *record)
{
	const struct record_leg *leg = NULL;
	const char *why = NULL;

	while (why == NULL && (leg = record_next_leg(record, leg)) != NULL)
		why = apply_leg(region, record, leg);
	return why;
}

void replay_prefetch(const struct region *region, const struct record_head *record)
{
	const struct record_leg *leg = NULL;

	while ((leg = record_next_leg(record, leg)) != NULL)
		table_prefetch(region, hash_name(region, leg));
}
