/*
 * GET /accounts/NAME/events: what has happened to an account, the newest first, a walk along its
 * chain of records.
 */
#include "handlers.h"
#include "page.h"
#include "parameters.h"
#include "walk.h"

#define LIMIT_DEFAULT 20

struct statement {
	char bytes[ACCOUNT_NAME_MAX];
	struct words name;
	unsigned limit;
	uint64_t before; /* 0: from the newest */
};

static bool read_parameters(const struct call *call, struct answer *answer,
                            struct statement *statement)
{
	statement->limit = LIMIT_DEFAULT;
	return parameter_account(call, answer, statement->bytes, &statement->name) &&
	       parameter_limit(call, answer, &statement->limit) &&
	       parameter_before(call, answer, &statement->before);
}

/*
 * Is ENTRY, found at a position that the client named, surely of the account's present life?  An
 * earlier one ended before this began.  In doubt the answer is no: what is walked to is right.
 */
static bool is_of_this_life(const struct entry *entry, const struct account_view *view)
{
	return entry->time_us > view->created_us && entry->version < view->version;
}

/*
 * The first record to show of the account VIEW, from *LSN, the newest, on.  A page's link names the
 * last one shown, which tells what was before it; any other position has to be walked to.
 */
static enum walk find_first(const struct call *call, struct answer *answer,
                            const struct statement *statement, const struct account_view *view,
                            uint64_t *lsn)
{
	const struct walk_goal goal = {.below = statement->before, .time_us = UINT64_MAX};
	struct words name = statement->name;
	struct entry entry;
	uint64_t at = statement->before;

	if (statement->before == 0 || statement->before > *lsn) {
		*lsn = call->resumed && call->cursor ? call->cursor : *lsn;
		return WALK_FOUND;
	}
	if (call->resumed && call->cursor && call->cursor < statement->before) {
		*lsn = call->cursor;
		return WALK_FOUND;
	}
	if (!call->cursor && call->history && at % 8 == 0) {
		switch (history_step(call->history, name.bytes, name.length, &at, &entry)) {
		case HISTORY_OK:
			if (!is_of_this_life(&entry, view))
				break;
			*lsn = at;
			return WALK_FOUND;
		case HISTORY_LATER:
			answer->pause_ms = WALK_FETCH_MS;
			return WALK_LATER;
		default:
			break;
		}
	}
	return walk_back(call, answer, name, &goal, lsn, &entry);
}

static void write_next(struct text *body, const struct statement *statement, uint64_t last)
{
	text_literal(body, ",\"next\":\"/accounts/");
	parameter_encode(body, statement->name);
	text_literal(body, "/events?limit=");
	text_unsigned(body, statement->limit);
	text_literal(body, "&before=");
	text_unsigned(body, last);
	text_literal(body, "\"");
}

static void write_pruned(struct text *body, uint64_t lsn)
{
	text_literal(body, ",\"next\":null,\"pruned\":\"");
	text_unsigned(body, lsn);
	text_literal(body, "\"");
}

static bool is_pruned(const struct call *call, uint64_t lsn)
{
	return lsn != 0 && call->history && lsn < history_first(call->history);
}

/* The entries from *LSN back; where the page ends is in *LSN, the last one shown in *LAST. */
static enum walk write_entries(const struct call *call, struct answer *answer,
                               const struct statement *statement, struct text *body, uint64_t *lsn,
                               uint64_t *last)
{
	const uint64_t first = *lsn;
	struct entry entry;

	for (unsigned i = 0; i < statement->limit && page_has_room(body, REPLY_ENTRY_MAX); i++) {
		enum walk walk = walk_step(call, answer, statement->name, first, lsn, &entry);
		if (walk != WALK_FOUND)
			return walk;
		if (i > 0)
			text_literal(body, ",");
		reply_entry_object(body, &entry);
		*last = entry.lsn;
	}
	return is_pruned(call, *lsn) ? WALK_PRUNED : *lsn == 0 ? WALK_END : WALK_FOUND;
}

static void write_page(const struct call *call, struct answer *answer,
                       const struct statement *statement, enum walk walk, uint64_t lsn)
{
	struct text body;
	uint64_t last = 0;

	page_begin(answer, &body);
	text_literal(&body, "{\"account\":");
	text_json_string(&body, statement->name.bytes, statement->name.length);
	text_literal(&body, ",\"events\":[");
	if (walk == WALK_FOUND)
		walk = write_entries(call, answer, statement, &body, &lsn, &last);
	text_literal(&body, "]");
	switch (walk) {
	case WALK_FOUND:
		write_next(&body, statement, last);
		break;
	case WALK_END:
		text_literal(&body, ",\"next\":null");
		break;
	case WALK_PRUNED:
		write_pruned(&body, lsn);
		break;
	case WALK_LATER:
	case WALK_FAILED:
		return;
	}
	text_literal(&body, "}");
	page_end(call, answer, &body);
}

void handle_statement(const struct call *call, struct answer *answer)
{
	struct statement statement;
	struct account_view view;

	if (!read_parameters(call, answer, &statement))
		return;
	enum outcome outcome =
	    ledger_read(call->ledger, statement.name.bytes, statement.name.length, &view);
	if (outcome != OUTCOME_ACCEPTED) {
		answer_unread(call, answer, outcome);
		return;
	}
	uint64_t lsn = view.lsn;
	answer->lsn = view.lsn;
	enum walk walk = find_first(call, answer, &statement, &view, &lsn);
	if (walk != WALK_LATER && walk != WALK_FAILED)
		write_page(call, answer, &statement, walk, lsn);
}
