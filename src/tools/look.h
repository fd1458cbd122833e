/*
 * One look at a running daemon: everything that its region says, and what the kernel says of
 * its processes.  No lock is taken and nobody is asked, so it works whatever state the daemon is
 * in.
 */
#ifndef TALLYD_TOOLS_LOOK_H
#define TALLYD_TOOLS_LOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../shm/counter.h"
#include "../../shm/region.h"
#include "../ledger/facts.h"

#define LOOK_LOCKS_MAX  8  /* locks that are told of; more are counted */
#define LOOK_LOCK_LOOKS 5  /* a lock that one thread has at each of so many looks is stuck */
#define LOOK_LOCK_PAUSE 10 /* milliseconds between them */

/* A process of the daemon. */
struct look_member {
	enum region_member_role role;
	enum region_member_state state;
	uint32_t pid;
	uint32_t slot;
	uint32_t number; /* of a worker, from 1 */
	char process; /* as in proc_pid_stat(5): R, S, D, T, Z...; '?': cannot be seen, 0: gone */
	uint64_t cpu_us; /* of its own life */
	bool accepting;  /* a worker: it takes connections */
	uint64_t connections;
	uint64_t waiting; /* of them, whose answers wait for the journal */
	uint64_t requests;
	uint64_t events; /* accepted */
};

/* A lock that is held for long. */
struct look_lock {
	uint32_t lock;
	uint32_t holder; /* a thread, 0: it is not known any more */
	bool dead;       /* it died of it, and nobody has finished what it did */
	const char *guards;
};

struct look {
	uint64_t taken_us; /* clock_monotonic_us */
	uint64_t real_us;  /* since 1970 */
	struct facts facts;
	struct counters total; /* of all processes together, dead ones included */
	enum region_phase phase;
	uint32_t workers; /* that there should be */
	char version[REGION_TEXT_MAX];
	uint32_t epoch;            /* of this run, and of this making of the region */
	uint32_t sync_interval_ms; /* 0: sync always */
	struct look_member master; /* only its process is known */
	size_t members;            /* by process slot */
	struct look_member member[REGION_PROCESSES_MAX];
	size_t locks; /* that are stuck; up to LOOK_LOCKS_MAX of them are here */
	struct look_lock lock[LOOK_LOCKS_MAX];
};

/* Looks at REGION, whose master is process MASTER, into *LOOK; but not at the locks. */
void look_take(struct region *region, long master, struct look *look);

/* Looks for locks that are stuck, which takes LOOK_LOCK_LOOKS looks. */
void look_at_locks(struct region *region, struct look *look);

/* "worker 1", "journal writer", "snapshotter" of MEMBER; who has process PID, or NULL. */
const char *look_name(const struct look_member *member, char *text, size_t size);
const struct look_member *look_member_of(const struct look *look, uint32_t pid);

/* The first of a role, or NULL; how many of a role are in a state. */
const struct look_member *look_first(const struct look *look, enum region_member_role role);
size_t look_count(const struct look *look, enum region_member_role role,
                  enum region_member_state state);

/* Is the process stopped, by a signal or a debugger? */
bool look_stopped(const struct look_member *member);

/* In a word: "serving", "starting", "leaving", "stopped", "gone". */
const char *look_state(const struct look_member *member);

#endif
