/*
 * Counters: relaxed atomics in the region, one set per process slot, each set on cache
 * lines of its own.  They survive the death of their process; a reader sums the sets, and so reads
 * the same whichever process it is.  The names of reasons, endpoints and statuses belong to
 * src/wire (reason.h, endpoint.h).
 */
#ifndef TALLYD_SHM_COUNTER_H
#define TALLYD_SHM_COUNTER_H

#include <stdatomic.h>
#include <stddef.h>
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
	COUNTER_CONNECTIONS_STRANGE, /* of a Unix socket's users who are not served */
	COUNTER_ACCEPT_PAUSES,       /* the listeners paused at a limit or out of descriptors */
	COUNTER_LOCK_RECOVERIES,     /* EOWNERDEAD repaired */
	COUNTER_LOCK_ALARMS,         /* waited over a second for a lock */
	COUNTER_EVENTS_REPLAYED,     /* decided earlier: the answer of then */
	COUNTER_ACCEPTING,           /* a gauge: 1 while a worker takes connections; likewise */
	COUNTER_ACCEPT_YIELDS,       /* connections were left to a worker that has fewer */
	COUNTER_FEED_SLICES,         /* turns of the loop in which feeds were given something */
	COUNTER_FEED_BLOCKS,         /* how many were, all together */
	COUNTER_ANSWERS_LOST, /* their connection, or their worker, ended before they could leave */
	COUNTER_JOURNAL_BYTES, /* written by the journal writer */
	COUNTER_PID,           /* a gauge: who has the slot; 0: nobody */
	/* Gauges: connections by what they are doing; their sum is CONNECTIONS_OPEN. */
	COUNTER_CONNECTIONS_IDLE,      /* no request has begun, no answer waits */
	COUNTER_CONNECTIONS_READING,   /* part of a request has arrived */
	COUNTER_CONNECTIONS_SERVING,   /* the worker's next turn, or a pause, is waited for */
	COUNTER_CONNECTIONS_STREAMING, /* a request is answered while it comes, or a feed goes on */
	COUNTER_CONNECTIONS_WAITING,   /* answers wait for the journal */
	COUNTER_CONNECTIONS_WRITING,   /* answers wait for the client to take them */
	COUNTER_CONNECTIONS_CLOSING,   /* the last answer leaves or has left */
	COUNTER_ECHO_BYTES,            /* that went back by the echo protocol */
	COUNTER_CLIENT_ADDRESSES, /* a gauge: clients whose connections are counted (clients.h) */
	/* Connections that were not served. */
	COUNTER_REFUSED_NOT_PROXY, /* of somebody who is no proxy, where only proxies may */
	COUNTER_REFUSED_HEADER,    /* of a proxy, without a PROXY header that can be read */
	COUNTER_REFUSED_MANY,      /* of a client that has as many as it may */
	COUNTER_REFUSED_ADDRESSES, /* of one too many to be counted */
	COUNTER_CHAT_MEMBERS,      /* a gauge: of this worker */
	COUNTER_CHAT_LINES,        /* that were said */
	COUNTER_CHAT_DROPPED,      /* clients that did not take their lines */
	COUNTER_LAST = 63
};

/* What is measured: microseconds, but for groups. */
enum measure {
	MEASURE_REQUEST, /* from the first byte of a request until its answer may leave */
	MEASURE_STREAM, /* of one that is answered while it comes, until its last answer was written
	                 */
	MEASURE_FDATASYNC, /* one fdatasync */
	MEASURE_GROUP,     /* client events of one group commit */
	MEASURES
};

/*
 * A log-linear histogram: HISTOGRAM_STEPS buckets for each doubling, so a value is known to a
 * quarter.  Bucket i holds the values above histogram_bound(i - 1) up to histogram_bound(i); the
 * first from 0 on, the last whatever is greater.
 */
#define HISTOGRAM_STEPS   4
#define HISTOGRAM_BUCKETS 128

