/*
 * Recovery: the newest good snapshot, the journal after it, the torn tail cut off.
 */
#ifndef TALLYD_LEDGER_RECOVER_H
#define TALLYD_LEDGER_RECOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "snapshot.h"
#include "store.h"

struct region;

struct recovery {
	uint64_t start;             /* the journal goes on here */
	uint64_t records;           /* read after the snapshot */
	uint64_t cut;               /* bytes of a torn write that were zeroed */
	bool clean;                 /* the last run ended with a stop record */
	uint32_t epoch;             /* of the last run, 0: none */
	struct snapshot snapshot;   /* the one used; start 0: none */
	unsigned snapshots_refused; /* damaged ones passed over */
	uint64_t bad; /* STORE_CORRUPT: all before it is proven, by checksums and seals; 0: the
	                 journal's records are not the matter */
	bool full;    /* STORE_CORRUPT: nothing is, but one of REGION's tables is too small */
};

/*
 * Rebuilds REGION's tables (fresh, empty) from the snapshots in the directory SNAPSHOTS and
 * from STORE, cuts a torn tail, and begins the region (region_begin).  With STORE_CORRUPT
 * (the disk cannot be trusted, or max_accounts or max_holds is too small) or STORE_IO, ERROR
 * (STORE_ERROR_SIZE bytes) says what, where and what to do, and nothing on disk was changed.
 */
enum store_status recover(struct store *store, const char *snapshots, struct region *region,
                          struct recovery *recovery, char *error);

/*
 * The same without touching the disk or beginning the region: what would it come to?  Snapshots
 * that start at BEFORE or later are passed over.  For tools; STORE may be for reading only.
 */
enum store_status recover_rehearse(struct store *store, const char *snapshots, uint64_t before,
                                   struct region *region, struct recovery *recovery, char *error);

#endif
