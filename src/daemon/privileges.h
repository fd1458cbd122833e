/*
 * Becoming somebody less: user and group are looked up first, while errors are
 * cheap, and dropped for good later.
 */
#ifndef TALLYD_DAEMON_PRIVILEGES_H
#define TALLYD_DAEMON_PRIVILEGES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define PRIVILEGES_NAME_MAX 256 /* bytes of a user's name with its NUL (LOGIN_NAME_MAX) */

struct privileges {
	bool drop; /* false: nothing to do, as with user = "" */
	uid_t uid;
	gid_t gid;
	char user[PRIVILEGES_NAME_MAX];
};

/*
 * Looks up USER and GROUP (names or numbers; "" GROUP is USER's own, "" USER
 * means stay) into PRIVILEGES.  0, or -1 with the reason in ERROR (ERROR_SIZE
 * bytes): unknown names, or a caller who is not root and not already that user.
 */
int privileges_find(struct privileges *privileges, const char *user, const char *group, char *error,
                    size_t error_size);

/*
 * Gives the file or directory PATH itself (never what is below it, never through
 * a symbolic link) to the user.  Nothing if there is nothing to drop.  0, or -1 with ERROR.
 */
int privileges_own(const struct privileges *privileges, const char *path, char *error,
                   size_t error_size);

/*
 * Drops: supplementary groups, group, user, in that order, real, effective and
 * saved, then proves that root cannot be had back.  0, or -1 with ERROR: the
 * caller must exit then, it may be half one and half the other.  The kernel
 * clears the parent-death signal here: set PR_SET_PDEATHSIG afterwards.
 */
int privileges_drop(const struct privileges *privileges, char *error, size_t error_size);

#endif
