/*
 * The readers of requests: documents refused and read, limits, prefixes, and mutations
 * judged against a second reader.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../src/wire/json.h"
#include "../src/wire/text.h"
#include "json-reference.h"
#include "tap/tap.h"

#define MUTATIONS      600000
#define MUTATE_SECONDS 1.0 /* of processor time; no more, however slow the build */
#define SHOWN_MAX      60

struct refused {
	const char *reason;
	const char *text;
	size_t length;
};

struct accepted {
	const char *account;
	size_t account_length;
	const char *amount;
	const char *text;
	size_t length;
};

/* The same lines twice: each reading keeps its kind. */
static const struct refused refused[] = {
#define REFUSED(reason, text) {reason, text, sizeof(text) - 1},
#define ACCEPTED(account, amount, text)
#include "json-cases.h"
#undef REFUSED
#undef ACCEPTED
};

static const struct accepted accepted[] = {
#define REFUSED(reason, text)
#define ACCEPTED(account, amount, text)                                                            \
	{account, sizeof(account) - 1, amount, text, sizeof(text) - 1},
#include "json-cases.h"
#undef REFUSED
#undef ACCEPTED
};

/* Bodies, by who reads them. */
enum reader {
	READER_event,
	READER_transfer,
	READER_transaction,
	READER_create,
	READER_replace,
	READER_hold,
	READER_capture,
	READER_release,
	READER_delete,
	READERS,
};

struct body {
	enum reader reader;
	const char *reason;  /* NULL: it is read */
	const char *meaning; /* NULL: it is refused */
	const char *text;
	size_t length;
};

static const struct body bodies[] = {
#define REFUSED_AS(reader, reason, text) {READER_##reader, reason, NULL, text, sizeof(text) - 1},
#define READ_AS(reader, meaning, text)   {READER_##reader, NULL, meaning, text, sizeof(text) - 1},
#include "json-bodies.h"
#undef REFUSED_AS
#undef READ_AS
};

#define BODY_COUNT     (sizeof(bodies) / sizeof(bodies[0]))
#define REFUSED_COUNT  (sizeof(refused) / sizeof(refused[0]))
#define ACCEPTED_COUNT (sizeof(accepted) / sizeof(accepted[0]))

/* The end of a mapping that a page without access follows: reading past a document dies. */
static char *fence;

static void build_fence(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *map =
	    mmap(NULL, 17 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED || mprotect(map + 16 * page, page, PROT_NONE) != 0)
		BAIL_OUT("cannot map a page without access");
	fence = map + 16 * page;
}

/* A copy of TEXT that ends at the fence. */
static char *fenced(const char *text, size_t length)
{
	return memcpy(fence - length, text, length);
}

/* Document TEXT as a test's name: what is not printable, and '#', as \xNN; cut. */
static const char *shown(const char *text, size_t length)
{
	static char name[4 * SHOWN_MAX + 8];
	size_t at = 0;

	for (size_t i = 0; i < length && i < SHOWN_MAX; i++) {
		unsigned char byte = (unsigned char)text[i];

		if (byte >= 0x20 && byte < 0x7f && byte != '#' && byte != '\\')
			name[at++] = (char)byte;
		else
			at += (size_t)sprintf(name + at, "\\x%02x", byte);
	}
	strcpy(name + at, length > SHOWN_MAX ? "..." : "");
	return name;
}

/* Does ERROR keep its promises: REASON, an offset in the document, ASCII that was not cut? */
static bool error_is(const struct json_error *error, const char *reason, size_t length)
{
	size_t detail = strnlen(error->detail, sizeof(error->detail));

	for (size_t i = 0; i < detail; i++)
		if (error->detail[i] < 0x20 || error->detail[i] > 0x7e)
			return false;
	return strcmp(error->reason, reason) == 0 && error->at <= length && detail > 10 &&
	       detail < sizeof(error->detail) - 1;
}

static void set_error_full(struct json_error *error)
{
	error->reason = "not set";
	error->at = SIZE_MAX;
	memset(error->detail, 'x', sizeof(error->detail));
}

