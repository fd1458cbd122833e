/*
 * The region: one POSIX shared-memory object that the master creates before its
 * first fork and that every child inherits.  It holds the account table, the journal
 * ring, the operation areas, the counters, the marks and the operators' room.  It is rebuilt from
 * disk at every start; nothing in it outlives the daemon.
 */
#ifndef TALLYD_SHM_REGION_H
#define TALLYD_SHM_REGION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REGION_PROCESSES_MAX 160   /* process slots: two generations of 64 workers, and others */
#define REGION_RING_MIN      65536 /* bytes */
#define REGION_IDS_MIN       64
#define REGION_HOLDS_MIN     64
#define SEGMENT_HEAD         4096  /* bytes at the start of each journal segment */
#define JOURNAL_RECORD_MIN   48    /* bytes; less room than this at a segment's end stays zero */
#define JOURNAL_RECORD_MAX   4096  /* bytes */
#define RING_RESERVE         16384 /* bytes of ring that only the journal writer's own records use */
#define SPACE_RESERVE        16384 /* bytes of the last segment, likewise */

struct region;

/* What the creator decides. */
struct region_geometry {
	uint64_t max_accounts;  /* room is made for at least so many; one with a long name
	                           (TABLE_NAME_INLINE) counts twice */
	uint64_t max_ids;       /* likewise, ids that are remembered */
	uint64_t max_holds;     /* likewise, open holds */
	uint32_t max_addresses; /* clients whose connections each process counts (clients.h) */
	uint64_t ring_size;     /* bytes, a power of two, at least REGION_RING_MIN */
	uint64_t segment_size;  /* bytes of segments that will be made */
	uint32_t processes;     /* process slots, at most REGION_PROCESSES_MAX */
	uint64_t hash_seed;   /* secret, so that nobody can aim at one stripe; the same in every run
	                         on one journal, so that the order of a listing is */
	uint64_t journal_key; /* of the journal, seeds its checksums */
	uint32_t epoch;       /* random, of this run */
};

/*
 * Settings that may change while the daemon runs.  The master stores, all read.
 */
struct region_settings {
	_Atomic uint64_t queue_events;     /* undurable events allowed at once */
	_Atomic uint32_t journal_delay_ms; /* pause before each group commit */
	_Atomic uint32_t sync_interval_ms; /* 0: fdatasync before the answer */
	_Atomic uint32_t processes;        /* slots 0 to this minus 1 may be in use */
	_Atomic uint32_t auto_create;      /* events make accounts */
	_Atomic int64_t default_floor;     /* of accounts that events make */
	_Atomic int64_t default_ceiling;
	_Atomic uint64_t id_window_us; /* ids are to be remembered so long */
};

/* What is counted of the tables, exactly, as operations commit (operation_count). */
enum region_use {
	USE_ACCOUNTS,
	USE_ACCOUNT_SLOTS, /* an account with a long name (TABLE_NAME_INLINE) has two */
	USE_IDS,           /* remembered */
	USE_HOLDS,         /* open */
	USES
};

/* Who is replaced when it dies. */
enum region_role { REGION_WORKER, REGION_JOURNAL_WRITER, REGION_ROLES };

/*
 * How far the journal has come.  LSNs, monotone.  TAIL moves under the ring lock; the
 * others are the journal writer's alone.
 */
struct region_marks {
	_Alignas(64) _Atomic uint64_t tail;     /* end of the committed records */
	_Atomic uint64_t events;                /* client events up to tail, since the start */
	_Atomic uint64_t used[USES];            /* of the tables, by the records up to tail */
	_Alignas(64) _Atomic uint64_t released; /* answers below it may leave, ring bytes too */
	_Atomic uint64_t released_events;
	_Atomic uint64_t durable;                    /* fdatasync has covered all below */
	_Atomic uint64_t written;                    /* in the page cache */
	_Atomic uint64_t drain_rate;                 /* events per second, smoothed */
	_Alignas(64) _Atomic uint64_t space;         /* end of the preallocated journal */
	_Atomic uint32_t disk_full;                  /* the next segment could not be made */
	_Atomic uint32_t failed;                     /* the journal failed: an errno */
	_Alignas(64) _Atomic uint32_t writer_sleeps; /* futex: 1 while the writer sleeps */
	_Alignas(64) _Atomic uint64_t expired_us;    /* when holds were last looked through */
	_Atomic uint64_t ids_forgotten; /* ids that made room while younger than id_window */
	_Atomic uint64_t ids_lost_us;   /* the greatest time of an id that is not remembered any
	                                   more; 0: none.  Outlives the run, see snapshot.h */
};

/*
 * What the master knows of the daemon's life, and tells.  Only the master stores.
 */
struct region_life {
	_Atomic uint64_t started_us;             /* microseconds since 1970 */
	_Atomic uint64_t respawns[REGION_ROLES]; /* who died was replaced */
	_Atomic uint64_t rebuilds;               /* the region was made anew: it was poisoned */
	_Atomic uint64_t reloads;                /* that took effect */
	_Atomic uint64_t reloads_failed;
	_Atomic uint64_t snapshots; /* written */
	_Atomic uint64_t snapshots_failed;
	_Atomic uint64_t snapshot_us;   /* when the newest was taken; 0: there is none */
	_Atomic uint64_t snapshot_lsn;  /* where replay begins with it */
	_Atomic uint64_t journal_first; /* the first position that is kept */
	_Atomic uint64_t journal_segments;
	_Atomic uint64_t journal_bytes;     /* that their files take on the disk */
	_Atomic uint64_t journal_looked_us; /* when the last three were read, since 1970 */
};

