#include "operation.h"

#include <string.h>

#include "layout.h"
#include "lock.h"
#include "repair.h"

static struct operation_area *own_area(const struct region *region)
{
	return &region->processes[region->slot].area;
}

/* With every stripe held that the area names.  From here on it may be written anew. */
static void clear(struct operation_area *area)
{
	atomic_store_explicit(&area->commit, 0, memory_order_release);
	/* What the next operation writes must not be seen beside this one's commit (repair.c). */
	atomic_thread_fence(memory_order_release);
}

/* Takes all of the COUNT locks, which ascend, or none.  Taking one repairs it. */
static bool acquire_all(struct region *region, const uint32_t *lock, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (lock_acquire(region, lock[i]))
			continue;
		while (i-- > 0)
			lock_release(region, lock[i]);
		return false;
	}
	return true;
}

static void release_all(struct region *region, const uint32_t *lock, uint32_t count)
{
	while (count-- > 0)
		lock_release(region, lock[count]);
}

/*
 * Only with all of its stripes held at once does an area stop counting, as with a live owner:
 * else one who repairs a stripe for a later death could be reading it while it is written anew.
 */
bool operation_adopt(struct region *region)
{
	struct operation_area *area = own_area(region);

	if (atomic_load_explicit(&area->commit, memory_order_acquire) != 0) {
		if (!acquire_all(region, area->lock, area->locks))
			return false;
		bool ring = lock_acquire(region, region->ring_lock);
		if (ring) {
			lock_release(region, region->ring_lock);
			clear(area);
		}
		release_all(region, area->lock, area->locks);
		if (!ring)
			return false;
	}
	area->locks = 0;
	area->images = 0;
	return true;
}

/* Sorts in place and drops repeats; at most OPERATION_LOCKS_MAX, so insertion will do. */
static uint32_t sort_unique(uint32_t *lock, uint32_t count)
{
	uint32_t unique = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t value = lock[i];
		uint32_t at = unique;
		while (at > 0 && lock[at - 1] > value)
			at--;
		if (at > 0 && lock[at - 1] == value)
			continue;
		memmove(&lock[at + 1], &lock[at], (unique - at) * sizeof *lock);
		lock[at] = value;
		unique++;
	}
	return unique;
}

bool operation_lock(struct region *region, const uint32_t *stripes, uint32_t count)
{
	struct operation_area *area = own_area(region);

	if (count != 0)
		memcpy(area->lock, stripes, count * sizeof *stripes);
	area->locks = sort_unique(area->lock, count);
	area->images = 0;
	if (acquire_all(region, area->lock, area->locks))
		return true;
	area->locks = 0;
	return false;
}

void *operation_stage(struct region *region, void *cell, uint32_t stripe, size_t length)
{
	struct operation_area *area = own_area(region);
	struct image *image = &area->image[area->images];

	image->cell = (uint64_t)((unsigned char *)cell - region->base);
	image->lock = stripe;
	image->length = (uint32_t)length;
	memcpy(image->bytes, cell, length);
	area->images++;
	return image->bytes;
}

/* Writes the record to its place and says in the area what the commit will mean. */
static void prepare(struct region *region, struct operation_area *area, uint64_t lsn, void *record,
                    size_t length, uint32_t events)
{
	struct region_marks *marks = &region->header->marks;
	uint64_t durable = atomic_load_explicit(&marks->durable, memory_order_relaxed);

	region->codec.stamp(record, length, lsn, durable, region);
	ring_write(region, lsn, record, length, durable);
	area->new_tail = lsn + length;
	area->new_events = atomic_load_explicit(&marks->events, memory_order_relaxed) + events;
}

static void apply_all(struct region *region, const struct operation_area *area, uint64_t lsn)
{
	for (uint32_t i = 0; i < area->locks; i++)
		repair_apply(region, area, area->lock[i], lsn);
}

enum ring_status operation_commit(struct region *region, void *record, size_t length,
                                  uint32_t events, enum ring_priority priority, uint64_t *lsn)
{
	struct operation_area *area = own_area(region);
	struct region_marks *marks = &region->header->marks;

	area->check = repair_check(area);
	if (!lock_acquire(region, region->ring_lock))
		return RING_POISONED;
	enum ring_status status = ring_place(region, length, priority, lsn);
	if (status != RING_OK) {
		lock_release(region, region->ring_lock);
		return status;
	}
	prepare(region, area, *lsn, record, length, events);
	atomic_store_explicit(&area->commit, *lsn, memory_order_release);
	/* A later store must not overtake the commit: a death between them would show it. */
	atomic_thread_fence(memory_order_seq_cst);
	atomic_store_explicit(&marks->events, area->new_events, memory_order_release);
	atomic_store_explicit(&marks->tail, area->new_tail, memory_order_release);
	lock_release(region, region->ring_lock);
	apply_all(region, area, *lsn);
	clear(area);
	return RING_OK;
}

void operation_unlock(struct region *region)
{
	struct operation_area *area = own_area(region);

	release_all(region, area->lock, area->locks);
	area->locks = 0;
	area->images = 0;
}
