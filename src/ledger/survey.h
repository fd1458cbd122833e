/*
 * What the journal takes on the disk, by looking at its directory.
 */
#ifndef TALLYD_LEDGER_SURVEY_H
#define TALLYD_LEDGER_SURVEY_H

#include <stdint.h>

struct survey {
	uint64_t first; /* position of the first record that is kept; 0: there is no segment */
	uint64_t segments;
	uint64_t bytes; /* of the disk, that their files take */
};

/*
 * Looks at the journal in PATH while others may make and remove segments.  0, or -1 with errno.
 */
int survey_journal(const char *path, struct survey *survey);

#endif
