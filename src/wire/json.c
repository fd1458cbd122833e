/*
 * Requests out of JSON: the grammar check first, then jsmn to find the tokens, then one loop over
 * the keys of an object, driven by the table of the body that it should be.
 */
#include "json_parts.h"

#define JSMN_STATIC
#define JSMN_STRICT
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#include <jsmn.h>
#pragma GCC diagnostic pop

/* What a key says, and where that goes. */
enum field {
	FIELD_ACCOUNT,  /* the leg's name */
	FIELD_TO,       /* the second leg's */
	FIELD_RECEIVER, /* of a capture: the first leg's, which is there only then */
	FIELD_DELTA,    /* the leg's amount */
	FIELD_SUM,      /* over 0: what the first leg loses and the second gets */
	FIELD_RESERVE,  /* over 0 */
	FIELD_CAPTURE,  /* 0 or more */
	FIELD_TTL,
	FIELD_FLOOR,
	FIELD_CEILING,
	FIELD_FROZEN,
	FIELD_BALANCED,
	FIELD_LEGS,
	FIELD_ID,
	FIELD_NOTE,
	FIELDS,
};

/* A key of a body.  Two keys of one field are two names of it. */
struct key {
	const char *name;
	enum field field;
};

#define KEYS_MAX 8

struct body {
	enum request_kind kind;
	const char *takes;         /* ends the detail of unknown_key */
	const char *example;       /* the detail of not_an_object */
	unsigned required;         /* bits 1 << enum field */
	unsigned never_null;       /* likewise: may be left out, but not by null */
	bool may_be_empty;         /* no bytes at all are an object without keys */
	struct key keys[KEYS_MAX]; /* ends with a NULL name; missing and invalid values are told in
	                              the order of enum field */
};

#define BIT(field) (1u << (field))
#define REMEMBERED                                                                                 \
	{"id", FIELD_ID},                                                                          \
	{                                                                                          \
		"note", FIELD_NOTE                                                                 \
	}

static const struct body event_body = {
    .kind = REQUEST_EVENT,
    .takes = "; an event takes account, amount, id and note",
    .example = "an event is an object: {\"account\":\"alice\",\"amount\":-5}",
    .required = BIT(FIELD_ACCOUNT) | BIT(FIELD_DELTA),
    .keys = {
        {"account", FIELD_ACCOUNT}, {"user", FIELD_ACCOUNT}, {"amount", FIELD_DELTA}, REMEMBERED}};

static const struct body transfer_body = {
    .kind = REQUEST_TRANSFER,
    .takes = "; a transfer takes from, to, amount, id and note",
    .example = "a transfer is an object: {\"from\":\"alice\",\"to\":\"bob\",\"amount\":5}",
    .required = BIT(FIELD_ACCOUNT) | BIT(FIELD_TO) | BIT(FIELD_SUM),
    .keys = {{"from", FIELD_ACCOUNT}, {"to", FIELD_TO}, {"amount", FIELD_SUM}, REMEMBERED}};

static const struct body transaction_body = {
    .kind = REQUEST_TRANSACTION,
    .takes = "; a transaction takes legs, balanced, id and note",
    .example = "a transaction is an object: {\"legs\":[{\"account\":\"alice\",\"amount\":-5}]}",
    .required = BIT(FIELD_LEGS),
    .keys = {{"legs", FIELD_LEGS}, {"balanced", FIELD_BALANCED}, REMEMBERED}};

static const struct body leg_body = {.takes = "; a leg takes account and amount",
                                     .required = BIT(FIELD_ACCOUNT) | BIT(FIELD_DELTA),
                                     .keys = {{"account", FIELD_ACCOUNT}, {"amount", FIELD_DELTA}}};

#define ATTRIBUTES                                                                                 \
	{"floor", FIELD_FLOOR}, {"ceiling", FIELD_CEILING},                                        \
	{                                                                                          \
		"frozen", FIELD_FROZEN                                                             \
	}

