/*
 * A ledger for tests of the server, linked in the place of the real one (include it once): a few
 * accounts in memory shared by fork, and a journal that is durable when the test says so.
 */
#ifndef TALLYD_T_FAKE_LEDGER_H
#define TALLYD_T_FAKE_LEDGER_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../src/ledger/ledger.h"

#define FAKE_ACCOUNTS 4096 /* a power of two */
#define FAKE_LISTING  4    /* calls before the last one of a listing, with pauses */

struct fake_account {
	char name[ACCOUNT_NAME_MAX];
	uint32_t length; /* 0: free */
	struct account_view view;
};

struct ledger {
	_Atomic uint64_t tail;     /* the next LSN */
	_Atomic uint64_t released; /* set by the test, or with `automatic` by every post */
	_Atomic uint64_t wanted;   /* LSN + 1 that the worker waits for, 0: none */
	_Atomic uint64_t kicks;
	_Atomic int forced;   /* the outcome of every event, if not OUTCOME_ACCEPTED */
	_Atomic int64_t room; /* so many events are taken, then the queue is full; below 0: any */
	_Atomic uint64_t attempts; /* calls of ledger_apply_group */
	_Atomic uint64_t groups;   /* those of more than one event */
	_Atomic uint64_t largest;  /* group */
	_Atomic int health;
	_Atomic uint64_t deletion; /* LSN of the one that a listing sees */
	_Atomic bool automatic;
	int wake_fd;
	int kick_fd; /* -1: nobody waits for kicks */
	struct fake_account accounts[FAKE_ACCOUNTS];
};

/* An empty one with its eventfd, in memory that children share; NULL with errno. */
static struct ledger *fake_ledger_new(bool automatic)
{
	struct ledger *ledger =
	    mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ledger == MAP_FAILED)
		return NULL;
	ledger->tail = 1;
	ledger->released = 1;
	ledger->automatic = automatic;
	ledger->kick_fd = -1;
	ledger->room = -1;
	ledger->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return ledger->wake_fd < 0 ? NULL : ledger;
}

/* Lets all records below RELEASED be durable, and wakes the worker as the journal would. */
static void fake_ledger_release(struct ledger *ledger, uint64_t released)
{
	uint64_t one = 1;
	ledger->released = released;
	uint64_t wanted = ledger->wanted;
	if (wanted && wanted <= released && atomic_exchange(&ledger->wanted, 0) &&
	    write(ledger->wake_fd, &one, sizeof(one)) < 0)
		_exit(99);
}

static struct fake_account *fake_find(struct ledger *ledger, const char *name, uint32_t length)
{
	uint32_t hash = 2166136261u;
	for (uint32_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)name[i]) * 16777619u;
	for (uint32_t i = 0; i < FAKE_ACCOUNTS; i++) {
		struct fake_account *account = &ledger->accounts[(hash + i) % FAKE_ACCOUNTS];
		if (account->length == 0 ||
		    (account->length == length && memcmp(account->name, name, length) == 0))
			return account;
	}
	return NULL;
}

static void fake_event(struct ledger *ledger, const struct request *request, uint64_t now_us,
                       struct result *result)
{
	const struct words *name = &request->leg[0].account;
	struct fake_account *account = fake_find(ledger, name->bytes, name->length);
	*result = (struct result){.outcome = (enum outcome)ledger->forced, .legs = 1};
	if (result->outcome != OUTCOME_ACCEPTED)
		return;
	if (!account) {
		result->outcome = OUTCOME_TABLE_FULL;
		return;
	}
	int64_t balance;
	if (__builtin_add_overflow(account->view.balance, request->leg[0].amount, &balance)) {
		result->outcome = OUTCOME_OVERFLOW;
		result->lsn = account->view.lsn;
		return;
	}
	if (account->length == 0) {
		memcpy(account->name, name->bytes, name->length);
		account->length = name->length;
		account->view.created_us = now_us;
		account->view.attributes =
		    (struct attributes){.floor = FLOOR_NONE, .ceiling = CEILING_NONE};
	}
	account->view.balance = balance;
	account->view.version++;
	account->view.updated_us = now_us;
	account->view.lsn = ledger->tail++;
	if (ledger->automatic)
		ledger->released = ledger->tail;
	result->leg[0].amount = request->leg[0].amount;
	result->leg[0].balance = balance;
	result->leg[0].version = account->view.version;
	result->lsn = account->view.lsn;
	result->time_us = now_us;
}

