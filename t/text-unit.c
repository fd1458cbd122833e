/*
 * Texts and answers: what is written, to the byte, and what happens at the end of the room.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../src/wire/json.h"
#include "../src/wire/reply.h"
#include "../src/wire/text.h"
#include "tap/tap.h"

#define DATE "Sun, 06 Nov 1994 08:49:37 GMT"

static const struct reply_frame frame = {.date = DATE};

/* TEXT as a string, for is(). */
static const char *string_of(const struct text *text)
{
	static char string[8192];

	memcpy(string, text->bytes, text->length);
	string[text->length] = '\0';
	return string;
}

static void test_room(void)
{
	char bytes[8] = "########";
	struct text text;

	text_init(&text, bytes, 6);
	text_literal(&text, "abc");
	text_string(&text, "def");
	ok(text.length == 6 && !text.full, "a text filled to its last byte is not full");
	text_bytes(&text, "", 0);
	ok(!text.full, "nothing fits at its end");
	text_literal(&text, "g");
	ok(text.full && text.length == 6, "one byte more does not");
	ok(memcmp(bytes, "abcdef##", 8) == 0, "and is not written");

	text_init(&text, bytes, 6);
	text_literal(&text, "abcd");
	text_literal(&text, "123");
	text_literal(&text, "z");
	ok(text.full && memcmp(bytes, "abcd12##", 8) == 0,
	   "what does not fit is cut, and nothing follows it");

	text_init(&text, bytes, 0);
	text_literal(&text, "a");
	ok(text.full && text.length == 0, "a text without room");
}

static void is_unsigned(uint64_t value)
{
	char expected[32];
	char bytes[TEXT_DECIMAL_MAX];
	struct text text;

	snprintf(expected, sizeof(expected), "%llu", (unsigned long long)value);
	text_init(&text, bytes, sizeof(bytes));
	text_unsigned(&text, value);
	if (text.full || strcmp(string_of(&text), expected) != 0)
		fail("%s written as %s", expected, string_of(&text));
}

static void is_signed(int64_t value)
{
	char expected[32];
	char bytes[TEXT_DECIMAL_MAX];
	struct text text;

	snprintf(expected, sizeof(expected), "%lld", (long long)value);
	text_init(&text, bytes, sizeof(bytes));
	text_signed(&text, value);
	if (text.full || strcmp(string_of(&text), expected) != 0)
		fail("%s written as %s", expected, string_of(&text));
}

static void test_numbers(void)
{
	uint64_t power = 1;
	char bytes[64];
	struct text text;

	for (int digits = 0; digits < 20; digits++, power *= 10) {
		for (uint64_t value = power - 2; value != power + 3; value++) {
			is_unsigned(value);
			is_signed((int64_t)value);
			is_signed((int64_t)(0 - value));
		}
	}
	for (uint64_t value = 0; value < 2000; value++)
		is_unsigned(value);
	pass("numbers around the powers of ten");
	text_init(&text, bytes, sizeof(bytes));
	text_signed(&text, INT64_MIN);
	text_literal(&text, " ");
	text_signed(&text, INT64_MAX);
	text_literal(&text, " ");
	text_unsigned(&text, UINT64_MAX);
	is(string_of(&text), "-9223372036854775808 9223372036854775807 18446744073709551615",
	   "the ends of int64 and uint64");
}

static const char *json_of(const char *value, size_t length)
{
	static char bytes[2048];
	struct text text;

	text_init(&text, bytes, sizeof(bytes));
	text_json_string(&text, value, length);
	return string_of(&text);
}

