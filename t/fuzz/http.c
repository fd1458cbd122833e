/*
 * The HTTP parser.  The input is what a client sends: one request after the other.  Each is read
 * whole and in pieces of many sizes, with http_parse_body and http_body_next, which must agree;
 * its framing is read again by a slow second reader; and every field goes to whoever reads it.
 */
#include "fuzz.h"

#include "../../src/wire/http.h"

#define LENGTH_MAX     20480 /* beyond every limit of a head */
#define REQUESTS_MAX   4     /* of one input */
#define COPIED_MAX     65536 /* bytes that are copied at most while one request comes in pieces */
#define BODY_MAX_SMALL 24    /* a limit of bodies that inputs reach */
#define SPLITS         3     /* ways to split in two */

/* How an input comes: every piece of SIZE bytes; 0: sizes drawn from RANDOM. */
struct pieces {
	size_t first; /* the first piece; 0: as the others */
	size_t size;
	uint64_t random;
};

/* A request that was read, and what is left of the input. */
struct reading {
	enum http_progress progress;
	struct http_request request;
	char *buffer;
	size_t length;
};

static size_t next_piece(struct pieces *pieces, size_t left)
{
	size_t size = pieces->first;

	pieces->first = 0;
	if (size == 0)
		size = pieces->size != 0 ? pieces->size
		                         : 1 + (size_t)(fuzz_next(&pieces->random) % (left + 1));
	return size < left ? size : left;
}

/* One more piece behind what is in BUFFER, which moves, as a connection's may. */
static void grow(char **buffer, size_t *length, const void *piece, size_t size)
{
	char *grown = malloc(*length + size > 0 ? *length + size : 1);

	FUZZ_HOLDS(grown != NULL, "out of memory");
	if (*length > 0)
		memcpy(grown, *buffer, *length);
	memcpy(grown + *length, piece, size);
	free(*buffer);
	*buffer = grown;
	*length += size;
}

static struct reading read_request(const char *bytes, size_t length, struct pieces pieces,
                                   uint64_t body_max)
{
	struct reading it = {.progress = HTTP_MORE};
	size_t fed = 0;

	http_request_init(&it.request);
	do {
		size_t size = next_piece(&pieces, length - fed);
		grow(&it.buffer, &it.length, bytes + fed, size);
		fed += size;
		it.progress = http_parse_head(&it.request, it.buffer, it.length);
		if (it.progress == HTTP_DONE)
			it.progress = http_parse_body(&it.request, it.buffer, &it.length, body_max);
		FUZZ_HOLDS(it.length >= it.request.head_length + it.request.body_length,
		           "the body is longer than what is there");
	} while (it.progress == HTTP_MORE && fed < length);
	/* What has not come yet lies behind, as if it had. */
	grow(&it.buffer, &it.length, bytes + fed, length - fed);
	return it;
}

static bool same_span(struct http_span a, struct http_span b)
{
	return a.at == b.at && a.length == b.length;
}

static bool same_head(const struct http_request *a, const struct http_request *b)
{
	for (size_t i = 0; i < HTTP_KNOWN_FIELDS; i++)
		if (!same_span(a->field[i], b->field[i]))
			return false;
	return a->method == b->method && a->minor == b->minor && a->keep_alive == b->keep_alive &&
	       a->expect_continue == b->expect_continue && a->chunked == b->chunked &&
	       a->has_length == b->has_length && a->content_length == b->content_length &&
	       same_span(a->method_name, b->method_name) && same_span(a->path, b->path) &&
	       same_span(a->query, b->query) && a->repeated == b->repeated &&
	       a->head_length == b->head_length && a->body_length == b->body_length;
}

static void must_be_same(const struct reading *whole, const struct reading *other, const char *how)
{
	FUZZ_HOLDS(whole->progress == other->progress, "%s: progress %d, whole %d", how,
	           (int)other->progress, (int)whole->progress);
	if (whole->progress == HTTP_REFUSED) {
		FUZZ_HOLDS(whole->request.status == other->request.status &&
		               strcmp(whole->request.reason, other->request.reason) == 0 &&
		               strcmp(whole->request.detail, other->request.detail) == 0,
		           "%s: refused with %s, whole with %s", how, other->request.reason,
		           whole->request.reason);
		return;
	}
	/* Until its head is whole nothing is promised of a request. */
	if (whole->request.head_length != 0)
		FUZZ_HOLDS(same_head(&whole->request, &other->request), "%s: read otherwise", how);
	FUZZ_HOLDS(whole->length == other->length &&
	               memcmp(whole->buffer, other->buffer, whole->length) == 0,
	           "%s: leaves other bytes", how);
}

