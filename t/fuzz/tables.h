/*
 * Regions that are used again and again by the targets that fill tables: making one takes longer
 * than most inputs need.
 */
#ifndef TALLYD_T_FUZZ_TABLES_H
#define TALLYD_T_FUZZ_TABLES_H

#include "fuzz.h"

#include "../../src/ledger/segment.h"
#include "../journal-traffic.h"

#define TABLES_KEY                                                                                 \
	UINT64_C(0x6b6579) /* of every journal here, so that seeds are always the same             \
	                    */

/* Lengths that the fuzzer is told of: as many marks for each of them. */
enum mark { MARK_NAME = 0, MARK_HOLD = 256, MARK_OWNER = 512 };

static const struct sizes tables_sizes = {
    .segment_size = FIXTURE_SEGMENT,
    .ring_size = 65536,
    .max_accounts = 64,
    .max_ids = 400,
    .max_holds = 64,
};

struct tables {
	struct region *region;
	unsigned char *fresh; /* as it was made, up to the processes and the ring */
	size_t size;
};

/* Makes TABLES at the first call, empties them at all others. */
static inline struct region *tables_fresh(struct tables *tables)
{
	if (tables->region == NULL) {
		tables->region = region_make(&tables_sizes, TABLES_KEY);
		tables->size = tables->region->header->shape.processes_at;
		tables->fresh = fuzz_copy(tables->region->base, tables->size);
	}
	memcpy(tables->region->base, tables->fresh, tables->size);
	return tables->region;
}

/* Every account, and every hold, is one that can be, and is found under its name. */
static inline void tables_check_accounts(struct region *region)
{
	for (uint64_t i = 0; i < region_slots(region); i++) {
		const struct account_slot *slot = &region->slots[i];
		char name[ACCOUNT_NAME_MAX];

		if (!is_account(slot))
			continue;
		uint32_t length = table_name(region, table_stripe(region, slot->hash), slot, name);
		fuzz_mark(MARK_NAME + length);
		FUZZ_HOLDS(length >= 1 && length <= ACCOUNT_NAME_MAX && slot->held >= 0 &&
		               slot->version >= 1 && slot->floor <= slot->ceiling &&
		               slot->frozen <= FROZEN_ALL && slot->lsn != 0,
		           "an account that cannot be");
		FUZZ_HOLDS(same_account(region, slot, region) == slot, "an account is not found");
	}
}

static inline void tables_check_holds(struct region *region)
{
	for (uint64_t i = 0; i < holds_slots(region); i++) {
		const struct hold_slot *slot = holds_slot(region, i);

		if (slot->lsn == 0)
			continue;
		fuzz_mark(MARK_HOLD + slot->id_length);
		fuzz_mark(MARK_OWNER + slot->account_length);
		FUZZ_HOLDS(slot->id_length >= 1 && slot->id_length <= ID_MAX &&
		               slot->account_length >= 1 &&
		               slot->account_length <= ACCOUNT_NAME_MAX && slot->amount > 0 &&
		               slot->state >= HOLD_OPEN && slot->state <= HOLD_EXPIRED,
		           "a hold that cannot be");
		FUZZ_HOLDS(holds_find(region, &slot->key) == slot, "a hold is not found");
	}
}

/* For who recovers a journal that may have another key. */
static inline void tables_set_key(struct tables *tables, uint64_t key)
{
	tables->region->header->geometry.journal_key = key;
	tables->region->header->geometry.hash_seed = record_hash_seed(key);
}

/* An empty journal of TABLES_KEY in PLACE, and a run that writes it. */
static inline void tables_run(struct run *run, const struct place *place)
{
	const struct segment first = {.size = FIXTURE_SEGMENT, .key = TABLES_KEY};

	must(mkdir(place->journal, 0700) == 0, "mkdir");
	int directory = open(place->journal, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(directory >= 0 && segment_create(directory, &first, false, 1) == 0, "segment_create");
	close(directory);
	must(run_start(run, place, &tables_sizes), "run_start");
	/* run_start numbers epochs as it goes: here each run is the first. */
	run->region->header->geometry.epoch = 1;
}

#endif
