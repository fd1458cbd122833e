/*
 * The HTTP parser alone: the corpus in every split, every limit at its last good and its first
 * bad value, the small readers, and random damage.
 */
#include "../src/wire/http.h"
#include "tap/tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ENTRIES_MAX     512
#define BYTES_MAX       (64 * 1024)
#define EXPECTED_MAX    24
#define BODY_MAX        (1024 * 1024)
#define SPLITS_MAX      2000 /* longer requests are split at every 61st offset only */
#define CORPUS_LINE_MAX 8192
#define FUZZ_ROUNDS     400000
#define FUZZ_SECONDS    2.0
#define FUZZ_SEED       UINT64_C(0x7a11d0001)

struct expectation {
	char key[40];
	char *value;
	size_t length;
};

struct entry {
	char name[80];
	char reason[40];
	bool accepted;
	bool framing;
	int status;
	char *bytes;
	size_t length;
	size_t expected;
	struct expectation expectation[EXPECTED_MAX];
};

static struct entry entries[ENTRIES_MAX];
static size_t entry_count;

/* What follows every request of the corpus, to see where the parser thinks it ends. */
static const char next_request[] =
    "POST /next HTTP/1.1\r\nHost: next\r\nContent-Length: 3\r\n\r\nend";

static const char *const field_names[HTTP_KNOWN_FIELDS] = {
    [HTTP_ACCEPT] = "accept",
    [HTTP_ACCESS_CONTROL_REQUEST_HEADERS] = "access-control-request-headers",
    [HTTP_ACCESS_CONTROL_REQUEST_METHOD] = "access-control-request-method",
    [HTTP_AUTHORIZATION] = "authorization",
    [HTTP_CONTENT_TYPE] = "content-type",
    [HTTP_HOST] = "host",
    [HTTP_IDEMPOTENCY_KEY] = "idempotency-key",
    [HTTP_IF_MATCH] = "if-match",
    [HTTP_IF_NONE_MATCH] = "if-none-match",
    [HTTP_LAST_EVENT_ID] = "last-event-id",
    [HTTP_ORIGIN] = "origin",
    [HTTP_REFERER] = "referer",
    [HTTP_USER_AGENT] = "user-agent",
};

static const char *const method_names[] = {
    [HTTP_GET] = "GET",     [HTTP_HEAD] = "HEAD",     [HTTP_POST] = "POST",
    [HTTP_PUT] = "PUT",     [HTTP_DELETE] = "DELETE", [HTTP_OPTIONS] = "OPTIONS",
    [HTTP_PATCH] = "PATCH",
};

/* ---- the corpus ---- */

static void *must_have(void *memory)
{
	if (memory == NULL)
		BAIL_OUT("out of memory");
	return memory;
}

static char *copy_bytes(const char *bytes, size_t length)
{
	char *copy = must_have(malloc(length > 0 ? length : 1));

	memcpy(copy, bytes, length);
	return copy;
}

/* Undoes the corpus' escapes in place; returns the new length. */
static size_t unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from != '\0'; from++) {
		if (*from != '\\') {
			*to++ = *from;
			continue;
		}
		from++;
		switch (*from) {
		case 'r':
			*to++ = '\r';
			break;
		case 'n':
			*to++ = '\n';
			break;
		case 't':
			*to++ = '\t';
			break;
		case '0':
			*to++ = '\0';
			break;
		case '\\':
			*to++ = '\\';
			break;
		case 'x': {
			char digits[3] = {from[1], from[2], '\0'};

			*to++ = (char)strtol(digits, NULL, 16);
			from += 2;
			break;
		}
		default:
			BAIL_OUT("the corpus has an unknown escape \\%c", *from);
		}
	}
	return (size_t)(to - text);
}

static void add_bytes(struct entry *entry, char *line)
{
	unsigned long times = 1;
	char *text = line + 2;

	if (line[1] != ' ') {
		times = strtoul(line + 1, &text, 10);
		text += 2;
	}
	size_t length = unescape(text);

	entry->bytes = must_have(realloc(entry->bytes, entry->length + times * length + 1));
	for (; times > 0; times--) {
		memcpy(entry->bytes + entry->length, text, length);
		entry->length += length;
	}
}

static void add_expectation(struct entry *entry, char *line)
{
	char *key = line + 2;
	char *space = strchr(key, ' ');
	char nothing[] = "";
	char *value = space == NULL ? nothing : space + 1;

	if (entry->expected == EXPECTED_MAX)
		BAIL_OUT("too many expectations for %s", entry->name);
	struct expectation *expectation = &entry->expectation[entry->expected++];

	if (space != NULL)
		*space = '\0';
	snprintf(expectation->key, sizeof(expectation->key), "%.39s", key);
	expectation->length = unescape(value);
	expectation->value = copy_bytes(value, expectation->length);
}

static void add_entry(const char *line)
{
	struct entry *entry = &entries[entry_count++];
	char kind[16] = "";
	char status[8];

	if (entry_count == ENTRIES_MAX)
		BAIL_OUT("the corpus has too many entries");
	if (sscanf(line, "accept %7s %79s", status, entry->name) == 2)
		entry->accepted = true;
	else if (sscanf(line, "refuse %d %15s %39s %79s", &entry->status, kind, entry->reason,
	                entry->name) != 4)
		BAIL_OUT("the corpus has an entry that cannot be read: %s", line);
	entry->framing = strcmp(kind, "framing") == 0;
}

static FILE *open_corpus(void)
{
	const char *source = getenv("TALLYD_SRC");
	const char *places[] = {source, source, ".", ".", ".."};
	const char *names[] = {"t/http-corpus.txt", "http-corpus.txt"};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		char path[4096];

		if (places[i] == NULL)
			continue;
		snprintf(path, sizeof(path), "%s/%s", places[i], names[i % 2]);
		FILE *file = fopen(path, "r");

		if (file != NULL)
			return file;
	}
	BAIL_OUT("t/http-corpus.txt is not in $TALLYD_SRC nor in the current directory");
}

static void read_corpus(void)
{
	static char line[CORPUS_LINE_MAX];
	FILE *file = open_corpus();

	while (fgets(line, sizeof(line), file) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (line[0] == '#' || line[0] == '\0')
			continue;
		if (line[0] == '<')
			add_bytes(&entries[entry_count - 1], line);
		else if (line[0] == '=')
			add_expectation(&entries[entry_count - 1], line);
		else
			add_entry(line);
	}
	fclose(file);
}

/* ---- a request that has been read ---- */

struct outcome {
	enum http_progress progress;
	struct http_request request;
	char *buffer;  /* exactly as large as what was fed, so that ASan sees one byte too many */
	size_t length; /* what is left in it */
};

static void drop(struct outcome *outcome)
{
	free(outcome->buffer);
}

static enum http_progress parse(struct outcome *outcome, uint64_t body_max)
{
	enum http_progress progress =
	    http_parse_head(&outcome->request, outcome->buffer, outcome->length);

	if (progress == HTTP_DONE)
		progress =
		    http_parse_body(&outcome->request, outcome->buffer, &outcome->length, body_max);
	return progress;
}

/*
 * Feeds BYTES in pieces that end at the offsets of ENDS (the last is LENGTH).  The buffer moves
 * with each piece, as a connection's may.
 */
static struct outcome feed(const char *bytes, const size_t *ends, size_t count, uint64_t body_max)
{
	struct outcome outcome = {.progress = HTTP_MORE};
	size_t fed = 0;

