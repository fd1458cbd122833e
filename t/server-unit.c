/*
 * The parts of the server that need no socket: buffers, the queue of answers, routes, the
 * access log's lines.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../src/server/access_log.h"
#include "../src/server/buffer.h"
#include "../src/server/heads.h"
#include "../src/server/queue.h"
#include "../src/server/routes.h"
#include "../src/server/share.h"
#include "../shm/counter.h"
#include "tap/tap.h"

#define ARENA (64u * BUFFER_BLOCK_MIN)

static void buffers_have_bounds(void)
{
	errno = 0;
	ok(!buffers_new(BUFFER_BLOCK_MIN / 2) && errno == EINVAL, "an arena below one block");
	ok(!buffers_new(BUFFER_BLOCK_MIN * 3) && errno == EINVAL, "an arena not a power of two");
	ok(!buffers_new((size_t)BUFFER_MEMORY_MAX * 2) && errno == EINVAL, "an arena too large");

	struct buffers *buffers = buffers_new(BUFFER_BLOCK_MIN);
	size_t capacity = 0;
	void *block = buffer_take(buffers, BUFFER_BLOCK_MIN, &capacity);
	ok(block && capacity == BUFFER_BLOCK_MIN, "an arena of one block gives it");
	ok(!buffer_take(buffers, 1, &capacity), "and no second one");
	buffer_give(buffers, block);
	ok(!buffer_take(buffers, BUFFER_BLOCK_MIN + 1, &capacity), "nor one larger than itself");
	ok(buffer_take(buffers, 1, &capacity) == block, "and gives it again");
	buffers_free(buffers);

	buffers = buffers_new(BUFFER_MEMORY_MAX);
	block = buffer_take(buffers, BUFFER_MEMORY_MAX, &capacity);
	ok(block && capacity == BUFFER_MEMORY_MAX, "the largest arena is one block");
	buffer_give(buffers, block);
	buffers_free(buffers);
	buffers_free(NULL);
}

static void buffers_round_up(void)
{
	struct buffers *buffers = buffers_new(ARENA);
	static const size_t cases[][2] = {{1, 1},    {2047, 1}, {2048, 1},   {2049, 2},
	                                  {4096, 2}, {4097, 4}, {65536, 32}, {65537, 64}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t capacity = 0;
		void *block = buffer_take(buffers, cases[i][0], &capacity);
		cmp_ok((intmax_t)capacity, "==", (intmax_t)(cases[i][1] * BUFFER_BLOCK_MIN),
		       "%zu bytes", cases[i][0]);
		cmp_ok((intmax_t)buffers_used(buffers), "==", (intmax_t)capacity, "are counted");
		buffer_give(buffers, block);
	}
	buffers_free(buffers);
}

/* Takes and gives at random; each block is filled with its own number, so overlap is seen. */
static void buffers_never_overlap(void)
{
	struct buffers *buffers = buffers_new(ARENA);
	struct {
		unsigned char *bytes;
		size_t capacity;
		unsigned char mark;
	} held[64] = {0};
	bool whole = true;
	unsigned refused = 0;
	srand(1);
	for (int round = 0; round < 100000; round++) {
		size_t i = (size_t)rand() % 64;
		if (held[i].bytes) {
			whole &= held[i].bytes[0] == held[i].mark &&
			         held[i].bytes[held[i].capacity - 1] == held[i].mark;
			buffer_give(buffers, held[i].bytes);
			held[i].bytes = NULL;
			continue;
		}
		held[i].bytes = buffer_take(buffers, 1 + (size_t)rand() % 9000, &held[i].capacity);
		held[i].mark = (unsigned char)(1 + i);
		if (held[i].bytes)
			memset(held[i].bytes, held[i].mark, held[i].capacity);
		else
			refused++;
	}
	ok(whole, "100000 takes and gives: no block was written by another");
	ok(refused > 0, "the arena was full at times");
	for (size_t i = 0; i < 64; i++)
		buffer_give(buffers, held[i].bytes);
	cmp_ok((intmax_t)buffers_used(buffers), "==", 0, "everything came back");
	size_t capacity;
	ok(buffer_take(buffers, ARENA, &capacity) != NULL, "and has grown together again");
	buffers_free(buffers);
}

