/*
 * The neighbour: another worker, which goes on using the region after a death.  One process that
 * takes orders over a pipe; one that does not answer in time hangs in a lock, which is a failure,
 * and is replaced.
 */
#ifndef TALLYD_T_DEATH_NEIGHBOUR_H
#define TALLYD_T_DEATH_NEIGHBOUR_H

#include "../shm/lock.h"
#include "region-fixture.h"

#define ACCOUNTS       9
#define NEIGHBOUR_POST 1000 /* from slot 1, to every account */
#define ADOPTER_POST   100  /* from slot 0, adopted, likewise */

enum slots { SLOT_VICTIM = 0, SLOT_NEIGHBOUR = 1, SLOT_REPAIRER = 2, SLOT_BASE = 3 };

/* What to do first; the rest of it all follows. */
enum first_act { READ_FIRST, POST_FIRST, ADOPT_FIRST, ID_FIRST, HOLD_FIRST, FIRST_ACTS };

struct order {
	enum first_act act;
	uint32_t account; /* begins with this one; POST_FIRST posts to it once more */
};

/* Of the id and the holds that victims use. */
enum { HOLD_NEW, HOLD_OLD, HOLDS };
struct seen {
	bool id;
	uint8_t state[HOLDS]; /* 0: there is no such hold */
};

/* What came of it, in memory shared with the tracer. */
struct report {
	bool known[ACCOUNTS];
	struct account_view view[ACCOUNTS]; /* as first read */
	struct seen seen;                   /* likewise */
	char why[160];                      /* empty: nothing went wrong */
};

struct neighbour {
	struct region *region;
	char (*name)[ACCOUNT_NAME_MAX];
	struct key id; /* of the victim */
	struct key hold[HOLDS];
	struct report *report;
	pid_t pid;
	int order_fd;
	int answer_fd;
};

static inline void neighbour_complain(struct neighbour *neighbour, const char *what, uint32_t i)
{
	if (neighbour->report->why[0] == '\0')
		snprintf(neighbour->report->why, sizeof neighbour->report->why, "%s (account %u)",
		         what, i);
}

static inline void neighbour_post(struct neighbour *neighbour, struct ledger *ledger, uint32_t i,
                                  int64_t amount)
{
	if (fixture_post(ledger, neighbour->name[i], amount).outcome != OUTCOME_ACCEPTED)
		neighbour_complain(neighbour, "an event was not accepted", i);
}

static inline void neighbour_read(struct neighbour *neighbour, struct ledger *ledger, uint32_t i)
{
	struct account_view *view = &neighbour->report->view[i];
	enum outcome outcome =
	    ledger_read(ledger, neighbour->name[i], (uint32_t)strlen(neighbour->name[i]), view);

	neighbour->report->known[i] = outcome == OUTCOME_ACCEPTED;
	if (outcome != OUTCOME_ACCEPTED && outcome != OUTCOME_UNKNOWN_ACCOUNT)
		neighbour_complain(neighbour, "an account cannot be read", i);
	if (outcome == OUTCOME_ACCEPTED && view->lsn >= region_marks(neighbour->region)->tail)
		neighbour_complain(neighbour, "a record was read before it was in the ring", i);
}

/* Is the record at LSN, which was just seen in a cell, in the ring? */
static inline bool neighbour_saw(struct neighbour *neighbour, uint64_t lsn)
{
	if (lsn >= region_marks(neighbour->region)->tail)
		neighbour_complain(neighbour, "a record was seen before it was in the ring", 0);
	return true;
}

static inline void neighbour_look_for_id(struct neighbour *neighbour)
{
	struct region *region = neighbour->region;
	uint32_t lock = ids_lock(region, &neighbour->id);

	if (!lock_acquire(region, lock)) {
		neighbour_complain(neighbour, "an id cannot be looked for", 0);
		return;
	}
	const struct id_slot *slot = ids_find(region, &neighbour->id);
	neighbour->report->seen.id = slot != NULL && neighbour_saw(neighbour, slot->lsn);
	lock_release(region, lock);
}

static inline void neighbour_look_for_holds(struct neighbour *neighbour)
{
	struct region *region = neighbour->region;

	for (unsigned i = 0; i < HOLDS; i++) {
		uint32_t lock = holds_lock(region, &neighbour->hold[i]);
		if (!lock_acquire(region, lock)) {
			neighbour_complain(neighbour, "a hold cannot be looked for", 0);
			return;
		}
		const struct hold_slot *slot = holds_find(region, &neighbour->hold[i]);
		neighbour->report->seen.state[i] = 0;
		if (slot != NULL && neighbour_saw(neighbour, slot->lsn))
			neighbour->report->seen.state[i] = slot->state;
		lock_release(region, lock);
	}
}