static void test_json_string(void)
{
	char all[0x80];
	char bytes[8 * sizeof(all)];
	struct json_error error;
	struct text text;

	is(json_of("", 0), "\"\"", "an empty string");
	is(json_of("alice", 5), "\"alice\"", "a plain one");
	is(json_of("\"", 1), "\"\\\"\"", "a quote alone");
	is(json_of("a\"b\\c/d", 7), "\"a\\\"b\\\\c/d\"", "a quote and a backslash, no slash");
	is(json_of("\b\t\n\f\r", 5), "\"\\b\\t\\n\\f\\r\"", "the short escapes");
	is(json_of("\0\x01\x0b\x1f\x7f", 5), "\"\\u0000\\u0001\\u000b\\u001f\x7f\"",
	   "the long ones, and DEL as it is");
	is(json_of("\xc3\xa9\xf0\x9f\x98\x80", 6), "\"\xc3\xa9\xf0\x9f\x98\x80\"",
	   "UTF-8 as it is");
	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (char)i;
	text_init(&text, bytes, sizeof(bytes));
	text_json_string(&text, all, sizeof(all));
	ok(!text.full && json_check(bytes, text.length, &error), "all of ASCII is valid JSON then");
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

static void test_shapes(void)
{
	const struct event event = {.account = "alice", .account_length = 5, .amount = -5};
	const struct result result = {.balance = 95, .version = 8, .lsn = 123};
	const struct account_view view = {.balance = -5,
	                                  .held = 2,
	                                  .version = 8,
	                                  .lsn = 1,
	                                  .created_us = 784111777123456,
	                                  .updated_us = 784111778000000};
	const struct reply_field allow[] = {{"Allow", "POST"}, {NULL, NULL}};
	char bytes[REPLY_SHAPE_MAX];
	struct text text;

	text_init(&text, bytes, sizeof(bytes));
	reply_accepted(&text, &frame, &event, &result);
	is_answer(&text, "200 OK",
	          "Content-Length: 76\r\n\r\n{\"status\":\"accepted\",\"account\":\"alice\","
	          "\"balance\":95,\"version\":8,\"lsn\":\"123\"}",
	          "accepted");
	text_init(&text, bytes, sizeof(bytes));
	reply_error(&text, &frame, 405, "method_not_allowed", "say \"POST\"\n\x7f\xff", allow);
	is_answer(&text, "405 Method Not Allowed",
	          "Content-Length: 75\r\nAllow: POST\r\n\r\n{\"status\":\"error\","
	          "\"reason\":\"method_not_allowed\",\"detail\":\"say \\\"POST\\\"\?\?\?\"}",
	          "an error with a field");
	text_init(&text, bytes, sizeof(bytes));
	reply_rejected(&text, &frame, 503, "queue_full", "wait", 60);
	is_answer(&text, "503 Service Unavailable",
	          "Content-Length: 59\r\nRetry-After: 60\r\n\r\n{\"status\":\"rejected\","
	          "\"reason\":\"queue_full\",\"detail\":\"wait\"}",
	          "rejected for a while");
	text_init(&text, bytes, sizeof(bytes));
	reply_rejected(&text, &frame, 507, "disk_full", "wait", 0);
	is_answer(&text, "507 Insufficient Storage",
	          "Content-Length: 58\r\n\r\n{\"status\":\"rejected\","
	          "\"reason\":\"disk_full\",\"detail\":\"wait\"}",
	          "rejected without a time");
	text_init(&text, bytes, sizeof(bytes));
	reply_account(&text, &frame, "alice", 5, &view);
	is_answer(&text, "200 OK",
	          "Content-Length: 133\r\nETag: \"8\"\r\n\r\n{\"account\":\"alice\",\"balance\":-5,"
	          "\"held\":2,\"version\":8,\"created\":\"1994-11-06T08:49:37.123456Z\","
	          "\"updated\":\"1994-11-06T08:49:38.000000Z\"}",
	          "an account");
	text_init(&text, bytes, sizeof(bytes));
	reply_not_modified(&text, &frame, UINT64_MAX);
	is(string_of(&text),
	   "HTTP/1.1 304 Not Modified\r\nServer: tallyd\r\nDate: " DATE
	   "\r\nETag: \"18446744073709551615\"\r\n\r\n",
	   "an account that is as it was");
}

/* Content-Length of the answer in TEXT against its body, which must be JSON. */
static bool is_framed(const struct text *text)
{
	const char *answer = string_of(text);
	const char *length = strstr(answer, "Content-Length: ");
	const char *body = strstr(answer, "\r\n\r\n");
	struct json_error error;

	return length != NULL && body != NULL && length < body &&
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

/* The longest of everything must fit what callers reserve. */
static void test_longest(void)
{
	static char quotes[REPLY_DETAIL_MAX + 2];
	const struct reply_frame longest = {.date = DATE, .connection = REPLY_KEEP_ALIVE};
	const struct event event = {.account = quotes, .account_length = ACCOUNT_NAME_MAX};
	const struct result result = {
	    .balance = INT64_MIN, .version = UINT64_MAX, .lsn = UINT64_MAX};
	const struct account_view view = {.balance = INT64_MIN,
	                                  .held = INT64_MIN,
	                                  .version = UINT64_MAX,
	                                  .created_us = UINT64_MAX,
	                                  .updated_us = UINT64_MAX};
	char bytes[REPLY_SHAPE_MAX];
	struct text text;

	memset(quotes, '"', sizeof(quotes) - 1);
	text_init(&text, bytes, sizeof(bytes));
	reply_accepted(&text, &longest, &event, &result);
	ok(!text.full && is_framed(&text), "the longest accepted");
	text_init(&text, bytes, sizeof(bytes));
	reply_account(&text, &longest, quotes, ACCOUNT_NAME_MAX, &view);
	ok(!text.full && is_framed(&text), "the longest account");
	text_init(&text, bytes, sizeof(bytes));
	reply_rejected(&text, &longest, 431, quotes, quotes, UINT32_MAX);
	ok(!text.full && is_framed(&text), "the longest rejection, reason and detail cut");
	text_init(&text, bytes, sizeof(bytes));
	reply_error(&text, &longest, 431, quotes, quotes, NULL);
	ok(!text.full && is_framed(&text), "the longest error");
	cmp_ok((intmax_t)count_of(&text, '\\'), "==", REPLY_REASON_MAX + REPLY_DETAIL_MAX,
	       "reason and detail as long as they may be");
}

/* With every capacity too small an answer says so, and never writes past it. */
static void test_cut_anywhere(void)
{
	const struct event event = {.account = "al\"ice", .account_length = 6, .amount = 1};
	const struct result result = {.balance = -123, .version = 45, .lsn = 6789};
	char whole[REPLY_SHAPE_MAX];
	char bytes[REPLY_SHAPE_MAX];
	struct text all;
	size_t capacity;

	text_init(&all, whole, sizeof(whole));
	reply_accepted(&all, &frame, &event, &result);
	for (capacity = 0; capacity < all.length; capacity++) {
		struct text text;

		bytes[capacity] = '#';
		text_init(&text, bytes, capacity);
		reply_accepted(&text, &frame, &event, &result);
		if (!text.full || text.length != capacity || bytes[capacity] != '#' ||
		    memcmp(bytes, whole, capacity) != 0)
			break;
	}
	ok(capacity == all.length, "cut at every byte: a prefix, and full");
}

int main(void)
{
	plan(NO_PLAN);
	test_room();
	test_numbers();
	test_json_string();
	test_dates();
	test_status_lines();
	test_fields();
	test_shapes();
	test_longest();
	test_cut_anywhere();
	return done_testing();
}
