/*
 * JSON on a stream, RFC 8259: members and elements one after the other, on one line.
 */
#ifndef TALLYD_TOOLS_JSON_OUT_H
#define TALLYD_TOOLS_JSON_OUT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json_out {
	FILE *stream;
	bool more; /* a comma is due before the next */
};

/*
 * All take the member's NAME, an identifier; NULL: an element of an array, or the document itself.
 * OPEN is '{' or '['.
 */
void json_out_open(struct json_out *out, const char *name, char open);
void json_out_close(struct json_out *out, char close);
void json_out_text(struct json_out *out, const char *name, const char *text);
void json_out_count(struct json_out *out, const char *name, uint64_t count);
void json_out_signed(struct json_out *out, const char *name, int64_t number);
void json_out_real(struct json_out *out, const char *name, double number); /* three decimals */
void json_out_flag(struct json_out *out, const char *name, bool flag);
void json_out_null(struct json_out *out, const char *name);

/* LENGTH bytes of text; what is not UTF-8 becomes U+FFFD, as in json_out_text. */
void json_out_bytes(struct json_out *out, const char *name, const char *bytes, size_t length);

/* MICROSECONDS since 1970 as "2026-11-27T17:00:00.000000Z"; 0: null. */
void json_out_time(struct json_out *out, const char *name, uint64_t us);

/* Ends the document with a line's end. */
void json_out_end(struct json_out *out);

#endif
