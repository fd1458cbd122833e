#include "top_page.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "words.h"

#define LABEL        13 /* columns of what a line is called */
#define BAR_NARROW   24
#define BAR_WIDE     48
#define WIDE         110 /* columns from which on bars are long */
#define PROBLEMS_MAX 4   /* that are shown at once */
#define PEAK_WIDTH   12  /* columns of "  peak 12.3k" */
#define FOOT         1

void top_remember(struct top_history *history, double rate)
{
	if (history->count == TOP_HISTORY) {
		memmove(history->rate, history->rate + 1,
		        (TOP_HISTORY - 1) * sizeof *history->rate);
		history->count--;
	}
	history->rate[history->count++] = rate;
}

static void label(struct screen *screen, const char *text)
{
	screen_put(screen, SCREEN_DIM, "%s", text);
	screen_tab(screen, LABEL);
}

/* ---- The head ---- */

static void draw_head(struct screen *screen, const struct top_page *page)
{
	char text[WORDS_TIME_SIZE], up[WORDS_SIZE];
	const struct look *now = page->now;
	uint64_t started = now != NULL ? now->facts.started_us : 0;
	int right;

	screen_put(screen, SCREEN_BOLD, "tallyd %s", now != NULL ? now->version : "");
	screen_put(screen, SCREEN_PLAIN, " on %s", page->data);
	if (now == NULL || page->absent != NULL) {
		screen_line(screen);
		return;
	}
	words_span(now->real_us > started ? now->real_us - started : 0, up);
	right = screen->columns - (int)strlen(up) - 13; /* "up ", "  ", "18:02:33" */
	screen_tab(screen, right > screen->column + 2 ? right : screen->column + 2);
	screen_put(screen, SCREEN_PLAIN, "up %s  %s", up, words_time(now->real_us, text) + 11);
	screen_line(screen);
}

static void draw_health(struct screen *screen, const struct top_page *page)
{
	const struct health *health = page->health;
	size_t shown = health->problems < PROBLEMS_MAX ? health->problems : PROBLEMS_MAX;

	if (health->takes_updates)
		screen_put(screen, SCREEN_GOOD, "takes updates");
	else
		screen_put(screen, SCREEN_BAD, "TAKES NO UPDATES");
	screen_line(screen);
	for (size_t i = 0; i < shown; i++) {
		bool fatal = health->problem[i].fatal;
		screen_put(screen, fatal ? SCREEN_BAD : SCREEN_BOLD, "%s%s", fatal ? "!! " : "!  ",
		           health->problem[i].text);
		screen_line(screen);
	}
	if (health->problems > shown) {
		screen_put(screen, SCREEN_BOLD, "!  and %zu more: see tallyctl status",
		           health->problems - shown);
		screen_line(screen);
	}
}

/* ---- What goes on ---- */

/* "12.3k accepted", red where there should be none. */
static void put_rate(struct screen *screen, double rate, const char *what, bool bad)
{
	char text[WORDS_SIZE];

	screen_put(screen, bad && rate > 0 ? SCREEN_BAD : SCREEN_PLAIN, "%s %s",
	           words_short(rate, text), what);
}

static void draw_events(struct screen *screen, const struct rates *rates)
{
	char text[WORDS_SIZE];

	label(screen, "events/s");
	screen_put(screen, SCREEN_BOLD, "%s accepted", words_short(rates->accepted, text));
	screen_tab(screen, LABEL + 15);
	put_rate(screen, rates->refused, "refused", false);
	screen_tab(screen, LABEL + 28);
	put_rate(screen, rates->rejected, "rejected", true);
	screen_tab(screen, LABEL + 42);
	put_rate(screen, rates->invalid, "invalid", false);
	screen_tab(screen, LABEL + 54);
	put_rate(screen, rates->replayed, "replayed", false);
	screen_line(screen);
}

static void draw_history(struct screen *screen, const struct top_history *history)
{
	int width = screen->columns - LABEL - PEAK_WIDTH;
	char text[WORDS_SIZE];
	double peak = 0;

	if (width < 1)
		return;
	for (size_t i = 0; i < history->count; i++)
		peak = history->rate[i] > peak ? history->rate[i] : peak;
	screen_tab(screen, LABEL);
	screen_spark(screen, width, history->rate, history->count, peak, SCREEN_GOOD);
	screen_put(screen, SCREEN_DIM, "  peak %s", words_short(peak, text));
	screen_line(screen);
}

