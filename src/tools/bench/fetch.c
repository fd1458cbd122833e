#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../base/clock.h"
#include "../http/answer.h"
#include "fetch.h"
#include "load.h"

#define INPUT_SIZE (64 * 1024)
#define ATTEMPTS   5     /* connections without a single answer */
#define PAUSE_US   20000 /* between two of them, the first time; then doubled */

struct fetch {
	const struct options *options;
	const struct target *target;
	struct book *book;
	enum fetch_when when;
	struct load load;
	struct answer answer;
	int fd;
	uint32_t asked, known; /* accounts, in their order */
	const char *why;
	char out[FETCH_AHEAD * LOAD_HEAD_MAX];
	char in[ANSWER_HEAD_MAX + INPUT_SIZE];
	size_t held;
};

/* ---- what an answer says */

/* The integer behind KEY. */
static bool find_number(const char *text, const char *key, const char **digits)
{
	const char *at = strstr(text, key);

	if (at == NULL)
		return false;
	*digits = at + strlen(key);
	return **digits == '-' || (**digits >= '0' && **digits <= '9');
}

static bool read_balance(const struct answer *answer, struct balance *balance)
{
	char text[ANSWER_KEEP + 1];
	const char *digits;

	*balance = (struct balance){0};
	memcpy(text, answer->kept, answer->kept_length);
	text[answer->kept_length] = '\0';
	if (answer->status == 404)
		return strstr(text, "\"unknown_account\"") != NULL;
	if (answer->status != 200 || !find_number(text, "\"balance\":", &digits))
		return false;
	errno = 0;
	balance->balance = strtoll(digits, NULL, 10);
	if (!find_number(text, "\"version\":", &digits))
		return false;
	balance->version = strtoull(digits, NULL, 10);
	return errno == 0;
}

static bool take_answer(struct fetch *fetch)
{
	static char why[64];
	struct balance balance;

	if (!read_balance(&fetch->answer, &balance) || fetch->known == fetch->asked) {
		snprintf(why, sizeof why, "an answer of status %u that tells no balance",
		         fetch->answer.status);
		fetch->why = why;
		return false;
	}
	struct sheet *sheet = &fetch->book->sheet[fetch->known++];
	if (fetch->when == FETCH_BEFORE)
		sheet->before = balance;
	else
		sheet->after = balance;
	return true;
}

/* ---- one connection */

static bool wait_for(int fd, short events, double timeout)
{
	struct pollfd poll_for = {.fd = fd, .events = events};
	int ready;

	do
		ready = poll(&poll_for, 1, (int)(timeout * 1000) + 1);
	while (ready < 0 && errno == EINTR);
	return ready > 0;
}

static bool send_all(struct fetch *fetch, size_t length)
{
	for (size_t at = 0; at < length;) {
		ssize_t sent = send(fetch->fd, fetch->out + at, length - at, MSG_NOSIGNAL);
		if (sent >= 0)
			at += (size_t)sent;
		else if (errno != EINTR && (errno != EAGAIN ||
		                            !wait_for(fetch->fd, POLLOUT, fetch->options->timeout)))
			return false;
	}
	return true;
}

static bool ask(struct fetch *fetch)
{
	size_t length = 0;

	for (uint32_t i = 0; i < FETCH_AHEAD && fetch->asked < fetch->book->accounts; i++)
		length += load_write_read(&fetch->load, fetch->asked++, fetch->out + length);
	return send_all(fetch, length);
}

/* False at the end of the connection; with why set, of everything. */
static bool take_input(struct fetch *fetch)
{
	if (!wait_for(fetch->fd, POLLIN, fetch->options->timeout)) {
		fetch->why = "no answer in time";
		return false;
	}
	ssize_t got = recv(fetch->fd, fetch->in + fetch->held, INPUT_SIZE, 0);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (got <= 0)
		return false;
	size_t length = fetch->held + (size_t)got, at = 0, used;
	enum answer_progress progress;
	while ((progress = answer_next(&fetch->answer, fetch->in + at, length - at, &used)) ==
	       ANSWER_DONE) {
		at += used;
		if (!take_answer(fetch) || fetch->answer.close)
			return false;
	}
	if (progress != ANSWER_MORE) {
		fetch->why = progress == ANSWER_BAD ? fetch->answer.fault : "lines";
		return false;
	}
	at += used;
	fetch->held = length - at;
	memmove(fetch->in, fetch->in + at, fetch->held);
	return true;
}

/* Asks and reads until all are known or the connection ends. */
static void use_connection(struct fetch *fetch)
{
	fetch->asked = fetch->known;
	fetch->held = 0;
	answer_init(&fetch->answer);
	while (fetch->known < fetch->book->accounts) {
		if (fetch->asked == fetch->known && !ask(fetch))
			return;
		if (!take_input(fetch))
			return;
	}
}

static bool connect_it(struct fetch *fetch)
{
	fetch->fd = target_connect(fetch->target, 0);
	if (fetch->fd < 0)
		return false;
	int error = target_wait(fetch->fd, fetch->options->timeout);
	if (error == 0)
		return true;
	close(fetch->fd);
	errno = error;
	return false;
}

static void fetch_all(struct fetch *fetch)
{
	unsigned idle = 0;

	while (fetch->known < fetch->book->accounts && fetch->why == NULL) {
		uint32_t known = fetch->known;
		bool connected = connect_it(fetch);
		if (connected) {
			use_connection(fetch);
			close(fetch->fd);
		}
		if (fetch->known > known)
			idle = 0;
		else if (++idle == ATTEMPTS && fetch->why == NULL)
			fetch->why =
			    connected ? "the connection ends without an answer" : strerror(errno);
		else
			usleep((useconds_t)PAUSE_US << idle);
	}
}

bool fetch_balances(const struct options *options, const struct target *target, struct book *book,
                    enum fetch_when when)
{
	struct fetch *fetch = calloc(1, sizeof *fetch);

	if (fetch == NULL) {
		perror("tallybench: memory");
		exit(EXIT_FAILURE);
	}
	fetch->options = options;
	fetch->target = target;
	fetch->book = book;
	fetch->when = when;
	load_init(&fetch->load, options, target);
	fetch_all(fetch);
	load_free(&fetch->load);
	const char *why = fetch->why;
	uint32_t number = fetch->known;
	free(fetch);
	if (why == NULL)
		return true;
	fprintf(stderr, "tallybench: %s: cannot read the balance of %s%u: %s\n", target->url,
	        options->prefix, number, why);
	return false;
}
