/*
 * What the files of the JSON reader share; nobody else includes it.
 */
#ifndef TALLYD_WIRE_JSON_PARTS_H
#define TALLYD_WIRE_JSON_PARTS_H

#include <string.h>

#include "json.h"

#define JSON_TEXT_OF(number)  JSON_TEXT_OF_(number)
#define JSON_TEXT_OF_(number) #number

/* What a value is before anybody asks what it means. */
enum json_kind { JSON_STRING, JSON_WORD /* a number, true, false, null */, JSON_NESTED };

struct json_value {
	enum json_kind kind;
	size_t at;   /* offset in the document */
	char *bytes; /* a string's inside, its escapes undone; a word's letters */
	size_t length;
};

/* Starts REQUEST as KIND.  Legs behind the second are left as they are: most have one. */
static inline void json_request_begin(struct request *request, enum request_kind kind)
{
	memset(request, 0, offsetof(struct request, leg) + 2 * sizeof(request->leg[0]));
	request->kind = kind;
}

/* A refusal whose detail is the constant WHAT; always false. */
bool json_refuse(struct json_error *error, const char *reason, size_t at, const char *what);

/* The same, with KEY quoted between BEFORE, and AFTER; REST may be empty. */
bool json_refuse_key(struct json_error *error, const char *reason, size_t at,
                     const struct json_value *key, const char *after, const char *rest);

/* Puts "leg INDEX: " before the detail of ERROR; always false. */
bool json_refuse_leg(struct json_error *error, size_t index);

/* Undoes the escapes of TEXT[0..LENGTH), the inside of a checked string, in place; its new length.
 */
size_t json_unescape(char *text, size_t length);

bool json_value_is(const struct json_value *value, const char *word);

/* The meaning of values, each with its rule of json.h; false with *ERROR set. */
bool json_take_name(const struct json_value *value, struct words *name, struct json_error *error);
bool json_take_id(const struct json_value *value, struct words *id, struct json_error *error);
bool json_take_note(const struct json_value *value, struct words *note, struct json_error *error);
/* At least LEAST. */
bool json_take_amount(const struct json_value *value, int64_t least, int64_t *amount,
                      struct json_error *error);
bool json_take_ttl(const struct json_value *value, uint32_t *ttl, struct json_error *error);
/* REASON and NAME are those of a floor or a ceiling. */
bool json_take_limit(const struct json_value *value, const char *reason, int64_t *limit,
                     struct json_error *error);
bool json_take_frozen(const struct json_value *value, enum frozen *frozen,
                      struct json_error *error);
bool json_take_balanced(const struct json_value *value, bool *balanced, struct json_error *error);

/*
 * Reads an event as most clients write it in one pass: a flat object without escapes.
 * True: TEXT is a valid event, and REQUEST is it.  False: it is none, or it is unusual, and
 * somebody else has to look; TEXT is unchanged.
 */
bool json_flat_event(const char *text, size_t length, struct request *request);

#endif
