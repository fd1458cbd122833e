#include "hold_id.h"

#include <errno.h>
#include <stddef.h>
#include <sys/random.h>

#define BYTES  16  /* of an id */
#define BOUGHT 256 /* bytes fetched at once: as many as getrandom never cuts short */

static unsigned char bytes[BOUGHT];
static size_t left;

static bool refill(void)
{
	ssize_t got;

	do
		got = getrandom(bytes, sizeof(bytes), 0);
	while (got < 0 && errno == EINTR);
	if (got != sizeof(bytes))
		return false;
	left = sizeof(bytes);
	return true;
}

bool hold_id_make(char id[HOLD_ID_LENGTH])
{
	if (left == 0 && !refill())
		return false;
	for (int i = 0; i < BYTES; i++) {
		unsigned char byte = bytes[--left];
		id[2 * i] = "0123456789abcdef"[byte >> 4];
		id[2 * i + 1] = "0123456789abcdef"[byte & 15];
	}
	return true;
}