static void add(struct queue *queue, const char *bytes, uint64_t lsn)
{
	memcpy(queue_end(queue), bytes, strlen(bytes));
	queue_add(queue, strlen(bytes), lsn, (struct queue_answers){.count = 1, .began = 1});
}

/* All that depends on records below RELEASED; returns how many answers that were. */
static uint32_t let_go(struct queue *queue, uint64_t released)
{
	struct queue_answers answers;
	uint32_t count = 0;

	while (queue_release(queue, released, &answers))
		count += answers.count;
	return count;
}

static _Alignas(struct queue) char block_a[sizeof(struct queue) + 64];
static _Alignas(struct queue) char block_b[sizeof(struct queue) + 128];

static void queue_keeps_order(void)
{
	struct queue *queue = queue_init(block_a, sizeof(block_a));
	cmp_ok((intmax_t)queue_room(queue), "==", 64, "an empty queue has its whole room");
	add(queue, "aa", 0);
	cmp_ok((intmax_t)queue_ready(queue), "==", 2, "what depends on nothing may leave");
	add(queue, "bb", 10);
	add(queue, "cc", 0);
	cmp_ok((intmax_t)queue_ready(queue), "==", 2, "what comes behind a waiting one waits");
	cmp_ok((intmax_t)queue_waits_for(queue), "==", 10, "for its record");
	add(queue, "dd", 12);
	add(queue, "ee", 11);
	let_go(queue, 10);
	cmp_ok((intmax_t)queue_ready(queue), "==", 2, "released up to 10 does not release 10");
	let_go(queue, 11);
	cmp_ok((intmax_t)queue_ready(queue), "==", 6, "released up to 11 does, and what followed");
	cmp_ok((intmax_t)queue_waits_for(queue), "==", 12, "then the next");
	let_go(queue, 12);
	cmp_ok((intmax_t)queue_ready(queue), "==", 6, "an earlier record behind a later one waits");
	queue_sent(queue, 5);
	let_go(queue, 13);
	cmp_ok((intmax_t)queue_ready(queue), "==", 5, "all the rest may leave");
	cmp_ok((intmax_t)queue_waits_for(queue), "==", 0, "nothing waits");
	ok(memcmp(queue->bytes + queue->sent, "cddee", 5) == 0, "in order");
	queue_sent(queue, 5);
	cmp_ok((intmax_t)queue_unsent(queue), "==", 0, "all has left");
}

static void queue_merges_marks(void)
{
	struct queue *queue = queue_init(block_a, sizeof(block_a));
	for (uint64_t i = 1; i <= QUEUE_MARKS + 4; i++)
		add(queue, "x", i);
	let_go(queue, QUEUE_MARKS);
	cmp_ok((intmax_t)queue_ready(queue), "==", QUEUE_MARKS - 1,
	       "those with marks go one by one");
	let_go(queue, QUEUE_MARKS + 4);
	cmp_ok((intmax_t)queue_ready(queue), "==", QUEUE_MARKS - 1, "the merged wait for the last");
	let_go(queue, QUEUE_MARKS + 5);
	cmp_ok((intmax_t)queue_ready(queue), "==", QUEUE_MARKS + 4, "and then leave together");
}

static void queue_moves(void)
{
	struct queue *from = queue_init(block_a, sizeof(block_a));
	add(from, "0123456789", 0);
	add(from, "abcdef", 7);
	add(from, "ghi", 9);
	queue_sent(from, 4);
	struct queue *to = queue_init(block_b, sizeof(block_b));
	queue_move(to, from);
	cmp_ok((intmax_t)queue_room(to), "==", 128 - 15, "a larger block has more room");
	cmp_ok((intmax_t)queue_ready(to), "==", 6, "what may leave stays so");
	let_go(to, 8);
	cmp_ok((intmax_t)queue_ready(to), "==", 12, "marks move along");
	queue_sent(to, 12);
	queue_move(to, to);
	cmp_ok((intmax_t)queue_room(to), "==", 128 - 3, "moving in place makes room");
	let_go(to, 10);
	ok(queue_ready(to) == 3 && memcmp(to->bytes, "ghi", 3) == 0, "and keeps the rest");
}

