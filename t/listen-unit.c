/* Listening sockets: addresses, binding, reloads that stand and reloads that fail. */
#include "../src/daemon/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../src/base/clock.h"
#include "tap/tap.h"

static char directory[] = "/tmp/tallyd-listen-XXXXXX";
static char path[128], unix_address[160];
static char error[512];

static const struct {
	const char *address;
	enum listen_kind kind;
} kinds[] = {
    {"127.0.0.1:7070", LISTEN_LOOPBACK},
    {"127.255.0.3:0", LISTEN_LOOPBACK},
    {"[::1]:65535", LISTEN_LOOPBACK},
    {"[0:0::1]:1", LISTEN_LOOPBACK},
    {"*:7070", LISTEN_PUBLIC},
    {"0.0.0.0:7070", LISTEN_PUBLIC},
    {"128.0.0.1:7070", LISTEN_PUBLIC},
    {"[::]:7070", LISTEN_PUBLIC},
    {"[::ffff:127.0.0.1]:7070", LISTEN_PUBLIC},
    {"unix:/s", LISTEN_UNIX},
    {"", LISTEN_INVALID},
    {":", LISTEN_INVALID},
    {":7070", LISTEN_INVALID},
    {"[]:7070", LISTEN_INVALID},
    {"[:7070", LISTEN_INVALID},
    {"[*]:7070", LISTEN_INVALID},
    {"[::1]7070", LISTEN_INVALID},
    {"[::1]", LISTEN_INVALID},
    {"[127.0.0.1]:7070", LISTEN_INVALID},
    {"127.0.0.1:", LISTEN_INVALID},
    {"127.0.0.1: 7070", LISTEN_INVALID},
    {"127.0.0.1:65536", LISTEN_INVALID},
    {"127.0.0.1:7070 ", LISTEN_INVALID},
    {"127.0.0.256:7070", LISTEN_INVALID},
    {"localhost:7070", LISTEN_INVALID},
    {"unix:", LISTEN_INVALID},
    {"unix:s", LISTEN_INVALID},
    {"UNIX:/s", LISTEN_INVALID},
};

static void test_kinds(void)
{
	char longest[400];

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		cmp_ok(listen_kind(kinds[i].address), "==", kinds[i].kind, "\"%s\"",
		       kinds[i].address);
	snprintf(longest, sizeof(longest), "unix:/%0106d", 0);
	cmp_ok(listen_kind(longest), "==", LISTEN_UNIX, "107 bytes of path");
	snprintf(longest, sizeof(longest), "unix:/%0107d", 0);
	cmp_ok(listen_kind(longest), "==", LISTEN_INVALID, "108 bytes");
	snprintf(longest, sizeof(longest), "%0255d:1", 0);
	cmp_ok(listen_kind(longest), "==", LISTEN_INVALID, "longer than any address");
}

/* A configuration that listens on COUNT addresses. */
static struct config *make_config(size_t count, const char *const *addresses)
{
	struct config *config = calloc(1, sizeof(*config));

	if (!config)
		BAIL_OUT("out of memory");
	config->listeners = calloc(count, sizeof(config->listeners[0]));
	if (!config->listeners)
		BAIL_OUT("out of memory");
	config->listener_count = count;
	for (size_t i = 0; i < count; i++) {
		config->listeners[i].address = strdup(addresses[i]);
		config->listeners[i].protocol = strdup("http");
		config->listeners[i].backlog = 16;
		config->listeners[i].mode = 0600;
	}
	return config;
}

static void free_config(struct config *config)
{
	for (size_t i = 0; i < config->listener_count; i++) {
		free(config->listeners[i].address);
		free(config->listeners[i].protocol);
	}
	free(config->listeners);
	free(config);
}

/* listen_open of up to three addresses. */
static struct listen_set *open_set(const struct listen_set *old, const char *a, const char *b,
                                   const char *c)
{
	const char *addresses[] = {a, b, c};
	struct config *config = make_config(c ? 3 : b ? 2 : 1, addresses);
	struct listen_set *set;

	error[0] = '\0';
	set = listen_open(config, old, 0, error, sizeof(error));
	free_config(config);
	return set;
}

/* 0 if somebody listens on PORT of 127.0.0.1, else errno. */
static int try_port(uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), result;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	result = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : errno;
	close(fd);
	return result;
}

static int try_path(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), result;

	memcpy(address.sun_path, path, strlen(path));
	result = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : errno;
	close(fd);
	return result;
}

