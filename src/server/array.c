#include "array.h"

#include <stdio.h>
#include <string.h>

#include "../wire/json.h"
#include "stream.h"

#define EVENT_TEXT_MIN   24  /* bytes of {"user":"a","amount":1} and a comma: none is shorter */
#define EVENT_ANSWER_MAX 256 /* bytes of an accepted event's object, its name not counted */
#define ATOMIC_MAX       5   /* bytes of "false" */

struct array {
	struct json_item items[ARRAY_EVENTS_MAX];
	size_t count;
};

/* An array that is one transaction: a leg for each account. */
struct atomic {
	struct request request;
	char key[ID_MAX]; /* of the Idempotency-Key */
	struct result result;
	struct leg events[ARRAY_EVENTS_MAX];
	uint8_t leg_of[ARRAY_EVENTS_MAX];
	size_t count;
};

bool array_is_given(const struct call *call)
{
	size_t at = 0;
	while (at < call->body_length && (call->body[at] == ' ' || call->body[at] == '\t' ||
	                                  call->body[at] == '\r' || call->body[at] == '\n'))
		at++;
	return at < call->body_length && call->body[at] == '[';
}

/* 1: it is true; 0: false, or not given; -1: neither. */
static int read_atomic(const struct call *call)
{
	struct http_span query = call->request->query;
	char value[ATOMIC_MAX];
	long length =
	    http_query(call->bytes + query.at, query.length, "atomic", value, sizeof(value));

	if (length == -1 || (length == 5 && memcmp(value, "false", 5) == 0))
		return 0;
	return length == 4 && memcmp(value, "true", 4) == 0 ? 1 : -1;
}

const char *array_lines_refusal(const struct call *call)
{
	static const char *const words[] = {"invalid_atomic", NULL, "unsupported_atomic"};

	return words[1 + read_atomic(call)];
}

size_t array_room(const struct call *call)
{
	size_t events = call->body_length / EVENT_TEXT_MIN + 1;

	if (!array_is_given(call))
		return 0;
	if (read_atomic(call) != 1)
		return STREAM_HEAD_ROOM;
	if (events > ARRAY_EVENTS_MAX)
		events = ARRAY_EVENTS_MAX;
	return HANDLER_ROOM + events * EVENT_ANSWER_MAX + call->body_length;
}

static void refuse(const struct call *call, struct answer *answer, const char *word)
{
	answer->verdict = VERDICT_INVALID;
	answer->refusal = REFUSAL_INVALID;
	answer_reason(call, answer, word);
}

static void refuse_saying(const struct call *call, struct answer *answer, const char *word,
                          const char *detail)
{
	answer->verdict = VERDICT_INVALID;
	answer->refusal = REFUSAL_INVALID;
	answer_error(call, answer, 400, word, detail, NULL);
}

/* --- each event by itself --- */

static void blank_line_ends(char *text, size_t length)
{
	char *feed;
	for (char *end = text + length; (feed = memchr(text, '\n', (size_t)(end - text)));
	     text = feed)
		*feed = ' ';
}

/* What is between elements becomes line ends, and line ends within them, which are space, space. */
static void make_lines(const struct call *call, const struct array *array)
{
	size_t at = 0;

	for (size_t i = 0; i < array->count; i++) {
		const struct json_item *item = &array->items[i];
		memset(call->body + at, '\n', item->at - at);
		blank_line_ends(call->body + item->at, item->length);
		at = item->at + item->length;
	}
	memset(call->body + at, '\n', call->body_length - at);
}

/* --- all as one transaction --- */

static bool refuse_event(const struct call *call, struct answer *answer, size_t index,
                         const char *reason, const char *detail)
{
	struct json_error error = {.reason = reason};

	snprintf(error.detail, sizeof(error.detail), "event %zu: %.190s", index, detail);
	answer_unreadable(call, answer, &error);
	return false;
}

/* The leg of ACCOUNT, perhaps a new one; LEGS_MAX: there are too many. */
static uint8_t leg_of(struct request *request, const struct words *account)
{
	for (uint8_t i = 0; i < request->legs; i++) {
		const struct words *known = &request->leg[i].account;
		if (known->length == account->length &&
		    memcmp(known->bytes, account->bytes, account->length) == 0)
			return i;
	}
	if (request->legs == LEGS_MAX)
		return LEGS_MAX;
	request->leg[request->legs] = (struct leg){.account = *account};
	return request->legs++;
}

