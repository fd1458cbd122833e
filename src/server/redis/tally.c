/*
 * TALLY.*: what the ledger can do that Redis has no word for.  Options follow in any order: ID, an
 * idempotency key, and NOTE.  An accepted operation is answered by a map.
 */
#include <string.h>

#include "../auth.h"
#include "../hold_id.h"
#include "../walk.h"
#include "redis.h"

/* What an operation is given besides its operands. */
struct options {
	struct request *request;
	bool takes_amount, takes_to; /* TALLY.CAPTURE */
};

static bool read_amount(struct redis_call *call, struct answer *answer, unsigned at,
                        int64_t *amount)
{
	struct words word = redis_word(call, at);

	if (resp_integer_of(word.bytes, word.length, amount))
		return true;
	answer->verdict = VERDICT_INVALID;
	answer->refusal = REFUSAL_INVALID;
	redis_error_integer(answer);
	return false;
}

static bool read_account(struct redis_call *call, struct answer *answer, unsigned at,
                         struct words *name)
{
	*name = redis_word(call, at);
	if (json_account_name_valid(name->bytes, name->length))
		return true;
	redis_invalid(
	    answer, "invalid_account",
	    "the name of an account is 1 to 100 bytes of UTF-8 without control characters");
	return false;
}

static bool read_hold_id(struct redis_call *call, struct answer *answer, unsigned at,
                         struct words *id)
{
	*id = redis_word(call, at);
	if (json_id_valid(id->bytes, id->length))
		return true;
	redis_invalid(answer, "invalid_hold",
	              "the id of a hold is 1 to 128 bytes of printable ASCII without space");
	return false;
}

static bool read_option(struct redis_call *call, struct answer *answer, unsigned at,
                        const struct options *options)
{
	struct request *request = options->request;
	struct words name = redis_word(call, at), value = redis_word(call, at + 1);

	if (redis_is(name, "ID")) {
		request->id = value;
		if (json_id_valid(value.bytes, value.length))
			return true;
		redis_invalid(answer, "invalid_id",
		              "an id is 1 to 128 bytes of printable ASCII without space");
	} else if (redis_is(name, "NOTE")) {
		request->note = value;
		if (json_note_valid(value.bytes, value.length))
			return true;
		redis_invalid(answer, "invalid_note",
		              "a note is up to 256 bytes of UTF-8 without control characters");
	} else if (options->takes_amount && redis_is(name, "AMOUNT")) {
		request->has_capture = true;
		if (!read_amount(call, answer, at + 1, &request->capture))
			return false;
		if (request->capture >= 0)
			return true;
		redis_invalid(answer, "invalid_amount", "the amount to capture is 0 or more");
	} else if (options->takes_to && redis_is(name, "TO")) {
		request->legs = 1;
		return read_account(call, answer, at + 1, &request->leg[0].account);
	} else {
		redis_error_syntax(answer);
	}
	return false;
}

/* The options from word FIRST on.  False: answered. */
static bool read_options(struct redis_call *call, struct answer *answer, unsigned first,
                         const struct options *options)
{
	for (unsigned i = first; i < call->given->count; i += 2) {
		if (i + 1 == call->given->count) {
			redis_error_syntax(answer);
			return false;
		}
		if (!read_option(call, answer, i, options))
			return false;
	}
	return true;
}

/* Applies REQUEST.  False: answered with why not. */
static bool apply(struct redis_call *call, struct answer *answer, struct request *request,
                  struct result *result)
{
	struct worker *worker = call->connection->worker;
	const struct token *token = call->connection->token;

	/* Those that follow an option were not known as keys. */
	if (!auth_covers(token, request)) {
		answer->refusal = REFUSAL_FORBIDDEN;
		redis_error(answer, REDIS_KEYS_DENIED);
		return false;
	}
	auth_confine(token, request);

