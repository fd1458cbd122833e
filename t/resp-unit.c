/*
 * The reader of Redis' protocol alone: every split, every limit at its last good and its first bad
 * value, quoting, numbers, random damage; and patterns, also those that would take others for ever.
 */
#include "../src/server/redis/glob.h"
#include "../src/wire/resp.h"
#include "tap/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 200000
#define SEED   20261127u

static char bytes[2 * RESP_COMMAND_MAX];
static struct resp_command command;
static char reason[RESP_REASON_MAX];
static bool untouched = true; /* is what was read as it was? */

static enum resp_progress reads(const char *text, size_t length)
{
	memcpy(bytes, text, length);
	reason[0] = '\0';
	enum resp_progress progress = resp_read(bytes, length, &command, reason);
	/* Whoever cannot go on with it now reads it again. */
	untouched = untouched && memcmp(bytes, text, length) == 0;
	return progress;
}

/* The words of the command in TEXT, with '|' between them; or what else it is. */
static const char *words(const char *text, size_t length)
{
	static char shown[4096];
	size_t at = 0;

	switch (reads(text, length)) {
	case RESP_MORE:
		return "more";
	case RESP_REFUSED:
		return reason;
	case RESP_DONE:
		break;
	}
	for (uint32_t i = 0; i < command.count; i++)
		at += (size_t)snprintf(shown + at, sizeof(shown) - at, "%s%.*s", i ? "|" : "",
		                       (int)command.argument[i].length, command.argument[i].bytes);
	shown[at] = '\0';
	return shown;
}

#define WORDS(literal) words(literal, sizeof(literal) - 1)

static void arrays(void)
{
	static const char text[] = "*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\na\r\nb\r\n*1\r\n";
	const size_t whole = sizeof(text) - 1 - 4;
	bool good = true;

	is(words(text, sizeof(text) - 1), "SET||a\r\nb", "an array");
	ok(command.length == whole, "ends where the next begins");
	for (size_t length = 0; length < whole; length++)
		good = good && strcmp(words(text, length), "more") == 0;
	ok(good, "split anywhere it waits");
	is(WORDS("*0\r\n"), "", "of nothing");
	ok(command.count == 0 && command.length == 4, "is taken");
	is(WORDS("*-1\r\n"), "", "of less than nothing");
	is(WORDS("*1\r\n:5\r\n"), "Protocol error: expected '$', got ':'", "of anything else");
	is(WORDS("*1\r\n\x01"), "Protocol error: expected '$', got '?'", "that cannot be shown");
	is(WORDS("*x\r\n"), "Protocol error: invalid multibulk length", "of a word");
	is(WORDS("*1\r\n$x\r\n"), "Protocol error: invalid bulk length",
	   "with a word's length a word");
	is(WORDS("*1\r\n$-1\r\n"), "Protocol error: invalid bulk length", "or null");
	is(WORDS("*1\r\n$1\r\naXY"), "Protocol error: a bulk string does not end where it should",
	   "a string that is longer than it says");
	is(WORDS("*00000000000000000000001"), "Protocol error: too big mbulk count string",
	   "a count without end");
	is(WORDS("*1\r\n$00000000000000000000001"), "Protocol error: too big bulk count string",
	   "a length without end");
}

static size_t many(char *text, unsigned count)
{
	size_t at = (size_t)sprintf(text, "*%u\r\n", count);

	for (unsigned i = 0; i < count; i++)
		at += (size_t)sprintf(text + at, "$1\r\nx\r\n");
	return at;
}

