/* Lines of an import: their members, and the operations that are made of them. */
#include <stdio.h>
#include <string.h>

#include "../src/tools/import_line.h"
#include "tap/tap.h"

static struct import_line line;
static struct json_error error;
static const struct import_origin origin = {.journal = "c0ffee", .lsn = 77};

static bool read_text(const char *text)
{
	return import_line_read(text, strlen(text), &line, &error);
}

static bool slice_is(struct slice slice, const char *text)
{
	return slice.length == strlen(text) && memcmp(slice.bytes, text, slice.length) == 0;
}

static void refuses(const char *text, const char *reason)
{
	bool good = read_text(text);

	ok(!good && strcmp(error.reason, reason) == 0, "%.60s: %s", text, reason);
}

static void test_members(void)
{
	static char longest[IMPORT_LINE_MAX + 2];
	char many[512] = "{";

	ok(read_text(
	       " { \"a\\\"}\" : [1,{\"b\":\"]\"}] ,\"c\":null, \"account\":\"x\\\\\",\"n\":-5}\r"),
	   "a line with blanks, escapes and brackets");
	cmp_ok(line.count, "==", 4, "has its members");
	ok(slice_is(line.member[0].value, "[1,{\"b\":\"]\"}]"), "a nested one is whole");
	ok(import_get(&line, "c").length == 0, "null is not there");
	ok(slice_is(import_get(&line, "account"), "\"x\\\\\""), "a string is as it was written");
	ok(slice_is(import_get(&line, "n"), "-5"), "so is a number");
	cmp_ok(line.type, "==", IMPORT_EVENT, "without a type it is an event");
	ok(read_text("{\"type\":\"hold\"}") && line.type == IMPORT_HOLD, "with one it is that");
	refuses("{\"type\":\"holds\"}", "unknown_type");
	refuses("{\"type\":7}", "unknown_type");
	refuses("[]", "not_an_object");
	refuses("{\"a\":1", "invalid_json");
	refuses("", "invalid_json");
	memset(longest, ' ', sizeof longest);
	memcpy(longest, "{}", 2);
	ok(import_line_read(longest, IMPORT_LINE_MAX, &line, &error), "as long as a line may be");
	ok(!import_line_read(longest, IMPORT_LINE_MAX + 1, &line, &error) &&
	       strcmp(error.reason, "line_too_long") == 0,
	   "a byte more is refused");
	for (int i = 0; i < IMPORT_MEMBERS_MAX; i++)
		sprintf(many + strlen(many), "%s\"k%d\":1", i > 0 ? "," : "", i);
	strcat(many, "}");
	ok(read_text(many), "as many members as there may be");
	strcpy(many + strlen(many) - 1, ",\"z\":1}");
	refuses(many, "invalid_json");
}

static void test_values(void)
{
	uint64_t us = 0;
	int64_t number = 0;

	ok(import_number((struct slice){"\"42\"", 4}, &number) && number == 42,
	   "a number as a string");
	ok(import_number((struct slice){"-9223372036854775808", 20}, &number) &&
	       number == INT64_MIN,
	   "the least");
	ok(!import_number((struct slice){"4.5", 3}, &number), "no fraction");
	ok(!import_number((struct slice){"99999999999999999999", 20}, &number),
	   "none that is too large");
	ok(import_time((struct slice){"\"1970-01-02T00:00:01.25Z\"", 25}, &us) && us == 86401250000,
	   "a time");
	ok(!import_time((struct slice){"\"1970-01-02\"", 12}, &us), "a day is none");
	ok(!import_time((struct slice){"\"1970-01-02T00:00:01+01:00\"", 27}, &us), "UTC only");
}

static void account_is(const char *text, bool opened, bool held, const char *why)
{
	struct import_account account;

	ok(read_text(text) && import_read_account(&line, &account, &error) &&
	       account.opened == opened && account.held == held,
	   "%s", why);
}

/* Of the account bob. */
static void test_ids(const struct import_account *account)
{
	static const struct {
		const char *id;
		bool same;
	} cases[] = {
	    {"\"import:c0ffee:77:b:bob\"", true},   {"\"import:c0ffee:77:a:bob\"", false},
	    {"\"import:c0ffee:77:b:bobb\"", false}, {"\"import:c0ffee:77:b:bo\"", false},
	    {"\"import:c0ffee:78:b:bob\"", false},  {"", false},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct slice id = {cases[i].id, strlen(cases[i].id)};
		ok(import_is_id(id, &origin, IMPORT_BALANCE, account) == cases[i].same,
		   "%s is %sthe id of its balance", cases[i].id, cases[i].same ? "" : "not ");
	}
	ok(import_members_read("{\"type\":\"event\"}", 16, &line, &error) && line.count == 1,
	   "an object that is no line has its members");
}

