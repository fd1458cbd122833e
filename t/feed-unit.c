/*
 * Feeds over real sockets with a fake ledger and a fake journal: how much of a worker they may
 * have, and what becomes of those whose clients are slow, whose journal is gone or cannot be read.
 */
#include "../src/base/log.h"
#include "../src/server/feed.h"
#include "fake-tail.h"
#include "server-subject.h"

#define FEED(query) GET("/feed?format=ndjson" query)

#define CROWD  150
#define NARROW (64 * 1024) /* bytes of a client's socket */

static struct subject start_feeds(const struct server_settings *settings, uint64_t durable)
{
	fake_tail_reset(durable);
	return start(settings, true);
}

/* A client with a narrow socket that asks for REQUEST and reads nothing. */
static int quiet_client(const struct subject *subject, const char *request)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), size = NARROW;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (fd < 0 ||
	    connect(fd, (const struct sockaddr *)&subject->address, subject->address_length) < 0 ||
	    send(fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request))
		BAIL_OUT("a client cannot connect");
	return fd;
}

static bool wait_for(bool (*condition)(const struct subject *), const struct subject *subject)
{
	for (long end = now_ms() + PATIENCE; now_ms() < end; pass_time())
		if (condition(subject))
			return true;
	return false;
}

static bool calls_rest(const struct subject *subject)
{
	uint64_t before = fake_tail->calls;

	(void)subject;
	nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
	return before > 0 && fake_tail->calls == before;
}

/* Takes what has come of all feeds, without waiting. */
static void drop_all(const int *fds, int count)
{
	static char buffer[65536];

	for (int i = 0; i < count; i++)
		while (recv(fds[i], buffer, sizeof(buffer), MSG_DONTWAIT) > 0)
			;
}

/* COUNT requests, one after the other, beside the feeds.  How many were answered. */
static int ask_beside(const struct subject *subject, int count, const int *fds, int feeds)
{
	struct client *c = call(&client_a, subject);
	int answers = 0;

	for (int i = 0; i < count; i++) {
		say(c, GET("/healthz"));
		answers += answered(c) == 200;
		drop_all(fds, feeds);
	}
	hang_up(c);
	return answers;
}

/* More to be read than there ever will be time for, by many. */
static void test_slices(void)
{
	struct server_settings settings = defaults();
	int fds[CROWD];

	settings.max_connections = CROWD + 10;
	struct subject subject = start_feeds(&settings, FAKE_ENDLESS);
	for (int i = 0; i < CROWD; i++)
		fds[i] = quiet_client(&subject, FEED("&after=0"));
	drop_all(fds, CROWD);
	long begun = now_ms();
	uint64_t slices = counted(&subject, COUNTER_FEED_SLICES);
	uint64_t blocks = counted(&subject, COUNTER_FEED_BLOCKS);
	uint64_t calls = fake_tail->calls;
	cmp_ok(ask_beside(&subject, 200, fds, CROWD), "==", 200,
	       "%d feeds without end, and another connection is answered", CROWD);
	do {
		drop_all(fds, CROWD);
		pass_time();
	} while (now_ms() - begun < 300);
	/* A slice that is under way now is counted in its blocks and calls alone, or not at all. */
	blocks = counted(&subject, COUNTER_FEED_BLOCKS) - blocks;
	calls = fake_tail->calls - calls;
	slices = counted(&subject, COUNTER_FEED_SLICES) - slices + 1;
	long elapsed = now_ms() - begun;
	ok(blocks <= slices * FEED_SLICE && calls <= (slices + 1) * FEED_RECORDS,
	   "none of %ju slices had more than its bound: %ju blocks, %ju records", (uintmax_t)slices,
	   (uintmax_t)blocks, (uintmax_t)calls);
	ok(slices > 3 && blocks > (slices - 3) * FEED_SLICE / 2, "which they reach");
	cmp_ok((intmax_t)slices, "<=", (intmax_t)((double)elapsed / 1000 / FEED_REST) + 2,
	       "with a rest after each");
	for (int i = 0; i < CROWD; i++)
		close(fds[i]);
	stop(&subject, "slices");
}