static void test_refused(const struct refused *document)
{
	bool is_json = strcmp(document->reason, "invalid_json") != 0;
	struct json_error error;
	struct request request;
	bool read;
	bool checked;

	set_error_full(&error);
	read = json_read_event(fenced(document->text, document->length), document->length, &request,
	                       &error);
	if (!ok(!read && error_is(&error, document->reason, document->length), "%s: %s",
	        document->reason, shown(document->text, document->length)))
		diag("%s", read ? "it was read" : error.reason);
	checked = json_check(fenced(document->text, document->length), document->length, &error);
	if (checked != is_json)
		fail("json_check says %s", checked ? "yes" : "no");
}

static void test_accepted(const struct accepted *document)
{
	struct json_error error;
	struct request request = {0};
	char amount[TEXT_DECIMAL_MAX + 1] = "";
	struct text text;
	bool read = json_read_event(fenced(document->text, document->length), document->length,
	                            &request, &error);

	text_init(&text, amount, TEXT_DECIMAL_MAX);
	text_signed(&text, request.leg[0].amount);
	ok(read && request.kind == REQUEST_EVENT && request.legs == 1 &&
	       request.leg[0].account.length == document->account_length &&
	       memcmp(request.leg[0].account.bytes, document->account, document->account_length) ==
	           0 &&
	       strcmp(amount, document->amount) == 0,
	   "read: %s", shown(document->text, document->length));
	if (!read)
		diag("%s: %s", error.reason, error.detail);
}

/* No prefix of DOCUMENT that lacks its last bracket is a document. */
static void test_prefixes(const struct accepted *document)
{
	size_t whole = document->length;
	size_t length;
	struct json_error error;
	struct request request;

	while (document->text[whole - 1] != '}')
		whole--;
	for (length = 0; length < whole; length++) {
		char *prefix = fenced(document->text, length);

		if (json_check(prefix, length, &error) ||
		    json_read_event(prefix, length, &request, &error) ||
		    !error_is(&error, "invalid_json", length))
			break;
	}
	if (!ok(length == whole, "no prefix of: %s", shown(document->text, document->length)))
		diag("its first %zu bytes", length);
}

static bool checks(const char *text, size_t length)
{
	struct json_error error;

	return json_check(fenced(text, length), length, &error);
}

static void test_depth(void)
{
	char deep[2 * (JSON_DEPTH_MAX + 1)];
	size_t over = JSON_DEPTH_MAX + 1;

	memset(deep, '[', over);
	memset(deep + over, ']', over);
	ok(checks(deep + 1, 2 * JSON_DEPTH_MAX), "%d arrays in each other", JSON_DEPTH_MAX);
	ok(!checks(deep, 2 * over), "one more is refused");
	ok(checks("[[],[[]],[],{},[{}]]", 20), "brackets side by side are not depth");
}

/* Reads {"account":[0,0,..],"amount":1} with COUNT elements; its reason. */
static const char *reason_of_elements(size_t count)
{
	static struct json_error error;
	struct request request;
	char document[64 + 2 * JSON_TOKENS_MAX];
	struct text text;

	text_init(&text, document, sizeof(document));
	text_literal(&text, "{\"account\":[0");
	for (size_t i = 1; i < count; i++)
		text_literal(&text, ",0");
	text_literal(&text, "],\"amount\":1}");
	if (json_read_event(fenced(document, text.length), text.length, &request, &error))
		return "none";
	return error.reason;
}

static void test_sizes(void)
{
	/* The object, two keys, the array and the amount are tokens besides the elements. */
	size_t most = JSON_TOKENS_MAX - 5;
	char byte = ' ';
	struct json_error error;
	struct request request;

	is(reason_of_elements(most), "invalid_account", "%d tokens are looked at", JSON_TOKENS_MAX);
	is(reason_of_elements(most + 1), "invalid_json", "one more is refused as it is");
	/* Only the length is looked at: there is no document of that size here. */
	ok(!json_read_event(&byte, (size_t)JSON_LENGTH_MAX + 1, &request, &error) &&
	       error_is(&error, "invalid_json", 0) && strstr(error.detail, "longer") != NULL,
	   "a document longer than jsmn's offsets");
	ok(!json_check(NULL, 0, &error) && strstr(error.detail, "empty") != NULL,
	   "no bytes at all");
}

