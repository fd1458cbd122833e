/*
 * What the files of the ledger share; private to them.
 *
 * The way of one operation, or of a group of events, is in apply.c: who takes part is enlisted and
 * all is locked; then each piece of work is decided on what stands (the table, or the after-image
 * that an earlier member of the group has staged), and what was accepted is staged and recorded;
 * then everything is committed at once.
 */
#ifndef TALLYD_LEDGER_LEDGER_PRIVATE_H
#define TALLYD_LEDGER_LEDGER_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../../shm/holds.h"
#include "../../shm/ids.h"
#include "../../shm/operation.h"
#include "../../shm/region.h"
#include "../../shm/ring.h"
#include "../../shm/table.h"
#include "cursor.h"
#include "ledger.h"
#include "record.h"

/* An account that takes part in what is being done. */
struct party {
	struct words name; /* borrowed from the request, or from ledger->holder */
	uint64_t hash;
	uint32_t stripe;
	bool looked;
	bool exists;
	struct account_slot *cell;      /* its slot, if it exists */
	const struct account_slot *now; /* as it stands: its cell or image, else the newborn */
	uint64_t newest;                /* its newest record; RECORD_RELATIVE: one of this group */
};

/* A request and what becomes of it. */
struct work {
	const struct request *request;
	struct result *result;
	struct key id;           /* of request->id, if there is one */
	struct id_slot *vacancy; /* for the id, if it is new */
	uint64_t known;          /* the record that it stands for already; 0: it is new */
	struct key hold_id;      /* of HOLD, CAPTURE, RELEASE */
	struct hold_slot *hold;
	struct hold_slot *placed; /* where a new one is to be */
	uint64_t again; /* the record of the settlement that this one only repeats; 0: none */
	unsigned parties;
	struct party *party[LEGS_MAX];
	int64_t amount[LEGS_MAX]; /* by which each balance is to change */
};

_Static_assert((int)GROUP_MAX <= (int)LEGS_MAX, "each event of a group may have its own account");
_Static_assert(OPERATION_LOCKS_MAX >= LEGS_MAX + GROUP_MAX, "every account's and every id's lock");
_Static_assert(OPERATION_IMAGES_MAX >= 3 * GROUP_MAX, "accounts with long names, and ids");
_Static_assert(ACCOUNT_NAME_MAX == TABLE_NAME_MAX && ACCOUNT_NAME_MAX == HOLDS_ACCOUNT_MAX &&
                   ID_MAX == HOLDS_ID_MAX,
               "what is valid fits its slot");

struct ledger {
	struct region *region;
	struct region_marks *marks;
	const struct region_settings *settings;
	struct journal_reader *history;
	uint64_t seed; /* of the hashes of names */
	uint64_t key;  /* of the journal */
	struct cursor_key account_cursors;
	struct cursor_key hold_cursors;

	/* What is being done. */
	uint64_t now_us;
	bool auto_create;
	struct account_slot newborn; /* what an account that is made by events begins as */
	unsigned parties;
	unsigned works;
	uint32_t locks;
	uint32_t events;    /* records of client's requests */
	size_t length;      /* of the records so far */
	uint64_t forgotten; /* ids younger than the window that made room */
	uint32_t lock[OPERATION_LOCKS_MAX];
	struct party party[LEGS_MAX];
	struct work work[GROUP_MAX];
	char holder[ACCOUNT_NAME_MAX]; /* the account of the hold that is being settled */
	uint32_t holder_length;
	bool settled_unkept; /* the record of the settlement that is asked for again is gone */
	union {
		struct record_head head; /* for its alignment */
		unsigned char bytes[RECORD_GROUP_MAX];
	} records;
};

/* ---- apply.c */

/* The accounts that REQUEST names. */
unsigned ledger_legs(const struct request *request);

/* Does the account NAME of a hold begin with what REQUEST, if it settles one, is confined to? */
static inline bool ledger_is_within(const struct request *request, const char *name,
                                    uint32_t length)
{
	const struct words *within = &request->within;

	if (within->length == 0 ||
	    (request->kind != REQUEST_CAPTURE && request->kind != REQUEST_RELEASE))
		return true;
	return length >= within->length && memcmp(name, within->bytes, within->length) == 0;
}

/* Empties RESULT, but for the legs and the account, which count only as far as it says. */
void ledger_clear(struct result *result);

/* Begins anew: nobody takes part. */
void work_begin(struct ledger *ledger, uint64_t now_us);

/* REQUEST takes part, its accounts and its hold not yet.  NULL: its id is an earlier member's. */
struct work *work_enlist(struct ledger *ledger, const struct request *request,
                         struct result *result);
void work_enlist_legs(struct ledger *ledger, struct work *work);
void work_enlist_hold(struct ledger *ledger, struct work *work);

/* Locks all that takes part.  False: poisoned, and the results say so. */
bool work_lock(struct ledger *ledger);