static void test_open(void)
{
	struct listen_set *set = open_set(NULL, "127.0.0.1:0", unix_address, "*:0");
	char expected[64];
	struct stat status;
	mode_t mask;

	is(error, "", "three are bound");
	if (!set)
		return;
	cmp_ok((intmax_t)set->count, "==", 3, "three sockets");
	listen_commit(NULL, set);
	ok(listen_port(&set->sockets[0]) != 0, "the port is known");
	snprintf(expected, sizeof(expected), "127.0.0.1:%d", listen_port(&set->sockets[0]));
	is(set->sockets[0].bound, expected, "and in the text");
	is(set->sockets[0].address, "127.0.0.1:0", "beside what was configured");
	cmp_ok(try_port(listen_port(&set->sockets[0])), "==", 0, "a client connects");
	cmp_ok(try_path(), "==", 0, "and to the unix socket");
	cmp_ok(listen_port(&set->sockets[1]), "==", 0, "which has no port");
	is(listen_path(&set->sockets[1]), path, "but a path");
	ok(!listen_path(&set->sockets[0]), "as TCP has not");
	ok(fcntl(set->sockets[0].fd, F_GETFL) & O_NONBLOCK, "non-blocking");
	ok(fcntl(set->sockets[0].fd, F_GETFD) & FD_CLOEXEC, "close-on-exec");
	ok(stat(path, &status) == 0 && (status.st_mode & 0777) == 0600, "mode applied");
	mask = umask(022);
	umask(mask);
	cmp_ok(mask, "==", 027, "the umask is as it was");
	listen_close(set);
	cmp_ok(access(path, F_OK), "==", -1, "the file is gone at the end");
}

static void test_v6(void)
{
	struct listen_set *set = open_set(NULL, "[::]:0", NULL, NULL);
	const char *why = set ? "" : error;
	int only = 0;
	socklen_t size = sizeof(only);

	if (!set && (strstr(why, "not supported") || strstr(why, "Cannot assign"))) {
		pass("# SKIP no IPv6 here: %s", why);
		return;
	}
	ok(set, "IPv6 is bound %s", why);
	if (!set)
		return;
	ok(strncmp(set->sockets[0].bound, "[::]:", 5) == 0, "in brackets");
	ok(listen_port(&set->sockets[0]) != 0, "the port is known");
	getsockopt(set->sockets[0].fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, &size);
	cmp_ok(only, "==", 1, "IPv6 only");
	listen_close(set);
}

static void test_reload(void)
{
	struct listen_set *old = open_set(NULL, "127.0.0.1:0", unix_address, NULL), *next;
	uint16_t kept, dropped;

	listen_commit(NULL, old);
	kept = listen_port(&old->sockets[0]);
	next = open_set(old, "127.0.0.2:0", "127.0.0.1:0", NULL);
	is(error, "", "one new, one kept, one dropped");
	cmp_ok(next->sockets[1].fd, "==", old->sockets[0].fd, "the kept one is shared");
	cmp_ok(listen_port(&next->sockets[1]), "==", kept, "with its port");
	cmp_ok(try_path(), "==", 0, "before the commit the old one serves");
	dropped = kept;
	listen_commit(old, next);
	cmp_ok(try_path(), "==", ENOENT, "after it no longer");
	cmp_ok(try_port(dropped), "==", 0, "the kept one does");
	old = next;
	next = open_set(old, "127.0.0.2:0", NULL, NULL);
	listen_commit(old, next);
	cmp_ok(try_port(kept), "==", ECONNREFUSED, "until it is dropped, too");
	listen_close(next);
}

static void test_abandon(void)
{
	struct listen_set *old = open_set(NULL, "127.0.0.1:0", NULL, NULL), *next;
	uint16_t kept = listen_port(&old->sockets[0]), extra;

	next = open_set(old, "127.0.0.1:0", "127.0.0.2:0", unix_address);
	extra = listen_port(&next->sockets[1]);
	listen_abandon(old, next);
	cmp_ok(try_port(kept), "==", 0, "what was there stays");
	cmp_ok(try_path(), "==", ENOENT, "what was new is gone");
	ok(extra != 0 && fcntl(old->sockets[0].fd, F_GETFD) != -1, "the shared socket is open");
	listen_close(old);
}

/* The number of descriptors in use: the next free one tells. */
static int next_fd(void)
{
	int fd = dup(STDERR_FILENO);

	close(fd);
	return fd;
}

static void test_failure(void)
{
	struct listen_set *old = open_set(NULL, "127.0.0.1:0", NULL, NULL);
	char taken[64], expected[256];
	int before = next_fd();

	snprintf(taken, sizeof(taken), "127.0.0.1:%d", listen_port(&old->sockets[0]));
	ok(!open_set(old, "127.0.0.1:0", unix_address, taken), "a port in use");
	snprintf(expected, sizeof(expected),
	         "listen: %s: cannot bind: Address already in use; stop the program that has it, "
	         "or choose another address",
	         taken);
	is(error, expected, "it says so");
	cmp_ok(try_path(), "==", ENOENT, "what was opened before it is gone");
	cmp_ok(try_port(listen_port(&old->sockets[0])), "==", 0, "what was there stays");
	cmp_ok(next_fd(), "==", before, "no descriptor is lost");
	ok(!open_set(old, "unix:/nonexistent/s", NULL, NULL), "no directory");
	is(error,
	   "listen: unix:/nonexistent/s: cannot bind: No such file or directory; create the "
	   "directory",
	   "it says so");
	ok(!open_set(old, "192.0.2.1:0", NULL, NULL), "no address of ours");
	ok(strstr(error, "choose an address that this machine has"), "%s", error);
	ok(!open_set(old, "nonsense", NULL, NULL), "no address at all");
	cmp_ok(next_fd(), "==", before, "no descriptor is lost");
	listen_close(old);
}

