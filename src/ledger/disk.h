/*
 * File calls that finish what they begin: interrupted ones go on, short ones are
 * completed.  No failed write or sync is tried again: after one, what the disk holds is unknown.
 */
#ifndef TALLYD_LEDGER_DISK_H
#define TALLYD_LEDGER_DISK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* All return -1 with errno on failure.  DIRECTORY is a descriptor. */

/* openat(2), close-on-exec. */
int disk_open(int directory, const char *name, int flags);

/* The directory PATH for reading, made (0700) if it is not there. */
int disk_directory(const char *path);

/* An empty file NAME for writing, owned as its directory is, mode 0600. */
int disk_create(int directory, const char *name);

/* close(2); an error of a late write is reported. */
int disk_close(int fd);

/*
 * Reserves SIZE bytes from the start of an empty file (fallocate), which reads as zero.  0; 1 where
 * the file system cannot: then they must be written; -1 with errno.
 */
int disk_allocate(int fd, uint64_t size);

/* Writes LENGTH zeros at OFFSET. */
int disk_zero(int fd, uint64_t offset, uint64_t length);

/* Writes all LENGTH bytes at OFFSET. */
int disk_write(int fd, const void *bytes, size_t length, uint64_t offset);

/* Writes all of COUNT pieces at OFFSET; PIECE is used up. */
int disk_write_pieces(int fd, struct iovec *piece, int count, uint64_t offset);

/* Reads up to LENGTH bytes at OFFSET: the number, less only at the end of the file. */
ssize_t disk_read(int fd, void *bytes, size_t length, uint64_t offset);

int disk_fsync(int fd);
int disk_fdatasync(int fd);

/* Renames TEMPORARY to NAME and makes that last: the directory is fsynced. */
int disk_publish(int directory, const char *temporary, const char *name);

#endif
