#include "heads.h"

#include <string.h>

const struct head *heads_find(struct heads *heads, const char *bytes, size_t length)
{
	for (unsigned i = 0; i < HEADS_KEPT; i++) {
		unsigned place = (heads->newest + i) % HEADS_KEPT;
		size_t kept = heads->kept[place].length;
		if (kept != 0 && kept <= length &&
		    memcmp(heads->kept[place].bytes, bytes, kept) == 0) {
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
