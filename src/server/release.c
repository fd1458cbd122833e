#include <errno.h>
#include <unistd.h>

#include "connection.h"
#include "release.h"

void release_hold(struct connection *connection)
{
	struct connection_list *held = &connection->worker->held;
	struct worker *worker = connection->worker;
	if (connection->held)
		return;
	connection->held = true;
	connection->held_next = NULL;
	connection->held_previous = held->last;
	if (held->last)
		held->last->held_next = connection;
	else
		held->first = connection;
	held->last = connection;
	if (!ev_is_active(&worker->wake_watch))
		ev_timer_again(worker->loop, &worker->wake_watch);
}

void release_drop(struct connection *connection)
{
	struct connection_list *held = &connection->worker->held;
	if (!connection->held)
		return;
	connection->held = false;
	if (connection->held_previous)
		connection->held_previous->held_next = connection->held_next;
	else
		held->first = connection->held_next;
	if (connection->held_next)
		connection->held_next->held_previous = connection->held_previous;
	else
		held->last = connection->held_previous;
}

/*
 * Lets the front of the line go.  Who still has answers that wait goes to its end, so a
 * connection may wait for the group commit after its own, never longer.
 */
static void release_front(struct worker *worker)
{
	uint64_t released = ledger_released(worker->server->ledger);
	while (worker->held.first && queue_waits_for(worker->held.first->out) < released) {
		struct connection *connection = worker->held.first;
		release_drop(connection);
		connection_settle(connection);
	}
	if (worker->access_log)
		access_log_release(worker->access_log, released, worker->now);
}

static void look(struct worker *worker)
{
	if (worker_stops(worker))
		return;
	release_front(worker);
	/* What is still held will never be durable: no answer at all is the one honest answer. */
	if (ledger_health(worker->server->ledger) == OUTCOME_JOURNAL_FAILED)
		worker_stop(worker, WORKER_DISK_FAILED);
}

static void on_wake(struct ev_loop *loop, ev_io *io, int events)
{
	struct worker *worker = io->data;
	uint64_t ignored;
	(void)loop;
	(void)events;
	if (read(io->fd, &ignored, sizeof(ignored)) < 0 && errno != EAGAIN && errno != EINTR)
		log_error("cannot read the wake-up descriptor: %m; answers will be late");
	worker->wanted = 0;
	look(worker);
}

static void on_watch(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct worker *worker = timer->data;
	(void)events;
	if (!worker->held.first) {
		ev_timer_stop(loop, timer);
		return;
	}
	worker->wanted = 0;
	worker->posted = true;
	look(worker);
}

bool release_ask(struct worker *worker, uint64_t lsn)
{
	if (worker->held.first || worker->wanted != 0)
		return true;
	if (!ledger_want(worker->server->ledger, lsn))
		return false;
	worker->wanted = lsn;
	return true;
}

void release_turn_ends(struct worker *worker)
{
	struct ledger *ledger = worker->server->ledger;
	if (worker->posted) {
		worker->posted = false;
		ledger_kick(ledger);
	}
	while (worker->held.first && !worker_stops(worker)) {
		uint64_t lsn = queue_waits_for(worker->held.first->out);
		if (worker->wanted != 0 && worker->wanted <= lsn)
			break;
		if (ledger_want(ledger, lsn)) {
			worker->wanted = lsn;
			break;
		}
		release_front(worker);
	}
}

void release_start(struct worker *worker)
{
	ev_io_init(&worker->wake, on_wake, worker->server->wake_fd, EV_READ);
	ev_timer_init(&worker->wake_watch, on_watch, 0, RELEASE_WATCH);
	worker->wake.data = worker->wake_watch.data = worker;
	ev_io_start(worker->loop, &worker->wake);
}

void release_stop(struct worker *worker)
{
	ev_io_stop(worker->loop, &worker->wake);
	ev_timer_stop(worker->loop, &worker->wake_watch);
}
