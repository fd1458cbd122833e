/*
 * What the rooms of one worker share.  One per process, made by server_run.
 */
#ifndef TALLYD_SERVER_WORKER_H
#define TALLYD_SERVER_WORKER_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../ledger/ledger.h"
#include "../../shm/counter.h"
#include "../wire/reply.h"
#include "access_log.h"
#include "buffer.h"
#include "refusal.h"
#include "server.h"

#define WORKER_READ_MAX    65536 /* bytes that one read takes from a connection */
#define WORKER_KEPT_MAX    4096  /* bytes kept of a connection that a read joins before its own */
#define WORKER_RUNS        (-1)  /* exit_status of a worker that is not to stop */
#define WORKER_POISONED    70
#define WORKER_DISK_FAILED 71

struct connection;
struct slab;
struct acceptor;
struct group;
struct heads;
struct feeds;
struct chats;

/* Each is a further step towards the end. */
enum phase {
	PHASE_SERVING,
	PHASE_GENTLE,   /* no new connections; each ends with its next answer */
	PHASE_DRAINING, /* and idle ones end at once */
	PHASE_QUITTING, /* nothing more is read */
};

/* A doubly linked list of connections; the links are in them. */
struct connection_list {
	struct connection *first;
	struct connection *last;
};

struct worker {
	const struct server *server;
	const struct server_settings *settings;
	struct ev_loop *loop;
	double now; /* monotonic seconds, of this turn of the loop */
	enum phase phase;
	double drain_by; /* monotonic seconds: who is left is cut then; 0: no drain */
	int exit_status; /* WORKER_RUNS, or what server_run shall return */

	struct slab *slab;
	struct buffers *buffers;
	struct acceptor *acceptor;
	struct access_log *access_log; /* NULL: none */
	struct tokens *tokens;         /* whom it knows; NULL: nobody is asked who he is */
	struct refusals refusals;
	char
	    *scratch; /* WORKER_KEPT_MAX + WORKER_READ_MAX bytes: what arrives is read here first */
	struct group *group; /* of the connection being served, group.h */
	struct heads *heads; /* heads.h */
	struct feeds *feeds; /* feed.h */
	struct chats *chats; /* chat_protocol.h; NULL: no listener speaks chat */

	struct connection_list held;  /* their answers wait for the journal, the oldest first */
	struct connection_list again; /* have used up their slice of a turn */
	unsigned slice_left;          /* requests that the connection being served may still make */
	uint64_t wanted;              /* the LSN that ledger_want was last asked for, 0: none */
	bool posted;                  /* ledger_kick is due */

	uint64_t date_second;
	char date[REPLY_DATE_LENGTH];

	ev_check turn_begins;
	ev_prepare turn_ends;
	ev_idle unfinished; /* keeps the loop from sleeping while `again` holds somebody */
	ev_io wake;
	ev_timer wake_watch; /* asks again while answers are held, should a wake-up be lost */
	ev_timer drain_timer;
	ev_timer access_log_timer;
	ev_timer expire_timer;
	ev_io handover;
	ev_signal on_term, on_winch, on_quit;
};

/* Stops the loop at the end of this turn; STATUS is what server_run returns. */
void worker_stop(struct worker *worker, int status);

/* Is the worker to stop?  Then nothing may be answered any more. */
static inline bool worker_stops(const struct worker *worker)
{
	return worker->exit_status != WORKER_RUNS;
}

/* The Date of this second, REPLY_DATE_LENGTH bytes; valid until the next call. */
const char *worker_date(struct worker *worker);

/* Microseconds since 1970. */
static inline uint64_t worker_time_us(const struct worker *worker)
{
	return (uint64_t)(ev_now(worker->loop) * 1e6);
}

#endif
