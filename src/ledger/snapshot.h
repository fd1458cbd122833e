/*
 * Snapshots: the table as it was while traffic went on, so that recovery need not replay
 * the journal from its beginning.  tallyd-journal(5) describes the format.
 *
 * A snapshot holds every effect of the records before `start`, and some of later ones, each
 * account with the LSN that it had.  Replay from `start` applies to each account what is
 * newer than that.
 */
#ifndef TALLYD_LEDGER_SNAPSHOT_H
#define TALLYD_LEDGER_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct region;

#define SNAPSHOTS_KEPT 2

struct snapshot {
	uint64_t start;   /* replay begins here */
	uint64_t newest;  /* LSN of the newest record of which it holds an effect */
	uint64_t seal_to; /* the newest seal before `start`; 0: none */
	uint64_t seal_hash;
	uint64_t accounts;
	uint64_t taken_us;
};

enum snapshot_status {
	SNAPSHOT_OK,
	SNAPSHOT_NONE,
	SNAPSHOT_BAD,      /* damaged, or of another journal: use an older one */
	SNAPSHOT_FULL,     /* max_accounts is too small for it */
	SNAPSHOT_IO,       /* errno */
	SNAPSHOT_POISONED, /* the region is */
};

/*
 * Writes a snapshot of REGION into the directory PATH (made if missing), keeps SNAPSHOTS_KEPT and
 * removes older ones.  It is published only once DURABLE_PAST(lsn) says that the journal is durable
 * beyond the newest effect in it and up to its start; that function waits, and returns false to
 * give up (SNAPSHOT_IO, ECANCELED).  Holds one stripe's lock at a time, for a copy.
 */
enum snapshot_status snapshot_write(struct region *region, const char *path, uint64_t key,
                                    bool (*durable_past)(struct region *region, uint64_t lsn),
                                    struct snapshot *snapshot);

/*
 * The newest snapshot in PATH that starts before BEFORE (UINT64_MAX: the newest of all): its
 * start in *START.  SNAPSHOT_OK, SNAPSHOT_NONE or SNAPSHOT_IO.
 */
enum snapshot_status snapshot_find(const char *path, uint64_t before, uint64_t *start);

/*
 * Verifies all of the snapshot START in PATH, then fills REGION's empty table from it.  Nothing is
 * changed unless it is sound.
 */
enum snapshot_status snapshot_load(struct region *region, const char *path, uint64_t start,
                                   uint64_t key, struct snapshot *snapshot);

#endif
