/* The snapshotter: a short-lived child that writes one snapshot beside live traffic. */
#ifndef TALLYD_DAEMON_SNAPSHOTTER_H
#define TALLYD_DAEMON_SNAPSHOTTER_H

#include <stdint.h>

struct region;

/* Writes a snapshot into the directory PATH.  The exit status: 0, 70 poisoned, 1 failed (logged).
 */
int snapshotter_run(struct region *region, uint32_t slot, const char *path);

#endif
