/*
 * What tallyctl makes of what it sees: each problem of a daemon, rates of two looks, pages that
 * fit, numbers as people read them, JSON.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/tools/health.h"
#include "../src/tools/json_out.h"
#include "../src/tools/rates.h"
#include "../src/tools/screen.h"
#include "../src/tools/top_page.h"
#include "../src/tools/words.h"
#include "tap/tap.h"

#define MASTER 100
#define WRITER 101
#define WORKER 200 /* the first one's process */

static struct look look;
static struct health health;

/* A daemon of WORKERS workers that is well. */
static void well(unsigned workers)
{
	memset(&look, 0, sizeof look);
	look.taken_us = 5000000;
	look.real_us = UINT64_C(1700000000000000);
	look.phase = REGION_SERVING;
	look.workers = workers;
	look.epoch = 7;
	look.master = (struct look_member){.pid = MASTER, .process = 'S'};
	look.member[0] = (struct look_member){
	    .role = MEMBER_JOURNAL_WRITER, .state = MEMBER_SERVING, .pid = WRITER, .process = 'S'};
	for (unsigned i = 0; i < workers; i++)
		look.member[1 + i] = (struct look_member){.role = MEMBER_WORKER,
		                                          .state = MEMBER_SERVING,
		                                          .pid = WORKER + i,
		                                          .slot = 2 + i,
		                                          .number = 1 + i,
		                                          .process = 'R',
		                                          .accepting = true};
	look.members = 1 + workers;
	look.facts.ring.limit = 1000000;
	look.facts.queue.limit = 1000;
	look.facts.accounts.limit = 10000;
	look.facts.holds.limit = 1000;
	look.facts.tail = 10000;
	look.facts.space = 1000000;
	look.facts.id_window_us = look.facts.ids_kept_us = 1000000;
}

/* The reasons, with '!' before the fatal ones. */
static const char *reasons(void)
{
	static char text[1024];
	size_t at = 0;

	text[0] = '\0';
	health_judge(&look, &health);
	for (size_t i = 0; i < health.problems; i++)
		at +=
		    (size_t)snprintf(text + at, sizeof text - at, "%s%s%s", i > 0 ? " " : "",
		                     health.problem[i].fatal ? "!" : "", health.problem[i].reason);
	if (health.takes_updates == (strchr(text, '!') != NULL))
		return "takes_updates contradicts the problems";
	return text;
}

static void judgements(void)
{
	well(2);
	is(reasons(), "", "a daemon that is well");
	look.phase = REGION_STARTING;
	is(reasons(), "!starting", "one that starts");
	look.phase = REGION_DRAINING;
	is(reasons(), "!draining", "one that drains");
	look.phase = REGION_CLOSING;
	is(reasons(), "!draining", "one that closes");
	well(2);
	look.facts.poisoned = true;
	is(reasons(), "!poisoned", "an inconsistent region");
	well(2);
	look.facts.failed = EIO;
	is(reasons(), "!journal_failed", "a journal that failed");
	is(health.problem[0].text, "the journal failed: Input/output error", "says why");
	well(2);
	look.facts.disk_full = ENOSPC;
	is(reasons(), "disk_filling", "a disk that is full, with room in the segment");
	look.facts.space = look.facts.tail + 1000;
	is(reasons(), "!disk_full", "and without");
	well(2);
	look.facts.ring.used = look.facts.ring.limit - JOURNAL_RECORD_MAX;
	is(reasons(), "", "a ring with room for one more");
	look.facts.ring.used++;
	is(reasons(), "!queue_full", "and without");
	well(2);
	look.facts.queue.used = look.facts.queue.limit;
	is(reasons(), "!queue_full", "as many events as may wait");
	well(2);
	look.members = 1;
	is(reasons(), "!no_workers", "no worker");
	well(2);
	look.members = 2;
	is(reasons(), "workers_missing", "one too few");
	well(2);
	look.member[2].state = MEMBER_STARTING;
	is(reasons(), "workers_missing", "one that does not serve yet");
	well(2);
	look.member[1].process = 'T';
	is(reasons(), "workers_stopped", "one that is stopped");
	look.member[2].process = 't';
	is(reasons(), "!workers_stopped", "all of them");
	well(2);
	look.member[0] = look.member[2];
	look.members = 2;
	is(reasons(), "!no_journal_writer", "no journal writer");
	well(2);
	look.member[0].process = 'T';
	is(reasons(), "!journal_writer_stopped", "one that is stopped");
	well(2);
	look.master.process = 'T';
	is(reasons(), "master_stopped", "a master that is stopped");
	well(2);
	look.facts.accounts.used = 9000;
	is(reasons(), "accounts_nearly_full", "nine tenths of the accounts");
	look.facts.accounts.used = 8999;
	is(reasons(), "", "and not quite");
	look.facts.holds.used = 1000;
	is(reasons(), "holds_nearly_full", "all holds");
	well(2);
	look.facts.ids_kept_us--;
	is(reasons(), "ids_forgotten", "ids that are forgotten too early");
}

