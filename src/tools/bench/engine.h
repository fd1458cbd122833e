/*
 * The inside of a run: connections (client.c), what is under way on them (flight.c), when the next
 * operation is due (pace.c), beginning and end (run.c).  One thread, one libev loop, and no memory
 * taken once it runs.
 */
#ifndef TALLYD_BENCH_ENGINE_H
#define TALLYD_BENCH_ENGINE_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../http/answer.h"
#include "book.h"
#include "load.h"
#include "operation.h"
#include "options.h"
#include "result.h"
#include "../http/target.h"

#define ENGINE_INPUT      (64 * 1024) /* bytes read at once */
#define ENGINE_CONNECTING 256         /* connections that are being made at once */
#define ENGINE_TICK       0.05        /* seconds between two looks at time-outs and retries */
#define ENGINE_FILES      32          /* descriptors besides those of the connections */

/* A request that is under way. */
struct slot {
	uint64_t due;      /* ns: when it should have left, from which its latency counts */
	uint64_t sent;     /* ns: when it was handed to the connection */
	uint32_t answered; /* of a batch: its events that have their lines */
	struct operation operation;
};

/* A hold that was accepted and must be settled. */
struct settlement {
	uint8_t kind;
	struct posting leg;
	struct hold hold;
};

enum loss {
	LOSS_NONE,  /* closed as announced, or at the end: nothing was under way */
	LOSS_CUT,   /* ended by the other side */
	LOSS_LATE,  /* no answer in time */
	LOSS_FAULT, /* an answer that makes no sense */
};

struct engine;

struct client {
	struct engine *engine;
	int fd;          /* -1: not connected */
	uint32_t source; /* of 127.0.0.SOURCE; 0: whatever the system takes */
	bool connected;  /* and not only connecting */
	bool closing;    /* the server has said that it closes */
	bool broken;     /* nothing more can be sent, but perhaps read */
	bool proved;     /* it has answered on this connection */
	bool waiting;    /* in the queue of those that have room */
	ev_io io;
	struct answer answer;
	struct slot *slot; /* a ring of options->depth */
	uint32_t first, count;
	struct settlement *settlement; /* the same; NULL without holds */
	uint32_t settlement_first, settlement_count;
	char *out; /* what is being sent, from out_at to out_end */
	size_t out_at, out_end;
	char *carry; /* the unfinished beginning of what comes next: ANSWER_HEAD_MAX bytes */
	size_t carried;
	uint64_t since;        /* ns: when it began to connect */
	uint64_t retry;        /* ns: when to connect again; 0: it need not */
	uint64_t pause;        /* ns: how long the last pause was */
	struct client *behind; /* in the queue of those that have room */
};

enum phase { PHASE_CONNECT, PHASE_LOAD, PHASE_OVER };

struct engine {
	const struct options *options;
	const struct target *target;
	struct book *book; /* NULL: none is kept */
	struct result *result;
	struct ev_loop *loop;
	struct load load;
	enum phase phase;

	struct client *client;
	uint32_t connected, connecting;
	uint32_t next; /* the first client that has never tried to connect */
	int last_error;
	size_t out_size;
	char *memory[3]; /* what the clients' parts are cut from */
	struct slot *slots;
	struct posting *legs;

	uint64_t limit;       /* operations to begin; UINT64_MAX: until end */
	uint64_t begun;       /* operations */
	uint64_t outstanding; /* requests without an answer, and settlements that are to come */
	uint64_t start, end;  /* ns; end UINT64_MAX: until limit */
	uint64_t last_answer; /* ns */
	bool stopped;         /* by a signal: nothing more is begun */

	double interval; /* ns between two operations; 0: as fast as it goes */
	int pace_fd;
	ev_io pace;
	struct client *room_first, *room_last;
	struct client **touched; /* clients to be flushed */

	ev_timer tick;
	ev_signal interrupt, terminate;
	uint64_t progress;       /* ns: when the line is due */
	uint64_t progress_count; /* operations at the last line */
	struct histogram window; /* since then */
	bool shows;              /* there is a terminal for the line */

	char input[ANSWER_HEAD_MAX + ENGINE_INPUT];
};

uint64_t engine_now(void);

/* ---- client.c */

/* Begins to connect, or says in client->retry when to try again. */
void client_connect(struct client *client, uint64_t now);

/* Sends requests as long as there is room and something to do. */
void client_fill(struct client *client, uint64_t now);

/* Sends what is in out, or as much as goes now. */
void client_flush(struct client *client);

/* Closes the connection: what was under way is unknown.  Connects again if there is more to do. */
void client_lose(struct client *client, enum loss loss, uint64_t now);

/* ---- flight.c */

bool flight_has_room(const struct client *client);

/* Draws an operation and writes its request into out; there is room. */
void flight_begin(struct client *client, uint64_t now);

/* Sends the settlement of a hold instead; there is one, and room. */
void flight_settle(struct client *client, uint64_t now);

/* Takes a line of a batch, or the end of an answer; false, with *FAULT, if that makes no sense, and
 * NULL there if the stream has ended early as it may. */
bool flight_line(struct client *client, const char **fault);
bool flight_answer(struct client *client, uint64_t now, const char **fault);

/* Everything under way becomes unknown. */
void flight_doubt(struct client *client, enum loss loss, uint64_t now);

/* ---- pace.c */

/* Is there an operation to begin now? */
bool pace_is_due(const struct engine *engine, uint64_t now);

/* Will there be one, now or later? */
bool pace_goes_on(const struct engine *engine, uint64_t now);

/* When the request should leave whose last operation is number LAST, counted from 0. */
uint64_t pace_due(const struct engine *engine, uint64_t last);

void pace_start(struct engine *engine);
void pace_stop(struct engine *engine);

/* CLIENT has room: it gets the next operation that is due. */
void pace_offer(struct client *client);

/* Begins what is due on those that have room. */
void pace_pump(struct engine *engine, uint64_t now);

/* ---- progress.c */

void progress_start(struct engine *engine, uint64_t now);
void progress_show(struct engine *engine, uint64_t now);
void progress_clear(struct engine *engine);

/* ---- run.c */

/* A connection is there: the run begins with the last one. */
void engine_connected(struct engine *engine, uint64_t now);

/* Ends the run if there is nothing left to do. */
void engine_check(struct engine *engine, uint64_t now);

#endif
