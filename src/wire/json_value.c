/*
 * Values of JSON and what they mean: strings with their escapes undone, names, ids, integers; and
 * the sentences that refuse them.
 */
#include "json_parts.h"
#include "text.h"
#include "utf8.h"

/* The longest magnitude whose value surely fits uint64: 2^63 has 19 digits. */
#define AMOUNT_DIGITS_MAX 19

/* Starts a refusal: sets REASON and AT and lets DETAIL write into ERROR. */
static void refuse_begin(struct json_error *error, const char *reason, size_t at,
                         struct text *detail)
{
	error->reason = reason;
	error->at = at;
	text_init(detail, error->detail, sizeof(error->detail) - 1);
}

/* Ends it; always false. */
static bool refuse_end(struct json_error *error, const struct text *detail)
{
	error->detail[detail->length] = '\0';
	return false;
}

bool json_refuse(struct json_error *error, const char *reason, size_t at, const char *what)
{
	struct text detail;

	refuse_begin(error, reason, at, &detail);
	text_string(&detail, what);
	return refuse_end(error, &detail);
}

/* Quotes VALUE in printable ASCII: other bytes as \xNN, at most JSON_QUOTE_MAX of them. */
static void quote(struct text *out, const char *value, size_t length)
{
	static const char hex[] = "0123456789abcdef";
	size_t shown = length < JSON_QUOTE_MAX ? length : JSON_QUOTE_MAX;

	text_literal(out, "\"");
	for (size_t i = 0; i < shown; i++) {
		unsigned char byte = (unsigned char)value[i];
		char escape[4] = {'\\', 'x', hex[byte >> 4], hex[byte & 15]};

		if (byte == '"' || byte == '\\')
			text_literal(out, "\\");
		if (byte >= 0x20 && byte < 0x7f)
			text_bytes(out, value + i, 1);
		else
			text_bytes(out, escape, sizeof(escape));
	}
	if (shown < length)
		text_literal(out, "...");
	text_literal(out, "\"");
}

bool json_refuse_key(struct json_error *error, const char *reason, size_t at,
                     const struct json_value *key, const char *after, const char *rest)
{
	struct text detail;

	refuse_begin(error, reason, at, &detail);
	text_literal(&detail, "the key ");
	quote(&detail, key->bytes, key->length);
	text_string(&detail, after);
	text_string(&detail, rest);
	return refuse_end(error, &detail);
}

bool json_refuse_leg(struct json_error *error, size_t index)
{
	char inner[sizeof(error->detail)];
	struct text detail;

	memcpy(inner, error->detail, sizeof(inner));
	refuse_begin(error, error->reason, error->at, &detail);
	text_literal(&detail, "leg ");
	text_unsigned(&detail, index);
	text_literal(&detail, ": ");
	text_string(&detail, inner);
	return refuse_end(error, &detail);
}

/* The value of four hexadecimal digits that the grammar check has seen. */
static uint32_t hex_unit(const char *digits)
{
	uint32_t unit = 0;

	for (size_t i = 0; i < 4; i++) {
		uint32_t byte = (unsigned char)digits[i];

		unit = unit * 16 + (byte <= '9' ? byte - '0' : (byte | 0x20) - 'a' + 10);
	}
	return unit;
}

/* Writes CODE as UTF-8 to TARGET (4 bytes); returns its length. */
static size_t encode(char *target, uint32_t code)
{
	static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
	size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;

	for (size_t i = length; i-- > 1; code >>= 6)
		target[i] = (char)(0x80 | (code & 0x3f));
	target[0] = (char)(lead[length] | code);
	return length;
}

/* Undoes the escape at SOURCE into TARGET; *LENGTH is what that wrote.  Returns what it took. */
static size_t unescape_one(char *target, const char *source, size_t *length)
{
	static const char meaning[] = {
	    ['b'] = '\b', ['f'] = '\f', ['n'] = '\n', ['r'] = '\r', ['t'] = '\t'};
	unsigned char kind = (unsigned char)source[1];
	uint32_t code;

	*length = 1;
	if (kind != 'u') {
		*target = source[1];
		if (kind < sizeof(meaning) && meaning[kind] != 0)
			*target = meaning[kind];
		return 2;
	}
	code = hex_unit(source + 2);
	if (code < 0xd800 || code > 0xdfff) {
		*length = encode(target, code);
		return 6;
	}
	code = 0x10000 + ((code - 0xd800) << 10) + (hex_unit(source + 8) - 0xdc00);
	*length = encode(target, code);
	return 12;
}

