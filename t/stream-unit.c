/*
 * Many events at once, over real sockets with a fake ledger: streams of lines, arrays, and single
 * events that wait one behind the other.
 */
#include <errno.h>
#include <fcntl.h>

#include "../src/base/log.h"
#include "../src/server/array.h"
#include "../src/server/group.h"
#include "../src/server/stream.h"
#include "server-subject.h"

#define STREAM "POST /events HTTP/1.1\r\n" FIELDS "Content-Type: application/x-ndjson\r\n"
#define NARROW (64 * 1024) /* bytes of a socket's buffer */
#define CHUNKS STREAM "Transfer-Encoding: chunked\r\n\r\n"

static char text[1 << 20], other_text[1 << 20];

static const char *stream_of(const char *body)
{
	snprintf(text, sizeof(text), STREAM "Content-Length: %zu\r\n\r\n%.*s", strlen(body),
	         (int)sizeof(text) - 256, body);
	return text;
}

/* BODY in chunks of SIZE bytes, without the head. */
static size_t chunked(char *target, const char *body, size_t size, bool end)
{
	size_t left = strlen(body), length = 0;
	while (left) {
		size_t here = left < size ? left : size;
		length += (size_t)sprintf(target + length, "%zx;name=\"va;lue\"\r\n", here);
		memcpy(target + length, body, here);
		length += here;
		length += (size_t)sprintf(target + length, "\r\n");
		body += here;
		left -= here;
	}
	if (end)
		length += (size_t)sprintf(target + length, "0\r\nTrailer: x\r\n\r\n");
	return length;
}

/* One answer's next line, which comes while its request goes on; "" at its end. */
static const char *next_line(struct client *client)
{
	static char line[8192];
	while (true) {
		char *feed = memchr(client->body, '\n', client->body_length);
		if (feed) {
			size_t length = (size_t)(feed - client->body);
			memcpy(line, client->body, length);
			line[length] = '\0';
			client->body_length -= length + 1;
			memmove(client->body, feed + 1, client->body_length);
			return line;
		}
		if (take_chunk(client) <= 0)
			return "";
	}
}

/* The head of an answer that goes on. */
static bool take_head(struct client *client)
{
	client->body_length = 0;
	return take_until(client, "\r\n\r\n", client->head, sizeof(client->head)) &&
	       strstr(client->head, "HTTP/1.1 200 OK\r\n") &&
	       strstr(client->head, "Transfer-Encoding: chunked\r\n");
}

static unsigned lines_in(const char *body)
{
	unsigned lines = 0;
	while ((body = strchr(body, '\n'))) {
		body++;
		lines++;
	}
	return lines;
}

/* --- what a line is answered --- */

static const char mixed[] = "{\"account\":\"a\",\"amount\":1}\n"
                            "\n\r\n"
                            "{\"account\":\"a\",\"amount\":2}\r\n"
                            "no event\n"
                            "{\"account\":\"\\u0061\",\"amount\":\"3\"}\n"
                            "{\"account\":\"b\",\"amount\":9223372036854775807}\n"
                            "{\"account\":\"b\",\"amount\":1}\n"
                            "{\"account\":\"a\"}\n"
                            "{\"account\":\"a\",\"amount\":4}";

static void check_mixed(struct client *c, uint64_t first, const char *what)
{
	char expected[2048], balance[4][64];
	static const int sums[] = {1, 3, 6, 10};
	for (int i = 0; i < 4; i++)
		snprintf(balance[i], sizeof(balance[i]),
		         "\"balance\":%d,\"version\":%d,\"lsn\":\"%d\"", sums[i], i + 1,
		         (int)first + i + (i == 3));
	snprintf(expected, sizeof(expected),
	         "{\"status\":\"accepted\",\"account\":\"a\",%s}\n"
	         "{\"status\":\"accepted\",\"account\":\"a\",%s}\n"
	         "{\"status\":\"error\",\"reason\":\"invalid_json\",",
	         balance[0], balance[1]);
	if (strncmp(c->body, expected, strlen(expected)) != 0) {
		is(c->body, expected, "%s", what);
		return;
	}
	ok(lines_in(c->body) == 8 && strstr(c->body, balance[2]) && strstr(c->body, balance[3]) &&
	       strstr(c->body, "\"reason\":\"overflow\"") &&
	       strstr(c->body, "\"reason\":\"missing_amount\""),
	   "%s", what);
}

