#include "plan.h"

#include <string.h>

void plan_begin(struct plan *plan, struct ledger *ledger)
{
	plan->ledger = ledger;
	plan->count = 0;
	plan->poisoned = false;
	plan->broken = false;
	plan->lsn = 0;
}

static struct plan_account *find(struct plan *plan, struct words name)
{
	for (unsigned i = 0; i < plan->count; i++) {
		struct plan_account *account = &plan->account[i];
		if (account->name.length == name.length &&
		    memcmp(account->name.bytes, name.bytes, name.length) == 0)
			return account;
	}
	return NULL;
}

struct plan_account *plan_look(struct plan *plan, struct words name)
{
	struct plan_account *account = find(plan, name);
	struct account_view view;

	if (account != NULL || plan->count == PLAN_ACCOUNTS_MAX)
		return account;
	enum outcome outcome = ledger_read(plan->ledger, name.bytes, name.length, &view);
	if (outcome != OUTCOME_ACCEPTED && outcome != OUTCOME_UNKNOWN_ACCOUNT) {
		plan->poisoned = true;
		return NULL;
	}
	bool exists = outcome == OUTCOME_ACCEPTED;
	account = &plan->account[plan->count++];
	*account = (struct plan_account){.name = name,
	                                 .exists = exists,
	                                 .existed = exists,
	                                 .balance = exists ? view.balance : 0,
	                                 .before = exists ? view.balance : 0,
	                                 .seen = exists ? view.lsn : 0};
	if (view.lsn > plan->lsn)
		plan->lsn = view.lsn;
	return account;
}

void plan_set(struct plan_account *account, int64_t balance)
{
	account->balance = balance;
	account->exists = true;
}

unsigned plan_births(const struct plan *plan)
{
	unsigned births = 0;

	for (unsigned i = 0; i < plan->count; i++)
		births += plan->account[i].exists && !plan->account[i].existed;
	return births;
}

static bool is_changed(const struct plan_account *account)
{
	return account->exists != account->existed || account->balance != account->before;
}

/* Those that change come first.  False: a change that no amount can say. */
static bool write_legs(const struct plan *plan, bool changing, struct request *request,
                       uint64_t *seen)
{
	for (unsigned i = 0; i < plan->count; i++) {
		const struct plan_account *account = &plan->account[i];
		struct leg *leg = &request->leg[request->legs];
		if (is_changed(account) != changing)
			continue;
		leg->account = account->name;
		if (__builtin_sub_overflow(account->balance, account->before, &leg->amount))
			return false;
		seen[request->legs++] = account->seen;
	}
	return true;
}

void plan_apply(struct plan *plan, uint64_t now_us, struct result *result, bool *changed)
{
	uint64_t seen[PLAN_ACCOUNTS_MAX];
	struct request request = {.kind = REQUEST_TRANSACTION, .match = MATCH_SEEN, .seen = seen};

	*result = (struct result){.outcome = OUTCOME_ACCEPTED, .lsn = plan->lsn};
	*changed = false;
	if (!write_legs(plan, true, &request, seen)) {
		result->outcome = OUTCOME_OVERFLOW;
		return;
	}
	*changed = request.legs > 0;
	request.looks = (uint8_t)(plan->count - request.legs);
	write_legs(plan, false, &request, seen);
	/* One account that was only looked at was seen at one moment by itself. */
	if (!*changed && plan->count <= 1)
		return;
	/* An event is about an amount. */
	if (plan->count == 1 && request.leg[0].amount != 0)
		request.kind = REQUEST_EVENT;
	ledger_apply(plan->ledger, &request, now_us, result);
}
