/*
 * Who is at the other end of a connection: its address, without a port.
 */
#ifndef TALLYD_SERVER_PEER_H
#define TALLYD_SERVER_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct peer {
	uint8_t address[16]; /* IPv6, or IPv4 in the first four */
	uint8_t family;      /* AF_INET, AF_INET6; anything else has no address */
};

/* The peer with ADDRESS, as accept(2) gives it. */
struct peer peer_of(const struct sockaddr *address);

/*
 * The peer with the 4 or 16 BYTES of an address of FAMILY, or one without (BYTES may be NULL then).
 * An IPv4 address within IPv6 (RFC 4291 2.5.5.2) is that IPv4 address.
 */
struct peer peer_make(int family, const uint8_t *bytes);

/*
 * Stores in *CLIENT what stands for whoever is behind PEER: its IPv4 address, or the first 64 bits
 * of its IPv6 one, since whoever has one of these has all that begin so (RFC 4291 2.5.4).  False if
 * it has no address.
 */
bool peer_client(const struct peer *peer, uint64_t *client);

#endif
