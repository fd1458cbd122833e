#include "clients.h"

#include "layout.h"

/*
 * An entry is one word, so that it is read whole: a tag of 44 bits over a count of 20.  Two clients
 * whose tags and places are the same would be counted as one; with a secret seed nobody can look
 * for such a pair, and by chance it is less likely than a broken machine.
 *
 * Open addressing.  From the place where a client belongs to the place where it is, no entry is
 * zero.  An entry without connections keeps its tag, and so its place on the way to others, until
 * it is taken by another client or is the last of its row.
 */
#define COUNT_BITS 20
#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)
#define TAG_ONE    (UINT64_C(1) << COUNT_BITS)

_Static_assert(CLIENTS_COUNT_MAX <= COUNT_MASK, "a count fits its bits");

/* A bijection that leaves no trace of the order of its arguments (splitmix64's). */
static uint64_t mix(uint64_t value)
{
	value = (value ^ (value >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	value = (value ^ (value >> 27)) * UINT64_C(0x94d049bb133111eb);
	return value ^ (value >> 31);
}

static uint64_t hash_of(const struct region *region, uint64_t client)
{
	uint64_t seed = region->header->geometry.hash_seed;

	return mix(mix(client ^ seed) + seed);
}

/* Never 0: that is an entry that nobody has had. */
static uint64_t tag_of(uint64_t hash)
{
	uint64_t tag = hash & ~COUNT_MASK;

	return tag ? tag : TAG_ONE;
}

static _Atomic uint64_t *table_of(const struct region *region, uint32_t slot)
{
	return region->clients + (uint64_t)slot * region->header->shape.client_entries;
}

/*
 * The entry of HASH in TABLE, or NULL: then *SPARE is one that it may take, NULL if there is none
 * (SPARE may be NULL).
 */
static _Atomic uint64_t *find(const struct region *region, _Atomic uint64_t *table, uint64_t hash,
                              _Atomic uint64_t **spare)
{
	uint32_t entries = region->header->shape.client_entries;
	uint32_t at = layout_scale(hash & UINT32_MAX, entries);
	_Atomic uint64_t *unused = NULL, *found = NULL;

	for (uint32_t i = 0; i < entries && !found; i++) {
		uint64_t entry = atomic_load(&table[at]);
		if (entry != 0 && (entry & ~COUNT_MASK) == tag_of(hash))
			found = &table[at];
		else if ((entry & COUNT_MASK) == 0 && !unused)
			unused = &table[at];
		if (entry == 0)
			break;
		at = at + 1 < entries ? at + 1 : 0;
	}
	if (spare)
		*spare = unused;
	return found;
}

static uint64_t sum(const struct region *region, uint64_t hash)
{
	uint32_t slots = atomic_load(&region->header->settings.processes);
	uint64_t count = 0;

	for (uint32_t i = 0; i < slots; i++) {
		const _Atomic uint64_t *entry = find(region, table_of(region, i), hash, NULL);
		uint64_t value = entry ? atomic_load(entry) : 0;
		/* It may have become another's since it was found. */
		if ((value & ~COUNT_MASK) == tag_of(hash))
			count += value & COUNT_MASK;
	}
	return count;
}

/* Adds CHANGE to how many clients this process counts. */
static void know(struct region *region, uint32_t change)
{
	_Atomic uint32_t *known = &region->processes[region->slot].clients_known;

	atomic_store(known, atomic_load(known) + change);
}

/* Adds the connection to this process's own table; false if there is no place. */
static enum clients_verdict add(struct region *region, uint64_t hash)
{
	_Atomic uint64_t *spare;
	_Atomic uint64_t *entry = find(region, table_of(region, region->slot), hash, &spare);
	uint64_t count = entry ? atomic_load(entry) & COUNT_MASK : 0;

	if (count == CLIENTS_COUNT_MAX)
		return CLIENTS_MANY;
	if (count == 0) {
		if (clients_known(region) >= region->header->geometry.max_addresses ||
		    (!entry && !spare))
			return CLIENTS_FULL;
		know(region, 1);
	}
	atomic_store(entry ? entry : spare, tag_of(hash) | (count + 1));
	return CLIENTS_ADMITTED;
}

/* Entries without connections that end a row are nobody's again; ENTRY was one of a client. */
static void tidy(const struct region *region, _Atomic uint64_t *entry)
{
	_Atomic uint64_t *table = table_of(region, region->slot);
	uint32_t entries = region->header->shape.client_entries;
	uint32_t at = (uint32_t)(entry - table);
	uint64_t next = atomic_load(&table[at + 1 < entries ? at + 1 : 0]);

	while (next == 0) {
		uint64_t here = atomic_load(&table[at]);
		if (here == 0 || (here & COUNT_MASK) != 0)
			return;
		atomic_store(&table[at], 0);
		at = at > 0 ? at - 1 : entries - 1;
	}
}

static void take_back(struct region *region, uint64_t hash)
{
	_Atomic uint64_t *entry = find(region, table_of(region, region->slot), hash, NULL);
	uint64_t value = entry ? atomic_load(entry) : 0;

	if ((value & COUNT_MASK) == 0)
		return;
	atomic_store(entry, value - 1);
	if ((value & COUNT_MASK) > 1)
		return;
	know(region, UINT32_MAX);
	tidy(region, entry);
}

enum clients_verdict clients_enter(struct region *region, uint64_t client, uint32_t most)
{
	uint64_t hash = hash_of(region, client);
	enum clients_verdict verdict = add(region, hash);

	if (verdict != CLIENTS_ADMITTED || most == 0 || sum(region, hash) <= most)
		return verdict;
	take_back(region, hash);
	return CLIENTS_MANY;
}

void clients_leave(struct region *region, uint64_t client)
{
	take_back(region, hash_of(region, client));
}

uint64_t clients_count(const struct region *region, uint64_t client)
{
	return sum(region, hash_of(region, client));
}

uint32_t clients_known(const struct region *region)
{
	return atomic_load(&region->processes[region->slot].clients_known);
}

void clients_bury(struct region *region, uint32_t slot)
{
	_Atomic uint64_t *table = table_of(region, slot);

	for (uint32_t i = 0; i < region->header->shape.client_entries; i++)
		atomic_store_explicit(&table[i], 0, memory_order_relaxed);
	atomic_store(&region->processes[slot].clients_known, 0);
}
