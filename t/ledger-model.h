/*
 * The operations as the manual tells them, on a handful of accounts, without locks, tables or a
 * journal: what the ledger is held against.
 */
#ifndef TALLYD_T_LEDGER_MODEL_H
#define TALLYD_T_LEDGER_MODEL_H

#include "ledger-world.h"

#define MODEL_ACCOUNTS 7
#define MODEL_HOLDS    4096
#define MODEL_IDS      16384
#define MODEL_ID_SIZE  40

struct model_account {
	const char *name;
	bool exists;
	int64_t balance, held;
	struct attributes attributes;
	uint64_t version;
};

struct model_hold {
	char id[MODEL_ID_SIZE];
	int account;
	enum hold_state state;
	int64_t amount, captured;
	uint64_t expires_us;
	int to;               /* who got a capture; -1: nobody */
	struct result answer; /* of its settlement */
};

struct model_id {
	char id[MODEL_ID_SIZE];
	struct request request;
	struct result answer;
};

struct model {
	struct attributes newborn;
	bool auto_create;
	struct model_account account[MODEL_ACCOUNTS];
	unsigned holds;
	struct model_hold hold[MODEL_HOLDS];
	unsigned ids;
	struct model_id id[MODEL_IDS];
};

static inline struct model_account *model_find(struct model *model, struct words name)
{
	for (int i = 0; i < MODEL_ACCOUNTS; i++)
		if (strlen(model->account[i].name) == name.length &&
		    memcmp(model->account[i].name, name.bytes, name.length) == 0)
			return &model->account[i];
	return NULL;
}

static inline struct model_hold *model_find_hold(struct model *model, struct words id)
{
	for (unsigned i = 0; i < model->holds; i++)
		if (strlen(model->hold[i].id) == id.length &&
		    memcmp(model->hold[i].id, id.bytes, id.length) == 0)
			return &model->hold[i];
	return NULL;
}

static inline struct model_id *model_find_id(struct model *model, struct words id)
{
	for (unsigned i = 0; id.length != 0 && i < model->ids; i++)
		if (strlen(model->id[i].id) == id.length &&
		    memcmp(model->id[i].id, id.bytes, id.length) == 0)
			return &model->id[i];
	return NULL;
}

static inline bool model_words_same(struct words a, struct words b)
{
	return a.length == b.length && (a.length == 0 || memcmp(a.bytes, b.bytes, a.length) == 0);
}

/* Do they mean the same? */
static inline bool model_requests_same(const struct request *a, const struct request *b)
{
	bool settles = a->kind == REQUEST_CAPTURE || a->kind == REQUEST_RELEASE;

	if (a->kind != b->kind || a->balanced != b->balanced || a->legs != b->legs ||
	    a->match != b->match || a->version != b->version || a->ttl != b->ttl ||
	    a->has_capture != b->has_capture || a->capture != b->capture ||
	    a->attributes.floor != b->attributes.floor ||
	    a->attributes.ceiling != b->attributes.ceiling ||
	    a->attributes.frozen != b->attributes.frozen || !model_words_same(a->note, b->note) ||
	    (settles && !model_words_same(a->hold, b->hold)))
		return false;
	for (unsigned i = 0; i < a->legs; i++)
		if (a->leg[i].amount != b->leg[i].amount ||
		    !model_words_same(a->leg[i].account, b->leg[i].account))
			return false;
	return true;
}

static inline int64_t model_saturate(__int128 value)
{
	return value > INT64_MAX ? INT64_MAX : value < INT64_MIN ? INT64_MIN : (int64_t)value;
}

static inline enum outcome model_short(const struct model_account *account, __int128 required,
                                       struct result *answer)
{
	if (account->attributes.floor == FLOOR_NONE)
		return OUTCOME_OVERFLOW;
	answer->available =
	    model_saturate((__int128)account->balance - account->held - account->attributes.floor);
	answer->required = model_saturate(required);
	return OUTCOME_INSUFFICIENT_FUNDS;
}

static inline enum outcome model_move(const struct model_account *account, int64_t amount,
                                      struct result *answer)
{
	__int128 after = (__int128)account->balance + amount;

	if (amount < 0) {
		if (account->attributes.frozen != FROZEN_NONE)
			return OUTCOME_ACCOUNT_FROZEN;
		return after - account->held >= account->attributes.floor
		           ? OUTCOME_ACCEPTED
		           : model_short(account, -(__int128)amount, answer);
	}
	if (amount == 0)
		return OUTCOME_ACCEPTED;
	if (account->attributes.frozen == FROZEN_ALL)
		return OUTCOME_ACCOUNT_FROZEN;
	if (after <= account->attributes.ceiling)
		return OUTCOME_ACCEPTED;
	if (account->attributes.ceiling == CEILING_NONE)
		return OUTCOME_OVERFLOW;
	answer->limit = account->attributes.ceiling;
	return OUTCOME_CEILING_EXCEEDED;
}

