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
#include "operation.h"
#include "region.h"
#include "ring.h"
#include "table.h"

#define REGION_MAGIC   UINT64_C(0x31646c796c6c6174) /* "tallyld1" */
#define REGION_VERSION 1

#define CACHE_LINE 64

struct lock {
	_Alignas(CACHE_LINE) pthread_mutex_t mutex;
};

/* A cell's after-image.  The cell's first eight bytes are its LSN and are not part of it. */
struct image {
	uint64_t cell; /* offset in the region */
	uint32_t lock; /* the stripe that covers it */
	uint32_t length;
	unsigned char bytes[OPERATION_CELL_MAX];
};

/*
 * The operation in progress of one process.  While `commit` is zero nothing in it counts;
 * once it holds an LSN the operation has happened and everything else in the area is frozen.
 */
struct operation_area {
	_Alignas(CACHE_LINE) _Atomic uint64_t commit;
	uint64_t new_tail;
	uint64_t new_events;
	uint64_t check; /* over the counts, locks and images */
	uint32_t locks;
	uint32_t images;
	uint32_t lock[OPERATION_LOCKS_MAX];
	struct image image[OPERATION_LOCKS_MAX];
};

/* One process slot's own lines. */
struct process {
	_Alignas(CACHE_LINE) _Atomic uint64_t want; /* LSN whose release is waited for; 0: none */
	struct counters counters;
	struct operation_area area;
};

struct region_header {
	uint64_t magic;
	uint32_t version;
	uint32_t header_size;
	uint64_t size;
	struct region_geometry geometry;
	uint64_t segment_end; /* of the segment in which the journal goes on */
	uint32_t stripes;
	uint32_t slots_per_stripe;
	uint64_t locks_at;
	uint64_t slots_at;
	uint64_t seal_at;
	uint64_t processes_at;
	uint64_t ring_at;
	_Atomic uint32_t poisoned;
	struct region_settings settings;
	struct region_marks marks;
};

/* This process's view of it. */
struct region {
	struct region_header *header;
	unsigned char *base;
	struct lock *locks; /* stripes, then the ring's */
	struct account_slot *slots;
	struct region_seal *seal;
	struct process *processes;
	unsigned char *ring;
	uint64_t size;
	uint32_t ring_lock; /* the number of the ring's lock: the last */
	uint32_t slot;      /* this process's */
	region_alarm *alarm;
	struct ring_codec codec;
};

_Static_assert(sizeof(struct lock) == CACHE_LINE, "a lock is one cache line");
_Static_assert(sizeof(struct account_slot) % CACHE_LINE == 0, "slots are whole cache lines");
_Static_assert(sizeof(struct account_slot) <= OPERATION_CELL_MAX, "a slot fits an image");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
               "the commit is one store only where atomics are lock-free");

#endif
