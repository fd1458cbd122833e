#include "import_line.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

#define SECOND_US    UINT64_C(1000000)
#define ID_PLAIN_MAX 48 /* bytes of a name that stands in an id as it is */
#define ID_SIZE      (ID_MAX + 1)

static bool refuse(struct json_error *error, const char *reason, const char *detail)
{
	error->reason = reason;
	error->at = 0;
	snprintf(error->detail, sizeof error->detail, "%s", detail);
	return false;
}

/* ---- members: of a text whose grammar has been checked */

static const char *skip_space(const char *at)
{
	return at + strspn(at, " \t\r\n");
}

static const char *skip_string(const char *at)
{
	for (at++; *at != '"'; at++)
		if (*at == '\\')
			at++;
	return at + 1;
}

/* Arrays and objects to their end. */
static const char *skip_value(const char *at)
{
	int depth = 0;

	if (*at != '"' && *at != '{' && *at != '[')
		return at + strcspn(at, ",}] \t\r\n");
	do {
		if (*at == '"') {
			at = skip_string(at);
			continue;
		}
		depth += *at == '{' || *at == '[';
		depth -= *at == '}' || *at == ']';
		at++;
	} while (depth > 0);
	return at;
}

static bool is_text(struct slice slice, const char *text)
{
	return slice.length == strlen(text) && memcmp(slice.bytes, text, slice.length) == 0;
}

static bool split(const char *at, struct import_line *line, struct json_error *error)
{
	line->count = 0;
	at = skip_space(at);
	if (*at != '{')
		return refuse(error, "not_an_object", "the line is not an object");
	for (at = skip_space(at + 1); *at != '}'; at = skip_space(at)) {
		if (line->count == IMPORT_MEMBERS_MAX)
			return refuse(error, "invalid_json", "the line has too many members");
		struct import_member *member = &line->member[line->count++];
		member->key.bytes = at;
		at = skip_string(at);
		member->key.length = (size_t)(at - member->key.bytes);
		at = skip_space(skip_space(at) + 1);
		member->value.bytes = at;
		at = skip_value(at);
		member->value.length = (size_t)(at - member->value.bytes);
		at = skip_space(at);
		at += *at == ',';
	}
	return true;
}

struct slice import_get(const struct import_line *line, const char *key)
{
	for (unsigned i = 0; i < line->count; i++) {
		const struct import_member *member = &line->member[i];
		if (member->key.length == strlen(key) + 2 &&
		    memcmp(member->key.bytes + 1, key, strlen(key)) == 0)
			return is_text(member->value, "null") ? (struct slice){0} : member->value;
	}
	return (struct slice){0};
}

static bool find_type(struct import_line *line, struct json_error *error)
{
	static const char *const types[] = {
	    [IMPORT_EXPORT] = "\"export\"", [IMPORT_ACCOUNT] = "\"account\"",
	    [IMPORT_HOLD] = "\"hold\"",     [IMPORT_ID] = "\"id\"",
	    [IMPORT_END] = "\"end\"",
	};
	struct slice type = import_get(line, "type");

	line->type = IMPORT_EVENT;
	if (type.length == 0)
		return true;
	for (enum import_type i = IMPORT_EXPORT; i <= IMPORT_END; i++) {
		if (is_text(type, types[i])) {
			line->type = i;
			return true;
		}
	}
	return refuse(error, "unknown_type", "the line's type is none that an export has");
}

bool import_members_read(const char *text, size_t length, struct import_line *line,
                         struct json_error *error)
{
	if (length > IMPORT_LINE_MAX)
		return refuse(error, "line_too_long", "the line is longer than 4096 bytes");
	if (!json_check(text, length, error))
		return false;
	char copy[IMPORT_LINE_MAX + 1];
	memcpy(copy, text, length);
	copy[length] = '\0';
	if (!split(copy, line, error))
		return false;
	/* The members are TEXT's, which need not have an end that the scan could stop at. */
	for (unsigned i = 0; i < line->count; i++) {
		line->member[i].key.bytes = text + (line->member[i].key.bytes - copy);
		line->member[i].value.bytes = text + (line->member[i].value.bytes - copy);
	}
	return true;
}

