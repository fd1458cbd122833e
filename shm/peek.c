#include "peek.h"

#include <linux/futex.h>
#include <sched.h>
#include <string.h>

#include "layout.h"

#define CALM 100 /* tries before the processor is offered to others */

/* One look at a cell of SIZE bytes at OFFSET. */
struct look {
	const struct region *region;
	uint64_t offset;
	size_t size;
	void *copy;
};

static uint64_t commit_of(const struct operation_area *area)
{
	return atomic_load_explicit(&area->commit, memory_order_acquire);
}

/* Loads before this are not done after it. */
static void fence(void)
{
	atomic_thread_fence(memory_order_acquire);
}

static uint32_t processes(const struct region *region)
{
	return region->header->geometry.processes;
}

static uint32_t images_of(const struct operation_area *area)
{
	uint32_t images = area->images;

	return images < OPERATION_IMAGES_MAX ? images : OPERATION_IMAGES_MAX;
}

/* The image of the cell at OFFSET in AREA, or NULL. */
static const struct image *image_of(const struct operation_area *area, uint64_t offset)
{
	uint32_t images = images_of(area);

	for (uint32_t i = 0; i < images; i++)
		if (area->cell[i] == offset)
			return &area->image[i];
	return NULL;
}

/*
 * The committed area that is about to change the cell at OFFSET, and has not: its process in
 * *PROCESS, its commit in *COMMIT.  NULL: there is none.
 */
static const struct image *find_image(const struct region *region, uint64_t offset,
                                      uint32_t *process, uint64_t *commit)
{
	const _Atomic uint64_t *lsn =
	    (const _Atomic uint64_t *)(const void *)(region->base + offset);
	uint32_t count = processes(region);

	for (uint32_t i = 0; i < count; i++) {
		const struct operation_area *area = &region->processes[i].area;
		*commit = commit_of(area);
		if (*commit == 0)
			continue;
		const struct image *image = image_of(area, offset);
		if (image == NULL)
			continue;
		uint64_t after = *commit + image->record;
		fence();
		if (commit_of(area) != *commit || atomic_load(lsn) >= after)
			continue;
		*process = i;
		return image;
	}
	return NULL;
}

static bool take_image(const struct look *look, const struct image *image, uint32_t process,
                       uint64_t commit)
{
	const struct operation_area *area = &look->region->processes[process].area;
	uint64_t lsn = commit + image->record;
	size_t length = image->length;

	if (length > look->size)
		return false;
	/* Beyond its length the cell does not change. */
	memcpy(look->copy, look->region->base + look->offset, look->size);
	if (length > sizeof lsn)
		memcpy((unsigned char *)look->copy + sizeof lsn, image->bytes + sizeof lsn,
		       length - sizeof lsn);
	fence();
	if (commit_of(area) != commit)
		return false;
	memcpy(look->copy, &lsn, sizeof lsn);
	return true;
}

static bool take_cell(const struct look *look)
{
	const _Atomic uint64_t *lsn =
	    (const _Atomic uint64_t *)(const void *)(look->region->base + look->offset);
	uint64_t before = atomic_load_explicit(lsn, memory_order_acquire);
	uint32_t process;
	uint64_t commit;

	memcpy(look->copy, look->region->base + look->offset, look->size);
	fence();
	if (find_image(look->region, look->offset, &process, &commit) != NULL)
		return false;
	return atomic_load_explicit(lsn, memory_order_acquire) == before;
}

static bool look_once(const struct look *look, struct peek_note *note)
{
	uint64_t commit;
	const struct image *image = find_image(look->region, look->offset, &note->process, &commit);

	note->under_way = image != NULL;
	return image != NULL ? take_image(look, image, note->process, commit) : take_cell(look);
}

static void be_patient(int attempt)
{
	if (attempt >= CALM)
		sched_yield();
}

static enum peek_status look_at(const struct look *look, struct peek_note *note)
{
	for (int i = 0; i < PEEK_TRIES; i++) {
		if (look_once(look, note))
			return PEEK_OK;
		be_patient(i);
	}
	return PEEK_MOVING;
}

enum peek_status peek_hold(const struct region *region, const struct hold_slot *cell,
                           struct hold_slot *hold, struct peek_note *note)
{
	const struct look look = {
	    .region = region,
	    .offset = (uint64_t)((const unsigned char *)cell - region->base),
	    .size = sizeof *hold,
	    .copy = hold,
	};

	return look_at(&look, note);
}

/* ---- Accounts ---- */

struct wanted {
	const struct region *region;
	uint64_t hash;
	const char *name;
	uint32_t length;
	uint32_t stripe;
};

static uint64_t offset_of(const struct region *region, const void *cell)
{
	return (uint64_t)((const unsigned char *)cell - region->base);
}

