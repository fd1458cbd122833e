/*
 * What is spoken on a connection of a proxy (door.h) until its PROXY header is whole
 * (wire/proxy.h). Then the connection's peer is the client that the header names, and the rest
 * belongs to the protocol of the listener.
 */
#ifndef TALLYD_SERVER_PROXY_PROTOCOL_H
#define TALLYD_SERVER_PROXY_PROTOCOL_H

#include "protocol.h"

extern const struct protocol proxy_protocol; /* no listener's: protocol_find does not know it */

#endif