static void judge_locks(void)
{
	well(2);
	look.locks = 1;
	look.lock[0] = (struct look_lock){.lock = 3, .holder = WORKER + 1, .guards = "accounts"};
	look.member[2].process = 'T';
	is(reasons(), "workers_stopped lock_held", "a lock that is held for long");
	is(health.problem[1].text,
	   "lock 3 (accounts) is held by worker 2 (process 201, stopped): who needs it waits",
	   "and by whom");
	look.lock[0].guards = "ring";
	is(reasons(), "!lock_held workers_stopped", "the ring's: the fatal one comes first");
	well(2);
	look.locks = 1;
	look.lock[0] = (struct look_lock){.lock = 3, .dead = true, .guards = "ids"};
	is(reasons(), "lock_orphaned", "one that the dead left");
	look.locks = LOOK_LOCKS_MAX + 3;
	for (int i = 0; i < LOOK_LOCKS_MAX; i++)
		look.lock[i] = look.lock[0];
	health_judge(&look, &health);
	cmp_ok((intmax_t)health.problems, "==", LOOK_LOCKS_MAX + 1, "many of them");
	is(health.problem[LOOK_LOCKS_MAX].text, "and 3 more locks", "are counted");
	/* Everything at once. */
	look.phase = REGION_DRAINING;
	look.master.process = look.member[0].process = 'T';
	look.facts.poisoned = true;
	look.facts.failed = look.facts.disk_full = EIO;
	look.facts.space = 0;
	look.facts.queue.used = look.facts.accounts.used = look.facts.holds.used = 1000000;
	look.facts.ids_kept_us = 0;
	health_judge(&look, &health);
	cmp_ok((intmax_t)health.problems, "<=", HEALTH_PROBLEMS_MAX, "however many there are");
	cmp_ok((intmax_t)health.problems, ">", 15, "they are told");
	bool sorted = true;
	for (size_t i = 1; i < health.problems; i++)
		sorted = sorted && (health.problem[i - 1].fatal || !health.problem[i].fatal);
	ok(sorted, "the fatal ones first");
}

/* ---- rates */

static void add(struct look *to, enum counter counter, uint64_t amount)
{
	counter_add(&to->total, counter, amount);
}

static void compare(void)
{
	/* Not on the stack: not even a sanitizer's keeps the alignment of counters there. */
	static struct look before, after, other;
	struct rates rates;

	well(2);
	before = after = look;
	after.taken_us += 2000000;
	ok(rates_between(&before, &after, &rates), "two looks at one run");
	ok(rates.seconds == 2 && rates.accepted == 0 && rates.sync_p99_us == 0 &&
	       rates.events_per_commit == 0,
	   "between which nothing happened");
	add(&after, COUNTER_EVENTS_ACCEPTED, 100);
	add(&after, COUNTER_EVENTS_REFUSED, 10);
	add(&after, COUNTER_EVENTS_REJECTED, 8);
	add(&after, COUNTER_EVENTS_INVALID, 6);
	add(&after, COUNTER_EVENTS_REPLAYED, 4);
	add(&after, COUNTER_REQUESTS, 50);
	add(&after, COUNTER_JOURNAL_BYTES, 4000);
	add(&after, COUNTER_LOCK_ALARMS, 3);
	add(&after, COUNTER_LOCK_RECOVERIES, 1);
	counter_measure(&after.total, MEASURE_GROUP, 10, 10);
	counter_measure(&after.total, MEASURE_FDATASYNC, 100, 99);
	counter_measure(&after.total, MEASURE_FDATASYNC, 100000, 1);
	counter_measure(&after.total, MEASURE_REQUEST, 1000, 100);
	rates_between(&before, &after, &rates);
	ok(rates.accepted == 50 && rates.refused == 5 && rates.rejected == 4 &&
	       rates.invalid == 3 && rates.replayed == 2 && rates.requests == 25 &&
	       rates.bytes == 2000,
	   "what happened, per second");
	ok(rates.alarms == 3 && rates.recoveries == 1, "what is counted");
	ok(rates.commits == 5 && rates.events_per_commit == 10, "group commits");
	ok(rates.syncs == 50 && rates.sync_mean_us == 1099, "fdatasyncs, and their mean");
	cmp_ok((intmax_t)rates.sync_p99_us, ">=", 100000, "the slowest of a hundred");
	cmp_ok((intmax_t)rates.latency_p50_us, ">=", 1000, "half of the answers");
	cmp_ok((intmax_t)rates.latency_p50_us, "<=", 1250, "to a quarter");
	cmp_ok((intmax_t)rates.latency_p99_us, "==", (intmax_t)rates.latency_p50_us, "all alike");
	rates_between(&after, &before, &rates);
	ok(rates.seconds == 0, "looks in the wrong order are none");
	before.taken_us = 1;
	other = before;
	other.total = after.total;
	after.total = before.total;
	rates_between(&other, &after, &rates);
	ok(rates.accepted == 0 && rates.commits == 0, "nothing goes back");
	after.epoch++;
	ok(!rates_between(&before, &after, &rates), "another run is another one");
	after.epoch--;
	after.master.pid++;
	ok(!rates_between(&before, &after, &rates), "another master, too");
}

