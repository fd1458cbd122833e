/*
 * MULTI, EXEC, DISCARD, WATCH: the commands between MULTI and EXEC are kept as they came, and then
 * are one plan, which is one operation of the ledger.  What is watched takes part in it as what is
 * looked at.
 */
#include <string.h>

#include "redis.h"

#define TRANSACTION_SIZE     16384 /* bytes of memory of one */
#define TRANSACTION_COMMANDS 256   /* between MULTI and EXEC */
#define TRANSACTION_ROOM     60000 /* bytes of the answers to all of them */
#define WATCHED_MAX          PLAN_ACCOUNTS_MAX

struct watched {
	uint64_t seen; /* LSN of the newest record; 0: there was no such account */
	uint8_t length;
	char name[ACCOUNT_NAME_MAX];
};

struct redis_transaction {
	bool open;   /* MULTI was said */
	bool broken; /* a command could not be queued: EXEC refuses */
	unsigned watching;
	unsigned count;  /* of commands */
	size_t room;     /* bytes of their answers */
	size_t capacity; /* of bytes */
	size_t length;   /* of the commands, one behind the other as arrays */
	struct watched watched[WATCHED_MAX];
	char bytes[];
};

bool transaction_is_open(const struct redis_session *session)
{
	return session->transaction && session->transaction->open;
}

void transaction_break(struct redis_session *session)
{
	if (transaction_is_open(session))
		session->transaction->broken = true;
}

void transaction_drop(struct redis_call *call)
{
	buffer_give(call->connection->worker->buffers, call->session->transaction);
	call->session->transaction = NULL;
}

/* The session's transaction, made if there is none.  False: there is no memory. */
static bool have(struct redis_call *call, struct answer *answer)
{
	struct redis_session *session = call->session;
	size_t capacity;

	if (session->transaction)
		return true;
	struct redis_transaction *made =
	    buffer_take(call->connection->worker->buffers, TRANSACTION_SIZE, &capacity);
	if (made == NULL) {
		redis_error(answer, "OOM busy: there is no memory for a transaction just now");
		return false;
	}
	memset(made, 0, sizeof(*made));
	made->capacity = TRANSACTION_SIZE - sizeof(*made);
	session->transaction = made;
	return true;
}

/* --- between MULTI and EXEC --- */

void redis_multi(struct redis_call *call, struct answer *answer)
{
	if (transaction_is_open(call->session)) {
		redis_error(answer, "ERR MULTI calls can not be nested");
		return;
	}
	if (!have(call, answer))
		return;
	call->session->transaction->open = true;
	resp_simple(&answer->out, "OK");
}

void redis_discard(struct redis_call *call, struct answer *answer)
{
	if (!transaction_is_open(call->session)) {
		redis_error(answer, "ERR DISCARD without MULTI");
		return;
	}
	transaction_drop(call);
	resp_simple(&answer->out, "OK");
}

static bool keep(struct redis_transaction *transaction, const struct resp_command *given)
{
	struct text text;

	text_init(&text, transaction->bytes + transaction->length,
	          transaction->capacity - transaction->length);
	resp_array(&text, given->count);
	for (unsigned i = 0; i < given->count; i++)
		resp_bulk(&text, given->argument[i].bytes, given->argument[i].length);
	if (text.full)
		return false;
	transaction->length += text.length;
	transaction->count++;
	return true;
}

void transaction_queue(struct redis_call *call, struct answer *answer)
{
	struct redis_transaction *transaction = call->session->transaction;
	size_t room = redis_room(call->command, call->given);

	if (!(call->command->flags & REDIS_QUEUES)) {
		transaction->broken = true;
		redis_error(answer, "ERR Command not allowed inside a transaction");
		return;
	}
	/* Most answers are short: what must be sent is counted, not what could be said. */
	room =
	    room > REDIS_ANSWER_ROOM ? room - REDIS_ANSWER_ROOM + RESP_FRAME_MAX : RESP_NUMBER_MAX;
	room += room < REDIS_ERROR_MAX / 4 ? REDIS_ERROR_MAX / 4 : 0;
	if (transaction->count == TRANSACTION_COMMANDS ||
	    transaction->room + room > TRANSACTION_ROOM || !keep(transaction, call->given)) {
		transaction->broken = true;
		redis_error(answer,
		            "OOM the transaction is too long: up to 256 commands in 14000 bytes");
		return;
	}
	transaction->room += room;
	resp_simple(&answer->out, "QUEUED");
}

/* --- WATCH --- */

static bool is_watched(const struct redis_transaction *transaction, struct words name)
{
	for (unsigned i = 0; i < transaction->watching; i++) {
		const struct watched *watched = &transaction->watched[i];
		if (watched->length == name.length &&
		    memcmp(watched->name, name.bytes, name.length) == 0)
			return true;
	}
	return false;
}

