/*
 * A connection: what arrives, what waits to leave, and its deadlines.  Knows no
 * protocol; the one its listener speaks is a table of functions (protocol.h).
 *
 * While nothing is going on it holds no buffer.  What arrives is read into the
 * worker's scratch; only the bytes of a request that is not complete are kept, and
 * answers only as long as they wait for the journal or for the client.
 */
#ifndef TALLYD_SERVER_CONNECTION_H
#define TALLYD_SERVER_CONNECTION_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../wire/text.h"
#include "peer.h"
#include "protocol.h"
#include "queue.h"
#include "worker.h"

#define CONNECTION_SIZE_MAX     640    /* bytes of memory of an idle connection */
#define CONNECTION_STATE_MAX    384    /* bytes of a protocol's state */
#define CONNECTION_OUT_MAX      131072 /* bytes of answers waiting; then nothing more is served */
#define CONNECTION_SLICE_MAX    128    /* requests of one connection in one turn of the loop */
#define CONNECTION_LAST_MAX     2048   /* bytes of connection_last_words */
#define CONNECTION_LINGER_TIME  2.0    /* seconds to go on reading after the last answer */
#define CONNECTION_LINGER_BYTES 262144 /* bytes to go on reading after the last answer */
#define CONNECTION_QUIET        1.0    /* seconds of silence before connection_part ends it */
#define CONNECTION_FRESH_TIME                                                                      \
	1.0 /* seconds that a drain leaves a client to send its first request */

struct token; /* ../wire/token.h */
struct door;

struct connection {
	struct worker *worker;
	const struct protocol *protocol; /* of now: a proxy's header comes before the door's */
	const struct door *door;         /* of its listener */
	ev_io io;
	ev_timer timer;   /* fires no later than the next deadline, mostly much earlier */
	double timer_due; /* when it does */

	struct connection *held_next, *held_previous;
	struct connection *again_next, *again_previous;

	struct queue *out; /* NULL: nothing waits */
	char *in;          /* NULL: nothing is kept */
	uint32_t in_capacity;
	uint32_t in_start; /* in[in_start .. in_start + in_length) is not consumed */
	uint32_t in_length;
	uint32_t dropped; /* bytes read while lingering */

	double expect_by;   /* more of a request must arrive by then; 0: none has begun */
	double progress_by; /* the client must take more of its answers by then */
	double until;       /* when a pause, the lingering, or an idle time ends */

	const struct token *token; /* who speaks; NULL: nobody has said, or nobody is asked */
	struct peer peer;
	uint8_t state_counted; /* an enum counter: as what it is counted, 0: not at all */
	bool opened : 1;       /* protocol->opened was called, `closed` is due */
	bool awaited : 1;      /* its first byte must come before `until` */
	bool counted : 1;      /* among its client's (admission.h) */
	bool exempt : 1;       /* from that: its proxy speaks for itself */
	bool guarded : 1;      /* who speaks must say who he is */
	bool used : 1;         /* has been answered once */
	bool held : 1;         /* is in worker->held */
	bool queued : 1;       /* is in worker->again */
	bool blocked : 1;      /* `out` must shrink before the next request is served */
	bool stalled : 1;      /* the socket takes no more just now */
	bool paused : 1;       /* nothing is served until `until` */
	bool ended : 1;        /* the client has sent all that it will */
	bool closing : 1;      /* nothing more is served; `out` is flushed */
	bool polite : 1;       /* then linger, because the client may still be sending */
	bool lingering : 1;
	bool streaming : 1; /* connection_stream */
	bool leaving : 1;   /* connection_part: ends when it has been quiet for a while */

	_Alignas(8) unsigned char state[CONNECTION_STATE_MAX];
};

_Static_assert(sizeof(struct connection) <= CONNECTION_SIZE_MAX, "the price of an idle connection");

/* --- for listeners and the worker's loop --- */

/*
 * Takes over FD, a connected non-blocking socket of PEER that speaks FIRST (door_protocol of DOOR,
 * which must live as long), in a free place of worker->slab.  Returns false if there is none; FD is
 * then still the caller's.  What may not be served is refused and closed before it returns.
 */
