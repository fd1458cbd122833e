#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "accept.h"
#include "admission.h"
#include "connection.h"
#include "door.h"
#include "drain.h"
#include "release.h"
#include "slab.h"

#define CONNECTION_TRIM 4 /* times the size of the answers that wait is too large a block */

#define TIMER_SLACK 0.001 /* seconds; a timer may fire so much before our own clock */

/* --- worker->again: those that go on in the next turn --- */

static void again_push(struct connection *connection)
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

static void again_remove(struct connection *connection)
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

/* --- deadlines --- */

static bool reads(const struct connection *connection)
{
	return connection->lingering ||
	       (!connection->ended && !connection->closing && !connection->blocked &&
	        !connection->paused && connection->worker->phase < PHASE_QUITTING);
}

/* Nothing has begun and nothing waits. */
static bool is_idle(const struct connection *connection)
{
	return !connection->in && !connection->out && !connection->queued && !connection->paused &&
	       !connection->closing && !connection->streaming && connection->expect_by <= 0;
}

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
	return is_idle(connection) ? COUNTER_CONNECTIONS_IDLE : COUNTER_CONNECTIONS_READING;
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

static double deadline(const struct connection *connection)
{
	double due = INFINITY;
	if (connection->lingering || connection->paused)
		return connection->until;
	if (connection->stalled)
		due = connection->progress_by;
	if (!reads(connection))
		return due;
	if (connection->expect_by > 0)
		return fmin(due, connection->expect_by);
	return is_idle(connection) ? connection->until : due;
}

/*
 * The timer is only moved forward: a deadline that recedes with every request must not cost
 * two heap operations each time.
 */
static void arm_timer(struct connection *connection)
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

static void be_idle_from_now(struct connection *connection)
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
		be_idle_from_now(connection);
		again_push(connection);
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

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct connection *connection = timer->data;
	(void)loop;
	(void)events;
	if (worker_stops(connection->worker))
		return;
	double due = deadline(connection);
	if (due > connection->worker->now + TIMER_SLACK)
		arm_timer(connection);
	else
		expire(connection);
}

/* --- what arrives --- */

static void drop_input(struct connection *connection)
{
	buffer_give(connection->worker->buffers, connection->in);
	connection->in = NULL;
	connection->in_capacity = connection->in_start = connection->in_length = 0;
}

