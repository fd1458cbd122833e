/*
 * The journal read forward, by many readers of one process at once: each holds a position, nothing
 * else.  What is read comes in windows, pieces of the ring or, where that has lost it, of the
 * files; readers at near positions share them, so that the journal is not read once for each.
 * Only what is durable is given out.
 */
#ifndef TALLYD_LEDGER_TAIL_H
#define TALLYD_LEDGER_TAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "event.h"

struct journal_reader; /* history.h */
struct tail;

#define TAIL_WINDOW  32768 /* bytes of journal in a window */
#define TAIL_WINDOWS 16    /* of one process; the one that was used longest ago makes room */

enum tail_status {
	TAIL_CHANGE,  /* a record that changed something */
	TAIL_NOTHING, /* one that did not, a refusal for example: the position has passed it */
	TAIL_END,     /* there is none yet */
	TAIL_PRUNED,  /* the record is no longer kept */
	TAIL_LATER,   /* not in memory: it has been asked for, try again in a few milliseconds */
	TAIL_NOWHERE, /* tail_seek: no record is or was at this position */
	TAIL_IO,      /* errno, or a record that is not sound (EUCLEAN) */
};

/* A reader of what HISTORY (borrowed) reads.  One allocation of about TAIL_WINDOWS * TAIL_WINDOW
 * bytes, not touched before it is needed.  NULL: ENOMEM. */
struct tail *tail_open(struct journal_reader *history);
void tail_close(struct tail *tail); /* NULL is fine */

/* All records below this LSN are durable; a record ends there. */
uint64_t tail_durable(const struct tail *tail);

/* The LSN of the first record that is kept. */
uint64_t tail_first(struct tail *tail);

/*
 * The position behind AFTER into *POSITION, TAIL_NOTHING: behind the record at AFTER; or, if AFTER
 * + 1 is a multiple of 8 and a record begins or the journal ends there, AFTER + 1 (so the LSN
 * before any position names it); or, if AFTER is 0, the first record that is kept.  TAIL_PRUNED,
 * TAIL_LATER, TAIL_IO; TAIL_NOWHERE also if AFTER is beyond the journal's end.
 */
enum tail_status tail_seek(struct tail *tail, uint64_t after, uint64_t *position);

/*
 * The record at *POSITION, if it lies below END (at most tail_durable) into *CHANGE, whose words
 * borrow until the next call; and *POSITION moves behind it.  Unless it is TAIL_CHANGE or
 * TAIL_NOTHING, *POSITION is unchanged.
 */
enum tail_status tail_next(struct tail *tail, uint64_t *position, uint64_t end,
                           struct change *change);

#endif
