/* tallyctl top: what the daemon does, live, straight from the shared memory. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../shm/region.h"
#include "../base/clock.h"
#include "command.h"
#include "health.h"
#include "json_out.h"
#include "look.h"
#include "place.h"
#include "rates.h"
#include "screen.h"
#include "terminal.h"
#include "top_page.h"

#define LETTER_ONCE  256
#define INTERVAL_MIN 0.1 /* seconds */
#define INTERVAL_MAX 3600.0
#define PAGE_COLUMNS 80 /* of one that no terminal shows */

static const struct command_option options[] = {
    {'n', "interval", "SECONDS", "between two looks (default: 1)"},
    {LETTER_ONCE, "once", NULL, "show one page, without a terminal, and end"},
    {0},
};

/* Two looks, the newer one at `newest`. */
struct watcher {
	const struct session *session;
	uint64_t interval_us;
	struct look look[2];
	int newest;
	bool looked;  /* there was one */
	bool between; /* rates are those between the two */
	struct rates rates;
	struct health health;
	struct top_history history;
	char absent[COMMAND_MESSAGE_SIZE]; /* why there was none just now; "": there was */
	struct screen screen;
};

/* Only when there is a reason to: there may be many of them. */
static bool suspects_locks(const struct watcher *watcher, const struct look *look)
{
	for (size_t i = 0; i < look->members; i++)
		if (look->member[i].process != 'R' && look->member[i].process != 'S' &&
		    look->member[i].process != 'D')
			return true;
	return watcher->between && watcher->rates.alarms > 0;
}

/* One more look.  COMMAND_DONE, or why there is none, which ABSENT tells. */
static int look(struct watcher *watcher)
{
	const char *data = watcher->session->data;
	struct look *before = &watcher->look[watcher->newest];
	struct look *now = &watcher->look[1 - watcher->newest];
	struct region *region;
	long master;
	int status = place_look(data, &master, watcher->absent);

	if (status != COMMAND_DONE ||
	    (region = place_region(data, &status, watcher->absent)) == NULL) {
		watcher->between = false;
		return status;
	}
	look_take(region, master, now);
	watcher->absent[0] = '\0';
	watcher->between = watcher->looked && rates_between(before, now, &watcher->rates);
	if (suspects_locks(watcher, now))
		look_at_locks(region, now);
	region_close(region);
	health_judge(now, &watcher->health);
	watcher->newest = 1 - watcher->newest;
	watcher->looked = true;
	if (watcher->between)
		top_remember(&watcher->history, watcher->rates.accepted);
	return COMMAND_DONE;
}

static void draw(struct watcher *watcher, bool live)
{
	const struct look *now = &watcher->look[watcher->newest];
	const struct top_page page = {
	    .data = watcher->session->data,
	    .interval = (double)watcher->interval_us / 1e6,
	    .live = live,
	    .absent = watcher->absent[0] != '\0' ? watcher->absent : NULL,
	    .before = watcher->between ? &watcher->look[1 - watcher->newest] : NULL,
	    .now = watcher->looked ? now : NULL,
	    .rates = &watcher->rates,
	    .health = &watcher->health,
	    .history = &watcher->history,
	};

	top_draw(&watcher->screen, &page);
}

/* ---- Live ---- */

static void show(struct watcher *watcher)
{
	int columns, rows;

	terminal_size(&columns, &rows);
	screen_begin(&watcher->screen, columns, rows);
	draw(watcher, true);
	terminal_show(watcher->screen.bytes, watcher->screen.length);
}

/* Until UNTIL_US, or a key that cuts it short.  False: it is to end. */
static bool rest(struct watcher *watcher, uint64_t until_us)
{
	for (;;) {
		uint64_t now = clock_monotonic_us();
		if (now >= until_us)
			return true;
		int key = terminal_key((int)((until_us - now) / 1000 + 1));
		if (key == 'q' || key == 'Q' || key == -1)
			return false;
		if (key == ' ')
			return true;
		/* A new size, or back from being stopped. */
		if (clock_monotonic_us() < until_us)
			show(watcher);
	}
}

static int watch(struct watcher *watcher)
{
	const char *colours = getenv("NO_COLOR");
	uint64_t due;

	watcher->screen.styled = colours == NULL || *colours == '\0';
	watcher->screen.unicode = terminal_unicode();
	if (terminal_open() != 0)
		return command_fail(watcher->session, COMMAND_FAILED,
		                    "the terminal cannot be used; try --once");
	due = clock_monotonic_us();
	do {
		look(watcher);
		show(watcher);
		due += watcher->interval_us;
		/* After a stop, or a key, not all at once. */
		if (due <= clock_monotonic_us() ||
		    due > clock_monotonic_us() + watcher->interval_us)
			due = clock_monotonic_us() + watcher->interval_us;
	} while (rest(watcher, due));
	terminal_close();
	terminal_die();
	return COMMAND_DONE;
}

/* ---- Once ---- */