	http_request_init(&outcome.request);
	for (size_t i = 0; i < count && outcome.progress == HTTP_MORE; i++) {
		size_t more = ends[i] - fed;
		size_t total = outcome.length + more;
		char *buffer = must_have(malloc(total > 0 ? total : 1));

		memcpy(buffer, outcome.buffer != NULL ? outcome.buffer : "", outcome.length);
		memcpy(buffer + outcome.length, bytes + fed, more);
		free(outcome.buffer);
		outcome.buffer = buffer;
		outcome.length += more;
		fed = ends[i];
		outcome.progress = parse(&outcome, body_max);
	}
	/* What was not fed lies behind what is left, as if it had come by now. */
	size_t total = outcome.length + (ends[count - 1] - fed);

	outcome.buffer = must_have(realloc(outcome.buffer, total > 0 ? total : 1));
	memcpy(outcome.buffer + outcome.length, bytes + fed, ends[count - 1] - fed);
	outcome.length = total;
	return outcome;
}

static struct outcome feed_whole(const char *bytes, size_t length, uint64_t body_max)
{
	return feed(bytes, &length, 1, body_max);
}

static struct outcome feed_bytes(const char *bytes, size_t length, uint64_t body_max)
{
	size_t *ends = must_have(malloc((length + 1) * sizeof(*ends)));

	for (size_t i = 0; i <= length; i++)
		ends[i] = i;
	struct outcome outcome = feed(bytes, ends, length + 1, body_max);

	free(ends);
	return outcome;
}

static struct outcome feed_string(const char *text)
{
	return feed_whole(text, strlen(text), BODY_MAX);
}

static bool same_span(struct http_span a, struct http_span b)
{
	return a.at == b.at && a.length == b.length;
}

static bool same_results(const struct http_request *a, const struct http_request *b)
{
	for (size_t i = 0; i < HTTP_KNOWN_FIELDS; i++) {
		if (!same_span(a->field[i], b->field[i]))
			return false;
	}
	return a->method == b->method && a->minor == b->minor && a->keep_alive == b->keep_alive &&
	       a->expect_continue == b->expect_continue && a->chunked == b->chunked &&
	       a->has_length == b->has_length && a->content_length == b->content_length &&
	       same_span(a->method_name, b->method_name) && same_span(a->path, b->path) &&
	       same_span(a->query, b->query) && a->repeated == b->repeated &&
	       a->head_length == b->head_length && a->body_length == b->body_length;
}

static bool same_outcome(const struct outcome *a, const struct outcome *b)
{
	if (a->progress != b->progress)
		return false;
	if (a->progress == HTTP_REFUSED)
		return a->request.status == b->request.status &&
		       strcmp(a->request.reason, b->request.reason) == 0 &&
		       strcmp(a->request.detail, b->request.detail) == 0;
	return same_results(&a->request, &b->request) && a->length == b->length &&
	       memcmp(a->buffer, b->buffer, a->length) == 0;
}

/* ---- the corpus, asserted ---- */

static void put(char *text, size_t *length, const char *bytes, size_t count)
{
	memcpy(text + *length, bytes, count);
	*length += count;
}

static void put_string(char *text, size_t *length, const char *string)
{
	put(text, length, string, strlen(string));
}

static void put_span(char *text, size_t *length, const struct outcome *outcome,
                     struct http_span span)
{
	if (span.at == 0 && span.length == 0)
		put_string(text, length, "-");
	else
		put(text, length, outcome->buffer + span.at, span.length);
}

static void put_repeated(char *text, size_t *length, const struct http_request *request)
{
	for (size_t i = 0; i < HTTP_KNOWN_FIELDS; i++) {
		if (request->repeated & (UINT32_C(1) << i)) {
			put_string(text, length, *length > 0 ? " " : "");
			put_string(text, length, field_names[i]);
		}
	}
}

/* The value of KEY as the corpus would write it; returns its length. */
static size_t value_of(const struct outcome *outcome, const char *key, char *text)
{
	const struct http_request *request = &outcome->request;
	size_t length = 0;
	char number[32];

	if (strcmp(key, "method") == 0) {
		/* Leading empty lines aside, the name may begin at 0: it is never absent. */
		put(text, &length, outcome->buffer + request->method_name.at,
		    request->method_name.length);
	} else if (strcmp(key, "minor") == 0) {
		put_string(text, &length, request->minor == 0 ? "0" : "1");
	} else if (strcmp(key, "path") == 0) {
		put_span(text, &length, outcome, request->path);
	} else if (strcmp(key, "query") == 0) {
		put_span(text, &length, outcome, request->query);
	} else if (strcmp(key, "keep_alive") == 0) {
		put_string(text, &length, request->keep_alive ? "1" : "0");
	} else if (strcmp(key, "expect") == 0) {
		put_string(text, &length, request->expect_continue ? "1" : "0");
	} else if (strcmp(key, "chunked") == 0) {
		put_string(text, &length, request->chunked ? "1" : "0");
	} else if (strcmp(key, "length") == 0) {
		snprintf(number, sizeof(number), "%llu",
		         (unsigned long long)request->content_length);
		put_string(text, &length, request->has_length ? number : "-");
	} else if (strcmp(key, "body") == 0) {
		put(text, &length, outcome->buffer + request->head_length,
		    (size_t)request->body_length);
	} else if (strcmp(key, "repeated") == 0) {
		put_repeated(text, &length, request);
	} else {
		for (size_t i = 0; i < HTTP_KNOWN_FIELDS; i++) {
			if (strcmp(key, field_names[i]) == 0) {
				put_span(text, &length, outcome, request->field[i]);
				return length;
			}
		}
		BAIL_OUT("the corpus has an unknown key %s", key);
	}
	return length;
}

static bool method_agrees(const struct outcome *outcome)
{
	const struct http_request *request = &outcome->request;
	const char *name = outcome->buffer + request->method_name.at;
	size_t length = request->method_name.length;

	for (size_t i = HTTP_GET; i <= HTTP_PATCH; i++) {
		if (strlen(method_names[i]) == length && memcmp(method_names[i], name, length) == 0)
			return request->method == (enum http_method)i;
	}
	return request->method == HTTP_UNKNOWN_METHOD;
}

static bool expectations_hold(const struct entry *entry, const struct outcome *outcome)
{
	static char text[BYTES_MAX];
	bool good = true;

	for (size_t i = 0; i < entry->expected; i++) {
		const struct expectation *wanted = &entry->expectation[i];
		size_t length = value_of(outcome, wanted->key, text);

		if (length != wanted->length || memcmp(text, wanted->value, length) != 0) {
			diag("%s: %s is \"%.*s\", not \"%.*s\"", entry->name, wanted->key,
			     (int)length, text, (int)wanted->length, wanted->value);
			good = false;
		}
	}
	return good;
}

/* Does what follows the request begin where the parser says, and read as the next one? */
static bool next_reads(const struct outcome *outcome)
{
	size_t end = outcome->request.head_length + (size_t)outcome->request.body_length;

	if (outcome->length - end != sizeof(next_request) - 1 ||
	    memcmp(outcome->buffer + end, next_request, sizeof(next_request) - 1) != 0)
		return false;
	struct outcome next = feed_string(outcome->buffer + end);
	bool good = next.progress == HTTP_DONE && next.request.body_length == 3;

	drop(&next);
	return good;
}

static bool read_as_expected(const struct entry *entry, const struct outcome *outcome)
{
	if (entry->accepted)
		return ok(outcome->progress == HTTP_DONE && expectations_hold(entry, outcome) &&
		              method_agrees(outcome),
		          "%s: read", entry->name) &&
		       ok(next_reads(outcome), "%s: the next one begins behind it", entry->name);
	bool refused = outcome->progress == HTTP_REFUSED;

	if (!refused || outcome->request.status != entry->status ||
	    strcmp(outcome->request.reason, entry->reason) != 0)
		diag("%s: progress %d, status %d, reason %s", entry->name, outcome->progress,
		     refused ? outcome->request.status : 0, refused ? outcome->request.reason : "");
	return ok(refused && outcome->request.status == entry->status &&
	              strcmp(outcome->request.reason, entry->reason) == 0,
	          "%s: refused with %d %s", entry->name, entry->status, entry->reason);
}