static void compare(const struct reading *whole, const char *bytes, size_t length,
                    struct pieces pieces, uint64_t body_max, const char *how)
{
	struct reading other = read_request(bytes, length, pieces, body_max);

	must_be_same(whole, &other, how);
	free(other.buffer);
}

/* ---- the second reader of framing: byte by byte from RFC 9112 and the policy of http.h */

static bool is_token(char byte)
{
	return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
	       (byte >= 'A' && byte <= 'Z') ||
	       (byte != '\0' && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

static bool named(const char *line, size_t name, const char *wanted)
{
	if (strlen(wanted) != name)
		return false;
	for (size_t i = 0; i < name; i++)
		if ((line[i] | 0x20) != wanted[i] && line[i] != wanted[i])
			return false;
	return true;
}

/* The length of the line at TEXT without its CRLF; a CR or LF elsewhere is not let through. */
static size_t line_of(const char *text, size_t left)
{
	size_t length = 0;

	while (length < left && text[length] != '\r' && text[length] != '\n')
		length++;
	FUZZ_HOLDS(left - length >= 2 && text[length] == '\r' && text[length + 1] == '\n',
	           "a line was let through that does not end in CRLF");
	return length;
}

/* The lines of fields at TEXT up to the empty one; their bytes with it. */
static size_t check_fields(const char *text, size_t left, size_t *lengths, size_t *codings,
                           size_t *hosts)
{
	size_t at = 0;

	for (;;) {
		size_t length = line_of(text + at, left - at);
		size_t name = 0;
		const char *line = text + at;

		at += length + 2;
		if (length == 0)
			return at;
		while (name < length && is_token(line[name]))
			name++;
		FUZZ_HOLDS(name > 0 && name < length && line[name] == ':',
		           "a field without a name was let through");
		for (size_t i = name; i < length; i++)
			FUZZ_HOLDS(line[i] == '\t' ||
			               ((unsigned char)line[i] >= 0x20 && line[i] != 0x7f),
			           "a control character in a field was let through");
		*lengths += named(line, name, "content-length");
		*codings += named(line, name, "transfer-encoding");
		*hosts += named(line, name, "host");
	}
}

static void check_head(const char *bytes, const struct http_request *request)
{
	size_t at = 0;
	size_t lengths = 0;
	size_t codings = 0;
	size_t hosts = 0;

	while (at < request->head_length && bytes[at] == '\r')
		at += 2;
	at += line_of(bytes + at, request->head_length - at) + 2;
	at += check_fields(bytes + at, request->head_length - at, &lengths, &codings, &hosts);
	FUZZ_HOLDS(at == request->head_length, "the head ends elsewhere");
	FUZZ_HOLDS(lengths + codings <= 1, "two lengths of one body were let through");
	FUZZ_HOLDS(request->has_length == (lengths == 1) && request->chunked == (codings == 1),
	           "the framing is not what its fields say");
	FUZZ_HOLDS(request->minor == 1 ? hosts == 1 : hosts <= 1 && codings == 0,
	           "HTTP/1.%d with %zu Host fields", request->minor, hosts);
}

/* The chunked body RAW, of which LENGTH bytes are there, decoded into BODY: the raw bytes taken. */
static size_t unchunk(const char *raw, size_t length, char *body, size_t *decoded)
{
	size_t at = 0;
	size_t unused = 0;

	*decoded = 0;
	for (;;) {
		size_t line = line_of(raw + at, length - at);
		char digits[32] = "";
		size_t count = strspn(raw + at, "0123456789abcdefABCDEF");

		FUZZ_HOLDS(count >= 1 && count <= 16 && (count == line || raw[at + count] == ';'),
		           "a chunk's size that is none was let through");
		memcpy(digits, raw + at, count);
		unsigned long size = strtoul(digits, NULL, 16);

		at += line + 2;
		if (size == 0)
			break;
		FUZZ_HOLDS(length - at >= 2 && size <= length - at - 2,
		           "a chunk was taken that is not there");
		memcpy(body + *decoded, raw + at, size);
		*decoded += size;
		at += size;
		FUZZ_HOLDS(memcmp(raw + at, "\r\n", 2) == 0, "a chunk without its end was taken");
		at += 2;
	}
	return at + check_fields(raw + at, length - at, &unused, &unused, &unused);
}

/* WHOLE was read from BYTES: does its body follow from them, and what is behind it? */
static void check_body(const struct reading *whole, const char *bytes, size_t length)
{
	const struct http_request *request = &whole->request;
	const char *raw = bytes + request->head_length;
	size_t size = length - request->head_length;
	/* One byte more, so that the second reader may search with strspn. */
	char *text = malloc(size + 1);
	char *body = malloc(size + 1);
	size_t decoded = (size_t)request->content_length;
	size_t taken = decoded;

	FUZZ_HOLDS(text != NULL && body != NULL, "out of memory");
	memcpy(text, raw, size);
	text[size] = '\0';
	if (request->chunked)
		taken = unchunk(text, size, body, &decoded);
	else
		memcpy(body, text, decoded <= size ? decoded : size);
	FUZZ_HOLDS(taken <= size && decoded == request->body_length &&
	               memcmp(body, whole->buffer + request->head_length, decoded) == 0,
	           "the body is not what the second reader decodes");
	FUZZ_HOLDS(whole->length - request->head_length - decoded == size - taken &&
	               memcmp(whole->buffer + request->head_length + decoded, text + taken,
	                      size - taken) == 0,
	           "the next request begins elsewhere");
	free(text);
	free(body);
}

/* ---- what reads the parts of a head */

static void check_decode(const char *text, size_t length)
{
	char *target = fuzz_copy(text, length);
	char *again = fuzz_copy(text, length);
	long decoded = http_percent_decode(target, length, text, length);

	FUZZ_HOLDS(decoded <= (long)length, "decoding made it longer");
	FUZZ_HOLDS(http_percent_decode(again, length, again, length) == decoded &&
	               (decoded < 0 || memcmp(again, target, (size_t)decoded) == 0),
	           "decoding in place differs");
	if (decoded > 0) {
		FUZZ_HOLDS(memchr(target, '\0', (size_t)decoded) == NULL, "a NUL was decoded");
		FUZZ_HOLDS(http_percent_decode(again, (size_t)decoded - 1, text, length) == -1,
		           "more was decoded than there is room for");
	}
	free(target);
	free(again);
}

static void check_query(const char *query, size_t length)
{
	static const char *const names[] = {"limit", "after", "a", ""};
	char target[64];

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		long found = http_query(query, length, names[i], target, sizeof target);
		FUZZ_HOLDS(found >= -2 && found <= (long)sizeof target, "%s: %ld", names[i], found);
	}
}

static void check_etags(const char *value, size_t length)
{
	struct http_etag tags[HTTP_ETAGS_MAX];
	size_t count = 0;
	uint64_t version;

	if (http_etag_list(value, length, tags, &count) == HTTP_ETAGS_LIST) {
		FUZZ_HOLDS(count >= 1 && count <= HTTP_ETAGS_MAX, "%zu tags", count);
		for (size_t i = 0; i < count; i++) {
			FUZZ_HOLDS(tags[i].tag > value &&
			               tags[i].tag + tags[i].length < value + length,
			           "a tag outside of its field");
			FUZZ_HOLDS(!http_etag_version(&tags[i], &version) ||
			               http_etag_names(value, length, version),
			           "a tag of a list is not named by it");
		}
	}
	http_etag_names(value, length, 1);
}

static void check_key(const char *value, size_t length)
{
	char target[128];
	long found = http_idempotency_key(target, sizeof target, value, length);

	FUZZ_HOLDS(found == -1 || (found >= 1 && found <= (long)sizeof target), "a key of %ld",
	           found);
	for (long i = 0; i < found; i++)
		FUZZ_HOLDS(target[i] >= ' ' && target[i] <= '~', "a key with byte %d", target[i]);
}

static void check_value(const char *text, struct http_span span)
{
	char *value = fuzz_copy(text + span.at, span.length);

	check_decode(value, span.length);
	check_query(value, span.length);
	check_etags(value, span.length);
	check_key(value, span.length);
	http_list_has(value, span.length, "close");
	FUZZ_HOLDS(http_accepts(value, span.length, "application/problem+json") <= 1000,
	           "a weight over 1000");
	free(value);
}

static void check_span(const char *bytes, const struct http_request *request, struct http_span span,
                       const char *what)
{
	FUZZ_HOLDS(span.at <= request->head_length && span.length <= request->head_length - span.at,
	           "the %s lies outside of the head", what);
	for (size_t i = 0; i < span.length; i++)
		FUZZ_HOLDS(bytes[span.at + i] != '\r' && bytes[span.at + i] != '\n' &&
		               bytes[span.at + i] != '\0',
		           "the %s has a byte that ends lines", what);
	check_value(bytes, span);
}

static void check_parts(const char *bytes, const struct http_request *request)
{
	FUZZ_HOLDS(request->method_name.length > 0 &&
	               request->method_name.length <= HTTP_METHOD_MAX,
	           "a method of %u bytes", request->method_name.length);
	FUZZ_HOLDS(request->minor <= 1 && !(request->minor == 0 && request->expect_continue),
	           "HTTP/1.%d", request->minor);
	check_span(bytes, request, request->method_name, "method");
	check_span(bytes, request, request->path, "path");
	check_span(bytes, request, request->query, "query");
	for (size_t i = 0; i < HTTP_KNOWN_FIELDS; i++)
		check_span(bytes, request, request->field[i], "value of a field");
}

/* The same head once more is read as it was. */
static void check_again(const struct reading *whole, const char *bytes, size_t length)
{
	struct http_request again;
	struct http_request fresh;

	http_request_init(&fresh);
	http_parse_head(&fresh, bytes, length);
	FUZZ_HOLDS(http_head_again(&again, &whole->request, bytes, bytes, length) &&
	               same_head(&again, &fresh),
	           "a head that comes again is read otherwise");
	FUZZ_HOLDS(
	    !http_head_again(&again, &whole->request, bytes, bytes, whole->request.head_length - 1),
	    "half a head came again");
}

/* ---- bodies as streams */

/* Reads the body behind WHOLE's head as a stream that takes all at once; false: refused. */
static void check_stream(const struct reading *whole, const char *bytes, size_t length,
                         struct pieces pieces)
{
	struct http_request request;
	enum http_progress progress = HTTP_MORE;
	size_t head = whole->request.head_length;
	size_t fed = head;
	size_t body = 0;
	size_t held = 0;
	size_t decoded = 0;
	char *buffer = NULL;

	http_request_init(&request);
	http_parse_head(&request, bytes, length);
	do {
		size_t size = next_piece(&pieces, length - fed);
		grow(&buffer, &held, bytes + fed, size);
		fed += size;
		progress = http_body_next(&request, buffer, &held, &decoded);
		FUZZ_HOLDS(decoded <= held, "more was decoded than is there");
		FUZZ_HOLDS(progress == HTTP_REFUSED || progress == HTTP_DONE ||
		               held - decoded <= HTTP_HEAD_MAX,
		           "%zu bytes of framing are kept", held - decoded);
		if (whole->progress != HTTP_REFUSED)
			FUZZ_HOLDS(body + decoded <= whole->request.body_length &&
			               memcmp(buffer, whole->buffer + head + body, decoded) == 0,
			           "the stream decodes other bytes");
		/* All of it is taken, but sometimes not the last byte. */
		size_t taken = decoded - (decoded > 0 && fuzz_next(&pieces.random) % 2);
		memmove(buffer, buffer + taken, held - taken);
		body += taken;
		held -= taken;
		decoded -= taken;
	} while (progress == HTTP_MORE && fed < length);
	FUZZ_HOLDS(body + decoded == request.body_length, "the stream counts other bytes");
	if (whole->progress != HTTP_REFUSED)
		FUZZ_HOLDS(progress == whole->progress &&
		               request.body_length == whole->request.body_length,
		           "the stream ends otherwise: %d, not %d", (int)progress,
		           (int)whole->progress);
	if (progress == HTTP_DONE && whole->progress == HTTP_DONE)
		FUZZ_HOLDS(held - decoded + length - fed ==
		               whole->length - head - whole->request.body_length,
		           "the stream leaves other bytes");
	free(buffer);
}

/* A look at the body behind WHOLE's head sees what reading it does. */
static void check_look(const struct reading *whole, const char *bytes, size_t length)
{
	struct http_request request;
	size_t head = whole->request.head_length;
	char *body = NULL;
	size_t held = 0;

	http_request_init(&request);
	http_parse_head(&request, bytes, length);
	grow(&body, &held, bytes + head, length - head);
	bool followed = http_body_is_followed(&request, body, held);
	bool more = whole->length > head + whole->request.body_length;
	if (whole->progress != HTTP_REFUSED)
		FUZZ_HOLDS(followed == (whole->progress == HTTP_DONE && more),
		           "a look sees another end");
	FUZZ_HOLDS(held == 0 || memcmp(body, bytes + head, held) == 0, "a look changes the body");
	free(body);
}

/* ---- one request after the other */

/* Reads the request at BYTES in every way; the raw bytes that it takes, 0 if it is not whole. */
static size_t judge_request(const char *bytes, size_t length)
{
	uint64_t random = fuzz_hash(bytes, length);
	size_t least = length * length / COPIED_MAX + 1;
	const struct pieces all = {.size = length + 1};
	struct reading whole = read_request(bytes, length, all, UINT64_MAX);
	struct reading small = read_request(bytes, length, all, BODY_MAX_SMALL);
	const struct pieces little = {.size = least};
	const struct pieces drawn = {.random = random};
	size_t used = 0;

	compare(&whole, bytes, length, little, UINT64_MAX, "in the smallest pieces");
	compare(&small, bytes, length, little, BODY_MAX_SMALL, "in the smallest, little allowed");
	compare(&whole, bytes, length, drawn, UINT64_MAX, "in pieces of any size");
	for (int i = 0; i < SPLITS; i++) {
		struct pieces two = {.first = 1 + fuzz_next(&random) % (length + 1),
		                     .size = length + 1};
		compare(&whole, bytes, length, two, UINT64_MAX, "in two pieces");
	}
	if (whole.request.head_length != 0) {
		check_head(bytes, &whole.request);
		check_parts(bytes, &whole.request);
		check_again(&whole, bytes, length);
		check_look(&whole, bytes, length);
		check_stream(&whole, bytes, length, all);
		check_stream(&whole, bytes, length, little);
		check_stream(&whole, bytes, length, drawn);
	}
	if (whole.progress == HTTP_DONE) {
		check_body(&whole, bytes, length);
		used = length - (whole.length - whole.request.head_length -
		                 (size_t)whole.request.body_length);
	}
	free(whole.buffer);
	free(small.buffer);
	return used;
}

static void judge(const uint8_t *bytes, size_t length)
{
	size_t at = 0;
	size_t used;

	for (int i = 0; i < REQUESTS_MAX && at < length; i++, at += used) {
		char *rest = fuzz_copy(bytes + at, length - at);
		used = judge_request(rest, length - at);
		free(rest);
		if (used == 0)
			return;
	}
}

/* ---- seeds: t/http-corpus.txt */

struct request_bytes {
	char bytes[LENGTH_MAX];
	size_t length;
};

/* The bytes that TEXT means, with the corpus' escapes undone, TIMES times; cut at LENGTH_MAX. */
static void add(struct request_bytes *made, const char *text, unsigned long times)
{
	while (times-- > 0) {
		for (const char *at = text; *at != '\0' && made->length < LENGTH_MAX; at++) {
			char byte = *at;

			if (byte == '\\') {
				static const char from[] = "rnt0\\";
				static const char to[] = "\r\n\t\0\\";
				const char *known = strchr(from, *++at);
				char digits[3] = "";

				if (*at == 'x') {
					memcpy(digits, at + 1, 2);
					byte = (char)strtol(digits, NULL, 16);
					at += 2;
				} else {
					FUZZ_HOLDS(known != NULL, "an unknown escape \\%c", *at);
					byte = to[known - from];
				}
			}
			made->bytes[made->length++] = byte;
		}
	}
}

static void seeds(fuzz_take *take)
{
	static struct request_bytes made;
	size_t length;
	char *text = fuzz_source("t/http-corpus.txt", &length);
	char *rest = text;
	char *line;

	made.length = 0;
	while ((line = strsep(&rest, "\n")) != NULL) {
		if (line[0] == '<') {
			char *after = line + 1;
			unsigned long times = line[1] == ' ' ? 1 : strtoul(line + 1, &after, 10);
			add(&made, after + (*after == '*' ? 2 : 1), times);
		} else if (line[0] == '\0' && made.length > 0) {
			take(made.bytes, made.length);
			made.length = 0;
		}
	}
	free(text);
}

const struct fuzz_target fuzz_http = {
    .name = "http", .length_max = LENGTH_MAX, .judge = judge, .seeds = seeds};
