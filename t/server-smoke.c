/*
 * A worker over real sockets with a fake ledger: answers held and released, their order,
 * deadlines, bounds, and every way to end.
 */
#include <errno.h>
#include <fcntl.h>

#include "../src/base/log.h"
#include "server-subject.h"

/* --- answers --- */

static void test_endpoints(int family, const char *name)
{
	struct server_settings settings = defaults();
	struct subject subject = start_on(family, &settings, true, 0);
	struct client *c = call(&client_a, &subject);

	say(c, GET("/"));
	cmp_ok(answered(c), "==", 200, "%s: GET /", name);
	ok(strstr(c->body, "{\"service\":\"tallyd\",\"version\":\"1.2.3\",\"uptime\":"), "about");
	ok(strstr(c->head, "\r\nDate: ") && !strstr(c->head, "Connection:"), "fields");
	say(c, GET("/healthz"));
	cmp_ok(answered(c), "==", 200, "GET /healthz");
	say(c, GET("/accounts/alice"));
	cmp_ok(answered(c), "==", 404, "an account before its first event");
	ok(strstr(c->body, "\"unknown_account\""), "has its reason");
	say(c, post("/events", ALICE));
	cmp_ok(answered(c), "==", 200, "POST /events");
	ok(strstr(c->body, "\"balance\":5,\"version\":1,\"lsn\":\"1\"}"), "the new balance: %s",
	   c->body);
	say(c, GET("/accounts/%61lice"));
	cmp_ok(answered(c), "==", 200, "the account");
	ok(strstr(c->head, "ETag: \"1\"\r\n") && strstr(c->body, "\"balance\":5"),
	   "its tag, its balance");
	say(c, "GET /accounts/alice HTTP/1.1\r\n" FIELDS "If-None-Match: \"0\", \"1\"\r\n\r\n");
	cmp_ok(answered(c), "==", 304, "a version that is known");
	say(c, "GET /accounts/alice HTTP/1.1\r\n" FIELDS "If-None-Match: \"11\"\r\n\r\n");
	cmp_ok(answered(c), "==", 200, "a version that is not");
	say(c, "HEAD /accounts/alice HTTP/1.1\r\n" FIELDS "\r\n");
	cmp_ok(take_answer(c, true), "==", 200, "HEAD of it");
	ok(strstr(c->head, "Content-Length: ") && silent(c), "has a length and no body");
	say(c, GET("/accounts/"));
	cmp_ok(answered(c), "==", 400, "an empty name");
	say(c, GET("/accounts/%00"));
	cmp_ok(answered(c), "==", 400, "a NUL in a name");
	ok(strstr(c->body, "\"invalid_account\""), "has its reason");
	say(c, post("/events", "{\"account\":\"alice\"}"));
	cmp_ok(answered(c), "==", 400, "an event without an amount");
	ok(strstr(c->body, "\"missing_amount\""), "has its reason");
	say(c, post("/events", "{\"account\":\"alice\",\"amount\":9223372036854775807}"));
	cmp_ok(answered(c), "==", 422, "an overflow");
	say(c, "DELETE /events HTTP/1.1\r\n" FIELDS "\r\n");
	cmp_ok(answered(c), "==", 405, "a wrong method");
	ok(strstr(c->head, "\r\nAllow: POST, OPTIONS\r\n"), "has Allow");
	say(c, "OPTIONS /events HTTP/1.1\r\n" FIELDS "\r\n");
	cmp_ok(answered(c), "==", 204, "OPTIONS");
	say(c, "OPTIONS * HTTP/1.1\r\n" FIELDS "\r\n");
	cmp_ok(answered(c), "==", 204, "OPTIONS *");
	say(c, GET("/nowhere"));
	cmp_ok(answered(c), "==", 404, "an unknown path");
	say(c, GET("/sleep?ms=60001"));
	cmp_ok(answered(c), "==", 400, "a sleep over its bound");
	say(c, "POST /echo HTTP/1.1\r\n" FIELDS "Content-Type: a/b\r\nTransfer-Encoding: "
	       "chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
	cmp_ok(answered(c), "==", 200, "POST /echo, chunked");
	is(c->body, "abcde", "gives the body back");
	ok(strstr(c->head, "Content-Type: a/b\r\n"), "and its type");
	say(c, "BREW / HTTP/1.1\r\n" FIELDS "\r\n");
	cmp_ok(answered(c), "==", 501, "an unknown method");
	ok(ended(c), "closes");
	hang_up(c);

	cmp_ok((intmax_t)counted(&subject, COUNTER_EVENTS_ACCEPTED), "==", 1, "counted accepted");
	cmp_ok((intmax_t)counted(&subject, COUNTER_EVENTS_REFUSED), "==", 1, "counted refused");
	cmp_ok((intmax_t)counted(&subject, COUNTER_EVENTS_INVALID), "==", 1, "counted invalid");
	stop(&subject, name);
}

static void test_media_types(void)
{
	static const struct {
		const char *type;
		unsigned status;
	} cases[] = {{"application/json", 200},
	             {"Application/JSON ; charset=utf-8", 200},
	             {"application/vnd.tally+json", 200},
	             {"text/plain", 200},
	             {"application/x-www-form-urlencoded", 200},
	             {"application/x-ndjson", 200},
	             {"application/xml", 415},
	             {"json", 415}};
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	struct client *c = call(&client_a, &subject);
	char text[512];
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(text, sizeof(text),
		         "POST /events HTTP/1.1\r\n" FIELDS
		         "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n" ALICE,
		         cases[i].type, strlen(ALICE));
		say(c, text);
		cmp_ok(answered(c), "==", cases[i].status, "%s", cases[i].type);
	}
	hang_up(c);
	stop(&subject, "media types");
}