static const char *detail_of(const char *document)
{
	static struct json_error error;
	struct request request;
	size_t length = strlen(document);

	if (json_read_event(fenced(document, length), length, &request, &error))
		return "none";
	return error.detail;
}

static void test_details(void)
{
	is(detail_of("{\"sum\":1}"),
	   "the key \"sum\" is not known; an event takes account, amount, id and note",
	   "a key by its name");
	is(detail_of("{\"a\\\"\\\\\\n\\u00e9\":1}"),
	   "the key \"a\\\"\\\\\\x0a\\xc3\\xa9\" is not known; an event takes account, amount, id "
	   "and note",
	   "a key in printable ASCII");
	is(detail_of("{\"012345678901234567890123\":1}"),
	   "the key \"012345678901234567890123\" is not known; an event takes account, amount, id "
	   "and note",
	   "a key of JSON_QUOTE_MAX bytes, whole");
	is(detail_of("{\"0123456789012345678901234\":1}"),
	   "the key \"012345678901234567890123...\" is not known; an event takes account, amount, "
	   "id and note",
	   "a longer one is cut");
	is(detail_of("{\"user\":\"a\",\"us\\u0065r\":\"a\"}"), "the key \"user\" occurs twice",
	   "a duplicate by its name");
	is(detail_of("{\"account\":\"a\" \"amount\":1}"), "at byte 15: a comma or '}' is missing",
	   "a violation by its offset");
	is(detail_of("\xef\xbb\xbf{}"),
	   "at byte 0: a byte order mark; send the document without it",
	   "a byte order mark by name");
}

static void test_names(void)
{
	char longest[ACCOUNT_NAME_MAX + 1];

	memset(longest, 'n', sizeof(longest));
	ok(json_account_name_valid("n", 1), "a name of one byte");
	ok(!json_account_name_valid("", 0), "no empty name");
	ok(json_account_name_valid(fenced(longest, ACCOUNT_NAME_MAX), ACCOUNT_NAME_MAX),
	   "a name of %d bytes", ACCOUNT_NAME_MAX);
	ok(!json_account_name_valid(fenced(longest, sizeof(longest)), sizeof(longest)),
	   "no name of one more");
	ok(!json_account_name_valid("a\0b", 3) && !json_account_name_valid("\x1f", 1) &&
	       !json_account_name_valid("\x7f", 1) && !json_account_name_valid("\xc2\x80", 2) &&
	       !json_account_name_valid("\xc2\x9f", 2),
	   "no control characters");
	ok(json_account_name_valid(" ~", 2) && json_account_name_valid("\xc2\xa0", 2),
	   "their neighbours are taken");
	ok(!json_account_name_valid(fenced("a\xc3", 2), 2) && !json_account_name_valid("\xff", 1) &&
	       !json_account_name_valid("\xed\xa0\x80", 3),
	   "no broken UTF-8");
}

/* Every sequence of one to three bytes, and four at the edges, as the inside of a string. */
static void test_utf8(void)
{
	static const unsigned char edges[] = {0x00, 0x7f, 0x80, 0x8f, 0x90,
	                                      0x9f, 0xa0, 0xbf, 0xc0, 0xff};
	size_t wrong = 0;

	for (uint32_t first = 0x80; first < 0x100; first++) {
		for (uint32_t i = 0; i < 10 * 10 * 10; i++) {
			unsigned char bytes[4] = {(unsigned char)first, edges[i / 100],
			                          edges[i / 10 % 10], edges[i % 10]};

			for (size_t length = 1; length <= 4; length++) {
				char document[6] = {'"'};
				uint32_t point;
				size_t at = 0;
				bool good = true;

				memcpy(document + 1, bytes, length);
				document[1 + length] = '"';
				while (good && at < length) {
					size_t taken =
					    reference_decode(bytes + at, length - at, &point);

					good = taken > 0 && point >= 0x20;
					at += taken;
				}
				wrong += checks(document, length + 2) != good;
			}
		}
	}
	cmp_ok((intmax_t)wrong, "==", 0, "UTF-8 in 512000 strings, as the second decoder sees it");
}

