/*
 * A load client that keeps account of what it was told, for the tests of deaths and disks.
 *
 *     hammer -p PORT | -u SOCKET [-c CONNECTIONS] [-d DEPTH] [-n ACCOUNTS] [-x PREFIX]
 *            [-s SECONDS] [-r REQUESTS] [-g SECONDS] -o FILE
 *
 * Posts {"account":"PREFIX<i>","amount":1} over CONNECTIONS keep-alive connections, DEPTH at a
 * time on each, to ACCOUNTS accounts, until SECONDS or REQUESTS are over or SIGTERM comes; then
 * waits up to -g seconds for the answers that are still out.  A broken connection is made anew:
 * what it had out is `unknown`.  FILE is replaced whole five times a second and at the end (then
 * "finished" is true) with one JSON object:
 *
 *     sent, acknowledged, unknown, refused { reason: n }, other { status: n }
 *     duplicates    acknowledged versions of an account that had been acknowledged before
 *     mismatches    answers whose balance is not their version: every amount is 1
 *     malformed     answers that are not HTTP/1.1 as tallyd speaks it
 *     connects, breaks, refusals_to_connect
 *     longest_silence_ms   between two answers on any connection, while sending
 *     longest_answer_ms    from a request to its answer
 *     accounts { name: [acknowledged, unknown, highest acknowledged version] }
 *
 * So of every account: acknowledged <= balance <= acknowledged + unknown.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 1024
#define DEPTH_MAX       512
#define ACCOUNTS_MAX    1000000
#define REASONS_MAX     16
#define REASON_SIZE     32    /* bytes of a reason with its NUL */
#define REQUEST_MAX     256   /* bytes of one request */
#define INPUT_SIZE      65536 /* bytes of answers that are not read yet, per connection */
#define FLUSH_MS        200   /* between two replacements of FILE */
#define RETRY_MS        10    /* before a refused connection is tried again */
#define REFUSED_MS      5     /* pause of a connection whose event was refused */
#define TICK_MS         5

struct account {
	uint64_t acknowledged;
	uint64_t unknown;
	uint64_t highest;
	uint64_t *seen; /* a bit for every version acknowledged */
	uint64_t seen_words;
};

struct pending {
	uint32_t account;
	uint64_t sent_us;
};

struct connection {
	int fd; /* -1: none */
	bool connected;
	bool closing;            /* an answer said so: nothing more is begun here */
	uint64_t pause_us;       /* nothing is begun before */
	struct pending *pending; /* a ring of DEPTH */
	unsigned first;
	unsigned count;
	size_t out_length;
	size_t out_at;
	size_t in_length;
	char *out;
	char *in;
};

struct tally {
	const char *name;
	uint64_t value;
};

struct reason {
	char name[REASON_SIZE];
	uint64_t count;
};

static struct {
	uint16_t port;
	const char *path; /* of a unix socket, else NULL */
	unsigned connections;
	unsigned depth;
	unsigned accounts;
	const char *prefix;
	double seconds;    /* 0: until SIGTERM */
	uint64_t requests; /* 0: no limit */
	double grace;
	const char *file;
} options = {.connections = 8, .depth = 1, .accounts = 100, .prefix = "a", .grace = 5};

static struct {
	struct account *account;
	struct connection *connection;
	struct reason refused[REASONS_MAX];
	struct reason other[REASONS_MAX];
	uint64_t sent;
	uint64_t acknowledged;
	uint64_t unknown;
	uint64_t duplicates;
	uint64_t mismatches;
	uint64_t malformed;
	uint64_t connects;
	uint64_t breaks;
	uint64_t refusals;
	uint64_t silence_us;
	uint64_t answer_us;
	uint64_t last_answer_us;
	uint64_t random;
	int poll;
} state;

static volatile sig_atomic_t stop_asked;

static void on_signal(int number)
{
	(void)number;
	stop_asked = 1;
}