static void test_rejections(void)
{
	static const struct {
		enum outcome outcome;
		unsigned status;
		const char *reason;
		bool retry;
	} cases[] = {{OUTCOME_QUEUE_FULL, 503, "\"queue_full\"", true},
	             {OUTCOME_DISK_FULL, 507, "\"disk_full\"", false},
	             {OUTCOME_TABLE_FULL, 507, "\"table_full\"", false}};
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, false);
	struct client *c = call(&client_a, &subject);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		subject.ledger->forced = (int)cases[i].outcome;
		say(c, post("/events", ALICE));
		cmp_ok(answered(c), "==", cases[i].status, "refused with %s", cases[i].reason);
		ok(strstr(c->body, "{\"status\":\"rejected\"") && strstr(c->body, cases[i].reason),
		   "the reason");
		ok(!!strstr(c->head, "Retry-After: 7\r\n") == cases[i].retry, "Retry-After");
	}
	subject.ledger->health = OUTCOME_DISK_FULL;
	say(c, GET("/healthz"));
	cmp_ok(answered(c), "==", 503, "GET /healthz with a full disk");
	ok(strstr(c->body, "\"disk_full\""), "says so");
	subject.ledger->health = OUTCOME_ACCEPTED;
	hang_up(c);
	cmp_ok((intmax_t)counted(&subject, COUNTER_EVENTS_REJECTED), "==", 3, "counted rejected");
	stop(&subject, "rejections");
}

static void test_held_answers(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, false);
	struct client *a = call(&client_a, &subject);
	struct client *b = call(&client_b, &subject);

	say(a, post("/events", ALICE));
	say(a, GET("/fast"));
	say(a, post("/events", ALICE));
	let_it_turn(&subject);
	for (long end = now_ms() + PATIENCE; subject.ledger->tail < 3 && now_ms() < end;)
		pass_time();
	let_it_turn(&subject);
	ok(silent(a), "nothing leaves before the journal has it");
	ok(subject.ledger->kicks > 0, "the journal was told");
	say(b, GET("/accounts/alice"));
	let_it_turn(&subject);
	ok(silent(b), "a balance that may vanish is not shown");

	fake_ledger_release(subject.ledger, 2);
	cmp_ok(answered(a), "==", 200, "the first event is durable");
	ok(strstr(a->body, "\"lsn\":\"1\""), "and answered");
	cmp_ok(answered(a), "==", 200, "and the request behind it");
	is(a->body, "{\"status\":\"ok\"}", "in order");
	let_it_turn(&subject);
	ok(silent(a), "the second event waits");
	ok(silent(b), "so does the reader of its balance");
	fake_ledger_release(subject.ledger, 3);
	cmp_ok(answered(a), "==", 200, "the second event is durable");
	ok(strstr(a->body, "\"balance\":10"), "and answered");
	cmp_ok(answered(b), "==", 200, "and the reader");

	/* The wake-up of a journal writer that died between its two steps is lost. */
	say(a, post("/events", ALICE));
	for (long end = now_ms() + PATIENCE; !subject.ledger->wanted && now_ms() < end;)
		pass_time();
	subject.ledger->wanted = 0;
	subject.ledger->released = 4;
	cmp_ok(answered(a), "==", 200, "a lost wake-up does not hang an answer");

	subject.ledger->deletion = 4;
	say(b, GET("/accounts"));
	for (long end = now_ms() + PATIENCE; subject.ledger->wanted != 5 && now_ms() < end;)
		pass_time();
	cmp_ok((intmax_t)subject.ledger->wanted, "==", 5,
	       "a listing waits for what it saw before it paused");
	fake_ledger_release(subject.ledger, 5);
	cmp_ok(answered(b), "==", 200, "and is answered then");
	hang_up(a);
	hang_up(b);
	stop(&subject, "held answers");
}

