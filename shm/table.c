#include "table.h"

#include <string.h>

#include "layout.h"

/* Maps the upper and the lower half of a hash to ranges, without a division. */
static uint32_t scale(uint64_t half, uint32_t range)
{
	return (uint32_t)((half * range) >> 32);
}

uint32_t table_stripe(const struct region *region, uint64_t hash)
{
	return scale(hash >> 32, region->header->stripes);
}

uint32_t table_stripe_slots(const struct region *region)
{
	return region->header->slots_per_stripe;
}

struct account_slot *table_slot(const struct region *region, uint32_t stripe, uint32_t index)
{
	return &region->slots[(uint64_t)stripe * region->header->slots_per_stripe + index];
}

static bool is(const struct account_slot *slot, uint64_t hash, const char *name, uint32_t length)
{
	return slot->hash == hash && slot->name_length == length &&
	       memcmp(slot->name, name, length) == 0;
}

void table_prefetch(const struct region *region, uint64_t hash)
{
	uint32_t at = scale(hash & UINT32_MAX, region->header->slots_per_stripe);
	const struct account_slot *slot = table_slot(region, table_stripe(region, hash), at);

	/* A slot is three lines; the third holds only the ends of long names. */
	__builtin_prefetch(slot, 1);
	__builtin_prefetch((const char *)slot + CACHE_LINE, 1);
}

struct account_slot *table_find(const struct region *region, uint32_t stripe, uint64_t hash,
                                const char *name, uint32_t length, struct account_slot **free)
{
	uint32_t slots = region->header->slots_per_stripe;
	uint32_t at = scale(hash & UINT32_MAX, slots);
	struct account_slot *vacancy = NULL;

	for (uint32_t probe = 0; probe < slots; probe++) {
		struct account_slot *slot = table_slot(region, stripe, at);
		if (is(slot, hash, name, length))
			return slot;
		if (slot->name_length == 0 && vacancy == NULL)
			vacancy = slot;
		if (slot->lsn == 0) /* never used: no name was ever put beyond it */
			break;
		at = at + 1 == slots ? 0 : at + 1;
	}
	if (free != NULL)
		*free = vacancy;
	return NULL;
}