/* --- the other bodies --- */

static bool read_as(enum reader reader, char *text, size_t length, struct request *request,
                    struct json_error *error)
{
	const struct words alice = {"alice", 5};
	const struct words hold = {"h1", 2};

	switch (reader) {
	case READER_event:
		return json_read_event(text, length, request, error);
	case READER_transfer:
		return json_read_transfer(text, length, request, error);
	case READER_transaction:
		return json_read_transaction(text, length, request, error);
	case READER_create:
		return json_read_create(text, length, request, error);
	case READER_replace:
		return json_read_replace(text, length, alice, request, error);
	case READER_hold:
		return json_read_hold(text, length, request, error);
	case READER_capture:
		return json_read_capture(text, length, hold, request, error);
	case READER_release:
		return json_read_release(text, length, hold, request, error);
	default:
		return json_read_delete(text, length, alice, request, error);
	}
}

static void put_limit(struct text *out, const char *name, int64_t limit, int64_t none)
{
	text_string(out, name);
	if (limit == none)
		text_literal(out, "none");
	else
		text_signed(out, limit);
}

static void put_words(struct text *out, const char *name, struct words words)
{
	if (words.length == 0)
		return;
	text_string(out, name);
	text_bytes(out, words.bytes, words.length);
}

static void put_number(struct text *out, const char *name, int64_t number)
{
	text_string(out, name);
	text_signed(out, number);
}

/* All that REQUEST says, in one line. */
static const char *meaning_of(const struct request *request)
{
	static char line[8192];
	struct text out;

	text_init(&out, line, sizeof(line) - 1);
	for (size_t i = 0; i < request->legs; i++) {
		put_words(&out, " ", request->leg[i].account);
		put_number(&out, ":", request->leg[i].amount);
	}
	if (request->kind == REQUEST_CREATE || request->kind == REQUEST_REPLACE) {
		put_limit(&out, " floor=", request->attributes.floor, FLOOR_NONE);
		put_limit(&out, " ceiling=", request->attributes.ceiling, CEILING_NONE);
		put_number(&out, " frozen=", request->attributes.frozen);
	}
	if (request->ttl > 0)
		put_number(&out, " ttl=", request->ttl);
	if (request->has_capture)
		put_number(&out, " capture=", request->capture);
	text_string(&out, request->balanced ? " balanced" : "");
	put_words(&out, " id=", request->id);
	put_words(&out, " note=", request->note);
	put_words(&out, " hold=", request->hold);
	line[out.length] = '\0';
	return line + (line[0] == ' ');
}

static const enum request_kind kinds[READERS] = {
    [READER_event] = REQUEST_EVENT,
    [READER_transfer] = REQUEST_TRANSFER,
    [READER_transaction] = REQUEST_TRANSACTION,
    [READER_create] = REQUEST_CREATE,
    [READER_replace] = REQUEST_REPLACE,
    [READER_hold] = REQUEST_HOLD,
    [READER_capture] = REQUEST_CAPTURE,
    [READER_release] = REQUEST_RELEASE,
    [READER_delete] = REQUEST_DELETE,
};

/* Nothing may be left of what was in the request before. */
static bool read_fresh(const struct body *body, struct request *request, struct json_error *error)
{
	memset(request, 0xa5, sizeof(*request));
	set_error_full(error);
	return read_as(body->reader, fenced(body->text, body->length), body->length, request,
	               error);
}