static void test_lines(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	struct client *c = call(&client_a, &subject);
	say(c, stream_of(mixed));
	cmp_ok(answered(c), "==", 200, "a stream is answered");
	ok(strstr(c->head, "Content-Type: application/x-ndjson\r\n"), "with lines");
	check_mixed(c, 1, "each line has its answer, in order; a bad one costs only itself");
	say(c, stream_of(""));
	ok(answered(c) == 200 && c->body_length == 0, "an empty stream, an empty answer");
	say(c, stream_of("\r\n\n\r\n"));
	ok(answered(c) == 200 && c->body_length == 0, "empty lines are no events");
	say(c, GET("/fast"));
	cmp_ok(answered(c), "==", 200, "the connection lives on");
	cmp_ok((intmax_t)counted(&subject, COUNTER_EVENTS_ACCEPTED), "==", 5, "counted accepted");
	cmp_ok((intmax_t)counted(&subject, COUNTER_EVENTS_INVALID), "==", 2, "counted invalid");
	cmp_ok((intmax_t)counted(&subject, COUNTER_EVENTS_REFUSED), "==", 1, "counted refused");
	cmp_ok((intmax_t)counted(&subject, COUNTER_REQUESTS), "==", 4, "and requests");
	hang_up(c);
	stop(&subject, "lines");
}

static void test_types(void)
{
	static const struct {
		const char *type, *fields;
		unsigned status;
		bool stream;
	} cases[] = {
	    {"application/x-ndjson", "", 200, true},
	    {"Application/X-NDJSON; charset=utf-8", "", 200, true},
	    {"application/x-ndjsons", "", 415, false},
	    {"application/x-ndjson", "Origin: http://elsewhere\r\n", 403, false},
	    {"application/x-ndjson", "Idempotency-Key: k\r\n", 400, false},
	    {"application/x-ndjson", "If-Match: \"1\"\r\n", 400, false},
	};
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct client *c = call(&client_a, &subject);
		snprintf(text, sizeof(text),
		         "POST /events HTTP/1.1\r\n" FIELDS
		         "Content-Type: %s\r\n%sContent-Length: %zu\r\n\r\n" ALICE,
		         cases[i].type, cases[i].fields, strlen(ALICE));
		say(c, text);
		cmp_ok(answered(c), "==", cases[i].status, "%s %.20s", cases[i].type,
		       cases[i].fields);
		ok(!strstr(c->head, "chunked") == !cases[i].stream, "is a stream or not");
		hang_up(c);
	}
	struct client *c = call(&client_a, &subject);
	say(c, "PUT /events HTTP/1.1\r\n" FIELDS
	       "Content-Type: application/x-ndjson\r\nContent-Length: 0\r\n\r\n");
	cmp_ok(answered(c), "==", 405, "another method is none");
	hang_up(c);
	stop(&subject, "types");
}

/* However the bytes come, the answer is the same. */
static void test_any_split(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	struct client *c = call(&client_a, &subject);
	size_t good = 0, rounds = 0;
	static char whole[8192], stripped[8192];
	size_t head = strlen(CHUNKS);
	char *first = NULL;
	for (size_t size = 1; size <= 64; size += size < 8 ? 1 : 7) {
		memcpy(whole, CHUNKS, head);
		size_t length = head + chunked(whole + head, mixed, size, true);
		for (size_t at = 1; at < length; at += size < 8 ? 11 : 3) {
			memset(subject.ledger->accounts, 0, sizeof(subject.ledger->accounts));
			say_bytes(c, whole, at);
			pass_time();
			say_bytes(c, whole + at, length - at);
			if (answered(c) != 200)
				break;
			/* LSNs go on, everything else repeats. */
			char *to = stripped;
			for (const char *from = c->body; *from;) {
				if (strncmp(from, "\"lsn\":", 6) == 0)
					from = strchr(from, '}');
				*to++ = *from++;
			}
			*to = '\0';
			if (!first)
				first = strdup(stripped);
			rounds++;
			good += strcmp(first, stripped) == 0;
		}
	}
	ok(rounds > 300 && good == rounds, "split in chunks and pieces: %zu of %zu answers alike",
	   good, rounds);
	free(first);
	hang_up(c);
	stop(&subject, "any split");
}

/* --- bounds --- */

