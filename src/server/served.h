/*
 * Whom a listener on a Unix socket serves: the users and groups that it names, as the kernel says
 * who has connected (unix(7), SO_PEERCRED and SO_PEERGROUPS).
 */
#ifndef TALLYD_SERVER_SERVED_H
#define TALLYD_SERVER_SERVED_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define SERVED_MAX 16 /* users, and groups, that a listener can name */
#define SERVED_GROUPS_MAX                                                                          \
	256 /* supplementary groups of a client that are looked at; of a client                    \
	       with more only its main group counts */

/* Both counts 0: everybody. */
struct served {
	size_t users;
	size_t groups;
	uid_t user[SERVED_MAX];
	gid_t group[SERVED_MAX];
};

/* Does SERVED name who has connected by FD, or one of his groups?  Any doubt is a no. */
bool served_admits(const struct served *served, int fd);

#endif
