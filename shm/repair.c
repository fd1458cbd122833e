#include "repair.h"

#include <string.h>

#include "layout.h"
#include "lock.h"

static uint64_t mix(uint64_t sum, uint64_t word)
{
	sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return sum ^ (sum >> 29);
}

uint64_t repair_check(const struct operation_area *area)
{
	uint64_t sum = mix(area->locks, area->images);

	for (uint32_t i = 0; i < area->locks; i++)
		sum = mix(sum, area->lock[i]);
	for (uint32_t i = 0; i < area->images; i++) {
		const struct image *image = &area->image[i];
		sum = mix(sum, image->cell);
		sum = mix(sum, (uint64_t)image->lock << 32 | image->length);
		for (uint32_t at = sizeof(uint64_t); at < image->length; at += sizeof(uint64_t)) {
			uint64_t word;
			memcpy(&word, image->bytes + at, sizeof word);
			sum = mix(sum, word);
		}
	}
	return sum;
}

void repair_apply(struct region *region, const struct operation_area *area, uint32_t number,
                  uint64_t lsn)
{
	for (uint32_t i = 0; i < area->images; i++) {
		const struct image *image = &area->image[i];
		unsigned char *cell = region->base + image->cell;
		_Atomic uint64_t *cell_lsn = (_Atomic uint64_t *)(void *)cell;
		if (image->lock != number ||
		    atomic_load_explicit(cell_lsn, memory_order_relaxed) >= lsn)
			continue;
		memcpy(cell + sizeof lsn, image->bytes + sizeof lsn, image->length - sizeof lsn);
		/* Last, so that a copy cut short is seen as not made. */
		atomic_store_explicit(cell_lsn, lsn, memory_order_release);
	}
}

static bool names(const struct operation_area *area, uint32_t number)
{
	uint32_t count = area->locks;

	if (count > OPERATION_LOCKS_MAX)
		count = OPERATION_LOCKS_MAX;
	for (uint32_t i = 0; i < count; i++)
		if (area->lock[i] == number)
			return true;
	return false;
}

static bool image_valid(const struct region *region, const struct image *image)
{
	return image->length > sizeof(uint64_t) && image->length <= OPERATION_CELL_MAX &&
	       image->length % sizeof(uint64_t) == 0 && image->cell % sizeof(uint64_t) == 0 &&
	       image->cell >= region->header->slots_at &&
	       image->cell <= region->size - image->length && image->lock < region->ring_lock;
}

static bool area_valid(const struct region *region, const struct operation_area *area, uint64_t lsn)
{
	if (area->locks > OPERATION_LOCKS_MAX || area->images > OPERATION_LOCKS_MAX)
		return false;
	for (uint32_t i = 0; i < area->images; i++)
		if (!image_valid(region, &area->image[i]))
			return false;
	return area->new_tail > lsn && area->new_tail - lsn <= JOURNAL_RECORD_MAX &&
	       area->check == repair_check(area);
}

/* At most one operation has committed and not moved the tail: its owner held this lock. */
static bool repair_ring(struct region *region)
{
	struct region_marks *marks = &region->header->marks;

	for (uint32_t i = 0; i < region->header->geometry.processes; i++) {
		const struct operation_area *area = &region->processes[i].area;
		uint64_t lsn = atomic_load_explicit(&area->commit, memory_order_acquire);
		if (lsn == 0)
			continue;
		uint64_t new_tail = area->new_tail;
		uint64_t new_events = area->new_events;
		if (atomic_load(&area->commit) != lsn || new_tail <= atomic_load(&marks->tail))
			continue;
		if (!area_valid(region, area, lsn))
			return false;
		atomic_store(&marks->events, new_events);
		atomic_store(&marks->tail, new_tail);
	}
	return true;
}

/*
 * A committed area that names this stripe belongs to a dead process: a live one would be
 * holding the stripe.  An area that changes under our eyes belongs to a live one; the second
 * look at `commit` tells (an LSN never comes twice).
 */
static bool repair_stripe(struct region *region, uint32_t number)
{
	bool found = false;

	for (uint32_t i = 0; i < region->header->geometry.processes; i++) {
		const struct operation_area *area = &region->processes[i].area;
		uint64_t lsn = atomic_load_explicit(&area->commit, memory_order_acquire);
		if (lsn == 0 || !names(area, number))
			continue;
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load(&area->commit) != lsn)
			continue;
		if (!area_valid(region, area, lsn))
			return false;
		repair_apply(region, area, number, lsn);
		found = true;
	}
	/*
	 * What was just finished may be read and answered: its record must be below the tail
	 * before that.  The ring comes after every stripe in the order of locks.
	 */
	if (found) {
		if (!lock_acquire(region, region->ring_lock))
			return false;
		lock_release(region, region->ring_lock);
	}
	return true;
}

bool repair_lock(struct region *region, uint32_t number)
{
	bool repaired;

	counter_add(&region->processes[region->slot].counters, COUNTER_LOCK_RECOVERIES, 1);
#ifdef TALLYD_STUB_REPAIR
	/* The crash tests must go red with this. */
	(void)repair_ring;
	(void)repair_stripe;
	(void)number;
	repaired = true;
#else
	repaired =
	    number == region->ring_lock ? repair_ring(region) : repair_stripe(region, number);
#endif
	return repaired;
}