/* What concerns nobody costs records, no bytes. */
static void test_filtered(void)
{
	struct server_settings settings = defaults();
	int fds[10];
	struct subject subject = start_feeds(&settings, FAKE_ENDLESS);

	for (int i = 0; i < 10; i++)
		fds[i] = quiet_client(&subject, FEED("&after=0&account=nobody"));
	cmp_ok(ask_beside(&subject, 200, fds, 10), "==", 200,
	       "feeds that look for what is not there");
	nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
	uint64_t calls = fake_tail->calls;
	uint64_t slices = counted(&subject, COUNTER_FEED_SLICES) + 1;
	ok(slices > 3 && calls <= slices * FEED_RECORDS && calls > (slices - 2) * FEED_RECORDS / 2,
	   "have so many records in %ju slices: %ju", (uintmax_t)slices, (uintmax_t)calls);
	for (int i = 0; i < 10; i++)
		close(fds[i]);
	stop(&subject, "filtered");
}

/* The next line's LSN; 0: there is none any more. */
static uint64_t next_lsn(struct client *client)
{
	char *line;

	while (!(line = memchr(client->body, '\n', client->body_length))) {
		if (take_chunk(client) <= 0)
			return 0;
	}
	size_t length = (size_t)(line + 1 - client->body);
	uint64_t lsn =
	    strncmp(client->body, "{\"lsn\":\"", 8) == 0 ? strtoull(client->body + 8, NULL, 10) : 0;
	if (lsn) {
		client->body_length -= length;
		memmove(client->body, client->body + length, client->body_length + 1);
	}
	return lsn;
}

static bool take_head(struct client *client)
{
	client->body_length = 0;
	client->body[0] = '\0';
	return take_until(client, "\r\n\r\n", client->head, sizeof(client->head)) &&
	       strstr(client->head, "HTTP/1.1 200 OK\r\n");
}

/* A client that takes nothing holds no more of the worker than a block. */
static void test_slow(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start_feeds(&settings, FAKE_ENDLESS);
	struct client *c = call(&client_b, &subject);
	int size = NARROW;
	uint64_t wrong = 0;

	setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	say(c, FEED("&after=0"));
	ok(wait_for(calls_rest, &subject), "for a client that takes nothing nothing more is read");
	uint64_t calls = fake_tail->calls;
	ok(ask_beside(&subject, 20, NULL, 0) == 20 && fake_tail->calls == calls,
	   "others are answered meanwhile");
	ok(take_head(c), "then it reads");
	for (uint64_t i = 1; i <= calls + 5000; i++)
		wrong += next_lsn(c) != i * 8;
	cmp_ok((intmax_t)wrong, "==", 0, "and misses nothing, before and after");

	/* What it had not got was removed meanwhile. */
	ok(wait_for(calls_rest, &subject), "it stops again");
	fake_tail->first = FAKE_ENDLESS / 2;
	uint64_t lsn, last = 0;
	while ((lsn = next_lsn(c)))
		last = lsn;
	char expected[64];
	snprintf(expected, sizeof(expected), "\"first\":\"%ju\"}", (uintmax_t)FAKE_ENDLESS / 2);
	ok(last > 0 && strstr(c->body, "{\"status\":\"error\",\"reason\":\"pruned\",") == c->body &&
	       strstr(c->body, expected),
	   "the journal was removed: its last line says so, and what is left");
	cmp_ok(take_chunk(c), "==", 0, "that was the end");
	ok(ended(c), "of the connection too");
	say(c = call(&client_b, &subject), FEED("&after=8"));
	ok(answered(c) == 410 && strstr(c->body, expected), "who begins there is told at once");
	hang_up(c);
	stop(&subject, "slow");
}

