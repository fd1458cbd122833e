/*
 * The load of tallybench: what it draws, and what it writes, which the daemon's own parsers read.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/tools/bench/load.h"
#include "../src/wire/http.h"
#include "../src/wire/json.h"
#include "tap/tap.h"

#define DRAWS 2000

static const struct target target = {.url = "unix:/x", .host = "localhost"};

static struct options options_of(enum mix mix)
{
	struct options options = {.connections = 1,
	                          .depth = 1,
	                          .batch = 1,
	                          .accounts = 5,
	                          .legs = 5,
	                          .amount_least = -3,
	                          .amount_most = 3,
	                          .ids = true,
	                          .prefix = "p",
	                          .seed = 7};

	options.weight[mix] = 1;
	return options;
}

static struct operation make_operation(const struct options *options)
{
	return (struct operation){.leg = calloc(load_legs_max(options), sizeof(struct posting))};
}

static bool same(struct words words, const char *text)
{
	return words.length == strlen(text) && memcmp(words.bytes, text, words.length) == 0;
}

static bool is_account(const struct words *words, uint32_t number)
{
	char name[LOAD_NAME_MAX + 1];

	snprintf(name, sizeof name, "p%u", number);
	return same(*words, name);
}

/* Reads one request from TEXT[0..LENGTH); false unless it is exactly that.  *PATH is its path. */
static bool read_http(char *text, size_t length, struct http_request *http, char *path)
{
	http_request_init(http);
	if (http_parse_head(http, text, length) != HTTP_DONE)
		return false;
	snprintf(path, 128, "%s %.*s", http->method == HTTP_GET ? "GET" : "POST",
	         (int)http->path.length, text + http->path.at);
	return http_parse_body(http, text, &length, 1 << 20) == HTTP_DONE &&
	       http->head_length + http->body_length == length && http->keep_alive &&
	       same((struct words){text + http->field[HTTP_HOST].at, http->field[HTTP_HOST].length},
	            "localhost");
}

static bool read_body(enum kind kind, char *body, size_t length, struct request *request)
{
	static const struct words hold = {"h", 1};
	struct json_error error;

	switch (kind) {
	case KIND_EVENT:
		return json_read_event(body, length, request, &error);
	case KIND_TRANSFER:
		return json_read_transfer(body, length, request, &error);
	case KIND_TRANSACTION:
		return json_read_transaction(body, length, request, &error);
	case KIND_HOLD:
		return json_read_hold(body, length, request, &error);
	default:
		return json_read_capture(body, length, hold, request, &error);
	}
}

static bool same_legs(const struct operation *operation, const struct request *request)
{
	if (operation->count != request->legs)
		return false;
	for (uint32_t i = 0; i < operation->count; i++)
		if (!is_account(&request->leg[i].account, operation->leg[i].account) ||
		    request->leg[i].amount != operation->leg[i].amount)
			return false;
	return true;
}

/* Distinct accounts whose amounts sum to zero. */
static bool is_balanced(const struct operation *operation)
{
	int64_t sum = 0;

	for (uint32_t i = 0; i < operation->count; i++) {
		sum += operation->leg[i].amount;
		for (uint32_t j = 0; j < i; j++)
			if (operation->leg[i].account == operation->leg[j].account)
				return false;
	}
	return sum == 0;
}

/* Draws many of MIX: each is read as what was drawn, at PATH. */
static void test_mix(enum mix mix, enum kind kind, const char *wanted)
{
	struct options options = options_of(mix);
	struct operation operation = make_operation(&options);
	struct load load;
	bool good = true, unique = true;
	char path[128], last[ID_MAX + 1] = "";

	load_init(&load, &options, &target);
	char *text = malloc(load_request_max(&options));
	for (int i = 0; i < DRAWS && good; i++) {
		struct http_request http;
		static struct request request;
		load_draw(&load, &operation, UINT32_MAX);
		size_t length = load_write(&load, &operation, text);
		good =
		    operation.kind == kind && read_http(text, length, &http, path) &&
		    strcmp(path, wanted) == 0 &&
		    read_body(kind, text + http.head_length, (size_t)http.body_length, &request) &&
		    same_legs(&operation, &request) &&
		    (kind == KIND_EVENT || kind == KIND_HOLD || is_balanced(&operation));
		unique = unique && request.id.length > 0 && !same(request.id, last);
		snprintf(last, sizeof last, "%.*s", (int)request.id.length, request.id.bytes);
	}
	ok(good, "%s: what is drawn is what is written", mix_name[mix]);
	ok(unique, "%s: each has an id of its own", mix_name[mix]);
	free(text);
	free(operation.leg);
	load_free(&load);
}

