/*
 * HTTP/1.1 answers, written whole into a text (RFC 9110, RFC 9112).  Pure
 * functions: no sockets, no clock, no allocation.  The caller looks at out->full once, at
 * the end: if it is set, the answer is cut and must not be sent.
 */
#ifndef TALLYD_WIRE_REPLY_H
#define TALLYD_WIRE_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../ledger/event.h"
#include "text.h"

#define REPLY_DATE_LENGTH 29   /* bytes of an IMF-fixdate */
#define REPLY_REASON_MAX  48   /* bytes of a reason; more are cut */
#define REPLY_DETAIL_MAX  240  /* bytes of a detail; more are cut */
#define REPLY_SHAPE_MAX   1024 /* bytes that any shape below writes, fields handed in not counted */

#define REPLY_JSON "application/json"

/* What the answer says of the connection (RFC 9112 9.3). */
enum reply_connection {
	REPLY_PERSISTS,   /* no field: HTTP/1.1 goes on by itself */
	REPLY_CLOSE,      /* "Connection: close" */
	REPLY_KEEP_ALIVE, /* "Connection: keep-alive", which an HTTP/1.0 client waits for */
};

/* What the answer to one request needs to know of that request and of now. */
struct reply_frame {
	const char *date; /* REPLY_DATE_LENGTH bytes from reply_date, borrowed; never NULL */
	enum reply_connection connection;
	bool head; /* answer a HEAD: the body's length without the body */
};

/* One more field.  CR and LF in the value become spaces (RFC 9110 5.5). */
struct reply_field {
	const char *name;
	const char *value; /* NUL-terminated, borrowed */
};

/* Any answer. */
struct reply {
	/* 200 204 304 400-405 408-415 417 422 423 429 431 500 501 503 505 507; any other is
	   written as 500 */
	unsigned status;
	const char *content_type;         /* NULL: none */
	const char *body;                 /* borrowed; may be NULL if body_length is 0 */
	size_t body_length;               /* bytes; ignored for 204 and 304, which have none */
	const struct reply_field *fields; /* ends with a NULL name; NULL: none */
};

/*
 * Formats UNIX_SECONDS (UTC, since 1970) as an IMF-fixdate (RFC 9110 5.6.7), "Sun, 06 Nov 1994
 * 08:49:37 GMT", into DATE (REPLY_DATE_LENGTH bytes, not NUL-terminated).  Times past the
 * year 9999 are written as its last second.  Called once a second, not once an answer.
 */
void reply_date(char date[REPLY_DATE_LENGTH], uint64_t unix_seconds);

/*
 * Writes VALUE (microseconds since 1970, UTC) as RFC 3339 with six digits of fraction and
 * "Z", 27 bytes, without quotes.  Times past the year 9999 are written as its last
 * microsecond.
 */
void reply_time(struct text *out, uint64_t unix_us);

/*
 * Writes the status line and the fields up to and with the empty line; the caller
 * sends the reply->body_length bytes of body itself (none to a HEAD, and none with 204 and 304).
 */
void reply_head(struct text *out, const struct reply_frame *frame, const struct reply *reply);

/* Writes the whole answer, with its body unless frame->head is set. */
void reply_write(struct text *out, const struct reply_frame *frame, const struct reply *reply);

/* Writes the interim answer "100 Continue" (RFC 9110 15.2.1). */
void reply_continue(struct text *out);

/*
 * The shapes that the service answers with.  Each writes one whole answer with a JSON body,
 * at most REPLY_SHAPE_MAX bytes besides FIELDS.  REASON is a stable word, DETAIL a sentence for a
 * person: both NUL-terminated; bytes outside printable ASCII are written as '?'.
 * Account names are valid (json_account_name_valid).
 */

/* 200 {"status":"accepted","account":..,"balance":..,"version":..,"lsn":".."} */
void reply_accepted(struct text *out, const struct reply_frame *frame, const struct event *event,
                    const struct result *result);

/* STATUS {"status":"error","reason":..,"detail":..}; FIELDS as in struct reply. */
void reply_error(struct text *out, const struct reply_frame *frame, unsigned status,
                 const char *reason, const char *detail, const struct reply_field *fields);

/*
 * STATUS (503, 507, 429) {"status":"rejected","reason":..,"detail":..}: not applied, and trying
 * again later may help.  "Retry-After: RETRY_AFTER" (seconds, RFC 9110 10.2.3) unless it is 0.
 */
void reply_rejected(struct text *out, const struct reply_frame *frame, unsigned status,
                    const char *reason, const char *detail, unsigned retry_after);

/*
 * 200 {"account":..,"balance":..,"held":..,"version":..,"created":..,"updated":..} with
 * the version as its strong ETag, "8" in quotes (RFC 9110 8.8.3).
 */
void reply_account(struct text *out, const struct reply_frame *frame, const char *name,
                   size_t length, const struct account_view *view);

/* 304 with the ETag of VERSION (RFC 9110 15.4.5). */
void reply_not_modified(struct text *out, const struct reply_frame *frame, uint64_t version);

/* The JSON object of reply_accepted alone, for answers that hold several. */
void reply_accepted_object(struct text *out, const struct event *event,
                           const struct result *result);

#endif
