/*
 * The grammar of JSON (RFC 8259), checked in one pass without recursion: a loop over
 * what may come next, and one bit per open bracket.
 */
#include <assert.h>
#include <string.h>

#include "json.h"
#include "text.h"
#include "utf8.h"

/* What may stand at the next byte that is not white space. */
enum expected {
	EXPECT_VALUE,
	EXPECT_VALUE_OR_CLOSE, /* just after '[' */
	EXPECT_KEY,
	EXPECT_KEY_OR_CLOSE, /* just after '{' */
	EXPECT_COMMA_OR_CLOSE,
	EXPECT_END,
};

struct checker {
	const unsigned char *text;
	size_t length;
	size_t at;
	enum expected expected;
	unsigned depth;
	uint32_t objects; /* bit 0: the innermost open bracket is '{'; bit 1: the one around it */
	struct json_error *error;
};

static_assert(JSON_DEPTH_MAX <= 32, "checker.objects has a bit for every open bracket");

/* What a byte inside a string is. */
enum { PLAIN, QUOTE, ESCAPE, CONTROL, MULTIBYTE };

#define SIXTEEN(class)                                                                             \
	class, class, class, class, class, class, class, class, class, class, class, class, class, \
	    class, class, class

/* clang-format off */
static const unsigned char string_class[256] = {
	SIXTEEN(CONTROL), SIXTEEN(CONTROL),
	PLAIN, PLAIN, QUOTE, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN,
	PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN,
	SIXTEEN(PLAIN), SIXTEEN(PLAIN),
	PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN,
	PLAIN, PLAIN, PLAIN, PLAIN, ESCAPE, PLAIN, PLAIN, PLAIN,
	SIXTEEN(PLAIN), SIXTEEN(PLAIN),
	SIXTEEN(MULTIBYTE), SIXTEEN(MULTIBYTE), SIXTEEN(MULTIBYTE), SIXTEEN(MULTIBYTE),
	SIXTEEN(MULTIBYTE), SIXTEEN(MULTIBYTE), SIXTEEN(MULTIBYTE), SIXTEEN(MULTIBYTE),
};
/* clang-format on */

/* Refuses the document at byte AT because of WHAT; always false. */
static bool refuse(const struct checker *checker, size_t at, const char *what)
{
	struct json_error *error = checker->error;
	struct text detail;

	error->reason = "invalid_json";
	error->at = at;
	text_init(&detail, error->detail, sizeof(error->detail) - 1);
	text_literal(&detail, "at byte ");
	text_unsigned(&detail, at);
	text_literal(&detail, ": ");
	text_string(&detail, what);
	error->detail[detail.length] = '\0';
	return false;
}

/* The byte at offset AT, or a control character, which no rule takes, after the end. */
static unsigned char byte_at(const struct checker *checker, size_t at)
{
	return at < checker->length ? checker->text[at] : '\0';
}

static bool is_digit(unsigned char byte)
{
	return byte >= '0' && byte <= '9';
}

static void skip_space(struct checker *checker)
{
	for (; checker->at < checker->length; checker->at++) {
		unsigned char byte = checker->text[checker->at];

		if (byte > ' ' || (byte != ' ' && byte != '\t' && byte != '\n' && byte != '\r'))
			return;
	}
}

/* Reads four hexadecimal digits at AT into *UNIT. */
static bool hex_unit(const struct checker *checker, size_t at, unsigned *unit)
{
	*unit = 0;
	for (size_t i = at; i < at + 4; i++) {
		unsigned char byte = byte_at(checker, i);
		unsigned digit;

		if (is_digit(byte))
			digit = byte - (unsigned)'0';
		else if ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'f')
			digit = (byte | 0x20u) - 'a' + 10;
		else
			return refuse(checker, i, "\\u takes four hexadecimal digits");
		*unit = *unit * 16 + digit;
	}
	return true;
}

