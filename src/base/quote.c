#include "quote.h"

#include <stddef.h>
#include <string.h>

/* How many bytes the character has that TEXT begins with (RFC 3629 4); 0: it is none. */
static size_t utf8_length(const char *text)
{
	const unsigned char *byte = (const unsigned char *)text;
	unsigned char low = 0x80, high = 0xbf;
	size_t more;

	if (byte[0] < 0x80)
		return 1;
	if (byte[0] >= 0xc2 && byte[0] <= 0xdf)
		more = 1;
	else if (byte[0] >= 0xe0 && byte[0] <= 0xef)
		more = 2;
	else if (byte[0] >= 0xf0 && byte[0] <= 0xf4)
		more = 3;
	else
		return 0;
	/* No other form of what is shorter, no surrogates, nothing beyond U+10FFFF. */
	if (byte[0] == 0xe0)
		low = 0xa0;
	else if (byte[0] == 0xed)
		high = 0x9f;
	else if (byte[0] == 0xf0)
		low = 0x90;
	else if (byte[0] == 0xf4)
		high = 0x8f;
	if (byte[1] < low || byte[1] > high)
		return 0;
	for (size_t i = 2; i <= more; i++)
		if (byte[i] < 0x80 || byte[i] > 0xbf)
			return 0;
	return more + 1;
}

static char *escape(char *end, unsigned char byte)
{
	static const char digits[] = "0123456789abcdef";
	const char control[] = {'\\', 'u', '0', '0', digits[byte >> 4], digits[byte & 15]};

	if (byte == '"' || byte == '\\') {
		*end++ = '\\';
		*end++ = (char)byte;
		return end;
	}
	memcpy(end, control, sizeof control);
	return end + sizeof control;
}

char *quote(char *end, const char *text)
{
	while (*text != '\0') {
		size_t length = utf8_length(text);
		unsigned char byte = (unsigned char)*text;

		if (length == 0) {
			memcpy(end, "\\ufffd", 6);
			end += 6;
			text++;
		} else if (byte < 0x20 || byte == '"' || byte == '\\') {
			end = escape(end, byte);
			text++;
		} else {
			memcpy(end, text, length);
			end += length;
			text += length;
		}
	}
	return end;
}