static bool add_event(const struct call *call, struct answer *answer, struct atomic *atomic,
                      const struct json_item *item)
{
	struct request *whole = &atomic->request;
	size_t index = atomic->count;
	struct request event;
	struct json_error error;

	if (!json_read_event(call->body + item->at, item->length, &event, &error))
		return refuse_event(call, answer, index, error.reason, error.detail);
	if (event.id.length)
		return refuse_event(call, answer, index, "invalid_id",
		                    "An atomic array has one id: its Idempotency-Key.");
	if (event.note.length)
		return refuse_event(call, answer, index, "invalid_note",
		                    "The events of an atomic array have no notes.");
	uint8_t leg = leg_of(whole, &event.leg[0].account);
	if (leg == LEGS_MAX) {
		refuse(call, answer, "too_many_accounts");
		return false;
	}
	if (__builtin_add_overflow(whole->leg[leg].amount, event.leg[0].amount,
	                           &whole->leg[leg].amount))
		return refuse_event(call, answer, index, "overflow",
		                    "The account's amounts leave the range of int64.");
	atomic->events[atomic->count] = event.leg[0];
	atomic->leg_of[atomic->count++] = leg;
	return true;
}

static void write_elements(struct text *body, const struct atomic *atomic)
{
	struct request event = {.kind = REQUEST_EVENT, .legs = 1};
	struct result result = {.outcome = OUTCOME_ACCEPTED,
	                        .legs = 1,
	                        .lsn = atomic->result.lsn,
	                        .time_us = atomic->result.time_us};

	text_literal(body, "[");
	for (size_t i = 0; i < atomic->count; i++) {
		if (i)
			text_literal(body, ",");
		event.leg[0] = atomic->request.leg[atomic->leg_of[i]];
		result.leg[0] = atomic->result.leg[atomic->leg_of[i]];
		reply_result_object(body, &event, &result);
	}
	text_literal(body, "]");
}

/* The body is written first, behind room for the head, which says how long it is. */
static void answer_elements(const struct call *call, struct answer *answer,
                            const struct atomic *atomic)
{
	struct reply_field replayed[] = {{"Idempotent-Replayed", "true"}, {NULL, NULL}};
	struct text *out = &answer->out;
	struct text body;

	text_init(&body, out->bytes + HANDLER_ROOM, out->capacity - HANDLER_ROOM);
	write_elements(&body, atomic);
	struct reply reply = {.status = 200,
	                      .content_type = REPLY_JSON,
	                      .body_length = body.length,
	                      .fields = atomic->result.replayed ? replayed : NULL};
	reply_head(out, &call->frame, &reply);
	memmove(out->bytes + out->length, body.bytes, body.length);
	out->length += body.length;
	out->full |= body.full;
	answer->status = 200;
	answer->lsn = atomic->result.lsn;
	answer->verdict = atomic->count ? result_verdict(&atomic->result) : VERDICT_NEUTRAL;
	answer->posted = answer->verdict == VERDICT_ACCEPTED;
}

static void answer_atomic(const struct call *call, struct answer *answer, const struct array *array)
{
	struct atomic atomic = {.request.kind = REQUEST_TRANSACTION};

	for (size_t i = 0; i < array->count; i++)
		if (!add_event(call, answer, &atomic, &array->items[i]))
			return;
	atomic.request.events = atomic.events;
	atomic.request.event_count = (uint32_t)atomic.count;
	if (!operation_conditions(call, answer, &atomic.request, atomic.key, false))
		return;
	if (array->count) {
		ledger_apply(call->ledger, &atomic.request, call->now_us, &atomic.result);
		if (atomic.result.outcome != OUTCOME_ACCEPTED) {
			operation_answer(call, answer, &atomic.request, &atomic.result);
			return;
		}
	}
	answer_elements(call, answer, &atomic);
}

void array_answer(const struct call *call, struct answer *answer)
{
	int atomic = read_atomic(call);
	const char *unable = condition_unsupported(call, false, false);
	struct array array;
	struct json_error error;

	if (!operation_is_json(call, answer))
		return;
	if (!json_split_array(call->body, call->body_length, array.items, ARRAY_EVENTS_MAX,
	                      &array.count, &error)) {
		answer_unreadable(call, answer, &error);
	} else if (atomic < 0) {
		refuse(call, answer, "invalid_atomic");
	} else if (atomic) {
		answer_atomic(call, answer, &array);
	} else if (unable) {
		refuse_saying(call, answer, "unsupported_condition", unable);
	} else {
		make_lines(call, &array);
		answer->elements = true;
	}
}