static void test_many_held(void)
{
	enum { MANY = 200 };
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, false);
	struct client *a = call(&client_a, &subject);
	for (int i = 0; i < MANY; i++)
		say(a, post("/events", ALICE));
	unsigned good = 0;
	for (uint64_t i = 0; i < MANY; i++) {
		char lsn[32];
		snprintf(lsn, sizeof(lsn), "\"lsn\":\"%d\"", (int)i + 1);
		for (long end = now_ms() + PATIENCE;
		     subject.ledger->tail < i + 2 && now_ms() < end;)
			pass_time();
		/* It waits for its group, and merged marks may hold it back until all are durable;
		   but never reorder. */
		fake_ledger_release(subject.ledger,
		                    i < QUEUE_MARKS / 2 ? i + GROUP_MAX + 1 : MANY + 1);
		good += answered(a) == 200 && strstr(a->body, lsn);
	}
	cmp_ok(good, "==", MANY, "pipelined events are answered in order");
	hang_up(a);
	stop(&subject, "pipelined events");
}

static void test_any_split(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	const char *request = post("/events", ALICE);
	size_t length = strlen(request), good = 0;
	struct client *c = call(&client_a, &subject);
	for (size_t at = 1; at < length; at++) {
		say_bytes(c, request, at);
		uint64_t before = counted(&subject, COUNTER_REQUESTS);
		say_bytes(c, request + at, length - at);
		good += answered(c) == 200 && counted(&subject, COUNTER_REQUESTS) == before + 1;
	}
	cmp_ok((intmax_t)good, "==", (intmax_t)length - 1, "split at every byte");
	for (size_t at = 0; at < length; at++)
		say_bytes(c, request + at, 1);
	cmp_ok(answered(c), "==", 200, "byte by byte");
	hang_up(c);
	stop(&subject, "splits");
}

static void test_continue(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	struct client *c = call(&client_a, &subject);
	say(c,
	    "POST /echo HTTP/1.1\r\n" FIELDS "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
	cmp_ok(take_answer(c, true), "==", 100, "the client is told to go on");
	say(c, "abc");
	cmp_ok(answered(c), "==", 200, "then answered");
	is(c->body, "abc", "with its body");
	say(c, "POST /echo HTTP/1.1\r\n" FIELDS
	       "Expect: 100-continue\r\nContent-Length: 1048577\r\n\r\n");
	cmp_ok(answered(c), "==", 413, "or told at once that it is too much");
	ok(strstr(c->head, "Connection: close\r\n") && ended(c), "and closed");
	hang_up(c);
	stop(&subject, "100-continue");
}

static void test_sleep(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	struct client *a = call(&client_a, &subject);
	long begun = now_ms();
	say(a, GET("/sleep?ms=200") GET("/fast"));
	let_it_turn(&subject);
	ok(silent(a), "others are served while one sleeps");
	cmp_ok(answered(a), "==", 200, "it wakes");
	is(a->body, "{\"slept_ms\":200}", "as told");
	cmp_ok(now_ms() - begun, ">=", 199, "in time");
	cmp_ok(answered(a), "==", 200, "the request behind it follows");
	is(a->body, "{\"status\":\"ok\"}", "in order");
	hang_up(a);
	stop(&subject, "sleep");
}

static void test_half_close(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, false);
	struct client *a = call(&client_a, &subject);
	say(a, post("/events", ALICE));
	say(a, GET("/sleep?ms=20"));
	shutdown(a->fd, SHUT_WR);
	let_it_turn(&subject);
	fake_ledger_release(subject.ledger, 2);
	cmp_ok(answered(a), "==", 200, "a client that sends no more still gets its answer");
	cmp_ok(answered(a), "==", 200, "and the next");
	ok(ended(a), "then the connection closes");
	hang_up(a);
	a = call(&client_a, &subject);
	say(a, "GET /fa");
	shutdown(a->fd, SHUT_WR);
	ok(ended(a), "half a request and the end is the end");
	hang_up(a);
	stop(&subject, "half close");
}

static void test_old_clients(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	struct client *a = call(&client_a, &subject);
	say(a, "GET /fast HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	ok(answered(a) == 200 && strstr(a->head, "Connection: keep-alive\r\n"),
	   "HTTP/1.0 may stay");
	say(a, "GET /fast HTTP/1.0\r\n\r\n");
	ok(answered(a) == 200 && strstr(a->head, "Connection: close\r\n"), "or not");
	ok(ended(a), "and is closed");
	hang_up(a);
	stop(&subject, "HTTP/1.0");
}

