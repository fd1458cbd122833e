/*
 * Journal records, byte for byte as tallyd-journal(5) describes them: little-endian,
 * eight-byte aligned, lengths bounded before use.
 */
#ifndef TALLYD_LEDGER_RECORD_H
#define TALLYD_LEDGER_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../shm/ids.h"
#include "../../shm/region.h"
#include "event.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "journal records are little-endian and laid over memory: this host would need byte swaps"
#endif

enum record_type {
	RECORD_PAD = 1,   /* fills the end of a segment */
	RECORD_START = 2, /* a run begins: its epoch is new */
	RECORD_MARK = 3,  /* nothing happened: carries the durable mark of an idle journal */
	RECORD_STOP = 4,  /* the run ended cleanly */
	RECORD_SEAL = 5,  /* a cumulative hash */

	/* Operations: what was asked.  With an outcome other than accepted, a refusal remembered.
	 */
	RECORD_EVENT = 16,
	RECORD_TRANSFER = 17,
	RECORD_TRANSACTION = 18,
	RECORD_CREATE = 19,
	RECORD_REPLACE = 20,
	RECORD_DELETE = 21,
	RECORD_HOLD = 22,
	RECORD_CAPTURE = 23,
	RECORD_RELEASE = 24,
	RECORD_EXPIRE = 25, /* as RELEASE, by the clock; never with an id */
};

/* Every record begins so. */
struct record_head {
	uint64_t
	    checksum; /* XXH3, seeded with the journal's key, of all that follows in the record */
	uint32_t length; /* bytes, the head included, a multiple of 8 */
	uint8_t type;
	uint8_t outcome; /* enum outcome */
	uint8_t legs;
	uint8_t id_length;
	uint64_t lsn;     /* its own position */
	uint64_t durable; /* the durable mark when it was written */
	uint64_t time_us; /* microseconds since 1970 */
	uint32_t epoch;
	uint16_t note_length;
	uint16_t flags;
};
_Static_assert(sizeof(struct record_head) == JOURNAL_RECORD_MIN, "the head is the least record");

/*
 * head.flags.  REMEMBERED: the id is the client's, and stands in the id table (without it the id
 * is one that was made for a hold).  UNCHANGED: accepted, and no account has changed (amount 0); of
 * a CAPTURE or RELEASE: the hold was settled so before, by the record that is the legs' `previous`,
 * and all but the id is as there.
 * CREATED: an account or hold is new (result->created).
 */
#define RECORD_REMEMBERED 1
#define RECORD_UNCHANGED  2
#define RECORD_CREATED    4

/*
 * Then, in this order, each padded with zero to eight bytes:
 *   the legs
 *   the body: if outcome is not accepted, struct record_refusal;
 *             else by type: SEAL record_seal; CREATE, REPLACE record_attributes; HOLD record_hold;
 *             CAPTURE, RELEASE, EXPIRE record_settled; others none
 *   if REMEMBERED: the request's fingerprint, 8 bytes
 *   the id and the note, one after the other
 */
struct record_leg {
	int64_t amount;    /* by which the balance changes: 0 unless EVENT, TRANSFER, TRANSACTION,
	                      DELETE or    CAPTURE.  Of a refusal, as it was asked for */
	int64_t balance;   /* after; of a refusal: as it stood */
	int64_t held;      /* after, likewise */
	uint64_t version;  /* after, likewise; 0: there is no such account (refusals only) */
	uint64_t previous; /* LSN of the account's record before this one, 0: this one makes it.
	                      Until it is stamped, see RECORD_RELATIVE */
	uint8_t name_length;
	char name[]; /* not NUL-terminated */
};
#define RECORD_LEG_FIXED offsetof(struct record_leg, name)

/*
 * While a group of records is built, its LSN is not known: `previous` is then this bit and the
 * offset in the group of the record that is meant.  record_stamp resolves it.
 */
#define RECORD_RELATIVE (UINT64_C(1) << 63)

/*
 * A leg of an accepted EVENT, TRANSFER, TRANSACTION or CAPTURE with previous 0 makes its account:
 * after the padded name come 16 bytes, the floor and the ceiling that it begins with.
 */
struct record_birth {
	int64_t floor;
	int64_t ceiling;
};

struct record_attributes {
	int64_t floor;
	int64_t ceiling;
	uint32_t frozen;
	uint32_t zero;
};

struct record_hold {
	int64_t amount; /* reserved */
	uint64_t expires_us;
};

