#include "pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ATTEMPTS 100 /* rounds of a race with others that create or remove the file */

struct pidfile {
	int fd; /* locked while open; never open the file twice: closing either drops the lock */
	char path[PATH_MAX];
};

enum outcome { TAKEN, AGAIN, FAILED };

static int held = -1; /* by this process */

/*
 * A child has no part in the lock, and what stands in the file is not for it to write: root may
 * signal whom it names.
 */
static void close_in_child(void)
{
	if (held >= 0)
		close(held);
	held = -1;
}

/* From now on.  It fails only where there is no memory for a list of one. */
static void keep_from_children(int fd)
{
	static bool prepared;

	if (!prepared)
		prepared = pthread_atfork(NULL, NULL, close_in_child) == 0;
	held = fd;
}

static int set_lock(int fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_SETLK, &lock);
}

/* Who holds the lock of FD: a pid, 0 nobody, -1 with errno. */
static pid_t lock_holder(int fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	if (fcntl(fd, F_GETLK, &lock) == -1)
		return -1;
	if (lock.l_type == F_UNLCK)
		return 0;
	/* A process of another pid namespace has no pid here. */
	errno = ESRCH;
	return lock.l_pid > 0 ? lock.l_pid : -1;
}

/* Writes a complete, locked file at TEMPORARY.  Its descriptor, or -1 with errno. */
static int write_temporary(const char *temporary)
{
	char text[32];
	int fd, length, reason;

	/* Left by a dead process that had our pid; a live one cannot have it. */
	unlink(temporary);
	fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd == -1)
		return -1;
	length = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	errno = EIO; /* of a short write, which leaves errno alone */
	if (fchmod(fd, 0644) == 0 && set_lock(fd) == 0 &&
	    write(fd, text, (size_t)length) == (ssize_t)length)
		return fd;
	reason = errno;
	close(fd);
	unlink(temporary);
	errno = reason;
	return -1;
}

static void explain_running(int fd, const char *path, char *error, size_t error_size)
{
	pid_t holder = lock_holder(fd);

	if (holder > 0)
		snprintf(error, error_size,
		         "%s: tallyd is already running as pid %d; stop it first, or use another "
		         "pid_file",
		         path, (int)holder);
	else
		snprintf(error, error_size,
		         "%s: locked by another process; stop it first, or use another pid_file",
		         path);
}

/* Is PATH still the file that FD has open? */
static bool is_same_file(int fd, const char *path)
{
	struct stat ours, there;

	return fstat(fd, &ours) == 0 && lstat(path, &there) == 0 && ours.st_dev == there.st_dev &&
	       ours.st_ino == there.st_ino;
}

/*
 * Puts TEMPORARY in the place of an existing file that nobody holds.  While we
 * hold the lock of the old one, no third process can find it stale as well.
 */
static enum outcome replace_stale(const char *path, const char *temporary, char *error,
                                  size_t error_size)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	enum outcome outcome = AGAIN;

	if (fd == -1 && errno == ENOENT)
		return AGAIN;
	if (fd == -1) {
		snprintf(error, error_size, "%s: cannot open the existing pid file: %s; remove it",
		         path, strerror(errno));
		return FAILED;
	}
	if (set_lock(fd) == -1) {
		explain_running(fd, path, error, error_size);
		outcome = FAILED;
	} else if (is_same_file(fd, path) && rename(temporary, path) == 0) {
		outcome = TAKEN;
	}
	close(fd);
	return outcome;
}

static enum outcome take_path(const char *path, const char *temporary, char *error,
                              size_t error_size)
{
	if (link(temporary, path) == 0) {
		unlink(temporary);
		return TAKEN;
	}
	if (errno == EEXIST)
		return replace_stale(path, temporary, error, error_size);
	snprintf(error, error_size, "%s: cannot create the pid file: %s; check pid_file", path,
	         strerror(errno));
	return FAILED;
}

static void let_go(struct pidfile *pidfile)
{
	held = -1;
	close(pidfile->fd);
	free(pidfile);
}

struct pidfile *pidfile_create(const char *path, char *error, size_t error_size)
{
	struct pidfile *pidfile = calloc(1, sizeof(*pidfile));
	char temporary[PATH_MAX + 32];
	enum outcome outcome = AGAIN;

	if (!pidfile || strlen(path) >= sizeof(pidfile->path)) {
		snprintf(error, error_size, "%s: %s", path,
		         pidfile ? "the path is too long; choose a shorter pid_file"
		                 : "out of memory");
		free(pidfile);
		return NULL;
	}
	memcpy(pidfile->path, path, strlen(path) + 1);
	snprintf(temporary, sizeof(temporary), "%s.%d", path, (int)getpid());
	pidfile->fd = write_temporary(temporary);
	if (pidfile->fd == -1) {
		snprintf(error, error_size, "%s: cannot create the pid file: %s; check pid_file",
		         path, strerror(errno));
		free(pidfile);
		return NULL;
	}
	keep_from_children(pidfile->fd);
	for (int i = 0; i < ATTEMPTS && outcome == AGAIN; i++)
		outcome = take_path(path, temporary, error, error_size);
	if (outcome == TAKEN)
		return pidfile;
	if (outcome == AGAIN)
		snprintf(error, error_size, "%s: it keeps changing; stop the other instances",
		         path);
	unlink(temporary);
	let_go(pidfile);
	return NULL;
}

void pidfile_remove(struct pidfile *pidfile)
{
	if (!pidfile)
		return;
	if (is_same_file(pidfile->fd, pidfile->path) && unlink(pidfile->path) == -1) {
		/* Where even that fails, the lock that ends with us makes the file stale. */
		if (ftruncate(pidfile->fd, 0) == -1)
			errno = 0;
	}
	let_go(pidfile);
}

pid_t pidfile_read(const char *path, char *error, size_t error_size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	pid_t holder;

	if (fd == -1) {
		snprintf(error, error_size, "%s: %s%s", path,
		         errno == ENOENT ? "tallyd is not running: " : "cannot read the pid file: ",
		         strerror(errno));
		return -1;
	}
	holder = lock_holder(fd);
	if (holder > 0) {
		close(fd);
		return holder;
	}
	if (holder == 0)
		snprintf(error, error_size, "%s: tallyd is not running: the file is stale", path);
	else
		snprintf(error, error_size, "%s: cannot tell who holds it: %s", path,
		         strerror(errno));
	close(fd);
	return -1;
}
