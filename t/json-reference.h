/*
 * A second reader of events, for the test alone: slow, recursive, over code points, written from
 * RFC 8259 and from the rules in src/wire/json.h, with nothing shared with the reader it
 * judges.  It says yes or no, never why.
 */
#ifndef TALLYD_JSON_REFERENCE_H
#define TALLYD_JSON_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define REFERENCE_MAX  4096 /* bytes of a document, and code points */
#define REFERENCE_DEEP 16   /* nested brackets */

/* What a value turned out to be. */
enum kind { KIND_STRING, KIND_NUMBER, KIND_NULL, KIND_OTHER };

struct value {
	enum kind kind;
	uint32_t points[REFERENCE_MAX]; /* a string's, unescaped; a number's characters */
	size_t count;
};

struct reference {
	uint32_t points[REFERENCE_MAX + 1]; /* ends with END_OF_TEXT */
	size_t at;
	int depth;
};

#define END_OF_TEXT UINT32_MAX

/* Decodes one character by its bits, then judges the number; 0 if it is none. */
static size_t reference_decode(const unsigned char *bytes, size_t left, uint32_t *point)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t length = 1;

	while (length < 5 && (bytes[0] & (0x80u >> (length - 1))) != 0)
		length++;
	/* LENGTH is now one more than the leading ones. */
	length--;
	if (length == 0) {
		*point = bytes[0];
		return 1;
	}
	if (length == 1 || length > 4 || length > left || (bytes[0] & 0xf8) == 0xf8)
		return 0;
	*point = bytes[0] & (0x7fu >> length);
	for (size_t i = 1; i < length; i++) {
		if (bytes[i] >> 6 != 2)
			return 0;
		*point = *point * 64 + (bytes[i] & 63u);
	}
	if (*point < least[length] || *point > 0x10ffff || *point / 0x800 == 0xd800 / 0x800)
		return 0;
	return length;
}

static bool reference_load(struct reference *r, const char *text, size_t length)
{
	size_t count = 0;

	for (size_t i = 0; i < length; count++) {
		size_t taken = reference_decode((const unsigned char *)text + i, length - i,
		                                &r->points[count]);

		if (taken == 0)
			return false;
		i += taken;
	}
	r->points[count] = END_OF_TEXT;
	r->at = 0;
	r->depth = 0;
	return true;
}

static bool reference_take(struct reference *r, uint32_t point)
{
	if (r->points[r->at] != point)
		return false;
	r->at++;
	return true;
}

static void reference_space(struct reference *r)
{
	while (reference_take(r, ' ') || reference_take(r, '\t') || reference_take(r, '\r') ||
	       reference_take(r, '\n'))
		;
}

static bool reference_hex(struct reference *r, uint32_t *unit)
{
	static const char digits[] = "0123456789abcdef0123456789ABCDEF";

	*unit = 0;
	for (int i = 0; i < 4; i++) {
		uint32_t point = r->points[r->at];
		const char *digit = point > 0 && point < 128 ? strchr(digits, (int)point) : NULL;

		if (digit == NULL)
			return false;
		*unit = *unit * 16 + (uint32_t)((digit - digits) % 16);
		r->at++;
	}
	return true;
}

static bool reference_escape(struct reference *r, uint32_t *point)
{
	static const char from[] = "\"\\/bfnrt";
	static const char to[] = "\"\\/\b\f\n\r\t";
	uint32_t low;

	for (size_t i = 0; from[i] != '\0'; i++) {
		if (reference_take(r, (uint32_t)from[i])) {
			*point = (uint32_t)to[i];
			return true;
		}
	}
	if (!reference_take(r, 'u') || !reference_hex(r, point))
		return false;
	if (*point >= 0xdc00 && *point < 0xe000)
		return false;
	if (*point < 0xd800 || *point >= 0xe000)
		return true;
	if (!reference_take(r, '\\') || !reference_take(r, 'u') || !reference_hex(r, &low))
		return false;
	*point = 0x10000 + (*point - 0xd800) * 0x400 + (low - 0xdc00);
	return low >= 0xdc00 && low < 0xe000;
}

