/*
 * Texts: what is written, to the byte, and what happens at the end of the room.
 */
#include <stdio.h>

#include "../src/wire/json.h"
#include "../src/wire/text.h"
#include "tap/tap.h"

/* TEXT as a string, for is(). */
static const char *string_of(const struct text *text)
{
	static char string[8192];

	memcpy(string, text->bytes, text->length);
	string[text->length] = '\0';
	return string;
}

static void test_room(void)
{
	char bytes[8] = "########";
	struct text text;

	text_init(&text, bytes, 6);
	text_literal(&text, "abc");
	text_string(&text, "def");
	ok(text.length == 6 && !text.full, "a text filled to its last byte is not full");
	text_bytes(&text, "", 0);
	ok(!text.full, "nothing fits at its end");
	text_literal(&text, "g");
	ok(text.full && text.length == 6, "one byte more does not");
	ok(memcmp(bytes, "abcdef##", 8) == 0, "and is not written");

	text_init(&text, bytes, 6);
	text_literal(&text, "abcd");
	text_literal(&text, "123");
	text_literal(&text, "z");
	ok(text.full && memcmp(bytes, "abcd12##", 8) == 0,
	   "what does not fit is cut, and nothing follows it");

	text_init(&text, bytes, 0);
	text_literal(&text, "a");
	ok(text.full && text.length == 0, "a text without room");
}

static void is_unsigned(uint64_t value)
{
	char expected[32];
	char bytes[TEXT_DECIMAL_MAX];
	struct text text;

	snprintf(expected, sizeof(expected), "%llu", (unsigned long long)value);
	text_init(&text, bytes, sizeof(bytes));
	text_unsigned(&text, value);
	if (text.full || strcmp(string_of(&text), expected) != 0)
		fail("%s written as %s", expected, string_of(&text));
}

static void is_signed(int64_t value)
{
	char expected[32];
	char bytes[TEXT_DECIMAL_MAX];
	struct text text;

	snprintf(expected, sizeof(expected), "%lld", (long long)value);
	text_init(&text, bytes, sizeof(bytes));
	text_signed(&text, value);
	if (text.full || strcmp(string_of(&text), expected) != 0)
		fail("%s written as %s", expected, string_of(&text));
}

static void test_numbers(void)
{
	uint64_t power = 1;
	char bytes[64];
	struct text text;

	for (int digits = 0; digits < 20; digits++, power *= 10) {
		for (uint64_t value = power - 2; value != power + 3; value++) {
			is_unsigned(value);
			is_signed((int64_t)value);
			is_signed((int64_t)(0 - value));
		}
	}
	for (uint64_t value = 0; value < 2000; value++)
		is_unsigned(value);
	pass("numbers around the powers of ten");
	text_init(&text, bytes, sizeof(bytes));
	text_signed(&text, INT64_MIN);
	text_literal(&text, " ");
	text_signed(&text, INT64_MAX);
	text_literal(&text, " ");
	text_unsigned(&text, UINT64_MAX);
	is(string_of(&text), "-9223372036854775808 9223372036854775807 18446744073709551615",
	   "the ends of int64 and uint64");
}

static const char *json_of(const char *value, size_t length)
{
	static char bytes[2048];
	struct text text;

	text_init(&text, bytes, sizeof(bytes));
	text_json_string(&text, value, length);
	return string_of(&text);
}

static void test_json_string(void)
{
	char all[0x80];
	char bytes[8 * sizeof(all)];
	struct json_error error;
	struct text text;

	is(json_of("", 0), "\"\"", "an empty string");
	is(json_of("alice", 5), "\"alice\"", "a plain one");
	is(json_of("\"", 1), "\"\\\"\"", "a quote alone");
	is(json_of("a\"b\\c/d", 7), "\"a\\\"b\\\\c/d\"", "a quote and a backslash, no slash");
	is(json_of("\b\t\n\f\r", 5), "\"\\b\\t\\n\\f\\r\"", "the short escapes");
	is(json_of("\0\x01\x0b\x1f\x7f", 5), "\"\\u0000\\u0001\\u000b\\u001f\x7f\"",
	   "the long ones, and DEL as it is");
	is(json_of("\xc3\xa9\xf0\x9f\x98\x80", 6), "\"\xc3\xa9\xf0\x9f\x98\x80\"",
	   "UTF-8 as it is");
	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (char)i;
	text_init(&text, bytes, sizeof(bytes));
	text_json_string(&text, all, sizeof(all));
	ok(!text.full && json_check(bytes, text.length, &error), "all of ASCII is valid JSON then");
}

int main(void)
{
	plan(NO_PLAN);
	test_room();
	test_numbers();
	test_json_string();
	return done_testing();
}
