/* What arrives on a connection: read, handed to its protocol, kept as far as that left it. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "connection_parts.h"

void connection_again(struct connection *connection)
{
	struct connection_list *again = &connection->worker->again;
	if (connection->queued)
		return;
	connection->queued = true;
	connection->again_next = NULL;
	connection->again_previous = again->last;
	if (again->last)
		again->last->again_next = connection;
	else
		again->first = connection;
	again->last = connection;
	ev_idle_start(connection->worker->loop, &connection->worker->unfinished);
}

void connection_not_again(struct connection *connection)
{
	struct connection_list *again = &connection->worker->again;
	if (!connection->queued)
		return;
	connection->queued = false;
	if (connection->again_previous)
		connection->again_previous->again_next = connection->again_next;
	else
		again->first = connection->again_next;
	if (connection->again_next)
		connection->again_next->again_previous = connection->again_previous;
	else
		again->last = connection->again_previous;
	if (!again->first)
		ev_idle_stop(connection->worker->loop, &connection->worker->unfinished);
}

void connection_drop_input(struct connection *connection)
{
	buffer_give(connection->worker->buffers, connection->in);
	connection->in = NULL;
	connection->in_capacity = connection->in_start = connection->in_length = 0;
}

/* Keeps the LENGTH BYTES that were not consumed, wherever they are. */
static void keep(struct connection *connection, char *bytes, size_t length)
{
	if (length == 0 || connection->closing) {
		connection_drop_input(connection);
		return;
	}
	if (!connection->in) {
		size_t capacity;
		connection->in = buffer_take(connection->worker->buffers, length, &capacity);
		if (!connection->in) {
			connection->protocol->exhausted(connection);
			return;
		}
		memcpy(connection->in, bytes, length);
		bytes = connection->in;
		connection->in_capacity = (uint32_t)capacity;
	}
	connection->in_start = (uint32_t)(bytes - connection->in);
	connection->in_length = (uint32_t)length;
}

static void serve(struct connection *connection, char *bytes, size_t length)
{
	connection->worker->slice_left = CONNECTION_SLICE_MAX;
	size_t consumed = connection->protocol->arrived(connection, bytes, &length);
	keep(connection, bytes + consumed, length - consumed);
}

/* Makes room behind what is kept.  False if there is no memory. */
static bool widen(struct connection *connection)
{
	char *kept = connection->in + connection->in_start;
	if (connection->in_start + connection->in_length < connection->in_capacity)
		return true;
	if (connection->in_start > 0) {
		memmove(connection->in, kept, connection->in_length);
		connection->in_start = 0;
		return true;
	}
	size_t capacity;
	char *wider = buffer_take(connection->worker->buffers, (size_t)connection->in_capacity * 2,
	                          &capacity);
	if (!wider)
		return false;
	memcpy(wider, kept, connection->in_length);
	buffer_give(connection->worker->buffers, connection->in);
	connection->in = wider;
	connection->in_capacity = (uint32_t)capacity;
	return true;
}

/* LENGTH bytes have arrived behind what is kept, or nothing any more.  False: it is broken. */
static bool has_received(struct connection *connection, ssize_t got)
{
	if (got < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
	if (got > 0) {
		connection->awaited = false;
		connection_be_idle(connection);
		return true;
	}
	connection->ended = true;
	if (connection->streaming)
		connection_again(connection);
	return true;
}

/*
 * What little is kept is put in front of the scratch, so that a client that sends much is read in
 * large pieces wherever its requests or lines end.
 */
static bool receive_more(struct connection *connection)
{
	char *scratch = connection->worker->scratch;
	size_t kept = connection->in_length;
	if (kept)
		memcpy(scratch, connection->in + connection->in_start, kept);
	ssize_t got = recv(connection->io.fd, scratch + kept, WORKER_READ_MAX, 0);
	if (!has_received(connection, got))
		return false;
	if (got <= 0)
		return true;
	connection_drop_input(connection);
	serve(connection, scratch, kept + (size_t)got);
	return true;
}

/* Behind what is kept, where it is kept. */
static bool receive_behind(struct connection *connection)
{
	if (!widen(connection)) {
		connection->protocol->exhausted(connection);
		return true;
	}
	uint32_t used = connection->in_start + connection->in_length;
	ssize_t got =
	    recv(connection->io.fd, connection->in + used, connection->in_capacity - used, 0);
	if (!has_received(connection, got))
		return false;
	if (got <= 0)
		return true;
	connection->in_length += (uint32_t)got;
	serve(connection, connection->in + connection->in_start, connection->in_length);
	return true;
}

/* One read.  False if the connection is broken. */
static bool receive(struct connection *connection)
{
	return connection->in_length <= WORKER_KEPT_MAX ? receive_more(connection)
	                                                : receive_behind(connection);
}

/* Reads and drops.  False when the client has closed, or has sent too much. */
static bool receive_lingering(struct connection *connection)
{
	ssize_t got = recv(connection->io.fd, connection->worker->scratch, WORKER_READ_MAX, 0);
	if (got < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
	connection->dropped += (uint32_t)got;
	return got > 0 && connection->dropped < CONNECTION_LINGER_BYTES;
}

bool connection_receive(struct connection *connection)
{
	if (connection->lingering)
		return receive_lingering(connection);
	if (!connection_reads(connection) || connection->queued)
		return true;
	return receive(connection);
}

void connection_on_io(struct ev_loop *loop, ev_io *io, int events)
{
	struct connection *connection = io->data;
	(void)loop;
	if (worker_stops(connection->worker))
		return;
	if (events & EV_WRITE)
		connection->stalled = false;
	if ((events & EV_READ) && !connection_receive(connection)) {
		connection_cut(connection);
		return;
	}
	connection_settle(connection);
}

void connection_serve_again(struct worker *worker)
{
	struct connection *last = worker->again.last;
	struct connection *connection;
	while ((connection = worker->again.first) && !worker_stops(worker)) {
		bool was_last = connection == last;
		connection_not_again(connection);
		if ((connection->in || connection->streaming) && worker->phase < PHASE_QUITTING)
			serve(connection,
			      connection->in ? connection->in + connection->in_start
			                     : worker->scratch,
			      connection->in_length);
		connection_settle(connection);
		if (was_last)
			return;
	}
}
