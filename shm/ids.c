#include "ids.h"

#include <stdbool.h>
#include <stddef.h>

#include "layout.h"

#define TAGS_A_WORD (sizeof(uint64_t) / sizeof(uint16_t))
#define EACH_TAG    UINT64_C(0x0001000100010001)

_Static_assert(IDS_BUCKET % TAGS_A_WORD == 0, "tags are looked at by words");

static struct id_bucket *bucket_of(const struct region *region, const struct key *key)
{
	return &region->ids[layout_scale(key->high >> 32, region->header->shape.id_buckets)];
}

static uint32_t lock_of(const struct region *region, uint64_t bucket)
{
	const struct shape *shape = &region->header->shape;

	return shape->stripes + (uint32_t)(bucket >> shape->id_shift);
}

static uint16_t tag_of(const struct key *key)
{
	return (uint16_t)(key->low >> 48) | 1;
}

uint32_t ids_lock(const struct region *region, const struct key *key)
{
	return lock_of(region, (uint64_t)(bucket_of(region, key) - region->ids));
}

void ids_prefetch(const struct region *region, const struct key *key)
{
	const struct id_bucket *bucket = bucket_of(region, key);

	/* The tags, and the places, by which a full bucket finds the oldest. */
	for (size_t at = 0; at < offsetof(struct id_bucket, slot); at += CACHE_LINE)
		__builtin_prefetch((const char *)bucket + at, 1);
}

/*
 * Four tags at once: the top bit of each that equals the one in all four quarters of WANTED; above
 * an equal one, a bit may also be set for its neighbour.
 */
static uint64_t equal_tags(const uint16_t *tag, uint64_t wanted)
{
	uint64_t word;

	__builtin_memcpy(&word, tag, sizeof word);
	word ^= wanted;
	return (word - EACH_TAG) & ~word & (EACH_TAG << 15);
}

struct id_slot *ids_find(const struct region *region, const struct key *key)
{
	struct id_bucket *bucket = bucket_of(region, key);
	uint64_t wanted = EACH_TAG * tag_of(key);

	for (uint32_t at = 0; at < IDS_BUCKET; at += TAGS_A_WORD) {
		uint64_t equal = equal_tags(&bucket->tag[at], wanted);
		for (; equal != 0; equal &= equal - 1) {
			struct id_slot *slot =
			    &bucket->slot[at + (uint32_t)__builtin_ctzll(equal) / 16];
			if (slot->lsn != 0 && slot->key.low == key->low &&
			    slot->key.high == key->high)
				return slot;
		}
	}
	return NULL;
}

static bool is_staged(const struct region *region, const struct id_slot *slot)
{
	return operation_staged(region, slot, NULL) != NULL;
}

static struct id_slot *find_free(const struct region *region, struct id_bucket *bucket)
{
	for (uint32_t at = 0; at < IDS_BUCKET; at += TAGS_A_WORD) {
		if (equal_tags(&bucket->tag[at], 0) == 0)
			continue;
		for (uint32_t i = at; i < at + TAGS_A_WORD; i++)
			if (bucket->tag[i] == 0 && !is_staged(region, &bucket->slot[i]))
				return &bucket->slot[i];
	}
	return NULL;
}

/* How new it is, and its index in the low bits. */
static uint64_t ranked(const struct id_bucket *bucket, uint32_t horizon, uint32_t at)
{
	return (uint64_t)(bucket->place[at] - horizon) << 32 | at;
}

static uint64_t lesser(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The index of the oldest.  Four at once that do not wait for each other, and nothing to guess. */
static uint32_t find_least(const struct id_bucket *bucket, uint32_t horizon)
{
	uint64_t a = UINT64_MAX, b = a, c = a, d = a;

	for (uint32_t at = 0; at < IDS_BUCKET; at += 4) {
		a = lesser(a, ranked(bucket, horizon, at));
		b = lesser(b, ranked(bucket, horizon, at + 1));
		c = lesser(c, ranked(bucket, horizon, at + 2));
		d = lesser(d, ranked(bucket, horizon, at + 3));
	}
	return (uint32_t)lesser(lesser(a, b), lesser(c, d));
}

static struct id_slot *find_oldest(const struct region *region, struct id_bucket *bucket)
{
	uint32_t horizon = layout_horizon(region);
	struct id_slot *oldest = &bucket->slot[find_least(bucket, horizon)];
	uint64_t least = UINT64_MAX;

	if (!is_staged(region, oldest))
		return oldest;
	oldest = NULL;
	for (uint32_t at = 0; at < IDS_BUCKET; at++) {
		uint64_t rank = ranked(bucket, horizon, at);
		if (rank >= least || is_staged(region, &bucket->slot[at]))
			continue;
		least = rank;
		oldest = &bucket->slot[at];
	}
	return oldest;
}

struct id_slot *ids_vacancy(const struct region *region, const struct key *key)
{
	struct id_bucket *bucket = bucket_of(region, key);
	struct id_slot *slot = find_free(region, bucket);

	return slot != NULL ? slot : find_oldest(region, bucket);
}

void ids_retag(struct region *region, const struct id_slot *slot, uint64_t lsn)
{
	uint64_t offset = (uint64_t)((const char *)slot - (const char *)region->ids);
	struct id_bucket *bucket = &region->ids[offset / sizeof *bucket];
	size_t at = (size_t)(slot - bucket->slot);

	bucket->place[at] = layout_place(lsn);
	bucket->tag[at] = tag_of(&slot->key);
}

void ids_put(struct region *region, struct id_slot *slot, const struct key *key, uint64_t lsn,
             uint64_t time_us)
{
	*slot = (struct id_slot){.lsn = lsn, .key = *key, .time_us = time_us};
	ids_retag(region, slot, lsn);
	if (lsn > region->put_until)
		region->put_until = lsn;
}

uint64_t ids_slots(const struct region *region)
{
	return (uint64_t)region->header->shape.id_buckets * IDS_BUCKET;
}

struct id_slot *ids_slot(const struct region *region, uint64_t index)
{
	return &region->ids[index / IDS_BUCKET].slot[index % IDS_BUCKET];
}

/* By the tags: they follow the slots, and lie close together. */
uint64_t ids_count(const struct region *region)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < region->header->shape.id_buckets; i++)
		for (uint32_t at = 0; at < IDS_BUCKET; at++)
			count += region->ids[i].tag[at] != 0;
	return count;
}

uint32_t ids_slot_lock(const struct region *region, uint64_t index)
{
	return lock_of(region, index / IDS_BUCKET);
}