static void test_body(const struct body *body)
{
	struct request request;
	struct json_error error;
	bool read = read_fresh(body, &request, &error);

	if (body->reason != NULL) {
		if (!ok(!read && error_is(&error, body->reason, body->length), "%s: %s",
		        body->reason, shown(body->text, body->length)))
			diag("%s", read ? "it was read" : error.reason);
		return;
	}
	is(read ? meaning_of(&request) : error.detail, body->meaning, "read: %s",
	   shown(body->text, body->length));
	ok(read && request.kind == kinds[body->reader] && request.match == MATCH_NOTHING &&
	       request.version == 0,
	   "as what it is, and nothing else");
}

static void test_bodies(void)
{
	size_t counts[2] = {0, 0};

	for (size_t i = 0; i < BODY_COUNT; i++) {
		counts[bodies[i].reason == NULL]++;
		test_body(&bodies[i]);
	}
	cmp_ok((intmax_t)counts[0], ">=", 60, "enough bodies to refuse");
	cmp_ok((intmax_t)counts[1], ">=", 25, "and to read");
}

/* The longest ids and notes, plain and escaped, and one byte more. */
static const char *reason_of_words(const char *key, const char *unit, size_t count)
{
	static struct json_error error;
	struct request request;
	char document[4096];
	struct text text;

	text_init(&text, document, sizeof(document));
	text_literal(&text, "{\"account\":\"a\",\"amount\":1,\"");
	text_string(&text, key);
	text_literal(&text, "\":\"");
	for (size_t i = 0; i < count; i++)
		text_string(&text, unit);
	text_literal(&text, "\"}");
	if (json_read_event(fenced(document, text.length), text.length, &request, &error))
		return request.id.length + request.note.length >= count ? "none" : "too short";
	return error.reason;
}

static void test_words(void)
{
	is(reason_of_words("id", "x", ID_MAX), "none", "an id of %d bytes", ID_MAX);
	is(reason_of_words("id", "x", ID_MAX + 1), "invalid_id", "none of one more");
	is(reason_of_words("id", "\\u0078", ID_MAX), "none", "an id of escapes");
	is(reason_of_words("id", "\\u0078", ID_MAX + 1), "invalid_id", "none of one more");
	is(reason_of_words("note", "x", NOTE_MAX), "none", "a note of %d bytes", NOTE_MAX);
	is(reason_of_words("note", "x", NOTE_MAX + 1), "invalid_note", "none of one more");
	is(reason_of_words("note", "\\u00e9", NOTE_MAX / 2), "none", "a note of escapes");
	is(reason_of_words("note", "\\u00e9", NOTE_MAX / 2 + 1), "invalid_note",
	   "none of one character more");
	is(reason_of_words("note", "\xc3\xa9", NOTE_MAX / 2), "none", "a note of UTF-8");
	is(reason_of_words("note", "\xc3\xa9", NOTE_MAX / 2 + 1), "invalid_note",
	   "none of one character more");
	for (unsigned byte = 1; byte < 0x100; byte++) {
		for (size_t at = 0; at < 17; at++) {
			char id[18] = "aaaaaaaaaaaaaaaa";
			bool good = byte >= '!' && byte <= '~';

			id[at] = (char)byte;
			if (json_id_valid(id, 17) != (good && at == 16))
				fail("byte %u at %zu of an id", byte, at);
			if (at < 16 && json_id_valid(id, 16) != good)
				fail("byte %u at %zu of an id of 16", byte, at);
		}
	}
	ok(json_id_valid("x", 1) && !json_id_valid("", 0), "an id of one byte, and none");
}

static const char *detail_as(enum reader reader, const char *document)
{
	static struct json_error error;
	struct request request;
	size_t length = strlen(document);

	if (read_as(reader, fenced(document, length), length, &request, &error))
		return "none";
	return error.detail;
}

