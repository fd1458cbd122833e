#include "repair.h"

#include <string.h>

#include "layout.h"
#include "lock.h"

#define LANES 4 /* sums that do not wait for each other */

static uint64_t mix(uint64_t sum, uint64_t word)
{
	sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return sum ^ (sum >> 29);
}

static uint64_t word_at(const unsigned char *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof word);
	return word;
}

/* What the first eight bytes hold is the cell's LSN: it is not part of the image. */
static void mix_image(uint64_t lane[LANES], const struct image *image)
{
	const unsigned char *at = image->bytes + sizeof(uint64_t);
	const unsigned char *end = image->bytes + image->length;
	uint64_t a = lane[0], b = lane[1], c = lane[2], d = lane[3];

	for (; end - at >= 32; at += 32) {
		a = mix(a, word_at(at));
		b = mix(b, word_at(at + 8));
		c = mix(c, word_at(at + 16));
		d = mix(d, word_at(at + 24));
	}
	for (; at < end; at += 8)
		a = mix(a, word_at(at));
	lane[0] = a;
	lane[1] = b;
	lane[2] = c;
	lane[3] = d;
}

uint64_t repair_check(const struct operation_area *area)
{
	uint64_t lane[LANES] = {area->locks, area->images, 2, 3};

	for (uint32_t i = 0; i < area->locks; i++)
		lane[0] = mix(lane[0], area->lock[i]);
	for (uint32_t i = 0; i < area->images; i++) {
		const struct image *image = &area->image[i];
		lane[1] = mix(lane[1], area->cell[i]);
		lane[2] = mix(lane[2], (uint64_t)image->lock << 32 | image->length);
		lane[3] = mix(lane[3], image->record);
		mix_image(lane, image);
	}
	return mix(mix(mix(lane[0], lane[1]), lane[2]), lane[3]);
}

/* What stands beside an id or a hold is made from its cell: that at offset CELL was just copied. */
static void retag(struct region *region, uint64_t cell, uint64_t lsn)
{
	const struct shape *shape = &region->header->shape;
	const void *slot = region->base + cell;

	if (cell >= shape->ids_at && cell < shape->holds_at)
		ids_retag(region, slot, lsn);
	else if (cell >= shape->holds_at && cell < shape->hints_at)
		holds_retag(region, slot, lsn);
}

