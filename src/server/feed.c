#include "feed.h"

#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../ledger/tail.h"
#include "../wire/reason.h"
#include "../wire/token.h"
#include "note.h"
#include "release.h"

#define REQUEST_LINE "GET /feed HTTP/1.1"

#define FRAME_ROOM (REPLY_CHUNK_FRAME + REPLY_STREAM_END)
#define ID_ROOM    (TEXT_DECIMAL_MAX + 16) /* bytes of "id: LSN" and what is around it */
#define EVENT_ROOM (REPLY_CHANGE_MAX + ID_ROOM)
#define END_ROOM   (FRAME_ROOM + REPLY_SHAPE_MAX + ID_ROOM)
#define HEAD_ROOM  (HANDLER_ROOM + CORS_ROOM + FRAME_ROOM + ID_ROOM + 16)

_Static_assert(FEED_BLOCK + sizeof(struct queue) <= 16384, "a block of 16 KiB");
_Static_assert(FEED_BLOCK >= FRAME_ROOM + EVENT_ROOM + ID_ROOM, "there is a way");
_Static_assert(END_ROOM <= CONNECTION_LAST_MAX, "the end as last words");

enum place {
	PLACE_NONE,    /* free, or its client has not taken what it was given */
	PLACE_READY,   /* there is something for it */
	PLACE_WAITING, /* it has everything that is durable */
};

struct feed {
	struct connection *connection; /* NULL: the place is free */
	struct feed **owner;
	struct feed *next, *previous;
	uint64_t position;
	uint64_t end;
	uint64_t told;  /* the position that the client knows */
	uint64_t bytes; /* of the answer's body */
	double began;
	double quiet_since; /* when it was last given something */
	uint8_t place;      /* enum place */
	bool events;
	bool chunked;
	bool nothing; /* concerns it */
	uint8_t prefix_length;
	char prefix[ACCOUNT_NAME_MAX];
};

struct feed_list {
	struct feed *first;
	struct feed *last;
};

struct feeds {
	struct worker *worker;
	struct tail *tail;
	struct feed *places;
	struct feed *free;      /* linked by next */
	uint32_t untouched;     /* places from here on were never taken */
	struct feed_list ready; /* served one after the other */
	struct feed_list waiting;
	struct feed *serving; /* NULL again if its connection is gone */
	uint64_t seen;        /* the durable mark of the last look */
	double rest_until;    /* no slice before that */
	double looked;        /* when we last looked ourselves */
	bool news;            /* something has become durable since the last slice */
	bool fetching;        /* one of those that wait waits for the disk */
	double timer_due;
	ev_timer timer;
	struct feed_plan plan;
	struct change change;
};

/* One slice. */
struct slice {
	unsigned feeds;   /* that may still be given something */
	unsigned records; /* that may still be looked at */
};

/* --- lists and places --- */

static struct feed_list *list_of(struct feeds *feeds, enum place place)
{
	return place == PLACE_READY ? &feeds->ready : &feeds->waiting;
}

static void leave(struct feeds *feeds, struct feed *feed)
{
	struct feed_list *list = list_of(feeds, (enum place)feed->place);

	if (feed->place == PLACE_NONE)
		return;
	*(feed->previous ? &feed->previous->next : &list->first) = feed->next;
	*(feed->next ? &feed->next->previous : &list->last) = feed->previous;
	feed->place = PLACE_NONE;
}

static void enter(struct feeds *feeds, struct feed *feed, enum place place)
{
	struct feed_list *list = list_of(feeds, place);

	leave(feeds, feed);
	feed->place = (uint8_t)place;
	feed->next = NULL;
	feed->previous = list->last;
	*(list->last ? &list->last->next : &list->first) = feed;
	list->last = feed;
}

/* All that wait have something: in front of none, behind those that had something before. */
static void wake_all(struct feeds *feeds)
{
	struct feed *first = feeds->waiting.first;

	for (struct feed *feed = first; feed; feed = feed->next)
		feed->place = PLACE_READY;
	if (!first)
		return;
	first->previous = feeds->ready.last;
	*(feeds->ready.last ? &feeds->ready.last->next : &feeds->ready.first) = first;
	feeds->ready.last = feeds->waiting.last;
	feeds->waiting = (struct feed_list){0};
}