static void test_body_details(void)
{
	is(detail_as(READER_transaction,
	             "{\"legs\":[{\"account\":\"a\",\"amount\":1},{\"account\":\"b\"}]}"),
	   "leg 1: \"amount\" is missing: what to add to the balance, an integer",
	   "what is wrong in a leg, with its number");
	is(detail_as(READER_transaction,
	             "{\"legs\":[{\"\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001"
	             "\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001"
	             "\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\\u0001\":1}]}"),
	   "leg 0: the key \"\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01"
	   "\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01\\x01...\" is not known; a leg takes "
	   "account and amount",
	   "the longest key in it");
	is(detail_as(READER_hold, "{\"ttl\":1,\"until\":2}"),
	   "the key \"until\" is not known; a hold takes account, amount, ttl, id and note",
	   "what a hold takes");
	is(detail_as(READER_release, "7"), "a release is an object: {\"id\":\"order-17\"}",
	   "what a release is");
}

/* --- arrays --- */

#define ITEMS_MAX 8

/* The elements of DOCUMENT, one to a bar; or the reason why there are none. */
static const char *items_of(const char *document, size_t max)
{
	static char line[1024];
	struct json_item items[ITEMS_MAX];
	struct json_error error;
	size_t length = strlen(document);
	size_t count;
	struct text out;

	set_error_full(&error);
	if (!json_split_array(fenced(document, length), length, items, max, &count, &error))
		return error_is(&error, error.reason, length) ? error.reason : "no proper error";
	text_init(&out, line, sizeof(line) - 1);
	for (size_t i = 0; i < count; i++) {
		text_literal(&out, "|");
		text_bytes(&out, document + items[i].at, items[i].length);
	}
	line[out.length] = '\0';
	return line;
}

static void test_arrays(void)
{
	is(items_of("[]", 8), "", "an empty array");
	is(items_of(" [ \n] ", 8), "", "with white space in it");
	is(items_of("[1]", 8), "|1", "one element");
	is(items_of("[ -1.5e3 , \"a\" ,null,true\n]", 8), "|-1.5e3|\"a\"|null|true",
	   "words and strings, without what is around them");
	is(items_of("[{\"a\":[1,{\"b\":2}]},[[],[3,4]],{}]", 8),
	   "|{\"a\":[1,{\"b\":2}]}|[[],[3,4]]|{}", "brackets in brackets");
	is(items_of("[\"]\",\"\\\"]\",{\"}\":\",\"},\"\\\\\"]", 8),
	   "|\"]\"|\"\\\"]\"|{\"}\":\",\"}|\"\\\\\"", "brackets and commas in strings");
	is(items_of("[1,2,3]", 3), "|1|2|3", "as many as there may be");
	is(items_of("[1,2,3,4]", 3), "too_many_events", "one more");
	is(items_of("[1]", 0), "too_many_events", "one where there may be none");
	is(items_of("{}", 8), "not_an_array", "an object");
	is(items_of(" null", 8), "not_an_array", "a word");
	is(items_of("", 8), "invalid_json", "nothing");
	is(items_of("[1,]", 8), "invalid_json", "a comma too much");
	is(items_of("[1", 8), "invalid_json", "no end");
	is(items_of("[1] [2]", 8), "invalid_json", "two arrays");
	is(items_of("[{\"a\":1,}]", 8), "invalid_json", "an error inside");
}

/* xorshift64*: the same documents in every run. */
static uint64_t random_state = 0x9e3779b97f4a7c15;

static size_t random_below(size_t bound)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (size_t)((random_state * 0x2545f4914f6cdd1d) >> 32) % bound;
}

/* Puts a piece that matters in JSON into DOCUMENT at AT; the new length. */
static size_t insert_piece(char *document, size_t length, size_t at)
{
	static const char *const pieces[] = {"{",        "}",
	                                     "[",        "]",
	                                     ",",        ":",
	                                     "\"",       "\\",
	                                     "0",        "-",
	                                     ".",        "e",
	                                     "9",        " ",
	                                     "\n",       "null",
	                                     "\\u0000",  "\\ud83d",
	                                     "\\ude00",  "\\u0061",
	                                     "\xc3\xa9", "\xed\xa0\x80",
	                                     "\x7f",     "true"};
	const char *piece = pieces[random_below(sizeof(pieces) / sizeof(pieces[0]))];
	size_t size = strlen(piece);

	memmove(document + at + size, document + at, length - at);
	memcpy(document + at, piece, size);
	return length + size;
}

