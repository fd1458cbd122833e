#include "life.h"

#include <errno.h>
#include <string.h>

#include "../base/clock.h"
#include "../base/log.h"
#include "../ledger/snapshot.h"
#include "../ledger/survey.h"

#define LOOK_PAUSE_US UINT64_C(1000000)
#define LOOK_EVERY_US UINT64_C(60000000)

static struct region_life *told(const struct life *life)
{
	return region_life(life->region);
}

/* The newest snapshot that is there: how old, and where it begins. */
static void tell_snapshot(struct life *life)
{
	uint64_t key = region_geometry(life->region)->journal_key;
	struct snapshot snapshot;
	uint64_t start;

	if (snapshot_find(life->instance->snapshots, UINT64_MAX, &start) != SNAPSHOT_OK ||
	    snapshot_peek(life->instance->snapshots, start, key, &snapshot) != SNAPSHOT_OK)
		return;
	atomic_store(&told(life)->snapshot_lsn, snapshot.start);
	atomic_store(&told(life)->snapshot_us, snapshot.taken_us);
}

void life_begin(struct life *life, struct region *region, const struct instance *instance,
                uint64_t started_us)
{
	*life = (struct life){.instance = instance, .region = region};
	atomic_store(&told(life)->started_us, started_us);
	tell_snapshot(life);
	life_look(life);
}

struct life_kept life_keep(const struct life *life)
{
	const struct region_life *from = told(life);
	struct life_kept kept = {.rebuilds = atomic_load(&from->rebuilds) + 1,
	                         .reloads = atomic_load(&from->reloads),
	                         .reloads_failed = atomic_load(&from->reloads_failed),
	                         .snapshots = atomic_load(&from->snapshots),
	                         .snapshots_failed = atomic_load(&from->snapshots_failed)};

	for (unsigned i = 0; i < REGION_ROLES; i++)
		kept.respawns[i] = atomic_load(&from->respawns[i]);
	return kept;
}

void life_go_on(struct life *life, const struct life_kept *kept)
{
	struct region_life *to = told(life);

	for (unsigned i = 0; i < REGION_ROLES; i++)
		atomic_store(&to->respawns[i], kept->respawns[i]);
	atomic_store(&to->rebuilds, kept->rebuilds);
	atomic_store(&to->reloads, kept->reloads);
	atomic_store(&to->reloads_failed, kept->reloads_failed);
	atomic_store(&to->snapshots, kept->snapshots);
	atomic_store(&to->snapshots_failed, kept->snapshots_failed);
}

void life_respawned(struct region *region, enum region_role role)
{
	atomic_fetch_add(&region_life(region)->respawns[role], 1);
}

void life_reloaded(struct region *region, bool done)
{
	struct region_life *life = region_life(region);

	atomic_fetch_add(done ? &life->reloads : &life->reloads_failed, 1);
}

void life_snapshot(struct life *life, bool good)
{
	atomic_fetch_add(good ? &told(life)->snapshots : &told(life)->snapshots_failed, 1);
	if (good)
		tell_snapshot(life);
	/* It may have removed segments. */
	life->space = 0;
}

void life_look(struct life *life)
{
	uint64_t space = atomic_load(&region_marks(life->region)->space);
	uint64_t looked_us = atomic_load(&told(life)->journal_looked_us);
	uint64_t now = clock_monotonic_us();
	struct survey survey;

	if (now < life->look_us ||
	    (space == life->space && clock_real_us() - looked_us < LOOK_EVERY_US))
		return;
	life->look_us = now + LOOK_PAUSE_US;
	if (survey_journal(life->instance->journal, &survey) != 0) {
		if (!life->complained)
			log_warning("%s: its size cannot be read: %s; metrics show an older one",
			            life->instance->journal, strerror(errno));
		life->complained = true;
		return;
	}
	life->complained = false;
	life->space = space;
	atomic_store(&told(life)->journal_first, survey.first);
	atomic_store(&told(life)->journal_segments, survey.segments);
	atomic_store(&told(life)->journal_bytes, survey.bytes);
	atomic_store(&told(life)->journal_looked_us, clock_real_us());
}
