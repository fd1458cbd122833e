/* What several endpoints share: how errors, conditions and operations are answered. */
#include "handlers.h"

#include <string.h>
#include <strings.h>

#include "../wire/reason.h"
#include "auth.h"

void answer_error(const struct call *call, struct answer *answer, unsigned status,
                  const char *reason, const char *detail, const struct reply_field *fields)
{
	answer->status = status;
	answer->reason = reason_find(reason);
	reply_error(&answer->out, &call->frame, status, reason, detail, fields);
}

void answer_reason(const struct call *call, struct answer *answer, const char *word)
{
	const struct reason *reason = reason_find(word);

	answer_error(call, answer, reason ? reason->status : 500, word,
	             reason && reason->detail ? reason->detail : "", NULL);
}

void answer_json(const struct call *call, struct answer *answer, const char *body, size_t length)
{
	struct reply reply = {
	    .status = 200, .content_type = REPLY_JSON, .body = body, .body_length = length};

	answer->status = 200;
	reply_write(&answer->out, &call->frame, &reply);
}

void answer_unread(const struct call *call, struct answer *answer, enum outcome outcome)
{
	if (outcome == OUTCOME_UNKNOWN_ACCOUNT || outcome == OUTCOME_UNKNOWN_HOLD)
		answer_reason(call, answer, reason_of(outcome)->word);
	else
		answer->poisoned = true;
}

/* --- operations that cannot be read --- */

static void be_invalid(struct answer *answer)
{
	answer->verdict = VERDICT_INVALID;
	answer->refusal = REFUSAL_INVALID;
}

void answer_unreadable(const struct call *call, struct answer *answer,
                       const struct json_error *error)
{
	const struct reason *reason = reason_find(error->reason);

	be_invalid(answer);
	answer_error(call, answer, reason ? reason->status : 400, error->reason, error->detail,
	             NULL);
}

static bool type_is(const char *type, size_t length, const char *wanted)
{
	return strlen(wanted) == length && strncasecmp(type, wanted, length) == 0;
}

/*
 * JSON by its names; and what clients say that were told nothing: no type at all, plain
 * text, and the form type that curl -d sends.
 */
static bool is_json_type(const char *type, size_t length)
{
	const char *parameters = memchr(type, ';', length);
	if (parameters)
		length = (size_t)(parameters - type);
	while (length && (type[length - 1] == ' ' || type[length - 1] == '\t'))
		length--;
	return type_is(type, length, "application/json") || type_is(type, length, "text/json") ||
	       type_is(type, length, "text/plain") ||
	       type_is(type, length, "application/x-www-form-urlencoded") ||
	       (length > 5 && strncasecmp(type + length - 5, "+json", 5) == 0);
}

bool operation_is_json(const struct call *call, struct answer *answer)
{
	struct http_span type = call->request->field[HTTP_CONTENT_TYPE];

	if (type.length == 0 || is_json_type(call->bytes + type.at, type.length))
		return true;
	be_invalid(answer);
	answer_reason(call, answer, "unsupported_media_type");
	return false;
}

/* --- conditions --- */

static bool refuse_condition(const struct call *call, struct answer *answer, const char *word)
{
	be_invalid(answer);
	answer_reason(call, answer, word);
	return false;
}

static bool came_twice(const struct call *call, enum http_field field)
{
	return (call->request->repeated & (1u << field)) != 0;
}

/* One version can be asked for.  A tag that is none of ours, or a weak one, matches nothing. */
static bool read_match(const struct call *call, struct request *request)
{
	struct http_span field = call->request->field[HTTP_IF_MATCH];
	struct http_etag tags[HTTP_ETAGS_MAX];
	size_t count = 0;

	if (came_twice(call, HTTP_IF_MATCH))
		return false;
	switch (http_etag_list(call->bytes + field.at, field.length, tags, &count)) {
	case HTTP_ETAGS_MALFORMED:
		return false;
	case HTTP_ETAGS_ANY:
		request->match = MATCH_ANY;
		return true;
	case HTTP_ETAGS_LIST:
		break;
	}
	request->match = MATCH_VERSION;
	if (tags[0].weak || !http_etag_version(&tags[0], &request->version))
		request->version = UINT64_MAX;
	return count == 1;
}

