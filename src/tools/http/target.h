/* A server: a URL, and the address behind it. */
#ifndef TALLYD_HTTP_TARGET_H
#define TALLYD_HTTP_TARGET_H

#include <stdbool.h>
#include <sys/socket.h>
#include <stdint.h>

#define TARGET_HOST_MAX   255 /* bytes of a host's name, as in the DNS */
#define TARGET_ERROR_SIZE 512 /* bytes of a message; more is cut */

struct target {
	const char *url;                 /* borrowed */
	char host[TARGET_HOST_MAX + 16]; /* the value of Host, with its port */
	struct sockaddr_storage address;
	socklen_t length;
};

/*
 * Reads URL, http://HOST[:PORT] (port 80; [::1] for IPv6) or unix:/PATH, into *TARGET and finds an
 * address of it that takes connections within TIMEOUT seconds.  URL must stay.  True; or false
 * with what is wrong in ERROR (TARGET_ERROR_SIZE bytes), and *USAGE says whether that is the URL
 * itself.
 */
bool target_find(struct target *target, const char *url, double timeout, bool *usage, char *error);

/* Is TARGET on an IPv4 loopback address, which has 127.0.0.0/8 as its neighbours? */
bool target_is_loopback(const struct target *target);

/*
 * A non-blocking socket whose connection to TARGET has begun, or -1 with errno.  SOURCE > 0: from
 * the address 127.0.0.SOURCE, for a target of target_is_loopback.
 */
int target_connect(const struct target *target, uint32_t source);

/* Waits until the connection of FD is there: 0 or an errno, ETIMEDOUT after TIMEOUT seconds. */
int target_wait(int fd, double timeout);

#endif
