/*
 * A table in a tool's own memory: entries of one size, found by a hash of 128 bits that stands for
 * what they are about.  Grows as it must.
 */
#ifndef TALLYD_LEDGER_MAP_H
#define TALLYD_LEDGER_MAP_H

#include <stddef.h>

#include "../../shm/ids.h"

struct map {
	size_t size;          /* bytes of an entry, its key first, a multiple of 8 */
	unsigned char *entry; /* capacity of them; a key of zeros: free */
	size_t capacity;      /* a power of two, or 0 */
	size_t count;
};

/* An empty map of entries of SIZE bytes is { .size = SIZE }.  What it grew to, map_free frees. */
void map_free(struct map *map);

/* The entry of KEY, or NULL. */
void *map_find(const struct map *map, const struct key *key);

/*
 * A new entry of KEY, which is not there: its other bytes are zero.  NULL with errno (ENOMEM).
 * Every pointer to an entry is void after map_add and map_remove.
 */
void *map_add(struct map *map, const struct key *key);

/* Removes the entry of KEY, if it is there. */
void map_remove(struct map *map, const struct key *key);

#endif