	ledger_apply(worker->server->ledger, request, worker_time_us(worker), result);
	redis_decided(call, answer, result);
	return !answer->poisoned && result->outcome == OUTCOME_ACCEPTED;
}

/* --- answers --- */

static void field(struct text *out, const char *name, int64_t number)
{
	resp_string(out, name);
	resp_integer(out, number);
}

static void field_words(struct text *out, const char *name, struct words words)
{
	resp_string(out, name);
	resp_bulk(out, words.bytes, words.length);
}

/* LSNs are strings in JSON, because they are no numbers to compute with; here as well. */
static void field_lsn(struct text *out, uint64_t lsn)
{
	resp_string(out, "lsn");
	resp_number(out, (int64_t)lsn);
}

static void field_time(struct text *out, const char *name, uint64_t unix_us)
{
	char bytes[32];
	struct text time;

	text_init(&time, bytes, sizeof(bytes));
	reply_time(&time, unix_us);
	resp_string(out, name);
	resp_bulk(out, bytes, time.length);
}

static void end(struct text *out, const struct result *result)
{
	field_lsn(out, result->lsn);
	field(out, "replayed", result->replayed);
}

void tally_event(struct redis_call *call, struct answer *answer)
{
	struct request request = {.kind = REQUEST_EVENT, .legs = 1};
	struct result result;

	if (!read_account(call, answer, 1, &request.leg[0].account) ||
	    !read_amount(call, answer, 2, &request.leg[0].amount) ||
	    !read_options(call, answer, 3, &(struct options){.request = &request}) ||
	    !apply(call, answer, &request, &result))
		return;
	resp_map(&answer->out, 5, call->session->protocol);
	field_words(&answer->out, "account", request.leg[0].account);
	field(&answer->out, "balance", result.leg[0].balance);
	field(&answer->out, "version", (int64_t)result.leg[0].version);
	end(&answer->out, &result);
}

void tally_transfer(struct redis_call *call, struct answer *answer)
{
	struct request request = {.kind = REQUEST_TRANSFER, .legs = 2};
	struct result result;
	int64_t amount;

	if (!read_account(call, answer, 1, &request.leg[0].account) ||
	    !read_account(call, answer, 2, &request.leg[1].account) ||
	    !read_amount(call, answer, 3, &amount))
		return;
	if (amount <= 0) {
		redis_invalid(answer, "invalid_amount", "the amount of a transfer is 1 or more");
		return;
	}
	request.leg[0].amount = -amount;
	request.leg[1].amount = amount;
	if (!read_options(call, answer, 4, &(struct options){.request = &request}) ||
	    !apply(call, answer, &request, &result))
		return;
	resp_map(&answer->out, 6, call->session->protocol);
	field_words(&answer->out, "from", request.leg[0].account);
	field(&answer->out, "from_balance", result.leg[0].balance);
	field_words(&answer->out, "to", request.leg[1].account);
	field(&answer->out, "to_balance", result.leg[1].balance);
	end(&answer->out, &result);
}

void tally_hold(struct redis_call *call, struct answer *answer)
{
	struct request request = {.kind = REQUEST_HOLD, .legs = 1};
	char id[HOLD_ID_LENGTH];
	struct result result;
	int64_t ttl;

	if (!read_account(call, answer, 1, &request.leg[0].account) ||
	    !read_amount(call, answer, 2, &request.leg[0].amount) ||
	    !read_amount(call, answer, 3, &ttl))
		return;
	if (request.leg[0].amount <= 0) {
		redis_invalid(answer, "invalid_amount", "what is held is 1 or more");
		return;
	}
	if (ttl < 1 || ttl > HOLD_TTL_MAX) {
		redis_invalid(answer, "invalid_ttl", "a hold lasts 1 to 2592000 seconds");
		return;
	}
	request.ttl = (uint32_t)ttl;
	if (!read_options(call, answer, 4, &(struct options){.request = &request}))
		return;
	if (request.id.length == 0) {
		if (!hold_id_make(id)) {
			redis_invalid(answer, "no_randomness", NULL);
			return;
		}
		request.hold = (struct words){id, sizeof(id)};
	}
	if (!apply(call, answer, &request, &result))
		return;
	resp_map(&answer->out, 8, call->session->protocol);
	field_words(&answer->out, "hold", request.id.length ? request.id : request.hold);
	field_words(&answer->out, "account", request.leg[0].account);
	field(&answer->out, "amount", result.hold_amount);
	field(&answer->out, "balance", result.leg[0].balance);
	field(&answer->out, "held", result.leg[0].held);
	field_time(&answer->out, "expires", result.hold_expires_us);
	end(&answer->out, &result);
}

