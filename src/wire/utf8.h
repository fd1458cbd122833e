/*
 * UTF-8, one character at a time (RFC 3629 4; Unicode 15.0 table 3-7).
 */
#ifndef TALLYD_WIRE_UTF8_H
#define TALLYD_WIRE_UTF8_H

#include <stddef.h>

/*
 * How many bytes the well-formed character at AT takes, 1 to 4, looking at no more than LEFT
 * bytes; 0 if there is none: LEFT is 0, a sequence is cut off, overlong, a surrogate,
 * above U+10FFFF, or no sequence at all.
 */
static inline size_t utf8_length(const unsigned char *at, size_t left)
{
	/* The second byte alone carries the exceptions; the others are 80 to BF. */
	unsigned char low = 0x80;
	unsigned char high = 0xbf;
	size_t length;

	if (left == 0)
		return 0;
	if (at[0] < 0x80)
		return 1;
	if (at[0] < 0xc2 || at[0] > 0xf4)
		return 0;
	length = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
	if (left < length)
		return 0;
	if (at[0] == 0xe0)
		low = 0xa0; /* below: overlong */
	else if (at[0] == 0xed)
		high = 0x9f; /* above: surrogates */
	else if (at[0] == 0xf0)
		low = 0x90; /* below: overlong */
	else if (at[0] == 0xf4)
		high = 0x8f; /* above: beyond U+10FFFF */
	if (at[1] < low || at[1] > high)
		return 0;
	for (size_t i = 2; i < length; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	return length;
}

#endif
