/* One connection: made, used in both directions, lost, made again. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine.h"

#define PAUSE_LEAST UINT64_C(10000000)   /* ns before the first new attempt, then doubled */
#define PAUSE_MOST  UINT64_C(1000000000) /* ns */

/* ---- making it */

static void watch(struct client *client, int events)
{
	if (ev_is_active(&client->io) && (client->io.events & (EV_READ | EV_WRITE)) == events)
		return;
	ev_io_stop(client->engine->loop, &client->io);
	ev_io_set(&client->io, client->fd, events);
	ev_io_start(client->engine->loop, &client->io);
}

static void close_it(struct client *client)
{
	if (client->fd < 0)
		return;
	ev_io_stop(client->engine->loop, &client->io);
	close(client->fd);
	client->fd = -1;
}

static void try_later(struct client *client, int error, uint64_t now)
{
	struct engine *engine = client->engine;

	close_it(client);
	engine->last_error = error;
	if (engine->phase == PHASE_LOAD)
		engine->result->refused++;
	client->pause = client->pause == 0 ? PAUSE_LEAST : client->pause * 2;
	if (client->pause > PAUSE_MOST)
		client->pause = PAUSE_MOST;
	client->retry = now + client->pause;
}

static void on_io(struct ev_loop *loop, ev_io *io, int events);

void client_connect(struct client *client, uint64_t now)
{
	client->retry = 0;
	client->fd = target_connect(client->engine->target, client->source);
	if (client->fd < 0) {
		try_later(client, errno, now);
		return;
	}
	client->connected = client->closing = client->broken = client->proved = false;
	client->since = now;
	client->out_at = client->out_end = client->carried = 0;
	answer_init(&client->answer);
	client->engine->connecting++;
	ev_init(&client->io, on_io);
	client->io.data = client;
	watch(client, EV_WRITE);
}

static void finish_connecting(struct client *client, uint64_t now)
{
	struct engine *engine = client->engine;
	int error = 0;
	socklen_t size = sizeof error;

	engine->connecting--;
	if (getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
		error = errno;
	if (error != 0) {
		try_later(client, error, now);
		return;
	}
	client->connected = true;
	engine->connected++;
	watch(client, EV_READ);
	if (engine->phase == PHASE_CONNECT)
		engine_connected(engine, now);
	else
		client_fill(client, now);
}

void client_lose(struct client *client, enum loss loss, uint64_t now)
{
	struct engine *engine = client->engine;

	if (client->fd < 0)
		return;
	if (client->connected)
		engine->connected--;
	else
		engine->connecting--;
	client->connected = false;
	close_it(client);
	flight_doubt(client, loss, now);
	if (engine->phase == PHASE_OVER ||
	    (engine->phase == PHASE_LOAD && !pace_goes_on(engine, now) &&
	     client->settlement_count == 0))
		return;
	if (engine->phase == PHASE_LOAD)
		engine->result->reconnects++;
	if (client->proved)
		client_connect(client, now);
	else
		client->retry = now + PAUSE_LEAST;
}

/* ---- sending */

static void make_room(struct client *client)
{
	if (client->out_at == 0)
		return;
	memmove(client->out, client->out + client->out_at, client->out_end - client->out_at);
	client->out_end -= client->out_at;
	client->out_at = 0;
}

void client_flush(struct client *client)
{
	while (client->out_at < client->out_end) {
		ssize_t sent = send(client->fd, client->out + client->out_at,
		                    client->out_end - client->out_at, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			make_room(client);
			watch(client, EV_READ | EV_WRITE);
			return;
		}
		if (sent < 0) {
			/* The answers that came before are still there to be read. */
			client->broken = true;
			client->out_at = client->out_end = 0;
			watch(client, EV_READ);
			return;
		}
		client->out_at += (size_t)sent;
	}
	client->out_at = client->out_end = 0;
	watch(client, EV_READ);
}

void client_fill(struct client *client, uint64_t now)
{
	struct engine *engine = client->engine;

	while (flight_has_room(client)) {
		if (client->settlement_count > 0)
			flight_settle(client, now);
		else if (engine->interval == 0 && pace_is_due(engine, now))
			flight_begin(client, now);
		else
			break;
	}
	if (client->connected && client->out_at < client->out_end)
		client_flush(client);
	if (engine->interval > 0)
		pace_offer(client);
}

/* ---- receiving */

/* Takes all answers in BYTES[0..LENGTH); false if the connection is no good any more. */
static bool take_answers(struct client *client, const char *bytes, size_t length, uint64_t now)
{
	struct answer *answer = &client->answer;
	const char *fault = NULL;

	for (;;) {
		size_t used;
		enum answer_progress progress = answer_next(answer, bytes, length, &used);
		bytes += used;
		length -= used;
		if (progress == ANSWER_MORE)
			break;
		if (progress == ANSWER_BAD)
			return false;
		bool good = progress == ANSWER_LINE ? flight_line(client, &fault)
		                                    : flight_answer(client, now, &fault);
		if (!good) {
			answer->fault = fault;
			return false;
		}
		if (progress == ANSWER_DONE && client->closing)
			return true;
	}
	memcpy(client->carry, bytes, length);
	client->carried = length;
	return true;
}

static void end_of_stream(struct client *client, uint64_t now)
{
	client_lose(client, client->count > 0 ? LOSS_CUT : LOSS_NONE, now);
}

static void receive(struct client *client, uint64_t *now)
{
	struct engine *engine = client->engine;
	size_t carried = client->carried;
	ssize_t got = recv(client->fd, engine->input + carried, ENGINE_INPUT, 0);

	*now = engine_now();
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		end_of_stream(client, *now);
		return;
	}
	memcpy(engine->input, client->carry, carried);
	client->carried = 0;
	if (!take_answers(client, engine->input, carried + (size_t)got, *now)) {
		/* Without a fault: a stream that ended early, and said so. */
		client_lose(client, client->answer.fault == NULL ? LOSS_CUT : LOSS_FAULT, *now);
		return;
	}
	/* What was sent behind the answer that closes gets none (RFC 9112 9.6). */
	if (client->closing) {
		end_of_stream(client, *now);
		return;
	}
	client_fill(client, *now);
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
	struct client *client = io->data;
	struct engine *engine = client->engine;
	uint64_t now;

	(void)loop;
	if (!client->connected) {
		finish_connecting(client, engine_now());
		engine_check(engine, engine_now());
		return;
	}
	if (events & EV_READ) {
		receive(client, &now);
	} else {
		now = engine_now();
		client_flush(client);
	}
	if (engine->interval > 0)
		pace_pump(engine, now);
	engine_check(engine, now);
}
