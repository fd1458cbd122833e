#include "peer.h"

#include <netinet/in.h>
#include <string.h>

#define MAPPED 12 /* bytes of an IPv6 address in front of the IPv4 one within */

/* Above it are only multicast addresses, ff00::/8, which nobody has: room for those of IPv4. */
#define IPV4_CLIENTS UINT64_C(0xffffffff00000000)

struct peer peer_make(int family, const uint8_t *bytes)
{
	static const uint8_t mapped[MAPPED] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	struct peer peer = {.family = (uint8_t)family};

	if (family == AF_INET6 && memcmp(bytes, mapped, MAPPED) == 0) {
		peer.family = AF_INET;
		memcpy(peer.address, bytes + MAPPED, 4);
	} else if (family == AF_INET || family == AF_INET6) {
		memcpy(peer.address, bytes, family == AF_INET ? 4 : 16);
	}
	return peer;
}

struct peer peer_of(const struct sockaddr *address)
{
	const uint8_t *bytes = NULL;

	if (address->sa_family == AF_INET)
		bytes = (const uint8_t *)&((const struct sockaddr_in *)address)->sin_addr;
	else if (address->sa_family == AF_INET6)
		bytes = (const uint8_t *)&((const struct sockaddr_in6 *)address)->sin6_addr;
	return peer_make(address->sa_family, bytes);
}

bool peer_client(const struct peer *peer, uint64_t *client)
{
	unsigned bytes = peer->family == AF_INET ? 4 : 8;
	uint64_t number = 0;

	if (peer->family != AF_INET && peer->family != AF_INET6)
		return false;
	for (unsigned i = 0; i < bytes; i++)
		number = number << 8 | peer->address[i];
	*client = peer->family == AF_INET ? IPV4_CLIENTS | number : number;
	return true;
}