static void test_long_lines(void)
{
	struct server_settings settings = defaults();
	settings.buffer_memory = 1u << 20;
	struct subject subject = start(&settings, true);
	struct client *c = call(&client_a, &subject);
	char *at = other_text;
	at += sprintf(at, ALICE "%*s\n", (int)(GROUP_LINE_MAX - strlen(ALICE)), "");
	at += sprintf(at, ALICE "%*s\r\n", (int)(GROUP_LINE_MAX - strlen(ALICE)), "");
	at += sprintf(at, ALICE "%*s\n", (int)(GROUP_LINE_MAX + 1 - strlen(ALICE)), "");
	sprintf(at, ALICE);
	say(c, stream_of(other_text));
	cmp_ok(answered(c), "==", 200, "lines at their bound");
	cmp_ok((intmax_t)counted(&subject, COUNTER_EVENTS_ACCEPTED), "==", 3,
	       "4096 bytes are taken");
	ok(lines_in(c->body) == 4 && strstr(c->body, "\"reason\":\"line_too_long\""),
	   "4097 are not");

	say(c, CHUNKS);
	ok(take_head(c), "a stream begins");
	memset(other_text, 'x', 65536);
	for (int i = 0; i < 64; i++) {
		say(c, "10000\r\n");
		say_bytes(c, other_text, 65536);
		say(c, "\r\n");
	}
	ok(strstr(next_line(c), "line_too_long"), "4 MiB without an end, in 1 MiB of memory");
	say(c, "1\r\n\n\r\n1e\r\n" ALICE "\r\n1\r\n\n\r\n0\r\n\r\n");
	ok(strstr(next_line(c), "\"balance\":20,"), "the next line is an event again");
	is(next_line(c), "", "and the last");
	hang_up(c);
	stop(&subject, "long lines");
}

/* Waits until the worker has applied COUNT events, or patience ends. */
static bool applied(const struct subject *subject, uint64_t count)
{
	for (long end = now_ms() + PATIENCE; now_ms() < end; pass_time())
		if (counted(subject, COUNTER_EVENTS_ACCEPTED) >= count)
			return true;
	return false;
}

static void narrow(int fd)
{
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){NARROW}, sizeof(int));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){NARROW}, sizeof(int));
}

static void test_back_pressure(void)
{
	enum { LINES = 200000 };
	struct server_settings settings = defaults();
	settings.buffer_memory = 1u << 20;
	struct subject subject = start(&settings, true);
	/* What a kernel buffers by itself may be more than this whole stream (tcp_rmem). */
	narrow(subject.listener); /* and what it accepts from now on */
	struct client *c = call(&client_a, &subject);
	narrow(c->fd);
	size_t length = strlen(ALICE) + 1;
	snprintf(text, sizeof(text), STREAM "Content-Length: %zu\r\n\r\n", LINES * length);
	say(c, text);
	/* As much as the sockets and the worker hold; nobody reads. */
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	size_t total = LINES * length, sent = 0;
	for (size_t i = 0; i < 10000; i++)
		memcpy(other_text + i * length, ALICE "\n", length);
	for (long quiet = now_ms(); now_ms() - quiet < 300;) {
		ssize_t got =
		    send(c->fd, other_text + sent % length,
		         total - sent < 100 * length ? total - sent : 100 * length, MSG_NOSIGNAL);
		if (got <= 0) {
			pass_time();
			continue;
		}
		sent += (size_t)got;
		quiet = now_ms();
	}
	uint64_t stuck = counted(&subject, COUNTER_EVENTS_ACCEPTED);
	ok(sent < total && stuck < LINES,
	   "a client that does not read is not read either: %zu "
	   "bytes sent, %ju events applied",
	   sent, (uintmax_t)stuck);
	let_it_turn(&subject);

	unsigned good = 0;
	ok(take_head(c), "then it reads");
	for (unsigned i = 0; i < LINES; i++) {
		while (sent < total) {
			size_t here = total - sent < 100 * length ? total - sent : 100 * length;
			ssize_t got = send(c->fd, other_text + sent % length, here, MSG_NOSIGNAL);
			if (got <= 0)
				break;
			sent += (size_t)got;
		}
		char expected[64];
		snprintf(expected, sizeof(expected), "\"balance\":%u,", (i + 1) * 5);
		if (!strstr(next_line(c), expected))
			break;
		good++;
	}
	cmp_ok(good, "==", LINES, "and every line is answered, in order");
	is(next_line(c), "", "to the end");
	hang_up(c);
	stop(&subject, "back-pressure");
}

/* What a stream has to do is cut into slices: others are served in between. */
static void test_slices(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	struct client *a = call(&client_a, &subject);
	struct client *b = call(&client_b, &subject);
	size_t length = strlen(ALICE) + 1, lines = 3 * CONNECTION_SLICE_MAX * GROUP_MAX;
	say(b, GET("/fast"));
	answered(b);
	for (size_t i = 0; i < lines; i++)
		memcpy(other_text + i * length, ALICE "\n", length);
	other_text[lines * length] = '\0';
	freeze(&subject);
	say(a, stream_of(other_text));
	say(b, GET("/accounts/alice"));
	kill(subject.pid, SIGCONT);
	answered(b);
	const char *version = strstr(b->body, "\"version\":");
	unsigned long seen = version ? strtoul(version + 10, NULL, 10) : 0;
	ok(b->status == 404 || (seen > 0 && seen <= CONNECTION_SLICE_MAX * GROUP_MAX),
	   "another connection is answered between two slices: %lu of %zu", seen, lines);
	cmp_ok(answered(a), "==", 200, "the stream gets through");
	cmp_ok(lines_in(a->body), "==", (intmax_t)lines, "every line of it");
	cmp_ok((intmax_t)subject.ledger->largest, "==", GROUP_MAX, "in groups");
	hang_up(a);
	hang_up(b);
	stop(&subject, "slices");
}

