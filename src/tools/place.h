/*
 * Where a daemon's things are: its data directory, its process, its region.
 */
#ifndef TALLYD_TOOLS_PLACE_H
#define TALLYD_TOOLS_PLACE_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "command.h"

#define PLACE_PATH_MAX PATH_MAX

struct region;

/*
 * The data directory into DATA (PLACE_PATH_MAX bytes): GIVEN (-d), or what the configuration (-c,
 * or the default one where that is there) says, or what the program was built with.  COMMAND_DONE,
 * or another status, said.
 */
int place_data(const struct session *session, const char *given, char *data);

/*
 * The configuration of the daemon whose data is meant: -c, or the default one where the data
 * directory comes from that.  NULL: none is known.
 */
const char *place_configuration(const struct session *session);

/* The path of NAME in the data directory into PATH (PLACE_PATH_MAX bytes), likewise. */
int place_below(const struct session *session, const char *name, char *path);

/*
 * The master of the daemon that runs on the data directory DATA; 0: none does, or it cannot be
 * seen.  Nothing is said.
 */
long place_daemon(const char *data);

/*
 * The running daemon: its master's process in *PID.  COMMAND_DONE; or, said, COMMAND_NOT_RUNNING,
 * COMMAND_DENIED, COMMAND_FAILED (there is no such directory).
 */
int place_running(const struct session *session, long *pid);

/* The same, unsaid: the reason in ERROR (COMMAND_MESSAGE_SIZE bytes). */
int place_look(const char *data, long *pid, char *error);

/*
 * Maps the region of the daemon on DATA, read-only: the caller closes it.  NULL with the status in
 * *STATUS and the reason in ERROR (COMMAND_MESSAGE_SIZE bytes): COMMAND_NOT_RUNNING (there is none:
 * it starts or ends just now), COMMAND_DENIED, COMMAND_FAILED (of another version).
 */
struct region *place_region(const char *data, int *status, char *error);

#endif
