/*
 * Events that are applied together: side by side in the journal, with one lock round and one
 * commit. A worker has one group; it is empty whenever another connection is served.
 */
#ifndef TALLYD_SERVER_GROUP_H
#define TALLYD_SERVER_GROUP_H

#include <stdbool.h>
#include <stddef.h>

#include "handlers.h"
#include "worker.h"

#define GROUP_LINE_MAX 4096 /* bytes of one event in a stream; no event needs as many */

/* A request whose answer is still to be written, of several that wait in one connection. */
struct group_member {
	struct reply_frame frame;
	const char *bytes; /* the request's first */
	size_t length;     /* that have arrived from there on */
	size_t room;       /* bytes that its answer may take */
	double began;      /* when its first byte came, monotonic seconds */
	char key[ID_MAX];  /* its Idempotency-Key */
};

struct group {
	size_t count;
	size_t room; /* of all members */
	struct request requests[GROUP_MAX];
	struct result results[GROUP_MAX];
	struct group_member members[GROUP_MAX]; /* of single events */
	size_t text_length;
	char text[GROUP_MAX *
	          GROUP_LINE_MAX]; /* of lines, which are read here and kept as they came */
};

/*
 * Applies what is in GROUP.  Returns how many of its results are final, from the first on: with
 * WAIT, those before the first that found the queue full; else all, each as if it had come alone.
 * If the region is poisoned, the worker has been stopped and nothing may be answered.
 */
size_t group_apply(struct worker *worker, struct group *group, bool wait);

#endif
