/*
 * The end of a worker, in steps that only ever go forward (enum phase).
 */
#ifndef TALLYD_SERVER_DRAIN_H
#define TALLYD_SERVER_DRAIN_H

#include "worker.h"

#define DRAIN_QUIT_TIME 1.0 /* seconds that SIGQUIT leaves the journal to release held answers */

/*
 * Goes to PHASE if it is further than the worker is; the same drain asked for twice
 * (PHASE_DRAINING) cuts what is left.  The loop ends when the last connection does.
 */
void drain(struct worker *worker, enum phase phase);

/*
 * When what has no end of its own has to end (monotonic seconds): at once if the daemon stops; if
 * only its worker does, which another has replaced, not long before it would be cut.
 */
double drain_last_moment(const struct worker *worker);

#endif