/* The header's id and the body's, if both are given, are one. */
static bool read_key(const struct call *call, struct answer *answer, struct words *id, char *key)
{
	struct http_span field = call->request->field[HTTP_IDEMPOTENCY_KEY];

	if (came_twice(call, HTTP_IDEMPOTENCY_KEY))
		return refuse_condition(call, answer, "invalid_idempotency_key");
	long length = http_idempotency_key(key, ID_MAX, call->bytes + field.at, field.length);
	if (length < 1 || !json_id_valid(key, (size_t)length))
		return refuse_condition(call, answer, "invalid_idempotency_key");
	if (id->length &&
	    (id->length != (size_t)length || memcmp(id->bytes, key, (size_t)length) != 0))
		return refuse_condition(call, answer, "id_conflict");
	*id = (struct words){key, (uint32_t)length};
	return true;
}

static bool is_given(const struct call *call, enum http_field field)
{
	/* A field without a value was given too: it stands somewhere. */
	return call->request->field[field].at != 0;
}

/* To pass over a condition would be to do what the client wanted to be kept from. */
const char *condition_unsupported(const struct call *call, bool one_account, bool one_operation)
{
	if (!one_account && is_given(call, HTTP_IF_MATCH))
		return "If-Match is for a change of one account: here it does not say whose "
		       "version.";
	if (is_given(call, HTTP_IF_NONE_MATCH))
		return "If-None-Match is for GET: a change takes If-Match.";
	if (!one_operation && is_given(call, HTTP_IDEMPOTENCY_KEY))
		return "Idempotency-Key is for one operation: here each event has its own \"id\".";
	return NULL;
}

bool operation_conditions(const struct call *call, struct answer *answer, struct request *request,
                          char *key, bool one_account)
{
	const char *unable = condition_unsupported(call, one_account, true);

	if (!auth_permits_request(call, answer, request))
		return false;
	if (unable) {
		be_invalid(answer);
		answer_error(call, answer, 400, "unsupported_condition", unable, NULL);
		return false;
	}
	if (is_given(call, HTTP_IF_MATCH) && !read_match(call, request))
		return refuse_condition(call, answer, "invalid_if_match");
	return !is_given(call, HTTP_IDEMPOTENCY_KEY) || read_key(call, answer, &request->id, key);
}

/* --- operations that were applied, or not --- */

enum refusal outcome_refusal(enum outcome outcome)
{
	static const enum refusal classes[] = {
	    [OUTCOME_QUEUE_FULL] = REFUSAL_QUEUE_FULL,
	    [OUTCOME_DISK_FULL] = REFUSAL_DISK_FULL,
	    [OUTCOME_TABLE_FULL] = REFUSAL_TABLE_FULL,
	    [OUTCOME_HOLDS_FULL] = REFUSAL_HOLDS_FULL,
	    [OUTCOME_JOURNAL_FAILED] = REFUSAL_JOURNAL_FAILED,
	    [OUTCOME_FORGOTTEN] = REFUSAL_FORGOTTEN,
	    [OUTCOME_READ_FAILED] = REFUSAL_READ_FAILED,
	};

	return outcome < sizeof(classes) / sizeof(classes[0]) ? classes[outcome] : REFUSAL_NONE;
}

enum verdict result_verdict(const struct result *result)
{
	if (result->replayed)
		return VERDICT_REPLAYED;
	if (result->outcome == OUTCOME_ACCEPTED)
		return VERDICT_ACCEPTED;
	return outcome_is_decided(result->outcome) || result->outcome == OUTCOME_ID_REUSED
	           ? VERDICT_REFUSED
	           : VERDICT_REJECTED;
}

static bool makes_things(enum request_kind kind)
{
	return kind == REQUEST_CREATE || kind == REQUEST_REPLACE || kind == REQUEST_HOLD;
}

void operation_answer(const struct call *call, struct answer *answer, const struct request *request,
                      const struct result *result)
{
	unsigned retry_after = 0;

	if (result->outcome == OUTCOME_POISONED) {
		answer->poisoned = true;
		return;
	}
	answer->verdict = result_verdict(result);
	answer->posted = answer->verdict == VERDICT_ACCEPTED || answer->verdict == VERDICT_REFUSED;
	answer->lsn = answer->verdict == VERDICT_REJECTED ? 0 : result->lsn;
	answer->refusal = outcome_refusal(result->outcome);
	if (result->outcome == OUTCOME_ACCEPTED)
		answer->status = result->created && makes_things(request->kind) ? 201 : 200;
	else
		answer->status = (answer->reason = reason_of(result->outcome))->status;
	if (answer->status == 503)
		retry_after = ledger_retry_after(call->ledger);
	reply_result(&answer->out, &call->frame, request, result, retry_after);
}

void operation_apply(const struct call *call, struct answer *answer, const struct request *request)
{
	struct result result;

	ledger_apply(call->ledger, request, call->now_us, &result);
	operation_answer(call, answer, request, &result);
}
