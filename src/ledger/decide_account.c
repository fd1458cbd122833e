/* Accounts made, replaced and deleted by name. */
#include "ledger_private.h"

static void set(struct account_slot *after, const struct attributes *attributes)
{
	after->floor = attributes->floor;
	after->ceiling = attributes->ceiling;
	after->frozen = (uint8_t)attributes->frozen;
}

static enum outcome put(struct ledger *ledger, struct work *work)
{
	const struct attributes *attributes = &work->request->attributes;
	const struct record_attributes body = {.floor = attributes->floor,
	                                       .ceiling = attributes->ceiling,
	                                       .frozen = (uint32_t)attributes->frozen};
	struct party *party = work->party[0];
	struct result *result = work->result;
	struct record_writer writer;
	bool created = !party->exists;

	struct account_slot *after = party_stage(ledger, party);
	if (after == NULL)
		return OUTCOME_TABLE_FULL;
	set(after, attributes);
	struct record_leg leg;
	party_change(ledger, party, after, 0, 0, &leg);
	note_begin(ledger, work, &writer, note_type(work->request), OUTCOME_ACCEPTED,
	           created ? RECORD_CREATED : 0);
	record_add_leg(&writer, &party->name, &leg, NULL);
	record_add_body(&writer, &body, sizeof body);
	result->created = created;
	result->attributes = *attributes;
	result->leg[0].version = leg.version;
	result->time_us = ledger->now_us;
	note_end(ledger, work, &writer);
	return OUTCOME_ACCEPTED;
}

static enum outcome drop(struct ledger *ledger, struct work *work)
{
	struct party *party = work->party[0];
	struct record_writer writer;
	int64_t amount;

	/* What is held is above zero as long as a hold is open. */
	if (party->now->held != 0 || (party->now->balance != 0 && !work->request->empties))
		return OUTCOME_ACCOUNT_IN_USE;
	if (__builtin_sub_overflow(0, party->now->balance, &amount))
		return OUTCOME_OVERFLOW;
	enum outcome outcome = rule_move(party->now, amount, work->result);
	if (outcome != OUTCOME_ACCEPTED)
		return outcome;
	struct account_slot *after = party_stage(ledger, party);
	struct record_leg leg;
	party_change(ledger, party, after, amount, 0, &leg);
	party_free(ledger, party, after);
	note_begin(ledger, work, &writer, RECORD_DELETE, OUTCOME_ACCEPTED, 0);
	record_add_leg(&writer, &party->name, &leg, NULL);
	work->result->leg[0].amount = amount;
	work->result->leg[0].balance = leg.balance;
	work->result->leg[0].version = leg.version;
	work->result->time_us = ledger->now_us;
	note_end(ledger, work, &writer);
	return OUTCOME_ACCEPTED;
}

enum outcome decide_account(struct ledger *ledger, struct work *work)
{
	const struct party *party = work->party[0];
	enum request_kind kind = work->request->kind;

	if (kind == REQUEST_CREATE && party->exists)
		return OUTCOME_ACCOUNT_EXISTS;
	if (kind == REQUEST_DELETE && !party->exists)
		return OUTCOME_UNKNOWN_ACCOUNT;
	if (!rule_matches(work->request, party))
		return OUTCOME_VERSION_MISMATCH;
	return kind == REQUEST_DELETE ? drop(ledger, work) : put(ledger, work);
}
