/*
 * Accounts, holds and lines of a statement, as answers and as objects for lists.
 */
#include <assert.h>

#include "reply_parts.h"

const char *reply_frozen(enum frozen frozen)
{
	switch (frozen) {
	case FROZEN_NONE:
		return "none";
	case FROZEN_DEBITS:
		return "debits";
	case FROZEN_ALL:
		break;
	}
	return "all";
}

const char *reply_hold_state(enum hold_state state)
{
	switch (state) {
	case HOLD_OPEN:
		return "open";
	case HOLD_CAPTURED:
		return "captured";
	case HOLD_RELEASED:
		return "released";
	case HOLD_EXPIRED:
		break;
	}
	return "expired";
}

void reply_limit(struct text *out, const char *name, int64_t limit, int64_t none)
{
	text_string(out, name);
	if (limit == none)
		text_literal(out, "null");
	else
		text_signed(out, limit);
}

static void quoted_time(struct text *out, uint64_t unix_us)
{
	text_literal(out, "\"");
	reply_time(out, unix_us);
	text_literal(out, "\"");
}

/* BALANCE - HELD - FLOOR, at most INT64_MAX and at least INT64_MIN. */
static int64_t available(int64_t balance, int64_t held, int64_t floor)
{
	__int128 value = (__int128)balance - held - floor;

	return value > INT64_MAX ? INT64_MAX : value < INT64_MIN ? INT64_MIN : (int64_t)value;
}

void reply_account_object(struct text *out, const char *name, size_t length,
                          const struct account_view *view)
{
	const struct attributes *attributes = &view->attributes;

	text_literal(out, "{\"account\":");
	text_json_string(out, name, length);
	reply_number(out, ",\"balance\":", view->balance);
	reply_number(out, ",\"held\":", view->held);
	if (attributes->floor == FLOOR_NONE)
		text_literal(out, ",\"available\":null");
	else
		reply_number(out, ",\"available\":",
		             available(view->balance, view->held, attributes->floor));
	reply_limit(out, ",\"floor\":", attributes->floor, FLOOR_NONE);
	reply_limit(out, ",\"ceiling\":", attributes->ceiling, CEILING_NONE);
	text_literal(out, ",\"frozen\":\"");
	text_string(out, reply_frozen(attributes->frozen));
	reply_count(out, "\",\"version\":", view->version);
	text_literal(out, ",\"created\":");
	quoted_time(out, view->created_us);
	text_literal(out, ",\"updated\":");
	quoted_time(out, view->updated_us);
	text_literal(out, "}");
}

void reply_account(struct text *out, const struct reply_frame *frame, const char *name,
                   size_t length, const struct account_view *view)
{
	char scratch[REPLY_ACCOUNT_MAX];
	char tag[REPLY_ETAG_MAX];
	const struct reply_field extra[] = {{"ETag", reply_etag(tag, view->version)}, {NULL, NULL}};
	struct text body;

	text_init(&body, scratch, sizeof(scratch));
	reply_account_object(&body, name, length, view);
	reply_shape(out, frame, 200, &body, extra);
}

void reply_hold_object(struct text *out, const struct hold_view *view)
{
	text_literal(out, "{\"hold\":");
	text_json_string(out, view->id, view->id_length);
	text_literal(out, ",\"state\":\"");
	text_string(out, reply_hold_state(view->state));
	text_literal(out, "\",\"account\":");
	text_json_string(out, view->account, view->account_length);
	reply_number(out, ",\"amount\":", view->amount);
	reply_number(out, ",\"captured\":", view->state == HOLD_CAPTURED ? view->captured : 0);
	text_literal(out, ",\"expires\":");
	quoted_time(out, view->expires_us);
	text_literal(out, ",\"placed\":");
	quoted_time(out, view->placed_us);
	text_literal(out, ",\"settled\":");
	if (view->settled_us == 0)
		text_literal(out, "null");
	else
		quoted_time(out, view->settled_us);
	reply_count(out, ",\"lsn\":\"", view->lsn);
	text_literal(out, "\"}");
}

void reply_hold(struct text *out, const struct reply_frame *frame, const struct hold_view *view)
{
	char scratch[REPLY_HOLD_MAX];
	struct text body;

	text_init(&body, scratch, sizeof(scratch));
	reply_hold_object(&body, view);
	reply_shape(out, frame, 200, &body, NULL);
}