static void limits(void)
{
	static char text[2 * RESP_COMMAND_MAX];
	size_t length = many(text, RESP_ARGUMENTS_MAX);

	ok(reads(text, length) == RESP_DONE && command.count == RESP_ARGUMENTS_MAX,
	   "as many words");
	length = many(text, RESP_ARGUMENTS_MAX + 1);
	ok(reads(text, length) == RESP_REFUSED, "and no more");

	const int size = RESP_COMMAND_MAX - 4 - 8 - 2;
	length = (size_t)sprintf(text, "*1\r\n$%d\r\n", size);
	memset(text + length, 'x', RESP_COMMAND_MAX);
	memcpy(text + length + size, "\r\n", 2);
	ok(reads(text, length + (size_t)size + 2) == RESP_DONE, "as many bytes");
	length = (size_t)sprintf(text, "*1\r\n$%d\r\n", RESP_COMMAND_MAX);
	memset(text + length, 'x', RESP_COMMAND_MAX);
	ok(reads(text, RESP_COMMAND_MAX - 1) == RESP_MORE, "more may be coming");
	ok(reads(text, RESP_COMMAND_MAX) == RESP_REFUSED, "but not that many");
	length = (size_t)sprintf(text, "*1\r\n$%d\r\n", RESP_COMMAND_MAX + 1);
	ok(reads(text, length) == RESP_REFUSED, "which can be known early");

	memset(text, 'x', RESP_INLINE_MAX);
	ok(reads(text, RESP_INLINE_MAX - 1) == RESP_MORE, "a line may go on");
	ok(reads(text, RESP_INLINE_MAX) == RESP_REFUSED, "but not for ever");
	text[RESP_INLINE_MAX - 1] = '\n';
	ok(reads(text, RESP_INLINE_MAX) == RESP_DONE, "as long a line");
	for (int i = 0; i < RESP_INLINE_MAX - 1; i++)
		text[i] = i % 2 ? ' ' : 'x';
	ok(reads(text, RESP_INLINE_MAX) == RESP_REFUSED, "with too many words");
}

static void lines(void)
{
	is(WORDS("SET a  1\r\n"), "SET|a|1", "a line");
	is(WORDS("SET a 1\nGET"), "SET|a|1", "without CR");
	is(WORDS("\r\n"), "", "an empty one");
	is(WORDS(" \t \n"), "", "one of spaces");
	is(WORDS("SET a"), "more", "half a one");
	is(WORDS("a \"b c\" 'd e' f\n"), "a|b c|d e|f", "quotes");
	is(WORDS("\"\\x41\\n\\\"\\\\\\q\\x4\" ''\n"), "A\n\"\\qx4|", "what is escaped");
	is(WORDS("'\\'' '\\n'\n"), "'|\\n", "less in single quotes");
	is(WORDS("a\"b\"\n"), "ab", "quotes within a word");
	is(WORDS("\"a\"b\n"), "Protocol error: unbalanced quotes in request", "none behind them");
	is(WORDS("\"a\n"), "Protocol error: unbalanced quotes in request", "without an end");
	is(WORDS("\"a\\\n"), "Protocol error: unbalanced quotes in request",
	   "with a backslash there");
}

static bool is_number(const char *text, int64_t wanted)
{
	int64_t number = 0;

	return resp_integer_of(text, strlen(text), &number) && number == wanted;
}

static bool is_none(const char *text)
{
	int64_t number;

	return !resp_integer_of(text, strlen(text), &number);
}

static void numbers(void)
{
	ok(is_number("0", 0) && is_number("-1", -1) && is_number("42", 42), "numbers");
	ok(is_number("9223372036854775807", INT64_MAX) &&
	       is_number("-9223372036854775808", INT64_MIN),
	   "the largest and the least");
	ok(is_none("9223372036854775808") && is_none("-9223372036854775809") &&
	       is_none("99999999999999999999"),
	   "none beyond");
	ok(is_none("") && is_none("-") && is_none("+1") && is_none("01") && is_none("-0") &&
	       is_none("1 ") && is_none(" 1") && is_none("1.0") && is_none("0x1"),
	   "nothing else");
}

static const char *written(void (*write)(struct text *out))
{
	static char shown[256];
	struct text out;

	text_init(&out, shown, sizeof(shown) - 1);
	write(&out);
	shown[out.length] = '\0';
	return shown;
}

static void second(struct text *out)
{
	resp_map(out, 1, 2);
	resp_null(out, 2);
	resp_null_array(out, 2);
}

