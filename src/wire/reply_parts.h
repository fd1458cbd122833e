/*
 * What the files of the replies share; nobody else includes it.
 */
#ifndef TALLYD_WIRE_REPLY_PARTS_H
#define TALLYD_WIRE_REPLY_PARTS_H

#include "reply.h"

#define REPLY_PROBLEM "application/problem+json"

/* Of a shape: the longest status line and every field that a shape writes but Location. */
#define REPLY_HEAD_MAX 432
/* The longest refusal without extra members, as a problem: a reason and a detail of quotes double
 * when they are escaped. */
#define REPLY_REFUSAL_MAX (2 * (REPLY_REASON_MAX + REPLY_DETAIL_MAX) + 128)

_Static_assert(REPLY_HEAD_MAX + REPLY_REFUSAL_MAX <= REPLY_SHAPE_MAX, "a refusal is a shape");
_Static_assert(REPLY_HEAD_MAX + REPLY_ACCOUNT_MAX <= REPLY_SHAPE_MAX, "so is an account");
_Static_assert(REPLY_HEAD_MAX + REPLY_HOLD_MAX <= REPLY_SHAPE_MAX, "and a hold");

#define REPLY_ETAG_MAX (TEXT_DECIMAL_MAX + 3)

/* Writes BODY, a shape's JSON, as the answer with STATUS. */
void reply_shape(struct text *out, const struct reply_frame *frame, unsigned status,
                 const struct text *body, const struct reply_field *extra);

struct reply_refusal {
	unsigned status;
	bool rejected; /* not decided, rather than refused */
	const char *reason;
	const char *detail;
};

/*
 * A refusal with members of its own between its beginning and its end, which writes the whole
 * answer to OUT.  Members begin with a comma.
 */
void reply_refusal_begin(struct text *body, const struct reply_frame *frame,
                         const struct reply_refusal *refusal);
void reply_refusal_end(struct text *out, const struct reply_frame *frame,
                       const struct reply_refusal *refusal, struct text *body,
                       const struct reply_field *extra);

/* The beginning of one that is no problem document; STATUS is "error" or "rejected". */
void reply_plain_begin(struct text *body, const char *status, const char *reason,
                       const char *detail);

/* The strong ETag of VERSION in TAG, or SECONDS in DIGITS, NUL-terminated. */
const char *reply_etag(char tag[REPLY_ETAG_MAX], uint64_t version);
const char *reply_seconds(char digits[TEXT_DECIMAL_MAX + 1], unsigned seconds);

/* The words of the service for these. */
const char *reply_frozen(enum frozen frozen);
const char *reply_hold_state(enum hold_state state);

/* Appends NAME, a literal with its comma and colon, and a value. */
#define reply_number(out, name, value) (text_literal(out, name), text_signed(out, value))
#define reply_count(out, name, value)  (text_literal(out, name), text_unsigned(out, value))
#define reply_words(out, name, words)                                                              \
	(text_literal(out, name), text_json_string(out, (words)->bytes, (words)->length))

/* Appends NAME and LIMIT, or null if it is NONE. */
void reply_limit(struct text *out, const char *name, int64_t limit, int64_t none);

#endif