static void test_unix_in_use(void)
{
	struct listen_set *first = open_set(NULL, unix_address, NULL, NULL);

	ok(first, "the first one has it");
	ok(!open_set(NULL, unix_address, NULL, NULL), "a second one cannot");
	ok(strstr(error, "cannot bind: Address already in use"), "%s", error);
	cmp_ok(try_path(), "==", 0, "and the first one serves on");
	listen_close(first);
}

/* What a killed daemon leaves behind. */
static void test_unix_stale(void)
{
	struct listen_set *set;
	struct stat status;
	int dead = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memcpy(address.sun_path, path, strlen(path));
	cmp_ok(bind(dead, (struct sockaddr *)&address, sizeof(address)), "==", 0, "left behind");
	listen(dead, 1);
	close(dead);
	cmp_ok(try_path(), "==", ECONNREFUSED, "and deserted");
	set = open_set(NULL, unix_address, NULL, NULL);
	ok(set, "is replaced %s", error);
	cmp_ok(try_path(), "==", 0, "and serves");
	unlink(path);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	listen_close(set);
	ok(stat(path, &status) == 0 && S_ISREG(status.st_mode), "another's file is not removed");
	ok(!open_set(NULL, unix_address, NULL, NULL), "and not replaced");
	ok(stat(path, &status) == 0 && S_ISREG(status.st_mode), "as it is no socket");
	unlink(path);
}

static void test_adjust(void)
{
	struct listen_set *old = open_set(NULL, unix_address, NULL, NULL), *next;
	const char *addresses[] = {unix_address};
	struct config *config = make_config(1, addresses);
	struct stat status;

	listen_commit(NULL, old);
	config->listeners[0].mode = 0666;
	config->listeners[0].backlog = 1;
	next = listen_open(config, old, 0, error, sizeof(error));
	ok(stat(path, &status) == 0 && (status.st_mode & 0777) == 0600, "not before the commit");
	listen_commit(old, next);
	ok(stat(path, &status) == 0 && (status.st_mode & 0777) == 0666, "the mode changes live");
	free_config(config);
	listen_close(next);
}

#define HELD_S 0.3 /* how long an address is held that is let go */
#define WAIT_S 0.8 /* for one that is not */

/* Another process has what SET has for SECONDS, and this one has it no more. */
static pid_t leave_to_child(struct listen_set *set, double seconds)
{
	pid_t child = fork();

	if (child == -1)
		BAIL_OUT("fork");
	if (child == 0) {
		usleep((useconds_t)(seconds * 1e6));
		_exit(0);
	}
	for (size_t i = 0; i < set->count; i++)
		close(set->sockets[i].fd);
	free(set);
	return child;
}

static struct listen_set *open_patiently(const char *address, double seconds, double *took)
{
	const char *addresses[] = {address};
	struct config *config = make_config(1, addresses);
	uint64_t begun = clock_monotonic_us();
	struct listen_set *set =
	    listen_open(config, NULL, clock_after_us(seconds), error, sizeof(error));

	*took = (double)(clock_monotonic_us() - begun) / 1e6;
	free_config(config);
	return set;
}

/* A dying predecessor holds ADDRESS, and lets go. */
static void test_patience(const char *address)
{
	struct listen_set *set = open_set(NULL, address, NULL, NULL);
	char bound[LISTEN_ADDRESS_MAX];
	double took;

	snprintf(bound, sizeof(bound), "%s", set->sockets[0].bound);
	pid_t child = leave_to_child(set, HELD_S);
	ok(!open_set(NULL, bound, NULL, NULL), "%s is held: nobody waits for it unasked", address);
	set = open_patiently(bound, 20, &took);
	ok(set != NULL && took >= HELD_S / 2, "... who waits gets it");
	waitpid(child, NULL, 0);
	if (!set)
		return;
	listen_commit(NULL, set);
	ok(!open_patiently(bound, WAIT_S, &took) &&
	       strstr(error, "cannot bind: Address already in use"),
	   "... not from who keeps it");
	ok(took >= WAIT_S && took < WAIT_S + 5, "... and no longer than was asked for");
	listen_close(set);
}

int main(void)
{
	plan(NO_PLAN);
	if (!mkdtemp(directory))
		BAIL_OUT("cannot make a directory in /tmp");
	snprintf(path, sizeof(path), "%s/s", directory);
	snprintf(unix_address, sizeof(unix_address), "unix:%s", path);
	umask(027);
	test_kinds();
	test_open();
	test_v6();
	test_reload();
	test_abandon();
	test_failure();
	test_unix_in_use();
	test_unix_stale();
	test_adjust();
	test_patience("127.0.0.1:0");
	test_patience(unix_address);
	listen_close(NULL);
	rmdir(directory);
	return done_testing();
}
