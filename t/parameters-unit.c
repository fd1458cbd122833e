/*
 * What requests say in their query, and the value of cors_origin: times against the C library's
 * calendar, cursors, percent-encoding, origins, and the ids made for holds.
 */
#include "../src/server/parameters.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../src/server/cors.h"
#include "../src/server/hold_id.h"
#include "../src/wire/moment.h"
#include "tap/tap.h"

#define DAY_US   UINT64_C(86400000000)
#define IDS_MADE 100 /* more than are bought at once */

static uint64_t moment(const char *text)
{
	uint64_t us;
	return moment_read(text, strlen(text), &us) ? us : UINT64_MAX;
}

static void is_moment(const char *text, uint64_t us)
{
	uint64_t got = moment(text);
	ok(got == us, "%s is %llu (%llu)", text, (unsigned long long)us, (unsigned long long)got);
}

/* Every day from 1970 to 2400 is the one after the day before, and named as gmtime names it. */
static void test_calendar(void)
{
	unsigned wrong = 0;
	for (uint64_t day = 0; day < 157054; day++) {
		time_t seconds = (time_t)(day * 86400);
		struct tm tm;
		char text[32];
		gmtime_r(&seconds, &tm);
		strftime(text, sizeof(text), "%Y-%m-%dT00:00:00Z", &tm);
		wrong += moment(text) != day * DAY_US;
	}
	cmp_ok(wrong, "==", 0, "430 years of days");
}

static void test_moments(void)
{
	static const char *const bad[] = {
	    "",
	    "2026",
	    "2026-11-20",
	    "2026-11-20T20:13:42",
	    "2026-11-20T20:13Z",
	    "2026-11-20T20:13:42,5Z",
	    "2026-11-20T20:13:42.Z",
	    "2026-11-20T20:13:42+0100",
	    "2026-11-20T20:13:42+01",
	    "2026-11-20T20:13:42+24:00",
	    "2026-11-20T20:13:42+01:60",
	    "2026-11-20T20:13:42Z ",
	    " 2026-11-20T20:13:42Z",
	    "2026-11-20T24:00:00Z",
	    "2026-11-20T20:60:00Z",
	    "2026-11-20T20:13:61Z",
	    "2026-00-20T20:13:42Z",
	    "2026-13-20T20:13:42Z",
	    "2026-11-00T20:13:42Z",
	    "2026-11-31T20:13:42Z",
	    "2026-02-29T20:13:42Z",
	    "2100-02-29T20:13:42Z",
	    "0000-01-01T00:00:00Z",
	    "-2026-11-20T20:13:42Z",
	    "02026-11-20T20:13:42Z",
	    "2026-1-20T20:13:42Z",
	    "2026-11-20T20:13:42.0000000000000000000000000000Z",
	};
	is_moment("1970-01-01T00:00:00Z", 0);
	is_moment("1970-01-01T00:00:00.000001Z", 1);
	is_moment("1970-01-02T00:00:00Z", DAY_US);
	is_moment("1969-12-31T23:59:59Z", 0);
	is_moment("0001-01-01T00:00:00Z", 0);
	is_moment("2026-11-20T20:13:42.918204Z", UINT64_C(1795205622918204));
	is_moment("2026-11-20t20:13:42.918204z", UINT64_C(1795205622918204));
	is_moment("2026-11-20 20:13:42.918204Z", UINT64_C(1795205622918204));
	is_moment("2026-11-20T21:13:42.918204+01:00", UINT64_C(1795205622918204));
	is_moment("2026-11-20T14:43:42.918204-05:30", UINT64_C(1795205622918204));
	is_moment("2026-11-20T20:13:42.9182049999999Z", UINT64_C(1795205622918204));
	is_moment("2026-11-20T20:13:42.9Z", UINT64_C(1795205622900000));
	is_moment("2016-12-31T23:59:60Z", UINT64_C(1483228799999999));
	is_moment("9999-12-31T23:59:59.999999Z", UINT64_C(253402300799999999));
	is_moment("2024-02-29T00:00:00Z", UINT64_C(1709164800000000));
	is_moment("2026-11-20T20:13:42.00000000000000000000000000Z", UINT64_C(1795205622000000));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(moment(bad[i]) == UINT64_MAX, "no time: \"%s\"", bad[i]);
}

