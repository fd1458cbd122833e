/*
 * Removing the oldest part of the journal: whole segments that neither recovery nor the ids need,
 * and that nobody wants to keep.
 */
#ifndef TALLYD_LEDGER_PRUNE_H
#define TALLYD_LEDGER_PRUNE_H

#include <stdbool.h>
#include <stdint.h>

/* What is wanted of the journal besides what is needed.  All 0: all of it. */
struct retention {
	uint64_t bytes; /* its last so many */
	uint64_t us;    /* or what is younger than so many microseconds */
	uint64_t from;  /* or its records from this LSN on */
};

/* What is needed, and when it is now. */
struct prune_limits {
	uint64_t tail;      /* the journal's end */
	uint64_t window_us; /* records younger than this may be looked up by their ids */
	uint64_t now_us;
	bool rehearse; /* remove nothing, only say what would be */
};

/* Why the first segment that is kept is. */
enum prune_kept {
	PRUNE_KEPT_LAST,      /* it is the last one */
	PRUNE_KEPT_RECOVERY,  /* recovery from one of the snapshots reads it, or has no snapshot */
	PRUNE_KEPT_IDS,       /* ids of its records may be asked for */
	PRUNE_KEPT_RETENTION, /* it is wanted */
};

struct pruning {
	uint64_t segments; /* removed */
	uint64_t bytes;
	uint64_t first; /* the first position that is kept */
	enum prune_kept kept;
};

/*
 * Removes from the journal in the directory JOURNAL what RETENTION does not keep.  SNAPSHOTS is
 * where snapshots are: all that a recovery from any of the SNAPSHOTS_KEPT newest ones reads stays,
 * and with fewer snapshots everything.  Segments go one by one, the oldest first, each durably
 * before the next, so that a crash leaves no gap.  May run beside the journal's writer and readers.
 * 0; or -1 with errno, and *DONE says what was removed before.
 */
int prune_journal(const char *journal, const char *snapshots, const struct retention *retention,
                  const struct prune_limits *limits, struct pruning *done);

#endif