/* --- the journal --- */

static void test_held(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, false);
	struct client *c = call(&client_a, &subject);
	say(c, CHUNKS "1f\r\n" ALICE "\n\r\n");
	ok(take_head(c), "a stream begins before it ends");
	ok(applied(&subject, 1), "its first line is applied");
	let_it_turn(&subject);
	ok(silent(c), "and waits for the disk");
	fake_ledger_release(subject.ledger, 2);
	ok(strstr(next_line(c), "\"balance\":5,"), "which lets it go");
	say(c, "1f\r\n" ALICE "\n\r\n1f\r\n" ALICE "\n\r\n0\r\n\r\n");
	ok(applied(&subject, 3), "two more");
	let_it_turn(&subject);
	ok(silent(c), "wait");
	fake_ledger_release(subject.ledger, 4);
	ok(strstr(next_line(c), "\"balance\":10,") && strstr(next_line(c), "\"balance\":15,"),
	   "and go");
	is(next_line(c), "", "with the end");
	hang_up(c);
	stop(&subject, "held");
}

static void test_full_queue(void)
{
	enum { LINES = 100, FIRST = 37 };
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	struct client *c = call(&client_a, &subject);
	other_text[0] = '\0';
	for (int i = 0; i < LINES; i++)
		strcat(other_text,
		       i % 3 ? ALICE "\n" : "{\"account\":\"\\u0061lice\",\"amount\":5}\n");
	subject.ledger->room = FIRST;
	say(c, stream_of(other_text));
	ok(take_head(c), "the queue will be full in the middle");
	unsigned good = 0;
	char expected[64];
	for (int i = 0; i < FIRST; i++) {
		snprintf(expected, sizeof(expected), "\"balance\":%d,", (i + 1) * 5);
		good += strstr(next_line(c), expected) != NULL;
	}
	cmp_ok(good, "==", FIRST, "what it has room for is answered");
	uint64_t attempts = subject.ledger->attempts;
	long begun = now_ms();
	for (int i = 0; i < 20; i++)
		let_it_turn(&subject);
	while (now_ms() < begun + 100)
		pass_time();
	attempts = subject.ledger->attempts - attempts;
	ok(silent(c), "the rest waits, and is not refused");
	/* A try is the group and its first member alone. */
	ok(attempts > 0 &&
	       attempts <= (uint64_t)((double)(now_ms() - begun) / 1e3 / STREAM_WAIT) * 2 + 4,
	   "with a look now and then: %ju", (uintmax_t)attempts);
	subject.ledger->room = -1;
	for (int i = FIRST; i < LINES; i++) {
		snprintf(expected, sizeof(expected), "\"balance\":%d,", (i + 1) * 5);
		good += strstr(next_line(c), expected) != NULL;
	}
	cmp_ok(good, "==", LINES, "once there is room each is applied, once, in order");
	is(next_line(c), "", "to the end");
	cmp_ok((intmax_t)counted(&subject, COUNTER_EVENTS_REJECTED), "==", 0, "none was rejected");
	hang_up(c);
	stop(&subject, "full queue");
}

static void test_failures(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	struct client *c = call(&client_a, &subject);
	subject.ledger->forced = OUTCOME_DISK_FULL;
	say(c, stream_of(ALICE "\n" ALICE "\n"));
	cmp_ok(answered(c), "==", 200, "a full disk");
	ok(strstr(c->body, "{\"status\":\"rejected\",\"reason\":\"disk_full\"") == c->body &&
	       lines_in(c->body) == 2,
	   "rejects each line");
	cmp_ok((intmax_t)counted(&subject, COUNTER_EVENTS_REJECTED), "==", 2, "counted");
	subject.ledger->forced = OUTCOME_POISONED;
	say(c, stream_of(ALICE "\n" ALICE "\n"));
	cmp_ok(status_of(&subject), "==", 70, "a poisoned region ends the worker");
	ok(c->length == 0 && hear(c) <= 0, "which answers nothing");
	hang_up(c);
	forget(&subject);
}

/* --- how a stream ends --- */