struct histogram {
	_Atomic uint64_t sum;
	_Atomic uint64_t bucket[HISTOGRAM_BUCKETS];
};

#define COUNTER_REASONS   128 /* places of src/wire/reason.h; the last is for what is not there */
#define COUNTER_ENDPOINTS 32  /* of src/wire/endpoint.h */
#define COUNTER_STATUSES  32  /* likewise */

struct counters {
	_Alignas(64) _Atomic uint64_t value[COUNTER_LAST + 1];
	struct histogram measured[MEASURES];
	_Atomic uint64_t requests[COUNTER_ENDPOINTS][COUNTER_STATUSES]; /* answered */
	_Atomic uint64_t events[COUNTER_REASONS]; /* REFUSED, REJECTED and INVALID, by reason */
	_Atomic uint64_t errors[COUNTER_REASONS]; /* answers to what is no operation, likewise */
};

/* The set of process slot SLOT. */
struct counters *counter_set(struct region *region, uint32_t slot);

/* One writer per set: a plain add needs no locked instruction. */
static inline void counter_bump(_Atomic uint64_t *value, uint64_t amount)
{
	uint64_t now = atomic_load_explicit(value, memory_order_relaxed);
	atomic_store_explicit(value, now + amount, memory_order_relaxed);
}

static inline void counter_add(struct counters *counters, enum counter counter, uint64_t amount)
{
	counter_bump(&counters->value[counter], amount);
}

static inline void counter_store(struct counters *counters, enum counter counter, uint64_t value)
{
	atomic_store_explicit(&counters->value[counter], value, memory_order_relaxed);
}

static inline uint64_t counter_load(const struct counters *counters, enum counter counter)
{
	return atomic_load_explicit(&counters->value[counter], memory_order_relaxed);
}

/* The bucket of VALUE. */
static inline unsigned histogram_place(uint64_t value)
{
	/* Bounds belong to the bucket below them. */
	uint64_t below = value > 0 ? value - 1 : 0;
	if (below < HISTOGRAM_STEPS)
		return (unsigned)below;
	unsigned doubling = 63u - (unsigned)__builtin_clzll(below);
	unsigned place = (doubling - 1) * HISTOGRAM_STEPS +
	                 (unsigned)(below >> (doubling - 2)) % HISTOGRAM_STEPS;
	return place < HISTOGRAM_BUCKETS ? place : HISTOGRAM_BUCKETS - 1;
}

/* The greatest value of bucket PLACE; of the last one: of those that it would have by its place. */
static inline uint64_t histogram_bound(unsigned place)
{
	unsigned next = place + 1;
	if (next < HISTOGRAM_STEPS)
		return next;
	return (uint64_t)(HISTOGRAM_STEPS + next % HISTOGRAM_STEPS) << (next / HISTOGRAM_STEPS - 1);
}

/* Counts COUNT values of VALUE each. */
static inline void counter_measure(struct counters *counters, enum measure measure, uint64_t value,
                                   uint64_t count)
{
	struct histogram *histogram = &counters->measured[measure];

	/* In this order: nothing is counted whose sum is not there. */
	counter_bump(&histogram->sum, value * count);
	counter_bump(&histogram->bucket[histogram_place(value)], count);
}

/* How many values HISTOGRAM has. */
uint64_t histogram_count(const struct histogram *histogram);

/* Requests that SET has answered. */
uint64_t counter_requests(const struct counters *set);

/* Adds every counter of SET to TOTAL, which only the caller knows. */
void counter_total(const struct counters *set, struct counters *total);

/*
 * SET's owner is gone: its gauges are zero, and answers that it had not let go are lost: then
 * requests answered = requests and streams measured + answers lost.
 */
void counter_bury(struct counters *set);

/* The sum of COUNTER over all slots. */
uint64_t counter_sum(struct region *region, enum counter counter);

#endif