static inline bool model_matches(const struct request *request, const struct model_account *account)
{
	return request->match == MATCH_NOTHING ||
	       (account->exists &&
	        (request->match == MATCH_ANY || request->version == account->version));
}

/* An account that may be made by what comes next, as it would begin. */
static inline struct model_account model_standing(const struct model *model,
                                                  const struct model_account *account)
{
	struct model_account standing = *account;

	if (!account->exists)
		standing =
		    (struct model_account){.name = account->name, .attributes = model->newborn};
	return standing;
}

static inline void model_show(struct result *answer, unsigned leg, int64_t amount,
                              const struct model_account *account)
{
	answer->leg[leg] = (struct leg_result){.amount = amount,
	                                       .balance = account->balance,
	                                       .held = account->held,
	                                       .version = account->version};
	if (answer->legs <= leg)
		answer->legs = (uint8_t)(leg + 1);
}

static inline void model_change(struct model *model, struct model_account *account, int64_t amount,
                                int64_t held, struct result *answer, unsigned leg)
{
	*account = model_standing(model, account);
	account->exists = true;
	account->balance += amount;
	account->held += held;
	account->version++;
	model_show(answer, leg, amount, account);
}

static inline enum outcome model_legs(struct model *model, const struct request *request,
                                      struct result *answer)
{
	__int128 sum = 0;
	bool nothing = true;

	for (unsigned i = 0; i < request->legs; i++)
		sum += request->leg[i].amount;
	if (request->balanced && sum != 0)
		return OUTCOME_UNBALANCED;
	for (unsigned i = 0; i < request->legs; i++) {
		struct model_account *account = model_find(model, request->leg[i].account);
		int64_t amount = request->leg[i].amount;
		struct model_account standing = model_standing(model, account);
		enum outcome outcome = OUTCOME_ACCEPTED;
		nothing = nothing && amount == 0;
		answer->refused = (uint8_t)i;
		model_show(answer, i, amount, &standing);
		if (!account->exists && (amount == 0 || !model->auto_create))
			outcome = OUTCOME_UNKNOWN_ACCOUNT;
		else if (i == 0 && !model_matches(request, account))
			outcome = OUTCOME_VERSION_MISMATCH;
		else
			outcome = model_move(&standing, amount, answer);
		if (outcome != OUTCOME_ACCEPTED)
			return outcome;
	}
	answer->refused = 0;
	for (unsigned i = 0; !nothing && i < request->legs; i++)
		model_change(model, model_find(model, request->leg[i].account),
		             request->leg[i].amount, 0, answer, i);
	return OUTCOME_ACCEPTED;
}

static inline enum outcome model_account_request(struct model *model, const struct request *request,
                                                 struct result *answer)
{
	struct model_account *account = model_find(model, request->leg[0].account);
	struct model_account standing = model_standing(model, account);

	model_show(answer, 0, 0, &standing);
	if (request->kind == REQUEST_CREATE && account->exists)
		return OUTCOME_ACCOUNT_EXISTS;
	if (request->kind == REQUEST_DELETE && !account->exists)
		return OUTCOME_UNKNOWN_ACCOUNT;
	if (!model_matches(request, account))
		return OUTCOME_VERSION_MISMATCH;
	if (request->kind == REQUEST_DELETE && (account->balance != 0 || account->held != 0))
		return OUTCOME_ACCOUNT_IN_USE;
	answer->created = !account->exists;
	model_change(model, account, 0, 0, answer, 0);
	if (request->kind == REQUEST_DELETE) {
		*account = (struct model_account){.name = account->name};
		return OUTCOME_ACCEPTED;
	}
	account->attributes = answer->attributes = request->attributes;
	return OUTCOME_ACCEPTED;
}