/* Is the rest of the name in the stripe's slot REST (1 + its index)?  AREA: may have its image. */
static bool rest_is(const struct wanted *wanted, const struct operation_area *area, uint32_t rest)
{
	if (rest == 0 || rest > table_stripe_slots(wanted->region))
		return false;
	const struct account_slot *slot = table_slot(wanted->region, wanted->stripe, rest - 1);
	const struct image *image =
	    area != NULL ? image_of(area, offset_of(wanted->region, slot)) : NULL;
	if (image != NULL)
		slot = (const struct account_slot *)(const void *)image->bytes;
	return memcmp(slot->name, wanted->name + TABLE_NAME_INLINE,
	              wanted->length - TABLE_NAME_INLINE) == 0;
}

static bool is(const struct wanted *wanted, const struct operation_area *area,
               const struct account_slot *slot)
{
	uint32_t here = wanted->length < TABLE_NAME_INLINE ? wanted->length : TABLE_NAME_INLINE;

	return slot->hash == wanted->hash && slot->name_length == wanted->length &&
	       memcmp(slot->name, wanted->name, here) == 0 &&
	       (wanted->length <= TABLE_NAME_INLINE || rest_is(wanted, area, slot->rest));
}

/*
 * The slot where the account is or is being put.  Every slot of the stripe is looked at: a probe
 * could be led astray by slots that are freed and taken meanwhile.
 */
static const struct account_slot *find_slot(const struct wanted *wanted)
{
	uint32_t slots = table_stripe_slots(wanted->region);

	for (uint32_t i = 0; i < slots; i++) {
		const struct account_slot *slot = table_slot(wanted->region, wanted->stripe, i);
		if (is(wanted, NULL, slot))
			return slot;
	}
	return NULL;
}

/* An account that a committed operation is just about to make. */
static const struct account_slot *find_coming(const struct wanted *wanted)
{
	const struct region *region = wanted->region;
	const struct account_slot *first = table_slot(region, wanted->stripe, 0);
	uint64_t begin = offset_of(region, first);
	uint64_t end = offset_of(region, first + table_stripe_slots(region));
	uint32_t count = processes(region);

	for (uint32_t i = 0; i < count; i++) {
		const struct operation_area *area = &region->processes[i].area;
		uint32_t images = commit_of(area) != 0 ? images_of(area) : 0;
		for (uint32_t at = 0; at < images; at++) {
			uint64_t cell = area->cell[at];
			const void *bytes = area->image[at].bytes;
			if (cell >= begin && cell < end &&
			    (cell - begin) % sizeof(struct account_slot) == 0 &&
			    is(wanted, area, bytes))
				return (const void *)(region->base + cell);
		}
	}
	return NULL;
}

static enum peek_status look_up(const struct wanted *wanted, struct account_slot *copy,
                                struct peek_note *note)
{
	const struct account_slot *slot = find_slot(wanted);

	if (slot == NULL)
		slot = find_coming(wanted);
	/* What was just about to be made may have been made between the two. */
	if (slot == NULL)
		slot = find_slot(wanted);
	if (slot == NULL)
		return PEEK_NONE;
	const struct look look = {.region = wanted->region,
	                          .offset = offset_of(wanted->region, slot),
	                          .size = sizeof *copy,
	                          .copy = copy};
	if (look_at(&look, note) != PEEK_OK)
		return PEEK_MOVING;
	/* Deleted meanwhile; perhaps made again, somewhere else. */
	return copy->hash == wanted->hash && copy->name_length == wanted->length ? PEEK_OK
	                                                                         : PEEK_NONE;
}

enum peek_status peek_account(const struct region *region, uint64_t hash, const char *name,
                              uint32_t length, struct account_slot *slot, struct peek_note *note)
{
	const struct wanted wanted = {.region = region,
	                              .hash = hash,
	                              .name = name,
	                              .length = length,
	                              .stripe = table_stripe(region, hash)};

	*note = (struct peek_note){0};
	if (length == 0 || length > TABLE_NAME_MAX)
		return PEEK_NONE;
	enum peek_status status = look_up(&wanted, slot, note);
	return status == PEEK_NONE ? look_up(&wanted, slot, note) : status;
}

/* ---- Locks ---- */

uint32_t peek_locks(const struct region *region)
{
	return region->header->shape.locks;
}

const char *peek_guarded(const struct region *region, uint32_t lock)
{
	const struct shape *shape = &region->header->shape;

	if (lock < shape->stripes)
		return "accounts";
	if (lock - shape->stripes < shape->id_locks)
		return "ids";
	return lock < region->ring_lock ? "holds" : "ring";
}

/*
 * The futex word of a robust mutex holds its owner's thread id and what the kernel did to it when
 * that died (get_robust_list(2), linux/futex.h): the kernel's ABI, which glibc cannot change.
 */
uint32_t peek_holder(const struct region *region, uint32_t lock, bool *dead)
{
	uint32_t word =
	    (uint32_t)__atomic_load_n(&region->locks[lock].mutex.__data.__lock, __ATOMIC_RELAXED);

	*dead = (word & FUTEX_OWNER_DIED) != 0;
	return word & FUTEX_TID_MASK;
}
