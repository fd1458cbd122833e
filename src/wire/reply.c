/*
 * Answers: the head's fields in a fixed order, then the body.  A shape renders its
 * body in a scratch of known size first, because Content-Length stands before it.
 */
#include <assert.h>

#include "reply.h"

/* The longest body is an error's: a reason and a detail of quotes double when escaped. */
#define BODY_MAX (2 * (REPLY_REASON_MAX + REPLY_DETAIL_MAX) + 64)
#define HEAD_MAX 256 /* of a shape: the longest status line and every field that a shape writes */

static_assert(BODY_MAX + HEAD_MAX <= REPLY_SHAPE_MAX, "a shape fits what its callers reserve");
static_assert(2 * ACCOUNT_NAME_MAX + 256 <= BODY_MAX, "an account's body is no longer");

/* 253402300799 is 9999-12-31T23:59:59Z, the last second that four digits of year can say. */
#define LAST_SECOND UINT64_C(253402300799)

/* With the field that follows in every answer, so that one copy writes both. */
#define LINE(status, phrase) "HTTP/1.1 " #status " " phrase "\r\nServer: tallyd\r\nDate: "

static void status_line(struct text *out, unsigned status)
{
	switch (status) {
#define STATUS(status, phrase)                                                                     \
	case status:                                                                               \
		text_literal(out, LINE(status, phrase));                                           \
		return
		STATUS(200, "OK");
		STATUS(204, "No Content");
		STATUS(304, "Not Modified");
		STATUS(400, "Bad Request");
		STATUS(401, "Unauthorized");
		STATUS(402, "Payment Required");
		STATUS(403, "Forbidden");
		STATUS(404, "Not Found");
		STATUS(405, "Method Not Allowed");
		STATUS(408, "Request Timeout");
		STATUS(409, "Conflict");
		STATUS(410, "Gone");
		STATUS(411, "Length Required");
		STATUS(412, "Precondition Failed");
		STATUS(413, "Content Too Large");
		STATUS(414, "URI Too Long");
		STATUS(415, "Unsupported Media Type");
		STATUS(417, "Expectation Failed");
		STATUS(422, "Unprocessable Content");
		STATUS(423, "Locked");
		STATUS(429, "Too Many Requests");
		STATUS(431, "Request Header Fields Too Large");
		STATUS(501, "Not Implemented");
		STATUS(503, "Service Unavailable");
		STATUS(505, "HTTP Version Not Supported");
		STATUS(507, "Insufficient Storage");
#undef STATUS
	default:
		text_literal(out, LINE(500, "Internal Server Error"));
		return;
	}
}

/* Appends a field's value, made safe: a line end in it would begin a field of its own. */
static void field_value(struct text *out, const char *value)
{
	for (;;) {
		size_t run = strcspn(value, "\r\n");

		text_bytes(out, value, run);
		if (value[run] == '\0')
			return;
		text_literal(out, " ");
		value += run + 1;
	}
}

static void fields(struct text *out, const struct reply_field *field)
{
	for (; field != NULL && field->name != NULL; field++) {
		text_string(out, field->name);
		text_literal(out, ": ");
		field_value(out, field->value);
		text_literal(out, "\r\n");
	}
}

static bool has_body(const struct reply *reply)
{
	return reply->status != 204 && reply->status != 304;
}

void reply_head(struct text *out, const struct reply_frame *frame, const struct reply *reply)
{
	status_line(out, reply->status);
	text_bytes(out, frame->date, REPLY_DATE_LENGTH);
	/* Neither belongs to an answer without content (RFC 9110 8.6, 15.4.5). */
	if (has_body(reply)) {
		if (reply->content_type != NULL) {
			text_literal(out, "\r\nContent-Type: ");
			text_string(out, reply->content_type);
		}
		text_literal(out, "\r\nContent-Length: ");
		text_unsigned(out, reply->body_length);
	}
	text_literal(out, "\r\n");
	if (frame->connection == REPLY_CLOSE)
		text_literal(out, "Connection: close\r\n");
	else if (frame->connection == REPLY_KEEP_ALIVE)
		text_literal(out, "Connection: keep-alive\r\n");
	fields(out, reply->fields);
	text_literal(out, "\r\n");
}

void reply_write(struct text *out, const struct reply_frame *frame, const struct reply *reply)
{
	reply_head(out, frame, reply);
	if (has_body(reply) && !frame->head && reply->body_length > 0)
		text_bytes(out, reply->body, reply->body_length);
}