static struct feed *take_place(struct feeds *feeds)
{
	struct feed *feed = feeds->free;

	if (feed)
		feeds->free = feed->next;
	else if (feeds->untouched < feeds->worker->settings->max_connections)
		feed = &feeds->places[feeds->untouched++];
	return feed;
}

static struct feeds *feeds_of(const struct feed *feed)
{
	return feed->connection->worker->feeds;
}

static void feed_drop(struct feed *feed)
{
	struct feeds *feeds = feeds_of(feed);

	leave(feeds, feed);
	*feed->owner = NULL;
	if (feeds->serving == feed)
		feeds->serving = NULL;
	feed->connection = NULL;
	feed->next = feeds->free;
	feeds->free = feed;
}

/* --- what is written --- */

static size_t open_chunk(const struct feed *feed, struct text *out)
{
	return feed->chunked ? reply_chunk_begin(out) : out->length;
}

static void close_chunk(struct feed *feed, struct text *out, size_t chunk)
{
	size_t frame = feed->chunked ? REPLY_CHUNK_FRAME : 0;

	if (feed->chunked)
		reply_chunk_end(out, chunk);
	if (out->length > chunk)
		feed->bytes += out->length - chunk - frame;
}

/*
 * An id alone is no event, but the client's last one from then on (HTML, 9.2.6): it comes back to
 * where it was, not to the event before.  The LSN before a position names it (tail_seek).
 */
static void tell_position(struct feed *feed, struct text *out)
{
	text_literal(out, "id: ");
	text_unsigned(out, feed->position - 1);
	text_literal(out, "\n\n");
	feed->told = feed->position;
}

static void write_change(struct feed *feed, struct text *out, const struct change *change)
{
	if (!feed->events) {
		reply_change_object(out, change);
		text_literal(out, "\n");
		return;
	}
	text_literal(out, "id: ");
	text_unsigned(out, change->lsn);
	text_literal(out, "\ndata: ");
	reply_change_object(out, change);
	text_literal(out, "\n\n");
	feed->told = feed->position;
}

/* Why a feed cannot go on: its last event. */
static void write_reason(const struct feed *feed, struct text *out, const char *reason)
{
	const struct reason *words = reason_find(reason);

	if (feed->events) {
		text_literal(out, "event: ");
		text_string(out, reason);
		text_literal(out, "\ndata: ");
	}
	if (strcmp(reason, "pruned") == 0)
		reply_pruned_object(out, tail_first(feeds_of(feed)->tail));
	else
		reply_error_object(out, reason, words->detail);
	text_string(out, feed->events ? "\n\n" : "\n");
}

/* REASON: why it cannot go on, NULL: it is at its end, or the service is. */
static void write_end(struct feed *feed, struct text *out, const char *reason)
{
	size_t chunk = open_chunk(feed, out);

	if (feed->events && feed->told != feed->position)
		tell_position(feed, out);
	if (reason)
		write_reason(feed, out, reason);
	close_chunk(feed, out, chunk);
	if (feed->chunked)
		reply_stream_end(out);
}

static void note_end(const struct feed *feed)
{
	note_request(feed->connection, &(struct note){.endpoint = ENDPOINT_FEED,
	                                              .request = REQUEST_LINE,
	                                              .length = sizeof(REQUEST_LINE) - 1,
	                                              .began = feed->began,
	                                              .status = 200,
	                                              .bytes = (size_t)feed->bytes});
}

void feed_gone(struct feed *feed)
{
	note_end(feed);
	feed_drop(feed);
}

/* Ends FEED; its connection closes when the client has taken all. */
static void finish(struct feed *feed, const char *reason)
{
	struct connection *connection = feed->connection;
	char memory[CONNECTION_LAST_MAX];
	struct text out;

	if (connection_room(connection, END_ROOM, &out) == CONNECTION_ROOM) {
		write_end(feed, &out, reason);
		connection_answer(connection, &out, 0);
		connection_close(connection, true);
	} else {
		text_init(&out, memory, sizeof(memory));
		write_end(feed, &out, reason);
		connection_last_words(connection, memory, out.length, 0, 0);
	}
	note_end(feed);
	feed_drop(feed);
}

