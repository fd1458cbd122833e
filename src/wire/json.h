/*
 * JSON at the boundary (RFC 8259), strictly.  A grammar check of our own runs
 * over the whole document first; jsmn then only locates tokens.  This is the
 * one user of jsmn.
 */
#ifndef TALLYD_WIRE_JSON_H
#define TALLYD_WIRE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../ledger/event.h"

#define JSON_DEPTH_MAX  16        /* nested arrays and objects; more is refused */
#define JSON_TOKENS_MAX 64        /* keys, values and brackets of an event; more is refused */
#define JSON_LENGTH_MAX INT32_MAX /* bytes of an event's document: jsmn's offsets are int */
#define JSON_QUOTE_MAX  24        /* bytes of a client's key that a detail quotes */

/* Why a document was refused.  String constants but for the detail. */
struct json_error {
	const char *reason; /* stable: "invalid_json", "unknown_key", "duplicate_key", ... */
	size_t at;          /* byte offset of the violation; 0 if it is the whole document */
	char detail[160];   /* one sentence for a person, NUL-terminated, printable ASCII only */
};

/*
 * Is TEXT[0..LENGTH) exactly one JSON value with optional white space around it:
 * grammar, UTF-8 (RFC 3629), paired surrogate escapes, depth, no BOM, nothing
 * after the value?  True, or false with *ERROR set ("invalid_json").
 */
bool json_check(const char *text, size_t length, struct json_error *error);

/*
 * Reads {"account":"alice","amount":-5} from TEXT (LENGTH bytes, modified:
 * escapes are undone in place, and the event's account points into it).
 * "user" is another name of "account"; both at once is "ambiguous_account".
 * Amount: an exact int64 as a JSON integer (no fraction, no exponent, "-0" is 0) or as
 * a decimal string of the same form.
 * True, or false with *ERROR set and *EVENT unspecified; the first of these that holds, keys in
 * the document's order:
 *   invalid_json      the grammar check failed, or there are over JSON_TOKENS_MAX tokens
 *   not_an_object     the document is something else
 *   duplicate_key     after unescaping
 *   unknown_key       named in the detail
 *   ambiguous_account both "account" and "user"
 *   missing_account, missing_amount
 *   invalid_account   not a string, empty, over 100 bytes, or with control characters
 *                     (U+0000 to U+001F, U+007F to U+009F)
 *   invalid_amount    not an integer, or outside int64
 */
bool json_read_event(char *text, size_t length, struct event *event, struct json_error *error);

/*
 * The rule for names, for those that come by another way than JSON (a path): 1 to
 * ACCOUNT_NAME_MAX bytes of valid UTF-8 without control characters.
 */
bool json_account_name_valid(const char *name, size_t length);

#endif
