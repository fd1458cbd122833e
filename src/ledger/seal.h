/*
 * Seals: a cumulative hash over the journal's records.  Record checksums find damage; seals
 * find records exchanged for other sound ones, or left out.
 *
 * The chain turns at the first record boundary after SEAL_EVERY bytes of records (fillers
 * included, segment heads and unused ends not), wherever that is: so whoever reads the journal
 * finds the same boundaries, and a seal record may come later than the boundary it speaks of.
 */
#ifndef TALLYD_LEDGER_SEAL_H
#define TALLYD_LEDGER_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEAL_EVERY  4194304 /* bytes */
#define SEALS_KNOWN 1026    /* boundaries that may lie in the largest ring, before their seal */

/* One link: the bytes FROM .. TO, and the hash of them and of all before. */
struct seal_link {
	uint64_t from;
	uint64_t to;
	uint64_t hash;
};

struct seal;

/*
 * Begins at boundary FROM, where the hash was HASH (the journal's key where it begins).
 * NULL: out of memory.
 */
struct seal *seal_open(uint64_t from, uint64_t hash);
void seal_close(struct seal *seal);

/* Bytes of records that may still be added before the next boundary can be reached, at least 1. */
uint64_t seal_left(const struct seal *seal);

/*
 * Adds whole records, LENGTH bytes that end at position END.  Only the last of them may reach
 * beyond seal_left.  True if END is a boundary: seal_last tells it.
 */
bool seal_add(struct seal *seal, const void *records, size_t length, uint64_t end);

/* Adds a part of a record or run whose rest is added by seal_add (a ring wraps). */
void seal_part(struct seal *seal, const void *bytes, size_t length);

/* The newest boundary; the opening one has from equal to to. */
struct seal_link seal_last(const struct seal *seal);

/* Is LINK one of the boundaries found (the SEALS_KNOWN newest)? */
bool seal_knows(const struct seal *seal, const struct seal_link *link);

#endif
