#include "proxy_protocol.h"

#include <stdio.h>

#include "../wire/proxy.h"
#include "connection.h"
#include "note.h"

#define DETAIL_MAX 160

_Static_assert(PROXY_HEADER_MAX <= WORKER_KEPT_MAX, "what is kept of a header is read in front");

/* What is kept of a connection until its header is whole. */
struct proxy_state {
	double by;  /* when it has to be, monotonic seconds */
	bool begun; /* some of it has come */
	bool told;  /* why there will be none has been counted and logged */
};

_Static_assert(sizeof(struct proxy_state) <= CONNECTION_STATE_MAX, "it lives in the connection");

static struct proxy_state *state_of(struct connection *connection)
{
	return (struct proxy_state *)connection->state;
}

static void opened(struct connection *connection)
{
	struct proxy_state *state = state_of(connection);

	state->by = connection->worker->now + connection->worker->settings->header_timeout;
	connection_await(connection, state->by);
}

static void refuse(struct connection *connection, const char *why)
{
	struct worker *worker = connection->worker;
	char detail[DETAIL_MAX], peer[NOTE_PEER_MAX];

	snprintf(detail, sizeof(detail), "from %s came %s", note_peer(&connection->peer, peer),
	         why);
	state_of(connection)->told = true;
	counter_add(worker->server->counters, COUNTER_REFUSED_HEADER, 1);
	refusal_note(&worker->refusals, REFUSAL_HEADER, worker->now, detail);
	connection_close(connection, false);
}

/* The peer is now who HEADER says. */
static void pass_on(struct connection *connection, const struct proxy_header *header)
{
	static const int families[] = {
	    [PROXY_INET] = AF_INET, [PROXY_INET6] = AF_INET6, [PROXY_UNIX] = AF_UNIX};

	/* A proxy that speaks for itself stays what it is, and is no client that is limited. */
	if (header->client == PROXY_ITSELF)
		connection->exempt = true;
	else
		connection->peer = peer_make(families[header->client], header->address);
	connection_expect_nothing(connection);
	connection_enter(connection);
}

/* BYTES came behind the header. */
static size_t go_on(struct connection *connection, char *bytes, size_t *length)
{
	if (connection->closing)
		return *length;
	return *length > 0 ? connection->protocol->arrived(connection, bytes, length) : 0;
}

static size_t arrived(struct connection *connection, char *bytes, size_t *length)
{
	struct proxy_state *state = state_of(connection);
	struct proxy_header header;

	state->begun |= *length > 0;
	switch (proxy_read(bytes, *length, &header)) {
	case PROXY_MORE:
		connection_expect(connection, state->by);
		return 0;
	case PROXY_MALFORMED:
		refuse(connection, header.wrong);
		return *length;
	case PROXY_DONE:
		break;
	}
	pass_on(connection, &header);
	size_t rest = *length - header.length;
	size_t taken = go_on(connection, bytes + header.length, &rest);
	*length = header.length + rest;
	return header.length + taken;
}

static void timed_out(struct connection *connection)
{
	refuse(connection, "no whole PROXY header in time");
}

static void exhausted(struct connection *connection)
{
	state_of(connection)->told = true;
	refusal_note(&connection->worker->refusals, REFUSAL_BUSY, connection->worker->now,
	             "a PROXY header");
	connection_close(connection, false);
}

/* Who looks only whether anybody is there, as load balancers do, sends nothing. */
static void closed(struct connection *connection)
{
	const struct proxy_state *state = state_of(connection);

	if (connection->ended && state->begun && !state->told)
		refuse(connection, "an end within the PROXY header");
}

const struct protocol proxy_protocol = {
    .name = "proxy",
    .state_size = sizeof(struct proxy_state),
    .opened = opened,
    .arrived = arrived,
    .timed_out = timed_out,
    .exhausted = exhausted,
    .closed = closed,
};