/* Looks at all that is no account. */
static inline void neighbour_look(struct neighbour *neighbour, bool holds_first)
{
	if (holds_first)
		neighbour_look_for_holds(neighbour);
	neighbour_look_for_id(neighbour);
	if (!holds_first)
		neighbour_look_for_holds(neighbour);
}

/* A new owner of SLOT; with an AMOUNT it posts that to every account. */
static inline void neighbour_adopt(struct neighbour *neighbour, uint32_t slot, int64_t amount)
{
	struct ledger *ledger = ledger_open(neighbour->region, slot, NULL);

	if (ledger == NULL) {
		neighbour_complain(neighbour, "a slot cannot be adopted", 0);
		return;
	}
	for (uint32_t i = 0; i < ACCOUNTS && amount != 0; i++)
		neighbour_post(neighbour, ledger, i, amount);
	ledger_close(ledger);
}

static inline void neighbour_use(struct neighbour *neighbour, const struct order *order)
{
	struct ledger *ledger = ledger_open(neighbour->region, SLOT_NEIGHBOUR, NULL);

	if (ledger == NULL) {
		neighbour_complain(neighbour, "the ledger cannot be opened", 0);
		return;
	}
	if (order->act == POST_FIRST)
		neighbour_post(neighbour, ledger, order->account, NEIGHBOUR_POST);
	if (order->act == ID_FIRST || order->act == HOLD_FIRST)
		neighbour_look(neighbour, order->act == HOLD_FIRST);
	for (uint32_t i = 0; i < ACCOUNTS; i++)
		neighbour_read(neighbour, ledger, (order->account + i) % ACCOUNTS);
	if (order->act != ID_FIRST && order->act != HOLD_FIRST)
		neighbour_look(neighbour, false);
	for (uint32_t i = 0; i < ACCOUNTS; i++)
		neighbour_post(neighbour, ledger, i, NEIGHBOUR_POST);
	ledger_close(ledger);
}

static inline void neighbour_obey(struct neighbour *neighbour, const struct order *order)
{
	if (order->act == ADOPT_FIRST) {
		neighbour_adopt(neighbour, SLOT_VICTIM, 0);
		neighbour_adopt(neighbour, SLOT_REPAIRER, 0);
	}
	neighbour_use(neighbour, order);
	neighbour_adopt(neighbour, SLOT_VICTIM, ADOPTER_POST);
	neighbour_adopt(neighbour, SLOT_REPAIRER, 0);
}

static inline void neighbour_live(struct neighbour *neighbour, int order_fd, int answer_fd)
{
	struct order order;

	while (read(order_fd, &order, sizeof order) == sizeof order) {
		neighbour_obey(neighbour, &order);
		if (write(answer_fd, "", 1) != 1)
			break;
	}
	_exit(0);
}

/* Starts it.  The region, the names and the report are the caller's. */
static inline void neighbour_start(struct neighbour *neighbour)
{
	int orders[2], answers[2];

	if (pipe(orders) != 0 || pipe(answers) != 0 || (neighbour->pid = fork()) < 0)
		BAIL_OUT("cannot start the neighbour: %s", strerror(errno));
	if (neighbour->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(orders[1]);
		close(answers[0]);
		neighbour_live(neighbour, orders[0], answers[1]);
	}
	close(orders[0]);
	close(answers[1]);
	neighbour->order_fd = orders[1];
	neighbour->answer_fd = answers[0];
}

static inline void neighbour_stop(struct neighbour *neighbour)
{
	kill(neighbour->pid, SIGKILL);
	fixture_wait(neighbour->pid);
	close(neighbour->order_fd);
	close(neighbour->answer_fd);
}

/* Gives it ORDER to carry out; nothing is waited for. */
static inline void neighbour_order(struct neighbour *neighbour, const struct order *order)
{
	neighbour->report->why[0] = '\0';
	if (write(neighbour->order_fd, order, sizeof *order) != sizeof *order)
		BAIL_OUT("the neighbour is gone");
}

/* Waits until the order has been carried out.  False if it was not in time. */
static inline bool neighbour_answer(struct neighbour *neighbour)
{
	struct pollfd polled = {.fd = neighbour->answer_fd, .events = POLLIN};
	char byte;

	if (poll(&polled, 1, (int)fixture_deadline() * 1000) == 1 &&
	    read(neighbour->answer_fd, &byte, 1) == 1)
		return true;
	neighbour_complain(neighbour, "a process hangs, or died", 0);
	neighbour_stop(neighbour);
	neighbour_start(neighbour);
	return false;
}

#endif