void reply_continue(struct text *out)
{
	text_literal(out, "HTTP/1.1 100 Continue\r\n\r\n");
}

/* Writes BODY, a shape's JSON, as the answer with STATUS. */
static void shape(struct text *out, const struct reply_frame *frame, unsigned status,
                  const struct text *body, const struct reply_field *extra)
{
	assert(!body->full);
	reply_write(out, frame,
	            &(struct reply){.status = status,
	                            .content_type = REPLY_JSON,
	                            .body = body->bytes,
	                            .body_length = body->length,
	                            .fields = extra});
}

void reply_accepted_object(struct text *out, const struct event *event, const struct result *result)
{
	text_literal(out, "{\"status\":\"accepted\",\"account\":");
	text_json_string(out, event->account, event->account_length);
	text_literal(out, ",\"balance\":");
	text_signed(out, result->balance);
	text_literal(out, ",\"version\":");
	text_unsigned(out, result->version);
	/* A string: an LSN outgrows the 2^53 that many readers of JSON hold exactly. */
	text_literal(out, ",\"lsn\":\"");
	text_unsigned(out, result->lsn);
	text_literal(out, "\"}");
}

void reply_accepted(struct text *out, const struct reply_frame *frame, const struct event *event,
                    const struct result *result)
{
	char scratch[BODY_MAX];
	struct text body;

	text_init(&body, scratch, sizeof(scratch));
	reply_accepted_object(&body, event, result);
	shape(out, frame, 200, &body, NULL);
}

/* Appends STRING as a JSON string, cut to MAX bytes, in printable ASCII. */
static void ascii_string(struct text *out, const char *string, size_t max)
{
	char ascii[REPLY_DETAIL_MAX];
	size_t length = strnlen(string, max);

	for (size_t i = 0; i < length; i++)
		ascii[i] = string[i] < 0x20 || string[i] > 0x7e ? '?' : string[i];
	text_json_string(out, ascii, length);
}

/* Appends ,"reason":REASON,"detail":DETAIL} to BODY. */
static void reason_and_detail(struct text *body, const char *reason, const char *detail)
{
	text_literal(body, ",\"reason\":");
	ascii_string(body, reason, REPLY_REASON_MAX);
	text_literal(body, ",\"detail\":");
	ascii_string(body, detail, REPLY_DETAIL_MAX);
	text_literal(body, "}");
}

void reply_error(struct text *out, const struct reply_frame *frame, unsigned status,
                 const char *reason, const char *detail, const struct reply_field *extra)
{
	char scratch[BODY_MAX];
	struct text body;

	text_init(&body, scratch, sizeof(scratch));
	text_literal(&body, "{\"status\":\"error\"");
	reason_and_detail(&body, reason, detail);
	shape(out, frame, status, &body, extra);
}

void reply_rejected(struct text *out, const struct reply_frame *frame, unsigned status,
                    const char *reason, const char *detail, unsigned retry_after)
{
	char scratch[BODY_MAX];
	char seconds[TEXT_DECIMAL_MAX + 1];
	struct text body;
	struct text digits;
	const struct reply_field extra[] = {{"Retry-After", seconds}, {NULL, NULL}};

	text_init(&digits, seconds, sizeof(seconds));
	text_unsigned(&digits, retry_after);
	text_bytes(&digits, "", 1);
	text_init(&body, scratch, sizeof(scratch));
	text_literal(&body, "{\"status\":\"rejected\"");
	reason_and_detail(&body, reason, detail);
	shape(out, frame, status, &body, retry_after > 0 ? extra : NULL);
}

/* Formats the strong ETag of VERSION, NUL-terminated, into TAG. */
static void etag(char tag[TEXT_DECIMAL_MAX + 3], uint64_t version)
{
	struct text text;

	text_init(&text, tag, TEXT_DECIMAL_MAX + 3);
	text_literal(&text, "\"");
	text_unsigned(&text, version);
	text_bytes(&text, "\"", 2); /* with its NUL */
}