bool import_line_read(const char *text, size_t length, struct import_line *line,
                      struct json_error *error)
{
	return import_members_read(text, length, line, error) && find_type(line, error);
}

/* ---- values */

static bool copy_inside(struct slice value, char *text, size_t size)
{
	size_t quotes = value.length > 0 && value.bytes[0] == '"' ? 1 : 0;

	if (value.length == 0 || value.length - 2 * quotes >= size)
		return false;
	memcpy(text, value.bytes + quotes, value.length - 2 * quotes);
	text[value.length - 2 * quotes] = '\0';
	return true;
}

bool import_number(struct slice value, int64_t *number)
{
	char text[24], *end;

	if (!copy_inside(value, text, sizeof text) || text[0] == '\0' ||
	    text[strspn(text, "-0123456789")] != '\0')
		return false;
	errno = 0;
	*number = strtoll(text, &end, 10);
	return errno == 0 && end != text && *end == '\0';
}

bool import_time(struct slice value, uint64_t *us)
{
	struct tm time = {0};
	char text[40], fraction[8] = "0";
	int used = 0;

	if (!copy_inside(value, text, sizeof text))
		return false;
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &time);
	if (rest == NULL)
		return false;
	if (*rest == '.' && sscanf(rest, ".%6[0-9]%n", fraction, &used) != 1)
		return false;
	if (strcmp(rest + used, "Z") != 0)
		return false;
	for (size_t length = strlen(fraction); length < 6; length++)
		strcpy(fraction + length, "0");
	time_t seconds = timegm(&time);
	if (seconds < 0)
		return false;
	*us = (uint64_t)seconds * SECOND_US + strtoull(fraction, NULL, 10);
	return true;
}

bool import_read_origin(const struct import_line *line, struct import_origin *origin,
                        struct json_error *error)
{
	int64_t lsn;

	if (!is_text(import_get(line, "format"), IMPORT_FORMAT))
		return refuse(error, "unknown_format",
		              "the export's format is not " IMPORT_FORMAT
		              "; a newer tallyctl may read it");
	if (!copy_inside(import_get(line, "journal"), origin->journal, sizeof origin->journal) ||
	    origin->journal[0] == '\0' ||
	    origin->journal[strspn(origin->journal, "0123456789abcdefABCDEF")] != '\0')
		return refuse(error, "invalid_export", "the export does not name its journal");
	if (!import_number(import_get(line, "lsn"), &lsn) || lsn < 0)
		return refuse(error, "invalid_export", "the export does not say its lsn");
	origin->lsn = (uint64_t)lsn;
	return true;
}

/* ---- operations */

size_t import_write_event(const struct import_line *line, const char *batch, uint64_t number,
                          char *body)
{
	size_t at = (size_t)sprintf(body, "{\"id\":\"%s:%" PRIu64 "\"", batch, number);

	for (unsigned i = 0; i < line->count; i++) {
		const struct import_member *member = &line->member[i];
		if (is_text(member->key, "\"id\""))
			continue;
		at += (size_t)sprintf(body + at, ",%.*s:%.*s", (int)member->key.length,
		                      member->key.bytes, (int)member->value.length,
		                      member->value.bytes);
	}
	return at + (size_t)sprintf(body + at, "}");
}

/* The same name has the same id, and no other one has it: STEP and the name, or its hash. */
static void write_id(const struct import_origin *origin, const char *step, struct slice name,
                     char id[ID_SIZE])
{
	const char *inside = name.bytes + 1;
	size_t length = name.length - 2;
	bool plain = length <= ID_PLAIN_MAX && json_id_valid(inside, length) &&
	             memchr(inside, '\\', length) == NULL && inside[0] != '#';
	int at =
	    snprintf(id, ID_SIZE, "import:%s:%" PRIu64 ":%s:", origin->journal, origin->lsn, step);

	if (plain) {
		snprintf(id + at, ID_SIZE - (size_t)at, "%.*s", (int)length, inside);
		return;
	}
	XXH128_hash_t hash = XXH3_128bits(inside, length);
	snprintf(id + at, ID_SIZE - (size_t)at, "#%016" PRIx64 "%016" PRIx64, hash.high64,
	         hash.low64);
}