static void test_ends(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	struct client *c = call(&client_a, &subject);

	say(c, CHUNKS "1f\r\n" ALICE "\n\r\n1e\r\n" ALICE "\r\nxyz\r\n");
	ok(take_head(c) && strstr(next_line(c), "\"balance\":5,"), "before a broken chunk");
	ok(strstr(next_line(c), "\"reason\":\"bad_chunk\""), "the last line names it");
	ok(strcmp(next_line(c), "") == 0 && ended(c), "and the connection closes");
	hang_up(c);
	cmp_ok((intmax_t)counted(&subject, COUNTER_EVENTS_ACCEPTED), "==", 1,
	       "an unfinished line is not applied");

	call(c, &subject);
	say(c, CHUNKS "1f\r\n" ALICE "\n\r\n1e\r\n" ALICE "\r\n");
	shutdown(c->fd, SHUT_WR);
	ok(take_head(c) && strstr(next_line(c), "\"balance\":10,"), "before a half-close");
	ok(strstr(next_line(c), "\"reason\":\"incomplete_body\""), "the last line names it");
	ok(strcmp(next_line(c), "") == 0 && ended(c), "and the connection closes");
	hang_up(c);
	cmp_ok((intmax_t)counted(&subject, COUNTER_EVENTS_ACCEPTED), "==", 2,
	       "an unfinished line is not applied");

	call(c, &subject);
	say(c, CHUNKS "1f\r\n" ALICE "\n\r\n");
	ok(take_head(c) && strstr(next_line(c), "\"balance\":15,"), "before a client's death");
	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
	hang_up(c);
	for (long end = now_ms() + PATIENCE;
	     counted(&subject, COUNTER_CONNECTIONS_OPEN) > 0 && now_ms() < end;)
		pass_time();
	cmp_ok((intmax_t)counted(&subject, COUNTER_CONNECTIONS_OPEN), "==", 0, "it is forgotten");

	call(c, &subject);
	say(c, "POST /events HTTP/1.0\r\nContent-Type: application/x-ndjson\r\nConnection: "
	       "keep-alive\r\nContent-Length: 61\r\n\r\n" ALICE "\n" ALICE);
	ok(take_until(c, "\r\n\r\n", c->head, sizeof(c->head)) &&
	       strstr(c->head, "Connection: close\r\n") && !strstr(c->head, "chunked"),
	   "HTTP/1.0 knows no chunks");
	while (hear(c) > 0)
		;
	c->bytes[c->start + c->length] = '\0';
	ok(strncmp(c->bytes + c->start, "{\"status\":\"accepted\"", 20) == 0 &&
	       lines_in(c->bytes + c->start) == 2,
	   "its answer ends with the connection");
	hang_up(c);

	call(c, &subject);
	say(c, STREAM "Expect: 100-continue\r\nContent-Length: 30\r\n\r\n");
	ok(take_until(c, "\r\n\r\n", c->head, sizeof(c->head)) &&
	       strstr(c->head, "HTTP/1.1 100 Continue\r\n"),
	   "who waits for a word gets it");
	say(c, ALICE);
	cmp_ok(answered(c), "==", 200, "before the answer");
	say(c, STREAM "Connection: close\r\nContent-Length: 30\r\n\r\n" ALICE);
	ok(answered(c) == 200 && strstr(c->head, "Connection: close\r\n") && ended(c),
	   "Connection: close");
	hang_up(c);
	stop(&subject, "ends");
}

static void test_deadlines(void)
{
	struct server_settings settings = defaults();
	settings.header_timeout = settings.body_timeout = 0.1;
	settings.idle_timeout = 2;
	struct subject subject = start(&settings, true);
	struct client *c = call(&client_a, &subject);
	unsigned good = 0;
	say(c, CHUNKS);
	take_head(c);
	for (int i = 0; i < 10; i++) {
		for (long end = now_ms() + 50; now_ms() < end;)
			pass_time();
		say(c, "1f\r\n" ALICE "\n\r\n");
		good += strstr(next_line(c), "accepted") != NULL;
	}
	cmp_ok(good, "==", 10, "a stream may go on as long as something comes");
	ok(strstr(next_line(c), "\"reason\":\"body_timeout\""), "silence ends it by name");
	ok(strcmp(next_line(c), "") == 0 && ended(c), "and closes");
	hang_up(c);
	cmp_ok((intmax_t)counted(&subject, COUNTER_CONNECTIONS_TIMED_OUT), "==", 1, "counted");
	stop(&subject, "deadlines");
}

