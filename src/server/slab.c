#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "slab.h"

struct slab {
	struct connection *places; /* the worker of a free one is NULL */
	uint32_t count;
	uint32_t touched; /* places before this one have been used at some time */
	uint32_t used;
	struct connection *free; /* linked by held_next */
};

struct slab *slab_new(uint32_t places)
{
	if (places == 0) {
		errno = EINVAL;
		return NULL;
	}
	struct slab *slab = calloc(1, sizeof(*slab));
	if (!slab)
		return NULL;
	slab->count = places;
	slab->places =
	    mmap(NULL, (size_t)places * sizeof(struct connection), PROT_READ | PROT_WRITE,
	         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (slab->places == MAP_FAILED) {
		free(slab);
		errno = ENOMEM;
		return NULL;
	}
	madvise(slab->places, (size_t)places * sizeof(struct connection), MADV_DONTDUMP);
	return slab;
}

void slab_free(struct slab *slab)
{
	if (!slab)
		return;
	munmap(slab->places, slab->count * sizeof(struct connection));
	free(slab);
}

struct connection *slab_take(struct slab *slab)
{
	struct connection *connection = slab->free;
	if (connection)
		slab->free = connection->held_next;
	else if (slab->touched < slab->count)
		connection = &slab->places[slab->touched++];
	else
		return NULL;
	memset(connection, 0, sizeof(*connection));
	slab->used++;
	return connection;
}

void slab_give(struct slab *slab, struct connection *connection)
{
	connection->worker = NULL;
	connection->held_next = slab->free;
	slab->free = connection;
	slab->used--;
}

uint32_t slab_used(const struct slab *slab)
{
	return slab->used;
}

struct connection *slab_next(const struct slab *slab, uint32_t *cursor)
{
	while (*cursor < slab->touched) {
		struct connection *connection = &slab->places[(*cursor)++];
		if (connection->worker)
			return connection;
	}
	return NULL;
}
