/*
 * What happened between two looks at one run of a daemon.
 */
#ifndef TALLYD_TOOLS_RATES_H
#define TALLYD_TOOLS_RATES_H

#include <stdbool.h>

#include "look.h"

/* Per second, but for what says otherwise. */
struct rates {
	double seconds; /* between the looks */
	double accepted;
	double refused;
	double rejected;
	double invalid;
	double replayed;
	double requests;
	double commits; /* group commits with client events */
	double bytes;   /* written to the journal */
	double syncs;
	double events_per_commit; /* 0: there was no commit */
	double sync_mean_us;      /* of one fdatasync, 0: there was none */
	uint64_t sync_p99_us;     /* at most so long, to a quarter; 0: there was none */
	uint64_t latency_p50_us;  /* of a request, likewise */
	uint64_t latency_p99_us;
	uint64_t recoveries; /* of locks, in all of the time */
	uint64_t alarms;
};

/* Of one process: its share of the time on a processor (1: all of one), and what it did. */
struct member_rates {
	double cpu;
	double requests;
	double events;
};

/* False: BEFORE and AFTER are of different runs, or no time has passed. */
bool rates_between(const struct look *before, const struct look *after, struct rates *rates);

/* Of MEMBER of AFTER.  All zero if it was not there BEFORE. */
struct member_rates rates_of_member(const struct look *before, const struct look *after,
                                    const struct look_member *member);

#endif
