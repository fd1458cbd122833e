/*
 * What the daemon's configuration says of its data directory and of its listeners.  The one place
 * where a tool knows a room of the daemon's: its own reader of that file, so that both understand
 * it alike.
 */
#ifndef TALLYD_TOOLS_CONFIGURATION_H
#define TALLYD_TOOLS_CONFIGURATION_H

#include <stddef.h>
#include <stdint.h>

#define CONFIGURATION_ERROR_SIZE 1024

/*
 * The data_directory of the configuration FILE into DATA (SIZE bytes).  0; or -1 with what is wrong
 * in ERROR (CONFIGURATION_ERROR_SIZE bytes) and errno (EACCES: it may not be read; 0: its text).
 */
int configuration_data(const char *file, char *data, size_t size, char *error);

/*
 * The URL of the first HTTP listener of the configuration FILE (NULL: of an empty one) that is not
 * for proxies only into URL (SIZE bytes), as a client on this machine writes it.  Likewise.
 */
int configuration_url(const char *file, char *url, size_t size, char *error);

/* The auth_file of the configuration FILE into PATH (SIZE bytes); "": it names none.  Likewise. */
int configuration_auth_file(const char *file, char *path, size_t size, char *error);

/* How many ids the configuration FILE has remembered, and for how many microseconds.  Likewise. */
int configuration_ids(const char *file, uint64_t *max_ids, uint64_t *window_us, char *error);

#endif
