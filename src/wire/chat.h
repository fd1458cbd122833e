/*
 * A line of chat as a client types it: what it asks for, and text that is safe on a terminal.
 */
#ifndef TALLYD_WIRE_CHAT_H
#define TALLYD_WIRE_CHAT_H

#include <stddef.h>

#define CHAT_LINE_MAX 512 /* bytes of a line without its end */

enum chat_command {
	CHAT_NOTHING, /* there is nothing in the line */
	CHAT_SAY,
	CHAT_ME,
	CHAT_NICK,
	CHAT_LIST,
	CHAT_WATCH,
	CHAT_UNWATCH,
	CHAT_AUTH,
	CHAT_HELP,
	CHAT_QUIT,
	CHAT_UNKNOWN, /* begins with "/", and is no command; `text` is its word */
};

struct chat_line {
	enum chat_command command;
	size_t length; /* of `text` */
	char text[CHAT_LINE_MAX];
};

/*
 * Copies BYTES[0..LENGTH) to TO, which has room for LENGTH and may be BYTES, as well-formed UTF-8
 * in which nothing moves the cursor or turns the direction of writing: a tab becomes a space; any
 * other control character (U+0000 to U+001F, U+007F to U+009F, U+2028, U+2029, and those of Unicode
 * Annex 9, 2), and each byte that is part of no character (RFC 3629), becomes "?".  Returns its
 * length, which is never more than LENGTH.
 */
size_t chat_clean(const char *bytes, size_t length, char *to);

/*
 * Reads a line of LENGTH BYTES, at most CHAT_LINE_MAX, without its LF.  One CR at its end, and
 * spaces at both, are no part of it.  "/WORD" is a command, its text what follows; "//" says "/".
 */
void chat_read(const char *bytes, size_t length, struct chat_line *line);

#endif
