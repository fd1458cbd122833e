/*
 * Answers: what is written, to the byte, and what happens at the end of the room.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../src/wire/json.h"
#include "../src/wire/reason.h"
#include "../src/wire/reply.h"
#include "tap/tap.h"

#define DATE "Sun, 06 Nov 1994 08:49:37 GMT"

static const struct reply_frame frame = {.date = DATE};

/* TEXT as a string, for is(). */
static const char *string_of(const struct text *text)
{
	static char string[2 * REPLY_RESULT_MAX];

	memcpy(string, text->bytes, text->length);
	string[text->length] = '\0';
	return string;
}

static const char *date_of(uint64_t seconds)
{
	static char date[REPLY_DATE_LENGTH + 1];

	reply_date(date, seconds);
	return date;
}

static const char *time_of(uint64_t us)
{
	static char bytes[64];
	struct text text;

	text_init(&text, bytes, sizeof(bytes));
	reply_time(&text, us);
	return string_of(&text);
}

/* Days of every kind against the C library's calendar. */
static bool date_agrees(uint64_t seconds)
{
	char expected[64];
	time_t when = (time_t)seconds;
	struct tm tm;

	gmtime_r(&when, &tm);
	strftime(expected, sizeof(expected), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	return strcmp(date_of(seconds), expected) == 0;
}

static void test_dates(void)
{
	const uint64_t last = UINT64_C(253402300799);
	uint64_t seconds = 0;

	is(date_of(784111777), DATE, "the date of RFC 9110");
	is(date_of(0), "Thu, 01 Jan 1970 00:00:00 GMT", "the epoch");
	is(date_of(951782399), "Mon, 28 Feb 2000 23:59:59 GMT", "before a leap day");
	is(date_of(951782400), "Tue, 29 Feb 2000 00:00:00 GMT", "a leap day");
	is(date_of(4107542400), "Mon, 01 Mar 2100 00:00:00 GMT", "no leap day in 2100");
	is(date_of(last), "Fri, 31 Dec 9999 23:59:59 GMT", "the last second");
	is(date_of(last + 1), "Fri, 31 Dec 9999 23:59:59 GMT", "past it");
	is(date_of(UINT64_MAX), "Fri, 31 Dec 9999 23:59:59 GMT", "far past it");
	/* A step of a day and a bit visits every day of the calendar up to the year 9999. */
	while (seconds <= last && date_agrees(seconds))
		seconds += 86400 / 2 + 7;
	ok(seconds > last, "every day up to 9999 as gmtime has it");
	is(time_of(784111777000042), "1994-11-06T08:49:37.000042Z", "RFC 3339 with microseconds");
	is(time_of(0), "1970-01-01T00:00:00.000000Z", "the epoch");
	is(time_of(UINT64_MAX), "9999-12-31T23:59:59.999999Z", "past the last microsecond");
}

/* What reply_write makes of REPLY. */
static const char *written(const struct reply_frame *with, const struct reply *reply)
{
	static char bytes[4096];
	struct text text;

	text_init(&text, bytes, sizeof(bytes));
	reply_write(&text, with, reply);
	return string_of(&text);
}

static void test_status_lines(void)
{
	static const char *const lines[] = {
	    "200 OK",
	    "201 Created",
	    "204 No Content",
	    "304 Not Modified",
	    "400 Bad Request",
	    "401 Unauthorized",
	    "402 Payment Required",
	    "403 Forbidden",
	    "404 Not Found",
	    "405 Method Not Allowed",
	    "408 Request Timeout",
	    "409 Conflict",
	    "410 Gone",
	    "411 Length Required",
	    "412 Precondition Failed",
	    "413 Content Too Large",
	    "414 URI Too Long",
	    "417 Expectation Failed",
	    "422 Unprocessable Content",
	    "423 Locked",
	    "429 Too Many Requests",
	    "431 Request Header Fields Too Large",
	    "500 Internal Server Error",
	    "501 Not Implemented",
	    "503 Service Unavailable",
	    "505 HTTP Version Not Supported",
	    "507 Insufficient Storage",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct reply reply = {.status = (unsigned)strtoul(lines[i], NULL, 10)};
		char expected[128];

		snprintf(expected, sizeof(expected),
		         "HTTP/1.1 %s\r\nServer: tallyd\r\nDate: " DATE "\r\n%s\r\n", lines[i],
		         reply.status == 204 || reply.status == 304 ? "" : "Content-Length: 0\r\n");
		is(written(&frame, &reply), expected, "%s", lines[i]);
	}
	ok(strncmp(written(&frame, &(struct reply){.status = 299}), "HTTP/1.1 500 ", 13) == 0,
	   "a status that is not ours");
}

static void test_fields(void)
{
	const struct reply_field extra[] = {
	    {"Allow", "GET, HEAD"}, {"X-Split", "a\r\nEvil: b\nc"}, {"X-Empty", ""}, {NULL, NULL}};
	struct reply reply = {.status = 200,
	                      .content_type = "text/plain",
	                      .body = "hi\r\n",
	                      .body_length = 4,
	                      .fields = extra};
	struct reply_frame closing = {.date = DATE, .connection = REPLY_CLOSE, .head = true};
	struct reply_frame old = {.date = DATE, .connection = REPLY_KEEP_ALIVE};
	struct reply empty = {
	    .status = 204, .content_type = REPLY_JSON, .body = "x", .body_length = 1};
	char bytes[64];
	struct text text;

	is(written(&frame, &reply),
	   "HTTP/1.1 200 OK\r\nServer: tallyd\r\nDate: " DATE "\r\nContent-Type: text/plain\r\n"
	   "Content-Length: 4\r\nAllow: GET, HEAD\r\nX-Split: a  Evil: b c\r\nX-Empty: \r\n\r\n"
	   "hi\r\n",
	   "type, length, fields (no line end in them), body");
	reply.fields = NULL;
	is(written(&closing, &reply),
	   "HTTP/1.1 200 OK\r\nServer: tallyd\r\nDate: " DATE "\r\nContent-Type: text/plain\r\n"
	   "Content-Length: 4\r\nConnection: close\r\n\r\n",
	   "to a HEAD, and closing");
	ok(strstr(written(&old, &reply), "\r\nConnection: keep-alive\r\n\r\nhi\r\n") != NULL,
	   "to an HTTP/1.0 client that keeps the connection");
	is(written(&frame, &empty),
	   "HTTP/1.1 204 No Content\r\nServer: tallyd\r\nDate: " DATE "\r\n\r\n",
	   "no type, length or body with 204");
	text_init(&text, bytes, sizeof(bytes));
	reply_continue(&text);
	is(string_of(&text), "HTTP/1.1 100 Continue\r\n\r\n", "100 Continue");
}

static const char *const json_head =
    "Server: tallyd\r\nDate: " DATE "\r\nContent-Type: application/json\r\n";

/* The answer in TEXT must be STATUS_LINE, what all have, and REST. */
static void is_answer(const struct text *text, const char *status_line, const char *rest,
                      const char *name)
{
	char expected[2048];

	snprintf(expected, sizeof(expected), "HTTP/1.1 %s\r\n%s%s", status_line, json_head, rest);
	is(string_of(text), expected, "%s", name);
}

static char room[REPLY_RESULT_MAX];
static struct text out;

/* Where the next answer goes. */
static struct text *fresh(size_t capacity)
{
	memset(room, '#', sizeof(room));
	text_init(&out, room, capacity);
	return &out;
}

static void test_shapes(void)
{
	const struct reply_field allow[] = {{"Allow", "POST"}, {NULL, NULL}};

	reply_error(fresh(REPLY_SHAPE_MAX), &frame, 405, "method_not_allowed",
	            "say \"POST\"\n\x7f\xff", allow);
	is_answer(&out, "405 Method Not Allowed",
	          "Content-Length: 75\r\nAllow: POST\r\n\r\n{\"status\":\"error\","
	          "\"reason\":\"method_not_allowed\",\"detail\":\"say \\\"POST\\\"\?\?\?\"}",
	          "an error with a field");
	reply_rejected(fresh(REPLY_SHAPE_MAX), &frame, 503, "queue_full", "wait", 60);
	is_answer(&out, "503 Service Unavailable",
	          "Content-Length: 59\r\nRetry-After: 60\r\n\r\n{\"status\":\"rejected\","
	          "\"reason\":\"queue_full\",\"detail\":\"wait\"}",
	          "rejected for a while");
	reply_rejected(fresh(REPLY_SHAPE_MAX), &frame, 507, "disk_full", "wait", 0);
	is_answer(&out, "507 Insufficient Storage",
	          "Content-Length: 58\r\n\r\n{\"status\":\"rejected\","
	          "\"reason\":\"disk_full\",\"detail\":\"wait\"}",
	          "rejected without a time");
	reply_not_modified(fresh(REPLY_SHAPE_MAX), &frame, UINT64_MAX);
	is(string_of(&out),
	   "HTTP/1.1 304 Not Modified\r\nServer: tallyd\r\nDate: " DATE
	   "\r\nETag: \"18446744073709551615\"\r\n\r\n",
	   "an account that is as it was");
	reply_error_object(fresh(REPLY_SHAPE_MAX), "invalid_json", "at \"1\"");
	is(string_of(&out),
	   "{\"status\":\"error\",\"reason\":\"invalid_json\",\"detail\":\"at \\\"1\\\"\"}",
	   "an error among others");
}

/* What every page, or that of one origin, may read. */
static void test_sharing(void)
{
	const struct reply_frame shared = {
	    .date = DATE, .connection = REPLY_CLOSE, .origin = "https://a.example"};
	const struct reply_frame others = {.date = DATE, .varies = true};
	const struct reply_frame split = {.date = DATE, .origin = "*\r\nEvil: 1"};
	const struct reply_field extra[] = {{"ETag", "\"1\""}, {NULL, NULL}};

	is(written(&shared, &(struct reply){.status = 204, .fields = extra}),
	   "HTTP/1.1 204 No Content\r\nServer: tallyd\r\nDate: " DATE "\r\nConnection: close\r\n"
	   "Access-Control-Allow-Origin: https://a.example\r\nVary: Origin\r\n"
	   "Access-Control-Expose-Headers: ETag, Location, Retry-After, Idempotent-Replayed\r\n"
	   "ETag: \"1\"\r\n\r\n",
	   "an answer to a page of another origin");
	ok(strstr(written(&split, &(struct reply){.status = 204}),
	          "\r\nAccess-Control-Allow-Origin: *  Evil: 1\r\nVary: Origin\r\n") != NULL,
	   "no line end in an origin");
	is(written(&others, &(struct reply){.status = 204}),
	   "HTTP/1.1 204 No Content\r\nServer: tallyd\r\nDate: " DATE "\r\nVary: Origin\r\n\r\n",
	   "an answer that other origins may read");
}

static void test_problems(void)
{
	const struct reply_frame asked = {.date = DATE, .problem = true};
	const struct reply_field allow[] = {{"Allow", "POST"}, {NULL, NULL}};

	reply_error(fresh(REPLY_SHAPE_MAX), &asked, 405, "method_not_allowed", "say POST", allow);
	is(string_of(&out),
	   "HTTP/1.1 405 Method Not Allowed\r\nServer: tallyd\r\nDate: " DATE
	   "\r\nContent-Type: application/problem+json\r\nContent-Length: 114\r\nAllow: "
	   "POST\r\n\r\n"
	   "{\"type\":\"about:blank\",\"title\":\"Method Not Allowed\",\"status\":405,"
	   "\"detail\":\"say POST\",\"reason\":\"method_not_allowed\"}",
	   "an error as a problem");
	reply_rejected(fresh(REPLY_SHAPE_MAX), &asked, 503, "busy", "wait", 1);
	is(string_of(&out),
	   "HTTP/1.1 503 Service Unavailable\r\nServer: tallyd\r\nDate: " DATE
	   "\r\nContent-Type: application/problem+json\r\nContent-Length: 97\r\n"
	   "Retry-After: 1\r\n\r\n"
	   "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,"
	   "\"detail\":\"wait\",\"reason\":\"busy\"}",
	   "what is rejected as well");
	reply_error(fresh(REPLY_SHAPE_MAX), &asked, 299, "odd", "no", NULL);
	ok(strstr(string_of(&out), "\"title\":\"Internal Server Error\",\"status\":500,") != NULL,
	   "a status that is not ours");
}

/* --- streams --- */

static void test_stream(void)
{
	const struct reply_frame closing = {.date = DATE, .connection = REPLY_CLOSE};
	size_t begin;

	reply_stream_head(fresh(512), &frame, "application/x-ndjson", true);
	begin = reply_chunk_begin(&out);
	text_literal(&out, "{\"a\":1}\n{\"a\":2}\n");
	reply_chunk_end(&out, begin);
	begin = reply_chunk_begin(&out);
	reply_chunk_end(&out, begin);
	begin = reply_chunk_begin(&out);
	text_literal(&out, "x");
	reply_chunk_end(&out, begin);
	reply_stream_end(&out);
	is(string_of(&out),
	   "HTTP/1.1 200 OK\r\nServer: tallyd\r\nDate: " DATE
	   "\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
	   "000010\r\n{\"a\":1}\n{\"a\":2}\n\r\n000001\r\nx\r\n0\r\n\r\n",
	   "an answer in chunks, none of them empty");
	reply_stream_head(fresh(512), &closing, "application/x-ndjson", false);
	is(string_of(&out),
	   "HTTP/1.1 200 OK\r\nServer: tallyd\r\nDate: " DATE
	   "\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n",
	   "the head for a client that knows no chunks");
	for (size_t capacity = 0; capacity < 1 + REPLY_CHUNK_FRAME; capacity++) {
		begin = reply_chunk_begin(fresh(capacity));
		text_literal(&out, "x");
		reply_chunk_end(&out, begin);
		if (!out.full || room[capacity] != '#')
			fail("a chunk in %zu bytes", capacity);
	}
	begin = reply_chunk_begin(fresh(1 + REPLY_CHUNK_FRAME));
	text_literal(&out, "x");
	reply_chunk_end(&out, begin);
	ok(!out.full, "a chunk takes REPLY_CHUNK_FRAME bytes besides its own");
	reply_stream_end(fresh(REPLY_STREAM_END));
	ok(!out.full && out.length == REPLY_STREAM_END, "and the end REPLY_STREAM_END");
	begin = reply_chunk_begin(fresh(sizeof(room)));
	while (out.length - begin < 8 + 0x2abc)
		text_literal(&out, "x");
	reply_chunk_end(&out, begin);
	ok(memcmp(room, "002abc\r\nx", 9) == 0, "all digits of a chunk's size");
}

/* --- results --- */

static const struct words alice = {"alice", 5};
static const struct words bob = {"bob", 3};

/* A request of KIND from alice to bob about 5, with the id "op-1" and the hold "h/1". */
static struct request request_of(enum request_kind kind)
{
	struct request request = {
	    .kind = kind,
	    .legs = 1,
	    .id = {"op-1", 4},
	    .leg = {{alice, 5}},
	};

	switch (kind) {
	case REQUEST_TRANSFER:
	case REQUEST_TRANSACTION:
		request.legs = 2;
		request.leg[0].amount = -5;
		request.leg[1] = (struct leg){bob, 5};
		break;
	case REQUEST_CAPTURE:
		request.hold = (struct words){"h/1", 3};
		request.leg[0] = (struct leg){bob, 0};
		break;
	case REQUEST_RELEASE:
		request.hold = (struct words){"h/1", 3};
		request.legs = 0;
		break;
	default:
		break;
	}
	return request;
}

static struct result result_of(enum outcome outcome)
{
	return (struct result){
	    .outcome = outcome,
	    .legs = 2,
	    .lsn = 4096,
	    .available = -7,
	    .required = 5,
	    .limit = 1000,
	    .attributes = {.floor = 0, .ceiling = CEILING_NONE, .frozen = FROZEN_DEBITS},
	    .hold_state = HOLD_OPEN,
	    .hold_amount = 5,
	    .hold_captured = 3,
	    .hold_settled_lsn = 4711,
	    .hold_expires_us = UINT64_C(784111777123456),
	    .account_length = 5,
	    .account = "alice",
	    .leg = {{.amount = -5, .balance = 95, .held = 2, .version = 8},
	            {.amount = 5, .balance = -105, .held = 0, .version = 3}},
	};
}

/* The answer to REQUEST with RESULT must be STATUS_LINE with FIELDS and BODY. */
static void answers(const struct request *request, const struct result *result,
                    const char *status_line, const char *fields, const char *body, const char *name)
{
	char expected[8192];

	snprintf(expected, sizeof(expected), "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n%s\r\n%s",
	         status_line, json_head, strlen(body), fields, body);
	reply_result(fresh(sizeof(room)), &frame, request, result, 7);
	is(string_of(&out), expected, "%s", name);
	reply_result_object(fresh(sizeof(room)), request, result);
	is(string_of(&out), body, "%s, the object alone", name);
}

static void test_accepted(void)
{
	struct request request = request_of(REQUEST_EVENT);
	struct result result = result_of(OUTCOME_ACCEPTED);

	answers(&request, &result, "200 OK", "",
	        "{\"status\":\"accepted\",\"account\":\"alice\",\"balance\":95,\"held\":2,"
	        "\"version\":8,\"lsn\":\"4096\"}",
	        "an event");
	result.leg[0].held = 0;
	result.replayed = true;
	answers(&request, &result, "200 OK", "Idempotent-Replayed: true\r\n",
	        "{\"status\":\"accepted\",\"account\":\"alice\",\"balance\":95,"
	        "\"version\":8,\"lsn\":\"4096\"}",
	        "one that was known, of an account without holds");
	result.created = true;
	answers(&request, &result, "200 OK", "Idempotent-Replayed: true\r\n",
	        "{\"status\":\"accepted\",\"account\":\"alice\",\"balance\":95,"
	        "\"version\":8,\"lsn\":\"4096\"}",
	        "one that made its account");

	request = request_of(REQUEST_TRANSFER);
	result = result_of(OUTCOME_ACCEPTED);
	answers(&request, &result, "200 OK", "",
	        "{\"status\":\"accepted\",\"from\":{\"account\":\"alice\",\"balance\":95,"
	        "\"version\":8},\"to\":{\"account\":\"bob\",\"balance\":-105,\"version\":3},"
	        "\"amount\":5,\"lsn\":\"4096\"}",
	        "a transfer");
	request = request_of(REQUEST_TRANSACTION);
	answers(&request, &result, "200 OK", "",
	        "{\"status\":\"accepted\",\"legs\":[{\"account\":\"alice\",\"amount\":-5,"
	        "\"balance\":95,\"version\":8},{\"account\":\"bob\",\"amount\":5,"
	        "\"balance\":-105,\"version\":3}],\"lsn\":\"4096\"}",
	        "a transaction");
}

static void test_accounts(void)
{
	struct request request = request_of(REQUEST_CREATE);
	struct result result = result_of(OUTCOME_ACCEPTED);

	result.created = true;
	request.leg[0].account = (struct words){"a/\xc3\xa9 ~-._Z9", 11};
	answers(&request, &result, "201 Created",
	        "ETag: \"8\"\r\nLocation: /accounts/a%2F%C3%A9%20~-._Z9\r\n",
	        "{\"status\":\"accepted\",\"account\":\"a/\xc3\xa9 ~-._Z9\",\"balance\":95,"
	        "\"held\":2,\"floor\":0,\"ceiling\":null,\"frozen\":\"debits\",\"version\":8,"
	        "\"lsn\":\"4096\"}",
	        "an account made, and where it is");
	result.replayed = true;
	reply_result(fresh(sizeof(room)), &frame, &request, &result, 0);
	ok(strncmp(string_of(&out), "HTTP/1.1 201 ", 13) == 0 &&
	       strstr(string_of(&out), "\r\nIdempotent-Replayed: true\r\n\r\n{") != NULL,
	   "said again: the same, and that it is");

	request = request_of(REQUEST_REPLACE);
	result = result_of(OUTCOME_ACCEPTED);
	result.attributes = (struct attributes){FLOOR_NONE, -3, FROZEN_ALL};
	answers(&request, &result, "200 OK", "ETag: \"8\"\r\n",
	        "{\"status\":\"accepted\",\"account\":\"alice\",\"balance\":95,\"held\":2,"
	        "\"floor\":null,\"ceiling\":-3,\"frozen\":\"all\",\"version\":8,"
	        "\"lsn\":\"4096\"}",
	        "an account replaced");
	result.created = true;
	result.attributes.frozen = FROZEN_NONE;
	answers(&request, &result, "201 Created", "ETag: \"8\"\r\n",
	        "{\"status\":\"accepted\",\"account\":\"alice\",\"balance\":95,\"held\":2,"
	        "\"floor\":null,\"ceiling\":-3,\"frozen\":\"none\",\"version\":8,"
	        "\"lsn\":\"4096\"}",
	        "an account made by its replacement");

	request = request_of(REQUEST_DELETE);
	result = result_of(OUTCOME_ACCEPTED);
	answers(&request, &result, "200 OK", "",
	        "{\"status\":\"accepted\",\"account\":\"alice\",\"deleted\":true,"
	        "\"lsn\":\"4096\"}",
	        "an account deleted");
}

static void test_holds(void)
{
	struct request request = request_of(REQUEST_HOLD);
	struct result result = result_of(OUTCOME_ACCEPTED);

	result.created = true;
	answers(&request, &result, "201 Created", "Location: /holds/op-1\r\n",
	        "{\"status\":\"accepted\",\"hold\":\"op-1\",\"state\":\"open\","
	        "\"account\":\"alice\",\"amount\":5,\"balance\":95,\"held\":2,"
	        "\"expires\":\"1994-11-06T08:49:37.123456Z\",\"version\":8,\"lsn\":\"4096\"}",
	        "a hold");
	request.id.length = 0;
	request.hold = (struct words){"a%b?", 4};
	answers(&request, &result, "201 Created", "Location: /holds/a%25b%3F\r\n",
	        "{\"status\":\"accepted\",\"hold\":\"a%b?\",\"state\":\"open\","
	        "\"account\":\"alice\",\"amount\":5,\"balance\":95,\"held\":2,"
	        "\"expires\":\"1994-11-06T08:49:37.123456Z\",\"version\":8,\"lsn\":\"4096\"}",
	        "a hold whose id was made for it");

	request = request_of(REQUEST_CAPTURE);
	result = result_of(OUTCOME_ACCEPTED);
	result.hold_state = HOLD_CAPTURED;
	answers(&request, &result, "200 OK", "",
	        "{\"status\":\"accepted\",\"hold\":\"h/1\",\"state\":\"captured\","
	        "\"account\":\"alice\",\"captured\":3,\"balance\":95,\"held\":2,\"version\":8,"
	        "\"to\":{\"account\":\"bob\",\"balance\":-105,\"version\":3},\"lsn\":\"4096\"}",
	        "a capture for somebody");
	request.legs = 0;
	answers(&request, &result, "200 OK", "",
	        "{\"status\":\"accepted\",\"hold\":\"h/1\",\"state\":\"captured\","
	        "\"account\":\"alice\",\"captured\":3,\"balance\":95,\"held\":2,\"version\":8,"
	        "\"lsn\":\"4096\"}",
	        "a capture");
	request = request_of(REQUEST_RELEASE);
	result.hold_state = HOLD_RELEASED;
	answers(&request, &result, "200 OK", "",
	        "{\"status\":\"accepted\",\"hold\":\"h/1\",\"state\":\"released\","
	        "\"account\":\"alice\",\"balance\":95,\"held\":2,\"version\":8,"
	        "\"lsn\":\"4096\"}",
	        "a release");
}

/* A refusal's body: REASON's own sentence, then MEMBERS. */
static void refuses(struct request request, enum outcome outcome, uint8_t leg,
                    const char *status_line, const char *members, const char *name)
{
	const struct reason *reason = reason_of(outcome);
	struct result result = result_of(outcome);
	bool rejected = reason->status == 503 || reason->status == 507;
	char body[1024];

	result.refused = leg;
	result.hold_state = HOLD_CAPTURED;
	snprintf(body, sizeof(body), "{\"status\":\"%s\",\"reason\":\"%s\",\"detail\":\"%s\"%s}",
	         rejected ? "rejected" : "error", reason->word, reason->detail, members);
	answers(&request, &result, status_line, reason->status == 503 ? "Retry-After: 7\r\n" : "",
	        body, name);
}

static void test_refused(void)
{
	struct request event = request_of(REQUEST_EVENT);
	struct request transfer = request_of(REQUEST_TRANSFER);
	struct request capture = request_of(REQUEST_CAPTURE);
	struct request release = request_of(REQUEST_RELEASE);

	refuses(event, OUTCOME_INSUFFICIENT_FUNDS, 0, "402 Payment Required",
	        ",\"account\":\"alice\",\"balance\":95,\"held\":2,\"available\":-7,\"required\":5",
	        "an event that is not covered");
	refuses(transfer, OUTCOME_INSUFFICIENT_FUNDS, 0, "402 Payment Required",
	        ",\"leg\":0,\"account\":\"alice\",\"balance\":95,\"held\":2,\"available\":-7,"
	        "\"required\":5",
	        "a transfer that is not covered");
	refuses(request_of(REQUEST_TRANSACTION), OUTCOME_INSUFFICIENT_FUNDS, 1,
	        "402 Payment Required",
	        ",\"leg\":1,\"account\":\"bob\",\"balance\":-105,\"held\":0,\"available\":-7,"
	        "\"required\":5",
	        "the leg of a transaction");
	refuses(capture, OUTCOME_INSUFFICIENT_FUNDS, 0, "402 Payment Required",
	        ",\"account\":\"alice\",\"balance\":95,\"held\":2,\"available\":-7,\"required\":5",
	        "a capture of more than there is");
	refuses(event, OUTCOME_CEILING_EXCEEDED, 0, "422 Unprocessable Content",
	        ",\"account\":\"alice\",\"balance\":95,\"ceiling\":1000", "an event over the top");
	refuses(capture, OUTCOME_CEILING_EXCEEDED, 1, "422 Unprocessable Content",
	        ",\"account\":\"bob\",\"balance\":-105,\"ceiling\":1000",
	        "a capture over the top of who gets it");
	refuses(event, OUTCOME_VERSION_MISMATCH, 0, "412 Precondition Failed", ",\"version\":8",
	        "another version");
	refuses(release, OUTCOME_HOLD_SETTLED, 0, "409 Conflict",
	        ",\"hold\":\"h/1\",\"state\":\"captured\",\"captured\":3,"
	        "\"settled_lsn\":\"4711\"",
	        "a hold settled before");
	refuses(event, OUTCOME_OVERFLOW, 0, "422 Unprocessable Content", "", "an overflow");
	refuses(transfer, OUTCOME_OVERFLOW, 1, "422 Unprocessable Content",
	        ",\"leg\":1,\"account\":\"bob\"", "in a transfer");
	refuses(event, OUTCOME_UNKNOWN_ACCOUNT, 0, "404 Not Found", "", "an unknown account");
	refuses(transfer, OUTCOME_UNKNOWN_ACCOUNT, 0, "404 Not Found",
	        ",\"leg\":0,\"account\":\"alice\"", "in a transfer");
	refuses(event, OUTCOME_ACCOUNT_FROZEN, 0, "423 Locked", "", "a frozen account");
	refuses(capture, OUTCOME_ACCOUNT_FROZEN, 1, "423 Locked", ",\"account\":\"bob\"",
	        "of who gets a capture");
	refuses(request_of(REQUEST_CREATE), OUTCOME_ACCOUNT_EXISTS, 0, "409 Conflict", "",
	        "an account that exists");
	refuses(request_of(REQUEST_DELETE), OUTCOME_ACCOUNT_IN_USE, 0, "409 Conflict", "",
	        "an account in use");
	refuses(request_of(REQUEST_TRANSACTION), OUTCOME_UNBALANCED, 0, "422 Unprocessable Content",
	        "", "unbalanced legs");
	refuses(release, OUTCOME_UNKNOWN_HOLD, 0, "404 Not Found", "", "an unknown hold");
	refuses(capture, OUTCOME_SAME_ACCOUNT, 0, "422 Unprocessable Content", "",
	        "a capture for the same account");
	refuses(event, OUTCOME_QUEUE_FULL, 0, "503 Service Unavailable", "", "a full queue");
	refuses(event, OUTCOME_JOURNAL_FAILED, 0, "503 Service Unavailable", "",
	        "a failed journal");
	refuses(event, OUTCOME_DISK_FULL, 0, "507 Insufficient Storage", "", "a full disk");
	refuses(event, OUTCOME_TABLE_FULL, 0, "507 Insufficient Storage", "", "a full table");
	refuses(event, OUTCOME_HOLDS_FULL, 0, "507 Insufficient Storage", "", "full holds");
	refuses(event, OUTCOME_ID_REUSED, 0, "422 Unprocessable Content", "", "an id reused");
	refuses(event, OUTCOME_FORGOTTEN, 0, "409 Conflict", "", "an id forgotten");
	refuses(event, OUTCOME_READ_FAILED, 0, "500 Internal Server Error", "", "a failed read");
}

/* What is nowhere else: no legs, a replay, a problem. */
static void test_refused_otherwise(void)
{
	const struct reply_frame asked = {.date = DATE, .problem = true};
	struct request request = request_of(REQUEST_TRANSFER);
	struct result result = result_of(OUTCOME_INSUFFICIENT_FUNDS);

	result.replayed = true;
	reply_result(fresh(sizeof(room)), &asked, &request, &result, 9);
	is(string_of(&out),
	   "HTTP/1.1 402 Payment Required\r\nServer: tallyd\r\nDate: " DATE
	   "\r\nContent-Type: application/problem+json\r\nContent-Length: 233\r\n"
	   "Idempotent-Replayed: true\r\n\r\n"
	   "{\"type\":\"about:blank\",\"title\":\"Payment Required\",\"status\":402,"
	   "\"detail\":\"What is available in the account does not cover this.\","
	   "\"reason\":\"insufficient_funds\",\"leg\":0,\"account\":\"alice\",\"balance\":95,"
	   "\"held\":2,\"available\":-7,\"required\":5}",
	   "a refusal said again, as a problem");
	result = result_of(OUTCOME_QUEUE_FULL);
	reply_result(fresh(sizeof(room)), &frame, &request, &result, 0);
	ok(strstr(string_of(&out), "Retry-After") == NULL, "no Retry-After of 0 seconds");
	request = request_of(REQUEST_EVENT);
	result = result_of(OUTCOME_VERSION_MISMATCH);
	result.legs = 0;
	reply_result_object(fresh(sizeof(room)), &request, &result);
	ok(strstr(string_of(&out), ",\"version\":0}") != NULL, "no version of no account");
}

static void test_head(void)
{
	const struct reply_frame head = {.date = DATE, .head = true};
	struct request request = request_of(REQUEST_EVENT);
	struct result result = result_of(OUTCOME_ACCEPTED);

	reply_result(fresh(sizeof(room)), &head, &request, &result, 0);
	is_answer(&out, "200 OK", "Content-Length: 86\r\n\r\n", "no body to a HEAD");
}

/* --- views --- */

static const struct account_view view = {
    .balance = -5,
    .held = 2,
    .attributes = {.floor = -100, .ceiling = 1000, .frozen = FROZEN_NONE},
    .version = 8,
    .lsn = 1,
    .created_us = 784111777123456,
    .updated_us = 784111778000000};

static void test_account_view(void)
{
	struct account_view other = view;

	reply_account(fresh(REPLY_SHAPE_MAX), &frame, "alice", 5, &view);
	is_answer(&out, "200 OK",
	          "Content-Length: 192\r\nETag: \"8\"\r\n\r\n{\"account\":\"alice\",\"balance\":-5,"
	          "\"held\":2,\"available\":93,\"floor\":-100,\"ceiling\":1000,"
	          "\"frozen\":\"none\",\"version\":8,\"created\":\"1994-11-06T08:49:37.123456Z\","
	          "\"updated\":\"1994-11-06T08:49:38.000000Z\"}",
	          "an account");
	other.attributes =
	    (struct attributes){.floor = FLOOR_NONE, .ceiling = CEILING_NONE, .frozen = FROZEN_ALL};
	reply_account_object(fresh(REPLY_ACCOUNT_MAX), "alice", 5, &other);
	is(string_of(&out),
	   "{\"account\":\"alice\",\"balance\":-5,\"held\":2,\"available\":null,\"floor\":null,"
	   "\"ceiling\":null,\"frozen\":\"all\",\"version\":8,"
	   "\"created\":\"1994-11-06T08:49:37.123456Z\","
	   "\"updated\":\"1994-11-06T08:49:38.000000Z\"}",
	   "an account without limits");
	other.balance = INT64_MAX;
	other.attributes.floor = -1;
	reply_account_object(fresh(REPLY_ACCOUNT_MAX), "alice", 5, &other);
	ok(strstr(string_of(&out), "\"available\":9223372036854775806,") != NULL,
	   "what is available, to the last");
	other.held = 0;
	reply_account_object(fresh(REPLY_ACCOUNT_MAX), "alice", 5, &other);
	ok(strstr(string_of(&out), "\"available\":9223372036854775807,") != NULL,
	   "and never more than int64 holds");
	other.balance = INT64_MIN;
	other.attributes.floor = INT64_MAX;
	reply_account_object(fresh(REPLY_ACCOUNT_MAX), "alice", 5, &other);
	ok(strstr(string_of(&out), "\"available\":-9223372036854775808,") != NULL, "nor less");
}

static void test_hold_view(void)
{
	struct hold_view hold = {.state = HOLD_OPEN,
	                         .amount = 50,
	                         .captured = 9,
	                         .expires_us = 784111779000000,
	                         .placed_us = 784111777123456,
	                         .lsn = 4096,
	                         .id_length = 2,
	                         .account_length = 5,
	                         .id = "h1",
	                         .account = "alice"};

	reply_hold(fresh(REPLY_SHAPE_MAX), &frame, &hold);
	is_answer(&out, "200 OK",
	          "Content-Length: 178\r\n\r\n{\"hold\":\"h1\",\"state\":\"open\","
	          "\"account\":\"alice\",\"amount\":50,\"captured\":0,"
	          "\"expires\":\"1994-11-06T08:49:39.000000Z\","
	          "\"placed\":\"1994-11-06T08:49:37.123456Z\",\"settled\":null,\"lsn\":\"4096\"}",
	          "an open hold");
	hold.state = HOLD_CAPTURED;
	hold.settled_us = 784111778000000;
	reply_hold_object(fresh(REPLY_HOLD_MAX), &hold);
	is(string_of(&out),
	   "{\"hold\":\"h1\",\"state\":\"captured\",\"account\":\"alice\",\"amount\":50,"
	   "\"captured\":9,\"expires\":\"1994-11-06T08:49:39.000000Z\","
	   "\"placed\":\"1994-11-06T08:49:37.123456Z\","
	   "\"settled\":\"1994-11-06T08:49:38.000000Z\",\"lsn\":\"4096\"}",
	   "a captured one");
	for (enum hold_state state = HOLD_RELEASED; state <= HOLD_EXPIRED; state++) {
		hold.state = state;
		reply_hold_object(fresh(REPLY_HOLD_MAX), &hold);
		ok(strstr(string_of(&out), state == HOLD_RELEASED
		                               ? "\"state\":\"released\",\"account\":\"alice\","
		                                 "\"amount\":50,\"captured\":0,"
		                               : "\"state\":\"expired\",\"account\":\"alice\","
		                                 "\"amount\":50,\"captured\":0,") != NULL,
		   "state %d", (int)state);
	}
}

static void test_entry(void)
{
	static const char *const types[] = {"event",  "transfer", "transaction",
	                                    "create", "replace",  "delete",
	                                    "hold",   "capture",  "release"};
	struct entry entry = {.lsn = 64,
	                      .time_us = 784111777123456,
	                      .kind = REQUEST_EVENT,
	                      .amount = -5,
	                      .balance = 95,
	                      .held = 0,
	                      .version = 8};

	reply_entry_object(fresh(REPLY_ENTRY_MAX), &entry);
	is(string_of(&out),
	   "{\"lsn\":\"64\",\"time\":\"1994-11-06T08:49:37.123456Z\",\"type\":\"event\","
	   "\"amount\":-5,\"balance\":95,\"held\":0,\"version\":8}",
	   "a line of a statement");
	entry.id = (struct words){"op-1", 4};
	entry.note = (struct words){"say \"hi\"", 8};
	entry.counterparty = bob;
	entry.hold = (struct words){"h1", 2};
	reply_entry_object(fresh(REPLY_ENTRY_MAX), &entry);
	is(string_of(&out),
	   "{\"lsn\":\"64\",\"time\":\"1994-11-06T08:49:37.123456Z\",\"type\":\"event\","
	   "\"amount\":-5,\"balance\":95,\"held\":0,\"version\":8,\"id\":\"op-1\","
	   "\"note\":\"say \\\"hi\\\"\",\"counterparty\":\"bob\",\"hold\":\"h1\"}",
	   "with everything");
	for (enum request_kind kind = REQUEST_EVENT; kind <= REQUEST_RELEASE; kind++) {
		char wanted[64];

		snprintf(wanted, sizeof(wanted), "\"type\":\"%s\",", types[kind]);
		entry.kind = kind;
		reply_entry_object(fresh(REPLY_ENTRY_MAX), &entry);
		ok(strstr(string_of(&out), wanted) != NULL, "a %s", types[kind]);
	}
	entry.expired = true;
	reply_entry_object(fresh(REPLY_ENTRY_MAX), &entry);
	ok(strstr(string_of(&out), "\"type\":\"expire\",") != NULL, "an expiry");
}

static void test_change(void)
{
	struct change change = {.lsn = 64,
	                        .time_us = 784111777123456,
	                        .kind = REQUEST_TRANSFER,
	                        .legs = 2,
	                        .leg = {{{"alice", 5}, -5, 95, 1, 8}, {{"b\"", 2}, 5, 6, 0, 2}}};

	reply_change_object(fresh(REPLY_CHANGE_MAX), &change);
	is(string_of(&out),
	   "{\"lsn\":\"64\",\"time\":\"1994-11-06T08:49:37.123456Z\",\"type\":\"transfer\","
	   "\"legs\":[{\"account\":\"alice\",\"amount\":-5,\"balance\":95,\"held\":1,\"version\":8}"
	   ","
	   "{\"account\":\"b\\\"\",\"amount\":5,\"balance\":6,\"held\":0,\"version\":2}]}",
	   "an event of a feed");
	change.kind = REQUEST_HOLD;
	change.legs = 1;
	change.id = change.hold = (struct words){"h1", 2};
	change.note = (struct words){"hi", 2};
	change.reserved = 7;
	change.expires_us = 784111777123457;
	reply_change_object(fresh(REPLY_CHANGE_MAX), &change);
	is(string_of(&out),
	   "{\"lsn\":\"64\",\"time\":\"1994-11-06T08:49:37.123456Z\",\"type\":\"hold\","
	   "\"id\":\"h1\",\"note\":\"hi\",\"hold\":\"h1\",\"reserved\":7,"
	   "\"expires\":\"1994-11-06T08:49:37.123457Z\","
	   "\"legs\":[{\"account\":\"alice\",\"amount\":-5,\"balance\":95,\"held\":1,\"version\":8}"
	   "]}",
	   "of a hold");
	change.kind = REQUEST_RELEASE;
	change.expired = true;
	reply_change_object(fresh(REPLY_CHANGE_MAX), &change);
	ok(strstr(string_of(&out), "\"type\":\"expire\",") &&
	       strstr(string_of(&out), "\"reserved\":7,\"legs\""),
	   "of an expiry");
	change.kind = REQUEST_REPLACE;
	change.hold.length = 0;
	change.attributes = (struct attributes){-1, CEILING_NONE, FROZEN_ALL};
	reply_change_object(fresh(REPLY_CHANGE_MAX), &change);
	ok(strstr(string_of(&out), ",\"floor\":-1,\"ceiling\":null,\"frozen\":\"all\",\"legs\""),
	   "of a replace");
	reply_pruned_object(fresh(REPLY_SHAPE_MAX), 4096);
	is(string_of(&out),
	   "{\"status\":\"error\",\"reason\":\"pruned\","
	   "\"detail\":\"The journal is no longer kept that far back.\",\"first\":\"4096\"}",
	   "its end");
}

/* --- the ends of the room --- */

/* Content-Length of the answer in TEXT against its body, which must be JSON. */
static bool is_framed(const struct text *text)
{
	const char *answer = string_of(text);
	const char *length = strstr(answer, "Content-Length: ");
	const char *body = strstr(answer, "\r\n\r\n");
	struct json_error error;

	return !text->full && length != NULL && body != NULL && length < body &&
	       strtoul(length + 16, NULL, 10) == strlen(body + 4) &&
	       json_check(body + 4, strlen(body + 4), &error);
}

static size_t count_of(const struct text *text, char byte)
{
	size_t count = 0;

	for (size_t i = 0; i < text->length; i++)
		count += text->bytes[i] == byte;
	return count;
}

static char quotes[512];

static const struct reply_frame longest = {
    .date = DATE, .connection = REPLY_KEEP_ALIVE, .problem = true, .origin = ""};

/* The longest of each part, all together, though no operation has them all. */
static void test_longest_change(void)
{
	struct change change = {.lsn = UINT64_MAX,
	                        .time_us = UINT64_MAX,
	                        .kind = REQUEST_HOLD,
	                        .id = {quotes, ID_MAX},
	                        .note = {quotes, NOTE_MAX},
	                        .hold = {quotes, ID_MAX},
	                        .reserved = INT64_MIN,
	                        .expires_us = UINT64_MAX,
	                        .legs = LEGS_MAX};

	for (int i = 0; i < LEGS_MAX; i++)
		change.leg[i] = (struct change_leg){
		    {quotes, ACCOUNT_NAME_MAX}, INT64_MIN, INT64_MIN, INT64_MIN, UINT64_MAX};
	reply_change_object(fresh(REPLY_CHANGE_MAX), &change);
	ok(!out.full, "the longest event of a feed: %zu bytes", out.length);
	reply_pruned(fresh(REPLY_SHAPE_MAX), &longest, UINT64_MAX);
	ok(is_framed(&out), "the longest way to say that there is none");
}

/* The longest of everything must fit what callers reserve. */
static void test_longest(void)
{
	struct account_view account = {
	    .balance = INT64_MIN,
	    .held = INT64_MIN,
	    .attributes = {.floor = INT64_MIN + 1, .ceiling = INT64_MIN, .frozen = FROZEN_DEBITS},
	    .version = UINT64_MAX,
	    .created_us = UINT64_MAX,
	    .updated_us = UINT64_MAX};
	struct hold_view hold = {.state = HOLD_CAPTURED,
	                         .amount = INT64_MIN,
	                         .captured = INT64_MIN,
	                         .expires_us = UINT64_MAX,
	                         .placed_us = UINT64_MAX,
	                         .settled_us = UINT64_MAX,
	                         .lsn = UINT64_MAX,
	                         .id_length = ID_MAX,
	                         .account_length = ACCOUNT_NAME_MAX};
	struct entry entry = {.lsn = UINT64_MAX,
	                      .time_us = UINT64_MAX,
	                      .kind = REQUEST_TRANSACTION,
	                      .amount = INT64_MIN,
	                      .balance = INT64_MIN,
	                      .held = INT64_MIN,
	                      .version = UINT64_MAX,
	                      .id = {quotes, ID_MAX},
	                      .note = {quotes, NOTE_MAX},
	                      .counterparty = {quotes, ACCOUNT_NAME_MAX},
	                      .hold = {quotes, ID_MAX}};

	memset(quotes, '"', sizeof(quotes) - 1);
	memset(hold.id, '"', sizeof(hold.id));
	memset(hold.account, '"', sizeof(hold.account));
	reply_account(fresh(REPLY_SHAPE_MAX), &longest, quotes, ACCOUNT_NAME_MAX, &account);
	ok(is_framed(&out), "the longest account");
	reply_account_object(fresh(REPLY_ACCOUNT_MAX), quotes, ACCOUNT_NAME_MAX, &account);
	ok(!out.full, "its object: %zu bytes", out.length);
	reply_hold(fresh(REPLY_SHAPE_MAX), &longest, &hold);
	ok(is_framed(&out), "the longest hold");
	reply_hold_object(fresh(REPLY_HOLD_MAX), &hold);
	ok(!out.full, "its object: %zu bytes", out.length);
	reply_entry_object(fresh(REPLY_ENTRY_MAX), &entry);
	ok(!out.full, "the longest line of a statement: %zu bytes", out.length);
	test_longest_change();
	reply_rejected(fresh(REPLY_SHAPE_MAX), &longest, 431, quotes, quotes, UINT32_MAX);
	ok(is_framed(&out), "the longest rejection, reason and detail cut");
	reply_error(fresh(REPLY_SHAPE_MAX), &longest, 431, quotes, quotes, NULL);
	ok(is_framed(&out), "the longest error");
	cmp_ok((intmax_t)count_of(&out, '\\'), "==", REPLY_REASON_MAX + REPLY_DETAIL_MAX,
	       "reason and detail as long as they may be");
}

/* The request and the result whose answer is the longest of its KIND. */
static void grow(struct request *request, struct result *result, enum request_kind kind,
                 enum outcome outcome)
{
	struct words account = {quotes, ACCOUNT_NAME_MAX};
	struct words id = {quotes, ID_MAX};

	memset(request, 0, sizeof(*request));
	memset(result, 0, sizeof(*result));
	request->kind = kind;
	request->hold = id;
	request->legs = kind == REQUEST_TRANSACTION ? LEGS_MAX : 2;
	for (size_t i = 0; i < LEGS_MAX; i++) {
		request->leg[i] = (struct leg){account, INT64_MIN};
		result->leg[i] = (struct leg_result){INT64_MIN, INT64_MIN, INT64_MIN, UINT64_MAX};
	}
	result->outcome = outcome;
	result->replayed = result->created = true;
	result->legs = LEGS_MAX;
	result->refused = LEGS_MAX - 1;
	result->lsn = UINT64_MAX;
	result->available = result->required = result->limit = INT64_MIN;
	result->attributes = (struct attributes){INT64_MIN + 1, INT64_MIN, FROZEN_DEBITS};
	result->hold_state = HOLD_CAPTURED;
	result->hold_amount = result->hold_captured = INT64_MIN;
	result->hold_expires_us = UINT64_MAX;
	result->account_length = ACCOUNT_NAME_MAX;
	memset(result->account, '"', ACCOUNT_NAME_MAX);
}

static void test_longest_results(void)
{
	size_t most = 0;
	size_t most_of_events = 0;

	for (enum request_kind kind = REQUEST_EVENT; kind <= REQUEST_RELEASE; kind++) {
		for (int outcome = OUTCOME_ACCEPTED; outcome <= OUTCOME_READ_FAILED; outcome++) {
			struct request request;
			struct result result;

			if (outcome != OUTCOME_ACCEPTED && reason_of((enum outcome)outcome) == NULL)
				continue;
			grow(&request, &result, kind, (enum outcome)outcome);
			reply_result(
			    fresh(kind == REQUEST_EVENT ? REPLY_EVENT_MAX : REPLY_RESULT_MAX),
			    &longest, &request, &result, UINT32_MAX);
			if (!is_framed(&out))
				fail("kind %d, outcome %d does not fit", (int)kind, outcome);
			if (out.length > most)
				most = out.length;
			if (kind == REQUEST_EVENT && out.length > most_of_events)
				most_of_events = out.length;
		}
	}
	cmp_ok((intmax_t)most_of_events, "<=", REPLY_EVENT_MAX, "the longest answer to an event");
	cmp_ok((intmax_t)most, "<=", REPLY_RESULT_MAX, "the longest of all");
	diag("%zu bytes to an event, %zu to anything", most_of_events, most);
}

/* With every capacity too small an answer says so, and never writes past it. */
static void test_cut_anywhere(void)
{
	static char whole[REPLY_RESULT_MAX];
	struct request request = request_of(REQUEST_TRANSACTION);
	struct result result = result_of(OUTCOME_ACCEPTED);
	size_t length;
	size_t capacity;

	reply_result(fresh(sizeof(room)), &frame, &request, &result, 0);
	length = out.length;
	memcpy(whole, room, length);
	for (capacity = 0; capacity < length; capacity++) {
		reply_result(fresh(capacity), &frame, &request, &result, 0);
		if (!out.full || out.length != capacity || room[capacity] != '#' ||
		    memcmp(room, whole, capacity) != 0)
			break;
	}
	ok(capacity == length, "cut at every byte: a prefix, and full");
}

/* --- the table of reasons --- */

static bool is_word(const char *word)
{
	size_t length = strlen(word);

	return length > 0 && length < REPLY_REASON_MAX &&
	       strspn(word, "abcdefghijklmnopqrstuvwxyz_") == length;
}

static void test_reasons(void)
{
	const struct reason *reason;
	size_t count = 0;

	for (; (reason = reason_at(count)) != NULL; count++) {
		struct reply reply = {.status = reason->status};
		size_t detail = reason->detail == NULL ? 0 : strlen(reason->detail);
		bool good = is_word(reason->word) && detail <= REASON_DETAIL_MAX;

		for (size_t i = 0; i < detail; i++)
			good = good && reason->detail[i] >= ' ' && reason->detail[i] <= '~' &&
			       reason->detail[i] != '"' && reason->detail[i] != '\\';
		/* A status that no answer knows would become 500. */
		good = good &&
		       (unsigned)strtoul(written(&frame, &reply) + 9, NULL, 10) == reason->status;
		if (strcmp(reason->word, "bad_version") != 0)
			good = good && reason_find(reason->word) == reason;
		if (!good)
			fail("the entry %s", reason->word);
	}
	cmp_ok((intmax_t)count, ">=", 80, "reasons, each once, with statuses that are known");
	ok(reason_find("") == NULL && reason_find("bad") == NULL, "no others");
	ok(reason_of(OUTCOME_ACCEPTED) == NULL && reason_of(OUTCOME_POISONED) == NULL &&
	       reason_of((enum outcome)1000) == NULL,
	   "no reason for what is no refusal");
	for (int outcome = OUTCOME_OVERFLOW; outcome <= OUTCOME_SAME_ACCOUNT; outcome++) {
		reason = reason_of((enum outcome)outcome);
		if (reason == NULL || reason->detail == NULL || reason->status < 402 ||
		    reason->status > 423)
			fail("the outcome %d", outcome);
	}
}

int main(void)
{
	plan(NO_PLAN);
	test_dates();
	test_status_lines();
	test_fields();
	test_shapes();
	test_sharing();
	test_problems();
	test_stream();
	test_accepted();
	test_accounts();
	test_holds();
	test_refused();
	test_refused_otherwise();
	test_head();
	test_account_view();
	test_hold_view();
	test_entry();
	test_change();
	test_longest();
	test_longest_results();
	test_cut_anywhere();
	test_reasons();
	return done_testing();
}
