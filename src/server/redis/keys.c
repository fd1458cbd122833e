/* Commands of keys: the balances of accounts, by Redis' names for such things. */
#include "redis.h"

#include "../note.h"

static const char TOO_MANY[] = "ERR a transaction is over at most 16 accounts";

/*
 * The account that KEY names.  NULL without an answer: there can be none of that name, so there is
 * none; with one: see there.
 */
static struct plan_account *look(struct redis_call *call, struct answer *answer, struct words key)
{
	struct plan_account *account = NULL;

	if (!json_account_name_valid(key.bytes, key.length))
		return NULL;
	account = plan_look(call->plan, key);
	if (account == NULL && !call->plan->poisoned) {
		call->plan->broken = true;
		redis_error(answer, TOO_MANY);
	}
	return account;
}

/* The same where it is to be changed. */
static struct plan_account *take(struct redis_call *call, struct answer *answer, struct words key)
{
	if (!json_account_name_valid(key.bytes, key.length)) {
		call->plan->broken = true;
		redis_invalid(answer, "invalid_account",
		              "the name of an account is 1 to 100 bytes of UTF-8 without control "
		              "characters");
		return NULL;
	}
	return look(call, answer, key);
}

static void write_value(const struct redis_call *call, struct answer *answer,
                        const struct plan_account *account)
{
	if (account != NULL && account->exists)
		resp_number(&answer->out, account->balance);
	else
		resp_null(&answer->out, call->session->protocol);
}

void redis_get(struct redis_call *call, struct answer *answer)
{
	const struct plan_account *account = look(call, answer, redis_word(call, 1));

	if (answer->status < 400)
		write_value(call, answer, account);
}

/*
 * More keys than one operation has legs are read one after the other, each as it is then; fewer, as
 * all of them were at one moment.
 */
static void read_singly(struct redis_call *call, struct answer *answer)
{
	uint64_t lsn = 0;

	for (unsigned i = 1; i < call->given->count; i++) {
		plan_begin(call->plan, call->plan->ledger);
		write_value(call, answer, look(call, answer, redis_word(call, i)));
		lsn = call->plan->lsn > lsn ? call->plan->lsn : lsn;
		if (call->plan->poisoned)
			return;
	}
	call->plan->count = 0;
	call->plan->lsn = lsn;
}

void redis_mget(struct redis_call *call, struct answer *answer)
{
	size_t start = answer->out.length;

	resp_array(&answer->out, call->given->count - 1);
	if (call->given->count - 1 > PLAN_ACCOUNTS_MAX && !transaction_is_open(call->session)) {
		read_singly(call, answer);
		return;
	}
	for (unsigned i = 1; i < call->given->count; i++) {
		const struct plan_account *account = look(call, answer, redis_word(call, i));
		if (answer->status >= 400) {
			answer->out.length = start;
			redis_error(answer, TOO_MANY);
			return;
		}
		write_value(call, answer, account);
	}
}

static bool is_there(struct redis_call *call, struct answer *answer, struct words key)
{
	const struct plan_account *account = look(call, answer, key);

	return account != NULL && account->exists;
}

void redis_exists(struct redis_call *call, struct answer *answer)
{
	bool alone =
	    call->given->count - 1 > PLAN_ACCOUNTS_MAX && !transaction_is_open(call->session);
	uint64_t lsn = 0;
	int64_t count = 0;

	for (unsigned i = 1; i < call->given->count && answer->status < 400; i++) {
		if (alone)
			plan_begin(call->plan, call->plan->ledger);
		count += is_there(call, answer, redis_word(call, i));
		lsn = call->plan->lsn > lsn ? call->plan->lsn : lsn;
		if (call->plan->poisoned)
			return;
	}
	if (alone)
		call->plan->count = 0;
	call->plan->lsn = lsn;
	if (answer->status < 400)
		resp_integer(&answer->out, count);
}

