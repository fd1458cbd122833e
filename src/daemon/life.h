/*
 * What the master tells in the region of the daemon's life (struct region_life), for metrics and
 * tools.
 */
#ifndef TALLYD_DAEMON_LIFE_H
#define TALLYD_DAEMON_LIFE_H

#include <stdbool.h>
#include <stdint.h>

#include "../../shm/region.h"
#include "instance.h"

/* Start from {0}. */
struct life {
	const struct instance *instance;
	struct region *region;
	uint64_t space;   /* of the journal, when it was looked at last */
	uint64_t look_us; /* not looked at again before, clock_monotonic_us; 0: at once */
	bool complained;  /* that it cannot be looked at */
};

/* A region fresh from recovery: the daemon runs since STARTED_US (since 1970). */
void life_begin(struct life *life, struct region *region, const struct instance *instance,
                uint64_t started_us);

/* What has been told so far, kept while the region is made anew, and told again afterwards. */
struct life_kept {
	uint64_t respawns[REGION_ROLES];
	uint64_t rebuilds;
	uint64_t reloads;
	uint64_t reloads_failed;
	uint64_t snapshots;
	uint64_t snapshots_failed;
};
struct life_kept life_keep(const struct life *life);
void life_go_on(struct life *life, const struct life_kept *kept);

/* Who died in ROLE was replaced. */
void life_respawned(struct region *region, enum region_role role);

/* A reload took effect, or not. */
void life_reloaded(struct region *region, bool done);

/* A snapshotter has ended; GOOD: with a snapshot. */
void life_snapshot(struct life *life, bool good);

/*
 * Looks at the journal's directory if it can have changed, at most once a second, and once a
 * minute anyhow.
 */
void life_look(struct life *life);

#endif
