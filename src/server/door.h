/*
 * The rules of one listener: what is spoken there, and what is asked of who connects before it is.
 */
#ifndef TALLYD_SERVER_DOOR_H
#define TALLYD_SERVER_DOOR_H

#include <stdbool.h>

#include "networks.h"
#include "peer.h"
#include "protocol.h"
#include "server.h"

struct door {
	const struct protocol *protocol;
	const struct served *served; /* of a Unix socket; NULL: everybody */
	bool anonymous;              /* nobody needs a token, even where there are some */
	bool tcp;
	struct networks proxies; /* who has to begin with a PROXY header; empty: nobody */
};

/* Makes *DOOR of SOURCE, what it names borrowed.  False if it cannot be had (logged). */
bool door_prepare(struct door *door, const struct server_listener *source);

/*
 * What PEER speaks first: the door's protocol, or, where it is a proxy, proxy_protocol; NULL: only
 * proxies may connect there, and it is none.
 */
const struct protocol *door_protocol(const struct door *door, const struct peer *peer);

#endif
