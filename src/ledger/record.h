/*
 * Journal records, byte for byte as tallyd-journal(5) describes them: little-endian,
 * eight-byte aligned, lengths bounded before use.
 */
#ifndef TALLYD_LEDGER_RECORD_H
#define TALLYD_LEDGER_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../shm/region.h"
#include "event.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "journal records are little-endian and laid over memory: this host would need byte swaps"
#endif

#define RECORD_LEGS_MAX 16
#define RECORD_ID_MAX   128 /* bytes */
#define RECORD_NOTE_MAX 256 /* bytes */

enum record_type {
	RECORD_PAD = 1,   /* fills the end of a segment */
	RECORD_START = 2, /* a run begins: its epoch is new */
	RECORD_MARK = 3,  /* nothing happened: carries the durable mark of an idle journal */
	RECORD_STOP = 4,  /* the run ended cleanly */
	RECORD_SEAL = 5,  /* a cumulative hash */
	RECORD_EVENT = 16,
};

/* Every record begins so. */
struct record_head {
	uint64_t
	    checksum; /* XXH3, seeded with the journal's key, of all that follows in the record */
	uint32_t length; /* bytes, the head included, a multiple of 8 */
	uint8_t type;
	uint8_t outcome;
	uint8_t legs;
	uint8_t id_length;
	uint64_t lsn;     /* its own position */
	uint64_t durable; /* the durable mark when it was written */
	uint64_t time_us; /* microseconds since 1970 */
	uint32_t epoch;
	uint16_t note_length;
	uint16_t reserved; /* zero */
};
_Static_assert(sizeof(struct record_head) == JOURNAL_RECORD_MIN, "the head is the least record");

/* Then its legs, each padded to eight bytes; then id and note, padded together. */
struct record_leg {
	int64_t amount;
	int64_t balance;   /* after */
	int64_t held;      /* after */
	uint64_t version;  /* after */
	uint64_t previous; /* LSN of the account's record before this one, 0: none */
	uint8_t name_length;
	char name[]; /* not NUL-terminated */
};
#define RECORD_LEG_FIXED offsetof(struct record_leg, name)

/* The body of RECORD_SEAL: the hash of the journal's bytes FROM .. TO, chained to the seal before.
 */
struct record_seal {
	uint64_t from;
	uint64_t to;
	uint64_t hash;
};

/* Bytes of a leg whose account's name has NAME_LENGTH bytes. */
static inline size_t record_leg_size(size_t name_length)
{
	return (RECORD_LEG_FIXED + name_length + 7) & ~(size_t)7;
}

/* A record with one leg, complete but for its stamp, into BUFFER (JOURNAL_RECORD_MAX bytes).
 * Returns its length. */
size_t record_event(void *buffer, const char *name, uint32_t name_length,
                    const struct record_leg *leg, uint64_t time_us);

/* A record of TYPE with BODY_LENGTH bytes of BODY (a multiple of 8, may be 0), likewise. */
size_t record_plain(void *buffer, enum record_type type, const void *body, size_t body_length,
                    uint64_t time_us);

/* Completes a record whose place is known: LSN, durable mark, epoch, checksum. */
void record_stamp(void *record, size_t length, uint64_t lsn, uint64_t durable, uint32_t epoch,
                  uint64_t key);

/* Installs stamp and filler as REGION's codec (shm/ring.h). */
void record_install(struct region *region);

/*
 * Is there a sound record at LSN?  RECORD points to AVAILABLE bytes, eight-byte aligned.
 * Checks length, checksum, LSN, type, legs and paddings: everything that a reader of the record
 * will rely on.  Returns its length, or 0.
 */
size_t record_check(const void *record, size_t available, uint64_t lsn, uint64_t key);

/*
 * The legs of a sound record, one after the other: NULL begins, and NULL is returned after
 * the last.
 */
const struct record_leg *record_next_leg(const struct record_head *head,
                                         const struct record_leg *leg);

#endif
