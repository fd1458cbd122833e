/* The snapshotter: a short-lived child that writes one snapshot beside live traffic. */
#ifndef TALLYD_DAEMON_SNAPSHOTTER_H
#define TALLYD_DAEMON_SNAPSHOTTER_H

#include <stdint.h>

struct region;
struct retention; /* src/ledger/prune.h */

/*
 * Writes a snapshot into the directory PATH, then removes what RETENTION does not keep of the
 * journal in the directory JOURNAL.  The exit status: 0, 70 poisoned, 1 failed (logged).
 */
int snapshotter_run(struct region *region, uint32_t slot, const char *path, const char *journal,
                    const struct retention *retention);

#endif
