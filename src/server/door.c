#include "door.h"

#include <string.h>
#include <sys/socket.h>

#include "../base/log.h"
#include "proxy_protocol.h"

bool door_prepare(struct door *door, const struct server_listener *source)
{
	int domain = 0;
	const char *wrong;

	memset(door, 0, sizeof(*door));
	door->protocol = protocol_find(source->protocol);
	if (!door->protocol) {
		log_error("listener %s: there is no protocol \"%s\"; use \"http\", \"redis\", "
		          "\"echo\" or \"chat\"",
		          source->address, source->protocol);
		return false;
	}
	if (getsockopt(source->fd, SOL_SOCKET, SO_DOMAIN, &domain, &(socklen_t){sizeof(domain)}) <
	    0) {
		log_error("listener %s: %m; the daemon must hand over a listening socket",
		          source->address);
		return false;
	}
	door->anonymous = source->anonymous;
	door->served = source->served;
	door->tcp = domain == AF_INET || domain == AF_INET6;
	wrong = networks_read(source->proxy_from ? source->proxy_from : "", &door->proxies);
	if (wrong)
		log_error("listener %s: proxy_from \"%s\" %s", source->address, source->proxy_from,
		          wrong);
	return !wrong;
}

const struct protocol *door_protocol(const struct door *door, const struct peer *peer)
{
	if (networks_empty(&door->proxies))
		return door->protocol;
	return networks_have(&door->proxies, peer) ? &proxy_protocol : NULL;
}