void reply_account(struct text *out, const struct reply_frame *frame, const char *name,
                   size_t length, const struct account_view *view)
{
	char scratch[BODY_MAX];
	char tag[TEXT_DECIMAL_MAX + 3];
	struct text body;
	const struct reply_field extra[] = {{"ETag", tag}, {NULL, NULL}};

	etag(tag, view->version);
	text_init(&body, scratch, sizeof(scratch));
	text_literal(&body, "{\"account\":");
	text_json_string(&body, name, length);
	text_literal(&body, ",\"balance\":");
	text_signed(&body, view->balance);
	text_literal(&body, ",\"held\":");
	text_signed(&body, view->held);
	text_literal(&body, ",\"version\":");
	text_unsigned(&body, view->version);
	text_literal(&body, ",\"created\":\"");
	reply_time(&body, view->created_us);
	text_literal(&body, "\",\"updated\":\"");
	reply_time(&body, view->updated_us);
	text_literal(&body, "\"}");
	shape(out, frame, 200, &body, extra);
}

void reply_not_modified(struct text *out, const struct reply_frame *frame, uint64_t version)
{
	char tag[TEXT_DECIMAL_MAX + 3];
	const struct reply_field extra[] = {{"ETag", tag}, {NULL, NULL}};

	etag(tag, version);
	reply_write(out, frame, &(struct reply){.status = 304, .fields = extra});
}

/* A moment taken apart, UTC, proleptic Gregorian. */
struct moment {
	unsigned year, month, day;     /* 1970.., 1..12, 1..31 */
	unsigned hour, minute, second; /* no leap seconds, as in Unix time */
	unsigned weekday;              /* 0: Sunday */
};

/*
 * Takes SECONDS since 1970 apart.  Own arithmetic, not gmtime_r: that one takes a
 * lock and looks at the time zone's environment.  Counts in years that begin in March, so that
 * the leap day comes last, in eras of 400 years with 146097 days each.
 */
static struct moment moment_of(uint64_t seconds)
{
	if (seconds > LAST_SECOND)
		seconds = LAST_SECOND;

	uint32_t days = (uint32_t)(seconds / 86400);
	uint32_t rest = (uint32_t)(seconds % 86400);
	uint32_t since = days + 719468; /* days from 0000-03-01 to 1970-01-01 */
	uint32_t era = since / 146097;
	uint32_t of_era = since % 146097;
	uint32_t year =
	    (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365; /* of the era */
	uint32_t of_year = of_era - (365 * year + year / 4 - year / 100);
	uint32_t march = (5 * of_year + 2) / 153; /* 0: March */

	return (struct moment){
	    .year = era * 400 + year + (march >= 10),
	    .month = march < 10 ? march + 3 : march - 9,
	    .day = of_year - (153 * march + 2) / 5 + 1,
	    .hour = rest / 3600,
	    .minute = rest / 60 % 60,
	    .second = rest % 60,
	    .weekday = (days + 4) % 7, /* 1970-01-01 was a Thursday */
	};
}

/* Appends VALUE in exactly WIDTH digits. */
static void padded(struct text *out, unsigned value, size_t width)
{
	char digits[8];

	for (size_t i = width; i-- > 0; value /= 10)
		digits[i] = (char)('0' + value % 10);
	text_bytes(out, digits, width);
}

/* Appends the time of day, "08:49:37". */
static void clock_time(struct text *out, const struct moment *moment)
{
	padded(out, moment->hour, 2);
	text_literal(out, ":");
	padded(out, moment->minute, 2);
	text_literal(out, ":");
	padded(out, moment->second, 2);
}

void reply_date(char date[REPLY_DATE_LENGTH], uint64_t unix_seconds)
{
	static const char weekdays[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct moment moment = moment_of(unix_seconds);
	struct text out;

	text_init(&out, date, REPLY_DATE_LENGTH);
	text_bytes(&out, weekdays + 3 * moment.weekday, 3);
	text_literal(&out, ", ");
	padded(&out, moment.day, 2);
	text_literal(&out, " ");
	text_bytes(&out, months + 3 * (moment.month - 1), 3);
	text_literal(&out, " ");
	padded(&out, moment.year, 4);
	text_literal(&out, " ");
	clock_time(&out, &moment);
	text_literal(&out, " GMT");
}

void reply_time(struct text *out, uint64_t unix_us)
{
	const uint64_t last = LAST_SECOND * 1000000 + 999999;
	uint64_t us = unix_us < last ? unix_us : last;
	struct moment moment = moment_of(us / 1000000);

	padded(out, moment.year, 4);
	text_literal(out, "-");
	padded(out, moment.month, 2);
	text_literal(out, "-");
	padded(out, moment.day, 2);
	text_literal(out, "T");
	clock_time(out, &moment);
	text_literal(out, ".");
	padded(out, (unsigned)(us % 1000000), 6);
	text_literal(out, "Z");
}
