/*
 * The way of an operation: enlist who takes part, lock, look, decide (which stages and records what
 * is accepted), record a refusal that has an id, commit, unlock, and tell.  A group of events goes
 * the same way together; whatever else there is, alone.
 */
#include <string.h>

#include "ledger_private.h"

void ledger_clear(struct result *result)
{
	memset(result, 0, offsetof(struct result, account));
}

uint64_t ledger_newest(const struct ledger *ledger)
{
	return atomic_load_explicit(&ledger->marks->tail, memory_order_acquire) - 1;
}

unsigned ledger_legs(const struct request *request)
{
	switch (request->kind) {
	case REQUEST_TRANSFER:
		return 2;
	case REQUEST_TRANSACTION:
	case REQUEST_CAPTURE:
		return request->legs;
	case REQUEST_RELEASE:
		return 0;
	case REQUEST_EVENT:
	case REQUEST_CREATE:
	case REQUEST_REPLACE:
	case REQUEST_DELETE:
	case REQUEST_HOLD:
		break;
	}
	return 1;
}

void work_begin(struct ledger *ledger, uint64_t now_us)
{
	const struct region_settings *settings = ledger->settings;

	ledger->now_us = now_us;
	ledger->auto_create =
	    atomic_load_explicit(&settings->auto_create, memory_order_relaxed) != 0;
	ledger->newborn.floor =
	    atomic_load_explicit(&settings->default_floor, memory_order_relaxed);
	ledger->newborn.ceiling =
	    atomic_load_explicit(&settings->default_ceiling, memory_order_relaxed);
	/* They are two words: a reload may have changed only one of them yet. */
	if (ledger->newborn.ceiling < ledger->newborn.floor)
		ledger->newborn.ceiling = ledger->newborn.floor;
	ledger->parties = 0;
	ledger->works = 0;
	ledger->locks = 0;
	ledger->events = 0;
	ledger->length = 0;
	ledger->forgotten = 0;
}

/* Does this key belong to the id of an earlier member? */
static bool repeated(const struct ledger *ledger, const struct key *id)
{
	for (unsigned i = 0; i < ledger->works; i++) {
		const struct work *work = &ledger->work[i];
		if (work->request->id.length != 0 && work->id.low == id->low &&
		    work->id.high == id->high)
			return true;
	}
	return false;
}

void work_enlist_hold(struct ledger *ledger, struct work *work)
{
	const struct request *request = work->request;
	const struct words *id = &request->hold;

	if (request->kind == REQUEST_HOLD && request->id.length != 0)
		id = &request->id;
	work->hold_id = record_key(ledger->key, id->bytes, id->length);
	ledger->lock[ledger->locks++] = holds_lock(ledger->region, &work->hold_id);
}

struct work *work_enlist(struct ledger *ledger, const struct request *request,
                         struct result *result)
{
	struct work *work = &ledger->work[ledger->works];

	if (request->id.length != 0) {
		work->id = record_key(ledger->key, request->id.bytes, request->id.length);
		if (repeated(ledger, &work->id))
			return NULL;
		ids_prefetch(ledger->region, &work->id);
		ledger->lock[ledger->locks++] = ids_lock(ledger->region, &work->id);
	}
	work->request = request;
	work->result = result;
	work->known = 0;
	work->again = 0;
	work->hold = NULL;
	work->placed = NULL;
	work->parties = 0;
	ledger->works++;
	ledger_clear(result);
	return work;
}

void work_enlist_legs(struct ledger *ledger, struct work *work)
{
	const struct request *request = work->request;
	/* A hold's amount is not one that its account's balance changes by. */
	bool moves = request->kind <= REQUEST_TRANSACTION;
	unsigned legs = ledger_legs(request);

	for (unsigned i = 0; i < legs; i++)
		party_enlist(ledger, work, request->leg[i].account,
		             moves ? request->leg[i].amount : 0);
}

bool work_lock(struct ledger *ledger)
{
	if (operation_lock(ledger->region, ledger->lock, ledger->locks))
		return true;
	for (unsigned i = 0; i < ledger->works; i++)
		ledger->work[i].result->outcome = OUTCOME_POISONED;
	return false;
}

bool work_look_for_id(struct ledger *ledger, struct work *work)
{
	if (work->request->id.length == 0)
		return false;
	const struct id_slot *slot = ids_find(ledger->region, &work->id);
	if (slot != NULL)
		work->known = slot->lsn;
	else
		remember_prefetch(ledger, work);
	return slot != NULL;
}

/* A hold is known by its id even when the id table has forgotten it. */
bool work_look_for_hold(struct ledger *ledger, struct work *work)
{
	work->hold = holds_find(ledger->region, &work->hold_id);
	if (work->request->kind == REQUEST_HOLD && work->hold != NULL &&
	    work->hold->state == HOLD_OPEN)
		work->known = work->hold->lsn;
	return work->known != 0;
}

static enum outcome decide(struct ledger *ledger, struct work *work)
{
	switch (work->request->kind) {
	case REQUEST_EVENT:
	case REQUEST_TRANSFER:
	case REQUEST_TRANSACTION:
		return decide_legs(ledger, work);
	case REQUEST_CREATE:
	case REQUEST_REPLACE:
	case REQUEST_DELETE:
		return decide_account(ledger, work);
	case REQUEST_HOLD:
		return decide_place(ledger, work);
	case REQUEST_CAPTURE:
	case REQUEST_RELEASE:
		break;
	}
	return decide_settle(ledger, work);
}

