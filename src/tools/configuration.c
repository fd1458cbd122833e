#include "configuration.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../daemon/config.h"

_Static_assert(CONFIGURATION_ERROR_SIZE == CONFIG_ERROR_MAX, "its messages fit");

static struct config *load(const char *file, char *error)
{
	if (access(file, R_OK) != 0) {
		int cause = errno;
		snprintf(error, CONFIGURATION_ERROR_SIZE, "%.512s: cannot be read: %s", file,
		         strerror(cause));
		errno = cause;
		return NULL;
	}
	struct config *config = config_load(file, error, CONFIGURATION_ERROR_SIZE);
	if (config == NULL)
		errno = 0;
	return config;
}

static int too_long(const char *file, const char *key, char *error)
{
	snprintf(error, CONFIGURATION_ERROR_SIZE, "%.512s: %s is too long", file, key);
	errno = ENAMETOOLONG;
	return -1;
}

int configuration_data(const char *file, char *data, size_t size, char *error)
{
	struct config *config = load(file, error);

	if (config == NULL)
		return -1;
	int length = snprintf(data, size, "%s", config->data_directory);
	config_free(config);
	return length >= 0 && (size_t)length < size ? 0 : too_long(file, "data_directory", error);
}

int configuration_auth_file(const char *file, char *path, size_t size, char *error)
{
	struct config *config = load(file, error);

	if (config == NULL)
		return -1;
	int length = snprintf(path, size, "%s", config->auth_file);
	config_free(config);
	return length >= 0 && (size_t)length < size ? 0 : too_long(file, "auth_file", error);
}

int configuration_ids(const char *file, uint64_t *max_ids, uint64_t *window_us, char *error)
{
	struct config *config = load(file, error);

	if (config == NULL)
		return -1;
	*max_ids = config->max_ids;
	*window_us = (uint64_t)(config->id_window * 1e6);
	config_free(config);
	return 0;
}

/* Where a listener of every address is reached from here. */
static const char *near(const char *address, const char **host)
{
	static const struct {
		const char *any, *host;
	} all[] = {{"*:", "127.0.0.1:"}, {"0.0.0.0:", "127.0.0.1:"}, {"[::]:", "[::1]:"}};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		if (strncmp(address, all[i].any, strlen(all[i].any)) == 0) {
			*host = all[i].host;
			return address + strlen(all[i].any);
		}
	}
	*host = "";
	return address;
}

static int write_url(const char *address, char *url, size_t size)
{
	const char *host;

	if (strncmp(address, "unix:", 5) == 0)
		return snprintf(url, size, "%s", address);
	const char *rest = near(address, &host);
	return snprintf(url, size, "http://%s%s", host, rest);
}

/* HTTP, and not only to proxies? */
static bool serves(const struct config_listener *listener)
{
	return strcmp(listener->protocol, "http") == 0 && listener->proxy_from[0] == '\0';
}

int configuration_url(const char *file, char *url, size_t size, char *error)
{
	struct config *config = file != NULL ? load(file, error) : config_default();
	int length = -1;

	if (config == NULL)
		return -1;
	for (size_t i = 0; i < config->listener_count && length < 0; i++)
		if (serves(&config->listeners[i]))
			length = write_url(config->listeners[i].address, url, size);
	config_free(config);
	if (length >= 0 && (size_t)length < size)
		return 0;
	if (length >= 0)
		return too_long(file != NULL ? file : "built in", "listen", error);
	snprintf(error, CONFIGURATION_ERROR_SIZE,
	         "%.512s: no listener speaks HTTP with others than proxies", file);
	errno = 0;
	return -1;
}
