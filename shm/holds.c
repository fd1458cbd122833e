#include "holds.h"

#include "layout.h"

#define BLOCK 64 /* hints that are looked at together */

_Static_assert(HOLDS_BUCKET % BLOCK == 0, "buckets are whole blocks of hints");

static uint32_t bucket_of(const struct region *region, const struct key *key)
{
	return layout_scale(key->high >> 32, region->header->shape.hold_buckets);
}

static uint32_t lock_of(const struct region *region, uint64_t bucket)
{
	const struct shape *shape = &region->header->shape;

	return shape->stripes + shape->id_locks + (uint32_t)bucket;
}

static uint32_t id_tag(const struct key *key)
{
	return (uint32_t)(key->low >> 32) | 1;
}

static uint32_t owner_tag(uint64_t account_hash)
{
	return (uint32_t)(account_hash >> 32) | 1;
}

/* Ticks from the beginning of the hints' time to TIME_US, rounded up; 1 for all that was before. */
static uint32_t ticks(const struct region *region, uint64_t time_us)
{
	uint64_t base = region->header->base_us;
	uint64_t since = time_us > base ? (time_us - base - 1) / HINT_TICK_US + 2 : 1;

	return since < UINT32_MAX ? (uint32_t)since : UINT32_MAX;
}

/* The hint of what was settled at PLACE: never 0, and of the place one bit less. */
static uint32_t settled_at(uint32_t place)
{
	return place << 1 | 1;
}

static void set(struct region *region, enum hint hint, uint64_t index, uint32_t value)
{
	atomic_store_explicit(&region->hint[hint][index], value, memory_order_relaxed);
}

static uint32_t get(const struct region *region, enum hint hint, uint64_t index)
{
	return atomic_load_explicit(&region->hint[hint][index], memory_order_relaxed);
}

/*
 * The hints as the scanning loops see them.  No compiler makes vectors of atomic loads; these are
 * plain ones.  A hint is an aligned word, whole in any vector, and an old one does no harm: it is
 * as if we had come a moment earlier.
 */
static const uint32_t *scan(const struct region *region, enum hint hint)
{
	atomic_signal_fence(memory_order_seq_cst);
	return (const uint32_t *)(const void *)region->hint[hint];
}

/* Is one of the BLOCK hints WANTED? */
static bool any_equal(const uint32_t *hint, uint32_t wanted)
{
	uint32_t any = 0;

	for (unsigned i = 0; i < BLOCK; i++)
		any |= hint[i] == wanted ? UINT32_MAX : 0;
	return any != 0;
}

/* Is one of them at most LIMIT, and not 0? */
static bool any_until(const uint32_t *hint, uint32_t limit)
{
	uint32_t any = 0;

	for (unsigned i = 0; i < BLOCK; i++)
		any |= hint[i] - 1 < limit ? UINT32_MAX : 0;
	return any != 0;
}

/* The first index from AT on, below END, whose hint is WANTED; END: none. */
static uint64_t next_equal(const uint32_t *hint, uint64_t at, uint64_t end, uint32_t wanted)
{
	for (; at < end; at++) {
		while (at % BLOCK == 0 && at < end && !any_equal(hint + at, wanted))
			at += BLOCK;
		if (at < end && hint[at] == wanted)
			return at;
	}
	return end;
}

static uint64_t next_until(const uint32_t *hint, uint64_t at, uint64_t end, uint32_t limit)
{
	for (; at < end; at++) {
		while (at % BLOCK == 0 && at < end && !any_until(hint + at, limit))
			at += BLOCK;
		if (at < end && hint[at] - 1 < limit)
			return at;
	}
	return end;
}

uint32_t holds_lock(const struct region *region, const struct key *key)
{
	return lock_of(region, bucket_of(region, key));
}

struct hold_slot *holds_find(const struct region *region, const struct key *key)
{
	const uint32_t *tag = scan(region, HINT_ID);
	uint64_t at = (uint64_t)bucket_of(region, key) * HOLDS_BUCKET;
	uint64_t end = at + HOLDS_BUCKET;

	for (; (at = next_equal(tag, at, end, id_tag(key))) < end; at++) {
		struct hold_slot *slot = &region->holds[at];
		if (slot->lsn != 0 && slot->key.low == key->low && slot->key.high == key->high)
			return slot;
	}
	return NULL;
}

static bool vacant(const struct region *region, const struct hold_slot *slot)
{
	return slot->state != HOLD_SLOT_OPEN && operation_staged(region, slot, NULL) == NULL;
}

static struct hold_slot *find_unused(const struct region *region, uint64_t at, uint64_t end)
{
	const uint32_t *tag = scan(region, HINT_ID);