/* Only events are known here. */
void ledger_apply_group(struct ledger *ledger, const struct request *requests, size_t count,
                        uint64_t now_us, struct result *results)
{
	bool fits = ledger->room < 0 || ledger->room >= (int64_t)count;
	ledger->attempts++;
	ledger->groups += count > 1;
	if (count > ledger->largest)
		ledger->largest = count;
	if (ledger->room >= 0 && fits)
		ledger->room -= (int64_t)count;
	for (size_t i = 0; i < count; i++) {
		if (fits)
			fake_event(ledger, &requests[i], now_us, &results[i]);
		else
			results[i] = (struct result){.outcome = OUTCOME_QUEUE_FULL};
	}
}

void ledger_apply(struct ledger *ledger, const struct request *request, uint64_t now_us,
                  struct result *result)
{
	if (request->kind == REQUEST_EVENT)
		ledger_apply_group(ledger, request, 1, now_us, result);
	else
		*result = (struct result){.outcome = OUTCOME_UNKNOWN_ACCOUNT};
}

uint64_t ledger_newest(const struct ledger *ledger)
{
	(void)ledger;
	return 0;
}

enum outcome ledger_read_hold(struct ledger *ledger, const char *id, uint32_t length,
                              struct hold_view *view)
{
	(void)ledger, (void)id, (void)length;
	view->lsn = 0;
	return OUTCOME_UNKNOWN_HOLD;
}

enum outcome ledger_list_holds(struct ledger *ledger, const char *name, uint32_t length,
                               uint64_t *cursor, struct hold_view *views, size_t max, size_t *count,
                               uint64_t *lsn)
{
	(void)ledger, (void)name, (void)length, (void)views, (void)max, (void)lsn;
	*cursor = 0;
	*count = 0;
	return OUTCOME_UNKNOWN_ACCOUNT;
}

enum outcome ledger_list(struct ledger *ledger, struct words prefix, struct list_cursor *cursor,
                         struct account_view *views, size_t max, size_t *count, uint64_t *lsn)
{
	(void)prefix, (void)views, (void)max;
	/* There are none, which takes several calls to find out; the first one sees a deletion. */
	if (!cursor->begun)
		*lsn = ledger->deletion;
	cursor->done = cursor->sealed == FAKE_LISTING;
	cursor->sealed++;
	cursor->begun = true;
	*count = 0;
	return OUTCOME_ACCEPTED;
}

size_t ledger_expire(struct ledger *ledger, uint64_t now_us, size_t max)
{
	(void)ledger, (void)now_us, (void)max;
	return 0;
}

enum outcome ledger_read(struct ledger *ledger, const char *name, uint32_t length,
                         struct account_view *view)
{
	const struct fake_account *account = fake_find(ledger, name, length);
	view->lsn = 0;
	if (ledger->health == OUTCOME_POISONED)
		return OUTCOME_POISONED;
	if (!account || account->length == 0)
		return OUTCOME_UNKNOWN_ACCOUNT;
	*view = account->view;
	return OUTCOME_ACCEPTED;
}

uint64_t ledger_released(const struct ledger *ledger)
{
	return ledger->released;
}

bool ledger_want(struct ledger *ledger, uint64_t lsn)
{
	ledger->wanted = lsn + 1;
	return ledger->released <= lsn;
}

void ledger_kick(struct ledger *ledger)
{
	uint64_t one = 1;
	ledger->kicks++;
	if (ledger->kick_fd >= 0 && write(ledger->kick_fd, &one, sizeof(one)) < 0 &&
	    errno != EAGAIN)
		_exit(99);
}

uint64_t ledger_id_window(const struct ledger *ledger, uint64_t now_us, uint64_t *forgotten)
{
	(void)ledger;
	(void)now_us;
	*forgotten = 0;
	return 86400000000;
}

uint64_t ledger_pending(const struct ledger *ledger)
{
	return ledger->tail - ledger->released;
}

unsigned ledger_retry_after(const struct ledger *ledger)
{
	(void)ledger;
	return 7;
}

void ledger_facts(const struct ledger *ledger, uint64_t now_us, struct facts *facts)
{
	(void)now_us;
	*facts = (struct facts){.processes = 1, .tail = ledger->tail, .started_us = 1};
}

enum outcome ledger_health(const struct ledger *ledger)
{
	return (enum outcome)ledger->health;
}

#endif