static const struct body create_body = {
    .kind = REQUEST_CREATE,
    .takes = "; an account takes account, floor, ceiling, frozen, id and note",
    .example = "an account is an object: {\"account\":\"alice\",\"floor\":0}",
    .required = BIT(FIELD_ACCOUNT),
    .keys = {{"account", FIELD_ACCOUNT}, ATTRIBUTES, REMEMBERED}};

static const struct body replace_body = {
    .kind = REQUEST_REPLACE,
    .takes = "; an account takes account, floor, ceiling, frozen, id and note",
    .example = "an account is an object: {\"floor\":0}",
    .may_be_empty = true,
    .keys = {{"account", FIELD_ACCOUNT}, ATTRIBUTES, REMEMBERED}};

static const struct body hold_body = {
    .kind = REQUEST_HOLD,
    .takes = "; a hold takes account, amount, ttl, id and note",
    .example = "a hold is an object: {\"account\":\"alice\",\"amount\":5,\"ttl\":60}",
    .required = BIT(FIELD_ACCOUNT) | BIT(FIELD_RESERVE) | BIT(FIELD_TTL),
    .keys = {
        {"account", FIELD_ACCOUNT}, {"amount", FIELD_RESERVE}, {"ttl", FIELD_TTL}, REMEMBERED}};

static const struct body capture_body = {
    .kind = REQUEST_CAPTURE,
    .takes = "; a capture takes amount, to, id and note",
    .example = "a capture is an object: {\"amount\":5}",
    .never_null = BIT(FIELD_CAPTURE) | BIT(FIELD_RECEIVER),
    .may_be_empty = true,
    .keys = {{"amount", FIELD_CAPTURE}, {"to", FIELD_RECEIVER}, REMEMBERED}};

static const struct body release_body = {.kind = REQUEST_RELEASE,
                                         .takes = "; a release takes id and note",
                                         .example = "a release is an object: {\"id\":\"order-17\"}",
                                         .may_be_empty = true,
                                         .keys = {REMEMBERED}};

static const struct body delete_body = {.kind = REQUEST_DELETE,
                                        .takes = "; a deletion takes id and note",
                                        .example = "a deletion is an object: {\"id\":\"order-17\"}",
                                        .may_be_empty = true,
                                        .keys = {REMEMBERED}};

/* A document whose tokens have been found. */
struct document {
	char *text;
	const jsmntok_t *tokens;
	int count;
	struct json_error *error;
};

/* The members of one object, by field. */
struct members {
	const jsmntok_t *value[FIELDS]; /* NULL: not given */
	const struct key *key[FIELDS];  /* by which name it was */
};

/* A token's value; once for each token, since that undoes its escapes. */
static struct json_value value_of(const struct document *document, const jsmntok_t *token)
{
	struct json_value value = {.kind = JSON_NESTED,
	                           .at = (size_t)token->start,
	                           .bytes = document->text + token->start,
	                           .length = (size_t)(token->end - token->start)};

	if (token->type == JSMN_STRING) {
		value.kind = JSON_STRING;
		value.length = json_unescape(value.bytes, value.length);
	} else if (token->type == JSMN_PRIMITIVE) {
		value.kind = JSON_WORD;
	}
	return value;
}

static bool is_null(const struct document *document, const jsmntok_t *token)
{
	return token->type == JSMN_PRIMITIVE && document->text[token->start] == 'n';
}

static const struct key *find_key(const struct body *body, const struct json_value *name)
{
	for (size_t i = 0; i < KEYS_MAX && body->keys[i].name != NULL; i++) {
		if (json_value_is(name, body->keys[i].name))
			return &body->keys[i];
	}
	return NULL;
}

/* Takes note of VALUE under NAME, or refuses the name. */
static bool take_member(const struct document *document, const struct body *body,
                        const struct json_value *name, const jsmntok_t *value,
                        struct members *members)
{
	const struct key *key = find_key(body, name);

