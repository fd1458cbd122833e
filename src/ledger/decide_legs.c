/*
 * Events, transfers and transactions.  One whose amounts are all zero asks and changes nothing; of
 * any other, every leg is a change of its account, a leg of zero as well.  But for looks: see
 * MATCH_SEEN.
 */
#include "ledger_private.h"

static bool balanced(const struct work *work)
{
	__int128 sum = 0;

	for (unsigned i = 0; i < work->parties; i++)
		sum += work->amount[i];
	return sum == 0;
}

/* How many of WORK's legs, from the first on, are changes if any is. */
static unsigned changes(const struct work *work)
{
	const struct request *request = work->request;

	return work->parties - (request->match == MATCH_SEEN ? request->looks : 0);
}

static bool nothing(const struct work *work)
{
	bool bears = work->request->match == MATCH_SEEN;

	for (unsigned i = 0; i < changes(work); i++)
		if (work->amount[i] != 0 || (bears && !work->party[i]->exists))
			return false;
	return true;
}

static bool is_as_seen(const struct work *work, unsigned leg)
{
	const struct party *party = work->party[leg];

	return work->request->seen[leg] == (party->exists ? party->newest : 0);
}

static enum outcome check(const struct ledger *ledger, const struct work *work, unsigned leg)
{
	const struct party *party = work->party[leg];
	int64_t amount = work->amount[leg];
	bool seen = work->request->match == MATCH_SEEN;

	if (seen && !is_as_seen(work, leg))
		return OUTCOME_VERSION_MISMATCH;
	if (leg >= changes(work))
		return OUTCOME_ACCEPTED;
	if (!party->exists && ((amount == 0 && !seen) || !ledger->auto_create))
		return OUTCOME_UNKNOWN_ACCOUNT;
	if (leg == 0 && !rule_matches(work->request, party))
		return OUTCOME_VERSION_MISMATCH;
	return rule_move(party->now, amount, work->result);
}

/* Without an id there is nothing to record. */
static enum outcome unchanged(struct ledger *ledger, struct work *work)
{
	struct record_writer writer;

	work->result->lsn = party_relied(ledger, work);
	if (work->request->id.length == 0)
		return OUTCOME_ACCEPTED;
	note_begin(ledger, work, &writer, note_type(work->request), OUTCOME_ACCEPTED,
	           RECORD_UNCHANGED);
	for (unsigned i = 0; i < work->parties; i++) {
		const struct party *party = work->party[i];
		const struct record_leg leg = {.balance = party->now->balance,
		                               .held = party->now->held,
		                               .version = party->now->version,
		                               .previous = party->newest};
		record_add_leg(&writer, &party->name, &leg, NULL);
	}
	work->result->time_us = ledger->now_us;
	note_end(ledger, work, &writer);
	return OUTCOME_ACCEPTED;
}

static enum outcome change(struct ledger *ledger, struct work *work)
{
	struct account_slot *after[LEGS_MAX];
	struct result *result = work->result;
	struct record_writer writer;

	for (unsigned i = 0; i < changes(work); i++)
		if ((after[i] = party_stage(ledger, work->party[i])) == NULL)
			return OUTCOME_TABLE_FULL;
	note_begin(ledger, work, &writer, note_type(work->request), OUTCOME_ACCEPTED, 0);
	for (unsigned i = 0; i < changes(work); i++) {
		struct party *party = work->party[i];
		const struct record_birth birth = {.floor = after[i]->floor,
		                                   .ceiling = after[i]->ceiling};
		struct record_leg leg;
		party_change(ledger, party, after[i], work->amount[i], 0, &leg);
		record_add_leg(&writer, &party->name, &leg, leg.previous == 0 ? &birth : NULL);
		result->leg[i].balance = leg.balance;
		result->leg[i].version = leg.version;
	}
	result->time_us = ledger->now_us;
	note_end(ledger, work, &writer);
	return OUTCOME_ACCEPTED;
}

/* Whoever made the request should have seen to it: a record like that could not be read back. */
static bool names_one_twice(const struct work *work)
{
	for (unsigned i = 1; i < work->parties; i++)
		for (unsigned j = 0; j < i; j++)
			if (work->party[i] == work->party[j])
				return true;
	return false;
}

enum outcome decide_legs(struct ledger *ledger, struct work *work)
{
	if (names_one_twice(work)) {
		work->parties = work->result->legs = 0;
		return OUTCOME_SAME_ACCOUNT;
	}
	if (work->request->balanced && !balanced(work))
		return OUTCOME_UNBALANCED;
	for (unsigned i = 0; i < work->parties; i++) {
		enum outcome outcome = check(ledger, work, i);
		if (outcome == OUTCOME_ACCEPTED)
			continue;
		work->result->refused = (uint8_t)i;
		return outcome;
	}
	return nothing(work) ? unchanged(ledger, work) : change(ledger, work);
}
