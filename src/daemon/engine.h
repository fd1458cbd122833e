/*
 * From what is on disk to a region that is ready to serve.
 */
#ifndef TALLYD_DAEMON_ENGINE_H
#define TALLYD_DAEMON_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "instance.h"

struct region;

struct engine {
	struct region *region;
	uint64_t snapshot_start; /* of the newest snapshot used, 0: none */
};

/*
 * Creates the region, recovers into it, begins a new run.  The caller holds the instance's lock and
 * no child lives.  0; or an exit status with the reason in ERROR: 3 the data is corrupt,
 * 1 anything else.
 */
int engine_build(struct engine *engine, const struct config *config,
                 const struct instance *instance, char *error, size_t error_size);

/* Stores the settings of CONFIG that a reload may change into the region. */
void engine_configure(struct engine *engine, const struct config *config);

/* Frees the region and removes its name. */
void engine_destroy(struct engine *engine, const struct instance *instance);

#endif
