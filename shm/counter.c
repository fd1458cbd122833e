#include "counter.h"

#include "layout.h"

_Static_assert(sizeof(struct counters) % sizeof(uint64_t) == 0, "it is nothing but counters");
_Static_assert(sizeof(struct counters) % CACHE_LINE == 0, "sets share no cache line");
_Static_assert(offsetof(struct counters, value) < offsetof(struct counters, measured) &&
                   offsetof(struct counters, measured) < offsetof(struct counters, requests),
               "counter_total reads what comes later first");

struct counters *counter_set(struct region *region, uint32_t slot)
{
	return &region->processes[slot].counters;
}

static uint64_t load(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_relaxed);
}

uint64_t histogram_count(const struct histogram *histogram)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		count += load(&histogram->bucket[i]);
	return count;
}

uint64_t counter_requests(const struct counters *set)
{
	const _Atomic uint64_t *first = &set->requests[0][0];
	uint64_t count = 0;

	for (unsigned i = 0; i < COUNTER_ENDPOINTS * COUNTER_STATUSES; i++)
		count += load(&first[i]);
	return count;
}

/*
 * In this order: a request is counted before its answer is measured or lost, so what was measured
 * and lost is read first, and never seems to be more.
 */
void counter_total(const struct counters *set, struct counters *total)
{
	const _Atomic uint64_t *from = (const _Atomic uint64_t *)(const void *)set;
	_Atomic uint64_t *to = (_Atomic uint64_t *)(void *)total;

	for (size_t i = 0; i < sizeof *set / sizeof *from; i++)
		counter_bump(&to[i], atomic_load_explicit(&from[i], memory_order_acquire));
}

void counter_bury(struct counters *set)
{
	static const enum counter gauges[] = {
	    COUNTER_PID,
	    COUNTER_ACCEPTING,
	    COUNTER_CONNECTIONS_OPEN,
	    COUNTER_CONNECTIONS_IDLE,
	    COUNTER_CONNECTIONS_READING,
	    COUNTER_CONNECTIONS_SERVING,
	    COUNTER_CONNECTIONS_STREAMING,
	    COUNTER_CONNECTIONS_WAITING,
	    COUNTER_CONNECTIONS_WRITING,
	    COUNTER_CONNECTIONS_CLOSING,
	    COUNTER_CLIENT_ADDRESSES,
	    COUNTER_CHAT_MEMBERS,
	};

	for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++)
		counter_store(set, gauges[i], 0);
	counter_store(set, COUNTER_ANSWERS_LOST,
	              counter_requests(set) - histogram_count(&set->measured[MEASURE_REQUEST]) -
	                  histogram_count(&set->measured[MEASURE_STREAM]));
}

uint64_t counter_sum(struct region *region, enum counter counter)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < region->header->geometry.processes; i++)
		sum += load(&region->processes[i].counters.value[counter]);
	return sum;
}
