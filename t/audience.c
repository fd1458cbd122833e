/*
 * An audience for tests and measurements: opens COUNT feeds of a tallyd at 127.0.0.1:PORT, reads
 * and drops what comes, and says how it went.
 *
 *     audience PORT COUNT QUERY       "?format=ndjson&after=0", or ""
 *
 * Writes "ready\n" once every feed has been answered with 200, and "fed\n" once every one has had
 * an event.  On SIGTERM, or once every feed has ended: "BYTES bytes, LINES lines, ENDED ended,
 * WRONG wrong\n", and exits.  A line is an event; it is wrong if its LSN is not above the one
 * before it in the same feed.  Exit 1: a feed could not be had.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MARK       "{\"lsn\":\""
#define DIGITS_MAX 20

struct feed {
	int fd;
	bool answered;
	char head[13]; /* "HTTP/1.1 200 " as far as it has come */
	unsigned have;
	unsigned matched; /* bytes of MARK, then digits behind it */
	uint64_t number;
	uint64_t last;
};

static volatile sig_atomic_t stopped;
static uint64_t bytes, lines, wrong;
static unsigned answered, fed, ended;

static void on_term(int number)
{
	(void)number;
	stopped = 1;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void begin(struct feed *feed, uint16_t port, const char *query, int loop)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
	                              .sin_port = htons(port),
	                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = feed};
	char request[256];

	int length = snprintf(request, sizeof(request),
	                      "GET /feed%s HTTP/1.1\r\nHost: localhost\r\n\r\n", query);
	feed->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (feed->fd < 0 || connect(feed->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("connect");
	if (send(feed->fd, request, (size_t)length, MSG_NOSIGNAL) != length)
		die("send");
	if (epoll_ctl(loop, EPOLL_CTL_ADD, feed->fd, &event) < 0)
		die("epoll_ctl");
}

static void end_number(struct feed *feed)
{
	lines++;
	fed += feed->last == 0;
	wrong += feed->number <= feed->last;
	feed->last = feed->number;
	feed->matched = 0;
	feed->number = 0;
}

/* MARK and its number may be cut anywhere. */
static void read_lines(struct feed *feed, const char *at, const char *end)
{
	const unsigned whole = sizeof(MARK) - 1;

	while (at < end) {
		if (feed->matched == 0) {
			at = memchr(at, MARK[0], (size_t)(end - at));
			if (!at)
				return;
			feed->matched = 1;
		} else if (feed->matched < whole) {
			feed->matched = *at == MARK[feed->matched] ? feed->matched + 1
			                : *at == MARK[0]           ? 1
			                                           : 0;
		} else if (*at >= '0' && *at <= '9') {
			feed->number = feed->number * 10 + (uint64_t)(*at - '0');
		} else {
			end_number(feed);
		}
		at++;
	}
}

static void read_head(struct feed *feed, const char *at, size_t got)
{
	while (got > 0 && feed->have < sizeof(feed->head)) {
		feed->head[feed->have++] = *at++;
		got--;
	}
	if (feed->have < sizeof(feed->head) || feed->answered)
		return;
	if (memcmp(feed->head, "HTTP/1.1 200 ", sizeof(feed->head)) != 0) {
		fprintf(stderr, "a feed was answered: %.13s\n", feed->head);
		exit(1);
	}
	feed->answered = true;
	answered++;
}

static void on_readable(struct feed *feed)
{
	static char buffer[65536];
	ssize_t got = recv(feed->fd, buffer, sizeof(buffer), MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		close(feed->fd);
		ended++;
		return;
	}
	bytes += (uint64_t)got;
	if (!feed->answered)
		read_head(feed, buffer, (size_t)got);
	read_lines(feed, buffer, buffer + got);
}

static void say_once(const char *word, bool now, bool *said)
{
	if (!now || *said)
		return;
	*said = true;
	puts(word);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_term};
	struct epoll_event events[64];
	struct rlimit files;
	bool said = false, said_fed = false;

	if (argc != 4)
		return 2;
	unsigned count = (unsigned)strtoul(argv[2], NULL, 10);
	struct feed *feeds = calloc(count, sizeof(*feeds));
	int loop = epoll_create1(0);
	if (!feeds || loop < 0)
		die("start");
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	sigaction(SIGTERM, &action, NULL);
	for (unsigned i = 0; i < count; i++)
		begin(&feeds[i], (uint16_t)strtoul(argv[1], NULL, 10), argv[3], loop);
	while (!stopped && ended < count) {
		int ready = epoll_wait(loop, events, 64, 100);
		for (int i = 0; i < ready; i++)
			on_readable(events[i].data.ptr);
		say_once("ready", answered == count, &said);
		say_once("fed", fed == count, &said_fed);
	}
	printf("%" PRIu64 " bytes, %" PRIu64 " lines, %u ended, %" PRIu64 " wrong\n", bytes, lines,
	       ended, wrong);
	free(feeds);
	return 0;
}
