/*
 * The JSON reader.  The input is a document; it goes to every reader of bodies.  Whether it is
 * JSON, and whether it is an event and which, a second reader says, too (t/json-reference.h).
 */
#include "fuzz.h"

#include "../../src/wire/json.h"
#include "../json-reference.h"

#define ITEMS_MAX 64 /* elements of an array */

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

/* A refusal keeps its promises: a reason, an offset in the document, printable ASCII, not cut. */
static void check_error(const struct json_error *error, size_t length)
{
	size_t detail = strnlen(error->detail, sizeof error->detail);

	FUZZ_HOLDS(detail > 10 && detail < sizeof error->detail - 1, "a detail of %zu bytes",
	           detail);
	for (size_t i = 0; i < detail; i++)
		FUZZ_HOLDS(error->detail[i] >= 0x20 && error->detail[i] <= 0x7e,
		           "a detail with byte %d", error->detail[i]);
	FUZZ_HOLDS(error->at <= length, "an error behind the end");
	FUZZ_HOLDS(error->reason[strspn(error->reason, "abcdefghijklmnopqrstuvwxyz_")] == '\0',
	           "a reason that is none: %s", error->reason);
}

static void check_name(const struct words *name)
{
	FUZZ_HOLDS(json_account_name_valid(name->bytes, name->length), "a name that is none");
}

static void check_legs(const struct request *request)
{
	FUZZ_HOLDS(request->legs <= LEGS_MAX, "%u legs", request->legs);
	for (size_t i = 0; i < request->legs; i++) {
		const struct words *name = &request->leg[i].account;

		check_name(name);
		for (size_t j = 0; j < i; j++) {
			const struct words *other = &request->leg[j].account;
			/* That a transfer is to itself is for the ledger to refuse. */
			FUZZ_HOLDS(request->kind == REQUEST_TRANSFER ||
			               other->length != name->length ||
			               memcmp(other->bytes, name->bytes, name->length) != 0,
			           "two legs on one account");
		}
	}
}

/* What holds of any request that was read, whatever it was read from. */
static void check_request(const struct request *request, enum reader reader)
{
	FUZZ_HOLDS(request->kind == kinds[reader], "kind %d", (int)request->kind);
	FUZZ_HOLDS(request->id.length == 0 || json_id_valid(request->id.bytes, request->id.length),
	           "an id that is none");
	FUZZ_HOLDS(request->note.length <= NOTE_MAX, "a note of %u", request->note.length);
	FUZZ_HOLDS(request->match == MATCH_NOTHING && request->version == 0, "a condition");
	check_legs(request);
	switch (request->kind) {
	case REQUEST_TRANSFER:
		FUZZ_HOLDS(request->legs == 2 && request->leg[1].amount > 0 &&
		               request->leg[0].amount == -request->leg[1].amount,
		           "a transfer that is none");
		break;
	case REQUEST_TRANSACTION:
		FUZZ_HOLDS(request->legs > 0, "no legs");
		break;
	case REQUEST_HOLD:
		FUZZ_HOLDS(request->leg[0].amount > 0 && request->ttl > 0 &&
		               request->ttl <= HOLD_TTL_MAX,
		           "a hold that is none");
		break;
	case REQUEST_CREATE:
	case REQUEST_REPLACE:
		FUZZ_HOLDS(request->attributes.floor <= request->attributes.ceiling &&
		               request->attributes.frozen <= FROZEN_ALL,
		           "attributes that are none");
		break;
	default:
		FUZZ_HOLDS(request->capture >= 0, "a capture of less than nothing");
		break;
	}
}

/* Is the name that was read the one that the second reader found? */
static bool same_name(const struct words *name, const struct verdict *verdict)
{
	size_t at = 0;

	for (size_t i = 0; i < verdict->name_count; i++) {
		uint32_t point;
		size_t left = name->length - at;
		size_t taken = left == 0 ? 0
		                         : reference_decode((const unsigned char *)name->bytes + at,
		                                            left, &point);

		if (taken == 0 || point != verdict->name[i])
			return false;
		at += taken;
	}
	return at == name->length;
}

static void judge_as(enum reader reader, const uint8_t *bytes, size_t length,
                     const struct verdict *verdict)
{
	char *text = fuzz_copy(bytes, length);
	struct request request;
	struct json_error error = {.reason = "not set", .at = SIZE_MAX};

	/* Nothing may be left of what was in the request before. */
	memset(&request, 0xa5, sizeof request);
	bool read = read_as(reader, text, length, &request, &error);
	if (read) {
		FUZZ_HOLDS(verdict->json || length == 0, "reader %d read what is no JSON",
		           (int)reader);
		check_request(&request, reader);
	} else {
		/* A document may be JSON and yet have more values than anybody asked for. */
		check_error(&error, length);
		FUZZ_HOLDS((strcmp(error.reason, "invalid_json") == 0) == !verdict->json ||
		               (verdict->json && strstr(error.detail, "values and keys") != NULL),
		           "reader %d: %s: %s", (int)reader, error.reason, error.detail);
	}
	if (reader == READER_event) {
		FUZZ_HOLDS(read == verdict->event, "it is %s event", verdict->event ? "an" : "no");
		FUZZ_HOLDS(!read || (same_name(&request.leg[0].account, verdict) &&
		                     request.leg[0].amount == verdict->amount),
		           "it is another event");
	}
	free(text);
}

static void check_array(const char *text, size_t length, bool json)
{
	struct json_item items[ITEMS_MAX];
	struct json_error error;
	size_t count = 0;
	size_t at = 0;

	if (!json_split_array(text, length, items, ITEMS_MAX, &count, &error)) {
		check_error(&error, length);
		return;
	}
	FUZZ_HOLDS(json && count <= ITEMS_MAX, "%zu elements of what is no array", count);
	for (size_t i = 0; i < count; i++) {
		FUZZ_HOLDS(items[i].at > at && items[i].length > 0 &&
		               items[i].at + items[i].length < length,
		           "element %zu lies elsewhere", i);
		char *item = fuzz_copy(text + items[i].at, items[i].length);
		FUZZ_HOLDS(json_check(item, items[i].length, &error), "element %zu is no JSON", i);
		free(item);
		at = items[i].at + items[i].length;
	}
}

static void judge(const uint8_t *bytes, size_t length)
{
	static struct verdict verdict;
	struct json_error error;
	char *text = fuzz_copy(bytes, length);
	bool checked = json_check(text, length, &error);

	reference_judge(text, length, &verdict);
	FUZZ_HOLDS(checked == verdict.json, "it is %s", verdict.json ? "JSON" : "no JSON");
	if (!checked)
		check_error(&error, length);
	check_array(text, length, verdict.json);
	FUZZ_HOLDS(length == 0 || memcmp(text, bytes, length) == 0, "looking changed it");
	free(text);
	for (enum reader reader = 0; reader < READERS; reader++)
		judge_as(reader, bytes, length, &verdict);
}

static void seeds(fuzz_take *take)
{
#define REFUSED(reason, text)            take(text, sizeof(text) - 1);
#define ACCEPTED(account, amount, text)  take(text, sizeof(text) - 1);
#define REFUSED_AS(reader, reason, text) take(text, sizeof(text) - 1);
#define READ_AS(reader, meaning, text)   take(text, sizeof(text) - 1);
#include "../json-bodies.h"
#include "../json-cases.h"
#undef REFUSED
#undef ACCEPTED
#undef REFUSED_AS
#undef READ_AS
}

const struct fuzz_target fuzz_json = {
    .name = "json", .length_max = REFERENCE_MAX, .judge = judge, .seeds = seeds};