static void compare_members(void)
{
	static struct look before, after;

	well(2);
	before = after = look;
	after.taken_us += 2000000;
	after.member[1].cpu_us = 1000000;
	after.member[1].requests = 20;
	after.member[1].events = 40;
	struct member_rates rates = rates_of_member(&before, &after, &after.member[1]);
	ok(rates.cpu == 0.5 && rates.requests == 10 && rates.events == 20, "a worker's rates");
	after.member[1].pid = 999;
	rates = rates_of_member(&before, &after, &after.member[1]);
	ok(rates.cpu == 0 && rates.requests == 0 && rates.events == 0,
	   "its successor has none yet");
}

/* ---- pages */

static struct screen screen;

/* Does every line fit, and is there none too many? */
static bool fits(int columns, int rows)
{
	int lines = 0;
	int width = 0;

	for (size_t i = 0; i < screen.length; i++) {
		unsigned char byte = (unsigned char)screen.bytes[i];
		if (byte == '\n') {
			lines++;
			width = 0;
		} else if ((byte & 0xc0) != 0x80 && ++width > columns) {
			return false;
		}
	}
	return rows == 0 || lines <= rows;
}

static void pages(void)
{
	static struct top_history history;
	static struct look before;
	struct rates rates;
	bool fit = true;

	well(64);
	before = look;
	before.taken_us -= 1000000;
	rates_between(&before, &look, &rates);
	look.facts.poisoned = true;
	health_judge(&look, &health);
	for (int i = 0; i < 3 * TOP_HISTORY; i++)
		top_remember(&history, i);
	cmp_ok((intmax_t)history.count, "==", TOP_HISTORY, "history has an end");
	ok(history.rate[TOP_HISTORY - 1] == 3 * TOP_HISTORY - 1 &&
	       history.rate[0] == 2 * TOP_HISTORY,
	   "the oldest goes");
	const struct top_page page = {
	    .data = "/a/directory/whose/name/is/as/long/as/they/sometimes/are",
	    .interval = 1,
	    .live = true,
	    .before = &before,
	    .now = &look,
	    .rates = &rates,
	    .health = &health,
	    .history = &history};
	for (int unicode = 0; unicode < 2; unicode++)
		for (int columns = 1; columns < 200; columns += 3)
			for (int rows = 1; rows < 90; rows += 4) {
				screen.unicode = unicode != 0;
				screen_begin(&screen, columns, rows);
				top_draw(&screen, &page);
				fit = fit && fits(columns, rows) && screen.row == rows;
			}
	ok(fit, "a page fits, whatever the size of the terminal");
	screen_begin(&screen, 80, 0);
	top_draw(&screen, &page);
	ok(screen.length < sizeof screen.bytes && screen.row > 64 + 10,
	   "without an end all is there");
	screen_begin(&screen, 100000, 100000);
	ok(screen.columns == SCREEN_COLUMNS_MAX && screen.rows == SCREEN_ROWS_MAX,
	   "no terminal is larger than the largest");
	for (int i = 0; i < 100000; i++)
		screen_put(&screen, SCREEN_PLAIN, "xxxxxxxxxxxxxxxxxxxxxxxxx\n");
	ok(screen.length <= sizeof screen.bytes && fits(SCREEN_COLUMNS_MAX, 1), "nor a line");
	screen_begin(&screen, 10, 1);
	screen_put(&screen, SCREEN_PLAIN, "a\033b\x7f%s",
	           "\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4");
	ok(screen.length == 16 &&
	       memcmp(screen.bytes, "a?b?\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4", 16) == 0,
	   "control characters show as such, and characters are not cut");
}

static const char *drawn(void)
{
	screen.bytes[screen.length] = '\0';
	return screen.bytes;
}

