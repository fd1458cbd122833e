/*
 * The listeners of one worker.  They are shared with the other workers; each takes a few
 * connections per wake-up, and none while another has clearly fewer (share.h), so that one that
 * wakes first does not take them all.
 */
#ifndef TALLYD_SERVER_ACCEPT_H
#define TALLYD_SERVER_ACCEPT_H

#include <stdbool.h>

#include "worker.h"

#define ACCEPT_BATCH   4     /* connections taken per wake-up of a listener */
#define ACCEPT_YIELD   0.002 /* seconds that those who have fewer get for taking one */
#define ACCEPT_RETRY   0.5   /* seconds of pause when the system has no descriptor or memory */
#define ACCEPT_BACKLOG 4096  /* connections taken at most from a backlog before it is closed */

/*
 * Prepares worker->server->listeners; the caller owns the result.  NULL if a listener is not
 * usable or memory is short (logged).
 */
struct acceptor *acceptor_new(struct worker *worker);
void acceptor_free(struct acceptor *acceptor); /* NULL is fine; closes nothing */

void acceptor_start(struct acceptor *acceptor);

/* A connection has ended: a paused acceptor goes on. */
void acceptor_resume(struct acceptor *acceptor);

/*
 * Closes this process's descriptors of the listeners for good; BACKLOG: first takes the
 * connections that wait in them.
 */
void acceptor_finish(struct acceptor *acceptor, bool backlog);

#endif
