#include "share.h"

#include "../../shm/counter.h"

#define SLACK 8 /* an eighth more than another has is not worth a delay */

bool share_exceeds(uint64_t own, const struct counters *const *peers, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (counter_load(peers[i], COUNTER_ACCEPTING) == 0)
			continue;
		uint64_t other = counter_load(peers[i], COUNTER_CONNECTIONS_OPEN);
		if (own > other + 1 + other / SLACK)
			return true;
	}
	return false;
}
