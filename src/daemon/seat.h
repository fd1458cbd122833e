/*
 * A place that must be filled: the journal writer's, and one per worker.  Who dies leaves it empty
 * for a while, which doubles with each death soon after the last.
 */
#ifndef TALLYD_DAEMON_SEAT_H
#define TALLYD_DAEMON_SEAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEAT_BACKOFF_MAX 10.0 /* seconds, between two fillings */
#define SEAT_HEALTHY_S   10.0 /* alive for so long: the backoff starts again */
#define SEAT_RETRY_S     1.0  /* after a child that could not be forked */

struct seat {
	int slot; /* of who sits there, -1: nobody */
	uint64_t due_us;
	double delay; /* seconds, before the next filling */
	bool mourned; /* who sat here last has died, and has no successor yet */
};

/* Nobody sits in SEAT: it is to be filled at once, and BACKOFF seconds after the first death. */
void seat_reset(struct seat *seat, double backoff);

/* Who sat in SEAT since BORN_US (clock_monotonic_us) has died. */
void seat_vacate(struct seat *seat, double backoff, uint64_t born_us);

/* SEAT could not be filled: again in SEAT_RETRY_S. */
void seat_postpone(struct seat *seat);

/* Is SEAT empty, and its time come? */
bool seat_due(const struct seat *seat);

/* Which of the COUNT seats is it that the child in SLOT has?  NULL: none. */
struct seat *seat_find(struct seat *seats, size_t count, int slot);

#endif