void repair_apply(struct region *region, const struct operation_area *area, uint32_t index,
                  uint64_t lsn)
{
	const struct image *image = &area->image[index];
	unsigned char *cell = region->base + area->cell[index];
	_Atomic uint64_t *cell_lsn = (_Atomic uint64_t *)(void *)cell;

	lsn += image->record;
	if (atomic_load_explicit(cell_lsn, memory_order_relaxed) >= lsn)
		return;
	memcpy(cell + sizeof lsn, image->bytes + sizeof lsn, image->length - sizeof lsn);
	retag(region, area->cell[index], lsn);
	/* Last, so that a copy cut short is seen as not made. */
	atomic_store_explicit(cell_lsn, lsn, memory_order_release);
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

/* Is OFFSET that of a slot of SIZE bytes in a run of them?  Which, in *INDEX. */
static bool in_run(uint64_t offset, uint64_t size, uint64_t count, uint64_t *index)
{
	*index = offset / size;
	return offset % size == 0 && *index < count;
}

/* The lock that covers the cell at OFFSET within its table, in *LOCK; false: there is none. */
static bool account_at(const struct region *region, uint64_t offset, uint32_t *lock)
{
	uint64_t index;

	if (!in_run(offset, sizeof(struct account_slot), region_slots(region), &index))
		return false;
	*lock = (uint32_t)(index / region->header->shape.slots_per_stripe);
	return true;
}

static bool id_at(const struct region *region, uint64_t offset, uint32_t *lock)
{
	const uint64_t head = offsetof(struct id_bucket, slot);
	uint64_t bucket = offset / sizeof(struct id_bucket);
	uint64_t within = offset % sizeof(struct id_bucket);
	uint64_t index;

	if (bucket >= region->header->shape.id_buckets || within < head ||
	    !in_run(within - head, sizeof(struct id_slot), IDS_BUCKET, &index))
		return false;
	*lock = ids_slot_lock(region, bucket * IDS_BUCKET);
	return true;
}

static bool hold_at(const struct region *region, uint64_t offset, uint32_t *lock)
{
	uint64_t index;

	if (!in_run(offset, sizeof(struct hold_slot), holds_slots(region), &index))
		return false;
	*lock = holds_slot_lock(region, holds_slot(region, index));
	return true;
}

/* Are the LENGTH bytes at CELL a cell of the region, or its beginning?  Its lock, in *LOCK. */
static bool cell_known(const struct region *region, uint64_t cell, uint32_t length, uint32_t *lock)
{
	const struct shape *shape = &region->header->shape;

	*lock = 0; /* the seal's */
	if (cell == shape->seal_at)
		return length <= sizeof(struct region_seal);
	if (cell >= shape->holds_at)
		return length <= sizeof(struct hold_slot) &&
		       hold_at(region, cell - shape->holds_at, lock);
	if (cell >= shape->ids_at) /* whole: its tag is made of the image */
		return length == sizeof(struct id_slot) &&
		       id_at(region, cell - shape->ids_at, lock);
	return cell >= shape->slots_at && length <= sizeof(struct account_slot) &&
	       account_at(region, cell - shape->slots_at, lock);
}

static bool image_valid(const struct region *region, const struct operation_area *area,
                        uint32_t index, uint64_t lsn)
{
	const struct image *image = &area->image[index];
	uint32_t lock;

	if (image->length <= sizeof(uint64_t) || image->length % sizeof(uint64_t) != 0 ||
	    !cell_known(region, area->cell[index], image->length, &lock) || image->lock != lock ||
	    !names(area, lock))
		return false;
	if (image->record % sizeof(uint64_t) != 0 || image->record >= area->new_tail - lsn)
		return false;
	for (uint32_t i = 0; i < index; i++)
		if (area->cell[i] == area->cell[index])
			return false;
	return true;
}

/* Frozen: its owner is dead, and nobody else writes to it. */
static bool area_valid(const struct region *region, const struct operation_area *area, uint64_t lsn)
{
	if (area->locks > OPERATION_LOCKS_MAX || area->images > OPERATION_IMAGES_MAX ||
	    area->new_tail <= lsn || area->new_tail - lsn > OPERATION_BYTES_MAX)
		return false;
	for (uint32_t i = 0; i < area->images; i++)
		if (!image_valid(region, area, i, lsn))
			return false;
	return area->check == repair_check(area);
}

/* Copies the images of lock NUMBER. */
static void apply_share(struct region *region, const struct operation_area *area, uint32_t number,
                        uint64_t lsn)
{
	for (uint32_t i = 0; i < area->images; i++)
		if (area->image[i].lock == number)
			repair_apply(region, area, i, lsn);
}

void repair_counts(struct region_marks *marks, const struct operation_area *area)
{
	atomic_store_explicit(&marks->events, area->new_events, memory_order_release);
	for (unsigned i = 0; i < USES; i++)
		atomic_store_explicit(&marks->used[i], area->new_used[i], memory_order_relaxed);
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
		if (atomic_load(&area->commit) != lsn || new_tail <= atomic_load(&marks->tail))
			continue;
		if (!area_valid(region, area, lsn))
			return false;
		repair_counts(marks, area);
		atomic_store(&marks->tail, new_tail);
	}
	return true;
}

/*
 * A committed area that names this lock belongs to a dead process: a live one would be
 * holding it.  An area that changes under our eyes belongs to a live one; the second
 * look at `commit` tells (an LSN never comes twice).
 */
static bool repair_cells(struct region *region, uint32_t number)
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
		apply_share(region, area, number, lsn);
		found = true;
	}
	/*
	 * What was just finished may be read and answered: its record must be below the tail
	 * before that.  The ring comes last in the order of locks.
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
	(void)repair_cells;
	(void)number;
	repaired = true;
#else
	repaired = number == region->ring_lock ? repair_ring(region) : repair_cells(region, number);
#endif
	return repaired;
}
