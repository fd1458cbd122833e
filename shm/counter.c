#include "counter.h"

#include "layout.h"

struct counters *counter_set(struct region *region, uint32_t slot)
{
	return &region->processes[slot].counters;
}

uint64_t counter_sum(struct region *region, enum counter counter)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < region->header->geometry.processes; i++)
		sum += atomic_load_explicit(&region->processes[i].counters.value[counter],
		                            memory_order_relaxed);
	return sum;
}
