/*
 * What a client can ask of the ledger, what the ledger can answer, and the
 * limits of both.  Types only: every layer above may include this file.
 */
#ifndef TALLYD_LEDGER_EVENT_H
#define TALLYD_LEDGER_EVENT_H

#include <stdint.h>

/* Longest account name, bytes of UTF-8; the shortest is one byte. */
#define ACCOUNT_NAME_MAX 100

/*
 * How the ledger decided.  Everything but OUTCOME_ACCEPTED means: not
 * applied, nothing changed.
 */
enum outcome {
	OUTCOME_ACCEPTED = 0,
	OUTCOME_OVERFLOW,        /* the balance would leave int64 */
	OUTCOME_UNKNOWN_ACCOUNT, /* a read of an account that does not exist */
	OUTCOME_QUEUE_FULL,      /* the journal ring or queue_events is full */
	OUTCOME_DISK_FULL,       /* no preallocated journal is left, the disk is full */
	OUTCOME_TABLE_FULL,      /* no room for another account */
	OUTCOME_JOURNAL_FAILED,  /* a disk error; the daemon is going down */
	OUTCOME_POISONED,        /* the region is inconsistent; the caller must exit */
};

/* One event: add AMOUNT to ACCOUNT.  Borrowed bytes, not NUL-terminated. */
struct event {
	const char *account;     /* valid UTF-8, no control characters */
	uint32_t account_length; /* 1 to ACCOUNT_NAME_MAX */
	int64_t amount;
};

/* What became of it. */
struct result {
	enum outcome outcome;
	int64_t balance;  /* after, when accepted */
	uint64_t version; /* of the account, after; counts its changes from 1 */
	uint64_t lsn;     /* of the record that the answer depends on */
};

/* An account as it was at one moment. */
struct account_view {
	int64_t balance;
	int64_t held;
	uint64_t version;
	uint64_t lsn;        /* of its newest record */
	uint64_t created_us; /* microseconds since 1970, UTC */
	uint64_t updated_us;
};

#endif