static void json_members(struct json_out *out, const struct watcher *watcher)
{
	const struct look *now = &watcher->look[watcher->newest];
	const struct look *before = &watcher->look[1 - watcher->newest];
	char name[32];

	json_out_open(out, "processes", '[');
	for (size_t i = 0; i < now->members; i++) {
		const struct look_member *member = &now->member[i];
		struct member_rates rates = rates_of_member(before, now, member);
		json_out_open(out, NULL, '{');
		json_out_text(out, "name", look_name(member, name, sizeof name));
		json_out_count(out, "pid", member->pid);
		json_out_text(out, "state", look_state(member));
		json_out_real(out, "cpu", rates.cpu);
		if (member->role == MEMBER_WORKER) {
			json_out_count(out, "connections", member->connections);
			json_out_count(out, "connections_waiting", member->waiting);
			json_out_real(out, "requests_per_second", rates.requests);
			json_out_real(out, "events_per_second", rates.events);
		}
		json_out_close(out, '}');
	}
	json_out_close(out, ']');
}

static void json_rates(struct json_out *out, const struct rates *rates)
{
	json_out_real(out, "seconds", rates->seconds);
	json_out_open(out, "per_second", '{');
	json_out_real(out, "events_accepted", rates->accepted);
	json_out_real(out, "events_refused", rates->refused);
	json_out_real(out, "events_rejected", rates->rejected);
	json_out_real(out, "events_invalid", rates->invalid);
	json_out_real(out, "events_replayed", rates->replayed);
	json_out_real(out, "requests", rates->requests);
	json_out_real(out, "group_commits", rates->commits);
	json_out_real(out, "fdatasyncs", rates->syncs);
	json_out_real(out, "journal_bytes", rates->bytes);
	json_out_close(out, '}');
	json_out_real(out, "events_per_commit", rates->events_per_commit);
	json_out_real(out, "fdatasync_mean_us", rates->sync_mean_us);
	json_out_count(out, "fdatasync_p99_us", rates->sync_p99_us);
	json_out_count(out, "latency_p50_us", rates->latency_p50_us);
	json_out_count(out, "latency_p99_us", rates->latency_p99_us);
}

static void json_use(struct json_out *out, const char *name, const struct fact_use *use)
{
	json_out_open(out, name, '{');
	json_out_count(out, "used", use->used);
	json_out_count(out, "limit", use->limit);
	json_out_close(out, '}');
}

static void tell_json(const struct watcher *watcher)
{
	const struct look *now = &watcher->look[watcher->newest];
	struct json_out out = {.stream = stdout};

	json_out_open(&out, NULL, '{');
	json_out_text(&out, "status", "running");
	health_tell_json(&out, &watcher->health);
	json_rates(&out, &watcher->rates);
	json_use(&out, "ring", &now->facts.ring);
	json_use(&out, "queue", &now->facts.queue);
	json_use(&out, "accounts", &now->facts.accounts);
	json_use(&out, "ids", &now->facts.ids);
	json_use(&out, "holds", &now->facts.holds);
	json_out_count(&out, "replaced_workers", now->facts.respawns_worker);
	json_out_count(&out, "replaced_journal_writers", now->facts.respawns_journal);
	json_out_count(&out, "locks_repaired", counter_load(&now->total, COUNTER_LOCK_RECOVERIES));
	json_members(&out, watcher);
	json_out_close(&out, '}');
	json_out_end(&out);
}

static void sleep_us(uint64_t us)
{
	struct timespec left = {.tv_sec = (time_t)(us / 1000000),
	                        .tv_nsec = (long)(us % 1000000) * 1000};

	while (nanosleep(&left, &left) != 0)
		;
}

static int show_once(struct watcher *watcher)
{
	int status = look(watcher);

	if (status == COMMAND_DONE) {
		sleep_us(watcher->interval_us);
		status = look(watcher);
	}
	if (status != COMMAND_DONE)
		return command_fail(watcher->session, status, "%s", watcher->absent);
	if (!watcher->between)
		return command_fail(watcher->session, COMMAND_FAILED,
		                    "tallyd was started anew meanwhile; look again");
	if (watcher->session->json) {
		tell_json(watcher);
		return COMMAND_DONE;
	}
	screen_begin(&watcher->screen, PAGE_COLUMNS, 0);
	draw(watcher, false);
	fwrite(watcher->screen.bytes, 1, watcher->screen.length, stdout);
	return COMMAND_DONE;
}

/* ---- The command ---- */

static int top(const struct session *session, int operands, char **operand)
{
	static struct watcher watcher; /* large, and one */
	long master;
	int status;

	(void)operands;
	(void)operand;
	watcher.session = session;
	watcher.interval_us = 1000000;
	status = command_seconds(session, 'n', INTERVAL_MIN, INTERVAL_MAX, &watcher.interval_us);
	if (status != COMMAND_DONE)
		return status;
	if (session->json || command_has(session, LETTER_ONCE) || !terminal_there())
		return show_once(&watcher);
	/* One that does not run is waited for; where nobody may look, or nothing is, that is vain.
	 */
	status = place_look(session->data, &master, watcher.absent);
	if (status != COMMAND_DONE && status != COMMAND_NOT_RUNNING)
		return command_fail(session, status, "%s", watcher.absent);
	return watch(&watcher);
}

const struct command command_top = {
    .word = {"top"},
    .operands = "",
    .summary = "show what the daemon does, live",
    .options = options,
    .run = top,
};
