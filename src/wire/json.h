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
#define JSON_TOKENS_MAX 128       /* keys, values and brackets of a request; more is refused */
#define JSON_LENGTH_MAX INT32_MAX /* bytes of an event's document: jsmn's offsets are int */
#define JSON_QUOTE_MAX  24        /* bytes of a client's key that a detail quotes */

/* Why a document was refused.  String constants but for the detail. */
struct json_error {
	const char *reason; /* stable: "invalid_json", "unknown_key", "duplicate_key", ... */
	size_t at;          /* byte offset of the violation; 0 if it is the whole document */
	char detail[224];   /* one sentence for a person, NUL-terminated, printable ASCII only */
};

/*
 * Is TEXT[0..LENGTH) exactly one JSON value with optional white space around it:
 * grammar, UTF-8 (RFC 3629), paired surrogate escapes, depth, no BOM, nothing
 * after the value?  True, or false with *ERROR set ("invalid_json").
 */
bool json_check(const char *text, size_t length, struct json_error *error);

/*
 * Readers of the bodies that operations come in.  Each reads TEXT (LENGTH bytes, modified: escapes
 * are undone in place, and the request's words point into it) into *REQUEST, whose kind it sets and
 * whose other fields it clears, but for the legs behind request->legs.  True, or false with *ERROR
 * set and *REQUEST unspecified; the first of these that holds, keys in the document's order:
 *   invalid_json      the grammar check failed, or there are too many tokens
 *   not_an_object     the document is something else
 *   duplicate_key     after unescaping
 *   unknown_key       named in the detail
 *   ambiguous_account both "account" and "user"
 *   missing_account, missing_amount, missing_from, ...: missing_KEY
 *   invalid_account (also for "from", "to"), invalid_amount, invalid_id, invalid_note, invalid_ttl,
 *   invalid_floor, invalid_ceiling, invalid_frozen, invalid_balanced, invalid_legs
 * Amounts: an exact int64 as a JSON integer (no fraction, no exponent, "-0" is 0) or as a decimal
 * string of the same form.  Every reader takes "id" (1 to ID_MAX bytes of printable ASCII without
 * space) and "note" (up to NOTE_MAX bytes of UTF-8 without control characters).  null is "not
 * given" for every key that may be left out, but for "amount" and "to" of a capture.
 */

/* {"account":"alice","amount":-5}; "user" is another name of "account". */
bool json_read_event(char *text, size_t length, struct request *request, struct json_error *error);

/* {"from":..,"to":..,"amount":N}, N > 0.  That it is two accounts is for the ledger to say. */
bool json_read_transfer(char *text, size_t length, struct request *request,
                        struct json_error *error);

/*
 * {"legs":[{"account":..,"amount":..},..],"balanced":true}: 1 to LEGS_MAX legs, each account once
 * (duplicate_account).
 */
bool json_read_transaction(char *text, size_t length, struct request *request,
                           struct json_error *error);

/* POST /accounts: {"account":..,"floor":N|null,"ceiling":N|null,"frozen":"none"|"debits"|"all"};
 * what is left out is null and "none".  floor above ceiling is invalid_floor. */
bool json_read_create(char *text, size_t length, struct request *request, struct json_error *error);

/* PUT /accounts/NAME: the same; "account" may be left out, else it is NAME (account_differs).  An
 * empty body is {}. */
bool json_read_replace(char *text, size_t length, struct words name, struct request *request,
                       struct json_error *error);

/* {"account":..,"amount":N,"ttl":SECONDS}: N > 0; ttl 1 to HOLD_TTL_MAX. */
bool json_read_hold(char *text, size_t length, struct request *request, struct json_error *error);

/* {"amount":N,"to":..}: both optional, N >= 0.  An empty body is {}.  The same for a release, which
 * takes neither. */
bool json_read_capture(char *text, size_t length, struct words hold, struct request *request,
                       struct json_error *error);
bool json_read_release(char *text, size_t length, struct words hold, struct request *request,
                       struct json_error *error);

/* DELETE /accounts/NAME: an empty body, or {} with "id" and "note". */
bool json_read_delete(char *text, size_t length, struct words name, struct request *request,
                      struct json_error *error);

/*
 * Finds the elements of a JSON array of at most MAX: where each begins and its length, relative to
 * TEXT, into ITEMS, their number in *COUNT.  The whole document is checked.  invalid_json,
 * not_an_array, too_many_events.
 */
struct json_item {
	uint32_t at;
	uint32_t length;
};
bool json_split_array(const char *text, size_t length, struct json_item *items, size_t max,
                      size_t *count, struct json_error *error);

/* The rule for ids: 1 to ID_MAX bytes from '!' to '~'. */
bool json_id_valid(const char *id, size_t length);

/*
 * The rule for names, for those that come by another way than JSON (a path): 1 to
 * ACCOUNT_NAME_MAX bytes of valid UTF-8 without control characters.
 */
bool json_account_name_valid(const char *name, size_t length);

/* The same for notes: up to NOTE_MAX bytes. */
bool json_note_valid(const char *note, size_t length);

#endif
