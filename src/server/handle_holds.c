/* Holds: place, capture, release, read, list. */
#include "../wire/token.h"
#include "handlers.h"
#include "hold_id.h"
#include "page.h"
#include "parameters.h"

#define LIMIT_DEFAULT 50

_Static_assert(HOLD_ID_LENGTH <= ID_MAX, "it lives where an Idempotency-Key would");

/* --- reading --- */

void handle_hold(const struct call *call, struct answer *answer)
{
	char bytes[ID_MAX];
	struct words id;
	struct hold_view view;

	if (!parameter_hold(call, answer, bytes, &id))
		return;
	enum outcome outcome = ledger_read_hold(call->ledger, id.bytes, id.length, &view);
	answer->lsn = view.lsn;
	/* A hold on an account that the token does not cover is none, and takes as long to say. */
	if (outcome == OUTCOME_ACCEPTED &&
	    !token_covers(call->token, (struct words){view.account, view.account_length})) {
		outcome = OUTCOME_UNKNOWN_HOLD;
		answer->lsn = ledger_newest(call->ledger);
	}
	if (outcome != OUTCOME_ACCEPTED) {
		answer_unread(call, answer, outcome);
		return;
	}
	answer->status = 200;
	reply_hold(&answer->out, &call->frame, &view);
}

static void write_link(struct text *body, struct words name, unsigned limit, uint64_t cursor)
{
	if (cursor == 0) {
		text_literal(body, "],\"next\":null}");
		return;
	}
	text_literal(body, "],\"next\":\"/accounts/");
	parameter_encode(body, name);
	text_literal(body, "/holds?limit=");
	text_unsigned(body, limit);
	text_literal(body, "&cursor=");
	parameter_cursor_text(body, cursor);
	text_literal(body, "\"}");
}

static enum outcome write_holds(const struct call *call, struct answer *answer, struct words name,
                                unsigned limit, uint64_t *cursor, struct text *body)
{
	struct hold_view view[PARAMETER_LIMIT_MAX];
	size_t room = (body->capacity - body->length - PAGE_TAIL_MAX) / (REPLY_HOLD_MAX + 1);
	size_t count = 0;
	enum outcome outcome =
	    ledger_list_holds(call->ledger, name.bytes, name.length, cursor, view,
	                      limit < room ? limit : room, &count, &answer->lsn);

	for (size_t i = 0; i < count; i++) {
		if (i > 0)
			text_literal(body, ",");
		reply_hold_object(body, &view[i]);
	}
	return outcome;
}

void handle_account_holds(const struct call *call, struct answer *answer)
{
	char bytes[ACCOUNT_NAME_MAX];
	struct words name;
	unsigned limit = LIMIT_DEFAULT;
	uint64_t cursor;
	bool begun;
	struct text body;

	if (!parameter_account(call, answer, bytes, &name) ||
	    !parameter_limit(call, answer, &limit) ||
	    !parameter_cursor(call, answer, &cursor, &begun))
		return;
	page_begin(answer, &body);
	text_literal(&body, "{\"account\":");
	text_json_string(&body, name.bytes, name.length);
	text_literal(&body, ",\"holds\":[");
	enum outcome outcome = write_holds(call, answer, name, limit, &cursor, &body);
	if (outcome != OUTCOME_ACCEPTED) {
		answer_unread(call, answer, outcome);
		return;
	}
	write_link(&body, name, limit, cursor);
	page_end(call, answer, &body);
}

/* --- placing --- */

/* A hold is called as the request that places it; without an id it is given a name here. */
static bool name_hold(const struct call *call, struct answer *answer, struct request *request,
                      char *key)
{
	if (request->id.length)
		return true;
	if (!hold_id_make(key)) {
		answer_reason(call, answer, "no_randomness");
		return false;
	}
	request->hold = (struct words){key, HOLD_ID_LENGTH};
	return true;
}

void handle_place(const struct call *call, struct answer *answer)
{
	struct request request;
	char key[ID_MAX];
	struct json_error error;

	if (!operation_is_json(call, answer))
		return;
	if (!json_read_hold(call->body, call->body_length, &request, &error))
		answer_unreadable(call, answer, &error);
	else if (operation_conditions(call, answer, &request, key, true) &&
	         name_hold(call, answer, &request, key))
		operation_apply(call, answer, &request);
}

/* --- settling --- */

typedef bool settled_reader(char *text, size_t length, struct words hold, struct request *request,
                            struct json_error *error);

static void settle(const struct call *call, struct answer *answer, settled_reader *read)
{
	char bytes[ID_MAX];
	struct request request;
	char key[ID_MAX];
	struct words hold;
	struct json_error error;

	if (!parameter_hold(call, answer, bytes, &hold) || !operation_is_json(call, answer))
		return;
	if (!read(call->body, call->body_length, hold, &request, &error))
		answer_unreadable(call, answer, &error);
	else if (operation_conditions(call, answer, &request, key, request.legs == 0))
		operation_apply(call, answer, &request);
}

void handle_capture(const struct call *call, struct answer *answer)
{
	settle(call, answer, json_read_capture);
}

void handle_release(const struct call *call, struct answer *answer)
{
	settle(call, answer, json_read_release);
}
