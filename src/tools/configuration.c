#include "configuration.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../daemon/config.h"

_Static_assert(CONFIGURATION_ERROR_SIZE == CONFIG_ERROR_MAX, "its messages fit");

int configuration_data(const char *file, char *data, size_t size, char *error)
{
	if (access(file, R_OK) != 0) {
		int cause = errno;
		snprintf(error, CONFIGURATION_ERROR_SIZE, "%.512s: cannot be read: %s", file,
		         strerror(cause));
		errno = cause;
		return -1;
	}
	struct config *config = config_load(file, error, CONFIGURATION_ERROR_SIZE);
	if (config == NULL) {
		errno = 0;
		return -1;
	}
	int length = snprintf(data, size, "%s", config->data_directory);
	config_free(config);
	if (length >= 0 && (size_t)length < size)
		return 0;
	snprintf(error, CONFIGURATION_ERROR_SIZE, "%.512s: data_directory is too long", file);
	errno = ENAMETOOLONG;
	return -1;
}
