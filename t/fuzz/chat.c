/*
 * A line of chat: whatever a client types, what others read is one line of UTF-8 that does nothing
 * to a terminal, and it comes to the same if it is said again.
 */
#include "fuzz.h"

#include "../../src/wire/chat.h"
#include "../../src/wire/utf8.h"

/* Is the character of LENGTH bytes at AT one that a terminal only shows? */
static bool is_harmless(const unsigned char *at, size_t length)
{
	if (length == 1)
		return at[0] >= 0x20 && at[0] != 0x7f;
	if (length == 2 && at[0] == 0xc2)
		return at[1] >= 0xa0;
	if (length == 2 && at[0] == 0xd8)
		return at[1] != 0x9c;
	if (length != 3 || at[0] != 0xe2)
		return true;
	if (at[1] == 0x80)
		return (at[2] < 0x8e || at[2] > 0x8f) && (at[2] < 0xa8 || at[2] > 0xae);
	return at[1] != 0x81 || at[2] < 0xa6 || at[2] > 0xa9;
}

static void must_be_clean(const char *text, size_t length)
{
	const unsigned char *at = (const unsigned char *)text;

	for (size_t taken; length > 0; at += taken, length -= taken) {
		taken = utf8_length(at, length);
		FUZZ_HOLDS(taken > 0, "no character");
		FUZZ_HOLDS(is_harmless(at, taken), "a control character of %zu bytes, %02x", taken,
		           at[taken - 1]);
	}
}

static void check_clean(const char *bytes, size_t length)
{
	char *once = fuzz_copy(bytes, length);
	char *apart = malloc(length + 1);
	size_t cleaned = chat_clean(bytes, length, apart);

	FUZZ_HOLDS(cleaned <= length, "it has grown");
	must_be_clean(apart, cleaned);
	FUZZ_HOLDS(chat_clean(once, length, once) == cleaned && memcmp(once, apart, cleaned) == 0,
	           "in place it becomes something else");
	FUZZ_HOLDS(chat_clean(once, cleaned, once) == cleaned && memcmp(once, apart, cleaned) == 0,
	           "it is not clean at once");
	free(once);
	free(apart);
}

static void check_line(const char *bytes, size_t length)
{
	static struct chat_line line, again;
	char *copy = fuzz_copy(bytes, length);

	memset(&line, 'x', sizeof line);
	chat_read(copy, length, &line);
	FUZZ_HOLDS(line.length <= length, "it has grown");
	FUZZ_HOLDS(line.command <= CHAT_UNKNOWN, "command %d", (int)line.command);
	must_be_clean(line.text, line.length);
	FUZZ_HOLDS(line.command != CHAT_NOTHING || line.length == 0, "nothing, with a text");
	FUZZ_HOLDS(line.length == 0 || (line.text[0] != ' ' && line.text[line.length - 1] != ' '),
	           "spaces are left");
	if (line.command == CHAT_SAY && line.text[0] != '/') {
		chat_read(line.text, line.length, &again);
		FUZZ_HOLDS(again.command == CHAT_SAY && again.length == line.length &&
		               memcmp(again.text, line.text, line.length) == 0,
		           "said again it is something else");
	}
	free(copy);
}

static void judge(const uint8_t *bytes, size_t length)
{
	check_clean((const char *)bytes, length);
	check_line((const char *)bytes, length);
}

static void seeds(fuzz_take *take)
{
	static const char *const texts[] = {
	    "hello\r",
	    "/me waves",
	    "/nick  bob ",
	    "/list",
	    "/watch cust",
	    "/unwatch",
	    "/help",
	    "/quit",
	    "/dance wildly",
	    "//etc",
	    "/",
	    "//",
	    "a\tb\x1b[31m\x7f",
	    "caf\xc3\xa9 caf\xe9 \xe2\x82\xac\xf0\x9f\x98\x80",
	    "\xc2\x9b \xe2\x80\xae \xe2\x81\xa6 \xe2\x80\xa8 \xd8\x9c \xe2\x80\x8e",
	    "\xed\xa0\x80 \xc0\xaf \xf4\x90\x80\x80",
	};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		take(texts[i], strlen(texts[i]));
}

const struct fuzz_target fuzz_chat = {
    .name = "chat", .length_max = CHAT_LINE_MAX, .judge = judge, .seeds = seeds};