/* --- bounds --- */

static void test_deep_pipeline(void)
{
	enum { DEEP = 60000 };
	static char requests[DEEP * 80];
	struct server_settings settings = defaults();
	settings.buffer_memory = 1u << 19;
	struct subject subject = start(&settings, true);
	struct client *a = call(&client_a, &subject);
	size_t length = 0;
	for (int i = 0; i < DEEP; i++)
		length += (size_t)sprintf(
		    requests + length,
		    "POST /echo HTTP/1.1\r\n" FIELDS "Content-Length: 5\r\n\r\n%05d", i);
	pid_t sender = fork();
	if (sender == 0) {
		say_bytes(a, requests, length);
		_exit(0);
	}
	/* Nothing is read until the worker has stopped taking more. */
	uint64_t served = 0;
	for (long last = now_ms(), end = last + PATIENCE;
	     now_ms() - last < 100 && now_ms() < end;) {
		uint64_t now = counted(&subject, COUNTER_REQUESTS);
		if (now != served)
			last = now_ms();
		served = now;
		pass_time();
	}
	cmp_ok((intmax_t)served, "<", DEEP, "a client that does not read is not served for ever");
	let_it_turn(&subject);
	unsigned good = 0;
	for (int i = 0; i < DEEP; i++)
		good += answered(a) == 200 && atoi(a->body) == i;
	cmp_ok(good, "==", DEEP, "a pipeline of any depth is answered in order in bounded memory");
	waitpid(sender, NULL, 0);
	hang_up(a);
	stop(&subject, "deep pipeline");
}

static void test_large_bodies(void)
{
	static char body[1 << 20];
	char head[128];
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	struct client *a = call(&client_a, &subject);
	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (char)('a' + i % 26);
	size_t length = sizeof(body) - 1;
	snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\n" FIELDS "Content-Length: %zu\r\n\r\n",
	         length);
	for (int i = 0; i < 2; i++) {
		say(a, head);
		say_bytes(a, body, length);
		cmp_ok(answered(a), "==", 200, "a body of %zu bytes", length);
		ok(a->body_length == length && memcmp(a->body, body, length) == 0, "comes back");
	}
	hang_up(a);

	a = call(&client_a, &subject);
	snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\n" FIELDS "Content-Length: %d\r\n\r\n",
	         (1 << 20) + 1);
	say(a, head);
	say_bytes(a, body, 200000);
	cmp_ok(answered(a), "==", 413, "one byte more is refused");
	ok(ended(a), "and the client, still sending, sees that answer and no reset");
	hang_up(a);
	stop(&subject, "large bodies");
}

static void test_busy(void)
{
	struct server_settings settings = defaults();
	struct client *a = &client_a;
	int slow[2];
	settings.buffer_memory = 4096;
	struct subject subject = start(&settings, true);
	for (int i = 0; i < 2; i++) {
		slow[i] = dial(&subject);
		if (send(slow[i], "GET /fast HTT", 13, MSG_NOSIGNAL) != 13)
			fail("send");
	}
	call(a, &subject);
	say(a, GET("/fast"));
	unsigned status = answered(a);
	for (long end = now_ms() + PATIENCE; status == 200 && now_ms() < end; status = answered(a))
		say(a, GET("/fast"));
	cmp_ok(status, "==", 503, "no memory for an answer");
	ok(strstr(a->body, "\"busy\"") && strstr(a->head, "Retry-After: "), "is said at once");
	ok(ended(a), "and closes");
	hang_up(a);
	call(a, &subject);
	say(a, "GET /fa");
	cmp_ok(answered(a), "==", 503, "no memory to keep half a request");
	hang_up(a);
	close(slow[0]);
	for (status = 0; status != 200;) {
		call(a, &subject);
		say(a, GET("/fast"));
		status = answered(a);
		hang_up(a);
	}
	cmp_ok(status, "==", 200, "memory comes back with a connection's end");
	close(slow[1]);
	stop(&subject, "busy");
}