static void settle(struct redis_call *call, struct answer *answer, struct request *request)
{
	bool captures = request->kind == REQUEST_CAPTURE;
	struct result result;

	if (!read_hold_id(call, answer, 1, &request->hold) ||
	    !read_options(call, answer, 2,
	                  &(struct options){.request = request,
	                                    .takes_amount = captures,
	                                    .takes_to = captures}) ||
	    !apply(call, answer, request, &result))
		return;
	resp_map(&answer->out, 7, call->session->protocol);
	field_words(&answer->out, "hold", request->hold);
	field_words(&answer->out, "account", (struct words){result.account, result.account_length});
	field(&answer->out, "captured", result.hold_captured);
	field(&answer->out, "balance", result.leg[0].balance);
	field(&answer->out, "held", result.leg[0].held);
	end(&answer->out, &result);
}

void tally_capture(struct redis_call *call, struct answer *answer)
{
	settle(call, answer, &(struct request){.kind = REQUEST_CAPTURE});
}

void tally_release(struct redis_call *call, struct answer *answer)
{
	settle(call, answer, &(struct request){.kind = REQUEST_RELEASE});
}

/* --- TALLY.STATEMENT account [LIMIT count] [BEFORE lsn] --- */

#define LIMIT_DEFAULT 20
#define LIMIT_MAX     50
#define ENTRY_ROOM    1200 /* bytes of one entry: its words, and what stands around them */

_Static_assert(LIMIT_MAX *ENTRY_ROOM < 65536 - REDIS_ERROR_MAX, "a statement has its room");

struct statement {
	struct words name;
	int64_t limit;
	int64_t before; /* LSN; 0: from the newest on */
};

static bool read_statement(struct redis_call *call, struct answer *answer,
                           struct statement *statement)
{
	*statement = (struct statement){.limit = LIMIT_DEFAULT};
	if (!read_account(call, answer, 1, &statement->name))
		return false;
	for (unsigned i = 2; i < call->given->count; i += 2) {
		struct words name = redis_word(call, i);
		int64_t *number = redis_is(name, "LIMIT")    ? &statement->limit
		                  : redis_is(name, "BEFORE") ? &statement->before
		                                             : NULL;
		if (number == NULL || i + 1 == call->given->count) {
			redis_error_syntax(answer);
			return false;
		}
		if (!read_amount(call, answer, i + 1, number))
			return false;
	}
	if (statement->limit < 1 || statement->limit > LIMIT_MAX || statement->before < 0) {
		redis_error(answer, "ERR LIMIT is 1 to 50, BEFORE an LSN");
		return false;
	}
	return true;
}

static void write_entry(struct text *out, const struct entry *entry, unsigned protocol)
{
	size_t more = (size_t)(entry->id.length > 0) + (entry->note.length > 0) +
	              (entry->counterparty.length > 0) + (entry->hold.length > 0);

	resp_map(out, 7 + more, protocol);
	field_lsn(out, entry->lsn);
	field_time(out, "time", entry->time_us);
	resp_string(out, "type");
	resp_string(out, reply_type(entry->kind, entry->expired));
	field(out, "amount", entry->amount);
	field(out, "balance", entry->balance);
	field(out, "held", entry->held);
	field(out, "version", (int64_t)entry->version);
	if (entry->id.length > 0)
		field_words(out, "id", entry->id);
	if (entry->note.length > 0)
		field_words(out, "note", entry->note);
	if (entry->counterparty.length > 0)
		field_words(out, "counterparty", entry->counterparty);
	if (entry->hold.length > 0)
		field_words(out, "hold", entry->hold);
}

