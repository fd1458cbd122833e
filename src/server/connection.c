/* The life of a connection: how it begins, what its protocol may ask, how it ends. */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "../wire/token.h"
#include "accept.h"
#include "admission.h"
#include "connection_parts.h"
#include "door.h"
#include "drain.h"
#include "release.h"
#include "slab.h"

/* What it is doing, as a gauge. */
static enum counter state_of(const struct connection *connection)
{
	if (connection->held)
		return COUNTER_CONNECTIONS_WAITING;
	if (connection->stalled)
		return COUNTER_CONNECTIONS_WRITING;
	if (connection->closing || connection->lingering)
		return COUNTER_CONNECTIONS_CLOSING;
	if (connection->queued || connection->paused || connection->blocked)
		return COUNTER_CONNECTIONS_SERVING;
	if (connection->streaming)
		return COUNTER_CONNECTIONS_STREAMING;
	return connection_is_idle(connection) ? COUNTER_CONNECTIONS_IDLE
	                                      : COUNTER_CONNECTIONS_READING;
}

/* STATE 0: it is no connection any more. */
static void count_as(struct connection *connection, enum counter state)
{
	struct counters *counters = connection->worker->server->counters;

	if (connection->state_counted == state)
		return;
	if (connection->state_counted)
		counter_add(counters, connection->state_counted, UINT64_MAX);
	if (state)
		counter_add(counters, state, 1);
	connection->state_counted = (uint8_t)state;
}

static bool is_fresh(const struct connection *connection)
{
	return !connection->used && connection->until > connection->worker->now;
}

static bool is_finished(const struct connection *connection)
{
	if (connection->lingering)
		return false;
	if (connection->closing)
		return !connection->out;
	if (connection->worker->phase == PHASE_QUITTING)
		return !connection->out || !queue_waits_for(connection->out);
	if (connection->ended && !connection->out && !connection->queued && !connection->paused &&
	    !connection->streaming)
		return true;
	return connection->worker->phase == PHASE_DRAINING && connection_is_idle(connection) &&
	       !is_fresh(connection);
}

static void linger(struct connection *connection)
{
	shutdown(connection->io.fd, SHUT_WR);
	connection_drop_input(connection);
	connection->lingering = true;
	connection->until = connection->worker->now + CONNECTION_LINGER_TIME;
}

void connection_cut(struct connection *connection)
{
	struct worker *worker = connection->worker;
	if (connection->opened && connection->protocol->closed)
		connection->protocol->closed(connection);
	admission_leave(connection);
	ev_io_stop(worker->loop, &connection->io);
	ev_timer_stop(worker->loop, &connection->timer);
	connection_not_again(connection);
	connection_drop_output(connection);
	connection_drop_input(connection);
	count_as(connection, 0);
	close(connection->io.fd);
	slab_give(worker->slab, connection);
	counter_store(worker->server->counters, COUNTER_CONNECTIONS_OPEN, slab_used(worker->slab));
	acceptor_resume(worker->acceptor);
	if (worker->phase != PHASE_SERVING && slab_used(worker->slab) == 0)
		worker_stop(worker, 0);
}

static void watch(struct connection *connection)
{
	int events =
	    (connection_reads(connection) ? EV_READ : 0) | (connection->stalled ? EV_WRITE : 0);
	struct ev_loop *loop = connection->worker->loop;
	if (events ==
	    (ev_is_active(&connection->io) ? connection->io.events & (EV_READ | EV_WRITE) : 0))
		return;
	ev_io_stop(loop, &connection->io);
	ev_io_modify(&connection->io, events);
	if (events)
		ev_io_start(loop, &connection->io);
}

void connection_settle(struct connection *connection)
{
	bool answers = connection->out != NULL;
	if (worker_stops(connection->worker))
		return;
	if (!connection_flush(connection)) {
		connection_cut(connection);
		return;
	}
	if (is_finished(connection)) {
		/* It may be sending its next request: a reset would take the answer from it. */
		bool polite = connection->closing ? connection->polite : answers;
		if (!polite || connection->ended || connection->worker->phase == PHASE_QUITTING) {
			connection_cut(connection);
			return;
		}
		linger(connection);
	}
	watch(connection);
	connection_arm(connection);
	count_as(connection, state_of(connection));
}

