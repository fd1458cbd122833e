/*
 * Holds: placed, captured, released, expired.  A hold is settled once; who asks again for the very
 * settlement that happened is told what happened.
 */
#include <string.h>

#include "ledger_private.h"

#define SECOND_US UINT64_C(1000000)

/* A settlement changes a slot as far as this. */
#define HOLD_CHANGING ((offsetof(struct hold_slot, id) + 7) & ~(size_t)7)

static void stage_placed(struct ledger *ledger, struct work *work, struct hold_slot *cell,
                         uint64_t expires_us)
{
	const struct request *request = work->request;
	const struct words *id = request->id.length != 0 ? &request->id : &request->hold;
	const struct party *party = work->party[0];
	struct hold_slot *after =
	    operation_stage(ledger->region, cell, holds_lock(ledger->region, &work->hold_id),
	                    sizeof *cell, (uint32_t)ledger->length);

	*after = (struct hold_slot){.key = work->hold_id,
	                            .amount = request->leg[0].amount,
	                            .expires_us = expires_us,
	                            .placed_us = ledger->now_us,
	                            .state = HOLD_OPEN,
	                            .id_length = (uint8_t)id->length,
	                            .account_length = (uint8_t)party->name.length};
	memcpy(after->id, id->bytes, id->length);
	memcpy(after->account, party->name.bytes, party->name.length);
	operation_count(ledger->region, USE_HOLDS, 1);
	holds_hint(ledger->region, cell, party->hash, expires_us);
	work->placed = cell;
}

static enum outcome place(struct ledger *ledger, struct work *work)
{
	const struct request *request = work->request;
	struct result *result = work->result;
	struct hold_slot *cell = holds_vacancy(ledger->region, &work->hold_id);
	const struct record_hold body = {.amount = request->leg[0].amount,
	                                 .expires_us = ledger->now_us + request->ttl * SECOND_US};
	struct party *party = work->party[0];
	struct record_writer writer;

	if (cell == NULL)
		return OUTCOME_HOLDS_FULL;
	stage_placed(ledger, work, cell, body.expires_us);
	struct record_leg leg;
	party_change(ledger, party, party_stage(ledger, party), 0, body.amount, &leg);
	note_begin(ledger, work, &writer, RECORD_HOLD, OUTCOME_ACCEPTED, RECORD_CREATED);
	record_add_leg(&writer, &party->name, &leg, NULL);
	record_add_body(&writer, &body, sizeof body);
	result->created = true;
	result->leg[0].held = leg.held;
	result->leg[0].version = leg.version;
	result->time_us = ledger->now_us;
	result->hold_state = HOLD_OPEN;
	result->hold_amount = body.amount;
	result->hold_expires_us = body.expires_us;
	note_end(ledger, work, &writer);
	return OUTCOME_ACCEPTED;
}

enum outcome decide_place(struct ledger *ledger, struct work *work)
{
	const struct party *party = work->party[0];

	/* Its id has left the id table, what it stood for is settled: not placed a second time. */
	if (work->hold != NULL)
		return OUTCOME_FORGOTTEN;
	if (!party->exists)
		return OUTCOME_UNKNOWN_ACCOUNT;
	if (!rule_matches(work->request, party))
		return OUTCOME_VERSION_MISMATCH;
	enum outcome outcome = rule_hold(party->now, work->request->leg[0].amount, work->result);
	return outcome == OUTCOME_ACCEPTED ? place(ledger, work) : outcome;
}

/* What the hold of WORK was when it ended, or is: into the result. */
static void show(const struct work *work)
{
	const struct hold_slot *hold = work->hold;
	struct result *result = work->result;

	result->hold_state = (enum hold_state)hold->state;
	result->hold_amount = hold->amount;
	result->hold_captured = hold->captured;
	result->hold_expires_us = hold->expires_us;
	result->hold_settled_lsn = hold->state != HOLD_OPEN ? hold->lsn : 0;
}

static void stage_settled(struct ledger *ledger, const struct work *work, enum hold_state state,
                          int64_t captured)
{
	struct hold_slot *after =
	    operation_stage(ledger->region, work->hold, holds_lock(ledger->region, &work->hold_id),
	                    HOLD_CHANGING, (uint32_t)ledger->length);

	operation_count(ledger->region, USE_HOLDS, -1);
	after->state = (uint8_t)state;
	after->captured = captured;
	after->settled_us = ledger->now_us;
	after->to_hash = work->parties > 1 ? work->party[1]->hash : 0;
}

/* Settles the open hold of WORK, whose parties may bear it. */
static enum outcome settle(struct ledger *ledger, struct work *work, enum record_type type,
                           enum hold_state state, int64_t captured)
{
	const struct hold_slot *hold = work->hold;
	const struct record_settled body = {
	    .amount = hold->amount, .captured = captured, .expires_us = hold->expires_us};
	const struct words id = {.bytes = hold->id, .length = hold->id_length};
	struct account_slot *after[2];
	struct result *result = work->result;
	struct record_writer writer;

