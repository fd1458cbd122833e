/*
 * GET /feed: what happens, as it becomes durable, to any number of readers.  A feed is a position
 * in the journal and no queue: what its client does not take is not read for it.  The feeds of a
 * worker share slices of its time, one behind the other, with rests between; where that is not
 * enough for all, they lag, and the writers do not.
 */
#ifndef TALLYD_SERVER_FEED_H
#define TALLYD_SERVER_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../ledger/event.h"
#include "connection.h"
#include "handlers.h"

#define FEED_BLOCK        15360  /* bytes that one feed is given at a time, in a block of 16 KiB */
#define FEED_SLICE        32     /* feeds that are given something in one turn of the loop */
#define FEED_RECORDS      4096   /* records that are looked at in one turn */
#define FEED_MEMORY_SHARE 2      /* one part in so many of buffer_memory; beyond it feeds wait */
#define FEED_UNSENT       262144 /* bytes that the kernel keeps for a client besides its window */
#define FEED_REST         0.005  /* seconds between two slices, at least */
#define FEED_SHARE_BUSY   20     /* one part in so many of a worker's time, while there is news */
#define FEED_SHARE_QUIET  2      /* the same while nobody writes */
#define FEED_FETCH_MS     2      /* while the disk is asked for the first record */
#define FEED_LOOK         0.1 /* seconds until we look ourselves, should a wake-up have been lost */
#define FEED_LEAVE        1.0 /* seconds that a drain leaves a client that takes nothing */
#define FEED_RETRY_MS     1000 /* after which a client comes back whose feed has ended */

#define FEED_EVENTS_TYPE "text/event-stream"
#define FEED_LINES_TYPE  "application/x-ndjson"

/* What a request asks for. */
struct feed_plan {
	uint64_t position; /* of the first record */
	uint64_t end;      /* up to there; FEED_FOLLOWS: and what comes */
	bool events;       /* Server-Sent Events, not lines */
	bool nothing;      /* no account that may be seen is asked for */
	uint32_t prefix_length;
	char prefix[ACCOUNT_NAME_MAX]; /* of an account that takes part */
};
#define FEED_FOLLOWS UINT64_MAX

struct feed;
struct feeds;
struct tail;

/* The feeds of WORKER, at most max_connections of them; NULL: ENOMEM.  The places of those that
 * there are not cost nothing. */
struct feeds *feeds_new(struct worker *worker);
void feeds_free(struct feeds *feeds); /* NULL is fine; none is left */

/* The worker's reader of the journal; NULL: it has none. */
struct tail *feeds_tail(struct feeds *feeds);

/* Where the handler notes what CALL asks for, until feed_begin. */
struct feed_plan *feeds_plan(struct feeds *feeds);

/* At the end of a turn of the loop: there may be something new; asks to be woken if there is not.
 */
void feeds_turn_ends(struct worker *worker);

/*
 * Answers CALL with the feed that feeds_plan says, whose request BEGAN then (monotonic seconds).
 * *OWNER is the feed until it is over, and NULL afterwards.  CONNECTION_ROOM: it has begun.  Else
 * as connection_room says.
 */
enum connection_room feed_begin(struct connection *connection, const struct call *call,
                                double began, struct feed **owner);

/* The connection may go on, or has ended, or is drained. */
void feed_arrived(struct feed *feed);

/* The connection is gone: the request is over. */
void feed_gone(struct feed *feed);

#endif
