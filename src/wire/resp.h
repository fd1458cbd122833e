/*
 * Redis' serialization protocol, RESP2 and RESP3 (redis.io, "Redis serialization protocol
 * specification"): commands read, replies written.  Words of errors are those of Redis.
 */
#ifndef TALLYD_WIRE_RESP_H
#define TALLYD_WIRE_RESP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../ledger/event.h"
#include "text.h"

#define RESP_COMMAND_MAX   65536 /* bytes of one command */
#define RESP_INLINE_MAX    4096  /* bytes of one that is a line of words */
#define RESP_ARGUMENTS_MAX 1024  /* of one command, its name included */
#define RESP_REASON_MAX    80    /* bytes of why a command cannot be read, with the NUL */

struct resp_command {
	size_t length; /* bytes that it takes up */
	uint32_t
	    count;   /* of arguments; 0: an empty line, or an array of nothing: no answer is due */
	bool quoted; /* was a line with quotes: arguments borrow from `line` */
	struct words argument[RESP_ARGUMENTS_MAX]; /* else they borrow from the bytes */
	char line[RESP_INLINE_MAX];
};

enum resp_progress {
	RESP_MORE,    /* it goes on */
	RESP_DONE,    /* *COMMAND is filled in */
	RESP_REFUSED, /* this can be no command: REASON says why, the rest is not to be understood
	               */
};

/*
 * Reads the command that BYTES[0..LENGTH) begin with, an array of bulk strings or a line of words.
 * A command that is put off is read again, so the bytes stay as they are, and the
 * words of a line that has quotes are unquoted in a copy of it.  REASON has RESP_REASON_MAX bytes.
 */
enum resp_progress resp_read(const char *bytes, size_t length, struct resp_command *command,
                             char *reason);

/* TEXT[0..LENGTH) as Redis reads a whole number: no sign but '-', no zero before others. */
bool resp_integer_of(const char *text, size_t length, int64_t *number);

/* --- replies; each ends with CRLF --- */

void resp_simple(struct text *out, const char *string); /* without CR and LF */
void resp_error(struct text *out, const char *message); /* likewise; begins with its code */
void resp_integer(struct text *out, int64_t number);
void resp_bulk(struct text *out, const char *bytes, size_t length);
void resp_string(struct text *out, const char *string); /* a bulk string up to the NUL */
void resp_number(struct text *out, int64_t number);     /* a bulk string of its digits */
void resp_array(struct text *out, size_t count);        /* COUNT replies follow */

/* PROTOCOL is 2 or 3.  Of a map COUNT pairs follow: in RESP2 an array of twice as many. */
void resp_map(struct text *out, size_t count, unsigned protocol);
void resp_null(struct text *out, unsigned protocol);       /* instead of a bulk string */
void resp_null_array(struct text *out, unsigned protocol); /* instead of an array */

/* Bytes of the longest of these, without the contents of strings. */
#define RESP_FRAME_MAX (TEXT_DECIMAL_MAX + 5)
/* Bytes of a number in a bulk string. */
#define RESP_NUMBER_MAX (TEXT_DECIMAL_MAX + 7)

#endif