	if (key == NULL)
		return json_refuse_key(document->error, "unknown_key", name->at, name,
		                       " is not known", body->takes);
	if (members->key[key->field] == key)
		return json_refuse_key(document->error, "duplicate_key", name->at, name,
		                       " occurs twice", "");
	if (members->key[key->field] != NULL)
		return json_refuse(document->error, "ambiguous_account", name->at,
		                   "\"user\" is another name of \"account\"; send one of them");
	members->key[key->field] = key;
	/*
	 * null means: not given.  What is required is not that easily had; nor is what would take
	 * all of a hold, or pay nobody, because some program's variable was empty.
	 */
	unsigned needs_value = body->required | body->never_null;
	if (!is_null(document, value) || (needs_value & BIT(key->field)) != 0)
		members->value[key->field] = value;
	return true;
}

/* The first token behind TOKEN and all that is inside it. */
static const jsmntok_t *behind(const struct document *document, const jsmntok_t *token)
{
	const jsmntok_t *next = token + 1;

	while (next < document->tokens + document->count && next->start < token->end)
		next++;
	return next;
}

/* Finds the members of OBJECT, which begins a body of the kind BODY. */
static bool find_members(const struct document *document, const struct body *body,
                         const jsmntok_t *object, struct members *members)
{
	const jsmntok_t *end = behind(document, object);

	*members = (struct members){{NULL}, {NULL}};
	for (const jsmntok_t *key = object + 1; key + 1 < end; key = behind(document, key + 1)) {
		struct json_value name = value_of(document, key);

		if (!take_member(document, body, &name, key + 1, members))
			return false;
	}
	return true;
}

/* Two words for each key that somebody requires. */
static bool refuse_missing(const struct body *body, enum field field, struct json_error *error)
{
	const bool to_transfer = body->kind == REQUEST_TRANSFER;

	switch (field) {
	case FIELD_ACCOUNT:
		return to_transfer
		           ? json_refuse(error, "missing_from", 0,
		                         "\"from\" is missing: the account that pays, a string")
		           : json_refuse(error, "missing_account", 0,
		                         "\"account\" is missing: the account's name, a string");
	case FIELD_TO:
		return json_refuse(error, "missing_to", 0,
		                   "\"to\" is missing: the account that is paid, a string");
	case FIELD_TTL:
		return json_refuse(error, "missing_ttl", 0,
		                   "\"ttl\" is missing: the seconds that the hold lasts");
	case FIELD_LEGS:
		return json_refuse(error, "missing_legs", 0,
		                   "\"legs\" is missing: an array of accounts and amounts");
	case FIELD_DELTA:
		return json_refuse(error, "missing_amount", 0,
		                   "\"amount\" is missing: what to add to the balance, an integer");
	default:
		return json_refuse(error, "missing_amount", 0,
		                   "\"amount\" is missing: an integer over 0");
	}
}

static bool take_legs(const struct document *document, const jsmntok_t *array,
                      struct request *request);

/* The floor is read before the ceiling, whatever their order in the document. */
static bool take_attribute(const struct document *document, enum field field,
                           const struct json_value *value, struct attributes *attributes)
{
	if (field == FIELD_FLOOR)
		return json_take_limit(value, "invalid_floor", &attributes->floor, document->error);
	if (!json_take_limit(value, "invalid_ceiling", &attributes->ceiling, document->error))
		return false;
	if (attributes->floor > attributes->ceiling)
		return json_refuse(document->error, "invalid_floor", value->at,
		                   "the floor is above the ceiling");
	return true;
}

/* Reads the value TOKEN of FIELD into REQUEST, of whose legs LEG is the one that is being read. */
static bool take_field(const struct document *document, enum field field, const jsmntok_t *token,
                       struct request *request, struct leg *leg)
{
	struct json_error *error = document->error;
	struct json_value value;

