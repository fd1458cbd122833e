#include "listen.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "../base/clock.h"
#include "../base/log.h"
#include "value.h"

#define UNIX_PREFIX "unix:"
#define PORT_MAX    65535
#define RETRY_NS    50000000 /* between two tries to bind what is in use */

union any_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un local;
};

/* PORT in network order, or -1. */
static int read_port(const char *text, in_port_t *port)
{
	uint64_t number;

	if (value_count(text, &number) != VALUE_OK || number > PORT_MAX)
		return -1;
	*port = htons((uint16_t)number);
	return 0;
}

static enum listen_kind read_unix(const char *path, union any_address *address, socklen_t *size)
{
	size_t length = strlen(path);

	if (path[0] != '/' || length >= sizeof(address->local.sun_path))
		return LISTEN_INVALID;
	address->local.sun_family = AF_UNIX;
	memcpy(address->local.sun_path, path, length + 1);
	*size = sizeof(address->local);
	return LISTEN_UNIX;
}

static enum listen_kind read_v4(const char *host, in_port_t port, union any_address *address,
                                socklen_t *size)
{
	address->v4.sin_family = AF_INET;
	address->v4.sin_port = port;
	*size = sizeof(address->v4);
	if (strcmp(host, "*") == 0)
		return LISTEN_PUBLIC; /* INADDR_ANY is zero */
	if (inet_pton(AF_INET, host, &address->v4.sin_addr) != 1)
		return LISTEN_INVALID;
	/* RFC 1122 3.2.1.3: all of 127/8 */
	return ntohl(address->v4.sin_addr.s_addr) >> 24 == 127 ? LISTEN_LOOPBACK : LISTEN_PUBLIC;
}

/* HOST is "[...]". */
static enum listen_kind read_v6(char *host, in_port_t port, union any_address *address,
                                socklen_t *size)
{
	size_t length = strlen(host);

	if (host[length - 1] != ']')
		return LISTEN_INVALID;
	host[length - 1] = '\0';
	address->v6.sin6_family = AF_INET6;
	address->v6.sin6_port = port;
	*size = sizeof(address->v6);
	if (inet_pton(AF_INET6, host + 1, &address->v6.sin6_addr) != 1)
		return LISTEN_INVALID;
	return IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr) ? LISTEN_LOOPBACK : LISTEN_PUBLIC;
}

static enum listen_kind read_address(const char *text, union any_address *address, socklen_t *size)
{
	char host[LISTEN_ADDRESS_MAX];
	in_port_t port;
	char *colon;

	memset(address, 0, sizeof(*address));
	if (strlen(text) >= sizeof(host))
		return LISTEN_INVALID;
	if (strncmp(text, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0)
		return read_unix(text + strlen(UNIX_PREFIX), address, size);
	memcpy(host, text, strlen(text) + 1);
	colon = strrchr(host, ':');
	if (!colon || read_port(colon + 1, &port) != 0)
		return LISTEN_INVALID;
	*colon = '\0';
	return host[0] == '[' ? read_v6(host, port, address, size)
	                      : read_v4(host, port, address, size);
}

enum listen_kind listen_kind(const char *address)
{
	union any_address ignored;
	socklen_t size;

	return read_address(address, &ignored, &size);
}

const char *listen_path(const struct listen_socket *socket)
{
	return socket->inode != 0 ? socket->address + strlen(UNIX_PREFIX) : NULL;
}

static const char *remedy(int reason)
{
	switch (reason) {
	case EADDRINUSE:
		return "stop the program that has it, or choose another address";
	case EADDRNOTAVAIL:
		return "choose an address that this machine has";
	case EACCES:
	case EPERM:
		return "start as root, or choose a port above 1023 or a directory open to the user";
	case ENOENT:
		return "create the directory";
	case EMFILE:
	case ENFILE:
		return "raise the limit of open files";
	default:
		return "check the listen section";
	}
}

/* The descriptors of all sockets that are open here, of whatever set */
static struct {
	int fds[2 * CONFIG_LISTENERS_MAX]; /* two sets at a time: a reload's beside the present */
	size_t count;
} opened;

static void note_opened(int fd)
{
	assert(opened.count < sizeof opened.fds / sizeof *opened.fds);
	opened.fds[opened.count++] = fd;
}

static void note_closed(int fd)
{
	for (size_t i = 0; i < opened.count; i++)
		if (opened.fds[i] == fd)
			opened.fds[i--] = opened.fds[--opened.count];
}

/* Keeps errno. */
static void explain(const char *address, const char *what, char *error, size_t error_size)
{
	int reason = errno;

	snprintf(error, error_size, "listen: %s: %s: %s; %s", address, what, strerror(reason),
	         remedy(reason));
	errno = reason;
}

/*
 * Does anybody listen at ADDRESS, a socket's file?  A refused connection is the
 * one answer that says no.
 */
static bool is_deserted(const union any_address *address, socklen_t size)
{
	int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool refused =
	    probe != -1 && connect(probe, &address->any, size) == -1 && errno == ECONNREFUSED;

	if (probe != -1)
		close(probe);
	return refused;
}

/* Makes room for a unix socket.  0, or -1 with errno. */
static int clear_stale(const union any_address *address, socklen_t size)
{
	const char *path = address->local.sun_path;
	struct stat status;

	if (lstat(path, &status) == -1)
		return errno == ENOENT ? 0 : -1;
	if (S_ISSOCK(status.st_mode) && is_deserted(address, size))
		return unlink(path);
	errno = EADDRINUSE;
	return -1;
}

/* The file has its mode from its first moment on.  0, or -1 with errno. */
static int bind_unix(int fd, const union any_address *address, socklen_t size,
                     struct listen_socket *made)
{
	struct stat status;
	mode_t before;
	int result;

