#include "snapshotter.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "../../shm/region.h"
#include "../base/clock.h"
#include "../base/log.h"
#include "../ledger/prune.h"
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

/* A journal that could not be made shorter is as good as before. */
static void prune(struct region *region, const char *snapshots, const char *journal,
                  const struct retention *retention)
{
	const struct prune_limits limits = {.tail = atomic_load(&region_marks(region)->tail),
	                                    .window_us =
	                                        atomic_load(&region_settings(region)->id_window_us),
	                                    .now_us = clock_real_us()};
	struct pruning done;

	if (prune_journal(journal, snapshots, retention, &limits, &done) != 0)
		log_error("%s: old segments could not be removed: %s; trying again after the next "
		          "snapshot",
		          journal, strerror(errno));
	if (done.segments != 0)
		log_info("journal: %" PRIu64 " old segment(s) of %" PRIu64
		         " bytes removed, it begins at position %" PRIu64 " now",
		         done.segments, done.bytes, done.first);
}

int snapshotter_run(struct region *region, uint32_t slot, const char *path, const char *journal,
                    const struct retention *retention)
{
	struct snapshot snapshot;
	uint64_t began = clock_monotonic_us();

	region_enter(region, slot);
	record_install(region);
	switch (snapshot_write(region, path, region_geometry(region)->journal_key, durable_past,
	                       &snapshot)) {
	case SNAPSHOT_OK:
		log_info("snapshot at position %" PRIu64 ": %" PRIu64 " accounts, %" PRIu64
		         " ids, %" PRIu64 " holds in %.3f s",
		         snapshot.start, snapshot.accounts, snapshot.ids, snapshot.holds,
		         (double)(clock_monotonic_us() - began) / 1e6);
		atomic_store(&region_snapshots(region)->start, snapshot.start);
		prune(region, path, journal, retention);
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
