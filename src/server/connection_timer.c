/* The deadlines of a connection. */
#include <math.h>

#include "connection_parts.h"
#include "refusal.h"

#define TIMER_SLACK 0.001 /* seconds; a timer may fire so much before our own clock */

bool connection_reads(const struct connection *connection)
{
	return connection->lingering ||
	       (!connection->ended && !connection->closing && !connection->blocked &&
	        !connection->paused && connection->worker->phase < PHASE_QUITTING);
}

/* Nothing has begun and nothing waits. */
bool connection_is_idle(const struct connection *connection)
{
	return !connection->in && !connection->out && !connection->queued && !connection->paused &&
	       !connection->closing && !connection->streaming && connection->expect_by <= 0;
}

static double deadline(const struct connection *connection)
{
	double due = INFINITY;
	if (connection->lingering || connection->paused)
		return connection->until;
	if (connection->stalled)
		due = connection->progress_by;
	if (!connection_reads(connection))
		return due;
	if (connection->expect_by > 0)
		return fmin(due, connection->expect_by);
	return connection_is_idle(connection) ? connection->until : due;
}

/*
 * The timer is only moved forward: a deadline that recedes with every request must not cost
 * two heap operations each time.
 */
void connection_arm(struct connection *connection)
{
	double due = deadline(connection);
	if (isinf(due))
		return;
	if (ev_is_active(&connection->timer) && connection->timer_due <= due)
		return;
	double after = fmax(due - connection->worker->now, 0);
	ev_timer_stop(connection->worker->loop, &connection->timer);
	ev_timer_set(&connection->timer, after, 0);
	ev_timer_start(connection->worker->loop, &connection->timer);
	connection->timer_due = due;
}

void connection_be_idle(struct connection *connection)
{
	/* Answers may leave during a pause, whose end is in the same place. */
	if (connection->paused)
		return;
	double quiet = connection->worker->settings->idle_timeout;
	if (connection->leaving)
		quiet = fmin(quiet, CONNECTION_QUIET);
	connection->until = connection->worker->now + quiet;
}

static void note_timeout(struct connection *connection, const char *detail)
{
	struct worker *worker = connection->worker;
	counter_add(worker->server->counters, COUNTER_CONNECTIONS_TIMED_OUT, 1);
	refusal_note(&worker->refusals, REFUSAL_TIMED_OUT, worker->now, detail);
}

/* Should something have come?  A drain ends who has sent nothing without a word. */
static bool is_late(const struct connection *connection)
{
	return connection->expect_by > 0 ||
	       (connection->awaited && connection->worker->phase < PHASE_DRAINING);
}

static void expire(struct connection *connection)
{
	double now = connection->worker->now + TIMER_SLACK;
	if (connection->paused) {
		connection->paused = false;
		connection_be_idle(connection);
		connection_again(connection);
		connection_settle(connection);
	} else if (connection->stalled && connection->progress_by <= now) {
		note_timeout(connection, "a client took none of its answers");
		connection_cut(connection);
	} else if (!connection->lingering && is_late(connection)) {
		note_timeout(connection, "a request was not complete in time");
		connection->awaited = false;
		connection->expect_by = 0;
		connection->protocol->timed_out(connection);
		connection_settle(connection);
	} else {
		connection_cut(connection);
	}
}

void connection_on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct connection *connection = timer->data;
	(void)loop;
	(void)events;
	if (worker_stops(connection->worker))
		return;
	double due = deadline(connection);
	if (due > connection->worker->now + TIMER_SLACK)
		connection_arm(connection);
	else
		expire(connection);
}