/* In the place of the first record that is missing, at LSN. */
static void write_pruned(struct text *out, uint64_t lsn, unsigned protocol)
{
	resp_map(out, 2, protocol);
	field_lsn(out, lsn);
	resp_string(out, "type");
	resp_string(out, "pruned");
}

/* The walk back through the account's records takes what HTTP's handlers are given. */
static struct call walker(const struct redis_call *call)
{
	struct worker *worker = call->connection->worker;

	return (struct call){.settings = worker->settings,
	                     .ledger = worker->server->ledger,
	                     .history = worker->server->history,
	                     .server = worker->server,
	                     .now_us = worker_time_us(worker),
	                     .token = call->connection->token,
	                     .cursor = call->session->cursor,
	                     .resumed = call->session->resumed};
}

/*
 * From *LSN on to the first record before the one that was named.  What lies before it may have to
 * be walked to in slices.
 */
static enum walk skip(const struct call *walk, struct answer *answer,
                      const struct statement *statement, uint64_t *lsn, struct entry *entry)
{
	const struct walk_goal goal = {.below = (uint64_t)statement->before, .time_us = UINT64_MAX};

	if (walk->resumed && walk->cursor != 0) {
		*lsn = walk->cursor;
		if (statement->before == 0 || *lsn < (uint64_t)statement->before)
			return WALK_FOUND;
	}
	if (statement->before == 0 || (uint64_t)statement->before > *lsn)
		return WALK_FOUND;
	return walk_back(walk, answer, statement->name, &goal, lsn, entry);
}

void tally_statement(struct redis_call *call, struct answer *answer)
{
	struct call walk = walker(call);
	struct statement statement;
	struct account_view view;
	struct entry entry;
	char memory[LIMIT_MAX * ENTRY_ROOM];
	struct text entries;
	size_t count = 0;

	if (!read_statement(call, answer, &statement))
		return;
	enum outcome outcome =
	    ledger_read(walk.ledger, statement.name.bytes, statement.name.length, &view);
	answer->lsn = view.lsn;
	if (outcome != OUTCOME_ACCEPTED) {
		const struct result result = {.outcome = outcome, .lsn = view.lsn};
		redis_decided(call, answer, &result);
		answer->verdict = VERDICT_NEUTRAL;
		answer->posted = false;
		return;
	}
	uint64_t lsn = view.lsn;
	text_init(&entries, memory, sizeof(memory));
	enum walk found = skip(&walk, answer, &statement, &lsn, &entry);
	const uint64_t first = lsn;
	while (found == WALK_FOUND && lsn != 0 && count < (size_t)statement.limit) {
		found = walk_step(&walk, answer, statement.name, first, &lsn, &entry);
		if (found != WALK_FOUND)
			break;
		write_entry(&entries, &entry, call->session->protocol);
		count++;
	}
	if (found == WALK_LATER)
		return;
	if (found == WALK_FAILED) {
		answer->out.length = 0;
		redis_error(answer, "ERR read_failed: the journal could not be read");
		return;
	}
	if (found == WALK_PRUNED && count == 0) {
		answer->reason = reason_find("pruned");
		redis_error(answer, "PRUNED the journal is no longer kept that far back");
		return;
	}
	if (found == WALK_PRUNED) {
		write_pruned(&entries, lsn, call->session->protocol);
		count++;
	}
	resp_array(&answer->out, count);
	text_bytes(&answer->out, entries.bytes, entries.length);
}
