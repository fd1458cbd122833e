#include "chat.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "utf8.h"

#define UNSEEN '?'

/* The code point of a well-formed character of LENGTH bytes. */
static uint32_t code_point(const unsigned char *at, size_t length)
{
	static const unsigned char first[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
	uint32_t point = at[0] & first[length];

	for (size_t i = 1; i < length; i++)
		point = point << 6 | (at[i] & 0x3f);
	return point;
}

/* Does POINT do something to a terminal, or to the order of what is shown? */
static bool is_control(uint32_t point)
{
	return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x61c ||
	       point == 0x200e || point == 0x200f || (point >= 0x2028 && point <= 0x202e) ||
	       (point >= 0x2066 && point <= 0x2069);
}

size_t chat_clean(const char *bytes, size_t length, char *to)
{
	const unsigned char *from = (const unsigned char *)bytes;
	size_t written = 0;

	for (size_t at = 0; at < length;) {
		size_t taken = utf8_length(from + at, length - at);
		if (taken == 0 || is_control(code_point(from + at, taken))) {
			to[written++] = from[at] == '\t' ? ' ' : UNSEEN;
			at += taken == 0 ? 1 : taken;
			continue;
		}
		memmove(to + written, from + at, taken);
		written += taken;
		at += taken;
	}
	return written;
}

static const struct {
	const char *word;
	enum chat_command command;
} commands[] = {
    {"/me", CHAT_ME},           {"/nick", CHAT_NICK}, {"/list", CHAT_LIST}, {"/watch", CHAT_WATCH},
    {"/unwatch", CHAT_UNWATCH}, {"/help", CHAT_HELP}, {"/auth", CHAT_AUTH}, {"/quit", CHAT_QUIT},
};

static enum chat_command command_of(const char *word, size_t length)
{
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (strlen(commands[i].word) == length &&
		    memcmp(commands[i].word, word, length) == 0)
			return commands[i].command;
	return CHAT_UNKNOWN;
}

/* Takes COUNT bytes, and the spaces behind them, from LINE's beginning. */
static void drop(struct chat_line *line, size_t count)
{
	while (count < line->length && line->text[count] == ' ')
		count++;
	line->length -= count;
	memmove(line->text, line->text + count, line->length);
}

static void read_command(struct chat_line *line)
{
	const char *space = memchr(line->text, ' ', line->length);
	size_t word = space ? (size_t)(space - line->text) : line->length;

	line->command = command_of(line->text, word);
	if (line->command == CHAT_UNKNOWN)
		line->length = word;
	else
		drop(line, word);
}

void chat_read(const char *bytes, size_t length, struct chat_line *line)
{
	if (length > 0 && bytes[length - 1] == '\r')
		length--;
	line->length = chat_clean(bytes, length, line->text);
	while (line->length > 0 && line->text[line->length - 1] == ' ')
		line->length--;
	drop(line, 0);
	line->command = line->length == 0 ? CHAT_NOTHING : CHAT_SAY;
	if (line->length == 0 || line->text[0] != '/')
		return;
	if (line->length > 1 && line->text[1] == '/') {
		line->length--;
		memmove(line->text, line->text + 1, line->length);
		return;
	}
	read_command(line);
}
