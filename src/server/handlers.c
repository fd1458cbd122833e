#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "../wire/json.h"
#include "handlers.h"

#define MEDIA_TYPE_MAX 128 /* bytes of a Content-Type that POST /echo gives back */

void answer_error(const struct call *call, struct answer *answer, unsigned status,
                  const char *reason, const char *detail, const struct reply_field *fields)
{
	answer->status = status;
	reply_error(&answer->out, &call->frame, status, reason, detail, fields);
}

static void answer_poisoned(struct answer *answer)
{
	answer->poisoned = true;
}

/* --- refusals of the ledger --- */

struct rejection {
	unsigned status;
	const char *reason;
	const char *detail;
	enum refusal refusal;
};

/* 503 and 507 always mean: not applied. */
static const struct rejection rejections[] = {
    [OUTCOME_QUEUE_FULL] = {503, "queue_full",
                            "Too many events wait for the disk; the event was not applied.",
                            REFUSAL_QUEUE_FULL},
    [OUTCOME_DISK_FULL] = {507, "disk_full",
                           "The journal's disk is full; the event was not applied.",
                           REFUSAL_DISK_FULL},
    [OUTCOME_TABLE_FULL] = {507, "table_full",
                            "There is no room for another account; the event was not applied.",
                            REFUSAL_TABLE_FULL},
    [OUTCOME_JOURNAL_FAILED] = {503, "journal_failed",
                                "The journal's disk has failed; the event was not applied.",
                                REFUSAL_JOURNAL_FAILED},
};

static unsigned retry_after(const struct call *call, unsigned status)
{
	return status == 503 ? ledger_retry_after(call->ledger) : 0;
}

static void answer_rejected(const struct call *call, struct answer *answer, enum outcome outcome)
{
	const struct rejection *rejection = &rejections[outcome];
	answer->status = rejection->status;
	answer->refusal = rejection->refusal;
	answer->verdict = VERDICT_REJECTED;
	reply_rejected(&answer->out, &call->frame, rejection->status, rejection->reason,
	               rejection->detail, retry_after(call, rejection->status));
}

/* --- POST /events --- */

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

static void answer_posted(const struct call *call, struct answer *answer, const struct event *event,
                          const struct result *result)
{
	answer->lsn = result->lsn;
	switch (result->outcome) {
	case OUTCOME_ACCEPTED:
		answer->status = 200;
		answer->verdict = VERDICT_ACCEPTED;
		reply_accepted(&answer->out, &call->frame, event, result);
		return;
	case OUTCOME_OVERFLOW:
		answer->verdict = VERDICT_REFUSED;
		answer_error(
		    call, answer, 422, "overflow",
		    "The balance would leave the range of int64; the event was not applied.", NULL);
		return;
	case OUTCOME_QUEUE_FULL:
	case OUTCOME_DISK_FULL:
	case OUTCOME_TABLE_FULL:
	case OUTCOME_JOURNAL_FAILED:
		answer->lsn = 0;
		answer_rejected(call, answer, result->outcome);
		return;
	case OUTCOME_UNKNOWN_ACCOUNT: /* an answer to reads: from a post it is nonsense */
	case OUTCOME_POISONED:
		break;
	}
	answer_poisoned(answer);
}

void handle_event(const struct call *call, struct answer *answer)
{
	struct http_span type = call->request->field[HTTP_CONTENT_TYPE];
	struct event event;
	struct json_error error;
	struct result result;

	if (type.length && !is_json_type(call->bytes + type.at, type.length)) {
		answer->verdict = VERDICT_INVALID;
		answer->refusal = REFUSAL_INVALID;
		answer_error(call, answer, 415, "unsupported_media_type",
		             "An event is sent as application/json.", NULL);
		return;
	}
	if (!json_read_event(call->body, call->body_length, &event, &error)) {
		answer->verdict = VERDICT_INVALID;
		answer->refusal = REFUSAL_INVALID;
		answer_error(call, answer, 400, error.reason, error.detail, NULL);
		return;
	}
	ledger_post(call->ledger, &event, call->now_us, &result);
	answer_posted(call, answer, &event, &result);
}

/* --- GET /accounts/NAME --- */

/* Does If-None-Match name the entity tag of VERSION?  (RFC 9110 13.1.2: weak comparison) */
static bool is_known_version(const struct call *call, uint64_t version)
{
	struct http_span field = call->request->field[HTTP_IF_NONE_MATCH];
	const char *value = call->bytes + field.at;
	char tag[32];
	if (field.length == 0 || (call->request->repeated & (1u << HTTP_IF_NONE_MATCH)))
		return false;
	if (field.length == 1 && value[0] == '*')
		return true;
	int length = snprintf(tag, sizeof(tag), "\"%llu\"", (unsigned long long)version);
	return memmem(value, field.length, tag, (size_t)length) != NULL;
}

