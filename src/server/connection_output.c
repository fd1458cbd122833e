/* What leaves a connection: answers, as soon as the journal and the client let them. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/socket.h>

#include "connection_parts.h"
#include "release.h"

#define CONNECTION_TRIM 4 /* times the size of the answers that wait is too large a block */

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

void connection_drop_output(struct connection *connection)
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
		connection_be_idle(connection);
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
bool connection_flush(struct connection *connection)
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
		connection_drop_output(connection);
	} else if (queue_waits_for(out) && !connection->stalled) {
		trim(connection);
		release_hold(connection);
	} else {
		release_drop(connection);
	}

	if (connection->blocked && (after < before || after == 0) &&
	    after < CONNECTION_OUT_MAX / 2) {
		connection->blocked = false;
		connection_again(connection);
	}
	return true;
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
