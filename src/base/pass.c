#include "pass.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* One descriptor beside the byte. */
union control {
	struct cmsghdr head;
	char room[CMSG_SPACE(sizeof(int))];
};

int pass_pair(int ends[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends);
}

int pass_send(int end, char what, int fd)
{
	struct iovec piece = {.iov_base = &what, .iov_len = 1};
	union control control = {
	    .head = {.cmsg_len = CMSG_LEN(sizeof fd),
	             .cmsg_level = SOL_SOCKET,
	             .cmsg_type = SCM_RIGHTS},
	};
	const struct msghdr message = {.msg_iov = &piece,
	                               .msg_iovlen = 1,
	                               .msg_control = &control,
	                               .msg_controllen = sizeof control};

	memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
	while (sendmsg(end, &message, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return -1;
	return 0;
}

static int descriptor_of(struct msghdr *message)
{
	const struct cmsghdr *head = CMSG_FIRSTHDR(message);
	int fd;

	if (head == NULL || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS ||
	    head->cmsg_len != CMSG_LEN(sizeof fd)) {
		errno = EBADMSG;
		return -1;
	}
	memcpy(&fd, CMSG_DATA(head), sizeof fd);
	return fd;
}

int pass_take(int end, char *what)
{
	struct iovec piece = {.iov_base = what, .iov_len = 1};
	union control control;
	struct msghdr message = {.msg_iov = &piece,
	                         .msg_iovlen = 1,
	                         .msg_control = &control,
	                         .msg_controllen = sizeof control};
	ssize_t got;

	do
		got = recvmsg(end, &message, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got > 0)
		return descriptor_of(&message);
	if (got == 0)
		errno = ECONNRESET;
	return -1;
}