/* --- the query of a request --- */

struct asked {
	struct http_request request;
	struct server_settings settings;
	struct call call;
	struct answer answer;
	char out[HANDLER_ROOM];
};

static struct asked asked;

/* A call whose query is QUERY. */
static const struct call *ask(const char *query)
{
	memset(&asked, 0, sizeof(asked));
	asked.request.query = (struct http_span){0, (uint32_t)strlen(query)};
	asked.call =
	    (struct call){.request = &asked.request, .settings = &asked.settings, .bytes = query};
	asked.call.frame.date = "Sun, 06 Nov 1994 08:49:37 GMT";
	text_init(&asked.answer.out, asked.out, sizeof(asked.out));
	return &asked.call;
}

static bool refused_as(const char *word)
{
	char needle[64];
	snprintf(needle, sizeof(needle), "\"reason\":\"%s\"", word);
	return asked.answer.status == 400 &&
	       memmem(asked.out, asked.answer.out.length, needle, strlen(needle)) != NULL;
}

static void test_cursors(void)
{
	static const uint64_t positions[] = {0, 1, UINT64_MAX, UINT64_C(0x0123456789abcdef)};
	static const char *const bad[] = {"cursor=",
	                                  "cursor=a",
	                                  "cursor=a0123456789abcde",
	                                  "cursor=a0123456789abcdefa",
	                                  "cursor=b0123456789abcdef",
	                                  "cursor=a0123456789abcdeF",
	                                  "cursor=a0123456789abcdeg",
	                                  "cursor=a0123456789abcdef&cursor=a0123456789abcdef"};
	char query[64];
	struct text text;
	uint64_t position;
	bool begun;

	for (size_t i = 0; i < sizeof(positions) / sizeof(positions[0]); i++) {
		text_init(&text, query, sizeof(query));
		text_literal(&text, "cursor=");
		parameter_cursor_text(&text, positions[i]);
		text_bytes(&text, "", 1);
		ok(parameter_cursor(ask(query), &asked.answer, &position, &begun) && begun &&
		       position == positions[i],
		   "%s", query);
	}
	ok(parameter_cursor(ask("x=1"), &asked.answer, &position, &begun) && !begun, "none");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(!parameter_cursor(ask(bad[i]), &asked.answer, &position, &begun) &&
		       refused_as("invalid_cursor"),
		   "no cursor: %s", bad[i]);
}

static void test_at(void)
{
	struct moment moment;

	ok(parameter_at(ask(""), &asked.answer, &moment) && !moment.given, "no moment");
	ok(parameter_at(ask("at=18446744073709551615"), &asked.answer, &moment) && moment.given &&
	       !moment.is_time && moment.value == UINT64_MAX,
	   "an LSN");
	ok(parameter_at(ask("at=1970-01-01T00%3A00%3A01%2B00:00"), &asked.answer, &moment) &&
	       moment.is_time && moment.value == 1000000,
	   "a time, percent-encoded");
	ok(!parameter_at(ask("at=18446744073709551616"), &asked.answer, &moment) &&
	       refused_as("invalid_at"),
	   "neither");
	ok(!parameter_at(ask("at=1&at=1"), &asked.answer, &moment) && refused_as("invalid_at"),
	   "two");
}

static void test_limits(void)
{
	unsigned limit = 7;
	uint64_t before;
	char name[ACCOUNT_NAME_MAX];
	struct words prefix;

	ok(parameter_limit(ask("a=b"), &asked.answer, &limit) && limit == 7, "no limit");
	ok(parameter_limit(ask("limit=100"), &asked.answer, &limit) && limit == 100, "the most");
	ok(!parameter_limit(ask("limit=101"), &asked.answer, &limit) && refused_as("invalid_limit"),
	   "one more");
	ok(!parameter_limit(ask("limit=000000000000000000001"), &asked.answer, &limit),
	   "more digits than a number has");
	ok(parameter_before(ask("before=8"), &asked.answer, &before) && before == 8, "before");
	ok(!parameter_before(ask("before=0"), &asked.answer, &before) &&
	       refused_as("invalid_before"),
	   "0 is no position");
	ok(parameter_prefix(ask("prefix=%C3"), &asked.answer, name, &prefix) &&
	       prefix.length == 1 && prefix.bytes[0] == '\xc3',
	   "a prefix may end within a character");
	ok(!parameter_prefix(ask("prefix=%00"), &asked.answer, name, &prefix) &&
	       refused_as("invalid_prefix"),
	   "and may hold no NUL");
}