/* At "\u": one UTF-16 unit, or two that are a pair. */
static bool check_unicode_escape(struct checker *checker)
{
	size_t at = checker->at;
	unsigned unit;

	if (!hex_unit(checker, at + 2, &unit))
		return false;
	checker->at += 6;
	if (unit < 0xd800 || unit > 0xdfff)
		return true;
	if (unit > 0xdbff)
		return refuse(checker, at, "a low surrogate without a high one before it");
	if (byte_at(checker, at + 6) != '\\' || byte_at(checker, at + 7) != 'u')
		return refuse(checker, at, "a high surrogate without a low one after it");
	if (!hex_unit(checker, at + 8, &unit))
		return false;
	if (unit < 0xdc00 || unit > 0xdfff)
		return refuse(checker, at, "a high surrogate without a low one after it");
	checker->at += 6;
	return true;
}

/* At a backslash. */
static bool check_escape(struct checker *checker)
{
	switch (byte_at(checker, checker->at + 1)) {
	case '"':
	case '\\':
	case '/':
	case 'b':
	case 'f':
	case 'n':
	case 'r':
	case 't':
		checker->at += 2;
		return true;
	case 'u':
		return check_unicode_escape(checker);
	default:
		return refuse(checker, checker->at, "an escape that JSON does not have");
	}
}

/* At whatever is not a plain byte of a string, nor its closing quote. */
static bool check_special(struct checker *checker)
{
	size_t left = checker->length - checker->at;
	size_t length;

	if (left == 0)
		return refuse(checker, checker->at, "the document ends within a string");
	if (checker->text[checker->at] == '\\')
		return check_escape(checker);
	if (checker->text[checker->at] < 0x20)
		return refuse(checker, checker->at, "a control character in a string, unescaped");
	length = utf8_length(checker->text + checker->at, left);
	if (length == 0)
		return refuse(checker, checker->at, "a string is not valid UTF-8");
	checker->at += length;
	return true;
}

/* At the opening quote. */
static bool check_string(struct checker *checker)
{
	checker->at++;
	for (;;) {
		while (checker->at < checker->length &&
		       string_class[checker->text[checker->at]] == PLAIN)
			checker->at++;
		if (byte_at(checker, checker->at) == '"') {
			checker->at++;
			return true;
		}
		if (!check_special(checker))
			return false;
	}
}

/* At least one digit. */
static bool check_digits(struct checker *checker)
{
	if (!is_digit(byte_at(checker, checker->at)))
		return refuse(checker, checker->at, "a digit is missing in a number");
	do
		checker->at++;
	while (is_digit(byte_at(checker, checker->at)));
	return true;
}

/* At '-' or a digit (RFC 8259 6). */
static bool check_number(struct checker *checker)
{
	if (byte_at(checker, checker->at) == '-')
		checker->at++;
	if (byte_at(checker, checker->at) == '0') {
		checker->at++;
		if (is_digit(byte_at(checker, checker->at)))
			return refuse(checker, checker->at, "a number with a leading zero");
	} else if (!check_digits(checker)) {
		return false;
	}
	if (byte_at(checker, checker->at) == '.') {
		checker->at++;
		if (!check_digits(checker))
			return false;
	}
	if ((byte_at(checker, checker->at) | 0x20) == 'e') {
		checker->at++;
		if (byte_at(checker, checker->at) == '+' || byte_at(checker, checker->at) == '-')
			checker->at++;
		return check_digits(checker);
	}
	return true;
}

/* At the first letter of LITERAL. */
static bool check_literal(struct checker *checker, const char *literal, size_t length)
{
	if (checker->length - checker->at < length ||
	    memcmp(checker->text + checker->at, literal, length) != 0)
		return refuse(checker, checker->at, "a word that is not true, false or null");
	checker->at += length;
	return true;
}

/* After a value, or a closing bracket. */
static bool value_done(struct checker *checker)
{
	checker->expected = checker->depth > 0 ? EXPECT_COMMA_OR_CLOSE : EXPECT_END;
	return true;
}

