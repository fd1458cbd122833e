/*
 * What top shows, on a page.
 */
#ifndef TALLYD_TOOLS_TOP_PAGE_H
#define TALLYD_TOOLS_TOP_PAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "health.h"
#include "look.h"
#include "rates.h"
#include "screen.h"

#define TOP_HISTORY SCREEN_COLUMNS_MAX /* rates that are remembered: as many as a line shows */

/* Events accepted per second, the newest last. */
struct top_history {
	size_t count;
	double rate[TOP_HISTORY];
};

struct top_page {
	const char *data;
	double interval;           /* seconds between two looks */
	bool live;                 /* there are keys */
	const char *absent;        /* why the daemon cannot be looked at; NULL: it can */
	const struct look *before; /* NULL: there are no rates yet */
	const struct look *now;    /* NULL: there was none yet */
	const struct rates *rates;
	const struct health *health;
	const struct top_history *history;
};

void top_remember(struct top_history *history, double rate);

/* Draws PAGE on SCREEN, which was begun. */
void top_draw(struct screen *screen, const struct top_page *page);

#endif
