/* SCAN and DBSIZE: which accounts there are. */
#include <stdio.h>

#include "../../wire/token.h"
#include "glob.h"
#include "redis.h"

#define COUNT_DEFAULT 10
#define SCAN_LOOKS    4 /* parts of the table that one answer may look through */

struct scan {
	struct list_cursor cursor;
	struct words match; /* length 0: all */
	int64_t count;
	bool strings; /* accounts are what is asked for */
};

/* A cursor is what listings are sealed with; 0 begins one and ends it. */
static bool read_cursor(struct words word, struct list_cursor *cursor)
{
	uint64_t value = 0;

	*cursor = (struct list_cursor){0};
	if (word.length > TEXT_DECIMAL_MAX)
		return false;
	for (uint32_t i = 0; i < word.length; i++) {
		unsigned digit = (unsigned)(word.bytes[i] - '0');
		if (digit > 9 || __builtin_mul_overflow(value, UINT64_C(10), &value) ||
		    __builtin_add_overflow(value, (uint64_t)digit, &value))
			return false;
	}
	cursor->sealed = value;
	cursor->begun = value != 0;
	return true;
}

/* One option and its value.  False: answered. */
static bool read_option(struct redis_call *call, struct answer *answer, unsigned at,
                        struct scan *scan)
{
	struct words name = redis_word(call, at);

	if (at + 1 == call->given->count) {
		redis_error_syntax(answer);
		return false;
	}
	struct words value = redis_word(call, at + 1);
	if (redis_is(name, "COUNT")) {
		if (!resp_integer_of(value.bytes, value.length, &scan->count)) {
			redis_error_integer(answer);
			return false;
		}
		if (scan->count < 1) {
			redis_error_syntax(answer);
			return false;
		}
	} else if (redis_is(name, "MATCH")) {
		if (value.length > GLOB_MAX) {
			redis_error(answer, "ERR a pattern has at most 256 bytes here");
			return false;
		}
		scan->match = value;
	} else if (redis_is(name, "TYPE")) {
		scan->strings = redis_is(value, "STRING");
	} else {
		redis_error_syntax(answer);
		return false;
	}
	return true;
}

static bool read_scan(struct redis_call *call, struct answer *answer, struct scan *scan)
{
	*scan = (struct scan){.count = COUNT_DEFAULT, .match = {"*", 1}, .strings = true};
	if (!read_cursor(redis_word(call, 1), &scan->cursor)) {
		redis_error(answer, "ERR invalid cursor");
		return false;
	}
	for (unsigned i = 2; i < call->given->count; i += 2)
		if (!read_option(call, answer, i, scan))
			return false;
	if (scan->count > REDIS_SCAN_MAX)
		scan->count = REDIS_SCAN_MAX;
	return true;
}

static void write_cursor(struct text *out, const struct list_cursor *cursor)
{
	char digits[TEXT_DECIMAL_MAX + 1];

	/* That a sealed cursor is 0 by itself, once in 2^64 times, ends a scan early. */
	snprintf(digits, sizeof(digits), "%llu",
	         cursor->done ? 0ULL : (unsigned long long)cursor->sealed);
	resp_string(out, digits);
}

/* One that looks at many accounts is worth many commands: others have their turn sooner. */
static void take_share(struct worker *worker, const struct scan *scan)
{
	unsigned share = (unsigned)scan->count * CONNECTION_SLICE_MAX / REDIS_SCAN_MAX;

	worker->slice_left -= share < worker->slice_left ? share : worker->slice_left;
}

void redis_scan(struct redis_call *call, struct answer *answer)
{
	struct ledger *ledger = call->connection->worker->server->ledger;
	struct account_view view[REDIS_SCAN_MAX];
	struct scan scan;
	size_t found = 0, matched = 0;
	struct words prefix;

	if (!read_scan(call, answer, &scan))
		return;
	take_share(call->connection->worker, &scan);
	/* What the token does not cover is not there. */
	if (!token_narrows(call->connection->token, glob_prefix(scan.match), &prefix))
		scan.cursor.done = true;
	for (int looks = 0; looks < SCAN_LOOKS && found == 0 && !scan.cursor.done; looks++) {
		if (ledger_list(ledger, prefix, &scan.cursor, view, (size_t)scan.count, &found,
		                &answer->lsn) != OUTCOME_ACCEPTED) {
			answer->poisoned = true;
			return;
		}
	}
	for (size_t i = 0; i < found; i++)
		if (scan.strings &&
		    glob_matches(scan.match, (struct words){view[i].name, view[i].name_length}))
			view[matched++] = view[i];
	resp_array(&answer->out, 2);
	write_cursor(&answer->out, &scan.cursor);
	resp_array(&answer->out, matched);
	for (size_t i = 0; i < matched; i++)
		resp_bulk(&answer->out, view[i].name, view[i].name_length);
}

void redis_dbsize(struct redis_call *call, struct answer *answer)
{
	struct worker *worker = call->connection->worker;
	struct facts facts;

	ledger_facts(worker->server->ledger, worker_time_us(worker), &facts);
	/* Whoever is told of an account may rely on it. */
	answer->lsn = facts.tail > 0 ? facts.tail - 1 : 0;
	resp_integer(&answer->out, (int64_t)facts.accounts.used + plan_births(call->plan));
}
