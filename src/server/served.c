#include "served.h"

#include <sys/socket.h>

static bool names_group(const struct served *served, gid_t group)
{
	for (size_t i = 0; i < served->groups; i++)
		if (served->group[i] == group)
			return true;
	return false;
}

static bool names_one_of(const struct served *served, int fd)
{
	gid_t groups[SERVED_GROUPS_MAX];
	socklen_t size = sizeof(groups);

	if (served->groups == 0 || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) != 0)
		return false;
	for (size_t i = 0; i < size / sizeof(groups[0]); i++)
		if (names_group(served, groups[i]))
			return true;
	return false;
}

bool served_admits(const struct served *served, int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	if (served->users == 0 && served->groups == 0)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
		return false;
	for (size_t i = 0; i < served->users; i++)
		if (served->user[i] == peer.uid)
			return true;
	return names_group(served, peer.gid) || names_one_of(served, fd);
}
