/*
 * The accounts of an export that were refused, most often because others of their names are there:
 * their holds are not to be placed on those.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "import_parts.h"

#define SHUNNED_MAX 1000000

static int compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

bool import_shun(struct import *import, struct slice name)
{
	if (import->shunned_count == SHUNNED_MAX)
		return import_give_up(import, COMMAND_FAILED, "too many accounts were refused"),
		       false;
	if (import->shunned_count == import->shunned_room) {
		size_t room = import->shunned_room == 0 ? 64 : 2 * import->shunned_room;
		uint64_t *all = realloc(import->shunned, room * sizeof *all);
		if (all == NULL)
			return import_give_up(import, COMMAND_FAILED, strerror(errno)), false;
		import->shunned = all;
		import->shunned_room = room;
	}
	import->shunned[import->shunned_count++] = XXH3_64bits(name.bytes, name.length);
	import->shunned_in_order = false;
	return true;
}

bool import_is_shunned(struct import *import, struct slice name)
{
	uint64_t hash = XXH3_64bits(name.bytes, name.length);

	if (import->shunned_count == 0)
		return false;
	/* The holds of an export come behind all of its accounts: once. */
	if (!import->shunned_in_order)
		qsort(import->shunned, import->shunned_count, sizeof hash, compare);
	import->shunned_in_order = true;
	return bsearch(&hash, import->shunned, import->shunned_count, sizeof hash, compare) != NULL;
}