/* No account goes by itself. */
void redis_ttl(struct redis_call *call, struct answer *answer)
{
	bool there = is_there(call, answer, redis_word(call, 1));

	if (answer->status < 400)
		resp_integer(&answer->out, there ? -1 : -2);
}

void redis_type(struct redis_call *call, struct answer *answer)
{
	bool there = is_there(call, answer, redis_word(call, 1));

	if (answer->status < 400)
		resp_simple(&answer->out, there ? "string" : "none");
}

/* A balance that is given: whole, and in range. */
static bool read_balance(struct redis_call *call, struct answer *answer, unsigned index,
                         int64_t *balance)
{
	struct words word = redis_word(call, index);

	if (resp_integer_of(word.bytes, word.length, balance))
		return true;
	redis_error_integer(answer);
	return false;
}

void redis_set(struct redis_call *call, struct answer *answer)
{
	bool absent = false, present = false;
	int64_t balance;

	for (unsigned i = 3; i < call->given->count; i++) {
		struct words word = redis_word(call, i);
		absent |= redis_is(word, "NX");
		present |= redis_is(word, "XX");
		if ((!redis_is(word, "NX") && !redis_is(word, "XX")) || (absent && present)) {
			redis_error_syntax(answer);
			return;
		}
	}
	if (!read_balance(call, answer, 2, &balance))
		return;
	struct plan_account *account = take(call, answer, redis_word(call, 1));
	if (account == NULL)
		return;
	if ((absent && account->exists) || (present && !account->exists)) {
		resp_null(&answer->out, call->session->protocol);
		return;
	}
	plan_set(account, balance);
	resp_simple(&answer->out, "OK");
}

void redis_getset(struct redis_call *call, struct answer *answer)
{
	int64_t balance;

	if (!read_balance(call, answer, 2, &balance))
		return;
	struct plan_account *account = take(call, answer, redis_word(call, 1));
	if (account == NULL)
		return;
	write_value(call, answer, account);
	plan_set(account, balance);
}

void redis_increment(struct redis_call *call, struct answer *answer)
{
	struct request request;
	int64_t balance;

	/* It is read as for a group; here each account is as the commands before this one left it.
	 */
	if (!increment_read(call, &request, answer))
		return;
	struct plan_account *account = take(call, answer, request.leg[0].account);
	if (account == NULL)
		return;
	if (__builtin_add_overflow(account->balance, request.leg[0].amount, &balance)) {
		redis_error(answer, "ERR increment or decrement would overflow");
		return;
	}
	plan_set(account, balance);
	resp_integer(&answer->out, balance);
}

/* --- DEL: not by a plan, each account by itself --- */

void redis_del(struct redis_call *call, struct answer *answer)
{
	struct worker *worker = call->connection->worker;
	struct result result;
	int64_t count = 0;

	for (unsigned i = 1; i < call->given->count; i++) {
		struct words name = redis_word(call, i);
		if (!json_account_name_valid(name.bytes, name.length))
			continue;
		const struct request request = {
		    .kind = REQUEST_DELETE, .empties = true, .legs = 1, .leg = {{.account = name}}};
		ledger_apply(worker->server->ledger, &request, worker_time_us(worker), &result);
		answer->lsn = result.lsn > answer->lsn ? result.lsn : answer->lsn;
		count += result.outcome == OUTCOME_ACCEPTED;
		if (result.outcome == OUTCOME_ACCEPTED || result.outcome == OUTCOME_UNKNOWN_ACCOUNT)
			continue;
		redis_decided(call, answer, &result);
		if (call->later && count > 0) {
			/* Some are gone already: it cannot be done as a whole once more. */
			call->later = false;
			answer->status = reason_of(result.outcome)->status;
			redis_refused(&answer->out, &result);
		}
		break;
	}
	answer->posted |= count > 0;
	note_verdicts(worker, VERDICT_ACCEPTED, (uint64_t)count);
	if (answer->status < 400 && !answer->poisoned && !call->later)
		resp_integer(&answer->out, count);
}