void connection_drain(struct connection *connection)
{
	if (connection->worker->phase >= PHASE_DRAINING &&
	    (connection_is_idle(connection) || connection->streaming)) {
		if (!connection->used)
			connection->until = fmin(connection->until,
			                         connection->worker->now + CONNECTION_FRESH_TIME);
		/* A request that is in the socket's buffer has been started. */
		if (!connection_receive(connection)) {
			connection_cut(connection);
			return;
		}
	}
	if (connection->streaming)
		connection_again(connection);
	connection_settle(connection);
}

/*
 * What the client has sent already would make a reset of the close, which could take its answer
 * from it.  But it is not waited for: who may not have another connection shall not keep this one.
 */
static void turn_away(struct connection *connection, const char *reason)
{
	ssize_t ignored = recv(connection->io.fd, connection->worker->scratch, WORKER_READ_MAX, 0);
	(void)ignored;
	if (connection->protocol->refused)
		connection->protocol->refused(connection, reason);
	connection_close(connection, false);
}

void connection_enter(struct connection *connection)
{
	const char *reason = admission_enter(connection);

	connection->protocol = connection->door->protocol;
	memset(connection->state, 0, sizeof(connection->state));
	connection->opened = reason == NULL;
	if (reason)
		turn_away(connection, reason);
	else
		connection->protocol->opened(connection);
}

/* Its peer has something to say before it is known who the client is. */
static void begin_with(struct connection *connection, const struct protocol *first)
{
	connection->protocol = first;
	connection->opened = true;
	first->opened(connection);
}

bool connection_lacks_token(const struct connection *connection)
{
	const struct token *token = connection->token;

	return connection->guarded &&
	       (!token || token_is_over(token, worker_time_us(connection->worker)));
}

bool connection_open(struct worker *worker, int fd, const struct door *door,
                     const struct protocol *first, const struct peer *peer)
{
	struct connection *connection = slab_take(worker->slab);
	if (!connection)
		return false;
	connection->worker = worker;
	connection->door = door;
	connection->guarded = worker->tokens && !door->anonymous;
	connection->peer = *peer;
	ev_io_init(&connection->io, connection_on_io, fd, EV_READ);
	ev_init(&connection->timer, connection_on_timer);
	connection->io.data = connection->timer.data = connection;
	ev_io_start(worker->loop, &connection->io);
	connection_be_idle(connection);
	count_as(connection, COUNTER_CONNECTIONS_IDLE);
	counter_add(worker->server->counters, COUNTER_CONNECTIONS_ACCEPTED, 1);
	counter_store(worker->server->counters, COUNTER_CONNECTIONS_OPEN, slab_used(worker->slab));
	if (first == door->protocol)
		connection_enter(connection);
	else
		begin_with(connection, first);
	if (connection->closing)
		connection_settle(connection);
	else
		connection_arm(connection);
	return true;
}

void connection_stream(struct connection *connection, bool on)
{
	connection->streaming = on;
}

void connection_poke(struct connection *connection)
{
	connection_again(connection);
}

bool connection_may_go_on(struct connection *connection)
{
	struct worker *worker = connection->worker;
	if (connection->closing || connection->paused || connection->blocked ||
	    worker_stops(worker))
		return false;
	if (worker->slice_left == 0) {
		connection_again(connection);
		return false;
	}
	worker->slice_left--;
	return true;
}

void connection_expect_nothing(struct connection *connection)
{
	connection->expect_by = 0;
}

void connection_await(struct connection *connection, double by)
{
	connection->awaited = true;
	connection->until = by;
}

void connection_expect(struct connection *connection, double by)
{
	connection->expect_by = by;
}

void connection_close(struct connection *connection, bool polite)
{
	connection->closing = true;
	connection->polite = polite;
	connection->expect_by = 0;
	connection->blocked = connection->paused = connection->streaming = false;
}

void connection_part(struct connection *connection, bool may_end)
{
	struct worker *worker = connection->worker;
	if (worker->phase == PHASE_SERVING || connection->closing)
		return;
	connection->leaving =
	    may_end && worker->phase == PHASE_GENTLE && worker->now < drain_last_moment(worker);
	if (connection->leaving)
		connection_be_idle(connection);
	else if (may_end || worker->phase > PHASE_GENTLE)
		connection_close(connection, true);
}

void connection_pause(struct connection *connection, double seconds)
{
	connection->paused = true;
	connection->until = connection->worker->now + seconds;
}