static void die(const char *what)
{
	fprintf(stderr, "hammer: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static void *get(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (memory == NULL)
		die("out of memory");
	return memory;
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static uint32_t draw(uint32_t below)
{
	state.random ^= state.random << 13;
	state.random ^= state.random >> 7;
	state.random ^= state.random << 17;
	return (uint32_t)((state.random >> 32) * below >> 32);
}

/* ---- The report ---- */

static void put_reasons(FILE *file, const char *name, const struct reason *reason)
{
	const char *comma = "";

	fprintf(file, "\"%s\":{", name);
	for (int i = 0; i < REASONS_MAX && reason[i].count != 0; i++) {
		fprintf(file, "%s\"%s\":%ju", comma, reason[i].name, (uintmax_t)reason[i].count);
		comma = ",";
	}
	fprintf(file, "},\n");
}

static void put_accounts(FILE *file)
{
	const char *comma = "";

	fprintf(file, "\"accounts\":{");
	for (unsigned i = 0; i < options.accounts; i++) {
		const struct account *account = &state.account[i];
		if (account->acknowledged == 0 && account->unknown == 0)
			continue;
		fprintf(file, "%s\n\"%s%u\":[%ju,%ju,%ju]", comma, options.prefix, i,
		        (uintmax_t)account->acknowledged, (uintmax_t)account->unknown,
		        (uintmax_t)account->highest);
		comma = ",";
	}
	fprintf(file, "\n}}\n");
}

static void report(bool finished)
{
	const struct tally tally[] = {
	    {"sent", state.sent},
	    {"acknowledged", state.acknowledged},
	    {"unknown", state.unknown},
	    {"duplicates", state.duplicates},
	    {"mismatches", state.mismatches},
	    {"malformed", state.malformed},
	    {"connects", state.connects},
	    {"breaks", state.breaks},
	    {"refusals_to_connect", state.refusals},
	    {"longest_silence_ms", state.silence_us / 1000},
	    {"longest_answer_ms", state.answer_us / 1000},
	};
	char name[4096];

	snprintf(name, sizeof name, "%s.new", options.file);
	FILE *file = fopen(name, "w");
	if (file == NULL)
		die(name);
	fprintf(file, "{\"finished\":%s,\n", finished ? "true" : "false");
	for (size_t i = 0; i < sizeof tally / sizeof *tally; i++)
		fprintf(file, "\"%s\":%ju,\n", tally[i].name, (uintmax_t)tally[i].value);
	put_reasons(file, "refused", state.refused);
	put_reasons(file, "other", state.other);
	put_accounts(file);
	if (fclose(file) != 0 || rename(name, options.file) != 0)
		die(options.file);
}

/* ---- What an answer says ---- */

static void count_reason(struct reason *reason, const char *name, size_t length)
{
	if (length >= REASON_SIZE)
		length = REASON_SIZE - 1;
	for (int i = 0; i < REASONS_MAX; i++) {
		if (reason[i].count == 0)
			memcpy(reason[i].name, name, length);
		if (strlen(reason[i].name) == length && memcmp(reason[i].name, name, length) == 0) {
			reason[i].count++;
			return;
		}
	}
	state.malformed++; /* so many reasons there are not */
}

/* The text behind LABEL in the terminated BODY, or "". */
static const char *behind(const char *body, const char *label)
{
	const char *found = strstr(body, label);

	return found == NULL ? "" : found + strlen(label);
}

static bool see(struct account *account, uint64_t version)
{
	uint64_t word = version / 64;
	uint64_t bit = UINT64_C(1) << version % 64;

	if (word >= account->seen_words) {
		uint64_t words = word * 2 + 16;
		uint64_t *more = realloc(account->seen, words * sizeof *more);
		if (more == NULL)
			die("out of memory");
		memset(more + account->seen_words, 0, (words - account->seen_words) * sizeof *more);
		account->seen = more;
		account->seen_words = words;
	}
	bool before = account->seen[word] & bit;
	account->seen[word] |= bit;
	return before;
}

static void take_accepted(struct account *account, const char *body)
{
	uint64_t version = strtoull(behind(body, "\"version\":"), NULL, 10);
	uint64_t balance = strtoull(behind(body, "\"balance\":"), NULL, 10);

	state.acknowledged++;
	account->acknowledged++;
	if (version == 0 || version > UINT32_MAX || version != balance) {
		state.mismatches++;
		return;
	}
	if (see(account, version))
		state.duplicates++;
	if (version > account->highest)
		account->highest = version;
}

static void take_answer(struct connection *connection, unsigned status, const char *body)
{
	const struct pending *pending = &connection->pending[connection->first];
	struct account *account = &state.account[pending->account];
	uint64_t now = now_us();
	char text[8];

	if (now - pending->sent_us > state.answer_us)
		state.answer_us = now - pending->sent_us;
	if (now - state.last_answer_us > state.silence_us)
		state.silence_us = now - state.last_answer_us;
	state.last_answer_us = now;
	connection->first = (connection->first + 1) % options.depth;
	connection->count--;
	if (status == 200) {
		take_accepted(account, body);
	} else if (status == 503 || status == 507) {
		const char *reason = behind(body, "\"reason\":\"");
		count_reason(state.refused, reason, strcspn(reason, "\""));
		connection->pause_us = now + REFUSED_MS * 1000;
	} else {
		snprintf(text, sizeof text, "%u", status);
		count_reason(state.other, text, strlen(text));
	}
}

/*
 * Reads one whole answer at the front of the input.  Its length; 0 if it is not whole yet; -1 if
 * it is no answer.
 */
static ssize_t read_answer(struct connection *connection, unsigned *status, const char **body,
                           size_t *body_length)
{
	static const char length_field[] = "\r\nContent-Length: ";
	char *head = connection->in;
	char *end = memmem(head, connection->in_length, "\r\n\r\n", 4);

	if (end == NULL)
		return connection->in_length == INPUT_SIZE ? -1 : 0;
	*end = '\0';
	const char *length = strcasestr(head, length_field);
	bool good = sscanf(head, "HTTP/1.1 %3u ", status) == 1 && length != NULL;
	*body_length = good ? strtoul(length + sizeof length_field - 1, NULL, 10) : 0;
	if (good && strcasestr(head, "\r\nConnection: close") != NULL)
		connection->closing = true;
	*end = '\r';
	size_t total = (size_t)(end - head) + 4 + *body_length;
	if (!good || connection->count == 0 || total > INPUT_SIZE)
		return -1;
	*body = end + 4;
	return total <= connection->in_length ? (ssize_t)total : 0;
}

/* ---- Connections ---- */

static void watch(struct connection *connection, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = connection};

	epoll_ctl(state.poll, EPOLL_CTL_MOD, connection->fd, &event);
}

/* What is out will not be answered. */
static void drop(struct connection *connection)
{
	close(connection->fd);
	connection->fd = -1;
	connection->connected = connection->closing = false;
	for (; connection->count > 0; connection->count--) {
		state.account[connection->pending[connection->first].account].unknown++;
		state.unknown++;
		connection->first = (connection->first + 1) % options.depth;
	}
	connection->out_at = connection->out_length = connection->in_length = 0;
}

static void retry_later(struct connection *connection)
{
	state.refusals++;
	drop(connection);
	connection->pause_us = now_us() + RETRY_MS * 1000;
}

static int dial(int fd)
{
	struct sockaddr_in inet = {.sin_family = AF_INET,
	                           .sin_port = htons(options.port),
	                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un local = {.sun_family = AF_UNIX};

	if (options.path == NULL)
		return connect(fd, (const struct sockaddr *)&inet, sizeof inet);
	strncpy(local.sun_path, options.path, sizeof local.sun_path - 1);
	return connect(fd, (const struct sockaddr *)&local, sizeof local);
}

static void begin_connection(struct connection *connection)
{
	static const int one = 1;
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = connection};
	int family = options.path == NULL ? AF_INET : AF_UNIX;

	connection->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (connection->fd < 0)
		die("socket");
	if (family == AF_INET)
		setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (epoll_ctl(state.poll, EPOLL_CTL_ADD, connection->fd, &event) != 0)
		die("epoll_ctl");
	if (dial(connection->fd) != 0 && errno != EINPROGRESS)
		retry_later(connection);
}

static void finish_connection(struct connection *connection)
{
	int error = 0;
	socklen_t size = sizeof error;

	getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error != 0) {
		retry_later(connection);
		return;
	}
	connection->connected = true;
	state.connects++;
	watch(connection, EPOLLIN);
}

