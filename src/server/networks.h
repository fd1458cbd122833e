/*
 * A list of addresses and networks, as tallyd.conf(5) has them, and whether a peer is among them.
 */
#ifndef TALLYD_SERVER_NETWORKS_H
#define TALLYD_SERVER_NETWORKS_H

#include <stdbool.h>
#include <stddef.h>

#include "peer.h"

#define NETWORKS_MAX 32 /* of one list */

struct networks {
	unsigned count; /* of network[] */
	bool local;     /* "unix": peers without an address */
	struct network {
		struct peer first;
		uint8_t bits; /* of it that all members have */
	} network[NETWORKS_MAX];
};

/*
 * Reads TEXT, "" or words with one space between them: an IPv4 or IPv6 address, perhaps with "/"
 * and the length of a prefix behind which the address has no bit (RFC 4632 3.1, RFC 4291 2.3), or
 * "unix"; into *NETWORKS.  NULL; or what is wrong, as the end of a sentence that begins with TEXT.
 */
const char *networks_read(const char *text, struct networks *networks);

/* Is PEER one of NETWORKS? */
bool networks_have(const struct networks *networks, const struct peer *peer);

/* Is nobody? */
static inline bool networks_empty(const struct networks *networks)
{
	return networks->count == 0 && !networks->local;
}

#endif
