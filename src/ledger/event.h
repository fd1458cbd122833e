/*
 * What a client can ask of the ledger, what the ledger can answer, and the
 * limits of both.  Types only: every layer above may include this file.
 */
#ifndef TALLYD_LEDGER_EVENT_H
#define TALLYD_LEDGER_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#define ACCOUNT_NAME_MAX 100 /* bytes of UTF-8; the shortest name is one byte */
#define ID_MAX           128 /* bytes of printable ASCII: of an operation, or of a hold */
#define NOTE_MAX         256 /* bytes of UTF-8 */
#define LEGS_MAX         16  /* accounts of one operation */
#define GROUP_MAX        16  /* events that are committed together */
#define HOLD_TTL_MAX     (30 * 24 * 3600) /* seconds */

#define FLOOR_NONE   INT64_MIN /* the balance may fall as far as int64 reaches */
#define CEILING_NONE INT64_MAX

/*
 * How the ledger decided.  Everything but OUTCOME_ACCEPTED means: not applied, no account has
 * changed.  Values are part of the journal's format: only append.
 */
enum outcome {
	OUTCOME_ACCEPTED = 0,

	/* Decided: remembered with the operation's id, so that a retry gets the same "no". */
	OUTCOME_OVERFLOW = 1,           /* the balance would leave int64 */
	OUTCOME_UNKNOWN_ACCOUNT = 2,    /* and none is made here */
	OUTCOME_INSUFFICIENT_FUNDS = 3, /* what is available does not cover it */
	OUTCOME_CEILING_EXCEEDED = 4,
	OUTCOME_ACCOUNT_FROZEN = 5,
	OUTCOME_ACCOUNT_EXISTS = 6,
	OUTCOME_ACCOUNT_IN_USE = 7,   /* a delete, and balance or held are not zero */
	OUTCOME_VERSION_MISMATCH = 8, /* If-Match */
	OUTCOME_UNBALANCED = 9,       /* the legs do not sum to zero */
	OUTCOME_UNKNOWN_HOLD = 10,
	OUTCOME_HOLD_SETTLED = 11, /* otherwise than is asked for now */
	OUTCOME_SAME_ACCOUNT = 12, /* a capture for the benefit of the hold's own account, or a
	                              transfer to itself */

	/* Not decided: nothing is remembered, trying again may help. */
	OUTCOME_QUEUE_FULL = 64, /* the journal ring or queue_events is full */
	OUTCOME_DISK_FULL,       /* no preallocated journal is left, the disk is full */
	OUTCOME_TABLE_FULL,      /* no room for another account */
	OUTCOME_HOLDS_FULL,      /* no room for another open hold */
	OUTCOME_JOURNAL_FAILED,  /* a disk error; the daemon is going down */
	OUTCOME_POISONED,        /* the region is inconsistent; the caller must exit */

	/* Decided about the request itself. */
	OUTCOME_ID_REUSED = 80, /* the id belongs to another operation, nothing is changed */
	OUTCOME_FORGOTTEN,      /* what the id stood for has left the journal: not applied again */
	OUTCOME_READ_FAILED,    /* the journal could not be read: errno was logged; not applied */
};

static inline bool outcome_is_decided(enum outcome outcome)
{
	return outcome >= OUTCOME_OVERFLOW && outcome <= OUTCOME_SAME_ACCOUNT;
}

enum request_kind {
	REQUEST_EVENT,       /* one leg */
	REQUEST_TRANSFER,    /* two legs: the first loses what the second gets */
	REQUEST_TRANSACTION, /* 1 to LEGS_MAX legs, each account once */
	REQUEST_CREATE,      /* POST /accounts: leg 0 names the account, `attributes` */
	REQUEST_REPLACE,     /* PUT /accounts/NAME: likewise, made if it is not there */
	REQUEST_DELETE,      /* leg 0 names it; `empties` */
	REQUEST_HOLD,    /* leg 0: the account, and in amount (> 0) what is reserved; hold, ttl */
	REQUEST_CAPTURE, /* hold; amount in `capture`; leg 0, if there is one, names who gets it */
	REQUEST_RELEASE, /* hold */
};

enum frozen { FROZEN_NONE = 0, FROZEN_DEBITS = 1, FROZEN_ALL = 2 };

struct attributes {
	int64_t floor;   /* FLOOR_NONE: none */
	int64_t ceiling; /* CEILING_NONE: none */
	enum frozen frozen;
};

/* Borrowed bytes, not NUL-terminated.  length 0: not given. */
struct words {
	const char *bytes;
	uint32_t length;
};

struct leg {
	struct words account; /* valid UTF-8, no control characters, 1 to ACCOUNT_NAME_MAX */
	int64_t amount;
};

enum match { MATCH_NOTHING, MATCH_VERSION, MATCH_ANY, MATCH_SEEN };

/*
 * One operation, valid in form: who reads it has checked lengths, ranges and characters.
 * Fields that its kind does not name are zero.
 */
