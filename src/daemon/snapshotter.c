#include "snapshotter.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "../../shm/region.h"
#include "../base/clock.h"
#include "../base/log.h"
#include "../ledger/record.h"
#include "../ledger/snapshot.h"

#define POLL_NS 2000000

/* The journal writer may be dead just now; its successor will come to it. */
static bool durable_past(struct region *region, uint64_t lsn)
{
	const struct region_marks *marks = region_marks(region);
	const struct timespec pause = {.tv_nsec = POLL_NS};

	while (atomic_load(&marks->durable) <= lsn) {
		if (atomic_load(&marks->failed) != 0)
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

int snapshotter_run(struct region *region, uint32_t slot, const char *path)
{
	struct snapshot snapshot;
	uint64_t began = clock_monotonic_us();

	region_enter(region, slot);
	record_install(region);
	switch (snapshot_write(region, path, region_geometry(region)->journal_key, durable_past,
	                       &snapshot)) {
	case SNAPSHOT_OK:
		log_info("snapshot at position %" PRIu64 ": %" PRIu64 " accounts in %.3f s",
		         snapshot.start, snapshot.accounts,
		         (double)(clock_monotonic_us() - began) / 1e6);
		return 0;
	case SNAPSHOT_POISONED:
		return 70;
	default:
		log_error("%s: no snapshot could be written: %s; the journal alone is enough, but "
		          "the next start takes longer",
		          path, strerror(errno));
		return 1;
	}
}
