/*
 * Tokens: who may do what.  Of a token that a client presents only its SHA-256 is kept here, in
 * lines of a file:
 *
 *     NAME SHA256 SCOPES [prefix=PREFIX] [expires=TIME]
 *
 * as tallyd.conf(5) says under auth_file.  Pure functions: no files, no allocation.
 */
#ifndef TALLYD_WIRE_TOKEN_H
#define TALLYD_WIRE_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../ledger/event.h"
#include "text.h"

#define TOKEN_TEXT_MAX    256  /* bytes of a token as a client presents it */
#define TOKEN_NAME_MAX    64   /* bytes of its name */
#define TOKEN_DIGEST_SIZE 32   /* bytes of a SHA-256 (FIPS 180-4) */
#define TOKEN_LINE_MAX    1024 /* bytes of a line of the file */
#define TOKENS_MAX        256  /* of one file */
#define TOKENS_KEPT       512  /* of several readings of it: tokens_renew */
#define TOKENS_OF_NAME                                                                             \
	2 /* lines with one name: the old token and the new, while clients change                  \
	   */
#define TOKEN_WRONG_MAX 160 /* bytes of what is wrong with a line, with its NUL */

/* Bits; a token has one at least. */
enum token_scope {
	SCOPE_READ = 1,  /* balances, statements, holds, the feed; without a prefix also metrics */
	SCOPE_WRITE = 2, /* events, transfers, holds */
	SCOPE_ADMIN = 4, /* makes, changes and removes accounts */
};
#define TOKEN_SCOPES 3

struct token {
	char name[TOKEN_NAME_MAX + 1];
	uint8_t digest[TOKEN_DIGEST_SIZE];
	uint8_t scopes;
	uint8_t prefix_length; /* 0: every account */
	char prefix[ACCOUNT_NAME_MAX];
	uint64_t expires_us; /* since 1970; 0: never */
};

/* The tokens of a file, TOKENS_MAX at most; there is room for those of later readings. */
struct tokens {
	size_t count;
	struct token token[TOKENS_KEPT];
};

/* The name of scope bit INDEX (0 to TOKEN_SCOPES - 1): "read", "write", "admin". */
const char *token_scope_name(unsigned index);

/* "read,admin" into *SCOPES.  False: an unknown word, one twice, or none. */
bool token_scopes_read(const char *text, size_t length, uint8_t *scopes);

/* May NAME[0..LENGTH) be a token's name: letters, digits, '.', '_', '-', not empty? */
bool token_name_valid(const char *name, size_t length);

/* May TEXT be what a client presents, a b64token of RFC 6750 2.1 of up to TOKEN_TEXT_MAX bytes? */
bool token_text_valid(const char *text, size_t length);

void token_digest(const char *text, size_t length, uint8_t digest[TOKEN_DIGEST_SIZE]);

/*
 * Reads TEXT[0..LENGTH), a whole file, into TOKENS: a token a line, empty lines and lines that
 * begin with '#' between them.  False: *LINE (from 1) is wrong, and WRONG (TOKEN_WRONG_MAX bytes)
 * says how, without a word of what may be secret.
 */
bool tokens_read(struct tokens *tokens, const char *text, size_t length, unsigned *line,
                 char *wrong);

/* Appends TOKEN as a line of the file. */
void token_write(struct text *out, const struct token *token);

/*
 * The one of TOKENS with DIGEST, or NULL.  Takes as long whichever it is, and if it is none.  Where
 * a token stands twice the first counts.
 */
const struct token *tokens_find(const struct tokens *tokens,
                                const uint8_t digest[TOKEN_DIGEST_SIZE]);

/* The token that a client has presented as TEXT, by tokens_find; NULL also for what is none. */
const struct token *tokens_of_text(const struct tokens *tokens, const char *text, size_t length);

/* Is TOKEN over at NOW_US (since 1970)? */
static inline bool token_is_over(const struct token *token, uint64_t now_us)
{
	return token->expires_us != 0 && now_us >= token->expires_us;
}

/*
 * TOKENS are an older reading of the file that NOW was read from.  Those that are not there any
 * more, or permit something else there, are over; the others end when they do there.  What is new
 * there is added, as long as there is room: none of TOKENS moves.
 */
void tokens_renew(struct tokens *tokens, const struct tokens *now);

/* May TOKEN (NULL: anybody) touch the account NAME? */
bool token_covers(const struct token *token, struct words name);

/*
 * The names that begin with PREFIX and that TOKEN (NULL: anybody) may touch are those that begin
 * with *NARROWED, which borrows from either.  False: there are none.
 */
bool token_narrows(const struct token *token, struct words prefix, struct words *narrowed);

#endif
