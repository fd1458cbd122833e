#include "replay.h"

#include <string.h>
#include <xxhash.h>

#include "../../shm/holds.h"
#include "../../shm/ids.h"
#include "../../shm/table.h"

const char replay_table_full[] = "the account table is full: raise max_accounts";
const char replay_holds_full[] = "the table of holds is full: raise max_holds";

_Static_assert(HOLD_SLOT_OPEN == HOLD_OPEN && HOLDS_ID_MAX == ID_MAX &&
                   HOLDS_ACCOUNT_MAX == ACCOUNT_NAME_MAX && TABLE_NAME_MAX == ACCOUNT_NAME_MAX,
               "the region's limits are those of the ledger");

/* What applying one record works with. */
struct replay {
	struct region *region;
	const struct record_head *record;
	const struct coverage *coverage;
	const void *body;
};

static bool covered(const struct replay *replay, enum coverage_table table, uint64_t hash)
{
	return replay->coverage != NULL &&
	       coverage_has(replay->coverage, table, hash, replay->record->lsn);
}

static uint64_t hash_bytes(const struct region *region, const char *name, uint32_t length)
{
	return XXH3_64bits_withSeed(name, length, region_geometry(region)->hash_seed);
}

static struct key key_of(const struct region *region, const char *id, uint32_t length)
{
	return record_key(region_geometry(region)->journal_key, id, length);
}

/* ---- accounts */

/* By how much `held` of the account in leg INDEX changes. */
static int64_t held_change(const struct replay *replay, unsigned index)
{
	if (index != 0)
		return 0;
	switch (replay->record->type) {
	case RECORD_HOLD:
		return ((const struct record_hold *)replay->body)->amount;
	case RECORD_CAPTURE:
	case RECORD_RELEASE:
	case RECORD_EXPIRE:
		return -((const struct record_settled *)replay->body)->amount;
	default:
		return 0;
	}
}

/* Does the leg continue the account's history where SLOT (or nothing) left it? */
static const char *check_chain(const struct replay *replay, const struct account_slot *before,
                               const struct record_leg *leg, unsigned index)
{
	int64_t balance;
	int64_t held;

	if (leg->previous != before->lsn)
		return leg->previous == 0 ? "it makes an account that is there already"
		                          : "a record of this account before it is missing";
	if (leg->version != before->version + 1)
		return "the account's version does not follow";
	if (__builtin_add_overflow(before->balance, leg->amount, &balance) ||
	    balance != leg->balance)
		return "the balance does not follow from the amount";
	if (__builtin_add_overflow(before->held, held_change(replay, index), &held) ||
	    held != leg->held)
		return "what is held does not follow from the hold";
	return NULL;
}

bool replay_put_account(struct region *region, const struct account_slot *fields, const char *name,
                        uint32_t length)
{
	uint64_t hash = hash_bytes(region, name, length);
	uint32_t stripe = table_stripe(region, hash);
	uint32_t here = length < TABLE_NAME_INLINE ? length : TABLE_NAME_INLINE;
	struct account_slot *slot = table_vacancy(region, stripe, hash);

	if (slot == NULL)
		return false;
	const struct account_slot was = *slot;
	*slot = *fields;
	slot->hash = hash;
	slot->rest = 0;
	slot->name_length = (uint8_t)length;
	memset(slot->name, 0, sizeof slot->name);
	memcpy(slot->name, name, here);
	if (here == length)
		return true;
	struct account_slot *rest = table_vacancy(region, stripe, hash);
	if (rest == NULL) {
		*slot = was;
		return false;
	}
	*rest = (struct account_slot){.lsn = fields->lsn, .hash = hash, .name_length = TABLE_REST};
	memcpy(rest->name, name + here, length - here);
	slot->rest = (uint16_t)(table_index(region, stripe, rest) + 1);
	return true;
}

static void forget_account(struct region *region, uint64_t hash, struct account_slot *slot,
                           uint64_t lsn)
{
	if (slot->rest != 0)
		*table_slot(region, table_stripe(region, hash), slot->rest - 1u) =
		    (struct account_slot){.lsn = lsn, .name_length = TABLE_FREED};
	*slot = (struct account_slot){.lsn = lsn, .name_length = TABLE_FREED};
}