static bool reference_string(struct reference *r, struct value *value)
{
	value->kind = KIND_STRING;
	value->count = 0;
	if (!reference_take(r, '"'))
		return false;
	while (!reference_take(r, '"')) {
		uint32_t point = r->points[r->at];

		if (point == END_OF_TEXT || point < 32)
			return false;
		r->at++;
		if (point == '\\' && !reference_escape(r, &point))
			return false;
		value->points[value->count++] = point;
	}
	return true;
}

static bool reference_digits(struct reference *r)
{
	size_t begin = r->at;

	while (r->points[r->at] >= '0' && r->points[r->at] <= '9')
		r->at++;
	return r->at > begin;
}

static bool reference_number(struct reference *r, struct value *value)
{
	size_t begin = r->at;

	(void)reference_take(r, '-');
	if (!reference_take(r, '0') && !reference_digits(r))
		return false;
	if (reference_take(r, '.') && !reference_digits(r))
		return false;
	if (reference_take(r, 'e') || reference_take(r, 'E')) {
		if (!reference_take(r, '+'))
			(void)reference_take(r, '-');
		if (!reference_digits(r))
			return false;
	}
	value->kind = KIND_NUMBER;
	value->count = r->at - begin;
	memcpy(value->points, r->points + begin, value->count * sizeof(value->points[0]));
	return true;
}

static bool reference_word(struct reference *r, const char *word)
{
	for (; *word != '\0'; word++)
		if (!reference_take(r, (uint32_t)*word))
			return false;
	return true;
}

/* Hears of each member of the outermost object. */
typedef void reference_member(void *context, const struct value *key, const struct value *value);

static bool reference_value(struct reference *r, struct value *value, reference_member *member,
                            void *context);

static bool reference_members(struct reference *r, reference_member *member, void *context)
{
	struct value *key = malloc(sizeof(*key));
	struct value *value = malloc(sizeof(*value));
	bool good = key != NULL && value != NULL;

	do {
		reference_space(r);
		good = good && reference_string(r, key);
		reference_space(r);
		good = good && reference_take(r, ':');
		reference_space(r);
		good = good && reference_value(r, value, NULL, NULL);
		reference_space(r);
		if (good && member != NULL)
			member(context, key, value);
	} while (good && reference_take(r, ','));
	free(key);
	free(value);
	return good && reference_take(r, '}');
}

static bool reference_elements(struct reference *r, struct value *scratch)
{
	do {
		reference_space(r);
		if (!reference_value(r, scratch, NULL, NULL))
			return false;
		reference_space(r);
	} while (reference_take(r, ','));
	return reference_take(r, ']');
}

static bool reference_nested(struct reference *r, struct value *value, reference_member *member,
                             void *context)
{
	bool object = r->points[r->at++] == '{';
	bool good;

	if (++r->depth > REFERENCE_DEEP)
		return false;
	reference_space(r);
	if (reference_take(r, object ? '}' : ']'))
		good = true;
	else if (object)
		good = reference_members(r, member, context);
	else
		good = reference_elements(r, value);
	r->depth--;
	value->kind = KIND_OTHER;
	return good;
}

static bool reference_value(struct reference *r, struct value *value, reference_member *member,
                            void *context)
{
	value->kind = KIND_OTHER;
	switch (r->points[r->at]) {
	case '{':
	case '[':
		return reference_nested(r, value, member, context);
	case '"':
		return reference_string(r, value);
	case 't':
		return reference_word(r, "true");
	case 'f':
		return reference_word(r, "false");
	case 'n':
		value->kind = KIND_NULL;
		return reference_word(r, "null");
	default:
		return reference_number(r, value);
	}
}

/* What the reference makes of a document. */
struct verdict {
	bool json;    /* it keeps to the grammar */
	bool event;   /* and it is an event */
	bool object;  /* the parser's own: the document is an object */
	bool spoiled; /* and so is this: a member that no event has */
	int names;
	int amounts;
	int ids;
	int notes;
	uint32_t name[REFERENCE_MAX];
	size_t name_count;
	int64_t amount;
};