	for (; (at = next_equal(tag, at, end, 0)) < end; at++)
		if (vacant(region, &region->holds[at]))
			return &region->holds[at];
	return NULL;
}

static struct hold_slot *find_settled(const struct region *region, uint64_t at, uint64_t end)
{
	uint32_t horizon = settled_at(layout_horizon(region));
	struct hold_slot *first = NULL;
	uint32_t least = UINT32_MAX;

	for (; at < end; at++) {
		struct hold_slot *slot = &region->holds[at];
		uint32_t hint = get(region, HINT_SETTLED, at);
		uint32_t rank = hint - horizon;
		if (hint == 0 || rank > least || !vacant(region, slot) ||
		    (rank == least && first != NULL && slot->lsn > first->lsn))
			continue;
		least = rank;
		first = slot;
	}
	return first;
}

struct hold_slot *holds_vacancy(const struct region *region, const struct key *key)
{
	uint64_t at = (uint64_t)bucket_of(region, key) * HOLDS_BUCKET;
	uint64_t end = at + HOLDS_BUCKET;
	struct hold_slot *slot = find_unused(region, at, end);

	return slot != NULL ? slot : find_settled(region, at, end);
}

static uint64_t index_of(const struct region *region, const struct hold_slot *slot)
{
	return (uint64_t)(slot - region->holds);
}

void holds_retag(struct region *region, const struct hold_slot *slot, uint64_t lsn)
{
	uint64_t index = index_of(region, slot);
	bool open = slot->state == HOLD_SLOT_OPEN;

	set(region, HINT_SETTLED, index, open ? 0 : settled_at(layout_place(lsn)));
	set(region, HINT_ID, index, id_tag(&slot->key));
}

void holds_hint(struct region *region, const struct hold_slot *slot, uint64_t account_hash,
                uint64_t expires_us)
{
	uint64_t index = index_of(region, slot);

	set(region, HINT_OWNER, index, owner_tag(account_hash));
	set(region, HINT_EXPIRES, index, ticks(region, expires_us));
}

void holds_unhint(struct region *region, const struct hold_slot *slot)
{
	uint64_t index = index_of(region, slot);

	/* Whose a settled hold was is not asked for. */
	set(region, HINT_OWNER, index, 0);
	set(region, HINT_EXPIRES, index, 0);
}

void holds_put(struct region *region, struct hold_slot *slot, const struct hold_slot *hold,
               uint64_t account_hash)
{
	*slot = *hold;
	holds_hint(region, slot, account_hash, hold->expires_us);
	holds_retag(region, slot, hold->lsn);
	if (hold->lsn > region->put_until)
		region->put_until = hold->lsn;
	if (hold->state != HOLD_SLOT_OPEN)
		holds_forget_time(region, slot);
}

bool holds_next_of(const struct region *region, uint64_t account_hash, uint64_t *at,
                   struct hold_slot **slot)
{
	uint64_t end = region->header->shape.hold_slots;
	uint64_t found = next_equal(scan(region, HINT_OWNER), *at, end, owner_tag(account_hash));

	*at = found < end ? found + 1 : end;
	*slot = found < end ? &region->holds[found] : NULL;
	return found < end;
}

bool holds_next_over(const struct region *region, uint64_t now_us, uint64_t *at,
                     struct hold_slot **slot)
{
	uint64_t end = region->header->shape.hold_slots;
	uint64_t base = region->header->base_us;
	uint64_t passed = now_us > base ? (now_us - base) / HINT_TICK_US + 1 : 1;
	uint32_t limit = passed < UINT32_MAX ? (uint32_t)passed : UINT32_MAX;
	uint64_t found = next_until(scan(region, HINT_EXPIRES), *at, end, limit);

	*at = found < end ? found + 1 : end;
	*slot = found < end ? &region->holds[found] : NULL;
	return found < end;
}

void holds_forget_time(struct region *region, const struct hold_slot *slot)
{
	set(region, HINT_EXPIRES, index_of(region, slot), 0);
}

uint64_t holds_slots(const struct region *region)
{
	return region->header->shape.hold_slots;
}

struct hold_slot *holds_slot(const struct region *region, uint64_t index)
{
	return &region->holds[index];
}

uint32_t holds_slot_lock(const struct region *region, const struct hold_slot *slot)
{
	return lock_of(region, (uint64_t)(slot - region->holds) / HOLDS_BUCKET);
}

/* Where there is no id's hint there never was a hold. */
uint64_t holds_count(const struct region *region)
{
	uint64_t slots = region->header->shape.hold_slots;
	uint64_t count = 0;

	for (uint64_t i = 0; i < slots; i++)
		count += get(region, HINT_ID, i) != 0 && region->holds[i].state == HOLD_SLOT_OPEN;
	return count;
}
