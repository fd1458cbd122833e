#include "heads.h"

#include <string.h>

/*
 * Are ONE and OTHER alike?  Where one holds a token, it takes as long wherever they differ, so that
 * nobody finds it out byte by byte.
 */
static bool same(const char *one, const char *other, size_t length, bool secret)
{
	unsigned char difference = 0;

	if (!secret)
		return memcmp(one, other, length) == 0;
	for (size_t i = 0; i < length; i++)
		difference |= (unsigned char)one[i] ^ (unsigned char)other[i];
	return difference == 0;
}

const struct head *heads_find(struct heads *heads, const char *bytes, size_t length)
{
	for (unsigned i = 0; i < HEADS_KEPT; i++) {
		unsigned place = (heads->newest + i) % HEADS_KEPT;
		size_t kept = heads->kept[place].length;
		bool secret = heads->kept[place].head.credentials != CREDENTIALS_NONE;
		if (kept != 0 && kept <= length &&
		    same(heads->kept[place].bytes, bytes, kept, secret)) {
			heads->newest = place;
			return &heads->kept[place].head;
		}
	}
	return NULL;
}

void heads_keep(struct heads *heads, const char *bytes, const struct head *head)
{
	size_t length = head->request.head_length;

	if (length > HEADS_SIZE_MAX)
		return;
	/* The next place was found longest ago, or nearly so. */
	heads->newest = (heads->newest + HEADS_KEPT - 1) % HEADS_KEPT;
	heads->kept[heads->newest].length = length;
	heads->kept[heads->newest].head = *head;
	memcpy(heads->kept[heads->newest].bytes, bytes, length);
}
