/* The snapshotter: a short-lived child that writes one snapshot beside live traffic. */
#ifndef TALLYD_DAEMON_SNAPSHOTTER_H
#define TALLYD_DAEMON_SNAPSHOTTER_H

#include <stdint.h>

#include "../ledger/prune.h"

struct confine;
struct region;

struct snapshotter_settings {
	const char *snapshots;         /* the directory that it is written to */
	const char *journal;           /* that of the journal */
	struct retention keep;         /* what is kept of that */
	const struct confine *confine; /* but for the two directories */
};

/*
 * Writes a snapshot, then removes what is not to be kept of the journal.  The exit status: 0, 70
 * poisoned, 1 failed (logged).
 */
int snapshotter_run(struct region *region, uint32_t slot,
                    const struct snapshotter_settings *settings);

#endif
