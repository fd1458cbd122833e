#include "watch.h"

#include <inttypes.h>

#include "../../shm/region.h"
#include "../base/clock.h"
#include "../base/log.h"
#include "../ledger/ledger.h"

#define PERIOD_US UINT64_C(60000000)

void watch_ids(struct watch *watch, struct region *region)
{
	const struct region_marks *marks = region_marks(region);
	uint64_t forgotten = atomic_load(&marks->ids_forgotten);
	uint64_t now = clock_monotonic_us();

	if (forgotten == watch->ids_forgotten || now < watch->next_us)
		return;
	log_warning("%" PRIu64 " id(s) younger than id_window were forgotten, ids are really kept "
	            "for %.3f s: raise max_ids and restart, or shorten id_window",
	            forgotten - watch->ids_forgotten,
	            (double)ledger_ids_kept(region, clock_real_us()) / 1e6);
	watch->ids_forgotten = forgotten;
	watch->next_us = now + PERIOD_US;
}
