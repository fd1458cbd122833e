/*
 * What a command, or a transaction of several, is about to do to accounts: they are looked at, what
 * is to become of them is worked out here, and then all of it is applied as one operation of the
 * ledger, provided that they still are as they were seen.  If not, it is all done again.
 */
#ifndef TALLYD_SERVER_REDIS_PLAN_H
#define TALLYD_SERVER_REDIS_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "../../ledger/ledger.h"

#define PLAN_ACCOUNTS_MAX LEGS_MAX
#define PLAN_TRIES        64 /* times that others may come before */

struct plan_account {
	struct words name; /* borrowed */
	bool exists;       /* by now */
	int64_t balance;   /* likewise */
	bool existed;
	int64_t before; /* the balance that was seen */
	uint64_t seen;  /* LSN of the newest record then; 0: there was no such account */
};

struct plan {
	struct ledger *ledger;
	unsigned count;
	bool poisoned;
	bool broken;  /* part of it can be no part of any: too many accounts, or no name */
	uint64_t lsn; /* what was seen depends on it */
	struct plan_account account[PLAN_ACCOUNTS_MAX];
};

/* Starts anew. */
void plan_begin(struct plan *plan, struct ledger *ledger);

/* The account NAME, a valid one, as it is by now.  NULL: there are too many already, or it is
 * poisoned. */
struct plan_account *plan_look(struct plan *plan, struct words name);

/* ACCOUNT is to have BALANCE; it is made if it does not exist. */
void plan_set(struct plan_account *account, int64_t balance);

/* How many accounts it makes. */
unsigned plan_births(const struct plan *plan);

/*
 * Applies what is planned, at NOW_US.  OUTCOME_ACCEPTED in *RESULT also if there was nothing to do;
 * *CHANGED says whether there was.  OUTCOME_VERSION_MISMATCH: others were faster, plan again.
 */
void plan_apply(struct plan *plan, uint64_t now_us, struct result *result, bool *changed);

#endif
