#include "facts.h"

#include "../../shm/holds.h"
#include "../../shm/ids.h"
#include "../../shm/region.h"
#include "ledger.h"

static uint64_t load(const _Atomic uint64_t *value)
{
	return atomic_load_explicit(value, memory_order_acquire);
}

/* What has moved on is read last, so that no difference is negative. */
static void read_journal(struct region *region, struct facts *facts)
{
	const struct region_marks *marks = region_marks(region);
	uint64_t released = load(&marks->released);
	uint64_t released_events = load(&marks->released_events);

	facts->durable = load(&marks->durable);
	facts->written = load(&marks->written);
	facts->queue.used = load(&marks->events) - released_events;
	facts->queue.limit = load(&region_settings(region)->queue_events);
	facts->tail = load(&marks->tail);
	facts->ring.used = facts->tail - released;
	facts->ring.limit = region_geometry(region)->ring_size - RING_RESERVE;
	facts->space = load(&marks->space);
	facts->drain_rate = load(&marks->drain_rate);
	facts->disk_full = atomic_load(&marks->disk_full);
	facts->failed = atomic_load(&marks->failed);
	facts->poisoned = region_poisoned(region);
}

static void read_tables(struct region *region, uint64_t now_us, struct facts *facts)
{
	const struct region_geometry *geometry = region_geometry(region);
	const struct region_marks *marks = region_marks(region);

	facts->accounts =
	    (struct fact_use){load(&marks->used[USE_ACCOUNTS]), geometry->max_accounts};
	facts->account_slots =
	    (struct fact_use){load(&marks->used[USE_ACCOUNT_SLOTS]), region_slots(region)};
	facts->ids = (struct fact_use){load(&marks->used[USE_IDS]), geometry->max_ids};
	facts->holds = (struct fact_use){load(&marks->used[USE_HOLDS]), geometry->max_holds};
	facts->id_window_us = load(&region_settings(region)->id_window_us);
	facts->ids_kept_us = ledger_ids_kept(region, now_us);
	facts->ids_forgotten = load(&marks->ids_forgotten);
	facts->max_addresses = geometry->max_addresses;
}

static void read_life(struct region *region, struct facts *facts)
{
	const struct region_life *life = region_life(region);

	facts->started_us = load(&life->started_us);
	facts->respawns_worker = load(&life->respawns[REGION_WORKER]);
	facts->respawns_journal = load(&life->respawns[REGION_JOURNAL_WRITER]);
	facts->rebuilds = load(&life->rebuilds);
	facts->reloads = load(&life->reloads);
	facts->reloads_failed = load(&life->reloads_failed);
	facts->snapshots = load(&life->snapshots);
	facts->snapshots_failed = load(&life->snapshots_failed);
	facts->snapshot_us = load(&life->snapshot_us);
	facts->snapshot_lsn = load(&life->snapshot_lsn);
	facts->journal_first = load(&life->journal_first);
	facts->journal_segments = load(&life->journal_segments);
	facts->journal_bytes = load(&life->journal_bytes);
	facts->journal_looked_us = load(&life->journal_looked_us);
	facts->processes = atomic_load(&region_settings(region)->processes);
}

void facts_read(struct region *region, uint64_t now_us, struct facts *facts)
{
	read_journal(region, facts);
	read_tables(region, now_us, facts);
	read_life(region, facts);
}
