/*
 * The places of a worker's connections: mapped at start, never more, untouched ones cost
 * nothing.
 */
#ifndef TALLYD_SERVER_SLAB_H
#define TALLYD_SERVER_SLAB_H

#include <stddef.h>
#include <stdint.h>

#include "connection.h"

/* Room for PLACES connections (1 or more).  NULL with errno EINVAL or ENOMEM. */
struct slab *slab_new(uint32_t places);
void slab_free(struct slab *slab); /* NULL is fine */

/* A cleared place, or NULL if all are taken. */
struct connection *slab_take(struct slab *slab);
void slab_give(struct slab *slab, struct connection *connection);

/* Places taken. */
uint32_t slab_used(const struct slab *slab);

/*
 * Walks the places taken: the first one at or after *CURSOR (start from 0), or NULL.  The
 * connection returned may be given back before the next call.
 */
struct connection *slab_next(const struct slab *slab, uint32_t *cursor);

#endif