static const struct route *find(const char *path, bool diagnostics, struct http_span *segment)
{
	return route_find(path, strlen(path), diagnostics, segment);
}

/* Who answers METHOD at PATH; NULL: nobody. */
static handler *answers(enum http_method method, const char *path)
{
	struct http_span segment;
	const struct route_method *found = route_method(find(path, false, &segment), method);
	return found ? found->handle : NULL;
}

static void routes_match(void)
{
	struct http_span segment;
	ok(answers(HTTP_GET, "/accounts/al%2Fice") == handle_account, "an account");
	find("/accounts/al%2Fice", false, &segment);
	ok(segment.at == 10 && segment.length == 8, "its name, raw");
	ok(find("/accounts/", false, &segment) && segment.length == 0, "an empty name is its own");
	ok(!find("/accounts/a/b", false, &segment), "two segments are not a name");
	ok(answers(HTTP_GET, "/accounts") == handle_accounts &&
	       answers(HTTP_POST, "/accounts") == handle_create,
	   "no name, all accounts");
	ok(answers(HTTP_GET, "/accounts/a%20b/holds") == handle_account_holds,
	   "what an account has");
	find("/accounts/a%20b/holds", false, &segment);
	ok(segment.at == 10 && segment.length == 5, "the name is in the middle");
	ok(!find("/accounts/a/b/holds", false, &segment), "and one segment");
	ok(answers(HTTP_POST, "/holds/x/capture") == handle_capture, "a hold's capture");
	ok(!find("/event", false, &segment) && !find("/eventss", false, &segment), "whole paths");
	ok(answers(HTTP_GET, "/") == handle_about, "the root is itself");
	ok(!find("", false, &segment), "no path is nothing");
	ok(!find("/fast", false, &segment) && !find("/sleep", false, &segment),
	   "diagnostics are off");
	ok(find("/fast", true, &segment) && find("/sleep", true, &segment), "or on");
	ok(answers(HTTP_HEAD, "/accounts/x") == handle_account, "HEAD goes with GET");
	ok(!answers(HTTP_POST, "/accounts/x") && !answers(HTTP_HEAD, "/events"),
	   "and not with POST");
}

static const char *const method_names[] = {
    [HTTP_GET] = "GET", [HTTP_POST] = "POST", [HTTP_PUT] = "PUT", [HTTP_DELETE] = "DELETE"};

/* Everything that has a name to be counted under is served, and counted under it. */
static void routes_have_names(void)
{
	bool good = true;
	unsigned count = 0;

	for (unsigned i = 1; i < ENDPOINTS; i++) {
		const struct endpoint_name *name = endpoint_name((enum endpoint)i);
		struct http_span segment;
		const struct route *route = find(name->path, true, &segment);
		for (int m = 0; route && m < ROUTE_METHODS_MAX && route->method[m].handle; m++) {
			const struct route_method *method = &route->method[m];
			if (strcmp(method_names[method->method], name->method) != 0)
				continue;
			good = good && method->endpoint == i;
			count++;
		}
	}
	ok(good, "each endpoint is counted under its own name");
	/* A command of Redis' protocol has no path. */
	cmp_ok(count, "==", ENDPOINTS - 2, "and each name is one's");
}

static struct head parsed(const char *bytes)
{
	struct head head = {0};
	http_request_init(&head.request);
	if (http_parse_head(&head.request, bytes, strlen(bytes)) != HTTP_DONE)
		fail("the head is one");
	return head;
}

