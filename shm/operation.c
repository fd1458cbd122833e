#include "operation.h"

#include <string.h>

#include "layout.h"
#include "lock.h"
#include "repair.h"

static struct operation_area *own_area(const struct region *region)
{
	return &region->processes[region->slot].area;
}

/* With every lock held that the area names.  From here on it may be written anew. */
static void clear(struct operation_area *area)
{
	atomic_store_explicit(&area->commit, 0, memory_order_release);
	/* What the next operation writes must not be seen beside this one's commit (repair.c). */
	atomic_thread_fence(memory_order_release);
}

/* Nothing is staged. */
static void begin_anew(struct operation_area *area)
{
	area->images = 0;
	memset(area->change, 0, sizeof area->change);
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
 * Only with all of its locks held at once does an area stop counting, as with a live owner:
 * else one who repairs one of them for a later death could be reading it while it is written anew.
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
	begin_anew(area);
	return true;
}

/* Puts VALUE into the ascending list LOCK of COUNT locks, once.  Returns their number then. */
static uint32_t insert(uint32_t *lock, uint32_t count, uint32_t value)
{
	uint32_t at = count;

	while (at > 0 && lock[at - 1] > value)
		at--;
	if (at > 0 && lock[at - 1] == value)
		return count;
	for (uint32_t i = count; i > at; i--)
		lock[i] = lock[i - 1];
	lock[at] = value;
	return count + 1;
}

bool operation_lock(struct region *region, const uint32_t *locks, uint32_t count)
{
	struct operation_area *area = own_area(region);
	uint32_t different = 0;

	for (uint32_t i = 0; i < count; i++)
		different = insert(area->lock, different, locks[i]);
	area->locks = different;
	begin_anew(area);
	if (acquire_all(region, area->lock, different))
		return true;
	area->locks = 0;
	return false;
}

static uint64_t offset_of(const struct region *region, const void *cell)
{
	return (uint64_t)((const unsigned char *)cell - region->base);
}

/* The index of the image of the cell at OFFSET, or their number: there is none. */
static uint32_t find_image(const struct operation_area *area, uint64_t offset)
{
	uint32_t i = 0;

	while (i < area->images && area->cell[i] != offset)
		i++;
	return i;
}

void *operation_stage(struct region *region, void *cell, uint32_t lock, size_t length,
                      uint32_t record)
{
	struct operation_area *area = own_area(region);
	uint64_t offset = offset_of(region, cell);
	uint32_t index = find_image(area, offset);
	struct image *image = &area->image[index];

	if (index == OPERATION_IMAGES_MAX)
		return NULL;
	if (index == area->images) {
		area->cell[index] = offset;
		area->images = index + 1;
		image->lock = lock;
		image->length = 0;
	}
	if (length > image->length) {
		memcpy(image->bytes + image->length, (const unsigned char *)cell + image->length,
		       length - image->length);
		image->length = (uint32_t)length;
	}
	image->record = record;
	return image->bytes;
}

void *operation_staged(const struct region *region, const void *cell, uint32_t *record)
{
	struct operation_area *area = own_area(region);
	uint32_t index = find_image(area, offset_of(region, cell));

	if (index == area->images)
		return NULL;
	if (record != NULL)
		*record = area->image[index].record;
	return area->image[index].bytes;
}

uint32_t operation_images_left(const struct region *region)
{
	return OPERATION_IMAGES_MAX - own_area(region)->images;
}

void *operation_image(const struct region *region, uint32_t index, void **cell)
{
	struct operation_area *area = own_area(region);

	if (index >= area->images)
		return NULL;
	*cell = region->base + area->cell[index];
	return area->image[index].bytes;
}

void operation_count(struct region *region, enum region_use use, int64_t change)
{
	own_area(region)->change[use] += change;
}

/* Writes the records to their place and says in the area what the commit will mean. */
static void prepare(struct region *region, struct operation_area *area, uint64_t lsn, void *records,
                    size_t length, uint32_t events)
{
	struct region_marks *marks = &region->header->marks;
	uint64_t durable = atomic_load_explicit(&marks->durable, memory_order_relaxed);

	region->codec.stamp(records, length, lsn, durable, region);
	ring_write(region, lsn, records, length, durable);
	area->new_tail = lsn + length;
	area->new_events = atomic_load_explicit(&marks->events, memory_order_relaxed) + events;
	for (unsigned i = 0; i < USES; i++)
		area->new_used[i] = atomic_load_explicit(&marks->used[i], memory_order_relaxed) +
		                    (uint64_t)area->change[i];
}

static void apply_all(struct region *region, const struct operation_area *area, uint64_t lsn)
{
	for (uint32_t i = 0; i < area->images; i++)
		repair_apply(region, area, i, lsn);
}

enum ring_status operation_commit(struct region *region, void *records, size_t length,
                                  uint32_t events, enum ring_priority priority, uint64_t *lsn)
{
	struct operation_area *area = own_area(region);
	struct region_marks *marks = &region->header->marks;

	ring_prefetch(region, length);
	area->check = repair_check(area);
	if (!lock_acquire(region, region->ring_lock))
		return RING_POISONED;
	enum ring_status status = ring_place(region, length, priority, lsn);
	if (status != RING_OK) {
		lock_release(region, region->ring_lock);
		return status;
	}
	prepare(region, area, *lsn, records, length, events);
	atomic_store_explicit(&area->commit, *lsn, memory_order_release);
	/* A later store must not overtake the commit: a death between them would show it. */
	atomic_thread_fence(memory_order_release);
	repair_counts(marks, area);
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
	begin_anew(area);
}
