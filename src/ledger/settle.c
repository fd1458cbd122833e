/*
 * Holds are settled by a request or by the clock.  A hold is named by its id alone: whose it is
 * must be read before that account can be locked, and again afterwards.
 */
#include <string.h>

#include "../../shm/lock.h"
#include "ledger_private.h"

static const struct request expiry = {.kind = REQUEST_RELEASE};

/* Reads whose the hold of KEY is into ledger->holder.  Nobody's: its length is 0. */
static bool peek(struct ledger *ledger, const struct key *key)
{
	uint32_t lock = holds_lock(ledger->region, key);

	if (!lock_acquire(ledger->region, lock))
		return false;
	const struct hold_slot *hold = holds_find(ledger->region, key);
	ledger->holder_length = hold != NULL ? hold->account_length : 0;
	if (hold != NULL)
		memcpy(ledger->holder, hold->account, hold->account_length);
	lock_release(ledger->region, lock);
	return true;
}

/* Whose the hold is that is to be settled: party 0. */
static void enlist_holder(struct ledger *ledger, struct work *work)
{
	const struct words holder = {.bytes = ledger->holder, .length = ledger->holder_length};

	party_enlist(ledger, work, holder, 0);
}

/* For who asks, a hold that he may not settle is none, in all that this leaves behind. */
static bool is_hidden(const struct request *request, const char *account, uint32_t length)
{
	return length != 0 && !ledger_is_within(request, account, length);
}

/* With the hold's lock: is it still as peek saw it? */
static bool unmoved(const struct ledger *ledger, const struct work *work)
{
	if (work->hold == NULL || ledger->holder_length == 0)
		return work->hold == NULL && ledger->holder_length == 0;
	return work->hold->account_length == ledger->holder_length &&
	       memcmp(work->hold->account, ledger->holder, ledger->holder_length) == 0;
}

static bool over(const struct ledger *ledger, const struct hold_slot *hold)
{
	return hold != NULL && hold->state == HOLD_OPEN && hold->expires_us <= ledger->now_us;
}

/* With the hold and its account locked.  No client waits for this record. */
static enum outcome expire(struct ledger *ledger, struct work *work)
{
	work->request = &expiry;
	work->parties = 1;
	party_look(ledger, work->party[0]);
	decide_expire(ledger, work);
	ledger->events = 0;
	return work_commit(ledger);
}

/* With everything locked.  False: to be tried again. */
static bool settle_locked(struct ledger *ledger, struct work *work)
{
	if (work_look_for_id(ledger, work))
		return true;
	work_look_for_hold(ledger, work);
	if (work->hold != NULL &&
	    is_hidden(work->request, work->hold->account, work->hold->account_length))
		work->hold = NULL;
	if (!unmoved(ledger, work))
		return false;
	/* One that nobody has swept yet: first that is recorded, then looked at again. */
	if (over(ledger, work->hold))
		return expire(ledger, work) != OUTCOME_ACCEPTED;
	work_decide(ledger, work);
	work_commit(ledger);
	return true;
}

static void forget_time(struct ledger *ledger, const struct work *work)
{
	if (work->hold != NULL && work->hold->state != HOLD_OPEN)
		holds_forget_time(ledger->region, work->hold);
}

static bool try_to_settle(struct ledger *ledger, const struct request *request, uint64_t now_us,
                          struct result *result)
{
	work_begin(ledger, now_us);
	struct work *work = work_enlist(ledger, request, result);
	work_enlist_hold(ledger, work);
	if (!peek(ledger, &work->hold_id)) {
		result->outcome = OUTCOME_POISONED;
		return true;
	}
	if (is_hidden(request, ledger->holder, ledger->holder_length))
		ledger->holder_length = 0;
	if (ledger->holder_length != 0) {
		enlist_holder(ledger, work);
		work_enlist_legs(ledger, work);
	}
	if (!work_lock(ledger))
		return true;
	bool done = settle_locked(ledger, work);
	forget_time(ledger, work);
	operation_unlock(ledger->region);
	return done;
}

void settle_apply(struct ledger *ledger, const struct request *request, uint64_t now_us,
                  struct result *result)
{
	ledger->settled_unkept = false;
	while (!try_to_settle(ledger, request, now_us, result))
		;
	work_tell(ledger);
	if (result->outcome != OUTCOME_FORGOTTEN || ledger->work[0].again == 0)
		return;
	/* The record that settled it just so has left the journal: the hold itself can still say.
	 */
	ledger->settled_unkept = true;
	while (!try_to_settle(ledger, request, now_us, result))
		;
	work_tell(ledger);
}

/* ---- By the clock */

/* What SLOT, which a hint led to, holds.  False: poisoned. */
static bool peek_slot(struct ledger *ledger, const struct hold_slot *slot, struct key *key,
                      bool *is_over)
{
	uint32_t lock = holds_slot_lock(ledger->region, slot);

	if (!lock_acquire(ledger->region, lock))
		return false;
	*key = slot->key;
	*is_over = over(ledger, slot);
	ledger->holder_length = slot->account_length;
	memcpy(ledger->holder, slot->account, slot->account_length);
	if (slot->state != HOLD_OPEN)
		holds_forget_time(ledger->region, slot);
	lock_release(ledger->region, lock);
	return true;
}

/* Expires the hold in SLOT if its time is over.  Returns how many were expired, -1: not now. */
static int sweep(struct ledger *ledger, const struct hold_slot *slot, uint64_t now_us)
{
	struct result ignored;
	bool is_over;
	int expired = 0;

	work_begin(ledger, now_us);
	struct work *work = work_enlist(ledger, &expiry, &ignored);
	if (!peek_slot(ledger, slot, &work->hold_id, &is_over))
		return -1;
	if (!is_over)
		return 0;
	enlist_holder(ledger, work);
	ledger->lock[ledger->locks++] = holds_slot_lock(ledger->region, slot);
	if (!work_lock(ledger))
		return -1;
	work_look_for_hold(ledger, work);
	if (work->hold == slot && unmoved(ledger, work) && over(ledger, slot))
		expired = expire(ledger, work) == OUTCOME_ACCEPTED ? 1 : -1;
	forget_time(ledger, work);
	operation_unlock(ledger->region);
	return expired;
}

/* Is it this process's turn?  One does it, for all. */
static bool claim(struct ledger *ledger, uint64_t now_us)
{
	uint64_t last = atomic_load(&ledger->marks->expired_us);

	/* A clock that was set back must not stop it. */
	if (now_us >= last && now_us - last < LEDGER_EXPIRE_EVERY_MS * 1000)
		return false;
	return atomic_compare_exchange_strong(&ledger->marks->expired_us, &last, now_us);
}

size_t ledger_expire(struct ledger *ledger, uint64_t now_us, size_t max)
{
	struct hold_slot *slot;
	size_t count = 0;
	uint64_t at = 0;
	int expired = 0;

	if (!claim(ledger, now_us))
		return 0;
	while (count < max && expired >= 0 && holds_next_over(ledger->region, now_us, &at, &slot)) {
		expired = sweep(ledger, slot, now_us);
		count += expired > 0 ? 1 : 0;
	}
	/* There may be more: whoever comes next goes on. */
	if (count == max)
		atomic_store(&ledger->marks->expired_us, 0);
	return count;
}