	for (unsigned i = 0; i < work->parties; i++)
		if ((after[i] = party_stage(ledger, work->party[i])) == NULL)
			return OUTCOME_TABLE_FULL;
	stage_settled(ledger, work, state, captured);
	note_begin(ledger, work, &writer, type, OUTCOME_ACCEPTED, 0);
	for (unsigned i = 0; i < work->parties; i++) {
		struct party *party = work->party[i];
		const struct record_birth birth = {.floor = after[i]->floor,
		                                   .ceiling = after[i]->ceiling};
		struct record_leg leg;
		party_change(ledger, party, after[i], work->amount[i], i == 0 ? -hold->amount : 0,
		             &leg);
		record_add_leg(&writer, &party->name, &leg, leg.previous == 0 ? &birth : NULL);
		result->leg[i] = (struct leg_result){.amount = leg.amount,
		                                     .balance = leg.balance,
		                                     .held = leg.held,
		                                     .version = leg.version};
	}
	record_add_settled(&writer, &body, &id);
	show(work);
	result->hold_state = state;
	result->hold_captured = captured;
	result->time_us = ledger->now_us;
	note_end(ledger, work, &writer);
	return OUTCOME_ACCEPTED;
}

static int64_t capture_amount(const struct work *work)
{
	return work->request->has_capture ? work->request->capture : work->hold->amount;
}

/* Does WORK ask for what has happened to its hold? */
static bool repeats(const struct ledger *ledger, const struct work *work)
{
	const struct request *request = work->request;
	const struct hold_slot *hold = work->hold;
	const struct words *to = &request->leg[0].account;

	if (request->kind == REQUEST_RELEASE)
		return hold->state == HOLD_RELEASED;
	return hold->state == HOLD_CAPTURED && hold->captured == capture_amount(work) &&
	       hold->to_hash ==
	           (request->legs != 0 ? ledger_hash(ledger, to->bytes, to->length) : 0);
}

static enum outcome settled(const struct ledger *ledger, struct work *work)
{
	if (repeats(ledger, work) && !ledger->settled_unkept) {
		work->again = work->hold->lsn;
		return OUTCOME_ACCEPTED;
	}
	show(work);
	return OUTCOME_HOLD_SETTLED;
}

/* Who gets it, if anybody else. */
static enum outcome check_receiver(const struct ledger *ledger, const struct work *work)
{
	const struct party *to = work->party[1];

	if (!to->exists && (work->amount[1] == 0 || !ledger->auto_create))
		return OUTCOME_UNKNOWN_ACCOUNT;
	return rule_move(to->now, work->amount[1], work->result);
}

static enum outcome check_capture(const struct ledger *ledger, struct work *work, int64_t amount)
{
	struct result *result = work->result;

	/* To give it back to its owner is a release, and to take it from him is not. */
	if (work->parties > 1 && work->party[1] == work->party[0]) {
		work->parties = result->legs = 1;
		return OUTCOME_SAME_ACCOUNT;
	}
	work->amount[0] = result->leg[0].amount = -amount;
	work->amount[1] = result->leg[1].amount = work->parties > 1 ? amount : 0;
	enum outcome outcome =
	    rule_capture(work->party[0]->now, amount, work->hold->amount, result);
	if (outcome != OUTCOME_ACCEPTED || work->parties == 1)
		return outcome;
	outcome = check_receiver(ledger, work);
	result->refused = outcome != OUTCOME_ACCEPTED ? 1 : 0;
	return outcome;
}

static enum outcome capture(struct ledger *ledger, struct work *work)
{
	int64_t amount = capture_amount(work);
	enum outcome outcome = check_capture(ledger, work, amount);

	if (outcome != OUTCOME_ACCEPTED)
		return outcome;
	return settle(ledger, work, RECORD_CAPTURE, HOLD_CAPTURED, amount);
}

enum outcome decide_settle(struct ledger *ledger, struct work *work)
{
	struct result *result = work->result;

	if (work->hold == NULL)
		return OUTCOME_UNKNOWN_HOLD;
	result->account_length = work->hold->account_length;
	memcpy(result->account, work->hold->account, work->hold->account_length);
	if (work->hold->state != HOLD_OPEN)
		return settled(ledger, work);
	/* Only now: what has happened changed the version, and may be asked for again. */
	if (!rule_matches(work->request, work->party[0]))
		return OUTCOME_VERSION_MISMATCH;
	if (work->request->kind == REQUEST_CAPTURE)
		return capture(ledger, work);
	return settle(ledger, work, RECORD_RELEASE, HOLD_RELEASED, 0);
}

void decide_expire(struct ledger *ledger, struct work *work)
{
	settle(ledger, work, RECORD_EXPIRE, HOLD_EXPIRED, 0);
}
