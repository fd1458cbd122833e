/*
 * Answers: the head's fields in a fixed order, then the body.  A shape renders its
 * body in a scratch of known size first, because Content-Length stands before it.
 */
#include <assert.h>

#include "reply_parts.h"

#define BODY_MAX REPLY_REFUSAL_MAX

/* Every status that we answer with, and its phrase (RFC 9110 15, RFC 4918 11, RFC 6585). */
#define STATUSES(STATUS)                                                                           \
	STATUS(200, "OK")                                                                          \
	STATUS(201, "Created")                                                                     \
	STATUS(204, "No Content")                                                                  \
	STATUS(304, "Not Modified")                                                                \
	STATUS(400, "Bad Request")                                                                 \
	STATUS(401, "Unauthorized")                                                                \
	STATUS(402, "Payment Required")                                                            \
	STATUS(403, "Forbidden")                                                                   \
	STATUS(404, "Not Found")                                                                   \
	STATUS(405, "Method Not Allowed")                                                          \
	STATUS(408, "Request Timeout")                                                             \
	STATUS(409, "Conflict")                                                                    \
	STATUS(410, "Gone")                                                                        \
	STATUS(411, "Length Required")                                                             \
	STATUS(412, "Precondition Failed")                                                         \
	STATUS(413, "Content Too Large")                                                           \
	STATUS(414, "URI Too Long")                                                                \
	STATUS(415, "Unsupported Media Type")                                                      \
	STATUS(417, "Expectation Failed")                                                          \
	STATUS(422, "Unprocessable Content")                                                       \
	STATUS(423, "Locked")                                                                      \
	STATUS(429, "Too Many Requests")                                                           \
	STATUS(431, "Request Header Fields Too Large")                                             \
	STATUS(501, "Not Implemented")                                                             \
	STATUS(503, "Service Unavailable")                                                         \
	STATUS(505, "HTTP Version Not Supported")                                                  \
	STATUS(507, "Insufficient Storage")
#define STATUS_OTHER 500
#define PHRASE_OTHER "Internal Server Error"

/* With the field that follows in every answer, so that one copy writes both. */
#define LINE(status, phrase)    "HTTP/1.1 " #status " " phrase "\r\nServer: tallyd\r\nDate: "
#define LINE_OF(status, phrase) LINE(status, phrase)

static void status_line(struct text *out, unsigned status)
{
	switch (status) {
#define STATUS(status, phrase)                                                                     \
	case status:                                                                               \
		text_literal(out, LINE(status, phrase));                                           \
		return;
		STATUSES(STATUS)
#undef STATUS
	default:
		text_literal(out, LINE_OF(STATUS_OTHER, PHRASE_OTHER));
	}
}

