#include "engine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "../../shm/region.h"
#include "../base/clock.h"
#include "../base/log.h"
#include "../ledger/ledger.h"
#include "../ledger/record.h"
#include "../ledger/recover.h"
#include "../ledger/store.h"

static int draw(struct region_geometry *geometry)
{
	uint32_t epoch;

	if (getrandom(&epoch, sizeof epoch, 0) != sizeof epoch)
		return -1;
	geometry->epoch = epoch;
	return 0;
}

static struct region *create(const struct config *config, const struct instance *instance,
                             uint64_t key, char *error, size_t size)
{
	struct region_geometry geometry = {.max_accounts = config->max_accounts,
	                                   .max_ids = config->max_ids,
	                                   .max_holds = config->max_holds,
	                                   .max_addresses = config->max_addresses,
	                                   .ring_size = config->ring_size,
	                                   .segment_size = config->journal_segment,
	                                   .processes = REGION_PROCESSES_MAX,
	                                   .hash_seed = record_hash_seed(key),
	                                   .journal_key = key};
	struct region *region;

	if (draw(&geometry) != 0) {
		snprintf(error, size, "getrandom: %s", strerror(errno));
		return NULL;
	}
	region = region_create(instance->region, &geometry);
	if (region == NULL)
		snprintf(error, size, "cannot make the shared memory %s of %" PRIu64 " bytes: %s%s",
		         instance->region, region_size(&geometry), strerror(errno),
		         errno == ENOSPC ? "; enlarge /dev/shm or lower max_accounts, max_ids, "
		                           "max_holds, max_addresses and ring_size"
		                         : "");
	else
		snprintf(region_roster(region)->version, REGION_TEXT_MAX, "%s", PACKAGE_VERSION);
	return region;
}

static void report(const struct recovery *recovery, uint64_t started_us)
{
	double seconds = (double)(clock_monotonic_us() - started_us) / 1e6;

	if (recovery->snapshots_refused != 0)
		log_warning("%u damaged snapshot(s) passed over", recovery->snapshots_refused);
	if (recovery->snapshot.start != 0)
		log_info("snapshot at position %" PRIu64 ": %" PRIu64 " accounts, %" PRIu64
		         " ids, %" PRIu64 " holds",
		         recovery->snapshot.start, recovery->snapshot.accounts,
		         recovery->snapshot.ids, recovery->snapshot.holds);
	if (recovery->snapshot.ids_left_out != 0)
		log_warning("the %" PRIu64
		            " oldest ids of the snapshot are forgotten: raise max_ids",
		            recovery->snapshot.ids_left_out);
	log_notice("recovered in %.3f s: %" PRIu64
	           " records replayed, the journal goes on at %" PRIu64 "%s",
	           seconds, recovery->records, recovery->start,
	           recovery->clean || recovery->epoch == 0 ? ""
	                                                   : " (the last run ended uncleanly)");
}

static const char *remedy(int cause)
{
	return cause == ENOSPC ? "; make room on the disk of the data directory" : "";
}

/* The last segment may be too full even for the record that begins a run. */
static int begin(struct region *region, struct store *store, char *error, size_t size)
{
	const struct region_marks *marks = region_marks(region);
	uint64_t start = atomic_load(&marks->tail);

	if (ledger_begin(region, clock_real_us()))
		return 0;
	if (store_extend(store) != 0) {
		snprintf(error, size, "cannot make the next journal segment: %s%s", strerror(errno),
		         remedy(errno));
		return 1;
	}
	region_begin(region, start, store_segment_end(store, start), store_space(store));
	if (ledger_begin(region, clock_real_us()))
		return 0;
	snprintf(error, size, "the journal takes no record");
	return 1;
}

/* By a clock that was ahead: what has been lost was lost by now. */
static void lose_nothing_later(struct region *region)
{
	struct region_marks *marks = region_marks(region);
	uint64_t now_us = clock_real_us();

	if (atomic_load(&marks->ids_lost_us) > now_us)
		atomic_store(&marks->ids_lost_us, now_us);
}

