#include "table.h"

#include <string.h>

#include "layout.h"

uint32_t table_stripe(const struct region *region, uint64_t hash)
{
	return layout_scale(hash >> 32, region->header->shape.stripes);
}

uint32_t table_stripe_slots(const struct region *region)
{
	return region->header->shape.slots_per_stripe;
}

struct account_slot *table_slot(const struct region *region, uint32_t stripe, uint32_t index)
{
	return &region->slots[(uint64_t)stripe * region->header->shape.slots_per_stripe + index];
}

uint32_t table_index(const struct region *region, uint32_t stripe, const struct account_slot *slot)
{
	return (uint32_t)(slot - table_slot(region, stripe, 0));
}

/* The slot with the rest of SLOT's name, or NULL: it has none. */
static const struct account_slot *rest_of(const struct region *region, uint32_t stripe,
                                          const struct account_slot *slot)
{
	if (slot->rest == 0 || slot->rest > region->header->shape.slots_per_stripe)
		return NULL;
	return table_slot(region, stripe, (uint32_t)slot->rest - 1);
}

static bool is_long(const struct region *region, uint32_t stripe, const struct account_slot *slot,
                    const char *name, uint32_t length)
{
	const struct account_slot *rest = rest_of(region, stripe, slot);

	return rest != NULL && memcmp(slot->name, name, TABLE_NAME_INLINE) == 0 &&
	       memcmp(rest->name, name + TABLE_NAME_INLINE, length - TABLE_NAME_INLINE) == 0;
}

static bool is(const struct region *region, uint32_t stripe, const struct account_slot *slot,
               uint64_t hash, const char *name, uint32_t length)
{
	if (slot->hash != hash || slot->name_length != length)
		return false;
	if (length > TABLE_NAME_INLINE)
		return is_long(region, stripe, slot, name, length);
	return memcmp(slot->name, name, length) == 0;
}

void table_prefetch(const struct region *region, uint64_t hash)
{
	uint32_t at = layout_scale(hash & UINT32_MAX, region->header->shape.slots_per_stripe);
	const struct account_slot *slot = table_slot(region, table_stripe(region, hash), at);

	__builtin_prefetch(slot, 1);
	__builtin_prefetch((const char *)slot + CACHE_LINE, 1);
}

/* How many slots a probe for what is in SLOT, at index AT, passes before it. */
static uint32_t distance(const struct account_slot *slot, uint32_t at, uint32_t slots)
{
	uint32_t home = layout_scale(slot->hash & UINT32_MAX, slots);

	return at >= home ? at - home : at + slots - home;
}

/*
 * Makes vacant what is freed and on no account's probe, among the COUNT slots that end before index
 * END, walking back from there.  NEEDED slots before END are on the probe of an account at END or
 * beyond.  Returns how many before the last one looked at are.
 *
 * This is done outside of an operation, which is right at whatever instruction its process dies:
 * each step is one byte, and leaves a table in which every account is found, whatever
 * other steps are made.  It changes no LSN, by which alone a repair tells whether a slot has got
 * its image; and images that have a share in this stripe were all copied before its lock could be
 * had, but for those this process has staged itself.  Those do no harm: what is staged to become
 * an account has on its probe only accounts, and slots that are staged to become one with it; what
 * is staged to be freed becomes TABLE_FREED.
 */
static uint32_t heal(const struct region *region, uint32_t stripe, uint32_t end, uint32_t count,
                     uint32_t needed)
{
	const uint32_t slots = region->header->shape.slots_per_stripe;
	uint32_t at = end;

	while (count-- > 0) {
		at = at == 0 ? slots - 1 : at - 1;
		struct account_slot *slot = table_slot(region, stripe, at);
		if (slot->name_length == TABLE_FREED && needed == 0)
			__atomic_store_n(&slot->name_length, 0, __ATOMIC_RELAXED);
		if (needed > 0)
			needed--;
		if (table_is_account(slot) && distance(slot, at, slots) > needed)
			needed = distance(slot, at, slots);
	}
	return needed;
}

/* A probe has passed WALKED slots, and ended in vain before the one at index END. */
static void heal_walked(const struct region *region, uint32_t stripe, uint32_t end, uint32_t walked)
{
	const uint32_t slots = region->header->shape.slots_per_stripe;
	uint32_t needed = 0; /* of a vacant slot, nothing beyond it needs what is before it */

	if (walked == slots) /* no slot is vacant: the first round only tells what is needed */
		for (uint32_t at = 0; at < slots; at++) {
			const struct account_slot *slot = table_slot(region, stripe, at);
			uint32_t after = (at + slots - end) % slots;
			if (!table_is_account(slot))
				continue;
			uint32_t passed = distance(slot, at, slots);
			if (passed > after && passed - after > needed)
				needed = passed - after;
		}
	heal(region, stripe, end, walked, needed);
}

struct account_slot *table_find(const struct region *region, uint32_t stripe, uint64_t hash,
                                const char *name, uint32_t length)
{
	const uint32_t slots = region->header->shape.slots_per_stripe;
	struct account_slot *first = table_slot(region, stripe, 0);
	struct account_slot *slot = first + layout_scale(hash & UINT32_MAX, slots);
	uint32_t freed = 0, probe;

	for (probe = 0; probe < slots && slot->name_length != 0; probe++) {
		if (is(region, stripe, slot, hash, name, length))
			return slot;
		freed += slot->name_length == TABLE_FREED;
		if (++slot == first + slots)
			slot = first;
	}
	if (freed >= TABLE_HEAL)
		heal_walked(region, stripe, table_index(region, stripe, slot), probe);
	return NULL;
}

struct account_slot *table_vacancy(const struct region *region, uint32_t stripe, uint64_t hash)
{
	const uint32_t slots = region->header->shape.slots_per_stripe;
	struct account_slot *first = table_slot(region, stripe, 0);
	struct account_slot *slot = first + layout_scale(hash & UINT32_MAX, slots);

	for (uint32_t probe = 0; probe < slots; probe++) {
		if (table_is_free(slot) && operation_staged(region, slot, NULL) == NULL)
			return slot;
		if (++slot == first + slots)
			slot = first;
	}
	return NULL;
}

uint32_t table_name(const struct region *region, uint32_t stripe, const struct account_slot *slot,
                    char *name)
{
	uint32_t length = slot->name_length <= TABLE_NAME_MAX ? slot->name_length : 0;
	const struct account_slot *rest;

	if (length <= TABLE_NAME_INLINE) {
		memcpy(name, slot->name, length);
		return length;
	}
	rest = rest_of(region, stripe, slot);
	if (rest == NULL)
		return 0;
	memcpy(name, slot->name, TABLE_NAME_INLINE);
	memcpy(name + TABLE_NAME_INLINE, rest->name, length - TABLE_NAME_INLINE);
	return length;
}