static void draw_requests(struct screen *screen, const struct rates *rates)
{
	char text[WORDS_SIZE], half[WORDS_SIZE], most[WORDS_SIZE];

	label(screen, "requests/s");
	screen_put(screen, SCREEN_BOLD, "%s", words_short(rates->requests, text));
	screen_tab(screen, LABEL + 15);
	if (rates->latency_p99_us == 0)
		screen_put(screen, SCREEN_DIM, "no answer yet in this time");
	else
		screen_put(screen, SCREEN_PLAIN, "answered in %s (half), %s (99 %%)",
		           words_span(rates->latency_p50_us, half),
		           words_span(rates->latency_p99_us, most));
	screen_line(screen);
}

static void draw_commits(struct screen *screen, const struct rates *rates)
{
	char text[WORDS_SIZE], mean[WORDS_SIZE], most[WORDS_SIZE], bytes[WORDS_SIZE];

	label(screen, "commits/s");
	screen_put(screen, SCREEN_BOLD, "%s", words_short(rates->commits, text));
	screen_tab(screen, LABEL + 15);
	screen_put(screen, SCREEN_PLAIN, "%s events each",
	           words_short(rates->events_per_commit, text));
	screen_tab(screen, LABEL + 33);
	screen_put(screen, SCREEN_PLAIN, "%s/s of journal",
	           words_bytes((uint64_t)rates->bytes, bytes));
	screen_line(screen);
	label(screen, "fdatasync/s");
	screen_put(screen, SCREEN_BOLD, "%s", words_short(rates->syncs, text));
	screen_tab(screen, LABEL + 15);
	if (rates->sync_p99_us == 0)
		screen_put(screen, SCREEN_DIM, "none in this time");
	else
		screen_put(screen, SCREEN_PLAIN, "%s in the mean, %s (99 %%)",
		           words_span((uint64_t)rates->sync_mean_us, mean),
		           words_span(rates->sync_p99_us, most));
	screen_line(screen);
}

static void draw_no_rates(struct screen *screen)
{
	label(screen, "events/s");
	screen_put(screen, SCREEN_DIM, "the next look will tell");
	screen_line(screen);
}

/* ---- What there is ---- */

static void draw_use(struct screen *screen, const char *what, const struct fact_use *use,
                     const char *used, const char *limit, bool alarming)
{
	double fraction = use->limit == 0 ? 0 : (double)use->used / (double)use->limit;
	enum screen_style style = alarming && fraction >= 0.9   ? SCREEN_BAD
	                          : alarming && fraction >= 0.5 ? SCREEN_BOLD
	                                                        : SCREEN_GOOD;

	label(screen, what);
	screen_bar(screen, screen->columns < WIDE ? BAR_NARROW : BAR_WIDE, fraction, style);
	screen_put(screen, SCREEN_PLAIN, " %3.0f %%  %s of %s", fraction * 100, used, limit);
	screen_line(screen);
}

static void draw_count(struct screen *screen, const char *what, const struct fact_use *use,
                       bool alarming)
{
	char used[WORDS_SIZE], limit[WORDS_SIZE];

	draw_use(screen, what, use, words_count(use->used, used), words_count(use->limit, limit),
	         alarming);
}

static void draw_uses(struct screen *screen, const struct facts *facts)
{
	char used[WORDS_SIZE], limit[WORDS_SIZE];

	draw_use(screen, "ring", &facts->ring, words_bytes(facts->ring.used, used),
	         words_bytes(facts->ring.limit, limit), true);
	draw_count(screen, "queue", &facts->queue, true);
	draw_count(screen, "accounts", &facts->accounts, true);
	/* That there are as many ids as there is room for is as it should be. */
	draw_count(screen, "ids", &facts->ids, false);
	draw_count(screen, "open holds", &facts->holds, true);
}

static void draw_disk(struct screen *screen, const struct look *now)
{
	const struct facts *facts = &now->facts;
	char bytes[WORDS_SIZE], age[WORDS_SIZE];

	label(screen, "journal");
	screen_put(screen, SCREEN_PLAIN, "%s; ", words_bytes(facts->journal_bytes, bytes));
	if (facts->snapshot_us == 0)
		screen_put(screen, SCREEN_PLAIN, "no snapshot yet");
	else
		screen_put(screen, SCREEN_PLAIN, "snapshot %s old",
		           words_span(now->real_us > facts->snapshot_us
		                          ? now->real_us - facts->snapshot_us
		                          : 0,
		                      age));
	if (facts->snapshots_failed != 0)
		screen_put(screen, SCREEN_BAD, ", %" PRIu64 " failed", facts->snapshots_failed);
	screen_line(screen);
}