static void heads_are_known(void)
{
	static struct heads heads;
	static char bytes[HEADS_KEPT + 1][HEADS_SIZE_MAX + 64];
	struct head head;
	ok(!heads_find(&heads, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27), "none is known at first");
	for (int i = 0; i <= HEADS_KEPT; i++) {
		sprintf(bytes[i], "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", i);
		head = parsed(bytes[i]);
		heads_keep(&heads, bytes[i], &head);
	}
	const struct head *found = heads_find(&heads, bytes[1], strlen(bytes[1]));
	ok(found && found->request.content_length == 1, "one that was kept is known");
	ok(!heads_find(&heads, bytes[1], strlen(bytes[1]) - 1), "when it is there to its end");
	ok(!heads_find(&heads, bytes[0], strlen(bytes[0])), "the oldest is forgotten");
	unsigned good = 0;
	for (int i = 1; i <= HEADS_KEPT; i++) {
		found = heads_find(&heads, bytes[i], sizeof(bytes[i]));
		good += found && found->request.content_length == (unsigned)i;
	}
	cmp_ok(good, "==", HEADS_KEPT, "each by its own bytes");
	char *last = strchr(bytes[1], '\0') - 5;
	*last = '7';
	ok(!heads_find(&heads, bytes[1], sizeof(bytes[1])), "another byte, another head");

	for (int length = HEADS_SIZE_MAX; length <= HEADS_SIZE_MAX + 1; length++) {
		int padding = length - (int)strlen("GET / HTTP/1.1\r\nHost: x\r\nX: \r\n\r\n");
		memset(bytes[1], 'x', HEADS_SIZE_MAX);
		sprintf(bytes[0], "GET / HTTP/1.1\r\nHost: x\r\nX: %.*s\r\n\r\n", padding,
		        bytes[1]);
		head = parsed(bytes[0]);
		heads_keep(&heads, bytes[0], &head);
		ok(!heads_find(&heads, bytes[0], sizeof(bytes[0])) == (length > HEADS_SIZE_MAX),
		   "a head of %d bytes", length);
	}
}

static void read_file(const char *path, char *target, size_t size)
{
	FILE *file = fopen(path, "r");
	size_t length = file ? fread(target, 1, size - 1, file) : 0;
	target[length] = '\0';
	if (file)
		fclose(file);
}

static void access_log_lines(void)
{
	char path[] = "/tmp/server-unit-XXXXXX";
	char moved[sizeof(path) + 2];
	char content[4096];
	int fd = mkstemp(path);
	struct access_log *log = access_log_open(path, false);
	struct access_entry entry = {.peer = "192.0.2.1",
	                             .request = "GET /\"\\\x01\xff HTTP/1.1",
	                             .request_length = 18,
	                             .status = 200,
	                             .bytes = 12,
	                             .lsn = 5,
	                             .started = 100.0};
	close(fd);
	access_log_add(log, &entry, 971186136000000, 100.0);
	access_log_release(log, 5, 100.1);
	ok(!access_log_pending(log), "a line waits for its record");
	access_log_release(log, 6, 100.25);
	access_log_flush(log);
	read_file(path, content, sizeof(content));
	is(content,
	   "192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] \"GET /\\x22\\x5C\\x01\\xFF HTTP/1.1\" 200 "
	   "12 250000\n",
	   "common log format and microseconds");

	snprintf(moved, sizeof(moved), "%s.1", path);
	ok(rename(path, moved) == 0 && access_log_adopt(log, access_log_file(path)) == 0,
	   "the file is moved away");
	char request[2000];
	memset(request, 'r', sizeof(request));
	entry.request = request;
	entry.request_length = sizeof(request);
	entry.lsn = 0;
	access_log_add(log, &entry, 971186136000000, 100.0);
	access_log_release(log, 0, 100.0);
	access_log_flush(log);
	read_file(path, content, sizeof(content));
	ok(strlen(content) < ACCESS_LOG_TEXT + 24 && strstr(content, "rr\" 200 12 0\n"),
	   "the new file has the next line, cut, with its status");

	entry.request_length = 1;
	entry.lsn = 9;
	for (int i = 0; i < ACCESS_LOG_WAITING; i++)
		access_log_add(log, &entry, 971186136000000, 100.0);
	ok(!access_log_pending(log), "as many lines wait as there is room for");
	access_log_add(log, &entry, 971186136000000, 100.0);
	ok(access_log_pending(log), "one more finishes the oldest early");
	access_log_close(log);
	unlink(path);
	unlink(moved);
	errno = 0;
	ok(!access_log_open("/nonexistent/log", false) && errno == ENOENT,
	   "a path that is not there");
}