/* Does WORK's id stand for something already?  Does the one of the hold to be placed? */
bool work_look_for_id(struct ledger *ledger, struct work *work);
bool work_look_for_hold(struct ledger *ledger, struct work *work);

/* Looks and decides.  Nothing of it is in the region before work_commit. */
void work_decide(struct ledger *ledger, struct work *work);

/* Commits what was recorded, and completes or replaces the results.  Without records: nothing. */
enum outcome work_commit(struct ledger *ledger);

/* After operation_unlock: the answers that are read from the journal. */
void work_tell(struct ledger *ledger);

/* ---- settle.c */

void settle_apply(struct ledger *ledger, const struct request *request, uint64_t now_us,
                  struct result *result);

/* ---- ledger.c */

enum outcome ledger_outcome(enum ring_status status);

/* ---- party.c */

uint64_t ledger_hash(const struct ledger *ledger, const char *name, uint32_t length);

/* The one called NAME takes part in WORK; its stripe will be locked. */
void party_enlist(struct ledger *ledger, struct work *work, struct words name, int64_t amount);

/* With its stripe locked: what is there. */
void party_look(struct ledger *ledger, struct party *party);

/* Shows the parties of WORK in its result as they stand. */
void party_show(struct work *work);

/* The newest record that any of WORK's parties stands on. */
uint64_t party_relied(const struct ledger *ledger, const struct work *work);

/*
 * The after-image of PARTY: everything but the name is there, to be changed, and to be looked at by
 * later members of a group.  Made from the newborn if the account does not exist.  NULL: the table
 * is full, nothing is staged.
 */
struct account_slot *party_stage(struct ledger *ledger, struct party *party);

/*
 * Changes the staged AFTER of PARTY by AMOUNT and HELD, which the rules have allowed; in *LEG what
 * records it.
 */
void party_change(struct ledger *ledger, struct party *party, struct account_slot *after,
                  int64_t amount, int64_t held, struct record_leg *leg);

/* Stages that PARTY's slots are free. */
void party_free(struct ledger *ledger, struct party *party, struct account_slot *after);

/* ---- rules.c: pure */

/* May ACCOUNT's balance change by AMOUNT?  If not, *RESULT says what is missing. */
enum outcome rule_move(const struct account_slot *account, int64_t amount, struct result *result);

/* May AMOUNT (0 or more) be captured from ACCOUNT, of which HELD is reserved for it? */
enum outcome rule_capture(const struct account_slot *account, int64_t amount, int64_t held,
                          struct result *result);

/* May AMOUNT (above 0) of ACCOUNT be reserved? */
enum outcome rule_hold(const struct account_slot *account, int64_t amount, struct result *result);

/* Is REQUEST's If-Match met by PARTY? */
bool rule_matches(const struct request *request, const struct party *party);

/* ---- decide_legs.c, decide_account.c, decide_hold.c: with everything locked and looked at.  On
 * OUTCOME_ACCEPTED the change is staged and recorded. */

enum outcome decide_legs(struct ledger *ledger, struct work *work);
enum outcome decide_account(struct ledger *ledger, struct work *work);
enum outcome decide_place(struct ledger *ledger, struct work *work);
enum outcome decide_settle(struct ledger *ledger, struct work *work);
/* The time of WORK's open hold is over: always accepted. */
void decide_expire(struct ledger *ledger, struct work *work);

/* ---- note.c: the record of a piece of work */

/* Begins it; its legs and its body follow. */
void note_begin(struct ledger *ledger, const struct work *work, struct record_writer *writer,
                enum record_type type, enum outcome outcome, uint16_t flags);

/* Ends it, remembers its id, and tells the result its place. */
void note_end(struct ledger *ledger, struct work *work, struct record_writer *writer);

/* The record of the refusal that WORK's result holds, if it has an id: else none. */
void note_refusal(struct ledger *ledger, struct work *work);

/* That WORK's id, too, stands for the settlement that RECORD says. */
void note_repeat(struct ledger *ledger, struct work *work, const struct record_head *record);

enum record_type note_type(const struct request *request);

/* ---- remember.c */

/* A fingerprint of all that REQUEST means. */
uint64_t remember_fingerprint(const struct ledger *ledger, const struct request *request);

/* With its lock: finds room for WORK's new id, and has the processor fetch it. */
void remember_prefetch(struct ledger *ledger, struct work *work);

/* Stages that WORK's id stands for the record at OFFSET of the group. */
void remember(struct ledger *ledger, const struct work *work, uint32_t offset);

/* After the commit: counts the ids that have made room too early. */
void remember_forgotten(struct ledger *ledger);

/* Without locks: answers WORK, whose id stands for the record at work->known. */
void remember_answer(struct ledger *ledger, struct work *work);

/* Without locks: answers WORK, which asks again for the settlement recorded at work->again. */
void remember_settlement(struct ledger *ledger, struct work *work);

#endif
