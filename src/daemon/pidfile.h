/*
 * The pid file.  The running daemon holds a POSIX lock on it (fcntl F_SETLK,
 * not inherited by children), so a file that nobody has locked is stale whatever
 * number stands in it, and a pid that was given to somebody else is never signalled.
 */
#ifndef TALLYD_DAEMON_PIDFILE_H
#define TALLYD_DAEMON_PIDFILE_H

#include <stddef.h>
#include <sys/types.h>

struct pidfile;

/*
 * Writes the caller's pid to PATH (absolute), at once whole (link or rename of
 * a complete file), mode 0644, and keeps it locked while the caller lives.  To be
 * called after the last fork of daemonize_begin and with the rights to write there.
 * Children that are forked later do not have it open: what it says is not theirs to change.
 * Returns a handle for pidfile_remove, or NULL with the reason in ERROR
 * (ERROR_SIZE bytes); another running instance is such a reason.
 */
struct pidfile *pidfile_create(const char *path, char *error, size_t error_size);

/*
 * Removes the file, or empties it where the directory no longer permits that
 * (privileges are gone), and frees PIDFILE; NULL is nothing.  For the process
 * that created it only: a child just leaves the handle alone.
 */
void pidfile_remove(struct pidfile *pidfile);

/*
 * The pid of the daemon that holds PATH.  -1 with the reason in ERROR, which
 * says "not running" where the file is missing, empty or held by nobody.
 */
pid_t pidfile_read(const char *path, char *error, size_t error_size);

#endif