	if (field == FIELD_LEGS)
		return take_legs(document, token, request);
	value = value_of(document, token);
	switch (field) {
	case FIELD_ACCOUNT:
		return json_take_name(&value, &leg->account, error);
	case FIELD_TO:
		return json_take_name(&value, &request->leg[1].account, error);
	case FIELD_RECEIVER:
		request->legs = 1;
		return json_take_name(&value, &leg->account, error);
	case FIELD_DELTA:
		return json_take_amount(&value, INT64_MIN, &leg->amount, error);
	case FIELD_SUM:
		if (!json_take_amount(&value, 1, &request->leg[1].amount, error))
			return false;
		request->leg[0].amount = -request->leg[1].amount;
		return true;
	case FIELD_RESERVE:
		return json_take_amount(&value, 1, &leg->amount, error);
	case FIELD_CAPTURE:
		request->has_capture = true;
		return json_take_amount(&value, 0, &request->capture, error);
	case FIELD_TTL:
		return json_take_ttl(&value, &request->ttl, error);
	case FIELD_FLOOR:
	case FIELD_CEILING:
		return take_attribute(document, field, &value, &request->attributes);
	case FIELD_FROZEN:
		return json_take_frozen(&value, &request->attributes.frozen, error);
	case FIELD_BALANCED:
		return json_take_balanced(&value, &request->balanced, error);
	case FIELD_ID:
		return json_take_id(&value, &request->id, error);
	case FIELD_NOTE:
		return json_take_note(&value, &request->note, error);
	case FIELD_LEGS:
	case FIELDS:
		break;
	}
	return false;
}

/* Reads the object OBJECT as BODY into REQUEST and its LEG. */
static bool read_object(const struct document *document, const struct body *body,
                        const jsmntok_t *object, struct request *request, struct leg *leg)
{
	struct members members;

	if (!find_members(document, body, object, &members))
		return false;
	for (enum field i = 0; i < FIELDS; i++) {
		if ((body->required & BIT(i)) != 0 && members.value[i] == NULL)
			return refuse_missing(body, i, document->error);
	}
	for (enum field i = 0; i < FIELDS; i++) {
		if (members.value[i] != NULL &&
		    !take_field(document, i, members.value[i], request, leg))
			return false;
	}
	return true;
}

static bool is_repeated(const struct request *request, const struct leg *leg)
{
	for (const struct leg *other = request->leg; other < leg; other++) {
		if (other->account.length == leg->account.length &&
		    memcmp(other->account.bytes, leg->account.bytes, leg->account.length) == 0)
			return true;
	}
	return false;
}

static bool take_leg(const struct document *document, const jsmntok_t *token,
                     struct request *request, struct leg *leg)
{
	size_t at = (size_t)token->start;

	if (token->type != JSMN_OBJECT)
		return json_refuse(document->error, "invalid_legs", at,
		                   "a leg is an object: {\"account\":\"alice\",\"amount\":-5}");
	*leg = (struct leg){{NULL, 0}, 0};
	if (!read_object(document, &leg_body, token, request, leg))
		return false;
	if (is_repeated(request, leg))
		return json_refuse(document->error, "duplicate_account", at,
		                   "the account has a leg already");
	return true;
}

static bool take_legs(const struct document *document, const jsmntok_t *array,
                      struct request *request)
{
	const jsmntok_t *end = behind(document, array);

	if (array->type != JSMN_ARRAY || array->size < 1 || array->size > LEGS_MAX)
		return json_refuse(document->error, "invalid_legs", (size_t)array->start,
		                   "legs must be an array of 1 to " JSON_TEXT_OF(
		                       LEGS_MAX) " objects with account and amount");
	for (const jsmntok_t *token = array + 1; token < end; token = behind(document, token)) {
		if (!take_leg(document, token, request, &request->leg[request->legs]))
			return json_refuse_leg(document->error, request->legs);
		request->legs++;
	}
	return true;
}

static bool is_object(const char *text, size_t length)
{
	size_t i = 0;

	while (i < length && memchr(" \t\r\n", text[i], 4) != NULL)
		i++;
	return i < length && text[i] == '{';
}