/* No escape is shorter than what it stands for. */
size_t json_unescape(char *text, size_t length)
{
	const char *escape = memchr(text, '\\', length);
	size_t from;
	size_t to;

	if (escape == NULL)
		return length;
	from = to = (size_t)(escape - text);
	while (from < length) {
		char bytes[4];
		size_t count;

		if (text[from] != '\\') {
			text[to++] = text[from++];
			continue;
		}
		from += unescape_one(bytes, text + from, &count);
		memcpy(text + to, bytes, count);
		to += count;
	}
	return to;
}

bool json_value_is(const struct json_value *value, const char *word)
{
	return value->length == strlen(word) && memcmp(value->bytes, word, value->length) == 0;
}

/* U+0000 to U+001F and U+007F to U+009F, the latter two bytes long from U+0080 on. */
static bool is_control(const unsigned char *character)
{
	return character[0] < 0x20 || character[0] == 0x7f ||
	       (character[0] == 0xc2 && character[1] < 0xa0);
}

/* Valid UTF-8 without control characters? */
static bool is_clean(const char *text, size_t length)
{
	const unsigned char *bytes = (const unsigned char *)text;
	size_t i = 0;

	while (i < length) {
		size_t taken = utf8_length(bytes + i, length - i);

		if (taken == 0 || is_control(bytes + i))
			return false;
		i += taken;
	}
	return true;
}

bool json_account_name_valid(const char *name, size_t length)
{
	return length > 0 && length <= ACCOUNT_NAME_MAX && is_clean(name, length);
}

bool json_note_valid(const char *note, size_t length)
{
	return length <= NOTE_MAX && is_clean(note, length);
}

bool json_id_valid(const char *id, size_t length)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint64_t wrong = 0;
	size_t i = 0;

	if (length == 0 || length > ID_MAX)
		return false;
	/* Eight at once: a top bit for each byte under '!', DEL, or over it. */
	for (; length - i >= sizeof(wrong); i += sizeof(wrong)) {
		uint64_t word;

		memcpy(&word, id + i, sizeof(word));
		uint64_t delete = word ^ ones * 0x7f;

		wrong |= ((word - ones * '!') & ~word) | ((delete - ones) & ~delete) | word;
	}
	if ((wrong & ones * 0x80) != 0)
		return false;
	for (; i < length; i++) {
		if (id[i] < '!' || id[i] > '~')
			return false;
	}
	return true;
}

static struct words words_of(const struct json_value *value)
{
	return (struct words){.bytes = value->bytes, .length = (uint32_t)value->length};
}

bool json_take_name(const struct json_value *value, struct words *name, struct json_error *error)
{
	static const char reason[] = "invalid_account";

	if (value->kind != JSON_STRING)
		return json_refuse(error, reason, value->at, "the account's name must be a string");
	if (value->length == 0)
		return json_refuse(error, reason, value->at, "the account's name is empty");
	if (value->length > ACCOUNT_NAME_MAX)
		return json_refuse(error, reason, value->at,
		                   "the account's name is longer than " JSON_TEXT_OF(
		                       ACCOUNT_NAME_MAX) " bytes of UTF-8");
	if (!is_clean(value->bytes, value->length))
		return json_refuse(error, reason, value->at,
		                   "the account's name holds a control character");
	*name = words_of(value);
	return true;
}

bool json_take_id(const struct json_value *value, struct words *id, struct json_error *error)
{
	static const char reason[] = "invalid_id";

	if (value->kind != JSON_STRING)
		return json_refuse(error, reason, value->at, "the id must be a string");
	if (value->length == 0)
		return json_refuse(error, reason, value->at, "the id is empty");
	if (value->length > ID_MAX)
		return json_refuse(error, reason, value->at,
		                   "the id is longer than " JSON_TEXT_OF(ID_MAX) " bytes");
	if (!json_id_valid(value->bytes, value->length))
		return json_refuse(
		    error, reason, value->at,
		    "the id holds something else than printable ASCII without space");
	*id = words_of(value);
	return true;
}