static void test_settlement(void)
{
	struct options options = options_of(MIX_CAPTURE);
	struct operation operation = make_operation(&options);
	struct http_request http;
	static struct request request;
	struct load load;
	char path[128], wanted[128];

	load_init(&load, &options, &target);
	char *text = malloc(load_request_max(&options));
	load_draw(&load, &operation, 1);
	ok(operation.settle == KIND_CAPTURE && operation.hold.length > 0,
	   "a hold has a name, and is to be captured");
	for (int ids = 1; ids >= 0; ids--) {
		options.ids = ids == 1;
		operation.kind = KIND_CAPTURE;
		size_t length = load_write(&load, &operation, text);
		snprintf(wanted, sizeof wanted, "POST /holds/%.*s/capture",
		         (int)operation.hold.length, operation.hold.name);
		ok(read_http(text, length, &http, path), "it is a request");
		is(path, wanted, "for that hold");
		ok(read_body(KIND_CAPTURE, text + http.head_length, (size_t)http.body_length,
		             &request) &&
		       (request.id.length > 0) == (ids == 1) && !request.has_capture,
		   "of all that is held, with%s an id", ids == 1 ? "" : "out");
	}
	load_draw(&load, &operation, 1);
	cmp_ok(operation.hold.length, "==", 0, "without ids the server names the hold");
	free(text);
	free(operation.leg);
	load_free(&load);
}

static void test_batch(void)
{
	struct options options = options_of(MIX_EVENT);
	options.batch = 300;
	struct operation operation = make_operation(&options);
	struct http_request http;
	static struct request request;
	struct json_error error;
	struct load load;
	char path[128];
	uint32_t lines = 0;
	bool good = true;

	strcpy(options.token, "abc.DEF=");
	load_init(&load, &options, &target);
	char *text = malloc(load_request_max(&options));
	load_draw(&load, &operation, 1000);
	cmp_ok(operation.count, "==", 300, "a batch is full");
	size_t length = load_write(&load, &operation, text);
	ok(read_http(text, length, &http, path), "it is a request");
	const struct http_span *type = &http.field[HTTP_CONTENT_TYPE];
	ok(same((struct words){text + type->at, type->length}, "application/x-ndjson"), "of lines");
	const struct http_span *token = &http.field[HTTP_AUTHORIZATION];
	ok(same((struct words){text + token->at, token->length}, "Bearer abc.DEF="),
	   "with the token");
	for (char *line = text + http.head_length, *end; line < text + length; line = end + 1) {
		end = memchr(line, '\n', (size_t)(text + length - line));
		good = good && end != NULL &&
		       json_read_event(line, (size_t)(end - line), &request, &error) &&
		       is_account(&request.leg[0].account, operation.leg[lines].account) &&
		       request.leg[0].amount == operation.leg[lines].amount;
		lines++;
	}
	ok(good && lines == 300, "each line is its event");
	load_draw(&load, &operation, 17);
	cmp_ok(operation.count, "==", 17, "the last one is as large as what is left");
	free(text);
	free(operation.leg);
	load_free(&load);
}