/* Changes DOCUMENT (room for 64 bytes more) once; the new length. */
static size_t mutate(char *document, size_t length)
{
	size_t at = random_below(length + 1);
	size_t from;

	if (length == 0)
		return insert_piece(document, length, 0);
	switch (random_below(6)) {
	case 0:
	case 1:
		at %= length;
		document[at] = (char)(document[at] ^ (1 << random_below(8)));
		return length;
	case 2:
		document[at % length] = (char)random_below(256);
		return length;
	case 3: /* a byte less */
		at %= length;
		memmove(document + at, document + at + 1, length - at - 1);
		return length - 1;
	case 4: /* one byte copied over another */
		from = random_below(length);
		document[at % length] = document[from];
		return length;
	default:
		return insert_piece(document, length, at);
	}
}

static bool same_name(const struct request *request, const struct verdict *verdict)
{
	size_t at = 0;

	for (size_t i = 0; i < verdict->name_count; i++) {
		uint32_t point;
		size_t left = request->leg[0].account.length - at;
		size_t taken = left > 0
		                   ? reference_decode(
		                         (const unsigned char *)request->leg[0].account.bytes + at,
		                         left, &point)
		                   : 0;

		if (taken == 0 || point != verdict->name[i])
			return false;
		at += taken;
	}
	return at == request->leg[0].account.length;
}

/* Do both readers say the same of DOCUMENT? */
static bool agree(const char *document, size_t length, size_t *read_count)
{
	static struct verdict verdict;
	struct json_error error;
	struct request request;
	char *text = fenced(document, length);
	bool checked = json_check(text, length, &error);
	bool read;

	reference_judge(document, length, &verdict);
	set_error_full(&error);
	read = json_read_event(text, length, &request, &error);
	*read_count += read;
	if (checked != verdict.json || read != verdict.event)
		return false;
	if (!read)
		return error_is(&error, error.reason, length) &&
		       (strcmp(error.reason, "invalid_json") == 0) == !checked;
	return request.leg[0].account.bytes >= text &&
	       request.leg[0].account.bytes + request.leg[0].account.length <= fence &&
	       json_account_name_valid(request.leg[0].account.bytes,
	                               request.leg[0].account.length) &&
	       same_name(&request, &verdict) && request.leg[0].amount == verdict.amount;
}

static void test_agreement(void)
{
	size_t read = 0;
	size_t wrong = 0;

	for (size_t i = 0; i < REFUSED_COUNT; i++)
		wrong += !agree(refused[i].text, refused[i].length, &read);
	cmp_ok((intmax_t)wrong, "==", 0, "the second reader refuses what is refused");
	for (size_t i = 0; i < ACCEPTED_COUNT; i++)
		wrong += !agree(accepted[i].text, accepted[i].length, &read);
	cmp_ok((intmax_t)wrong, "==", 0, "and reads what is read");
	cmp_ok((intmax_t)read, "==", (intmax_t)ACCEPTED_COUNT, "all of it");
}

/* A document to start from, without the longest: those would teach nothing more. */
static size_t seed(char *document)
{
	for (;;) {
		size_t i = random_below(REFUSED_COUNT + 6 * ACCEPTED_COUNT);
		const struct body *event = &bodies[random_below(BODY_COUNT)];
		bool good = i >= REFUSED_COUNT;
		size_t a = (i - REFUSED_COUNT) % ACCEPTED_COUNT;
		size_t length = good ? accepted[a].length : refused[i].length;

		if (length > 700)
			continue;
		if (event->reader == READER_event) {
			memcpy(document, event->text, event->length);
			return event->length;
		}
		memcpy(document, good ? accepted[a].text : refused[i].text, length);
		return length;
	}
}