/* What an account begins with. */
static struct account_slot begin_account(const struct replay *replay, const struct record_leg *leg)
{
	const struct record_birth *birth = record_leg_birth(replay->record, leg);

	return (struct account_slot){.floor = birth != NULL ? birth->floor : FLOOR_NONE,
	                             .ceiling = birth != NULL ? birth->ceiling : CEILING_NONE,
	                             .created_us = replay->record->time_us};
}

static void take_attributes(const struct replay *replay, struct account_slot *slot)
{
	const struct record_attributes *attributes = replay->body;

	if (replay->record->type != RECORD_CREATE && replay->record->type != RECORD_REPLACE)
		return;
	slot->floor = attributes->floor;
	slot->ceiling = attributes->ceiling;
	slot->frozen = (uint8_t)attributes->frozen;
}

/* SLOT as the record leaves it. */
static void change(const struct replay *replay, struct account_slot *slot,
                   const struct record_leg *leg)
{
	take_attributes(replay, slot);
	slot->balance = leg->balance;
	slot->held = leg->held;
	slot->version = leg->version;
	slot->updated_us = replay->record->time_us;
	slot->lsn = replay->record->lsn;
}

static const char *apply_leg(const struct replay *replay, const struct record_leg *leg,
                             unsigned index)
{
	static const struct account_slot nothing;
	struct region *region = replay->region;
	uint64_t hash = hash_bytes(region, leg->name, leg->name_length);

	if (covered(replay, COVERAGE_ACCOUNTS, hash))
		return NULL;
	struct account_slot *slot =
	    table_find(region, table_stripe(region, hash), hash, leg->name, leg->name_length);
	const char *why = check_chain(replay, slot != NULL ? slot : &nothing, leg, index);
	if (why != NULL)
		return why;
	if (replay->record->type == RECORD_DELETE) {
		forget_account(region, hash, slot, replay->record->lsn);
		return NULL;
	}
	if (slot != NULL) {
		change(replay, slot, leg);
		return NULL;
	}
	struct account_slot fields = begin_account(replay, leg);
	change(replay, &fields, leg);
	return replay_put_account(region, &fields, leg->name, leg->name_length) ? NULL
	                                                                        : replay_table_full;
}

/* ---- holds */

static void put_hold(struct region *region, struct hold_slot *slot, const struct hold_slot *hold,
                     const struct key *key)
{
	struct hold_slot keyed = *hold;

	keyed.key = *key;
	holds_put(region, slot, &keyed, hash_bytes(region, hold->account, hold->account_length));
}

bool replay_put_hold(struct region *region, const struct hold_slot *hold)
{
	struct key key = key_of(region, hold->id, hold->id_length);
	struct hold_slot *slot = holds_find(region, &key);

	if (slot == NULL)
		slot = holds_vacancy(region, &key);
	if (slot == NULL)
		return false;
	/* A settled one makes room for what is newer, and for what is open. */
	if (slot->lsn > hold->lsn && hold->state != HOLD_OPEN)
		return true;
	put_hold(region, slot, hold, &key);
	return true;
}

static const char *place_hold(const struct replay *replay)
{
	const struct record_hold *body = replay->body;
	const struct record_leg *leg = record_next_leg(replay->record, NULL);
	struct words id = record_id(replay->record);
	struct key key = key_of(replay->region, id.bytes, id.length);

	if (covered(replay, COVERAGE_HOLDS, key.high))
		return NULL;
	const struct hold_slot *slot = holds_find(replay->region, &key);
	if (slot != NULL && slot->state == HOLD_OPEN)
		return "it places a hold that is open already";
	struct hold_slot hold = {.lsn = replay->record->lsn,
	                         .amount = body->amount,
	                         .expires_us = body->expires_us,
	                         .placed_us = replay->record->time_us,
	                         .state = HOLD_OPEN,
	                         .id_length = (uint8_t)id.length,
	                         .account_length = leg->name_length};
	memcpy(hold.id, id.bytes, id.length);
	memcpy(hold.account, leg->name, leg->name_length);
	return replay_put_hold(replay->region, &hold) ? NULL : replay_holds_full;
}