static bool splits_agree(const char *bytes, size_t length, const struct outcome *whole)
{
	size_t stride = length <= SPLITS_MAX ? 1 : 61;
	bool good = true;

	for (size_t at = 0; at <= length && good; at += stride) {
		size_t ends[] = {at, length};
		struct outcome split = feed(bytes, ends, 2, BODY_MAX);

		good = same_outcome(&split, whole);
		if (!good)
			diag("split at %zu of %zu differs", at, length);
		drop(&split);
	}
	return good;
}

static void test_entry(const struct entry *entry)
{
	size_t length = entry->length + (entry->accepted ? sizeof(next_request) - 1 : 0);
	char *bytes = must_have(malloc(length + 1));

	memcpy(bytes, entry->bytes, entry->length);
	memcpy(bytes + entry->length, next_request, length - entry->length);
	struct outcome whole = feed_whole(bytes, length, BODY_MAX);
	struct outcome single = feed_bytes(bytes, length, BODY_MAX);

	/* The next request is compared as a string. */
	whole.buffer = must_have(realloc(whole.buffer, whole.length + 1));
	whole.buffer[whole.length] = '\0';
	read_as_expected(entry, &whole);
	ok(same_outcome(&whole, &single), "%s: the same byte by byte", entry->name);
	ok(splits_agree(bytes, length, &whole), "%s: the same split anywhere", entry->name);
	drop(&whole);
	drop(&single);
	free(bytes);
}

/* Every prefix of a good request wants more, and nothing of it is taken as complete. */
static void test_prefixes(const struct entry *entry)
{
	bool good = true;

	for (size_t length = 0; length < entry->length && good; length++) {
		struct outcome outcome = feed_whole(entry->bytes, length, BODY_MAX);

		good = outcome.progress == HTTP_MORE;
		if (!good)
			diag("the first %zu bytes: progress %d", length, outcome.progress);
		drop(&outcome);
	}
	ok(good, "%s: every prefix wants more", entry->name);
}

static void test_corpus(void)
{
	size_t counts[2] = {0, 0};
	size_t framing = 0;

	read_corpus();
	for (size_t i = 0; i < entry_count; i++) {
		counts[entries[i].accepted]++;
		framing += entries[i].framing;
		test_entry(&entries[i]);
		if (entries[i].accepted)
			test_prefixes(&entries[i]);
	}
	cmp_ok((intmax_t)counts[0], ">=", 100, "the corpus has its malformed requests");
	cmp_ok((intmax_t)counts[1], ">=", 40, "the corpus has its good requests");
	cmp_ok((intmax_t)framing, ">=", 50, "the corpus has its framing errors");
}

/* ---- limits ---- */

struct made {
	char bytes[BYTES_MAX];
	size_t length;
};

static struct made made;

static void make(const char *text)
{
	put(made.bytes, &made.length, text, strlen(text));
}

static void make_many(char byte, size_t count)
{
	memset(made.bytes + made.length, byte, count);
	made.length += count;
}

/* Asserts what has been made, whole and byte by byte, and forgets it.  STATUS 0: it is read. */
static void limit(int status, uint64_t body_max, const char *name)
{
	struct outcome whole = feed_whole(made.bytes, made.length, body_max);
	struct outcome single = feed_bytes(made.bytes, made.length, body_max);
	int got = whole.progress == HTTP_REFUSED ? whole.request.status : 0;

	if (whole.progress == HTTP_MORE)
		got = -1;
	cmp_ok(got, "==", status, "%s", name);
	ok(same_outcome(&whole, &single), "%s, byte by byte", name);
	drop(&whole);
	drop(&single);
	made.length = 0;
}

/* "GET /aaa HTTP/1.1" of LENGTH bytes. */
static void make_request_line(size_t length)
{
	make("GET /");
	make_many('a', length - strlen("GET / HTTP/1.1"));
	make(" HTTP/1.1");
}

/* A field line of LENGTH bytes with its CRLF. */
static void make_field(size_t length)
{
	make("X:");
	make_many('a', length - 4);
	make("\r\n");
}