/* How far the daemon is. */
enum region_phase { REGION_STARTING, REGION_SERVING, REGION_DRAINING, REGION_CLOSING };

/* Who may be in a process slot, and how far he is. */
enum region_member_role { MEMBER_NONE, MEMBER_WORKER, MEMBER_JOURNAL_WRITER, MEMBER_SNAPSHOTTER };
enum region_member_state { MEMBER_STARTING, MEMBER_SERVING, MEMBER_LEAVING };

struct region_member {
	_Atomic uint32_t pid;    /* 0: nobody */
	_Atomic uint32_t role;   /* enum region_member_role */
	_Atomic uint32_t number; /* of a worker, for people: 1 and up */
	_Atomic uint32_t state;  /* enum region_member_state */
};

#define REGION_TEXT_MAX 32 /* bytes of a version, its NUL included */

/*
 * The household, as the master sees it, for those who look at the region from outside.  Only the
 * master stores.
 */
struct region_roster {
	char version[REGION_TEXT_MAX]; /* of the daemon; set before the first fork */
	_Atomic uint32_t phase;        /* enum region_phase */
	_Atomic uint32_t workers;      /* that there should be */
	struct region_member member[REGION_PROCESSES_MAX]; /* by process slot */
};

/* What recovery met at the start of this run.  Set before the first fork. */
struct region_recovery {
	uint64_t took_us;
	uint64_t records;           /* replayed */
	uint64_t snapshot;          /* the position of the one that was used, 0: none */
	uint64_t snapshots_refused; /* damaged ones, passed over */
	uint64_t ids_left_out;      /* of the snapshot: max_ids was too small */
	uint64_t unclean;           /* 1: the run before did not end by itself */
};

/*
 * Snapshots of this run, of which there is one at a time, numbered from 1.  The master stores, but
 * for `start`, which is the snapshotter's; whoever has asked for one reads.
 */
struct region_snapshots {
	_Alignas(64) _Atomic uint64_t begun; /* the number of the newest */
	_Atomic uint64_t ended;              /* of the newest that is over */
	_Atomic uint64_t good;               /* of the newest that was written, 0: none */
	_Atomic uint64_t start;              /* of that: its position, and its file's name */
	_Atomic uint64_t took_us;            /* from the fork to the end, likewise */
};

/*
 * The newest seal of the journal.  A cell (shm/operation.h), guarded by the lock of stripe 0.
 */
struct region_seal {
	uint64_t lsn;  /* of the seal's record, 0: none yet */
	uint64_t to;   /* what it covers ends here */
	uint64_t hash; /* cumulative */
};

/*
 * Creates the region NAME ("/tallyd-..."), replacing a stale one: the caller holds the data
 * directory's lock.  All pages are allocated now, so that a full /dev/shm is an error here.
 * Returns a handle, or NULL with errno (ENOSPC: /dev/shm is too small; EINVAL: geometry).
 */
struct region *region_create(const char *name, const struct region_geometry *geometry);

/*
 * The same in memory that no other process sees and that is taken as it is touched: for tools that
 * replay a journal for themselves.  region_close frees it.
 */
struct region *region_create_private(const struct region_geometry *geometry);

/*
 * After recovery, before the first fork: the journal goes on at START, in a segment that ends
 * at SEGMENT_END, and is preallocated up to SPACE (LSNs).  Counts what is in the tables.
 */
void region_begin(struct region *region, uint64_t start, uint64_t segment_end, uint64_t space);

/* Counts what is in the tables by looking at all of them, with nobody at work. */
void region_count(const struct region *region, uint64_t used[USES]);

/* Empties the tables of accounts, ids and holds again: for recovery, before the first fork. */
void region_empty(struct region *region);

struct region_seal *region_seal(struct region *region);

/* Bytes that region_create would allocate, 0 if the geometry is invalid. */
uint64_t region_size(const struct region_geometry *geometry);

/* Maps the region NAME of a running daemon read-only, for tallyctl.  NULL with errno. */
struct region *region_inspect(const char *name);

/* Unmaps and frees the handle.  The object stays until region_unlink. */
void region_close(struct region *region);
int region_unlink(const char *name);

const struct region_geometry *region_geometry(const struct region *region);
struct region_settings *region_settings(struct region *region);
struct region_marks *region_marks(struct region *region);
struct region_life *region_life(struct region *region);
struct region_snapshots *region_snapshots(struct region *region);
struct region_roster *region_roster(struct region *region);
struct region_recovery *region_recovery(struct region *region);

/* True once a repair has found the region inconsistent.  Only the master may go on then. */
bool region_poisoned(const struct region *region);

/* Account slots in all, at least max_accounts. */
uint64_t region_slots(const struct region *region);
uint32_t region_stripes(const struct region *region); /* of accounts: the first locks */

/* A lock was waited on for over a second: called (if set) with its number, and again each second.
 */
typedef void region_alarm(uint32_t lock, unsigned seconds);
void region_on_alarm(struct region *region, region_alarm *alarm);

/*
 * A slot's owner is gone: its gauges and its wish to be woken are not the next one's, nor are its
 * members of the room.  Master only.
 */
void region_reset_slot(struct region *region, uint32_t slot);

/* Which process slot this process counts and operates in; once after fork. */
void region_enter(struct region *region, uint32_t slot);

#endif
