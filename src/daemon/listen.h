/*
 * Listening sockets, bound by the master and inherited by the workers.  A
 * reload opens the new set beside the old one, keeping what both have, and then
 * either commits or abandons it.
 */
#ifndef TALLYD_DAEMON_LISTEN_H
#define TALLYD_DAEMON_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "privileges.h"

#define LISTEN_PROTOCOL_MAX 16  /* bytes of a protocol's name, with its NUL */
#define LISTEN_ADDRESS_MAX  256 /* bytes of an address in text, with its NUL */

struct listen_socket {
	int fd;                           /* listening, non-blocking, close-on-exec */
	char address[LISTEN_ADDRESS_MAX]; /* as configured; what a reload compares */
	char bound[LISTEN_ADDRESS_MAX];   /* as bound: the port in place of 0 */
	char protocol[LISTEN_PROTOCOL_MAX];
	bool anonymous; /* nobody needs a token */
	struct served served;
	uint32_t backlog;
	uint32_t mode;   /* of a unix socket's file */
	uint64_t device; /* of a unix socket's file, to unlink no other's */
	uint64_t inode;  /* 0: not a unix socket */
};

/* In the order of the configuration. */
struct listen_set {
	size_t count;
	struct listen_socket sockets[]; /* count */
};

/* What an address in text means. */
enum listen_kind {
	LISTEN_INVALID,
	LISTEN_LOOPBACK, /* 127.0.0.0/8, ::1 */
	LISTEN_PUBLIC,   /* any other IP address; "*" is 0.0.0.0 */
	LISTEN_UNIX,     /* "unix:/absolute/path" */
};

/*
 * Judges ADDRESS: "HOST:PORT", "[HOST]:PORT" for IPv6, "*:PORT", "unix:/path".
 * HOST is numeric (a name could mean something else tomorrow), PORT 0 to 65535.
 */
enum listen_kind listen_kind(const char *address);

/*
 * Sockets for all listeners of CONFIG: those of INHERITED (may be NULL) with the
 * same address are shared, the others are bound.  A unix socket's file is replaced
 * only if nobody listens on it.  An address that somebody has is tried again until the monotonic
 * time UNTIL_US (0: not at all): who has it may be dying.  Returns the set, or NULL with the reason
 * in ERROR (ERROR_SIZE bytes): then everything newly opened is closed again. INHERITED is unchanged
 * either way.  End with listen_commit, listen_abandon or listen_close.
 */
struct listen_set *listen_open(const struct config *config, const struct listen_set *inherited,
                               uint64_t until_us, char *error, size_t error_size);

/*
 * NEW_ stands: closes the sockets that only OLD (may be NULL) has, applies backlog
 * and mode to those that both have, logs what came and went, frees OLD.
 */
void listen_commit(struct listen_set *old, const struct listen_set *new_);

/* NEW_ is given up: closes the sockets that only NEW_ has, frees NEW_; OLD (may be NULL) stays. */
void listen_abandon(const struct listen_set *old, struct listen_set *new_);

/* The end: closes all, unlinks the files of unix sockets, frees SET; NULL is nothing.  Master only.
 */
void listen_close(struct listen_set *set);

/*
 * In a child, right after fork(2): closes this process's descriptors of all sockets that were
 * opened here but those of SET (NULL: of all), and removes no file.  A socket that a child held
 * open would keep its port after a reload has given it up.
 */
void listen_keep(const struct listen_set *set);

/*
 * Gives the files of SET's unix sockets to the user of PRIVILEGES, so that their mode means that
 * user and group.  0, or -1 with the reason in ERROR.
 */
int listen_own(const struct listen_set *set, const struct privileges *privileges, char *error,
               size_t error_size);

/* The port that a TCP socket is bound to; 0 for a unix socket. */
uint16_t listen_port(const struct listen_socket *socket);

/* The path of a unix socket's file, part of SOCKET; NULL for TCP. */
const char *listen_path(const struct listen_socket *socket);

#endif