static void test_accounts(void)
{
	static const char overdrawn[] =
	    "{\"type\":\"account\",\"account\":\"a b\",\"balance\":-5,"
	    "\"held\":3,\"floor\":-7,\"ceiling\":null,\"frozen\":\"none\"}";
	struct import_account account;
	char body[IMPORT_BODY_MAX], again[IMPORT_BODY_MAX], path[IMPORT_PATH_MAX];

	account_is("{\"account\":\"a\",\"balance\":5,\"held\":0,\"floor\":0,\"ceiling\":5}", false,
	           false, "one within its limits is made with them");
	account_is("{\"account\":\"a\",\"balance\":6,\"held\":0,\"ceiling\":5}", true, false,
	           "above its ceiling it is opened");
	account_is("{\"account\":\"a\",\"balance\":0,\"held\":0,\"frozen\":\"all\"}", true, false,
	           "so it is where it is frozen");
	account_is("{\"account\":\"a\",\"balance\":5,\"held\":5,\"floor\":1}", true, true,
	           "what is held counts");
	ok(read_text("{\"account\":\"a\",\"balance\":1,\"held\":0,\"frozen\":\"no\"}") &&
	       !import_read_account(&line, &account, &error) &&
	       strcmp(error.reason, "invalid_frozen") == 0,
	   "what the service would refuse is refused");
	ok(read_text("{\"account\":\"a\",\"held\":0}") &&
	       !import_read_account(&line, &account, &error),
	   "an account without a balance is none");

	ok(read_text(overdrawn) && import_read_account(&line, &account, &error), "with a blank");
	body[import_write_balance(&account, &origin, body)] = '\0';
	ok(strncmp(body, "{\"account\":\"a b\",\"amount\":-5,\"id\":\"import:c0ffee:77:b:#", 54) ==
	       0,
	   "a name that no id can have is hashed: %s", body);
	again[import_write_create(&line, &account, &origin, again)] = '\0';
	ok(strstr(again, "\"floor\":null") && strstr(again, ":a:#"), "it is opened: %s", again);
	again[import_write_limits(&line, &account, &origin, again)] = '\0';
	ok(strstr(again, "\"floor\":-7") && strstr(again, ":l:#"), "and gets its limits: %s",
	   again);
	import_write_account_path(&account, path);
	is(path, "/accounts/%61%20%62", "at its path");
	import_write_statement_path(&account, 0, path);
	is(path, "/accounts/%61%20%62/events?limit=1", "its newest change");
	import_write_statement_path(&account, UINT64_MAX, path);
	is(path, "/accounts/%61%20%62/events?limit=1&before=18446744073709551615",
	   "and one before");
	ok(read_text("{\"account\":\"bob\",\"balance\":1,\"held\":0}") &&
	       import_read_account(&line, &account, &error),
	   "a plain one");
	body[import_write_balance(&account, &origin, body)] = '\0';
	is(body, "{\"account\":\"bob\",\"amount\":1,\"id\":\"import:c0ffee:77:b:bob\"}",
	   "stands in its id");
	test_ids(&account);
}

static void test_events_and_holds(void)
{
	char body[IMPORT_LINE_MAX + ID_MAX + 16], path[IMPORT_PATH_MAX];
	bool expired;

	ok(read_text("{\"account\":\"a\",\"id\":null,\"amount\":1}"), "an event without an id");
	body[import_write_event(&line, "may", 12, body)] = '\0';
	is(body, "{\"id\":\"may:12\",\"account\":\"a\",\"amount\":1}", "gets that of its batch");

	ok(read_text("{\"type\":\"hold\",\"hold\":\"h/1\",\"state\":\"open\",\"account\":\"a\","
	             "\"amount\":4,\"expires\":\"1970-01-01T00:00:10.5Z\"}"),
	   "a hold");
	body[import_write_hold(&line, 500001, body, path, &expired, &error)] = '\0';
	is(body, "{\"account\":\"a\",\"amount\":4,\"ttl\":10,\"id\":\"h/1\"}",
	   "keeps its id, and what is left of its time");
	is(path, "/holds/%68%2F%31", "at its path");
	ok(!expired, "it is open");
	ok(import_write_hold(&line, 10500000, body, path, &expired, &error) > 0 && expired,
	   "until its time is over");
	ok(read_text("{\"hold\":\"h\",\"account\":\"a\",\"amount\":0,\"expires\":\"1970-01-01T00:"
	             "00:10Z\"}") &&
	       import_write_hold(&line, 0, body, path, &expired, &error) == 0,
	   "one of nothing is refused");
}

static void test_origin(void)
{
	struct import_origin got;

	ok(read_text("{\"type\":\"export\",\"format\":1,\"journal\":\"00ff\",\"lsn\":\"12\"}") &&
	       import_read_origin(&line, &got, &error) && got.lsn == 12 &&
	       strcmp(got.journal, "00ff") == 0,
	   "where an export comes from");
	ok(read_text("{\"type\":\"export\",\"format\":2,\"journal\":\"00ff\",\"lsn\":12}") &&
	       !import_read_origin(&line, &got, &error) &&
	       strcmp(error.reason, "unknown_format") == 0,
	   "another format is refused");
	ok(read_text("{\"type\":\"export\",\"format\":1,\"journal\":\"x y\",\"lsn\":12}") &&
	       !import_read_origin(&line, &got, &error),
	   "a journal is named by its key");
}

int main(void)
{
	plan(NO_PLAN);
	test_members();
	test_values();
	test_accounts();
	test_events_and_holds();
	test_origin();
	return done_testing();
}
