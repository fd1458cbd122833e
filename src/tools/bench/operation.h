/* One request: what it asks for, and what it does to accounts if it is accepted. */
#ifndef TALLYD_BENCH_OPERATION_H
#define TALLYD_BENCH_OPERATION_H

#include <stdint.h>

#define HOLD_NAME_MAX 40 /* bytes of a hold's name, ours or the server's */

enum kind {
	KIND_EVENT,
	KIND_TRANSFER,
	KIND_TRANSACTION,
	KIND_HOLD,
	KIND_CAPTURE,
	KIND_RELEASE,
	KIND_READ,
	KINDS,
};

extern const char *const kind_name[KINDS];

/* What is said of one account; of transfers and transactions with its sign. */
struct posting {
	uint32_t account; /* its number */
	int32_t amount;
};

struct hold {
	uint8_t length; /* 0: no name yet */
	char name[HOLD_NAME_MAX];
};

struct operation {
	uint8_t kind;   /* enum kind */
	uint8_t settle; /* of KIND_HOLD: the kind that comes next */
	uint32_t count; /* legs; of KIND_EVENT: events, each an operation of its own */
	struct hold hold;
	struct posting *leg; /* COUNT of them */
};

/* By how much LEG of an accepted KIND changes the balance of its account. */
int64_t operation_effect(enum kind kind, const struct posting *leg);

/* By how much it raises that account's version: 0 or 1. */
uint32_t operation_change(enum kind kind, const struct posting *leg);

#endif