/* Reads TEXT as BODY into *REQUEST, which has been begun. */
static bool read_document(const struct body *body, char *text, size_t length,
                          struct request *request, struct json_error *error)
{
	jsmntok_t tokens[JSON_TOKENS_MAX];
	struct document document = {text, tokens, 0, error};
	jsmn_parser parser;

	if (length == 0 && body->may_be_empty)
		return true;
	if (length > JSON_LENGTH_MAX)
		return json_refuse(error, "invalid_json", 0,
		                   "the document is longer than 2147483647 bytes");
	if (!json_check(text, length, error))
		return false;
	if (!is_object(text, length))
		return json_refuse(error, "not_an_object", 0, body->example);
	jsmn_init(&parser);
	document.count = jsmn_parse(&parser, text, length, tokens, JSON_TOKENS_MAX);
	if (document.count < 0)
		return json_refuse(
		    error, "invalid_json", parser.pos,
		    "the document holds more than " JSON_TEXT_OF(
		        JSON_TOKENS_MAX) " values and keys; it should be one small object");
	return read_object(&document, body, tokens, request, &request->leg[0]);
}

static bool read_body(const struct body *body, char *text, size_t length, struct request *request,
                      struct json_error *error)
{
	json_request_begin(request, body->kind);
	return read_document(body, text, length, request, error);
}

bool json_read_event(char *text, size_t length, struct request *request, struct json_error *error)
{
	if (json_flat_event(text, length, request))
		return true;
	if (!read_body(&event_body, text, length, request, error))
		return false;
	request->legs = 1;
	return true;
}

bool json_read_transfer(char *text, size_t length, struct request *request,
                        struct json_error *error)
{
	if (!read_body(&transfer_body, text, length, request, error))
		return false;
	request->legs = 2;
	return true;
}

bool json_read_transaction(char *text, size_t length, struct request *request,
                           struct json_error *error)
{
	return read_body(&transaction_body, text, length, request, error);
}

static bool read_account(const struct body *body, char *text, size_t length,
                         struct request *request, struct json_error *error)
{
	json_request_begin(request, body->kind);
	request->attributes = (struct attributes){FLOOR_NONE, CEILING_NONE, FROZEN_NONE};
	if (!read_document(body, text, length, request, error))
		return false;
	request->legs = 1;
	return true;
}

bool json_read_create(char *text, size_t length, struct request *request, struct json_error *error)
{
	return read_account(&create_body, text, length, request, error);
}

bool json_read_replace(char *text, size_t length, struct words name, struct request *request,
                       struct json_error *error)
{
	struct words *account = &request->leg[0].account;

	if (!read_account(&replace_body, text, length, request, error))
		return false;
	if (account->length > 0 && (account->length != name.length ||
	                            memcmp(account->bytes, name.bytes, name.length) != 0))
		return json_refuse(error, "account_differs", 0,
		                   "\"account\" is not the account that the path names");
	*account = name;
	return true;
}

bool json_read_hold(char *text, size_t length, struct request *request, struct json_error *error)
{
	if (!read_body(&hold_body, text, length, request, error))
		return false;
	request->legs = 1;
	return true;
}

bool json_read_capture(char *text, size_t length, struct words hold, struct request *request,
                       struct json_error *error)
{
	if (!read_body(&capture_body, text, length, request, error))
		return false;
	request->hold = hold;
	return true;
}

bool json_read_release(char *text, size_t length, struct words hold, struct request *request,
                       struct json_error *error)
{
	if (!read_body(&release_body, text, length, request, error))
		return false;
	request->hold = hold;
	return true;
}

bool json_read_delete(char *text, size_t length, struct words name, struct request *request,
                      struct json_error *error)
{
	if (!read_body(&delete_body, text, length, request, error))
		return false;
	request->legs = 1;
	request->leg[0].account = name;
	return true;
}