static void add_request(struct connection *connection, uint64_t now)
{
	uint32_t account = draw(options.accounts);
	char body[96];
	int length = snprintf(body, sizeof body, "{\"account\":\"%s%u\",\"amount\":1}",
	                      options.prefix, account);

	connection->out_length += (size_t)snprintf(
	    connection->out + connection->out_length, REQUEST_MAX,
	    "POST /events HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%s", length, body);
	connection->pending[(connection->first + connection->count) % options.depth] =
	    (struct pending){account, now};
	connection->count++;
	state.sent++;
}

static void send_out(struct connection *connection)
{
	while (connection->out_at < connection->out_length) {
		ssize_t put = send(connection->fd, connection->out + connection->out_at,
		                   connection->out_length - connection->out_at, MSG_NOSIGNAL);
		if (put < 0 && errno == EAGAIN) {
			watch(connection, EPOLLIN | EPOLLOUT);
			return;
		}
		if (put < 0) {
			state.breaks++;
			drop(connection);
			return;
		}
		connection->out_at += (size_t)put;
	}
	connection->out_at = connection->out_length = 0;
	watch(connection, EPOLLIN);
}

static bool may_send(void)
{
	return !stop_asked && (options.requests == 0 || state.sent < options.requests);
}

static void work(struct connection *connection, uint64_t now)
{
	if (now < connection->pause_us || !may_send())
		return;
	if (connection->fd < 0) {
		begin_connection(connection);
		return;
	}
	if (!connection->connected || connection->closing || connection->out_length != 0)
		return;
	while (connection->count < options.depth && may_send())
		add_request(connection, now);
	if (connection->out_length != 0)
		send_out(connection);
}