static inline enum outcome model_place(struct model *model, const struct request *request,
                                       uint64_t now_us, struct result *answer)
{
	struct words id = request->id.length != 0 ? request->id : request->hold;
	struct model_account *account = model_find(model, request->leg[0].account);
	int64_t amount = request->leg[0].amount;
	struct model_account standing = model_standing(model, account);

	model_show(answer, 0, 0, &standing);
	if (!account->exists)
		return OUTCOME_UNKNOWN_ACCOUNT;
	if (!model_matches(request, account))
		return OUTCOME_VERSION_MISMATCH;
	enum outcome outcome = model_move(account, -amount, answer);
	if (outcome == OUTCOME_ACCEPTED && (__int128)account->held + amount > INT64_MAX)
		outcome = OUTCOME_OVERFLOW;
	if (outcome != OUTCOME_ACCEPTED)
		return outcome;
	if (model->holds == MODEL_HOLDS)
		BAIL_OUT("the model knows only so many holds");
	struct model_hold *hold = &model->hold[model->holds++];
	*hold = (struct model_hold){.account = (int)(account - model->account),
	                            .state = HOLD_OPEN,
	                            .amount = amount,
	                            .expires_us = now_us + request->ttl * UINT64_C(1000000),
	                            .to = -1};
	memcpy(hold->id, id.bytes, id.length);
	model_change(model, account, 0, amount, answer, 0);
	answer->created = true;
	answer->hold_state = HOLD_OPEN;
	answer->hold_amount = amount;
	answer->hold_expires_us = hold->expires_us;
	return OUTCOME_ACCEPTED;
}

static inline void model_expire(struct model *model, struct model_hold *hold)
{
	struct result ignored = {0};

	hold->state = HOLD_EXPIRED;
	model_change(model, &model->account[hold->account], 0, -hold->amount, &ignored, 0);
}

static inline void model_show_hold(const struct model_hold *hold, struct result *answer)
{
	answer->hold_state = hold->state;
	answer->hold_amount = hold->amount;
	answer->hold_captured = hold->captured;
	answer->hold_expires_us = hold->expires_us;
}

static inline enum outcome model_may_capture(struct model *model, const struct model_hold *hold,
                                             int64_t amount, struct model_account *to,
                                             struct result *answer)
{
	const struct model_account *account = &model->account[hold->account];
	struct model_account unheld = *account;
	enum outcome outcome = OUTCOME_ACCEPTED;

	if (to == account)
		return OUTCOME_SAME_ACCOUNT;
	if (account->attributes.frozen == FROZEN_ALL)
		return OUTCOME_ACCOUNT_FROZEN;
	/* As if the hold were released and what it held already gone: the excess is a debit. */
	unheld.balance -= hold->amount;
	unheld.held -= hold->amount;
	if (amount > hold->amount)
		outcome = model_move(&unheld, -(amount - hold->amount), answer);
	if (outcome != OUTCOME_ACCEPTED || to == NULL)
		return outcome;
	struct model_account standing = model_standing(model, to);
	answer->refused = 1;
	if (!to->exists && (amount == 0 || !model->auto_create))
		return OUTCOME_UNKNOWN_ACCOUNT;
	outcome = model_move(&standing, amount, answer);
	if (outcome == OUTCOME_ACCEPTED)
		answer->refused = 0;
	return outcome;
}

/* In *AGAIN whether it only repeats what happened. */
static inline enum outcome model_settle(struct model *model, const struct request *request,
                                        uint64_t now_us, struct result *answer, bool *again)
{
	bool captures = request->kind == REQUEST_CAPTURE;
	struct model_hold *hold = model_find_hold(model, request->hold);
	struct model_account *to =
	    request->legs != 0 ? model_find(model, request->leg[0].account) : NULL;

	if (hold == NULL)
		return OUTCOME_UNKNOWN_HOLD;
	if (hold->state == HOLD_OPEN && hold->expires_us <= now_us)
		model_expire(model, hold);
	struct model_account *account = &model->account[hold->account];
	int64_t amount = request->has_capture ? request->capture : captures ? hold->amount : 0;
	if (hold->state != HOLD_OPEN) {
		enum hold_state wanted = captures ? HOLD_CAPTURED : HOLD_RELEASED;
		if (hold->state == wanted && hold->captured == amount &&
		    hold->to == (to != NULL ? (int)(to - model->account) : -1)) {
			*again = true;
			*answer = hold->answer;
			return OUTCOME_ACCEPTED;
		}
		model_show_hold(hold, answer);
		return OUTCOME_HOLD_SETTLED;
	}
	if (!model_matches(request, account))
		return OUTCOME_VERSION_MISMATCH;
	if (captures) {
		enum outcome outcome = model_may_capture(model, hold, amount, to, answer);
		if (outcome != OUTCOME_ACCEPTED)
			return outcome;
	}
	hold->state = captures ? HOLD_CAPTURED : HOLD_RELEASED;
	hold->captured = amount;
	hold->to = to != NULL ? (int)(to - model->account) : -1;
	model_change(model, account, -amount, -hold->amount, answer, 0);
	if (to != NULL)
		model_change(model, to, amount, 0, answer, 1);
	model_show_hold(hold, answer);
	return OUTCOME_ACCEPTED;
}

/*
 * What REQUEST must be answered, but for its LSN, which ACTUAL tells: for what is remembered, that
 * is the answer of the first time.
 */