/* --- one feed's share of a slice --- */

static bool concerns(const struct feed *feed, const struct change *change)
{
	if (feed->nothing || feed->prefix_length == 0)
		return !feed->nothing;
	for (unsigned i = 0; i < change->legs; i++) {
		const struct words *account = &change->leg[i].account;
		if (account->length >= feed->prefix_length &&
		    memcmp(account->bytes, feed->prefix, feed->prefix_length) == 0)
			return true;
	}
	return false;
}

/*
 * Takes from CHANGE what the token of FEED does not cover: the other side of a transfer, or a hold
 * of which only the capture concerns it.
 */
static void confine(const struct feed *feed, struct change *change)
{
	const struct token *token = feed->connection->token;
	unsigned kept = 0;

	if (!token || token->prefix_length == 0)
		return;
	if (change->legs > 0 && !token_covers(token, change->leg[0].account))
		change->hold = (struct words){0};
	for (unsigned i = 0; i < change->legs; i++)
		if (token_covers(token, change->leg[i].account))
			change->leg[kept++] = change->leg[i];
	change->legs = (uint8_t)kept;
}

/* Writes what there is, as far as OUT and SLICE have room.  TAIL_CHANGE: there may be more. */
static enum tail_status write_changes(struct feed *feed, struct text *out, struct slice *slice)
{
	struct feeds *feeds = feeds_of(feed);
	uint64_t durable = tail_durable(feeds->tail);
	uint64_t end = feed->end < durable ? feed->end : durable;

	while (out->capacity - out->length >= EVENT_ROOM + FRAME_ROOM + ID_ROOM &&
	       slice->records > 0) {
		enum tail_status status =
		    tail_next(feeds->tail, &feed->position, end, &feeds->change);
		if (status != TAIL_CHANGE && status != TAIL_NOTHING)
			return status;
		slice->records--;
		if (status != TAIL_CHANGE || !concerns(feed, &feeds->change))
			continue;
		confine(feed, &feeds->change);
		write_change(feed, out, &feeds->change);
	}
	return TAIL_CHANGE;
}

static bool is_quiet(const struct feed *feed)
{
	const struct worker *worker = feed->connection->worker;

	return feed->events && worker->now >= feed->quiet_since + worker->settings->feed_heartbeat;
}

/* A comment, so that nobody between us takes the connection for dead, and the position. */
static void write_heartbeat(struct feed *feed, struct text *out)
{
	text_literal(out, ":\n");
	tell_position(feed, out);
}

/* OUT has been written: it leaves now.  False: there is no more to be done for FEED. */
static bool send_block(struct feed *feed, struct text *out)
{
	struct feeds *feeds = feeds_of(feed);
	struct connection *connection = feed->connection;

	if (out->length > 0)
		feed->quiet_since = connection->worker->now;
	connection_answer(connection, out, 0);
	feeds->serving = feed;
	connection_settle(connection);
	if (!feeds->serving)
		return false;
	feeds->serving = NULL;
	/* What it did not take keeps it from more: `arrived` is called when it has. */
	return !connection_waits_for_room(connection);
}

static void give_up(struct feed *feed, const char *reason)
{
	struct connection *connection = feed->connection;

	finish(feed, reason);
	connection_settle(connection);
}

static void note_unreadable(const struct feed *feed)
{
	struct worker *worker = feed->connection->worker;

	refusal_note(&worker->refusals, REFUSAL_READ_FAILED, worker->now, "a feed");
}

/* FEED has come to STATUS. */
static void go_on(struct feed *feed, enum tail_status status)
{
	struct feeds *feeds = feeds_of(feed);

	switch (status) {
	case TAIL_CHANGE:
	case TAIL_NOTHING:
		enter(feeds, feed, PLACE_READY);
		break;
	case TAIL_LATER:
		feeds->fetching = true;
		enter(feeds, feed, PLACE_WAITING);
		break;
	case TAIL_END:
		if (feed->end == FEED_FOLLOWS)
			enter(feeds, feed, PLACE_WAITING);
		else
			give_up(feed, NULL);
		break;
	case TAIL_PRUNED:
		give_up(feed, "pruned");
		break;
	case TAIL_NOWHERE:
	case TAIL_IO:
		note_unreadable(feed);
		give_up(feed, "read_failed");
		break;
	}
}

