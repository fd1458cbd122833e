/*
 * What the master reads in the region now and then, and has to tell the administrator.
 */
#ifndef TALLYD_DAEMON_WATCH_H
#define TALLYD_DAEMON_WATCH_H

#include <stdint.h>

struct region;

/* What was told already.  Start from {0} with each region. */
struct watch {
	uint64_t ids_forgotten;
	uint64_t next_us; /* no line before */
};

/* Ids that had to make room although they were younger than id_window: one line a minute. */
void watch_ids(struct watch *watch, struct region *region);

#endif
