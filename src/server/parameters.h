/*
 * What a request says in its path and its query.  Each function answers what it cannot read, and
 * returns false then.
 */
#ifndef TALLYD_SERVER_PARAMETERS_H
#define TALLYD_SERVER_PARAMETERS_H

#include <stdbool.h>
#include <stdint.h>

#include "handlers.h"

/*
 * The "*" of the path as an account's name, which the call may touch: in BYTES, ACCOUNT_NAME_MAX of
 * them (invalid_account, forbidden).
 */
bool parameter_account(const struct call *call, struct answer *answer, char *bytes,
                       struct words *name);

/* The "*" of the path as a hold's id: in BYTES, ID_MAX of them (invalid_hold). */
bool parameter_hold(const struct call *call, struct answer *answer, char *bytes, struct words *id);

/* limit=N, 1 to PARAMETER_LIMIT_MAX; *LIMIT stays what it was if there is none (invalid_limit). */
#define PARAMETER_LIMIT_MAX 100
bool parameter_limit(const struct call *call, struct answer *answer, unsigned *limit);

/*
 * before=LSN into *BEFORE; 0 if there is none (invalid_before).
 */
bool parameter_before(const struct call *call, struct answer *answer, uint64_t *before);

/*
 * prefix= into BYTES, ACCOUNT_NAME_MAX of them: the beginning of names, which may end within a
 * character.  Length 0 if there is none (invalid_prefix).
 */
bool parameter_prefix(const struct call *call, struct answer *answer, char *bytes,
                      struct words *prefix);

/*
 * cursor= into *POSITION, as parameter_cursor_text has written it; *BEGUN false if there is none
 * (invalid_cursor).
 */
bool parameter_cursor(const struct call *call, struct answer *answer, uint64_t *position,
                      bool *begun);
#define PARAMETER_CURSOR_LENGTH 17
void parameter_cursor_text(struct text *out, uint64_t position);

/* at=TIME|LSN: is there one, and which of the two (invalid_at)? */
struct moment {
	bool given;
	bool is_time;
	uint64_t value; /* microseconds since 1970, or an LSN */
};
bool parameter_at(const struct call *call, struct answer *answer, struct moment *moment);

/* Appends NAME percent-encoded as one segment of a path or one value of a query (RFC 3986 2.3). */
void parameter_encode(struct text *out, struct words name);

/* Decimal digits TEXT[0..LENGTH), nothing else, into *NUMBER; false also if it is too large. */
bool parameter_number(const char *text, size_t length, uint64_t *number);

#endif