/* Keeps the LENGTH BYTES that were not consumed, wherever they are. */
static void keep(struct connection *connection, char *bytes, size_t length)
{
	if (length == 0 || connection->closing) {
		drop_input(connection);
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
		be_idle_from_now(connection);
		return true;
	}
	connection->ended = true;
	if (connection->streaming)
		again_push(connection);
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
	drop_input(connection);
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

static bool receive_some(struct connection *connection)
{
	if (connection->lingering)
		return receive_lingering(connection);
	if (!reads(connection) || connection->queued)
		return true;
	return receive(connection);
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
	struct connection *connection = io->data;
	(void)loop;
	if (worker_stops(connection->worker))
		return;
	if (events & EV_WRITE)
		connection->stalled = false;
	if ((events & EV_READ) && !receive_some(connection)) {
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
		again_remove(connection);
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

/* --- what leaves --- */

/* ANSWERS may leave now. */
static void measure(struct connection *connection, const struct queue_answers *answers)
{
	const struct worker *worker = connection->worker;
	double seconds = worker->now - answers->began;
	bool known = answers->began > 0 && seconds > 0;

	if (answers->count)
		counter_measure(worker->server->counters, MEASURE_REQUEST,
		                known ? (uint64_t)(seconds * 1e6) : 0, answers->count);
}

/* COUNT answers never will. */
static void lose(struct connection *connection, uint32_t count)
{
	if (count)
		counter_add(connection->worker->server->counters, COUNTER_ANSWERS_LOST, count);
}

static void drop_output(struct connection *connection)
{
	release_drop(connection);
	if (connection->out)
		lose(connection, queue_waiting(connection->out));
	buffer_give(connection->worker->buffers, connection->out);
	connection->out = NULL;
	connection->stalled = false;
}

/* One write of all that may leave.  False if the connection is broken. */
static bool send_ready(struct connection *connection)
{
	struct queue *out = connection->out;
	size_t ready = queue_ready(out);
	if (ready == 0)
		return true;
	double progress_by = connection->worker->now + connection->worker->settings->write_timeout;
	ssize_t sent = send(connection->io.fd, out->bytes + out->sent, ready, MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		return false;
	if (sent > 0) {
		queue_sent(out, (size_t)sent);
		connection->used = true;
		connection->progress_by = progress_by;
		be_idle_from_now(connection);
	} else if (connection->progress_by <= connection->worker->now) {
		/* The first time that it takes nothing: an old deadline says nothing. */
		connection->progress_by = progress_by;
	}
	connection->stalled = queue_ready(out) > 0;
	return true;
}

/*
 * Answers that wait do so in a block of their size, and that of last words: room is reserved for
 * longer ones.
 */
static void trim(struct connection *connection)
{
	struct buffers *buffers = connection->worker->buffers;
	struct queue *out = connection->out;
	size_t needed = sizeof(*out) + queue_unsent(out) + CONNECTION_LAST_MAX, capacity;
	if (out->capacity < CONNECTION_TRIM * needed)
		return;
	void *block = buffer_take(buffers, needed, &capacity);
	if (!block)
		return;
	connection->out = queue_init(block, capacity);
	queue_move(connection->out, out);
	buffer_give(buffers, out);
}

/* Sends what may leave, and waits for what may not.  False if the connection is broken. */
static bool flush(struct connection *connection)
{
	struct queue *out = connection->out;
	if (!out || connection->stalled)
		return true;
	size_t before = queue_unsent(out);
	uint64_t released = ledger_released(connection->worker->server->ledger);
	struct queue_answers answers;
	while (queue_release(out, released, &answers))
		measure(connection, &answers);
	if (!send_ready(connection))
		return false;
	size_t after = queue_unsent(out);
	if (after == 0) {
		drop_output(connection);
	} else if (queue_waits_for(out) && !connection->stalled) {
		trim(connection);
		release_hold(connection);
	} else {
		release_drop(connection);
	}

	if (connection->blocked && (after < before || after == 0) &&
	    after < CONNECTION_OUT_MAX / 2) {
		connection->blocked = false;
		again_push(connection);
	}
	return true;
}

/* --- the end --- */

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
	return connection->worker->phase == PHASE_DRAINING && is_idle(connection) &&
	       !is_fresh(connection);
}

static void linger(struct connection *connection)
{
	shutdown(connection->io.fd, SHUT_WR);
	drop_input(connection);
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
	again_remove(connection);
	drop_output(connection);
	drop_input(connection);
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
	int events = (reads(connection) ? EV_READ : 0) | (connection->stalled ? EV_WRITE : 0);
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
	if (!flush(connection)) {
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
	arm_timer(connection);
	count_as(connection, state_of(connection));
}

void connection_drain(struct connection *connection)
{
	if (connection->worker->phase >= PHASE_DRAINING &&
	    (is_idle(connection) || connection->streaming)) {
		if (!connection->used)
			connection->until = fmin(connection->until,
			                         connection->worker->now + CONNECTION_FRESH_TIME);
		/* A request that is in the socket's buffer has been started. */
		if (!receive_some(connection)) {
			connection_cut(connection);
			return;
		}
	}
	if (connection->streaming)
		again_push(connection);
	connection_settle(connection);
}

/* --- the beginning --- */

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

bool connection_open(struct worker *worker, int fd, const struct door *door,
                     const struct protocol *first, const struct peer *peer)
{
	struct connection *connection = slab_take(worker->slab);
	if (!connection)
		return false;
	connection->worker = worker;
	connection->door = door;
	connection->guarded = door->guarded;
	connection->peer = *peer;
	ev_io_init(&connection->io, on_io, fd, EV_READ);
	ev_init(&connection->timer, on_timer);
	connection->io.data = connection->timer.data = connection;
	ev_io_start(worker->loop, &connection->io);
	be_idle_from_now(connection);
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
		arm_timer(connection);
	return true;
}

/* --- for protocols --- */

void connection_stream(struct connection *connection, bool on)
{
	connection->streaming = on;
}

void connection_poke(struct connection *connection)
{
	again_push(connection);
}

bool connection_may_go_on(struct connection *connection)
{
	struct worker *worker = connection->worker;
	if (connection->closing || connection->paused || connection->blocked ||
	    worker_stops(worker))
		return false;
	if (worker->slice_left == 0) {
		again_push(connection);
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

/* Room for SIZE more bytes in an existing queue: where it is, or in a larger block. */
static bool enlarge(struct connection *connection, size_t size)
{
	struct queue *out = connection->out;
	size_t unsent = queue_unsent(out);
	if (unsent + size <= out->capacity) {
		queue_move(out, out);
		return true;
	}
	size_t capacity;
	void *block =
	    buffer_take(connection->worker->buffers, sizeof(*out) + unsent + size, &capacity);
	if (!block)
		return false;
	connection->out = queue_init(block, capacity);
	queue_move(connection->out, out);
	buffer_give(connection->worker->buffers, out);
	return true;
}

enum connection_room connection_room(struct connection *connection, size_t size, struct text *text)
{
	struct queue *out = connection->out;
	if (!out) {
		size_t capacity;
		void *block =
		    buffer_take(connection->worker->buffers, sizeof(*out) + size, &capacity);
		if (!block)
			return CONNECTION_ROOM_NOTHING;
		connection->out = queue_init(block, capacity);
	} else if (queue_unsent(out) + size > CONNECTION_OUT_MAX ||
	           (queue_room(out) < size && !enlarge(connection, size))) {
		connection->blocked = true;
		return CONNECTION_ROOM_LATER;
	}
	text_init(text, queue_end(connection->out), queue_room(connection->out));
	return CONNECTION_ROOM;
}

void connection_answers(struct connection *connection, const struct text *text, uint64_t lsn,
                        uint32_t count, double began)
{
	const struct queue_answers answers = {.count = count, .began = began};

	if (queue_add(connection->out, text->length, lsn, answers))
		measure(connection, &answers);
}

void connection_answer(struct connection *connection, const struct text *text, uint64_t lsn)
{
	queue_add(connection->out, text->length, lsn, (struct queue_answers){0});
}

void connection_last_words(struct connection *connection, const char *bytes, size_t length,
                           uint32_t count, double began)
{
	const struct queue_answers answers = {.count = count, .began = began};
	struct queue *out = connection->out;
	if (!out) {
		/* The client reads, so a fresh answer fits its socket; and nothing can be kept. */
		ssize_t ignored = send(connection->io.fd, bytes, length, MSG_NOSIGNAL);
		(void)ignored;
		measure(connection, &answers);
	} else if (queue_room(out) >= length) {
		memcpy(queue_end(out), bytes, length);
		if (queue_add(out, length, 0, answers))
			measure(connection, &answers);
	} else {
		lose(connection, count);
	}
	connection_close(connection, true);
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
		be_idle_from_now(connection);
	else if (may_end || worker->phase > PHASE_GENTLE)
		connection_close(connection, true);
}

bool connection_waits_for_room(struct connection *connection)
{
	if (connection->out)
		connection->blocked = true;
	return connection->out != NULL;
}

void connection_hurry(struct connection *connection, double seconds)
{
	if (connection->stalled)
		connection->progress_by =
		    fmin(connection->progress_by, connection->worker->now + seconds);
}

void connection_pause(struct connection *connection, double seconds)
{
	connection->paused = true;
	connection->until = connection->worker->now + seconds;
}