static void test_drain(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, false);
	struct client *a = call(&client_a, &subject);
	struct client *b = call(&client_b, &subject);
	say(a, CHUNKS "1f\r\n" ALICE "\n\r\n");
	say(b, CHUNKS);
	ok(take_head(a) && take_head(b) && applied(&subject, 1), "two streams");
	freeze(&subject);
	say(a, "1f\r\n" ALICE "\n\r\n1f\r\n" ALICE "\n\r\n");
	kill(subject.pid, SIGTERM);
	kill(subject.pid, SIGCONT);
	ok(strstr(next_line(b), "\"reason\":\"draining\""), "a drain tells the idle one at once");
	ok(strcmp(next_line(b), "") == 0 && ended(b), "and closes it");
	ok(applied(&subject, 3), "lines that had arrived are applied");
	fake_ledger_release(subject.ledger, 4);
	ok(strstr(next_line(a), "\"balance\":5,") && strstr(next_line(a), "\"balance\":10,") &&
	       strstr(next_line(a), "\"balance\":15,"),
	   "and answered");
	ok(strstr(next_line(a), "\"reason\":\"draining\""), "then it says why it ends");
	ok(strcmp(next_line(a), "") == 0 && ended(a), "and closes");
	hang_up(a);
	hang_up(b);
	cmp_ok(status_of(&subject), "==", 0, "the worker ends");
	forget(&subject);
}

/* A reload: another worker takes what is new, and this one has time. */
static void test_gentle_drain(void)
{
	struct server_settings settings = defaults();
	settings.drain_timeout = 3;
	struct subject subject = start(&settings, true);
	struct client *a = call(&client_a, &subject);
	struct client *b = call(&client_b, &subject);
	say(a, CHUNKS "1f\r\n" ALICE "\n\r\n");
	say(b, CHUNKS "1f\r\n" ALICE "\n\r\n");
	ok(take_head(a) && take_head(b) && applied(&subject, 2), "two streams");
	next_line(a);
	next_line(b);
	kill(subject.pid, SIGWINCH);
	say(a, "1f\r\n" ALICE "\n\r\n0\r\n\r\n");
	ok(strstr(next_line(a), "\"balance\":15,") && strcmp(next_line(a), "") == 0 && ended(a),
	   "a gentle drain lets one end");
	ok(strstr(next_line(b), "\"reason\":\"draining\""),
	   "and ends the other when its time is over");
	ok(strcmp(next_line(b), "") == 0 && ended(b), "politely");
	hang_up(a);
	hang_up(b);
	cmp_ok(status_of(&subject), "==", 0, "the worker ends");
	forget(&subject);
}

/* --- arrays --- */

static void test_arrays(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	struct client *c = call(&client_a, &subject);
	say(c, post("/events", " [ " ALICE ",\r\n {\"account\"\n:\"alice\"\r\n,\"amount\":1},7 ,"
	                       "[" ALICE "]," ALICE "]\n"));
	cmp_ok(answered(c), "==", 200, "an array");
	ok(strstr(c->head, "Content-Type: application/json\r\n"), "of JSON");
	ok(strncmp(c->body, "[{\"status\":\"accepted\",\"account\":\"alice\",\"balance\":5,", 50) ==
	           0 &&
	       strstr(c->body, "},{\"status\":\"accepted\",\"account\":\"alice\",\"balance\":6,") &&
	       strstr(c->body, "},{\"status\":\"error\",\"reason\":\"not_an_object\"") &&
	       strstr(c->body, "\"balance\":11,") && c->body[c->body_length - 1] == ']',
	   "each element by itself: %s", c->body);
	say(c, post("/events", "[]"));
	answered(c);
	is(c->body, "[]", "nothing in, nothing out");
	say(c, post("/events", "[" ALICE "," ALICE));
	cmp_ok(answered(c), "==", 400, "a broken array");
	say(c, post("/events", "[" ALICE "]x"));
	cmp_ok(answered(c), "==", 400, "and one with something behind it");
	say(c, post("/events?atomic=maybe", "[" ALICE "]"));
	ok(answered(c) == 400 && strstr(c->body, "\"invalid_atomic\""), "atomic is true or false");
	say(c, "POST /events HTTP/1.1\r\n" FIELDS
	       "Idempotency-Key: k\r\nContent-Length: 32\r\n\r\n[" ALICE "]");
	cmp_ok(answered(c), "==", 400, "one id for several events");
	cmp_ok((intmax_t)counted(&subject, COUNTER_EVENTS_ACCEPTED), "==", 3, "none of it applied");

	for (size_t count = ARRAY_EVENTS_MAX; count <= ARRAY_EVENTS_MAX + 1; count++) {
		char *at = other_text;
		for (size_t i = 0; i < count; i++)
			at += sprintf(at, "%c" ALICE, i ? ',' : '[');
		sprintf(at, "]");
		snprintf(text, sizeof(text),
		         "POST /events HTTP/1.1\r\n" FIELDS "Content-Length: %zu\r\n\r\n%.*s",
		         strlen(other_text), (int)sizeof(text) / 2, other_text);
		say(c, text);
		answered(c);
		unsigned accepted = 0;
		for (char *in = c->body; (in = strstr(in, "\"accepted\"")); in++)
			accepted++;
		if (count == ARRAY_EVENTS_MAX)
			ok(c->status == 200 && accepted == count, "%zu events: %u", count,
			   accepted);
		else
			ok(c->status == 413 && strstr(c->body, "too_many_events"),
			   "one more is too many");
	}
	subject.ledger->room = 2;
	say(c, post("/events", "[" ALICE "," ALICE "," ALICE "]"));
	answered(c);
	const char *rejected = strstr(c->body, "\"rejected\"");
	ok(c->status == 200 && rejected && strstr(rejected, "\"queue_full\"") &&
	       !strstr(rejected + 1, "accepted"),
	   "a full queue rejects the rest: %s", c->body);
	say(c, GET("/fast"));
	cmp_ok(answered(c), "==", 200, "the connection lives on");
	hang_up(c);
	stop(&subject, "arrays");
}