/* What the refusal of WORK stands on. */
static uint64_t relied(const struct ledger *ledger, const struct work *work)
{
	uint64_t lsn = party_relied(ledger, work);

	if (work->hold != NULL)
		return work->hold->lsn > lsn ? work->hold->lsn : lsn;
	return work->result->outcome == OUTCOME_UNKNOWN_HOLD ? ledger_newest(ledger) : lsn;
}

void work_decide(struct ledger *ledger, struct work *work)
{
	struct result *result = work->result;

	for (unsigned i = 0; i < work->parties; i++)
		party_look(ledger, work->party[i]);
	party_show(work);
	result->outcome = decide(ledger, work);
	if (!outcome_is_decided(result->outcome))
		return;
	result->lsn = relied(ledger, work);
	note_refusal(ledger, work);
}

static void complete(struct ledger *ledger, enum outcome outcome, uint64_t lsn)
{
	for (unsigned i = 0; i < ledger->works; i++) {
		struct result *result = ledger->work[i].result;
		if (outcome != OUTCOME_ACCEPTED) {
			ledger_clear(result);
			result->outcome = outcome;
		} else if ((result->lsn & RECORD_RELATIVE) != 0) {
			result->lsn = lsn + (result->lsn & ~RECORD_RELATIVE);
		}
	}
}

enum outcome work_commit(struct ledger *ledger)
{
	enum outcome outcome;
	uint64_t lsn;

	if (ledger->length == 0)
		return OUTCOME_ACCEPTED;
	outcome =
	    ledger_outcome(operation_commit(ledger->region, ledger->records.bytes, ledger->length,
	                                    ledger->events, RING_CLIENT, &lsn));
	complete(ledger, outcome, lsn);
	if (outcome == OUTCOME_ACCEPTED && ledger->forgotten != 0)
		remember_forgotten(ledger);
	return outcome;
}

void work_tell(struct ledger *ledger)
{
	for (unsigned i = 0; i < ledger->works; i++) {
		struct work *work = &ledger->work[i];
		if (work->known != 0)
			remember_answer(ledger, work);
		else if (work->again != 0)
			remember_settlement(ledger, work);
	}
}

/* ---- Groups of events */

static size_t gather(struct ledger *ledger, const struct request *requests, size_t count,
                     struct result *results)
{
	size_t taken = 0;

	/* One whose id an earlier member has must find that one's record: the group ends before it.
	 */
	while (taken < count && taken < GROUP_MAX) {
		struct work *work = work_enlist(ledger, &requests[taken], &results[taken]);
		if (work == NULL)
			break;
		work_enlist_legs(ledger, work);
		taken++;
	}
	return taken;
}

static enum outcome run(struct ledger *ledger)
{
	if (!work_lock(ledger))
		return OUTCOME_POISONED;
	for (unsigned i = 0; i < ledger->works; i++)
		work_look_for_id(ledger, &ledger->work[i]);
	for (unsigned i = 0; i < ledger->works; i++)
		if (ledger->work[i].known == 0)
			work_decide(ledger, &ledger->work[i]);
	enum outcome outcome = work_commit(ledger);
	operation_unlock(ledger->region);
	work_tell(ledger);
	return outcome;
}

void ledger_apply_group(struct ledger *ledger, const struct request *requests, size_t count,
                        uint64_t now_us, struct result *results)
{
	while (count > 0) {
		work_begin(ledger, now_us);
		size_t taken = gather(ledger, requests, count, results);
		enum outcome outcome = run(ledger);
		requests += taken;
		results += taken;
		count -= taken;
		/* They come after what was refused: nothing of them is applied either. */
		for (; outcome != OUTCOME_ACCEPTED && count > 0; count--, results++) {
			ledger_clear(results);
			results->outcome = outcome;
		}
	}
}

/* ---- Whatever concerns named accounts only, and placing a hold */

static void apply_alone(struct ledger *ledger, const struct request *request, uint64_t now_us,
                        struct result *result)
{
	work_begin(ledger, now_us);
	struct work *work = work_enlist(ledger, request, result);
	work_enlist_legs(ledger, work);
	if (request->kind == REQUEST_HOLD)
		work_enlist_hold(ledger, work);
	if (!work_lock(ledger))
		return;
	if (!work_look_for_id(ledger, work) &&
	    (request->kind != REQUEST_HOLD || !work_look_for_hold(ledger, work)))
		work_decide(ledger, work);
	if (work_commit(ledger) != OUTCOME_ACCEPTED && work->placed != NULL)
		holds_unhint(ledger->region, work->placed);
	operation_unlock(ledger->region);
	work_tell(ledger);
}

void ledger_apply(struct ledger *ledger, const struct request *request, uint64_t now_us,
                  struct result *result)
{
	switch (request->kind) {
	case REQUEST_EVENT:
		ledger_apply_group(ledger, request, 1, now_us, result);
		return;
	case REQUEST_CAPTURE:
	case REQUEST_RELEASE:
		settle_apply(ledger, request, now_us, result);
		return;
	default:
		apply_alone(ledger, request, now_us, result);
	}
}
