/*
 * Text being written into a buffer of fixed size.  Writing past the end is
 * remembered and harmless: check `full` once, at the end.
 */
#ifndef TALLYD_WIRE_TEXT_H
#define TALLYD_WIRE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define TEXT_DECIMAL_MAX                                                                           \
	20 /* bytes of the longest number: UINT64_MAX, or INT64_MIN with its sign */

struct text {
	char *bytes;   /* borrowed, never NUL-terminated */
	size_t length; /* written so far, never over capacity */
	size_t capacity;
	bool full; /* something did not fit; what is there is cut */
};

/* Starts TEXT empty in BYTES[0..CAPACITY), which the caller owns and keeps. */
void text_init(struct text *text, char *bytes, size_t capacity);

/* The slow end of text_bytes: appends what fits of BYTES and marks TEXT full. */
void text_cut(struct text *text, const char *bytes, size_t length);

/*
 * Appends BYTES[0..LENGTH); BYTES may not be NULL, nor overlap the text.  In the
 * header so that a constant length becomes a few plain stores.
 */
static inline void text_bytes(struct text *text, const char *bytes, size_t length)
{
	if (length > text->capacity - text->length) {
		text_cut(text, bytes, length);
		return;
	}
	memcpy(text->bytes + text->length, bytes, length);
	text->length += length;
}

/* Appends STRING up to its NUL. */
void text_string(struct text *text, const char *string);

/* Appends VALUE in decimal, without leading zeros: at most TEXT_DECIMAL_MAX bytes. */
void text_unsigned(struct text *text, uint64_t value);
void text_signed(struct text *text, int64_t value);

/*
 * Appends VALUE[0..LENGTH) as a JSON string with its quotes (RFC 8259 7); VALUE must be valid
 * UTF-8.  Only what must be escaped is: '"', '\\' and U+0000 to U+001F.
 */
void text_json_string(struct text *text, const char *value, size_t length);

/* A string constant, its length known to the compiler. */
#define text_literal(text, literal) text_bytes((text), "" literal, sizeof(literal) - 1)

#endif
