#include "map.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_MIN 1024

static unsigned char *at(const struct map *map, size_t index)
{
	return map->entry + index * map->size;
}

static struct key *key_at(const struct map *map, size_t index)
{
	return (struct key *)(void *)at(map, index);
}

static bool is_free(const struct key *key)
{
	return (key->low | key->high) == 0;
}

static size_t home(const struct map *map, const struct key *key)
{
	return (size_t)key->low & (map->capacity - 1);
}

/* Where KEY is, or would go. */
static size_t probe(const struct map *map, const struct key *key)
{
	size_t index = home(map, key);

	for (;; index = (index + 1) & (map->capacity - 1)) {
		const struct key *here = key_at(map, index);
		if (is_free(here) || (here->low == key->low && here->high == key->high))
			return index;
	}
}

void map_free(struct map *map)
{
	free(map->entry);
	*map = (struct map){.size = map->size};
}

void *map_find(const struct map *map, const struct key *key)
{
	if (map->capacity == 0)
		return NULL;
	size_t index = probe(map, key);
	return is_free(key_at(map, index)) ? NULL : at(map, index);
}

static int grow(struct map *map)
{
	struct map larger = {.size = map->size,
	                     .capacity = map->capacity == 0 ? CAPACITY_MIN : map->capacity * 2,
	                     .count = map->count};

	larger.entry = calloc(larger.capacity, larger.size);
	if (larger.entry == NULL)
		return -1;
	for (size_t i = 0; i < map->capacity; i++)
		if (!is_free(key_at(map, i)))
			memcpy(at(&larger, probe(&larger, key_at(map, i))), at(map, i), map->size);
	free(map->entry);
	*map = larger;
	return 0;
}

void *map_add(struct map *map, const struct key *key)
{
	if ((map->count + 1) * 3 > map->capacity * 2 && grow(map) != 0)
		return NULL;
	size_t index = probe(map, key);
	memcpy(at(map, index), key, sizeof *key);
	map->count++;
	return at(map, index);
}

void map_remove(struct map *map, const struct key *key)
{
	if (map_find(map, key) == NULL)
		return;
	size_t hole = probe(map, key);
	size_t mask = map->capacity - 1;

	/* Those behind it that came past the hole move up, so that probes need no marks. */
	for (size_t next = (hole + 1) & mask; !is_free(key_at(map, next));
	     next = (next + 1) & mask) {
		size_t distance = (next - home(map, key_at(map, next))) & mask;
		if (distance < ((next - hole) & mask))
			continue;
		memcpy(at(map, hole), at(map, next), map->size);
		hole = next;
	}
	memset(at(map, hole), 0, map->size);
	map->count--;
}