static bool open_bracket(struct checker *checker, bool object)
{
	if (checker->depth == JSON_DEPTH_MAX)
		return refuse(checker, checker->at, "arrays and objects are nested too deeply");
	checker->depth++;
	checker->objects = checker->objects << 1 | object;
	checker->expected = object ? EXPECT_KEY_OR_CLOSE : EXPECT_VALUE_OR_CLOSE;
	checker->at++;
	return true;
}

static bool close_bracket(struct checker *checker)
{
	checker->depth--;
	checker->objects >>= 1;
	checker->at++;
	return value_done(checker);
}

static bool in_object(const struct checker *checker)
{
	return (checker->objects & 1) != 0;
}

static bool check_value(struct checker *checker)
{
	unsigned char byte = checker->text[checker->at];

	switch (byte) {
	case '{':
	case '[':
		return open_bracket(checker, byte == '{');
	case '"':
		return check_string(checker) && value_done(checker);
	case 't':
		return check_literal(checker, "true", 4) && value_done(checker);
	case 'f':
		return check_literal(checker, "false", 5) && value_done(checker);
	case 'n':
		return check_literal(checker, "null", 4) && value_done(checker);
	default:
		if (byte != '-' && !is_digit(byte))
			return refuse(checker, checker->at, "a value is missing");
		return check_number(checker) && value_done(checker);
	}
}

/* A key with its colon. */
static bool check_key(struct checker *checker)
{
	if (checker->text[checker->at] != '"')
		return refuse(checker, checker->at, "a key in quotes is missing");
	if (!check_string(checker))
		return false;
	skip_space(checker);
	if (byte_at(checker, checker->at) != ':')
		return refuse(checker, checker->at, "a colon is missing after a key");
	checker->at++;
	checker->expected = EXPECT_VALUE;
	return true;
}

static bool check_comma_or_close(struct checker *checker)
{
	bool object = in_object(checker);
	unsigned char byte = checker->text[checker->at];

	if (byte == ',') {
		checker->at++;
		checker->expected = object ? EXPECT_KEY : EXPECT_VALUE;
		return true;
	}
	if (byte == (object ? '}' : ']'))
		return close_bracket(checker);
	return refuse(checker, checker->at,
	              object ? "a comma or '}' is missing" : "a comma or ']' is missing");
}

/* At a byte that is not white space. */
static bool check_next(struct checker *checker)
{
	unsigned char byte = checker->text[checker->at];

	switch (checker->expected) {
	case EXPECT_VALUE_OR_CLOSE:
		return byte == ']' ? close_bracket(checker) : check_value(checker);
	case EXPECT_VALUE:
		return check_value(checker);
	case EXPECT_KEY_OR_CLOSE:
		return byte == '}' ? close_bracket(checker) : check_key(checker);
	case EXPECT_KEY:
		return check_key(checker);
	case EXPECT_COMMA_OR_CLOSE:
		return check_comma_or_close(checker);
	case EXPECT_END:
		break;
	}
	return refuse(checker, checker->at, "something follows the value");
}

/* At the end of the text. */
static bool check_end(const struct checker *checker)
{
	if (checker->expected == EXPECT_END)
		return true;
	if (checker->expected == EXPECT_VALUE && checker->depth == 0)
		return refuse(checker, checker->at, "the document is empty");
	return refuse(checker, checker->at, "the document ends too early");
}

bool json_check(const char *text, size_t length, struct json_error *error)
{
	struct checker checker = {
	    .text = (const unsigned char *)text,
	    .length = length,
	    .expected = EXPECT_VALUE,
	    .error = error,
	};

	/* RFC 8259 8.1 lets a reader ignore it; taking it would make two documents of one. */
	if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		return refuse(&checker, 0, "a byte order mark; send the document without it");
	for (;;) {
		skip_space(&checker);
		if (checker.at == length)
			return check_end(&checker);
		if (!check_next(&checker))
			return false;
	}
}