/* The memory of a worker's connections is bounded, and feeds leave some of it to others. */
static void test_memory(void)
{
	struct server_settings settings = defaults();
	int fds[CROWD];
	uint64_t wrong = 0;

	settings.max_connections = CROWD + 10;
	settings.buffer_memory = 1 << 20;
	settings.max_body = 1 << 16;
	struct subject subject = start_feeds(&settings, FAKE_ENDLESS);
	for (int i = 0; i < CROWD; i++)
		fds[i] = quiet_client(&subject, FEED("&after=0"));
	ok(wait_for(calls_rest, &subject), "more slow clients than there is memory for");
	struct client *c = call(&client_b, &subject);
	say(c, FEED("&after=0"));
	ok(take_head(c), "another feed has to wait");
	cmp_ok(ask_beside(&subject, 20, NULL, 0), "==", 20, "other requests have memory");
	for (int i = 0; i < CROWD; i++)
		close(fds[i]);
	for (uint64_t i = 1; i <= 5000; i++)
		wrong += next_lsn(c) != i * 8;
	cmp_ok((intmax_t)wrong, "==", 0, "and so has the feed, when there is some again");
	hang_up(c);
	stop(&subject, "memory");
}

static void test_journal(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start_feeds(&settings, 8 * 100);
	struct client *c = call(&client_b, &subject);

	fake_tail->later = 5;
	say(c, FEED("&after=0"));
	ok(take_head(c) && next_lsn(c) == 8 && fake_tail->later == 0,
	   "what is not in memory is asked for again");
	while (next_lsn(c) != 8 * 99)
		;
	fake_tail->failure = EIO;
	fake_tail->durable = 8 * 200;
	ok(next_lsn(c) == 0 && strstr(c->body, "\"reason\":\"read_failed\""),
	   "what cannot be read ends it, with the reason");
	ok(take_chunk(c) == 0 && ended(c), "and the connection");
	hang_up(c);
	stop(&subject, "journal");
}

/* Nobody looks while nothing happens, and a wake-up that is lost is made up for. */
static void test_wake(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start_feeds(&settings, 8 * 10);
	struct client *c = call(&client_b, &subject);

	subject.ledger->released = 8 * 10;
	say(c, FEED(""));
	ok(take_head(c), "a feed from now on");
	for (long end = now_ms() + PATIENCE; !subject.ledger->wanted && now_ms() < end;)
		pass_time();
	cmp_ok((intmax_t)subject.ledger->wanted, "==", 8 * 10 + 1, "wants to be woken");
	uint64_t slices = counted(&subject, COUNTER_FEED_SLICES);
	nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
	cmp_ok((intmax_t)(counted(&subject, COUNTER_FEED_SLICES) - slices), "==", 0,
	       "and does nothing until then");
	fake_tail->durable = 8 * 11;
	fake_ledger_release(subject.ledger, 8 * 11);
	cmp_ok((intmax_t)next_lsn(c), "==", 8 * 10, "it is woken");
	fake_tail->durable = 8 * 12;
	cmp_ok((intmax_t)next_lsn(c), "==", 8 * 11, "and looks by itself, if it is not");
	hang_up(c);
	stop(&subject, "wake");
}

/* A drain is not held up by who takes nothing. */
static void test_drain(void)
{
	struct server_settings settings = defaults();

	settings.drain_timeout = 60;
	settings.write_timeout = 60;
	struct subject subject = start_feeds(&settings, FAKE_ENDLESS);
	int slow = quiet_client(&subject, FEED("&after=0"));

	ok(wait_for(calls_rest, &subject), "one that takes nothing");
	long begun = now_ms();
	stop(&subject, "drain");
	cmp_ok(now_ms() - begun, "<", PATIENCE, "without waiting for it");
	close(slow);
}

int main(void)
{
	plan(NO_PLAN);
	log_open("stderr");
	log_set_level(LOG_LEVEL_ERROR);
	fake_tail_make();
	subject_history = (struct journal_reader *)fake_tail;
	test_slices();
	test_filtered();
	test_slow();
	test_memory();
	test_journal();
	test_wake();
	test_drain();
	return done_testing();
}
