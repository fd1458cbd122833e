/*
 * Walking an account's history back, in slices: other connections are served between them, and
 * while the journal is fetched from the disk.
 */
#ifndef TALLYD_SERVER_WALK_H
#define TALLYD_SERVER_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "handlers.h"

#define WALK_SLICE    500 /* records that one call of a handler looks at */
#define WALK_REST_MS  1   /* between two slices */
#define WALK_FETCH_MS 2   /* while the disk is asked */

enum walk {
	WALK_FOUND,
	WALK_END,    /* the account's history begins after what was looked for */
	WALK_PRUNED, /* so does what is kept of it */
	WALK_LATER,  /* answer->pause_ms and answer->cursor are set: return */
	WALK_FAILED, /* answered: 500 read_failed */
};

/*
 * One step: the entry of the record at *LSN into *ENTRY (its words borrow until the next), without
 * what call->token does not cover, and in *LSN the one before.  With a pause RESUME will be
 * call->cursor.  Unless it is WALK_FOUND, *LSN is unchanged.
 */
enum walk walk_step(const struct call *call, struct answer *answer, struct words name,
                    uint64_t resume, uint64_t *lsn, struct entry *entry);

/* What is looked for: the newest record below an LSN, or not after a time. */
struct walk_goal {
	uint64_t below;   /* an LSN */
	uint64_t time_us; /* UINT64_MAX: any */
};

/*
 * From the record at *LSN (or where an earlier slice had come to: call->cursor) back to the first
 * one that meets GOAL: its LSN in *LSN, its entry in *ENTRY.
 */
enum walk walk_back(const struct call *call, struct answer *answer, struct words name,
                    const struct walk_goal *goal, uint64_t *lsn, struct entry *entry);

#endif