_Static_assert(sizeof "import::::" + IMPORT_JOURNAL_MAX + 20 + 1 + ID_PLAIN_MAX <= ID_MAX,
               "it fits");

bool import_is_id(struct slice value, const struct import_origin *origin, const char *step,
                  const struct import_account *account)
{
	char id[ID_SIZE];

	write_id(origin, step, account->name, id);
	/* No character of it is written in another way. */
	return value.length == strlen(id) + 2 && memcmp(value.bytes + 1, id, value.length - 2) == 0;
}

static bool is_name(struct slice value)
{
	return value.length > 2 && value.bytes[0] == '"';
}

static int64_t limit_of(const struct import_line *line, const char *key, int64_t none, bool *good)
{
	struct slice value = import_get(line, key);
	int64_t limit = none;

	if (value.length > 0 && !import_number(value, &limit))
		*good = false;
	return limit;
}

bool import_read_account(const struct import_line *line, struct import_account *account,
                         struct json_error *error)
{
	struct slice frozen = import_get(line, "frozen");
	int64_t held = 0;
	bool good = true;
	char body[IMPORT_BODY_MAX];
	struct request request;

	*account = (struct import_account){.name = import_get(line, "account")};
	if (!is_name(account->name) || account->name.length > 6 * ACCOUNT_NAME_MAX + 2)
		return refuse(error, "invalid_account", "the account has no name");
	int64_t floor = limit_of(line, "floor", FLOOR_NONE, &good);
	int64_t ceiling = limit_of(line, "ceiling", CEILING_NONE, &good);
	if (!good || !import_number(import_get(line, "balance"), &account->balance) ||
	    !import_number(import_get(line, "held"), &held) || held < 0)
		return refuse(error, "invalid_amount",
		              "balance, held, floor or ceiling is no integer");
	__int128 free = (__int128)account->balance - held;
	account->held = held > 0;
	account->opened = free < floor || account->balance > ceiling ||
	                  (frozen.length > 0 && !is_text(frozen, "\"none\""));
	/* What the service would refuse is refused here, with the line. */
	static const struct import_origin none = {.journal = "0"};
	size_t length = import_write_limits(line, account, &none, body);
	return json_read_create(body, length, &request, error);
}

static struct slice or_null(struct slice value)
{
	return value.length > 0 ? value : (struct slice){"null", 4};
}

static size_t write_account(const struct import_line *line, struct slice name, const char *id,
                            char *body)
{
	struct slice floor = or_null(import_get(line, "floor"));
	struct slice ceiling = or_null(import_get(line, "ceiling"));
	struct slice frozen = import_get(line, "frozen");

	if (frozen.length == 0)
		frozen = (struct slice){"\"none\"", 6};
	int length =
	    snprintf(body, IMPORT_BODY_MAX,
	             "{\"account\":%.*s,\"floor\":%.*s,\"ceiling\":%.*s,\"frozen\":%.*s,"
	             "\"id\":\"%s\"}",
	             (int)name.length, name.bytes, (int)floor.length, floor.bytes,
	             (int)ceiling.length, ceiling.bytes, (int)frozen.length, frozen.bytes, id);
	return length < IMPORT_BODY_MAX ? (size_t)length : IMPORT_BODY_MAX - 1;
}

size_t import_write_create(const struct import_line *line, const struct import_account *account,
                           const struct import_origin *origin, char *body)
{
	static const struct import_line open = {0};
	char id[ID_SIZE];

	write_id(origin, IMPORT_CREATE, account->name, id);
	return write_account(account->opened ? &open : line, account->name, id, body);
}