bool connection_open(struct worker *worker, int fd, const struct door *door,
                     const struct protocol *first, const struct peer *peer);

/* Tries to send what may leave, serves what may be served, closes what is to be closed. */
void connection_settle(struct connection *connection);

/* The worker's phase has changed: serve what has arrived; an idle connection may end here. */
void connection_drain(struct connection *connection);

/* Closes at once; answers that wait are lost.  CONNECTION is invalid afterwards. */
void connection_cut(struct connection *connection);

/* Serves one slice of each connection that had to stop in the middle. */
void connection_serve_again(struct worker *worker);

/* --- for protocols --- */

/*
 * While ON, a request is being answered although it has not ended: `arrived` is called also without
 * bytes, when it may go on after a stop, when connection->ended is set, and when a drain begins;
 * and the connection ends only when the protocol says so.
 */
void connection_stream(struct connection *connection, bool on);

/*
 * There is news for CONNECTION, a stream: `arrived` is called in the worker's next turn, with what
 * is kept or without bytes, also while it is paused or blocked.
 */
void connection_poke(struct connection *connection);

/* May another request be served now?  If not, `arrived` is called again in time. */
bool connection_may_go_on(struct connection *connection);

/*
 * connection->peer is the client: the door's protocol is spoken from now on, or the client refused
 * and the connection closing.
 */
void connection_enter(struct connection *connection);

/* Must who speaks say who he is, and has not, or by a token that is over by now? */
bool connection_lacks_token(const struct connection *connection);

/* Nothing is expected from the client but its next request. */
void connection_expect_nothing(struct connection *connection);

/* More of a request must arrive before DEADLINE (worker->now + seconds). */
void connection_expect(struct connection *connection, double deadline);

/*
 * The first byte must arrive before DEADLINE; until then the connection counts as idle, as for a
 * drain.  To be called in `opened`.
 */
void connection_await(struct connection *connection, double deadline);

enum connection_room {
	CONNECTION_ROOM,         /* *OUT is ready */
	CONNECTION_ROOM_LATER,   /* serve this request when `arrived` is called again */
	CONNECTION_ROOM_NOTHING, /* no memory: refuse with connection_last_words */
};

/* Room for an answer of up to SIZE bytes in *OUT, to be ended with connection_answer. */
enum connection_room connection_room(struct connection *connection, size_t size, struct text *out);

/* What has been written to OUT may leave once the record LSN is durable (0: at once). */
void connection_answer(struct connection *connection, const struct text *out, uint64_t lsn);

/*
 * The same where COUNT whole answers end, to requests that were counted (note.h), whose first bytes
 * came at BEGAN (monotonic seconds): how long that takes them is measured.
 */
void connection_answers(struct connection *connection, const struct text *out, uint64_t lsn,
                        uint32_t count, double began);

/*
 * The answer BYTES[0..LENGTH) (at most CONNECTION_LAST_MAX) needs no memory; after it the
 * connection closes.  It is dropped if the client does not take it at once, or if answers
 * before it fill the memory there is.  COUNT and BEGAN as in connection_answers.
 */
void connection_last_words(struct connection *connection, const char *bytes, size_t length,
                           uint32_t count, double began);

/* Close when all answers have left; POLITE: the client may still be sending. */
void connection_close(struct connection *connection, bool polite);

/*
 * For protocols that have no word for the end: all that has come is answered, and MAY_END says
 * whether the client could be left here.  While the worker serves this is nothing.  In a drain the
 * connection is closed; but in a gentle one not before it has been quiet for CONNECTION_QUIET, or
 * is at its last moment: who asks one question after the other would otherwise have asked the next.
 */
void connection_part(struct connection *connection, bool may_end);

/*
 * Has anything that was answered not left?  Then nothing more is read, and `arrived` is called when
 * some of it has (streams only).
 */
bool connection_waits_for_room(struct connection *connection);

/* A client that takes nothing of what is ready for SECONDS is cut, if it would not be before. */
void connection_hurry(struct connection *connection, double seconds);

/* Serve nothing for SECONDS; then `arrived` is called again. */
void connection_pause(struct connection *connection, double seconds);

#endif
