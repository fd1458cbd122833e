/*
 * The map of the region, private to shm/ and to tests that look inside.  Offsets, never
 * pointers, are stored in it.
 */
#ifndef TALLYD_SHM_LAYOUT_H
#define TALLYD_SHM_LAYOUT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "counter.h"
#include "holds.h"
#include "ids.h"
#include "operation.h"
#include "region.h"
#include "ring.h"
#include "room.h"
#include "table.h"

#define REGION_MAGIC   UINT64_C(0x31646c796c6c6174) /* "tallyld1" */
#define REGION_VERSION 6

#define CACHE_LINE 64

struct lock {
	_Alignas(CACHE_LINE) pthread_mutex_t mutex;
};

/* A cell's after-image.  The cell's first eight bytes are its LSN and are not part of it. */
struct image {
	uint32_t lock; /* that covers the cell */
	uint32_t length;
	uint32_t
	    record; /* offset, in the operation's records, of the one whose LSN is the cell's */
	uint32_t zero;
	unsigned char bytes[OPERATION_CELL_MAX];
};

/*
 * The operation in progress of one process.  While `commit` is zero nothing in it counts;
 * once it holds an LSN, that of its first record, the operation has happened and everything else in
 * the area is frozen.
 */
struct operation_area {
	_Alignas(CACHE_LINE) _Atomic uint64_t commit;
	uint64_t new_tail;
	uint64_t new_events;
	uint64_t new_used[USES];
	int64_t change[USES]; /* of what is used: the owner's own, until the commit */
	uint64_t check;       /* over the counts, locks, cells and images */
	uint32_t locks;
	uint32_t images;
	uint32_t lock[OPERATION_LOCKS_MAX];
	uint64_t cell[OPERATION_IMAGES_MAX]; /* offsets in the region, of image[] */
	struct image image[OPERATION_IMAGES_MAX];
};

/* One process slot's own lines. */
struct process {
	_Alignas(CACHE_LINE) _Atomic uint64_t want; /* LSN whose release is waited for; 0: none */
	_Atomic uint32_t clients_known; /* entries of its table of clients with connections */
	struct counters counters;
	struct operation_area area;
};

/*
 * A bucket of ids.  A tag is some bits of the key, never 0 where there is one; a place is that of
 * the slot's record (layout_place).  Both follow the slot: who copies an image into a slot writes
 * them before the slot's LSN.
 */
struct id_bucket {
	_Alignas(CACHE_LINE) uint16_t tag[IDS_BUCKET];
	uint32_t place[IDS_BUCKET];
	struct id_slot slot[IDS_BUCKET];
};

/* One place of a ring of lines: a seqlock. */
struct room_cell {
	_Alignas(CACHE_LINE) _Atomic uint64_t number; /* of its line, and 1; 0: being written */
	_Atomic uint64_t word[sizeof(struct room_line) / sizeof(uint64_t)];
};

struct room_member {
	uint64_t serial; /* 0: the place is free */
	uint32_t slot;   /* of the process that serves it */
	uint32_t life;   /* of that slot, then */
	struct room_name nick;
};

/* What is counted of the room. */
struct room_count {
	uint64_t last_us; /* the newest line's time */
	uint64_t serials; /* given */
	uint64_t guests;  /* likewise */
	uint32_t members;
	uint32_t zero;
};

/* A change in progress: it has happened once `commit` is 1, and is copied until that is 0 again. */
struct room_step {
	_Atomic uint64_t commit;
	uint64_t number; /* of `line` in the news; ROOM_NOWHERE: it is none */
	uint64_t past;   /* likewise in the past */
	uint32_t place;  /* of the member that becomes `after`; ROOM_MEMBERS_MAX: none does */
	uint32_t zero;
	struct room_member after;
	struct room_count count;
	struct room_line line;
};
#define ROOM_NOWHERE UINT64_MAX

/* The operators' room. */
struct room_area {
	struct lock lock;
	_Alignas(CACHE_LINE) _Atomic uint64_t end; /* of the news */
	_Atomic uint64_t past_end;
	_Atomic uint32_t deaths;     /* burials, of all slots */
	_Atomic uint32_t remembered; /* room_remember was called */
	_Atomic uint32_t members;    /* as in `count`, for who has no lock */
	_Alignas(CACHE_LINE) _Atomic uint32_t life[REGION_PROCESSES_MAX]; /* burials, by slot */
	_Atomic uint32_t want[REGION_PROCESSES_MAX];                      /* 1: wants to be woken */
	struct room_step step;
	struct room_count count;
	struct room_member member[ROOM_MEMBERS_MAX];
	struct room_cell news[ROOM_LINES];
	struct room_cell past_line[ROOM_PAST];
};

/* Where everything is: made of the geometry alone. */
struct shape {
	uint64_t locks_at; /* of stripes, then of ids, then of buckets of holds, then the ring's */
	uint64_t slots_at;
	uint64_t ids_at;
	uint64_t holds_at;
	uint64_t hints_at; /* HINT_ARRAYS of them, each hold_slots long */
	uint64_t seal_at;
	uint64_t processes_at;
	uint64_t clients_at; /* of each process slot client_entries of them */
	uint64_t ring_at;
	uint64_t room_at;
	uint64_t size;
	uint64_t hold_slots;
	uint32_t stripes;
	uint32_t slots_per_stripe;
	uint32_t id_buckets;
	uint32_t id_shift; /* one lock covers 2^id_shift buckets */
	uint32_t id_locks;
	uint32_t hold_buckets;
	uint32_t locks; /* in all */
	uint32_t client_entries;
};