void handle_account(const struct call *call, struct answer *answer)
{
	const char *segment = call->bytes + call->request->path.at + call->segment.at;
	char name[ACCOUNT_NAME_MAX];
	struct account_view view;

	long length = http_percent_decode(name, sizeof(name), segment, call->segment.length);
	if (length < 0 || !json_account_name_valid(name, (size_t)length)) {
		answer_error(call, answer, 400, "invalid_account",
		             "A name is 1 to 100 bytes of UTF-8 without control characters, "
		             "percent-encoded.",
		             NULL);
		return;
	}
	switch (ledger_read(call->ledger, name, (uint32_t)length, &view)) {
	case OUTCOME_ACCEPTED:
		break;
	case OUTCOME_UNKNOWN_ACCOUNT:
		answer_error(call, answer, 404, "unknown_account",
		             "No event has named this account yet.", NULL);
		return;
	default:
		answer_poisoned(answer);
		return;
	}
	answer->lsn = view.lsn;
	if (is_known_version(call, view.version)) {
		answer->status = 304;
		reply_not_modified(&answer->out, &call->frame, view.version);
		return;
	}
	answer->status = 200;
	reply_account(&answer->out, &call->frame, name, (size_t)length, &view);
}

/* --- GET / and GET /healthz --- */

static void answer_json(const struct call *call, struct answer *answer, const char *body,
                        size_t length)
{
	struct reply reply = {
	    .status = 200, .content_type = REPLY_JSON, .body = body, .body_length = length};
	answer->status = 200;
	reply_write(&answer->out, &call->frame, &reply);
}

void handle_about(const struct call *call, struct answer *answer)
{
	char bytes[512];
	struct text body;
	uint64_t started = call->settings->started_us;
	uint64_t age_us = call->now_us > started ? call->now_us - started : 0;

	text_init(&body, bytes, sizeof(bytes));
	text_literal(&body, "{\"service\":\"tallyd\",\"version\":");
	text_json_string(&body, call->settings->version, strnlen(call->settings->version, 64));
	text_literal(&body, ",\"uptime\":");
	text_unsigned(&body, age_us / 1000000);
	text_literal(&body, ",\"workers\":");
	text_unsigned(&body, call->settings->workers);
	text_literal(&body, "}");
	answer_json(call, answer, body.bytes, body.length);
}

static void answer_unwell(const struct call *call, struct answer *answer, const char *reason,
                          const char *detail, unsigned seconds)
{
	char value[16];
	struct reply_field fields[] = {{"Retry-After", value}, {NULL, NULL}};
	snprintf(value, sizeof(value), "%u", seconds);
	answer_error(call, answer, 503, reason, detail, fields);
}

void handle_health(const struct call *call, struct answer *answer)
{
	static const char fine[] = "{\"status\":\"ok\"}";
	enum outcome health = ledger_health(call->ledger);

	if (call->draining) {
		answer_unwell(call, answer, "draining", "The daemon is stopping.", 1);
	} else if (health == OUTCOME_ACCEPTED) {
		answer_json(call, answer, fine, sizeof(fine) - 1);
	} else if (health == OUTCOME_POISONED || health == OUTCOME_OVERFLOW ||
	           health == OUTCOME_UNKNOWN_ACCOUNT) {
		answer_poisoned(answer);
	} else {
		answer_unwell(call, answer, rejections[health].reason, rejections[health].detail,
		              ledger_retry_after(call->ledger));
	}
}

/* --- POST /echo and the diagnostics --- */

/* The request's own type, or the type of anything if it has none or an unusual one. */
static const char *echo_type(const struct call *call, char type[MEDIA_TYPE_MAX + 1])
{
	struct http_span given = call->request->field[HTTP_CONTENT_TYPE];
	if (given.length == 0 || given.length > MEDIA_TYPE_MAX)
		return "application/octet-stream";
	memcpy(type, call->bytes + given.at, given.length);
	type[given.length] = '\0';
	return type;
}

void handle_echo(const struct call *call, struct answer *answer)
{
	char type[MEDIA_TYPE_MAX + 1];
	struct reply reply = {.status = 200,
	                      .content_type = echo_type(call, type),
	                      .body = call->body,
	                      .body_length = call->body_length};
	answer->status = 200;
	reply_write(&answer->out, &call->frame, &reply);
}

void handle_fast(const struct call *call, struct answer *answer)
{
	static const char body[] = "{\"status\":\"ok\"}";
	answer_json(call, answer, body, sizeof(body) - 1);
}

/* The parameter ms in *MS; false if it is absent or not a number up to HANDLER_SLEEP_MAX. */
static bool read_ms(const struct call *call, unsigned *ms)
{
	struct http_span query = call->request->query;
	char digits[5];
	long length =
	    http_query(call->bytes + query.at, query.length, "ms", digits, sizeof(digits));
	*ms = 0;
	if (length < 1)
		return false;
	for (long i = 0; i < length; i++) {
		if (digits[i] < '0' || digits[i] > '9')
			return false;
		*ms = *ms * 10 + (unsigned)(digits[i] - '0');
	}
	return *ms <= HANDLER_SLEEP_MAX;
}

void handle_sleep(const struct call *call, struct answer *answer)
{
	unsigned ms;
	char body[64];
	if (!read_ms(call, &ms)) {
		answer_error(call, answer, 400, "invalid_ms",
		             "The parameter ms is a number of milliseconds from 0 to 60000.", NULL);
		return;
	}
	if (!call->resumed && ms > 0) {
		answer->pause_ms = ms;
		return;
	}
	int length = snprintf(body, sizeof(body), "{\"slept_ms\":%u}", ms);
	answer_json(call, answer, body, (size_t)length);
}
