/*
 * What the ring's records say the tables must be: they are replayed, strictly, into a second
 * region, and the two compared: accounts, ids and holds, the seal, and the count of events.
 */
#ifndef TALLYD_T_DEATH_MODEL_H
#define TALLYD_T_DEATH_MODEL_H

#include "../shm/ring.h"
#include "../src/ledger/replay.h"
#include "region-fixture.h"

struct model {
	struct region *region; /* of the same geometry */
	struct region_seal seal;
	uint64_t events;
	uint64_t marks;
	char why[160];
};

static inline bool model_fails(struct model *model, uint64_t lsn, const char *why)
{
	snprintf(model->why, sizeof model->why, "at LSN %llu: %s", (unsigned long long)lsn, why);
	return false;
}

/* Applies the record at LSN, of which the tail allows AVAILABLE bytes.  Its length, or 0. */
static inline size_t model_apply(struct model *model, const struct region *region, uint64_t lsn,
                                 size_t available)
{
	_Alignas(8) unsigned char record[JOURNAL_RECORD_MAX];
	const struct record_head *head = (const void *)record;
	const char *why;

	if (available > sizeof record)
		available = sizeof record;
	ring_read(region, lsn, record, available);
	size_t length = record_check(record, available, lsn, FIXTURE_KEY);
	if (length == 0)
		return 0;
	if (record_counts(head->type))
		model->events++;
	if (head->type == RECORD_MARK)
		model->marks++;
	if (head->type == RECORD_SEAL) {
		const struct record_seal *body = (const void *)(head + 1);
		model->seal = (struct region_seal){.lsn = lsn, .to = body->to, .hash = body->hash};
	}
	why = replay_apply(model->region, head, NULL);
	return why == NULL ? length : (model_fails(model, lsn, why), (size_t)0);
}

static inline bool model_zero(const struct region *region, uint64_t from, uint64_t to)
{
	unsigned char byte;

	for (; from < to; from++) {
		ring_read(region, from, &byte, 1);
		if (byte != 0)
			return false;
	}
	return true;
}

/* Replays REGION's records from START to the tail. */
static inline bool model_replay(struct model *model, const struct region *region, uint64_t start)
{
	uint64_t tail = atomic_load(&region->header->marks.tail);
	uint64_t at = start;

	while (at < tail) {
		uint64_t end = ring_segment_end(region, at);
		if (end - at < JOURNAL_RECORD_MIN) {
			if (!model_zero(region, at, end))
				return model_fails(model, at,
				                   "the unused end of a segment is not zero");
			at = end + SEGMENT_HEAD;
			continue;
		}
		size_t length = model_apply(model, region, at, (size_t)(tail - at));
		if (length == 0)
			return model->why[0] == '\0' ? model_fails(model, at, "no sound record")
			                             : false;
		at += length;
	}
	return at == tail ? true : model_fails(model, at, "the last record ends beyond the tail");
}

/* The account in SLOT of STRIPE, in the other table. */
static inline bool model_has_account(const struct region *other, const struct region *region,
                                     uint32_t stripe, const struct account_slot *slot)
{
	char name[TABLE_NAME_MAX];
	uint32_t length = table_name(region, stripe, slot, name);
	const struct account_slot *same = table_find(other, stripe, slot->hash, name, length);

	return length != 0 && same != NULL && same->lsn == slot->lsn &&
	       same->balance == slot->balance && same->held == slot->held &&
	       same->floor == slot->floor && same->ceiling == slot->ceiling &&
	       same->version == slot->version && same->created_us == slot->created_us &&
	       same->updated_us == slot->updated_us && same->frozen == slot->frozen;
}

/* Is each account of REGION in OTHER?  The second slots of long names count only there. */
static inline bool model_has_accounts(const struct region *other, const struct region *region)
{
	for (uint32_t stripe = 0; stripe < region_stripes(region); stripe++) {
		unsigned rests = 0, longs = 0;
		for (uint32_t i = 0; i < table_stripe_slots(region); i++) {
			const struct account_slot *slot = table_slot(region, stripe, i);
			rests += slot->name_length == TABLE_REST;
			longs += slot->rest != 0;
			if (table_is_account(slot) &&
			    !model_has_account(other, region, stripe, slot))
				return false;
		}
		if (rests != longs)
			return false;
	}
	return true;
}

/* Each id of REGION: can it be found there, and in OTHER? */
static inline bool model_has_ids(const struct region *other, const struct region *region)
{
	for (uint64_t i = 0; i < ids_slots(region); i++) {
		const struct id_slot *slot = ids_slot(region, i);
		if (slot->lsn == 0)
			continue;
		const struct id_slot *same = ids_find(other, &slot->key);
		if (ids_find(region, &slot->key) != slot || same == NULL ||
		    memcmp(same, slot, sizeof *slot) != 0)
			return false;
	}
	return true;
}

/* Will the clock find the open hold in SLOT? */
static inline bool model_will_expire(const struct region *region, const struct hold_slot *slot)
{
	struct hold_slot *found;
	uint64_t at = 0;

	while (holds_next_over(region, UINT64_MAX, &at, &found))
		if (found == slot)
			return true;
	return false;
}

static inline bool model_has_holds(const struct region *other, const struct region *region)
{
	for (uint64_t i = 0; i < holds_slots(region); i++) {
		const struct hold_slot *slot = holds_slot(region, i);
		if (slot->lsn == 0)
			continue;
		const struct hold_slot *same = holds_find(other, &slot->key);
		if (holds_find(region, &slot->key) != slot || same == NULL ||
		    memcmp(same, slot, sizeof *slot) != 0)
			return false;
		if (slot->state == HOLD_SLOT_OPEN && !model_will_expire(region, slot))
			return false;
	}
	return true;
}

/* A region of the same geometry, as if nothing had ever been written to it. */
static inline void model_clear(struct region *region)
{
	const struct shape *shape = &region->header->shape;

	memset(region->base + shape->slots_at, 0, shape->seal_at - shape->slots_at);
}

/* Does REGION say of its tables what is in OTHER's? */
static inline bool model_counts(const struct region *other, const struct region *region)
{
	uint64_t used[USES];

	region_count(other, used);
	for (unsigned i = 0; i < USES; i++)
		if (used[i] != atomic_load(&region->header->marks.used[i]))
			return false;
	return true;
}

/* Are REGION's tables, seal and count of events what its records from START say? */
static inline bool model_agrees(struct model *model, const struct region *region, uint64_t start)
{
	struct region *copy = model->region;

	model_clear(copy);
	model->seal = (struct region_seal){0};
	model->events = 0;
	model->marks = 0;
	model->why[0] = '\0';
	if (!model_replay(model, region, start))
		return false;
	if (model->events != atomic_load(&region->header->marks.events))
		return model_fails(model, start, "the count of events is not that of the records");
	if (!model_counts(copy, region))
		return model_fails(model, start, "what is used is not what the records say");
	if (memcmp(region->seal, &model->seal, sizeof model->seal) != 0)
		return model_fails(model, start, "the seal is not that of the records");
	if (!model_has_accounts(copy, region) || !model_has_accounts(region, copy))
		return model_fails(model, start, "the accounts are not what the records say");
	if (!model_has_ids(copy, region) || !model_has_ids(region, copy))
		return model_fails(model, start, "the ids are not what the records say");
	if (!model_has_holds(copy, region) || !model_has_holds(region, copy))
		return model_fails(model, start, "the holds are not what the records say");
	return true;
}

#endif