	if (clear_stale(address, size) == -1)
		return -1;
	before = umask(0777 & ~(mode_t)made->mode);
	result = bind(fd, &address->any, size);
	umask(before);
	if (result == -1 || lstat(address->local.sun_path, &status) == -1)
		return -1;
	made->device = status.st_dev;
	made->inode = status.st_ino;
	return 0;
}

/* The address in text that the kernel gave FD. */
static void name_bound(struct listen_socket *made)
{
	union any_address address;
	socklen_t size = sizeof(address);
	char host[INET6_ADDRSTRLEN];

	memcpy(made->bound, made->address, sizeof(made->bound));
	if (made->inode != 0 || getsockname(made->fd, &address.any, &size) == -1)
		return;
	if (address.any.sa_family == AF_INET6 &&
	    inet_ntop(AF_INET6, &address.v6.sin6_addr, host, sizeof(host)))
		snprintf(made->bound, sizeof(made->bound), "[%s]:%u", host,
		         (unsigned)ntohs(address.v6.sin6_port));
	else if (address.any.sa_family == AF_INET &&
	         inet_ntop(AF_INET, &address.v4.sin_addr, host, sizeof(host)))
		snprintf(made->bound, sizeof(made->bound), "%s:%u", host,
		         (unsigned)ntohs(address.v4.sin_port));
}

static int set_options(int fd, int family)
{
	const int on = 1;

	if (family == AF_UNIX)
		return 0;
	/* Connections in TIME_WAIT must not keep a restarted daemon from its port. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1)
		return -1;
	/* "[::]" and "*" side by side are two listeners. */
	if (family == AF_INET6)
		return setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	return 0;
}

static void unlink_own(const struct listen_socket *socket)
{
	const char *path = listen_path(socket);
	struct stat status;

	if (path && lstat(path, &status) == 0 && status.st_dev == socket->device &&
	    status.st_ino == socket->inode && unlink(path) == -1)
		log_warning("%s: cannot remove the socket: %s; remove it by hand", path,
		            strerror(errno));
}

static void close_socket(struct listen_socket *socket)
{
	unlink_own(socket);
	note_closed(socket->fd);
	close(socket->fd);
}

/* Binds MADE, whose address, backlog and mode are set. */
static int open_socket(struct listen_socket *made, char *error, size_t error_size)
{
	const char *step = "cannot make a socket";
	union any_address address;
	socklen_t size = 0;

	if (read_address(made->address, &address, &size) == LISTEN_INVALID) {
		errno = EINVAL;
		explain(made->address, "not an address", error, error_size);
		return -1;
	}
	made->fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (made->fd != -1 && set_options(made->fd, address.any.sa_family) == 0) {
		step = "cannot bind";
		int result = address.any.sa_family == AF_UNIX
		                 ? bind_unix(made->fd, &address, size, made)
		                 : bind(made->fd, &address.any, size);
		if (result == 0 && listen(made->fd, (int)made->backlog) == 0) {
			name_bound(made);
			note_opened(made->fd);
			return 0;
		}
	}
	explain(made->address, step, error, error_size);
	int reason = errno;
	if (made->fd != -1)
		close_socket(made);
	errno = reason;
	return -1;
}

static const struct listen_socket *find(const struct listen_set *set, const char *address)
{
	for (size_t i = 0; set && i < set->count; i++)
		if (strcmp(set->sockets[i].address, address) == 0)
			return &set->sockets[i];
	return NULL;
}

/* One listener of the configuration: shared, or bound. */
static int open_listener(const struct config_listener *listener, const struct listen_set *inherited,
                         struct listen_socket *made, char *error, size_t error_size)
{
	const struct listen_socket *shared = find(inherited, listener->address);

