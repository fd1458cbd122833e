/*
 * Keeps one journal segment ready ahead of the writer, in a thread of its own: making one
 * takes as long as writing it does, and the writer must not wait.  A full disk is found here,
 * before it can hurt: updates are refused while there is no next segment, and it is tried again
 * every second.
 */
#ifndef TALLYD_DAEMON_EXTENDER_H
#define TALLYD_DAEMON_EXTENDER_H

#include <stdint.h>

struct extender;
struct region;
struct store;

/* Starts for STORE, whose writer is at POSITION; publishes in REGION's marks `space` and
 * `disk_full`.  NULL with errno. */
struct extender *extender_start(struct store *store, struct region *region, uint64_t position);

/* The writer has come to POSITION. */
void extender_advance(struct extender *extender, uint64_t position);

/* Ends the thread (after the segment that it may be making) and frees EXTENDER; NULL is nothing. */
void extender_stop(struct extender *extender);

#endif
