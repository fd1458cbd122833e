#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../shm/region.h"
#include "configuration.h"

#define NAME_SIZE   64
#define HOW_TO_NAME "name the data directory with -d DIR, or the configuration with -c FILE"
#define WHO_MAY     "do it as root, or as whoever started tallyd"

/* ---- The data directory ---- */

static int copy(const struct session *session, const char *path, char *data)
{
	int length = snprintf(data, PLACE_PATH_MAX, "%s", path);

	if (length > 0 && length < PLACE_PATH_MAX)
		return COMMAND_DONE;
	if (length == 0)
		return command_misused(session, "the data directory's name is empty; " HOW_TO_NAME);
	return command_fail(session, COMMAND_FAILED, "%.80s...: %s", path, strerror(ENAMETOOLONG));
}

static int from_configuration(const struct session *session, const char *file, char *data)
{
	char error[CONFIGURATION_ERROR_SIZE];

	if (configuration_data(file, data, PLACE_PATH_MAX, error) == 0)
		return COMMAND_DONE;
	if (errno == EACCES)
		return command_fail(session, COMMAND_DENIED,
		                    "%s; " WHO_MAY ", or name the data directory with -d DIR",
		                    error);
	return command_fail(session, COMMAND_USAGE, "%s", error);
}

int place_data(const struct session *session, const char *given, char *data)
{
	if (given != NULL)
		return copy(session, given, data);
	if (session->config != NULL)
		return from_configuration(session, session->config, data);
	if (access(TALLYD_CONFIG_FILE, F_OK) == 0 || errno == EACCES)
		return from_configuration(session, TALLYD_CONFIG_FILE, data);
	return copy(session, TALLYD_DATA_DIRECTORY, data);
}

const char *place_configuration(const struct session *session)
{
	if (session->config != NULL)
		return session->config;
	if (command_has(session, 'd') || access(TALLYD_CONFIG_FILE, R_OK) != 0)
		return NULL;
	return TALLYD_CONFIG_FILE;
}

int place_below(const struct session *session, const char *name, char *path)
{
	int length = snprintf(path, PLACE_PATH_MAX, "%s/%s", session->data, name);

	if (length > 0 && length < PLACE_PATH_MAX)
		return COMMAND_DONE;
	return command_fail(session, COMMAND_FAILED, "%.80s...: %s", session->data,
	                    strerror(ENAMETOOLONG));
}

/* ---- The process ---- */

/* The process that wrote its number into the data directory's lock; 0: none can be read. */
static long writer_of(int fd)
{
	char text[24] = "";

	return pread(fd, text, sizeof text - 1, 0) > 0 ? strtol(text, NULL, 10) : 0;
}

/*
 * Is the lock behind FD held?  Asked of the kernel's list: to try for the lock would take it for a
 * moment, in which a daemon that starts would find it taken.
 */
static bool is_held(int fd, long pid)
{
	struct stat status;
	char line[256];
	bool held = false;
	FILE *locks = fopen("/proc/locks", "re");

	if (locks == NULL || fstat(fd, &status) != 0) {
		if (locks != NULL)
			fclose(locks);
		return false;
	}
	while (!held && fgets(line, sizeof line, locks) != NULL) {
		unsigned long long inode;
		long holder;
		held = sscanf(line, "%*s FLOCK %*s %*s %ld %*x:%*x:%llu", &holder, &inode) == 2 &&
		       inode == status.st_ino && holder == pid;
	}
	fclose(locks);
	return held;
}

static int open_lock(const char *data)
{
	char path[PLACE_PATH_MAX];
	int length = snprintf(path, sizeof path, "%s/lock", data);

	if (length < 0 || length >= (int)sizeof path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return open(path, O_RDONLY | O_CLOEXEC);
}

long place_daemon(const char *data)
{
	int fd = open_lock(data);

	if (fd < 0)
		return 0;
	long pid = writer_of(fd);
	if (!is_held(fd, pid))
		pid = 0;
	close(fd);
	return pid;
}

static int explain(int status, char *error, const char *format, const char *path, const char *more)
{
	snprintf(error, COMMAND_MESSAGE_SIZE, format, path, more);
	return status;
}

static int cannot_look(const char *data, int cause, char *error)
{
	struct stat status;

	if (cause == EACCES || cause == EPERM)
		return explain(COMMAND_DENIED, error, "%s: %s; " WHO_MAY, data, strerror(cause));
	if (cause == ENOENT && stat(data, &status) == 0 && S_ISDIR(status.st_mode))
		return explain(COMMAND_NOT_RUNNING, error, "%s: %s", data,
		               "no tallyd has run here yet; " HOW_TO_NAME);
	return explain(COMMAND_FAILED, error, "%s: %s; " HOW_TO_NAME, data, strerror(cause));
}

int place_look(const char *data, long *pid, char *error)
{
	int fd = open_lock(data);

	*pid = 0;
	if (fd < 0)
		return cannot_look(data, errno, error);
	long writer = writer_of(fd);
	bool held = is_held(fd, writer);
	close(fd);
	if (!held)
		return explain(COMMAND_NOT_RUNNING, error, "%s: %s", data,
		               "tallyd does not run on this data directory");
	*pid = writer;
	return COMMAND_DONE;
}

int place_running(const struct session *session, long *pid)
{
	char error[COMMAND_MESSAGE_SIZE];
	int status = place_look(session->data, pid, error);

	return status == COMMAND_DONE ? status : command_fail(session, status, "%s", error);
}

/* ---- The region ---- */

/* As the daemon names it: src/daemon/instance.c. */
static int name_region(const char *data, char *name)
{
	struct stat status;

	if (stat(data, &status) != 0)
		return -1;
	snprintf(name, NAME_SIZE, "/tallyd-%jx-%jx", (uintmax_t)status.st_dev,
	         (uintmax_t)status.st_ino);
	return 0;
}

struct region *place_region(const char *data, int *status, char *error)
{
	char name[NAME_SIZE] = "";
	struct region *region = name_region(data, name) == 0 ? region_inspect(name) : NULL;

	if (region != NULL) {
		*status = COMMAND_DONE;
		return region;
	}
	if (errno == EACCES || errno == EPERM)
		*status = explain(COMMAND_DENIED, error, "/dev/shm%s: %s; " WHO_MAY, name,
		                  strerror(errno));
	else if (errno == ENOENT)
		*status = explain(COMMAND_NOT_RUNNING, error, "%s: %s", data,
		                  "tallyd has no shared memory: it is starting, or ending");
	else if (errno == EINVAL)
		*status =
		    explain(COMMAND_FAILED, error, "/dev/shm%s: %s", name,
		            "it is being made, or the running tallyd is of another version "
		            "than this tallyctl: look again in a moment, else restart tallyd");
	else
		*status = explain(COMMAND_FAILED, error, "/dev/shm%s: cannot be mapped: %s", name,
		                  strerror(errno));
	return NULL;
}
