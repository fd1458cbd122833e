/*
 * The answer to an operation, as a function of what was asked and what became of it: so that the
 * answer to a retry, whose result comes from the journal, is the same.
 */
#include <assert.h>

#include "reason.h"
#include "reply_parts.h"

/* A leg of a transaction: a name of quotes, three numbers and their names. */
#define LEG_MAX  (2 * ACCOUNT_NAME_MAX + 3 * TEXT_DECIMAL_MAX + 56)
#define BODY_MAX (LEGS_MAX * LEG_MAX + 128)
/* Behind a refusal's sentence: an account or hold, and its numbers. */
#define MEMBERS_MAX (2 * ID_MAX + 5 * TEXT_DECIMAL_MAX + 96)

/* A refusal of reason.h as a problem: nothing in it needs an escape. */
#define REFUSAL_MAX (REPLY_REASON_MAX + REASON_DETAIL_MAX + 128 + MEMBERS_MAX)

#define LOCATION_MAX                                                                               \
	(sizeof("/accounts/") + 3 * (ID_MAX > ACCOUNT_NAME_MAX ? ID_MAX : ACCOUNT_NAME_MAX))

_Static_assert(BODY_MAX + REPLY_HEAD_MAX + LOCATION_MAX <= REPLY_RESULT_MAX, "any result fits");
_Static_assert(LEG_MAX + 128 + REPLY_HEAD_MAX <= REPLY_EVENT_MAX, "an accepted event is smaller");
_Static_assert(REFUSAL_MAX + REPLY_HEAD_MAX <= REPLY_EVENT_MAX, "so is a refused one");

/* --- accepted --- */

/* A string: an LSN outgrows the 2^53 that many readers of JSON hold exactly. */
static void end_with_lsn(struct text *out, const struct result *result)
{
	reply_count(out, ",\"lsn\":\"", result->lsn);
	text_literal(out, "\"}");
}

static void accepted_event(struct text *out, const struct request *request,
                           const struct result *result)
{
	const struct leg_result *leg = &result->leg[0];

	reply_words(out, "{\"status\":\"accepted\",\"account\":", &request->leg[0].account);
	reply_number(out, ",\"balance\":", leg->balance);
	if (leg->held != 0)
		reply_number(out, ",\"held\":", leg->held);
	reply_count(out, ",\"version\":", leg->version);
	end_with_lsn(out, result);
}

/* {"account":..,"balance":..,"version":..} */
static void party(struct text *out, const struct words *account, const struct leg_result *leg)
{
	reply_words(out, "{\"account\":", account);
	reply_number(out, ",\"balance\":", leg->balance);
	reply_count(out, ",\"version\":", leg->version);
	text_literal(out, "}");
}

static void accepted_transfer(struct text *out, const struct request *request,
                              const struct result *result)
{
	text_literal(out, "{\"status\":\"accepted\",\"from\":");
	party(out, &request->leg[0].account, &result->leg[0]);
	text_literal(out, ",\"to\":");
	party(out, &request->leg[1].account, &result->leg[1]);
	reply_number(out, ",\"amount\":", request->leg[1].amount);
	end_with_lsn(out, result);
}

static void accepted_transaction(struct text *out, const struct request *request,
                                 const struct result *result)
{
	text_literal(out, "{\"status\":\"accepted\",\"legs\":[");
	for (size_t i = 0; i < request->legs; i++) {
		if (i > 0)
			text_literal(out, ",");
		reply_words(out, "{\"account\":", &request->leg[i].account);
		reply_number(out, ",\"amount\":", request->leg[i].amount);
		reply_number(out, ",\"balance\":", result->leg[i].balance);
		reply_count(out, ",\"version\":", result->leg[i].version);
		text_literal(out, "}");
	}
	text_literal(out, "]");
	end_with_lsn(out, result);
}

static void accepted_account(struct text *out, const struct request *request,
                             const struct result *result)
{
	const struct leg_result *leg = &result->leg[0];

	reply_words(out, "{\"status\":\"accepted\",\"account\":", &request->leg[0].account);
	reply_number(out, ",\"balance\":", leg->balance);
	reply_number(out, ",\"held\":", leg->held);
	reply_limit(out, ",\"floor\":", result->attributes.floor, FLOOR_NONE);
	reply_limit(out, ",\"ceiling\":", result->attributes.ceiling, CEILING_NONE);
	text_literal(out, ",\"frozen\":\"");
	text_string(out, reply_frozen(result->attributes.frozen));
	reply_count(out, "\",\"version\":", leg->version);
	end_with_lsn(out, result);
}

static void accepted_delete(struct text *out, const struct request *request,
                            const struct result *result)
{
	reply_words(out, "{\"status\":\"accepted\",\"account\":", &request->leg[0].account);
	text_literal(out, ",\"deleted\":true");
	end_with_lsn(out, result);
}