/* Feeds can wait for those that take nothing; other requests would be refused. */
static bool has_memory(const struct worker *worker)
{
	return buffers_used(worker->buffers) < worker->settings->buffer_memory / FEED_MEMORY_SHARE;
}

static void serve_feed(struct feed *feed, struct slice *slice)
{
	struct connection *connection = feed->connection;
	struct text out;

	leave(feeds_of(feed), feed);
	slice->feeds--;
	if (connection_lacks_token(connection)) {
		give_up(feed, "unauthorized");
		return;
	}
	if (connection_waits_for_room(connection))
		return;
	if (!has_memory(connection->worker) ||
	    connection_room(connection, FEED_BLOCK, &out) != CONNECTION_ROOM) {
		enter(feeds_of(feed), feed, PLACE_READY);
		return;
	}
	/* The block may be larger than was asked for. */
	out.capacity = FEED_BLOCK;
	size_t chunk = open_chunk(feed, &out);
	enum tail_status status = write_changes(feed, &out, slice);
	if (is_quiet(feed))
		write_heartbeat(feed, &out);
	close_chunk(feed, &out, chunk);
	if (send_block(feed, &out))
		go_on(feed, status);
}

/* --- slices --- */

static double clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Something for as many as one turn of the loop has room for; then a rest as long as it was worth.
 */
static void serve_slice(struct feeds *feeds)
{
	struct slice slice = {.feeds = FEED_SLICE, .records = FEED_RECORDS};
	double began = clock_now();

	while (feeds->ready.first && slice.feeds > 0 && slice.records > 0 &&
	       !worker_stops(feeds->worker))
		serve_feed(feeds->ready.first, &slice);
	double ended = clock_now();
	unsigned share = feeds->news ? FEED_SHARE_BUSY : FEED_SHARE_QUIET;
	feeds->rest_until = ended + fmax(FEED_REST, (ended - began) * (share - 1));
	feeds->news = false;
	counter_add(feeds->worker->server->counters, COUNTER_FEED_SLICES, 1);
	counter_add(feeds->worker->server->counters, COUNTER_FEED_BLOCKS, FEED_SLICE - slice.feeds);
}

static void wake_quiet(struct feeds *feeds)
{
	struct feed *next;

	for (struct feed *feed = feeds->waiting.first; feed; feed = next) {
		next = feed->next;
		/* Nothing else may ever come of lines whose token is over. */
		if (is_quiet(feed) || connection_lacks_token(feed->connection))
			enter(feeds, feed, PLACE_READY);
	}
}

static void arm(struct feeds *feeds, double due)
{
	struct worker *worker = feeds->worker;

	if (ev_is_active(&feeds->timer) && feeds->timer_due <= due)
		return;
	ev_timer_stop(worker->loop, &feeds->timer);
	ev_timer_set(&feeds->timer, fmax(due - worker->now, 0), 0);
	ev_timer_start(worker->loop, &feeds->timer);
	feeds->timer_due = due;
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct feeds *feeds = timer->data;
	struct worker *worker = feeds->worker;
	(void)loop;
	(void)events;

	if (worker_stops(worker))
		return;
	if (feeds->fetching) {
		feeds->fetching = false;
		wake_all(feeds);
	}
	if (worker->now >= feeds->looked + FEED_LOOK) {
		feeds->looked = worker->now;
		wake_quiet(feeds);
		/* A wake-up that was lost with who should have sent it is asked for again. */
		if (!worker->held.first)
			worker->wanted = 0;
	}
	if (feeds->ready.first && worker->now >= feeds->rest_until)
		serve_slice(feeds);
}

static void look(struct feeds *feeds)
{
	uint64_t durable = tail_durable(feeds->tail);

	if (durable == feeds->seen)
		return;
	feeds->seen = durable;
	feeds->news = true;
	wake_all(feeds);
}

/*
 * The answers that are held here have us woken anyway.  What is released need not be durable (sync
 * interval): nobody wakes us for that, so we look again.
 */
static void ask(struct feeds *feeds)
{
	if (!release_ask(feeds->worker, feeds->seen))
		arm(feeds, feeds->worker->now + FEED_REST);
}

