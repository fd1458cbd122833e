#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "target.h"

#define SCHEME       "http://"
#define UNIX_SCHEME  "unix:"
#define DEFAULT_PORT "80"
#define PORT_DIGITS  5
#define PORT_MAX     65535

static bool complain(char *error, const char *url, const char *why)
{
	snprintf(error, TARGET_ERROR_SIZE, "%s: %s", url, why);
	return false;
}

static bool cannot_connect(char *error, const char *url, int cause)
{
	snprintf(error, TARGET_ERROR_SIZE, "cannot connect to %s: %s", url, strerror(cause));
	return false;
}

/* ---- connecting */

bool target_is_loopback(const struct target *target)
{
	const struct sockaddr_in *address = (const struct sockaddr_in *)&target->address;

	return target->address.ss_family == AF_INET &&
	       ntohl(address->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

/* The port is chosen when the connection begins, so that each pair of addresses has all of them. */
static int bind_source(int fd, uint32_t source)
{
	static const int one = 1;
	struct sockaddr_in address = {.sin_family = AF_INET,
	                              .sin_addr.s_addr = htonl((IN_LOOPBACKNET << 24) | source)};

	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
	return bind(fd, (const struct sockaddr *)&address, sizeof address);
}

int target_connect(const struct target *target, uint32_t source)
{
	static const int one = 1;
	int family = target->address.ss_family;
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (family != AF_UNIX)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if ((source == 0 || bind_source(fd, source) == 0) &&
	    (connect(fd, (const struct sockaddr *)&target->address, target->length) == 0 ||
	     errno == EINPROGRESS))
		return fd;
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

int target_wait(int fd, double timeout)
{
	struct pollfd poll_for = {.fd = fd, .events = POLLOUT};
	int error = 0;
	socklen_t size = sizeof error;
	int ready;

	do
		ready = poll(&poll_for, 1, (int)(timeout * 1000) + 1);
	while (ready < 0 && errno == EINTR);
	if (ready == 0)
		return ETIMEDOUT;
	if (ready < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
		return errno;
	return error;
}

/* 0 if TARGET's address takes a connection. */
static int try_address(const struct target *target, double timeout)
{
	int fd = target_connect(target, 0);

	if (fd < 0)
		return errno;
	int error = target_wait(fd, timeout);
	close(fd);
	return error;
}

/* ---- the URL */

static bool find_unix(struct target *target, const char *path, bool *usage, char *error)
{
	struct sockaddr_un *address = (struct sockaddr_un *)&target->address;

	*usage = true;
	if (path[0] != '/')
		return complain(error, target->url, "the path of a socket must begin with a slash");
	if (strlen(path) >= sizeof address->sun_path)
		return complain(error, target->url, "the path of a socket may have 107 bytes");
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, path, strlen(path) + 1);
	target->length = sizeof *address;
	strcpy(target->host, "localhost");
	*usage = false;
	return true;
}

/* Splits "host:port" or "[v6]:port", perhaps with a slash behind it, in place. */
static bool split(char *text, const char **host, const char **port)
{
	char *slash = strchr(text, '/');

	if (slash != NULL && slash[1] != '\0')
		return false;
	if (slash != NULL)
		*slash = '\0';
	char *rest = text + strcspn(text, ":");
	*host = text;
	if (text[0] == '[') {
		rest = strchr(text, ']');
		if (rest == NULL)
			return false;
		*host = text + 1;
		*rest++ = '\0';
	}
	*port = DEFAULT_PORT;
	if (*rest == ':') {
		*rest = '\0';
		*port = rest + 1;
	} else if (*rest != '\0') {
		return false;
	}
	/* getaddrinfo(3) would take what is too large for another port. */
	size_t digits = strspn(*port, "0123456789");
	long number = digits <= PORT_DIGITS ? strtol(*port, NULL, 10) : 0;
	return **host != '\0' && (*port)[digits] == '\0' && number > 0 && number <= PORT_MAX &&
	       strcspn(*host, " \t\r\n@?#\"\\") == strlen(*host);
}

/* The first of the name's addresses that takes a connection. */
static bool find_address(struct target *target, const char *host, const char *port, double timeout,
                         char *error)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list;
	int cause = getaddrinfo(host, port, &hints, &list);

	if (cause != 0)
		return complain(error, target->url, gai_strerror(cause));
	for (const struct addrinfo *one = list; one != NULL; one = one->ai_next) {
		memcpy(&target->address, one->ai_addr, one->ai_addrlen);
		target->length = one->ai_addrlen;
		cause = try_address(target, timeout);
		if (cause == 0)
			break;
	}
	freeaddrinfo(list);
	if (cause == 0)
		return true;
	return cannot_connect(error, target->url, cause);
}

bool target_find(struct target *target, const char *url, double timeout, bool *usage, char *error)
{
	char text[TARGET_HOST_MAX + 16];
	const char *host, *port;

	*target = (struct target){.url = url};
	*usage = false;
	if (strncmp(url, UNIX_SCHEME, strlen(UNIX_SCHEME)) == 0) {
		if (!find_unix(target, url + strlen(UNIX_SCHEME), usage, error))
			return false;
		int cause = try_address(target, timeout);
		if (cause == 0)
			return true;
		return cannot_connect(error, url, cause);
	}
	*usage = true;
	if (strncmp(url, SCHEME, strlen(SCHEME)) != 0)
		return complain(error, url, "not a URL of the form http://HOST:PORT or unix:/PATH");
	if (strlen(url + strlen(SCHEME)) >= sizeof text)
		return complain(error, url, "the host is too long");
	strcpy(text, url + strlen(SCHEME));
	if (!split(text, &host, &port) || strlen(host) > TARGET_HOST_MAX)
		return complain(error, url, "not a URL of the form http://HOST:PORT or unix:/PATH");
	*usage = false;
	const char *format = strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s";
	if (snprintf(target->host, sizeof target->host, format, host, port) >=
	    (int)sizeof target->host)
		return complain(error, url, "the host is too long");
	return find_address(target, host, port, timeout, error);
}
