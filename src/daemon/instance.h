/*
 * One instance per data directory: its lock, its paths, the name of its region.
 */
#ifndef TALLYD_DAEMON_INSTANCE_H
#define TALLYD_DAEMON_INSTANCE_H

#include <limits.h>
#include <stddef.h>

#include "privileges.h"

#define INSTANCE_EXIT_DATA   3  /* the data directory is in use, corrupt, or open to others */
#define INSTANCE_ORPHAN_WAIT 10 /* seconds to wait for the children of a dead master to go */
#define INSTANCE_DYING_WAIT  1  /* seconds for a master that seems to be alive: it may be dying */

struct instance {
	int lock; /* flock held, inherited by every child */
	char region[64];
	char journal[PATH_MAX];
	char snapshots[PATH_MAX];
};

/*
 * Makes DIRECTORY (0700) and what is below it if they are missing, gives them to the user of
 * PRIVILEGES, and locks it.  0; or an exit status with the reason in ERROR: INSTANCE_EXIT_DATA if
 * it is in use, or if others than its owner may read it (the service's own group excepted) or
 * change it, 1 anything else.
 */
int instance_open(struct instance *instance, const char *directory,
                  const struct privileges *privileges, char *error, size_t error_size);

/* Gives the lock up. */
void instance_close(struct instance *instance);

#endif