static int fill(struct engine *engine, struct store *store, const struct instance *instance,
                char *error, size_t size)
{
	struct recovery recovery;
	uint64_t started_us = clock_monotonic_us();
	enum store_status status =
	    recover(store, instance->snapshots, engine->region, &recovery, error);

	if (status != STORE_OK)
		return status == STORE_CORRUPT ? 3 : 1;
	report(&recovery, started_us);
	lose_nothing_later(engine->region);
	*region_recovery(engine->region) = (struct region_recovery){
	    .took_us = clock_monotonic_us() - started_us,
	    .records = recovery.records,
	    .snapshot = recovery.snapshot.start,
	    .snapshots_refused = recovery.snapshots_refused,
	    .ids_left_out = recovery.snapshot.ids_left_out,
	    .unclean = !recovery.clean && recovery.epoch != 0,
	};
	engine->snapshot_start = recovery.snapshot.start;
	return begin(engine->region, store, error, size);
}

/* Snapshots without a journal: somebody removed it, and beginning anew would forget balances. */
static bool journal_lost(const struct store *store, const struct instance *instance)
{
	uint64_t start;

	return store_empty(store) &&
	       snapshot_find(instance->snapshots, UINT64_MAX, &start) == SNAPSHOT_OK;
}

/* What was forgotten in earlier runs, or now, is missing in this one too. */
static void report_ids(struct region *region)
{
	uint64_t window = atomic_load(&region_settings(region)->id_window_us);
	uint64_t kept = ledger_ids_kept(region, clock_real_us());

	if (kept < window)
		log_warning("ids younger than id_window were forgotten before this start, ids are "
		            "really kept for %.3f s now: if it goes on, raise max_ids and restart, "
		            "or shorten id_window",
		            (double)kept / 1e6);
}

static int build(struct engine *engine, const struct config *config,
                 const struct instance *instance, struct store *store, char *error, size_t size)
{
	if (journal_lost(store, instance)) {
		snprintf(
		    error, size,
		    "%.300s: there are snapshots but no journal; bring the journal back, or move "
		    "the snapshots away to begin with nothing",
		    instance->journal);
		return 3;
	}
	if (store_claim(store, config->journal_segment) != 0) {
		snprintf(error, size, "%.300s: cannot make the first journal segment: %s%s",
		         instance->journal, strerror(errno), remedy(errno));
		return 1;
	}
	engine->region = create(config, instance, store_key(store), error, size);
	if (engine->region == NULL)
		return 1;
	int status = fill(engine, store, instance, error, size);
	if (status != 0) {
		engine_destroy(engine, instance);
		return status;
	}
	engine_configure(engine, config);
	report_ids(engine->region);
	return 0;
}

int engine_build(struct engine *engine, const struct config *config,
                 const struct instance *instance, char *error, size_t error_size)
{
	char message[STORE_ERROR_SIZE] = "";
	enum store_status opened;
	struct store *store = store_open(instance->journal, &opened, message);
	int status = opened == STORE_CORRUPT ? 3 : 1;

	engine->region = NULL;
	engine->snapshot_start = 0;
	if (store != NULL)
		status = build(engine, config, instance, store, message, sizeof message);
	store_close(store);
	if (status != 0)
		snprintf(error, error_size, "%s", message);
	return status;
}

void engine_configure(struct engine *engine, const struct config *config)
{
	struct region_settings *settings = region_settings(engine->region);

	atomic_store(&settings->queue_events, config->queue_events);
	atomic_store(&settings->journal_delay_ms, config->journal_delay);
	atomic_store(&settings->sync_interval_ms,
	             config->sync == CONFIG_SYNC_ALWAYS ? 0 : config->sync_interval);
	atomic_store(&settings->auto_create, config->auto_create);
	atomic_store(&settings->default_floor, config->default_floor);
	atomic_store(&settings->default_ceiling, config->default_ceiling);
	atomic_store(&settings->id_window_us, (uint64_t)(config->id_window * 1e6));
}

void engine_destroy(struct engine *engine, const struct instance *instance)
{
	if (engine->region == NULL)
		return;
	region_close(engine->region);
	region_unlink(instance->region);
	engine->region = NULL;
}
