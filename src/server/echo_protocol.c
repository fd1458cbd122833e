#include "echo_protocol.h"

#include <inttypes.h>
#include <string.h>

#include "../base/log.h"
#include "connection.h"
#include "note.h"

#define PIECE 16384 /* bytes that are put into the queue of answers at once */

_Static_assert(ECHO_BUFFER_MAX + PIECE <= CONNECTION_OUT_MAX, "a piece more finds room");

/* What is kept of a connection between two reads. */
struct echo {
	double opened;  /* monotonic seconds */
	uint64_t bytes; /* that went back, or wait to */
};

_Static_assert(sizeof(struct echo) <= CONNECTION_STATE_MAX, "it lives in the connection");

static struct echo *echo_of(struct connection *connection)
{
	return (struct echo *)connection->state;
}

static void opened(struct connection *connection)
{
	char peer[NOTE_PEER_MAX];

	*echo_of(connection) = (struct echo){.opened = connection->worker->now};
	log_info("echo: connection from %s", note_peer(&connection->peer, peer));
}

static void closed(struct connection *connection)
{
	const struct echo *echo = echo_of(connection);
	char peer[NOTE_PEER_MAX];

	log_info("echo: connection from %s ended after %.3f s and %" PRIu64 " bytes",
	         note_peer(&connection->peer, peer), connection->worker->now - echo->opened,
	         echo->bytes);
}

static bool is_full(const struct connection *connection)
{
	return connection->out != NULL && queue_unsent(connection->out) >= ECHO_BUFFER_MAX;
}

/* What cannot be kept cannot go back: a byte less is no echo. */
static void exhausted(struct connection *connection)
{
	refusal_note(&connection->worker->refusals, REFUSAL_BUSY, connection->worker->now,
	             "a connection of the echo protocol");
	connection_close(connection, true);
}

/* Room for the LENGTH bytes of a piece.  False: not now, or never. */
static bool has_room(struct connection *connection, size_t length, struct text *out)
{
	switch (connection_room(connection, length, out)) {
	case CONNECTION_ROOM:
		return true;
	case CONNECTION_ROOM_NOTHING:
		/* Nothing that leaves would bring us back here. */
		exhausted(connection);
		return false;
	case CONNECTION_ROOM_LATER:
		break;
	}
	return false;
}

static size_t arrived(struct connection *connection, char *bytes, size_t *length)
{
	struct counters *counters = connection->worker->server->counters;
	size_t at = 0;

	while (at < *length && connection_may_go_on(connection)) {
		size_t piece = *length - at < PIECE ? *length - at : PIECE;
		struct text out;
		if (is_full(connection)) {
			connection_waits_for_room(connection);
			break;
		}
		if (!has_room(connection, piece, &out))
			break;
		text_bytes(&out, bytes + at, piece);
		connection_answer(connection, &out, 0);
		at += piece;
	}
	echo_of(connection)->bytes += at;
	counter_add(counters, COUNTER_ECHO_BYTES, at);
	if (at > 0 && at == *length)
		connection_part(connection, true);
	return at;
}

/* Nothing of a request is ever expected. */
static void timed_out(struct connection *connection)
{
	connection_close(connection, false);
}

const struct protocol echo_protocol = {
    .name = "echo",
    .state_size = sizeof(struct echo),
    .opened = opened,
    .arrived = arrived,
    .timed_out = timed_out,
    .exhausted = exhausted,
    .closed = closed,
};