/* The worker's processor time, milliseconds. */
static long cpu_ms(pid_t pid)
{
	char path[64], line[512] = "";
	unsigned long user = 0, system = 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	FILE *file = fopen(path, "r");
	if (file && fgets(line, sizeof(line), file))
		sscanf(strrchr(line, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
		       &user, &system);
	if (file)
		fclose(file);
	return (long)((user + system) * 1000 / (unsigned long)sysconf(_SC_CLK_TCK));
}

static void test_full(struct subject *subject, int places, const char *what)
{
	int taken[64];
	for (int i = 0; i < places; i++)
		taken[i] = dial(subject);
	struct client *a = call(&client_a, subject);
	for (long end = now_ms() + PATIENCE;
	     counted(subject, COUNTER_ACCEPT_PAUSES) == 0 && now_ms() < end;)
		pass_time();
	cmp_ok((intmax_t)counted(subject, COUNTER_ACCEPT_PAUSES), ">", 0, "%s: a pause", what);
	say(a, GET("/fast"));
	long cpu = cpu_ms(subject->pid);
	struct pollfd poll_fd = {.fd = a->fd, .events = POLLIN};
	cmp_ok(poll(&poll_fd, 1, 400), "==", 0, "%s: the next one waits", what);
	cmp_ok(cpu_ms(subject->pid) - cpu, "<", 100, "%s: and the worker does not spin", what);
	for (int i = 0; i < places; i++)
		close(taken[i]);
	cmp_ok(answered(a), "==", 200, "%s: until others close", what);
	hang_up(a);
}

static void test_limits_of_connections(void)
{
	struct server_settings settings = defaults();
	settings.max_connections = 3;
	struct subject subject = start(&settings, true);
	test_full(&subject, 3, "max_connections");
	stop(&subject, "max_connections");

	settings.max_connections = 100;
	rlim_t files = (rlim_t)dup(0) + 16;
	subject = start_on(AF_INET, &settings, true, files);
	test_full(&subject, (int)files, "descriptors");
	stop(&subject, "descriptors");
}

static void test_fairness(void)
{
	enum { FLOOD = 40000 };
	static char requests[FLOOD * 60];
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	struct client *a = call(&client_a, &subject);
	struct client *b = call(&client_b, &subject);
	size_t length = 0;
	for (int i = 0; i < FLOOD; i++)
		length += (size_t)sprintf(requests + length, "%s", GET("/fast"));
	say(b, GET("/fast"));
	answered(b);
	freeze(&subject);
	pid_t sender = fork();
	if (sender == 0) {
		say_bytes(a, requests, length);
		_exit(0);
	}
	/* Both are readable when the worker goes on. */
	struct pollfd full = {.fd = a->fd, .events = POLLOUT};
	for (long end = now_ms() + 100; poll(&full, 1, 0) == 1 && now_ms() < end;)
		pass_time();
	uint64_t before = counted(&subject, COUNTER_REQUESTS);
	say(b, GET("/fast"));
	kill(subject.pid, SIGCONT);
	cmp_ok(answered(b), "==", 200, "one request beside a flood");
	cmp_ok((intmax_t)(counted(&subject, COUNTER_REQUESTS) - before), "<", FLOOD,
	       "is answered before the flood is");
	unsigned good = 0;
	for (int i = 0; i < FLOOD; i++)
		good += answered(a) == 200;
	cmp_ok(good, "==", FLOOD, "and the flood is too");
	waitpid(sender, NULL, 0);
	hang_up(a);
	hang_up(b);
	stop(&subject, "fairness");
}

static void test_slices(void)
{
	enum { MANY = 500 };
	static char flood[MANY * 128];
	static struct client after;
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	struct client *a = call(&client_a, &subject);
	struct client *before = call(&client_b, &subject);
	size_t length = 0;
	call(&after, &subject);
	let_it_turn(&subject);
	for (int i = 0; i < MANY; i++)
		length += (size_t)sprintf(flood + length, "%s", post("/events", ALICE));
	freeze(&subject);
	say(before, post("/events", ALICE));
	say_bytes(a, flood, length);
	say(&after, post("/events", ALICE));
	kill(subject.pid, SIGCONT);
	ok(answered(before) == 200 && answered(&after) == 200, "two requests beside a flood");
	uint64_t first = strtoull(strstr(before->body, "\"lsn\":\"") + 7, NULL, 10);
	uint64_t second = strtoull(strstr(after.body, "\"lsn\":\"") + 7, NULL, 10);
	cmp_ok((intmax_t)(first > second ? first : second), "<=", CONNECTION_SLICE_MAX + 2,
	       "are served after one slice of it");
	unsigned good = 0;
	for (int i = 0; i < MANY; i++)
		good += answered(a) == 200;
	cmp_ok(good, "==", MANY, "and the flood is too");
	hang_up(a);
	hang_up(before);
	hang_up(&after);
	stop(&subject, "slices");
}

static void test_held_bound(void)
{
	enum { MANY = 3000, ANSWER_MIN = 150 };
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, false);
	struct client *a = call(&client_a, &subject);
	pid_t sender = fork();
	if (sender == 0) {
		for (int i = 0; i < MANY; i++)
			say(a, post("/events", ALICE));
		_exit(0);
	}
	uint64_t tail = 0;
	for (long last = now_ms(); now_ms() - last < 100; pass_time()) {
		if (subject.ledger->tail != tail)
			last = now_ms();
		tail = subject.ledger->tail;
	}
	cmp_ok((intmax_t)tail, ">", 100, "one connection's events are taken ahead");
	cmp_ok((intmax_t)tail, "<", CONNECTION_OUT_MAX / ANSWER_MIN,
	       "but not more than its answers have room");
	subject.ledger->automatic = true;
	fake_ledger_release(subject.ledger, tail);
	unsigned good = 0;
	for (int i = 0; i < MANY; i++)
		good += answered(a) == 200;
	cmp_ok(good, "==", MANY, "and the rest when those have left");
	waitpid(sender, NULL, 0);
	hang_up(a);
	stop(&subject, "held bound");
}

