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

#define REPLY_DATE_LENGTH 29  /* bytes of an IMF-fixdate */
#define REPLY_REASON_MAX  48  /* bytes of a reason; more are cut */
#define REPLY_DETAIL_MAX  240 /* bytes of a detail; more are cut */
#define REPLY_SHAPE_MAX                                                                            \
	1280 /* bytes that any shape below writes but reply_result, FIELDS and origin not counted  \
	      */

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
	bool head;    /* answer a HEAD: the body's length without the body */
	bool problem; /* errors as application/problem+json (RFC 9457): the client asked for it */
	/* Access-Control-Allow-Origin (Fetch 3.2.3): an origin or "*", NUL-terminated, with Vary
	   and what a page may read besides; NULL: none.  CR and LF in it become spaces. */
	const char *origin;
	bool varies; /* Vary all the same: another origin would have got another answer */
};

/* One more field.  CR and LF in the value become spaces (RFC 9110 5.5). */
struct reply_field {
	const char *name;
	const char *value; /* NUL-terminated, borrowed */
};

/* Any answer. */
struct reply {
	/* 200 201 204 304 400-405 408-415 417 422 423 429 431 500 501 503 505 507; any other
	   is written as 500 */
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

/* What an operation is called in statements and feeds; EXPIRED: a release by the clock. */
const char *reply_type(enum request_kind kind, bool expired);

/*
 * Writes the status line and the fields up to and with the empty line; the caller
 * sends the reply->body_length bytes of body itself (none to a HEAD, and none with 204 and 304).
 */
void reply_head(struct text *out, const struct reply_frame *frame, const struct reply *reply);

/* Writes the whole answer, with its body unless frame->head is set. */
void reply_write(struct text *out, const struct reply_frame *frame, const struct reply *reply);

/*
 * An answer in pieces, whose length nobody knows when it begins (RFC 9112 7.1): the head, 200 with
 * CONTENT_TYPE; then any number of chunks; then the end.  To an HTTP/1.0 client (CHUNKED is false),
 * who knows no chunks, the head says nothing of a length, the caller writes the bytes bare and
 * closes: frame->connection is then REPLY_CLOSE.
 *
 * A chunk is written around its bytes: reply_chunk_begin leaves room for its size and returns
 * where, the caller writes to OUT, reply_chunk_end fills the size in.  A chunk without bytes is
 * taken back: an empty one would end the body.
 */
void reply_stream_head(struct text *out, const struct reply_frame *frame, const char *content_type,
                       bool chunked);
/* The same for content that is true only now: with Cache-Control: no-store (RFC 9111 5.2.2.5). */
void reply_live_head(struct text *out, const struct reply_frame *frame, const char *content_type,
                     bool chunked);
size_t reply_chunk_begin(struct text *out);
void reply_chunk_end(struct text *out, size_t begin);
void reply_stream_end(struct text *out);

#define REPLY_CHUNK_DIGITS 6 /* of a chunk's size, with leading zeros: under 16 MiB */
#define REPLY_CHUNK_FRAME  (REPLY_CHUNK_DIGITS + 4) /* bytes of framing around a chunk's own */
#define REPLY_STREAM_END   5                        /* bytes of the end */

/* Writes the interim answer "100 Continue" (RFC 9110 15.2.1). */
void reply_continue(struct text *out);

/*
 * The shapes that the service answers with.  Each writes one whole answer with a JSON body,
 * at most REPLY_SHAPE_MAX bytes besides FIELDS.  REASON is a stable word, DETAIL a sentence for a
 * person: both NUL-terminated; bytes outside printable ASCII are written as '?'.
 * Account names are valid (json_account_name_valid).
 */

/*
 * STATUS {"status":"error","reason":..,"detail":..}; FIELDS as in struct reply.  With
 * frame->problem this and every refusal below is application/problem+json (RFC 9457):
 * {"type":"about:blank","title":PHRASE,"status":STATUS,"detail":..,"reason":..} and the same extra
 * members.
 */
void reply_error(struct text *out, const struct reply_frame *frame, unsigned status,
                 const char *reason, const char *detail, const struct reply_field *fields);

/*
 * STATUS (503, 507, 429) {"status":"rejected","reason":..,"detail":..}: not applied, and trying
 * again later may help.  "Retry-After: RETRY_AFTER" (seconds, RFC 9110 10.2.3) unless it is 0.
 */
void reply_rejected(struct text *out, const struct reply_frame *frame, unsigned status,
                    const char *reason, const char *detail, unsigned retry_after);

/*
 * The answer to an operation: 200 (201 if result->created of CREATE, REPLACE and HOLD), or the
 * refusal's status (reason.h), as a function of REQUEST and RESULT alone, so that a replay says the
 * same, byte for byte, but for "Idempotent-Replayed: true".  Any outcome but OUTCOME_POISONED.
 * RETRY_AFTER (seconds) is said with a 503.  At most REPLY_RESULT_MAX bytes.
 *
 *   EVENT        {"status":"accepted","account":..,"balance":..,"version":..,"lsn":".."} and
 *                "held" if it is not zero
 *   TRANSFER     {"status":"accepted","from":{"account":..,"balance":..,"version":..},"to":{..},
 *                "amount":..,"lsn":".."}
 *   TRANSACTION  {"status":"accepted","legs":[{"account","amount","balance","version"},..],"lsn"}
 *   CREATE, REPLACE   {"status":"accepted","account":..,"balance","held","floor","ceiling",
 *                "frozen","version","lsn"} with the version as ETag; CREATE with Location
 *   DELETE       {"status":"accepted","account":..,"deleted":true,"lsn"}
 *   HOLD         {"status":"accepted","hold":ID,"state":"open","account","amount","balance","held",
 *                "expires","version","lsn"} with Location
 *   CAPTURE      {"status":"accepted","hold":ID,"state":"captured","account","captured","balance",
 *                "held","version","lsn"} and "to":{account, balance, version} if it was given
 *   RELEASE      the same with "state":"released" and no "captured"
 *   refusals     {"status":"error","reason","detail"} and: INSUFFICIENT_FUNDS "account","balance",
 *                "held","available","required"; CEILING_EXCEEDED "account","balance","ceiling";
 *                VERSION_MISMATCH "version" (the present one); HOLD_SETTLED "hold","state",
 *                "captured","settled_lsn","settled_lsn"; of several legs "leg" (from 0) and
 * "account" not decided  {"status":"rejected","reason","detail"}
 */
#define REPLY_RESULT_MAX 16384
void reply_result(struct text *out, const struct reply_frame *frame, const struct request *request,
                  const struct result *result, unsigned retry_after);

/* At most so many bytes for a REQUEST of one leg that is an EVENT. */
#define REPLY_EVENT_MAX 1536

/* The JSON object alone, for answers that hold several. */
void reply_result_object(struct text *out, const struct request *request,
                         const struct result *result);
/* The same for one that could not be read. */
void reply_error_object(struct text *out, const char *reason, const char *detail);

/*
 * 200 {"account":..,"balance":..,"held":..,"available":N|null,"floor":N|null,"ceiling":N|null,
 * "frozen":..,"version":..,"created":..,"updated":..} with the version as its strong ETag, "8" in
 * quotes (RFC 9110 8.8.3).
 */
void reply_account(struct text *out, const struct reply_frame *frame, const char *name,
                   size_t length, const struct account_view *view);
void reply_account_object(struct text *out, const char *name, size_t length,
                          const struct account_view *view);
#define REPLY_ACCOUNT_MAX 640 /* bytes of the object: every byte of a name may need two */

/* 200 {"hold":..,"state":..,"account":..,"amount":..,"captured":..,"expires":..,"placed":..,
 * "settled":..|null,"lsn":..} */
void reply_hold(struct text *out, const struct reply_frame *frame, const struct hold_view *view);
void reply_hold_object(struct text *out, const struct hold_view *view);
#define REPLY_HOLD_MAX 800

/* {"lsn":"..","time":..,"type":..,"amount":..,"balance":..,"held":..,"version":..} and "id",
 * "note", "counterparty", "hold" where there are any. */
void reply_entry_object(struct text *out, const struct entry *entry);
#define REPLY_ENTRY_MAX 1792

/*
 * {"lsn":"..","time":..,"type":.., and where there are any "id","note","hold","reserved","expires",
 * "floor","ceiling","frozen", then "legs":[{"account":..,"amount":..,"balance":..,"held":..,
 * "version":..},..]}: one event of a feed.
 */
void reply_change_object(struct text *out, const struct change *change);
#define REPLY_CHANGE_MAX 7168

/* 410 {"status":"error","reason":"pruned","detail":..,"first":".."}: the journal begins with FIRST.
 */
void reply_pruned(struct text *out, const struct reply_frame *frame, uint64_t first);
/* The same as an object that ends a stream; at most REPLY_SHAPE_MAX bytes. */
void reply_pruned_object(struct text *out, uint64_t first);

/* 304 with the ETag of VERSION (RFC 9110 15.4.5). */
void reply_not_modified(struct text *out, const struct reply_frame *frame, uint64_t version);

#endif
