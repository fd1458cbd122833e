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

struct account_slot *table_find(const struct region *region, uint32_t stripe, uint64_t hash,
                                const char *name, uint32_t length)
{
	const uint32_t slots = region->header->shape.slots_per_stripe;
	struct account_slot *first = table_slot(region, stripe, 0);
	struct account_slot *slot = first + layout_scale(hash & UINT32_MAX, slots);

	for (uint32_t probe = 0; probe < slots; probe++) {
		if (is(region, stripe, slot, hash, name, length))
			return slot;
		if (slot->lsn == 0) /* never used: no name was ever put beyond it */
			return NULL;
		if (++slot == first + slots)
			slot = first;
	}
	return NULL;
}

struct account_slot *table_vacancy(const struct region *region, uint32_t stripe, uint64_t hash)
{
	const uint32_t slots = region->header->shape.slots_per_stripe;
	struct account_slot *first = table_slot(region, stripe, 0);
	struct account_slot *slot = first + layout_scale(hash & UINT32_MAX, slots);

	for (uint32_t probe = 0; probe < slots; probe++) {
		if (slot->name_length == 0 && operation_staged(region, slot, NULL) == NULL)
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