static void test_encoding(void)
{
	char bytes[64];
	struct text text;

	text_init(&text, bytes, sizeof(bytes));
	parameter_encode(&text, (struct words){"aZ09-._~ /?&%\xc3\xa9\"", 16});
	text_bytes(&text, "", 1);
	is(bytes, "aZ09-._~%20%2F%3F%26%25%C3%A9%22", "all but what is unreserved");
}

/* --- origins --- */

static void test_origins(void)
{
	static const char *const good[] = {
	    "",
	    " ",
	    "*",
	    "http://a",
	    "https://a.example.org",
	    "http://localhost:3000",
	    "http://127.0.0.1:80",
	    "http://[::1]",
	    "http://[2001:db8::1]:8080",
	    "chrome-extension://abcdefghijklmnop",
	    "https://a.org  http://b.org",
	};
	static const char *const bad[] = {
	    "null",       "a.org",         "http://",           "http:/a",
	    "://a",       "http://a/",     "http://a/b",        "http://a:",
	    "http://a:x", "http://A",      "HTTP://a",          "http://u@a",
	    "http://a?b", "http://a#",     "http://[::1",       "http://[]",
	    "http://[]x", "http://[::1]:", "http://a:80:90",    "http://*",
	    "* *",        "http://a *",    "http://a,http://b", "http://a\thttp://b",
	    "9p://a",     "-a://b",
	};
	struct cors_origins origins;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ok(cors_read(good[i], &origins) == NULL, "origins: \"%s\"", good[i]);
	cmp_ok(origins.count, "==", 2, "two of them");
	is(origins.origin[0], "https://a.org", "one");
	is(origins.origin[1], "http://b.org", "and the other");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(cors_read(bad[i], &origins) != NULL, "no origins: \"%s\"", bad[i]);
}

static void test_origin_limits(void)
{
	char text[CORS_ORIGINS_MAX * 16 + CORS_ORIGIN_MAX + 2] = "";
	struct cors_origins origins;

	for (int i = 0; i < CORS_ORIGINS_MAX; i++)
		strcat(text, "http://host ");
	ok(cors_read(text, &origins) == NULL && origins.count == CORS_ORIGINS_MAX, "the most");
	strcat(text, "http://host");
	ok(cors_read(text, &origins) != NULL, "one more");
	snprintf(text, sizeof(text), "http://%0*d", CORS_ORIGIN_MAX - 7, 0);
	ok(cors_read(text, &origins) == NULL && strlen(origins.origin[0]) == CORS_ORIGIN_MAX,
	   "the longest");
	strcat(text, "0");
	ok(cors_read(text, &origins) != NULL, "a byte longer");
}

/* --- ids of holds --- */

static int compare(const void *left, const void *right)
{
	return memcmp(left, right, HOLD_ID_LENGTH);
}

static void test_hold_ids(void)
{
	static char ids[IDS_MADE][HOLD_ID_LENGTH];
	unsigned wrong = 0, same = 0;

	for (int i = 0; i < IDS_MADE; i++) {
		wrong += !hold_id_make(ids[i]);
		for (int j = 0; j < HOLD_ID_LENGTH; j++)
			wrong += !memchr("0123456789abcdef", ids[i][j], 16);
	}
	qsort(ids, IDS_MADE, HOLD_ID_LENGTH, compare);
	for (int i = 1; i < IDS_MADE; i++)
		same += compare(ids[i - 1], ids[i]) == 0;
	cmp_ok(wrong, "==", 0, "ids of holds are hexadecimal");
	cmp_ok(same, "==", 0, "and differ");
}

int main(void)
{
	plan(NO_PLAN);
	test_calendar();
	test_moments();
	test_cursors();
	test_at();
	test_limits();
	test_encoding();
	test_origins();
	test_origin_limits();
	test_hold_ids();
	return done_testing();
}