const char *reply_type(enum request_kind kind, bool expired)
{
	switch (kind) {
	case REQUEST_EVENT:
		return "event";
	case REQUEST_TRANSFER:
		return "transfer";
	case REQUEST_TRANSACTION:
		return "transaction";
	case REQUEST_CREATE:
		return "create";
	case REQUEST_REPLACE:
		return "replace";
	case REQUEST_DELETE:
		return "delete";
	case REQUEST_HOLD:
		return "hold";
	case REQUEST_CAPTURE:
		return "capture";
	case REQUEST_RELEASE:
		break;
	}
	return expired ? "expire" : "release";
}

void reply_entry_object(struct text *out, const struct entry *entry)
{
	reply_count(out, "{\"lsn\":\"", entry->lsn);
	text_literal(out, "\",\"time\":");
	quoted_time(out, entry->time_us);
	text_literal(out, ",\"type\":\"");
	text_string(out, reply_type(entry->kind, entry->expired));
	reply_number(out, "\",\"amount\":", entry->amount);
	reply_number(out, ",\"balance\":", entry->balance);
	reply_number(out, ",\"held\":", entry->held);
	reply_count(out, ",\"version\":", entry->version);
	if (entry->id.length > 0)
		reply_words(out, ",\"id\":", &entry->id);
	if (entry->note.length > 0)
		reply_words(out, ",\"note\":", &entry->note);
	if (entry->counterparty.length > 0)
		reply_words(out, ",\"counterparty\":", &entry->counterparty);
	if (entry->hold.length > 0)
		reply_words(out, ",\"hold\":", &entry->hold);
	text_literal(out, "}");
}

static void write_leg(struct text *out, const struct change_leg *leg)
{
	reply_words(out, "{\"account\":", &leg->account);
	reply_number(out, ",\"amount\":", leg->amount);
	reply_number(out, ",\"balance\":", leg->balance);
	reply_number(out, ",\"held\":", leg->held);
	reply_count(out, ",\"version\":", leg->version);
	text_literal(out, "}");
}

static void write_attributes(struct text *out, const struct attributes *attributes)
{
	reply_limit(out, ",\"floor\":", attributes->floor, FLOOR_NONE);
	reply_limit(out, ",\"ceiling\":", attributes->ceiling, CEILING_NONE);
	text_literal(out, ",\"frozen\":\"");
	text_string(out, reply_frozen(attributes->frozen));
	text_literal(out, "\"");
}

void reply_change_object(struct text *out, const struct change *change)
{
	reply_count(out, "{\"lsn\":\"", change->lsn);
	text_literal(out, "\",\"time\":");
	quoted_time(out, change->time_us);
	text_literal(out, ",\"type\":\"");
	text_string(out, reply_type(change->kind, change->expired));
	text_literal(out, "\"");
	if (change->id.length > 0)
		reply_words(out, ",\"id\":", &change->id);
	if (change->note.length > 0)
		reply_words(out, ",\"note\":", &change->note);
	if (change->hold.length > 0) {
		reply_words(out, ",\"hold\":", &change->hold);
		reply_number(out, ",\"reserved\":", change->reserved);
	}
	if (change->kind == REQUEST_HOLD) {
		text_literal(out, ",\"expires\":");
		quoted_time(out, change->expires_us);
	}
	if (change->kind == REQUEST_CREATE || change->kind == REQUEST_REPLACE)
		write_attributes(out, &change->attributes);
	text_literal(out, ",\"legs\":[");
	for (unsigned i = 0; i < change->legs; i++) {
		if (i > 0)
			text_literal(out, ",");
		write_leg(out, &change->leg[i]);
	}
	text_literal(out, "]}");
}

#define PRUNED        "pruned"
#define PRUNED_DETAIL "The journal is no longer kept that far back."

static void write_first(struct text *out, uint64_t first)
{
	reply_count(out, ",\"first\":\"", first);
	text_literal(out, "\"");
}

void reply_pruned(struct text *out, const struct reply_frame *frame, uint64_t first)
{
	const struct reply_refusal refusal = {
	    .status = 410, .reason = PRUNED, .detail = PRUNED_DETAIL};
	char scratch[REPLY_REFUSAL_MAX];
	struct text body;

	text_init(&body, scratch, sizeof(scratch));
	reply_refusal_begin(&body, frame, &refusal);
	write_first(&body, first);
	reply_refusal_end(out, frame, &refusal, &body, NULL);
}

void reply_pruned_object(struct text *out, uint64_t first)
{
	reply_plain_begin(out, "error", PRUNED, PRUNED_DETAIL);
	write_first(out, first);
	text_literal(out, "}");
}