struct region_header {
	uint64_t magic;
	uint32_t version;
	uint32_t header_size;
	uint64_t size;
	struct region_geometry geometry;
	struct shape shape;
	uint64_t segment_end; /* of the segment in which the journal goes on */
	uint64_t base_us;     /* HINTS_PAST_US before it was made: hints of time count from it */
	_Atomic uint32_t poisoned;
	struct region_settings settings;
	struct region_marks marks;
	struct region_life life;
	struct region_snapshots snapshots;
	struct region_recovery recovery;
	struct region_roster roster;
};

/*
 * What is told of a hold's slot without looking at it (holds.h).  HINT_ID and HINT_SETTLED follow
 * the slot, as the tags of ids do.
 */
enum hint { HINT_ID, HINT_OWNER, HINT_EXPIRES, HINT_SETTLED, HINT_ARRAYS };

/*
 * Hints of time count ticks in 32 bits: 34 years.  Half of them lie before the region was made, for
 * a clock that is set back.
 */
#define HINT_TICK_US  250000
#define HINTS_PAST_US (UINT64_C(0x80000000) * HINT_TICK_US)

/* This process's view of it. */
struct region {
	struct region_header *header;
	unsigned char *base;
	struct lock *locks; /* the ring's is the last */
	struct account_slot *slots;
	struct id_bucket *ids;
	struct hold_slot *holds;
	_Atomic uint32_t *hint[HINT_ARRAYS];
	struct region_seal *seal;
	struct process *processes;
	_Atomic uint64_t *clients;
	unsigned char *ring;
	struct room_area *room;
	uint64_t size;
	uint64_t put_until; /* the newest LSN that recovery has put into a table */
	uint32_t ring_lock; /* the number of the ring's lock: the last */
	uint32_t slot;      /* this process's */
	region_alarm *alarm;
	struct ring_codec codec;
};

/* Maps 32 bits of a hash to a range, without a division. */
static inline uint32_t layout_scale(uint64_t half, uint32_t range)
{
	return (uint32_t)((half * range) >> 32);
}

/*
 * Which of the ids, or of the settled holds, in a full bucket has to go is told by where their
 * records stand in the journal, since a clock may be set back, and many come within its tick.  A
 * place counts 2^PLACE_SHIFT bytes, too few for the records of a bucket, and comes round after
 * 8 TiB: what is older than that, of holds than half of it, counts as younger than it is.
 */
#define PLACE_SHIFT 11
#define PLACE_AHEAD (1u << 20) /* more than what is written while one looks */

static inline uint32_t layout_place(uint64_t lsn)
{
	return (uint32_t)(lsn >> PLACE_SHIFT);
}

/* A place that no record in REGION's tables has reached: less it, places ascend with the journal.
 */
static inline uint32_t layout_horizon(const struct region *region)
{
	uint64_t tail = atomic_load_explicit(&region->header->marks.tail, memory_order_relaxed);

	return layout_place(tail > region->put_until ? tail : region->put_until) + PLACE_AHEAD;
}

/* The tag and the place of an id's slot (ids.c), into which an image of LSN was just copied. */
void ids_retag(struct region *region, const struct id_slot *slot, uint64_t lsn);

/* HINT_ID and HINT_SETTLED of a hold's slot, likewise. */
void holds_retag(struct region *region, const struct hold_slot *slot, uint64_t lsn);

_Static_assert(sizeof(struct lock) == CACHE_LINE, "a lock is one cache line");
_Static_assert(sizeof(struct account_slot) % CACHE_LINE == 0, "slots are whole cache lines");
_Static_assert(sizeof(struct account_slot) <= OPERATION_CELL_MAX, "a slot fits an image");
_Static_assert(sizeof(struct hold_slot) <= OPERATION_CELL_MAX, "a hold fits an image");
_Static_assert(sizeof(struct room_line) % sizeof(uint64_t) == 0, "lines are copied by words");
_Static_assert((ROOM_LINES & (ROOM_LINES - 1)) == 0 && (ROOM_PAST & (ROOM_PAST - 1)) == 0,
               "places of lines go round without a gap");
_Static_assert(sizeof(struct image) % sizeof(uint64_t) == 0, "images keep their alignment");
_Static_assert((1u << PLACE_SHIFT) / JOURNAL_RECORD_MIN < IDS_BUCKET && IDS_BUCKET <= HOLDS_BUCKET,
               "the newest of a bucket is never at the place of all others");
_Static_assert(IDS_BUCKET > OPERATION_IMAGES_MAX, "a bucket is never staged as a whole");
_Static_assert(REGION_RING_MIN - RING_RESERVE >= 2 * OPERATION_BYTES_MAX + SEGMENT_HEAD,
               "the smallest ring takes the largest group behind the largest gap");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
               "the commit is one store only where atomics are lock-free");

#endif