static bool is_same_hold(const struct hold_slot *slot, const struct record_settled *body,
                         const struct record_leg *leg)
{
	return slot->amount == body->amount && slot->expires_us == body->expires_us &&
	       slot->account_length == leg->name_length &&
	       memcmp(slot->account, leg->name, leg->name_length) == 0;
}

static enum hold_state state_after(const struct record_head *record)
{
	return record->type == RECORD_CAPTURE   ? HOLD_CAPTURED
	       : record->type == RECORD_RELEASE ? HOLD_RELEASED
	                                        : HOLD_EXPIRED;
}

static const char *settle_hold(const struct replay *replay)
{
	const struct record_settled *body = replay->body;
	const struct record_leg *from = record_next_leg(replay->record, NULL);
	const struct record_leg *to = record_next_leg(replay->record, from);
	struct key key = key_of(replay->region, body->hold, body->hold_length);

	if (covered(replay, COVERAGE_HOLDS, key.high))
		return NULL;
	struct hold_slot *slot = holds_find(replay->region, &key);
	if (slot == NULL || slot->state != HOLD_OPEN)
		return "it settles a hold that is not open";
	if (!is_same_hold(slot, body, from))
		return "it settles a hold otherwise than it was placed";
	struct hold_slot after = *slot;
	after.state = (uint8_t)state_after(replay->record);
	after.captured = body->captured;
	after.settled_us = replay->record->time_us;
	after.to_hash = to == NULL ? 0 : hash_bytes(replay->region, to->name, to->name_length);
	after.lsn = replay->record->lsn;
	put_hold(replay->region, slot, &after, &key);
	return NULL;
}

static const char *apply_hold(const struct replay *replay)
{
	switch (replay->record->type) {
	case RECORD_HOLD:
		return place_hold(replay);
	case RECORD_CAPTURE:
	case RECORD_RELEASE:
	case RECORD_EXPIRE:
		return settle_hold(replay);
	default:
		return NULL;
	}
}

/* ---- ids */

void replay_lose_id(struct region *region, uint64_t time_us)
{
	struct region_marks *marks = region_marks(region);

	if (time_us > atomic_load(&marks->ids_lost_us))
		atomic_store(&marks->ids_lost_us, time_us);
}

bool replay_put_id(struct region *region, const struct key *key, uint64_t lsn, uint64_t time_us)
{
	struct id_slot *slot = ids_find(region, key);
	bool known = slot != NULL;

	if (!known)
		slot = ids_vacancy(region, key);
	const struct id_slot was = *slot;
	if (was.lsn < lsn)
		ids_put(region, slot, key, lsn, time_us);
	if (known || was.lsn == 0)
		return true;
	replay_lose_id(region, was.lsn < lsn ? was.time_us : time_us);
	return false;
}

static void apply_id(const struct replay *replay)
{
	struct words id = record_id(replay->record);

	if ((replay->record->flags & RECORD_REMEMBERED) == 0)
		return;
	struct key key = key_of(replay->region, id.bytes, id.length);
	if (!covered(replay, COVERAGE_IDS, key.high))
		replay_put_id(replay->region, &key, replay->record->lsn, replay->record->time_us);
}

const char *replay_apply(struct region *region, const struct record_head *record,
                         const struct coverage *coverage)
{
	struct replay replay = {.region = region, .record = record, .coverage = coverage};
	const struct record_leg *leg = NULL;
	const char *why = NULL;

	apply_id(&replay);
	if (!record_has_effect(record))
		return NULL;
	replay.body = record_body(record);
	for (unsigned i = 0; why == NULL && (leg = record_next_leg(record, leg)) != NULL; i++)
		why = apply_leg(&replay, leg, i);
	return why != NULL ? why : apply_hold(&replay);
}

void replay_prefetch(const struct region *region, const struct record_head *record)
{
	const struct record_leg *leg = NULL;

	while ((leg = record_next_leg(record, leg)) != NULL)
		table_prefetch(region, hash_bytes(region, leg->name, leg->name_length));
	if ((record->flags & RECORD_REMEMBERED) != 0) {
		struct words id = record_id(record);
		struct key key = key_of(region, id.bytes, id.length);
		ids_prefetch(region, &key);
	}
}