/* The one line that ENTRY makes, in JSON. */
static const char *json_line(const struct access_entry *entry)
{
	static char content[4096];
	char path[] = "/tmp/server-unit-XXXXXX";
	int fd = mkstemp(path);
	struct access_log *log = access_log_open(path, true);

	close(fd);
	access_log_add(log, entry, 971186136000042, 100.0);
	access_log_close(log);
	read_file(path, content, sizeof(content));
	unlink(path);
	return content;
}

static void access_log_json(void)
{
	struct access_entry entry = {.peer = "192.0.2.1",
	                             .request = "GET /\"\\\x01\xff HTTP/1.1",
	                             .request_length = 18,
	                             .status = 200,
	                             .bytes = 12,
	                             .lsn = 5,
	                             .started = 1e18};
	char request[ACCESS_LOG_TEXT];
	bool good = true;

	is(json_line(&entry),
	   "{\"time\":\"2000-10-10T13:55:36.000042Z\",\"peer\":\"192.0.2.1\",\"request\":\"GET "
	   "/\\\\x22\\\\x5C\\\\x01\\\\xFF "
	   "HTTP/1.1\",\"status\":200,\"bytes\":12,\"lsn\":\"5\",\"us\":0}\n",
	   "a line in JSON");
	/* Wherever the request is cut, no escape is: the quote behind it is the string's end. */
	memset(request, '"', sizeof(request));
	entry.request = request;
	entry.bytes = SIZE_MAX;
	entry.lsn = UINT64_MAX;
	for (size_t plain = 0; plain < 8; plain++) {
		memset(request, 'r', plain);
		entry.request_length = sizeof(request);
		const char *line = json_line(&entry);
		good = good && strlen(line) <= ACCESS_LOG_TEXT + 24 &&
		       strstr(line, "\\\\x22\",\"status\":200,\"bytes\":18446744073709551615,"
		                    "\"lsn\":\"18446744073709551615\",\"us\":0}\n");
	}
	ok(good, "a long one is cut behind a whole byte of the request");
}

static void connections_are_shared(void)
{
	static struct counters one, two;
	const struct counters *peers[] = {&one, &two};

	ok(!share_exceeds(1000, peers, 2), "who is not accepting has no share");
	ok(!share_exceeds(1000, peers, 0), "nor has nobody");
	counter_store(&one, COUNTER_ACCEPTING, 1);
	counter_store(&two, COUNTER_ACCEPTING, 1);
	counter_store(&two, COUNTER_CONNECTIONS_OPEN, 80);
	ok(!share_exceeds(1, peers, 2), "one more than another has is no difference");
	ok(share_exceeds(2, peers, 2), "two more are");
	counter_store(&one, COUNTER_CONNECTIONS_OPEN, 80);
	ok(!share_exceeds(91, peers, 2), "of many, an eighth more is none");
	ok(share_exceeds(92, peers, 2), "above it there is");
	ok(!share_exceeds(0, peers, 2), "who has none takes the next");
}

int main(void)
{
	plan(NO_PLAN);
	buffers_have_bounds();
	buffers_round_up();
	buffers_never_overlap();
	queue_keeps_order();
	queue_merges_marks();
	queue_moves();
	routes_match();
	routes_have_names();
	heads_are_known();
	connections_are_shared();
	access_log_lines();
	access_log_json();
	return done_testing();
}
