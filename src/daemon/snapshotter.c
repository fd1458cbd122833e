#include "snapshotter.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../shm/region.h"
#include "../base/clock.h"
#include "../base/log.h"
#include "../ledger/disk.h"
#include "../ledger/prune.h"
#include "../ledger/record.h"
#include "../ledger/snapshot.h"
#include "../ledger/store.h"
#include "confine.h"

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

/* The descriptors say which folders are meant, and are done with then. */
static bool confine_to_folders(const struct snapshotter_settings *settings)
{
	struct confine confined = *settings->confine;
	char error[STORE_ERROR_SIZE];
	int result = -1;

	confined.snapshots = disk_directory(settings->snapshots);
	confined.journal = disk_directory(settings->journal);
	if (confined.snapshots < 0 || confined.journal < 0)
		snprintf(error, sizeof error, "%.400s: cannot be opened: %s",
		         confined.snapshots < 0 ? settings->snapshots : settings->journal,
		         strerror(errno));
	else
		result = confine(&confined, error, sizeof error);
	if (confined.snapshots >= 0)
		close(confined.snapshots);
	if (confined.journal >= 0)
		close(confined.journal);
	if (result != 0)
		log_error("%s; no snapshot is written", error);
	return result == 0;
}

static int write_one(struct region *region, const struct snapshotter_settings *settings)
{
	struct snapshot snapshot;
	uint64_t began = clock_monotonic_us();

	switch (snapshot_write(region, settings->snapshots, region_geometry(region)->journal_key,
	                       durable_past, &snapshot)) {
	case SNAPSHOT_OK:
		log_info("snapshot at position %" PRIu64 ": %" PRIu64 " accounts, %" PRIu64
		         " ids, %" PRIu64 " holds in %.3f s",
		         snapshot.start, snapshot.accounts, snapshot.ids, snapshot.holds,
		         (double)(clock_monotonic_us() - began) / 1e6);
		atomic_store(&region_snapshots(region)->start, snapshot.start);
		prune(region, settings->snapshots, settings->journal, &settings->keep);
		return 0;
	case SNAPSHOT_POISONED:
		return 70;
	default:
		log_error("%s: no snapshot could be written: %s; the journal alone is enough, but "
		          "the next start takes longer",
		          settings->snapshots, strerror(errno));
		return 1;
	}
}

int snapshotter_run(struct region *region, uint32_t slot,
                    const struct snapshotter_settings *settings)
{
	region_enter(region, slot);
	record_install(region);
	return confine_to_folders(settings) ? write_one(region, settings) : 1;
}
