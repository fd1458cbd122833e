/*
 * Journal segments: files of fixed size named by their first LSN, zero-filled ahead of
 * need.  A byte's LSN is its segment's base plus its offset in the file.  The first
 * SEGMENT_HEAD bytes are the head; records follow and never leave their segment.
 */
#ifndef TALLYD_LEDGER_SEGMENT_H
#define TALLYD_LEDGER_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEGMENT_SIZE_MIN  UINT64_C(65536)
#define SEGMENT_SIZE_MAX  (UINT64_C(1) << 30)
#define SEGMENT_NAME_SIZE 32 /* bytes for a name and its NUL */

struct segment {
	uint64_t base; /* LSN of its first byte */
	uint64_t size; /* bytes */
	uint64_t key;  /* of the journal */
};

/* "0000000004000000.journal" */
void segment_name(char name[SEGMENT_NAME_SIZE], uint64_t base);

/* Is NAME a segment's?  Its base in *BASE. */
bool segment_parse(const char *name, uint64_t *base);

/*
 * Makes a segment in DIRECTORY (a descriptor): written under a temporary name, zero-filled (or,
 * unless FILLED, only reserved, where the file system can), fsynced, renamed, the directory
 * fsynced.  So a file that has its final name has its full size and its blocks, and a shorter one
 * is damage.  0, or -1 with errno; nothing is left behind then.
 */
int segment_create(int directory, const struct segment *segment, bool filled, uint64_t now_us);

/*
 * Opens the segment at BASE with open(2) FLAGS, never through a symbolic link, and reads its head.
 * A descriptor; or -1: *WHY says what is wrong (a constant) and errno is kept, 0 if it is the
 * content.
 */
int segment_open(int directory, uint64_t base, int flags, struct segment *segment,
                 const char **why);

/* Removes what a dead segment_create left in DIRECTORY.  0, or -1 with errno. */
int segment_sweep(int directory);

#endif
