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
	_Atomic int forced; /* the outcome of every post, if not OUTCOME_ACCEPTED */
	_Atomic int health;
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

void ledger_post(struct ledger *ledger, const struct event *event, uint64_t now_us,
                 struct result *result)
{
	struct fake_account *account = fake_find(ledger, event->account, event->account_length);
	*result = (struct result){.outcome = (enum outcome)ledger->forced};
	if (result->outcome != OUTCOME_ACCEPTED)
		return;
	if (!account) {
		result->outcome = OUTCOME_TABLE_FULL;
		return;
	}
	int64_t balance;
	if (__builtin_add_overflow(account->view.balance, event->amount, &balance)) {
		result->outcome = OUTCOME_OVERFLOW;
		result->lsn = account->view.lsn;
		return;
	}
	if (account->length == 0) {
		memcpy(account->name, event->account, event->account_length);
		account->length = event->account_length;
		account->view.created_us = now_us;
	}
	account->view.balance = balance;
	account->view.version++;
	account->view.updated_us = now_us;
	account->view.lsn = ledger->tail++;
	if (ledger->automatic)
		ledger->released = ledger->tail;
	result->balance = balance;
	result->version = account->view.version;
	result->lsn = account->view.lsn;
}

enum outcome ledger_read(struct ledger *ledger, const char *name, uint32_t length,
                         struct account_view *view)
{
	const struct fake_account *account = fake_find(ledger, name, length);
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

uint64_t ledger_pending(const struct ledger *ledger)
{
	return ledger->tail - ledger->released;
}

unsigned ledger_retry_after(const struct ledger *ledger)
{
	(void)ledger;
	return 7;
}

enum outcome ledger_health(const struct ledger *ledger)
{
	return (enum outcome)ledger->health;
}

#endif
