#include "coverage.h"

#include <errno.h>
#include <stdlib.h>

static bool follows(const struct coverage *coverage, const struct coverage_part *part)
{
	const struct coverage_part *last;

	if (part->first > part->last)
		return false;
	if (coverage->count == 0)
		return true;
	last = &coverage->part[coverage->count - 1];
	return part->table > last->table ||
	       (part->table == last->table && part->first > last->last);
}

int coverage_add(struct coverage *coverage, const struct coverage_part *part)
{
	if (!follows(coverage, part)) {
		errno = EUCLEAN;
		return -1;
	}
	if (coverage->count == coverage->capacity) {
		size_t capacity = coverage->capacity == 0 ? 256 : coverage->capacity * 2;
		struct coverage_part *more =
		    reallocarray(coverage->part, capacity, sizeof *coverage->part);
		if (more == NULL)
			return -1;
		coverage->part = more;
		coverage->capacity = capacity;
	}
	coverage->part[coverage->count++] = *part;
	return 0;
}

void coverage_free(struct coverage *coverage)
{
	free(coverage->part);
	*coverage = (struct coverage){0};
}

bool coverage_has(const struct coverage *coverage, enum coverage_table table, uint64_t hash,
                  uint64_t lsn)
{
	size_t low = 0;
	size_t high = coverage->count;

	/* The last part that begins at or before HASH is the one that may hold it. */
	while (low < high) {
		size_t middle = (low + high) / 2;
		const struct coverage_part *part = &coverage->part[middle];
		if (part->table < table || (part->table == table && part->first <= hash))
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return false;
	const struct coverage_part *part = &coverage->part[low - 1];
	return part->table == table && hash <= part->last && lsn <= part->newest;
}