	if (strlen(listener->address) >= sizeof(made->address)) {
		errno = ENAMETOOLONG;
		explain(listener->address, "not an address", error, error_size);
		return -1;
	}
	if (shared)
		*made = *shared;
	memcpy(made->address, listener->address, strlen(listener->address) + 1);
	snprintf(made->protocol, sizeof(made->protocol), "%s", listener->protocol);
	made->anonymous = listener->allow_anonymous;
	made->served = listener->served;
	made->backlog = listener->backlog;
	made->mode = listener->mode;
	return shared ? 0 : open_socket(made, error, error_size);
}

/* The same; one that is in use is tried again until UNTIL_US. */
static int await_listener(const struct config_listener *listener,
                          const struct listen_set *inherited, uint64_t until_us,
                          struct listen_socket *made, char *error, size_t error_size)
{
	const struct timespec pause = {.tv_nsec = RETRY_NS};

	while (open_listener(listener, inherited, made, error, error_size) != 0) {
		if (errno != EADDRINUSE || clock_monotonic_us() >= until_us)
			return -1;
		nanosleep(&pause, NULL);
	}
	return 0;
}

struct listen_set *listen_open(const struct config *config, const struct listen_set *inherited,
                               uint64_t until_us, char *error, size_t error_size)
{
	struct listen_set *set =
	    calloc(1, sizeof(*set) + config->listener_count * sizeof(set->sockets[0]));

	if (!set) {
		snprintf(error, error_size, "listen: out of memory; free some and try again");
		return NULL;
	}
	for (size_t i = 0; i < config->listener_count; i++) {
		if (await_listener(&config->listeners[i], inherited, until_us, &set->sockets[i],
		                   error, error_size) != 0) {
			listen_abandon(inherited, set);
			return NULL;
		}
		set->count++;
	}
	return set;
}

/* Both sets have it: what a socket can change while it listens. */
static void adjust(const struct listen_socket *before, const struct listen_socket *now)
{
	const char *path = listen_path(now);

	if (before->backlog != now->backlog && listen(now->fd, (int)now->backlog) == -1)
		log_warning("listen: %s: cannot change the backlog: %s; it stays %u", now->bound,
		            strerror(errno), before->backlog);
	if (path && before->mode != now->mode && chmod(path, (mode_t)now->mode) == -1)
		log_warning("listen: %s: cannot change the mode: %s; it stays %04o", now->bound,
		            strerror(errno), before->mode);
}

void listen_commit(struct listen_set *old, const struct listen_set *new_)
{
	for (size_t i = 0; i < new_->count; i++) {
		const struct listen_socket *before = find(old, new_->sockets[i].address);

		if (before)
			adjust(before, &new_->sockets[i]);
		else
			log_notice("listening on %s (%s)", new_->sockets[i].bound,
			           new_->sockets[i].protocol);
	}
	for (size_t i = 0; old && i < old->count; i++) {
		if (find(new_, old->sockets[i].address))
			continue;
		log_notice("no longer listening on %s", old->sockets[i].bound);
		close_socket(&old->sockets[i]);
	}
	free(old);
}

void listen_abandon(const struct listen_set *old, struct listen_set *new_)
{
	for (size_t i = 0; i < new_->count; i++)
		if (!find(old, new_->sockets[i].address))
			close_socket(&new_->sockets[i]);
	free(new_);
}

void listen_close(struct listen_set *set)
{
	for (size_t i = 0; set && i < set->count; i++)
		close_socket(&set->sockets[i]);
	free(set);
}

static bool has_fd(const struct listen_set *set, int fd)
{
	for (size_t i = 0; set && i < set->count; i++)
		if (set->sockets[i].fd == fd)
			return true;
	return false;
}

void listen_keep(const struct listen_set *set)
{
	size_t i = 0;

	while (i < opened.count) {
		int fd = opened.fds[i];

		if (has_fd(set, fd)) {
			i++;
			continue;
		}
		note_closed(fd);
		close(fd);
	}
}

uint16_t listen_port(const struct listen_socket *socket)
{
	const char *colon = strrchr(socket->bound, ':');
	uint64_t number;

	if (socket->inode != 0 || !colon || value_count(colon + 1, &number) != VALUE_OK ||
	    number > PORT_MAX)
		return 0;
	return (uint16_t)number;
}

int listen_own(const struct listen_set *set, const struct privileges *privileges, char *error,
               size_t error_size)
{
	for (size_t i = 0; i < set->count; i++) {
		const char *path = listen_path(&set->sockets[i]);
		if (path && privileges_own(privileges, path, error, error_size) != 0)
			return -1;
	}
	return 0;
}