static void bars(void)
{
	static const double values[] = {0, 1, 50, 100};

	screen.unicode = screen.styled = false;
	screen_begin(&screen, 80, 1);
	screen_bar(&screen, 10, 0, SCREEN_GOOD);
	screen_bar(&screen, 10, 0.001, SCREEN_GOOD);
	screen_bar(&screen, 10, 0.5, SCREEN_GOOD);
	screen_bar(&screen, 10, 7, SCREEN_GOOD);
	is(drawn(), "[..........][#.........][#####.....][##########]", "bars");
	screen_begin(&screen, 80, 1);
	screen_spark(&screen, 6, values, 4, 100, SCREEN_GOOD);
	is(drawn(), "   .=#", "a course, the newest at the right");
	screen_begin(&screen, 80, 1);
	screen_spark(&screen, 2, values, 4, 100, SCREEN_GOOD);
	is(drawn(), "=#", "of which the newest fit");
	screen_begin(&screen, 80, 1);
	screen_spark(&screen, 3, values, 1, 0, SCREEN_GOOD);
	is(drawn(), "   ", "or of nothing");
}

/* ---- words */

static void numbers(void)
{
	char text[WORDS_TIME_SIZE];

	is(words_count(0, text), "0", "0");
	is(words_count(999, text), "999", "999");
	is(words_count(1000, text), "1 000", "1 000");
	is(words_count(UINT64_MAX, text), "18 446 744 073 709 551 615", "the largest count");
	is(words_signed(INT64_MIN, text), "-9 223 372 036 854 775 808", "the smallest number");
	is(words_signed(-100, text), "-100", "-100");
	is(words_short(0, text), "0", "nothing");
	is(words_short(0.5, text), "0.5", "a half");
	is(words_short(99.96, text), "100", "99.96");
	is(words_short(999.4, text), "999", "999.4");
	is(words_short(999.6, text), "1.00k", "999.6");
	is(words_short(12345, text), "12.3k", "12345");
	is(words_short(999600, text), "1.00M", "999600");
	is(words_short(3.1e6, text), "3.10M", "3.1e6");
	is(words_short(4.2e18, text), "4200P", "whatever is greater");
	is(words_bytes(1023, text), "1023 bytes", "bytes");
	is(words_bytes(1536, text), "1.5 KiB", "KiB");
	is(words_bytes(UINT64_C(64) << 20, text), "64.0 MiB", "MiB");
	is(words_bytes(UINT64_MAX, text), "16.0 EiB", "EiB");
	is(words_span(0, text), "0 us", "no time");
	is(words_span(2345, text), "2.35 ms", "ms");
	is(words_span(345678, text), "346 ms", "more of them");
	is(words_span(12345678, text), "12.3 s", "s");
	is(words_span(UINT64_C(303000000), text), "5 min 3 s", "min");
	is(words_span(UINT64_C(7380000000), text), "2 h 3 min", "h");
	is(words_span(UINT64_C(273600000000), text), "3 d 4 h", "d");
	is(words_time_exact(UINT64_C(1700000000123456), text), "2023-11-14T22:13:20.123456Z",
	   "a time");
	setenv("TZ", "UTC0", 1);
	is(words_time(UINT64_C(1700000000123456), text), "2023-11-14 22:13:20", "for people");
	ok(words_time_exact(UINT64_MAX, text) != NULL && strlen(text) < WORDS_TIME_SIZE,
	   "one that no calendar has");
}

static void json(void)
{
	char *text = NULL;
	size_t size = 0;
	FILE *stream = open_memstream(&text, &size);
	struct json_out out = {.stream = stream};

	if (stream == NULL)
		BAIL_OUT("open_memstream: %s", strerror(errno));
	json_out_open(&out, NULL, '{');
	json_out_count(&out, "most", UINT64_MAX);
	json_out_signed(&out, "least", INT64_MIN);
	json_out_open(&out, "list", '[');
	json_out_flag(&out, NULL, true);
	json_out_open(&out, NULL, '{');
	json_out_close(&out, '}');
	json_out_null(&out, NULL);
	json_out_close(&out, ']');
	json_out_real(&out, "real", 1.5);
	json_out_text(&out, "text", "\"\\\n\x01\x7f\u00e4\xff\xc3");
	json_out_time(&out, "never", 0);
	json_out_time(&out, "once", UINT64_C(1700000000123456));
	json_out_close(&out, '}');
	json_out_end(&out);
	fclose(stream);
	is(text,
	   "{\"most\":18446744073709551615,\"least\":-9223372036854775808,\"list\":[true,{},null],"
	   "\"real\":1.500,\"text\":\"\\\"\\\\\\u000a\\u0001\\u007f\u00e4\\ufffd\\ufffd\","
	   "\"never\":null,"
	   "\"once\":\"2023-11-14T22:13:20.123456Z\"}\n",
	   "JSON of all kinds");
	free(text);
}

int main(void)
{
	plan(NO_PLAN);
	judgements();
	judge_locks();
	compare();
	compare_members();
	pages();
	bars();
	numbers();
	json();
	return done_testing();
}
