/*
 * A worker over real sockets with a fake ledger, and a client that takes its answers one by one.
 * Include it once.
 */
#ifndef TALLYD_T_SERVER_SUBJECT_H
#define TALLYD_T_SERVER_SUBJECT_H

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "../src/server/connection.h"
#include "../src/server/server.h"
#include "fake-ledger.h"
#include "tap/tap.h"

#define PATIENCE 10000 /* milliseconds until a test gives up waiting */

/* --- the worker --- */

struct subject {
	pid_t pid;
	struct ledger *ledger;
	struct counters *counters;
	struct sockaddr_storage address;
	socklen_t address_length;
	int listener; /* as the master keeps it, for a backlog that outlives the worker */
};

/* What the worker reads the journal with: nothing, unless the test says so. */
static struct journal_reader *subject_history;

static struct server_settings defaults(void)
{
	return (struct server_settings){.max_connections = 100,
	                                .buffer_memory = 1u << 22,
	                                .max_body = 1u << 20,
	                                .header_timeout = 30,
	                                .body_timeout = 30,
	                                .body_rate = 1000,
	                                .idle_timeout = 30,
	                                .write_timeout = 30,
	                                .drain_timeout = 10,
	                                .feed_heartbeat = 30,
	                                .diagnostics = true,
	                                .version = "1.2.3",
	                                .workers = 1,
	                                .started_us = 1};
}

static void run_worker(const struct subject *subject, const struct server_settings *settings,
                       int ready_fd, rlim_t files)
{
	struct server_listener listener = {
	    .fd = subject->listener, .protocol = "http", .address = "test"};
	struct server server = {.settings = settings,
	                        .listeners = &listener,
	                        .listener_count = 1,
	                        .ledger = subject->ledger,
	                        .history = subject_history,
	                        .counters = subject->counters,
	                        .sets = (const struct counters *const *)&subject->counters,
	                        .set_count = 1,
	                        .wake_fd = subject->ledger->wake_fd,
	                        .ready_fd = ready_fd,
	                        .handover_fd = -1};
	if (files)
		setrlimit(RLIMIT_NOFILE, &(struct rlimit){files, files});
	_exit(server_run(&server));
}

static void listen_somewhere(struct subject *subject, int family)
{
	subject->listener = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	subject->address_length = sizeof(subject->address);
	if (bind(subject->listener,
	         family == AF_INET ? (struct sockaddr *)&in : (struct sockaddr *)&un,
	         family == AF_INET ? sizeof(in) : sizeof(sa_family_t)) < 0 ||
	    listen(subject->listener, 128) < 0 ||
	    getsockname(subject->listener, (struct sockaddr *)&subject->address,
	                &subject->address_length) < 0) {
		perror("listener");
		exit(1);
	}
}

