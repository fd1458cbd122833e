/* /accounts and /accounts/NAME: make, read, change, delete, list. */
#include "../wire/token.h"
#include "handlers.h"
#include "page.h"
#include "parameters.h"
#include "walk.h"

#define LIMIT_DEFAULT 50
#define PAST_MAX      768 /* bytes of a balance of the past: every byte of a name may need two */
#define LIST_SCANS    2   /* times that one call looks through a part of the table for too few */

/* --- reading --- */

/* Does If-None-Match name VERSION? */
static bool is_known_version(const struct call *call, uint64_t version)
{
	struct http_span field = call->request->field[HTTP_IF_NONE_MATCH];

	if (field.length == 0 || (call->request->repeated & (1u << HTTP_IF_NONE_MATCH)))
		return false;
	return http_etag_names(call->bytes + field.at, field.length, version);
}

static void answer_present(const struct call *call, struct answer *answer, struct words name,
                           const struct account_view *view)
{
	if (is_known_version(call, view->version)) {
		answer->status = 304;
		reply_not_modified(&answer->out, &call->frame, view->version);
		return;
	}
	answer->status = 200;
	reply_account(&answer->out, &call->frame, name.bytes, name.length, view);
}

static void write_moment(struct text *body, const struct moment *moment)
{
	text_literal(body, "\"");
	if (moment->is_time)
		reply_time(body, moment->value);
	else
		text_unsigned(body, moment->value);
	text_literal(body, "\"");
}

/* What the account was as ENTRY, its newest record at MOMENT, left it. */
static void answer_past(const struct call *call, struct answer *answer, struct words name,
                        const struct moment *moment, const struct entry *entry)
{
	char bytes[PAST_MAX];
	struct text body;

	text_init(&body, bytes, sizeof(bytes));
	text_literal(&body, "{\"account\":");
	text_json_string(&body, name.bytes, name.length);
	text_literal(&body, ",\"balance\":");
	text_signed(&body, entry->balance);
	text_literal(&body, ",\"held\":");
	text_signed(&body, entry->held);
	text_literal(&body, ",\"version\":");
	text_unsigned(&body, entry->version);
	text_literal(&body, ",\"lsn\":\"");
	text_unsigned(&body, entry->lsn);
	text_literal(&body, "\",\"updated\":\"");
	reply_time(&body, entry->time_us);
	text_literal(&body, "\",\"at\":");
	write_moment(&body, moment);
	text_literal(&body, "}");
	answer_json(call, answer, body.bytes, body.length);
}

/* Is what VIEW shows, the account's present, what it was at MOMENT? */
static bool is_since(const struct account_view *view, const struct moment *moment)
{
	return (moment->is_time ? view->updated_us : view->lsn) <= moment->value;
}

/* Was MOMENT, before the newest change, surely before the account of VIEW was made? */
static bool is_before_birth(const struct account_view *view, const struct moment *moment)
{
	return moment->is_time ? moment->value < view->created_us : view->version == 1;
}

static void answer_absent(const struct call *call, struct answer *answer)
{
	answer_error(call, answer, 404, "unknown_account",
	             "At that moment there was no such account.", NULL);
}

/* MOMENT lies before the newest change of the account VIEW: its records tell, if they are kept. */
static void answer_from_journal(const struct call *call, struct answer *answer, struct words name,
                                const struct moment *moment, const struct account_view *view)
{
	/* An LSN here is less than the newest: one more does not overflow. */
	struct walk_goal goal = {.below = moment->is_time ? UINT64_MAX : moment->value + 1,
	                         .time_us = moment->is_time ? moment->value : UINT64_MAX};
	uint64_t lsn = view->lsn;
	struct entry entry;

	switch (walk_back(call, answer, name, &goal, &lsn, &entry)) {
	case WALK_FOUND:
		answer_past(call, answer, name, moment, &entry);
		return;
	case WALK_END:
		answer_absent(call, answer);
		return;
	case WALK_PRUNED:
		if (is_before_birth(view, moment))
			answer_absent(call, answer);
		else
			answer_reason(call, answer, "pruned");
		return;
	case WALK_LATER:
	case WALK_FAILED:
		return;
	}
}

static void answer_at(const struct call *call, struct answer *answer, struct words name,
                      const struct moment *moment, const struct account_view *view)
{
	const struct entry newest = {.lsn = view->lsn,
	                             .time_us = view->updated_us,
	                             .balance = view->balance,
	                             .held = view->held,
	                             .version = view->version};

	if (is_since(view, moment))
		answer_past(call, answer, name, moment, &newest);
	else
		answer_from_journal(call, answer, name, moment, view);
}

void handle_account(const struct call *call, struct answer *answer)
{
	char bytes[ACCOUNT_NAME_MAX];
	struct words name;
	struct moment moment;
	struct account_view view;

	if (!parameter_account(call, answer, bytes, &name) || !parameter_at(call, answer, &moment))
		return;
	enum outcome outcome = ledger_read(call->ledger, name.bytes, name.length, &view);
	answer->lsn = view.lsn;
	if (outcome != OUTCOME_ACCEPTED) {
		answer_unread(call, answer, outcome);
		return;
	}
	if (moment.given)
		answer_at(call, answer, name, &moment, &view);
	else
		answer_present(call, answer, name, &view);
}

