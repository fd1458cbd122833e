/* Reading holds: one, or those of an account. */
#include <string.h>

#include "../../shm/lock.h"
#include "ledger_private.h"

static void view(const struct hold_slot *slot, struct hold_view *view)
{
	view->state = (enum hold_state)slot->state;
	view->amount = slot->amount;
	view->captured = slot->captured;
	view->expires_us = slot->expires_us;
	view->placed_us = slot->placed_us;
	view->settled_us = slot->settled_us;
	view->lsn = slot->lsn;
	view->id_length = slot->id_length;
	view->account_length = slot->account_length;
	memcpy(view->id, slot->id, slot->id_length);
	memcpy(view->account, slot->account, slot->account_length);
}

enum outcome ledger_read_hold(struct ledger *ledger, const char *id, uint32_t length,
                              struct hold_view *hold)
{
	struct key key = record_key(ledger->key, id, length);
	uint32_t lock = holds_lock(ledger->region, &key);

	hold->lsn = 0;
	if (!lock_acquire(ledger->region, lock))
		return OUTCOME_POISONED;
	const struct hold_slot *slot = holds_find(ledger->region, &key);
	if (slot != NULL)
		view(slot, hold);
	else
		hold->lsn = ledger_newest(ledger);
	lock_release(ledger->region, lock);
	return slot != NULL ? OUTCOME_ACCEPTED : OUTCOME_UNKNOWN_HOLD;
}

static bool is_of(const struct hold_slot *slot, const char *name, uint32_t length)
{
	return slot->account_length == length && memcmp(slot->account, name, length) == 0;
}

/* An index above 0 as a client gets it.  0 has a meaning of its own: what 0 would become takes its
 * place, and keeps this a permutation. */
static uint64_t seal(const struct ledger *ledger, uint64_t at)
{
	uint64_t sealed = cursor_seal(&ledger->hold_cursors, at);

	return sealed != 0 ? sealed : cursor_seal(&ledger->hold_cursors, 0);
}

static uint64_t open_sealed(const struct ledger *ledger, uint64_t sealed)
{
	uint64_t at = cursor_open(&ledger->hold_cursors, sealed);

	return at != 0 ? at : cursor_open(&ledger->hold_cursors, 0);
}

/* Raises *LSN to that of the account's newest record. */
static enum outcome rely_on(struct ledger *ledger, const char *name, uint32_t length, uint64_t *lsn)
{
	struct account_view account;
	enum outcome outcome = ledger_read(ledger, name, length, &account);

	if (account.lsn > *lsn)
		*lsn = account.lsn;
	return outcome;
}

/*
 * A hold stays in its slot while it is open: so it is seen once.  One that was settled a moment ago
 * is missing because of a record, too; its slot says which, or another hold has taken the slot.
 * Each settlement is a change of the account as well, so what that says afterwards covers all.
 */
enum outcome ledger_list_holds(struct ledger *ledger, const char *name, uint32_t length,
                               uint64_t *cursor, struct hold_view *views, size_t max, size_t *count,
                               uint64_t *lsn)
{
	uint64_t hash = ledger_hash(ledger, name, length);
	uint64_t at = *cursor != 0 ? open_sealed(ledger, *cursor) : 0;
	struct hold_slot *slot;

	*count = 0;
	enum outcome outcome = rely_on(ledger, name, length, lsn);
	if (outcome != OUTCOME_ACCEPTED)
		return outcome;
	while (*count < max && holds_next_of(ledger->region, hash, &at, &slot)) {
		uint32_t lock = holds_slot_lock(ledger->region, slot);
		if (!lock_acquire(ledger->region, lock))
			return OUTCOME_POISONED;
		if (is_of(slot, name, length) && slot->lsn > *lsn)
			*lsn = slot->lsn;
		if (is_of(slot, name, length) && slot->state == HOLD_OPEN)
			view(slot, &views[(*count)++]);
		lock_release(ledger->region, lock);
	}
	*cursor = *count < max ? 0 : seal(ledger, at);
	return rely_on(ledger, name, length, lsn);
}