/* The widest of everything fits. */
static void test_room(void)
{
	struct options options = options_of(MIX_TRANSACTION);
	static struct target far = {.url = "http://x"};

	memset(far.host, 'h', sizeof far.host - 1);
	memset(options.token, 't', TOKEN_MAX);
	options.legs = LEGS_MOST;
	options.accounts = ACCOUNTS_MAX;
	options.amount_least = options.amount_most = AMOUNT_MOST;
	options.prefix = "abcdefghijklmnopqrstuvwxyz012345";
	struct operation operation = make_operation(&options);
	struct load load;
	load_init(&load, &options, &far);
	load.ids = UINT64_MAX - 4;
	char *text = malloc(load_request_max(&options));
	load_draw(&load, &operation, 1);
	for (uint32_t i = 0; i < operation.count; i++)
		operation.leg[i].account = ACCOUNTS_MAX - 1 - i;
	size_t length = load_write(&load, &operation, text);
	ok(strlen(options.prefix) == PREFIX_MAX && length < load_request_max(&options) &&
	       memcmp(text + length - 2, "\"}", 2) == 0,
	   "the longest transaction fits, to its last byte (%zu of %zu)", length,
	   load_request_max(&options));
	free(operation.leg);
	free(text);
	load_free(&load);

	options.weight[MIX_TRANSACTION] = 0;
	options.weight[MIX_EVENT] = 1;
	options.batch = 1000;
	operation = make_operation(&options);
	load_init(&load, &options, &far);
	load.ids = UINT64_MAX - 1000;
	text = malloc(load_request_max(&options));
	load_draw(&load, &operation, UINT32_MAX);
	for (uint32_t i = 0; i < operation.count; i++)
		operation.leg[i] = (struct posting){ACCOUNTS_MAX - 1, -AMOUNT_MOST};
	length = load_write(&load, &operation, text);
	ok(length < load_request_max(&options) && memcmp(text + length - 3, "\"}\n", 3) == 0,
	   "and the longest batch (%zu of %zu)", length, load_request_max(&options));
	free(operation.leg);
	free(text);
	load_free(&load);
}

/* The shares of a mix, and that a seed determines everything but the ids. */
static void test_seed(void)
{
	struct options options = options_of(MIX_EVENT);
	struct operation one, other;
	struct load first, second;
	uint32_t count[KINDS] = {0};
	bool same_draws = true;

	options.weight[MIX_EVENT] = 6;
	options.weight[MIX_TRANSFER] = 3;
	options.weight[MIX_READ] = 1;
	options.zipf = 1;
	one = make_operation(&options);
	other = make_operation(&options);
	load_init(&first, &options, &target);
	load_init(&second, &options, &target);
	ok(first.run != second.run, "two runs have different ids");
	for (int i = 0; i < 10 * DRAWS; i++) {
		load_draw(&first, &one, 1);
		load_draw(&second, &other, 1);
		same_draws = same_draws && one.kind == other.kind && one.count == other.count &&
		             memcmp(one.leg, other.leg, one.count * sizeof *one.leg) == 0;
		count[one.kind]++;
	}
	ok(same_draws, "but all else the same");
	ok(abs((int)count[KIND_EVENT] - 6 * DRAWS) < 300 &&
	       abs((int)count[KIND_TRANSFER] - 3 * DRAWS) < 300 &&
	       abs((int)count[KIND_READ] - 1 * DRAWS) < 200,
	   "weights 6, 3 and 1: %u, %u, %u", count[KIND_EVENT], count[KIND_TRANSFER],
	   count[KIND_READ]);
	load_free(&second);
	options.seed = 8;
	load_init(&second, &options, &target);
	bool differs = false;
	for (int i = 0; i < 100; i++) {
		load_draw(&first, &one, 1);
		load_draw(&second, &other, 1);
		differs = differs || one.leg[0].account != other.leg[0].account;
	}
	ok(differs, "another seed gives another load");
	free(one.leg);
	free(other.leg);
	load_free(&first);
	load_free(&second);
}

int main(void)
{
	plan(NO_PLAN);
	test_mix(MIX_EVENT, KIND_EVENT, "POST /events");
	test_mix(MIX_TRANSFER, KIND_TRANSFER, "POST /transfers");
	test_mix(MIX_TRANSACTION, KIND_TRANSACTION, "POST /transactions");
	test_mix(MIX_RELEASE, KIND_HOLD, "POST /holds");
	test_settlement();
	test_batch();
	test_room();
	test_seed();
	return done_testing();
}