static inline struct result model_apply(struct model *model, const struct request *request,
                                        uint64_t now_us, const struct result *actual)
{
	const struct model_id *known = model_find_id(model, request->id);
	struct result answer = {0};
	bool again = false;

	if (known != NULL && model_requests_same(&known->request, request)) {
		answer = known->answer;
		answer.replayed = true;
		return answer;
	}
	if (known != NULL) {
		answer.outcome = OUTCOME_ID_REUSED;
		answer.lsn = known->answer.lsn;
		return answer;
	}
	switch (request->kind) {
	case REQUEST_EVENT:
	case REQUEST_TRANSFER:
	case REQUEST_TRANSACTION:
		answer.outcome = model_legs(model, request, &answer);
		break;
	case REQUEST_CREATE:
	case REQUEST_REPLACE:
	case REQUEST_DELETE:
		answer.outcome = model_account_request(model, request, &answer);
		break;
	case REQUEST_HOLD:
		answer.outcome = model_place(model, request, now_us, &answer);
		break;
	case REQUEST_CAPTURE:
	case REQUEST_RELEASE:
		answer.outcome = model_settle(model, request, now_us, &answer, &again);
		break;
	}
	if (again) {
		answer.replayed = true;
		if (request->id.length == 0)
			return answer;
		answer.time_us = actual->time_us;
	}
	answer.lsn = actual->lsn;
	if (answer.outcome == OUTCOME_ACCEPTED && !again) {
		answer.time_us = actual->time_us;
		if (request->kind >= REQUEST_CAPTURE) {
			struct model_hold *hold = model_find_hold(model, request->hold);
			hold->answer = answer;
		}
	}
	if (request->id.length != 0) {
		if (model->ids == MODEL_IDS)
			BAIL_OUT("the model knows only so many ids");
		struct model_id *id = &model->id[model->ids++];
		*id = (struct model_id){.request = *request, .answer = *actual};
		memcpy(id->id, request->id.bytes, request->id.length);
		id->request.id = words_of(id->id);
	}
	return answer;
}

/* Is ACTUAL what the model says?  What a refusal shows of accounts only where it was refused. */
static inline bool model_agrees(const struct result *expected, const struct result *actual)
{
	bool same =
	    expected->outcome == actual->outcome && expected->replayed == actual->replayed &&
	    expected->created == actual->created && expected->lsn == actual->lsn &&
	    expected->available == actual->available && expected->required == actual->required &&
	    expected->limit == actual->limit && expected->hold_state == actual->hold_state &&
	    expected->hold_amount == actual->hold_amount &&
	    expected->hold_captured == actual->hold_captured &&
	    expected->hold_expires_us == actual->hold_expires_us;

	if (expected->outcome == OUTCOME_ACCEPTED)
		same = same && legs_same(expected, actual) &&
		       expected->time_us == actual->time_us &&
		       expected->attributes.floor == actual->attributes.floor &&
		       expected->attributes.ceiling == actual->attributes.ceiling &&
		       expected->attributes.frozen == actual->attributes.frozen;
	else if (expected->outcome != OUTCOME_UNBALANCED)
		same = same && expected->refused == actual->refused;
	if (!same) {
		result_diag("expected", expected);
		result_diag("got", actual);
	}
	return same;
}

/* Are all accounts and holds in WORLD as the model has them? */
static inline bool model_holds_for(const struct model *model, struct world *world)
{
	bool good = true;

	for (int i = 0; i < MODEL_ACCOUNTS; i++) {
		const struct model_account *account = &model->account[i];
		struct account_view view = world_account(world, account->name);
		if (world_knows(world, account->name) == account->exists &&
		    (!account->exists ||
		     (view.balance == account->balance && view.held == account->held &&
		      view.version == account->version &&
		      view.attributes.floor == account->attributes.floor &&
		      view.attributes.ceiling == account->attributes.ceiling &&
		      view.attributes.frozen == account->attributes.frozen)))
			continue;
		diag("account %s: balance %" PRId64 ", not %" PRId64 "; held %" PRId64
		     ", not %" PRId64 "; version %" PRIu64 ", not %" PRIu64,
		     account->name, view.balance, account->balance, view.held, account->held,
		     view.version, account->version);
		good = false;
	}
	for (unsigned i = 0; i < model->holds; i++) {
		const struct model_hold *hold = &model->hold[i];
		struct hold_view view = world_hold(world, hold->id);
		if (view.state == hold->state && view.amount == hold->amount &&
		    view.captured == hold->captured && view.expires_us == hold->expires_us)
			continue;
		diag("hold %s: state %d, not %d", hold->id, (int)view.state, (int)hold->state);
		good = false;
	}
	return good;
}

#endif