/* --- single events that wait one behind the other --- */

#define KEYED(body)                                                                                \
	"POST /events HTTP/1.1\r\n" FIELDS                                                         \
	"Idempotency-Key: \"k\"\r\nContent-Length: 30\r\n\r\n" body

static const char *const requests[] = {
    "POST /events HTTP/1.1\r\n" FIELDS "Content-Length: 30\r\n\r\n" ALICE,
    "POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: "
    "chunked\r\n\r\n10\r\n{\"account\":\"bob\"\r\n0c\r\n,\"amount\":2}\r\n0\r\n\r\n",
    "POST /events HTTP/1.1\r\n" FIELDS "Content-Length: 4\r\n\r\nnone",
    "POST /events HTTP/1.1\r\n" FIELDS
    "Content-Type: text/html\r\nContent-Length: 30\r\n\r\n" ALICE,
    "POST /events HTTP/1.1\r\n" FIELDS "Accept: application/problem+json\r\nContent-Length: "
    "2\r\n\r\n{}",
    "POST /events HTTP/1.1\r\n" FIELDS
    "Origin: http://elsewhere\r\nContent-Length: 30\r\n\r\n" ALICE,
    "POST /events HTTP/1.1\r\n" FIELDS "Content-Length: 32\r\n\r\n[" ALICE "]",
    STREAM "Content-Length: 61\r\n\r\n" ALICE "\n" ALICE,
    GET("/accounts/alice"),
    "HEAD /accounts/bob HTTP/1.1\r\n" FIELDS "\r\n",
    GET("/nowhere"),
    "POST /events HTTP/1.1\r\n" FIELDS
    "Content-Length: 46\r\n\r\n{\"account\":\"max\",\"amount\":9223372036854775807}",
    KEYED(ALICE),
    "MALFORMED\r\n\r\n",
};

#define REQUESTS (sizeof(requests) / sizeof(requests[0]) - 1) /* the last one closes */

static void mask(char *bytes, const char *before, size_t length)
{
	for (char *at = bytes; (at = strstr(at, before)); at += strlen(before))
		memset(at + strlen(before), '?', length);
}

/* All that the worker sends until it closes, but for the times. */
static void hear_all(struct client *c, char *target)
{
	while (hear(c) > 0)
		;
	size_t length = c->length;
	take(c, target, length);
	target[length] = '\0';
	mask(target, "\nDate: ", REPLY_DATE_LENGTH);
	mask(target, "\"created\":\"", 27);
	mask(target, "\"updated\":\"", 27);
}

/* Asks for them one by one, or all at once; what was answered, in *TARGET. */
static void ask(const unsigned char *order, size_t count, bool at_once, char *target)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	struct client *c = call(&client_a, &subject);
	static char all[1 << 17];
	size_t length = 0;
	for (size_t i = 0; i < count; i++) {
		size_t here = strlen(requests[order[i]]);
		memcpy(all + length, requests[order[i]], here);
		length += here;
		if (at_once)
			continue;
		uint64_t before = counted(&subject, COUNTER_REQUESTS);
		say_bytes(c, requests[order[i]], here);
		for (long end = now_ms() + PATIENCE;
		     counted(&subject, COUNTER_REQUESTS) == before && now_ms() < end;)
			;
	}
	if (at_once)
		say_bytes(c, all, length);
	shutdown(c->fd, SHUT_WR);
	hear_all(c, target);
	if (at_once)
		ok(subject.ledger->groups > 0, "some were applied together: up to %ju",
		   (uintmax_t)subject.ledger->largest);
	hang_up(c);
	stop(&subject, at_once ? "at once" : "one by one");
}