static void test_mutations(void)
{
	char document[1024];
	size_t read = 0;
	size_t done = 0;
	clock_t end = clock() + (clock_t)(MUTATE_SECONDS * CLOCKS_PER_SEC);

	for (; done < MUTATIONS && (done % 256 != 0 || clock() < end); done++) {
		size_t length = seed(document);

		for (size_t i = random_below(3) + 1; i > 0; i--)
			length = mutate(document, length);
		if (!agree(document, length, &read)) {
			fail("the readers differ over: %s", shown(document, length));
			return;
		}
	}
	ok(done >= 1000 && read >= done / 50, "the readers agree over mutated documents");
	diag("%zu documents, %zu of them read", done, read);
}

/* What holds of any request that was read, whatever it was read from. */
static bool is_sound(const struct request *request, enum reader reader)
{
	if (request->kind != kinds[reader] || request->legs > LEGS_MAX ||
	    (request->id.length > 0 && !json_id_valid(request->id.bytes, request->id.length)) ||
	    request->note.length > NOTE_MAX || request->capture < 0)
		return false;
	for (size_t i = 0; i < request->legs; i++) {
		const struct words *name = &request->leg[i].account;

		if (!json_account_name_valid(name->bytes, name->length))
			return false;
		for (size_t j = 0; j < i; j++) {
			const struct words *other = &request->leg[j].account;

			/* That a transfer is to itself is for the ledger to refuse. */
			if (request->kind != REQUEST_TRANSFER && other->length == name->length &&
			    memcmp(other->bytes, name->bytes, name->length) == 0)
				return false;
		}
	}
	switch (request->kind) {
	case REQUEST_TRANSFER:
		return request->legs == 2 && request->leg[1].amount > 0 &&
		       request->leg[0].amount == -request->leg[1].amount;
	case REQUEST_TRANSACTION:
		return request->legs > 0;
	case REQUEST_HOLD:
		return request->leg[0].amount > 0 && request->ttl > 0 &&
		       request->ttl <= HOLD_TTL_MAX;
	case REQUEST_CREATE:
	case REQUEST_REPLACE:
		return request->attributes.floor <= request->attributes.ceiling &&
		       request->attributes.frozen <= FROZEN_ALL;
	default:
		return true;
	}
}

static void test_body_mutations(void)
{
	char document[2048];
	size_t read = 0;
	size_t done = 0;
	clock_t end = clock() + (clock_t)(MUTATE_SECONDS * CLOCKS_PER_SEC);

	for (; done < MUTATIONS && (done % 256 != 0 || clock() < end); done++) {
		const struct body *body = &bodies[random_below(BODY_COUNT)];
		size_t length = body->length;
		struct request request;
		struct json_error error;
		bool grammatical;
		bool good;

		memcpy(document, body->text, length);
		for (size_t i = random_below(4); i > 0; i--)
			length = mutate(document, length);
		grammatical = json_check(fenced(document, length), length, &error);
		set_error_full(&error);
		good = read_as(body->reader, fenced(document, length), length, &request, &error);
		read += good;
		if (good ? (!grammatical && length > 0) || !is_sound(&request, body->reader)
		         : !error_is(&error, error.reason, length) ||
		               (strcmp(error.reason, "invalid_json") == 0) != !grammatical) {
			fail("not sound: %s", shown(document, length));
			return;
		}
	}
	ok(done >= 1000 && read >= done / 50,
	   "mutated bodies are read soundly or refused properly");
	diag("%zu documents, %zu of them read", done, read);
}

int main(void)
{
	plan(NO_PLAN);
	build_fence();
	cmp_ok((intmax_t)REFUSED_COUNT, ">=", 150, "enough documents to refuse");
	cmp_ok((intmax_t)ACCEPTED_COUNT, ">=", 60, "and to read");
	for (size_t i = 0; i < REFUSED_COUNT; i++)
		test_refused(&refused[i]);
	for (size_t i = 0; i < ACCEPTED_COUNT; i++)
		test_accepted(&accepted[i]);
	for (size_t i = 0; i < ACCEPTED_COUNT; i++)
		test_prefixes(&accepted[i]);
	test_depth();
	test_sizes();
	test_details();
	test_names();
	test_utf8();
	test_agreement();
	test_mutations();
	test_bodies();
	test_words();
	test_body_details();
	test_arrays();
	test_body_mutations();
	return done_testing();
}
