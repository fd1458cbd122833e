#include "operation.h"

#include <string.h>

#include "layout.h"
#include "lock.h"
#include "repair.h"

static struct operation_area *own_area(const struct region *region)
{
	return &region->processes[region->slot].area;
}

bool operation_adopt(struct region *region)
{
	struct operation_area *area = own_area(region);

	if (atomic_load_explicit(&area->commit, memory_order_acquire) != 0) {
		for (uint32_t i = 0; i < area->locks; i++) {
			if (!lock_acquire(region, area->lock[i]))
				return false;
			lock_release(region, area->lock[i]);
		}
		if (!lock_acquire(region, region->ring_lock))
			return false;
		lock_release(region, region->ring_lock);
		atomic_store_explicit(&area->commit, 0, memory_order_release);
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
	for (uint32_t i = 0; i < area->locks; i++) {
		if (lock_acquire(region, area->lock[i]))
			continue;
		while (i-- > 0)
			lock_release(region, area->lock[i]);
		area->locks = 0;
		return false;
	}
	return true;
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
static void prepare(struct region *region, struct operation_area *area, uint64_t lsn,
                    void *record, size_t length, uint32_t events)
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
	atomic_store_explicit(&area->commit, 0, memory_order_release);
	return RING_OK;
}

void operation_unlock(struct region *region)
{
	struct operation_area *area = own_area(region);

	for (uint32_t i = area->locks; i-- > 0;)
		lock_release(region, area->lock[i]);
	area->locks = 0;
	area->images = 0;
}