static void test_groups_answer_alike(void)
{
	enum { COUNT = 400 };
	static char single[1 << 20], together[1 << 20];
	unsigned char order[COUNT];
	srand(7);
	for (int i = 0; i < COUNT; i++)
		order[i] = rand() % 3 ? 0 : (unsigned char)((size_t)rand() % REQUESTS);
	order[COUNT - 1] = REQUESTS;
	ask(order, COUNT, false, single);
	ask(order, COUNT, true, together);
	ok(strlen(single) > COUNT * 100, "%zu bytes of answers", strlen(single));
	ok(strcmp(single, together) == 0,
	   "together they are answered as one by one, byte for byte");
	if (strcmp(single, together) != 0) {
		size_t at = 0;
		while (single[at] == together[at])
			at++;
		diag("at byte %zu: %.200s\nnot: %.200s", at, together + at, single + at);
	}
}

static void test_groups_and_full_queue(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	struct client *c = call(&client_a, &subject);
	unsigned accepted = 0, rejected = 0;
	text[0] = '\0';
	for (int i = 0; i < 24; i++)
		strcat(text, post("/events", ALICE));
	subject.ledger->room = GROUP_MAX + 3;
	freeze(&subject);
	say(c, text);
	kill(subject.pid, SIGCONT);
	for (int i = 0; i < 24; i++) {
		answered(c);
		accepted += c->status == 200 && rejected == 0;
		rejected += c->status == 503;
	}
	ok(accepted == GROUP_MAX + 3 && rejected == 24 - GROUP_MAX - 3,
	   "a queue with room for some takes those that come first: %u", accepted);
	cmp_ok((intmax_t)subject.ledger->largest, "==", GROUP_MAX, "the first came together");

	subject.ledger->room = -1;
	subject.ledger->forced = OUTCOME_POISONED;
	freeze(&subject);
	say(c, text);
	kill(subject.pid, SIGCONT);
	cmp_ok(status_of(&subject), "==", 70, "a poisoned region ends the worker");
	ok(c->length == 0 && hear(c) <= 0, "which answers nothing");
	hang_up(c);
	forget(&subject);
}

/* Without memory for a whole group's answers, smaller groups are made. */
static void test_groups_and_memory(void)
{
	struct server_settings settings = defaults();
	settings.buffer_memory = 8192;
	struct subject subject = start(&settings, true);
	struct client *c = call(&client_a, &subject);
	unsigned good = 0;
	text[0] = '\0';
	for (int i = 0; i < 12; i++)
		strcat(text, post("/events", ALICE));
	say(c, text);
	for (int i = 0; i < 12; i++)
		good += answered(c) == 200;
	ok(good == 12 && subject.ledger->largest < 12, "in 8 KiB, %ju at most together",
	   (uintmax_t)subject.ledger->largest);
	hang_up(c);
	stop(&subject, "little memory");
}

static void test_access_log(void)
{
	char path[] = "/tmp/stream-unit-XXXXXX";
	static char content[8192];
	struct server_settings settings = defaults();
	int fd = mkstemp(path);
	settings.access_log = path;
	struct subject subject = start(&settings, true);
	struct client *a = call(&client_a, &subject);
	say(a, stream_of(ALICE "\n" ALICE "\n"));
	answered(a);
	size_t bytes = a->body_length;
	say(a, KEYED(ALICE) KEYED(ALICE));
	answered(a);
	answered(a);
	hang_up(a);
	stop(&subject, "access log");
	ssize_t length = read(fd, content, sizeof(content) - 1);
	content[length > 0 ? length : 0] = '\0';
	char expected[64];
	snprintf(expected, sizeof(expected), "] \"POST /events HTTP/1.1\" 200 %zu ", bytes);
	ok(strstr(content, expected), "the access log has one line for a stream: %s", content);
	cmp_ok(lines_in(content), "==", 3, "and one for each of a group");
	close(fd);
	unlink(path);
}

int main(void)
{
	plan(NO_PLAN);
	log_open("/dev/null");
	test_lines();
	test_types();
	test_any_split();
	test_long_lines();
	test_back_pressure();
	test_slices();
	test_held();
	test_full_queue();
	test_failures();
	test_ends();
	test_deadlines();
	test_drain();
	test_gentle_drain();
	test_arrays();
	test_groups_answer_alike();
	test_groups_and_full_queue();
	test_groups_and_memory();
	test_access_log();
	return done_testing();
}