/*
 * Leg 0 is the hold's account; leg 1 of a capture, if there is one, who received it.  After it,
 * held is less by `amount`, and leg 0's balance by `captured`.
 */
struct record_settled {
	int64_t amount;   /* that was reserved */
	int64_t captured; /* 0 unless CAPTURE */
	uint64_t expires_us;
	uint8_t hold_length;
	char hold[]; /* its id */
};
#define RECORD_SETTLED_FIXED offsetof(struct record_settled, hold)

struct record_refusal {
	int64_t available; /* INSUFFICIENT_FUNDS; HOLD_SETTLED: LSN of the record that settled it */
	int64_t required;  /* INSUFFICIENT_FUNDS; HOLD_SETTLED: what was reserved */
	int64_t limit;     /* CEILING_EXCEEDED: the ceiling; HOLD_SETTLED: what was captured */
	uint64_t when_us;  /* HOLD_SETTLED: when the hold would have expired */
	uint32_t leg;      /* which */
	uint32_t state;    /* HOLD_SETTLED: enum hold_state */
};

/* The body of RECORD_SEAL: the hash of the journal's bytes FROM .. TO, chained to the seal before.
 */
struct record_seal {
	uint64_t from;
	uint64_t to;
	uint64_t hash;
};

#define RECORD_GROUP_MAX 16384 /* bytes of records that are committed together */

/* Bytes of a leg whose account's name has NAME_LENGTH bytes, without record_birth. */
static inline size_t record_leg_size(size_t name_length)
{
	return (RECORD_LEG_FIXED + name_length + 7) & ~(size_t)7;
}

/*
 * Writing a record piece by piece, in the order of its format, into BUFFER (JOURNAL_RECORD_MAX
 * bytes, eight-byte aligned).  Whatever passes the limits of event.h fits.  record_end returns the
 * length; all is complete then but the stamp.
 */
struct record_writer {
	struct record_head *head;
	unsigned char *at;
};
void record_begin(struct record_writer *writer, void *buffer, enum record_type type,
                  enum outcome outcome, uint16_t flags, uint64_t time_us);
void record_add_leg(struct record_writer *writer, const struct words *account,
                    const struct record_leg *leg, const struct record_birth *birth);
void record_add_body(struct record_writer *writer, const void *body, size_t length);
void record_add_settled(struct record_writer *writer, const struct record_settled *body,
                        const struct words *hold);
size_t record_end(struct record_writer *writer, uint64_t fingerprint, const struct words *id,
                  const struct words *note);

/* A record of TYPE with BODY_LENGTH bytes of BODY (a multiple of 8, may be 0), likewise. */
size_t record_plain(void *buffer, enum record_type type, const void *body, size_t body_length,
                    uint64_t time_us);

/* The parts of a sound record.  NULL where it has none; words of length 0 likewise. */
const void *record_body(const struct record_head *head);
const struct record_birth *record_leg_birth(const struct record_head *head,
                                            const struct record_leg *leg);
bool record_fingerprint(const struct record_head *head, uint64_t *fingerprint);
struct words record_id(const struct record_head *head);
struct words record_note(const struct record_head *head);
/*
 * The id of the hold that a sound HOLD, CAPTURE, RELEASE or EXPIRE is about; of others none, nor of
 * a CAPTURE or RELEASE that was refused.
 */
struct words record_hold_id(const struct record_head *head);
/* What was asked for by a sound record of an operation; EXPIRE is a release. */
enum request_kind record_kind(const struct record_head *head);

/* Does a record of TYPE count as a client's event (region_marks.events)?  All but the clock's. */
static inline bool record_counts(uint8_t type)
{
	return type >= RECORD_EVENT && type != RECORD_EXPIRE;
}

/* Does it change accounts or holds: an operation, accepted, and not UNCHANGED? */
bool record_has_effect(const struct record_head *head);

/*
 * Fixed functions of the journal's KEY, the same in every run: under which the id table knows the
 * id of LENGTH bytes, and the hold table a hold; and the seed of the hashes of accounts' names
 * (region_geometry.hash_seed).
 */
struct key record_key(uint64_t key, const char *id, size_t length);
uint64_t record_hash_seed(uint64_t key);

/*
 * Completes a group of records (LENGTH bytes in all) whose place is known: each one's LSN, durable
 * mark, relative references, epoch, checksum.
 */
void record_stamp(void *records, size_t length, uint64_t lsn, uint64_t durable, uint32_t epoch,
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