/* The id of a new hold: the request's, or the one made for it. */
static const struct words *hold_of(const struct request *request)
{
	return request->kind == REQUEST_HOLD && request->id.length > 0 ? &request->id
	                                                               : &request->hold;
}

static void begin_hold(struct text *out, const struct request *request, const struct result *result)
{
	reply_words(out, "{\"status\":\"accepted\",\"hold\":", hold_of(request));
	text_literal(out, ",\"state\":\"");
	text_string(out, reply_hold_state(result->hold_state));
	text_literal(out, "\",\"account\":");
}

static void accepted_hold(struct text *out, const struct request *request,
                          const struct result *result)
{
	const struct words *account = &request->leg[0].account;

	begin_hold(out, request, result);
	text_json_string(out, account->bytes, account->length);
	reply_number(out, ",\"amount\":", result->hold_amount);
	reply_number(out, ",\"balance\":", result->leg[0].balance);
	reply_number(out, ",\"held\":", result->leg[0].held);
	text_literal(out, ",\"expires\":\"");
	reply_time(out, result->hold_expires_us);
	reply_count(out, "\",\"version\":", result->leg[0].version);
	end_with_lsn(out, result);
}

static void accepted_settlement(struct text *out, const struct request *request,
                                const struct result *result)
{
	begin_hold(out, request, result);
	text_json_string(out, result->account, result->account_length);
	if (request->kind == REQUEST_CAPTURE)
		reply_number(out, ",\"captured\":", result->hold_captured);
	reply_number(out, ",\"balance\":", result->leg[0].balance);
	reply_number(out, ",\"held\":", result->leg[0].held);
	reply_count(out, ",\"version\":", result->leg[0].version);
	if (request->kind == REQUEST_CAPTURE && request->legs > 0) {
		text_literal(out, ",\"to\":");
		party(out, &request->leg[0].account, &result->leg[1]);
	}
	end_with_lsn(out, result);
}

static void accepted(struct text *out, const struct request *request, const struct result *result)
{
	switch (request->kind) {
	case REQUEST_EVENT:
		accepted_event(out, request, result);
		return;
	case REQUEST_TRANSFER:
		accepted_transfer(out, request, result);
		return;
	case REQUEST_TRANSACTION:
		accepted_transaction(out, request, result);
		return;
	case REQUEST_CREATE:
	case REQUEST_REPLACE:
		accepted_account(out, request, result);
		return;
	case REQUEST_DELETE:
		accepted_delete(out, request, result);
		return;
	case REQUEST_HOLD:
		accepted_hold(out, request, result);
		return;
	case REQUEST_CAPTURE:
	case REQUEST_RELEASE:
		accepted_settlement(out, request, result);
		return;
	}
}

/* --- refused --- */

/* The account of the leg INDEX of RESULT. */
static struct words account_of(const struct request *request, const struct result *result,
                               size_t index)
{
	if (request->kind != REQUEST_CAPTURE && request->kind != REQUEST_RELEASE)
		return request->leg[index].account;
	if (index > 0)
		return request->leg[0].account;
	return (struct words){result->account, result->account_length};
}

/* ,"leg":..,"account":.. of the leg that was refused. */
static void refused_leg(struct text *out, const struct request *request,
                        const struct result *result)
{
	struct words account = account_of(request, result, result->refused);

	if (request->kind == REQUEST_TRANSFER || request->kind == REQUEST_TRANSACTION)
		reply_count(out, ",\"leg\":", result->refused);
	reply_words(out, ",\"account\":", &account);
}

/* Only where it is not plain which account is meant. */
static void refused_one_of(struct text *out, const struct request *request,
                           const struct result *result)
{
	if (request->kind == REQUEST_TRANSFER || request->kind == REQUEST_TRANSACTION ||
	    request->kind == REQUEST_CAPTURE)
		refused_leg(out, request, result);
}

static void refusal_members(struct text *out, const struct request *request,
                            const struct result *result)
{
	static const struct leg_result nothing;
	const struct leg_result *leg =
	    result->refused < result->legs ? &result->leg[result->refused] : &nothing;

	switch (result->outcome) {
	case OUTCOME_INSUFFICIENT_FUNDS:
		refused_leg(out, request, result);
		reply_number(out, ",\"balance\":", leg->balance);
		reply_number(out, ",\"held\":", leg->held);
		reply_number(out, ",\"available\":", result->available);
		reply_number(out, ",\"required\":", result->required);
		return;
	case OUTCOME_CEILING_EXCEEDED:
		refused_leg(out, request, result);
		reply_number(out, ",\"balance\":", leg->balance);
		reply_number(out, ",\"ceiling\":", result->limit);
		return;
	case OUTCOME_VERSION_MISMATCH:
		reply_count(out, ",\"version\":", leg->version);
		return;
	case OUTCOME_HOLD_SETTLED:
		reply_words(out, ",\"hold\":", &request->hold);
		text_literal(out, ",\"state\":\"");
		text_string(out, reply_hold_state(result->hold_state));
		reply_number(out, "\",\"captured\":", result->hold_captured);
		if (result->hold_settled_lsn == 0)
			return;
		reply_count(out, ",\"settled_lsn\":\"", result->hold_settled_lsn);
		text_literal(out, "\"");
		return;
	case OUTCOME_OVERFLOW:
	case OUTCOME_UNKNOWN_ACCOUNT:
	case OUTCOME_ACCOUNT_FROZEN:
		refused_one_of(out, request, result);
		return;
	default:
		return;
	}
}

