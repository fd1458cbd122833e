/*
 * Counters: relaxed atomics in the region, one set per process slot, each set on cache
 * lines of its own.  They survive the death of their process; a reader sums the sets.
 */
#ifndef TALLYD_SHM_COUNTER_H
#define TALLYD_SHM_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

struct region;

enum counter {
	COUNTER_EVENTS_ACCEPTED,
	COUNTER_EVENTS_REJECTED, /* queue full, disk full, table full, journal failed */
	COUNTER_EVENTS_REFUSED,  /* decided against: overflow */
	COUNTER_EVENTS_INVALID,  /* could not be read */
	COUNTER_REQUESTS,
	COUNTER_REQUESTS_MALFORMED,
	COUNTER_CONNECTIONS_ACCEPTED,
	COUNTER_CONNECTIONS_OPEN, /* a gauge: set, not added; zeroed when the slot changes hands */
	COUNTER_CONNECTIONS_TIMED_OUT,
	COUNTER_ACCEPT_PAUSES,   /* the listeners paused at a limit or out of descriptors */
	COUNTER_LOCK_RECOVERIES, /* EOWNERDEAD repaired */
	COUNTER_LOCK_ALARMS,     /* waited over a second for a lock */
	COUNTER_GROUP_COMMITS,
	COUNTER_FDATASYNC_US,
	COUNTER_EVENTS_REPLAYED, /* decided earlier: the answer of then */
	COUNTER_ACCEPTING,       /* a gauge: 1 while a worker takes connections; likewise */
	COUNTER_ACCEPT_YIELDS,   /* connections were left to a worker that has fewer */
	COUNTER_FEED_SLICES,     /* turns of the loop in which feeds were given something */
	COUNTER_FEED_BLOCKS,     /* how many were, all together */
	COUNTER_LAST = 63
};

struct counters {
	_Atomic uint64_t value[COUNTER_LAST + 1];
};

/* The set of process slot SLOT. */
struct counters *counter_set(struct region *region, uint32_t slot);

static inline void counter_add(struct counters *counters, enum counter counter, uint64_t amount)
{
	/* One writer per set: a plain add needs no locked instruction. */
	uint64_t now = atomic_load_explicit(&counters->value[counter], memory_order_relaxed);
	atomic_store_explicit(&counters->value[counter], now + amount, memory_order_relaxed);
}

static inline void counter_store(struct counters *counters, enum counter counter, uint64_t value)
{
	atomic_store_explicit(&counters->value[counter], value, memory_order_relaxed);
}

static inline uint64_t counter_load(const struct counters *counters, enum counter counter)
{
	return atomic_load_explicit(&counters->value[counter], memory_order_relaxed);
}

/* The sum of COUNTER over all slots. */
uint64_t counter_sum(struct region *region, enum counter counter);

#endif
