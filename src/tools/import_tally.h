/* What an import has met so far: counted, drawn while it goes on, and said at its end. */
#ifndef TALLYD_TOOLS_IMPORT_TALLY_H
#define TALLYD_TOOLS_IMPORT_TALLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TALLY_REASONS_MAX 64 /* that are told apart; what comes later is "other" */
#define TALLY_REASON_SIZE 48
#define TALLY_SAID_MAX    20 /* lines whose refusal is said; the others are only counted */

struct tally {
	uint64_t lines, accepted, duplicate, unknown, expired, ids;
	uint64_t open;    /* accounts that wait for their limits */
	uint64_t refused; /* lines that were rejected or could not be read */
	size_t reasons;
	struct {
		char name[TALLY_REASON_SIZE];
		uint64_t count;
	} reason[TALLY_REASONS_MAX];

	uint64_t bytes, size;  /* read, and of the whole; size 0: not known */
	uint64_t began, drawn; /* us, monotonic */
	bool shows;
};

/* Starts it, for input of SIZE bytes (0: not known). */
void tally_begin(struct tally *tally, uint64_t size);

/* Line NUMBER is refused: says why, if not too many were said before. */
void tally_refuse(struct tally *tally, uint64_t number, const char *reason, const char *detail);

/* How long it has gone on. */
double tally_seconds(const struct tally *tally);

/* Draws the line on standard error, if that is a terminal and it is time; wipes it. */
void tally_draw(struct tally *tally);
void tally_wipe(struct tally *tally);

/* The end: STATUS "ok", or "error" with REASON and why in DETAIL. */
void tally_report(const struct tally *tally, bool json, const char *status, const char *reason,
                  const char *detail, uint64_t reconnects);

#endif