/* The phrase of *STATUS, which becomes 500 if it is not ours. */
static const char *phrase_of(unsigned *status)
{
	switch (*status) {
#define STATUS(status, phrase)                                                                     \
	case status:                                                                               \
		return phrase;
		STATUSES(STATUS)
#undef STATUS
	default:
		*status = STATUS_OTHER;
		return PHRASE_OTHER;
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

/* What a page of ORIGIN may do with the answer (Fetch 3.2.3); the answer depends on who asks. */
static void sharing(struct text *out, const char *origin)
{
	text_literal(out, "Access-Control-Allow-Origin: ");
	field_value(out, origin);
	text_literal(out, "\r\nVary: Origin\r\nAccess-Control-Expose-Headers: ETag, Location, "
	                  "Retry-After, Idempotent-Replayed\r\n");
}

/* The fields that follow those of the content, and the empty line. */
static void finish_head(struct text *out, const struct reply_frame *frame,
                        const struct reply_field *extra)
{
	text_literal(out, "\r\n");
	if (frame->connection == REPLY_CLOSE)
		text_literal(out, "Connection: close\r\n");
	else if (frame->connection == REPLY_KEEP_ALIVE)
		text_literal(out, "Connection: keep-alive\r\n");
	if (frame->origin != NULL)
		sharing(out, frame->origin);
	else if (frame->varies)
		text_literal(out, "Vary: Origin\r\n");
	fields(out, extra);
	text_literal(out, "\r\n");
}

static void content_type(struct text *out, const char *type)
{
	text_literal(out, "\r\nContent-Type: ");
	text_string(out, type);
}

void reply_head(struct text *out, const struct reply_frame *frame, const struct reply *reply)
{
	status_line(out, reply->status);
	text_bytes(out, frame->date, REPLY_DATE_LENGTH);
	/* Neither belongs to an answer without content (RFC 9110 8.6, 15.4.5). */
	if (has_body(reply)) {
		if (reply->content_type != NULL)
			content_type(out, reply->content_type);
		text_literal(out, "\r\nContent-Length: ");
		text_unsigned(out, reply->body_length);
	}
	finish_head(out, frame, reply->fields);
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

void reply_shape(struct text *out, const struct reply_frame *frame, unsigned status,
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

/* Appends STRING as a JSON string, cut to MAX bytes, in printable ASCII. */
static void ascii_string(struct text *out, const char *string, size_t max)
{
	char ascii[REPLY_DETAIL_MAX];
	size_t length = strnlen(string, max);

	for (size_t i = 0; i < length; i++)
		ascii[i] = string[i] < 0x20 || string[i] > 0x7e ? '?' : string[i];
	text_json_string(out, ascii, length);
}

void reply_plain_begin(struct text *body, const char *status, const char *reason,
                       const char *detail)
{
	text_literal(body, "{\"status\":\"");
	text_string(body, status);
	text_literal(body, "\",\"reason\":");
	ascii_string(body, reason, REPLY_REASON_MAX);
	text_literal(body, ",\"detail\":");
	ascii_string(body, detail, REPLY_DETAIL_MAX);
}

/* RFC 9457 3: the members that it names, and the reason as one of ours. */
static void problem_begin(struct text *body, unsigned status, const char *reason,
                          const char *detail)
{
	const char *phrase = phrase_of(&status);

	text_literal(body, "{\"type\":\"about:blank\",\"title\":\"");
	text_string(body, phrase);
	text_literal(body, "\",\"status\":");
	text_unsigned(body, status);
	text_literal(body, ",\"detail\":");
	ascii_string(body, detail, REPLY_DETAIL_MAX);
	text_literal(body, ",\"reason\":");
	ascii_string(body, reason, REPLY_REASON_MAX);
}

void reply_refusal_begin(struct text *body, const struct reply_frame *frame,
                         const struct reply_refusal *refusal)
{
	if (frame->problem)
		problem_begin(body, refusal->status, refusal->reason, refusal->detail);
	else
		reply_plain_begin(body, refusal->rejected ? "rejected" : "error", refusal->reason,
		                  refusal->detail);
}

void reply_refusal_end(struct text *out, const struct reply_frame *frame,
                       const struct reply_refusal *refusal, struct text *body,
                       const struct reply_field *extra)
{
	text_literal(body, "}");
	assert(!body->full);
	reply_write(out, frame,
	            &(struct reply){.status = refusal->status,
	                            .content_type = frame->problem ? REPLY_PROBLEM : REPLY_JSON,
	                            .body = body->bytes,
	                            .body_length = body->length,
	                            .fields = extra});
}

void reply_error(struct text *out, const struct reply_frame *frame, unsigned status,
                 const char *reason, const char *detail, const struct reply_field *extra)
{
	const struct reply_refusal refusal = {.status = status, .reason = reason, .detail = detail};
	char scratch[BODY_MAX];
	struct text body;

	text_init(&body, scratch, sizeof(scratch));
	reply_refusal_begin(&body, frame, &refusal);
	reply_refusal_end(out, frame, &refusal, &body, extra);
}

const char *reply_seconds(char digits[TEXT_DECIMAL_MAX + 1], unsigned seconds)
{
	struct text text;

	text_init(&text, digits, TEXT_DECIMAL_MAX + 1);
	text_unsigned(&text, seconds);
	text_bytes(&text, "", 1);
	return digits;
}

void reply_rejected(struct text *out, const struct reply_frame *frame, unsigned status,
                    const char *reason, const char *detail, unsigned retry_after)
{
	const struct reply_refusal refusal = {
	    .status = status, .rejected = true, .reason = reason, .detail = detail};
	char seconds[TEXT_DECIMAL_MAX + 1];
	const struct reply_field extra[] = {{"Retry-After", reply_seconds(seconds, retry_after)},
	                                    {NULL, NULL}};
	char scratch[BODY_MAX];
	struct text body;

	text_init(&body, scratch, sizeof(scratch));
	reply_refusal_begin(&body, frame, &refusal);
	reply_refusal_end(out, frame, &refusal, &body, retry_after > 0 ? extra : NULL);
}

void reply_error_object(struct text *out, const char *reason, const char *detail)
{
	reply_plain_begin(out, "error", reason, detail);
	text_literal(out, "}");
}

const char *reply_etag(char tag[REPLY_ETAG_MAX], uint64_t version)
{
	struct text text;

	text_init(&text, tag, REPLY_ETAG_MAX);
	text_literal(&text, "\"");
	text_unsigned(&text, version);
	text_bytes(&text, "\"", 2); /* with its NUL */
	return tag;
}

void reply_not_modified(struct text *out, const struct reply_frame *frame, uint64_t version)
{
	char tag[REPLY_ETAG_MAX];
	const struct reply_field extra[] = {{"ETag", reply_etag(tag, version)}, {NULL, NULL}};

	reply_write(out, frame, &(struct reply){.status = 304, .fields = extra});
}

/* --- answers in pieces --- */

static void stream_head(struct text *out, const struct reply_frame *frame, const char *type,
                        bool chunked, const struct reply_field *extra)
{
	status_line(out, 200);
	text_bytes(out, frame->date, REPLY_DATE_LENGTH);
	content_type(out, type);
	if (chunked)
		text_literal(out, "\r\nTransfer-Encoding: chunked");
	finish_head(out, frame, extra);
}

void reply_stream_head(struct text *out, const struct reply_frame *frame, const char *type,
                       bool chunked)
{
	stream_head(out, frame, type, chunked, NULL);
}

void reply_live_head(struct text *out, const struct reply_frame *frame, const char *type,
                     bool chunked)
{
	static const struct reply_field live[] = {{"Cache-Control", "no-store"}, {NULL, NULL}};

	stream_head(out, frame, type, chunked, live);
}

static const char chunk_room[REPLY_CHUNK_DIGITS + 2] = "000000\r\n";

size_t reply_chunk_begin(struct text *out)
{
	size_t begin = out->length;

	text_bytes(out, chunk_room, sizeof(chunk_room));
	return begin;
}

void reply_chunk_end(struct text *out, size_t begin)
{
	static const char hex[] = "0123456789abcdef";
	size_t size = out->length - begin - sizeof(chunk_room);

	/* A full text is of no use to anybody; its beginning may not even be there. */
	if (out->full)
		return;
	if (size == 0) {
		out->length = begin;
		return;
	}
	assert(size < (size_t)1 << 4 * REPLY_CHUNK_DIGITS);
	for (size_t i = REPLY_CHUNK_DIGITS; i-- > 0; size >>= 4)
		out->bytes[begin + i] = hex[size & 15];
	text_literal(out, "\r\n");
}

void reply_stream_end(struct text *out)
{
	text_literal(out, "0\r\n\r\n");
}
