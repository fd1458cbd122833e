#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define ZERO_BLOCK 262144

/* Interrupted before it began: nothing has happened, so it is no second try. */
#define UNINTERRUPTED(call)                                                                        \
	({                                                                                         \
		__typeof__(call) result_;                                                          \
		do                                                                                 \
			result_ = (call);                                                          \
		while (result_ < 0 && errno == EINTR);                                             \
		result_;                                                                           \
	})

int disk_open(int directory, const char *name, int flags)
{
	return UNINTERRUPTED(openat(directory, name, flags | O_CLOEXEC));
}

int disk_directory(const char *path)
{
	int fd = disk_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);

	if (fd >= 0 || errno != ENOENT || (mkdir(path, 0700) != 0 && errno != EEXIST))
		return fd;
	return disk_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
}

static int adopt_owner(int directory, int fd)
{
	struct stat status;

	if (geteuid() != 0)
		return 0;
	if (fstat(directory, &status) != 0)
		return -1;
	return fchown(fd, status.st_uid, status.st_gid);
}

int disk_create(int directory, const char *name)
{
	int fd = UNINTERRUPTED(
	    openat(directory, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));

	if (fd >= 0 && adopt_owner(directory, fd) != 0) {
		int error = errno;
		close(fd);
		unlinkat(directory, name, 0);
		errno = error;
		return -1;
	}
	return fd;
}

int disk_close(int fd)
{
	/* After EINTR the descriptor is gone on Linux: there is nothing to repeat. */
	return close(fd) == 0 || errno == EINTR ? 0 : -1;
}

int disk_allocate(int fd, uint64_t size)
{
	int result = UNINTERRUPTED(fallocate(fd, 0, 0, (off_t)size));

	if (result != 0 && errno == EOPNOTSUPP)
		return 1;
	return result;
}

int disk_write_pieces(int fd, struct iovec *piece, int count, uint64_t offset)
{
	while (count > 0) {
		ssize_t put = UNINTERRUPTED(pwritev(fd, piece, count, (off_t)offset));
		if (put < 0)
			return -1;
		if (put == 0) {
			errno = ENOSPC;
			return -1;
		}
		offset += (uint64_t)put;
		while (count > 0 && (size_t)put >= piece->iov_len) {
			put -= (ssize_t)piece->iov_len;
			piece++;
			count--;
		}
		if (count > 0) {
			piece->iov_base = (char *)piece->iov_base + put;
			piece->iov_len -= (size_t)put;
		}
	}
	return 0;
}

int disk_write(int fd, const void *bytes, size_t length, uint64_t offset)
{
	const char *at = bytes;

	while (length > 0) {
		ssize_t put = UNINTERRUPTED(pwrite(fd, at, length, (off_t)offset));
		if (put < 0)
			return -1;
		if (put == 0) {
			errno = ENOSPC;
			return -1;
		}
		at += put;
		length -= (size_t)put;
		offset += (uint64_t)put;
	}
	return 0;
}

int disk_zero(int fd, uint64_t offset, uint64_t length)
{
	static const char zeros[ZERO_BLOCK];

	while (length > 0) {
		size_t part = length < sizeof zeros ? (size_t)length : sizeof zeros;
		if (disk_write(fd, zeros, part, offset) != 0)
			return -1;
		offset += part;
		length -= part;
	}
	return 0;
}

ssize_t disk_read(int fd, void *bytes, size_t length, uint64_t offset)
{
	size_t have = 0;

	while (have < length) {
		ssize_t got = UNINTERRUPTED(
		    pread(fd, (char *)bytes + have, length - have, (off_t)(offset + have)));
		if (got < 0)
			return -1;
		if (got == 0)
			break;
		have += (size_t)got;
	}
	return (ssize_t)have;
}

int disk_fsync(int fd)
{
	return UNINTERRUPTED(fsync(fd));
}

int disk_fdatasync(int fd)
{
#ifdef TALLYD_STUB_FDATASYNC
	/* The power-cut test must go red with this. */
	(void)fd;
	return 0;
#else
	return UNINTERRUPTED(fdatasync(fd));
#endif
}

int disk_publish(int directory, const char *temporary, const char *name)
{
	if (UNINTERRUPTED(renameat(directory, temporary, directory, name)) != 0)
		return -1;
	return disk_fsync(directory);
}
