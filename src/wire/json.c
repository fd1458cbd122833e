/*
 * Events out of JSON: the grammar check first, then jsmn to find the tokens, then
 * the meaning of each.
 */
#include <string.h>

#include "json.h"
#include "text.h"
#include "utf8.h"

#define JSMN_STATIC
#define JSMN_STRICT
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include <jsmn.h>
#pragma GCC diagnostic pop

/* The longest magnitude whose value surely fits uint64: 2^63 has 19 digits. */
#define AMOUNT_DIGITS_MAX 19

/* The tokens of an event's members, as found so far. */
struct members {
	const jsmntok_t *account; /* the value of "account" or "user" */
	const jsmntok_t *amount;
	bool by_user; /* account came as "user" */
};

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

/* A refusal whose detail is the constant WHAT; always false. */
static bool refuse(struct json_error *error, const char *reason, size_t at, const char *what)
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

/*
 * Undoes the escapes of TEXT[0..LENGTH), the inside of a string that the grammar
 * check has passed, in place: no escape is shorter than what it stands for.
 * Returns the new length.
 */
static size_t unescape(char *text, size_t length)
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

/* A token's bytes, which its escapes are undone in; its new length. */
static char *string_of(char *text, const jsmntok_t *token, size_t *length)
{
	char *bytes = text + token->start;

	*length = unescape(bytes, (size_t)(token->end - token->start));
	return bytes;
}

static bool key_is(const char *key, size_t length, const char *name)
{
	return length == strlen(name) && memcmp(key, name, length) == 0;
}

static bool refuse_unknown_key(struct json_error *error, size_t at, const char *key, size_t length)
{
	struct text detail;

	refuse_begin(error, "unknown_key", at, &detail);
	text_literal(&detail, "the key ");
	quote(&detail, key, length);
	text_literal(&detail, " is not known; send \"account\" and \"amount\"");
	return refuse_end(error, &detail);
}

static bool refuse_duplicate_key(struct json_error *error, size_t at, const char *key,
                                 size_t length)
{
	struct text detail;

	refuse_begin(error, "duplicate_key", at, &detail);
	text_literal(&detail, "the key ");
	quote(&detail, key, length);
	text_literal(&detail, " occurs twice");
	return refuse_end(error, &detail);
}

/* Takes note of VALUE under KEY, or refuses the key. */
static bool take_member(char *text, const jsmntok_t *key, const jsmntok_t *value,
                        struct members *members, struct json_error *error)
{
	size_t at = (size_t)key->start;
	size_t length;
	const char *name = string_of(text, key, &length);
	bool user = key_is(name, length, "user");

	if (user || key_is(name, length, "account")) {
		if (members->account != NULL && members->by_user == user)
			return refuse_duplicate_key(error, at, name, length);
		if (members->account != NULL)
			return refuse(error, "ambiguous_account", at,
			              "\"user\" is another name of \"account\"; send one of them");
		members->account = value;
		members->by_user = user;
		return true;
	}
	if (!key_is(name, length, "amount"))
		return refuse_unknown_key(error, at, name, length);
	if (members->amount != NULL)
		return refuse_duplicate_key(error, at, name, length);
	members->amount = value;
	return true;
}

/* Finds the members of the object TOKENS[0], of COUNT tokens. */
static bool find_members(char *text, const jsmntok_t *tokens, int count, struct members *members,
                         struct json_error *error)
{
	int i = 1;

	while (i + 1 < count) {
		const jsmntok_t *key = &tokens[i];
		const jsmntok_t *value = &tokens[i + 1];

		if (!take_member(text, key, value, members, error))
			return false;
		/* What is inside the value is nobody's here: its type will be refused. */
		for (i += 2; i < count && tokens[i].start < value->end; i++)
			;
	}
	return true;
}

static bool check_present(const struct members *members, struct json_error *error)
{
	if (members->account == NULL)
		return refuse(error, "missing_account", 0,
		              "\"account\" is missing: the account's name, a string");
	if (members->amount == NULL)
		return refuse(error, "missing_amount", 0,
		              "\"amount\" is missing: what to add to the balance, an integer");
	return true;
}