static void put_total(struct screen *screen, const char *what, uint64_t count)
{
	char text[WORDS_SIZE];

	screen_put(screen, count != 0 ? SCREEN_BOLD : SCREEN_PLAIN, "%s %s", what,
	           words_count(count, text));
}

static void draw_accidents(struct screen *screen, const struct look *now)
{
	label(screen, "replaced");
	put_total(screen, "workers", now->facts.respawns_worker);
	put_total(screen, ", journal writers", now->facts.respawns_journal);
	put_total(screen, "; locks repaired", counter_load(&now->total, COUNTER_LOCK_RECOVERIES));
	put_total(screen, ", waits over 1 s", counter_load(&now->total, COUNTER_LOCK_ALARMS));
	screen_line(screen);
}

/* ---- Who is there ---- */

static void draw_member(struct screen *screen, const struct top_page *page,
                        const struct look_member *member)
{
	const struct look *before = page->before;
	struct member_rates rates = {0};
	char name[32], requests[WORDS_SIZE], events[WORDS_SIZE];
	bool odd = strcmp(look_state(member), "serving") != 0;

	if (before != NULL)
		rates = rates_of_member(before, page->now, member);
	screen_put(screen, SCREEN_PLAIN, "%-15s %7" PRIu32 "  ",
	           look_name(member, name, sizeof name), member->pid);
	screen_put(screen, odd ? SCREEN_BAD : SCREEN_PLAIN, "%-8s", look_state(member));
	screen_put(screen, SCREEN_PLAIN, " %4.0f%%", rates.cpu * 100);
	if (member->role == MEMBER_WORKER)
		screen_put(screen, SCREEN_PLAIN, " %6" PRIu64 " %7" PRIu64 " %10s %10s",
		           member->connections, member->waiting,
		           words_short(rates.requests, requests),
		           words_short(rates.events, events));
	screen_line(screen);
}

static void draw_members(struct screen *screen, const struct top_page *page)
{
	const struct look *now = page->now;
	size_t shown = 0;

	screen_line(screen);
	screen_put(screen, SCREEN_HEAD, "%-15s %7s  %-8s %5s %6s %7s %10s %10s", "PROCESS", "PID",
	           "STATE", "CPU", "CONN", "WAITING", "REQUESTS/S", "EVENTS/S");
	screen_line(screen);
	while (shown < now->members) {
		bool last = screen_left(screen) <= FOOT + 1 && shown + 1 < now->members;
		if (last || screen_left(screen) <= FOOT)
			break;
		draw_member(screen, page, &now->member[shown++]);
	}
	if (shown < now->members && screen_left(screen) > FOOT) {
		screen_put(screen, SCREEN_DIM, "and %zu more", now->members - shown);
		screen_line(screen);
	}
}

static void draw_foot(struct screen *screen, const struct top_page *page)
{
	if (!page->live)
		return;
	/* A page without an end has no foot to be at. */
	while (screen->rows != 0 && screen_left(screen) > FOOT)
		screen_line(screen);
	screen_put(screen, SCREEN_DIM, "q quit   space look now   every %g s", page->interval);
	screen_line(screen);
}

static void draw_absent(struct screen *screen, const struct top_page *page)
{
	screen_put(screen, SCREEN_BAD, "%s", page->absent);
	screen_line(screen);
	screen_put(screen, SCREEN_PLAIN, "waiting for it");
	screen_line(screen);
	draw_foot(screen, page);
}

static void draw_rates(struct screen *screen, const struct top_page *page)
{
	if (page->before == NULL) {
		draw_no_rates(screen);
		return;
	}
	draw_events(screen, page->rates);
	if (page->live)
		draw_history(screen, page->history);
	draw_requests(screen, page->rates);
	draw_commits(screen, page->rates);
}

void top_draw(struct screen *screen, const struct top_page *page)
{
	draw_head(screen, page);
	if (page->absent != NULL || page->now == NULL) {
		draw_absent(screen, page);
		return;
	}
	draw_health(screen, page);
	draw_rates(screen, page);
	draw_uses(screen, &page->now->facts);
	draw_disk(screen, page->now);
	draw_accidents(screen, page->now);
	draw_members(screen, page);
	draw_foot(screen, page);
}
