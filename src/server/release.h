/*
 * Answers that wait for the journal.  The connections that hold some stand in one line, in
 * the order in which they came to wait; the journal writer's wake-up lets the front go.
 */
#ifndef TALLYD_SERVER_RELEASE_H
#define TALLYD_SERVER_RELEASE_H

#include "worker.h"

#define RELEASE_WATCH 0.1 /* seconds until we look ourselves, should a wake-up have been lost */

/* Starts and stops watching worker->server->wake_fd. */
void release_start(struct worker *worker);
void release_stop(struct worker *worker);

/* CONNECTION, whose queue waits for a record, goes to the end of the line (once). */
void release_hold(struct connection *connection);

/* CONNECTION leaves the line, if it is in it. */
void release_drop(struct connection *connection);

/*
 * Has the worker woken when the journal has got past LSN, or earlier: also for who has no answer
 * waiting.  False: it has, no wake-up comes.
 */
bool release_ask(struct worker *worker, uint64_t lsn);

/*
 * At the end of a turn of the loop: tells the journal writer of new work, asks to be woken
 * for the first in the line, and lets go who need not wait.
 */
void release_turn_ends(struct worker *worker);

#endif
