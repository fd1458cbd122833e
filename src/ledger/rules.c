#include "ledger_private.h"

/* VALUE - held - floor, as far as int64 reaches. */
static int64_t available(const struct account_slot *account)
{
	__int128 value = (__int128)account->balance - account->held - account->floor;

	if (value > INT64_MAX)
		return INT64_MAX;
	return value < INT64_MIN ? INT64_MIN : (int64_t)value;
}

static enum outcome missing(const struct account_slot *account, int64_t required,
                            struct result *result)
{
	if (account->floor == FLOOR_NONE)
		return OUTCOME_OVERFLOW;
	result->available = available(account);
	result->required = required;
	return OUTCOME_INSUFFICIENT_FUNDS;
}

/*
 * What stays free must not leave int64 either, even without a floor: so a capture of what is held
 * never fails for that.
 */
static enum outcome debit(const struct account_slot *account, int64_t amount, struct result *result)
{
	int64_t balance;
	int64_t unheld;

	if (account->frozen != FROZEN_NONE)
		return OUTCOME_ACCOUNT_FROZEN;
	if (!__builtin_add_overflow(account->balance, amount, &balance) &&
	    !__builtin_sub_overflow(balance, account->held, &unheld) && unheld >= account->floor)
		return OUTCOME_ACCEPTED;
	return missing(account, amount == INT64_MIN ? INT64_MAX : -amount, result);
}

static enum outcome credit(const struct account_slot *account, int64_t amount,
                           struct result *result)
{
	int64_t balance;

	if (account->frozen == FROZEN_ALL)
		return OUTCOME_ACCOUNT_FROZEN;
	if (!__builtin_add_overflow(account->balance, amount, &balance) &&
	    balance <= account->ceiling)
		return OUTCOME_ACCEPTED;
	if (account->ceiling == CEILING_NONE)
		return OUTCOME_OVERFLOW;
	result->limit = account->ceiling;
	return OUTCOME_CEILING_EXCEEDED;
}

enum outcome rule_move(const struct account_slot *account, int64_t amount, struct result *result)
{
	if (amount < 0)
		return debit(account, amount, result);
	return amount > 0 ? credit(account, amount, result) : OUTCOME_ACCEPTED;
}

enum outcome rule_capture(const struct account_slot *account, int64_t amount, int64_t held,
                          struct result *result)
{
	int64_t balance;
	int64_t unheld;

	if (account->frozen == FROZEN_ALL)
		return OUTCOME_ACCOUNT_FROZEN;
	if (amount <= held)
		return OUTCOME_ACCEPTED;
	/* More than was reserved is a debit like any other. */
	if (account->frozen != FROZEN_NONE)
		return OUTCOME_ACCOUNT_FROZEN;
	if (!__builtin_sub_overflow(account->balance, amount, &balance) &&
	    !__builtin_sub_overflow(balance, account->held - held, &unheld) &&
	    unheld >= account->floor)
		return OUTCOME_ACCEPTED;
	return missing(account, amount - held, result);
}

enum outcome rule_hold(const struct account_slot *account, int64_t amount, struct result *result)
{
	int64_t held;
	enum outcome outcome = debit(account, -amount, result);

	if (outcome == OUTCOME_ACCEPTED && __builtin_add_overflow(account->held, amount, &held))
		return OUTCOME_OVERFLOW;
	return outcome;
}

bool rule_matches(const struct request *request, const struct party *party)
{
	switch (request->match) {
	case MATCH_NOTHING:
	case MATCH_SEEN: /* of every leg: see decide_legs.c */
		return true;
	case MATCH_VERSION:
		return party->exists && party->now->version == request->version;
	case MATCH_ANY:
		break;
	}
	return party->exists;
}