struct request {
	enum request_kind kind;
	bool balanced;    /* REQUEST_TRANSACTION: refuse it unless the legs sum to zero */
	bool has_capture; /* REQUEST_CAPTURE: an amount was given; else all that is held */
	bool empties;     /* REQUEST_DELETE: whatever the balance is goes with the account */
	uint8_t legs;
	enum match match; /* If-Match, of operations on one account */
	uint64_t version; /* MATCH_VERSION */
	/*
	 * MATCH_SEEN, of an event (by more than nothing) or a transaction without id: each leg's
	 * account is as it was when its newest record was that at seen[] (borrowed), 0: there was
	 * none.  The last `looks` legs are no changes: nothing but this is asked of them.  Of the
	 * others, one whose account is not there makes it, whatever its amount.
	 */
	const uint64_t *seen;
	uint8_t looks;
	uint32_t ttl;    /* REQUEST_HOLD: seconds, 1 to HOLD_TTL_MAX */
	int64_t capture; /* REQUEST_CAPTURE: 0 or more */
	struct attributes attributes;
	struct words id;   /* the client's, 1 to ID_MAX; length 0: none */
	struct words note; /* up to NOTE_MAX */
	/* CAPTURE, RELEASE: a hold on an account whose name does not begin so is none (borrowed) */
	struct words within;
	struct words hold; /* CAPTURE, RELEASE: its id.  HOLD without `id`: the one made for it */
	/*
	 * REQUEST_TRANSACTION: the events that its legs are the sums of (borrowed), if it was made
	 * of any: an id stands for these, each with its place.
	 */
	const struct leg *events;
	uint32_t event_count;
	struct leg leg[LEGS_MAX];
};

/* An account after an operation, or as it stood when one was refused. */
struct leg_result {
	int64_t amount;
	int64_t balance;
	int64_t held;
	uint64_t version; /* counts the account's changes from 1; 0: there is no such account */
};

enum hold_state { HOLD_OPEN = 1, HOLD_CAPTURED = 2, HOLD_RELEASED = 3, HOLD_EXPIRED = 4 };

/* What became of a request.  Answers are made of this and of the request, nothing else. */
struct result {
	enum outcome outcome;
	bool replayed; /* the answer of the first time, read from the journal */
	bool created;  /* the account (CREATE, REPLACE) or the hold is new */
	uint8_t legs;  /* filled in leg[]: as the request's; for holds leg 0 is the hold's account,
	                  leg 1 who received a capture; 0 if refused before any was looked at */
	uint8_t refused; /* the leg that was refused */
	uint64_t lsn;    /* of the record that the answer depends on; of an accepted one, its own */
	uint64_t time_us;  /* of that record, accepted ones only */
	int64_t available; /* INSUFFICIENT_FUNDS: balance - held - floor, at most INT64_MAX */
	int64_t required;  /* INSUFFICIENT_FUNDS */
	int64_t limit;     /* CEILING_EXCEEDED: the ceiling */
	struct attributes attributes; /* CREATE, REPLACE */
	enum hold_state hold_state;   /* HOLD, CAPTURE, RELEASE, and HOLD_SETTLED */
	int64_t hold_amount;
	int64_t hold_captured;
	uint64_t hold_expires_us;
	uint64_t hold_settled_lsn; /* HOLD_SETTLED: of the record that settled it; 0: not known */
	uint32_t account_length;   /* CAPTURE, RELEASE: the hold's account */
	char account[ACCOUNT_NAME_MAX];
	struct leg_result leg[LEGS_MAX];
};

/* An account as it was at one moment. */
struct account_view {
	int64_t balance;
	int64_t held;
	struct attributes attributes;
	uint64_t version;
	uint64_t lsn;        /* of its newest record */
	uint64_t created_us; /* microseconds since 1970, UTC */
	uint64_t updated_us;
	uint32_t name_length; /* filled by lists */
	char name[ACCOUNT_NAME_MAX];
};

/* A hold as it was at one moment. */
struct hold_view {
	enum hold_state state;
	int64_t amount;
	int64_t captured; /* when HOLD_CAPTURED */
	uint64_t expires_us;
	uint64_t placed_us;
	uint64_t settled_us; /* 0: open */
	uint64_t lsn;        /* of its newest record */
	uint32_t id_length;
	uint32_t account_length;
	char id[ID_MAX];
	char account[ACCOUNT_NAME_MAX];
};

/* One line of a statement. */
struct entry {
	uint64_t lsn;
	uint64_t time_us;
	enum request_kind kind;
	bool expired; /* REQUEST_RELEASE by the clock */
	int64_t amount;
	int64_t balance;
	int64_t held;
	uint64_t version;
	struct words id; /* these borrow from a buffer that the reader of the statement owns */
	struct words note;
	struct words counterparty; /* of operations with two legs: the other account */
	struct words hold;
	bool holds; /* `hold` is on this account, and not on the other */
	uint8_t legs;
};

/* What a record did to one account. */
struct change_leg {
	struct words account;
	int64_t amount; /* by which the balance changed */
	int64_t balance;
	int64_t held;
	uint64_t version;
};

/* What a record did: one event of a feed.  Its words borrow from the reader of the journal. */
struct change {
	uint64_t lsn;
	uint64_t time_us;
	enum request_kind kind;
	bool expired;    /* REQUEST_RELEASE by the clock */
	struct words id; /* the client's */
	struct words note;
	struct words hold;            /* HOLD, CAPTURE, RELEASE: its id */
	int64_t reserved;             /* likewise: what it reserves, or did until now */
	uint64_t expires_us;          /* HOLD */
	struct attributes attributes; /* CREATE, REPLACE */
	uint8_t legs;
	struct change_leg leg[LEGS_MAX];
};

#endif
