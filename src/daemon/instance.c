#include "instance.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../base/clock.h"

#define RETRY_NS 20000000

static int complain(char *error, size_t size, const char *path, const char *what)
{
	snprintf(error, size, "%s: %s: %s", path, what, strerror(errno));
	return 1;
}

/* What was made in the directory PATH is there after a power cut. */
static int sync_directory(const char *path, char *error, size_t size)
{
	int fd = (int)TEMP_FAILURE_RETRY(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	int status = 0;

	if (fd < 0)
		return complain(error, size, path, "cannot be opened");
	/* EINVAL: a file system that has nothing to sync in a directory */
	if (TEMP_FAILURE_RETRY(fsync(fd)) != 0 && errno != EINVAL)
		status = complain(error, size, path, "cannot be made durable");
	close(fd);
	return status;
}

static int make_directory(const char *path, const struct privileges *privileges, char *error,
                          size_t size)
{
	char parent[PATH_MAX];

	if (mkdir(path, 0700) != 0)
		return errno == EEXIST ? 0 : complain(error, size, path, "cannot be made");
	if (privileges_own(privileges, path, error, size) != 0)
		return 1;
	snprintf(parent, sizeof parent, "%s", path);
	return sync_directory(dirname(parent), error, size);
}

/* May USER's group, which is all that others than its owner may be, read DIRECTORY at most? */
static bool is_private(const struct stat *directory, const struct privileges *privileges)
{
	gid_t own = privileges->drop ? privileges->gid : getegid();
	mode_t others = directory->st_mode & (S_IRWXG | S_IRWXO);

	return others == 0 ||
	       ((others & ~(mode_t)(S_IRGRP | S_IXGRP)) == 0 && directory->st_gid == own);
}

/* Balances are nobody else's to read. */
static int check_private(const char *path, const struct privileges *privileges, char *error,
                         size_t size)
{
	struct stat directory;

	if (stat(path, &directory) != 0)
		return complain(error, size, path, "cannot be read");
	uid_t own = privileges->drop ? privileges->uid : geteuid();
	if (directory.st_uid != 0 && directory.st_uid != own) {
		snprintf(error, size,
		         "%s: belongs to user %ju, who could read or change the balances there; "
		         "chown it to user %ju",
		         path, (uintmax_t)directory.st_uid, (uintmax_t)own);
		return INSTANCE_EXIT_DATA;
	}
	if (is_private(&directory, privileges))
		return 0;
	snprintf(
	    error, size,
	    "%s: others may read or change the balances there: its mode is %04o, its group %ju; "
	    "chmod 0700 it, or 0750 with the service's own group",
	    path, (unsigned)(directory.st_mode & 07777), (uintmax_t)directory.st_gid);
	return INSTANCE_EXIT_DATA;
}

static int join(char *target, const char *directory, const char *name, char *error, size_t size)
{
	int length = snprintf(target, PATH_MAX, "%s/%s", directory, name);

	if (length > 0 && length < PATH_MAX)
		return 0;
	errno = ENAMETOOLONG;
	return complain(error, size, directory, "too long");
}

/* The pid that the holder of the lock wrote, 0 if none can be read. */
static pid_t holder(int fd)
{
	char text[24] = "";

	if (pread(fd, text, sizeof text - 1, 0) <= 0)
		return 0;
	long pid = strtol(text, NULL, 10);
	return pid > 0 && pid <= INT32_MAX ? (pid_t)pid : 0;
}

static bool alive(pid_t pid)
{
	return pid > 0 && (kill(pid, 0) == 0 || errno == EPERM);
}

/*
 * A dead master's children are being killed: the lock is theirs until they are gone.  One that was
 * killed a moment ago has its number still.
 */
static int take_lock(int fd)
{
	const struct timespec pause = {.tv_nsec = RETRY_NS};
	const uint64_t begun = clock_monotonic_us();

	while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		if (errno == EINTR)
			continue;
		if (errno != EWOULDBLOCK)
			return -1;
		uint64_t seconds = alive(holder(fd)) ? INSTANCE_DYING_WAIT : INSTANCE_ORPHAN_WAIT;
		if (clock_monotonic_us() - begun > seconds * UINT64_C(1000000)) {
			errno = EWOULDBLOCK; /* alive may have changed it */
			return -1;
		}
		nanosleep(&pause, NULL);
	}
	return 0;
}

static int lock(struct instance *instance, const char *path, char *error, size_t size)
{
	char text[24];

	instance->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (instance->lock < 0)
		return complain(error, size, path, "cannot be opened");
	if (take_lock(instance->lock) != 0) {
		if (errno != EWOULDBLOCK)
			return complain(error, size, path, "cannot be locked");
		snprintf(error, size, "%s: the data directory is in use by process %ld", path,
		         (long)holder(instance->lock));
		return INSTANCE_EXIT_DATA;
	}
	int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
	/* In this order it keeps its block, which on a full disk could not be had again. */
	if (TEMP_FAILURE_RETRY(pwrite(instance->lock, text, (size_t)length, 0)) != length ||
	    TEMP_FAILURE_RETRY(ftruncate(instance->lock, length)) != 0)
		return complain(error, size, path, "cannot be written");
	return 0;
}

static int name_region(struct instance *instance, const char *directory, char *error, size_t size)
{
	struct stat status;

	if (stat(directory, &status) != 0)
		return complain(error, size, directory, "cannot be read");
	snprintf(instance->region, sizeof instance->region, "/tallyd-%jx-%jx",
	         (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
	return 0;
}

int instance_open(struct instance *instance, const char *directory,
                  const struct privileges *privileges, char *error, size_t error_size)
{
	char path[PATH_MAX];
	int status;

	instance->lock = -1;
	if ((status = make_directory(directory, privileges, error, error_size)) != 0 ||
	    (status = check_private(directory, privileges, error, error_size)) != 0 ||
	    (status = join(path, directory, "lock", error, error_size)) != 0 ||
	    (status = join(instance->journal, directory, "journal", error, error_size)) != 0 ||
	    (status = join(instance->snapshots, directory, "snapshots", error, error_size)) != 0 ||
	    (status = lock(instance, path, error, error_size)) != 0 ||
	    (status = make_directory(instance->journal, privileges, error, error_size)) != 0 ||
	    (status = make_directory(instance->snapshots, privileges, error, error_size)) != 0 ||
	    /* Who made them may have been killed before that. */
	    (status = sync_directory(directory, error, error_size)) != 0)
		return status;
	return name_region(instance, directory, error, error_size);
}

void instance_close(struct instance *instance)
{
	if (instance->lock >= 0)
		close(instance->lock);
	instance->lock = -1;
}