void feeds_turn_ends(struct worker *worker)
{
	struct feeds *feeds = worker->feeds;

	if (!feeds->ready.first && !feeds->waiting.first)
		return;
	look(feeds);
	if (feeds->ready.first || feeds->fetching || feeds->rest_until > worker->now)
		arm(feeds, fmax(feeds->rest_until, worker->now));
	else
		ask(feeds);
	arm(feeds, worker->now + FEED_LOOK);
}

/* --- the way of a feed --- */

/* The kernel would take megabytes for a client that takes nothing.  What is no TCP takes less. */
static void bound_socket(const struct connection *connection)
{
	int bytes = FEED_UNSENT;

	setsockopt(connection->io.fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof(bytes));
}

enum connection_room feed_begin(struct connection *connection, const struct call *call,
                                double began, struct feed **owner)
{
	struct feeds *feeds = connection->worker->feeds;
	const struct feed_plan *plan = &feeds->plan;
	struct reply_frame frame = call->frame;
	struct text out;
	enum connection_room room = connection_room(connection, HEAD_ROOM, &out);
	struct feed *feed = room == CONNECTION_ROOM ? take_place(feeds) : NULL;

	if (!feed)
		return room == CONNECTION_ROOM ? CONNECTION_ROOM_NOTHING : room;
	*feed = (struct feed){.connection = connection,
	                      .owner = owner,
	                      .position = plan->position,
	                      .end = plan->end,
	                      .began = began,
	                      .quiet_since = connection->worker->now,
	                      .events = plan->events,
	                      .chunked = call->request->minor > 0,
	                      .nothing = plan->nothing,
	                      .prefix_length = (uint8_t)plan->prefix_length};
	memcpy(feed->prefix, plan->prefix, plan->prefix_length);
	*owner = feed;
	bound_socket(connection);
	frame.connection = REPLY_CLOSE;
	reply_live_head(&out, &frame, feed->events ? FEED_EVENTS_TYPE : FEED_LINES_TYPE,
	                feed->chunked);
	if (feed->events) {
		size_t chunk = open_chunk(feed, &out);
		text_literal(&out, "retry: ");
		text_unsigned(&out, FEED_RETRY_MS);
		text_literal(&out, "\n");
		tell_position(feed, &out);
		close_chunk(feed, &out, chunk);
	}
	connection_answer(connection, &out, 0);
	connection_stream(connection, true);
	connection_expect_nothing(connection);
	enter(feeds, feed, PLACE_READY);
	return CONNECTION_ROOM;
}

void feed_arrived(struct feed *feed)
{
	struct connection *connection = feed->connection;
	struct feeds *feeds = feeds_of(feed);

	if (connection->worker->phase != PHASE_SERVING) {
		connection_hurry(connection, FEED_LEAVE);
		finish(feed, NULL);
		return;
	}
	/* Whoever will not speak again, and may not be there, gets what there is. */
	if (connection->ended && feed->end == FEED_FOLLOWS)
		feed->end = tail_durable(feeds->tail);
	if (connection_waits_for_room(connection))
		leave(feeds, feed);
	else
		enter(feeds, feed, PLACE_READY);
}

/* --- beginning and end --- */

struct feeds *feeds_new(struct worker *worker)
{
	struct feeds *feeds = calloc(1, sizeof(*feeds));

	if (!feeds)
		return NULL;
	feeds->worker = worker;
	feeds->places = calloc(worker->settings->max_connections, sizeof(*feeds->places));
	if (worker->server->history)
		feeds->tail = tail_open(worker->server->history);
	ev_timer_init(&feeds->timer, on_timer, 0, 0);
	feeds->timer.data = feeds;
	if (feeds->places && (feeds->tail || !worker->server->history))
		return feeds;
	feeds_free(feeds);
	return NULL;
}

void feeds_free(struct feeds *feeds)
{
	if (!feeds)
		return;
	ev_timer_stop(feeds->worker->loop, &feeds->timer);
	tail_close(feeds->tail);
	free(feeds->places);
	free(feeds);
}

struct tail *feeds_tail(struct feeds *feeds)
{
	return feeds->tail;
}

struct feed_plan *feeds_plan(struct feeds *feeds)
{
	return &feeds->plan;
}