bool json_take_note(const struct json_value *value, struct words *note, struct json_error *error)
{
	static const char reason[] = "invalid_note";

	if (value->kind != JSON_STRING)
		return json_refuse(error, reason, value->at, "the note must be a string");
	if (value->length > NOTE_MAX)
		return json_refuse(
		    error, reason, value->at,
		    "the note is longer than " JSON_TEXT_OF(NOTE_MAX) " bytes of UTF-8");
	if (!is_clean(value->bytes, value->length))
		return json_refuse(error, reason, value->at, "the note holds a control character");
	*note = words_of(value);
	return true;
}

/* How far DIGITS[0..LENGTH) is an integer as JSON writes it. */
enum integer { INTEGER_EXACT, INTEGER_TOO_LARGE, INTEGER_NONE };

static enum integer integer_of(const struct json_value *value, int64_t *number)
{
	const char *digits = value->bytes;
	size_t length = value->kind == JSON_NESTED ? 0 : value->length;
	bool negative = length > 0 && digits[0] == '-';
	uint64_t limit = (uint64_t)INT64_MAX + (negative ? 1 : 0);
	uint64_t magnitude = 0;

	digits += negative;
	length -= negative;
	if (length == 0 || (length > 1 && digits[0] == '0'))
		return INTEGER_NONE;
	for (size_t i = 0; i < length; i++) {
		if (digits[i] < '0' || digits[i] > '9')
			return INTEGER_NONE;
		if (i < AMOUNT_DIGITS_MAX)
			magnitude = magnitude * 10 + (uint64_t)(digits[i] - '0');
	}
	if (length > AMOUNT_DIGITS_MAX || magnitude > limit)
		return INTEGER_TOO_LARGE;
	/* INT64_MIN by way of unsigned: its magnitude does not exist as int64. */
	*number = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
	return INTEGER_EXACT;
}

bool json_take_amount(const struct json_value *value, int64_t least, int64_t *amount,
                      struct json_error *error)
{
	static const char reason[] = "invalid_amount";

	switch (integer_of(value, amount)) {
	case INTEGER_TOO_LARGE:
		return json_refuse(
		    error, reason, value->at,
		    "the amount is outside -9223372036854775808 to 9223372036854775807");
	case INTEGER_NONE:
		return json_refuse(error, reason, value->at,
		                   "the amount must be an integer, without fraction or exponent");
	case INTEGER_EXACT:
		break;
	}
	if (*amount < least)
		return json_refuse(error, reason, value->at,
		                   least > 0 ? "the amount must be at least 1"
		                             : "the amount must not be negative");
	return true;
}

bool json_take_ttl(const struct json_value *value, uint32_t *ttl, struct json_error *error)
{
	int64_t seconds;

	if (integer_of(value, &seconds) != INTEGER_EXACT || seconds < 1 || seconds > HOLD_TTL_MAX)
		return json_refuse(error, "invalid_ttl", value->at,
		                   "ttl must be a number of seconds from 1 to 2592000, 30 days");
	*ttl = (uint32_t)seconds;
	return true;
}

_Static_assert(HOLD_TTL_MAX == 2592000, "the detail above says so");

bool json_take_limit(const struct json_value *value, const char *reason, int64_t *limit,
                     struct json_error *error)
{
	if (integer_of(value, limit) != INTEGER_EXACT)
		return json_refuse(error, reason, value->at,
		                   "a floor or ceiling is null or an integer from "
		                   "-9223372036854775808 to 9223372036854775807");
	return true;
}

bool json_take_frozen(const struct json_value *value, enum frozen *frozen, struct json_error *error)
{
	static const char *const words[] = {
	    [FROZEN_NONE] = "none", [FROZEN_DEBITS] = "debits", [FROZEN_ALL] = "all"};

	for (enum frozen i = FROZEN_NONE; value->kind == JSON_STRING && i <= FROZEN_ALL; i++) {
		if (json_value_is(value, words[i])) {
			*frozen = i;
			return true;
		}
	}
	return json_refuse(error, "invalid_frozen", value->at,
	                   "frozen must be \"none\", \"debits\" or \"all\"");
}

bool json_take_balanced(const struct json_value *value, bool *balanced, struct json_error *error)
{
	*balanced = json_value_is(value, "true");
	if (value->kind != JSON_WORD || (!*balanced && !json_value_is(value, "false")))
		return json_refuse(error, "invalid_balanced", value->at,
		                   "balanced must be true or false");
	return true;
}