static void third(struct text *out)
{
	resp_map(out, 1, 3);
	resp_null(out, 3);
	resp_null_array(out, 3);
}

static void both(struct text *out)
{
	resp_simple(out, "OK");
	resp_error(out, "ERR no");
	resp_integer(out, INT64_MIN);
	resp_array(out, 2);
	resp_string(out, "x");
	resp_bulk(out, "", 0);
	resp_number(out, -5);
}

static void replies(void)
{
	is(written(both),
	   "+OK\r\n-ERR no\r\n:-9223372036854775808\r\n*2\r\n$1\r\nx\r\n$0\r\n\r\n$2\r\n-5\r\n",
	   "replies");
	is(written(second), "*2\r\n$-1\r\n*-1\r\n", "those of RESP2");
	is(written(third), "%1\r\n_\r\n_\r\n", "those of RESP3");
}

/* Whatever comes: an answer, and no word outside of what came. */
static void damage(void)
{
	static const char *const pieces[] = {
	    "*2\r\n",    "$3\r\n", "GET\r\n",   "abc\r\n",    "\r\n", "*",    "$",
	    "-1\r\n",    "\"",     "'",         "\\",         "\\x4", " ",    "x",
	    "SET a 1\n", "\n",     "*1025\r\n", "$65536\r\n", "0",    "9999", "\t"};
	bool good = true;

	srand(SEED);
	for (int round = 0; round < ROUNDS; round++) {
		char text[512];
		size_t length = 0;
		for (int i = rand() % 12; i >= 0; i--) {
			const char *piece =
			    pieces[(size_t)rand() % (sizeof(pieces) / sizeof(pieces[0]))];
			length += (size_t)sprintf(text + length, "%s", piece);
		}
		if (rand() % 4 == 0)
			text[(size_t)rand() % length] = (char)rand();
		if (reads(text, length) != RESP_DONE)
			continue;
		good = good && command.length > 0 && command.length <= length &&
		       command.count <= RESP_ARGUMENTS_MAX;
		for (uint32_t i = 0; i < command.count; i++) {
			const struct words *word = &command.argument[i];
			const char *from = command.quoted ? command.line : bytes;
			good = good && word->bytes >= from &&
			       word->bytes + word->length <= from + command.length;
		}
	}
	ok(good, "damaged commands stay within what came");
}

static bool matches(const char *pattern, const char *text)
{
	return glob_matches((struct words){pattern, (uint32_t)strlen(pattern)},
	                    (struct words){text, (uint32_t)strlen(text)});
}

static void patterns(void)
{
	char pattern[256], text[256];

	ok(matches("*", "") && matches("*", "any") && matches("a*c", "abc") &&
	       matches("a*c", "ac") && !matches("a*c", "acb"),
	   "stars");
	ok(matches("a?c", "abc") && !matches("a?c", "ac") && !matches("?", ""), "one of any");
	ok(matches("[a-c]x", "bx") && matches("[c-a]x", "bx") && !matches("[^a-c]x", "bx") &&
	       matches("[^a-c]x", "dx") && matches("[a\\]]", "]") && matches("[a", "a"),
	   "classes");
	ok(matches("\\*", "*") && !matches("\\*", "x") && matches("a\\", "a\\"),
	   "what stands for itself");
	ok(matches("a*b*c", "a-b-b-c") && !matches("a*b*c", "a-c-b"), "several stars");
	memset(text, 'a', 200);
	text[200] = '\0';
	for (int i = 0; i < 100; i++)
		memcpy(pattern + 2 * i, "a*", 2);
	strcpy(pattern + 200, "b");
	ok(!matches(pattern, text), "a hundred stars take no time");
	struct words prefix = glob_prefix((struct words){"user:[0-9]*", 11});
	ok(prefix.length == 5, "what it begins with");
}

int main(void)
{
	arrays();
	limits();
	lines();
	numbers();
	replies();
	damage();
	patterns();
	ok(untouched, "whatever was read can be read again");
	return done_testing();
}
