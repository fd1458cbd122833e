/*
 * The tables as the files have them, in memory of one's own: for tools.  The directory is only
 * read, no lock is taken, and a daemon may be writing.
 */
#ifndef TALLYD_LEDGER_VIEW_H
#define TALLYD_LEDGER_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot.h"
#include "store.h"

struct region;

#define VIEW_TRIES 5 /* where files went away while they were read */

struct view {
	struct region *region;    /* accounts, holds, and ids if they were asked for */
	uint64_t key;             /* the journal's */
	uint64_t lsn;             /* every record before it is applied, and none after */
	uint64_t newest;          /* LSN of the newest of them, 0: there is none */
	uint64_t time_us;         /* its time */
	uint64_t records;         /* read after the snapshot */
	struct snapshot snapshot; /* the one used; start 0: none */
};

/*
 * Makes *VIEW from the newest good snapshot in the directory SNAPSHOTS and the records in JOURNAL
 * that follow it, up to what is written.  RUNNING: a daemon may be writing.  IDS: all that are
 * known are wanted, too.  The tables are as large as they must be.  STORE_CORRUPT (damage) and
 * STORE_IO (errno) with ERROR (STORE_ERROR_SIZE bytes), and nothing to close.
 */
enum store_status view_open(struct view *view, const char *journal, const char *snapshots,
                            bool running, bool ids, char *error);
void view_close(struct view *view); /* once more, or of {0}: fine */

/*
 * A region for a tool's own replay of the journal with KEY, with room for ACCOUNTS, IDS and open
 * HOLDS.  NULL with errno.
 */
#define VIEW_ACCOUNTS UINT64_C(65536) /* to begin with */
#define VIEW_HOLDS    UINT64_C(4096)
#define VIEW_IDS      UINT64_C(65536)
#define VIEW_GROWTH   8 /* times, whenever it was too little */
struct region *view_region(uint64_t key, uint64_t accounts, uint64_t ids, uint64_t holds);

#endif