static void read_answers(struct connection *connection)
{
	const char *body;
	size_t body_length;
	unsigned status;
	ssize_t length;

	while ((length = read_answer(connection, &status, &body, &body_length)) > 0) {
		char text[1024];
		snprintf(text, sizeof text, "%.*s", (int)body_length, body);
		take_answer(connection, status, text);
		connection->in_length -= (size_t)length;
		memmove(connection->in, connection->in + length, connection->in_length);
	}
	if (length < 0) {
		state.malformed++;
		drop(connection);
	} else if (connection->closing && connection->count == 0) {
		drop(connection);
	}
}

static void read_in(struct connection *connection)
{
	ssize_t got = recv(connection->fd, connection->in + connection->in_length,
	                   INPUT_SIZE - connection->in_length, 0);

	if (got < 0 && errno == EAGAIN)
		return;
	if (got <= 0) {
		state.breaks++;
		drop(connection);
		return;
	}
	connection->in_length += (size_t)got;
	read_answers(connection);
}

static void serve(struct connection *connection, uint32_t events)
{
	if (!connection->connected) {
		finish_connection(connection);
		return;
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		read_in(connection);
	if (connection->fd >= 0 && events & EPOLLOUT)
		send_out(connection);
}

/* ---- The run ---- */

static void turn(void)
{
	struct epoll_event event[64];
	int count = epoll_wait(state.poll, event, 64, TICK_MS);

	for (int i = 0; i < count; i++) {
		struct connection *connection = event[i].data.ptr;
		if (connection->fd >= 0)
			serve(connection, event[i].events);
	}
	uint64_t now = now_us();
	for (unsigned i = 0; i < options.connections; i++)
		work(&state.connection[i], now);
}

static bool any_out(void)
{
	for (unsigned i = 0; i < options.connections; i++)
		if (state.connection[i].count != 0)
			return true;
	return false;
}

/* A silence that lasts until the end counts as well. */
static void end_silence(void)
{
	uint64_t silence = now_us() - state.last_answer_us;

	if (silence > state.silence_us)
		state.silence_us = silence;
}

static void run(void)
{
	uint64_t start = now_us();
	uint64_t end = start + (uint64_t)(options.seconds * 1e6);
	uint64_t flush = start;

	state.last_answer_us = start;
	while (may_send()) {
		turn();
		uint64_t now = now_us();
		if (options.seconds > 0 && now > end)
			stop_asked = 1;
		if (now < flush)
			continue;
		report(false);
		flush = now + FLUSH_MS * 1000;
	}
	stop_asked = 1;
	if (any_out())
		end_silence();
	end = now_us() + (uint64_t)(options.grace * 1e6);
	while (any_out() && now_us() < end)
		turn();
	for (unsigned i = 0; i < options.connections; i++)
		if (state.connection[i].fd >= 0)
			drop(&state.connection[i]);
	report(true);
}

/* ---- Start ---- */

static void usage(void)
{
	fprintf(stderr, "usage: hammer -p PORT | -u SOCKET [-c CONNECTIONS] [-d DEPTH] "
	                "[-n ACCOUNTS] [-x PREFIX] [-s SECONDS] [-r REQUESTS] [-g SECONDS] "
	                "-o FILE\n");
	exit(2);
}

static uint64_t number(const char *text, uint64_t least, uint64_t most)
{
	char *end;
	uint64_t value = strtoull(text, &end, 10);

	if (*text < '0' || *text > '9' || *end != '\0' || value < least || value > most)
		usage();
	return value;
}

static double seconds(const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (*text < '0' || *text > '9' || *end != '\0' || !(value >= 0 && value < 1e6))
		usage();
	return value;
}

static void read_option(int option)
{
	switch (option) {
	case 'p':
		options.port = (uint16_t)number(optarg, 1, UINT16_MAX);
		break;
	case 'u':
		options.path = optarg;
		break;
	case 'c':
		options.connections = (unsigned)number(optarg, 1, CONNECTIONS_MAX);
		break;
	case 'd':
		options.depth = (unsigned)number(optarg, 1, DEPTH_MAX);
		break;
	case 'n':
		options.accounts = (unsigned)number(optarg, 1, ACCOUNTS_MAX);
		break;
	case 'x':
		options.prefix = optarg;
		break;
	case 's':
		options.seconds = seconds(optarg);
		break;
	case 'r':
		options.requests = number(optarg, 1, UINT64_MAX);
		break;
	case 'g':
		options.grace = seconds(optarg);
		break;
	case 'o':
		options.file = optarg;
		break;
	default:
		usage();
	}
}

static void make_connections(void)
{
	state.connection = get(options.connections, sizeof *state.connection);
	for (unsigned i = 0; i < options.connections; i++) {
		struct connection *connection = &state.connection[i];
		connection->fd = -1;
		connection->pending = get(options.depth, sizeof *connection->pending);
		connection->out = get(options.depth, REQUEST_MAX);
		connection->in = get(1, INPUT_SIZE);
	}
}

static void free_all(void)
{
	for (unsigned i = 0; i < options.connections; i++) {
		free(state.connection[i].pending);
		free(state.connection[i].out);
		free(state.connection[i].in);
	}
	for (unsigned i = 0; i < options.accounts; i++)
		free(state.account[i].seen);
	free(state.connection);
	free(state.account);
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	int option;

	while ((option = getopt(argc, argv, "p:u:c:d:n:x:s:r:g:o:")) != -1)
		read_option(option);
	if (optind != argc || options.file == NULL ||
	    (options.port == 0) == (options.path == NULL) || strlen(options.prefix) > 40)
		usage();
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	state.random = now_us() ^ (uint64_t)getpid() << 32 ^ UINT64_C(0x9e3779b97f4a7c15);
	state.account = get(options.accounts, sizeof *state.account);
	state.poll = epoll_create1(EPOLL_CLOEXEC);
	if (state.poll < 0)
		die("epoll_create1");
	make_connections();
	run();
	close(state.poll);
	free_all();
	return EXIT_SUCCESS;
}