/* --- deadlines --- */

static void test_deadlines(void)
{
	struct server_settings settings = defaults();
	settings.header_timeout = 0.3;
	settings.body_timeout = 0.3;
	settings.idle_timeout = 0.6;
	struct subject subject = start(&settings, true);
	struct client *a = call(&client_a, &subject);
	long begun = now_ms();
	bool open = true;
	say(a, "GET / HTTP/1.1\r\nHost: test\r\nX: ");
	while (open && now_ms() - begun < PATIENCE) {
		struct pollfd poll_fd = {.fd = a->fd, .events = POLLIN};
		say(a, "x");
		open = poll(&poll_fd, 1, 20) == 0;
	}
	cmp_ok(answered(a), "==", 408, "a header that trickles");
	ok(strstr(a->body, "\"header_timeout\"") && ended(a), "is refused and closed");
	cmp_ok(now_ms() - begun, ">=", 290, "not early");
	hang_up(a);

	call(a, &subject);
	say(a, "POST /echo HTTP/1.1\r\n" FIELDS "Content-Length: 9\r\n\r\nabc");
	cmp_ok(answered(a), "==", 408, "a body that does not come");
	ok(strstr(a->body, "\"body_timeout\"") && ended(a), "is refused and closed");
	hang_up(a);
	cmp_ok((intmax_t)counted(&subject, COUNTER_CONNECTIONS_TIMED_OUT), "==", 2, "both counted");

	call(a, &subject);
	begun = now_ms();
	say(a, GET("/fast"));
	cmp_ok(answered(a), "==", 200, "a client that goes idle");
	ok(ended(a) && now_ms() - begun >= 590, "is closed in silence");
	hang_up(a);
	stop(&subject, "deadlines");
}

static void test_body_rate(void)
{
	struct server_settings settings = defaults();
	settings.body_timeout = 0.1;
	settings.body_rate = 1000;
	struct subject subject = start(&settings, true);
	struct client *a = call(&client_a, &subject);
	/* Its length earns it 5 s, which a busy machine may need. */
	static char first[4000];
	char piece[64];
	memset(first, 'b', sizeof(first));
	memset(piece, 'b', sizeof(piece));
	say(a, "POST /echo HTTP/1.1\r\n" FIELDS "Content-Length: 5280\r\n\r\n");
	say_bytes(a, first, sizeof(first));
	long begun = now_ms();
	for (int i = 0; i < 20; i++) {
		say_bytes(a, piece, sizeof(piece));
		for (long next = begun + 20 * (i + 1); now_ms() < next;)
			pass_time();
	}
	cmp_ok(answered(a), "==", 200, "a body slower than body_timeout but at its rate");
	hang_up(a);
	stop(&subject, "body rate");
}

static void test_write_deadline(void)
{
	static char body[1 << 19];
	char head[128];
	struct server_settings settings = defaults();
	settings.write_timeout = 0.3;
	struct subject subject = start(&settings, true);
	struct client *a = call(&client_a, &subject);
	memset(body, 'w', sizeof(body));
	say(a, GET("/fast"));
	cmp_ok(answered(a), "==", 200, "a client that takes one answer");
	snprintf(head, sizeof(head), "POST /echo HTTP/1.1\r\n" FIELDS "Content-Length: %zu\r\n\r\n",
	         sizeof(body));
	pid_t sender = fork();
	if (sender == 0) {
		for (int i = 0; i < 40; i++) {
			say(a, head);
			if (send(a->fd, body, sizeof(body), MSG_NOSIGNAL) < 0)
				break;
		}
		_exit(0);
	}
	for (long end = now_ms() + PATIENCE;
	     counted(&subject, COUNTER_CONNECTIONS_OPEN) > 0 && now_ms() < end;)
		pass_time();
	cmp_ok((intmax_t)counted(&subject, COUNTER_CONNECTIONS_TIMED_OUT), "==", 1,
	       "a client that takes no answers is cut");
	cmp_ok((intmax_t)counted(&subject, COUNTER_CONNECTIONS_OPEN), "==", 0, "and gone");
	kill(sender, SIGKILL);
	waitpid(sender, NULL, 0);
	hang_up(a);
	stop(&subject, "write deadline");
}

