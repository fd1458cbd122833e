/*
 * What the rooms of the chat protocol share, private to them.
 */
#ifndef TALLYD_SERVER_CHAT_CHAT_H
#define TALLYD_SERVER_CHAT_CHAT_H

#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../../shm/room.h"
#include "../../ledger/event.h"
#include "../../wire/chat.h"
#include "../../wire/text.h"
#include "../connection.h"

struct chat_history;

#define CHAT_GREETING    50      /* lines of the past that greet who enters */
#define CHAT_RATE        10.0    /* lines per second that a client may send */
#define CHAT_BURST       30.0    /* and so many at once */
#define CHAT_DOOR_RATE   100.0   /* clients per second that one worker lets in */
#define CHAT_DOOR_BURST  100.0   /* and so many at once */
#define CHAT_DOOR_WAIT   1.0     /* seconds after which who waits asks again, at most */
#define CHAT_BLOCK       6144    /* bytes of lines that a client is given at a time */
#define CHAT_ANSWER_MAX  2048    /* bytes of the answer to a line */
#define CHAT_WORD_MAX    256     /* bytes of a last word */
#define CHAT_SLICE       64      /* clients that are given something in one turn of the loop */
#define CHAT_SHARE       20      /* one part in so many of a worker's time for all of them */
#define CHAT_REST        0.002   /* seconds between two rounds, at least */
#define CHAT_REST_MAX    0.05    /* and at most: not all that a round takes is its own doing */
#define CHAT_LOOK        1.0     /* seconds until we look ourselves, should a wake-up be lost */
#define CHAT_LEAVE       3.0     /* seconds before the end of a drain to say good-bye */
#define CHAT_HURRY       1.0     /* seconds that one that takes nothing has left then */
#define CHAT_UNSENT      65536   /* bytes that the kernel keeps for a client besides its window */
#define CHAT_WATCH_SLICE 256     /* records that are looked at for a client in one turn */
#define CHAT_WATCH_LAG   4194304 /* bytes of journal that a watch may be behind; then it skips */

/* A client that is not there any more is found so many seconds after it was last heard of. */
#define CHAT_KEEPALIVE_IDLE   60
#define CHAT_KEEPALIVE_EVERY  20
#define CHAT_KEEPALIVE_PROBES 3
#define CHAT_UNANSWERED_MS    120000 /* likewise, where something was sent to it */

enum chat_stage {
	CHAT_AT_DOOR,
	CHAT_IN_ROOM,
	CHAT_OUTSIDE, /* has left, or never came in: the connection ends */
};

/* What the protocol keeps of a connection. */
struct chat {
	struct connection *connection;
	struct chat *next, *previous; /* in the room, of this worker */
	struct room_seat seat;
	uint64_t news;     /* the next line to be given */
	uint64_t past;     /* likewise of the past, */
	uint64_t past_end; /* up to there */
	uint64_t watched;  /* the position in the journal of the next record */
	double tokens;     /* lines that it may send now, */
	double filled;     /* as of then (monotonic seconds) */
	uint8_t stage;     /* enum chat_stage */
	bool skipping;     /* the rest of a line that is too long */
	bool told;         /* that a drain has begun */
	bool watching;
	uint8_t prefix_length;
	char prefix[ACCOUNT_NAME_MAX];
};

/* What a worker keeps of them. */
struct chats {
	struct worker *worker;
	struct room *room;
	struct chat_history *history; /* NULL: none */
	struct chat *first, *last;
	struct chat *turn; /* whose turn it is in the round that goes on; NULL: none does */
	unsigned watchers;
	uint32_t deaths;  /* that have been told of */
	uint64_t seen;    /* the room's end when the last round began */
	uint64_t durable; /* likewise the journal's */
	bool spoke;       /* lines were written here: others are to be woken */
	bool again;       /* somebody could not be given all: another round */
	bool round;       /* one goes on, or its rest has not been reckoned */
	double began;     /* the round */
	double rest_until;
	double door_tokens;
	double door_filled;
	double door_next; /* when the next that has to wait is to ask again */
	double timer_due;
	ev_timer timer;
	struct change change; /* for watches */
};

_Static_assert(sizeof(struct chat) <= CONNECTION_STATE_MAX, "it lives in the connection");
_Static_assert(CHAT_LINE_MAX <= ROOM_TEXT_MAX, "what is typed can be said");
_Static_assert(CHAT_LEAVE > CONNECTION_LINGER_TIME, "who was told good-bye is not cut");
_Static_assert(CHAT_GREETING <= ROOM_PAST, "there is as much of the past");

static inline struct chat *chat_of(struct connection *connection)
{
	return (struct chat *)connection->state;
}

static inline struct chats *chats_of(const struct chat *chat)
{
	return chat->connection->worker->chats;
}

/* --- rounds.c --- */

/* CHAT is in the room now, or no more: it has its turn in each round. */
void chats_add(struct chats *chats, struct chat *chat);
void chats_remove(struct chats *chats, struct chat *chat);

/* Takes one of the places that the door has this second.  Else false, and in *WAIT the seconds. */
bool chats_admit(struct chats *chats, double *wait);

/* --- commands.c --- */

/* The bytes of *OUT that the answer to LINE takes at most. */
size_t chat_answer_room(const struct chat *chat, const struct chat_line *line);

/* Does what LINE says, and writes the answer to OUT.  The client may be outside afterwards. */
void chat_obey(struct chat *chat, const struct chat_line *line, struct text *out);

/* --- deliver.c --- */

enum chat_given {
	CHAT_GIVEN_ALL,  /* it has everything that there is */
	CHAT_GIVEN_SOME, /* it has to take that first, or another round will come */
	CHAT_TOO_SLOW,   /* lines that it has not had are overwritten */
};

/* Gives CHAT's client the next lines and changes. */
enum chat_given chat_deliver(struct chat *chat);

/* --- words.c --- */

/* LINE of the room as a member reads it, on the day of NOW_US. */
#define CHAT_SHOWN_MAX (ROOM_TEXT_MAX + ROOM_NICK_MAX + 64) /* bytes */
void chat_write_line(struct text *out, const struct room_line *line, uint64_t now_us);

/* What happened to one account at TIME_US. */
#define CHAT_CHANGE_MAX (ACCOUNT_NAME_MAX + 3 * TEXT_DECIMAL_MAX + 64) /* bytes */
void chat_write_change(struct text *out, const struct change_leg *leg, uint64_t time_us,
                       uint64_t now_us);

/* What the room itself says to one client, a string constant. */
#define CHAT_MARK                   "*** "
#define chat_write_word(out, words) text_literal((out), CHAT_MARK words "\n")

#endif