static struct subject start_on(int family, const struct server_settings *settings, bool automatic,
                               rlim_t files)
{
	struct subject subject = {.ledger = fake_ledger_new(automatic)};
	int ready[2];
	char byte;
	subject.counters = mmap(NULL, sizeof(*subject.counters), PROT_READ | PROT_WRITE,
	                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	listen_somewhere(&subject, family);
	if (pipe(ready) < 0)
		exit(1);
	subject.pid = fork();
	if (subject.pid == 0) {
		close(ready[0]);
		run_worker(&subject, settings, ready[1], files);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		fail("the worker is ready");
	close(ready[0]);
	return subject;
}

static struct subject start(const struct server_settings *settings, bool automatic)
{
	return start_on(AF_INET, settings, automatic, 0);
}

static uint64_t counted(const struct subject *subject, enum counter counter)
{
	return atomic_load(&subject->counters->value[counter]);
}

static long now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void pass_time(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

/* The exit status, or -1 if it does not end in time. */
static int status_of(struct subject *subject)
{
	int status;
	for (long end = now_ms() + PATIENCE; now_ms() < end; pass_time()) {
		if (waitpid(subject->pid, &status, WNOHANG) == subject->pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	}
	kill(subject->pid, SIGKILL);
	waitpid(subject->pid, &status, 0);
	return -1;
}

/* The worker stands still when this returns, until SIGCONT. */
static inline void freeze(const struct subject *subject)
{
	kill(subject->pid, SIGSTOP);
	waitpid(subject->pid, NULL, WUNTRACED);
}

static void forget(struct subject *subject)
{
	close(subject->listener);
	close(subject->ledger->wake_fd);
	munmap(subject->ledger, sizeof(*subject->ledger));
	munmap(subject->counters, sizeof(*subject->counters));
}

static void stop(struct subject *subject, const char *what)
{
	kill(subject->pid, SIGTERM);
	cmp_ok(status_of(subject), "==", 0, "%s: the worker drains", what);
	forget(subject);
}

/* --- a client --- */

struct client {
	int fd;
	size_t start; /* bytes[start .. start + length): received and not taken */
	size_t length;
	char bytes[1 << 21]; /* received */
	unsigned status;     /* of the answer taken last */
	char head[4096];
	char body[1 << 20];
	size_t body_length;
};

static struct client client_a, client_b;

static int dial(const struct subject *subject)
{
	int fd = socket(subject->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (subject->address.ss_family == AF_INET)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	if (connect(fd, (const struct sockaddr *)&subject->address, subject->address_length) < 0)
		diag("connect: %s", strerror(errno));
	return fd;
}

static struct client *call(struct client *client, const struct subject *subject)
{
	client->fd = dial(subject);
	client->start = client->length = 0;
	return client;
}

static void say_bytes(struct client *client, const char *bytes, size_t length)
{
	while (length) {
		ssize_t sent = send(client->fd, bytes, length, MSG_NOSIGNAL);
		if (sent < 0) {
			diag("send: %s", strerror(errno));
			return;
		}
		bytes += sent;
		length -= (size_t)sent;
	}
}

static void say(struct client *client, const char *text)
{
	say_bytes(client, text, strlen(text));
}

/* Receives more.  1, 0 at the end, -1 on a reset or when patience ends. */
static int hear(struct client *client)
{
	struct pollfd poll_fd = {.fd = client->fd, .events = POLLIN};
	if (poll(&poll_fd, 1, PATIENCE) != 1)
		return -1;
	if (client->start > sizeof(client->bytes) / 2 || client->length == 0) {
		memmove(client->bytes, client->bytes + client->start, client->length);
		client->start = 0;
	}
	size_t used = client->start + client->length;
	ssize_t got = recv(client->fd, client->bytes + used, sizeof(client->bytes) - used, 0);
	if (got > 0)
		client->length += (size_t)got;
	return got > 0 ? 1 : (int)got;
}

static void take(struct client *client, void *target, size_t length)
{
	memcpy(target, client->bytes + client->start, length);
	client->start += length;
	client->length -= length;
}

/* Takes what is there up to and with END into TARGET.  False: the connection ended before. */
static bool take_until(struct client *client, const char *end, char *target, size_t size)
{
	char *at;
	while (!(at = memmem(client->bytes + client->start, client->length, end, strlen(end)))) {
		if (hear(client) <= 0)
			return false;
	}
	size_t length = (size_t)(at - client->bytes) + strlen(end) - client->start;
	if (length >= size)
		return false;
	take(client, target, length);
	target[length] = '\0';
	return true;
}

/* Takes a chunk's data, which is appended to the body.  Its length, -1: the connection ended. */
static long take_chunk(struct client *client)
{
	char line[64];
	if (!take_until(client, "\r\n", line, sizeof(line)))
		return -1;
	size_t length = strtoul(line, NULL, 16);
	while (client->length < length + 2) {
		if (hear(client) <= 0)
			return -1;
	}
	take(client, client->body + client->body_length, length);
	client->body_length += length;
	client->body[client->body_length] = '\0';
	take(client, line, 2);
	return (long)length;
}

/* Takes one answer; HEAD_ONLY: of a HEAD.  Returns its status, 0 if the connection ended. */
static unsigned take_answer(struct client *client, bool head_only)
{
	char *end;
	client->status = 0;
	while (!(end = memmem(client->bytes + client->start, client->length, "\r\n\r\n", 4))) {
		if (hear(client) <= 0)
			return 0;
	}
	size_t head = (size_t)(end + 4 - client->bytes) - client->start;
	take(client, client->head, head);
	client->head[head] = '\0';
	const char *length = strstr(client->head, "Content-Length: ");
	client->body_length = length && !head_only ? strtoul(length + 16, NULL, 10) : 0;
	while (client->length < client->body_length) {
		if (hear(client) <= 0)
			return 0;
	}
	take(client, client->body, client->body_length);
	client->body[client->body_length] = '\0';
	if (strstr(client->head, "Transfer-Encoding: chunked")) {
		long got;
		while ((got = take_chunk(client)) > 0)
			;
		if (got < 0)
			return 0;
	}
	client->status = (unsigned)strtoul(client->head + 9, NULL, 10);
	return client->status;
}

static unsigned answered(struct client *client)
{
	return take_answer(client, false);
}

static bool ended(struct client *client)
{
	return client->length == 0 && hear(client) == 0;
}

static inline bool silent(struct client *client)
{
	struct pollfd poll_fd = {.fd = client->fd, .events = POLLIN};
	return client->length == 0 && poll(&poll_fd, 1, 0) == 0;
}

static void hang_up(struct client *client)
{
	close(client->fd);
}

#define FIELDS    "Host: test\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" FIELDS "\r\n"

static inline const char *post(const char *path, const char *body)
{
	static char text[4096];
	snprintf(text, sizeof(text), "POST %s HTTP/1.1\r\n" FIELDS "Content-Length: %zu\r\n\r\n%s",
	         path, strlen(body), body);
	return text;
}

#define ALICE "{\"account\":\"alice\",\"amount\":5}"

/* Another connection's round trip: whatever the worker was going to do, it has done. */
static inline void let_it_turn(const struct subject *subject)
{
	static struct client other;
	for (int i = 0; i < 2; i++) {
		call(&other, subject);
		say(&other, GET("/fast"));
		if (answered(&other) != 200)
			fail("another connection is served meanwhile");
		hang_up(&other);
	}
}

#endif