/* --- ends --- */

static void wait_for_posts(const struct subject *subject, uint64_t posts)
{
	for (long end = now_ms() + PATIENCE; subject->ledger->tail <= posts && now_ms() < end;)
		pass_time();
}

static void test_drain(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, false);
	struct client *a = call(&client_a, &subject);
	struct client *b = call(&client_b, &subject);
	static struct client idle, late, ahead;

	call(&idle, &subject);
	say(&idle, GET("/fast"));
	answered(&idle);
	call(&ahead, &subject);
	say(&ahead, GET("/fast"));
	answered(&ahead);
	say(a, post("/events", ALICE));
	say(b, "POST /echo HTTP/1.1\r\n" FIELDS "Content-Length: 3\r\n\r\na");
	wait_for_posts(&subject, 1);
	let_it_turn(&subject);

	/* What is in the backlog or in a socket's buffer when the signal comes was started. */
	freeze(&subject);
	call(&late, &subject);
	say(&late, GET("/fast"));
	say(&ahead, GET("/fast"));
	kill(subject.pid, SIGTERM);
	kill(subject.pid, SIGCONT);
	ok(ended(&idle), "drain: an idle connection closes");
	ok(answered(&late) == 200 && ended(&late), "drain: the backlog is served");
	ok(answered(&ahead) == 200 && ended(&ahead),
	   "drain: a request in the socket's buffer is served");
	say(b, "bc");
	ok(answered(b) == 200 && strstr(b->head, "Connection: close\r\n"),
	   "drain: a started request is finished");
	is(b->body, "abc", "drain: in full");
	ok(ended(b), "drain: and closed");
	ok(silent(a), "drain: a held answer waits");
	fake_ledger_release(subject.ledger, 2);
	cmp_ok(answered(a), "==", 200, "drain: and leaves when it may");
	ok(ended(a), "drain: and closes");
	hang_up(&idle);
	hang_up(&late);
	hang_up(&ahead);
	hang_up(a);
	hang_up(b);
	cmp_ok(status_of(&subject), "==", 0, "drain: exit 0");
	forget(&subject);
}

static void test_gentle_drain(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, true);
	struct client *a = call(&client_a, &subject);
	say(a, GET("/fast"));
	answered(a);
	kill(subject.pid, SIGWINCH);
	say(a, GET("/fast") GET("/fast") GET("/healthz"));
	unsigned status = answered(a);
	for (long end = now_ms() + PATIENCE; !strstr(a->head, "close") && now_ms() < end;
	     status = answered(a)) {
		if (status == 200 && !strstr(a->head, "close") && silent(a))
			say(a, GET("/healthz"));
	}
	ok(strstr(a->head, "Connection: close\r\n"), "reload: the answer says that it is the last");
	ok(ended(a), "reload: and is");
	hang_up(a);
	cmp_ok(status_of(&subject), "==", 0, "reload: exit 0");
	forget(&subject);

	settings.drain_timeout = 0.3;
	subject = start(&settings, true);
	call(a, &subject);
	say(a, GET("/fast"));
	answered(a);
	kill(subject.pid, SIGWINCH);
	cmp_ok(status_of(&subject), "==", 0,
	       "reload: an idle connection lives until drain_timeout");
	ok(ended(a), "reload: then closes");
	hang_up(a);
	forget(&subject);
}