/* False: answered. */
static bool watch(struct redis_call *call, struct answer *answer, struct words name)
{
	struct redis_transaction *transaction = call->session->transaction;
	struct account_view view;

	/* Nobody can make or change an account of such a name. */
	if (!json_account_name_valid(name.bytes, name.length) || is_watched(transaction, name))
		return true;
	if (transaction->watching == WATCHED_MAX) {
		redis_error(answer, "ERR a transaction is over at most 16 accounts");
		return false;
	}
	enum outcome outcome =
	    ledger_read(call->connection->worker->server->ledger, name.bytes, name.length, &view);
	if (outcome != OUTCOME_ACCEPTED && outcome != OUTCOME_UNKNOWN_ACCOUNT) {
		answer->poisoned = true;
		return false;
	}
	struct watched *watched = &transaction->watched[transaction->watching++];
	watched->seen = outcome == OUTCOME_ACCEPTED ? view.lsn : 0;
	watched->length = (uint8_t)name.length;
	memcpy(watched->name, name.bytes, name.length);
	return true;
}

void redis_watch(struct redis_call *call, struct answer *answer)
{
	if (transaction_is_open(call->session)) {
		redis_error(answer, "ERR WATCH inside MULTI is not allowed");
		return;
	}
	if (!have(call, answer))
		return;
	for (unsigned i = 1; i < call->given->count; i++)
		if (!watch(call, answer, redis_word(call, i)))
			return;
	resp_simple(&answer->out, "OK");
}

void redis_unwatch(struct redis_call *call, struct answer *answer)
{
	/* Within EXEC nothing is watched any more. */
	if (!transaction_is_open(call->session))
		transaction_drop(call);
	resp_simple(&answer->out, "OK");
}

/* --- EXEC --- */

/* Is everything that is watched as it was?  It takes part in the plan. */
static bool is_untouched(struct redis_call *call)
{
	const struct redis_transaction *transaction = call->session->transaction;

	for (unsigned i = 0; i < transaction->watching; i++) {
		const struct watched *watched = &transaction->watched[i];
		const struct plan_account *account =
		    plan_look(call->plan, (struct words){watched->name, watched->length});
		if (account == NULL || account->seen != watched->seen)
			return false;
	}
	return true;
}

/* The error that PART ends with is the answer to all, from START on. */
static void refuse_all(struct answer *answer, size_t start, size_t begin, const struct answer *part)
{
	size_t length = part->out.length - begin;

	memmove(answer->out.bytes + start, answer->out.bytes + begin, length);
	answer->out.length = start + length;
	answer->status = part->status;
	answer->reason = part->reason;
	answer->verdict = part->verdict;
	answer->refusal = part->refusal;
}

/* Does one command after the other, on the plan.  All or nothing: see plan->broken. */
static void run_all(struct redis_call *call, struct answer *answer)
{
	struct redis_transaction *transaction = call->session->transaction;
	struct resp_command given;
	char reason[RESP_REASON_MAX];
	size_t at = 0, start = answer->out.length;

	resp_array(&answer->out, transaction->count);
	for (unsigned i = 0; i < transaction->count && !call->plan->poisoned; i++) {
		/* What was kept can be read. */
		if (resp_read(transaction->bytes + at, transaction->length - at, &given, reason) !=
		    RESP_DONE)
			return;
		struct redis_call one = {.connection = call->connection,
		                         .session = call->session,
		                         .command = redis_find(given.argument[0]),
		                         .given = &given,
		                         .plan = call->plan};
		struct answer part = {.out = answer->out, .status = 200};
		size_t begin = answer->out.length;
		one.command->handle(&one, &part);
		answer->out = part.out;
		if (part.lsn > answer->lsn)
			answer->lsn = part.lsn;
		at += given.length;
		if (call->plan->broken) {
			refuse_all(answer, start, begin, &part);
			return;
		}
	}
}

static void carry_out(struct redis_call *call, struct answer *answer)
{
	struct worker *worker = call->connection->worker;
	size_t start = answer->out.length;
	struct result result = {.outcome = OUTCOME_VERSION_MISMATCH};
	bool changed = false;

	for (unsigned tries = 0; tries < PLAN_TRIES && result.outcome == OUTCOME_VERSION_MISMATCH;
	     tries++) {
		answer->out.length = start;
		plan_begin(call->plan, worker->server->ledger);
		bool untouched = is_untouched(call);
		if (untouched)
			run_all(call, answer);
		else
			resp_null_array(&answer->out, call->session->protocol);
		if (call->plan->poisoned) {
			answer->poisoned = true;
			return;
		}
		if (call->plan->lsn > answer->lsn)
			answer->lsn = call->plan->lsn;
		if (!untouched || call->plan->broken)
			return;
		plan_apply(call->plan, worker_time_us(worker), &result, &changed);
	}
	if (result.outcome != OUTCOME_ACCEPTED)
		answer->out.length = start;
	if (result.outcome != OUTCOME_ACCEPTED || changed)
		redis_planned(call, answer, &result);
}

void redis_exec(struct redis_call *call, struct answer *answer)
{
	if (!transaction_is_open(call->session)) {
		redis_error(answer, "ERR EXEC without MULTI");
		return;
	}
	if (call->session->transaction->broken)
		redis_error(answer, "EXECABORT Transaction discarded because of previous errors.");
	else
		carry_out(call, answer);
	if (!call->later)
		transaction_drop(call);
}
