/*
 * What is to be done about a journal that tallyd refuses to start from: found out by reading,
 * without changing anything.
 */
#ifndef TALLYD_TOOLS_MEND_H
#define TALLYD_TOOLS_MEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "../ledger/segment.h"

#define MEND_WHY_SIZE 1024

/* A file of the journal. */
struct mend_segment {
	uint64_t base;
	struct segment segment; /* if it is whole */
	bool whole;
	bool stays;
};

struct mend {
	const char *journal; /* directories, borrowed */
	const char *snapshots;
	char why[MEND_WHY_SIZE]; /* what is wrong, or why nothing can be done */
	bool sound;              /* nothing is to be done */
	bool hopeless;           /* nothing can be */

	size_t count;
	struct mend_segment *segment; /* by position */
	uint64_t key;                 /* the journal's */
	uint64_t end; /* the journal will end here: what comes after is undone, 0: nothing does */
	bool cut;     /* a segment that stays is to be cleared from `end` on */
	size_t snapshot_count;
	uint64_t *snapshot; /* starts of those that have to go: they know of what is undone */
	uint64_t first;     /* position of the first record that stays */
};

/*
 * Looks at the journal and the snapshots of a data directory on which no daemon runs, and fills in
 * *MEND. 0, or -1 with errno and mend->why.  mend_free in either case.
 */
int mend_look(struct mend *mend, const char *journal, const char *snapshots);
void mend_free(struct mend *mend);

/*
 * Writes the operations that are undone: as lines for tallyctl import into EVENTS, what each leg
 * did to its account; and into RECORDS all that they said.  Their number and that of lines in
 * *COUNT and *LINES. 0, or -1 with errno.
 */
int mend_tell(const struct mend *mend, FILE *events, FILE *records, uint64_t *count,
              uint64_t *lines);

#endif