/* Sends TERM until the worker ends: signals that meet before they are seen count as one. */
static int status_after_terms(struct subject *subject)
{
	int status;
	for (long end = now_ms() + PATIENCE; now_ms() < end; pass_time()) {
		kill(subject->pid, SIGTERM);
		if (waitpid(subject->pid, &status, WNOHANG) == subject->pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	}
	return -1;
}

static void test_hurried_ends(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, false);
	struct client *a = call(&client_a, &subject);
	struct client *b = call(&client_b, &subject);
	long begun = now_ms();
	say(a, GET("/sleep?ms=60000"));
	let_it_turn(&subject);
	cmp_ok(status_after_terms(&subject), "==", 0, "a second SIGTERM cuts");
	cmp_ok(now_ms() - begun, "<", 5000, "without waiting for drain_timeout");
	hang_up(a);
	hang_up(b);
	forget(&subject);

	subject = start(&settings, false);
	call(a, &subject);
	call(b, &subject);
	say(a, post("/events", ALICE));
	say(b, GET("/sleep?ms=60000"));
	wait_for_posts(&subject, 1);
	let_it_turn(&subject);
	kill(subject.pid, SIGQUIT);
	ok(hear(b) == 0, "SIGQUIT waits for no client");
	fake_ledger_release(subject.ledger, 2);
	cmp_ok(answered(a), "==", 200, "but for what the journal has taken");
	cmp_ok(status_of(&subject), "==", 0, "SIGQUIT: exit 0");
	hang_up(a);
	hang_up(b);
	forget(&subject);

	subject = start(&settings, false);
	call(a, &subject);
	say(a, post("/events", ALICE));
	wait_for_posts(&subject, 1);
	kill(subject.pid, SIGQUIT);
	cmp_ok(status_of(&subject), "==", 0, "SIGQUIT does not wait for ever");
	ok(hear(a) <= 0 && a->length == 0, "what was not durable was not answered");
	hang_up(a);
	forget(&subject);
}

static void test_failures(void)
{
	struct server_settings settings = defaults();
	struct subject subject = start(&settings, false);
	struct client *a = call(&client_a, &subject);
	struct client *b = call(&client_b, &subject);
	say(a, post("/events", ALICE));
	wait_for_posts(&subject, 1);
	subject.ledger->forced = OUTCOME_JOURNAL_FAILED;
	say(b, post("/events", ALICE));
	cmp_ok(answered(b), "==", 503, "an event after the journal failed");
	ok(strstr(b->body, "\"journal_failed\""), "says so");
	subject.ledger->health = OUTCOME_JOURNAL_FAILED;
	fake_ledger_release(subject.ledger, 1);
	cmp_ok(status_of(&subject), "==", 71, "the worker exits 71");
	ok(hear(a) <= 0 && a->length == 0, "a held answer never left");
	hang_up(a);
	hang_up(b);
	forget(&subject);

	subject = start(&settings, false);
	call(a, &subject);
	call(b, &subject);
	say(a, post("/events", ALICE));
	wait_for_posts(&subject, 1);
	subject.ledger->forced = OUTCOME_POISONED;
	say(b, post("/events", ALICE));
	cmp_ok(status_of(&subject), "==", 70, "a poisoned region: the worker exits 70");
	ok(hear(b) <= 0 && b->length == 0, "without an answer");
	ok(hear(a) <= 0 && a->length == 0, "to anybody");
	hang_up(a);
	hang_up(b);
	forget(&subject);

	settings.buffer_memory = 5000;
	subject = (struct subject){.ledger = fake_ledger_new(true)};
	listen_somewhere(&subject, AF_INET);
	subject.pid = fork();
	if (subject.pid == 0)
		run_worker(&subject, &settings, -1, 0);
	cmp_ok(status_of(&subject), "==", 1, "settings that cannot be: the worker exits 1");
}

static void test_access_log(void)
{
	char path[] = "/tmp/server-smoke-XXXXXX";
	static char content[4096];
	struct server_settings settings = defaults();
	int fd = mkstemp(path);
	settings.access_log = path;
	struct subject subject = start(&settings, true);
	struct client *a = call(&client_a, &subject);
	say(a, GET("/fast?x=1"));
	answered(a);
	say(a, "BAD\r\n\r\n");
	answered(a);
	hang_up(a);
	stop(&subject, "access log");
	ssize_t length = read(fd, content, sizeof(content) - 1);
	content[length > 0 ? length : 0] = '\0';
	ok(strstr(content, "127.0.0.1 - - [") &&
	       strstr(content, "] \"GET /fast?x=1 HTTP/1.1\" 200 15 "),
	   "the access log has the answer");
	ok(strstr(content, "] \"BAD\" 400 "), "and the refusal: %s", content);
	close(fd);
	unlink(path);
}

int main(void)
{
	plan(NO_PLAN);
	/* Clients that misbehave are the subject: their lines in the log are noise here. */
	log_open("/dev/null");
	test_endpoints(AF_INET, "TCP");
	test_endpoints(AF_UNIX, "Unix socket");
	test_media_types();
	test_rejections();
	test_held_answers();
	test_many_held();
	test_any_split();
	test_continue();
	test_sleep();
	test_half_close();
	test_old_clients();
	test_deep_pipeline();
	test_large_bodies();
	test_busy();
	test_limits_of_connections();
	test_fairness();
	test_slices();
	test_held_bound();
	test_deadlines();
	test_body_rate();
	test_write_deadline();
	test_drain();
	test_gentle_drain();
	test_hurried_ends();
	test_failures();
	test_access_log();
	return done_testing();
}