/* U+0000 to U+001F and U+007F to U+009F, the latter two bytes long from U+0080 on. */
static bool is_control(const unsigned char *character)
{
	return character[0] < 0x20 || character[0] == 0x7f ||
	       (character[0] == 0xc2 && character[1] < 0xa0);
}

bool json_account_name_valid(const char *name, size_t length)
{
	const unsigned char *bytes = (const unsigned char *)name;
	size_t i = 0;

	if (length == 0 || length > ACCOUNT_NAME_MAX)
		return false;
	while (i < length) {
		size_t taken = utf8_length(bytes + i, length - i);

		if (taken == 0 || is_control(bytes + i))
			return false;
		i += taken;
	}
	return true;
}

#define TEXT_OF(number)  TEXT_OF_(number)
#define TEXT_OF_(number) #number

static bool read_account(char *text, const jsmntok_t *token, struct event *event,
                         struct json_error *error)
{
	size_t at = (size_t)token->start;
	size_t length;
	const char *name;

	if (token->type != JSMN_STRING)
		return refuse(error, "invalid_account", at, "the account's name must be a string");
	name = string_of(text, token, &length);
	if (length == 0)
		return refuse(error, "invalid_account", at, "the account's name is empty");
	if (length > ACCOUNT_NAME_MAX)
		return refuse(error, "invalid_account", at,
		              "the account's name is longer than " TEXT_OF(
		                  ACCOUNT_NAME_MAX) " bytes of UTF-8");
	if (!json_account_name_valid(name, length))
		return refuse(error, "invalid_account", at,
		              "the account's name holds a control character");
	event->account = name;
	event->account_length = (uint32_t)length;
	return true;
}

/* How far DIGITS[0..LENGTH) is an integer as JSON writes it. */
enum integer { INTEGER_EXACT, INTEGER_TOO_LARGE, INTEGER_NONE };

static enum integer read_integer(const char *digits, size_t length, int64_t *value)
{
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
	*value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
	return INTEGER_EXACT;
}

static bool read_amount(char *text, const jsmntok_t *token, struct event *event,
                        struct json_error *error)
{
	size_t at = (size_t)token->start;
	enum integer integer = INTEGER_NONE;
	size_t length;

	if (token->type == JSMN_STRING || token->type == JSMN_PRIMITIVE) {
		const char *digits = string_of(text, token, &length);

		integer = read_integer(digits, length, &event->amount);
	}
	if (integer == INTEGER_TOO_LARGE)
		return refuse(error, "invalid_amount", at,
		              "the amount is outside -9223372036854775808 to 9223372036854775807");
	if (integer == INTEGER_NONE)
		return refuse(error, "invalid_amount", at,
		              "the amount must be an integer, without fraction or exponent");
	return true;
}

static bool is_object(const char *text, size_t length)
{
	size_t i = 0;

	while (i < length && memchr(" \t\r\n", text[i], 4) != NULL)
		i++;
	return i < length && text[i] == '{';
}

bool json_read_event(char *text, size_t length, struct event *event, struct json_error *error)
{
	jsmntok_t tokens[JSON_TOKENS_MAX];
	struct members members = {0};
	jsmn_parser parser;
	int count;

	if (length > JSON_LENGTH_MAX)
		return refuse(error, "invalid_json", 0,
		              "the document is longer than 2147483647 bytes");
	if (!json_check(text, length, error))
		return false;
	if (!is_object(text, length))
		return refuse(error, "not_an_object", 0,
		              "an event is an object: {\"account\":\"alice\",\"amount\":-5}");
	jsmn_init(&parser);
	count = jsmn_parse(&parser, text, length, tokens, JSON_TOKENS_MAX);
	if (count < 0)
		return refuse(
		    error, "invalid_json", parser.pos,
		    "the document holds more than " TEXT_OF(
		        JSON_TOKENS_MAX) " values and keys; an event is one small object");
	return find_members(text, tokens, count, &members, error) &&
	       check_present(&members, error) &&
	       read_account(text, members.account, event, error) &&
	       read_amount(text, members.amount, event, error);
}
