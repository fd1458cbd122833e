/*
 * The journal writer: the one process that writes the journal.  Drains the ring, makes it
 * durable, publishes how far it came, wakes who waits.  Never touches an account.
 */
#ifndef TALLYD_DAEMON_JOURNAL_H
#define TALLYD_DAEMON_JOURNAL_H

#include <stdint.h>

struct confine;
struct region;

#define JOURNAL_EXIT_POISONED 70
#define JOURNAL_EXIT_FAILED   74 /* a disk error: the daemon must not go on */

struct journal_settings {
	const char *path;      /* the journal's directory */
	uint64_t segment_size; /* bytes, of segments to be made */
	const int *wake_fds;   /* one eventfd per process slot */
	int handover_fd; /* where its log comes that was opened anew, with a SIGUSR1; -1: none */
	const struct confine *confine; /* but for the journal's directory */
};

/*
 * Runs in its own process, in process slot SLOT, until SIGTERM; then everything in the ring
 * is made durable, a stop record closes the run, and 0 is returned.  Otherwise an exit status
 * above, or 1 (could not start; logged).  On SIGWINCH it leaves at once, with 0, and the next
 * writer goes on where it was.
 */
int journal_run(struct region *region, uint32_t slot, const struct journal_settings *settings);

#endif