static bool value_is(const struct value *value, const char *ascii)
{
	size_t i = 0;

	for (; i < value->count && ascii[i] != '\0'; i++)
		if (value->points[i] != (uint32_t)ascii[i])
			return false;
	return i == value->count && ascii[i] == '\0';
}

static size_t utf8_size(uint32_t point)
{
	return point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
}

/* A string without control characters, of LEAST to MOST bytes. */
static bool reference_words(const struct value *value, size_t least, size_t most)
{
	size_t bytes = 0;

	if (value->kind != KIND_STRING)
		return false;
	for (size_t i = 0; i < value->count; i++) {
		uint32_t point = value->points[i];

		if (point < 0x20 || (point >= 0x7f && point < 0xa0))
			return false;
		bytes += utf8_size(point);
	}
	return bytes >= least && bytes <= most;
}

static bool reference_name(const struct value *value, struct verdict *verdict)
{
	if (!reference_words(value, 1, 100))
		return false;
	verdict->name_count = value->count;
	memcpy(verdict->name, value->points, value->count * sizeof(value->points[0]));
	return true;
}

static bool reference_id(const struct value *value)
{
	if (value->kind == KIND_NULL)
		return true;
	for (size_t i = 0; value->kind == KIND_STRING && i < value->count; i++)
		if (value->points[i] <= ' ' || value->points[i] > '~')
			return false;
	return reference_words(value, 1, 128);
}

/* Counts downwards, towards INT64_MIN, the longer half. */
static bool reference_amount(const struct value *value, int64_t *amount)
{
	bool negative = (value->kind == KIND_STRING || value->kind == KIND_NUMBER) &&
	                value->count > 0 && value->points[0] == '-';
	size_t first = negative ? 1 : 0;

	*amount = 0;
	if ((value->kind != KIND_STRING && value->kind != KIND_NUMBER) || value->count == first)
		return false;
	if (value->points[first] == '0' && value->count > first + 1)
		return false;
	for (size_t i = first; i < value->count; i++) {
		if (value->points[i] < '0' || value->points[i] > '9')
			return false;
		if (__builtin_mul_overflow(*amount, 10, amount) ||
		    __builtin_sub_overflow(*amount, (int64_t)value->points[i] - '0', amount))
			return false;
	}
	return negative || !__builtin_sub_overflow((int64_t)0, *amount, amount);
}

static void reference_event_member(void *context, const struct value *key,
                                   const struct value *value)
{
	struct verdict *verdict = context;

	if (value_is(key, "account") || value_is(key, "user")) {
		verdict->names++;
		verdict->spoiled |= !reference_name(value, verdict);
	} else if (value_is(key, "amount")) {
		verdict->amounts++;
		verdict->spoiled |= !reference_amount(value, &verdict->amount);
	} else if (value_is(key, "id")) {
		verdict->ids++;
		verdict->spoiled |= !reference_id(value);
	} else if (value_is(key, "note")) {
		verdict->notes++;
		verdict->spoiled |= value->kind != KIND_NULL && !reference_words(value, 0, 256);
	} else {
		verdict->spoiled = true;
	}
}

/* Judges TEXT[0..LENGTH), at most REFERENCE_MAX bytes. */
static void reference_judge(const char *text, size_t length, struct verdict *verdict)
{
	static struct reference r;
	static struct value value;

	verdict->json = verdict->event = verdict->object = verdict->spoiled = false;
	verdict->names = verdict->amounts = verdict->ids = verdict->notes = 0;
	if (!reference_load(&r, text, length))
		return;
	reference_space(&r);
	verdict->object = r.points[r.at] == '{';
	if (!reference_value(&r, &value, reference_event_member, verdict))
		return;
	reference_space(&r);
	verdict->json = r.points[r.at] == END_OF_TEXT;
	verdict->event = verdict->json && verdict->object && !verdict->spoiled &&
	                 verdict->names == 1 && verdict->amounts == 1 && verdict->ids <= 1 &&
	                 verdict->notes <= 1;
}

#endif