/* 503 and 507 always mean: not applied, and "rejected". */
static struct reply_refusal refusal_of(enum outcome outcome)
{
	const struct reason *reason = reason_of(outcome);

	return (struct reply_refusal){.status = reason->status,
	                              .rejected = reason->status == 503 || reason->status == 507,
	                              .reason = reason->word,
	                              .detail = reason->detail};
}

void reply_result_object(struct text *out, const struct request *request,
                         const struct result *result)
{
	struct reply_refusal refusal;

	if (result->outcome == OUTCOME_ACCEPTED) {
		accepted(out, request, result);
		return;
	}
	refusal = refusal_of(result->outcome);
	reply_plain_begin(out, refusal.rejected ? "rejected" : "error", refusal.reason,
	                  refusal.detail);
	refusal_members(out, request, result);
	text_literal(out, "}");
}

/* --- whole answers --- */

/* Appends NAME, percent-encoded but for what is unreserved (RFC 3986 2.3). */
static void percent_encode(struct text *out, const struct words *name)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < name->length; i++) {
		char byte = name->bytes[i];
		unsigned char code = (unsigned char)byte;
		char escape[3] = {'%', hex[code >> 4], hex[code & 15]};

		if ((byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
		    (byte >= '0' && byte <= '9') || byte == '-' || byte == '.' || byte == '_' ||
		    byte == '~')
			text_bytes(out, &byte, 1);
		else
			text_bytes(out, escape, sizeof(escape));
	}
}

/* Where the account or hold that REQUEST makes is found, NUL-terminated. */
static const char *location(char path[LOCATION_MAX], const struct request *request)
{
	bool hold = request->kind == REQUEST_HOLD;
	struct text text;

	text_init(&text, path, LOCATION_MAX);
	text_string(&text, hold ? "/holds/" : "/accounts/");
	percent_encode(&text, hold ? hold_of(request) : &request->leg[0].account);
	text_bytes(&text, "", 1);
	return path;
}

static void write_accepted(struct text *out, const struct reply_frame *frame,
                           const struct request *request, const struct result *result)
{
	bool account = request->kind == REQUEST_CREATE || request->kind == REQUEST_REPLACE;
	bool hold = request->kind == REQUEST_HOLD;
	struct reply_field extra[4] = {{NULL, NULL}};
	size_t count = 0;
	char path[LOCATION_MAX];
	char tag[REPLY_ETAG_MAX];
	char scratch[BODY_MAX];
	struct text body;

	if (account)
		extra[count++] =
		    (struct reply_field){"ETag", reply_etag(tag, result->leg[0].version)};
	if (request->kind == REQUEST_CREATE || hold)
		extra[count++] = (struct reply_field){"Location", location(path, request)};
	if (result->replayed)
		extra[count++] = (struct reply_field){"Idempotent-Replayed", "true"};
	text_init(&body, scratch, sizeof(scratch));
	accepted(&body, request, result);
	reply_shape(out, frame, result->created && (account || hold) ? 201 : 200, &body, extra);
}

static void write_refused(struct text *out, const struct reply_frame *frame,
                          const struct request *request, const struct result *result,
                          unsigned retry_after)
{
	struct reply_refusal refusal = refusal_of(result->outcome);
	struct reply_field extra[3] = {{NULL, NULL}};
	size_t count = 0;
	char seconds[TEXT_DECIMAL_MAX + 1];
	char scratch[REFUSAL_MAX];
	struct text body;

	if (refusal.status == 503 && retry_after > 0)
		extra[count++] =
		    (struct reply_field){"Retry-After", reply_seconds(seconds, retry_after)};
	if (result->replayed)
		extra[count++] = (struct reply_field){"Idempotent-Replayed", "true"};
	text_init(&body, scratch, sizeof(scratch));
	reply_refusal_begin(&body, frame, &refusal);
	refusal_members(&body, request, result);
	reply_refusal_end(out, frame, &refusal, &body, extra);
}

void reply_result(struct text *out, const struct reply_frame *frame, const struct request *request,
                  const struct result *result, unsigned retry_after)
{
	if (result->outcome == OUTCOME_ACCEPTED)
		write_accepted(out, frame, request, result);
	else
		write_refused(out, frame, request, result, retry_after);
}