size_t import_write_limits(const struct import_line *line, const struct import_account *account,
                           const struct import_origin *origin, char *body)
{
	char id[ID_SIZE];

	write_id(origin, IMPORT_LIMITS, account->name, id);
	return write_account(line, account->name, id, body);
}

size_t import_write_balance(const struct import_account *account,
                            const struct import_origin *origin, char *body)
{
	char id[ID_SIZE];

	write_id(origin, IMPORT_BALANCE, account->name, id);
	return (size_t)snprintf(
	    body, IMPORT_BODY_MAX, "{\"account\":%.*s,\"amount\":%" PRId64 ",\"id\":\"%s\"}",
	    (int)account->name.length, account->name.bytes, account->balance, id);
}

#define STATEMENT_FIRST "/events?limit=1"
#define STATEMENT_NEXT  STATEMENT_FIRST "&before=%" PRIu64
_Static_assert(sizeof "/accounts/" STATEMENT_NEXT + 20 +
                       3 * (ID_MAX > ACCOUNT_NAME_MAX ? ID_MAX : ACCOUNT_NAME_MAX) <=
                   IMPORT_PATH_MAX,
               "any path fits");

static void write_path(const char *before, struct words name, char *path)
{
	size_t at = (size_t)sprintf(path, "%s", before);

	for (uint32_t i = 0; i < name.length; i++)
		at += (size_t)sprintf(path + at, "%%%02X", (unsigned char)name.bytes[i]);
}

void import_write_account_path(const struct import_account *account, char *path)
{
	char body[IMPORT_BODY_MAX];
	struct request request;
	struct json_error error;
	int length = snprintf(body, sizeof body, "{\"account\":%.*s}", (int)account->name.length,
	                      account->name.bytes);

	/* It was read so before: import_read_account. */
	path[0] = '\0';
	if (json_read_create(body, (size_t)length, &request, &error))
		write_path("/accounts/", request.leg[0].account, path);
}

void import_write_statement_path(const struct import_account *account, uint64_t before, char *path)
{
	import_write_account_path(account, path);
	if (before == 0)
		strcat(path, STATEMENT_FIRST);
	else
		sprintf(path + strlen(path), STATEMENT_NEXT, before);
}

size_t import_write_hold(const struct import_line *line, uint64_t now_us, char *body, char *path,
                         bool *expired, struct json_error *error)
{
	struct slice hold = import_get(line, "hold"), account = import_get(line, "account");
	struct slice state = import_get(line, "state"), amount = import_get(line, "amount");
	struct request request;
	char copy[IMPORT_BODY_MAX];
	uint64_t expires;

	*expired = false;
	if (!is_name(hold) || !is_name(account) || amount.length == 0 ||
	    hold.length + account.length + amount.length + 128 > IMPORT_BODY_MAX)
		return refuse(error, "invalid_hold", "the hold lacks its id, account or amount"), 0;
	if (!import_time(import_get(line, "expires"), &expires))
		return refuse(error, "invalid_ttl", "the hold does not say when it expires"), 0;
	uint64_t ttl = expires > now_us ? (expires - now_us + SECOND_US - 1) / SECOND_US : 0;
	*expired = ttl == 0 || (state.length > 0 && !is_text(state, "\"open\""));
	if (ttl == 0 || ttl > HOLD_TTL_MAX)
		ttl = ttl == 0 ? 1 : HOLD_TTL_MAX;
	int length = snprintf(body, IMPORT_BODY_MAX,
	                      "{\"account\":%.*s,\"amount\":%.*s,\"ttl\":%" PRIu64 ",\"id\":%.*s}",
	                      (int)account.length, account.bytes, (int)amount.length, amount.bytes,
	                      ttl, (int)hold.length, hold.bytes);
	memcpy(copy, body, (size_t)length);
	if (!json_read_hold(copy, (size_t)length, &request, error))
		return 0;
	write_path("/holds/", request.id, path);
	return (size_t)length;
}
