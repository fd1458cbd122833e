/*
 * What the region says of itself, besides the counters, at one moment: for those who show it.
 * Reading takes no lock and changes nothing, so a region that was mapped read-only will do.
 */
#ifndef TALLYD_LEDGER_FACTS_H
#define TALLYD_LEDGER_FACTS_H

#include <stdbool.h>
#include <stdint.h>

struct region;

/* How much of something is used, and how much there is. */
struct fact_use {
	uint64_t used;
	uint64_t limit; /* UINT64_MAX: none */
};

struct facts {
	/* the journal's ring, which is the queue */
	struct fact_use ring;  /* bytes of records whose answers may not leave yet */
	struct fact_use queue; /* events, likewise */
	uint64_t tail;         /* LSNs: see region_marks */
	uint64_t written;
	uint64_t durable;
	uint64_t space;
	uint64_t drain_rate; /* events per second */
	uint32_t disk_full;  /* errno, or 0 */
	uint32_t failed;     /* likewise */
	bool poisoned;

	/* the tables */
	struct fact_use accounts;      /* one with a long name may need the place of two */
	struct fact_use account_slots; /* of accounts: what there is is more than max_accounts */
	struct fact_use ids;
	struct fact_use holds;  /* open */
	uint64_t id_window_us;  /* wanted */
	uint64_t ids_kept_us;   /* really */
	uint64_t ids_forgotten; /* that were younger than id_window */
	uint32_t max_addresses; /* clients whose connections each worker counts */

	/* the daemon's life */
	uint64_t started_us; /* since 1970 */
	uint64_t respawns_worker;
	uint64_t respawns_journal;
	uint64_t rebuilds;
	uint64_t reloads;
	uint64_t reloads_failed;
	uint64_t snapshots;
	uint64_t snapshots_failed;
	uint64_t snapshot_us; /* when the newest was taken, since 1970; 0: there is none */
	uint64_t snapshot_lsn;
	uint64_t journal_first; /* LSN */
	uint64_t journal_segments;
	uint64_t journal_bytes;     /* on the disk */
	uint64_t journal_looked_us; /* when these three were looked up, since 1970 */
	uint32_t processes;         /* process slots 0 to this minus 1 may be in use */
};

/* Reads REGION at NOW_US (microseconds since 1970) into *FACTS. */
void facts_read(struct region *region, uint64_t now_us, struct facts *facts);

#endif