/* --- the list --- */

struct listing {
	char bytes[ACCOUNT_NAME_MAX];
	struct words prefix;
	unsigned limit;
	struct list_cursor cursor;
	size_t count;
	struct account_view view[PARAMETER_LIMIT_MAX];
};

static bool read_listing(const struct call *call, struct answer *answer, struct listing *listing)
{
	listing->limit = LIMIT_DEFAULT;
	listing->count = 0;
	listing->cursor = (struct list_cursor){0};
	if (!parameter_limit(call, answer, &listing->limit) ||
	    !parameter_prefix(call, answer, listing->bytes, &listing->prefix) ||
	    !parameter_cursor(call, answer, &listing->cursor.sealed, &listing->cursor.begun))
		return false;
	/* What the token does not cover is not there. */
	listing->cursor.done = !token_narrows(call->token, listing->prefix, &listing->prefix);
	if (call->resumed) {
		listing->cursor.sealed = call->cursor;
		listing->cursor.begun = true;
	}
	return true;
}

/* As many as fit a page for sure; few of them are as long as they might be. */
static size_t wanted(const struct listing *listing, const struct text *body)
{
	size_t room = (body->capacity - body->length - PAGE_TAIL_MAX) / (REPLY_ACCOUNT_MAX + 1);
	size_t most = room < PARAMETER_LIMIT_MAX ? room : PARAMETER_LIMIT_MAX;
	size_t left = listing->limit - listing->count;

	return left < most ? left : most;
}

static void write_accounts(struct listing *listing, struct text *body, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct account_view *view = &listing->view[i];
		if (listing->count + i > 0)
			text_literal(body, ",");
		reply_account_object(body, view->name, view->name_length, view);
	}
	listing->count += count;
}

static enum outcome list_some(const struct call *call, struct answer *answer,
                              struct listing *listing, struct text *body)
{
	enum outcome outcome = OUTCOME_ACCEPTED;

	for (int scans = 0; scans < LIST_SCANS && outcome == OUTCOME_ACCEPTED;) {
		size_t count = 0;
		size_t most = wanted(listing, body);
		if (listing->cursor.done || most == 0)
			break;
		outcome = ledger_list(call->ledger, listing->prefix, &listing->cursor,
		                      listing->view, most, &count, &answer->lsn);
		write_accounts(listing, body, count);
		scans += count < most;
	}
	return outcome;
}

static void write_list_link(struct text *body, const struct listing *listing)
{
	if (listing->cursor.done) {
		text_literal(body, "],\"next\":null}");
		return;
	}
	text_literal(body, "],\"next\":\"/accounts?limit=");
	text_unsigned(body, listing->limit);
	if (listing->prefix.length) {
		text_literal(body, "&prefix=");
		parameter_encode(body, listing->prefix);
	}
	text_literal(body, "&cursor=");
	parameter_cursor_text(body, listing->cursor.sealed);
	text_literal(body, "\"}");
}

void handle_accounts(const struct call *call, struct answer *answer)
{
	struct listing listing;
	struct text body;

	if (!read_listing(call, answer, &listing))
		return;
	page_begin(answer, &body);
	text_literal(&body, "{\"accounts\":[");
	enum outcome outcome = list_some(call, answer, &listing, &body);
	if (outcome != OUTCOME_ACCEPTED) {
		answer_unread(call, answer, outcome);
	} else if (listing.count == 0 && !listing.cursor.done) {
		answer->pause_ms = WALK_REST_MS;
		answer->cursor = listing.cursor.sealed;
	} else {
		write_list_link(&body, &listing);
		page_end(call, answer, &body);
	}
}

/* --- changing --- */

void handle_create(const struct call *call, struct answer *answer)
{
	struct request request;
	char key[ID_MAX];
	struct json_error error;

	if (!operation_is_json(call, answer))
		return;
	if (!json_read_create(call->body, call->body_length, &request, &error))
		answer_unreadable(call, answer, &error);
	else if (operation_conditions(call, answer, &request, key, false))
		operation_apply(call, answer, &request);
}

typedef bool named_reader(char *text, size_t length, struct words name, struct request *request,
                          struct json_error *error);

static void change(const struct call *call, struct answer *answer, named_reader *read)
{
	char bytes[ACCOUNT_NAME_MAX];
	struct request request;
	char key[ID_MAX];
	struct words name;
	struct json_error error;

	if (!parameter_account(call, answer, bytes, &name) || !operation_is_json(call, answer))
		return;
	if (!read(call->body, call->body_length, name, &request, &error))
		answer_unreadable(call, answer, &error);
	else if (operation_conditions(call, answer, &request, key, true))
		operation_apply(call, answer, &request);
}

void handle_replace(const struct call *call, struct answer *answer)
{
	change(call, answer, json_read_replace);
}

void handle_delete(const struct call *call, struct answer *answer)
{
	change(call, answer, json_read_delete);
}