static void test_head_limits(void)
{
	make_request_line(HTTP_REQUEST_LINE_MAX);
	make("\r\nHost: a\r\n\r\n");
	limit(0, 0, "a request line of HTTP_REQUEST_LINE_MAX bytes is read");
	make_request_line(HTTP_REQUEST_LINE_MAX + 1);
	make("\r\nHost: a\r\n\r\n");
	limit(414, 0, "one byte more is 414");
	make("GET /");
	make_many('a', HTTP_REQUEST_LINE_MAX - 5);
	limit(-1, 0, "a line of HTTP_REQUEST_LINE_MAX bytes without its end wants more");
	make("GET /");
	make_many('a', HTTP_REQUEST_LINE_MAX + 1 - 5);
	limit(414, 0, "one byte more is 414 before its end is there");
	make("GET /");
	make_many('a', HTTP_REQUEST_LINE_MAX - 5);
	make("\n");
	limit(400, 0, "an LF at the limit is still an LF");

	make_many('A', HTTP_METHOD_MAX);
	make(" / HTTP/1.1\r\nHost: a\r\n\r\n");
	limit(0, 0, "a method of HTTP_METHOD_MAX bytes is read");
	make_many('A', HTTP_METHOD_MAX + 1);
	make(" / HTTP/1.1\r\nHost: a\r\n\r\n");
	limit(501, 0, "one byte more is 501");

	for (int i = 0; i < HTTP_LEADING_CRLF_MAX; i++)
		make("\r\n");
	make("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	limit(0, 0, "HTTP_LEADING_CRLF_MAX empty lines are skipped");
	for (int i = 0; i < HTTP_LEADING_CRLF_MAX + 1; i++)
		make("\r\n");
	limit(400, 0, "one more is 400");
}

static void make_fields(size_t count)
{
	for (size_t i = 0; i < count; i++)
		make("X: y\r\n");
}

static void test_field_limits(void)
{
	make("GET / HTTP/1.1\r\nHost: a\r\n");
	make_fields(HTTP_FIELDS_MAX - 1);
	make("\r\n");
	limit(0, 0, "HTTP_FIELDS_MAX fields are read");
	make("GET / HTTP/1.1\r\nHost: a\r\n");
	make_fields(HTTP_FIELDS_MAX);
	limit(431, 0, "one more is 431");

	make("GET / HTTP/1.1\r\nHost: a\r\n");
	make_field(HTTP_HEAD_MAX - 9);
	make("\r\n");
	limit(0, 0, "fields of HTTP_HEAD_MAX bytes are read");
	make("GET / HTTP/1.1\r\nHost: a\r\n");
	make_field(HTTP_HEAD_MAX - 9 + 1);
	make("\r\n");
	limit(431, 0, "one byte more is 431");
	make("GET / HTTP/1.1\r\n");
	make_many('a', HTTP_HEAD_MAX - 2);
	limit(-1, 0, "a field that would just fit wants more");
	make("GET / HTTP/1.1\r\n");
	make_many('a', HTTP_HEAD_MAX - 1);
	limit(431, 0, "one byte more is 431 before its end is there");
	make("GET / HTTP/1.1\r\nHost: a\r\n");
	make_field(HTTP_HEAD_MAX - 9);
	make("X");
	limit(431, 0, "a byte of a field behind full fields is 431");
}

static void make_length(const char *digits)
{
	make("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ");
	make(digits);
	make("\r\n\r\n");
}

static void test_length_limits(void)
{
	make_length("3");
	make("abc");
	limit(0, 3, "a body of the most bytes allowed is read");
	make_length("4");
	limit(413, 3, "one byte more is 413 before any of it is there");
	make_length("000000000000000003");
	make("abc");
	limit(0, 3, "HTTP_LENGTH_DIGITS_MAX digits are read");
	make_length("0000000000000000003");
	limit(400, 3, "one digit more is 400");
	make_length("999999999999999999");
	make("abc");
	limit(-1, UINT64_MAX, "the largest length is believed");
}

static void make_chunked(void)
{
	make("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
}

static void make_extension(size_t length)
{
	make(";");
	make_many('a', length - 1);
}

static void test_chunk_limits(void)
{
	make_chunked();
	make("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
	limit(0, 5, "chunks of the most bytes allowed are read");
	make_chunked();
	make("3\r\nabc\r\n3\r\n");
	limit(413, 5, "one byte more is 413 before any of that chunk is there");
	make_chunked();
	make("ffffffffffffffff\r\nabc");
	limit(-1, UINT64_MAX, "HTTP_CHUNK_DIGITS_MAX digits are read");
	make_chunked();
	make("1\r\na\r\nffffffffffffffff\r\n");
	limit(413, UINT64_MAX, "a sum beyond 64 bits is 413");
	make_chunked();
	make("00000000000000001\r\n");
	limit(400, UINT64_MAX, "one digit more is 400");

	make_chunked();
	make("1");
	make_extension(HTTP_CHUNK_LINE_MAX - 1);
	make("\r\na\r\n0\r\n\r\n");
	limit(0, 5, "a size line of HTTP_CHUNK_LINE_MAX bytes is read");
	make_chunked();
	make("1");
	make_extension(HTTP_CHUNK_LINE_MAX);
	limit(400, 5, "one byte more is 400 before its end is there");

	for (size_t extra = 0; extra < 2; extra++) {
		make_chunked();
		for (size_t i = 0; i < HTTP_EXTENSIONS_MAX / 128; i++) {
			make("1");
			make_extension(128 + (i == 0 ? extra : 0));
			make("\r\na\r\n");
		}
		make("0\r\n\r\n");
		limit(extra == 0 ? 0 : 400, BODY_MAX,
		      extra == 0 ? "extensions of HTTP_EXTENSIONS_MAX bytes are read"
		                 : "one byte more is 400");
	}
}

static void test_trailer_limits(void)
{
	make_chunked();
	make("0\r\n");
	make_fields(HTTP_FIELDS_MAX);
	make("\r\n");
	limit(0, 0, "a trailer of HTTP_FIELDS_MAX fields is read");
	make_chunked();
	make("0\r\n");
	make_fields(HTTP_FIELDS_MAX + 1);
	limit(431, 0, "one more is 431");
	make_chunked();
	make("0\r\n");
	make_field(HTTP_HEAD_MAX / 2);
	make_field(HTTP_HEAD_MAX / 2);
	make("\r\n");
	limit(0, 0, "a trailer of HTTP_HEAD_MAX bytes is read");
	make_chunked();
	make("0\r\n");
	make_field(HTTP_HEAD_MAX / 2);
	make_field(HTTP_HEAD_MAX / 2 + 1);
	make("\r\n");
	limit(431, 0, "one byte more is 431");
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- pipelines ---- */

#define PIPELINED 100

static void test_pipeline(void)
{
	static char bytes[BYTES_MAX];
	size_t length = 0;
	size_t good = 0;

	for (int i = 0; i < PIPELINED; i++)
		length += (size_t)snprintf(bytes + length, sizeof(bytes) - length,
		                           i % 2 ? "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
		                                 : "POST /%d HTTP/1.1\r\nHost: a\r\n"
		                                   "Transfer-Encoding: chunked\r\n\r\n"
		                                   "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
		                           i);
	size_t at = 0;

	for (int i = 0; i < PIPELINED; i++) {
		struct http_request request;
		size_t left = length - at;
		char path[16];

		http_request_init(&request);
		if (http_parse_head(&request, bytes + at, left) != HTTP_DONE ||
		    http_parse_body(&request, bytes + at, &left, BODY_MAX) != HTTP_DONE)
			break;
		snprintf(path, sizeof(path), "/%d", i);
		good += request.path.length == strlen(path) &&
		        memcmp(bytes + at + request.path.at, path, strlen(path)) == 0 &&
		        request.body_length == (i % 2 ? 0 : 3) &&
		        (i % 2 || memcmp(bytes + at + request.head_length, "abc", 3) == 0);
		length = at + left;
		at += request.head_length + (size_t)request.body_length;
	}
	cmp_ok((intmax_t)good, "==", PIPELINED, "a hundred pipelined requests are read in order");
	cmp_ok((intmax_t)at, "==", (intmax_t)length, "nothing is left behind them");
}

/* Calls after the end say the same again. */
static void test_again(void)
{
	struct outcome done =
	    feed_string("POST / HTTP/1.1\r\nHost: a\r\n"
	                "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET");
	struct http_request before = done.request;

	ok(parse(&done, BODY_MAX) == HTTP_DONE && same_results(&before, &done.request),
	   "a complete request stays complete");
	drop(&done);
	struct outcome refused = feed_string("GET /\r\n\r\n");

	ok(parse(&refused, BODY_MAX) == HTTP_REFUSED && refused.request.status == 400,
	   "a refused request stays refused");
	ok(http_parse_body(&refused.request, refused.buffer, &refused.length, BODY_MAX) ==
	       HTTP_REFUSED,
	   "and has no body");
	drop(&refused);
	struct outcome partial =
	    feed_string("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe");

	ok(partial.progress == HTTP_MORE && partial.request.body_length == 2,
	   "a body half there counts what is there");
	drop(&partial);
}

/* The same head again: read as it was, from whatever point its first reading has come to. */
static bool again_agrees(const struct entry *entry)
{
	struct outcome fresh = feed_whole(entry->bytes, entry->length, BODY_MAX);
	struct outcome again = {.progress = HTTP_MORE};
	char *other = copy_bytes(entry->bytes, entry->length);
	size_t head = fresh.request.head_length;
	bool good = http_head_again(&again.request, &fresh.request, entry->bytes, entry->bytes,
	                            entry->length);

	again.buffer = copy_bytes(entry->bytes, entry->length);
	again.length = entry->length;
	good = good && again.request.body_length == 0 &&
	       http_parse_head(&again.request, again.buffer, again.length) == HTTP_DONE;
	again.progress = http_parse_body(&again.request, again.buffer, &again.length, BODY_MAX);
	good = good && same_outcome(&again, &fresh);
	drop(&again);
	/* Any other byte makes it another head, and so does a missing one. */
	for (size_t i = 0; i < head && good; i++) {
		other[i] ^= 1;
		good =
		    !http_head_again(&again.request, &fresh.request, entry->bytes, other,
		                     entry->length) &&
		    !http_head_again(&again.request, &fresh.request, entry->bytes, entry->bytes, i);
		other[i] ^= 1;
	}
	free(other);
	drop(&fresh);
	return good;
}

static void test_head_again(void)
{
	struct http_request request;
	struct http_request nothing;
	size_t wrong = 0;

	for (size_t i = 0; i < entry_count; i++)
		wrong += entries[i].accepted && !again_agrees(&entries[i]);
	cmp_ok((intmax_t)wrong, "==", 0, "a head that comes again is read the same");
	http_request_init(&nothing);
	ok(!http_head_again(&request, &nothing, "", "", 0), "no head is none again");
}

/* ---- bodies without an end ---- */

/* A body as a stream's reader sees it: what was decoded so far, and how it ended. */
struct streamed {
	enum http_progress progress;
	struct http_request request;
	char body[BYTES_MAX];
	size_t length;
	size_t left; /* bytes behind the body */
};

/*
 * Feeds BYTES in pieces that end at the offsets of ENDS (the last is LENGTH) to http_body_next,
 * behind a head that is read whole.  Of what is decoded HELD bytes at most are kept for the next
 * call, as a reader of lines keeps the beginning of one.
 */
static void stream(struct streamed *streamed, const char *bytes, const size_t *ends, size_t count,
                   size_t held)
{
	char *buffer = NULL;
	size_t length = 0;
	size_t decoded = 0;
	size_t fed;

	streamed->length = 0;
	streamed->left = 0;
	http_request_init(&streamed->request);
	streamed->progress = http_parse_head(&streamed->request, bytes, ends[count - 1]);
	fed = streamed->request.head_length;
	if (streamed->progress != HTTP_DONE)
		return;
	streamed->progress = HTTP_MORE;
	for (size_t i = 0; i < count && streamed->progress == HTTP_MORE; i++) {
		size_t more = ends[i] > fed ? ends[i] - fed : 0;
		char *next = must_have(malloc(length + more > 0 ? length + more : 1));
		size_t taken;

		memcpy(next, buffer != NULL ? buffer : "", length);
		memcpy(next + length, bytes + fed, more);
		free(buffer);
		buffer = next;
		length += more;
		fed += more;
		streamed->progress = http_body_next(&streamed->request, buffer, &length, &decoded);
		taken = decoded > held ? decoded - held : 0;
		memcpy(streamed->body + streamed->length, buffer, taken);
		streamed->length += taken;
		decoded -= taken;
		length -= taken;
		memmove(buffer, buffer + taken, length);
	}
	memcpy(streamed->body + streamed->length, buffer, decoded);
	streamed->length += decoded;
	streamed->left = length - decoded + (ends[count - 1] - fed);
	free(buffer);
}

static struct streamed one_piece;
static struct streamed two_pieces;

static bool same_stream(const struct streamed *a, const struct streamed *b)
{
	if (a->progress != b->progress || a->length != b->length ||
	    memcmp(a->body, b->body, a->length) != 0)
		return false;
	if (a->progress == HTTP_REFUSED)
		return a->request.status == b->request.status &&
		       strcmp(a->request.reason, b->request.reason) == 0;
	return a->left == b->left && a->request.body_length == b->request.body_length;
}

/* The same decoded bytes and the same end, wherever BYTES are split and whatever is kept. */
static bool streams_agree(const char *bytes, size_t length)
{
	size_t stride = length <= SPLITS_MAX ? 1 : 61;

	stream(&one_piece, bytes, &length, 1, 0);
	for (size_t at = 0; at <= length; at += stride) {
		size_t ends[] = {at, length};

		stream(&two_pieces, bytes, ends, 2, at % 3 == 0 ? SIZE_MAX : at % 5);
		if (!same_stream(&one_piece, &two_pieces)) {
			diag("split at %zu of %zu differs", at, length);
			return false;
		}
	}
	size_t *ends = must_have(malloc((length + 1) * sizeof(*ends)));

	for (size_t i = 0; i <= length; i++)
		ends[i] = i;
	stream(&two_pieces, bytes, ends, length + 1, 7);
	free(ends);
	return same_stream(&one_piece, &two_pieces);
}

/* The corpus as streams: the same bodies, the same refusals. */
static void test_streamed_corpus(void)
{
	size_t bodies = 0;
	size_t wrong = 0;

	for (size_t i = 0; i < entry_count; i++) {
		struct outcome whole = feed_whole(entries[i].bytes, entries[i].length, UINT64_MAX);
		const struct http_request *request = &whole.request;

		if (request->head_length == 0) {
			drop(&whole);
			continue;
		}
		bodies++;
		stream(&one_piece, entries[i].bytes, &entries[i].length, 1, 0);
		if (whole.progress != one_piece.progress ||
		    (whole.progress == HTTP_REFUSED &&
		     strcmp(request->reason, one_piece.request.reason) != 0) ||
		    (whole.progress == HTTP_DONE &&
		     (request->body_length != one_piece.length ||
		      memcmp(whole.buffer + request->head_length, one_piece.body,
		             one_piece.length) != 0)) ||
		    !streams_agree(entries[i].bytes, entries[i].length)) {
			diag("%s differs as a stream", entries[i].name);
			wrong++;
		}
		drop(&whole);
	}
	cmp_ok((intmax_t)bodies, ">=", 40, "enough of the corpus gets as far as a body");
	cmp_ok((intmax_t)wrong, "==", 0, "and has the same one as a stream");
}

/* Asserts what has been made: its body, what is left behind it, and that splits agree. */
static void streams(enum http_progress progress, const char *body, size_t left, const char *name)
{
	bool agree = streams_agree(made.bytes, made.length);

	ok(one_piece.progress == progress && one_piece.length == strlen(body) &&
	       memcmp(one_piece.body, body, strlen(body)) == 0 &&
	       (progress == HTTP_REFUSED || one_piece.left == left) && agree,
	   "%s", name);
	if (progress == HTTP_DONE)
		ok(one_piece.request.body_length == strlen(body), "%s: its length", name);
	made.length = 0;
}

static void test_streams(void)
{
	make_chunked();
	make("4\r\nab\nc\r\n0003;x=\"y\"\r\nd\ne\r\n0\r\nT: 1\r\n\r\nGET /");
	streams(HTTP_DONE, "ab\ncd\ne", 5, "chunks, with an extension and a trailer");
	make_chunked();
	make("0\r\n\r\nx");
	streams(HTTP_DONE, "", 1, "no chunks");
	make_chunked();
	make("4\r\nab\nc\r\n3");
	streams(HTTP_MORE, "ab\nc", 1, "chunks that go on");
	make_chunked();
	make("4\r\nabcd\r\n2\r\nef\n");
	streams(HTTP_REFUSED, "abcdef", 0, "what came before bad framing is good");
	make_chunked();
	make("4\r\nabcd\r\n2\nef\r\n");
	streams(HTTP_REFUSED, "abcd", 0, "a bare LF behind a chunk's size");
	make_chunked();
	make("2\r\nab\r\n-1\r\n");
	streams(HTTP_REFUSED, "ab", 0, "a size that is none");
	make_chunked();
	make("ffffffffffffffff\r\nabc");
	streams(HTTP_MORE, "abc", 0, "a chunk of any size");
	make_chunked();
	make("1\r\na\r\nffffffffffffffff\r\nabc");
	streams(HTTP_REFUSED, "a", 0, "but not more than can be counted");
	make_chunked();
	make("2\r\nab\r\n0\r\nbad trailer\r\n\r\n");
	streams(HTTP_REFUSED, "ab", 0, "a trailer that cannot be read");

	make_length("5");
	make("ab\ncdPOST");
	streams(HTTP_DONE, "ab\ncd", 4, "a body with a length");
	make_length("6");
	make("ab\ncd");
	streams(HTTP_MORE, "ab\ncd", 0, "one that goes on");
	make_length("999999999999999999");
	make("abc");
	streams(HTTP_MORE, "abc", 0, "one of any length");
	make_length("0");
	make("abc");
	streams(HTTP_DONE, "", 3, "an empty one");
	make("GET / HTTP/1.1\r\nHost: a\r\n\r\nabc");
	streams(HTTP_DONE, "", 3, "none");
}

/*
 * A body of CHUNKS chunks with one byte and an extension each, fed one by one: EXTENSION bytes
 * each.  How many were taken before it was refused?
 */
static size_t chunks_taken(size_t chunks, size_t extension)
{
	struct http_request request;
	char bytes[512] = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
	size_t length = strlen(bytes);
	size_t taken = 0;

	http_request_init(&request);
	if (http_parse_head(&request, bytes, length) != HTTP_DONE)
		return 0;
	for (; taken < chunks; taken++) {
		size_t decoded = 0;

		length = 0;
		put_string(bytes, &length, "1;");
		memset(bytes + length, 'a', extension - 1);
		length += extension - 1;
		put_string(bytes, &length, "\r\nx\r\n");
		if (http_body_next(&request, bytes, &length, &decoded) != HTTP_MORE)
			break;
		if (decoded != 1 || length != 1 || bytes[0] != 'x')
			return 0;
	}
	return taken;
}

static void test_stream_extensions(void)
{
	cmp_ok((intmax_t)chunks_taken(100000, 2), "==", HTTP_EXTENSIONS_MAX - 1,
	       "extensions of twice the data end a stream after some time");
	cmp_ok((intmax_t)chunks_taken(100, 128), "==", HTTP_EXTENSIONS_MAX / 127,
	       "larger ones sooner");
	made.length = 0;
	make_chunked();
	for (int i = 0; i < 100; i++)
		make("80;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"
		     "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
		     "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n");
	make("0\r\n\r\n");
	stream(&one_piece, made.bytes, &made.length, 1, 0);
	ok(one_piece.progress == HTTP_DONE && one_piece.length == 12800,
	   "smaller than the data they may go on");
	struct outcome held = feed_whole(made.bytes, made.length, UINT64_MAX);

	ok(held.progress == HTTP_REFUSED, "but not in a body that is held");
	drop(&held);
	made.length = 0;
}

/* Calls after the end, and before the first byte, change nothing. */
static void test_stream_again(void)
{
	char bytes[] = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	               "1\r\na\r\n0\r\n\r\nGET";
	struct http_request request;
	char *body;
	size_t length = 0;
	size_t decoded = 0;

	http_request_init(&request);
	http_parse_head(&request, bytes, strlen(bytes));
	body = bytes + request.head_length;
	ok(http_body_next(&request, body, &length, &decoded) == HTTP_MORE && decoded == 0,
	   "no bytes yet");
	length = strlen(body);
	ok(http_body_next(&request, body, &length, &decoded) == HTTP_DONE && decoded == 1 &&
	       length == 4 && memcmp(body, "aGET", 4) == 0,
	   "the body, and what is behind it");
	ok(http_body_next(&request, body, &length, &decoded) == HTTP_DONE && decoded == 1 &&
	       length == 4,
	   "the end stays the end");
}

static bool is_followed(const char *text)
{
	struct http_request request;
	char bytes[256], before[256];

	snprintf(bytes, sizeof bytes, "POST / HTTP/1.1\r\nHost: a\r\n%s", text);
	memcpy(before, bytes, sizeof bytes);
	http_request_init(&request);
	if (http_parse_head(&request, bytes, strlen(bytes)) != HTTP_DONE)
		return false;
	struct http_request kept = request;
	size_t length = strlen(bytes) - request.head_length;
	bool followed = http_body_is_followed(&request, bytes + request.head_length, length);
	ok(memcmp(bytes, before, strlen(before)) == 0 && request.body_length == 0 &&
	       kept.state == request.state,
	   "a look changes nothing");
	return followed;
}

static void test_followed(void)
{
	ok(!is_followed("Content-Length: 3\r\n\r\nab"), "a body that is not all there");
	ok(!is_followed("Content-Length: 3\r\n\r\nabc"), "a body");
	ok(is_followed("Content-Length: 3\r\n\r\nabcP"), "a body, and more");
	ok(is_followed("\r\nP"), "no body, and more");
	ok(!is_followed("\r\n"), "no body");
#define CHUNKED "Transfer-Encoding: chunked\r\n\r\n"
	ok(!is_followed(CHUNKED "1\r\na\r\n2\r\nb"), "chunks without an end");
	ok(!is_followed(CHUNKED "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"), "chunks");
	ok(is_followed(CHUNKED "1\r\na\r\n2\r\nbc\r\n0\r\n\r\nP"), "chunks, and more");
	ok(!is_followed(CHUNKED "1\r\na\r\nnone\r\n0\r\n\r\nP"), "what are no chunks");
#undef CHUNKED
}

/* ---- the small readers ---- */

static void decodes(const char *source, const char *expected, size_t capacity)
{
	char target[64] = "";
	char in_place[64];
	long length = http_percent_decode(target, capacity, source, strlen(source));
	long wanted = expected == NULL ? -1 : (long)strlen(expected);

	cmp_ok(length, "==", wanted, "decoding \"%s\" into %zu bytes", source, capacity);
	if (expected == NULL)
		return;
	ok(memcmp(target, expected, strlen(expected)) == 0, "\"%s\" decodes right", source);
	strcpy(in_place, source);
	ok(http_percent_decode(in_place, capacity, in_place, strlen(source)) == wanted &&
	       memcmp(in_place, expected, strlen(expected)) == 0,
	   "\"%s\" decodes right in place", source);
}

static void test_percent_decode(void)
{
	decodes("", "", 0);
	decodes("abc", "abc", 3);
	decodes("abc", NULL, 2);
	decodes("a%20b", "a b", 3);
	decodes("a%20b", NULL, 2);
	decodes("%41%5a%7a%2F%2f", "AZz//", 5);
	decodes("%c3%A9", "\xc3\xa9", 2);
	decodes("a+b", "a+b", 3);
	decodes("%2541", "%41", 3);
	decodes("%", NULL, 9);
	decodes("%4", NULL, 9);
	decodes("a%4g", NULL, 9);
	decodes("a%g4", NULL, 9);
	decodes("%%41", NULL, 9);
	decodes("a%00", NULL, 9);
	char target[8];

	cmp_ok(http_percent_decode(target, sizeof(target), "a\0b", 3), "==", -1,
	       "a NUL is not decoded");
}

static void queries(const char *query, const char *name, size_t capacity, long expected,
                    const char *value)
{
	char target[64] = "";
	long length = http_query(query, strlen(query), name, target, capacity);

	cmp_ok(length, "==", expected, "%s in \"%s\"", name, query);
	if (expected >= 0)
		ok(memcmp(target, value, (size_t)expected) == 0, "%s is \"%s\"", name, value);
}

static void test_query(void)
{
	queries("", "ms", 8, -1, NULL);
	queries("ms=5", "ms", 8, 1, "5");
	queries("a=1&ms=50&b=2", "ms", 8, 2, "50");
	queries("a=1&ms=50&b=2", "b", 8, 1, "2");
	queries("a=1&ms=50&b=2", "m", 8, -1, NULL);
	queries("a=1&ms=50&b=2", "mss", 8, -1, NULL);
	queries("xms=1", "ms", 8, -1, NULL);
	queries("ms", "ms", 8, 0, "");
	queries("ms=", "ms", 8, 0, "");
	queries("&&ms=1&", "ms", 8, 1, "1");
	queries("ms=a=b", "ms", 8, 3, "a=b");
	queries("ms=%20%41", "ms", 8, 2, " A");
	queries("%6ds=7", "ms", 8, 1, "7");
	queries("m%7=7", "ms", 8, -1, NULL);
	queries("=7", "ms", 8, -1, NULL);
	queries("ms=1&ms=1", "ms", 8, -2, NULL);
	queries("ms=&ms", "ms", 8, -2, NULL);
	queries("ms=%zz", "ms", 8, -2, NULL);
	queries("ms=%00", "ms", 8, -2, NULL);
	queries("ms=12345678", "ms", 8, 8, "12345678");
	queries("ms=123456789", "ms", 8, -2, NULL);
}

static void lists(const char *value, const char *token, bool expected)
{
	ok(http_list_has(value, strlen(value), token) == expected, "\"%s\" %s %s", value,
	   expected ? "holds" : "does not hold", token);
}

static void test_list(void)
{
	lists("close", "close", true);
	lists("Close", "close", true);
	lists("close", "CLOSE", true);
	lists("a, close", "close", true);
	lists("a,\tclose\t ,b", "close", true);
	lists(",,close", "close", true);
	lists("close,", "close", true);
	lists("", "close", false);
	lists(",", "close", false);
	lists("clos", "close", false);
	lists("closed", "close", false);
	lists("xclose", "close", false);
	lists("close b", "close", false);
	lists("clo,se", "close", false);
	lists("c\x4c", "cl", true);
	lists("\x1b", ";", false);
}

static const char *tags_of(const char *value)
{
	static char text[1024];
	struct http_etag tags[HTTP_ETAGS_MAX];
	size_t count;
	size_t length = 0;

	switch (http_etag_list(value, strlen(value), tags, &count)) {
	case HTTP_ETAGS_MALFORMED:
		return "malformed";
	case HTTP_ETAGS_ANY:
		return "any";
	case HTTP_ETAGS_LIST:
		break;
	}
	for (size_t i = 0; i < count; i++) {
		put_string(text, &length, tags[i].weak ? " W(" : " (");
		put(text, &length, tags[i].tag, tags[i].length);
		put_string(text, &length, ")");
	}
	text[length] = '\0';
	return text;
}

static void test_etags(void)
{
	is(tags_of("*"), "any", "any tag");
	is(tags_of("\"1\""), " (1)", "one tag");
	is(tags_of("W/\"1\""), " W(1)", "a weak one");
	is(tags_of("\"\""), " ()", "an empty one");
	is(tags_of("\"a,b\",W/\"c d\""), "malformed", "no space in a tag");
	is(tags_of("\"a,b\",W/\"c\\\" , \"\xe9!#\""), " (a,b) W(c\\) (\xe9!#)",
	   "commas and backslashes in a tag mean themselves");
	is(tags_of(" ,, \"1\"\t, ,\"2\", "), " (1) (2)", "empty elements are skipped");
	is(tags_of(""), "malformed", "nothing");
	is(tags_of(" , "), "malformed", "no tag at all");
	is(tags_of("1"), "malformed", "no quotes");
	is(tags_of("\"1"), "malformed", "no closing quote");
	is(tags_of("1\""), "malformed", "no opening quote");
	is(tags_of("w/\"1\""), "malformed", "W is case-sensitive");
	is(tags_of("W/"), "malformed", "weak, and nothing");
	is(tags_of("W"), "malformed", "half a weakness");
	is(tags_of("W/ \"1\""), "malformed", "a space behind it");
	is(tags_of("\"1\" \"2\""), "malformed", "no comma between");
	is(tags_of("\"1\"\"2\""), "malformed", "nothing between");
	is(tags_of("\"1\"x"), "malformed", "something behind");
	is(tags_of("*, \"1\""), "malformed", "* is alone");
	is(tags_of("\"1\", *"), "malformed", "* is no tag");
	is(tags_of("\"\x7f\""), "malformed", "DEL in a tag");
	is(tags_of("\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\",\"c\",\"d\","
	           "\"e\",\"f\",\"g\""),
	   " (1) (2) (3) (4) (5) (6) (7) (8) (9) (a) (b) (c) (d) (e) (f) (g)",
	   "HTTP_ETAGS_MAX tags");
	is(tags_of("\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"a\",\"b\",\"c\",\"d\","
	           "\"e\",\"f\",\"g\",\"h\""),
	   "malformed", "one more");
}

static void test_etag_versions(void)
{
	static const struct {
		const char *tag;
		bool version;
		uint64_t value;
	} cases[] = {{"1", true, 1},
	             {"0", true, 0},
	             {"18446744073709551615", true, UINT64_MAX},
	             {"18446744073709551616", false, 0},
	             {"99999999999999999999", false, 0},
	             {"", false, 0},
	             {"01", false, 0},
	             {"-1", false, 0},
	             {"1 ", false, 0},
	             {"0x1", false, 0},
	             {"abc", false, 0}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct http_etag tag = {cases[i].tag, strlen(cases[i].tag), false};
		uint64_t version = 0;

		ok(http_etag_version(&tag, &version) == cases[i].version &&
		       version == cases[i].value,
		   "the tag \"%s\"", cases[i].tag);
	}
	ok(http_etag_names("\"7\", W/\"8\"", 10, 8), "a version among others, weakly");
	ok(!http_etag_names("\"7\", W/\"8\"", 10, 9), "no other");
	ok(!http_etag_names("\"18\"", 4, 8), "no part of one");
	ok(http_etag_names("*", 1, 8), "any version");
	ok(!http_etag_names("\"8\" oops", 8, 8), "what is malformed names nothing");
}

static void keys(const char *value, size_t capacity, const char *expected)
{
	char target[64];
	char in_place[64];
	long length = http_idempotency_key(target, capacity, value, strlen(value));
	long wanted = expected == NULL ? -1 : (long)strlen(expected);

	ok(length == wanted && (wanted < 0 || memcmp(target, expected, (size_t)wanted) == 0),
	   "the key %s in %zu bytes", value, capacity);
	strcpy(in_place, value);
	ok(http_idempotency_key(in_place, capacity, in_place, strlen(value)) == wanted &&
	       (wanted < 0 || memcmp(in_place, expected, (size_t)wanted) == 0),
	   "and in place");
}

static void test_idempotency_key(void)
{
	keys("order-17", 8, "order-17");
	keys("order-17", 7, NULL);
	keys("a\"b", 8, "a\"b");
	keys("a;b=c,d", 8, "a;b=c,d");
	keys("", 8, NULL);
	keys("two words", 16, NULL);
	keys("\xc3\xa9", 8, NULL);
	keys("a\x7f", 8, NULL);
	keys("\"order-17\"", 8, "order-17");
	keys("\"order-17\"", 7, NULL);
	keys("\"a b\"", 8, "a b");
	keys("\"a\\\"b\\\\\"", 8, "a\"b\\");
	keys("\"a\\b\"", 8, NULL);
	keys("\"\"", 8, NULL);
	keys("\"", 8, NULL);
	keys("\"a", 8, NULL);
	keys("\"a\\", 8, NULL);
	keys("\"a\";p=1", 16, NULL);
	keys("\"a\" ", 8, NULL);
	keys("\"a\"b\"", 8, NULL);
	keys("\"\xc3\xa9\"", 8, NULL);
	keys("\"a\tb\"", 8, NULL);
}

static void accepts(const char *value, unsigned expected)
{
	cmp_ok(http_accepts(value, strlen(value), "application/problem+json"), "==", expected,
	       "the weight in \"%s\"", value);
}

static void test_accepts(void)
{
	accepts("application/problem+json", 1000);
	accepts("Application/Problem+JSON", 1000);
	accepts("text/html, application/problem+json", 1000);
	accepts("text/html ,\tapplication/problem+json ;q=0.5 , */*", 500);
	accepts("application/problem+json; charset=utf-8; Q=0.25", 250);
	accepts("application/problem+json;charset=\"a,b\";q=0.125", 125);
	accepts("text/x;p=\"application/problem+json,\", application/problem+json;q=0.001", 1);
	accepts("text/x;p=\"\\\", application/problem+json\"", 0);
	accepts("application/problem+json;q=1", 1000);
	accepts("application/problem+json;q=1.000", 1000);
	accepts("application/problem+json;q=0", 0);
	accepts("application/problem+json;q=0.000", 0);
	accepts("application/problem+json;q=1.001", 0);
	accepts("application/problem+json;q=2", 0);
	accepts("application/problem+json;q=", 0);
	accepts("application/problem+json;q=0.1234", 0);
	accepts("application/problem+json;q=0,5", 0);
	accepts("application/problem+json;q=.5", 0);
	accepts("application/problem+json;quality=0", 1000);
	accepts("application/problem+json;", 1000);
	accepts("", 0);
	accepts(",", 0);
	accepts("*/*", 0);
	accepts("application/*", 0);
	accepts("application/json", 0);
	accepts("application/problem+jso", 0);
	accepts("application/problem+jsons", 0);
	accepts("xapplication/problem+json", 0);
}

/* ---- random damage ---- */

static uint64_t random_state = FUZZ_SEED;

static uint64_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static size_t random_below(size_t bound)
{
	return (size_t)(random_next() % bound);
}

static char random_byte(void)
{
	static const char favourites[] = "\r\n\0 \t:;,\"\\%/?#[]0123456789afAF\x7f\x80\xff";

	return random_below(4) == 0 ? (char)random_next()
	                            : favourites[random_below(sizeof(favourites) - 1)];
}

/* Changes BYTES (CAPACITY over LENGTH by one at least) in one place; returns the new length. */
static size_t damage(char *bytes, size_t length)
{
	size_t at = random_below(length + 1);
	size_t from = random_below(length + 1);

	switch (random_below(4)) {
	case 0:
		if (at < length)
			bytes[at] = random_byte();
		return length;
	case 1:
		memmove(bytes + at + 1, bytes + at, length - at);
		bytes[at] = random_byte();
		return length + 1;
	case 2:
		if (at == length)
			return length;
		memmove(bytes + at, bytes + at + 1, length - at - 1);
		return length - 1;
	default:
		if (at < length && from < length)
			bytes[at] = bytes[from];
		return length;
	}
}

static bool span_inside(struct http_span span, const struct http_request *request)
{
	return (size_t)span.at + span.length <= request->head_length;
}

static bool no_control_bytes(const struct outcome *outcome, struct http_span span)
{
	for (size_t i = 0; i < span.length; i++) {
		unsigned char byte = (unsigned char)outcome->buffer[span.at + i];

		if ((byte < 0x20 && byte != '\t') || byte == 0x7f)
			return false;
	}
	return true;
}

/* What must hold of anything at all that was read. */
static bool sound(const struct outcome *outcome)
{
	const struct http_request *request = &outcome->request;

	if (outcome->progress == HTTP_REFUSED)
		return request->status >= 400 && request->status <= 505 &&
		       request->reason != NULL && request->detail != NULL;
	if (outcome->progress == HTTP_MORE)
		return true;
	for (size_t i = 0; i < HTTP_KNOWN_FIELDS; i++) {
		if (!span_inside(request->field[i], request) ||
		    !no_control_bytes(outcome, request->field[i]))
			return false;
	}
	return span_inside(request->path, request) && no_control_bytes(outcome, request->path) &&
	       span_inside(request->query, request) &&
	       request->head_length + request->body_length <= outcome->length &&
	       (request->minor == 0 || request->field[HTTP_HOST].at != 0) &&
	       !(request->chunked && request->has_length) && request->path.length > 0 &&
	       (request->chunked || request->body_length == request->content_length);
}

/* How often damage ended in each enum http_progress: the loop must see all three. */
static unsigned damaged[3];

static bool damage_round(void)
{
	const struct entry *entry = &entries[random_below(entry_count)];
	size_t times = 1 + random_below(4);

	if (entry->length > 1500)
		return true;
	char *bytes = must_have(malloc(entry->length + times));
	size_t length = entry->length;

	memcpy(bytes, entry->bytes, length);
	for (; times > 0; times--)
		length = damage(bytes, length);
	size_t ends[4] = {random_below(length + 1), 0, 0, length};

	ends[1] = ends[0] + random_below(length + 1 - ends[0]);
	ends[2] = ends[1] + random_below(length + 1 - ends[1]);
	struct outcome whole = feed_whole(bytes, length, BODY_MAX);
	struct outcome split = feed(bytes, ends, 4, BODY_MAX);
	bool good = sound(&whole) && same_outcome(&whole, &split);

	stream(&one_piece, bytes, &length, 1, 0);
	stream(&two_pieces, bytes, ends, 4, random_below(8));
	good = good && same_stream(&one_piece, &two_pieces);
	/* What is held and what is streamed are the same, until a limit of the whole is met. */
	if (whole.progress == HTTP_DONE)
		good = good && one_piece.progress == HTTP_DONE &&
		       one_piece.length == whole.request.body_length &&
		       memcmp(one_piece.body, whole.buffer + whole.request.head_length,
		              one_piece.length) == 0;

	damaged[whole.progress]++;
	if (!good)
		diag("from %s, split at %zu, %zu, %zu: %.*s", entry->name, ends[0], ends[1],
		     ends[2], (int)length, bytes);
	drop(&whole);
	drop(&split);
	free(bytes);
	return good;
}

static void test_damage(void)
{
	double end = seconds() + FUZZ_SECONDS;
	unsigned rounds = 0;
	bool good = true;

	while (good && rounds < FUZZ_ROUNDS && seconds() < end) {
		good = damage_round();
		rounds++;
	}
	ok(good, "damaged requests keep the invariants");
	ok(damaged[HTTP_MORE] > 0 && damaged[HTTP_DONE] > 0 && damaged[HTTP_REFUSED] > 0,
	   "and end in every way: %u unfinished, %u read, %u refused", damaged[HTTP_MORE],
	   damaged[HTTP_DONE], damaged[HTTP_REFUSED]);
}

/* ---- cost ---- */

static double cost_of_bytes(size_t body)
{
	double best = 1e9;

	for (int round = 0; round < 5; round++) {
		struct http_request request;
		char *bytes = must_have(malloc(BYTES_MAX + 256));
		size_t length = (size_t)snprintf(bytes, 256,
		                                 "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: "
		                                 "%zu\r\nX: ",
		                                 body);

		memset(bytes + length, 'a', body);
		http_request_init(&request);
		double start = seconds();

		for (size_t fed = 1; fed <= length + body; fed++)
			http_parse_head(&request, bytes, fed);
		double took = seconds() - start;

		best = took < best ? took : best;
		free(bytes);
	}
	return best;
}

static void test_cost(void)
{
	double once = cost_of_bytes(2000);
	double eightfold = cost_of_bytes(16000);

	/* A quadratic reader would take 64 times as long. */
	ok(eightfold < once * 32,
	   "reading byte by byte is linear: %.1f times for 8 times the bytes", eightfold / once);
}

int main(void)
{
	plan(NO_PLAN);
	test_corpus();
	test_head_limits();
	test_field_limits();
	test_length_limits();
	test_chunk_limits();
	test_trailer_limits();
	test_pipeline();
	test_again();
	test_percent_decode();
	test_query();
	test_list();
	test_head_again();
	test_streamed_corpus();
	test_streams();
	test_stream_extensions();
	test_stream_again();
	test_followed();
	test_etags();
	test_etag_versions();
	test_idempotency_key();
	test_accepts();
	test_cost();
	test_damage();
	for (size_t i = 0; i < entry_count; i++) {
		free(entries[i].bytes);
		for (size_t k = 0; k < entries[i].expected; k++)
			free(entries[i].expectation[k].value);
	}
	return done_testing();
}
